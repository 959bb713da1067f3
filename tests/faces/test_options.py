"""The options of `listen` and `connect`, which are the same in every face."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
import npipe.anyio

if TYPE_CHECKING:
    from collections.abc import Callable

LISTEN = {
    "mode": "message",
    "access": "duplex",
    "max_instances": None,
    "in_buffer_size": 65536,
    "out_buffer_size": 65536,
    "default_timeout": 0.05,
    "security": "owner",
    "max_message_size": None,
    "exclusive": True,
}
CONNECT = {
    "mode": "message",
    "access": "duplex",
    "timeout": 20.0,
    "verify_owner": True,
    "wait_for_server": False,
    "max_message_size": None,
}


def told(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword arguments that a function says it has, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


@pytest.mark.parametrize("listen", [npipe.listen, npipe.aio.listen, npipe.anyio.listen, npipe.aio.serve])
def test_what_listens_tells_all_options_and_their_defaults(listen: Callable[..., Any]) -> None:
    assert told(listen) == LISTEN | ({"concurrency": None} if listen is npipe.aio.serve else {})


@pytest.mark.parametrize("connect", [npipe.connect, npipe.aio.connect])
def test_what_connects_tells_all_options_and_their_defaults(connect: Callable[..., Any]) -> None:
    assert told(connect) == CONNECT


@pytest.mark.parametrize("option", ["message_type", "timeout", "Mode"])
def test_an_unknown_option_is_a_type_error_in_every_face(name: str, option: str) -> None:
    async def main() -> None:
        wrong: dict[str, Any] = {option: None}
        with pytest.raises(TypeError, match=option):
            npipe.listen(name, **wrong)
        with pytest.raises(TypeError, match=option):
            npipe.aio.listen(name, **wrong)
        with pytest.raises(TypeError, match=option):
            await npipe.aio.serve(name, bytes.upper, **wrong)
        with pytest.raises(TypeError, match=option):
            await npipe.anyio.listen(name, **wrong)

    asyncio.run(main())
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)
