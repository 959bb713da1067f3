"""The client of Microsoft's article "Named Pipe Client", step for step and in its words."""

from __future__ import annotations

import codecs
import contextlib
from typing import TYPE_CHECKING, Final

from npipe.errors import PipeBusyError, PipeError, WinError
from npipe.names import parse_name
from npipe.options import ACCESS_READ, ACCESS_WRITE, PIPE_READMODE_MESSAGE, check_timeout
from npipe.transports import select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.transports import ClientHandle

__all__ = ["DEFAULT_ANSWER", "DEFAULT_MESSAGE", "DEFAULT_NAME", "WIDE", "ArticleClient"]

DEFAULT_NAME: Final = r"\\.\pipe\mynamedpipe"
"""The name in Microsoft's articles."""
DEFAULT_MESSAGE: Final = "Default message from client."
"""What their client says."""
DEFAULT_ANSWER: Final = "Default answer from server."
"""What their servers answer."""
WIDE: Final = "utf-16-le"
"""What TCHAR is in a Unicode build."""

_PIECE = 512  # bytes of the reply that one ReadFile asks for


class ArticleClient:
    """What it does, up to the wait for ENTER. Each line that it prints is given to `say`."""

    def __init__(self, name: str, say: Callable[[str], object], *, encoding: str = WIDE) -> None:
        self._name = name
        self._say = say
        self._encoding = encoding

    def talk(self, message: str, data: bytes, wait_seconds: float) -> ClientHandle:
        """Send `data`, which is `message` in bytes, and print the reply; return the handle, which is open."""
        handle = self._open(wait_seconds)
        try:
            with self._step("SetNamedPipeHandleState failed."):
                handle.set_state(PIPE_READMODE_MESSAGE)
            self.sending(message, len(data))
            with self._step("WriteFile to pipe failed."):
                handle.write_file(data)
            self.sent()
            self._print_reply(handle)
        except BaseException:
            handle.close_handle()
            raise
        return handle

    @contextlib.contextmanager
    def _step(self, words: str) -> Iterator[None]:
        """Print the article's words for a step that fails, with the error's code."""
        try:
            yield
        except PipeError as error:
            self.failed(words, error.winerror)
            raise

    def _open(self, wait_seconds: float) -> ClientHandle:
        """CreateFile, and WaitNamedPipe as often as it finds all instances busy."""
        with self._step("Could not open pipe."):
            parsed = parse_name(self._name)
            transport = select(parsed)
        while True:
            try:
                return transport.open(parsed, access=ACCESS_READ | ACCESS_WRITE)
            except PipeBusyError:
                pass
            except PipeError as error:
                self.failed("Could not open pipe.", error.winerror)
                raise
            try:
                transport.wait(parsed, check_timeout(wait_seconds))
            except PipeError as error:  # the article says so of every failure; standard error tells which it was
                self.wait_failed(f"Could not open pipe: {wait_seconds:g} second wait timed out.", error.winerror)
                raise

    def _print_reply(self, handle: ClientHandle) -> None:
        """Read one message in pieces, and print each in quotes on a line of its own."""
        # Incremental, for a character may lie across two pieces.
        decoder = codecs.getincrementaldecoder(self._encoding)(errors="backslashreplace")
        more = True
        while more:
            with self._step("ReadFile from pipe failed."):
                code, piece = handle.read_file(_PIECE)
            more = code == WinError.MORE_DATA
            text = decoder.decode(piece, final=not more)
            self.reply(text if more else text.removesuffix(chr(0)))
        self.replied()

    # ---- What it prints

    def sending(self, message: str, size: int) -> None:
        """Print that it sends a message, of `size` bytes."""
        self._say(f'Sending {size} byte message: "{message}"')

    def sent(self) -> None:
        """Print that it has sent it."""
        self._say("")
        self._say("Message sent to server, receiving reply as follows:")

    def reply(self, text: str) -> None:
        """Print a piece of the reply."""
        self._say(f'"{text}"')

    def replied(self) -> None:
        """Print what comes behind the reply."""
        self._say("")

    def failed(self, words: str, code: int) -> None:
        """Print the article's words for a step that has failed, and Win32's code."""
        self._say(f"{words} GLE={code}")

    def wait_failed(self, words: str, code: int) -> None:  # noqa: ARG002 - the article has none there
        """Print the same for the wait for an instance."""
        self._say(words)
