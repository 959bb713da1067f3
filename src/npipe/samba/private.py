"""A private smbd: a folder, a port, and users of its own. It shares no files, only pipes, and needs no root."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import contextlib
import fcntl
import ipaddress
import os
import pwd
import select
import signal
import socket
import stat
import struct
import subprocess
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from npipe.errors import PipeAccessError, PipeArgumentError, PipeError, PipeStateError, PipeTimeoutError, WinError
from npipe.samba.programs import KEEP_ALIVE, program

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["PrivateSmbd"]

_FOLDERS: Final = ("private", "lock", "state", "cache", "pid", "ncalrpc", "binddns", "log", "pipes")
_FLOCK: Final = struct.Struct("@hhqqi4x")  # struct flock
_LISTEN: Final = "0A"  # in /proc/net/tcp
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where one asks who listens everywhere
_LOOK: Final = 0.02  # seconds between looks at the port
_END: Final = 5.0  # seconds between being asked to end, and being killed
_SPECIAL: Final = frozenset('"\\/[]:;|=,+*?<>\n\r\0')

_WORKGROUP: Final = "WORKGROUP"  # Samba's own default

_SMB2: Final = b"\xfeSMB"
_NEGOTIATE: Final = b"".join(  # with 2.1, which every smbd of today's has
    (
        _SMB2,
        struct.pack("<HHIHHIIQIIQ16x", 64, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0),
        struct.pack("<HHHHI16xQH", 36, 1, 1, 0, 0, 0, 0x0210),
    )
)

_CONFIGURATION: Final = """\
# Made by `npipe samba`, anew at each start. Settings of your own go into {extra}, which is read last.
[global]
    server role = standalone server
    security = user
    workgroup = {workgroup}
    passdb backend = tdbsam:{folder}/private/passdb.tdb
    username map = {folder}/users
    bind interfaces only = yes
    interfaces = {interfaces}
    smb ports = {port}
    disable netbios = yes
    server min protocol = SMB2_10
    server smb encrypt = {encrypt}
    server signing = mandatory
    # A client that is gone without a word is noticed within half a minute, as npipe's own notice a server that is.
    {keep_alive}
    map to guest = {guests}
    restrict anonymous = {anonymous}
    private dir = {folder}/private
    lock directory = {folder}/lock
    state directory = {folder}/state
    cache directory = {folder}/cache
    pid directory = {folder}/pid
    ncalrpc dir = {folder}/ncalrpc
    binddns dir = {folder}/binddns
    log file = {folder}/log/log.smbd
    max log size = 1000
    enable core files = no
    rpc start on demand helpers = no
    load printers = no
    printing = bsd
    printcap name = /dev/null
    disable spoolss = yes
    external_rpc_pipe:socket_dir = {folder}/pipes
    include = {extra}
"""


class PrivateSmbd:
    """A folder with all that an smbd of its own needs. `start` runs it, and `with` ends it."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        port: int = 4450,
        interfaces: tuple[str, ...] = ("127.0.0.1/8",),
        encrypt: Literal["off", "default", "desired", "required"] = "default",
        guests: bool = False,
    ) -> None:
        """Make the folder, if it is not there.

        Args:
            folder: where its files are; a short path, for the pipes' sockets are below it.
            port: the TCP port; below 1024 only for root.
            interfaces: the networks that it listens in, as in smb.conf; this machine's own only unless told otherwise.
            encrypt: "required" refuses what is not encrypted.
            guests: whether clients with a name that is not known are guests, instead of being turned away.

        Raises:
            PipeArgumentError: a path, or an interface, that a configuration cannot hold (87).
            PipeAccessError: the folder, or something of it, is another user's, or others may write to it (5).
            PipeStateError: the folder cannot be made (50).
        """
        self.folder: Path = Path(folder).absolute()
        self.port: int = port
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None  # the descriptor of the folder's; while it runs
        self._interfaces = interfaces
        self._text = _CONFIGURATION.format(
            folder=self.folder,
            workgroup=_WORKGROUP,
            extra=self.folder / "extra.conf",
            port=port,
            interfaces=" ".join(interfaces),
            encrypt=encrypt,
            keep_alive=KEEP_ALIVE,
            guests="bad user" if guests else "never",
            anonymous=0 if guests else 2,
        )
        if any(bad in f"{self.folder}{''.join(interfaces)}" for bad in "\n\r\0%"):
            raise PipeArgumentError(WinError.INVALID_PARAMETER, detail="a path or an interface with % or a line's end")
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            _make_folder(self.folder)
            _check_ours(self.folder)  # before anything is put there
            for name in _FOLDERS:
                _make_folder(self.folder / name)
            for name in ("users", "extra.conf"):
                _make_file(self.folder / name)
            for name in (*_FOLDERS, "users", "extra.conf", "smb.conf", "private/passdb.tdb"):
                _check_ours(self.folder / name)
        except PipeAccessError:
            raise
        except OSError as error:
            raise PipeStateError(WinError.NOT_SUPPORTED, detail=f"{self.folder}: {error.strerror}") from error

    @property
    def configuration(self) -> Path:
        """Its smb.conf."""
        return self.folder / "smb.conf"

    @property
    def samba_dir(self) -> Path:
        """Where it looks for pipes: the samba_dir of listen and export."""
        return self.folder / "pipes"

    @property
    def pid(self) -> int | None:
        """The process that listens; None while it does not run."""
        return None if self._process is None else self._process.pid

    # ---- Users

    def add_user(self, name: str, password: str, *, local_user: str | None = None) -> None:
        """Add a user, or change its password.

        Samba takes it for `local_user`, a user of this system, by default the one of the same name. Two users that are
        the same local user have one password.

        Raises PipeArgumentError (87) for a name or password that Samba does not take, or a local user that does not
        exist; PipeStateError (50) if Samba is not installed, or fails.
        """
        local = name if local_user is None else local_user
        if not name or name != name.strip() or not _SPECIAL.isdisjoint(name):
            raise PipeArgumentError(WinError.INVALID_PARAMETER, detail=f"a user's name is not {name!r}")
        if not password or not {"\n", "\r", "\0"}.isdisjoint(password):
            raise PipeArgumentError(WinError.INVALID_PARAMETER, detail="a password is one line, and not empty")
        self._check_local(local)
        if not self.configuration.exists():  # what there is may be that of one that runs
            _write(self.configuration, self._text)
        command = [program("pdbedit"), "-s", str(self.configuration), "-t", "-a", "-u", local]
        text = f"{password}\n{password}\n".encode()
        done = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            said = done.stdout.decode(errors="replace").strip().splitlines()
            raise PipeStateError(WinError.NOT_SUPPORTED, detail=f"pdbedit: {said[-1] if said else done.returncode}")
        users = self.folder / "users"
        lines = [line for line in users.read_text(encoding="utf-8").splitlines() if _claims(line) != name.casefold()]
        if local != name:
            lines.append(f'{local} = "{name}" "{_WORKGROUP}\\{name}"')  # as Samba calls whom a ticket of Kerberos names
        _write(users, "".join(f"{line}\n" for line in lines))

    def _check_local(self, name: str) -> None:
        try:
            pwd.getpwnam(name)
        except KeyError:
            raise PipeArgumentError(
                WinError.INVALID_PARAMETER,
                detail=f"there is no user {name!r} on this system, and Samba wants one for each of its own",
                hint="make one with useradd, or name another one (--local-user)",
            ) from None

    # ---- Running

    def start(self, timeout: float = 20.0) -> None:
        """Start it, and wait until it answers. It ends with `close`, and with this process.

        Raises PipeStateError (50) if Samba is not installed or does not start, if another one runs in the folder, or
        something else listens at the port; and PipeTimeoutError (121).
        """
        deadline = time.monotonic() + timeout
        smbd = program("smbd")
        try:
            self._lock = _locked(self.folder / ".LOCK", self.folder)
            self._await_end_of_former(deadline)
            self._check_port()
            _write(self.configuration, self._text)
            command = [smbd, "-F", "--no-process-group", "-s", str(self.configuration)]
            command += ["-l", str(self.folder / "log")]
            # A pipe for its standard input, of which nobody else has the other end: smbd ends with that.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "_NO_WINBINDD": "1"},
            )
            _running.add(self)
            self._await_answer(self._process, deadline)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, PipeError):
                raise PipeStateError(WinError.NOT_SUPPORTED, detail=f"{self.folder}: {error.strerror}") from error
            raise

    def _forget(self) -> None:
        """Be closed in a forked child, which would keep smbd alive by its standard input: it is the parent's."""
        process, self._process = self._process, None
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)  # the parent has it still
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            process.returncode = 0  # not this process's child: nobody is to wait for it

    def _await_end_of_former(self, deadline: float) -> None:
        """Wait for one whose command was killed: it ends with that, but not in the same moment."""
        try:
            descriptor = os.open(self.folder / "pid" / "smbd.pid", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            asked = fcntl.fcntl(descriptor, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            kind, *_, pid = _FLOCK.unpack(asked)
            if kind == fcntl.F_UNLCK:
                return
            with contextlib.suppress(ProcessLookupError):
                former = os.pidfd_open(pid)
                try:
                    poll = select.poll()  # not select, which takes no descriptor beyond 1023
                    poll.register(former, select.POLLIN)
                    if not poll.poll(min(max(0.0, deadline - time.monotonic()), 1e6) * 1000):
                        raise PipeStateError(
                            WinError.NOT_SUPPORTED, detail=f"another smbd, process {pid}, runs in {self.folder}"
                        )
                finally:
                    os.close(former)
        finally:
            os.close(descriptor)

    def _check_port(self) -> None:
        """Refuse a port at which somebody listens already, as far as one can tell beforehand."""
        hosts = {interface.partition("/")[0] for interface in self._interfaces} | _ANY.keys()
        if not hosts.isdisjoint(_listeners(self.port).values()):
            raise self._port_is_taken()

    def _port_is_taken(self) -> PipeStateError:
        return PipeStateError(
            WinError.NOT_SUPPORTED,
            detail=f"another program listens at port {self.port}",
            hint="choose another one (--port)",
        )

    def _await_answer(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        # Nothing tells that it listens: what it says to systemd comes before that.
        while not self._answers(process.pid):
            try:
                process.wait(_LOOK)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise PipeTimeoutError(WinError.SEM_TIMEOUT, doing="waiting for smbd") from None
            else:
                if _listeners(self.port):
                    raise self._port_is_taken()
                raise PipeStateError(
                    WinError.NOT_SUPPORTED,
                    detail=f"smbd has ended: {self._last_word() or process.returncode}",
                    hint=f"its log is in {self.folder / 'log'}",
                )

    def _answers(self, pid: int) -> bool:
        """Whether this smbd listens, alone, and answers. Two smbd of one user may have one port, and share its clients.

        It is asked where it listens: what it was told may be a network, or an interface's name.
        """
        own = _sockets_of(pid)
        listeners = _listeners(self.port)
        hosts = {host for number, host in listeners.items() if number in own}
        if any(host in hosts for number, host in listeners.items() if number not in own):
            raise self._port_is_taken()
        for host in sorted(hosts)[:1]:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((_ANY.get(host, host), self.port), 1.0) as connection,
            ):
                connection.settimeout(5.0)
                connection.sendall(len(_NEGOTIATE).to_bytes(4, "big") + _NEGOTIATE)
                return connection.recv(8)[4:] == _SMB2
        return False

    def _last_word(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.folder / "log" / "log.smbd").read_text(encoding="utf-8", errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.startswith(" ")), "")
        return ""

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until it ends; return its exit status, or None when `timeout` seconds were over first."""
        if self._process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    def close(self) -> None:
        """End it, with the processes that it has for its clients. Closing twice is no error."""
        _running.discard(self)
        process, self._process = self._process, None
        lock, self._lock = self._lock, None
        try:
            if process is not None:
                _end(process)
        finally:
            if lock is not None:
                os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_running: Final[weakref.WeakSet[PrivateSmbd]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for smbd in tuple(_running):
        smbd._forget()  # noqa: SLF001
    _running.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _end(process: subprocess.Popen[bytes]) -> None:
    group = process.pid  # it leads a session of its own
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _locked(path: Path, folder: Path) -> int:
    """Take a folder's lock, which goes with its descriptor. Raises PipeStateError (50) when another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise PipeStateError(
            WinError.NOT_SUPPORTED,
            detail=f"another smbd runs in {folder}",
            hint="choose another folder (--dir), or end that one",
        ) from error
    return descriptor


def _listeners(port: int) -> dict[int, str]:
    """Return the sockets that listen at a TCP port: their inodes, and the addresses."""
    found: dict[int, str] = {}
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):  # there is no IPv6
            for line in Path(path).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                address, _, number = fields[1].partition(":")
                if fields[3] == _LISTEN and int(number, 16) == port:
                    words = struct.unpack(f">{len(address) // 8}I", bytes.fromhex(address))
                    raw = struct.pack(f"={len(words)}I", *words)
                    found[int(fields[9])] = str(ipaddress.ip_address(raw))
    return found


def _sockets_of(pid: int) -> set[int]:
    """Return the inodes of a process's sockets."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # it ends
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
    return found


def _make_folder(path: Path) -> None:
    """Make a folder, of this user alone whatever the umask, if it is not there."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(0o700)  # the umask may have taken from it what is needed


def _make_file(path: Path) -> None:
    """Make an empty file, of this user alone whatever the umask, if it is not there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    _make_file(path)
    path.write_text(text, encoding="utf-8")


def _check_ours(path: Path) -> None:
    """Refuse what somebody else may write: smbd would do as it says, and tell them the users' passwords."""
    for status in (path.lstat, path.stat) if path.exists() else ():
        found = status()
        writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not stat.S_ISLNK(found.st_mode)
        if found.st_uid not in (0, os.geteuid()) or writable:
            raise PipeAccessError(
                WinError.ACCESS_DENIED,
                detail=f"{path} is another user's, or others may write to it",
                hint="choose a folder of your own, or take the others' right (chmod go-w)",
            )


def _claims(line: str) -> str:
    """Return the name, the first of a line of a username map."""
    return line.partition("=")[2].strip().removeprefix('"').partition('"')[0].casefold()
