"""Who asks for a module: the standard library, the program's own modules, or a package."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["is_below", "is_library", "is_own", "package_of"]

_LIBRARY: Final = tuple(
    {
        os.path.join(os.path.realpath(place), "")  # noqa: PTH118 - it ends with a separator, which a Path has not
        for place in (
            str(Path(os.__file__).parent),
            sysconfig.get_path("stdlib"),
            sysconfig.get_path("platstdlib"),
        )
    }
)
"""Where the standard library is."""

_OURS: Final = os.path.join(os.path.realpath(Path(__file__).parents[1]), "")  # noqa: PTH118
_PACKAGES: Final = ("site-packages", "dist-packages")
_TESTS: Final = os.path.join("test", "")  # noqa: PTH118
_MAINS: Final = ("__main__", "__mp_main__")  # the latter is what a spawned process calls its parent's


def is_library(namespace: Mapping[str, Any]) -> bool:
    """Return whether the module with these globals is the standard library's, or npipe's own.

    A file decides by where it is: a program may have a `queue.py`, and `python -m unittest` runs a file of the
    library's as `__main__`. What has none is the program's (`-c`, a notebook's cell) unless its name is built in.
    """
    file = namespace.get("__file__")
    if isinstance(file, str):
        return _is_library_file(file)
    name = namespace.get("__name__")
    if not isinstance(name, str) or name in _MAINS:
        return False
    origin = getattr(namespace.get("__spec__"), "origin", None)
    return origin in ("built-in", "frozen") or name.partition(".")[0] in sys.stdlib_module_names


def is_own(namespace: Mapping[str, Any], start: str) -> bool:
    """Return whether the module with these globals is the program itself, or is beside it.

    Beside it: in or below the folder of the script; with `-m`, in the package that is run, or in or below `start`,
    the current folder when the program began (none if it is empty); with `-c`, or a command that a package has
    installed (`pytest`), there too. Nothing below a `site-packages` there is.
    """
    if is_library(namespace):
        return False
    if namespace.get("__name__") in _MAINS:
        return True
    file = namespace.get("__file__")
    main = sys.modules.get("__main__")
    parent = getattr(getattr(main, "__spec__", None), "parent", None)
    if parent and package_of(namespace) == parent.partition(".")[0]:
        return True
    if not isinstance(file, str):
        return False
    script = getattr(main, "__file__", None)
    is_script = isinstance(script, str) and getattr(main, "__spec__", None) is None
    if is_script and _is_below(file, str(Path(str(script)).parent)):
        return True
    return (not is_script or _is_command(str(script))) and start != "" and _is_below(file, start)


def is_below(namespace: Mapping[str, Any], folder: str) -> bool:
    """Return whether the module with these globals is in or below a folder, and no package in a `site-packages`."""
    file = namespace.get("__file__")
    return isinstance(file, str) and _is_below(file, folder)


def package_of(namespace: Mapping[str, Any]) -> str:
    """Return the name of the top-level package or module that the module with these globals belongs to."""
    name = namespace.get("__name__")
    if name in _MAINS:
        name = namespace.get("__package__")
    return name.partition(".")[0] if isinstance(name, str) else ""


@lru_cache(maxsize=4096)
def _is_library_file(file: str) -> bool:
    if file.startswith("<frozen "):
        return True
    path = os.path.realpath(file)
    if path.startswith(_OURS):
        return True
    return any(path.startswith(place) and not _is_beside(path[len(place) :]) for place in _LIBRARY)


@lru_cache(maxsize=64)
def _is_command(script: str) -> bool:
    """Return whether a script is one that a package has installed beside the interpreter."""
    places = {
        str(Path(sys.executable).parent),
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")),
    }
    return os.path.realpath(Path(script).parent) in {os.path.realpath(place) for place in places}


@lru_cache(maxsize=4096)
def _is_below(file: str, folder: str) -> bool:
    path, start = os.path.realpath(file), os.path.join(os.path.realpath(folder), "")  # noqa: PTH118
    return path.startswith(start) and not _has_packages(path[len(start) :])


def _is_beside(rest: str) -> bool:
    """Return whether a file below the library's folder is no part of it: a package's, or one of its tests."""
    return _has_packages(rest) or rest.startswith(_TESTS)


def _has_packages(rest: str) -> bool:
    return any(part in _PACKAGES for part in Path(rest).parts)
