"""What the engine asks of the kernel: each call is tried, for a filter (seccomp) may refuse what the kernel has."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import array
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import select
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import npipe
from npipe.cli.checkup.findings import Finding, ok, problem, warning
from npipe.cli.checkup.root import mount_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["check_container", "check_kernel"]

_SO_PEERGROUPS: Final = 59
_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_SEALS: Final = 0x7  # seal, shrink, grow
_FUTEX_CALL: Final = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238, "armv7l": 240}
_FUTEX_WAIT_BITSET: Final = 9
_LONGEST_ADDRESS: Final = 107

_LET_IT: Final = "use a kernel from 4.13 on, and a seccomp profile that lets it through (docker's own does)"


def check_kernel() -> Iterator[Finding]:
    """Try what the engine needs, and what some of it profits from."""
    yield ok("kernel", f"{platform.system()} {platform.release()}, {platform.machine()}")
    for check, use, needed, attempt in _ATTEMPTS:
        try:
            attempt()
        except OSError as error:
            found = f"{use}: {error.strerror or error}"
            advice = "sysctl vm.memfd_noexec=1" if check == "memfd" and error.errno == errno.EACCES else _LET_IT
            yield problem(check, found, advice) if needed else warning(check, found, advice)
        else:
            yield ok(check, use)
    yield from _proc()
    yield from _user_namespace()
    yield _not_needed()


def _memfd() -> None:
    """Shared memory without a file, which its maker cannot cut off below its user."""
    made = os.memfd_create("npipe-doctor", _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    try:
        os.ftruncate(made, mmap.PAGESIZE)
        fcntl.fcntl(made, _F_ADD_SEALS, _SEALS)
        if fcntl.fcntl(made, _F_GET_SEALS) & _SEALS != _SEALS:
            raise OSError(errno.ENOSYS, "it cannot be sealed")
        with mmap.mmap(made, mmap.PAGESIZE) as mapped:
            mapped[:5] = b"npipe"
    finally:
        os.close(made)


def _futex() -> None:
    number = _FUTEX_CALL.get(platform.machine()) if sys.maxsize > 2**32 or platform.machine() == "armv7l" else None
    if number is None:
        return  # the round trip tells
    call = ctypes.CDLL(None, use_errno=True).syscall
    word = ctypes.c_uint32(1)
    # It waits while the word is 0, which it is not: EAGAIN, at once.
    arguments = (ctypes.c_long(number), ctypes.byref(word), ctypes.c_long(_FUTEX_WAIT_BITSET), ctypes.c_long(0))
    call(*arguments, None, None, ctypes.c_long(0xFFFFFFFF))
    if ctypes.get_errno() != errno.EAGAIN:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _pass_a_descriptor() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    try:
        with one, other:
            passed = array.array("i", [read])
            one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
            _, ancillary, _, _ = other.recvmsg(1, socket.CMSG_SPACE(passed.itemsize))
            if not ancillary:
                raise OSError(errno.ENOSYS, "the descriptor did not arrive")
            (came,) = array.array("i", ancillary[0][2][: passed.itemsize])
            try:
                os.write(write, b"npipe")
                if os.read(came, 5) != b"npipe":
                    raise OSError(errno.EIO, "another descriptor has arrived")
            finally:
                os.close(came)
    finally:
        os.close(read)
        os.close(write)


def _peer_credentials() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        pid, uid, gid = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if (pid, uid, gid) != (os.getpid(), os.geteuid(), os.getegid()):
        raise OSError(errno.EPROTO, f"the kernel says process {pid}, user {uid}, which this is not")


def _peer_groups() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        try:
            one.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)
        except OSError as error:
            if error.errno != errno.ERANGE:  # this user has more groups than that
                raise


def _events() -> None:
    event = _eventfd()
    try:
        with select.epoll() as poll:
            poll.register(event, select.EPOLLIN)
            if poll.poll(0) != [(event, select.EPOLLIN)]:
                raise OSError(errno.EIO, "an event that is set is not told")
    finally:
        os.close(event)


def _eventfd() -> int:
    return os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def _pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


_ATTEMPTS: Final[tuple[tuple[str, str, bool, Callable[[], None]], ...]] = (
    ("memfd", "how the memory of a connection is made (memfd_create, sealed)", True, _memfd),
    ("futex", "how a thread that waits goes to sleep (futex)", True, _futex),
    ("descriptors passed", "how a client gets that memory (SOCK_SEQPACKET, SCM_RIGHTS)", True, _pass_a_descriptor),
    ("peer", "how each side learns the user of the other one (SO_PEERCRED)", True, _peer_credentials),
    ("peer's groups", 'how a pipe is opened to a group, security="group:NAME" (SO_PEERGROUPS)', False, _peer_groups),
    ("events", "how event loops wait for pipes (eventfd, epoll)", True, _events),
    ("pidfd", "how npipe.win32 and npipe.connection wait for the end of a process (pidfd_open)", False, _pidfd),
)


def _proc() -> Iterator[Finding]:
    if Path("/proc/self/fd").is_dir():
        yield ok("/proc", "mounted")
        return
    found = "not mounted: sockets with paths of more than 107 bytes are reached by unshare(CLONE_FS)"
    if _may_unshare():
        yield warning("/proc", found, "mount /proc, which is quicker; programs' names are not known without it")
    else:
        yield problem(
            "/proc", f"{found}, which is not allowed here",
            f"mount /proc, or set NPIPE_ROOT to a short path ({_LONGEST_ADDRESS} bytes with the pipe's name)",
        )  # fmt: skip


def _may_unshare() -> bool:
    """Try it in a thread of its own, for it cannot be taken back."""
    allowed: list[bool] = []
    clone_fs = 0x200
    trying = threading.Thread(target=lambda: allowed.append(ctypes.CDLL(None).unshare(clone_fs) == 0))
    trying.start()
    trying.join()
    return allowed == [True]


def _user_namespace() -> Iterator[Finding]:
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").split("\n")
    except OSError:
        return
    mapped = sum(int(line.split()[2]) for line in lines if line)
    if mapped >= 2**32 - 1:
        yield ok("user namespace", "all users are known by their own numbers")
    else:
        yield warning(
            "user namespace", f"it maps {mapped} users: all others look like one, nobody (65534), and are strangers",
            "map the users that are to meet here (subuid), or let both sides run in one user namespace",
        )  # fmt: skip


def _not_needed() -> Finding:
    try:
        scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text(encoding="ascii").strip()
        ptrace = f"ptrace (yama's scope is {scope})"
    except OSError:
        ptrace = "ptrace"
    return ok("not needed", f"{ptrace}, io_uring, user namespaces and capabilities: pipes do without")


def check_container() -> Iterator[Finding]:
    """Tell whether this is a container, what it filters, and whom its root is shared with."""
    kind = _container()
    filtered = _status("Seccomp") == "2"
    if filtered:
        yield ok("seccomp", "system calls are filtered here; the ones that pipes need were tried, in the lines above")
    if kind is None:
        yield ok("container", "this is none, as far as can be seen")
        return
    folder = _root()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    mount = mount_of(folder)
    if mount is None or mount.point == "/" or mount.kind == "overlay":
        yield ok(
            "container", f"{kind}; the root folder is the container's own",
            "for pipes between containers, or with the host: the same folder in both (docker run -v "
            "/run/npipe:/run/npipe) and NPIPE_ROOT; for process ids also one PID namespace (--pid)",
        )  # fmt: skip
    else:
        yield ok("container", f"{kind}; the root folder is on {mount.point}, which others may have too")


def _root() -> Path:
    try:
        return Path(npipe.root() or "/")
    except FileNotFoundError:  # which the check of the root tells
        return Path("/")


def _status(what: str) -> str | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(what + ":")), None)


def _container() -> str | None:
    """Return the kind of container that this is in, as far as it shows."""
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    if os.environ.get("container"):  # noqa: SIM112 - systemd's and others' own spelling
        return os.environ["container"]  # noqa: SIM112
    try:
        groups = Path("/proc/1/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return next((word for word in ("kubepods", "docker", "lxc", "containerd") if word in groups), None)
