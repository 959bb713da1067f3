"""What a call of an event loop's pipe does while its host is silent: others go on."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.transports.smb import files
from tests import helpers as h
from tests.samba.proxy import Proxy
from tests.samba.test_client import listening, remote, there

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.samba import PrivateSmbd

from tests.samba.test_client import _no_connection_is_left

__all__ = ["_no_connection_is_left"]

AT_ONCE = 0.5
"""Seconds; what is asked of the host here has no answer for longer."""


def test_a_peek_on_a_loop_does_not_ask_the_host(smbd: PrivateSmbd, short: str) -> None:
    async def main(listener: Any, proxy: Proxy) -> None:
        async with await npipe.aio.connect(there(short), remote=remote(proxy.port)) as pipe:
            with await asyncio.to_thread(listener.accept, 20) as server:
                proxy.hold("down")
                begun = time.monotonic()
                assert h.code_of(pipe.peek) == 50
                assert time.monotonic() - begun < AT_ONCE
                with pytest.raises(npipe.PipeTimeoutError):
                    await pipe.recv(timeout=0.05)
                assert pipe.peek() == (b"", 0, 0)  # a read waits there
                server.send(b"a message")
                proxy.let_go("down")
                h.until(lambda: pipe.peek(3) == (b"a m", 9, 6))  # nothing awaits anything meanwhile
                assert await pipe.recv(timeout=20) == b"a message"
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(pipe.recv(), 0.05)
                server.send(b"another")
                while pipe.peek(100) != (b"another", 7, 0):
                    await asyncio.sleep(0.001)
                assert await pipe.recv(timeout=20) == b"another"
                assert h.code_of(pipe.peek) == 50

    with listening(short) as listener, Proxy(smbd.port) as proxy:
        asyncio.run(main(listener, proxy))


def test_a_stream_that_is_peeked_at_shows_what_has_come_and_loses_nothing(smbd: PrivateSmbd, short: str) -> None:
    async def main(listener: Any) -> None:
        async with await npipe.aio.connect(there(short), mode="byte", remote=remote(smbd.port)) as pipe:
            with await asyncio.to_thread(listener.accept, 20) as server:
                assert h.code_of(pipe.peek) == 50
                with pytest.raises(npipe.PipeTimeoutError):
                    await pipe.read(10, timeout=0.05)
                server.write(b"bytes")
                h.until(lambda: pipe.peek(2) == (b"by", 5, 0))
                assert await pipe.read(3, timeout=20) == b"byt"
                server.write(b" and more")
                data = b""
                while data != b"es and more":
                    data += await pipe.read(100, timeout=20)

    with listening(short, mode="byte") as listener:
        asyncio.run(main(listener))


@pytest.mark.parametrize("use", ["call", "connection"])
def test_a_pool_that_looks_at_its_connection_holds_up_no_other_task(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    monkeypatch.setattr(files, "GOODWILL", 3 * AT_ONCE)
    gaps: list[float] = []

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    async def main(proxy: Proxy) -> None:
        async with npipe.aio.Pool(there(short), size=1, remote=remote(proxy.port)) as pool:
            if use == "call":
                assert await pool.call(b"one", timeout=20) == b"ONE"
            else:
                async with pool.connection() as pipe:
                    assert await pipe.transact(b"one", timeout=20) == b"ONE"
            proxy.hold("down")
            ticking = asyncio.ensure_future(tick())
            asking = asyncio.ensure_future(pool.call(b"two", timeout=20))
            await asyncio.sleep(2 * AT_ONCE)
            proxy.let_go("down")
            assert await asking == b"TWO"
            ticking.cancel()
            assert max(gaps) < AT_ONCE
            # One that is given up while it looks leaves the pool a connection that nobody else looks at.
            proxy.hold("down")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await pool.call(b"three", timeout=20)
            proxy.let_go("down")
            assert await pool.call(b"four", timeout=20) == b"FOUR"

    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"), Proxy(smbd.port) as proxy:
        asyncio.run(main(proxy))


@pytest.mark.parametrize("what", ["info", "peer", "repr", "abort", "close", "flush", "send"])
def test_no_other_call_waits_on_the_loop(smbd: PrivateSmbd, short: str, what: str) -> None:
    calls: dict[str, Callable[[Any], Any]] = {
        "info": lambda pipe: pipe.info,
        "peer": lambda pipe: pipe.peer,
        "repr": repr,
        "abort": lambda pipe: pipe.abort(),
        "close": lambda pipe: pipe.close(),
        "flush": lambda pipe: pipe.flush(),
        "send": lambda pipe: pipe.send(b"x"),
    }

    async def main(listener: Any, proxy: Proxy) -> None:
        pipe = await npipe.aio.connect(there(short), remote=remote(proxy.port))
        with await asyncio.to_thread(listener.accept, 20):
            for way in ("up", "down"):
                proxy.hold(way)
            begun = time.monotonic()
            result = calls[what](pipe)
            if asyncio.iscoroutine(result):
                task = asyncio.ensure_future(result)
                await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert time.monotonic() - begun < AT_ONCE
            for way in ("up", "down"):
                proxy.let_go(way)
            await pipe.close()

    with listening(short) as listener, Proxy(smbd.port) as proxy:
        asyncio.run(main(listener, proxy))
