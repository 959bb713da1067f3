"""From Windows' security descriptors to the rule that the engine checks a client against."""

from __future__ import annotations

import os
import sys
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Final, NamedTuple

from npipe.options import ACCESS_NONE, ACCESS_READ, ACCESS_WRITE, PIPE_ACCESS_DUPLEX, AccessRule
from npipe.win32._security import (
    ACCESS_ALLOWED_ACE_TYPE,
    ACCESS_DENIED_ACE_TYPE,
    SE_DACL_PRESENT,
    SECURITY_ATTRIBUTES,
)
from npipe.win32._sid import unix_id

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from npipe.win32._security import ACL
    from npipe.win32._sid import SID

__all__ = ["access_rule"]

_INHERIT_ONLY: Final = 0x8

_READING: Final = 0x90000001  # GENERIC_READ, GENERIC_ALL, FILE_READ_DATA
_WRITING: Final = 0x50000002  # GENERIC_WRITE, GENERIC_ALL, FILE_WRITE_DATA

_EVERYONE_HERE: Final = frozenset({"S-1-1-0", "S-1-5-11", "S-1-2-0", "S-1-5-32-545"})  # who has a process, has a user
_ROOT: Final = frozenset({"S-1-5-18", "S-1-5-32-544"})  # LocalSystem, Administrators
_OWNER: Final = frozenset({"S-1-3-4", "S-1-3-0"})  # owner rights, creator owner
# Groups that a process is in by the way it was started, which nothing here can tell: the interactive, the batch jobs …
_UNKNOWN_HERE: Final = frozenset(
    {"S-1-3-1", "S-1-5-1", "S-1-5-3", "S-1-5-4", "S-1-5-6", "S-1-5-10", "S-1-5-12", "S-1-5-13", "S-1-5-14"}
)


class _Who(NamedTuple):
    """Whom an entry is about."""

    kind: str
    number: int = 0


_EVERYONE: Final = _Who("everyone")
_SOME: Final = _Who("some")  # who knows which
_NOBODY: Final = _Who("nobody")  # nobody on this machine


class _Entry(NamedTuple):
    """What an entry of a list comes down to."""

    who: _Who
    allows: bool
    access: int


def access_rule(attributes: object, direction: int = PIPE_ACCESS_DUPLEX) -> AccessRule:
    r"""Return who may connect to a pipe that is created with a SECURITY_ATTRIBUTES or None, and for what.

    None, no descriptor, or a descriptor without a list: the current user. A list that is present and None: everyone.
    Otherwise whom the list allows to read or write, entries in their order, as far as an `AccessRule` can say it.
    `direction`, PIPE_ACCESS_*, tells which rights matter; the others are not compared. Everyone is S-1-1-0, and also
    Authenticated Users, BUILTIN\Users and LOCAL; LocalSystem and Administrators are root.

    Where an `AccessRule` cannot say what the list says, the stricter holds:

    - One access is for all. It is what the owner is granted; whoever is granted less is left out. Where the list does
      not name the owner it is what all who are named have in common, and none if that is nothing.
    - Nobody can be left out of a group, or of everyone. So what is denied to one user is denied to everyone, and to
      every group, by the entries that follow. Denying what no local client is, NETWORK for one, changes nothing.
    - INTERACTIVE, SERVICE and the like, which depend on how a process was started, are granted nothing; what is denied
      to one of them is denied to everyone.
    - Rights other than reading and writing data are not looked at.

    In two things it cannot be as strict as the list: the owner is never left out, and root always may.
    `TypeError` for what is neither a SECURITY_ATTRIBUTES nor None.
    """
    from npipe.binding import identity as _identity  # here: whoever only makes descriptors needs no engine

    me = _identity.effective_uid()
    owner_only = AccessRule((me,), (), False, ACCESS_READ | ACCESS_WRITE)
    if attributes is None:
        return owner_only
    if not isinstance(attributes, SECURITY_ATTRIBUTES):
        raise TypeError("The object is not a PySECURITY_ATTRIBUTES object")
    descriptor = attributes.SECURITY_DESCRIPTOR
    if descriptor is None or not descriptor.GetSecurityDescriptorControl()[0] & SE_DACL_PRESENT:
        return owner_only
    dacl = descriptor.GetSecurityDescriptorDacl()
    if dacl is None:
        return owner_only._replace(everyone=True)
    return _rule(me, _entries(dacl, me, direction))


def _rule(me: int, entries: list[_Entry]) -> AccessRule:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    granted = {who: _granted_to(who, entries) for who in _named(entries)}
    granted = {who: access for who, access in granted.items() if access}
    mine = {_Who("user", me), _EVERYONE, *(_Who("group", gid) for gid in (os.getegid(), *os.getgroups()))}
    access = _walk(entries, mine, mine)
    if not access and granted:
        access = reduce(and_, granted.values())
    let_in = {who for who, has in granted.items() if access and has & access == access}
    uids = {me, *(who.number for who in let_in if who.kind == "user")}
    gids = {who.number for who in let_in if who.kind == "group"}
    return AccessRule(tuple(sorted(uids)), tuple(sorted(gids)), _EVERYONE in let_in, access)


def _named(entries: Iterable[_Entry]) -> set[_Who]:
    return {entry.who for entry in entries if entry.allows and entry.who not in (_SOME, _NOBODY)}


def _granted_to(who: _Who, entries: list[_Entry]) -> int:
    """Return what one that is named is granted at the least, whatever groups a client of his is in besides."""
    denying = {entry.who for entry in entries} - {_NOBODY}
    if who.kind == "user":  # another user's entries are not about him; any group's may be
        denying = {other for other in denying if other.kind != "user"} | {who}
    return _walk(entries, {who, _EVERYONE}, denying)


def _walk(entries: Iterable[_Entry], allowed_as: Container[_Who], denied_as: Container[_Who]) -> int:
    """Return the access that is granted: the first entry that applies settles a right, as in AccessCheck."""
    settled = granted = ACCESS_NONE
    for who, allows, access in entries:
        if who in (allowed_as if allows else denied_as):
            if allows:
                granted |= access & ~settled
            settled |= access
    return granted


def _entries(dacl: ACL, me: int, direction: int) -> list[_Entry]:
    entries = []
    for ace in dacl.aces:
        access = (ACCESS_READ if ace.mask & _READING else 0) | (ACCESS_WRITE if ace.mask & _WRITING else 0)
        access &= _clients_access(direction)
        if ace.flags & _INHERIT_ONLY or ace.type not in (ACCESS_ALLOWED_ACE_TYPE, ACCESS_DENIED_ACE_TYPE):
            continue
        entries.append(_Entry(_who(ace.sid, me), ace.type == ACCESS_ALLOWED_ACE_TYPE, access))
    return entries


def _clients_access(direction: int) -> int:
    """Return what a client can do at most: an inbound pipe is one that he writes (SEMANTICS §2.5)."""
    return (ACCESS_READ if direction & 2 else 0) | (ACCESS_WRITE if direction & 1 else 0)


def _who(sid: SID, me: int) -> _Who:
    uid, gid = unix_id(sid)
    if uid is not None:
        return _Who("user", uid)
    if gid is not None:
        return _Who("group", gid)
    if sid.text in _EVERYONE_HERE:
        return _EVERYONE
    if sid.text in _ROOT:
        return _Who("user", 0)
    if sid.text in _OWNER:
        return _Who("user", me)
    return _SOME if sid.text in _UNKNOWN_HERE else _NOBODY
