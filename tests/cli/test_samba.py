"""`npipe export` and `npipe samba`: what they want, and what they say when there is no Samba."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

import npipe
from npipe.errors import PipeStateError
from npipe.samba import program
from tests.cli.helpers import DEADLINE, NPIPE, STATUSES, run
from tests.export.helpers import ALICE, BOB, Smbd, exported
from tests.helpers import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _samba_is_here() -> bool:
    try:
        program("smbd")
    except PipeStateError:
        return False
    return True


needs_samba = pytest.mark.skipif(not _samba_is_here(), reason="`make test-samba` installs Samba")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that end with the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def begun(started: list[subprocess.Popen[str]], *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([*NPIPE, *arguments], stderr=subprocess.PIPE, text=True)
    started.append(process)
    return process


def test_export_lets_other_machines_in_until_it_ends(
    name: str, samba_dir: Path, started: list[subprocess.Popen[str]]
) -> None:
    short = name.removeprefix("\\\\.\\pipe\\")
    with npipe.serve(name, bytes.upper):
        process = begun(started, "export", name, "another", "--allow", "alice", "--samba-dir", str(samba_dir))
        assert process.stderr is not None
        assert process.stderr.readline() == f"npipe: exporting {name}, at {samba_dir}\n"
        assert process.stderr.readline() == f"npipe: exporting \\\\.\\pipe\\another, at {samba_dir}\n"
        until((samba_dir / "np" / short).is_socket, DEADLINE)
        with Smbd(samba_dir, short, ALICE) as client:
            client.send(b"hello")
            assert client.message() == b"HELLO"
        with Smbd(samba_dir, short, BOB) as client:
            assert not client.let_in
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    assert exported(samba_dir) == []


def test_serve_lets_other_machines_in(name: str, samba_dir: Path, started: list[subprocess.Popen[str]]) -> None:
    process = begun(started, "serve", name, "--echo", "--allow", "alice", "--samba-dir", str(samba_dir))
    assert process.stderr is not None
    assert process.stderr.readline().startswith(f"npipe: listening on {name}")
    with Smbd(samba_dir, name.removeprefix("\\\\.\\pipe\\"), ALICE) as client:
        client.send(b"hello")
        assert client.message() == b"hello"
        assert process.stderr.readline() == "npipe: client 1 came: FACTS8\\alice of 127.0.0.1, encrypted\n"


def test_nobody_is_let_in_by_accident(name: str) -> None:
    done = run("export", name)
    assert (done.returncode, done.stderr) == (
        2,
        "npipe: Say who may come in: --allow WHO. See 'npipe export --help'.\n",
    )
    for more in (["--require-encryption"], ["--samba-dir", "/tmp"]):
        assert run("serve", name, *more).returncode == 2


def test_what_cannot_be_exported_is_one_line(name: str, samba_dir: Path) -> None:
    for allow, code in (("everyone", 87), ("group:no-such-group", 87)):
        done = run("export", name, "--allow", allow, "--samba-dir", str(samba_dir))
        assert done.returncode == STATUSES[code]
        assert done.stderr.startswith(f"npipe: [WinError {code}] ")
        assert done.stderr.count("\n") == 1


def test_without_samba_it_is_one_sentence(tmp_path: Path) -> None:
    code = "import npipe.samba.programs as p, sys; p._PLACES = (); from npipe.__main__ import main; sys.exit(main())"
    for arguments in (["config"], ["serve", "--dir", str(tmp_path / "s")], ["adduser", "--dir", str(tmp_path), "root"]):
        done = subprocess.run(
            [NPIPE[0], "-c", code, "samba", *arguments],
            env={**os.environ, "PATH": "/nowhere"},
            input="secret\n",
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 9
        assert "Samba is not installed" in done.stderr
        assert done.stderr.count("\n") == 1


@needs_samba
def test_config_prints_the_lines_and_what_there_is(tmp_path: Path) -> None:
    done = run("samba", "config", "--dir", str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.startswith(f"[global]\n    external_rpc_pipe:socket_dir = {tmp_path}\n")
    assert ", Samba 4." in done.stderr
    (tmp_path / "smb.conf").write_text(f"{done.stdout}\n    workgroup = HERE\n")
    again = run("samba", "config", "--dir", str(tmp_path), "--configuration", str(tmp_path / "smb.conf"))
    assert f"it looks for pipes in {tmp_path}/np\n" in again.stderr


@needs_samba
def test_a_private_samba_has_users_of_its_own(name: str, samba_dir: Path, started: list[subprocess.Popen[str]]) -> None:
    folder = str(samba_dir / "private")
    added = subprocess.run(
        [*NPIPE, "samba", "adduser", "--dir", folder, "carol", "--local-user", "games"],
        input="carol's own secret\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (added.returncode, added.stdout, added.stderr) == (0, "", "")
    assert stat.S_IMODE((samba_dir / "private").stat().st_mode) == 0o700
    for file in (samba_dir / "private").rglob("*"):
        if file.is_file():
            assert b"carol's own secret" not in file.read_bytes()
    port = str(40_000 + os.getpid() % 20_000)
    smbd = begun(started, "samba", "serve", "--dir", folder, "--port", port)
    assert smbd.stderr is not None
    assert smbd.stderr.readline() == f"npipe: smbd answers at port {port}; it looks for pipes in {folder}/pipes/np\n"
    smbd.send_signal(signal.SIGINT)
    assert smbd.wait(DEADLINE) == 0
    wrong = subprocess.run(
        [*NPIPE, "samba", "adduser", "--dir", folder, "no-such-user-here"],
        input="secret\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert wrong.returncode == STATUSES[87]
    assert "there is no user 'no-such-user-here' on this system" in wrong.stderr
