"""Those of other machines who have no instance yet: how many there may be, and who gives way if there are too many."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import ipaddress
import logging
import resource
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from npipe._text import printable
from npipe.transports.export.rule import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.transports.export.handshake import Identity

__all__ = ["Crowd", "Place", "Who", "display", "who_waits"]

logger: Final = logging.getLogger("npipe")

# Of the descriptors that this process may have, as the limit stands when one comes. Each client that waits takes up to
# three: its connection, the request, and that at the pipe's owner, which may be this process.
_WAITING_PART: Final = 8
_SILENT_PART: Final = 16  # connections of which smbd has not said yet whose they are; the others wait in the backlog
_MOST_WAITING: Final = 1024
_SPELL: Final = 10.0  # seconds in which clients that are too many are told of in one line


class Who(NamedTuple):
    """Whose share of the places a client's is, and whose share of that."""

    user: tuple[str, ...]
    """One who has proved who it is, wherever it comes from. Guests and anonymous clients are one user together: they
    have names for the asking."""

    address: str
    """Where it comes from: of IPv6 the network, of which one machine has as many addresses as it likes."""


def who_waits(who: Identity) -> Who:
    """Return whose place it takes."""
    user = (who.domain.casefold(), who.account.casefold(), str(who.uid)) if who.known else ()
    return Who(user, _network(who.address))


def _network(address: str) -> str:
    if not address:
        return address
    ip = ipaddress.ip_address(address)
    if ip.version == 4 or ip.is_link_local:
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.IPv6Address(int(ip) >> 64 << 64))


def display(who: Identity) -> str:
    """Return what a line of the log calls it."""
    kind = kind_of(who)
    name = rf"{who.domain}\{who.account}" if kind == "user" else f"a client that is {kind}"
    return printable(name)


class Place:
    """A connection's place among those that have no instance yet."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._who: Who | None = None
        self._left = False
        self.give_way: Callable[[], bool] = lambda: False
        """Turn the connection away. False: it cannot be any more, for it is getting an instance."""
        crowd.silent += 1

    def known(self, who: Who, give_way: Callable[[], bool]) -> bool:
        """Be told whose it is. False: too many wait, and no other gives way to it."""
        assert self._who is None  # noqa: S101 - once
        if not self._crowd.make_room_for(who):
            return False
        self._who = who
        self.give_way = give_way
        self._crowd.add(who, self)
        self._crowd.one_is_heard()
        return True

    def leave(self, _task: object = None) -> None:
        """Wait no longer. Leaving twice is no error."""
        if self._left:
            return
        self._left = True
        if self._who is None:
            self._crowd.one_is_heard()
        else:
            self._crowd.remove(self._who, self)


class Crowd:
    """Those that have no instance yet, in all exports: one who may come in must not use up the descriptors."""

    def __init__(self) -> None:
        self.silent: int = 0
        self.waiting: int = 0
        self._users: dict[tuple[str, ...], _User] = {}
        self._when_heard: list[Callable[[], None]] = []
        self._told_at = -_SPELL
        self._untold = 0

    def enter(self) -> Place:
        """Have a place for a connection of which nobody knows whose it is."""
        return Place(self)

    def hears_enough(self) -> bool:
        """Whether no more is to be accepted before some have said whose they are."""
        return self.silent >= _part(_SILENT_PART)

    def when_heard(self, function: Callable[[], None]) -> None:
        """Have something called, once, when a connection can be accepted again."""
        self._when_heard.append(function)

    def one_is_heard(self) -> None:
        """Note that a connection has said whose it is, or has ended."""
        self.silent -= 1
        functions, self._when_heard = self._when_heard, []
        for function in functions:
            function()

    def add(self, who: Who, place: Place) -> None:
        """Note that somebody waits."""
        user = self._users.setdefault(who.user, _User())
        user.count += 1
        user.addresses.setdefault(who.address, {})[place] = None
        self.waiting += 1

    def remove(self, who: Who, place: Place) -> None:
        """Note that it does no longer."""
        user = self._users[who.user]
        places = user.addresses[who.address]
        del places[place]
        if not places:
            del user.addresses[who.address]
        user.count -= 1
        if not user.count:
            del self._users[who.user]
        self.waiting -= 1

    def make_room_for(self, who: Who) -> bool:
        """Whether one more of these may wait.

        If all places are taken, the user who has most of them loses one, of its addresses the one that has most, and
        there the youngest; unless that would leave it with fewer than the one who comes has then. If all of those are
        about to get an instance, it is the next address, or user, that has more.
        """
        if self.waiting < _part(_WAITING_PART):
            return True
        own = self._users.get(who.user)
        count = own.count if own else 0
        for user in sorted(self._users.values(), key=lambda user: user.count, reverse=True):
            if user.count <= count + 1:
                break
            if user is not own and user.loses_one():
                return True
        return own is not None and own.loses_one(len(own.addresses.get(who.address, ())) + 1)

    def tell(self, path: str, who: Identity, why: str) -> None:
        """Log that one is turned away for there are too many: one line for all within _SPELL."""
        now = time.monotonic()
        if now - self._told_at < _SPELL:
            self._untold += 1
            return
        others, self._untold, self._told_at = self._untold, 0, now
        logger.warning(
            "%s: %s of %s is turned away: %s (and %d others before it, since the last such line)",
            path,
            display(who),
            who.address,
            why,
            others,
        )


class _User:
    """One user's places, by address; the oldest of an address first."""

    def __init__(self) -> None:
        self.count = 0
        self.addresses: dict[str, dict[Place, None]] = {}

    def loses_one(self, beyond: int = 0) -> bool:
        """Turn one away, at the address that has most, if that has more than `beyond`."""
        for places in sorted(self.addresses.values(), key=len, reverse=True):
            if len(places) <= beyond:
                break
            for place in reversed(places):
                if place.give_way():
                    place.leave()
                    return True
        return False


def _part(part: int) -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_WAITING if limit == resource.RLIM_INFINITY else max(1, min(_MOST_WAITING, limit // part))
