"""What of npipe is public, and where the reference has it: by the modules themselves."""

from __future__ import annotations

import functools
import importlib
import inspect
import types
from typing import Any, Final

WIN32: Final = tuple(
    f"npipe.win32.{name}" for name in importlib.import_module("npipe.win32._modules").NAMES if name != "win32gui"
)

FACES: Final = (
    "npipe",
    "npipe.aio",
    "npipe.anyio",
    "npipe.connection",
    "npipe.remote",
    "npipe.servers",
    "npipe.relay",
    "npipe.pytest_plugin",
    "npipe.win32",
    "npipe.win32.completion",
    "npipe.options",
    "npipe._buffers",
    "npipe.pool",
    *WIN32,
    "npipe.views",
    "npipe.tracing.events",
)
"""Modules whose public names the reference has, those first under whose name a thing is to be known that several have.
Of the last ones it has some, as far as others name them."""

WORDS: Final = {
    "npipe.options": (
        "Mode",
        "Access",
        "Direction",
        "Model",
        "AccessRule",
        "ConnectOptions",
        "ListenOptions",
        "ServeOptions",
    ),
    "npipe._buffers": ("ReadableBuffer", "WriteableBuffer"),
    "npipe.views": ("Reservation", "MessageView", "AsyncReservation", "AsyncMessageView"),
    "npipe.tracing.events": ("Event", "Kind", "Flags"),
    "npipe.pool": (),
    "npipe.servers": ("Handler",),
    "npipe.remote": ("Auth", "configure", "configured", "forget"),
    "npipe.pytest_plugin": ("EchoServer", "PipeMessage", "PipeTrace"),
}
"""Of modules that are no face as a whole: what of them a user meets in signatures, or may use."""


def public_names(module: str) -> list[str]:
    """Return the names that the reference has of a module, without constants of Win32's modules."""
    if module in WORDS:
        return list(WORDS[module])
    found = importlib.import_module(module)
    if module in WIN32 or module == "npipe.win32.completion":
        listed = getattr(found, "__all__", None) or [name for name in vars(found) if not name.startswith("_")]
        return [name for name in listed if _is_own(name, getattr(found, name, None))]
    return [name for name in found.__all__ if not isinstance(getattr(found, name, None), types.ModuleType)]


def _is_own(name: str, thing: Any) -> bool:
    """Whether a name of a module of Win32's is a function or class that is at home there."""
    if not callable(thing) or (not inspect.isclass(thing) and getattr(thing, "__name__", name) != name):
        return False
    made_in = str(getattr(thing, "__module__", ""))
    return not made_in.startswith("npipe.") or made_in.split(".")[1] not in ("options", "peers", "_buffers", "reasons")


def constants(module: str) -> dict[str, Any]:
    """Return the constants of a module of Win32's, by their names."""
    found = importlib.import_module(module)
    return {
        name: value
        for name, value in vars(found).items()
        if name[:1].isupper() and isinstance(value, (int, str, float)) and not isinstance(value, type)
    }


@functools.cache
def homes() -> dict[str, str]:
    """Return the public full name of everything that the reference has, by each of its names."""
    found: dict[str, str] = {}
    by_thing: dict[int, str] = {}
    things: dict[str, Any] = {}
    for module in FACES:
        for name in public_names(module):
            full = f"{module}.{name}"
            things[full] = thing = getattr(importlib.import_module(module), name, None)
            home = by_thing.setdefault(id(thing), full) if callable(thing) else full
            found[full] = home
            if callable(thing):
                found.setdefault(f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}", home)
                found.setdefault(getattr(thing, "__qualname__", ""), home)
    for full, thing in things.items():
        if inspect.isclass(thing):
            for member in dir(thing):
                if not member.startswith("_"):
                    maker = next((one for one in thing.__mro__ if member in vars(one)), thing)
                    home = f"{by_thing.get(id(maker), found[full])}.{member}"
                    found.setdefault(f"{full}.{member}", home)
                    found.setdefault(f"{thing.__module__}.{thing.__qualname__}.{member}", home)
            for member in getattr(thing, "__annotations__", {}):
                found.setdefault(f"{full}.{member}", f"{found[full]}.{member}")
    return found


def home_of(name: str, module: str | None, kind: str | None) -> str | None:
    """Return the public full name of what a docstring or signature names, seen from where it stands; None: nothing."""
    known = homes()
    tried = [name] if "." in name else []
    if kind:
        tried.append(f"{module}.{kind}.{name}" if module and not kind.startswith("npipe") else f"{kind}.{name}")
    if module:
        tried.append(f"{module}.{name}")
    tried += [f"{face}.{name}" for face in FACES]
    tried += [f"npipe.{name}", name]
    return next((known[one] for one in tried if one in known), None)
