"""`os.environ` with the variables that Windows always has."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Environment"]


def _temporary() -> str:
    return os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - where the system has it


def _home() -> str:
    return str(Path("~").expanduser())


def _under_home(variable: str, *rest: str) -> str:
    return os.environ.get(variable) or str(Path(_home(), *rest))


def _computer() -> str:
    return socket.gethostname().partition(".")[0].upper()


_DEFAULTS: Final[dict[str, Callable[[], str]]] = {
    "TEMP": _temporary,
    "TMP": _temporary,
    "USERNAME": getpass.getuser,
    "USERDOMAIN": _computer,
    "COMPUTERNAME": _computer,
    "USERPROFILE": _home,
    "APPDATA": lambda: _under_home("XDG_CONFIG_HOME", ".config"),
    "LOCALAPPDATA": lambda: _under_home("XDG_DATA_HOME", ".local", "share"),
    "HOMEDRIVE": lambda: "",  # the two are put together
    "HOMEPATH": _home,
    "PROGRAMDATA": lambda: "/var/lib",
    "ALLUSERSPROFILE": lambda: "/var/lib",
    "PROGRAMFILES": lambda: "/opt",
    "PROGRAMFILES(X86)": lambda: "/opt",
    "PROGRAMW6432": lambda: "/opt",
    "COMMONPROGRAMFILES": lambda: "/usr/share",
    "SYSTEMROOT": lambda: "/usr",
    "WINDIR": lambda: "/usr",
    "SYSTEMDRIVE": lambda: "/",
    "COMSPEC": lambda: "/bin/sh",
    "NUMBER_OF_PROCESSORS": lambda: str(os.cpu_count() or 1),
    "OS": lambda: "Windows_NT",
}
"""What Windows has, and where the same is here."""


class Environment(MutableMapping[str, str]):
    """`os.environ` in Windows' way: a name in any case, and a few variables that are always there.

    What is set is set in `os.environ`, so for all; what Windows would have besides is only seen here. It is found by
    name and not listed, so that a copy that is put back later (`mock.patch.dict`) does not set it for all.
    """

    def __init__(self) -> None:
        self._deleted: set[str] = set()  # of what Windows has besides

    def _key(self, key: Any) -> str | None:
        """Return the variable that a name means, if there is one."""
        if not isinstance(key, str):
            raise TypeError(f"str expected, not {type(key).__name__}")
        if key in os.environ:
            return key
        wanted = key.upper()
        return next((one for one in os.environ if one.upper() == wanted), None)

    def __getitem__(self, key: str) -> str:
        known = self._key(key)
        if known is not None:
            return os.environ[known]
        default = _DEFAULTS.get(key.upper())
        if default is None or key.upper() in self._deleted:
            raise KeyError(key)
        return default()

    def __setitem__(self, key: str, value: str) -> None:
        os.environ[self._key(key) or key] = value
        self._deleted.discard(key.upper())

    def __delitem__(self, key: str) -> None:
        known, name = self._key(key), key.upper()
        if known is not None:
            del os.environ[known]
        elif name not in _DEFAULTS or name in self._deleted:
            raise KeyError(key)
        if name in _DEFAULTS:
            self._deleted.add(name)

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)

    def __repr__(self) -> str:
        return f"environ({dict(self)!r})"

    def clear(self) -> None:
        """Remove all that is set; what Windows has besides is seen then."""
        os.environ.clear()

    def copy(self) -> dict[str, str]:
        """Return a dictionary of all."""
        return dict(self)

    def __or__(self, other: Any) -> dict[str, str]:
        return {**self, **other}

    def __ror__(self, other: Any) -> dict[str, str]:
        return {**other, **self}

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self
