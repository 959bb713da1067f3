"""A relay in this process: who comes, and what becomes of who is not carried."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import resource
from typing import TYPE_CHECKING, Any, cast

import pytest

import npipe
import npipe.aio
from npipe.relay import Relay, RelayOptions, relaying
from tests.relay.content import echo
from tests.relay.helpers import DEADLINE, RelayProcess, free_path, unix_server

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from npipe.relay import Report


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, DEADLINE))


def test_a_failure_that_nobody_has_thought_of_lets_the_client_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def dial(*_: object) -> None:
        raise UnicodeError("of a resolver, say")

    monkeypatch.setattr(relaying, "dial_socket", dial)

    async def talk() -> None:
        async with Relay(f"unix:{free_path(tmp_path)}", "tcp:1") as relay:
            running = asyncio.create_task(relay.run())
            for _ in range(2):  # and it goes on
                reader, writer = await asyncio.open_unix_connection(free_path(tmp_path))
                assert await reader.read() == b""
                writer.close()
            relay.stop()
            summary = await running
        assert (summary.connections, summary.unclean) == (0, 2)

    with caplog.at_level(logging.ERROR, "npipe.relay"):
        run(talk())
    assert [record.message for record in caplog.records] == [
        "a connection failed: UnicodeError('of a resolver, say')"
    ] * 2


def test_a_second_signal_ends_what_is_still_dialling(tmp_path: Path) -> None:
    path = free_path(tmp_path)
    reports: list[Report] = []
    options = RelayOptions(wait_for_server=True, connect_timeout=None)

    async def talk() -> None:
        async with Relay(f"unix:{path}", f"unix:{tmp_path}/nothing", options, on_report=reports.append) as relay:
            dialling = asyncio.Event()
            reach = relay._reach

            async def tell(dial: Any, *more: Any) -> Any:
                dialling.set()
                return await reach(dial, *more)

            relay._reach = tell  # type: ignore[method-assign]
            running = asyncio.create_task(relay.run(grace=None))
            reader, writer = await asyncio.open_unix_connection(path)
            await dialling.wait()
            relay.stop("by one")
            relay.cut()
            assert await reader.read() == b""
            assert (await running).unreached == 1
            writer.close()

    run(talk())
    assert [report.lost for report in reports] == [f"unix:{tmp_path}/nothing: by one"]


@pytest.mark.parametrize("side", [0, 1])
def test_who_waits_for_a_partner_at_a_stop_is_let_go_and_told_of(name: str, tmp_path: Path, side: int) -> None:
    path = free_path(tmp_path)
    reports: list[Report] = []

    async def talk() -> None:
        ends = (f"listen:{name}", f"listen:unix:{path}")
        async with Relay(ends[side], ends[1 - side], on_report=reports.append) as relay:
            taken = asyncio.Event()
            next_one = relay._next

            async def tell(acceptor: Any) -> Any:
                arrival = await next_one(acceptor)
                taken.set()
                return arrival

            relay._next = tell  # type: ignore[method-assign]
            running = asyncio.create_task(relay.run())
            pipe = await npipe.aio.connect(name)
            await pipe.send(b"important")
            await taken.wait()
            relay.stop("by one")
            assert (await running).unreached == 1
            with pytest.raises(npipe.PipeClosedError):
                await pipe.recv(timeout=DEADLINE)
            await pipe.close()

    run(talk())
    (report,) = reports
    assert report.lost == f"unix:{path}: nobody came, by one"
    assert (report.first, report.second)[1 - side] == f"unix:{path}"
    assert (report.how, report.clean) == ("refused", False)


def test_who_comes_when_no_descriptor_is_left_for_the_other_side_waits_for_one(tmp_path: Path) -> None:
    limit, count = 60, 150

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    async def ask(path: str, number: int) -> bool:
        data = random.Random(number).randbytes(20_000)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(data)
        writer.write_eof()
        got = await reader.read()
        writer.close()
        return got == data

    async def all_ask(path: str) -> list[bool]:
        return await asyncio.gather(*[ask(path, number) for number in range(count)])

    front, server = str(tmp_path / "front"), free_path(tmp_path)
    with unix_server(server, echo), RelayProcess(f"unix:{front}", f"unix:{server}", preexec_fn=few) as relay:
        assert run(all_ask(front)) == [True] * count
        assert all(relay.report()["clean"] for _ in range(count))
        assert relay.end() == (0, "")


def test_those_who_wait_for_a_descriptor_do_not_wake_each_other(tmp_path: Path) -> None:
    dials = 0

    async def dial() -> Any:
        nonlocal dials
        dials += 1
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def turns() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def wait() -> None:
        relay = Relay(f"unix:{free_path(tmp_path)}", "tcp:1", RelayOptions(connect_timeout=-0.7))
        relay._talks.add(cast("Any", None))  # a connection that may end
        tasks = [asyncio.create_task(relay._reach(dial)) for _ in range(3)]
        await turns()
        assert dials == 3
        relay._freed.set()  # another one has ended, and left too few for them
        await turns()
        assert dials == 6
        for why in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(why, OSError)  # and not that the time is over, which says less
            assert why.errno == errno.EMFILE
        assert (relay._short, relay._waiting, relay._freed.is_set()) == (0, 0, True)

    run(wait())
