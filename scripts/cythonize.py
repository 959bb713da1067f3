"""Translates the binding to C, for meson: all parts in one process of Cython for each processor.

cythonize.py FOLDER ROOT SOURCE...: FOLDER gets binding/loop/calls.pyx as calls.c. A process for each part takes three
times the time: what Cython imports, and the code that it keeps ready, is the same for all. What has not changed since
is not translated anew, and keeps its time stamp.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from Cython.Build import cythonize

# Each part says that it can do without the interpreter's lock (docs/design.md, "Threads and locks").
DIRECTIVES = {"freethreading_compatible": True}
UTILITY = "npipe.binding.utility"  # Cython's own code is called there, and not in each part anew


def main(arguments: list[str]) -> int:
    """Translate them; return the exit status."""
    output, root = (Path(each).resolve() for each in arguments[:2])
    sources = [os.path.relpath(each, root) for each in arguments[2:]]
    parts = output / "cython"
    changed = Path(__file__).stat().st_mtime_ns
    unfinished = output / "unfinished"
    was_cut_off = unfinished.exists()  # a file may be there in part, and newer than its source
    output.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    os.chdir(root)  # a source's name in tracebacks is the path from here, wherever here is
    cythonize(
        sources,
        nthreads=len(os.sched_getaffinity(0)),
        build_dir=str(parts),
        include_path=["src"],
        language_level=3,
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=UTILITY,
        force=was_cut_off or any(made.stat().st_mtime_ns < changed for made in parts.rglob("*.c")),
        quiet=True,
    )
    for source in sources:
        made = (parts / source).with_suffix(".c")
        placed = output / made.name
        if not placed.exists() or placed.stat().st_mtime_ns < made.stat().st_mtime_ns:
            shutil.copy2(made, placed)
    unfinished.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
