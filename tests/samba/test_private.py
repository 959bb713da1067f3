"""`npipe samba serve`: where it runs, whom it refuses, and that smbd ends with it, however that ends."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from smbprotocol.exceptions import SMBException

import npipe
from tests import helpers as h
from tests.cli.helpers import DEADLINE, NPIPE
from tests.samba.clients import Client
from tests.samba.conftest import _free_port, private_smbd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.samba import PrivateSmbd
    from tests.conftest import Child

    Start = Callable[..., Child]
    Serve = Callable[..., "subprocess.Popen[str]"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`npipe samba serve` with these options; it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: object, path: str = "") -> subprocess.Popen[str]:
        environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"} if path else None
        command = [*NPIPE, "samba", "serve", *map(str, options)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def smbds_of(folder: Path) -> list[int]:
    """The processes of a folder's smbd."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(folder / "smb.conf") in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found


@pytest.fixture
def made() -> Iterator[PrivateSmbd]:
    """One that has users, and does not run; its path leaves room for the sockets' names."""
    with tempfile.TemporaryDirectory(prefix="npipe-") as folder:
        yield private_smbd(Path(folder) / "a folder with spaces")


def talks(port: int, name: str) -> None:
    with Client(port) as client:
        assert client.call(client.open(name), b"hello") == b"HELLO"


@pytest.mark.parametrize("interface", ["127.0.0.1/8", "127.0.0.0/8", "lo"])
def test_a_network_or_an_interface_is_listened_in(made: PrivateSmbd, serve: Serve, short: str, interface: str) -> None:
    process = serve("--dir", made.folder, "--port", made.port, "--interface", interface)
    assert said(process) == f"npipe: smbd answers at port {made.port}; it looks for pipes in {made.samba_dir}/np\n"
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated", samba_dir=made.samba_dir):
        talks(made.port, short)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_smbd_ends_with_its_command_and_begins_again(
    made: PrivateSmbd, serve: Serve, short: str, number: signal.Signals
) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated", samba_dir=made.samba_dir) as server:
        for _ in range(2):
            process = serve("--dir", made.folder, "--port", made.port)
            assert said(process).startswith("npipe: smbd answers")
            client = Client(made.port)
            try:
                assert client.call(client.open(short), b"hello") == b"HELLO"
                process.send_signal(number)
                assert process.wait(DEADLINE) == (-number if number == signal.SIGKILL else 0)
            finally:
                with contextlib.suppress(SMBException, OSError):  # its host has gone
                    client.close()
        h.until(lambda: smbds_of(made.folder) == [], DEADLINE)
        h.until(lambda: server.clients == 0, DEADLINE)
        assert server.stats.answered == 2


def test_an_smbd_that_is_killed_ends_its_command(made: PrivateSmbd, serve: Serve) -> None:
    process = serve("--dir", made.folder, "--port", made.port)
    assert said(process).startswith("npipe: smbd answers")
    pid = int((made.folder / "pid" / "smbd.pid").read_text("ascii"))
    os.kill(pid, signal.SIGKILL)
    assert process.wait(DEADLINE) == 1
    assert said(process) == f"npipe: smbd has ended with status -9; its log is in {made.folder}/log\n"
    assert (made.folder / "log" / "log.smbd").is_file()


def one_sentence(process: subprocess.Popen[str], why: str) -> None:
    assert process.wait(DEADLINE) == 9
    assert process.stderr is not None
    text = process.stderr.read()
    assert why in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_port_that_is_taken_is_told_of(made: PrivateSmbd, serve: Serve, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, made.port), family=family, dualstack_ipv6=":" in host):
        for interface in ("127.0.0.1/8", "127.0.0.0/8"):
            one_sentence(
                serve("--dir", made.folder, "--port", made.port, "--interface", interface),
                f"another program listens at port {made.port}",
            )


@pytest.mark.parametrize("interface", ["127.0.0.1/8", "127.0.0.0/8"])
def test_two_smbd_do_not_share_a_port(made: PrivateSmbd, serve: Serve, tmp_path: Path, interface: str) -> None:
    """They could: Samba asks for that, and each would have some of the clients."""
    first = serve("--dir", made.folder, "--port", made.port)
    assert said(first).startswith("npipe: smbd answers")
    second = serve("--dir", tmp_path / "second", "--port", made.port, "--interface", interface)
    one_sentence(second, f"another program listens at port {made.port}")
    h.until(lambda: smbds_of(tmp_path / "second") == [], DEADLINE)


def test_a_folder_has_one_smbd_and_its_configuration_is_left_alone(made: PrivateSmbd, serve: Serve) -> None:
    first = serve("--dir", made.folder, "--port", made.port)
    assert said(first).startswith("npipe: smbd answers")
    before = made.configuration.read_text("utf-8")
    one_sentence(serve("--dir", made.folder, "--port", _free_port()), f"another smbd runs in {made.folder}")
    assert made.configuration.read_text("utf-8") == before
    assert first.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_takes_its_time_can_be_ended(tmp_path: Path, serve: Serve, number: signal.Signals) -> None:
    (tmp_path / "bin").mkdir()
    slow = tmp_path / "bin" / "smbd"
    slow.write_text(f"#!/bin/sh\necho > {tmp_path}/begun\nexec sleep 1000\n")
    slow.chmod(0o755)
    process = serve("--dir", tmp_path / "s", "--port", _free_port(), path=str(tmp_path / "bin"))
    h.until((tmp_path / "begun").exists, DEADLINE)
    process.send_signal(number)
    assert process.wait(DEADLINE) == 0


def test_a_forked_child_does_not_keep_smbd(made: PrivateSmbd, child: Start) -> None:
    script = """
    import os, signal, sys
    from npipe.samba import PrivateSmbd
    smbd = PrivateSmbd(sys.argv[1], port=int(sys.argv[2]))
    smbd.start()
    reader, writer = os.pipe()
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        smbd.close()  # it is the parent's: nothing to end
        os.write(done, b"!")
        os.read(reader, 1)
        os._exit(0)
    os.read(ready, 1)
    print(pid, flush=True)
    input()
    """
    parent = child(script, str(made.folder), str(made.port))
    pid = int(parent.line())
    keeper = os.pidfd_open(pid)
    try:
        assert smbds_of(made.folder)
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
        h.until(lambda: smbds_of(made.folder) == [], DEADLINE)
        signal.pidfd_send_signal(keeper, signal.SIGCONT)
    finally:
        os.close(keeper)


AS_ANOTHER = """
import encodings.ascii, encodings.idna, os, stringprep, sys, zipfile
import npipe.cli.serve, npipe.servers, npipe.transports.export.gateway
from npipe.__main__ import main
import npipe.cli.app, npipe.cli.samba
uid = int(sys.argv[1])
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
sys.argv[:] = ["npipe", *sys.argv[2:]]
sys.exit(main())
"""


@needs_root
def test_it_needs_no_root(short: str) -> None:
    user = pwd.getpwnam("games")
    with tempfile.TemporaryDirectory(prefix="npipe-user-") as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "its own"
        folder.mkdir(mode=0o700)
        os.chown(folder, user.pw_uid, user.pw_gid)
        command = [sys.executable, "-c", AS_ANOTHER, str(user.pw_uid)]
        place_of_it = ["--dir", str(folder / "s")]

        def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
            whole = [*command, *arguments]
            return subprocess.run(
                whole, input="secret\n", text=True, capture_output=True, timeout=DEADLINE, check=False
            )

        added = ran("samba", "adduser", *place_of_it, "alice", "--local-user", "games")
        assert (added.returncode, added.stderr) == (0, "")
        port = _free_port()
        environment = {**os.environ, "NPIPE_ROOT": str(folder / "root")}
        with contextlib.ExitStack() as stack:
            started = []
            for what in (
                ["samba", "serve", *place_of_it, "--port", str(port)],
                ["serve", short, "--echo", "--allow", "games", "--samba-dir", str(folder / "s" / "pipes")],
            ):
                process = subprocess.Popen(
                    [*command, *what], stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
                )
                stack.enter_context(process)
                stack.callback(process.kill)
                assert said(process).startswith(("npipe: smbd answers", "npipe: listening on"))
                started.append(process)
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in smbds_of(folder / "s")} == {user.pw_uid}
            with Client(port, password="secret") as client:
                assert client.call(client.open(short), b"hello") == b"hello"
            for process in started:
                process.terminate()
                assert process.wait(DEADLINE) == 0
        # It is root's now, and this user may not make anything there.
        folder.chmod(0o755)
        (folder / "s").chmod(0o755)
        (folder / "s" / ".LOCK").unlink()
        os.chown(folder / "s", 0, 0)
        refused = ran("samba", "serve", *place_of_it, "--port", str(port))
        assert refused.returncode == 9
        assert refused.stderr.startswith("npipe: [WinError 50] ")
        assert refused.stderr.count("\n") == 1
