"""What of Wine itself, and of nothing of npipe's, would fail tests now and then."""

from __future__ import annotations

import asyncio.proactor_events
import ctypes
import threading
from typing import Any


def is_wine() -> bool:
    """Whether this Windows is Wine."""
    library: Any = ctypes
    return hasattr(library.WinDLL("ntdll"), "wine_get_version")


def keep_wakes() -> None:
    """Let call_soon_threadsafe wake its loop also when two threads call it in the same moment.

    Each sends a byte through the loop's own socket. On Wine one of the two gets WSAEWOULDBLOCK, as if the socket were
    full: of three threads that do nothing else, a third of all sends. asyncio takes that for a loop that is awake, and
    if the other thread's byte has been read already, the loop sleeps on. So they send one after the other.
    """
    loops: Any = asyncio.proactor_events.BaseProactorEventLoop
    lock = threading.RLock()
    write_to_self = loops._write_to_self

    def write(self: Any) -> None:
        with lock:
            write_to_self(self)

    loops._write_to_self = write
