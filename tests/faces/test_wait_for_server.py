"""Clients that are there before their server: connect(wait_for_server=True), wait(create=True), in every face."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
import npipe.anyio
from npipe.arrival import when_there, when_there_async
from npipe.names import parse_name
from npipe.transports import default
from npipe.transports.threads import ThreadsTransport
from tests.aio.helpers import LOOPS, run, turns
from tests.helpers import DEADLINE, Background, blocked, code_of, descriptors, fails, until, watches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child

SERVER = """
    import sys, npipe
    with npipe.serve(sys.argv[1], bytes.upper):
        print("listens", flush=True)
        sys.stdin.readline()
"""


def ask(name: str, timeout: float | None = DEADLINE) -> bytes:
    """Ask a server that may not be there yet."""
    with npipe.connect(name, timeout=timeout, wait_for_server=True) as pipe:
        return pipe.transact(b"hello", timeout=DEADLINE)


async def ask_aio(name: str, timeout: float | None = DEADLINE) -> bytes:
    async with await npipe.aio.connect(name, timeout=timeout, wait_for_server=True) as pipe:
        return await pipe.transact(b"hello", timeout=DEADLINE)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The time-outs of the opens that are tried from here on."""
    kind: Any = type(default())
    before, made = kind.connect, []

    def connect(self: Any, *arguments: Any, timeout: float | None, **options: Any) -> Any:
        made.append(timeout)
        return before(self, *arguments, timeout=timeout, **options)

    monkeypatch.setattr(kind, "connect", connect)
    return made


def test_a_client_meets_a_server_that_starts_after_it(name: str, child: Callable[..., Child]) -> None:
    client = blocked(lambda: ask(name))
    server = child(SERVER, name)
    assert client.result() == b"HELLO"
    assert server.line() == "listens"
    assert ask(name) == b"HELLO"  # and where it is there already


def test_wait_with_create_returns_when_the_server_has_come(name: str, child: Callable[..., Child]) -> None:
    waiters: list[Background[None]] = [
        blocked(lambda: npipe.wait(name, timeout=DEADLINE, create=True)),
        blocked(lambda: npipe.wait(name, create=True)),
        blocked(lambda: npipe.wait(name, timeout="default", create=True)),
    ]
    child(SERVER, name)
    for waiter in waiters:
        waiter.result()
    npipe.wait(name, timeout=DEADLINE, create=True)


def test_without_a_server_it_is_121_when_the_time_is_over_and_2_at_once_without_a_time(name: str) -> None:
    for call in (
        lambda timeout: npipe.connect(name, timeout=timeout, wait_for_server=True),
        lambda timeout: npipe.wait(name, timeout=timeout, create=True),
    ):
        with pytest.raises(npipe.PipeTimeoutError, match="no server has come") as caught:
            call(0.05)
        assert caught.value.pipe_name == name
        with fails(2):
            call(0)
    with fails(2):
        npipe.connect(name)
    with fails(2):
        npipe.wait(name)


def test_a_server_that_is_there_and_busy_is_waited_for_as_without_it(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener, npipe.connect(name), listener.accept(DEADLINE):
        with fails(121):
            npipe.connect(name, timeout=0.05, wait_for_server=True)
        with fails(231):
            npipe.connect(name, timeout=0, wait_for_server=True)


def test_the_folder_tells_and_nothing_is_asked_again_and_again(
    root: Path, name: str, attempts: list[float | None]
) -> None:
    root.mkdir(mode=0o700)
    client = blocked(lambda: ask(name))
    assert len(attempts) == 2  # before there was a watch, and after
    for number in range(20):
        with npipe.listen(f"{name}-other-{number}"):
            pass
        (root.parent / f"file-{number}").touch()
    client.blocked()
    assert len(attempts) == 2
    with npipe.serve(name, bytes.upper):
        assert client.result() == b"HELLO"
    assert len(attempts) <= 5  # the folder, the lock, the socket
    assert watches() == 0


def test_a_root_that_is_not_there_yet_is_waited_for_from_the_folder_above(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = root / "a" / "b"
    monkeypatch.setenv("NPIPE_ROOT", str(deep))
    client = blocked(lambda: ask(name))
    root.mkdir()
    client.blocked()
    deep.parent.mkdir()
    client.blocked()
    with npipe.serve(name, bytes.upper):
        assert client.result() == b"HELLO"


def test_a_root_that_goes_and_comes_again_is_still_watched(root: Path, name: str) -> None:
    with npipe.listen(f"{name}-other"):
        client = blocked(lambda: ask(name))
    shutil.rmtree(root)
    root.mkdir(mode=0o700)
    shutil.rmtree(root)
    client.blocked()
    with npipe.serve(name, bytes.upper):
        assert client.result() == b"HELLO"


def test_a_relative_root_is_watched(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, child: Callable[..., Child]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NPIPE_ROOT", "relative")
    client = blocked(lambda: ask(name))
    child(SERVER, name)
    assert client.result() == b"HELLO"


def test_what_a_killed_server_has_left_does_not_keep_the_next_one_from_being_seen(
    name: str, child: Callable[..., Child]
) -> None:
    first = child(SERVER, name)
    assert first.line() == "listens"
    first.kill()
    client = blocked(lambda: ask(name))
    child(SERVER, name)
    assert client.result() == b"HELLO"


def test_many_clients_meet_one_server(name: str) -> None:
    before = descriptors()
    clients = [blocked(lambda: ask(name)) for _ in range(150)]  # a user may have 128 instances of inotify
    others = [blocked(lambda: ask(name + "-other")) for _ in range(5)]
    assert watches() == 1
    with npipe.serve(name, bytes.upper):
        assert [client.result(30) for client in clients] == [b"HELLO"] * 150
    assert all(other.running for other in others)
    with npipe.serve(name + "-other", bytes.upper):
        assert [other.result(30) for other in others] == [b"HELLO"] * 5
    assert watches() == 0
    until(lambda: descriptors() <= before + 3)  # the engine's own


def test_no_server_is_missed_that_comes_between_a_look_and_a_wait(name: str) -> None:
    for number in range(200):
        client = Background(lambda number=number: ask(f"{name}-{number}"))  # type: ignore[misc]
        with npipe.serve(f"{name}-{number}", bytes.upper):
            assert client.result() == b"HELLO"


FLOOD = """
    import itertools, os, sys
    for number in itertools.count():
        folder = os.path.join(sys.argv[1], f"other{os.getpid()}")
        os.mkdir(folder)
        os.rmdir(folder)
        if number == 100:
            print("goes on", flush=True)
"""


def test_a_wait_ends_by_its_time_in_a_root_that_others_change_all_the_time(
    root: Path, name: str, child: Callable[..., Child]
) -> None:
    with npipe.listen(f"{name}-other"):  # which makes the root
        many = [child(FLOOD, str(root)) for _ in range(2)]
        assert [one.line() for one in many] == ["goes on", "goes on"]
        waiting = Background(lambda: ask(name, 0.3))
        try:
            assert waiting.code(20) == 121
        finally:
            for one in many:
                one.kill()
        coming = Background(lambda: ask(name))
        with npipe.serve(name, bytes.upper):
            assert coming.result() == b"HELLO"


def test_a_root_that_can_never_be_there_is_refused_or_not_found_in_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("NPIPE_ROOT", str(file / "root"))
    with pytest.raises(npipe.PipeError):
        npipe.connect(name, timeout=0.2, wait_for_server=True)


@pytest.mark.parametrize("to", [".", "itself", "nowhere", "a file"])
def test_a_link_in_the_place_of_the_pipe_s_folder_is_refused_as_without_a_wait(
    root: Path, name: str, to: str, tmp_path: Path
) -> None:
    folder = parse_name(name).folder
    (tmp_path / "file").touch()
    target = {".": ".", "itself": folder, "nowhere": "nowhere", "a file": str(tmp_path / "file")}[to]
    root.mkdir(mode=0o700, exist_ok=True)
    (root / folder).symlink_to(target)
    before = watches()
    without = code_of(lambda: npipe.connect(name, timeout=DEADLINE))
    assert code_of(lambda: npipe.connect(name, timeout=0.3, wait_for_server=True)) == without == 5
    assert watches() == before


@pytest.mark.parametrize("kind", sorted(LOOPS))
def test_on_a_loop_a_client_meets_a_server_that_starts_after_it(kind: str, name: str) -> None:
    async def main() -> None:
        client = asyncio.create_task(ask_aio(name))
        waiter = asyncio.create_task(npipe.aio.wait(name, create=True))
        by_anyio = asyncio.create_task(npipe.anyio.connect(name, wait_for_server=True))
        stopped = asyncio.create_task(npipe.aio.wait(name, create=True))
        await turns(20)
        assert watches() == 1  # for all of them
        stopped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopped
        async with await npipe.aio.serve(name, bytes.upper):
            assert await client == b"HELLO"
            await waiter
            stream = await by_anyio
            await stream.aclose()
        assert watches() == 0

    run(main(), kind, blocks=True)


@pytest.mark.parametrize("kind", sorted(LOOPS))
def test_on_a_loop_without_a_server_it_is_121_when_the_time_is_over(kind: str, name: str) -> None:
    async def main() -> None:
        with pytest.raises(npipe.PipeTimeoutError, match="no server has come"):
            await npipe.aio.connect(name, timeout=0.05, wait_for_server=True)
        with pytest.raises(npipe.PipeTimeoutError, match="no server has come"):
            await npipe.aio.wait(name, timeout=0.05, create=True)
        with fails(2):
            await npipe.aio.connect(name, timeout=0, wait_for_server=True)

    run(main(), kind)


def test_on_trio_a_client_meets_a_server_that_starts_after_it(name: str) -> None:
    trio = pytest.importorskip("trio")

    async def main() -> bytes:
        async def serve() -> None:
            while not watches():
                await trio.sleep(0)
            async with npipe.aio.listen(name) as listener, await listener.accept() as pipe:
                await pipe.send((await pipe.recv()).upper())
                await pipe.flush()

        answers = []
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                answers.append(await ask_aio(name))
        return answers[0]

    assert trio.run(main) == b"HELLO"


def test_a_forked_child_waits_on_its_own(name: str) -> None:
    client = blocked(lambda: ask(name))
    until(lambda: watches() == 1)
    pid = os.fork()
    if pid == 0:  # the other thread's wait is not the child's
        os._exit(watches())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with npipe.serve(name, bytes.upper):
        assert client.result() == b"HELLO"


def test_over_a_transport_in_threads_a_server_is_waited_for_too(name: str) -> None:
    async def main() -> None:
        transport, parsed = ThreadsTransport(default()), parse_name(name)

        async def waits(timeout: float) -> None:
            await when_there_async(
                transport, parsed, timeout, "waiting", lambda left: transport.wait(parsed, left, use_default=False)
            )

        with pytest.raises(npipe.PipeTimeoutError, match="no server has come"):
            await waits(0.05)
        waiter = asyncio.create_task(waits(DEADLINE))
        while not watches():
            await asyncio.sleep(0)
        async with await npipe.aio.serve(name, bytes.upper):
            await waiter
        assert watches() == 0

    run(main(), blocks=True)


class Tells:
    """An arrival whose folder changes a number of times, each within the time that is given for it."""

    def __init__(self, changes: int) -> None:
        self.changes = changes
        self.closed = False

    def arrival(self, _name: object) -> Tells:
        return self

    def arm(self) -> None:
        pass

    def wait(self, timeout: float | None) -> bool:
        assert timeout is not None
        assert 0 <= round(timeout, 9) <= 0.1  # no longer than a folder takes to be made; by a clock of 53 bits
        self.changes -= 1
        return self.changes >= 0

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("refusals", "changes", "code"), [(2, 5, 0), (3, 1, 5)])
def test_a_folder_that_is_just_being_made_for_others_refuses_nobody(refusals: int, changes: int, code: int) -> None:
    """It is its owner's alone for a moment, and then a change tells that it is not any more."""
    left = [npipe.PipeAccessError()] * refusals
    tells: Any = Tells(changes)

    def attempt(_left: float | None) -> str:
        if left:
            raise left.pop()
        return "connected"

    assert code_of(lambda: when_there(tells, parse_name("x"), 30.0, "waiting", attempt)) == code
    assert tells.closed
