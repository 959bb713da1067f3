"""What the engine counts, and what owners tell of their pipes, as the public data."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import os
import time
from typing import TYPE_CHECKING, Final

from npipe import binding
from npipe.errors import WinError
from npipe.figures import (
    ConnectionReport,
    ListenerStats,
    OwnerReport,
    PipeReport,
    PipeStats,
    ProcessStats,
    Totals,
)
from npipe.options import PIPE_UNLIMITED_INSTANCES, direction_name, mode_name
from npipe.peers import NOBODY_HERE
from npipe.reasons import closed_by_fork, closed_here
from npipe.transports.local.place import place

try:
    import pwd
except ImportError:  # a Python without it: users have numbers
    pwd = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from npipe.names import PipeName

__all__ = ["inspect_pipe", "listener_stats", "pipe_stats", "process_stats", "stats_of", "user_name"]

_NS: Final = 1_000_000_000
_SLEEPS_READ, _SLEEPS_WRITE, _PEER_READS, _PEER_WRITES = 1, 2, 4, 8  # np_sleeping
_REMOTE, _ROUGH, _LEFT = 1, 2, 4  # npw_connection_flags
_CLOCK_SLACK = 2.0  # seconds: a process began before it connected, if two clocks tell the same
_LONGEST_PROGRAM = 200  # characters
_MOST_PROGRAMS, _MOST_USERS = 16384, 256  # that are looked up for one owner


def user_name(uid: int) -> str:
    """Return a user's name, or its number where it has none."""
    if pwd is None:
        return str(uid)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def pipe_stats(handle: binding.Handle) -> PipeStats:
    """Return what a handle's connection has moved, also when it is closed. PipeClosedError (6): it is the parent's."""
    if handle.forked:
        raise closed_by_fork(handle.name, "asking for the pipe's counts", code=WinError.INVALID_HANDLE)
    try:
        counts = handle.counts()
    except OSError as error:  # it never had a handle
        raise closed_here(handle.name, "asking for the pipe's counts", code=WinError.INVALID_HANDLE) from error
    return stats_of(*counts)


def stats_of(
    since: int,
    received: int,
    read: int,
    unread: int,
    sent: int,
    written: int,
    left: int,
    left_messages: int,
    reads: int,
    writes: int,
    read_slept: int,
    write_slept: int,
    sleeping: int,
    sleeps: int,
) -> PipeStats:
    """Return what the engine counts, in its order (binding.Handle.counts)."""
    return PipeStats(
        since=since / _NS,
        bytes_received=received,
        messages_received=read,
        unread=unread,
        bytes_sent=sent,
        messages_sent=written,
        unread_by_peer=left,
        unread_messages_by_peer=left_messages,
        pending_reads=reads,
        pending_writes=writes,
        reading_for=_seconds(read_slept),
        writing_for=_seconds(write_slept),
        peer_waits_to_read=bool(sleeping & _PEER_READS),
        peer_waits_to_write=bool(sleeping & _PEER_WRITES),
        waits=sleeps,
    )


def listener_stats(name: PipeName) -> ListenerStats | None:
    """Return what this process's connections of a pipe have moved; None when it has none of that name."""
    told = binding.own_named_pipe(*place(name))
    if told is None:
        return None
    _uid, _in_quota, _out_quota, instances, connected, held, since, ended, *moved = told
    received, read, sent, written, sleeps = moved
    return ListenerStats(
        connected, connected + ended, received, read, sent, written, sleeps, name.path, since / _NS, instances, held
    )


def process_stats() -> ProcessStats:
    """Return what all pipes of this process have moved."""
    client, server = (Totals(*row) for row in binding.process_counts())
    return ProcessStats(server, client, Totals(*binding.moved_by_channels()))


def inspect_pipe(name: PipeName) -> PipeReport:
    """Return what the owners of a pipe tell. Raises PipeNotFoundError (2), PipeAccessError (5)."""
    rows = binding.describe_named_pipe(*place(name), name.path)
    owners = tuple(_owner(*row) for row in rows)
    pipe = next((pipe for code, _, _, pipe, _, ends, _ in rows if code == 0 or ends), None)
    return PipeReport(
        name=name.path,
        type=None if pipe is None else mode_name(pipe[0]),
        direction=None if pipe is None else direction_name(pipe[1]),
        max_instances=None if pipe is None or pipe[2] == PIPE_UNLIMITED_INSTANCES else pipe[2],
        instances=0 if pipe is None else pipe[3],
        owners=owners,
    )


def _owner(
    code: int,
    pid: int,
    uid: int,
    pipe: tuple[int, ...],
    told: tuple[int, ...],
    rows: list[tuple[int, ...]],
    answer_time: int,
) -> OwnerReport:
    _uid, in_quota, out_quota, instances, connected, held, since, ended, *moved = told
    asked = _Asked()
    connections = tuple(_connection(row, asked) for row in reversed(rows))
    received, read, sent, written, sleeps = moved
    live = [one.stats for one in connections]
    return OwnerReport(
        pid=pid,
        uid=uid,
        user=user_name(uid),
        program=_program(pid, None),
        code=code,
        problem=_problem(code),
        instances=instances,
        listening=pipe[4],
        waiting=held,
        in_buffer_size=in_quota,
        out_buffer_size=out_quota,
        since=since / _NS if since > 0 else None,
        totals=Totals(
            connected,
            connected + ended,
            received + sum(one.bytes_received for one in live),
            read + sum(one.messages_received for one in live),
            sent + sum(one.bytes_sent for one in live),
            written + sum(one.messages_sent for one in live),
            sleeps + sum(one.waits for one in live),
        ),
        connections=connections,
        answered_in=_seconds(answer_time),
    )


class _Asked:
    """What the system was asked about those whom an owner tells of: each once, and not for as many as it likes."""

    def __init__(self) -> None:
        self._programs: dict[tuple[int, int], str | None] = {}
        self._users: dict[int, str] = {}

    def program(self, pid: int, since: int) -> str | None:
        """Return what a process runs that has been there since then, in ns since 1970."""
        key = pid, since // _NS
        if key not in self._programs:
            if len(self._programs) >= _MOST_PROGRAMS:
                return None
            self._programs[key] = _program(pid, since / _NS)
        return self._programs[key]

    def user(self, uid: int) -> str:
        """Return a user's name, or its number."""
        if uid not in self._users:
            if len(self._users) >= _MOST_USERS:
                return str(uid)
            self._users[uid] = user_name(uid)
        return self._users[uid]


def _connection(row: tuple[int, ...], asked: _Asked) -> ConnectionReport:
    number, since, pid, uid, flags, sleeping, in_quota, out_quota, reads, writes, *rest = row
    moved, slept = rest[:7], rest[7:9]
    remote = bool(flags & _REMOTE) or uid == NOBODY_HERE
    return ConnectionReport(
        number=number,
        pid=None if remote else pid,
        uid=None if remote else uid,
        user=None if remote else asked.user(uid),
        program=None if remote else asked.program(pid, since),
        remote=remote,
        left=bool(flags & _LEFT),
        in_buffer_size=in_quota,
        out_buffer_size=out_quota,
        rough=bool(flags & _ROUGH),
        stats=stats_of(*(since, *moved, reads, writes, *slept, sleeping, rest[9])),
    )


def _seconds(nanoseconds: int) -> float | None:
    return nanoseconds / _NS if nanoseconds > 0 else None


def _problem(code: int) -> str | None:
    match code:
        case 0:
            return None
        case WinError.INVALID_FUNCTION | WinError.REVISION_MISMATCH:
            return "its npipe is of another version, which cannot tell"
        case WinError.ACCESS_DENIED:
            return "only its own user and root are told"
        case WinError.SEM_TIMEOUT:
            return "it does not answer: it is stopped, or very busy"
        case WinError.BROKEN_PIPE:
            return "it has ended while it was asked: what it had told by then is here"
    return "what it says makes no sense"


def _program(pid: int, since: float | None) -> str | None:
    """Return what a process runs: its command line, cut short.

    None if there is no such process any more, also when its number is another one's by now: it began after `since`.
    """
    if pid <= 0:
        return None
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - quicker, of thousands
            line = file.read(4096)
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            status = file.read(4096)
    except OSError:
        return None
    if since is not None:
        try:
            began = int(status.rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        except (ValueError, IndexError):
            return None
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        if booted + began > since + _CLOCK_SLACK:
            return None
    if not line:  # a kernel's thread, or one that is just ending
        line = status.partition(b"(")[2].rpartition(b")")[0]
    return line.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "backslashreplace")[:_LONGEST_PROGRAM]
