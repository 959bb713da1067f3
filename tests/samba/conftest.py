"""An smbd on a port of this machine, for all tests that want none of their own.

NPIPE_TEST_SAMBA=FOLDER has the programs of another Samba than this system's: scripts/debian-samba.sh.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from npipe.errors import PipeStateError
from npipe.samba import PrivateSmbd, program

pytest.importorskip("smbprotocol", reason="`make test-samba` installs other people's SMB clients (smbprotocol)")

from tests.samba.clients import PASSWORD  # which needs it

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_numbers = itertools.count()
_OTHER = os.environ.get("NPIPE_TEST_SAMBA")
_PATH = os.environ.get("PATH", os.defpath)
_SYSTEMS_PATH = os.pathsep.join(place for place in _PATH.split(os.pathsep) if place != _OTHER)
if _OTHER:
    os.environ["PATH"] = f"{_OTHER}{os.pathsep}{_SYSTEMS_PATH}"


@functools.cache
def samba_version() -> tuple[int, int]:
    """The version of the Samba that is tried; there is one where this is asked."""
    done = subprocess.run([program("smbd"), "--version"], capture_output=True, text=True, check=True, timeout=20)
    major, minor = done.stdout.removeprefix("Version ").split(".")[:2]
    return int(major), int(minor)


@pytest.fixture
def systems_samba(monkeypatch: pytest.MonkeyPatch) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Makes what starts meanwhile this system's own Samba; skips where that is the one that is tried anyway."""
    if not _OTHER:
        pytest.skip("one version of Samba is tried; `make test-samba-long` has another beside it")

    @contextlib.contextmanager
    def meanwhile() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setenv("PATH", _SYSTEMS_PATH)
            try:
                program("smbd")
            except PipeStateError as error:
                pytest.skip(f"this system has no Samba beside the one that is tried: {error.detail}")
            yield

    return meanwhile


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def private_smbd(folder: Path, **options: Any) -> PrivateSmbd:
    """Make one that knows alice and bob, as two users of this system (root's own cannot be had by others)."""
    try:
        program("smbd")
    except PipeStateError as error:
        pytest.skip(f"`make test-samba` installs Samba: {error.detail}")
    smbd = PrivateSmbd(folder, **{"port": _free_port(), **options})
    smbd.add_user("alice", PASSWORD, local_user="games")
    smbd.add_user("bob", PASSWORD, local_user="news")
    return smbd


@pytest.fixture(scope="session")
def _smbd() -> Iterator[PrivateSmbd]:
    with tempfile.TemporaryDirectory(prefix="npipe-smbd-") as folder:
        with private_smbd(Path(folder)) as smbd:
            smbd.start()
            yield smbd


@pytest.fixture
def smbd(_smbd: PrivateSmbd, monkeypatch: pytest.MonkeyPatch) -> PrivateSmbd:
    """One for all tests; `listen(remote="samba")` finds it."""
    monkeypatch.setenv("NPIPE_SAMBA_DIR", str(_smbd.samba_dir))
    return _smbd


@pytest.fixture
def own_smbd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PrivateSmbd]]:
    """Starts one that the test may end, or that is set up in another way."""
    with tempfile.TemporaryDirectory(prefix="npipe-smbd-") as folder:
        made: list[PrivateSmbd] = []

        def make(*, extra: str = "", **options: Any) -> PrivateSmbd:
            smbd = private_smbd(Path(folder) / str(len(made)), **options)
            (smbd.folder / "extra.conf").write_text(extra.format(folder=smbd.folder))
            smbd.start()
            made.append(smbd)
            monkeypatch.setenv("NPIPE_SAMBA_DIR", str(smbd.samba_dir))
            return smbd

        yield make
        for smbd in made:
            smbd.close()
            _end_helpers(smbd)


def _end_helpers(smbd: PrivateSmbd) -> None:
    """End what this smbd has started for Samba's own pipes (samba-dcerpcd): those are in sessions of their own."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(f"--configfile={smbd.configuration}") in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), signal.SIGKILL)


@pytest.fixture
def short() -> str:
    """A pipe's bare name that nobody else uses."""
    return f"Samba-{os.getpid()}-{next(_numbers)}"
