"""`npipe run`: a Python program for Windows' pipes, unchanged, as `python` would run it."""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import sys
import types
import zipfile
from importlib.machinery import BuiltinImporter, PathFinder, SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER, find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from npipe.cli.common import examples
from npipe.cli.statuses import FAILED, WRONG_USE, statuses

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec

__all__ = ["run_script"]

_FAILED = 1
_STDERR = 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells count


class _AsPython(click.Command):
    """Reads its command line as python does: what comes after the program is the program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours = 0
        while ours < len(args) and args[ours].split("=")[0] in _SWITCHES:
            ours += 2 if args[ours] == "--also" else 1
        ours = min(ours, len(args))
        switches, rest = args[:ours], args[ours:]
        first = rest[0] if rest else ""
        if rest[1:] and first in ("-m", "-c"):
            rest = [*rest[:2], "--", *rest[2:]]
        elif first[2:] and first[:2] in ("-m", "-c"):  # the option and its value in one
            rest = [first, "--", *rest[1:]]
        elif not first[1:] or not first.startswith("-"):  # "-" is standard input
            rest = ["--", *rest]
        return super().parse_args(ctx, [*switches, *rest])


_DOORS = {
    "pywin32": "win32pipe, win32file and the other modules of pywin32",
    "files": "open(), os and pathlib on pipes' names",
    "asyncio": "asyncio's Proactor loop",
    "ctypes": "ctypes.WinDLL('kernel32')",
    "winapi": "_winapi, _overlapped, msvcrt and multiprocessing's AF_PIPE",
    "children": "the same for Python processes that the program starts",
}
_SWITCHES = ("--as-windows", "--also", *(f"--{no}{door}" for door in _DOORS for no in ("", "no-")))


def _switches(command: Callable[..., int]) -> Callable[..., int]:
    for door, text in reversed(_DOORS.items()):
        command = click.option(f"--{door}/--no-{door}", default=True, show_default=True, help=f"Open {text}.")(command)
    return command


_EXAMPLES = examples(r"""Examples:
  npipe run server.py --port 1                    pywin32's modules are there
  npipe run --as-windows -m package client        and it believes that it is on Windows
  npipe run --no-ctypes -c 'import win32pipe; print(win32pipe)'
""")
_STATUSES = statuses(
    saying={
        0: "the program has ended well; else it is the program's own",
        FAILED: "also: an exception that it does not catch",
        WRONG_USE: "also: wrong use of npipe run",
    }
)


@click.command(
    "run",
    cls=_AsPython,
    epilog=f"{_EXAMPLES}\n{_STATUSES}",
    options_metavar="[SWITCHES]",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@_switches
@click.option(
    "--as-windows",
    is_flag=True,
    help="Tell the program's own modules that they run on Windows (sys.platform, os.name).",
)
@click.option("--also", multiple=True, metavar="PACKAGE", help="Tell this package so too, with --as-windows.")
@click.option("-m", "module", metavar="MODULE", help="Run a module, which is searched for from the current folder on.")
@click.option("-c", "code", metavar="CODE", help="Run the program that is given here.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT | -m MODULE | -c CODE] [ARGS]...")
def run_script(
    module: str | None,
    code: str | None,
    arguments: tuple[str, ...],
    *,
    as_windows: bool,
    also: tuple[str, ...],
    **doors: bool,
) -> int:
    """Run a Python program for Windows that uses pipes, as it is.

    It finds pipes where it would look for them on Windows: each switch is one way there, and docs/porting.md says what
    each does and what it cannot. The program runs as under python otherwise: the same arguments, search path, exit
    status and tracebacks. SCRIPT may also be a folder or a ZIP file with a __main__.py, a compiled .pyc, or - for
    standard input.
    """
    if also and not as_windows:
        raise click.UsageError("--also goes with --as-windows.")
    from npipe.win32 import install

    if sys.platform != "win32":
        from npipe._doors.children import end_inherited

        end_inherited()  # this command's own switches count
    # For good: what runs when the program's end is reached, its threads too, needs them. On Windows nothing is done.
    install(**doors, platform=also or as_windows)
    if module is not None:
        name = module
        return _status(lambda: _run_module(name, arguments))
    if code is not None:
        text = code
        return _status(lambda: _run_code(text, ("-c", *arguments), "<string>"))
    if not arguments:
        raise click.UsageError("Missing a SCRIPT, -m MODULE or -c CODE.")
    path = arguments[0]
    if path == "-":
        read = sys.stdin.buffer.read
        return _status(lambda: _run_code(read(), arguments, "<stdin>", __file__="<stdin>", __cached__=None))
    if Path(path).is_dir() or (Path(path).is_file() and zipfile.is_zipfile(path)):
        return _status(lambda: _run_folder(path, arguments))
    try:
        with io.open_code(str(Path(path).absolute())) as file:
            source = file.read()
    except OSError as error:
        raise click.UsageError(f"Cannot open {path!r}: {error.strerror}.") from error
    return _status(lambda: _run_source(path, source, arguments))


# ---- Four ways to run


def _run_source(path: str, source: bytes, arguments: tuple[str, ...]) -> None:
    full = str(Path(path).absolute())
    sys.argv = list(arguments)
    _search_first(str(Path(path).resolve().parent))
    if source.startswith(MAGIC_NUMBER):
        compiled = SourcelessFileLoader("__main__", full)
        _execute(compiled.get_code("__main__"), __file__=full, __cached__=None, __loader__=compiled)
        return
    loader = SourceFileLoader("__main__", full)
    _execute(_compiled(source, full), __file__=full, __cached__=None, __loader__=loader)


def _run_code(code: str | bytes, arguments: tuple[str, ...], filename: str, **attributes: Any) -> None:
    sys.argv = list(arguments)
    # Python on Windows looks beside a "-" that it takes for a path.
    _search_first(os.getcwd() if sys.platform == "win32" and arguments[0] == "-" else "")  # noqa: PTH109
    _execute(_compiled(code, filename), __loader__=BuiltinImporter, **attributes)


def _run_module(module: str, arguments: tuple[str, ...]) -> None:
    sys.argv = ["-m", *arguments]
    try:
        _search_first(str(Path.cwd()))
    except FileNotFoundError:  # it has been removed
        _search_first("")
    spec = find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:  # a package
        spec = find_spec(f"{module}.__main__")
    if spec is None:
        raise ModuleNotFoundError(f"No module named {module!r}, or a package without a __main__")
    sys.argv[0] = str(spec.origin)
    _execute_found(spec)


def _run_folder(path: str, arguments: tuple[str, ...]) -> None:
    full = str(Path(path).absolute())
    sys.argv = list(arguments)
    if sys.flags.safe_path:
        sys.path.insert(0, full)  # here python does, -P or not
    else:
        sys.path[0] = full
    spec = PathFinder.find_spec("__main__", [full])
    if spec is None:
        raise ModuleNotFoundError(f"There is no __main__.py in {path!r}")
    _execute_found(spec)


def _search_first(folder: str) -> None:
    """Put the program's folder where this command's own is, unless python was told to search neither (-P)."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _compiled(source: str | bytes, filename: str) -> types.CodeType:
    return compile(source, filename, "exec", dont_inherit=True)


def _execute_found(spec: ModuleSpec) -> None:
    get_code = getattr(spec.loader, "get_code", None)
    _execute(
        None if get_code is None else get_code(spec.name),
        __file__=spec.origin,
        __cached__=spec.cached,
        __loader__=spec.loader,
        __package__=spec.parent,
        __spec__=spec,
    )


def _execute(code: types.CodeType | None, **attributes: Any) -> None:
    """Run code as the module `__main__`, which it stays: threads may outlive it. Raises ImportError without code."""
    if code is None:
        raise ImportError(f"{attributes['__file__']} is not written in Python")
    main = types.ModuleType("__main__")
    main.__dict__.update(attributes, __builtins__=builtins)
    if sys.version_info < (3, 14):
        main.__dict__.update(__annotations__={})
    sys.modules["__main__"] = main
    exec(code, main.__dict__)  # noqa: S102


# ---- How it ended


def _status(program: Callable[[], None]) -> int:
    """Run the program; return its exit status. What it raises must not reach the command's own handlers."""
    try:
        program()
    except SystemExit as error:
        return _exit_status(error)
    except BaseException as error:
        traceback = _without_ours(error.__traceback__)
        if traceback is None and isinstance(error, ImportError):  # from the search for a module
            raise click.ClickException(f"{error}.") from error
        failure = error.with_traceback(traceback)
    else:
        return 0
    try:
        return _report(failure)
    finally:
        del failure


def _exit_status(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    text = f"{error.code}\n"
    if sys.stderr is None:
        os.write(_STDERR, text.encode())
    else:
        sys.stderr.write(text)
    return _FAILED


def _report(error: BaseException) -> int:
    """Tell of an exception that the program does not catch; return the exit status."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except SystemExit as end:
        return _exit_status(end)
    except BaseException as failure:  # noqa: BLE001 - whatever the program's function does, as python does it
        _show("Error in sys.excepthook:", failure.with_traceback(_without_ours(failure.__traceback__)))
        _show("\nOriginal exception was:", error)
    return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else _FAILED


def _show(title: str, error: BaseException) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{title}\n")
    sys.__excepthook__(type(error), error, error.__traceback__)


_OURS = {__file__, importlib.util.__file__}


def _without_ours(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """Return the part of a traceback that the program has to do with."""
    while traceback is not None and _is_ours(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    return traceback


def _is_ours(filename: str) -> bool:
    return filename in _OURS or filename.startswith("<frozen ")
