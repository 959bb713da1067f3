"""A peer that says for ever that it has just taken its message back: who waits for an answer waits as long as it said.

The peer is a program that writes into the connection's memory (docs/protocol.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests.helpers import Background, fails

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

PEER = """
    import ctypes, pathlib, sys, npipe

    HEADER_OF_RINGS, TO_SERVER = 16, 640
    PRODUCER_TAIL, STATES, REWINDS = 0, 384, 640
    DEFERRED, LIVE = 0xC1, 1

    with npipe.connect(sys.argv[1]) as pipe:
        assert pipe.recv(timeout=5) == b"question"
        maps = [line.split() for line in pathlib.Path("/proc/self/maps").read_text().splitlines()]
        starts = [int(line[0].split("-")[0], 16) for line in maps if "npipe" in line[-1] or "memfd:" in line[-2]]
        segment = next(one for one in starts if ctypes.c_uint64.from_address(one + 8).value > 4096)
        ring = segment + ctypes.c_uint64.from_address(segment + HEADER_OF_RINGS).value
        direction = segment + TO_SERVER
        header = bytes((DEFERRED, 0)) + (1000).to_bytes(4, "little")  # 1000 bytes, none of which is there
        ctypes.memmove(ring, header, len(header))
        ctypes.c_uint32.from_address(direction + STATES).value = LIVE
        ctypes.c_uint64.from_address(direction + PRODUCER_TAIL).value = len(header)
        rewinds = ctypes.c_uint32.from_address(direction + REWINDS)
        print("takes it back", flush=True)
        count = 0
        while True:
            rewinds.value = count = count + 1
            rewinds.value = count = count + 1
            rewinds.value = count = count + 1
            rewinds.value = count = count + 1
"""


def recv(pipe: Any) -> object:
    return pipe.recv(timeout=0.3)


def recv_into(pipe: Any) -> object:
    return pipe.recv_into(bytearray(10), timeout=0.3)


def recv_into_exactly(pipe: Any) -> object:
    return pipe.recv_into(bytearray(10_000), exact=True, timeout=0.3)


def discard(pipe: Any) -> object:
    return pipe.discard_reply(timeout=0.3)


@pytest.mark.parametrize("call", [recv, recv_into, recv_into_exactly, discard])
def test_a_call_of_a_pipe_that_is_owed_an_answer_ends_by_its_time(
    name: str, child: Callable[..., Child], call: Callable[[Any], object]
) -> None:
    with npipe.listen(name) as listener:
        peer = child(PEER, name)
        pipe = listener.accept(timeout=20)
        with fails(121):
            pipe.transact(b"question", timeout=0)
        assert peer.line() == "takes it back"
        waiting = Background(lambda: call(pipe))
        try:
            assert waiting.code() == 121
            with fails(996):
                pipe.transact(b"next")
        finally:
            peer.kill()
            pipe.close()
