"""`os.path` for those who are told: Windows' rules for names of pipes, and the system's own for all other paths."""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FUNCTIONS", "expanding"]

_DEVICES: Final = ("\\\\.\\", "\\\\?\\")
_VARIABLE: Final = re.compile("%([^%]*)%")


def _is_device(path: Any) -> bool:
    r"""Return whether a path begins with `\\.\` or `\\?\`, in slashes of either kind."""
    try:
        text = os.fsdecode(path)
    except (TypeError, ValueError):
        return False
    return text[:4].replace("/", "\\") in _DEVICES


def _of_one(name: str) -> Callable[..., Any]:
    def function(path: Any, *rest: Any, **keywords: Any) -> Any:
        chosen: Any = ntpath if _is_device(path) else posixpath
        return getattr(chosen, name)(path, *rest, **keywords)

    return function


def _join(path: Any, *paths: Any) -> Any:
    parts = (path, *paths)
    first = next((index for index in reversed(range(len(parts))) if _is_device(parts[index])), None)
    if first is None or any(posixpath.isabs(part) and not _is_device(part) for part in parts[first + 1 :]):
        return posixpath.join(path, *paths)
    return ntpath.join(*parts[first:])


def _normpath(path: Any) -> Any:
    """Return the path without `.`, `..` and doubled separators: of ntpath some versions leave such a path alone."""
    if not _is_device(path):
        return posixpath.normpath(path)
    path = os.fspath(path)
    text = os.fsdecode(path).replace("/", "\\")
    device, separator, rest = text[4:].partition("\\")
    parts: list[str] = []
    for part in rest.split("\\"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    text = text[:4] + device + separator + "\\".join(parts)
    return os.fsencode(text) if isinstance(path, bytes) else text


def _abspath(path: Any) -> Any:
    return _normpath(path) if _is_device(path) else posixpath.abspath(path)


def _realpath(path: Any, **keywords: Any) -> Any:
    return _normpath(path) if _is_device(path) else posixpath.realpath(path, **keywords)


def expanding(environment: Mapping[str, str]) -> Callable[[Any], Any]:
    """Return `os.path.expandvars`, which knows `%NAME%` beside `$NAME` and `${NAME}`; "%%" is a percent sign."""

    def value(found: re.Match[str]) -> str:
        return environment.get(found[1], found[0]) if found[1] else "%"

    def expandvars(path: Any) -> Any:
        path = os.fspath(path)
        text = posixpath.expandvars(_VARIABLE.sub(value, os.fsdecode(path)))
        return os.fsencode(text) if isinstance(path, bytes) else text

    return expandvars


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **{name: _of_one(name) for name in ("basename", "dirname", "isabs", "split", "splitdrive", "splitext")},
    "join": _join,
    "normpath": _normpath,
    "abspath": _abspath,
    "realpath": _realpath,
}
"""The functions of `os.path` that know pipes' names."""
