"""The door of children: Python processes that this one starts have the same doors, and so have theirs.

- `environment`: what a process is told, in its environment;
- `processes`: the functions that start one, which tell it in an environment that the program has made itself, and give
  it handles of pipes that it inherits;
- `streams`: pipes as a child's standard streams;
- `startup/sitecustomize.py`: what a Python process that was told runs when it starts.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from npipe._doors.base import Door, Patches
from npipe._doors.children.environment import DOORS, FOLDER, PATH, Environment, doors_of
from npipe._doors.children.processes import Processes
from npipe._doors.imports import IMPORTS
from npipe._doors.installation import install
from npipe.win32 import _inheritance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from npipe._doors.installation import Installation

__all__ = ["ChildrenDoor", "begin_inherited", "end_inherited"]

_inherited: list[Installation] = []


class ChildrenDoor(Door):
    """The doors travel in the variables NPIPE_DOORS and PYTHONPATH, which are as before when the last one closes."""

    name = "children"

    def __init__(self) -> None:
        super().__init__()
        self._patches = Patches()
        self._environment = Environment()
        self._processes = Processes(self._environment, lambda: self.is_open)

    def open(self) -> None:
        """Replace the functions that start processes."""
        IMPORTS.add(_answer)
        self._processes.open(self._patches)
        _inheritance.children_open_streams = True

    def others_changed(self, asked: Mapping[str, Any]) -> None:
        """Tell the processes that are started from now on."""
        self._environment.put(asked)
        self._processes.says_windows = "platform" in asked

    def close(self) -> None:
        """Put back the functions and the variables."""
        _inheritance.children_open_streams = False
        self._environment.take_away()
        self._processes.close()
        IMPORTS.remove(_answer)


def begin_inherited() -> None:
    """Open the doors of the process that has started this one, for good; `sitecustomize` does."""
    _inheritance.open_standard_streams()
    doors = doors_of(os.environ.get(DOORS, ""))
    if doors and sys.platform != "win32":
        _inherited.append(install(**{"pywin32": False, **doors}))


def end_inherited() -> None:
    """Close them, and tell nobody of them any more: `npipe run` opens the ones that it is asked for."""
    while _inherited:
        _inherited.pop().uninstall()
    if os.environ.pop(DOORS, None) is not None:
        places = [place for place in os.environ.get(PATH, "").split(os.pathsep) if place != FOLDER]
        os.environ[PATH] = os.pathsep.join(places)
        if not os.environ[PATH]:
            del os.environ[PATH]


def _answer(name: str, importer: Mapping[str, Any]) -> None:
    """Have nothing to say of an import; that it is heard of is enough."""
    del name, importer
