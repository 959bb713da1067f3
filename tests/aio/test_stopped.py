"""npipe.aio: a process that has been stopped stops nobody else's event loop."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import LOOPS, run, turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

SERVER = """
    import npipe, sys
    with npipe.listen(sys.argv[1], in_buffer_size=1000, max_instances=2) as listener:
        print("listening", flush=True)
        pipe = listener.accept()
        print("connected", flush=True)
        input()
"""


@pytest.fixture(params=sorted(LOOPS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stop(process: Child) -> None:
    """Stop it, and wait until all its threads stand still."""
    os.kill(process.pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])


async def cancelled(call: Any) -> None:
    """It waits, others run meanwhile, and it can be cancelled."""
    task = asyncio.ensure_future(call)
    await turns(20)
    assert not task.done(), task
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_every_call_on_a_pipe_whose_peer_is_stopped_only_waits(
    kind: str, name: str, child: Callable[..., Child]
) -> None:
    server = child(SERVER, name)
    assert server.line() == "listening"

    async def main() -> None:
        pipe = await npipe.aio.connect(name)
        stop(server)
        await cancelled(pipe.recv())
        await cancelled(pipe.recv_into(bytearray(10)))
        await pipe.send(b"x" * 1000)
        await cancelled(pipe.send(b"y" * 1000))
        await cancelled(pipe.send(b"z" * 400_000))
        await cancelled(pipe.flush())
        with pytest.raises(npipe.PipeTimeoutError):
            await pipe.recv(timeout=0.01)
        with pytest.raises(npipe.PipeTimeoutError):
            await pipe.send(b"y", timeout=0.01)
        with pytest.raises(npipe.PipeTimeoutError):
            await pipe.flush(timeout=0.01)
        assert pipe.peek().available == 0
        assert pipe.peer.pid == server.pid
        assert pipe.info.max_instances == 2
        await cancelled(pipe.transact(b"request"))
        await pipe.close()

    run(main(), kind)
    os.kill(server.pid, signal.SIGCONT)


def test_opening_a_pipe_whose_owner_is_stopped_only_waits(kind: str, name: str, child: Callable[..., Child]) -> None:
    server = child(SERVER, name)
    assert server.line() == "listening"
    stop(server)

    async def main() -> None:
        await cancelled(npipe.aio.connect(name))
        await cancelled(npipe.aio.wait(name))
        await cancelled(npipe.aio.call(name, b"request"))
        await cancelled(npipe.aio.open_stream(name))
        with pytest.raises(npipe.PipeTimeoutError):
            await npipe.aio.connect(name, timeout=0.01)
        with pytest.raises(npipe.PipeBusyError):
            await npipe.aio.call(name, b"request", timeout=0.01)

    run(main(), kind)
    os.kill(server.pid, signal.SIGCONT)


def test_a_listener_at_a_limit_that_a_stopped_owner_has_its_part_in_only_waits(
    kind: str, name: str, child: Callable[..., Child]
) -> None:
    other = child(SERVER, name)
    assert other.line() == "listening"

    async def main() -> None:
        async with await npipe.aio.connect(name):
            assert await asyncio.to_thread(other.line) == "connected"
            stop(other)  # with two instances: one connected, one listening
            with pytest.raises(npipe.PipeBusyError):
                npipe.aio.listen(name, exclusive=False)

    asyncio.run(asyncio.wait_for(main(), 30))
    os.kill(other.pid, signal.SIGCONT)
