"""Foreign packages, fetched from PyPI by name when they are first needed and kept in build/clients-cache."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CACHE = CHECKOUT / "build" / "clients-cache"
PYWIN32 = "pywin32==312"
STUBS = "types-pywin32>=312,<313"
DOCKER = ("docker==7.2.*", "requests>=2.32,<3", "urllib3>=2,<3")
NPIPES = ("npipes==1.0.1",)
WINCONNECT = ("winconnect==0.9.1", "ormsgpack>=1.8,<2")  # 0.9.2 and 0.9.3 lack a part of themselves
AIOHTTP = ("aiohttp>=3.11,<4", "aiodocker>=0.24,<1", "pynvim>=0.5,<1")
GREEN = ("gevent", "eventlet")
MYPY = "mypy==2.4.1"
MYPY_NEEDS = (
    "librt>=0.16",
    "mypy_extensions>=1",
    "pathspec>=1",
    "typing_extensions>=4.14",
    "ast-serialize>=0.12.1,<1",
    "pytest",
)
MPV_VERSIONS = ("1.2.0", "1.5.0")  # of python-mpv-jsonipc: on _winapi and PipeConnection; on kernel32
PARAMIKO = ("paramiko>=4,<6",)
DISCORD_RPC = ("discord-rpc>=6,<7",)
RPYC = ("rpyc==6.0.*", "plumbum>=1.9,<3")
DISCORD = (  # clients by each way to a pipe: asyncio's, open(), kernel32
    "pypresence>=4.6,<5",
    "discord-rich-presence==1.1.0",
    "discoIPC==1.0.0",
    "discord-rpc.py==1.3.0",
)
UIPATH = "uipath-ipc==2.5.3"
UIPATH_NEEDS = ("pytest>=8", "pytest-asyncio>=0.24")
ASYNCSSH = ("asyncssh>=2.21,<3",)
OSQUERY = ("osquery==3.1.1", "thrift>=0.20,<1", "future", "six")
OPENJD = ("openjd-adaptor-runtime>=0.9.5,<0.10",)
WRAPPERS = ("namedpipe==0.3.2", "pywinpipe==0.11", "communica==0.4.3", "typing_extensions>=4")
WEB3 = ("web3>=7,<9",)
WATCHMAN = ("pywatchman>=4,<5",)
KEEPASSXC = ("keepassxc-proxy-client==0.1.*", "pynacl>=1.5,<2", "cffi>=1.4", "pycparser")
WEXPECT = ("wexpect==4.0.0", "psutil>=6")
WEXPECT_NEEDS = ("setuptools<81",)  # for its pkg_resources

# What pip says when it is the way to the index that fails, and not what was asked for.
_NO_NETWORK = (
    "connection broken by",
    "Could not fetch URL",
    "Max retries exceeded",
    "Network is unreachable",
    "Name or service not known",
    "Temporary failure in name resolution",
    "Read timed out",
)
_PATIENCE = 240  # seconds for one run of pip


class UnreachableError(Exception):
    """The package index does not answer; the text says what was wanted, and what pip said."""


@functools.cache
def pywin32() -> Path:
    """The unpacked wheel of pywin32 for Windows: its tests, its demos and its pure Python modules."""
    return _made("pywin32-312", _unpack_pywin32)


@functools.cache
def stubs() -> Path:
    """The stubs of pywin32: all names of its modules, those of its libraries for Windows too, and their signatures."""
    return _made("types-pywin32-312", functools.partial(_install, (STUBS,)))


@functools.cache
def docker() -> Path:
    """A folder to import docker and requests from."""
    return _made("docker-7.2", functools.partial(_install, DOCKER))


@functools.cache
def rpyc() -> Path:
    """A folder to import rpyc from."""
    return _made("rpyc-6.0", functools.partial(_install, RPYC))


@functools.cache
def aiohttp() -> Path:
    """A folder to import aiohttp, aiodocker and pynvim from."""
    return _made(f"aiohttp-3-{sys.version_info.minor}", functools.partial(_install, AIOHTTP))


@functools.cache
def green() -> Path:
    """A folder to import gevent and eventlet from."""
    return _made(f"green-{sys.version_info.minor}", functools.partial(_install, GREEN))


@functools.cache
def paramiko() -> Path:
    """A folder to import paramiko from."""
    return _made(f"paramiko-{sys.version_info.minor}", functools.partial(_install, PARAMIKO))


@functools.cache
def discord_rpc() -> Path:
    """A folder to import discordrpc from."""
    return _made("discord-rpc-6", functools.partial(_install_alone, DISCORD_RPC))


@functools.cache
def discord() -> Path:
    """A folder to import pypresence, discordrp, discoIPC and discord_rpc from."""
    return _made("discord-1", functools.partial(_install_alone, DISCORD))


@functools.cache
def uipath() -> Path:
    """In `source` what uipath-ipc is, with its tests; in `packages` what they need."""
    return _made(f"uipath-ipc-{sys.version_info.minor}", _unpack_uipath)


@functools.cache
def asyncssh() -> Path:
    """A folder to import asyncssh from."""
    return _made(f"asyncssh-{sys.version_info.minor}", functools.partial(_install, ASYNCSSH))


@functools.cache
def osquery() -> Path:
    """A folder to import osquery and thrift from."""
    return _made(f"osquery-{sys.version_info.minor}", functools.partial(_install, OSQUERY))


@functools.cache
def openjd() -> Path:
    """A folder to import openjd.adaptor_runtime from."""
    return _made(f"openjd-{sys.version_info.minor}", functools.partial(_install, OPENJD))


@functools.cache
def wrappers() -> Path:
    """A folder to import namedpipe, pywinpipe and communica from."""
    return _made("wrappers-1", functools.partial(_install_alone, WRAPPERS))


@functools.cache
def web3() -> Path:
    """A folder to import web3 from."""
    return _made(f"web3-{sys.version_info.minor}", functools.partial(_install, WEB3))


@functools.cache
def watchman() -> Path:
    """A folder to import pywatchman from."""
    return _made(f"watchman-{sys.version_info.minor}", functools.partial(_install, WATCHMAN))


@functools.cache
def keepassxc() -> Path:
    """A folder to import keepassxc_proxy_client from."""
    return _made(f"keepassxc-{sys.version_info.minor}", functools.partial(_install_alone, KEEPASSXC))


@functools.cache
def wexpect() -> Path:
    """A folder to import wexpect from."""
    return _made(f"wexpect-{sys.version_info.minor}", _unpack_wexpect)


@functools.cache
def winconnect() -> Path:
    """A folder to import winConnect from."""
    return _made("winconnect-0.9.1", functools.partial(_install_alone, WINCONNECT))


@functools.cache
def mypy() -> Path:
    """A folder to import mypy from in pure Python: what is compiled for Linux has no branch for Windows."""
    return _made(f"mypy-2.4.1-{sys.version_info.minor}", _unpack_mypy)


@functools.cache
def mpv(version: str) -> Path:
    """A folder to import a version of python_mpv_jsonipc from."""
    wanted = (f"python-mpv-jsonipc=={version}",)
    return _made(f"mpv-jsonipc-{version}", functools.partial(_install_alone, wanted))


@functools.cache
def npipes() -> Path:
    """A folder to import npipes from."""
    return _made("npipes-1.0.1", functools.partial(_install_alone, NPIPES))


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Inside, packages are imported from `folder`; afterwards they are forgotten."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file is not None and Path(file).is_relative_to(folder):
                del sys.modules[name]


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; made beside it first, so that it is never there in part."""
    place = CACHE / name
    if place.is_dir():
        return place
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=CACHE))
    try:
        make(unfinished)
        try:
            unfinished.rename(place)
        except OSError:  # another process was faster
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return place


def _unpack_pywin32(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as downloads:
        _pip(
            "download", "--no-deps", "--only-binary=:all:", "--platform=win_amd64", "--python-version=3.13",
            f"--dest={downloads}", PYWIN32,
        )  # fmt: skip
        (wheel,) = Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place, [name for name in archive.namelist() if name.endswith(".py")])


def _unpack_mypy(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as downloads:
        _pip("download", "--no-deps", "--only-binary=:all:", "--platform=any", f"--dest={downloads}", MYPY)
        (wheel,) = Path(downloads).glob("*-none-any.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place)
    _install(MYPY_NEEDS, place)


def _unpack_uipath(place: Path) -> None:
    _unpack_source(UIPATH, place / "source")
    _install(UIPATH_NEEDS, place / "packages")


def _unpack_wexpect(place: Path) -> None:
    _unpack_source(WEXPECT[0], place)
    _install((*WEXPECT[1:], *WEXPECT_NEEDS), place)


def _unpack_source(requirement: str, place: Path) -> None:
    """Unpack a source distribution's own folder into `place`."""
    with tempfile.TemporaryDirectory(dir=CACHE) as downloads:
        _pip("download", "--no-deps", "--no-binary=:all:", f"--dest={downloads}", requirement)
        (source,) = Path(downloads).glob("*.tar.gz")
        with tarfile.open(source) as archive:
            archive.extractall(downloads, filter="data")
        (folder,) = (path for path in Path(downloads).iterdir() if path.is_dir())
        shutil.copytree(folder, place, dirs_exist_ok=True)


def _install(requirements: tuple[str, ...], place: Path) -> None:
    _pip("install", f"--target={place}", *requirements)


def _install_alone(requirements: tuple[str, ...], place: Path) -> None:
    """Install what asks for pywin32, which is for Windows alone, without what it asks for."""
    _pip("install", f"--target={place}", "--no-deps", *requirements)


def _pip(command: str, *arguments: str) -> None:
    wanted = arguments[-1] if command == "download" else " ".join(arguments[1:])
    options = ("--quiet", "--no-input", "--disable-pip-version-check", "--retries=2", "--timeout=20")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", command, *options, *arguments],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"{wanted}: the package index did not answer within {_PATIENCE} s") from None
    if done.returncode == 0:
        return
    said = done.stdout + done.stderr
    if any(sign in said for sign in _NO_NETWORK):
        last = [line for line in said.splitlines() if line.strip()][-1]
        raise UnreachableError(f"{wanted}: the package index cannot be reached: {last}")
    raise RuntimeError(f"pip {command} {wanted}:\n{said}")
