"""Who of other machines may open a pipe, and by which way they come: what `listen` and `export` are told of it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from npipe.errors import PipeArgumentError, WinError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEFAULT_SAMBA_DIR", "Remote", "RemoteAccess", "remote_access"]

Remote = Literal["samba"]
"""By which way clients of other machines come."""

DEFAULT_SAMBA_DIR: Final = "/run/samba/ncalrpc"
"""Samba's `ncalrpc dir` as distributions build it."""

_SID: Final = re.compile(r"S-1-\d+(-\d+)*\Z")
_WORDS: Final = ("authenticated", "guests", "anonymous")
_NOT_EVERYONE: Final = 'there is no "everyone" for a network: name them all, ("authenticated", "guests", "anonymous")'


@dataclass(frozen=True)
class RemoteAccess:
    """What was asked for, checked. Nobody comes in who is not named."""

    directory: str
    """Where smbd looks for pipes: its `external_rpc_pipe:socket_dir`, or its `ncalrpc dir`."""
    users: frozenset[str]
    """Users of this system, as Samba maps them."""
    domain_users: frozenset[tuple[str, str]]
    """Domain and account, in lower case."""
    groups: tuple[int, ...]
    """Groups of this system."""
    sids: frozenset[str]
    authenticated: bool
    """Whoever has proved who it is."""
    guests: bool
    anonymous: bool
    require_encryption: bool


def remote_access(
    *,
    allow: str | Iterable[str] = (),
    require_encryption: bool = False,
    samba_dir: str | os.PathLike[str] | None = None,
) -> RemoteAccess:
    """Check who may come in: see npipe.export. Raises PipeArgumentError (87), and TypeError for another type."""
    names = (allow,) if isinstance(allow, str) else tuple(allow)
    users, domain_users, groups, sids = set(), set(), set(), set()
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"allow is names of users, not {type(name).__name__}")
        if not name or "\0" in name:
            raise _bad(f"allow is names of users, not {name!r}")
        if name in _WORDS:
            continue
        if name == "everyone":
            raise _bad(_NOT_EVERYONE)
        if _SID.match(name):
            sids.add(name)
        elif name.startswith("group:"):
            groups.add(_group(name.removeprefix("group:")))
        elif "\\" in name:
            domain, _, account = name.partition("\\")
            if not domain or not account:
                raise _bad(rf"a user of a domain is DOMAIN\USER, not {name!r}")
            domain_users.add((domain.casefold(), account.casefold()))
        else:
            users.add(name)
    if require_encryption is not True and require_encryption is not False:
        raise TypeError(f"require_encryption is True or False, not {type(require_encryption).__name__}")
    directory = samba_dir if samba_dir is not None else os.environ.get("NPIPE_SAMBA_DIR") or DEFAULT_SAMBA_DIR
    directory = str(Path(directory).absolute())  # a relative one would change its meaning with the current folder
    return RemoteAccess(
        directory=directory,
        users=frozenset(users),
        domain_users=frozenset(domain_users),
        groups=tuple(sorted(groups)),
        sids=frozenset(sids),
        authenticated="authenticated" in names,
        guests="guests" in names,
        anonymous="anonymous" in names,
        require_encryption=require_encryption,
    )


def _group(name: str) -> int:
    if sys.platform == "win32":
        raise _bad("groups by name are POSIX's")
    import grp  # here, for this module is imported on Windows too

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if name.isascii() and name.isdigit():
            return int(name)
        raise _bad(f"there is no group {name!r} on this system") from None


def _bad(detail: str) -> PipeArgumentError:
    return PipeArgumentError(WinError.INVALID_PARAMETER, detail=detail)
