"""Other people's programs at a relay's ends: curl, socat, openssl, docker's client; TLS, websockets, .NET's place."""

from __future__ import annotations

import asyncio
import http.server
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests.packages import need
from tests.relay.content import Stream, digest, echo, read_all
from tests.relay.helpers import DEADLINE, NPIPE, RelayProcess, free_path, unix_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # each starts some programs


def program(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


class Page(http.server.BaseHTTPRequestHandler):
    """An HTTP server that answers as docker's daemon does, and sends a body back."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith("/_ping"):
            self.answer(b"OK", "text/plain")
        elif path.endswith("/version"):
            self.answer(json.dumps({"Version": "99.1", "ApiVersion": "1.44"}).encode())
        elif path.endswith("/containers/json"):
            self.answer(json.dumps([{"Id": "c" * 64, "Names": ["/fake"]}]).encode())
        else:
            self.answer(b"x" * 100_000, "text/plain")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])), "application/octet-stream")

    def answer(self, body: bytes, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


class UnixHTTPServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "daemon.sock")
    with UnixHTTPServer(path, Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield path
        server.shutdown()
        thread.join(DEADLINE)


@pytest.fixture
def front(name: str, daemon: str, tmp_path: Path) -> Iterator[str]:
    """A Unix socket before a pipe before the daemon's Unix socket: two relays."""
    path = str(tmp_path / "front.sock")
    with RelayProcess(name, f"unix:{daemon}") as inner, RelayProcess(f"unix:{path}", name) as outer:
        yield path
        assert inner.end()[0] == 0
        assert outer.end()[0] == 0


@program("curl")
def test_curl_through_a_pipe(front: str, tmp_path: Path) -> None:
    stream = Stream("curl", 3_000_000)
    (tmp_path / "body").write_bytes(stream.data)
    many = ["curl", "-sS", "--fail", "--max-time", str(DEADLINE), "--unix-socket", front]
    done = subprocess.run(
        [*many, "--data-binary", f"@{tmp_path}/body", "http://x/echo"], capture_output=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stderr, digest(done.stdout)) == (0, b"", stream.digest)
    done = subprocess.run(
        [*many, "--parallel", *[f"http://x/{number}" for number in range(30)]], capture_output=True, timeout=DEADLINE
    )
    assert (done.returncode, len(done.stdout)) == (0, 30 * 100_000)


def test_docker_s_own_client_through_a_pipe(front: str) -> None:
    docker = pytest.importorskip("docker", reason="docker's client is not installed")
    client: Any = docker.DockerClient(base_url=f"unix://{front}", version="1.44", timeout=DEADLINE)
    try:
        assert client.ping() is True
        assert client.version()["Version"] == "99.1"
        assert client.api.containers()[0]["Names"] == ["/fake"]
    finally:
        client.close()


@pytest.mark.timeout(300)  # it may be installed first
def test_socat_with_the_relay_as_its_command_as_npiperelay_is_used(name: str, tmp_path: Path) -> None:
    need("socat")
    path, stream = str(tmp_path / "agent.sock"), Stream("socat", 300_000)
    command = " ".join([*NPIPE, "relay", "-q", "stdio", name.rpartition("\\")[2]])
    with unix_server(free_path(tmp_path), echo), RelayProcess(name, f"unix:{free_path(tmp_path)}") as relay:
        socat = subprocess.Popen(
            ["socat", "-d", "-d", "-t", str(DEADLINE), f"UNIX-LISTEN:{path}", f"EXEC:{command}"], stderr=subprocess.PIPE
        )
        with socat:
            assert socat.stderr is not None
            assert b"listening" in next(line for line in socat.stderr if b"listening" in line)
            done = subprocess.run(
                ["socat", "-t", str(DEADLINE), "-", f"UNIX-CONNECT:{path}"],
                input=stream.data,
                capture_output=True,
                timeout=DEADLINE,
            )
            assert digest(done.stdout) == stream.digest
            socat.communicate(timeout=DEADLINE)
        assert relay.report()["clean"]


# ---- TLS


def tls(folder: Path, who: str) -> list[str]:
    return ["--cert", f"{folder}/{who}.pem", "--key", f"{folder}/{who}.key", "--ca", f"{folder}/ca.pem"]


def port_of(relay: RelayProcess) -> int:
    return int(relay.places[0].partition("/")[0].rpartition(":")[2])


def test_two_relays_over_tls_carry_both_ways_and_each_end_by_itself(
    name: str, tmp_path: Path, certificates: Path
) -> None:
    stream = Stream("tls", 2_000_000)
    with npipe.listen(name, mode="message") as listener:
        with RelayProcess("tls:0", name, *tls(certificates, "server")) as far:
            near = [*NPIPE, "relay", "-q", "stdio", f"tls:{port_of(far)}", *tls(certificates, "client")]
            with subprocess.Popen(near, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                out: list[bytes] = []
                talk = threading.Thread(target=lambda: out.append(process.communicate(stream.data, DEADLINE)[0]))
                talk.start()
                with listener.accept(DEADLINE) as pipe:
                    got = b""
                    while piece := pipe.recv(timeout=DEADLINE):
                        got += piece
                    assert digest(got) == stream.digest
                    pipe.send(got[::-1], timeout=DEADLINE)  # after the other way has ended
                talk.join(DEADLINE)
                assert out == [stream.data[::-1]]
                assert process.returncode == 0
            assert far.report()["clean"]


@program("openssl")
@pytest.mark.timeout(300)  # they may be installed first
@pytest.mark.parametrize("program", ["socat", "ncat"])
def test_who_ends_tls_with_its_closing_or_without_gets_all_that_comes_back(
    name: str, tmp_path: Path, certificates: Path, program: str
) -> None:
    need(program)
    stream, files = (
        Stream(program, 3_000_000),
        [f"{certificates}/{file}" for file in ("client.pem", "client.key", "ca.pem")],
    )
    with (
        unix_server(free_path(tmp_path), echo),
        RelayProcess(name, f"unix:{free_path(tmp_path)}"),
        RelayProcess("tls:0", name, *tls(certificates, "server")) as relay,
    ):
        cert, key, ca = files
        command = {
            "socat": [
                "-t",
                str(DEADLINE),
                "-",
                f"OPENSSL:localhost:{port_of(relay)},cert={cert},key={key},cafile={ca}",
            ],
            "ncat": [
                *("--ssl", "--ssl-cert", cert, "--ssl-key", key, "--ssl-verify", "--ssl-trustfile", ca),
                *("localhost", str(port_of(relay))),
            ],
        }[program]
        done = subprocess.run([program, *command], input=stream.data, capture_output=True, timeout=2 * DEADLINE)
        assert (done.returncode, digest(done.stdout)) == (0, stream.digest)
        report = relay.report()
        assert (report["forth"]["bytes"], report["back"]["bytes"]) == (len(stream.data), len(stream.data))
        # ncat ends its own way by the socket alone, which might be somebody on the way who cuts it off.
        assert ("without TLS's closing" in report["lost"]) == (program == "ncat")
        assert relay.end()[0] == (6 if program == "ncat" else 0)


def test_all_comes_of_a_tls_client_that_reads_nothing_and_closes(name: str, tmp_path: Path, certificates: Path) -> None:
    stream, closed, got = Stream("write only", 700_000), threading.Event(), []

    def serve(connection: socket.socket) -> None:
        assert closed.wait(DEADLINE)  # most of it has not been read then
        got.append(read_all(connection))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    context.load_verify_locations(certificates / "ca.pem")
    with (
        unix_server(free_path(tmp_path), serve),
        RelayProcess("tls:0", f"unix:{free_path(tmp_path)}", *tls(certificates, "server")) as relay,
    ):
        plain = socket.create_connection(("localhost", port_of(relay)), DEADLINE)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(stream.data)
        closed.set()
        report = relay.report()
        assert (report["forth"]["bytes"], report["forth"]["dropped"]) == (len(stream.data), 0)
        assert "without TLS's closing" in report["lost"]
    assert [digest(data) for data in got] == [stream.digest]


def test_a_key_that_wants_a_passphrase_is_refused_and_nobody_is_asked(
    name: str, certificates: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    subprocess.run(
        ["openssl", "ec", "-in", f"{certificates}/server.key", "-aes128", "-passout", "pass:x", "-out", str(key)],
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    ends = ["--cert", f"{certificates}/server.pem", "--key", str(key), "--ca", f"{certificates}/ca.pem"]
    done = subprocess.run(
        [*NPIPE, "relay", "tls:0", name, *ends], stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE
    )
    assert done.returncode == 2
    assert b"encrypted with a passphrase" in done.stderr


def test_openssl_s_client_and_who_has_no_certificate(name: str, certificates: Path) -> None:
    with npipe.serve(name, bytes.upper), RelayProcess("tls:0", name, *tls(certificates, "server")) as relay:
        client = ["openssl", "s_client", "-quiet", "-verify_return_error", "-connect", f"127.0.0.1:{port_of(relay)}"]
        client += ["-CAfile", f"{certificates}/ca.pem"]
        mine = ["-cert", f"{certificates}/client.pem", "-key", f"{certificates}/client.key"]
        with subprocess.Popen(
            [*client, *mine], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"HELLO\n"
            process.kill()
        assert relay.report()["forth"]["bytes"] == 6
        other = ["-cert", f"{certificates}/other.pem", "-key", f"{certificates}/other.key"]
        for wrong, why in (([], "peer did not return a certificate"), (other, "the certificate is not accepted")):
            subprocess.run([*client, *wrong], stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)
            report = relay.report()
            assert why in report["lost"]
            assert report["how"] == "refused"


@program("openssl")
def test_openssl_s_server_is_dialled_and_one_of_another_authority_is_not(certificates: Path, tmp_path: Path) -> None:
    for who, status in (("server", 0), ("other", 6)):
        server = ["openssl", "s_server", "-quiet", "-accept", "127.0.0.1:0", "-rev", "-naccept", "1"]
        server += ["-cert", f"{certificates}/{who}.pem", "-key", f"{certificates}/{who}.key"]
        server += ["-CAfile", f"{certificates}/ca.pem", "-Verify", "1", "-verify_return_error"]
        server.remove("-quiet")
        with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith(b"ACCEPT"))
            port = int(line.rpartition(b":")[2])
            near = [*NPIPE, "relay", "-q", "stdio", f"tls:{port}", *tls(certificates, "client")]
            with subprocess.Popen(near, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as relay:
                assert relay.stdin is not None
                assert relay.stdout is not None
                assert relay.stderr is not None
                if status == 0:
                    relay.stdin.write(b"hello\n")
                    relay.stdin.flush()
                    assert relay.stdout.readline() == b"olleh\n"
                    relay.stdin.close()
                assert relay.wait(DEADLINE) == status
                if status:
                    assert b"certificate" in relay.stderr.read()
            process.kill()


def test_who_fails_at_the_handshake_is_not_the_one_connection_of_standard_input(certificates: Path) -> None:
    more = tls(certificates, "server")
    with RelayProcess("tls:0", "stdio", *more, stdin=subprocess.PIPE) as relay:
        with socket.create_connection(("127.0.0.1", port_of(relay)), DEADLINE) as scanner:
            scanner.sendall(b"GET / HTTP/1.0\r\n\r\n")
            place = "{}:{}".format(*scanner.getsockname())
            report = relay.report()
        assert (report["first"], report["second"], report["how"]) == (place, "stdio", "refused")
        near = [*NPIPE, "relay", "-q", "stdio", f"tls:{port_of(relay)}", *tls(certificates, "client")]
        with subprocess.Popen(near, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as done:
            assert done.stdin is not None
            assert done.stdout is not None
            assert relay.process.stdin is not None
            assert relay.process.stdout is not None
            done.stdin.write(b"one")
            done.stdin.close()
            assert relay.process.stdout.read(3) == b"one"
            relay.process.stdin.write(b"two")
            relay.process.stdin.close()
            assert done.stdout.read() == b"two"
        assert done.returncode == 0
        assert relay.rest() == (0, "")


# ---- Websockets


def test_a_websocket_carries_messages_and_pages_are_refused(name: str) -> None:
    client = pytest.importorskip("websockets.asyncio.client", reason="websockets is not installed")
    exceptions = pytest.importorskip("websockets.exceptions")

    async def talk(port: int) -> None:
        async with client.connect(f"ws://127.0.0.1:{port}/pipe", proxy=None) as web:
            for message in (b"one", b"", b"x" * 300_000):
                await web.send(message)
                assert await web.recv() == message.upper()
            await web.send("tëxt")
            assert await web.recv() == "tëxt".encode().upper()
        for more, url in (({"origin": "http://evil.example"}, "pipe"), ({}, "elsewhere")):
            with pytest.raises(exceptions.InvalidStatus):
                await client.connect(f"ws://127.0.0.1:{port}/{url}", proxy=None, **more)

    with npipe.serve(name, bytes.upper), RelayProcess("ws:0/pipe", name) as relay:
        asyncio.run(asyncio.wait_for(talk(port_of(relay)), DEADLINE))
        report = relay.report()
        assert report["clean"]
        assert report["forth"]["pieces"] == 4
        assert relay.end()[0] == 0


def test_a_pipe_s_messages_go_over_a_websocket_to_another_pipe(name: str) -> None:
    pytest.importorskip("websockets", reason="websockets is not installed")
    with npipe.serve(name, bytes.upper), RelayProcess("ws:0/", name) as far:
        with RelayProcess(name + "-near", f"ws:{port_of(far)}/") as near:
            with npipe.connect(name + "-near") as pipe:
                for message in (b"a", b"", b"b" * 200_000):
                    assert pipe.transact(message, timeout=DEADLINE) == message.upper()
            assert near.report()["clean"]
            assert far.report()["clean"]


# ---- .NET


def test_a_pipe_of_net_s_is_its_socket_in_the_temporary_folder(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with unix_server(f"{folder}/CoreFxPipe_service", echo), RelayProcess(name, "dotnet:service"):
        with npipe.connect(name) as pipe:
            pipe.send(b"x")
            assert pipe.recv(timeout=DEADLINE) == b"x"
    with RelayProcess("dotnet:other", name):  # as .NET's NamedPipeServerStream makes it
        assert Path(f"{folder}/CoreFxPipe_other").is_socket()
