"""Playing a client's or a server's side of a trace again, and comparing what the other side says."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Self

from npipe.errors import PipeError
from npipe.listener import listen
from npipe.opening import connect
from npipe.tracing.events import Event, Flags, Kind, TraceFileError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npipe.pipe import MessagePipe, StreamPipe

__all__ = ["Difference", "Replay"]

Side = Literal["client", "server"]
_MOST_REST: Final = 65536


@dataclass(frozen=True, slots=True)
class Difference:
    """What was not as it was recorded."""

    connection: int
    message: int
    """Which one of the connection's, from 1."""
    detail: str
    request: bytes | None
    """What this side had sent before; None: nothing."""
    recorded: bytes | None
    """What was to come; None: it could not be asked for, or nothing was to come."""
    now: bytes | None
    """What has come; None: nothing."""
    offset: int | None
    """Where they begin to differ; None: nothing has come."""


@dataclass(slots=True)
class _Step:
    at: float
    sends: bool
    data: bytes


@dataclass(slots=True)
class _Conversation:
    number: int
    begins: float
    message_mode: bool = True
    ends: bool = False
    steps: list[_Step] = field(default_factory=list)


def _from_client(event: Event) -> bool:
    return bool(event.flags & Flags.OUT) != bool(event.flags & Flags.SERVER)


class Replay:
    """One side of a trace, to be played again.

    Args:
        events: the trace's.
        side: "client": this connects, and says what the clients said; "server": it listens, and answers as the server
            did.
        pipe: of a trace of several pipes the one that is played: its full name; None: there is one only.
        connection: only this connection; None: all.

    Raises:
        TraceFileError: the trace has no such connection, or its content was not recorded in full.
    """

    def __init__(
        self, events: Iterable[Event], side: Side, *, pipe: str | None = None, connection: int | None = None
    ) -> None:
        self._side = side
        self.differences: list[Difference] = []
        """What was not as it was recorded."""
        self.compared: int = 0
        """Messages that were compared."""
        self.sent: int = 0
        """Messages that were sent."""
        self._lock = threading.Lock()
        found: dict[tuple[int, int], _Conversation] = {}
        begin: int | None = None
        names: dict[str, None] = {}
        for event in events:
            if event.kind is Kind.LOST:
                raise TraceFileError(f"{event.size} records were lost in this trace: it cannot be played again")
            if (pipe is not None and event.pipe != pipe) or (connection is not None and event.connection != connection):
                continue
            names[event.pipe] = None
            begin = event.time if begin is None else begin
            at = (event.time - begin) / 1e9
            talk = found.setdefault((event.owner, event.connection), _Conversation(event.connection, at))
            talk.ends = talk.ends or event.kind in (Kind.CLOSED, Kind.GONE)
            if event.kind is Kind.DATA and not event.flags & Flags.WITHDRAWN:
                self._add(talk, event, at)
        if len(names) > 1:
            raise TraceFileError(f"the trace is of several pipes: choose one of {', '.join(names)}")
        self.pipe: str = next(iter(names), "")
        r"""The pipe that was traced, `\\.\pipe\NAME`."""
        self._talks = [talk for talk in found.values() if talk.steps]
        if not self._talks:
            raise TraceFileError("there is nothing to be played again: no message was recorded")

    def _add(self, talk: _Conversation, event: Event, at: float) -> None:
        talk.message_mode = bool(event.flags & Flags.MESSAGE)
        if len(event.data) < event.size:
            raise TraceFileError(
                f"connection {event.connection}: of a message of {event.size} bytes {len(event.data)} were recorded:"
                " record with a higher --snaplen"
            )
        if talk.message_mode and not event.is_whole:
            raise TraceFileError(f"connection {event.connection}: a message was recorded in part")
        talk.steps.append(_Step(at, _from_client(event) == (self._side == "client"), event.data))

    def play(self, name: str | None = None, *, speed: float | None = 1.0, timeout: float | None = 10.0) -> None:
        """Play it; what differs is in `differences` then.

        Args:
            name: the pipe to connect to, or to listen at; None: the one that was traced.
            speed: 2.0: in half the time; None: as fast as the other side answers.
            timeout: seconds to wait for each message, and for each connection.

        Raises:
            PipeError: there is no such server, or no client has come (2, 121).
        """
        target = name or self.pipe
        began = time.monotonic()
        with _Threads() as threads:
            if self._side == "client":
                for talk in self._talks:
                    threads.start(self._be_client, talk, target, began, speed, timeout)
            else:
                self._be_server(threads, target, speed, timeout)

    def _be_client(
        self, talk: _Conversation, target: str, began: float, speed: float | None, timeout: float | None
    ) -> None:
        _pause_until(began, talk.begins, speed)
        mode: Literal["message", "byte"] = "message" if talk.message_mode else "byte"
        with connect(target, mode=mode, timeout=timeout) as pipe:
            self._talk(pipe, talk, began, speed, timeout)

    def _be_server(self, threads: _Threads, target: str, speed: float | None, timeout: float | None) -> None:
        mode: Literal["message", "byte"] = "message" if self._talks[0].message_mode else "byte"
        with listen(target, mode=mode) as listener:
            for talk in self._talks:
                pipe = listener.accept(timeout=timeout)
                # From here on the client sets the pace: its first message is at the time of the first one recorded.
                threads.start(self._answer, pipe, talk, time.monotonic() - talk.begins, speed, timeout)
            threads.join()

    def _answer(
        self,
        pipe: MessagePipe | StreamPipe,
        talk: _Conversation,
        began: float,
        speed: float | None,
        timeout: float | None,
    ) -> None:
        with pipe:
            self._talk(pipe, talk, began, speed, timeout)

    def _talk(
        self,
        pipe: MessagePipe | StreamPipe,
        talk: _Conversation,
        began: float,
        speed: float | None,
        timeout: float | None,
    ) -> None:
        request: bytes | None = None
        so_far = bytearray()
        for number, step in enumerate(talk.steps, 1):
            try:
                if step.sends:
                    request = step.data
                    _pause_until(began, step.at, speed)
                    _send(pipe, step.data, timeout)
                    with self._lock:
                        self.sent += 1
                    continue
                so_far.clear()
                _receive(pipe, len(step.data), timeout, so_far)
            except (PipeError, EOFError) as error:
                detail = f"{'sending' if step.sends else 'receiving'}: {error}"
                recorded, now, offset = None if step.sends else step.data, None, None
                if not step.sends and so_far:  # on a byte pipe: a part of it
                    now = bytes(so_far)
                    offset = _first_difference(now, step.data)
                self._differs(Difference(talk.number, number, detail, request, recorded, now, offset))
                return
            with self._lock:
                self.compared += 1
            got = bytes(so_far)
            if got != step.data:
                offset = _first_difference(got, step.data)
                detail = _compare(got, step.data, offset)
                self._differs(Difference(talk.number, number, detail, request, step.data, got, offset))
        if talk.ends and not talk.steps[-1].sends:  # else the trace may have ended before the answer
            more = _rest(pipe)
            if more is not None:
                detail = f"{len(more)} bytes more than all that was recorded: {more[:16]!r}"
                self._differs(Difference(talk.number, len(talk.steps) + 1, detail, request, None, more, 0))

    def _differs(self, difference: Difference) -> None:
        with self._lock:
            self.differences.append(difference)


def _first_difference(one: bytes, other: bytes) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _compare(got: bytes, expected: bytes, place: int) -> str:
    sizes = f"{len(got)} bytes as recorded" if len(got) == len(expected) else f"{len(got)} bytes, not {len(expected)}"
    return f"{sizes}, but from byte {place} on {got[place : place + 16]!r} instead of {expected[place : place + 16]!r}"


def _pause_until(began: float, at: float, speed: float | None) -> None:
    if speed is not None:
        time.sleep(max(0.0, began + at / speed - time.monotonic()))


def _send(pipe: MessagePipe | StreamPipe, data: bytes, timeout: float | None) -> None:
    if hasattr(pipe, "send"):
        pipe.send(data, timeout=timeout)
    else:
        pipe.write(data, timeout=timeout)


def _receive(pipe: MessagePipe | StreamPipe, size: int, timeout: float | None, so_far: bytearray) -> None:
    """Add to `so_far` what comes: a message, or so many bytes."""
    if hasattr(pipe, "recv"):
        so_far += pipe.recv(timeout=timeout)
        return
    while len(so_far) < size:
        piece = pipe.read(size - len(so_far), timeout=timeout)
        if not piece:
            break  # the other side has closed: what is missing differs
        so_far += piece


def _rest(pipe: MessagePipe | StreamPipe) -> bytes | None:
    """Return what there is to read already; None: nothing."""
    try:
        return bytes(pipe.recv(timeout=0)) if hasattr(pipe, "recv") else pipe.read(_MOST_REST, timeout=0) or None
    except (PipeError, EOFError):
        return None


class _Threads:
    """Threads that are waited for, and of which the first error is raised."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[Exception] = []

    def start(self, function: object, *arguments: object) -> None:
        """Run `function` in a thread."""

        def run() -> None:
            try:
                function(*arguments)  # type: ignore[operator]
            except Exception as error:  # noqa: BLE001 - raised again by join
                self._errors.append(error)

        thread = threading.Thread(target=run, name="npipe replay", daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait for all; raise the first error."""
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.join()
