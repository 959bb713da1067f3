"""The program's OVERLAPPED structures: where their fields are, and what stands for them in npipe.win32."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from npipe._doors.kernel32 import memory
from npipe.binding.win32 import overlapped as _overlapped
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from npipe._doors.kernel32.call import Call

__all__ = ["address_of", "known_at", "posted_at", "result_at", "started_at"]

_NO_ACCESS: Final = 998
_STATUS_PENDING: Final = 0x103


class _Layout(NamedTuple):
    """Where a structure has the fields of an OVERLAPPED, and of how many bytes."""

    internal: tuple[int, int] = (0, 8)
    internal_high: tuple[int, int] = (8, 8)
    offset: tuple[int, int] = (16, 4)
    offset_high: tuple[int, int] = (20, 4)
    event: tuple[int, int] = (24, 8)

    @property
    def shows_status(self) -> bool:
        """Whether its first two fields are as Windows has them."""
        return self.internal == (0, 8) and self.internal_high == (8, 8)


_AS_ON_WINDOWS: Final = _Layout()
_NAMES: Final = ("internal", "internalhigh", "offset", "offsethigh", "hevent")
_layouts: WeakKeyDictionary[Any, _Layout] = WeakKeyDictionary()


def _layout_of(kind: Any) -> _Layout:
    """Return the layout of a structure that the program has declared: by its fields' names, or by their order."""
    if not (isinstance(kind, type) and issubclass(kind, ctypes.Structure)):
        return _AS_ON_WINDOWS
    if kind not in _layouts:
        _layouts[kind] = _find_layout(kind)
    return _layouts[kind]


def _find_layout(kind: Any) -> _Layout:
    leaves = sorted(_leaves(kind, 0), key=lambda leaf: (leaf[1], leaf[2]))
    named: dict[str, tuple[int, int]] = {}
    placed: dict[int, tuple[int, int]] = {}
    for name, offset, size in leaves:
        named.setdefault(name.lower(), (offset, size))
        placed.setdefault(offset, (offset, size))
    fields: list[tuple[int, int] | None] = [named.get(name) for name in _NAMES]
    if None in fields:
        fields = list[tuple[int, int] | None](placed.values())[: len(_NAMES)]
    if len(fields) < len(_NAMES) or any(field is None or field[1] not in memory.NUMBERS for field in fields):
        return _AS_ON_WINDOWS
    return _Layout(*fields)  # type: ignore[arg-type]


def _leaves(kind: Any, start: int) -> list[tuple[str, int, int]]:
    """Return (name, offset, size) of all fields that are no structures themselves."""
    found = []
    for base in reversed(kind.__mro__):
        for name, inner, *_ in vars(base).get("_fields_", ()):
            field = getattr(kind, name)
            if isinstance(inner, type) and issubclass(inner, ctypes.Structure | ctypes.Union):
                found += _leaves(inner, start + field.offset)
            else:
                found.append((name, start + field.offset, ctypes.sizeof(inner)))
    return found


class _Place(NamedTuple):
    """What an OVERLAPPED of npipe.win32 stands for: the program's structure."""

    address: int
    kept: object
    """What the operation needs to stay: the call's arguments, and those of operations before it that are pending."""


_places: WeakValueDictionary[int, _overlapped.OVERLAPPED] = WeakValueDictionary()
"""Those whose operations may be pending, by address."""


def started_at(call: Call, index: int, address: int, *, with_event: bool = True) -> _overlapped.OVERLAPPED | None:
    """Return what stands for the program's OVERLAPPED in the call that is about to start an operation; None at NULL."""
    if not address:
        return None
    layout = _layout_of(call.type_at(index, address))
    made = _places.get(address)
    kept: object = call.arguments
    if made is not None and made.Internal == _STATUS_PENDING:
        kept = (kept, made.object)
    else:
        made = _overlapped.OVERLAPPED()
        _places[address] = made
    if layout.shows_status:
        _overlapped.keep_in_memory(made, address)
    made.object = _Place(address, kept)
    made.Offset = _field(address, layout.offset) & 0xFFFFFFFF
    made.OffsetHigh = _field(address, layout.offset_high) & 0xFFFFFFFF
    made.hEvent = _field(address, layout.event) if with_event else 0
    return made


def result_at(call: Call, index: int, address: int) -> _overlapped.OVERLAPPED:
    """Return what stands for the program's OVERLAPPED in a call that asks for its result. Error 998 at NULL.

    An operation that is over is known by what the memory says, as on Windows.
    """
    if not address:
        raise make_error(_NO_ACCESS, "")
    made = _places.get(address)
    if made is not None and made.Internal == _STATUS_PENDING:
        return made
    layout = _layout_of(call.type_at(index, address))
    if made is not None and not layout.shows_status:
        return made
    shown = _overlapped.OVERLAPPED()
    shown.Internal = _field(address, layout.internal)
    shown.InternalHigh = _field(address, layout.internal_high)
    shown.hEvent = _field(address, layout.event)
    return shown


def known_at(address: int) -> _overlapped.OVERLAPPED | None:
    """Return what stands for the OVERLAPPED at an address, if an operation of it may be pending."""
    return _places.get(address)


def posted_at(address: int) -> _overlapped.OVERLAPPED | None:
    """Return an OVERLAPPED that stands for an address in a packet of the program's own."""
    if not address:
        return None
    made = _overlapped.OVERLAPPED()
    made.object = _Place(address, None)
    return made


def address_of(overlapped: _overlapped.OVERLAPPED | None) -> int:
    """Return which structure an OVERLAPPED stands for; 0 for none, and a number for one of another face's."""
    if overlapped is None:
        return 0
    place = overlapped.object
    return place.address if isinstance(place, _Place) else id(overlapped)


def _field(address: int, field: tuple[int, int]) -> int:
    offset, size = field
    return memory.get(address + offset, size)
