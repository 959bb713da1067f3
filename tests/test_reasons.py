"""The reasons of errors, as whatever carries a pipe has them: with what it knows, and no more."""

from __future__ import annotations

import pickle

import pytest

from npipe import reasons
from npipe.errors import (
    PipeAccessError,
    PipeBusyError,
    PipeClosedError,
    PipeError,
    PipeModeError,
    PipeStateError,
    WinError,
)
from npipe.reasons import End, PeerEnd, denied, ended, ended_badly, explain

NAME = r"\\.\pipe\x"
SERVER, CLIENT = End(is_server=True, direction=3, access=3), End(is_server=False, direction=3, access=3)


@pytest.mark.parametrize("how", PeerEnd)
@pytest.mark.parametrize("is_server", [True, False])
@pytest.mark.parametrize("doing", ["reading", "receiving a message", "writing", "flushing", "transacting", "peeking"])
@pytest.mark.parametrize("code", [109, 232, 233, 230])
def test_the_end_of_a_connection_names_the_other_side(code: int, doing: str, is_server: bool, how: int) -> None:
    error = ended(code, NAME, doing, is_server=is_server, how=how)
    assert type(error) is (PipeModeError if code == 230 else PipeClosedError)
    assert (error.winerror, error.doing) == (code, doing)
    assert error.detail is not None
    assert "client" in error.detail if is_server else "server" in error.detail
    assert "process" not in error.detail or how == PeerEnd.DIED
    assert "handler" not in str(error)


@pytest.mark.parametrize("how", PeerEnd)
@pytest.mark.parametrize("code", [109, 232, 233])
def test_whether_an_end_was_a_bad_one_is_known_without_its_words(code: int, how: PeerEnd) -> None:
    error = ended(code, NAME, "reading", is_server=True, how=how)
    assert isinstance(error, PipeClosedError)
    error.detail = None
    bad = code == 233 or how in (PeerEnd.DISCONNECTED, PeerEnd.ABORTED, PeerEnd.DIED)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert ended_badly(one) is bad
    assert ended_badly(PipeClosedError(WinError.NETNAME_DELETED, NAME, "reading"))
    assert not ended_badly(reasons.closed_here(NAME, "reading"))


def test_what_is_not_known_is_not_said() -> None:
    assert explain(109, NAME, "reading", SERVER).detail == (
        "the client's end is closed, and everything that it wrote has been read"
    )
    assert explain(109, NAME, "reading", None).detail is None
    assert explain(31337, NAME, "reading", CLIENT).detail is None


@pytest.mark.parametrize(
    ("code", "doing", "kind", "words"),
    [
        (5, "writing", PipeAccessError, "may only read"),
        (231, "transacting", PipeBusyError, "recv() it first"),
        (232, "writing", PipeClosedError, "nothing more can be written"),
        (233, "reading", PipeClosedError, "the server has disconnected this client"),
        (230, "transacting", PipeModeError, "open a new connection"),
    ],
)
def test_a_code_is_explained_by_what_the_end_knows(code: int, doing: str, kind: type[PipeError], words: str) -> None:
    error = explain(code, NAME, doing, End(is_server=False, direction=3, access=1))
    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize("direction", [1, 2, 3])
@pytest.mark.parametrize("access", [0, 1, 2])
@pytest.mark.parametrize("doing", ["reading", "writing", "transacting"])
def test_a_client_is_told_which_access_it_needs_or_that_the_pipe_has_none(
    direction: int, access: int, doing: str
) -> None:
    error = denied(NAME, doing, is_server=False, direction=direction, access=access)
    goes = {"reading": direction & 2, "writing": direction & 1, "transacting": direction == 3}[doing]
    assert error.hint.startswith("connect with access=" if goes else "its server has to listen with access=")


def test_every_reason_is_listed() -> None:
    public = {name for name, value in vars(reasons).items() if getattr(value, "__module__", "") == "npipe.reasons"}
    assert {name for name in public if not name.startswith("_")} <= set(reasons.__all__)


def test_where_nobody_counts_the_error_says_so() -> None:
    error = reasons.not_counted(NAME, "asking for the pipe's counts")
    assert type(error) is PipeStateError
    assert (error.winerror, error.pipe_name) == (50, NAME)
    assert "Nobody counts what this pipe moves" in str(error)
