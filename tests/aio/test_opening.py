"""npipe.aio: connect, call, wait."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import WITH_EAGER, run, turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child


@pytest.fixture(params=sorted(WITH_EAGER))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_name_that_nobody_serves_is_not_found_at_once(kind: str, name: str) -> None:
    async def main() -> None:
        with pytest.raises(npipe.PipeNotFoundError):
            await npipe.aio.connect(name)
        with pytest.raises(npipe.PipeNotFoundError):
            await npipe.aio.wait(name)
        with pytest.raises(npipe.PipeNotFoundError):
            await npipe.aio.call(name, b"")

    run(main(), kind)


def test_a_client_waits_for_an_instance_and_the_first_one_comes_first(kind: str, name: str) -> None:
    async def main() -> None:
        order: list[int] = []

        async def client(number: int) -> None:
            async with await npipe.aio.connect(name) as pipe:
                order.append(number)
                await pipe.send(b"x")

        async with npipe.aio.listen(name, max_instances=1) as listener:
            first = await npipe.aio.connect(name)
            clients = []
            for number in range(5):
                clients.append(asyncio.create_task(client(number)))
                await turns()
            with pytest.raises(npipe.PipeBusyError):
                await npipe.aio.connect(name, timeout=0)
            with pytest.raises(npipe.PipeTimeoutError):
                await npipe.aio.connect(name, timeout=0.02)
            with pytest.raises(npipe.PipeTimeoutError):
                await npipe.aio.wait(name, timeout=0.02)
            with pytest.raises(npipe.PipeTimeoutError):
                await npipe.aio.wait(name, timeout="default")
            with pytest.raises(npipe.PipeBusyError):
                await npipe.aio.call(name, b"", timeout=0.02)
            await (await listener.accept()).close()
            await first.close()
            for _ in range(5):
                async with await listener.accept() as pipe:
                    assert await pipe.recv() == b"x"
            await asyncio.gather(*clients)
            assert order == [0, 1, 2, 3, 4]
            await npipe.aio.wait(name)

    run(main(), kind)


def test_wait_is_answered_when_an_instance_listens(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, max_instances=1) as listener, await npipe.aio.connect(name):
            server = await listener.accept()
            waiting = asyncio.create_task(npipe.aio.wait(name))
            await turns()
            assert not waiting.done()
            await server.close()
            await waiting

    run(main(), kind)


def test_the_end_of_the_name_ends_a_wait(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, max_instances=1) as listener, await npipe.aio.connect(name):
            server = await listener.accept()
            waiting = asyncio.create_task(npipe.aio.connect(name))
            await turns()
            listener.close()
            await server.close()
            with pytest.raises(npipe.PipeNotFoundError):
                await waiting

    run(main(), kind)


def test_call_is_one_request_and_its_answer(kind: str, name: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper):
            assert await npipe.aio.call(name, b"hello") == b"HELLO"
            assert await npipe.aio.call(name, b"x" * 200_000, timeout=10) == b"X" * 200_000

    run(main(), kind)


def test_modes_access_and_owners_are_checked(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, mode="byte", access="inbound") as listener:
            accepted: list[npipe.aio.StreamPipe] = []

            async def accept() -> None:
                accepted.extend([pipe async for pipe in listener])

            accepting = asyncio.create_task(accept())
            with pytest.raises(npipe.PipeModeError):
                await npipe.aio.connect(name, access="write")
            with pytest.raises(npipe.PipeAccessError):
                await npipe.aio.connect(name, mode="byte")
            async with await npipe.aio.connect(name, mode="byte", access="write") as pipe:
                with pytest.raises(npipe.PipeAccessError):
                    await pipe.read(1)
            listener.close()
            await accepting
            for pipe in accepted:
                await pipe.close()
        with pytest.raises(npipe.PipeNameError):
            await npipe.aio.connect("")
        with pytest.raises(npipe.PipeArgumentError):
            await npipe.aio.connect(name, remote=npipe.Remote("alice", "secret"))
        if sys.platform != "win32":  # whose own redirector looks for the machine
            with pytest.raises(npipe.PipeStateError):
                await npipe.aio.connect(r"\\host\pipe\x")

    run(main())


def test_several_processes_may_serve_a_name(kind: str, name: str, child: Callable[..., Child]) -> None:
    script = """
        import os, sys, npipe
        with npipe.listen(sys.argv[1], exclusive=False, max_instances=2) as listener:
            print("listening", flush=True)
            with listener.accept() as pipe:
                pipe.send(pipe.recv() + str(os.getpid()).encode())
                pipe.flush()
    """
    others = [child(script, name) for _ in range(2)]
    for other in others:
        assert other.line() == "listening"

    async def main() -> None:
        pipes = [await npipe.aio.connect(name) for _ in range(2)]
        answers = {await pipe.transact(b"x") for pipe in pipes}
        assert answers == {b"x%d" % other.pid for other in others}
        for pipe in pipes:
            await pipe.close()

    run(main(), kind)
    for other in others:
        assert other.wait() == 0


def test_it_works_without_a_root_of_ones_own(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NPIPE_ROOT")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    test_call_is_one_request_and_its_answer("asyncio", name)


def _segments() -> set[str]:
    """The files of the links that this process has mapped, by their numbers."""
    return {line.split()[4] for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:npipe-link" in line}


@pytest.mark.alone
@pytest.mark.usefixtures("shared_root")  # its path is short: of a long one no owner is remembered
def test_one_connection_after_the_other_uses_the_same_segment(
    kind: str, name: str, child: Callable[..., Child]
) -> None:
    server = child(
        """
        import npipe, sys
        with npipe.serve(sys.argv[1], bytes.upper):
            print("serving", flush=True)
            input()
        """,
        name,
    )
    assert server.line() == "serving"

    before = _segments()  # what others of this process have open is not counted

    async def main() -> None:
        seen: list[frozenset[str]] = []
        # Kept for some 20 ms: on a busy machine not each time, but again and again.
        while len(frozenset().union(*seen)) >= len(seen) and len(seen) < 1000:
            async with await npipe.aio.connect(name) as pipe:
                assert await pipe.transact(b"x") == b"X"
                seen.append(frozenset(_segments() - before))
        assert len(frozenset().union(*seen)) < len(seen)
        assert max(map(len, seen)) <= 4 + 1

    run(main(), kind, blocks=True)


@pytest.mark.slow
def test_an_owner_that_has_gone_is_not_asked_for_ever(kind: str, name: str, child: Callable[..., Child]) -> None:
    script = """
        import npipe, sys
        with npipe.serve(sys.argv[1], lambda data: sys.argv[2].encode()):
            print("serving", flush=True)
            input()
        """

    async def ask() -> bytes:
        return await npipe.aio.call(name, b"who?")

    for answer in "one", "two", "three":
        server = child(script, name, answer)
        assert server.line() == "serving"
        for _ in range(3):
            assert run(ask(), kind) == answer.encode()
        server.kill()
        with pytest.raises(npipe.PipeNotFoundError):
            run(ask(), kind)
