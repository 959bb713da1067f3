"""What is a buffer for type checkers. When it runs, memoryview decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    from typing_extensions import Buffer  # part of every type checker; not needed when it runs

__all__ = ["ReadableBuffer", "SupportsArrayInterface", "WriteableBuffer", "no_buffer", "view_of"]


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
