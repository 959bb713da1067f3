"""NumPy's arrays as what is sent and read into: numbers and times go, objects, text and addresses do not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import npipe
import npipe.aio
from npipe._buffers import content_of, room_of
from npipe.names import parse_name
from npipe.options import ACCESS_READ, ACCESS_WRITE
from npipe.transports import default
from npipe.transports.threads import ThreadsTransport
from tests.helpers import DEADLINE

np = pytest.importorskip("numpy")


def plain() -> dict[str, Any]:
    return {
        "numbers": np.arange(6, dtype="f8"),
        "two dimensions": np.arange(6, dtype="i4").reshape(2, 3),
        "no dimension": np.array(5.0),
        "another byte order": np.arange(6, dtype=">i4"),
        "structures": np.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", "f8")]),
        "times": np.array([1, 2, 3], "M8[s]"),
        "durations": np.array([1, 2, 3], "m8[us]"),
        "structures with times": np.array([(5, 1, b"ab")], [("t", "M8[s]"), ("i", "i4"), ("s", "S2")]),
        "nested structures with times": np.zeros(2, [("x", [("t", "M8[s]"), ("i", "u1", (2, 2))])]),
        "nothing": np.zeros(0),
        "no times": np.zeros(0, "M8[s]"),
    }


def not_plain() -> dict[str, Any]:
    thing = object()
    kinds = {
        "objects": np.array([thing, thing]),
        "text": np.array(["a", "b"]),
        "objects beside times": np.array([(np.datetime64(0, "s"), thing)], [("t", "M8[s]"), ("o", "O")]),
        "nested objects beside times": np.zeros(1, [("t", "M8[s]"), ("x", [("o", "O")])]),
        "text beside times": np.zeros(1, [("t", "M8[s]"), ("u", "U2")]),
    }
    if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):
        kinds["strings"] = np.array(["a string with no room in its element"], np.dtypes.StringDType())
    return kinds


@pytest.mark.parametrize("what", plain())
def test_arrays_of_numbers_and_times_come_as_they_were(name: str, what: str) -> None:
    array = plain()[what]

    async def main() -> None:
        with npipe.listen(name) as listener:
            openers: list[Any] = [
                npipe.aio.connect(name),
                ThreadsTransport(default()).connect(
                    parse_name(name),
                    message_mode=True,
                    access=ACCESS_READ | ACCESS_WRITE,
                    timeout=DEADLINE,
                    verify_owner=True,
                ),
            ]
            with npipe.connect(name) as pipe, listener.accept(timeout=DEADLINE) as server:
                pipe.send(array)
                message = server.recv(timeout=DEADLINE)
                assert message == array.tobytes()
                server.send(message)
                filled = np.zeros_like(array)
                assert pipe.recv_into(filled, timeout=DEADLINE) == len(message)
                assert filled.tobytes() == message
            with npipe.Pool(name, size=1) as pool:
                asking = asyncio.create_task(asyncio.to_thread(pool.call, array, timeout=DEADLINE))
                with await asyncio.to_thread(listener.accept, DEADLINE) as server:
                    assert await asyncio.to_thread(server.recv, timeout=DEADLINE) == message
                    server.send(message)
                    assert await asking == message
            for opener in openers:
                async with await opener as looped:
                    with listener.accept(timeout=DEADLINE) as server:
                        await looped.send(array)
                        assert server.recv(timeout=DEADLINE) == array.tobytes()
                        server.send(message)
                        filled = np.zeros_like(array)
                        assert await looped.recv_into(filled, timeout=DEADLINE) == len(message)
                        assert filled.tobytes() == message

    asyncio.run(main())
    assert content_of(array) == array.tobytes()


@pytest.mark.parametrize("what", not_plain())
def test_arrays_with_objects_or_text_are_neither_sent_nor_read_into(name: str, what: str) -> None:
    array = not_plain()[what]
    before = array.tolist()

    async def main() -> None:
        with npipe.listen(name) as listener:
            with npipe.connect(name) as pipe, listener.accept(timeout=DEADLINE) as server:
                server.send(b"\1" * 64)
                with pytest.raises(TypeError, match="a pipe carries bytes and numbers"):
                    pipe.send(array)
                with pytest.raises(TypeError, match="a pipe carries bytes and numbers"):
                    pipe.transact(array)
                with pytest.raises(TypeError, match="a pipe carries bytes and numbers"):
                    pipe.recv_into(array, timeout=DEADLINE)
                assert pipe.recv(timeout=DEADLINE) == b"\1" * 64
            looped = await npipe.aio.connect(name)
            async with looped:
                with listener.accept(timeout=DEADLINE) as server:
                    server.send(b"\1" * 64)
                    with pytest.raises(TypeError, match="a pipe carries bytes and numbers"):
                        await looped.send(array)
                    with pytest.raises(TypeError, match="a pipe carries bytes and numbers"):
                        await looped.recv_into(array, timeout=DEADLINE)
                    assert await looped.recv(timeout=DEADLINE) == b"\1" * 64

    asyncio.run(main())
    assert array.tolist() == before
    for function in (content_of, room_of):
        with pytest.raises(TypeError, match="a pipe carries bytes and numbers"):
            function(array)
