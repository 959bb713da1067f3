"""Makes the wheel for Windows, which is pure Python and depends on pywin32: windows_wheel.py [--no-bill] [FOLDER].

meson-python builds the engine for Linux, and has no way to leave it out. A wheel is a zip archive with metadata (PyPA
"Binary distribution format"), so this writes it: the modules under src/npipe, METADATA from pyproject.toml, and RECORD.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import readme
import sealing
from common import DIST, ROOT, project

SOURCE = ROOT / "src" / "npipe"

TAG = "py3-none-win_amd64"  # not "any": on Linux pip must not choose it over the wheel with the engine
REQUIRES = ["pywin32>=306"]
LINUX_ONLY = ("binding", "engine", "meson.build")


def make(folder: Path, *, bill: bool = True) -> Path:
    """Write the wheel into a folder, and return its path. The bill of materials takes the group release."""
    table = project()
    stem = f"{table['name']}-{table['version']}"
    info = f"{stem}.dist-info"
    contents = {f"npipe/{path.relative_to(SOURCE).as_posix()}": path.read_bytes() for path in modules()}
    contents["_npipe_command.py"] = (SOURCE.parent / "_npipe_command.py").read_bytes()
    contents[f"{info}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    contents[f"{info}/METADATA"] = metadata(table).encode()
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: npipe\nRoot-Is-Purelib: true\nTag: {TAG}\n".encode()
    contents[f"{info}/entry_points.txt"] = entry_points(table).encode()
    if bill:
        contents[f"{info}/sboms/npipe.cdx.json"] = sealing.bill_of_materials(table, TAG, contents).encode()
    folder.mkdir(parents=True, exist_ok=True)
    return sealing.write(folder / f"{stem}-{TAG}.whl", contents, info)


def group(name: str) -> list[str]:
    """Return a dependency group of pyproject.toml."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    requirements: list[str] = table["dependency-groups"][name]
    return requirements


def modules() -> list[Path]:
    """Return what the package is on Windows: everything of Python's, without the engine and its binding."""
    found = [path for pattern in ("*.py", "*.pyi", "py.typed") for path in SOURCE.rglob(pattern)]
    return sorted(path for path in found if path.relative_to(SOURCE).parts[0] not in LINUX_ONLY)


def entry_points(table: dict[str, Any]) -> str:
    """Return the commands and plugins."""
    groups = {"console_scripts": table["scripts"], **table["entry-points"]}
    return "\n".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
        for group, entries in groups.items()
    )


def metadata(table: dict[str, Any]) -> str:
    """Return METADATA (core metadata 2.4) for the table [project] of pyproject.toml."""
    page = readme.for_pypi((ROOT / table["readme"]).read_text(encoding="utf-8"), table)
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {table['name']}",
        f"Version: {table['version']}",
        f"Summary: {table['description']}",
        f"Keywords: {','.join(table['keywords'])}",
        f"License-Expression: {table['license']}",
        *(f"License-File: {path}" for path in table["license-files"]),
        *(f"Classifier: {classifier}" for classifier in table["classifiers"]),
        *(f"Project-URL: {label}, {url}" for label, url in table["urls"].items()),
        f"Requires-Python: {table['requires-python']}",
        *(f"Requires-Dist: {requirement}" for requirement in (*table["dependencies"], *REQUIRES)),
    ]
    for extra, requirements in table["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines.extend(f'Requires-Dist: {requirement}; extra == "{extra}"' for requirement in requirements)
    lines.append("Description-Content-Type: text/markdown")
    return "\n".join(lines) + f"\n\n{page}"


if __name__ == "__main__":
    folders = [argument for argument in sys.argv[1:] if argument != "--no-bill"]
    print(make(Path(folders[0]).resolve() if folders else DIST, bill="--no-bill" not in sys.argv))
