"""Makes the sdist, and unpacks it as those do who build from it: sdist.py [FOLDER]."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from common import DIST, ROOT, STAMP, project, run
from readme import metadata_for_pypi


def make(folder: Path) -> Path:
    """Make the sdist of the commit that is checked out, with tests and docs, and return its path."""
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    if changed.returncode:
        sys.exit("An sdist is made of a git checkout: it has what the last commit has.")
    if changed.stdout:
        print("What is not committed is not in the sdist, and not in the wheels.", file=sys.stderr)
    table = project()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table['name']}-{table['version']}.tar.gz"
    path.unlink(missing_ok=True)
    code = "import sys, mesonpy; mesonpy.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, folder, cwd=ROOT)
    _seal(path, table)
    return path


def _seal(path: Path, table: dict[str, Any]) -> None:
    """Write it anew: README's links as PyPI needs them, and nothing that tells when, where or by whom it was made."""
    with tarfile.open(path) as archive:
        members = [member for member in archive.getmembers() if not member.isdir()]
        contents = {member.name: (member, _content(archive, member)) for member in members}
    info = f"{table['name']}-{table['version']}/PKG-INFO"
    member, content = contents[info]
    contents[info] = member, metadata_for_pypi(content.decode(), table).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, (member, content) in sorted(contents.items()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size, entry.mtime = member.type, member.linkname, len(content), STAMP
            entry.mode = 0o755 if member.mode & 0o100 else 0o644
            archive.addfile(entry, io.BytesIO(content))
    path.write_bytes(gzip.compress(packed.getvalue(), 9, mtime=STAMP))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isfile() else None
    return file.read() if file else b""


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist, and return the one folder that it has."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


if __name__ == "__main__":
    print(make(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DIST))
