from __future__ import annotations

import copy
import errno
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npipe import errors
from npipe.errors import (
    PipeAccessError,
    PipeArgumentError,
    PipeBusyError,
    PipeCancelledError,
    PipeClosedError,
    PipeError,
    PipeMessageTooLargeError,
    PipeModeError,
    PipeNameError,
    PipeNotFoundError,
    PipeProtocolError,
    PipeResourceError,
    PipeStateError,
    PipeTimeoutError,
    PipeVersionError,
    WinError,
    error_from_code,
)

NAME = r"\\.\pipe\x"

CODES: dict[int, tuple[type[PipeError], int]] = {
    1: (PipeStateError, errno.EINVAL),
    2: (PipeNotFoundError, errno.ENOENT),
    3: (PipeNameError, errno.EINVAL),
    4: (PipeResourceError, errno.EMFILE),
    5: (PipeAccessError, errno.EACCES),
    6: (PipeClosedError, errno.EBADF),
    8: (PipeResourceError, errno.ENOMEM),
    13: (PipeProtocolError, errno.EPROTO),
    50: (PipeStateError, errno.EOPNOTSUPP),
    53: (PipeNotFoundError, errno.ENOENT),
    87: (PipeModeError, errno.EINVAL),
    109: (PipeClosedError, errno.EPIPE),
    121: (PipeTimeoutError, errno.ETIMEDOUT),
    122: (PipeMessageTooLargeError, errno.EMSGSIZE),
    123: (PipeNameError, errno.EINVAL),
    161: (PipeNameError, errno.EINVAL),
    170: (PipeStateError, errno.EBUSY),
    206: (PipeNameError, errno.ENAMETOOLONG),
    229: (PipeStateError, errno.EINVAL),
    230: (PipeModeError, errno.EINVAL),
    231: (PipeBusyError, errno.EBUSY),
    232: (PipeClosedError, errno.EPIPE),
    233: (PipeClosedError, errno.EPIPE),
    234: (PipeMessageTooLargeError, errno.EMSGSIZE),
    258: (PipeTimeoutError, errno.ETIMEDOUT),
    535: (PipeStateError, errno.EISCONN),
    536: (PipeStateError, errno.ENOTCONN),
    995: (PipeCancelledError, errno.ECANCELED),
    1168: (PipeStateError, errno.EINVAL),
    1306: (PipeVersionError, errno.EPROTONOSUPPORT),
    1368: (PipeStateError, errno.EINVAL),
    1450: (PipeResourceError, errno.ENOBUFS),
}

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, PipeError)]


@pytest.mark.parametrize("code", CODES)
def test_each_code_has_its_class_and_errno(code: int) -> None:
    error = error_from_code(code, NAME, "reading", "more")
    kind, number = CODES[code]
    assert type(error) is kind
    assert (error.winerror, error.errno, error.pipe_name, error.doing, error.detail) == (
        code,
        number,
        NAME,
        "reading",
        "more",
    )
    assert error.filename == NAME
    assert error_from_code(code, NAME).hint


@pytest.mark.parametrize("code", WinError)
def test_every_named_code_has_a_text(code: WinError) -> None:
    error = error_from_code(code)
    assert error.strerror
    assert error.strerror != error_from_code(99999).strerror
    assert str(error).startswith(f"[WinError {int(code)}] {error.strerror}")
    assert type(error.winerror) is int


def test_unknown_code_is_a_plain_pipe_error() -> None:
    error = error_from_code(31337, NAME)
    assert type(error) is PipeError
    assert error.winerror == 31337
    assert error.errno == errno.EIO
    assert "[WinError 31337]" in str(error)
    assert NAME in str(error)


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (PipeNotFoundError, FileNotFoundError),
        (PipeTimeoutError, TimeoutError),
        (PipeAccessError, PermissionError),
        (PipeClosedError, BrokenPipeError),
        (PipeClosedError, EOFError),
        (PipeNameError, ValueError),
        (PipeArgumentError, ValueError),
    ],
)
def test_errors_are_also_the_builtin_ones(kind: type[PipeError], base: type[Exception]) -> None:
    assert issubclass(kind, base)
    with pytest.raises(base):
        raise kind(pipe_name=NAME)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_is_an_oserror_with_a_usual_code_of_its_own(kind: type[PipeError]) -> None:
    error = kind()
    assert type(error) is kind
    assert isinstance(error, OSError)
    assert error.winerror == kind.usual_code
    assert (error.pipe_name, error.doing, error.detail, error.filename) == (None, None, None, None)
    if kind not in (PipeError, PipeArgumentError):
        assert type(error_from_code(error.winerror)) is kind


def test_an_error_of_the_protocol_is_not_an_orderly_end() -> None:
    assert not issubclass(PipeProtocolError, (PipeClosedError, EOFError))


def test_busy_text_says_what_happened_and_what_to_do() -> None:
    assert str(error_from_code(231, NAME)) == (
        r"[WinError 231] All pipe instances are busy: '\\.\pipe\x' "
        "(wait for one: connect(timeout=...) or npipe.wait())"
    )


def test_text_holds_what_was_being_done_and_the_reason_and_no_other() -> None:
    assert str(error_from_code(109, NAME, "reading", "the client has closed its end")) == (
        r"[WinError 109] The pipe has been ended: '\\.\pipe\x', while reading (the client has closed its end)"
    )


def test_a_cure_that_always_holds_stands_beside_the_reason() -> None:
    assert str(error_from_code(1306, NAME, "opening the pipe", "version 2")).endswith(
        "(version 2; install the same version of npipe on both sides)"
    )


def test_a_hint_and_words_may_be_given() -> None:
    error = PipeBusyError(231, NAME, "transacting", "a message is there", hint="recv() it", text="It is unread")
    assert str(error) == (
        r"[WinError 231] It is unread: '\\.\pipe\x', while transacting (a message is there; recv() it)"
    )
    assert error.strerror == "It is unread"
    assert str(error_from_code(5, NAME, None, "no", "ask")).endswith("(no; ask)")


@pytest.mark.parametrize("doing", ["opening the pipe", "writing", "flushing", "waiting for a client"])
def test_only_a_read_says_that_nothing_was_consumed(doing: str) -> None:
    assert "nothing was consumed" in str(error_from_code(121, NAME, "reading"))
    assert "consumed" not in str(error_from_code(121, NAME, doing))


def test_a_name_that_is_no_name_comes_behind_the_reason_and_is_cut_short() -> None:
    error = PipeNameError(123, "x" * 5000, None, "too long", hint="choose a shorter one")
    assert str(error).startswith("[WinError 123] Not the name of a pipe (too long; choose a shorter one): 'xxx")
    assert str(error).endswith("x' (5000 characters)")
    assert len(str(error)) < 220
    assert error.pipe_name == "x" * 5000


def test_argument_error_gives_no_advice_about_modes() -> None:
    error = PipeArgumentError(87, detail="max_instances is 1 to 255, not 0")
    assert str(error) == "[WinError 87] The parameter is incorrect (max_instances is 1 to 255, not 0)"


def test_text_shows_no_raw_control_characters() -> None:
    text = str(error_from_code(2, "\\\\.\\pipe\\a\n\x1b[31m\ud800é"))
    assert "a\\n\\x1b[31m\\ud800é" in text
    assert text.isprintable()
    text.encode()


@given(
    st.sampled_from(CLASSES),
    st.integers(0, 2000),
    st.none() | st.text(),
    st.none() | st.text(),
    st.none() | st.text(),
    st.none() | st.text(),
    st.none() | st.text(),
)
def test_pickle_and_copy_keep_everything(
    kind: type[PipeError],
    code: int,
    name: str | None,
    doing: str | None,
    detail: str | None,
    hint: str | None,
    text: str | None,
) -> None:
    error = kind(code, name, doing, detail, hint=hint, text=text)
    error.add_note("a note")
    pickled = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for twin in [*pickled, copy.copy(error), copy.deepcopy(error)]:
        assert type(twin) is kind
        assert (twin.winerror, twin.pipe_name, twin.doing, twin.detail) == (code, name, doing, detail)
        assert (twin.errno, twin.strerror, twin.filename, twin.hint) == (
            error.errno,
            error.strerror,
            error.filename,
            error.hint,
        )
        assert str(twin) == str(error)
        assert twin.args == error.args
        assert twin.__notes__ == ["a note"]


def test_winerror_fills_a_slot_where_oserror_has_one() -> None:
    # Windows' OSError has a writable `winerror` of its own, in place of which no attribute is made.
    class SlottedError(OSError):
        __slots__ = ("winerror",)

    class OnWindowsError(PipeError, SlottedError):
        pass

    error = OnWindowsError(231, NAME)
    assert error.winerror == 231
    assert "winerror" not in vars(error)
    twin = pickle_like(error)
    assert twin.winerror == 231


def pickle_like(error: PipeError) -> PipeError:
    make, arguments, state = error.__reduce__()
    twin = make(*arguments)
    twin.__setstate__(state)
    assert isinstance(twin, PipeError)
    return twin


def test_exported_names_exist() -> None:
    assert {kind.__name__ for kind in CLASSES} | {"WinError", "error_from_code"} == set(errors.__all__)
