"""What every door is, and how it changes names that are not npipe's so that nothing stays changed."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Door", "Patches"]

_MISSING: Final = object()


class Door(ABC):
    """One way to pipes that a process has while at least one installation asks for it.

    It opens with the first of them and closes with the last, in whatever order they end. `enter` and `leave` are
    called with the lock of all doors held, one at a time; whatever the door has put in place is called by any thread
    at any time, also after the door has closed (a program keeps what it has imported), and then does what was there
    before. `wanted` is what `install` was given for this door: True, or a set of names.
    """

    name = ""
    """As `install` calls it."""

    def __init__(self) -> None:
        self._wanted: dict[object, Any] = {}  # what each installation asks for, the first one first

    @property
    def is_open(self) -> bool:
        """Whether an installation asks for it now."""
        return bool(self._wanted)

    @property
    def asked(self) -> Any:
        """What all installations ask for together: True, or the names that they give."""
        names = frozenset(name for wanted in self._wanted.values() if wanted is not True for name in wanted)
        return names or True

    def enter(self, owner: object, wanted: Any) -> None:
        """Begin for one more installation, `owner`."""
        is_first = not self._wanted
        self._wanted[owner] = wanted
        try:
            if is_first:
                self.open()
            self.changed(list(self._wanted.values()))
        except BaseException:
            del self._wanted[owner]
            if is_first:
                self.close()
            raise

    def leave(self, owner: object) -> None:
        """End for one installation."""
        del self._wanted[owner]
        if self._wanted:
            self.changed(list(self._wanted.values()))
        else:
            self.close()

    @abstractmethod
    def open(self) -> None:
        """Put everything in place; raises `RuntimeError` if it cannot, and `close` is called then."""

    @abstractmethod
    def close(self) -> None:
        """Put back everything that is still this door's own."""

    def changed(self, wanted: list[Any]) -> None:  # noqa: B027  # few doors have anything to take note of
        """Take note of what the installations that are left ask for."""

    def others_changed(self, asked: Mapping[str, Any]) -> None:  # noqa: B027
        """Take note of which doors are open now, with what is asked of each."""


class _Patch:
    """One attribute that has been replaced."""

    def __init__(self, target: Any, name: str, before: object, ours: object) -> None:
        self.target = target
        self.name = name
        self.before = before
        self.ours = ours


_patches_lock: Final = threading.Lock()
_patches: Final[list[_Patch]] = []  # of all doors, in the order in which they were made
_covered: Final[list[_Patch]] = []  # undone while somebody else's stood above them, who may put them back


class Patches:
    """Attributes of modules and classes that are replaced for a while.

    `undo` puts back what was there. An attribute that another door has replaced since gets it when that one closes. One
    that somebody else has replaced since keeps what it has then: theirs stands above ours, and may call it. So whatever
    is put in place has to do what was there before (`original`) while its door is closed. If they put ours back later,
    the next change of any door takes it away.
    """

    def __init__(self) -> None:
        self._made: list[_Patch] = []

    def replace(self, target: Any, name: str, make: Callable[[Any], object]) -> None:
        """Put `make(original)` in the place of an attribute; `original` is None where there was none."""
        with _patches_lock:
            _take_away_uncovered()
        before = vars(target).get(name, _MISSING)
        patch = _Patch(target, name, before, make(None if before is _MISSING else getattr(target, name)))
        with _patches_lock:
            self._made.append(patch)
            _patches.append(patch)
            setattr(target, name, patch.ours)

    def undo(self) -> None:
        """Put back what was there before, the last one first."""
        with _patches_lock:
            while self._made:
                patch = self._made.pop()
                _patches.remove(patch)
                _take_away(patch)
            _take_away_uncovered()


def _take_away(patch: _Patch) -> None:
    if _is_in_place(patch):
        _put_back(patch)
        return
    for above in _patches:
        if above.target is patch.target and above.name == patch.name and above.before is patch.ours:
            above.before = patch.before
            return
    _covered.append(patch)


def _take_away_uncovered() -> None:
    while (patch := next(filter(_is_left_over, _covered), None)) is not None:  # below one may be another
        _covered.remove(patch)
        _put_back(patch)


def _is_left_over(patch: _Patch) -> bool:
    """Return whether an attribute is what a door had put there that has closed, and not what one has put there anew."""
    return _is_in_place(patch) and not any(
        one.target is patch.target and one.name == patch.name and one.ours is patch.ours for one in _patches
    )


def _is_in_place(patch: _Patch) -> bool:
    return vars(patch.target).get(patch.name, _MISSING) is patch.ours


def _put_back(patch: _Patch) -> None:
    if patch.before is _MISSING:
        delattr(patch.target, patch.name)
    else:
        setattr(patch.target, patch.name, patch.before)
