"""Processes as Windows has them: opened by number, started by a command line, waited for, ended with a code."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from npipe.binding.win32 import targets as _targets
from npipe.win32._time import NO_TIME, time_of
from npipe.win32_error import error, make_error

if TYPE_CHECKING:
    from npipe.binding.win32.handles import PyHANDLE

__all__ = [
    "CURRENT",
    "STILL_ACTIVE",
    "Process",
    "child_handles",
    "open_process",
    "process_of",
    "reap",
    "thread_process",
    "times_of",
]

CURRENT: Final = -1
STILL_ACTIVE: Final = 259

_ACCESS_DENIED: Final = 5
_INVALID_PARAMETER: Final = 87
_NOT_SUPPORTED: Final = 50
_RIGHTS_OVER: Final = 0xFFF & ~0x400  # all that a process may do to another one, but asking (PROCESS_QUERY_INFORMATION)

_CODES_OF_SIGNALS: Final[dict[int, int]] = {
    signal.SIGINT: -0x3FFFFEC6,  # STATUS_CONTROL_C_EXIT
    signal.SIGABRT: 3,
    signal.SIGSEGV: -0x3FFFFFFB,  # STATUS_ACCESS_VIOLATION
    signal.SIGILL: -0x3FFFFFE3,
    signal.SIGFPE: -0x3FFFFF6C,
}
_GET_INFO: Final = 0xC040FF0B  # PIDFD_GET_INFO, of Linux 6.13 and later
_INFO: Final = struct.Struct("=QQ11Ii")
_INFO_EXIT: Final = 1 << 3  # ... which tells how a process has ended from 6.15 on


class Process:
    """A process of this machine, and what is known of it; one for all its handles."""

    def __init__(self, pid: int, descriptor: int, *, is_child: bool = False) -> None:
        self.pid = pid
        self.descriptor = descriptor  # pidfd
        self.suspended = 0
        self._is_child = is_child
        self._ends_with: int | None = None  # what TerminateProcess has been told
        self._code: int | None = None

    _close = staticmethod(os.close)  # when the interpreter ends, a handle may outlive this module's names

    def __del__(self) -> None:
        self._close(self.descriptor)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended; its own parent may not have asked for its code yet."""
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        poller = select.poll()
        poller.register(self.descriptor, select.POLLIN)
        return bool(poller.poll(0))

    def exit_code(self, function: str) -> int:
        """Return the code that it has ended with, 259 as long as it runs; a signal's is that of `os.kill` on Windows.

        Raises 50: it is no child of this process, and this Linux does not tell (before 6.15).
        """
        if self._code is None:
            if not self.has_ended:
                return STILL_ACTIVE
            self._code = self._look(function)
        return self._code

    def _look(self, function: str) -> int:
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        keep = 0 if self._is_child else os.WNOWAIT  # somebody else's child is left to whoever waits for it
        try:
            status = os.waitid(os.P_PIDFD, self.descriptor, os.WEXITED | os.WNOHANG | keep)
        except ChildProcessError:
            return self._told_by_kernel(function)
        if status is None:  # it has ended, and is traced by somebody who has not looked yet
            return STILL_ACTIVE
        return self._translated(status.si_status, is_signal=status.si_code != os.CLD_EXITED)

    def _told_by_kernel(self, function: str) -> int:
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        buffer = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
        try:
            fcntl.ioctl(self.descriptor, _GET_INFO, buffer)
        except OSError:
            raise make_error(_NOT_SUPPORTED, function) from None
        mask, *_, status = _INFO.unpack(buffer)
        if not mask & _INFO_EXIT:
            raise make_error(_NOT_SUPPORTED, function)
        number = status & 0x7F
        return self._translated(number or status >> 8 & 0xFF, is_signal=bool(number))

    def _translated(self, number: int, *, is_signal: bool) -> int:
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        if not is_signal:
            return number
        if number == signal.SIGKILL and self._ends_with is not None:
            return self._ends_with
        return _CODES_OF_SIGNALS.get(number, number)

    def terminate(self, code: int, function: str) -> None:
        """End it at once, with that code. Raises 5: it has ended, or is another user's."""
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        if self.has_ended:
            raise make_error(_ACCESS_DENIED, function)
        self._ends_with = code - (1 << 32) if code >> 31 == 1 else code
        self.send(signal.SIGKILL, function)

    def send(self, number: int, function: str) -> None:
        """Send a signal. Raises 5."""
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        try:
            signal.pidfd_send_signal(self.descriptor, number)  # type: ignore[attr-defined,unused-ignore]
        except (PermissionError, ProcessLookupError):
            raise make_error(_ACCESS_DENIED, function) from None

    def suspend(self, function: str) -> int:
        """Stop it, and return how often it was stopped before."""
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        before, self.suspended = self.suspended, self.suspended + 1
        if before == 0:
            self.send(signal.SIGSTOP, function)
        return before

    def resume(self, function: str) -> int:
        """Let it go on if it was stopped once, and return how often it was."""
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        before, self.suspended = self.suspended, max(0, self.suspended - 1)
        if before == 1:
            self.send(signal.SIGCONT, function)
        return before

    def is_over(self) -> bool:
        """Whether a child has ended and its code is known: nothing is left to be waited for."""
        return self.has_ended and self.exit_code("GetExitCodeProcess") != STILL_ACTIVE


class _Opened:
    """What a handle stands for: a process, and a descriptor of it that is watched for this handle alone."""

    def __init__(self, process: Process) -> None:
        self.process: Process | None = process
        self.pid = process.pid
        self.descriptor = os.dup(process.descriptor)

    _close = staticmethod(os.close)  # as above

    def close(self) -> None:
        """Let go of it: the last handle has been closed."""
        if self.process is not None:
            self.process = None
            self._close(self.descriptor)


_known: weakref.WeakValueDictionary[int, Process] = weakref.WeakValueDictionary()
_children: dict[int, Process] = {}  # that CreateProcess has started, until somebody has noted their end


def _handle(kind: str, process: Process, function: str) -> PyHANDLE:
    opened = _Opened(process)
    try:
        return _targets.following_handle(kind, opened, opened.descriptor, function)
    except BaseException:
        opened.close()
        raise


def reap() -> None:
    """Note the end of children that nobody asks about, so that the system forgets them."""
    for pid, process in list(_children.items()):
        if process.is_over():
            _children.pop(pid, None)


def child_handles(pid: int, *, suspended: bool, function: str) -> tuple[PyHANDLE, PyHANDLE]:
    """Return handles of a child of this process that has just been started, and of its thread."""
    reap()
    process = Process(pid, _descriptor(pid, function), is_child=True)
    process.suspended = int(suspended)
    _known[pid] = _children[pid] = process
    return _handle("process", process, function), _handle("thread", process, function)


def open_process(access: int, pid: int, function: str) -> PyHANDLE:
    """OpenProcess. Raises 87 (there is no such process), 5 (more than asking, of another user's)."""
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    reap()
    process = _found(pid, function)
    if access & _RIGHTS_OVER:
        try:
            os.kill(pid, 0)
        except PermissionError:
            raise make_error(_ACCESS_DENIED, function) from None
        except ProcessLookupError:
            raise make_error(_INVALID_PARAMETER, function) from None
    return _handle("process", process, function)


def _found(pid: int, function: str) -> Process:
    """Return the process of a number. One that has ended has it as long as there is a handle of it, as on Windows."""
    known = _known.get(pid)
    if known is not None and not known.has_ended:
        return known
    try:
        fresh = Process(pid, _descriptor(pid, function))
    except error:
        if known is None:
            raise
        return known
    if known is not None and fresh.has_ended:
        return known  # nobody has asked for its code yet
    _known[pid] = fresh
    return fresh


def _descriptor(pid: int, function: str) -> int:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    if not 0 < pid < 1 << 31:
        raise make_error(_INVALID_PARAMETER, function)
    try:
        return os.pidfd_open(pid)
    except OSError as failure:
        code = _INVALID_PARAMETER if failure.errno in (errno.ESRCH, errno.EINVAL) else _NOT_SUPPORTED
        raise make_error(code, function) from None


def process_of(handle: Any, function: str) -> Process | None:
    """Return what the handle of a process stands for, None for this process itself; raises 6."""
    if handle is not None and int(handle) == CURRENT:
        return None
    opened: _Opened = _targets.file_of(handle, "process", function)
    if opened.process is None:
        raise make_error(6, function)
    return None if opened.pid == os.getpid() else opened.process


def thread_process(handle: Any, function: str) -> Process:
    """Return the process whose only thread a handle stands for, as CreateProcess gives it; raises 6 for others."""
    opened: _Opened = _targets.file_of(handle, "thread", function)
    if opened.process is None:
        raise make_error(6, function)
    return opened.process


def times_of(pid: int) -> dict[str, object]:
    """GetProcessTimes; raises 5 when the process has ended."""
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except OSError:
        raise make_error(_ACCESS_DENIED, "GetProcessTimes") from None
    fields = text.rpartition(")")[2].split()  # from the third one on: the name before may hold anything
    user, system, started = int(fields[11]), int(fields[12]), int(fields[19])
    ticks = os.sysconf("SC_CLK_TCK")
    return {
        "CreationTime": time_of(int(booted.split()[1]) + started / ticks),
        "ExitTime": NO_TIME,
        "KernelTime": system * 10_000_000 // ticks,
        "UserTime": user * 10_000_000 // ticks,
    }
