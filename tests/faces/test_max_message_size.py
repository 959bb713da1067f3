"""max_message_size of connect, listen and serve, in every face, and what it is where nobody says."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import LOOPS, run
from tests.helpers import DEADLINE, fails, until

if TYPE_CHECKING:
    from collections.abc import Callable

ANY = 0xFFFFFFFF
STRANGERS = 64 * 1024 * 1024
WRONG: list[tuple[Any, type[Exception]]] = [
    (-1, npipe.PipeArgumentError),
    (1 << 32, npipe.PipeArgumentError),
    (True, npipe.PipeArgumentError),
    (1.5, TypeError),
    ("1", TypeError),
]

every_model = pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
every_loop = pytest.mark.parametrize("kind", sorted(LOOPS))


def test_the_limit_is_that_of_the_pipes_that_connect_and_accept_return(name: str) -> None:
    with npipe.listen(name, max_message_size=5) as listener:
        for _ in range(2):
            with npipe.connect(name, max_message_size=3) as client, listener.accept(DEADLINE) as server:
                assert (server.max_message_size, client.max_message_size) == (5, 3)
                client.send(b"12345")
                assert server.recv(timeout=DEADLINE) == b"12345"
                client.send(b"123456")
                with fails(234):
                    server.recv(timeout=DEADLINE)
                server.max_message_size = 6  # this pipe's alone
                assert server.recv(timeout=DEADLINE) == b"123456"
                server.send(b"1234")
                with fails(234):
                    client.recv(timeout=DEADLINE)


def test_at_the_limit_of_instances_each_accepted_pipe_has_the_listener_s_limit(name: str) -> None:
    with npipe.listen(name, max_message_size=5, max_instances=1) as listener:
        for _ in range(3):
            with npipe.connect(name), listener.accept(DEADLINE) as server:
                assert server.max_message_size == 5
                server.max_message_size = 77


@pytest.mark.parametrize(
    ("security", "limit"),
    [
        ("owner", ANY),
        (npipe.Security(), ANY),
        (npipe.Security(read=False), ANY),
        ("everyone", STRANGERS),
        (npipe.Security(everyone=True), STRANGERS),
    ],
)
def test_where_nobody_says_it_is_64_mib_of_a_peer_of_another_user(name: str, security: Any, limit: int) -> None:
    with (
        npipe.listen(name, security=security) as listener,
        npipe.connect(name, access="write") as own,
        listener.accept(DEADLINE) as server,
        npipe.connect(name, access="write", verify_owner=False) as anybody_s,
        listener.accept(DEADLINE),
    ):
        assert server.max_message_size == limit
        assert own.max_message_size == ANY
        assert anybody_s.max_message_size == STRANGERS


@every_loop
def test_on_a_loop_the_limits_are_the_same(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, max_message_size=5) as listener:
            waiting = asyncio.create_task(listener.accept())  # one that waits, and one that finds the client there
            await asyncio.sleep(0)
            async with await npipe.aio.connect(name, max_message_size=3) as client, await waiting as server:
                assert (server.max_message_size, client.max_message_size) == (5, 3)
                await client.send(b"123456")
                with fails(234):
                    await server.recv()
            async with await npipe.aio.connect(name, verify_owner=False) as client, await listener.accept() as server:
                assert (server.max_message_size, client.max_message_size) == (5, STRANGERS)
        async with npipe.aio.listen(name, security="everyone") as listener:
            async with await npipe.aio.connect(name) as client, await listener.accept() as server:
                assert (server.max_message_size, client.max_message_size) == (STRANGERS, ANY)

    run(main(), kind)


@pytest.mark.parametrize(("size", "error"), WRONG)
def test_another_size_is_refused_before_anything_is_done(name: str, size: Any, error: type[Exception]) -> None:
    async def main() -> None:
        with pytest.raises(error, match="max_message_size"):
            await npipe.aio.connect(name, max_message_size=size)
        with pytest.raises(error, match="max_message_size"):
            npipe.aio.listen(name, max_message_size=size)

    with pytest.raises(error, match="max_message_size"):
        npipe.connect(name, max_message_size=size)
    calls: list[Callable[..., Any]] = [npipe.listen, lambda name, **options: npipe.serve(name, bytes, **options)]
    for call in calls:
        with pytest.raises(error, match="max_message_size"):
            call(name, max_message_size=size)
    run(main())
    with fails(2):
        npipe.connect(name)


@every_model
def test_a_request_over_the_limit_ends_its_client_s_connection_alone(
    name: str, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = (100_000, 0, 100_000, 70_000, 30_001)  # the limit is of each request, not of their sum
    with npipe.serve(name, lambda request: b"%d" % len(request), model=model, max_message_size=100_000) as server:
        with npipe.connect(name) as good, npipe.connect(name) as bad:
            for size in sizes:
                assert good.transact(bytes(size), timeout=DEADLINE) == b"%d" % size
            with caplog.at_level(logging.WARNING, "npipe"), pytest.raises(npipe.PipeClosedError):
                bad.send(bytes(100_001), timeout=DEADLINE)
                bad.recv(timeout=DEADLINE)
            assert "longer than max_message_size" in caplog.text
            assert good.transact(b"still here", timeout=DEADLINE) == b"10"
            until(lambda: server.stats.answered == len(sizes) + 1)


@every_model
def test_a_small_limit_holds_for_requests_of_one_piece(name: str, model: Any) -> None:
    with npipe.serve(name, bytes.upper, model=model, max_message_size=3):
        assert npipe.call(name, b"abc", timeout=DEADLINE) == b"ABC"
        with pytest.raises(npipe.PipeClosedError):
            npipe.call(name, b"abcd", timeout=DEADLINE)


@every_model
def test_a_byte_pipe_has_no_messages_and_no_limit(name: str, model: Any) -> None:
    with npipe.serve(name, bytes.upper, model=model, mode="byte", max_message_size=1):
        with npipe.connect(name, mode="byte") as pipe:
            pipe.write(b"abc")
            assert pipe.read(3, timeout=DEADLINE) == b"ABC"
            pipe.write(b"def")
            assert pipe.read(3, timeout=DEADLINE) == b"DEF"


def test_a_call_s_time_out_is_that_of_connect(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def connect(*_: Any, timeout: float, **__: Any) -> None:
        given.append(timeout)
        npipe.connect(name)

    monkeypatch.setattr("npipe.opening.connect", connect)
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.call(name, b"")
    assert given == [20.0]
    for face in (npipe, npipe.aio):
        for function in (face.call, face.connect):
            assert inspect.signature(function).parameters["timeout"].default == 20.0
