"""Messages in place for those that copy: a buffer of each side's own, and the same calls."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBER = struct.Struct("<Q")


class Copies:
    """A message is written in one buffer, which `send` copies, and looked at in another, which `recv_into` fills."""

    def __init__(self, send: Callable[[Any], object], recv_into: Callable[[Any], object], size: int) -> None:
        out, into = bytearray(size), bytearray(size)
        write, read, end = _NUMBER.pack_into, _NUMBER.unpack_from, size - 8
        view = memoryview(out)

        def put(number: int) -> None:
            write(out, 0, number)
            write(out, end, number)
            send(out)

        def take() -> tuple[int, int, int]:
            recv_into(into)
            return size, read(into)[0], read(into, end)[0]

        def put_filled(fill: Callable[[memoryview], None]) -> None:
            fill(view)
            send(out)

        def take_looked_at(look: Callable[[Any], int]) -> int:
            recv_into(into)
            return look(into)

        self.put, self.take, self.put_filled, self.take_looked_at = put, take, put_filled, take_looked_at
