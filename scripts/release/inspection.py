"""What an extension asks of the system that it is loaded on, read from its file."""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from typing import TYPE_CHECKING, Any

from common import run

if TYPE_CHECKING:
    from pathlib import Path

    from toolchain import Target

# The C library, its parts before glibc 2.34, and its loader.
_GLIBC = re.compile(r"(libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|librt\.so\.1|libm\.so\.6|ld-linux-[\w-]+\.so\.\d)$")
_MUSL = re.compile(r"libc\.(so|musl-\w+\.so\.1)$")
_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
LIMIT = 1_650_000  # bytes of a wheel: a half is the extension, the rest is Python (docs/performance.md)


def faults(wheel: Path, target: Target) -> list[str]:
    """Return what is wrong with a wheel for a target, in sentences: nothing, where all is well."""
    found = [f"{wheel.name} has {wheel.stat().st_size} bytes, more than {LIMIT}"] * (wheel.stat().st_size > LIMIT)
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".so")]
        if len(names) != 1 or not names[0].endswith(f"-{target.name}.so"):
            found.append(f"its extensions are {names}, not the one of {target.name}")
        for name in names:
            found += _faults(name, archive.read(name), target)
    said = run(sys.executable, "-m", "auditwheel", "show", "--json", wheel)
    verdict = json.loads(said[said.index("{") :])
    if verdict.get("overall_tag") != target.platform:
        found.append(f"auditwheel says {verdict}")
    return found


def _faults(name: str, content: bytes, target: Target) -> list[str]:
    from elftools.elf.elffile import ELFFile

    found = []
    elf: Any = ELFFile(io.BytesIO(content))
    if elf["e_machine"] != _MACHINES[target.machine]:
        found.append(f"{name} is for {elf['e_machine']}")
    library = _GLIBC if target.glibc else _MUSL
    found += [f"{name} needs {needed}" for needed in needs(elf) if not library.match(needed)]
    for version in versions(elf):
        number = tuple(map(int, re.findall(r"\d+", version)))
        if not target.glibc or not version.startswith("GLIBC_") or number > target.glibc:
            found.append(f"{name} asks for {version}")
    if elf.get_section_by_name(".symtab") or elf.get_section_by_name(".debug_info"):
        found.append(f"{name} is not stripped")
    offered = {
        symbol.name
        for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL" and symbol.name
    }
    found += [f"{name} offers {other}" for other in sorted(offered) if not other.startswith("PyInit_")]
    return found


def needs(elf: Any) -> list[str]:
    """Return the libraries that an object is linked with."""
    return [tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags() if tag.entry.d_tag == "DT_NEEDED"]


def versions(elf: Any) -> set[str]:
    """Return the versions of symbols that an object asks for, such as GLIBC_2.17."""
    section = elf.get_section_by_name(".gnu.version_r")
    if section is None:
        return set()
    return {auxiliary.name for _, auxiliaries in section.iter_versions() for auxiliary in auxiliaries}


def newest(wheel: Path) -> str:
    """Return the newest version of the C library's that a wheel's extension asks for, for people."""
    from elftools.elf.elffile import ELFFile

    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".so")]
        asked = versions(ELFFile(io.BytesIO(archive.read(name))))
    return max(asked, key=lambda version: tuple(map(int, re.findall(r"\d+", version))), default="-")
