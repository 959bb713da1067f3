"""Makes a wheel final: its tag, its bill of materials, and an archive whose bytes depend on its content alone."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
import tempfile
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any

from common import STAMP, run
from readme import metadata_for_pypi

_TOOLS = ("cython", "meson", "meson-python", "ziglang", "auditwheel")


def seal(wheel: Path, platform: str, project: dict[str, Any], libraries: dict[str, str]) -> Path:
    """Write a wheel anew beside the given one, with PLATFORM for its tag, and return its path.

    `libraries` that an extension needs are called otherwise: old name, new name.
    """
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    for name in [name for name in contents if name.endswith(".so")]:
        for old, new in libraries.items():
            contents[name] = _needing(contents[name], old, new)
    stem = f"{project['name']}-{project['version']}"
    info = f"{stem}.dist-info"
    tag = wheel.stem.removeprefix(f"{stem}-")
    tag = "-".join([*tag.split("-")[:2], platform])
    lines = contents[f"{info}/WHEEL"].decode().splitlines()
    kept = [line for line in lines if line and not line.startswith("Tag:")]
    contents[f"{info}/WHEEL"] = ("\n".join([*kept, f"Tag: {tag}"]) + "\n").encode()
    contents[f"{info}/METADATA"] = metadata_for_pypi(contents[f"{info}/METADATA"].decode(), project).encode()
    contents[f"{info}/sboms/npipe.cdx.json"] = bill_of_materials(project, tag, contents).encode()
    del contents[f"{info}/RECORD"]
    return write(wheel.parent / f"{stem}-{tag}.whl", contents, info)


def _needing(extension: bytes, old: str, new: str) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(extension)
        file.flush()
        run("patchelf", "--replace-needed", old, new, file.name)
        return Path(file.name).read_bytes()


def write(path: Path, contents: dict[str, bytes], info: str) -> Path:
    """Write a wheel of these files, with its RECORD, and return its path."""
    ordered = dict(sorted(contents.items(), key=lambda item: (item[0].startswith(info), item[0])))
    ordered[f"{info}/RECORD"] = record(ordered, f"{info}/RECORD").encode()
    path.unlink(missing_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in ordered.items():
            entry = zipfile.ZipInfo(name, time.gmtime(STAMP)[:6])
            entry.create_system = 3  # Unix, of whose modes the next line is
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=9)
    return path


def record(contents: dict[str, bytes], own_name: str) -> str:
    """Return RECORD: each file with its hash and size, and itself without."""
    lines = []
    for name, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join(lines) + f"{own_name},,\n"


def bill_of_materials(project: dict[str, Any], tag: str, contents: dict[str, bytes]) -> str:
    """Return the wheel's parts and the tools that made it, as CycloneDX 1.6 (PEP 770)."""
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from cyclonedx.model.license import LicenseExpression
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    name, version = project["name"], project["version"]
    own = Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}-{version}-{tag}",
        purl=PackageURL("pypi", None, name, version),
        licenses=[LicenseExpression(project["license"])],
        description=project["description"],
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"pkg:pypi/{name}@{version}?tag={tag}"))
    bom.metadata.timestamp = _stamp()
    bom.metadata.component = own
    compiled = [path for path in contents if path.endswith(".so")]
    for path in compiled:
        digest = hashlib.sha256(contents[path]).hexdigest()
        part = Component(name=path, type=ComponentType.FILE, bom_ref=path)
        part.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=digest))
        bom.components.add(part)
        bom.register_dependency(own, [part])
        for tool in _TOOLS:
            made = Component(name=tool, version=importlib.metadata.version(tool), bom_ref=f"tool-{tool}")
            made.purl = PackageURL("pypi", None, tool, made.version)
            bom.metadata.tools.components.add(made)
    for extra, requirements in project["optional-dependencies"].items():
        for requirement in requirements:
            needed = re.match(r"[\w.-]+", requirement)
            if needed and needed[0] != name:
                other = Component(
                    name=needed[0],
                    type=ComponentType.LIBRARY,
                    bom_ref=f"extra-{extra}-{needed[0]}",
                    scope=ComponentScope.OPTIONAL,
                    purl=PackageURL("pypi", None, needed[0].lower()),
                    properties=[
                        Property(name="npipe:extra", value=extra),
                        Property(name="npipe:requires", value=requirement),
                    ],
                )
                bom.components.add(other)
    if not compiled:
        bom.register_dependency(own)
    return str(JsonV1Dot6(bom).output_as_string(indent=1)) + "\n"


def _stamp() -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(STAMP, UTC)
