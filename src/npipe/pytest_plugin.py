"""`pytest --npipe`: the doors for programs that use Windows' pipes, for a test session or for single tests.

A plugin of pytest's, found by its entry point; without `--npipe`, and where nobody asks for its fixtures, it does
nothing. docs/porting.md shows it.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.win32 import Installation

__all__ = ["npipe_windows", "pipe_name", "pytest_addoption", "pytest_itemcollected", "pytest_load_initial_conftests"]

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; see `pytest --help`."""
    group = parser.getgroup("npipe", "programs for Windows' named pipes (npipe)")
    group.addoption(
        "--npipe",
        action="store_true",
        help="open npipe's doors for the session: pywin32's modules, open() and os on pipes' names, asyncio's Proactor "
        "loop, ctypes' kernel32, _winapi and msvcrt, and all of it for child processes. On Windows: nothing.",
    )
    group.addoption(
        "--npipe-as-windows",
        action="store_true",
        help="with --npipe: the tests' own modules are told that they run on Windows (sys.platform, os.name)",
    )
    group.addoption(
        "--npipe-also",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="with --npipe: this package is told so too (may be given several times)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Open the doors before any conftest.py is imported: it may import what they lead to."""
    options = early_config.known_args_namespace
    if (options.npipe_as_windows or options.npipe_also) and not options.npipe:
        raise pytest.UsageError("--npipe-as-windows and --npipe-also go with --npipe")
    if options.npipe:
        told = [str(early_config.rootpath), *options.npipe_also] if options.npipe_as_windows else options.npipe_also
        # The cleanup comes at the session's end, be it one that a conftest.py has kept from beginning.
        early_config.add_cleanup(_install(told or False).uninstall)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let a test's doors be open before its other fixtures begin, and until they end: monkeypatch may stand on them."""
    names: list[str] = getattr(item, "fixturenames", [])
    if npipe_windows.__name__ in names:
        found = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
        scopes = {name: definitions[-1].scope for name, definitions in found.items()}
        names.remove(npipe_windows.__name__)
        first = next((at for at, name in enumerate(names) if scopes.get(name) == "function"), len(names))
        names.insert(first, npipe_windows.__name__)


def _install(platform: bool | list[str]) -> Installation:
    from npipe.win32 import install

    return install(files=True, asyncio=True, ctypes=True, winapi=True, children=True, platform=platform)


@pytest.fixture
def pipe_name() -> str:
    r"""Return the full name, `\\.\pipe\...`, of a pipe that nobody else uses."""
    return rf"\\.\pipe\pytest-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def npipe_windows() -> Iterator[Installation]:
    """Open the doors for one test: all that `--npipe` opens. Gives the Installation; on Windows it does nothing."""
    with _install(platform=False) as installation:
        yield installation
