"""docker's npipe transport, unmodified, with requests, against an HTTP server behind a byte pipe."""

from __future__ import annotations

import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.fetch import importable
from tests.clients.http_server import API_VERSION, CHUNKS, PipeHTTPServer, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("default::DeprecationWarning")]

PIPE_SERVER_END = 1
URL = "http+docker://localnpipe"


@pytest.fixture(scope="module")
def foreign(installed: None, docker_folder: Path) -> Iterator[SimpleNamespace]:
    """The modules of docker and requests, and the drop-in modules that the tests use themselves."""
    with importable(docker_folder):
        yield SimpleNamespace(
            docker=importlib.import_module("docker"),
            client=importlib.import_module("docker.api.client"),
            adapter=importlib.import_module("docker.transport.npipeconn").NpipeHTTPAdapter,
            npipesocket=importlib.import_module("docker.transport.npipesocket"),
            requests=importlib.import_module("requests"),
            pywintypes=importlib.import_module("pywintypes"),
            win32event=importlib.import_module("win32event"),
            win32file=importlib.import_module("win32file"),
            win32pipe=importlib.import_module("win32pipe"),
        )


@pytest.fixture
def path(name: str) -> str:
    r"""A pipe's name as docker writes it: //./pipe/NAME, not \\.\pipe\NAME."""
    return name.replace("test-", "docker_engine_test_").replace("\\", "/")


@pytest.fixture
def server(path: str) -> Iterator[PipeHTTPServer]:
    with PipeHTTPServer(path) as server:
        yield server


@pytest.fixture
def session(foreign: SimpleNamespace, server: PipeHTTPServer, path: str) -> Iterator[Any]:
    with foreign.requests.Session() as session:
        session.mount("http+docker://", foreign.adapter(f"npipe://{path}"))
        yield session


@pytest.mark.timeout(300)  # the first test of a session may have to fetch
def test_docker_knows_the_transport(foreign: SimpleNamespace) -> None:
    assert importlib.import_module("docker.transport").NpipeHTTPAdapter is foreign.adapter


def test_a_get_is_answered(session: Any) -> None:
    answer = session.get(f"{URL}/hello")
    assert (answer.status_code, answer.content) == (200, b"hello")


def test_an_error_page(session: Any) -> None:
    assert session.get(f"{URL}/nowhere").status_code == 404


@pytest.mark.parametrize("size", [0, 1, 4096, 60_000, 1 << 20])
def test_post_sends_a_body(session: Any, size: int) -> None:
    answer = session.post(f"{URL}/echo", data=pattern(size))
    assert answer.content == pattern(size)


def test_several_requests_use_one_connection(session: Any, server: PipeHTTPServer) -> None:
    # The adapter keeps a pool of connections for each URL, with its path.
    assert [session.get(f"{URL}/number").text for _ in range(20)] == [str(number) for number in range(1, 21)]
    assert server.connections == 1


def test_a_response_of_5_mb(session: Any) -> None:
    size = 5 * 1024 * 1024
    assert session.get(f"{URL}/large?{size}").content == pattern(size)


def test_a_streamed_response(session: Any) -> None:
    size = 1 << 20
    with session.get(f"{URL}/large?{size}", stream=True) as answer:
        assert b"".join(answer.iter_content(10_000)) == pattern(size)


def test_a_chunked_response(session: Any, server: PipeHTTPServer) -> None:
    for _ in range(2):  # the connection is at the start of an answer again
        assert session.get(f"{URL}/chunked").content == b"".join(CHUNKS)
    assert server.connections == 1


def test_a_slow_server_is_a_time_out(foreign: SimpleNamespace, session: Any) -> None:
    with pytest.raises(foreign.requests.exceptions.ReadTimeout):
        session.get(f"{URL}/never", timeout=0.2)
    assert session.get(f"{URL}/hello", timeout=20).content == b"hello"  # on a new connection


def test_the_timed_out_read_has_taken_nothing(foreign: SimpleNamespace, path: str, server: PipeHTTPServer) -> None:
    client = foreign.npipesocket.NpipeSocket()
    client.connect(path)
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv_into(bytearray(100))
    client.settimeout(20)
    client.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
    client.close()


def test_no_such_pipe(foreign: SimpleNamespace, path: str) -> None:
    with foreign.requests.Session() as session:
        session.mount("http+docker://", foreign.adapter(f"npipe://{path}"))
        with pytest.raises(foreign.pywintypes.error) as caught:  # docker's connect lets it through
            session.get(f"{URL}/hello")
    assert caught.value.winerror == 2
    assert caught.value.funcname == "CreateFile"


@pytest.mark.parametrize("page", ["hangs-up", "half"])
def test_a_server_that_hangs_up_is_a_broken_pipe(foreign: SimpleNamespace, session: Any, page: str) -> None:
    with pytest.raises(foreign.pywintypes.error) as caught:  # not an OSError, so that http.client lets it through
        session.get(f"{URL}/{page}")
    assert caught.value.winerror == 109


def test_several_threads_at_once(session: Any, server: PipeHTTPServer) -> None:
    threads = 8
    together = threading.Barrier(threads)

    def requests_of(thread: int) -> list[bool]:
        together.wait(20)
        bodies = [f"{thread}-{number}".encode() * 500 for number in range(10)]
        return [session.post(f"{URL}/echo", data=body).content == body for body in bodies]

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(requests_of, range(threads)))
    assert results == [[True] * 10] * threads
    assert 1 <= server.connections <= threads


def test_a_busy_pipe_is_tried_again(foreign: SimpleNamespace, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    win32pipe, win32event = foreign.win32pipe, foreign.win32event
    overlapped = foreign.pywintypes.OVERLAPPED()
    overlapped.hEvent = win32event.CreateEvent(None, True, False, None)
    mode = win32pipe.PIPE_ACCESS_DUPLEX | foreign.win32file.FILE_FLAG_OVERLAPPED
    instance = win32pipe.CreateNamedPipe(path, mode, win32pipe.PIPE_TYPE_BYTE, 1, 4096, 4096, 0, None)
    first, second = foreign.npipesocket.NpipeSocket(), foreign.npipesocket.NpipeSocket()
    first.connect(path)
    pauses = []

    def free_the_instance(seconds: float) -> None:
        pauses.append(seconds)
        first.close()
        win32pipe.DisconnectNamedPipe(instance)
        win32pipe.ConnectNamedPipe(instance, overlapped)

    monkeypatch.setattr(foreign.npipesocket, "time", SimpleNamespace(sleep=free_the_instance))
    second.connect(path)
    assert pauses == [1]
    assert win32event.WaitForSingleObject(overlapped.hEvent, 5000) == win32event.WAIT_OBJECT_0
    second.close()
    instance.Close()


class TestSocket:
    """docker.transport.npipesocket.NpipeSocket by itself."""

    @pytest.fixture
    def client(self, foreign: SimpleNamespace, path: str, server: PipeHTTPServer) -> Iterator[Any]:
        client = foreign.npipesocket.NpipeSocket()
        client.settimeout(20)
        client.connect(path)
        yield client
        client.close()

    def test_recv_reads_without_an_overlapped(self, client: Any) -> None:
        assert client.send(b"GET /hello HTTP/1.0\r\n\r\n") == 23
        answer = b""
        while not answer.endswith(b"hello"):
            answer += client.recv(10)
        assert answer.startswith(b"HTTP/1.1 200 OK")

    def test_recv_into_fills_a_part(self, client: Any) -> None:
        client.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        buffer = bytearray(b"." * 20)
        assert client.recv_into(buffer, 8) == 8
        assert bytes(buffer) == b"HTTP/1.1" + b"." * 12
        assert client.recv_into(memoryview(buffer)[:4]) == 4
        assert bytes(buffer[:4]) == b" 200"

    def test_without_a_time_out_it_waits(self, client: Any) -> None:
        client.settimeout(None)
        client.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        with client.makefile("rb") as file:
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"

    def test_detach_gives_the_handle(self, foreign: SimpleNamespace, path: str, server: PipeHTTPServer) -> None:
        client = foreign.npipesocket.NpipeSocket()
        client.connect(path)
        assert client.getpeername() == path
        handle = client.detach()
        assert foreign.win32pipe.GetNamedPipeInfo(handle)[0] & PIPE_SERVER_END == 0
        with pytest.raises(RuntimeError):
            client.recv(1)
        handle.Close()


def test_the_docker_client(
    foreign: SimpleNamespace, path: str, server: PipeHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(foreign.client, "IS_WINDOWS_PLATFORM", True)  # else it refuses npipe://
    client = foreign.docker.APIClient(base_url=f"npipe://{path}", version=API_VERSION)
    assert client.ping()
    assert client.version()["Os"] == "npipe"
    client.close()
