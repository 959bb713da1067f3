"""The options of `listen` and `connect`, which are the same in every face."""

from __future__ import annotations

import asyncio
import functools
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
    "remote": None,
    "allow": (),
    "require_encryption": False,
    "samba_dir": None,
    "traceable": True,
    "exclusive": True,
}
CONNECT = {
    "mode": "message",
    "access": "duplex",
    "timeout": 20.0,
    "verify_owner": True,
    "wait_for_server": False,
    "max_message_size": None,
    "remote": None,
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

        with pytest.raises(TypeError, match=rf"serve\(\) got an unexpected .* '{option}'; it takes access"):
            npipe.serve(name, bytes.upper, **wrong)

    asyncio.run(main())
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)


@pytest.mark.parametrize(
    ("model", "option"),
    [("threaded", "instances"), ("overlapped", "flush_timeout"), ("completion", "instances")],
)
def test_an_option_of_another_model_is_refused_by_its_name(name: str, model: Any, option: Any) -> None:
    wrong: dict[str, Any] = {option: 1}
    with pytest.raises(TypeError, match=rf"""serve\(model="{model}"\) got an unexpected .* '{option}'"""):
        npipe.serve(name, bytes.upper, model=model, **wrong)


@pytest.mark.parametrize("listen", [npipe.listen, npipe.aio.listen, npipe.anyio.listen, npipe.serve, npipe.aio.serve])
def test_a_limit_of_255_is_refused_and_none_is_named(name: str, listen: Callable[..., Any]) -> None:
    handler = [bytes.upper] if listen in {npipe.serve, npipe.aio.serve} else []

    async def main() -> None:
        made = listen(name, *handler, max_instances=255)
        if inspect.isawaitable(made):
            await made

    with pytest.raises(npipe.PipeArgumentError, match=r"max_instances is 1 to 254, not 255.* None") as raised:
        asyncio.run(main())
    assert raised.value.winerror == 87


# ---- Handlers


class Greeter:
    """What can be called, but not on one argument, or not without awaiting it."""

    def three(self, request: bytes, connection: object, more: bytes) -> bytes:
        return request + more

    async def __call__(self, request: bytes) -> bytes:
        return request


async def awaited(request: bytes) -> bytes:
    return request


def generated(request: bytes) -> Any:
    yield request


NO_HANDLERS: dict[str, tuple[Any, str]] = {
    "no function": (b"answer", "the handler is a function that takes the request's bytes, not bytes"),
    "None": (None, "not NoneType"),
    "no argument": (
        lambda: b"",
        "called with one argument, the request's bytes, and may take .* too, and this one takes \\(\\)",
    ),
    "three arguments": (Greeter().three, "this one takes \\(request: 'bytes', connection: 'object', more: 'bytes'\\)"),
    "keyword": (lambda request, *, wanted: request, "this one takes"),
    "generator": (generated, "is a generator function"),
}
NOT_AWAITED: dict[str, Any] = {
    "async def": awaited,
    "partial": functools.partial(awaited),
    "partial of an object": functools.partial(Greeter()),
    "object": Greeter(),
}


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
@pytest.mark.parametrize("wrong", [*NO_HANDLERS, *NOT_AWAITED])
def test_serve_refuses_what_it_could_not_call(name: str, model: Any, wrong: str) -> None:
    handler, why = NO_HANDLERS.get(wrong) or (NOT_AWAITED[wrong], "async def.*use npipe.aio.serve")
    with pytest.raises(TypeError, match=why):
        npipe.serve(name, handler, model=model)
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)


@pytest.mark.parametrize("wrong", NO_HANDLERS)
def test_so_does_the_one_of_event_loops(name: str, wrong: str) -> None:
    handler, why = NO_HANDLERS[wrong]

    async def main() -> None:
        with pytest.raises(TypeError, match=why):
            await npipe.aio.serve(name, handler)
        with pytest.raises(npipe.PipeNotFoundError):
            await npipe.aio.connect(name)

    asyncio.run(main())


@pytest.mark.parametrize("called", ["on_connect", "on_disconnect"])
@pytest.mark.parametrize("wrong", ["text", awaited, lambda: None], ids=["no function", "async def", "no argument"])
def test_serve_refuses_what_it_could_not_tell_of_clients(name: str, called: str, wrong: Any) -> None:
    options: dict[str, Any] = {called: wrong}
    with pytest.raises(TypeError, match=called):
        npipe.serve(name, bytes.upper, **options)
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)


@pytest.mark.parametrize(
    "handler",
    [
        bytes.upper,
        lambda request, more=b"": request.upper() + more,
        lambda *requests: requests[0].upper(),
        functools.partial(lambda more, request: request.upper() + more, b""),
        type("Handler", (), {"__call__": lambda _self, request: request.upper()})(),
    ],
)
def test_whatever_takes_one_argument_is_a_handler(name: str, handler: Any) -> None:
    with npipe.serve(name, handler):
        assert npipe.call(name, b"ab", timeout=5) == b"AB"

    async def main() -> None:
        async with await npipe.aio.serve(name, handler):
            assert await npipe.aio.call(name, b"ab", timeout=5) == b"AB"

    asyncio.run(main())
