"""`npipe call`, `send`, `cat`, `listen` and `repl`, each a process of its own."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import npipe
from npipe.cli.messages import Output, messages_in
from tests.cli.helpers import DEADLINE, INTERRUPTED, NPIPE
from tests.helpers import asleep, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child

pytestmark = pytest.mark.slow  # each starts some commands


def npipe_(*arguments: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command with `data` as its input."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    return subprocess.run([*NPIPE, *arguments], capture_output=True, timeout=DEADLINE, **given)


def on_a_terminal(*arguments: str, keys: tuple[bytes, ...] = ()) -> tuple[int, bytes]:
    """Run the command on a terminal of 40 columns, with `keys` at each prompt; its exit status, and what it printed."""
    master, slave = pty.openpty()
    left = list(keys)
    process = subprocess.Popen(
        [*NPIPE, *arguments], stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "COLUMNS": "40"}
    )
    os.close(slave)
    got = b""
    with contextlib.suppress(OSError):  # EIO, the terminal's end
        while piece := os.read(master, 65536):
            got += piece
            if left and got.count(b"> ") > len(keys) - len(left):
                os.write(master, left.pop(0))
    os.close(master)
    return process.wait(DEADLINE), got


@contextlib.contextmanager
def served(name: str, serve: Callable[[Any], object], mode: Any = "message") -> Iterator[None]:
    """One client, in a thread; what the server raises is raised at the end."""
    failures: list[BaseException] = []
    with npipe.listen(name, mode=mode) as listener:

        def run() -> None:
            try:
                with listener.accept(DEADLINE) as pipe:
                    serve(pipe)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        yield
        thread.join(DEADLINE)
    assert not failures, failures


# ---- call


@pytest.mark.parametrize("command", ["call", "repl"])
def test_of_a_pipe_of_bytes_it_is_told_which_commands_can(name: str, command: str) -> None:
    with npipe.listen(name, mode="byte"):
        data = {"call": [name, "hello"], "repl": [name]}[command]
        done = npipe_(command, *data, data=b"hello\n")
    said = (
        f"npipe: [WinError 87] {name} carries bytes, not messages, so no answer has an end: use npipe send and npipe "
        f"cat, or npipe relay stdio {name} for both ways"
    )
    assert (done.returncode, done.stdout, done.stderr.decode().splitlines()) == (1, b"", [said])


@pytest.mark.parametrize("text", ["hello", "", "tëxt", "-x" * 1000])
def test_call_prints_the_answer_s_bytes_and_nothing_else(name: str, text: str) -> None:
    with npipe.serve(name, bytes):
        done = npipe_("call", name, "--", text)
    assert (done.returncode, done.stdout, done.stderr) == (0, text.encode(), b"")


def test_call_sends_all_of_its_input_whatever_the_bytes_are(name: str) -> None:
    data = bytes(range(256)) * 2000
    with npipe.serve(name, lambda request: request[::-1]):
        for more in ((), ("-",)):
            done = npipe_("call", name, *more, data=data)
            assert (done.returncode, done.stdout) == (0, data[::-1])


def test_call_has_no_nul_and_no_wide_text_unless_asked(name: str) -> None:
    with npipe.serve(name, bytes):
        assert npipe_("call", name, "hi").stdout == b"hi"
        assert npipe_("call", name, "hi", "--nul").stdout == b"hi\0"
        assert npipe_("call", name, "hi", "--encoding", "utf-16-le", "--nul").stdout == b"h\0i\0\0\0"


def test_call_with_lines_has_an_answer_for_each_over_one_connection(name: str) -> None:
    clients: list[Any] = []
    with npipe.serve(name, bytes.upper, on_connect=clients.append):
        done = npipe_("call", name, "-i", "lines", data=b"one\n\ntwo")
    assert (done.returncode, done.stdout) == (0, b"ONE\n\nTWO\n")
    assert len(clients) == 1


@pytest.mark.parametrize("message", [b"text", b"\xff\x00\n", b""])
def test_every_form_goes_in_and_comes_out(name: str, message: bytes) -> None:
    forms = {
        "hex": message.hex().encode(),
        "base64": base64.b64encode(message),
        "json": json.dumps({"base64": base64.b64encode(message).decode()}).encode(),
        "length": len(message).to_bytes(4, "little") + message,
    }
    with npipe.serve(name, bytes):
        for form, data in forms.items():
            done = npipe_("call", name, "-i", form, "-o", form, data=data + b"\n" * (form != "length"))
            assert done.returncode == 0, done.stderr
            if form == "json":
                found = json.loads(done.stdout)
                got = base64.b64decode(found["base64"]) if "base64" in found else found["text"].encode()
                assert (got, found["size"]) == (message, len(message))
            else:
                assert done.stdout == data + b"\n" * (form != "length")


@given(
    messages=st.lists(st.binary(max_size=100) | st.text(max_size=30).map(str.encode), max_size=8),
    form=st.sampled_from(["hex", "base64", "json", "length"]),
    size=st.integers(1, 60),
)
def test_what_is_printed_in_a_form_is_read_as_the_same_messages(messages: list[bytes], form: str, size: int) -> None:
    printed = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(printed))
        output = Output(form)
        for message in messages:
            output.put(message)
        stream = io.BytesIO(printed.getvalue())
        assert list(messages_in(lambda _: stream.read(size), form, "utf-8")) == messages


def test_call_repeats_with_its_interval(name: str) -> None:
    with npipe.serve(name, bytes):
        done = npipe_("call", name, "x", "--repeat", "3", "--interval", "0.01", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["text"] for one in found] == ["x"] * 3
    assert all(one["seconds"] >= 0 for one in found)


def test_call_tells_how_long_connecting_and_the_answer_took(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener, npipe.connect(name) as first:
        held = listener.accept(DEADLINE)
        with subprocess.Popen([*NPIPE, "call", name, "x", "--json"], stdout=subprocess.PIPE) as process:
            until(lambda: listener.stats.waiting == 1, DEADLINE)
            began = time.monotonic()
            until(lambda: time.monotonic() - began >= 0.3, DEADLINE)  # it waits for an instance
            first.close()
            held.close()
            with listener.accept(DEADLINE) as pipe:
                assert pipe.recv() == b"x"
                began = time.monotonic()
                until(lambda: time.monotonic() - began >= 0.2, DEADLINE)  # and for its answer
                pipe.send(b"X")
                out, _ = process.communicate(timeout=DEADLINE)
    told = json.loads(out)
    assert set(told) == {"size", "text", "seconds", "connect_seconds", "answer_seconds"}
    assert told["connect_seconds"] >= 0.3
    assert 0.2 <= told["answer_seconds"] == told["seconds"] < DEADLINE


def test_an_interval_that_is_no_time_is_told_and_one_without_end_waits(name: str, ctrl_c: None) -> None:
    with npipe.serve(name, bytes.upper):
        for wrong in ("nan", "-1"):
            done = npipe_("call", name, "x", "--repeat", "2", "--interval", wrong)
            assert (done.returncode, done.stdout) == (2, b"")
            assert b"0 or more seconds" in done.stderr
        for long in ("1e300", "inf"):
            process = subprocess.Popen(
                [*NPIPE, "call", name, "x", "--repeat", "2", "--interval", long],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            with process:
                assert process.stdout is not None
                assert process.stderr is not None
                assert process.stdout.readline() == b"X\n"
                process.send_signal(signal.SIGINT)
                assert process.wait(DEADLINE) == INTERRUPTED
                assert process.stderr.read() == b""


def test_json_that_is_nested_too_deeply_is_no_message(name: str) -> None:
    with npipe.serve(name, bytes.upper):
        for arguments, data in ((["-"], b'"ok"\n' + b"[" * 200_000), (["[" * 100_000], None)):
            done = npipe_("call", name, *arguments, "-i", "json", "-o", "lines", data=data)
            assert (done.returncode, done.stdout) == (7, b"OK\n" if data else b"")
            assert b"nested too deeply" in done.stderr
            assert b"Traceback" not in done.stderr


def test_json_has_no_control_character_in_it(name: str) -> None:
    text = "".join(map(chr, range(256)))
    with npipe.serve(name, bytes):
        done = npipe_("call", name, "-", "--json", data=text.encode())
    assert all(0x20 <= byte < 0x7F for byte in done.stdout.rstrip(b"\n"))
    assert json.loads(done.stdout)["text"] == text


@pytest.mark.parametrize(("closed", "said"), [("<&-", b""), (">&-", b"standard output: ")])
def test_an_input_or_output_that_is_closed_is_told(name: str, closed: str, said: bytes) -> None:
    with npipe.serve(name, bytes.upper):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *NPIPE, "call", name], capture_output=True, timeout=DEADLINE
        )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"npipe: " + said + b"Bad file descriptor\n")


def test_a_file_that_is_not_there_is_a_wrong_use(name: str, tmp_path: Path) -> None:
    done = npipe_("send", name, "--file", str(tmp_path / "nothing"))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"nothing' does not exist" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_file_on_a_full_disk_is_named(name: str) -> None:
    with served(name, lambda pipe: pipe.send(b"x")):
        done = npipe_("cat", name, "--to", "/dev/full")
    assert (done.returncode, done.stderr) == (1, b"npipe: No space left on device: /dev/full\n")


def test_a_message_with_a_line_s_end_is_printed_and_told(name: str) -> None:
    with npipe.serve(name, lambda _request: b"a\nb"):
        done = npipe_("call", name, "x", "-o", "lines")
    assert (done.returncode, done.stdout) == (7, b"a\nb\n")
    assert b"--output json" in done.stderr


def test_each_kind_of_failure_has_its_status_and_one_line(name: str) -> None:
    def silent(pipe: npipe.MessagePipe) -> None:
        pipe.recv(timeout=DEADLINE)
        with pytest.raises(npipe.PipeClosedError):
            pipe.recv(timeout=DEADLINE)

    found = {}
    found["nobody"] = npipe_("call", name, "x")
    with served(name, silent):
        found["time"] = npipe_("call", name, "x", "--timeout", "0.3")
    with served(name, lambda pipe: pipe.recv(timeout=DEADLINE)):
        found["gone"] = npipe_("call", name, "x")
    with served(name, lambda pipe: None, "byte"):
        found["bytes"] = npipe_("call", name, "x")
    found["name"] = npipe_("call", "C:\\x", "x")
    found["data"] = npipe_("call", name, "xyz", "-i", "hex")
    found["use"] = npipe_("call", name, "x", "-i", "nothing")
    statuses = {kind: done.returncode for kind, done in found.items()}
    assert statuses == {"nobody": 3, "time": 4, "gone": 6, "bytes": 1, "name": 2, "data": 7, "use": 2}
    for done in found.values():
        assert done.stdout == b""
        assert done.stderr.startswith(b"npipe: ")
        assert done.stderr.count(b"\n") == 1


def test_to_a_terminal_no_control_character_goes_raw(name: str) -> None:
    with npipe.serve(name, lambda _request: b"a\x1b[2J\x07\r\xff\x9bz\n"):
        status, got = on_a_terminal("call", name, "x")
    assert status == 0
    assert got.replace(b"\r\n", b"\n") == rb"a\x1b[2J\x07\r\xff\x9bz" + b"\n"


def test_ctrl_c_ends_it_by_the_signal_without_a_traceback(name: str, ctrl_c: None) -> None:
    with npipe.listen(name) as listener:
        process = subprocess.Popen([*NPIPE, "call", name, "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with listener.accept(DEADLINE) as pipe:
            assert pipe.recv(timeout=DEADLINE) == b"x"
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE) == INTERRUPTED
        assert process.communicate(timeout=DEADLINE) == (b"", b"")


def test_a_full_disk_is_one_line(name: str) -> None:
    with npipe.serve(name, bytes), Path("/dev/full").open("wb") as full:
        done = subprocess.run([*NPIPE, "call", name, "x"], stdout=full, stderr=subprocess.PIPE, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (1, b"npipe: standard output: No space left on device\n")


FULL_AFTER_100 = """
import os
import resource
import sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
os.execv(sys.executable, [sys.executable, "-B", "-m", "npipe", *sys.argv[1:]])
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_disk_that_takes_a_part_is_told(name: str, tmp_path: Path, unbuffered: str) -> None:
    with npipe.serve(name, bytes), (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", FULL_AFTER_100, "call", name, "x" * 150],
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=DEADLINE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert (done.returncode, done.stderr) == (1, b"npipe: standard output: File too large\n")
    assert (tmp_path / "out").read_bytes() == b"x" * 100


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_does_not_wait_gets_all(name: str, unbuffered: str) -> None:
    sent = [bytes([number]) * 60000 for number in range(64)]

    def send(pipe: npipe.MessagePipe) -> None:
        for message in sent:
            pipe.send(message, timeout=DEADLINE)
        pipe.flush(timeout=DEADLINE)

    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with served(name, send):
        process = subprocess.Popen(
            [*NPIPE, "cat", name],
            stdout=writes,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
        os.close(writes)
        with os.fdopen(reads, "rb") as file:
            got = file.read()
    assert process.communicate(timeout=DEADLINE)[1] == b""
    assert process.returncode == 0
    assert got == b"".join(sent)


def test_an_input_that_does_not_wait_is_waited_for(name: str) -> None:
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    with (
        subprocess.Popen([*NPIPE, "listen", name], stdin=reads, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it,
        npipe.connect(name, timeout=DEADLINE, wait_for_server=True) as pipe,
    ):
        assert it.stdout is not None
        assert it.stderr is not None
        os.close(reads)
        pipe.send(b"said", timeout=DEADLINE)
        assert it.stdout.readline() == b"said\n"  # so it waits for its input too
        os.write(writes, b"heard\n")
        assert pipe.recv(timeout=DEADLINE) == b"heard"
        pipe.close()
        os.close(writes)
        assert it.stderr.read() == b""
        assert it.wait(DEADLINE) == 0


# ---- send and cat


def test_send_ends_when_all_is_read_and_tells_when_it_is_not(name: str) -> None:
    got: list[bytes] = []

    def three(pipe: npipe.MessagePipe) -> None:
        got.extend(pipe.recv(timeout=DEADLINE) for _ in range(3))

    with served(name, three):
        done = npipe_("send", name, "-i", "lines", data=b"1\n22\n333\n")
    assert (done.returncode, done.stdout, done.stderr, got) == (0, b"", b"", [b"1", b"22", b"333"])
    with served(name, lambda pipe: pipe.recv(timeout=DEADLINE)):
        assert npipe_("send", name, "-i", "lines", data=b"1\n22\n333\n").returncode == 6


@pytest.mark.parametrize("mode", ["message", "byte"])
def test_a_file_is_sent_and_read_again_with_its_checksum(name: str, tmp_path: Path, mode: str) -> None:
    data = os.urandom(1_000_000)
    (tmp_path / "out").write_bytes(data)
    got = bytearray()

    def read(pipe: Any) -> None:
        with contextlib.suppress(npipe.PipeClosedError):
            while True:
                got.extend(pipe.recv(timeout=DEADLINE) if mode == "message" else pipe.read(65536, timeout=DEADLINE))

    with served(name, read, mode):
        done = npipe_("send", name, "--file", str(tmp_path / "out"), "--json")
    found = json.loads(done.stdout)
    assert found["sha256"] == hashlib.sha256(data).hexdigest() == hashlib.sha256(got).hexdigest()
    assert found["bytes"] == len(data)

    def write(pipe: Any) -> None:
        (pipe.send if mode == "message" else pipe.write)(bytes(got), timeout=DEADLINE)
        pipe.flush(timeout=DEADLINE)

    with served(name, write, mode):
        done = npipe_("cat", name, "--to", str(tmp_path / "in"), "--checksum")
    assert done.returncode == 0
    assert (tmp_path / "in").read_bytes() == data
    assert found["sha256"].encode() in done.stderr


def test_cat_prints_messages_until_the_server_closes_or_there_were_enough(name: str) -> None:
    def write(pipe: npipe.MessagePipe) -> None:
        with contextlib.suppress(npipe.PipeClosedError):  # of one that has had enough
            for message in (b"one", b"", b"\xff"):
                pipe.send(message)
            pipe.flush(timeout=DEADLINE)

    with served(name, write):
        assert npipe_("cat", name, "-o", "hex").stdout == b"6f6e65\n\nff\n"
    with served(name, write):
        assert npipe_("cat", name).stdout == b"one\xff"
    with served(name, write):
        assert npipe_("cat", name, "--count", "1", "--json").stdout == b'{"size": 3, "text": "one"}\n'


def test_cat_of_a_pipe_that_only_sends_and_send_to_one_that_only_takes(name: str) -> None:
    with npipe.listen(name, access="outbound") as listener:
        process = subprocess.Popen([*NPIPE, "cat", name], stdout=subprocess.PIPE)
        with process, listener.accept(DEADLINE) as pipe:
            pipe.send(b"x")
            pipe.flush(timeout=DEADLINE)
            pipe.close()
            assert process.communicate(timeout=DEADLINE)[0] == b"x"
    with npipe.listen(name, access="inbound") as listener:
        process = subprocess.Popen([*NPIPE, "send", name, "y"])
        with process, listener.accept(DEADLINE) as pipe:
            assert pipe.recv(timeout=DEADLINE) == b"y"
        assert process.returncode == 0


# ---- listen


def test_listen_prints_what_comes_and_sends_its_input(name: str) -> None:
    process = subprocess.Popen([*NPIPE, "listen", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdin is not None
        process.stdin.write(b"hello\nworld\n")
        process.stdin.flush()
        with npipe.connect(name, wait_for_server=True, timeout=DEADLINE) as pipe:
            assert [pipe.recv(timeout=DEADLINE) for _ in range(2)] == [b"hello", b"world"]
            pipe.send(b"one")
            pipe.send(b"two")
        assert process.stdout is not None
        assert process.stdout.read() == b"one\ntwo\n"  # its input is still open
    assert process.returncode == 0


def test_listen_with_keep_takes_one_client_after_the_other(name: str, ctrl_c: None) -> None:
    process = subprocess.Popen(
        [*NPIPE, "listen", name, "--keep", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        for text in ("a", "b"):
            with npipe.connect(name, wait_for_server=True, timeout=DEADLINE) as pipe:
                pipe.send(text.encode())
            assert json.loads(process.stdout.readline()) == {"size": 1, "text": text}
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == INTERRUPTED


UNHEARD = """
import signal
import sys
import threading
from npipe.cli.app import run
# The system gives the signal to the other thread, so it ends no sleep of the main thread's: as if it had come between
# a call's last look and its sleep.
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["listen", "cat", "call"])
def test_a_ctrl_c_that_ends_no_sleep_is_heard_all_the_same(name: str, command: str, ctrl_c: None) -> None:
    more = {"listen": ["--keep"], "cat": ["--poll"], "call": ["x", "--timeout", "inf"]}[command]
    with contextlib.ExitStack() as stack:
        listener = None if command == "listen" else stack.enter_context(npipe.listen(name))
        process = subprocess.Popen(
            [sys.executable, "-c", UNHEARD, command, name, *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        stack.enter_context(process)
        stack.callback(process.kill)
        assert process.stdout is not None
        if listener is None:
            pipe = stack.enter_context(npipe.connect(name, wait_for_server=True, timeout=DEADLINE))
            pipe.send(b"a")
            assert process.stdout.readline() == b"a\n"
        else:
            pipe = stack.enter_context(listener.accept(DEADLINE))
            if command == "call":
                assert pipe.recv(timeout=DEADLINE) == b"x"
        until(lambda: asleep(process.pid))
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130


def test_listen_with_keep_outlives_a_client_that_is_killed(name: str, ctrl_c: None) -> None:
    process = subprocess.Popen(
        [*NPIPE, "listen", name, "--keep"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        program = f"import npipe; p = npipe.connect({name!r}, wait_for_server=True); p.send(b'one'); input()"
        client = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
        with client:
            assert process.stdout.readline() == b"one\n"
            client.kill()
        assert b"process has ended without closing its end" in process.stderr.readline()
        with npipe.connect(name, timeout=DEADLINE) as pipe:
            pipe.send(b"two")
        assert process.stdout.readline() == b"two\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == INTERRUPTED


def test_what_cat_has_taken_is_in_its_file_when_it_is_killed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "got"

    def send(pipe: npipe.MessagePipe) -> None:
        for message in (b"first", b"second"):
            pipe.send(message, timeout=DEADLINE)
            pipe.flush(timeout=DEADLINE)  # of the second one: so the first has been written
        process.kill()
        process.wait(DEADLINE)

    with npipe.listen(name) as listener:
        process = subprocess.Popen([*NPIPE, "cat", name, "--to", str(path)])
        with listener.accept(DEADLINE) as pipe:
            send(pipe)
    assert path.read_bytes() in (b"first", b"firstsecond")


# ---- repl


def test_repl_without_a_terminal_answers_line_by_line(name: str) -> None:
    with npipe.serve(name, bytes.upper):
        done = npipe_("repl", name, data=b"one\n.hex 74 77 6f\n.show hex\nab\n..dot\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ONE\nTWO\n41 42\n2e 44 4f 54\n", b"")


def test_repl_tells_what_is_wrong_once_and_goes_on(name: str) -> None:
    with npipe.serve(name, bytes.upper):
        done = npipe_("repl", name, data=b".nonsense\n.hex zz\none\n.show foo\n.timeout -1\n")
    assert done.stdout == b"ONE\n"
    told = done.stderr.decode().splitlines()
    assert [line.partition(": ")[0] for line in told] == ["npipe"] * 4
    assert told[0] == "npipe: .nonsense is not known; .help tells what there is"
    assert told[2] == "npipe: .show takes text or hex, not 'foo'"
    assert told[3] == "npipe: '-1' is no number of seconds"
    assert done.returncode == 2


@pytest.mark.parametrize(("last", "status"), [(b"two", 0), (b".file /nonexistent", 3), (b".timeout x", 2)])
def test_repl_s_status_is_its_last_line_s(name: str, last: bytes, status: int) -> None:
    with npipe.serve(name, bytes.upper):
        done = npipe_("repl", name, data=b".nonsense\none\n" + last + b"\n")
    assert done.returncode == status
    assert done.stdout == (b"ONE\nTWO\n" if status == 0 else b"ONE\n")
    assert done.stderr.count(b"\n") == 1 + (status != 0)


def test_repl_sends_what_is_no_text_as_the_same_bytes(name: str) -> None:
    got: list[bytes] = []

    def serve(message: bytes) -> bytes:
        got.append(message)
        return message

    with npipe.serve(name, serve):
        done = subprocess.run(
            [*NPIPE, "repl", name],
            input=b"a\xffb\nnext\n",
            capture_output=True,
            timeout=DEADLINE,
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\\xffb\nnext\n", b"")
    assert got == [b"a\xffb", b"next"]


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "a\0b"])
def test_repl_goes_on_behind_what_is_no_path(name: str, path: str) -> None:
    with npipe.serve(name, bytes):
        done = npipe_("repl", name, data=f".file {path}\nnext\n".encode())
    assert (done.returncode, done.stdout) == (0, b"next\n")
    assert done.stderr.startswith(b"npipe: ")
    assert done.stderr.count(b"\n") == 1


def test_repl_takes_no_late_answer_for_the_next_one_s_though_it_is_empty(name: str) -> None:
    def serve(pipe: npipe.MessagePipe) -> None:
        assert pipe.recv(timeout=DEADLINE) == b"one"
        for late in (b"", b"late", b""):
            pipe.send(late, timeout=DEADLINE)
        assert process.stdin is not None
        process.stdin.write(b"two\n")
        process.stdin.close()
        assert pipe.recv(timeout=DEADLINE) == b"two"
        pipe.send(b"answer", timeout=DEADLINE)
        with contextlib.suppress(npipe.PipeClosedError):
            pipe.recv(timeout=DEADLINE)

    with served(name, serve):
        process = subprocess.Popen([*NPIPE, "repl", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(b".send one\n")
        process.stdin.flush()
        assert process.stdout is not None
        assert process.stdout.read() == b"\nlate\n\nanswer\n"
    process.stdout.close()
    assert process.wait(DEADLINE) == 0


def test_repl_on_a_terminal_keeps_a_history_and_shows_nothing_raw(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "dumb")
    with npipe.serve(name, lambda _request: b"\x1b[31mred"):
        status, got = on_a_terminal("repl", name, keys=(b"hello\n", b"\x04"))
    assert status == 0
    assert rb"\x1b[31mred" in got
    assert b"\x1b[31m" not in got
    history = tmp_path / "npipe" / "history"
    assert "hello" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


# ---- help


@pytest.mark.parametrize("command", ["call", "send", "cat", "listen", "repl", "relay"])
def test_the_help_teaches_with_examples(command: str) -> None:
    done = npipe_(command, "--help")
    text = done.stdout.decode()
    assert "\nExamples:\n" in text.replace("  Examples:", "Examples:")
    assert "Exit status:" in text
    assert f"npipe {command} " in text


def test_a_ctrl_c_in_the_middle_of_another_one_hangs_nothing(child: Callable[..., Child]) -> None:
    program = child(
        """
        import contextlib, faulthandler, signal, sys, threading
        from npipe.cli.interrupts import hears_interrupts

        def trace(frame, event, argument):  # the handler, and what it calls
            if "interrupt" in (frame.f_code.co_name, frame.f_back and frame.f_back.f_code.co_name):
                return interrupt

        def interrupt(frame, event, argument):
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            times.append(event)
            return interrupt

        times = []

        @hears_interrupts
        def command():
            sys.settrace(trace)
            signal.raise_signal(signal.SIGINT)

        faulthandler.dump_traceback_later(20, exit=True)
        try:
            command()
        except KeyboardInterrupt:
            sys.settrace(None)
            print("ended", threading.active_count(), len(times) > 1, flush=True)
        """
    )
    assert program.line() == "ended 1 True"
    assert program.wait() == 0


def test_a_command_ends_although_a_child_that_it_has_forked_lives_on(child: Callable[..., Child]) -> None:
    program = child(
        """
        import faulthandler, os, signal
        from npipe.cli.interrupts import hears_interrupts

        @hears_interrupts
        def command():
            pid = os.fork()
            if pid == 0:
                signal.pause()
            return pid

        faulthandler.dump_traceback_later(20, exit=True)
        pid = command()
        print("ended", flush=True)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        """
    )
    assert program.line() == "ended"
    assert program.wait() == 0
