"""What every public call says of an argument that is none: the same class and code in npipe and in npipe.aio."""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio

if TYPE_CHECKING:
    from collections.abc import Callable

BAD = 87
NO_NUMBERS: list[tuple[Any, Any]] = [(1.5, TypeError), (math.nan, TypeError), ("1", TypeError), (True, BAD)]
NO_SIZES: list[tuple[Any, Any]] = [*NO_NUMBERS, (-1, BAD), (2**40, BAD), (None, TypeError)]
NO_TIMES: list[tuple[Any, Any]] = [(-1, BAD), (-0.5, BAD), (math.nan, BAD), (True, BAD), ("1", TypeError)]
NO_FLAGS: list[tuple[Any, Any]] = [(0, TypeError), (1, TypeError), (-1, TypeError), ("a", TypeError), (None, TypeError)]
NO_WORDS: list[tuple[Any, Any]] = [("other", BAD), (5, BAD), ([], BAD), (None, BAD)]
NO_DATA: list[tuple[Any, Any]] = [("text", TypeError), (5, TypeError), (None, TypeError)]
NO_NAMES: list[tuple[Any, Any]] = [("", 3), (5, TypeError), (None, TypeError), (b"x", TypeError)]
UNLIMITED: list[tuple[Any, Any]] = [(value, error) for value, error in NO_SIZES if value is not None]

OPENING: dict[str, dict[str, list[tuple[Any, Any]]]] = {
    "connect": {
        "name": NO_NAMES,
        "mode": NO_WORDS,
        "access": NO_WORDS,
        "timeout": NO_TIMES,
        "verify_owner": NO_FLAGS,
        "wait_for_server": NO_FLAGS,
        "max_message_size": UNLIMITED,
    },
    "call": {"name": NO_NAMES, "data": NO_DATA, "timeout": NO_TIMES, "verify_owner": NO_FLAGS},
    "wait": {"name": NO_NAMES, "timeout": NO_TIMES[:-1], "create": NO_FLAGS},
    "listen": {
        "name": NO_NAMES,
        "mode": NO_WORDS,
        "access": NO_WORDS,
        "max_instances": [*NO_NUMBERS, (0, BAD), (255, BAD), (-1, BAD)],
        "in_buffer_size": NO_SIZES,
        "out_buffer_size": NO_SIZES,
        "default_timeout": [*NO_TIMES, (1e9, BAD)],
        "security": [("other", BAD), (5, TypeError), (None, TypeError)],
        "max_message_size": UNLIMITED,
        "exclusive": NO_FLAGS,
    },
}
OPENING["serve"] = {**OPENING["listen"], "handler": [(None, TypeError), (b"", TypeError)]}
GIVEN: dict[str, dict[str, Any]] = {"call": {"data": b"x"}, "serve": {"handler": bytes.upper}}
OWN: list[tuple[str, dict[str, Any], list[tuple[Any, Any]]]] = [
    ("model", {}, NO_WORDS),
    ("instances", {"model": "overlapped"}, [*NO_NUMBERS, (0, BAD), (65536, BAD)]),
    ("flush_timeout", {}, NO_TIMES),
    ("on_connect", {}, [(5, TypeError), ("x", TypeError)]),
    ("on_disconnect", {}, [(5, TypeError), ("x", TypeError)]),
]
CONCURRENCY: list[tuple[Any, Any]] = [*NO_NUMBERS, (0, BAD), (-1, BAD)]

METHODS: dict[str, list[tuple[str, dict[str, Any], list[tuple[Any, Any]]]]] = {
    "message": [
        ("send", {"data": b"x"}, []),
        ("send", {"data": ...}, NO_DATA),
        ("send", {"data": b"x", "timeout": ...}, NO_TIMES),
        ("recv", {"timeout": ...}, NO_TIMES),
        ("recv_into", {"buffer": ...}, [*NO_DATA, (b"read-only", BufferError)]),
        ("recv_into", {"buffer": bytearray(1), "exact": ...}, NO_FLAGS),
        ("recv_into", {"buffer": bytearray(1), "timeout": ...}, NO_TIMES),
        ("recv_into", {"buffer": bytearray(1), "exact": True, "timeout": ...}, NO_TIMES),
        ("transact", {"data": ...}, NO_DATA),
        ("transact", {"data": b"x", "timeout": ...}, NO_TIMES),
        ("discard_reply", {"timeout": ...}, NO_TIMES),
        ("peek", {"size": ...}, NO_SIZES),
        ("flush", {"timeout": ...}, NO_TIMES),
        ("close", {"timeout": ...}, NO_TIMES),
    ],
    "byte": [
        ("write", {"data": ...}, NO_DATA),
        ("write", {"data": b"x", "timeout": ...}, NO_TIMES),
        ("read", {"size": ...}, [*NO_NUMBERS, (2**40, BAD), (None, TypeError)]),
        ("read", {"size": 1, "timeout": ...}, NO_TIMES),
        ("read", {"timeout": ...}, NO_TIMES),
        ("readinto", {"buffer": ...}, [*NO_DATA, (b"read-only", BufferError)]),
        ("readinto", {"buffer": bytearray(1), "timeout": ...}, NO_TIMES),
        ("peek", {"size": ...}, NO_SIZES),
        ("flush", {"timeout": ...}, NO_TIMES),
        ("close", {"timeout": ...}, NO_TIMES),
    ],
}


def outcome(error: BaseException | None) -> Any:
    if isinstance(error, npipe.PipeError):
        return error.winerror
    return None if error is None else type(error)


async def of(call: Callable[..., Any], **arguments: Any) -> Any:
    """What a call ends with: a Win32 code, or the class of an error that has none; None if it returns."""
    try:
        async with asyncio.timeout(5):
            result = call(**arguments)
            if inspect.isawaitable(result):
                result = await result
    except (OSError, TypeError, ValueError, BufferError) as error:
        return outcome(error)
    ended = result.close() if hasattr(result, "close") else None
    if inspect.isawaitable(ended):
        await ended
    return None


@pytest.mark.parametrize("face", [npipe, npipe.aio], ids=["npipe", "npipe.aio"])
@pytest.mark.parametrize("call", OPENING)
def test_what_opens_a_pipe_checks_each_argument_before_anything_else(name: str, call: str, face: Any) -> None:
    """There is no such pipe, which would be told (2) after the arguments."""

    async def main() -> None:
        for argument, values in OPENING[call].items():
            for value, error in values:
                arguments = {"name": name, **GIVEN.get(call, {}), argument: value}
                assert await of(getattr(face, call), **arguments) == error, (argument, value)

    asyncio.run(main())


@pytest.mark.parametrize("face", [npipe, npipe.aio], ids=["npipe", "npipe.aio"])
def test_arguments_are_checked_before_the_machine_is_looked_for(face: Any) -> None:
    async def main() -> None:
        elsewhere = r"\\other\pipe\x"
        if sys.platform != "win32":  # whose own redirector looks for the machine
            assert await of(face.connect, name=elsewhere) == 50
            assert await of(face.wait, name=elsewhere) == 50
        assert await of(face.connect, name=elsewhere, mode=5) == BAD
        assert await of(face.connect, name=elsewhere, timeout=-1) == BAD
        assert await of(face.connect, name=elsewhere, wait_for_server=1) is TypeError
        assert await of(face.wait, name=elsewhere, timeout=-1) == BAD
        assert await of(face.wait, name=elsewhere, create=1) is TypeError
        assert await of(face.call, name=elsewhere, data="text") is TypeError

    asyncio.run(main())


def test_servers_check_what_is_their_own(name: str) -> None:
    async def main() -> None:
        for argument, others, values in OWN:
            for value, error in values:
                arguments = {"name": name, "handler": bytes.upper, **others, argument: value}
                assert await of(npipe.serve, **arguments) == error, (argument, value)
        for value, error in CONCURRENCY:
            found = await of(npipe.aio.serve, name=name, handler=bytes.upper, concurrency=value)
            assert found == error, value
        assert await of(npipe.connect, name=name) == 2  # nothing was created

    asyncio.run(main())


@pytest.mark.parametrize("face", ["npipe", "npipe.aio"])
@pytest.mark.parametrize("mode", METHODS)
def test_the_methods_of_a_pipe_check_each_argument(name: str, mode: Any, face: str) -> None:
    async def main() -> None:
        with npipe.listen(name, mode=mode) as listener:
            pipe: Any = npipe.connect(name, mode=mode) if face == "npipe" else await npipe.aio.connect(name, mode=mode)
            server: Any = listener.accept(timeout=5)
            (server.send if mode == "message" else server.write)(b"message")
            for method, arguments, values in METHODS[mode]:
                for value, error in values:
                    given = {key: value if old is ... else old for key, old in arguments.items()}
                    assert await of(getattr(pipe, method), **given) == error, (method, given)
            if mode == "message":
                for value, error in NO_SIZES:
                    assert await of(lambda value=value: setattr(pipe, "max_message_size", value)) == error, value
            read = pipe.recv(timeout=5) if mode == "message" else pipe.read(100, timeout=5)
            assert (await read if face == "npipe.aio" else read) == b"message"  # nothing was consumed
            assert server.peek().available == 0  # and nothing sent
            ended = pipe.close()
            if face == "npipe.aio":
                await ended
            server.close()

    asyncio.run(main())


@pytest.mark.parametrize("face", [npipe, npipe.aio], ids=["npipe", "npipe.aio"])
def test_listeners_and_servers_check_their_time_outs(name: str, face: Any) -> None:
    async def main() -> None:
        listener = face.listen(name)
        for value, error in NO_TIMES:
            assert await of(listener.accept, timeout=value) == error, value
        listener.close()
        for value, error in NO_TIMES:
            assert await of(listener.accept, timeout=value) == error, value  # also of one that is closed
        server = face.serve(name, bytes.upper)
        if inspect.isawaitable(server):
            server = await server
        for value, error in NO_TIMES:
            assert await of(server.close, timeout=value) == error, value
            if face is npipe:
                assert await of(server.wait, timeout=value) == error, value
        assert await of(face.call, name=name, data=b"x", timeout=5) is None  # it goes on
        ended = server.close()
        if inspect.isawaitable(ended):
            await ended

    asyncio.run(main())


@pytest.mark.parametrize("face", [npipe, npipe.aio], ids=["npipe", "npipe.aio"])
def test_a_call_looks_at_its_data_before_it_connects(name: str, face: Any) -> None:
    seen: list[object] = []

    async def main() -> None:
        with npipe.serve(name, bytes.upper, on_connect=seen.append) as server:
            for wrong in ("text", memoryview(bytearray(8))[::2]):
                assert await of(face.call, name=name, data=wrong) in {TypeError, BufferError}
            assert await of(face.call, name=name, data=bytearray(b"x"), timeout=5) is None
            assert server.stats.clients == 1

    asyncio.run(main())
    assert len(seen) == 1
