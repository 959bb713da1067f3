"""The root folder: where it is, whose, whether it can be written to, and on what file system."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import npipe
from npipe.cli.checkup.findings import ok, problem, warning
from npipe.cli.common import decided_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.cli.checkup.findings import Finding

__all__ = ["Mount", "check_root", "mount_of", "user_name"]

_OF_NETWORKS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2", "beegfs",
     "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "virtiofs", "drvfs"}
)  # fmt: skip
_UNMAPPED: Final = 65534
_ELSEWHERE: Final = "set NPIPE_ROOT to a folder of your own, the same for servers and clients"


class Mount(NamedTuple):
    """A mounted file system."""

    point: str
    kind: str
    options: str


def mount_of(path: Path) -> Mount | None:
    """Return the file system that a path is on; None where /proc does not tell."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found: Mount | None = None
    wanted = os.path.realpath(path)
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point, options = fields.split()[4:6]
        point = point.encode("utf-8", "surrogateescape").decode("unicode_escape") if "\\" in point else point
        inside = point == "/" or wanted == point or wanted.startswith(point + "/")
        if inside and (found is None or len(point) >= len(found.point)):  # the later one lies above
            found = Mount(point, rest.split()[0], options)
    return found


def user_name(uid: int) -> str:
    """Return a user's name and number."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def check_root() -> Iterator[Finding]:
    """Look at the root folder, and at others that pipes could be in."""
    try:
        root = npipe.root()
    except FileNotFoundError:  # tempfile has found no place
        yield problem(
            "root", "there is no folder for temporary files that can be written to",
            "set NPIPE_ROOT to a folder that can, or mount a tmpfs at /tmp (docker run --tmpfs /tmp)",
        )  # fmt: skip
        return
    assert root is not None  # noqa: S101 - not on Windows
    path = Path(root)
    yield ok("root", f"pipes are in {root}, because of {decided_by(root)}")
    if not path.is_absolute():
        yield warning(
            "root path", f"NPIPE_ROOT is relative: {root}",
            "write it from / on: processes with other working folders do not meet",
        )  # fmt: skip
    try:
        status = path.stat()
    except FileNotFoundError:
        yield from _not_there(path)
        yield from _other_roots(path)
        return
    except OSError as error:
        yield problem("root folder", f"it cannot be looked at: {error.strerror}", _ELSEWHERE)
        return
    if not stat.S_ISDIR(status.st_mode):
        yield problem("root folder", "it is there, and is no folder", f"remove it, or {_ELSEWHERE}")
        return
    yield from _trust(path, status)
    yield from _writable(path, status)
    yield from _file_system(path)
    yield from _other_roots(path)


def _not_there(path: Path) -> Iterator[Finding]:
    parent = path.parent
    if not parent.is_dir():
        yield problem("root folder", f"it is not there, nor is {parent}", f"mkdir -p {parent}, or {_ELSEWHERE}")
    elif not _may_write(parent):
        yield problem(
            "root folder", f"it is not there, and {_why_not(parent)}", f"make it, with mode 0700, or {_ELSEWHERE}"
        )
    else:
        yield ok("root folder", "it is not there yet: the first server makes it")
        yield from _file_system(parent)


def _trust(path: Path, status: os.stat_result) -> Iterator[Finding]:
    me, mode = os.geteuid(), stat.S_IMODE(status.st_mode)
    belongs = f"it belongs to {user_name(status.st_uid)} with mode {mode:04o}"
    link = path.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (me, 0):
        yield problem("root owner", f"it is a symbolic link of {user_name(link.st_uid)}", _ELSEWHERE)
    elif status.st_uid not in (me, 0):
        more = ", whom this user namespace does not map" if status.st_uid == _UNMAPPED else ""
        yield problem("root owner", f"{belongs}, not to you or root{more}", _ELSEWHERE)
    elif mode & 0o022 and not mode & stat.S_ISVTX:
        yield problem(
            "root owner", f"{belongs}: others may put things in the place of yours",
            f"chmod {'1777' if mode & 0o002 else '1770'} {path} to share it with others, or chmod 0700 for your own",
        )  # fmt: skip
    else:
        shared = ", shared by users (sticky)" if mode & 0o022 else ""
        yield ok("root owner", belongs + shared)


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _why_not(path: Path) -> str:
    mount = mount_of(path)
    if mount is not None and "ro" in mount.options.split(","):
        return f"{path} is on a file system that is mounted read-only ({mount.point})"
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return f"{path} is on a file system that is read-only"
    return f"{path} cannot be written to by {user_name(os.geteuid())}"


def _writable(path: Path, status: os.stat_result) -> Iterator[Finding]:
    if not _may_write(path):
        shared = status.st_uid != os.geteuid()
        advice = f"let its owner make it shared (chmod 1777 {path}), or {_ELSEWHERE}" if shared else _ELSEWHERE
        yield problem("root writable", f"{_why_not(path)}: no server can listen", advice)
        return
    room = os.statvfs(path)
    if room.f_blocks and not room.f_bavail:
        yield problem("root writable", "its file system is full", "free some of it: a pipe needs a few KiB there")
    elif room.f_files and not room.f_favail:
        yield problem("root writable", "its file system has no inode left", "remove files there: a pipe needs four")
    else:
        yield ok("root writable", "servers can make pipes there")


def _file_system(path: Path) -> Iterator[Finding]:
    mount = mount_of(path)
    if mount is None:
        yield warning("root file system", "not known, for /proc is not there", "mount /proc")
    elif mount.kind in _OF_NETWORKS:
        yield warning(
            "root file system", f"{mount.kind}, mounted at {mount.point}: sockets and locks there may not work",
            "set NPIPE_ROOT to a folder on a local file system, a tmpfs say; pipes do not reach other machines by it",
        )  # fmt: skip
    else:
        yield ok("root file system", f"{mount.kind}, mounted at {mount.point}")


def _other_roots(root: Path) -> Iterator[Finding]:
    """Name the roots that would be taken with other variables, if pipes are there: who uses one misses the other."""
    places = {Path("/run/npipe"), Path(tempfile.gettempdir()) / f"npipe-{os.geteuid()}"}
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    places.add(Path(runtime) / "npipe")
    for place in sorted(places - {root}):
        try:
            pipes = sum(1 for _ in place.iterdir())
            same = place.samefile(root) if root.exists() else False
        except OSError:
            continue
        if pipes and not same:
            yield warning(
                "other roots", f"{pipes} pipes are below {place}, where this process does not look",
                f"NPIPE_ROOT={place} for those who are to meet them",
            )  # fmt: skip
