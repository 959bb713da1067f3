"""Letting clients of other machines open pipes of this one, through Samba."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, NoReturn, Protocol, Self

from npipe._display import refuse_construction
from npipe._process import check_threads, refuse_copy
from npipe.errors import PipeStateError, WinError
from npipe.names import parse_name
from npipe.options import flag
from npipe.reasons import server_elsewhere
from npipe.remote_access import remote_access

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from types import TracebackType

    from npipe.names import PipeName
    from npipe.remote_access import RemoteAccess

__all__ = ["Export", "export", "open_to_network"]


class _Gate(Protocol):
    """What is open, in the gateway."""

    @property
    def closed(self) -> bool: ...

    def close(self) -> None: ...


class Export:
    """A pipe that clients of other machines may open; `export` returns it, and `with` closes it."""

    def __init__(self, *_: object, **__: object) -> None:
        refuse_construction("npipe.Export")

    @classmethod
    def _made(cls, name: PipeName, access: RemoteAccess, *, verify_owner: bool, awaits_pipe: bool) -> Self:
        self = cls.__new__(cls)
        self._begin(name, access, verify_owner=verify_owner, awaits_pipe=awaits_pipe)
        return self

    def _begin(self, name: PipeName, access: RemoteAccess, *, verify_owner: bool, awaits_pipe: bool) -> None:
        self._name = name
        self._access = access
        self._gate: _Gate
        if sys.platform == "win32":
            raise PipeStateError(
                WinError.NOT_SUPPORTED,
                name.path,
                "exporting the pipe",
                "it is the system itself that lets other machines in",
                hint="open the pipe without PIPE_REJECT_REMOTE_CLIENTS",
            )
        else:  # noqa: RET506 - for type checkers
            # Not before it is asked for: it needs asyncio.
            from npipe.transports.export.gateway import Export as Gate

            self._gate = gate = Gate(name, access, verify_owner=verify_owner, awaits_pipe=awaits_pipe)
            weakref.finalize(self, gate.close).atexit = False  # the gateway's own end sees to that

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: an export can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and export it there with npipe.export")

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""
        return self._name.path

    @property
    def samba_dir(self) -> str:
        """Where smbd finds it: its `external_rpc_pipe:socket_dir`, or its `ncalrpc dir`."""
        return self._access.directory

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._gate.closed

    def close(self) -> None:
        """Let nobody in any more. Clients that have an instance keep it. Closing twice is no error."""
        self._gate.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<npipe.Export {self.name!r}, {'closed' if self.closed else 'open'}, at {self.samba_dir}>"


def open_to_network(name: PipeName, access: RemoteAccess) -> Export:
    """Export a pipe of this process, which has instances from now until the export is closed."""
    return Export._made(name, access, verify_owner=True, awaits_pipe=False)  # noqa: SLF001


def export(
    name: str | os.PathLike[str],
    *,
    allow: str | Iterable[str],
    require_encryption: bool = False,
    samba_dir: str | os.PathLike[str] | None = None,
    verify_owner: bool = True,
) -> Export:
    r"""Let clients of other machines open a local pipe, of whatever process of this user's, until this is closed.

    They come through Samba's smbd on this machine, which is told where to look for pipes: docs/remote.md. The pipe may
    come later, and come and go; what then keeps it from being exported is logged, and tried again every second. Its own
    `security` says who of this machine may come in, and `allow` alone who of others; what clients may do there, read
    and write, holds for both. The pipe's server knows them by `pipe.peer`. A server of this process has it shorter:
    `listen(..., remote="samba", allow=...)`.

    Args:
        name: the pipe's name.
        allow: who may come in, a name or several; nobody who is not named:

            - `NAME`: the user of this system for whom Samba takes the client;
            - `DOMAIN\NAME`: an account of a domain, as Samba tells it;
            - `group:NAME`: a group of this system;
            - `S-1-...`: a SID that the client has;
            - "authenticated": whoever has proved who it is;
            - "guests", "anonymous": clients that have not. No other word lets them in.

        require_encryption: whether to let in only who has opened the pipe over an encrypted connection.
        samba_dir: smbd's `external_rpc_pipe:socket_dir`, or its `ncalrpc dir`; None: $NPIPE_SAMBA_DIR, or else
            /run/samba/ncalrpc.
        verify_owner: whether the pipe has to be this user's or root's. Root may export another user's without.

    Returns:
        An Export.

    Raises:
        PipeArgumentError: an entry of `allow` is none, or names a group that does not exist (87).
        PipeNameError: the name is none, or of another machine, or the path of its socket is too long (123, 3).
        PipeAccessError: another process exports the pipe, something else has its socket's name, this user may not put
            sockets into samba_dir, or other users may, or it is another user's (5).
        PipeStateError: there is no such folder, or this is Windows (50).
    """
    parsed = parse_name(name)
    if parsed.host is not None:
        raise server_elsewhere(parsed.path, parsed.host, parsed.here)
    access = remote_access(allow=allow, require_encryption=require_encryption, samba_dir=samba_dir)
    verify_owner = flag(verify_owner, "verify_owner")
    check_threads(parsed.path, "exporting")
    return Export._made(parsed, access, verify_owner=verify_owner, awaits_pipe=True)  # noqa: SLF001
