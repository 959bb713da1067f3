"""Zig as the C compiler for each system that wheels are for, and what meson is told of it."""

from __future__ import annotations

import importlib.util
import pprint
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common import BUILD, NotToBeHadError
from interpreters import headers

if TYPE_CHECKING:
    from interpreters import Interpreter


@dataclass(frozen=True)
class Target:
    """A processor and a C library."""

    name: str  # as in the suffix of an extension
    machine: str
    zig: str
    platform: str  # the wheel's tag
    glibc: tuple[int, int] | None  # the newest symbols that it may ask for; None: musl


TARGETS = (
    Target("x86_64-linux-gnu", "x86_64", "x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64", (2, 17)),
    Target("aarch64-linux-gnu", "aarch64", "aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64", (2, 17)),
    Target("x86_64-linux-musl", "x86_64", "x86_64-linux-musl", "musllinux_1_2_x86_64", None),
    Target("aarch64-linux-musl", "aarch64", "aarch64-linux-musl", "musllinux_1_2_aarch64", None),
)

# No debug information, no symbols but those of the dynamic table, and no path of this machine. What runs once, when a
# part of the binding is loaded, is small rather than fast: Cython leaves that to gcc alone.
_COMPILE = ["-g0", "-fno-sanitize=all", "-DCYTHON_SMALL_CODE=__attribute__((cold,minsize))"]
_LINK = ["-s", "-Wl,-O2", "-Wl,--build-id=none", "-Wl,-z,relro", "-Wl,-z,now"]


def zig() -> Path:
    """Return zig's program."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        raise NotToBeHadError("zig is not installed: the group wheels of pyproject.toml has it")
    return Path(found.origin).parent / "zig"


def toolchain(interpreter: Interpreter, target: Target, python: Path, source: Path) -> tuple[Path, dict[str, str]]:
    """Write what a build for a target takes; return meson's cross file, and the environment."""
    folder = BUILD / "tools" / f"{interpreter.version}-{target.name}"
    folder.mkdir(parents=True, exist_ok=True)
    program(folder / "cc", f"cc -target {target.zig} -I{headers(interpreter)} -ffile-prefix-map={source}=.")
    program(folder / "ar", "ar")
    (folder / "cross.ini").write_text(
        f"""[binaries]
c = '{folder / "cc"}'
ar = '{folder / "ar"}'
python = '{python}'
[built-in options]
c_args = {_COMPILE}
c_link_args = {_LINK}
[properties]
needs_exe_wrapper = true
[host_machine]
system = 'linux'
cpu_family = '{target.machine}'
cpu = '{target.machine}'
endian = 'little'
""",
        encoding="utf-8",
    )
    return folder / "cross.ini", environment(interpreter, target, folder)


def environment(interpreter: Interpreter, target: Target, folder: Path) -> dict[str, str]:
    """Let the interpreter take itself for its like on the target: what sysconfig says is what names and tags follow."""
    tag = interpreter.tag.removeprefix("cp")
    own = {
        "SOABI": f"cpython-{tag}-{target.name}",
        "EXT_SUFFIX": f".cpython-{tag}-{target.name}.so",
        "MULTIARCH": target.name,
    }
    variables = {key: value for key, value in interpreter.variables.items() if isinstance(value, str | int)}
    text = f"build_time_vars = {pprint.pformat(variables | own)}\n"
    (folder / "_sysconfigdata_target.py").write_text(text, encoding="utf-8")
    return {
        "PYTHONPATH": str(folder),
        "_PYTHON_SYSCONFIGDATA_NAME": "_sysconfigdata_target",
        "_PYTHON_HOST_PLATFORM": f"linux-{target.machine}",
        "ZIG_GLOBAL_CACHE_DIR": str(BUILD.parent / "zig-cache"),
        "ZIG_LOCAL_CACHE_DIR": str(BUILD.parent / "zig-cache"),
    }


def program(path: Path, words: str) -> None:
    """Write a program that calls zig with words before its own."""
    path.write_text(f'#!/bin/sh\nexec "{zig()}" {words} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
