"""Messages in a stream of bytes."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import deque
from typing import Final

from npipe.relay.base import Channel, PeerLostError, UncarriableError

__all__ = ["Framed", "FramingError", "LengthFrames", "LineFrames", "Splitter", "splitter"]


class FramingError(ValueError):
    """A stream that is no sequence of frames, or a message that cannot be one."""


class Splitter(ABC):
    """A framing: from messages to bytes, and from pieces of a stream back."""

    error: FramingError | None = None
    """What is wrong behind the messages that feed has returned: there will be no more."""

    @abstractmethod
    def frame(self, message: bytes) -> bytes:
        """Return the bytes of a message; FramingError if it cannot be one."""

    @abstractmethod
    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next bytes of the stream; return the messages that are whole now. See `error`."""

    @abstractmethod
    def end(self) -> list[bytes]:
        """Return what the end of the stream makes whole; FramingError if it is cut off."""

    @property
    @abstractmethod
    def unfinished(self) -> int:
        """Bytes that are no message yet."""


class LengthFrames(Splitter):
    """Each message after its length, a number of 4 bytes."""

    def __init__(self, limit: int, order: str = "<") -> None:
        """`limit` is the longest message, in bytes; `order` is "<", little-endian, or ">"."""
        self._head: Final = struct.Struct(order + "I")
        self._limit = limit
        self._buffer = bytearray()

    def frame(self, message: bytes) -> bytes:
        """See Splitter.frame."""
        return self._head.pack(len(message)) + message

    def feed(self, piece: bytes) -> list[bytes]:
        """See Splitter.feed."""
        buffer, messages, at = self._buffer, [], 0
        buffer += piece
        while len(buffer) - at >= self._head.size:
            (length,) = self._head.unpack_from(buffer, at)
            if length > self._limit:
                self.error: FramingError | None = FramingError(
                    f"a message of {length} bytes was announced, and {self._limit} is the limit"
                )
                break
            end = at + self._head.size + length
            if len(buffer) < end:
                break
            messages.append(bytes(memoryview(buffer)[at + self._head.size : end]))
            at = end
        if at:
            del buffer[:at]
        return messages

    def end(self) -> list[bytes]:
        """See Splitter.end."""
        if self._buffer:
            raise FramingError(f"the stream ended within a message, {len(self._buffer)} bytes after its begin")
        return []

    @property
    def unfinished(self) -> int:
        """See Splitter.unfinished."""
        return len(self._buffer)


class LineFrames(Splitter):
    """Each message on a line; what stands behind the last line's end is a message too."""

    def __init__(self, limit: int) -> None:
        """`limit` is the longest line, in bytes."""
        self._limit = limit
        self._pieces: list[bytes] = []
        self._length = 0

    def frame(self, message: bytes) -> bytes:
        """See Splitter.frame."""
        if b"\n" in message:
            raise FramingError("a message with a line's end in it is no line: choose another framing")
        return message + b"\n"

    def feed(self, piece: bytes) -> list[bytes]:
        """See Splitter.feed."""
        *whole, rest = piece.split(b"\n")
        if whole:
            whole[0] = b"".join((*self._pieces, whole[0]))
            self._pieces.clear()
            self._length = 0
        if rest:
            self._pieces.append(rest)
            self._length += len(rest)
        for number, line in enumerate((*whole, *(rest,) * bool(rest))):
            if len(line) > self._limit or (number == len(whole) and self._length > self._limit):
                self.error: FramingError | None = FramingError(f"a line is longer than {self._limit} bytes, the limit")
                self._pieces = [b"\n".join((*whole[number:], *self._pieces))]
                self._length = len(self._pieces[0])
                return whole[:number]
        return whole

    def end(self) -> list[bytes]:
        """See Splitter.end."""
        if not self._pieces:
            return []
        last = b"".join(self._pieces)
        self._pieces.clear()
        self._length = 0
        return [last]

    @property
    def unfinished(self) -> int:
        """See Splitter.unfinished."""
        return self._length


def splitter(framing: str, limit: int) -> Splitter:
    """Return the framing of this name: "length", "length-be" or "lines"; `limit` in bytes."""
    if framing == "lines":
        return LineFrames(limit)
    return LengthFrames(limit, ">" if framing == "length-be" else "<")


class Framed(Channel):
    """A stream of bytes as a channel of messages."""

    messages = True

    def __init__(self, stream: Channel, frames: Splitter) -> None:
        self._stream = stream
        self._frames = frames
        self._ready: deque[bytes] = deque()
        self.label: str = stream.label

    async def read(self) -> bytes | None:
        """See Channel.read."""
        while not self._ready:
            if self._frames.error is not None:
                raise PeerLostError(str(self._frames.error))
            if self._stream.read_ended:
                self._take_over_end()
                return None
            piece = await self._stream.read()
            try:
                self._ready.extend(self._frames.end() if piece is None else self._frames.feed(piece))
            except FramingError as error:
                raise PeerLostError(str(error)) from error
        return self._ready.popleft()

    def _take_over_end(self) -> None:
        self.read_ended: bool = True
        self.peer_closed: bool = self._stream.peer_closed
        self.parting: str = self._stream.parting

    async def write(self, data: bytes) -> None:
        """See Channel.write."""
        try:
            frame = self._frames.frame(data)
        except FramingError as error:
            raise UncarriableError(str(error)) from error
        await self._stream.write(frame)

    async def finish(self) -> bool:
        """See Channel.finish."""
        return await self._stream.finish()

    async def gone(self) -> None:
        """See Channel.gone."""
        await self._stream.gone()

    def unread(self) -> int:
        """See Channel.unread. Frames' heads are among them."""
        return self._stream.unread()

    async def close(self, linger: float) -> int:
        """See Channel.close."""
        return self._ahead + await self._stream.close(linger)

    @property
    def _ahead(self) -> int:
        return sum(map(len, self._ready)) + self._frames.unfinished

    async def shut(self) -> int:
        """See Channel.shut."""
        return self._ahead + await self._stream.shut()
