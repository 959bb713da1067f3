"""What is a buffer: its words for type checkers, and the rules for those of which a pipe takes or gives the bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer  # part of every type checker; not needed when it runs

__all__ = [
    "ReadableBuffer",
    "SupportsArrayInterface",
    "WriteableBuffer",
    "check_dtype",
    "check_elements",
    "content_of",
    "contents_of",
    "no_buffer",
    "plain_view",
    "room_of",
    "scattered",
    "view_of",
]


class SupportsArrayInterface(Protocol):
    """An array, such as NumPy's: before Python 3.12 its stubs do not say that it is a buffer."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


ReadableBuffer: TypeAlias = "Buffer | SupportsArrayInterface"
"""Bytes to be written: bytes, bytearray, memoryview, array.array, mmap, an array of ctypes' or NumPy's."""

WriteableBuffer: TypeAlias = "Buffer | SupportsArrayInterface"
"""Room to read into: the same, but not of bytes, nor read-only."""


def view_of(data: ReadableBuffer) -> memoryview:
    """Return a view of a buffer; TypeError for what is none."""
    try:
        return memoryview(cast("Buffer", data))
    except TypeError:
        raise no_buffer(data) from None


def no_buffer(data: object) -> TypeError:
    """Return (not raise) the error of what is no buffer."""
    if isinstance(data, str):
        return TypeError("a pipe carries bytes, not str: encode the text (text.encode())")
    return TypeError(f"a bytes-like object is required, not {type(data).__name__!r}")


_FIELD_NAMES: Final = re.compile(r":[^:]*:")
_COMPLEX: Final = re.compile(r"Z[fdg]")
_PLAIN: Final = frozenset("T{}()0123456789, @=<>!^xcbB?hHiIlLqQnNefdgsp")


def check_elements(elements: str) -> None:
    """Raise TypeError for a buffer whose `elements`, in struct's words, are neither bytes nor numbers.

    Python's objects are the addresses that they have in this process, and so are C's pointers.
    """
    if not _PLAIN.issuperset(_COMPLEX.sub("", _FIELD_NAMES.sub("", elements))):
        raise TypeError(
            f"a pipe carries bytes and numbers, and the elements of this buffer ({elements!r}) are objects, addresses "
            "or text: encode or pickle them, or make an array of numbers"
        )


def check_dtype(source: object) -> None:
    """Raise TypeError for a buffer without a format, of NumPy's, whose elements are not all numbers, times or bytes.

    NumPy has no format for an array that has times, whatever else there is in it.
    """
    dtype: Any = getattr(source, "dtype", None)
    if dtype is None or dtype.hasobject or not all(kind in "biufcmMSV" for kind in _kinds(dtype)):
        what = type(source).__name__ if dtype is None else f"{type(source).__name__} of {dtype}"
        raise TypeError(
            f"a pipe carries bytes and numbers, and this buffer ({what}) does not say that its elements are such: "
            "encode or pickle them, or make an array of numbers"
        )


def _kinds(dtype: Any) -> Iterator[str]:
    """Return the kinds of the elements of a NumPy dtype, those of its fields if it has any."""
    if dtype.subdtype is not None:
        yield from _kinds(dtype.subdtype[0])
    elif dtype.names is not None:
        for name in dtype.names:
            yield from _kinds(dtype.fields[name][0])
    else:
        yield dtype.kind


def plain_view(source: ReadableBuffer) -> memoryview:
    """Return the bytes of a buffer that may be sent or read into; of one that memoryview cannot cast, a copy.

    Raises TypeError for what is no buffer, or not of bytes or numbers, and BufferError if they do not lie side by side.
    """
    array: Any = source
    try:
        view = view_of(source)
    except ValueError:
        check_dtype(source)
        if not array.flags.c_contiguous:
            raise _not_side_by_side() from None
        return memoryview(array.reshape(-1).view("u1"))
    check_elements(view.format)
    if not view.c_contiguous:
        raise _not_side_by_side()
    if not view.nbytes:
        return memoryview(bytearray())
    try:
        return view.cast("B")
    except ValueError:  # structures, or numbers in another byte order
        if hasattr(source, "dtype"):
            return memoryview(array.reshape(-1).view("u1"))
        return memoryview(view.tobytes())


def _not_side_by_side() -> BufferError:
    return BufferError("the bytes of the buffer have to lie side by side (make a copy)")


def content_of(data: ReadableBuffer) -> bytes:
    """Return what is to be written: a copy, unless it is bytes. Raises as plain_view."""
    return data if type(data) is bytes else bytes(plain_view(data))


def contents_of(parts: tuple[ReadableBuffer, ...]) -> bytes:
    """Return what is to be written of several buffers, one behind the other. Raises as plain_view."""
    return content_of(parts[0]) if len(parts) == 1 else b"".join([plain_view(part) for part in parts])


def scattered(message: bytes | memoryview, rooms: list[memoryview]) -> int:
    """Copy a message into several buffers, which have room for it; return its length."""
    begin = 0
    for room in rooms:
        piece = message[begin : begin + len(room)]
        room[: len(piece)] = piece
        begin += len(piece)
    return begin


def room_of(buffer: WriteableBuffer) -> memoryview:
    """Return the bytes of a buffer that a read puts something into; raises as plain_view, and BufferError."""
    view = plain_view(buffer)
    if view.nbytes and view.readonly:
        if view_of(buffer).readonly:
            raise BufferError("the buffer to read into cannot be written to")
        raise TypeError("this transport reads into bytes and numbers in the machine's own order: read into a bytearray")
    return view
