"""One call of a function, as far as it is known beside the numbers that its entry point gets."""

from __future__ import annotations

from typing import Any, Final

from npipe._doors.kernel32 import memory
from npipe.binding.win32 import handles as _handles
from npipe.win32_error import make_error

__all__ = ["Call"]

_INSUFFICIENT_BUFFER: Final = 122


class Call:
    """One call: the arguments as the program gave them, where they are known."""

    __slots__ = ("arguments", "error", "uses_last_error", "wide")

    def __init__(self, arguments: tuple[Any, ...] = (), *, uses_last_error: bool = False) -> None:
        self.arguments = arguments
        self.uses_last_error = uses_last_error
        """Whether ctypes' private copy of the last error stands for it within the function."""
        self.error: BaseException | None = None
        self.wide = True
        """Whether the function is one for texts of wide characters."""

    def type_at(self, index: int, address: int) -> Any:
        """Return the type of what an argument points to; None where it is not known."""
        return memory.type_at(self.arguments[index], address) if index < len(self.arguments) else None

    def put(self, index: int, address: int, value: int, size: int = 4) -> None:
        """Store a number of `size` bytes, or of the size that the program's own variable has; nowhere: nothing."""
        if address:
            memory.store(address, value, memory.size_of(self.type_at(index, address), size))

    def status(self, code: int) -> int:
        """Return a BOOL for what a call of npipe.win32 has returned: TRUE, or FALSE and the last error."""
        if code:
            _handles.set_last_error(code)
        return 0 if code else 1

    def put_text(self, index: int, address: int, room: int, text: str) -> int:
        """Store a text, and return its length in characters without the NUL; error 122 if `room` characters are few."""
        if self.wide:
            data, width = memory.wide_text(self.type_at(index, address), text)
        else:
            data, width = text.encode("utf-8", "surrogateescape") + b"\0", 1
        count = len(data) // width
        if count > room:
            raise make_error(_INSUFFICIENT_BUFFER, "")
        memory.view(address, len(data), writable=True)[:] = data
        return count - 1
