"""What a relay carries, byte for byte, with a process in the middle."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.cli.helpers import INTERRUPTED
from tests.relay.content import Stream, digest, echo, read_all
from tests.relay.helpers import DEADLINE, NPIPE, RelayProcess, free_path, unix_client, unix_server

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # each starts some processes


def both_ways(client: socket.socket, out: Stream, back: Stream) -> None:
    """Send one stream and read the other, at the same time."""

    def send() -> None:
        out.send(client.sendall)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    got = read_all(client)
    sender.join(DEADLINE)
    assert digest(got) == back.digest


@pytest.mark.parametrize("seed", range(6))
def test_random_streams_go_both_ways_through_a_pipe_with_half_close_at_random_points(
    name: str, tmp_path: Path, seed: int
) -> None:
    sizes = random.Random(seed)
    out = Stream((seed, "out"), sizes.choice([0, 1, 70_000, 3_000_000]))
    back = Stream((seed, "back"), sizes.choice([0, 1, 70_000, 3_000_000]))

    def answer(connection: socket.socket) -> None:
        if seed % 2:  # it ends first, or only after it has read everything
            both_ways(connection, back, out)
        else:
            assert digest(read_all(connection)) == out.digest
            back.send(connection.sendall)

    server, front = free_path(tmp_path), str(tmp_path / "front")
    with (
        unix_server(server, answer),
        RelayProcess(name, f"unix:{server}") as inner,
        RelayProcess(f"unix:{front}", name) as outer,
    ):
        with unix_client(front) as client:
            both_ways(client, out, back)
        for relay in (inner, outer):
            report = relay.report()
            assert (report["forth"]["bytes"], report["back"]["bytes"]) == (len(out.data), len(back.data))
            assert report["clean"]
            assert relay.end() == (0, "")


def test_a_pipe_client_talks_to_a_unix_socket(name: str, tmp_path: Path) -> None:
    stream = Stream("pipe", 1_000_000)
    with unix_server(free_path(tmp_path), echo), RelayProcess(name, f"unix:{free_path(tmp_path)}"):
        with npipe.connect(name, mode="byte") as pipe:
            sender = threading.Thread(target=stream.send, args=(pipe.write,))
            sender.start()
            got = read_exactly(pipe, len(stream.data))
            sender.join(DEADLINE)
    assert digest(got) == stream.digest


def read_exactly(pipe: npipe.StreamPipe, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        got += pipe.read(size - len(got), timeout=DEADLINE)
    return bytes(got)


def test_messages_of_a_pipe_are_frames_of_a_stream_empty_ones_too(name: str, tmp_path: Path) -> None:
    messages = [b"", b"one", b"\n\0", b"x" * 300_000, b""]
    got: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while head := stream.read(4):
                got.append(stream.read(int.from_bytes(head, "little")))
                connection.sendall(head + got[-1][::-1])

    with unix_server(free_path(tmp_path), serve):
        with RelayProcess(name, f"unix:{free_path(tmp_path)}", "--framing", "length") as relay:
            with npipe.connect(name) as pipe:
                for message in messages:
                    pipe.send(message, timeout=DEADLINE)
                assert [pipe.recv(timeout=DEADLINE) for _ in messages] == [message[::-1] for message in messages]
            report = relay.report()
            assert report["clean"]
            assert report["forth"]["pieces"] == len(messages)
            assert relay.end() == (0, "")
    assert got == messages


def test_lines_of_a_tcp_client_are_messages_and_so_is_a_last_one_without_its_end(name: str) -> None:
    with (
        npipe.serve(name, bytes.upper),
        RelayProcess("tcp:0", name, "--framing", "lines", "--half-close-timeout", "0.3") as relay,
    ):
        place = relay.places[0]
        assert place.startswith("tcp:127.0.0.1:")
        with socket.create_connection(("127.0.0.1", int(place.rpartition(":")[2])), DEADLINE) as client:
            client.sendall(b"one\n\ntwo")
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as lines:
                assert [lines.readline() for _ in range(3)] == [b"ONE\n", b"\n", b"TWO\n"]
        assert relay.report()["forth"]["pieces"] == 3


def test_a_message_with_a_line_s_end_is_told_and_not_carried_as_two_lines(name: str, tmp_path: Path) -> None:
    with unix_server(free_path(tmp_path), echo):
        with RelayProcess(name, f"unix:{free_path(tmp_path)}", "--framing", "lines") as relay:
            with npipe.connect(name) as pipe:
                pipe.send(b"one\ntwo")
                with pytest.raises(npipe.PipeClosedError):
                    pipe.recv(timeout=DEADLINE)
            report = relay.report()
            assert report["forth"]["dropped"] == 7
            assert "line's end" in report["lost"]
            status, last = relay.end()
            assert status == 6
            assert "1 connection of 1" in last


def test_a_frame_that_is_too_long_is_told_and_those_before_it_are_carried(name: str, tmp_path: Path) -> None:
    front = free_path(tmp_path)
    more = ("--framing", "length", "--max-message-size", "100")
    with npipe.listen(name) as listener, RelayProcess(f"unix:{front}", name, *more) as relay:
        with unix_client(front) as client:
            client.sendall(b"\2\0\0\0hi" + b"\xff\xff\xff\x7f" + b"x" * 10)
            with listener.accept(DEADLINE) as pipe:
                assert pipe.recv(timeout=DEADLINE) == b"hi"
                with pytest.raises(npipe.PipeClosedError):
                    pipe.recv(timeout=DEADLINE)
        report = relay.report()
        assert "2147483647 bytes" in report["lost"]
        assert report["forth"]["dropped"] == 14


def test_between_two_pipes_messages_stay_messages(name: str) -> None:
    other = name + "-b"
    with npipe.serve(other, bytes.upper), RelayProcess(name, other) as relay:
        with npipe.connect(name) as pipe:
            for message in (b"a", b"", b"c" * 200_000):
                assert pipe.transact(message, timeout=DEADLINE) == message.upper()
        assert relay.report()["clean"]


def test_a_pipe_of_bytes_behind_a_pipe_of_messages_is_carried_as_it_is(name: str) -> None:
    other = name + "-b"
    with npipe.listen(other, mode="byte") as listener, RelayProcess(name, other):
        with npipe.connect(name) as pipe:
            pipe.send(b"hello")
            with listener.accept(DEADLINE) as served:
                assert read_exactly(served, 5) == b"hello"
                served.write(b"world")
                assert pipe.recv(timeout=DEADLINE) == b"world"


def test_standard_input_and_output_are_an_end(name: str) -> None:
    stream = Stream("stdio", 500_000)
    with npipe.listen(name) as listener:
        process = subprocess.Popen(
            [*NPIPE, "relay", "-q", "stdio", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with process, ThreadPoolExecutor(1) as pool:
            talk = pool.submit(process.communicate, stream.data, DEADLINE)
            with listener.accept(DEADLINE) as pipe:
                got = b""
                while piece := pipe.recv(timeout=DEADLINE):  # the end is an empty message
                    got += piece
                pipe.send(got[::-1], timeout=DEADLINE)
            assert talk.result()[0] == stream.data[::-1]
            assert process.returncode == 0
        assert digest(got) == stream.digest


def test_standard_input_and_output_that_do_not_wait_are_waited_for(name: str) -> None:
    pieces = [bytes([number]) * 60000 for number in range(64)]
    takes, gives = os.pipe()
    got, puts = os.pipe()
    os.set_blocking(takes, False)
    os.set_blocking(puts, False)
    with npipe.listen(name) as listener:
        process = subprocess.Popen([*NPIPE, "relay", "-q", "stdio", name], stdin=takes, stdout=puts)
        os.close(takes)
        os.close(puts)
        with listener.accept(timeout=DEADLINE) as pipe, os.fdopen(got, "rb") as out:

            def send() -> None:
                for piece in (b"said", *pieces):
                    pipe.send(piece, timeout=DEADLINE)
                pipe.flush(timeout=DEADLINE)
                pipe.send(b"", timeout=DEADLINE)  # the end

            sender = threading.Thread(target=send)
            sender.start()
            assert out.read(4) == b"said"  # so it reads its input too
            os.write(gives, b"heard")
            assert pipe.recv(timeout=DEADLINE) == b"heard"
            assert out.read() == b"".join(pieces)
            sender.join()
            os.close(gives)
            assert pipe.recv(timeout=DEADLINE) == b""
    assert process.wait(DEADLINE) == 0


def test_a_command_is_started_for_each_client(name: str) -> None:
    command = f'exec:{sys.executable} -c "import sys; sys.stdout.write(sys.stdin.read()[::-1])"'
    with RelayProcess(name, command) as relay:
        for text in (b"hello", b"x" * 200_000 + b"y"):
            with npipe.connect(name) as pipe:
                pipe.send(text)
                pipe.flush(timeout=DEADLINE)
                pipe.send(b"")
                got = b""
                while piece := pipe.recv(timeout=DEADLINE):
                    got += piece
                assert got == text[::-1]
            assert relay.report()["clean"]
        assert relay.end() == (0, "")


def test_a_command_that_reads_nothing_has_its_output_carried_and_the_rest_is_told(name: str) -> None:
    with RelayProcess(name, "exec:exec <&-; echo hello"), npipe.connect(name) as pipe:
        assert pipe.recv(timeout=DEADLINE) == b"hello\n"


def test_two_that_listen_are_paired(name: str, tmp_path: Path) -> None:
    path = free_path(tmp_path)
    with RelayProcess(name, f"listen:unix:{path}", listens=2) as relay:
        with npipe.connect(name) as pipe, unix_client(path) as client:
            pipe.send(b"ping")
            assert client.recv(4) == b"ping"
            client.sendall(b"pong")
            assert pipe.recv(timeout=DEADLINE) == b"pong"
        assert relay.report()["clean"]


def test_two_that_dial_are_connected_again_after_each_end(name: str, tmp_path: Path) -> None:
    path = free_path(tmp_path)
    with npipe.listen(name) as listener, unix_server(path, echo):
        with RelayProcess(f"dial:unix:{path}", name, "--reconnect", listens=0) as relay:
            for text in (b"one", b"two"):
                with listener.accept(DEADLINE) as pipe:
                    pipe.send(text)
                    assert pipe.recv(timeout=DEADLINE) == text
                assert relay.report()["clean"]
            with listener.accept(DEADLINE):  # a third, which is cut by the end
                assert relay.end(signal.SIGTERM)[0] == 0


def test_ei_ends_with_the_first_side_s_end_and_without_it_the_other_way_goes_on(name: str) -> None:
    for more, status in (((), 0), (("-ei",), 0)):
        with npipe.listen(name) as listener:
            process = subprocess.Popen(
                [*NPIPE, "relay", "-q", *more, "stdio", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            with process, listener.accept(DEADLINE) as pipe:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(b"x")
                process.stdin.close()
                assert pipe.recv(timeout=DEADLINE) == b"x"
                assert pipe.recv(timeout=DEADLINE) == b""
                if not more:
                    pipe.send(b"late", timeout=DEADLINE)
                    pipe.close()
                assert process.stdout.read() == (b"" if more else b"late")
                assert process.wait(DEADLINE) == status


def test_without_a_close_message_none_is_sent(name: str) -> None:
    with npipe.listen(name) as listener:
        process = subprocess.Popen([*NPIPE, "relay", "-q", "-S", "-ei", "stdio", name], stdin=subprocess.DEVNULL)
        with process, listener.accept(DEADLINE) as pipe, pytest.raises(npipe.PipeClosedError):
            pipe.recv(timeout=DEADLINE)
        assert process.returncode == 0


def test_who_comes_over_the_limit_waits(name: str, tmp_path: Path) -> None:
    with unix_server(free_path(tmp_path), echo):
        with RelayProcess(name, f"unix:{free_path(tmp_path)}", "--max-connections", "1") as relay:
            with npipe.connect(name) as first, npipe.connect(name) as second:
                second.send(b"2")
                first.send(b"1")
                assert first.recv(timeout=DEADLINE) == b"1"
                with pytest.raises(npipe.PipeTimeoutError):
                    second.recv(timeout=0.05)
                first.close()
                assert second.recv(timeout=DEADLINE) == b"2"
            assert relay.report()["clean"]


def test_a_connection_that_carries_nothing_is_ended(name: str, tmp_path: Path) -> None:
    with unix_server(free_path(tmp_path), echo):
        with RelayProcess(name, f"unix:{free_path(tmp_path)}", "--idle-timeout", "0.2") as relay:
            with npipe.connect(name) as pipe, pytest.raises(npipe.PipeClosedError):
                pipe.recv(timeout=DEADLINE)
            assert "nothing was carried for 0.2 seconds" in relay.report()["how"]


@pytest.mark.slow
def test_a_thousand_clients_at_the_same_time(name: str, tmp_path: Path) -> None:
    count = 1000
    with unix_server(free_path(tmp_path), echo), RelayProcess(name, f"unix:{free_path(tmp_path)}") as relay:
        pipes = [npipe.connect(name, timeout=DEADLINE) for _ in range(count)]
        for number, pipe in enumerate(pipes):
            pipe.send(b"%d" % number * 100)
        for number, pipe in enumerate(pipes):
            assert pipe.recv(timeout=DEADLINE) == b"%d" % number * 100
        for pipe in pipes:
            pipe.close()
        numbers = set()
        for _ in range(count):
            report = relay.report()
            assert report["clean"]
            numbers.add(report["number"])
        assert len(numbers) == count
        assert relay.end() == (0, "")


def test_frames_lie_in_a_pipe_of_bytes_too(name: str) -> None:
    other = name + "-b"
    with npipe.listen(other, mode="byte") as listener, RelayProcess(name, other, "--framing", "length") as relay:
        with npipe.connect(name) as pipe:
            pipe.send(b"hello")
            with listener.accept(DEADLINE) as served:
                assert read_exactly(served, 9) == b"\5\0\0\0hello"
                served.write(b"\2\0\0\0hi\0\0\0\0")
                assert [pipe.recv(timeout=DEADLINE) for _ in range(2)] == [b"hi", b""]
        assert relay.report()["clean"]


def test_ctrl_c_ends_the_one_connection_of_standard_input_at_once(name: str) -> None:
    with npipe.listen(name) as listener:
        with RelayProcess("stdio", name, "--grace", "inf", listens=0, stdin=subprocess.PIPE) as relay:
            with listener.accept(DEADLINE) as pipe:
                assert relay.process.stdin is not None
                relay.process.stdin.write(b"x")
                relay.process.stdin.flush()
                assert pipe.recv(timeout=DEADLINE) == b"x"
                assert relay.end(signal.SIGINT)[0] == INTERRUPTED
