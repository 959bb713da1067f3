"""pywin32's times: `datetime` with a method more."""
# ruff: noqa: N802 - pywin32's names

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NO_TIME", "Time", "TimeStamp", "TimeType", "time_of"]

_SINCE_1601: Final = 11644473600  # seconds until 1970
_LATEST: Final = 253402300799  # 9999-12-31 23:59:59, in seconds since 1970


class TimeType(dt.datetime):
    """A point in time, as pywin32 returns it: a `datetime`, in UTC if it comes from the system."""

    def Format(self, text: str = "%c", /) -> str:
        """Return strftime's text."""
        return self.strftime(text)


TimeType.__name__ = TimeType.__qualname__ = "datetime"
TimeType.__module__ = "pywintypes"


def Time(timeRepr: Any, /) -> Any:  # noqa: N803
    """Return a time: of a number, seconds since 1970, in UTC; of a time tuple, local and naive.

    A tuple may have milliseconds behind it. A datetime is returned as it is.
    """
    if isinstance(timeRepr, dt.datetime):
        return timeRepr
    given = timeRepr.timetuple() if hasattr(timeRepr, "timetuple") else timeRepr
    if isinstance(given, (tuple, list)):
        return _of_tuple(given)
    try:
        seconds = int(given)
    except (TypeError, ValueError):
        kind = type(given).__name__
        raise TypeError(f"Objects of type '{kind}' can not be used as a time object") from None
    return TimeType.fromtimestamp(seconds, tz=dt.UTC)


def _of_tuple(parts: Sequence[int]) -> TimeType:
    if len(parts) not in (9, 10):
        raise TypeError(f"function takes 9 or 10 arguments ({len(parts)} given)")
    milliseconds = parts[9] if len(parts) == 10 else 0
    year, *rest = parts[:9]
    if 69 <= year <= 99:
        year += 1900
    elif 0 <= year <= 68:
        year += 2000
    elif year < 1900:
        raise ValueError("year out of range")
    seconds = time.mktime((year, *rest))  # type: ignore[arg-type]  # nine of them
    return TimeType.fromtimestamp(seconds + milliseconds / 1000)


def TimeStamp(timestamp: int, /) -> dt.datetime:
    """Return the time of a FILETIME: 100 ns since 1601. What is later than a datetime can be is `datetime.max`."""
    if not -(2**63) <= timestamp < 2**63:
        raise OverflowError("int too big to convert")
    return time_of(timestamp / 1e7 - _SINCE_1601)


def time_of(seconds: float) -> dt.datetime:
    """Return the time of seconds since 1970, in milliseconds and UTC, as a SYSTEMTIME has it."""
    if seconds > _LATEST:
        return dt.datetime.max  # noqa: DTZ901 - as pywin32
    epoch = TimeType(1970, 1, 1, tzinfo=dt.UTC)
    return epoch + dt.timedelta(milliseconds=int(seconds * 1000 // 1))


NO_TIME: Final = TimeType(1601, 1, 1, tzinfo=dt.UTC)
"""The time of a FILETIME of 0, which is what pipes have."""
