"""What a server tells of its clients, in every face: handlers that take the connection, counts, repr."""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import functools
import getpass
import os
import sys
import zlib
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import LOOPS, run, turns
from tests.helpers import DEADLINE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

every_model = pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
every_loop = pytest.mark.parametrize("kind", sorted(LOOPS))

CLIENT = """
    import os, sys, npipe
    with npipe.connect(sys.argv[1]) as pipe:
        print(pipe.transact(b"who").decode(), flush=True)
        sys.stdin.readline()
"""


def who_asks(_request: bytes, connection: npipe.Connection) -> bytes:
    """Answer with all that is known of the client."""
    connection.data["asked"] = connection.data.get("asked", 0) + 1
    known = (connection.number, connection.pid, connection.uid, connection.user, connection.data["asked"])
    return repr(known).encode()


class Handlers:
    """The two kinds as methods and as a callable object."""

    def alone(self, request: bytes) -> bytes:
        return request.upper()

    def both(self, request: bytes, connection: npipe.Connection) -> bytes:
        return b"%d %s" % (connection.number, request)

    def __call__(self, request: bytes, connection: npipe.Connection) -> bytes:
        return self.both(request, connection)


def with_default(request: bytes, level: int = 7) -> bytes:
    return b"%d %s" % (level, request)


def with_named(request: bytes, connection: npipe.Connection | None = None) -> bytes:
    return b"%d %s" % (0 if connection is None else connection.number, request)


def one(request: bytes) -> bytes:
    return b"one " + request


def two(request: bytes, connection: npipe.Connection) -> bytes:
    return b"%d %s" % (connection.number, request)


def with_database(request: bytes, database: str) -> bytes:
    return database.encode() + b" " + request


def gives_database(function: Callable[..., bytes]) -> Callable[[bytes], bytes]:
    @functools.wraps(function)
    def wrapper(request: bytes) -> bytes:
        return function(request, "database")

    return wrapper


def hands_on(function: Callable[..., bytes]) -> Callable[..., bytes]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> bytes:
        return function(*arguments, **options)

    return wrapper


def uses_connection(function: Callable[[bytes], bytes]) -> Callable[[bytes, npipe.Connection], bytes]:
    @functools.wraps(function)
    def wrapper(request: bytes, connection: npipe.Connection) -> bytes:
        return b"%d %s" % (connection.number, function(request))

    return wrapper


class Decorated:
    @hands_on
    def both(self, request: bytes, connection: npipe.Connection) -> bytes:
        return two(request, connection)

    @staticmethod
    @hands_on
    def static(request: bytes) -> bytes:
        return one(request)


HANDLERS: dict[str, tuple[Any, bytes]] = {
    "a decorator that gives the second argument itself": (gives_database(with_database), b"database x"),
    "a decorator that hands on two": (hands_on(two), b"1 x"),
    "a decorator that hands on one": (hands_on(one), b"one x"),
    "a decorator that takes the connection for itself": (uses_connection(one), b"1 one x"),
    "a decorator that hands on to one that does not": (hands_on(gives_database(with_database)), b"database x"),
    "decorators that hand on": (hands_on(hands_on(two)), b"1 x"),
    "a cached function": (functools.lru_cache(one), b"one x"),
    "a cached function of two": (functools.lru_cache(two), b"1 x"),
    "a decorated method": (Decorated().both, b"1 x"),
    "a decorated static method": (Decorated.static, b"one x"),
    "a part of a decorated function": (functools.partial(hands_on(two)), b"1 x"),
    "a method with one": (Handlers().alone, b"X"),
    "a method with two": (Handlers().both, b"1 x"),
    "an object": (Handlers(), b"1 x"),
    "a part of a function": (functools.partial(Handlers.both, Handlers()), b"1 x"),
    "a second with a default": (with_default, b"7 x"),
    "a second that is named": (with_named, b"1 x"),
    "a lambda": (lambda request, c: b"%d %s" % (c.number, request), b"1 x"),
    "a type": (bytes, b"x"),
    "a built-in method": (bytes.upper, b"X"),
    "a built-in function with options": (zlib.compress, zlib.compress(b"x")),
}


@every_model
def test_a_handler_with_two_parameters_gets_the_client_s_connection(
    name: str, model: Any, child: Callable[..., Child]
) -> None:
    with npipe.serve(name, who_asks, model=model), npipe.connect(name) as pipe:
        me = os.getpid(), os.geteuid(), getpass.getuser()
        assert pipe.transact(b"who", timeout=DEADLINE).decode() == repr((1, *me, 1))
        assert pipe.transact(b"who", timeout=DEADLINE).decode() == repr((1, *me, 2))
        other = child(CLIENT, name)
        assert other.line() == repr((2, other.pid, *me[1:], 1))


@every_model
@pytest.mark.parametrize("handler", HANDLERS)
def test_which_handlers_take_the_connection(name: str, model: Any, handler: str) -> None:
    function, answer = HANDLERS[handler]
    with npipe.serve(name, function, model=model):
        assert npipe.call(name, b"x", timeout=DEADLINE) == answer


@every_model
def test_a_server_tells_who_is_there_and_what_it_has_done(name: str, model: Any) -> None:
    def answer(request: bytes) -> Any:
        return {b"": None, b"number": 5}.get(request, request)

    left: list[npipe.Connection] = []
    with npipe.serve(name, answer, model=model, on_disconnect=left.append) as server:
        assert (server.clients, server.connections, server.stats) == (0, (), npipe.ServerStats(0, 0, 0))
        with contextlib.ExitStack() as connected:
            first = connected.enter_context(npipe.connect(name))
            first.transact(b"a", timeout=DEADLINE)  # it has its number before the other one comes
            second = connected.enter_context(npipe.connect(name))
            second.transact(b"b", timeout=DEADLINE)
            second.transact(b"c", timeout=DEADLINE)
            until(lambda: server.stats == npipe.ServerStats(answered=3, failed=0, clients=2))
            assert server.clients == 2
            assert [one.number for one in server.connections] == [1, 2]
            assert [one.requests for one in server.connections] == [1, 2]
            assert [one.pid for one in server.connections] == [os.getpid()] * 2
            first.send(b"number")  # whose answer is none
            with pytest.raises(npipe.PipeClosedError):
                first.recv(timeout=DEADLINE)
            until(lambda: server.clients == 1)
            assert server.stats == npipe.ServerStats(answered=3, failed=1, clients=2)
            assert [one.number for one in server.connections] == [2]
            second.send(b"")  # which has no answer
            until(lambda: server.stats.answered == 4)
            text = repr(server)
            for part in (f"r'{name}'", "listening", "1 client,", "4 requests answered", "1 failed"):
                assert part in text, text
        until(lambda: server.clients == 0)
        assert [one.number for one in left] == [1, 2]
        assert left[0].pid == os.getpid()  # it was asked for while the client was there
        assert repr(left[0]).startswith(f"<Connection 1, process {os.getpid()} of ")
    assert "closed" in repr(server)


@every_model
def test_an_awaitable_answer_fails_and_says_where_it_is_awaited(
    name: str, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(request: bytes) -> bytes:
        return request

    handlers: list[Any] = [lambda request: answer(request), hands_on(answer)]  # type: ignore[arg-type]
    for handler in handlers:
        caplog.clear()
        with npipe.serve(name, handler, model=model) as server:
            with pytest.raises(npipe.PipeClosedError):
                npipe.call(name, b"x", timeout=DEADLINE)
            until(lambda server=server: server.stats.failed == 1)  # type: ignore[misc]
        assert "use npipe.aio.serve" in caplog.text


def answers() -> list[tuple[Any, bytes | None]]:
    """What a handler may return, and what is none: as send has it."""
    text = array.array("w" if sys.version_info >= (3, 13) else "u", "ab")
    return [
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        (array.array("i", [1, 2]), array.array("i", [1, 2]).tobytes()),
        (Numbers(1, 2.5), bytes(Numbers(1, 2.5))),
        (memoryview(b"a view with steps")[::2], None),
        (text, None),
        ((ctypes.c_char_p * 2)(b"a", b"b"), None),
        ("text", None),
        (5, None),
    ]


class Numbers(ctypes.Structure):
    _fields_ = (("whole", ctypes.c_int), ("other", ctypes.c_double))


@every_model
def test_answers_are_what_send_takes_and_others_are_counted(name: str, model: Any) -> None:
    for answer, sent in answers():
        with npipe.serve(name, lambda _request, answer=answer: answer, model=model) as server:
            if sent is None:
                with pytest.raises(npipe.PipeClosedError):
                    npipe.call(name, b"x", timeout=DEADLINE)
            else:
                assert npipe.call(name, b"x", timeout=DEADLINE) == sent
            found = npipe.ServerStats(answered=int(sent is not None), failed=int(sent is None), clients=1)
            until(lambda server=server, found=found: server.stats == found)  # type: ignore[misc]


def test_on_a_loop_answers_are_what_send_takes_and_others_are_counted(name: str) -> None:
    async def main() -> None:
        for answer, sent in answers():
            async with await npipe.aio.serve(name, lambda _request, answer=answer: answer) as server:
                if sent is None:
                    with pytest.raises(npipe.PipeClosedError):
                        await npipe.aio.call(name, b"x", timeout=DEADLINE)
                else:
                    assert await npipe.aio.call(name, b"x", timeout=DEADLINE) == sent
                found = npipe.ServerStats(answered=int(sent is not None), failed=int(sent is None), clients=1)
                while server.stats != found:
                    await turns(1)

    run(main())


@every_loop
def test_on_a_loop_a_handler_with_two_parameters_gets_the_client_s_connection(kind: str, name: str) -> None:
    async def wait_and_tell(request: bytes, connection: npipe.Connection) -> bytes:
        await asyncio.sleep(0)
        return who_asks(request, connection)

    async def main() -> None:
        me = os.getpid(), os.geteuid(), getpass.getuser()
        for handler in (who_asks, wait_and_tell):
            async with await npipe.aio.serve(name, handler), await npipe.aio.connect(name) as pipe:
                assert (await pipe.transact(b"who")).decode() == repr((1, *me, 1))
                assert (await pipe.transact(b"who")).decode() == repr((1, *me, 2))
                async with await npipe.aio.connect(name) as other:
                    assert (await other.transact(b"who")).decode() == repr((2, *me, 1))
        for function, answer in HANDLERS.values():
            async with await npipe.aio.serve(name, function):
                assert await npipe.aio.call(name, b"x") == answer

    run(main(), kind, blocks=True)


@every_loop
def test_on_a_loop_a_server_tells_who_is_there_and_what_it_has_done(kind: str, name: str) -> None:
    def answer(request: bytes) -> Any:
        return {b"": None, b"number": 5}.get(request, request)

    async def main() -> None:
        async with await npipe.aio.serve(name, answer) as server:
            assert (server.clients, server.connections, server.stats) == (0, (), npipe.ServerStats(0, 0, 0))
            async with await npipe.aio.connect(name) as first, await npipe.aio.connect(name) as second:
                await first.transact(b"a")
                await second.transact(b"b")
                await second.send(b"")
                await turns(20)
                assert server.stats == npipe.ServerStats(answered=3, failed=0, clients=2)
                assert [(one.number, one.requests, one.pid) for one in server.connections] == [
                    (1, 1, os.getpid()),
                    (2, 2, os.getpid()),
                ]
                await first.send(b"number")
                with pytest.raises(npipe.PipeClosedError):
                    await first.recv(timeout=DEADLINE)
                await turns(20)
                assert server.stats == npipe.ServerStats(answered=3, failed=1, clients=2)
                assert [one.number for one in server.connections] == [2]
                text = repr(server)
                for part in (f"r'{name}'", "listening", "1 client,", "3 requests answered", "1 failed"):
                    assert part in text, text
            await turns(20)
            assert server.clients == 0
        assert "closed" in repr(server)

    run(main(), kind, blocks=True)


def test_on_trio_serve_says_what_to_use_and_takes_no_name(name: str) -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed")

    async def main() -> None:
        with pytest.raises(npipe.PipeStateError, match="needs asyncio's event loop") as caught:
            await npipe.aio.serve(name, bytes.upper)
        assert caught.value.winerror == 50
        npipe.aio.listen(name).close()

    trio.run(main)
