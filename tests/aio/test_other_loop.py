"""A pipe and a listener on another event loop than theirs: an error of every call that waits, and nothing is done."""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.names import parse_name
from npipe.options import ACCESS_READ, ACCESS_WRITE
from npipe.transports import default
from npipe.transports.threads import ThreadsTransport
from tests.aio.helpers import LOOPS
from tests.helpers import DEADLINE, fails

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

every_loop = pytest.mark.parametrize("kind", sorted(LOOPS))
over = pytest.mark.parametrize("threads", [False, True], ids=["its own", "threads"])

MESSAGE: dict[str, Callable[[Any], Any]] = {
    "send": lambda pipe: pipe.send(b"lost"),
    "recv": lambda pipe: pipe.recv(),
    "recv with a time-out": lambda pipe: pipe.recv(timeout=DEADLINE),
    "recv_into": lambda pipe: pipe.recv_into(bytearray(100)),
    "recv_into exact": lambda pipe: pipe.recv_into(bytearray(100), exact=True),
    "transact": lambda pipe: pipe.transact(b"lost"),
    "flush": lambda pipe: pipe.flush(),
}
BYTE: dict[str, Callable[[Any], Any]] = {
    "write": lambda pipe: pipe.write(b"lost"),
    "read": lambda pipe: pipe.read(100),
    "read of all": lambda pipe: pipe.read(),
    "readinto": lambda pipe: pipe.readinto(bytearray(100)),
}


async def opened(name: str, *, mode: Any, threads: bool) -> Any:
    if not threads:
        return await npipe.aio.connect(name, mode=mode)
    return await ThreadsTransport(default()).connect(
        parse_name(name),
        message_mode=mode == "message",
        access=ACCESS_READ | ACCESS_WRITE,
        timeout=DEADLINE,
        verify_owner=True,
    )


def refused(use: Callable[[], Any]) -> Coroutine[Any, Any, None]:
    async def main() -> None:
        with pytest.raises(npipe.PipeStateError, match="belongs to the event loop on which it was opened") as caught:
            await use()
        assert caught.value.winerror == 50

    return main()


@pytest.mark.skipif(sys.platform == "win32", reason="the Proactor refuses a handle of another loop itself")
@over
@every_loop
@pytest.mark.parametrize("mode", ["message", "byte"])
def test_a_pipe_on_another_loop_says_so_and_neither_sends_nor_reads(
    name: str, mode: Any, kind: str, threads: bool
) -> None:
    listener: Any = npipe.listen(name, mode=mode)
    with listener, asyncio.Runner(loop_factory=LOOPS[kind]) as own, asyncio.Runner() as other:
        pipe = own.run(opened(name, mode=mode, threads=threads))
        with listener.accept(timeout=DEADLINE) as server:
            (server.send if mode == "message" else server.write)(b"for its own loop")
            for use in (MESSAGE if mode == "message" else BYTE).values():
                other.run(refused(functools.partial(use, pipe)))
            assert server.peek().available == 0
            read = pipe.recv if mode == "message" else lambda **options: pipe.read(100, **options)

            async def received() -> bytes:
                data: bytes = await read(timeout=DEADLINE)
                return data

            assert own.run(received()) == b"for its own loop"
        own.run(pipe.close())

        async def after() -> None:
            with fails(6):  # it is closed, whichever loop asks
                await (pipe.recv() if mode == "message" else pipe.read(1))

        other.run(after())


@pytest.mark.skipif(sys.platform == "win32", reason="the Proactor refuses a handle of another loop itself")
@every_loop
def test_a_listener_on_another_loop_says_so(name: str, kind: str) -> None:
    async def made() -> Any:
        return npipe.aio.listen(name)

    async def close(listener: Any) -> None:
        await listener.close()

    with asyncio.Runner(loop_factory=LOOPS[kind]) as own, asyncio.Runner() as other:
        listener = own.run(made())
        other.run(refused(listener.accept))
        own.run(close(listener))
