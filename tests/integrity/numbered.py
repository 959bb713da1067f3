"""Numbered bytes: what stands at an offset of a stream is known, and where a found piece belongs can be told."""

from __future__ import annotations

import functools
import itertools
import random
import struct
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LENGTH = 8_388_593  # a prime: bytes that come a power of two too late stand elsewhere
_LOCATABLE = 8  # a shorter piece may be found anywhere
_SHOWN = 24

SENT, WITHDRAWN, EITHER, TORN = "sent", "withdrawn", "either", "torn"
"""What a writer knows of a write: it is there as a whole; not, but for what a reader of bytes had taken already
(SEMANTICS 10.2); one of the two, and nothing in between (docs/aio.md); it ended the connection at any point."""


class Wrong(Exception):  # noqa: N818 - a finding
    """What came is not what was written."""


@functools.cache
def _pool() -> bytes:
    return random.Random(11).randbytes(LENGTH) * 2


class Numbered:
    """A stream of bytes, each a function of the key and its offset."""

    def __init__(self, key: str) -> None:
        self.start = random.Random(key).randrange(LENGTH)

    def piece(self, offset: int, size: int) -> bytes:
        """Return the bytes from an offset on."""
        begin = (self.start + offset) % LENGTH
        if size <= LENGTH:
            return _pool()[begin : begin + size]
        return self.piece(offset, LENGTH) + self.piece(offset + LENGTH, size - LENGTH)

    def common(self, offset: int, found: bytes | memoryview) -> int:
        """How many bytes of `found` are those from the offset on."""
        low, high = 0, len(found)
        if self.piece(offset, high) == found:
            return high
        while high - low > 1:  # those before `low` are right, those before `high` are not
            middle = (low + high) // 2
            if self.piece(offset + low, middle - low) == found[low:middle]:
                low = middle
            else:
                high = middle
        return low

    def explain(self, offset: int, found: bytes) -> str:
        """Say where `found`, which should be what stands at the offset, differs, and what it is."""
        right = self.common(offset, found)
        at, rest = offset + right, found[right : right + _SHOWN]
        place = _pool().find(rest) if len(rest) >= _LOCATABLE else -1
        if place < 0:
            return (
                f"expected offset {at}, found {rest.hex(' ')}, the bytes of no offset ({len(found)} from {offset} on)"
            )
        ahead = (place - self.start - at) % LENGTH
        if ahead > LENGTH // 2:
            ahead -= LENGTH
        what = f"{ahead} bytes are missing" if ahead > 0 else f"{-ahead} bytes come again"
        return f"expected offset {at}, found the bytes of offset {at + ahead}: {what}, or it is another stream's"


class Oracle(Protocol):
    """Takes what a reader got, in its order."""

    total: int

    def feed(self, data: bytes, more: bool) -> None:
        """Take what a read gave, and whether it said that the message has more (234). Raises Wrong."""

    def complete(self) -> bool:
        """Whether everything that is to come has come."""

    def finish(self) -> None:
        """The stream has ended. Raises Wrong."""

    def account(self, outcomes: Sequence[Sequence[str]]) -> None:
        """Compare with what each writer says of its writes. Raises Wrong."""

    def upcoming(self, size: int) -> bytes | None:
        """Return what a peek of so many bytes gives at most; None when that is not known."""


class Bytes:
    """One writer's stream read as bytes. `strict`: no write is withdrawn, so each byte is compared as it comes."""

    def __init__(self, key: str, sizes: Sequence[int], *, strict: bool) -> None:
        self._numbered, self._sizes, self._strict = Numbered(key), sizes, strict
        self._all = sum(sizes)
        self._kept = bytearray()
        self.total = 0

    def feed(self, data: bytes, more: bool) -> None:
        if more:
            raise Wrong(f"a read of bytes said that there is more of a message, at offset {self.total}")
        if not self._strict:
            self._kept += data
        elif self.total + len(data) > self._all or self._numbered.piece(self.total, len(data)) != data:
            raise Wrong(self._numbered.explain(self.total, data) + f"; {self._all} were written")
        self.total += len(data)

    def complete(self) -> bool:
        return self._strict and self.total == self._all

    def finish(self) -> None:
        if self._strict and self.total != self._all:
            raise Wrong(f"the stream ended at offset {self.total}, {self._all} bytes were written")

    def account(self, outcomes: Sequence[Sequence[str]]) -> None:
        if self._strict:
            return
        (writes,) = outcomes
        data, torn = memoryview(self._kept), writes[-1:] == [TORN]

        def after(number: int, offset: int, place: int) -> Iterable[int]:
            size, outcome = self._sizes[number], writes[number]
            right = self._numbered.common(offset, data[place : place + size])
            if torn and right == len(data) - place < size:
                return [len(data)]  # the rest was discarded
            if outcome == SENT:
                return [place + size] if right == size else []
            if outcome == EITHER:
                return [place + size, place] if right == size else [place]
            # In parts, but never all of it: then it would have been sent. (At the end of the connection, who knows.)
            return range(place + min(right, size - (outcome == WITHDRAWN)), place - 1, -1)

        _match(
            self._sizes,
            writes,
            after,
            len(data),
            lambda offset, place: self._numbered.explain(offset, bytes(data[place : place + 64])),
        )

    def upcoming(self, size: int) -> bytes | None:
        return self._numbered.piece(self.total, min(size, self._all - self.total)) if self._strict else None


class Messages:
    """One writer's messages, read whole or in parts; `strict` as above.

    `told`: a read itself says whether the message has more (234). Where `more_data` is asked behind it, a message that
    was withdrawn meanwhile has none.
    """

    def __init__(self, key: str, sizes: Sequence[int], *, strict: bool, told: bool = True) -> None:
        self._told = told
        self._numbered, self._sizes, self._strict = Numbered(key), sizes, strict
        self._number = self._offset = self._taken = 0  # the message that comes, where it begins, and what came of it
        self._pieces: list[tuple[bytes, bool]] = []
        self.total = 0

    def feed(self, data: bytes, more: bool) -> None:
        self.total += len(data)
        if not self._strict:
            self._pieces.append((data, more))
            return
        if self._number == len(self._sizes):
            raise Wrong(f"one more message, of {len(data)} bytes, than the {self._number} that were written")
        size = self._sizes[self._number]
        at = self._offset + self._taken
        if self._numbered.piece(at, len(data)) != data:
            raise Wrong(f"message {self._number} of {size} bytes: {self._numbered.explain(at, data)}")
        self._taken += len(data)
        if more != (self._taken < size) or self._taken > size:
            raise Wrong(
                f"message {self._number} of {size} bytes: {self._taken} came, and more is said to be there: {more}"
            )
        if not more:
            self._offset += size
            self._taken = 0
            self._number += 1

    def complete(self) -> bool:
        return self._strict and self._number == len(self._sizes)

    def finish(self) -> None:
        if self._strict and not self.complete():
            raise Wrong(f"the pipe ended after {self._taken} bytes of message {self._number} of {len(self._sizes)}")

    def account(self, outcomes: Sequence[Sequence[str]]) -> None:
        if self._strict:
            return
        (writes,) = outcomes
        pieces, torn = self._pieces, writes[-1:] == [TORN]

        def after(number: int, offset: int, place: int) -> Iterable[int]:
            size, outcome = self._sizes[number], writes[number]
            taken, begin, whole, parts = 0, place, False, [place]
            while place < len(pieces) and not whole:
                data, more = pieces[place]
                if taken + len(data) > size or self._numbered.piece(offset + taken, len(data)) != data:
                    break
                taken += len(data)
                place += 1
                if more != (taken < size):
                    if not more and not self._told:
                        parts.append(place)
                    break
                whole = not more
                if more:
                    parts.append(place)
            if torn and place == len(pieces) and not whole:
                return [place]  # the rest was discarded
            if outcome == SENT:
                return [place] if whole else []
            if outcome == EITHER:
                return [place, begin] if whole else [begin]
            return parts[::-1] + ([place] if whole and outcome == TORN else [])

        def explain(offset: int, place: int) -> str:
            data, more = pieces[place] if place < len(pieces) else (b"", False)
            return f"a read gave {len(data)} bytes (more: {more}); {self._numbered.explain(offset, data[:64])}"

        _match(self._sizes, writes, after, len(pieces), explain)

    def upcoming(self, size: int) -> bytes | None:
        if not self._strict or self.complete():
            return None
        rest = self._sizes[self._number] - self._taken
        return self._numbered.piece(self._offset + self._taken, min(size, rest))


class _After(Protocol):
    def __call__(self, number: int, offset: int, place: int, /) -> Iterable[int]: ...


class _Explain(Protocol):
    def __call__(self, offset: int, place: int, /) -> str: ...


def _match(sizes: Sequence[int], writes: Sequence[str], after: _After, end: int, explain: _Explain) -> None:
    """Find a way through all writes that uses up what came; `after` gives the places at which a write may end.

    Depth first: a withdrawn write's last bytes may by chance be the next one's first.
    """
    if TORN in writes[:-1]:
        raise Wrong("a write went on behind the end of its connection")
    if len(writes) < len(sizes) and writes[-1:] != [TORN]:
        raise Wrong(f"{len(writes)} writes of {len(sizes)} are accounted for")
    offsets = list(itertools.accumulate(sizes, initial=0))
    seen, deepest = set[tuple[int, int]](), (0, 0)
    ways = [iter([0])]
    while ways:
        place = next(ways[-1], None)
        number = len(ways) - 1
        if place is None:
            ways.pop()
            continue
        if (number, place) in seen:
            continue
        seen.add((number, place))
        deepest = max(deepest, (number, place))
        if number == len(writes):
            # What was written before a torn connection is discarded with it, if it was not read yet.
            if place == end:
                return
        else:
            if place == end and writes[-1:] == [TORN]:
                return
            ways.append(iter(after(number, offsets[number], place)))
    number, place = deepest
    if number == len(writes):
        raise Wrong(f"after all writes {end - place} more came")
    raise Wrong(
        f"write {number} of {sizes[number]} bytes at offset {offsets[number]}, which was {writes[number]}, "
        f"is not what came as number {place} of {end}: {explain(offsets[number], place)}"
    )


HEADER = struct.Struct("<HHIIQ")  # magic, writer, number, size, offset
_MAGIC = 0x6E70


def frame(numbered: Numbered, writer: int, number: int, size: int, offset: int) -> bytes:
    """A write of `size` bytes that says what it is."""
    return HEADER.pack(_MAGIC, writer, number, size, offset) + numbered.piece(offset, size - HEADER.size)


class Frames:
    """Several writers' writes, each whole and in its writer's order; `several` readers, each in that order."""

    def __init__(
        self, key: str, sizes: Sequence[Sequence[int]], *, strict: bool, messages: bool, several: bool
    ) -> None:
        self._streams = [Numbered(f"{key}/{writer}") for writer in range(len(sizes))]
        self._sizes, self._strict, self._messages, self._several = sizes, strict, messages, several
        self._kept = bytearray()
        self._got: list[list[int]] = [[] for _ in sizes]
        self.total = 0

    def feed(self, data: bytes, more: bool) -> None:
        self.total += len(data)
        if self._messages:
            if more or self._frame(data) != len(data):
                raise Wrong(f"a message of {len(data)} bytes is not a whole write (more: {more})")
            return
        self._kept += data
        done = 0
        while len(self._kept) - done >= HEADER.size:
            size = self._frame(self._kept[done : done + max(map(max, self._sizes))])
            if not size:
                break
            done += size
        del self._kept[:done]

    def _frame(self, data: bytes | bytearray) -> int:
        """Take the frame at the front; return its size, 0 when it is not there as a whole."""
        if len(data) < HEADER.size:
            raise Wrong(f"a message of {len(data)} bytes has no header")
        magic, writer, number, size, offset = HEADER.unpack_from(data)
        if (
            magic != _MAGIC
            or writer >= len(self._sizes)
            or number >= len(self._sizes[writer])
            or size != self._sizes[writer][number]
        ):
            raise Wrong(f"no write begins with {bytes(data[: HEADER.size]).hex(' ')}, at byte {self.total - len(data)}")
        if len(data) < size:
            return 0
        body = bytes(data[HEADER.size : size])
        if self._streams[writer].piece(offset, len(body)) != body:
            raise Wrong(f"writer {writer}, write {number}: {self._streams[writer].explain(offset, body)}")
        last = self._got[writer][-1] if self._got[writer] else -1
        if number <= last or (self._strict and not self._several and number != last + 1):
            raise Wrong(f"writer {writer}: write {number} came after write {last}")
        self._got[writer].append(number)
        return int(size)

    def complete(self) -> bool:
        return False

    def finish(self) -> None:
        if self._kept:
            raise Wrong(f"the stream ended in the middle of a write, {len(self._kept)} bytes after its beginning")

    def merge(self, others: Sequence[Frames]) -> None:
        """Take what the other readers got."""
        for other in others:
            self.total += other.total
            for mine, theirs in zip(self._got, other._got, strict=True):
                mine += theirs

    def account(self, outcomes: Sequence[Sequence[str]]) -> None:
        for writer, writes in enumerate(outcomes):
            got = sorted(self._got[writer])
            twice = {number for number, following in itertools.pairwise(got) if number == following}
            lost = [number for number, outcome in enumerate(writes) if outcome == SENT and number not in got]
            back = [number for number in got if writes[number] == WITHDRAWN]
            if twice or lost or back:
                what = f"{twice} came twice, {lost} never, {back} though withdrawn"
                raise Wrong(f"of {len(writes)} writes of writer {writer} {what}")

    def upcoming(self, size: int) -> bytes | None:
        return None
