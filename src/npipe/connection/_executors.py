"""ProcessPoolExecutor's queue of calls, which asks no context how it is to be made."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

from concurrent.futures import process
from typing import Any

from npipe.connection._contexts import Channels, OnChannels

__all__ = ["use"]

_safe: Any = process._SafeQueue  # noqa: SLF001


class CallQueue(OnChannels, _safe):  # type: ignore[misc]
    """The queue of calls of an executor whose context is one of ours."""


def _make(*args: Any, ctx: Any, **kwargs: Any) -> Any:
    return (CallQueue if isinstance(ctx, Channels) else _safe)(*args, ctx=ctx, **kwargs)


def use() -> None:
    """Have executors make their queues of calls as their contexts would."""
    module: Any = process
    module._SafeQueue = _make  # noqa: SLF001
