"""pywin32's `win32timezone`, as far as times of files and the start of a service name it."""
# ruff: noqa: N803 - pywin32's names

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from npipe.win32._offered import _no_such, _offered_by


class TimeZoneInfo(dt.tzinfo):
    """A time zone: `utc()`, or `local()`, which is this machine's. Windows' names of zones are not known here."""

    def __init__(self, timeZoneName: str, *, _is_known: bool = False) -> None:
        if not _is_known:
            raise ValueError(f"Timezone Name {timeZoneName!r} not found: npipe has TimeZoneInfo.utc() and .local()")
        self.timeZoneName = timeZoneName

    @classmethod
    def utc(cls) -> TimeZoneInfo:
        """Return UTC."""
        return cls("UTC", _is_known=True)

    @classmethod
    def local(cls) -> TimeZoneInfo:
        """Return this machine's zone."""
        return cls("local", _is_known=True)

    def utcoffset(self, when: dt.datetime | None, /) -> dt.timedelta | None:
        """Return how far a time of the zone is ahead of UTC."""
        return self._aware(when).utcoffset()

    def dst(self, _when: dt.datetime | None, /) -> dt.timedelta | None:
        """Return 0: what summer time adds is part of `utcoffset`."""
        return dt.timedelta(0)

    def tzname(self, when: dt.datetime | None, /) -> str | None:
        """Return what the zone is called at a time."""
        return self._aware(when).tzname()

    def fromutc(self, when: dt.datetime, /) -> dt.datetime:
        """Return a time of this zone for one in UTC."""
        if self.timeZoneName == "UTC":
            return when
        return when.replace(tzinfo=dt.UTC).astimezone().replace(tzinfo=self)

    def __eq__(self, other: object) -> bool:
        return self.timeZoneName == other.timeZoneName if isinstance(other, TimeZoneInfo) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.timeZoneName)

    def __repr__(self) -> str:
        return f"TimeZoneInfo({self.timeZoneName!r}, False)"

    def _aware(self, when: dt.datetime | None) -> dt.datetime:
        naive = dt.datetime.now() if when is None else when.replace(tzinfo=None)  # noqa: DTZ005 - this zone's
        return naive.replace(tzinfo=dt.UTC) if self.timeZoneName == "UTC" else naive.astimezone()


def now() -> dt.datetime:
    """Return the local time now, aware of its zone."""
    return dt.datetime.now(tz=TimeZoneInfo.local())


def utcnow() -> dt.datetime:
    """Return the time now in UTC, aware of it."""
    return dt.datetime.now(tz=TimeZoneInfo.utc())


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("win32timezone", name)


del annotations, TYPE_CHECKING
