"""What a process may have: descriptors, memory, mappings, watches; and how many processors."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

import npipe
from npipe.cli.checkup.findings import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.cli.checkup.findings import Finding

__all__ = ["check_limits", "check_processors"]

_FEW_DESCRIPTORS: Final = 64
_SOME_DESCRIPTORS: Final = 1024
_USUAL_MAPPINGS: Final = 65530
_SHM: Final = "/dev/shm"  # noqa: S108 - it is looked at, and not used
_SEGMENT: Final = 1 << 20  # bytes: more than a connection with the usual quotas has
_LITTLE_MEMORY: Final = 64 << 20


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):  # not there, or "max"
        return None


def _said(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else f"{limit:,}"


def check_limits() -> Iterator[Finding]:
    """Look at the limits of this process, which are those of the shell that started it."""
    yield _descriptors()
    yield from _memory()
    yield from _mappings()
    yield _shared_memory()
    yield _watches()


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"a process may open {_said(soft)} (ulimit -n; it can be raised to {_said(hard)})"
    if soft == resource.RLIM_INFINITY or soft >= _SOME_DESCRIPTORS:
        return ok("descriptors", found)
    more = "ulimit -n 4096, or LimitNOFILE= of the service: a connection takes one or two at each side"
    if hard != resource.RLIM_INFINITY and hard < _SOME_DESCRIPTORS:
        more += "; the hard limit is too low too (limits.conf, docker run --ulimit nofile=4096)"
    if soft < _FEW_DESCRIPTORS:
        return problem("descriptors", found, more)
    return warning("descriptors", found, more)


def _memory() -> Iterator[Finding]:
    largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest != resource.RLIM_INFINITY and largest < _SEGMENT:
        yield problem(
            "file size", f"files may have {largest:,} bytes (ulimit -f): a connection's memory counts as one",
            "ulimit -f unlimited, or LimitFSIZE= of the service",
        )  # fmt: skip
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY and space < 2 * _LITTLE_MEMORY * 8:
        yield warning(
            "address space", f"{space:,} bytes (ulimit -v)", "ulimit -v unlimited: each connection is mapped into it"
        )
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    yield ok("locked memory", f"{_said(locked)} bytes may be locked (ulimit -l); pipes lock none")
    allowed = _number("/sys/fs/cgroup/memory.max")
    if allowed is None:
        allowed = _number("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    if allowed is not None and allowed < _LITTLE_MEMORY:
        yield warning(
            "memory", f"the control group has {allowed:,} bytes", "give it more: connections' memory counts there"
        )


def _mappings() -> Iterator[Finding]:
    count = _number("/proc/sys/vm/max_map_count")
    if count is None:
        yield warning("mappings", "vm.max_map_count is not known, for /proc is not there", "mount /proc")
    elif count < _USUAL_MAPPINGS:
        yield warning(
            "mappings", f"a process may have {count:,} (vm.max_map_count); a connection takes one or more",
            f"sysctl vm.max_map_count={_USUAL_MAPPINGS}",
        )  # fmt: skip
    else:
        yield ok("mappings", f"a process may have {count:,} (vm.max_map_count); a connection takes one or more")


def _shared_memory() -> Finding:
    try:
        room = os.statvfs(_SHM)
    except OSError:
        return ok(_SHM, "not there; pipes do not need it (multiprocessing does)")
    size = room.f_blocks * room.f_frsize
    return ok(_SHM, f"{size >> 20:,} MiB; pipes do not use it (their memory is no file there)")


def _watches() -> Finding:
    try:
        npipe.wait(f"npipe-doctor-{os.getpid()}-never", timeout=0.001, create=True)
    except npipe.PipeResourceError as error:
        return problem(
            "inotify",
            error.detail or str(error),
            "sysctl fs.inotify.max_user_instances=512: who waits for a server needs one",
        )
    except npipe.PipeError:
        pass  # in time, as it should be; or what the check of the root tells
    count = _number("/proc/sys/fs/inotify/max_user_instances")
    told = "" if count is None else f"; {count:,} of a user at one time (fs.inotify.max_user_instances)"
    return ok("inotify", f"processes can wait for a server that is not there yet{told}")


def check_processors() -> Iterator[Finding]:
    """Count the processors that this process may use."""
    count = len(os.sched_getaffinity(0))
    share = _quota()
    if share is not None and share < 1:
        yield warning(
            "processors", f"{count}, of which the control group lets {share:.2f} be used (cpu.max)",
            "give it one at least: who has used up a share stands still, and its peer waits (docker run --cpus)",
        )  # fmt: skip
    elif count == 1:
        yield warning(
            "processors", "1: client and server take turns on it", "give them two, if round trips are to be quick"
        )
    else:
        yield ok("processors", f"{count}")


def _quota() -> float | None:
    try:
        quota, _, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").partition(" ")
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
