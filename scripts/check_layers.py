"""Checks the layers of the engine: check_layers.py [FOLDER]. Exit status 1, and a line for each thing that is wrong.

The folders of src/npipe/engine are layers, in LAYERS the lowest first. It is wrong if

- a file includes a header of a layer above its own,
- an object file takes a symbol from one of a layer above its own,
- files take symbols from each other in a circle,
- a file offers a symbol that the header of its own name does not declare (headers with the definitions of inline
  functions only have no file of their own).

A layer reaches what stands above it through hooks alone: pointers that the upper one sets when the program starts.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

LAYERS: Final = (
    "base",
    "channel",
    "process",
    "ring",
    "handle",
    "overlapped",
    "blocking",
    "pipe",
    "poll",
    "travel",
    "service",
)
ROOT: Final = Path(__file__).parent.parent
ENGINE: Final = ROOT / "src" / "npipe" / "engine"


def _layer(path: str) -> int:
    return LAYERS.index(path.split("/")[0])


def _wrong_includes(engine: Path) -> list[str]:
    wrong = []
    for source in sorted(engine.glob("*/*.[ch]")):
        name = source.relative_to(engine).as_posix()
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
            found = re.match(r'#include "(.*)"', line)
            if not found:
                continue
            if not (engine / found[1]).is_file():
                wrong.append(f"{name}:{number}: includes {found[1]}, by which no file of the engine is named")
            elif "/" not in found[1] or _layer(found[1]) > _layer(name):
                wrong.append(f"{name}:{number}: includes {found[1]}, which is above it")
    return wrong


def _symbols(engine: Path, folder: Path, source: Path) -> tuple[set[str], set[str]]:
    """Return what an object file of `source` offers, and what it takes."""
    target = folder / (source.relative_to(engine).as_posix().replace("/", "-") + ".o")
    subprocess.run(
        ["cc", "-c", "-O1", "-std=gnu11", "-D_GNU_SOURCE", f"-I{engine}", f"-I{engine.parent}", "-o", target, source],
        check=True,
    )
    listed = subprocess.run(["nm", "-P", target], check=True, capture_output=True, text=True).stdout
    offers, takes = set(), set()
    for line in listed.splitlines():
        name, kind, *_ = line.split()
        if kind == "U":
            takes.add(name)
        elif kind.isupper():
            offers.add(name)
    return offers, takes


def _circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one file (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(arrows):
        if name not in index:
            visit(name)
    return found


def _wrong_symbols(engine: Path) -> list[str]:
    sources = sorted(engine.glob("*/*.c"))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        listed = list(pool.map(lambda source: _symbols(engine, Path(folder), source), sources))
    names = [source.relative_to(engine).as_posix() for source in sources]
    home = {symbol: name for name, (offers, _) in zip(names, listed, strict=True) for symbol in offers}
    wrong = []
    arrows: dict[str, set[str]] = defaultdict(set)
    for name, source, (offers, takes) in zip(names, sources, listed, strict=True):
        for symbol in sorted(takes):
            other = home.get(symbol)
            if other is None or other == name:
                continue
            arrows[name].add(other)
            arrows[other] |= set()
            if _layer(other) > _layer(name):
                wrong.append(f"{name}: takes {symbol} from {other}, which is above it")
        header = source.with_suffix(".h")
        if source.stem.startswith("platform_"):
            header = source.with_name("platform.h")
        declared = header.read_text(encoding="utf-8") if header.exists() else ""
        wrong.extend(
            f"{name}: offers {symbol}, which its header does not declare"
            for symbol in sorted(offers)
            if not re.search(rf"\b{symbol}\b", declared)
        )
    wrong.extend(f"in a circle: {', '.join(circle)}" for circle in _circles(arrows))
    return wrong


def main(arguments: list[str]) -> int:
    """Print what is wrong, and return the exit status."""
    engine = Path(arguments[0]) if arguments else ENGINE
    folders = {path.name for path in engine.iterdir() if path.is_dir()}
    wrong = [f"{folder}: not a layer that this check knows" for folder in sorted(folders - set(LAYERS))]
    wrong = wrong or _wrong_includes(engine) + _wrong_symbols(engine)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
