"""pywin32's demo of a service behind a named pipe and its client, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.helpers import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(60)

RUNNER = Path(__file__).with_name("run_demo.py")
PIPE = r"\\.\pipe\PyPipeTest"
DEBUGGING = "Debugging service PyPipeTestService - press Ctrl+C to stop.\n"
STARTED = "Info 0x40001002 - The service PyPipeTestService has started.\n"
STOPPED = "Info 0x40001004 - The service PyPipeTestService has stopped. after processing 0 connections\n"
PATIENCE = 45  # seconds; the runner prints its stacks and ends before


def run_client(wheel: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUNNER), str(wheel), "client", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Service:
    """The demo's service in a process; `output` has all that it has printed once it has ended."""

    def __init__(self, wheel: Path) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(RUNNER), str(wheel), "service"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read)
        self._started = threading.Event()
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if line == STARTED:
                self._started.set()
        self._started.set()

    def wait_until_it_listens(self) -> None:
        assert self._started.wait(20)
        assert self.process.poll() is None, self.output
        until(self._listens, 20)

    def _listens(self) -> bool:
        try:
            npipe.wait(PIPE, timeout=20)
        except npipe.PipeNotFoundError:  # it logs its start before it creates the pipe
            assert self.process.poll() is None, self.output
            return False
        return True

    def stop(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(20)
        self._reader.join(20)
        return status

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self._reader.join(20)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def service(pywin32: Path) -> Iterator[Service]:
    service = Service(pywin32)
    try:
        service.wait_until_it_listens()
        yield service
    finally:
        service.end()


class TestClient:
    """The client, against a server of npipe's own face."""

    @pytest.mark.timeout(300)  # the first test of a session may have to fetch
    def test_it_sends_and_receives_a_message(self, pywin32: Path) -> None:
        with npipe.serve(PIPE, bytes.upper):
            done = run_client(pywin32, "-v", "Hi", "There")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            "Sending b'Hi There'",
            "Server sent back 'b'HI THERE''",
            "Sent and received a message!",
        ]

    def test_an_answer_longer_than_its_buffer(self, pywin32: Path) -> None:
        with npipe.serve(PIPE, lambda request: request * 100):
            done = run_client(pywin32, "Hi There")
        assert done.returncode == 1
        assert "pywintypes.error: (234, 'CallNamedPipe', " in done.stderr

    def test_without_a_server_it_fails_with_2(self, pywin32: Path) -> None:
        done = run_client(pywin32, "Hi")
        assert done.returncode == 1
        assert "pywintypes.error: (2, 'CallNamedPipe', " in done.stderr

    def test_text_is_refused_in_threads_too(self, pywin32: Path) -> None:
        # The threads of its stress test still send str, which pywin32 has refused since Python 3.
        with npipe.serve(PIPE, bytes.upper):
            done = run_client(pywin32, "-t", "3", "-m", "5", "Hi")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Failed after 0 messages") == 3
        assert done.stderr.count("TypeError: a bytes-like object is required") == 3


class TestService:
    """The service: overlapped ConnectNamedPipe, one wait for the stop event and the pipe, a thread per client.

    It makes the next instance only after a client has come. In between there may be no pipe at all, on Windows too, so
    a client waits until one listens.
    """

    def test_its_own_client(self, pywin32: Path, service: Service) -> None:
        for text in ("Hi", "x" * 100):
            service.wait_until_it_listens()
            done = run_client(pywin32, "-v", text)
            assert done.returncode == 0, done.stderr
            assert f"sent me b'{text}'\"'" in done.stdout  # the repr of bytes with quotes in them
        assert service.stop() == 0, service.output
        assert f"Read b'{'x' * 100}'" in service.output
        assert "Traceback" not in service.output

    def test_it_serves_many_clients_in_turn(self, service: Service) -> None:
        for number in range(50):
            service.wait_until_it_listens()
            answer = npipe.call(PIPE, b"%d" % number, timeout=20)
            assert answer.endswith(b" sent me b'%d'" % number)
        assert service.stop() == 0, service.output
        assert "Traceback" not in service.output

    def test_a_client_that_goes_without_a_word(self, service: Service) -> None:
        for _ in range(5):
            service.wait_until_it_listens()
            client = npipe.connect(PIPE, timeout=20)
            # It ends when a client has gone before its ConnectNamedPipe (232); with the next instance it is past that.
            service.wait_until_it_listens()
            client.abort()
        service.wait_until_it_listens()
        assert npipe.call(PIPE, b"still there", timeout=20).endswith(b"sent me b'still there'")
        assert service.stop() == 0, service.output

    def test_it_stops_while_it_waits(self, service: Service) -> None:
        assert service.stop() == 0, service.output
        assert service.output == DEBUGGING + STARTED + STOPPED
