"""All names of pywin32's modules: each is in npipe.win32, or listed with the reason why not; values and signatures."""

from __future__ import annotations

import ast
import importlib
import inspect
import types
from typing import TYPE_CHECKING, Any

import pytest

from npipe.win32._absent import REASONS, reason_of
from npipe.win32._modules import ABSENT, NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # the first test of a session may have to fetch

CONSTANTS = ("win32con", "winerror", "ntsecuritycon", "winioctlcon")  # modules of Python in the wheel
LIBRARIES = sorted(set(NAMES) - set(CONSTANTS) - {"win32timezone", "win32serviceutil", "pywintypes"})

# What the lists of constants have from an older header than the libraries.
OLDER = {
    ("win32event", "QS_ALLEVENTS"),
    ("win32event", "QS_ALLINPUT"),
    ("win32event", "QS_INPUT"),
    ("win32security", "TOKEN_ALL_ACCESS"),
}


def face(module: str) -> Any:
    return importlib.import_module(f"npipe.win32.{module}")


def stub_of(stubs: Path, module: str) -> list[ast.stmt]:
    """The statements of a module's stub, with those of its conditions."""
    folder = stubs / "win32-stubs"
    file = next(place for place in (folder / f"{module}.pyi", folder / "lib" / f"{module}.pyi") if place.is_file())

    def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for statement in body:
            if isinstance(statement, ast.If):
                yield from statements([*statement.body, *statement.orelse])
            else:
                yield statement

    return list(statements(ast.parse(file.read_text(encoding="utf-8")).body))


def names_in(statements: list[ast.stmt]) -> set[str]:
    """The names that a stub says a module has."""
    found: set[str] = set()
    for statement in statements:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.ImportFrom(names=names):
                found |= {alias.name for alias in names if alias.asname == alias.name}
    return {name for name in found if not name.startswith("__")}


@pytest.mark.parametrize("module", NAMES)
def test_each_name_is_there_or_listed_with_the_reason(stubs: Path, module: str) -> None:
    names = names_in(stub_of(stubs, module))
    assert names
    there = set(vars(face(module)))
    assert sorted(name for name in names - there if reason_of(module, name) is None) == []


@pytest.mark.parametrize("module", NAMES)
def test_each_reason_is_about_a_name(stubs: Path, module: str) -> None:
    missing = names_in(stub_of(stubs, module)) - set(vars(face(module)))
    for pattern, reason in REASONS.get(module, ()):
        names = [name for name in missing if reason_of(module, name) == reason]
        assert names, pattern


def test_each_module_is_there_or_listed_with_the_reason(pywin32: Path, stubs: Path) -> None:
    there = {file.stem for file in (pywin32 / "win32" / "lib").glob("*.py")}
    there |= {file.name for file in pywin32.iterdir() if (file / "__init__.py").is_file()}
    there |= {file.stem for file in (stubs / "win32-stubs").glob("**/*.pyi")}
    there |= {file.name.removesuffix("-stubs") for file in stubs.glob("*-stubs")}
    own = {"__init__", "win32", "_win32typing", "pywin32_bootstrap", "pywin32_testutil", "_win32verstamp_pywin32ctypes"}
    assert sorted(there - own - set(NAMES) - set(ABSENT)) == []
    assert not set(NAMES) & set(ABSENT)


def values_in_the_wheel(pywin32: Path, module: str) -> dict[str, Any]:
    """What the wheel's own file defines, run with stand-ins for what it imports of pywin32."""
    file = pywin32 / "win32" / "lib" / f"{module}.py"
    names: dict[str, Any] = {"__name__": module}
    stand_ins = {
        "pywintypes": types.SimpleNamespace(IID=lambda text, *_: text),
        "ntsecuritycon": types.SimpleNamespace(FILE_READ_DATA=1, FILE_WRITE_DATA=2),
    }

    def find(name: str, *arguments: Any) -> Any:
        return stand_ins.get(name) or __import__(name, *arguments)

    builtins = {**vars(importlib.import_module("builtins")), "__import__": find}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), {"__builtins__": builtins, **names}, names)
    return {name: value for name, value in names.items() if isinstance(value, (int, str, tuple))}


@pytest.mark.parametrize("module", CONSTANTS)
def test_constants_have_pywin32s_values(pywin32: Path, module: str) -> None:
    ours = vars(face(module))
    theirs = values_in_the_wheel(pywin32, module)
    both = set(ours) & set(theirs) - {"__name__", "__doc__"}
    assert len(both) > 50
    assert {name: ours[name] for name in both} == {name: theirs[name] for name in both}


@pytest.mark.parametrize("module", LIBRARIES)
def test_constants_of_libraries_are_those_of_the_lists_of_constants(pywin32: Path, module: str) -> None:
    ours = {name: value for name, value in vars(face(module)).items() if type(value) is int and name.isupper()}
    for constants in ("win32con", "ntsecuritycon", "winerror"):
        theirs = values_in_the_wheel(pywin32, constants)
        for name in set(ours) & set(theirs):
            if (module, name) not in OLDER:
                assert ours[name] & 0xFFFFFFFF == theirs[name] & 0xFFFFFFFF, (module, name, constants)


def functions_in(statements: list[ast.stmt]) -> Iterator[tuple[str, ast.arguments]]:
    """The functions of a stub whose signature says something: not overloaded, not of the form (*args)."""
    for statement in statements:
        if isinstance(statement, ast.FunctionDef) and not statement.decorator_list and statement.args.vararg is None:
            yield statement.name, statement.args


# The stub has other arguments than the function.
KNOWN_BETTER = {
    ("win32event", "CancelWaitableTimer"): "it takes the handle",
    ("win32file", "GetFileSize"): "it takes the handle",
    ("pywintypes", "SID"): "it takes a buffer, or an authority and subauthorities",
}


@pytest.mark.parametrize("module", NAMES)
def test_functions_take_what_pywin32s_take(stubs: Path, module: str) -> None:
    ours = vars(face(module))
    wrong = []
    for name, wanted in functions_in(stub_of(stubs, module)):
        function = ours.get(name)
        if not callable(function) or (module, name) in KNOWN_BETTER:
            continue
        try:
            signature = inspect.signature(function)
        except ValueError:  # of a class in C
            continue
        positional = [argument.arg for argument in (*wanted.posonlyargs, *wanted.args)]
        required = len(positional) - len(wanted.defaults)
        try:
            signature.bind(*positional[:required])
            signature.bind(*positional)
            signature.bind(*positional[: len(wanted.posonlyargs)], **dict.fromkeys(a.arg for a in wanted.args))
        except TypeError as error:
            wrong.append(f"{name}{signature}: {ast.unparse(wanted)}: {error}")
    assert wrong == []
