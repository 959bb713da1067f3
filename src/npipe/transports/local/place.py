"""Where the engine finds the pipes of this machine."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import os
import tempfile
from pathlib import PurePath
from typing import TYPE_CHECKING

from npipe import binding
from npipe.reasons import another_machine

if TYPE_CHECKING:
    from npipe.names import PipeName

__all__ = ["place", "root_folder"]


def root_folder() -> str:
    """Return the folder below which this process's pipes are (docs/protocol.md): the first of these that is there.

    $NPIPE_ROOT; /run/npipe, where an administrator has made it; npipe in $XDG_RUNTIME_DIR; npipe-UID in the folder
    for temporary files. The engine checks whose it is before it uses it. The folders are looked at by the engine, for
    Python's own look is one that may block, which programs that watch their event loop take amiss.
    """
    given = os.environ.get("NPIPE_ROOT")
    if given:
        return given
    if binding.is_folder("/run/npipe"):
        return "/run/npipe"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and binding.is_folder(runtime):
        return str(PurePath(runtime) / "npipe")
    return str(PurePath(tempfile.gettempdir()) / f"npipe-{binding.effective_uid()}")


def place(name: PipeName) -> tuple[str, str, str]:
    """Return a pipe's root folder, its folder there, and its name to display. PipeStateError (50) for a host."""
    if name.host is not None:
        raise another_machine(name.path, name.host, name.here)
    return root_folder(), name.folder, name.display
