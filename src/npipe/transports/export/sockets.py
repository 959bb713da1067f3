"""The sockets at which smbd looks for pipes: DIR/np/NAME, each one process's at a time, and gone when it closes."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import stat
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from npipe import binding
from npipe.errors import PipeAccessError, PipeError, PipeNameError, PipeResourceError, PipeStateError, WinError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.names import PipeName

__all__ = ["Doorway", "check_doorway", "is_smbd"]

_BACKLOG: Final = 4096
_MOST_PATH: Final = 107  # bytes of a Unix socket's path, without the NUL
_PATIENCE: Final = 3.0  # seconds for another process that has the folder's lock
_PAUSE: Final = 0.01  # seconds; nothing tells that it is free
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_CREDENTIALS: Final = struct.Struct("3i")
_DOING: Final = "exporting the pipe"


class Doorway:
    """A listening socket at DIR/np/NAME, the name in lower case. smbd finds what is there, and nothing else."""

    def __init__(self, directory: str, name: PipeName, *, patience: float = _PATIENCE) -> None:
        r"""Listen there from now on.

        A socket that nobody listens at, as one is that has died, is taken over. `sub\pipe` is one name to smbd.

        Raises PipeNameError (123) for a name that smbd cannot look up, PipeAccessError (5) when another process exports
        it, something else has its name, or the folder is not to be written to or is other users' too, PipeStateError
        (50) when there is no such folder and it cannot be made, and PipeResourceError (1450) when another process has
        had the folder's lock for `patience` seconds.
        """
        self.name: PipeName = name
        self.path: Path = _path_of(directory, name)
        with _told(self.path.parent, name):
            _prepare(self.path.parent, name)
            with _locked(self.path.parent, name, patience):
                if _is_free(self.path, name):
                    self.path.unlink(missing_ok=True)
                self.socket: socket.socket = self._listen(self.path.parent)
                self._number = self.path.lstat().st_ino

    def _listen(self, folder: Path) -> socket.socket:
        # Under another name until it listens: smbd never finds one that refuses.
        made = folder / f".{secrets.token_hex(6)}"
        fits = len(os.fsencode(made)) <= _MOST_PATH
        place = made if fits else self.path
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listening.bind(os.fspath(place))
            place.chmod(0o600)  # smbd is root, or this user
            listening.listen(_BACKLOG)
            if fits:
                made.rename(self.path)
        except BaseException:
            listening.close()
            with contextlib.suppress(OSError):
                place.unlink()
            raise
        return listening

    def hide(self) -> None:
        """Let smbd find nothing: whoever opens the pipe from now on finds none."""
        with contextlib.suppress(OSError):
            if self.path.lstat().st_ino == self._number:  # or another process has taken its place since
                self.path.unlink()
        self._number = -1

    def close(self) -> None:
        """Hide it, and listen no more. Closing twice is no error."""
        self.hide()
        self.socket.close()

    def forget(self) -> None:
        """Be closed in a forked child: the socket and its file are the parent's."""
        self._number = -1
        self.socket.close()


def check_doorway(directory: str, name: PipeName) -> None:
    """Raise what a Doorway there would raise now, but for the lock; make the folder."""
    path = _path_of(directory, name)
    with _told(path.parent, name):
        _prepare(path.parent, name)
        if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError
        _is_free(path, name)


def _path_of(directory: str, name: PipeName) -> Path:
    """Return where smbd looks for it: the name in lower case, each code point for itself as Samba does it."""
    entry = "".join(character.lower()[0] for character in name.display)
    if "/" in entry or entry in ("", ".", ".."):
        why = "Samba looks up no pipe of that name"
        raise PipeNameError(WinError.INVALID_NAME, name.path, _DOING, why, hint="choose a name without /")
    path = Path(directory) / "np" / entry
    if len(os.fsencode(path)) > _MOST_PATH:
        raise PipeNameError(
            WinError.INVALID_NAME,
            name.path,
            _DOING,
            f"the path of its socket is longer than {_MOST_PATH} bytes: {path}",
            hint="choose a shorter samba_dir",
        )
    return path


@contextlib.contextmanager
def _told(folder: Path, name: PipeName) -> Iterator[None]:
    """Have what the system says of the folder raised as errors of npipe's."""
    try:
        yield
    except PipeError:
        raise
    except PermissionError as error:
        raise PipeAccessError(
            WinError.ACCESS_DENIED,
            name.path,
            _DOING,
            f"this user may not put a socket into {folder}",
            hint="let Samba look for pipes in a folder of yours (external_rpc_pipe:socket_dir, samba_dir=)",
        ) from error
    except OSError as error:
        raise PipeStateError(
            WinError.NOT_SUPPORTED, name.path, _DOING, f"{folder}: {error.strerror or error}"
        ) from error


def _prepare(folder: Path, name: PipeName) -> None:
    """Make the folder. One in which others may put or replace sockets is refused: smbd would bring them clients.

    So is one that they may put another in the place of, be it for the moment this user's.
    """
    folder.parent.mkdir(mode=0o755, exist_ok=True)
    _check_ours(folder.parent, folder.parent.stat(), name)
    folder.mkdir(mode=0o700, exist_ok=True)  # as smbd itself makes it
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise PipeAccessError(
            WinError.ACCESS_DENIED, name.path, _DOING, f"{folder} is a symbolic link", hint="make a folder of it"
        )
    _check_ours(folder, status, name)


def _check_ours(folder: Path, status: os.stat_result, name: PipeName) -> None:
    """Refuse a folder that is another user's than this one or root, or that others may write to, unless sticky."""
    others_write = status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX
    if status.st_uid not in (0, binding.effective_uid()) or others_write:
        raise PipeAccessError(
            WinError.ACCESS_DENIED,
            name.path,
            _DOING,
            f"{folder} is another user's, or others may write to it",
            hint="let Samba look for pipes in a folder of yours (external_rpc_pipe:socket_dir, samba_dir=)",
        )


def _is_free(path: Path, name: PipeName) -> bool:
    """Whether there is a socket at which nobody listens; False: there is nothing."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise PipeAccessError(WinError.ACCESS_DENIED, name.path, _DOING, f"{path} is no socket; it is left alone")
    if _somebody_listens(path):
        raise PipeAccessError(
            WinError.ACCESS_DENIED,
            name.path,
            _DOING,
            f"another process exports it, at {path}",
            text="The pipe is exported already",
        )
    return True


@contextlib.contextmanager
def _locked(folder: Path, name: PipeName, patience: float) -> Iterator[None]:
    """Hold this user's lock of the folder: one process at a time looks at a socket and takes its place.

    It is a file that no other user can open, and so none can hold. In capitals, as no pipe's name is there.
    """
    path = folder / f".LOCK-{binding.effective_uid()}"
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != binding.effective_uid() or status.st_mode & 0o077:
            raise PipeAccessError(WinError.ACCESS_DENIED, name.path, _DOING, f"{path} is not this user's alone")
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno != errno.EWOULDBLOCK:
                    raise
            if time.monotonic() >= deadline:
                raise PipeResourceError(
                    WinError.NO_SYSTEM_RESOURCES,
                    name.path,
                    _DOING,
                    f"another process has had the lock of {folder} for {patience:.0f} seconds; it may be stopped",
                )
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that was forked meanwhile has it too
    finally:
        os.close(descriptor)


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:
            return True  # its backlog is full
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


def is_smbd(connection: socket.socket) -> bool:
    """Whether a connection's peer may be smbd: root, or the user that this process is.

    The kernel says who it is. Either of them could do as much without: it may open this user's pipes on behalf of
    whomever it likes.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(raw)[1] & 0xFFFFFFFF
    return uid in (0, binding.effective_uid()) and uid != 0xFFFFFFFF
