"""--json of the commands that talk and serve: what they print, content compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import npipe
from npipe.cli.app import _PLACES
from tests.cli.helpers import DEADLINE, INTERRUPTED, NPIPE, run
from tests.helpers import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals, and users")


def objects(text: str | bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def without(told: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key not in keys}


def test_wait_tells_how_long_it_took_and_the_code(name: str) -> None:
    done = run("wait", name, "--json")
    assert done.returncode == 3
    assert without(json.loads(done.stdout), "seconds") == {"name": name, "code": 2}
    assert done.stderr.startswith("npipe: [WinError 2] ")
    with npipe.listen(name, max_instances=1) as listener:
        there = run("wait", name, "--json")
        assert (there.returncode, without(json.loads(there.stdout), "seconds")) == (0, {"name": name, "code": 0})
        with npipe.connect(name), listener.accept(DEADLINE):
            busy = run("wait", name, "--json", "--timeout", "0.2")
    told = json.loads(busy.stdout)
    assert (busy.returncode, without(told, "seconds")) == (4, {"name": name, "code": 121})
    assert 0.2 <= told["seconds"] < DEADLINE
    wrong = run("wait", "", "--json")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_wait_that_ctrl_c_ends_prints_nothing(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener, npipe.connect(name), listener.accept(DEADLINE):
        with subprocess.Popen(
            [*NPIPE, "wait", name, "--json", "--timeout", "inf"],
            stdout=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            until(lambda: listener.stats.waiting == 1)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=DEADLINE)
            assert (process.returncode, out) == (INTERRUPTED, b"")


def test_serve_has_a_line_for_each_event(name: str) -> None:
    with subprocess.Popen(
        [*NPIPE, "serve", name, "--echo", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        begun = json.loads(server.stdout.readline())
        assert without(begun, "time") == {"event": "listening", "name": name, "pid": server.pid}
        with npipe.connect(name) as pipe:
            assert [pipe.transact(data) for data in (b"one", b"")] == [b"one", b""]
            came = json.loads(server.stdout.readline())
        left = json.loads(server.stdout.readline())
        server.terminate()
        out, err = server.communicate(timeout=DEADLINE)
    assert without(came, "time", "peer") == {"event": "connected", "connection": 1}
    assert (came["peer"]["pid"], came["peer"]["uid"]) == (os.getpid(), os.getuid())
    assert without(left, "time") == {"event": "disconnected", "connection": 1, "requests": 2}
    assert [without(event, "time") for event in objects(out)] == [{"event": "ended", "signal": "SIGTERM"}]
    assert (server.returncode, err) == (0, b"")
    assert begun["time"] <= came["time"] <= left["time"]


def test_a_server_whose_events_nobody_reads_any_more_serves_on_without_a_word(name: str) -> None:
    with subprocess.Popen(
        [*NPIPE, "serve", name, "--echo", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        assert json.loads(server.stdout.readline())["event"] == "listening"
        server.stdout.close()
        for data in (b"one", b"two"):
            assert npipe.call(name, data, timeout=DEADLINE) == data
        server.terminate()
        assert server.stderr.read() == b""
        assert server.wait(DEADLINE) == 0


def test_client_tells_its_steps(name: str) -> None:
    answer = "r\N{LATIN SMALL LETTER E WITH ACUTE}ponse \x1b[31m" + "x" * 600
    with npipe.serve(name, lambda _request: answer.encode() + b"\0"):
        done = run("client", name, "hello", "--encoding", "utf-8", "--json")
    told = objects(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert told[0] == {"event": "sending", "size": 6, "text": "hello"}
    assert [event["event"] for event in told[1:]] == ["reply", "reply", "end"]
    assert "".join(event["text"] for event in told[1:3]) == answer
    assert "\x1b" not in done.stdout
    gone = run("client", name, "--json")
    assert gone.returncode == 3
    assert objects(gone.stdout) == [{"event": "failed", "what": "Could not open pipe.", "code": 2}]


def test_repl_prints_answers_and_errors_as_json(name: str) -> None:
    with npipe.serve(name, lambda request: b"\xff" if request == b"raw" else request.upper()):
        done = subprocess.run(
            [*NPIPE, "repl", name, "--json"],
            input="one\nraw\n.nothing\n",
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    first, second, third = objects(done.stdout)
    assert without(first, "seconds") == {"size": 3, "text": "ONE"}
    assert without(second, "seconds") == {"size": 1, "base64": "/w=="}
    assert third == {"error": ".nothing is not known; .help tells what there is", "code": None}
    assert 0 < first["seconds"] < DEADLINE
    assert done.returncode == 2


NOT_FOR = {"completion", "demo", "run"}  # a program for a shell; a story; the script's own output


@pytest.mark.parametrize("command", sorted(_PLACES))
def test_each_command_has_json_where_it_prints_anything_of_its_own(command: str) -> None:
    words = (command, "config") if command == "samba" else (command,)
    assert ("--json" in run(*words, "--help").stdout) == (command not in NOT_FOR)
