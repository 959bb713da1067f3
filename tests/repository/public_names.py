"""What npipe offers, and promises to keep: `python -m tests.repository.public_names` writes public_names.txt anew."""

from __future__ import annotations

import importlib
import pkgutil
import textwrap
from types import ModuleType
from typing import Final

import npipe
from tests.helpers import CHECKOUT

LIST: Final = CHECKOUT / "tests" / "repository" / "public_names.txt"

MODULES: Final = (
    "npipe",
    "npipe.aio",
    "npipe.anyio",
    "npipe.connection",
    "npipe.pytest_plugin",
    "npipe.relay",
    "npipe.remote",
    "npipe.samba",
    "npipe.servers",
    "npipe.win32",
    "npipe.win32.completion",
    "npipe.win32.ntsecuritycon",
    "npipe.win32.pywintypes",
    "npipe.win32.servicemanager",
    "npipe.win32.win32api",
    "npipe.win32.win32con",
    "npipe.win32.win32console",
    "npipe.win32.win32event",
    "npipe.win32.win32file",
    "npipe.win32.win32gui",
    "npipe.win32.win32pipe",
    "npipe.win32.win32process",
    "npipe.win32.win32security",
    "npipe.win32.win32service",
    "npipe.win32.win32serviceutil",
    "npipe.win32.win32timezone",
    "npipe.win32.winerror",
    "npipe.win32.winioctlcon",
)
"""Where programs find things."""

INTERNAL: Final = (
    "npipe.aio.",
    "npipe.arrival",
    "npipe.async_iteration",
    "npipe.async_pipe",
    "npipe.binding",
    "npipe.cli",
    "npipe.clients",
    "npipe.errors",
    "npipe.exporting",
    "npipe.figures",
    "npipe.inspecting",
    "npipe.listener",
    "npipe.loops",
    "npipe.names",
    "npipe.observing",
    "npipe.opening",
    "npipe.options",
    "npipe.peers",
    "npipe.pipe",
    "npipe.pool",
    "npipe.pooling",
    "npipe.reasons",
    "npipe.relay.",
    "npipe.remote_access",
    "npipe.samba.",
    "npipe.servers.",
    "npipe.tapping",
    "npipe.tracing",
    "npipe.transports",
    "npipe.views",
    "npipe.win32_error",
)
"""Where those things are made. Programs import none of these, which may move or go at any time."""


def modules() -> set[str]:
    """Every module that has no underscore before its name, or that of a package above it."""
    found = {"npipe"} | {module.name for module in pkgutil.walk_packages(npipe.__path__, "npipe.")}
    return {name for name in found if not any(part.startswith("_") for part in name.split("."))}


def is_internal(module: str) -> bool:
    """Whether a module is one of INTERNAL, or below one; `a.` is for what is below a alone."""
    return module in INTERNAL or any(module.startswith(f"{one.rstrip('.')}.") for one in INTERNAL)


def names(module: str) -> list[str]:
    """What a module offers: its `__all__`, or all that has no underscore and is no module."""
    found = importlib.import_module(module)
    if hasattr(found, "__all__"):
        return sorted(found.__all__)
    return sorted(
        name
        for name, value in vars(found).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and name not in {"annotations", "TYPE_CHECKING"}
        and getattr(value, "__module__", None) != "typing"
    )


def text() -> str:
    """The list, as the file has it."""
    parts = []
    for module in MODULES:
        lines = textwrap.wrap(" ".join(names(module)), 118, break_long_words=False, break_on_hyphens=False)
        parts.append("\n".join([module, *(f"  {line}" for line in lines)]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    LIST.write_text(text(), encoding="utf-8")
