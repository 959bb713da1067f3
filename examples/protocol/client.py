"""A client of npipe's local pipes in the standard library alone, written from docs/protocol.md.

python examples/protocol/client.py NAME [TEXT...]     sends each text as a message, and prints what comes back
python examples/protocol/client.py --query NAME       tells what the pipe is
python examples/protocol/client.py --wait NAME        waits until an instance listens
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from link import ACCESS_DENIED, CLIENT, INVALID_DATA, READ, TIMED_OUT, WRITE, Link, PipeError
from rendezvous import (
    BUSY,
    FILE_NOT_FOUND,
    HOLD,
    IO_PENDING,
    LOOK_AGAIN,
    OK,
    OPEN,
    QUERY,
    WAIT,
    Answer,
    Said,
    connect_to,
    folder_of,
    hang_up,
    opened_folder,
    pack_request,
    peer_of,
    receive_answer,
    root_folder,
    sockets_in,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

__all__ = ["connect", "query", "wait"]

GOODWILL: Final = 1.0  # seconds for the answer of an owner that is not to hold the request
LEAST: Final = 0.05  # for that to a WAIT, however short its own time is
SHARE: Final = 0.25  # seconds for one of several owners, where there is more time than that
MOST_VANISHED: Final = 3  # turns in which all owners hang up without a word
FOREVER: Final = float("inf")


class _Silent(Exception):  # noqa: N818 - it is no error as long as others answer
    """An owner has not answered in time."""


@dataclass
class _Call:
    """A request, and what its owners have said."""

    kind: int
    flags: int
    access: int
    deadline: float | None  # None: the pipe's default time-out, from when the request is held
    verify_owner: bool
    folder: int = -1
    busy: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    told: bool = False  # somebody has said something in this turn

    def ask(self, name: str, answer_due: float, *, hold: bool) -> tuple[Said, socket.socket] | None:
        """Ask one owner. None: it has gone, or says so."""
        try:
            connected = connect_to(self.folder, name, answer_due)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except BlockingIOError:  # nobody accepts there
            raise _Silent from None
        except PermissionError:
            raise PipeError(ACCESS_DENIED, "the pipe does not let this user in") from None
        try:
            self._check_owner(connected)
            connected.send(pack_request(self.kind, self.flags if hold else self.flags & ~HOLD, self.access))
            said = self._receive(
                connected, answer_due, may_be_held=self.kind == WAIT or (hold and self.flags & HOLD != 0)
            )
        except BrokenPipeError:
            said = None
        except BaseException:
            hang_up(connected)
            raise
        if said is None or said.answer.code == LOOK_AGAIN:
            self.told = self.told or said is not None
            hang_up(connected)
            return None
        self.told = True
        return said, connected

    def _check_owner(self, connected: socket.socket) -> None:
        """A link in a stranger's folder could lead to a socket of this user's own, for quite another pipe."""
        owner, me, of_folder = peer_of(connected).uid, os.geteuid(), os.fstat(self.folder).st_uid
        if self.verify_owner and owner not in {me, 0}:
            raise PipeError(ACCESS_DENIED, f"the pipe belongs to uid {owner}")
        if of_folder not in {me, 0, owner}:
            raise PipeError(ACCESS_DENIED, f"the folder of uid {of_folder} leads to a socket of uid {owner}")

    def _receive(self, connected: socket.socket, answer_due: float, *, may_be_held: bool) -> Said | None:
        try:
            said = receive_answer(connected, self.kind, answer_due)
        except TimeoutError:
            raise _Silent from None
        if said is None or said.answer.code != IO_PENDING:
            return said
        if not may_be_held:
            raise PipeError(INVALID_DATA, "the server holds what was not to be held")
        if self.deadline is None:
            self.deadline = time.monotonic() + said.answer.default_timeout_ms / 1000
        try:
            said = receive_answer(connected, self.kind, self.deadline)
        except TimeoutError:
            raise PipeError(TIMED_OUT, "no instance listened in that time") from None
        if said and said.answer.code == IO_PENDING:
            raise PipeError(INVALID_DATA, "the server's answers make no sense")
        return said

    def turn(self, answer_due: float) -> tuple[Said, socket.socket] | None:
        """Ask all owners that are there now. None: look again."""
        names = sockets_in(self.folder)
        self.busy, self.silent, self.told = [], [], False
        gone = 0
        for index, name in enumerate(names):
            others = len(names) - 1 - index
            due = answer_due
            if others:
                left = answer_due - time.monotonic()
                due = time.monotonic() + (SHARE if left > GOODWILL else max(left, 0) / (others + 1))
            try:
                got = self.ask(name, due, hold=len(names) == 1)
            except _Silent:
                if len(names) == 1:
                    raise
                self.silent.append(name)
                continue
            if got is None:
                gone += 1
                continue
            if got[0].answer.code == BUSY:
                self.busy.append(name)
            elif got[0].answer.code != FILE_NOT_FOUND:
                return got
            hang_up(got[1])
        if not self.busy and not self.silent and not gone:
            raise PipeError(FILE_NOT_FOUND, "there is no such pipe")
        if self.kind == WAIT or self.flags & HOLD:
            for name in self.busy or self.silent:  # any of them can hold it: best one that answers
                got = self.ask(name, answer_due, hold=True)
                if got is None or got[0].answer.code not in {BUSY, FILE_NOT_FOUND}:
                    return got
                hang_up(got[1])
        elif self.busy:
            raise PipeError(BUSY, "no instance listens")
        elif self.silent:
            raise _Silent
        return None


def _call(name: str, call: _Call) -> tuple[Said, socket.socket]:
    """Ask the owners until one of them gives an answer that counts."""
    began = time.monotonic()
    waits = call.kind == WAIT or call.flags & HOLD
    answer_due = call.deadline if waits and call.deadline is not None else began + GOODWILL
    if call.kind == WAIT:
        answer_due = max(answer_due, began + LEAST)
    vanished = 0
    try:
        while vanished < MOST_VANISHED:
            with opened_folder(root_folder(), folder_of(name)) as call.folder:
                got = call.turn(answer_due)
            if got:
                return got
            vanished = 0 if call.told or call.silent else vanished + 1
            answer_due = max(answer_due, call.deadline or 0)
            if time.monotonic() >= answer_due:
                raise PipeError(TIMED_OUT, "the time is up")
    except _Silent:
        code = TIMED_OUT if waits else BUSY
        raise PipeError(code, "the pipe's server does not answer") from None
    raise PipeError(FILE_NOT_FOUND, "there is no such pipe")


def connect(
    name: str,
    *,
    access: int = READ | WRITE,
    deadline: float | None = None,
    verify_owner: bool = False,
    by_socket: bool = False,
) -> Link:
    r"""Open a pipe.

    Args:
        name: without `\\.\pipe\`, and as that would make it of a name (docs/protocol.md, section 1).
        access: READ, WRITE, or both.
        deadline: wait until then, on time.monotonic()'s clock, for an instance that listens; None: do not wait.
        verify_owner: let the server be this user's or root's only.
        by_socket: sleep on the socket, and not on the futex.

    Raises:
        PipeError: 2 there is none; 5 not allowed; 231 no instance listens; 121 none did in time; 13, 1306.
    """
    call = _Call(OPEN, 0 if deadline is None else HOLD, access, deadline or time.monotonic(), verify_owner)
    said, connected = _call(name, call)
    answer = said.answer
    if answer.code != OK:
        hang_up(connected)
        raise PipeError(answer.code, "the server does not let this client in")
    if said.segment < 0 or answer.last:
        hang_up(connected)
        raise PipeError(INVALID_DATA, "the server has sent no segment")
    try:
        return Link(said.segment, connected, CLIENT, access, by_socket=by_socket)
    except BaseException:
        hang_up(connected)
        raise


def wait(name: str, deadline: float | None = None) -> None:
    """Wait until an instance of a pipe listens. PipeError 121: none did.

    Args:
        name: of the pipe.
        deadline: on time.monotonic()'s clock; None: the pipe's own default time-out.
    """
    said, connected = _call(name, _Call(WAIT, 0, 0, deadline, verify_owner=False))
    hang_up(connected)
    if said.answer.code != OK:
        raise PipeError(said.answer.code, "the pipe's server says so")


def query(name: str) -> tuple[Answer, str]:
    """What a pipe's owner says of it, and its name as its creator wrote it."""
    said, connected = _call(name, _Call(QUERY, 0, 0, time.monotonic(), verify_owner=False))
    hang_up(connected)
    if said.answer.code != OK:
        raise PipeError(said.answer.code, "the pipe's server says so")
    return said.answer, said.name


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="A client of npipe's local pipes.")
    parser.add_argument("name", help=r"of the pipe, without \\.\pipe\ ")
    parser.add_argument("texts", nargs="*", help="messages to send")
    parser.add_argument("--query", action="store_true", help="tell what the pipe is")
    parser.add_argument("--wait", action="store_true", help="wait until an instance listens")
    parser.add_argument("--by-socket", action="store_true", help="sleep on the socket, not on the futex")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + options.timeout
    try:
        if options.query:
            print(*query(options.name))
            return 0
        if options.wait:
            wait(options.name, deadline)
            return 0
        link = connect(options.name, deadline=deadline, by_socket=options.by_socket)
        with contextlib.closing(link):
            for text in options.texts:
                link.write(text.encode(), deadline)
                print(link.receive(deadline).decode())
    except PipeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
