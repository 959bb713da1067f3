"""`npipe client`, a process of its own, against servers of the test: every step of the article and its failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.cli import main
from npipe.transports import default
from tests.cli.helpers import DEADLINE, INTERRUPTED, NPIPE, STATUSES, run, wide
from tests.helpers import readable, until_held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe import binding

END = "\n<End of message, press ENTER to terminate connection and exit>\n"
TRANSPORT: Any = default()
COMMAND = [*NPIPE, "client"]


def transcript(message: str, size: int, *pieces: str) -> str:
    lines = "".join(f'"{piece}"\n' for piece in pieces)
    return (
        f'Sending {size} byte message: "{message}"\n\nMessage sent to server, receiving reply as follows:\n{lines}{END}'
    )


def recording(requests: list[bytes]) -> Callable[[bytes], bytes]:
    """A handler that answers with the request, and keeps it."""

    def handle(request: bytes) -> bytes:
        requests.append(request)
        return request

    return handle


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Processes that the test starts begin with SIGINT's usual effect, also where a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


started: list[subprocess.Popen[bytes]] = []


def start(*arguments: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    started.append(process)
    return process


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """No process outlives its test, also when that fails."""
    yield
    while started:
        process = started.pop()
        process.kill()
        process.communicate()


def read_until(stream: int, ending: bytes) -> bytes:
    """Read from a descriptor until it ends so."""
    found = b""
    until = time.monotonic() + DEADLINE
    while not found.endswith(ending):
        ready = readable(stream, max(0.0, until - time.monotonic()))
        assert ready, f"only {found!r} in time"
        piece = os.read(stream, 65536)
        assert piece, f"only {found!r} before its end"
        found += piece
    return found


# ---- What it prints


def test_it_prints_what_the_article_s_program_prints() -> None:
    with npipe.serve("mynamedpipe", lambda _: wide("Default answer from server.")):
        done = run("client")
    assert done.stdout == transcript("Default message from client.", 58, "Default answer from server.")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_message_is_utf_16_with_its_nul(name: str) -> None:
    requests: list[bytes] = []
    with npipe.serve(name, recording(requests)):
        done = run("client", name, "h\xe9llo \N{GRINNING FACE}")
    assert requests == [wide("h\xe9llo \N{GRINNING FACE}")]
    assert done.stdout == transcript("h\xe9llo \N{GRINNING FACE}", 18, "h\xe9llo \N{GRINNING FACE}")


def test_an_empty_message_is_a_nul(name: str) -> None:
    with npipe.serve(name, bytes):
        assert run("client", name, "").stdout == transcript("", 2, "")


@pytest.mark.parametrize(
    ("encoding", "data"), [("utf-8", "h\xe9\0".encode()), ("latin-1", b"h\xe9\0"), ("utf-16-be", b"\0h\0\xe9\0\0")]
)
def test_another_encoding_is_used_both_ways(name: str, encoding: str, data: bytes) -> None:
    requests: list[bytes] = []
    with npipe.serve(name, recording(requests)):
        done = run("client", name, "h\xe9", "--encoding", encoding)
    assert requests == [data]
    assert done.stdout == transcript("h\xe9", len(data), "h\xe9")


def test_a_long_reply_is_read_in_pieces_of_512_bytes(name: str) -> None:
    text = "".join(str(number % 10) for number in range(2000))
    with npipe.serve(name, lambda _: wide(text)):
        done = run("client", name, "x")
    assert done.stdout == transcript("x", 4, *(text[at : at + 256] for at in range(0, 2000, 256)))


def test_a_reply_of_512_bytes_is_one_piece(name: str) -> None:
    with npipe.serve(name, lambda _: wide("y" * 255)):
        assert run("client", name, "x").stdout == transcript("x", 4, "y" * 255)


def test_a_nul_that_comes_alone_is_a_piece_of_its_own(name: str) -> None:
    with npipe.serve(name, lambda _: wide("y" * 256)):
        assert run("client", name, "x").stdout == transcript("x", 4, "y" * 256, "")


def test_a_character_across_two_pieces_is_printed_whole(name: str) -> None:
    with npipe.serve(name, lambda _: wide("a" * 255 + "\N{GRINNING FACE}b")):
        assert run("client", name, "x").stdout == transcript("x", 4, "a" * 255, "\N{GRINNING FACE}b")


def test_bytes_that_are_no_text_are_shown_as_such(name: str) -> None:
    with npipe.serve(name, lambda _: b"ab\xff"):
        assert run("client", name, "x", "--encoding", "utf-8").stdout == transcript("x", 2, r"ab\xff")
        assert run("client", name, "x").stdout == transcript("x", 4, "\u6261" + r"\xff")


def test_an_empty_reply_is_an_empty_piece(name: str) -> None:
    with npipe.serve(name, lambda _: b""):
        assert run("client", name, "x").stdout == transcript("x", 4, "")


# ---- What fails


def assert_failed(done: subprocess.CompletedProcess[str], printed: str, code: int) -> None:
    assert done.stdout == printed
    assert done.stderr.startswith(f"npipe: [WinError {code}] ")
    assert done.stderr.count("\n") == 1
    assert done.returncode == (1 if "State" in printed else STATUSES[code])  # of 87 a mode is no wrong use


def test_a_missing_pipe_is_gle_2(name: str) -> None:
    assert_failed(run("client", name), "Could not open pipe. GLE=2\n", 2)


def test_a_pipe_that_only_reads_is_gle_5(name: str) -> None:
    with npipe.listen(name, access="inbound"):
        assert_failed(run("client", name), "Could not open pipe. GLE=5\n", 5)


def test_a_wrong_name_has_its_gle() -> None:
    assert_failed(run("client", "C:\\pipe"), "Could not open pipe. GLE=123\n", 123)
    assert_failed(run("client", ""), "Could not open pipe. GLE=3\n", 3)


def test_a_pipe_of_a_machine_that_there_is_no_way_to_is_gle_50() -> None:
    assert_failed(run("client", r"\\elsewhere\pipe\x"), "Could not open pipe. GLE=50\n", 50)


def test_a_byte_pipe_cannot_be_switched_to_message_mode(name: str) -> None:
    with npipe.serve(name, bytes, mode="byte"):
        assert_failed(run("client", name), "SetNamedPipeHandleState failed. GLE=87\n", 87)


def test_a_server_that_leaves_without_an_answer_is_gle_109(name: str) -> None:
    with npipe.listen(name) as listener:
        process = start(name, "x")
        with listener.accept(DEADLINE) as pipe:
            assert pipe.recv(timeout=DEADLINE) == wide("x")
        out, err = process.communicate(timeout=DEADLINE)
    printed = transcript("x", 4).removesuffix(END) + "ReadFile from pipe failed. GLE=109\n"
    assert_failed(subprocess.CompletedProcess([], process.returncode, out.decode(), err.decode()), printed, 109)


def test_a_server_that_disconnects_in_the_middle_is_gle_233(name: str) -> None:
    with npipe.listen(name) as listener:
        process = start(name, "x")
        pipe = listener.accept(DEADLINE)
        assert pipe.recv(timeout=DEADLINE) == wide("x")
        pipe.abort()
        out, err = process.communicate(timeout=DEADLINE)
    printed = transcript("x", 4).removesuffix(END) + "ReadFile from pipe failed. GLE=233\n"
    assert_failed(subprocess.CompletedProcess([], process.returncode, out.decode(), err.decode()), printed, 233)


def test_a_write_that_fails_is_told_with_its_code(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = TRANSPORT.open

    with npipe.listen(name) as listener:

        def open_and_lose_the_server(*arguments: object, **options: object) -> _Faithless:
            return _Faithless(real(*arguments, **options), listener)

        monkeypatch.setattr(TRANSPORT, "open", open_and_lose_the_server)
        status = main(["client", name, "x"])
    out, err = capsys.readouterr()
    printed = 'Sending 4 byte message: "x"\nWriteFile to pipe failed. GLE=232\n'
    assert_failed(subprocess.CompletedProcess([], status, out, err), printed, 232)


class _Faithless:
    """A client's handle whose server leaves right before the write."""

    def __init__(self, handle: binding.Handle, listener: npipe.Listener[npipe.MessagePipe]) -> None:
        self._handle = handle
        self._listener = listener
        self.set_state = handle.set_state
        self.close_handle = handle.close_handle

    def write_file(self, data: bytes) -> int:
        self._listener.accept(DEADLINE).close()
        return self._handle.write_file(data)


# ---- Busy instances


def test_it_waits_for_an_instance_and_is_served(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        first = npipe.connect(name)
        served_first = listener.accept(DEADLINE)
        process = start(name, "x")
        try:
            until_held(name, process.pid)
            first.close()
            served_first.close()
            with listener.accept(DEADLINE) as pipe:
                pipe.send(pipe.recv(timeout=DEADLINE))
                out, err = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert (out.decode(), err) == (transcript("x", 4, "x"), b"")
    assert process.returncode == 0


def test_it_tells_that_the_wait_timed_out(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener, npipe.connect(name), listener.accept(DEADLINE):
        done = run("client", name, "--wait-seconds", "0.05")
    assert_failed(done, "Could not open pipe: 0.05 second wait timed out.\n", 121)


def test_the_article_s_wait_is_20_seconds_and_in_a_loop(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float | None] = []

    def wait(_name: object, timeout: float | None) -> None:
        waits.append(timeout)
        if len(waits) == 3:  # twice another client has been faster
            raise npipe.PipeTimeoutError(121, name)

    monkeypatch.setattr(TRANSPORT, "wait", wait)
    with npipe.listen(name, max_instances=1) as listener, npipe.connect(name), listener.accept(DEADLINE):
        status = main(["client", name])
    out, err = capsys.readouterr()
    assert_failed(
        subprocess.CompletedProcess([], status, out, err), "Could not open pipe: 20 second wait timed out.\n", 121
    )
    assert waits == [20.0, 20.0, 20.0]


def test_a_pipe_that_goes_during_the_wait_ends_it(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        first = npipe.connect(name)
        served_first = listener.accept(DEADLINE)
        process = start(name, "x")
        until_held(name, process.pid)
    served_first.close()
    first.close()
    out, err = process.communicate(timeout=DEADLINE)
    assert_failed(
        subprocess.CompletedProcess([], process.returncode, out.decode(), err.decode()),
        "Could not open pipe: 20 second wait timed out.\n",
        2,
    )


# ---- The terminal


@pytest.mark.parametrize(("key", "ending"), [(b"\r", "\r\n"), (b"\x04", "\r\n")])
def test_on_a_terminal_it_waits_for_enter_before_it_closes_the_pipe(name: str, key: bytes, ending: str) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals to test with")
    import pty

    master, slave = pty.openpty()
    try:
        with npipe.listen(name) as listener:
            process = subprocess.Popen([*COMMAND, name, "x"], stdin=slave, stdout=slave, stderr=slave)
            with listener.accept(DEADLINE) as pipe:
                pipe.send(pipe.recv(timeout=DEADLINE))
                printed = read_until(master, b"and exit>").decode().replace("\r\n", "\n")
                assert printed == transcript("x", 4, "x").removesuffix("\n")
                with pytest.raises(npipe.PipeTimeoutError):
                    pipe.recv(timeout=0)  # still connected
                os.write(master, key)
                with pytest.raises(npipe.PipeClosedError):
                    pipe.recv(timeout=DEADLINE)
            assert process.wait(DEADLINE) == 0
        assert read_until(master, b"\n").decode() == ending
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_it_without_a_word(name: str) -> None:
    with npipe.listen(name) as listener:
        process = start(name, "x")
        with listener.accept(DEADLINE) as pipe:
            pipe.recv(timeout=DEADLINE)
            assert process.stdout is not None
            read_until(process.stdout.fileno(), b"as follows:\n")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (INTERRUPTED, b"", b"")


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_wait_for_an_instance(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener, npipe.connect(name), listener.accept(DEADLINE):
        process = start(name)
        until_held(name, process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (INTERRUPTED, b"", b"")
