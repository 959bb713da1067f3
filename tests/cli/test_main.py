"""The command `npipe` as a whole: help, version, wrong use, and what it says when its libraries are missing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

import npipe
from npipe.cli import main
from tests.cli.helpers import NPIPE, run


def test_version_is_the_package_s_and_says_where_pipes_are(root: Path) -> None:
    done = run("--version")
    where = "on this machine" if sys.platform == "win32" else f"below {root}"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"npipe {npipe.__version__}, pipes {where}\n", "")


def test_without_arguments_it_prints_its_help() -> None:
    done = run()
    assert done.returncode == 0
    assert done.stderr == ""
    for word in ("client", "serve", "wait", "ls", "info", "NPIPE_ROOT"):
        assert word in done.stdout


COMMANDS = [
    *(
        "bench",
        "call",
        "cat",
        "client",
        "completion",
        "demo",
        "doctor",
        "export",
        "info",
        "listen",
        "ls",
        "metrics",
        "relay",
    ),
    *("repl", "replay", "run", *(["samba"] if sys.platform != "win32" else []), "send", "serve", "trace", "wait"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help(command: str) -> None:
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: npipe {command} ")
    assert "\\b" not in done.stdout  # click's mark, in a raw docstring
    lines = done.stdout.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("  Examples"):  # each on a line of its own
            assert lines[number + 1].startswith("    ")
            assert line.endswith(":")
        assert "Examples:" not in line or line == "  Examples:"


def test_the_list_of_commands_says_of_each_what_it_does_in_a_whole_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("--help").stdout.partition("Commands:\n")[2].splitlines()
    listed = {line.split()[0]: line for line in lines}
    assert set(COMMANDS) <= set(listed)
    assert [line for line in lines if not line.endswith(".") or line.endswith("..")] == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["shout"], "npipe: No such command 'shout'. See 'npipe --help'."),
        (["wait"], "npipe: Missing argument 'NAME'. See 'npipe wait --help'."),
        (["client", "--encoding", "hex"], "npipe: Invalid value for '--encoding': 'hex' is no encoding of text. "),
        (["client", "--encoding", "undefined"], "npipe: Invalid value for '--encoding': 'undefined' is no encoding"),
        (["client", "--wait-seconds", "-1"], "npipe: Invalid value for '--wait-seconds': a timeout is 0 or more"),
        (["wait", "x", "--timeout", "nan"], "npipe: Invalid value for '--timeout': a timeout is 0 or more seconds"),
        (
            ["serve", "--model", "parallel"],
            "npipe: Invalid value for '--model': 'parallel' is not one of 'threaded', 'overlapped', 'completion'.",
        ),
        (["serve", "--security", "me"], "npipe: Invalid value for '--security': security is \"owner\", "),
        (["serve", "--echo", "--answer", "x"], "npipe: --answer, --echo and --exec exclude each other."),
        (["serve", "--exec", "cat", "--answer", ""], "npipe: --answer, --echo and --exec exclude each other."),
        (["serve", "--max-instances", "0"], "npipe: Invalid value for '--max-instances': 0 is not in the range"),
        (["serve", "--encoding", "ascii", "--answer", "\xe9"], "npipe: Invalid value for --answer: ascii cannot write"),
    ],
)
def test_a_wrong_use_is_one_line_and_status_2(arguments: list[str], line: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_it_says_in_one_line_what_to_install(missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; from npipe.cli import main; sys.exit(main(['ls']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stdout == ""
    assert (
        done.stderr
        == f"npipe: the command needs {missing}: pip install 'npipe[cli]' (`python -m npipe demo` does without)\n"
    )


def test_the_library_needs_neither_of_them() -> None:
    script = "import npipe, sys; npipe.list_pipes(); print([m for m in ('click', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_main_returns_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["wait", "nobody"]) == 3
    assert main(["wait"]) == 2
    capsys.readouterr()


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([*NPIPE, "ls"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=30)
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*NPIPE, "ls"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == "npipe: [Errno 28] No space left on device\n"


def test_a_root_folder_that_others_may_write_to_is_one_line(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    done = run("wait", "x")
    assert done.returncode == 5
    assert done.stderr.startswith("npipe: [WinError 5] ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_ctrl_c_at_any_moment_ends_it_by_the_signal_and_without_a_word() -> None:
    moments = [random.uniform(0, 0.6) for _ in range(20)]
    # As its script begins, and it says when it has: what Python does before is Python's.
    script = (
        "import _npipe_command, os, sys; _npipe_command.take_interrupts(); os.write(1, b'begun\\n'); "
        "sys.argv = ['npipe', 'wait', 'nobody', '--create']; sys.exit(_npipe_command.main())"
    )
    for moment in moments:
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            time.sleep(moment)  # it is what is tried
            process.send_signal(signal.SIGINT)
            assert (*process.communicate(timeout=30), process.returncode) == (b"", b"", -signal.SIGINT), moment


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_its_script_and_its_module_begin_with_that() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="npipe")
    assert script.value == "_npipe_command:main"
    looks = "import signal, runpy; runpy.run_module('npipe', run_name='other'); print(signal.getsignal(signal.SIGINT))"
    done = subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True, timeout=30)
    assert "default_int_handler" in done.stdout  # who imports it keeps what it has
    trace = [sys.executable, "-v", "-m", "npipe", "--version"]
    loads = subprocess.run(trace, capture_output=True, text=True, timeout=60).stderr.splitlines()
    began = next(n for n, line in enumerate(loads) if line.startswith("import '_npipe_command'"))
    assert not any(line.startswith("import 'npipe.") for line in loads[:began])


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_whoever_ignores_ctrl_c_goes_on_ignoring_it(name: str) -> None:
    with subprocess.Popen(
        [*NPIPE, "wait", name, "--create"],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as process:
        process.send_signal(signal.SIGINT)
        with npipe.listen(name):
            assert process.wait(30) == 0
