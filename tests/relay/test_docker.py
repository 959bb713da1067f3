"""docker's own client through relays: connections that are HTTP no more, ends of one way, uploads in chunks, TLS."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.relay.content import Stream, digest
from tests.relay.daemon import CODE, docker_daemon, summary
from tests.relay.helpers import RelayProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(shutil.which("docker") is None, reason="docker's client is not installed"),
    pytest.mark.slow,
]
PATIENCE = 120.0


@pytest.fixture(params=["unix", "tcp", "tls"])
def host(
    name: str, tmp_path: Path, certificates: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[list[str], RelayProcess]]:
    """How docker is told where its daemon is: before a pipe, before the daemon's socket; and the relay there."""
    front, back = f"{tmp_path}/front", f"{tmp_path}/daemon"
    kind = request.param
    end, more = {"unix": (f"unix:{front}", []), "tcp": ("tcp:0", []), "tls": ("tls:0", ["--cert", "server"])}[kind]
    if more:
        more = ["--cert", f"{certificates}/server.pem", "--key", f"{certificates}/server.key"]
        more += ["--ca", f"{certificates}/ca.pem"]
    with docker_daemon(back), RelayProcess(name, f"unix:{back}") as inner, RelayProcess(end, name, *more) as outer:
        port = outer.places[0].rpartition(":")[2]
        where = ["-H", f"unix://{front}" if kind == "unix" else f"tcp://localhost:{port}"]
        if more:
            where += ["--tlsverify", "--tlscacert", f"{certificates}/ca.pem"]
            where += ["--tlscert", f"{certificates}/client.pem", "--tlskey", f"{certificates}/client.key"]
        yield where, outer
        assert inner.end() == (0, "")
        # docker ends TLS without its closing when it exits: with a connection that it keeps, that cannot be told from
        # one that is cut off.
        assert outer.end()[0] in ((0, 6) if more else (0,))


def docker(tmp_path: Path, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["docker", *arguments],
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, "DOCKER_CONFIG": str(tmp_path)},
    )


@pytest.mark.timeout(300)
def test_a_command_in_a_container_gets_its_input_up_to_the_end_and_says_its_last(
    host: tuple[list[str], RelayProcess], tmp_path: Path
) -> None:
    where, _ = host
    assert b"99.1" in docker(tmp_path, *where, "version").stdout
    for command in (["exec", "-i", "c", "cat"], ["attach", "c"]):
        for size in (0, 1, 20_000_000):
            stream = Stream((command[0], size), size)
            done = docker(tmp_path, *where, *command, data=stream.data)
            assert (digest(done.stdout), done.stderr.decode()) == (stream.digest, summary(stream.data))
            assert done.returncode == CODE


@pytest.mark.timeout(300)
def test_an_upload_in_chunks_comes_as_it_was(host: tuple[list[str], RelayProcess], tmp_path: Path) -> None:
    where, _ = host
    stream = Stream("upload", 30_000_000)
    (tmp_path / "image").write_bytes(stream.data)
    done = docker(tmp_path, *where, "load", "-i", str(tmp_path / "image"))
    assert (done.returncode, done.stdout.decode().strip()) == (0, summary(stream.data))
