"""npipe.aio.Listener on the Proactor loop: what goes wrong while a client comes, `accept` says."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"

import asyncio
from typing import Any

import pytest

import npipe
import npipe.aio
from npipe.transports.native.proactor import ProactorFile
from tests.aio.helpers import run
from tests.helpers import fails


async def waiting(listener: Any) -> asyncio.Task[Any]:
    """An accept that waits for a client."""
    accepting = asyncio.create_task(listener.accept())
    while not listener._waiting:
        await asyncio.sleep(0)
    return accepting


async def is_served(listener: Any) -> None:
    """Fails unless a client comes through."""
    accepting = asyncio.create_task(listener.accept(10))
    async with await npipe.aio.connect(listener.name, timeout=10) as client, await accepting as server:
        await client.send(b"hello")
        assert await server.recv() == b"hello"


def test_no_next_instance_is_no_harm_to_the_client_and_is_said_next(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        listener: Any = npipe.aio.listen(name)
        async with listener:

            def create(**_: Any) -> Any:
                raise npipe.PipeResourceError(1450, name, "creating an instance")

            accepting = await waiting(listener)
            with monkeypatch.context() as patched:
                patched.setattr(listener._instances, "_create", create)
                async with await npipe.aio.connect(name, timeout=10) as client, await accepting as server:
                    await client.send(b"hello")
                    assert await server.recv() == b"hello"
                    for _ in range(2):
                        with fails(1450):
                            await listener.accept(5)
            await is_served(listener)

    run(main())


def test_an_instance_that_cannot_listen_again_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        listener: Any = npipe.aio.listen(name)
        async with listener:
            start = ProactorFile.start
            begun: list[str] = []

            def refused(self: ProactorFile, begin: Any, doing: str) -> Any:
                begun.append(doing)
                if begun.count("waiting for a client") > 1:
                    raise npipe.PipeResourceError(1450, name, doing)
                return start(self, begin, doing)

            npipe.connect(name, timeout=10).close()  # comes and goes before anybody waits for it
            with monkeypatch.context() as patched:
                patched.setattr(ProactorFile, "start", refused)
                for _ in range(2):
                    with fails(1450):
                        await listener.accept(5)
            await is_served(listener)

    run(main())


@pytest.mark.parametrize("waits", [True, False])
def test_a_connect_that_fails_while_it_is_pending_is_said_once(name: str, waits: bool) -> None:
    async def main() -> None:
        listener: Any = npipe.aio.listen(name)
        async with listener:
            accepting = await waiting(listener)
            if not waits:
                accepting.cancel()
                await asyncio.wait([accepting])
            connecting = listener._instances._connecting
            connecting.cancel()  # as CancelIoEx of somebody else's would
            while not connecting.future.done():
                await asyncio.sleep(0)
            with fails(995):
                await (accepting if waits else listener.accept(5))
            await is_served(listener)

    run(main())


def test_of_several_who_wait_one_is_told(name: str) -> None:
    async def main() -> None:
        listener: Any = npipe.aio.listen(name)
        async with listener:
            tasks = [await waiting(listener) for _ in range(3)]
            while listener._waiting < len(tasks):
                await asyncio.sleep(0)
            connecting = listener._instances._connecting
            connecting.cancel()
            done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            (told,) = done
            with fails(995):
                told.result()
            for _ in others:
                async with await npipe.aio.connect(name, timeout=10):
                    pass
            for server in await asyncio.gather(*others):
                await server.close()

    run(main())
