"""Makes the wheel for Windows, which is pure Python and depends on pywin32: make-windows-wheel.py [FOLDER].

meson-python builds the engine for Linux, and has no way to leave it out. A wheel is a zip archive with metadata (PyPA
"Binary distribution format"), so this writes it: the modules under src/npipe, METADATA from pyproject.toml, and RECORD.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "npipe"

TAG = "py3-none-win_amd64"  # not "any": on Linux pip must not choose it over the wheel with the engine
REQUIRES = ["pywin32>=306"]
LINUX_ONLY = ("binding", "engine", "meson.build")
STAMP = (2024, 1, 1, 0, 0, 0)  # the same content makes the same wheel


def main(arguments: list[str]) -> int:
    """Write the wheel into FOLDER, dist if not given, and print its path."""
    folder = Path(arguments[0]) if arguments else ROOT / "dist"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stem = f"{project['name']}-{project['version']}"
    info = f"{stem}.dist-info"
    contents = {f"npipe/{path.relative_to(SOURCE).as_posix()}": path.read_bytes() for path in modules()}
    contents["_npipe_command.py"] = (SOURCE.parent / "_npipe_command.py").read_bytes()
    contents[f"{info}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    contents[f"{info}/METADATA"] = metadata(project).encode()
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: npipe\nRoot-Is-Purelib: true\nTag: {TAG}\n".encode()
    contents[f"{info}/entry_points.txt"] = entry_points(project).encode()
    contents[f"{info}/RECORD"] = record(contents, f"{info}/RECORD").encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{stem}-{TAG}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, STAMP)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    print(wheel)
    return 0


def modules() -> list[Path]:
    """Return what the package is on Windows: everything of Python's, without the engine and its binding."""
    found = [path for pattern in ("*.py", "*.pyi", "py.typed") for path in SOURCE.rglob(pattern)]
    return sorted(path for path in found if path.relative_to(SOURCE).parts[0] not in LINUX_ONLY)


def entry_points(project: dict[str, Any]) -> str:
    """Return the commands and plugins."""
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    return "\n".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
        for group, entries in groups.items()
    )


def metadata(project: dict[str, Any]) -> str:
    """Return METADATA (core metadata 2.4) for the table [project] of pyproject.toml."""
    readme = (ROOT / project["readme"]).read_text(encoding="utf-8")
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"Keywords: {','.join(project['keywords'])}",
        f"License-Expression: {project['license']}",
        *(f"License-File: {path}" for path in project["license-files"]),
        *(f"Classifier: {classifier}" for classifier in project["classifiers"]),
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {requirement}" for requirement in (*project["dependencies"], *REQUIRES)),
    ]
    for extra, requirements in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines.extend(f'Requires-Dist: {requirement}; extra == "{extra}"' for requirement in requirements)
    lines.append("Description-Content-Type: text/markdown")
    return "\n".join(lines) + f"\n\n{readme}"


def record(contents: dict[str, bytes], own_name: str) -> str:
    """Return RECORD: each file with its hash and size, and itself without."""
    lines = []
    for name, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join(lines) + f"{own_name},,\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
