"""What every door is, and how it changes names that are not npipe's so that nothing stays changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Patches:
    """Attributes of modules and classes that are replaced for a while.

    `undo` puts back what was there. An attribute that somebody else has replaced since keeps what it has then: theirs
    stands above ours, and may call it. So whatever is put in place has to do what was there before (`original`)
    while its door is closed.
    """

    def __init__(self) -> None:
        self._made: list[tuple[Any, str, object, object]] = []

    def replace(self, target: Any, name: str, make: Callable[[Any], object]) -> None:
        """Put `make(original)` in the place of an attribute; `original` is None where there was none."""
        before = vars(target).get(name, _MISSING)
        ours = make(None if before is _MISSING else getattr(target, name))
        self._made.append((target, name, before, ours))
        setattr(target, name, ours)

    def undo(self) -> None:
        """Put back what was there before, the last one first."""
        while self._made:
            target, name, before, ours = self._made.pop()
            if vars(target).get(name, _MISSING) is not ours:
                continue
            if before is _MISSING:
                delattr(target, name)
            else:
                setattr(target, name, before)
