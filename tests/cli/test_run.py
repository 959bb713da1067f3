"""`npipe run` beside `python`: the same program, with the same results."""

from __future__ import annotations

import json
import os
import py_compile
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.helpers import INTERRUPTED

if TYPE_CHECKING:
    from pathlib import Path

REPORT = """
import __main__, builtins, json, os.path, sys
print(json.dumps({
    "argv": sys.argv,
    "path0": sys.path[0],
    "name": __name__,
    "file": os.path.normpath(globals().get("__file__") or ""),
    "package": __package__,
    "spec": __spec__ and __spec__.name,
    "loader": __loader__ and getattr(__loader__, "__name__", type(__loader__).__name__),
    "main": __main__.__dict__ is globals(),
    "future": "annotations" in globals(),
    "builtins": __builtins__ is builtins,
    "names": sorted(globals()),
}))
"""
NPIPE = ("-m", "npipe", "run")


def python(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def alike(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command does with these arguments what python does with them."""
    wanted = python(*arguments, folder=folder, **environment)
    got = python(*NPIPE, *arguments, folder=folder, **environment)
    assert (got.returncode, got.stdout, got.stderr) == (wanted.returncode, wanted.stdout, wanted.stderr)
    return got


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    for script in (tmp_path / "script.py", tmp_path / "package" / "__main__.py", tmp_path / "package" / "part.py"):
        script.write_text(REPORT)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.py").symlink_to(tmp_path / "script.py")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("script.py",),
        ("./script.py", "--help", "-m", "-c", "--", "x"),
        ("elsewhere/link.py", "-h"),
        ("-c", REPORT, "-h", "--", "a b"),
        ("-c" + REPORT,),
    ],
)
def test_a_program_finds_what_it_finds_under_python(folder: Path, arguments: tuple[str, ...]) -> None:
    done = alike(folder, *arguments)
    assert done.returncode == 0
    facts = json.loads(done.stdout)
    assert facts["name"] == "__main__"
    assert facts["main"]
    assert not facts["future"]


@pytest.mark.parametrize(
    "arguments",
    [("-m", "package.part", "-h", "-c"), ("-m", "package"), ("-mpackage.part", "a"), ("package", "-m", "x")],
)
def test_a_module_or_a_folder_is_the_main_module(folder: Path, arguments: tuple[str, ...]) -> None:
    wanted = json.loads(python(*arguments, folder=folder).stdout)
    got = json.loads(python(*NPIPE, *arguments, folder=folder).stdout)
    for fact in ("argv", "path0", "name", "package", "spec", "loader"):
        assert got[fact] == wanted[fact], fact


def test_the_search_path_is_left_alone_where_python_leaves_it_alone(folder: Path) -> None:
    alike(folder, "script.py", PYTHONSAFEPATH="1")


@pytest.mark.parametrize("switches", [(), ("--as-windows",)])
def test_a_current_folder_that_is_gone_keeps_no_program_from_running(folder: Path, switches: tuple[str, ...]) -> None:
    for arguments in (("-c", "print(1)"), ("-m", "json.tool", "--help"), (str(folder / "script.py"),)):
        code = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        gone = folder / "gone"
        gone.mkdir()
        done = python("-c", code, *NPIPE, *switches, *arguments, folder=gone)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout


def test_a_program_imports_pywin32s_names(folder: Path) -> None:
    code = "import win32con, win32pipe, win32file, winerror; print(win32con.OPEN_EXISTING, winerror.ERROR_PIPE_BUSY)"
    (folder / "script.py").write_text(code)
    for arguments in (("script.py",), ("-c", code), ("-m", "script")):
        done = python(*NPIPE, *arguments, folder=folder)
        assert (done.returncode, done.stdout, done.stderr) == (0, "3 231\n", "")


def test_threads_and_exit_handlers_that_outlive_the_program_find_them_too(folder: Path) -> None:
    code = """
import atexit, threading, time
def late(what):
    import win32event
    print(what, win32event.__name__ in ("win32event", "npipe.win32.win32event"), __name__)
atexit.register(late, "at exit")
threading.Timer(0.2, late, ["thread"]).start()
"""
    done = python(*NPIPE, "-c", code, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "thread True __main__\nat exit True __main__\n"


@pytest.mark.parametrize(
    "code",
    [
        "pass",
        "raise SystemExit",
        "raise SystemExit(0)",
        "raise SystemExit(7)",
        "raise SystemExit(True)",
        "raise SystemExit(-1)",
        "raise SystemExit(300)",
        "raise SystemExit('out of paper')",
        "import sys; sys.exit(['a', 1])",
        "raise EOFError('an end')",
        "raise OSError(2, 'gone')",
        "import npipe; raise npipe.PipeNotFoundError(pipe_name='x')",
        "import click; raise click.ClickException('mine')",
        "import click; raise click.exceptions.Exit(9)",
        "import nosuchmodule",
        "def f():\n    1 / 0\nf()",
        "this is no Python",
        "import sys; sys.excepthook = lambda *a: print('hooked', a[0].__name__); 1 / 0",
        "import os; os._exit(5)",
        "import sys; sys.excepthook = lambda *a: 1 / 0; raise ValueError('first')",
        "import sys; sys.excepthook = lambda *a: sys.exit(7); raise ValueError('first')",
        "import sys; sys.excepthook = None; raise ValueError('first')",
        "import sys; sys.stderr = None; sys.exit('unheard')",
        "import sys; sys.stderr = None; raise ValueError('unheard')",
        "import atexit, sys; atexit.register(lambda: print(sys.last_type, repr(sys.last_value))); 1 / 0",
    ],
)
def test_exit_statuses_and_tracebacks_are_pythons(folder: Path, code: str) -> None:
    (folder / "failing.py").write_text(code)
    alike(folder, "failing.py")


def test_ctrl_c_is_130_with_a_traceback(folder: Path) -> None:
    done = python(*NPIPE, "-c", "raise KeyboardInterrupt", folder=folder)
    assert done.returncode == INTERRUPTED
    assert done.stderr.endswith("KeyboardInterrupt\n")
    assert "run.py" not in done.stderr


def test_a_script_that_is_not_there_is_a_wrong_use(folder: Path) -> None:
    done = python(*NPIPE, "nosuch.py", folder=folder)
    assert done.returncode == 2
    assert done.stderr == "npipe: Cannot open 'nosuch.py': No such file or directory. See 'npipe run --help'.\n"


def test_a_module_that_is_not_there_is_one_line(folder: Path) -> None:
    for module in ("nosuch", "nosuch.part", "package.nosuch"):
        done = python(*NPIPE, "-m", module, folder=folder)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert module.partition(".")[0] in done.stderr


def test_without_a_program_it_says_what_is_missing(folder: Path) -> None:
    done = python(*NPIPE, folder=folder)
    assert done.returncode == 2
    assert "Missing a SCRIPT, -m MODULE or -c CODE." in done.stderr
    for option in ("-m", "-c"):
        done = python(*NPIPE, option, folder=folder)
        assert done.returncode == 2
        assert f"Option '{option}' requires an argument." in done.stderr


def test_its_own_help_comes_before_the_program(folder: Path) -> None:
    for option in ("-h", "--help"):
        done = python(*NPIPE, option, folder=folder)
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: npipe run")


def test_a_compiled_script_and_standard_input_are_programs_too(folder: Path) -> None:
    py_compile.compile(str(folder / "script.py"), cfile=str(folder / "compiled.pyc"))
    assert alike(folder, "compiled.pyc", "-m", "x").returncode == 0
    for code in (REPORT, "1 / 0\n", "import sys; print(sys.stdin.read()); sys.exit(3)\n"):
        wanted, got = (
            subprocess.run([sys.executable, *start, "-", "-c"], cwd=folder, input=code, capture_output=True, text=True)
            for start in ((), NPIPE)
        )
        assert (got.returncode, got.stdout, got.stderr) == (wanted.returncode, wanted.stdout, wanted.stderr)
