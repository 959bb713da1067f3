"""Whether a client of another machine may come in: nobody who is not named, and guests only as guests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from npipe.remote_access import RemoteAccess
    from npipe.transports.export.handshake import Identity

__all__ = ["kind_of", "refusal"]

_GUESTS: Final = frozenset({"S-1-5-32-546"})
_ANONYMOUS: Final = frozenset({"S-1-5-7"})


def kind_of(who: Identity) -> str:
    """Return "user", "guest" or "anonymous"."""
    return "user" if who.known else "anonymous" if who.anonymous else "guest"


def refusal(access: RemoteAccess, who: Identity) -> str | None:
    """Return why `who` may not come in, for the log; None: it may.

    A guest or an anonymous client has proved nothing: it has names, groups and SIDs too, of which none counts but those
    that say what it is. The name that a client claims is not looked at (it is not even in an Identity).
    """
    if access.require_encryption and not who.encrypted:
        return "its connection is not encrypted"
    if who.known:
        named = (
            access.authenticated
            or who.unix_user in access.users
            or (who.domain.casefold(), who.account.casefold()) in access.domain_users
            or not access.sids.isdisjoint(who.sids)
            or any(group in access.groups for group in (who.gid, *who.groups))
        )
    elif who.anonymous:
        named = access.anonymous or not access.sids.isdisjoint(_ANONYMOUS)
    else:
        named = access.guests or not access.sids.isdisjoint(_GUESTS)
    return None if named else "it is not among those who are allowed"
