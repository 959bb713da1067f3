r"""The text of pipes: lines end with "\r\n" where they are written, as on Windows; they are read as everywhere."""

from __future__ import annotations

import io
import os
import threading
from typing import Any

__all__ = ["Text", "TextOfBoth"]


class Text(io.TextIOWrapper):
    """Text that is read from a pipe, or written to one."""

    __module__ = "_io"

    def __init__(self, buffer: Any, encoding: Any, errors: Any, newline: Any, *, line_buffering: bool) -> None:
        with buffer.raw.hiding_that_it_seeks():  # a text that seeks keeps what it would need to go back
            super().__init__(buffer, encoding, errors, newline, line_buffering=line_buffering)
        self._below = buffer
        self._translates = newline is None

    def write(self, text: str, /) -> int:
        """Write a text; return the number of its characters, as they were given."""
        if self._translates and isinstance(text, str) and "\n" in text:
            super().write(text.replace("\n", "\r\n"))
            return len(text)
        return super().write(text)

    def reconfigure(self, **keywords: Any) -> None:
        """Change what the text was made with."""
        super().reconfigure(**keywords)
        if "newline" in keywords:
            self._translates = keywords["newline"] is None

    def __repr__(self) -> str:
        return super().__repr__().replace("<TextIOWrapper", "<_io.TextIOWrapper", 1)  # as of Python 3.13 on

    def seekable(self) -> bool:
        """Return what the file below says."""
        return self.buffer.seekable()

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        """Send what was written, set the position and return it; what was read ahead stays to be read."""
        self.flush()
        at: int = self._below.seek(position, whence)
        return at

    def tell(self) -> int:
        """Send what was written, and return the position of the file below."""
        self.flush()
        at: int = self._below.tell()
        return at


class TextOfBoth(Text):
    """Text that is read and written, by one thread each: `io.TextIOWrapper` drops at a write what was read ahead."""

    __module__ = "_io"

    def __init__(self, buffer: Any, encoding: Any, errors: Any, newline: Any, *, line_buffering: bool) -> None:
        super().__init__(buffer, encoding, errors, newline, line_buffering=line_buffering)
        with buffer.raw.hiding_that_it_seeks():
            self._reader = io.TextIOWrapper(buffer, self.encoding, self.errors, newline)
        self._writing = threading.Lock()  # held during a write; whoever reads does not wait for it
        self._is_dirty = False  # something was written that may not have gone out

    def _source(self) -> io.TextIOWrapper:
        """Return the text to read from, when what was written has gone out."""
        if self._is_dirty and self._writing.acquire(blocking=False):
            try:
                self._flush()
            finally:
                self._writing.release()
        return self._reader

    def read(self, size: int | None = -1, /) -> str:
        """Return `size` characters, or fewer at the end; all up to the end when that is negative."""
        return self._source().read(size)

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # typeshed's has a name that Python's has not
        """Return the next line, of which at most `size` characters."""
        return self._source().readline(size)

    @property
    def newlines(self) -> Any:  # type: ignore[override]  # in Python it is one for reading alone
        """The ends of lines that were read."""
        return self._reader.newlines

    def write(self, text: str, /) -> int:
        """Write a text; return the number of its characters, as they were given."""
        with self._writing:
            self._is_dirty = True
            return super().write(text)

    def flush(self) -> None:
        """Send what was written."""
        with self._writing:
            self._flush()

    def _flush(self) -> None:
        super().flush()
        self._is_dirty = False

    def reconfigure(self, **keywords: Any) -> None:
        """Change what the text was made with."""
        self._reader.reconfigure(**keywords)
        super().reconfigure(**keywords)

    def detach(self) -> Any:
        """Return the file below, which has no text from then on."""
        self.flush()
        self._reader.detach()
        return super().detach()


for _kind in (Text, TextOfBoth):
    _kind.__name__ = _kind.__qualname__ = "TextIOWrapper"
