"""Who else is there: the pipes' servers and their versions, Samba, and the extras."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import struct
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import npipe
from npipe.cli.checkup.findings import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.cli.checkup.findings import Finding

__all__ = ["check_extras", "check_samba", "check_servers"]

# docs/protocol.md, section 3: these eight bytes are the same in every version.
_MAGIC, _VERSION = 0x5250504E, 1
_QUERY: Final = 3
_REQUEST: Final = struct.Struct("<6IQ")
_ANSWER: Final = struct.Struct("<2I")
_SOCKET: Final = re.compile(r"s[0-9a-f]{16}")
_PATIENCE: Final = 1.0  # seconds for each server; all answer at once that are not stopped
_MOST: Final = 200  # servers that are asked


def check_servers() -> Iterator[Finding]:
    """Ask the servers of all pipes which version of the protocol they speak."""
    if sys.platform == "win32":
        return
    try:
        root = Path(npipe.root() or "/")
        sockets = sorted(path for path in root.glob("*/s*") if _SOCKET.fullmatch(path.name))
    except OSError as error:
        yield warning("servers", f"the root folder cannot be read: {error.strerror}", "see the checks of the root")
        return
    asked = 0
    for path in sockets[:_MOST]:
        try:
            said, pid = _version_of(path)
        except TimeoutError:
            yield warning(
                "servers", f"the server of {path.parent.name} does not answer",
                "it may be stopped (kill -CONT), or hang; its clients wait",
            )  # fmt: skip
            continue
        except (OSError, EOFError):  # it has gone, or is not for this user
            continue
        asked += 1
        if said is None:
            yield problem(
                "servers", f"what listens as {path.parent.name} (process {pid}) is no npipe", "end it, or remove it"
            )
        elif said != _VERSION:
            age = "an older" if said < _VERSION else "a newer"
            yield problem(
                "servers", f"{path.parent.name} is served by {age} npipe (process {pid}): version {said} of the "
                f"protocol, and this one speaks {_VERSION}",
                "install the same version of npipe for both sides, and start the server again",
            )  # fmt: skip
    rest = f"; {len(sockets) - _MOST} more were not asked" if len(sockets) > _MOST else ""
    yield ok("servers", f"{asked} running, asked for the version of their protocol; here it is {_VERSION}{rest}")


def _version_of(path: Path) -> tuple[int | None, int]:
    """Return the version that an owner speaks, None for none of ours, and its process id."""
    if sys.platform == "win32":
        raise NotImplementedError("there is no rendezvous")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking, contextlib.ExitStack() as scope:
        asking.settimeout(_PATIENCE)
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        scope.callback(os.close, folder)
        short = f"/proc/self/fd/{folder}"
        asking.connect(f"{short}/{path.name}" if Path(short).exists() else str(path))
        pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        asking.send(_REQUEST.pack(_MAGIC, _VERSION, _QUERY, 0, 0, 0, 0))
        answer = asking.recv(4096)
    if not answer:
        raise EOFError
    if len(answer) < _ANSWER.size:
        return None, pid
    magic, version = _ANSWER.unpack_from(answer)
    return (version if magic == _MAGIC else None), pid


def check_samba() -> Iterator[Finding]:
    """Look at Samba, which lets clients of other machines in."""
    if sys.platform == "win32":
        return
    from npipe.samba.found import find_samba

    try:
        found = find_samba()
    except npipe.PipeStateError as error:
        detail = (error.detail or str(error)).replace("\n", " ")
        if detail.startswith("Samba is not installed"):
            yield ok("Samba", detail, "install it if clients of other machines are to come (docs/remote.md)")
        else:
            yield warning("Samba", detail, "correct smb.conf (testparm says where)")
        return
    given = os.environ.get("NPIPE_SAMBA_DIR")
    folder = Path(given or found.samba_dir) / "np"
    yield ok("Samba", f"{found.smbd}, {found.version}; it looks for pipes in {folder}")
    wanted = "npipe samba config prints what smb.conf wants; only who exports pipes to other machines needs it"
    try:
        status = folder.stat()
    except OSError as error:
        yield ok("Samba's folder", f"{folder}: {error.strerror}", wanted)
        return
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (os.geteuid(), 0) or (mode & 0o022 and not mode & stat.S_ISVTX):
        yield warning(
            "Samba's folder", f"{folder} belongs to uid {status.st_uid} with mode {mode:04o}: it is not trusted",
            "it has to be yours or root's, and nobody else may write to it, or it needs the sticky bit",
        )  # fmt: skip
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield warning("Samba's folder", f"{folder} cannot be written to: this user cannot export pipes", wanted)
    else:
        yield ok("Samba's folder", f"{folder} can be written to")


def check_extras() -> Iterator[Finding]:
    """Tell which extras are there, and whether their packages are the right ones."""
    try:
        wanted = metadata.requires("npipe") or []
    except metadata.PackageNotFoundError:
        yield warning("extras", "npipe is not installed as a package", "pip install npipe")
        return
    extras: dict[str, list[str]] = {}
    for line in wanted:
        requirement, _, marker = line.partition(";")
        of = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", marker)
        if of and not requirement.startswith("npipe"):
            extras.setdefault(of[1], []).append(requirement.strip())
    for extra, requirements in sorted(extras.items()):
        yield _extra(extra, requirements)


def _extra(extra: str, requirements: list[str]) -> Finding:
    there, missing, wrong = [], [], []
    for requirement in requirements:
        named = re.match(r"[\w.-]+", requirement)
        name = named[0] if named else requirement
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        there.append(f"{name} {version}")
        if not _suits(version, requirement):
            wrong.append(f"{name} {version}, and {requirement} is wanted")
    install = f"pip install --upgrade 'npipe[{extra}]'"
    if wrong:
        return warning(f"extra {extra}", "; ".join(wrong), install)
    if missing:
        return ok(f"extra {extra}", f"not installed: {', '.join(missing)}", install)
    return ok(f"extra {extra}", ", ".join(there))


def _suits(version: str, requirement: str) -> bool:
    found = _numbers(version)
    for sign, limit in re.findall(r"(>=|<)\s*([\d.]+)", requirement):
        if (sign == ">=" and found < _numbers(limit)) or (sign == "<" and found >= _numbers(limit)):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    numbers = re.match(r"\d+(\.\d+)*", version)
    found = [int(part) for part in numbers[0].split(".")] if numbers else [0]
    return tuple(found + [0] * (4 - len(found)))
