"""Openings on an event loop that nobody waits for any more: they end at once, and leave no thread and no socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import trio

import npipe
import npipe.aio
from npipe.names import parse_name
from npipe.transports.smb import connections, files, transport
from npipe.transports.smb.status import not_opened
from npipe.transports.stopping import Stop, StoppableTransport, StoppedError
from tests import helpers as h
from tests.samba.proxy import Proxy
from tests.samba.test_client import Both, listening, remote, there

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from npipe.samba import PrivateSmbd

from tests.samba.test_client import _no_connection_is_left

__all__ = ["_no_connection_is_left"]

SOON = 2.0
"""Seconds, on a machine that has other things to do; each call here would go on for ever."""

NETWORK_BUSY = 0xC00000BF


def ours() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(("npipe-smb", "npipe-worker"))]


def descriptors(proxy: Proxy | None) -> int:
    """How many this process has, but for those of a proxy in it."""
    theirs = 0 if proxy is None else sum(sock.fileno() >= 0 for sock in list(proxy._all))
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - theirs


@contextlib.contextmanager
def nothing_is_left(proxy: Proxy | None = None) -> Iterator[None]:
    """No thread and no descriptor more than before, after the block, and before it would be closed for it is idle."""
    before = descriptors(proxy)
    yield
    try:
        h.until(lambda: not ours() and descriptors(proxy) <= before, connections.IDLE - 1)
    except AssertionError:
        raise AssertionError(f"left: {ours()}, {descriptors(proxy)} descriptors of {before}") from None


class BlackHole:
    """A port that answers no SYN: its queue is full."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._fillers: list[socket.socket] = []
        while True:
            filler = socket.socket()
            self._fillers.append(filler)
            filler.settimeout(0.3)
            try:
                filler.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._fillers):
            sock.close()


@contextlib.contextmanager
def halting(smbd: PrivateSmbd, answers: int) -> Iterator[Proxy]:
    """An smbd that gives so many answers, and then none."""
    with Proxy(smbd.port) as proxy:
        left = answers

        def count(data: bytes) -> bytes:
            nonlocal left
            left -= 1
            if left <= 0:
                proxy.hold("down")
            return data

        if answers:
            proxy.change = count
        else:
            proxy.hold("down")
        yield proxy


CALLS: dict[str, Callable[[str, npipe.Remote], Awaitable[object]]] = {
    "connect": lambda name, who: npipe.aio.connect(name, timeout=None, remote=who),
    "byte": lambda name, who: npipe.aio.connect(name, mode="byte", timeout=None, remote=who),
    "for_a_server": lambda name, who: npipe.aio.connect(name, timeout=None, wait_for_server=True, remote=who),
    "call": lambda name, who: npipe.aio.call(name, b"x", timeout=None, remote=who),
    "wait": lambda name, who: npipe.aio.wait(name, timeout=None, remote=who),
    "create": lambda name, who: npipe.aio.wait(name, timeout=None, create=True, remote=who),
    "pool": lambda name, who: pooled(name, who),
    "stream": lambda name, who: npipe.aio.open_stream(name, timeout=None, remote=who),
}


async def pooled(name: str, who: npipe.Remote) -> object:
    async with npipe.aio.Pool(name, remote=who, timeout=None) as pool:
        return await pool.call(b"x")


def on_asyncio(call: Callable[[], Awaitable[object]], under_way: Callable[[], bool]) -> float:
    """Cancel a call as soon as it is under way; how long that took."""

    async def main() -> float:
        task = asyncio.ensure_future(call())
        while not under_way():
            await asyncio.sleep(0.001)
            assert not task.done()
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - begun

    return asyncio.run(main())


def on_trio(call: Callable[[], Awaitable[object]], under_way: Callable[[], bool]) -> float:
    async def main() -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            while not under_way():
                await trio.sleep(0.001)
            begun = time.monotonic()
            nursery.cancel_scope.cancel()
        return time.monotonic() - begun

    return trio.run(main)


# ---- How it is given up


@pytest.mark.parametrize("what", list(CALLS))
@pytest.mark.parametrize("run", [on_asyncio, on_trio])
def test_a_cancelled_opening_at_a_host_that_never_answers_leaves_nothing(short: str, what: str, run: Any) -> None:
    if what == "stream" and run is on_trio:
        pytest.skip("streams of asyncio are asyncio's")
    with Proxy(None) as proxy, nothing_is_left(proxy):
        taken = run(lambda: CALLS[what](there(short), remote(proxy.port)), lambda: proxy.accepted.acquire(False))
        assert taken < SOON
        assert proxy.ended.acquire(timeout=20)


def test_a_time_out_of_asyncio_ends_an_opening_as_one_of_its_own_does(short: str) -> None:
    async def main(port: int) -> None:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await npipe.aio.connect(there(short), timeout=None, remote=remote(port))
        with pytest.raises(npipe.PipeTimeoutError) as raised:
            await npipe.aio.connect(there(short), timeout=0.2, remote=remote(port))
        assert raised.value.winerror == 121
        assert time.monotonic() - begun < 0.4 + SOON

    with Proxy(None) as proxy, nothing_is_left(proxy):
        asyncio.run(main(proxy.port))
        assert 1 <= proxy.connections <= 2  # the first may have ended before it was one
        for _ in range(proxy.connections):
            assert proxy.ended.acquire(timeout=20)


def test_ctrl_c_in_asyncio_run_ends_an_opening(short: str) -> None:
    async def main(port: int) -> None:
        await npipe.aio.connect(there(short), timeout=None, remote=remote(port))

    with Proxy(None) as proxy, nothing_is_left(proxy):

        def interrupt() -> None:
            assert proxy.accepted.acquire(timeout=20)
            os.kill(os.getpid(), signal.SIGINT)

        interrupter = h.started(interrupt)
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main(proxy.port))
        assert time.monotonic() - begun < 5
        interrupter.result(20)


def test_a_loop_that_is_closed_under_an_opening_ends_it_when_the_task_is_forgotten(short: str) -> None:
    def run(port: int) -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(npipe.aio.connect(there(short), timeout=None, remote=remote(port)))
        loop.run_until_complete(asyncio.sleep(0))
        assert proxy.accepted.acquire(timeout=20)
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is what is tried

    with Proxy(None) as proxy, nothing_is_left(proxy):
        run(proxy.port)
        gc.collect()
        assert proxy.ended.acquire(timeout=20)


# ---- At which stage


@pytest.mark.parametrize("run", [on_asyncio, on_trio])
def test_a_cancelled_opening_at_a_host_that_is_not_there_leaves_nothing(short: str, run: Any) -> None:
    with BlackHole() as hole, nothing_is_left():
        waits = f":{hole.port:04X} 02 "  # the peer's port, and that a SYN was sent

        def under_way() -> bool:
            with Path("/proc/self/net/tcp").open() as table:
                return sum(waits in line for line in table) > 1  # the filler's, and ours

        taken = run(lambda: npipe.aio.connect(there(short), timeout=None, remote=remote(hole.port)), under_way)
        assert taken < SOON


def test_a_host_that_is_not_there_is_waited_for_as_long_as_was_said(short: str) -> None:
    with BlackHole() as hole, nothing_is_left():
        begun = time.monotonic()
        assert h.code_of(lambda: npipe.connect(there(short), timeout=0.3, remote=remote(hole.port))) == 121
        assert 0.3 <= time.monotonic() - begun < 0.3 + SOON


@pytest.mark.parametrize("answers", range(5))
@pytest.mark.parametrize("run", [on_asyncio, on_trio])
def test_a_cancelled_opening_at_a_host_that_stops_answering_leaves_nothing(
    smbd: PrivateSmbd, short: str, answers: int, run: Any
) -> None:
    """The negotiation, the logon in two steps, IPC$, the opening itself."""
    with listening(short):
        pass  # what the engine has from its first pipe on
    # Around the listener too: of a client that smbd was told of in that moment it has an end until it is closed.
    with nothing_is_left(), listening(short), halting(smbd, answers) as proxy:
        halted = proxy._open["down"]
        sent: list[int] = []
        if answers == 0:
            sent.append(1)

        def under_way() -> bool:
            return not halted.is_set() and bool(proxy.connections)

        taken = run(lambda: npipe.aio.connect(there(short), timeout=None, remote=remote(proxy.port)), under_way)
        assert taken < SOON
        h.until(lambda: "npipe-worker" not in ours() and "npipe-smb-connect" not in ours())
        connections.close_idle()  # one that was made just then is kept for the next, as ever
        assert proxy.ended.acquire(timeout=20)


def test_a_cancelled_opening_harms_no_other_pipe_of_the_connection_and_is_closed_at_its_host(
    smbd: PrivateSmbd, short: str
) -> None:
    with Proxy(smbd.port) as proxy, Both(proxy.port, short + "a") as (client, server), listening(short) as listener:
        for number in range(3):
            proxy.hold("down")
            taken = on_asyncio(
                lambda: npipe.aio.connect(there(short), timeout=None, remote=remote(proxy.port)),
                lambda: bool(client._file.link.wire.outstanding_requests),
            )
            assert taken < SOON
            proxy.let_go("down")
            # Whether its server has seen it is the host's business; if so, it has gone again.
            client.send(b"question %d" % number, timeout=20)
            assert server.recv(timeout=20) == b"question %d" % number
            server.send(b"answer", timeout=20)
            assert client.recv(timeout=20) == b"answer"
        with npipe.connect(there(short), remote=remote(proxy.port)) as last:
            last.send(b"the only one")
            with listener.accept(20) as accepted:
                assert accepted.recv(timeout=20) == b"the only one"
        assert proxy.connections == 1


def test_those_who_wait_for_the_same_connection_are_not_ended_with_one_of_them(smbd: PrivateSmbd, short: str) -> None:
    async def main(proxy: Proxy) -> None:
        who = remote(proxy.port)
        tasks = [asyncio.ensure_future(npipe.aio.call(there(short), b"%d" % n, remote=who)) for n in range(4)]
        while not proxy.connections:
            await asyncio.sleep(0.001)
        for task in tasks[:3]:
            task.cancel()
        ends = await asyncio.gather(*tasks[:3], return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * 3
        proxy.let_go("down")
        assert await tasks[3] == b"3"

    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"), Proxy(smbd.port) as proxy:
        proxy.hold("down")
        asyncio.run(main(proxy))
        assert proxy.connections == 1


def test_a_pipe_that_was_opened_just_then_is_closed(smbd: PrivateSmbd, short: str) -> None:
    async def main(listener: Any) -> None:
        task = asyncio.ensure_future(npipe.aio.connect(there(short), mode="byte", remote=remote(smbd.port)))
        await asyncio.sleep(0)
        with listener.accept(20) as server:  # the loop stands still
            h.until(lambda: "npipe-worker" not in ours())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert h.code_of(lambda: server.read(10, timeout=20)) == 109

    with listening(short, mode="byte") as listener:
        asyncio.run(main(listener))


@pytest.mark.parametrize("what", ["connect", "for_a_server"])
def test_a_cancelled_wait_for_an_instance_ends_between_two_looks(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    tries = threading.Semaphore(0)

    def busy(link: Any, _: str, name: str, **__: Any) -> Any:
        link.release()
        tries.release()
        raise not_opened(NETWORK_BUSY if what == "connect" else 0xC0000034, name, link.host)

    monkeypatch.setattr(transport, "open_file", busy)
    monkeypatch.setattr(transport, "PAUSE", 3600.0)  # as long as nobody ends it
    taken = on_asyncio(lambda: CALLS[what](there(short), remote(smbd.port)), lambda: tries.acquire(False))
    assert taken < SOON
    h.until(lambda: "npipe-worker" not in ours())


# ---- The parts


def test_a_stop_wakes_who_waits_and_who_comes_later(smbd: PrivateSmbd, short: str) -> None:
    stop = Stop()
    pausing = h.started(lambda: stop.pause(3600))
    stop.set()
    with pytest.raises(StoppedError):
        pausing.result(20)
    with pytest.raises(StoppedError):
        stop.pause(3600)
    there_is = transport.SmbTransport("127.0.0.1", remote(smbd.port))
    assert isinstance(there_is, StoppableTransport)
    with pytest.raises(StoppedError):
        there_is.until(stop).wait(parse_name(there(short)), None)
    link = connections.lease("127.0.0.1", remote(smbd.port), time.monotonic() + 20, None)
    with pytest.raises(StoppedError):
        files.open_file(link, short, there(short), access=3, deadline=None, stop=stop)
