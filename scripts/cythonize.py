"""Translates the binding to C, for meson: all parts in one process of Cython for each processor.

cythonize.py FOLDER ROOT SOURCE...: FOLDER gets binding/loop/calls.pyx as calls.c. A process for each part takes three
times the time: what Cython imports, and the code that it keeps ready, is the same for all. A part is translated anew if
its source, any declaration (.pxd) or this program has changed since; a C file that comes out the same is left alone.
A C file is there as a whole, or not at all. (Cython.Build would do some of this, but wants distutils.)
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import time
from pathlib import Path

from Cython.Compiler.Main import compile as translate

# Each part says that it can do without the interpreter's lock (docs/design.md, "Threads and locks").
DIRECTIVES = {"freethreading_compatible": True}
UTILITY = "npipe.binding.utility"  # Cython's own code is called there, and not in each part anew


def main(arguments: list[str]) -> int:
    """Translate what has changed; return the exit status."""
    output, root = (Path(each).resolve() for each in arguments[:2])
    sources = [Path(os.path.relpath(each, root)) for each in arguments[2:]]
    output.mkdir(parents=True, exist_ok=True)
    program = Path(__file__).resolve()
    os.chdir(root)  # a source's name in tracebacks is the path from here, wherever here is
    common = max(each.stat().st_mtime_ns for each in (program, *Path("src").rglob("*.pxd")))
    changed = [source for source in sources if _is_changed(source, _target(output, source), common)]
    changed.sort(key=lambda source: -source.stat().st_size)  # who takes longest begins first
    with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        failures = sum(pool.imap_unordered(functools.partial(_translate, output), changed))
    return 1 if failures else 0


def _target(output: Path, source: Path) -> Path:
    return output / source.with_suffix(".c").name


def _is_changed(source: Path, target: Path, common: int) -> bool:
    try:
        made = target.stat().st_mtime_ns
    except FileNotFoundError:
        return True
    return made < max(common, source.stat().st_mtime_ns)


def _translate(output: Path, source: Path) -> int:
    """Translate one; return how many errors there were, which Cython has told."""
    target = _target(output, source)
    made = target.with_suffix(".new")
    begun = time.time_ns()  # what changes from now on is not in it
    result = translate(
        str(source),
        output_file=str(made),
        include_path=["src"],
        language_level=3,
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=UTILITY,
    )
    if result.num_errors:
        return int(result.num_errors)
    text = made.read_text(encoding="utf-8").replace(made.name, target.name)
    if target.exists() and target.read_text(encoding="utf-8") == text:
        made.unlink()
        return 0
    made.write_text(text, encoding="utf-8")
    os.utime(made, ns=(begun, begun))
    made.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
