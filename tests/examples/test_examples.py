"""The programs of examples/, each as a user runs it, in processes of their own; what they say and move is compared."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pwd
import random
import re
from pathlib import Path

import pytest

import npipe
from tests.helpers import CHECKOUT
from tests.programs import Program, run

pytestmark = pytest.mark.slow  # each starts some programs

EXAMPLES = CHECKOUT / "examples"
ME = pwd.getpwuid(os.geteuid()).pw_name


def programs() -> list[Path]:
    """All programs but those of examples/protocol, which have tests of their own."""
    return [path for path in sorted(EXAMPLES.rglob("*.py")) if "protocol" not in path.parts]


@pytest.mark.parametrize("path", programs(), ids=lambda path: path.relative_to(EXAMPLES).as_posix())
def test_an_example_says_how_it_is_run_and_is_in_the_index(path: Path) -> None:
    told = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert told is not None
    place = path.relative_to(CHECKOUT).as_posix()
    assert f"python {place}" in told
    page = EXAMPLES / "README.md" if path.parent == EXAMPLES else path.parent / "README.md"
    assert f"({path.name})" in page.read_text("utf-8")


def test_every_example_is_tried_here() -> None:
    source = Path(__file__).read_text("utf-8")
    assert [path.name for path in programs() if f'"{path.name}"' not in source] == []


# ---- json_rpc.py


def test_json_rpc_calls_go_over_a_pool_from_many_threads(name: str) -> None:
    path = EXAMPLES / "json_rpc.py"
    with Program(path, "client", "--name", name) as client, Program(path, "server", "--name", name) as server:
        assert server.line() == f"serving {name}; Ctrl-C ends it"
        assert client.rest() == (
            0,
            [
                "one message each",
                str([number / 2 for number in range(16)]),
                "True",
                "-32000 ZeroDivisionError: division by zero",
                "-32602 missing a required argument: 'b'",
                "-32601 there is no method multiply",
            ],
            [],
        )
        server.ctrl_c()
        assert server.rest() == (0, ["120 requests answered"], [])


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"{", {"id": None, "code": -32700}),
        (b"\xff", {"id": None, "code": -32700}),
        (b"[]", {"id": None, "code": -32600}),
        (b"1", {"id": None, "code": -32600}),
        (b'{"id": 7, "method": 1}', {"id": 7, "code": -32600}),
        (b'{"id": 7, "method": "join", "params": 1}', {"id": 7, "code": -32600}),
        (b'{"id": 7, "method": "none"}', {"id": 7, "code": -32601}),
        (b'{"id": 7, "method": "join", "params": {"word": []}}', {"id": 7, "code": -32602}),
        (b'{"id": 7, "method": "join", "params": [[1]]}', {"id": 7, "code": -32000}),
        (b'{"id": 7, "method": "join", "params": {"words": ["a", "b"], "by": "-"}}', {"id": 7, "result": "a-b"}),
        (b'{"id": null, "method": "join", "params": [[]]}', {"id": None, "result": ""}),
        (
            b'[{"id": 1, "method": "count", "params": ["x"]}, 5, {"method": "count", "params": ["x"]}]',
            [{"id": 1, "result": 1}, {"id": None, "code": -32600}],
        ),
    ],
)
def test_json_rpc_answers_as_the_specification_says(name: str, request_: bytes, reply: object) -> None:
    def short(one: dict[str, object]) -> dict[str, object]:
        assert one.pop("jsonrpc") == "2.0"
        error = one.pop("error", None)
        return one if error is None else {**one, "code": error["code"]}  # type: ignore[index]

    with Program(EXAMPLES / "json_rpc.py", "server", "--name", name) as server:
        server.line()
        with npipe.connect(name) as pipe:
            for silent in b'{"method": "count", "params": ["y"]}', b'{"method": "none"}', b'[{"method": "none"}]':
                pipe.send(silent)  # a notification: no reply
            found = json.loads(pipe.transact(request_))
            assert ([short(one) for one in found] if isinstance(found, list) else short(found)) == reply


# ---- log_collector.py


def test_logs_of_many_processes_are_collected_whole_and_in_order(name: str, tmp_path: Path) -> None:
    path, file = EXAMPLES / "log_collector.py", tmp_path / "all.log"
    with Program(path, "--name", name, "collect", file) as collector:
        assert collector.line() == f"collecting from {name} into {file}; Ctrl-C ends it"
        workers = [Program(path, "--name", name, "work", "--records", "300") for _ in range(3)]
        try:
            numbers = [worker.process.pid for worker in workers]
            for worker, pid in zip(workers, numbers, strict=True):
                assert worker.rest() == (0, [f"process {pid}: 300 records logged, 0 lost"], [])
        finally:
            for worker in workers:
                worker.__exit__()
        assert sorted(collector.lines(6)) == sorted(
            [f"process {pid} of {ME} has come" for pid in numbers]
            + [f"process {pid} has gone after 300 records" for pid in numbers]
        )
        written = [line.split(" ", 1) for line in file.read_text("utf-8").splitlines()]
        for pid in numbers:
            assert [rest for _, rest in written if rest.startswith(f"{pid} ")] == [
                f"{pid} INFO worker: step {number} of 300" for number in range(1, 301)
            ]
        assert len(written) == 900
        with npipe.connect(name, access="write") as pipe:
            pipe.send(b"one\nline")
            pipe.flush()
        collector.lines(2)
        assert file.read_text("utf-8").splitlines()[-1] == f"- {os.getpid()} - no record: b'one\\nline'"
        collector.ctrl_c()
        assert collector.rest() == (0, ["ending"], [])


def test_a_program_that_logs_goes_on_without_a_collector(name: str) -> None:
    with Program(EXAMPLES / "log_collector.py", "--name", name, "work", "--records", "50") as worker:
        assert worker.rest() == (0, [f"process {worker.process.pid}: 50 records logged, 50 lost"], [])


# ---- file_sender.py


def test_files_are_sent_with_progress_and_a_checksum(name: str, tmp_path: Path) -> None:
    path, folder = EXAMPLES / "file_sender.py", tmp_path / "received"
    content = {"large file.bin": random.Random(18).randbytes((5 << 20) + 123), "empty": b"", "small": b"\0small\n"}
    for title, data in content.items():
        (tmp_path / title).write_bytes(data)
    with Program(path, "--name", name, "receive", folder) as receiver:
        assert receiver.line() == f"receiving at {name} into {folder}; Ctrl-C ends it"
        with Program(path, "--name", name, "send", *(tmp_path / title for title in content)) as sender:
            status, told, progress = sender.rest()
        sums = {title: hashlib.sha256(data).hexdigest() for title, data in content.items()}
        assert (status, told) == (0, [f"{title}: sha256 {sums[title]}" for title in content])
        assert [re.sub(r"\d+ MB", "n MB", line.rstrip()) for line in progress] == [
            *(f"large file.bin: {percent:3} %, n MB/s" for percent in (0, 25, 50, 75, 100)),
            "empty: 100 %, n MB/s",
            *(f"small: {percent:3} %, n MB/s" for percent in (0, 100)),
        ]
        assert receiver.lines(3) == [
            f"{title}: {len(data)} bytes, sha256 {sums[title]}" for title, data in content.items()
        ]
        assert {one.name: one.read_bytes() for one in folder.iterdir()} == content
        receiver.ctrl_c()
        assert receiver.rest() == (0, [], [])


def test_what_does_not_become_a_file_leaves_nothing(name: str, tmp_path: Path) -> None:
    path, folder = EXAMPLES / "file_sender.py", tmp_path / "received"

    def said(*messages: bytes) -> object:
        with npipe.connect(name) as pipe:
            for message in messages:
                pipe.send(message)
            return json.loads(pipe.recv(timeout=20))

    with Program(path, "--name", name, "receive", folder) as receiver:
        receiver.line()
        wrong = {"error": "the checksum of a is another one"}
        assert said(b'{"name": "a", "size": 3}', b"abc", b"not its sum") == wrong
        assert said(b'{"name": "a", "size": 3}', b"ab", b"") == {"error": "the file is shorter than was said"}
        assert said(b"a") == {"error": "the first message of a file is its name and size"}
        assert said(b'{"name": "a", "size": -1}') == {"error": "a name is a text, and a size a number"}
        for bad in "../a", "/a", "..", ".", "", "b/a":
            refused = {"error": f"{bad!r} is no name of a file in a folder"}
            assert said(json.dumps({"name": bad, "size": 0}).encode()) == refused
        receiver.lines(10)
        with npipe.connect(name) as pipe:
            pipe.send(b'{"name": "a", "size": 3}')
            pipe.send(b"ab")
        assert receiver.line().startswith("a sender has gone: ")
        with npipe.connect(name) as pipe:
            pipe.send(b'{"name": "a", "size": 3}')
            pipe.send(b"abcd")
            assert receiver.line().startswith("a sender has gone: ")
        assert list(folder.iterdir()) == []
        with Program(path, "--name", name, "send", tmp_path / "nothing") as sender:
            status, told, errors = sender.rest()
            assert (status, told) == (1, [])
            assert errors == [f"nothing: [Errno 2] No such file or directory: '{tmp_path / 'nothing'}'"]


def test_a_sender_without_a_receiver_says_so(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with Program(EXAMPLES / "file_sender.py", "--name", name, "send", tmp_path / "file") as sender:
        status, told, errors = sender.rest()
        assert (status, told, len(errors)) == (1, [], 1)
        assert name in errors[0]


# ---- chat.py


def test_members_of_a_chat_hear_each_other(name: str) -> None:
    path = EXAMPLES / "chat.py"

    def member(who: str) -> Program:
        return Program(path, "--name", name, "join", who, typing=True)

    with Program(path, "--name", name, "server") as server:
        assert server.line() == f"the room is {name}; Ctrl-C ends it"
        with member("ann") as ann, member("bob") as bob:
            hellos = [ann.line(), bob.line()]
            assert (hellos[0], hellos[1]) in [
                ("* hello ann; here: nobody else", "* hello bob; here: ann"),
                ("* hello ann; here: bob", "* hello bob; here: nobody else"),
            ]
            with member("bob") as second:
                closed = ["* 'bob' is taken, or no name", "* the room is closed"]
                assert second.rest() == (0, closed, [])
            if hellos[0].endswith("bob"):
                assert bob.line() == "* ann has come"
            ann.end_of_input()
            assert ann.rest()[0] == 0
            assert bob.line() == "* ann has left"
            with member("cy") as cy:
                assert cy.line() == "* hello cy; here: bob"
                assert bob.line() == "* cy has come"
                cy.type("hello, bob", "ünïcode: ✓")
                assert bob.lines(2) == ["cy: hello, bob", "cy: ünïcode: ✓"]
                bob.type("hello, cy")
                assert cy.line() == "bob: hello, cy"
                cy.type("the last word")
                cy.end_of_input()
                assert cy.rest() == (0, [], [])
            assert bob.lines(2) == ["cy: the last word", "* cy has left"]
            server.ctrl_c()
            assert bob.line() == "* the room is closed"
            assert bob.rest() == (0, [], [])
        assert server.rest()[0] == 0


def test_a_member_that_does_not_read_is_let_go_and_holds_nobody_up(name: str) -> None:
    with Program(EXAMPLES / "chat.py", "--name", name, "server") as server:
        server.line()
        with npipe.connect(name) as deaf, npipe.connect(name) as ann, npipe.connect(name) as bob:
            for pipe, who in (deaf, b"deaf"), (ann, b"ann"), (bob, b"bob"):
                pipe.send(who)
                assert pipe.recv(timeout=20).startswith(b"* hello")
            assert ann.recv(timeout=20) == b"* bob has come"
            texts = [b"%d " % number + b"x" * 3000 for number in range(400)]
            heard = []
            for text in texts:
                ann.send(text)
                while (message := bob.recv(timeout=20)) == b"* deaf has left":
                    heard.append(message)
                assert message == b"ann: " + text
            assert heard == [b"* deaf has left"]


# ---- camera.py


def test_frames_go_through_the_camera_pipeline(tmp_path: Path) -> None:
    pytest.importorskip("numpy", reason="numpy is not installed: the group lint of pyproject.toml has it")
    path = EXAMPLES / "camera.py"
    with (
        Program(path, "detector") as detector,
        Program(path, "viewer") as viewer,
        Program(path, "camera", "--frames", "200", "--fps", "0", "--every-frame") as camera,
    ):
        assert camera.line() == r"the camera is \\.\pipe\example-frames"
        assert camera.rest() == (0, ["200 frames sent, 0 dropped"], [])
        assert detector.rest() == (0, ["200 frames seen"], [])
        assert viewer.rest() == (0, [found(number) for number in range(200)], [])


def test_a_camera_waits_for_nobody_and_counts_what_it_drops(tmp_path: Path) -> None:
    pytest.importorskip("numpy", reason="numpy is not installed: the group lint of pyproject.toml has it")
    with Program(EXAMPLES / "camera.py", "camera", "--frames", "20", "--fps", "0") as camera:
        camera.line()
        with npipe.connect(r"\\.\pipe\example-frames", access="read") as pipe:
            line = camera.line()  # it has made all of them, and nobody has looked at any
            seen = list(pipe)
        assert line == f"{len(seen)} frames sent, {20 - len(seen)} dropped"
        assert 1 <= len(seen) < 20
        numbers = [int.from_bytes(frame[:8], "little") for frame in seen]
        assert numbers == list(range(len(seen)))  # those that there was room for are the first ones
        for number, frame in zip(numbers, seen, strict=True):
            row, column = number * 7, number * 11
            assert len(frame) == 24 + 1080 * 1920
            pixels = frame[24:]
            assert pixels[row * 1920 + column] == 255
            assert pixels.count(255) == 16 * 16
            assert pixels.count(100) == 1080 * 1920 - 16 * 16


def found(number: int) -> str:
    """What the viewer says of a frame: the middle of the square."""
    return f"frame {number}: the square is at row {number * 7 % 1064 + 7.5}, column {number * 11 % 1904 + 7.5}"


def test_the_camera_says_that_it_needs_numpy(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('not here')\n")
    with Program(EXAMPLES / "camera.py", "camera", env={"PYTHONPATH": str(tmp_path)}) as camera:
        told = ["camera.py needs numpy, which is not installed: pip install numpy"]
        assert camera.rest() == (1, [], told)


# ---- What is in the way is told in one line


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("json_rpc.py", ["server"]),
        ("log_collector.py", ["collect", "all.log"]),
        ("file_sender.py", ["receive", "received"]),
        ("chat.py", ["server"]),
    ],
)
def test_an_example_whose_name_is_taken_says_so(file: str, arguments: list[str], name: str, tmp_path: Path) -> None:
    with npipe.listen(name), Program(EXAMPLES / file, "--name", name, *arguments, cwd=tmp_path) as second:
        status, told, errors = second.rest()
        assert (status, told, len(errors)) == (1, [], 1)
        assert errors[0].startswith(f"[WinError 5] Access to the pipe is denied: '{name}'")


def test_a_second_camera_says_that_there_is_one() -> None:
    pytest.importorskip("numpy", reason="numpy is not installed: the group lint of pyproject.toml has it")
    with npipe.listen(r"\\.\pipe\example-frames"), Program(EXAMPLES / "camera.py", "camera") as second:
        status, told, errors = second.rest()
        assert (status, told, len(errors)) == (1, [], 1)
        assert errors[0].startswith("[WinError 5] ")


def test_a_json_rpc_client_without_a_service_says_so(name: str) -> None:
    with Program(EXAMPLES / "json_rpc.py", "--name", name, "--timeout", "0.2", "client") as client:
        status, told, errors = client.rest()
        assert (status, told, len(errors)) == (1, [], 1)
        assert name in errors[0]


def test_a_member_whose_room_is_no_name_says_so() -> None:
    with Program(EXAMPLES / "chat.py", "--name", "a/b", "join", "ann") as member:
        status, told, errors = member.rest()
        assert (status, told, len(errors)) == (1, [], 1)
        assert "a/b" in errors[0]


def test_a_collector_whose_folder_is_not_there_says_so(name: str, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "all.log"
    with Program(EXAMPLES / "log_collector.py", "--name", name, "collect", path) as collector:
        assert collector.rest() == (1, [], [f"[Errno 2] No such file or directory: '{path}'"])


# ---- article/

ARTICLE = EXAMPLES / "article"
NAME = r"\\.\pipe\mynamedpipe"
TRANSCRIPT = [
    'Sending 58 byte message: "Default message from client."',
    "",
    "Message sent to server, receiving reply as follows:",
    '"Default answer from server"',
    "",
    "<End of message, press ENTER to terminate connection and exit>",
]


@pytest.mark.parametrize("file", ["client.py", None])
def test_the_article_s_client_and_multithreaded_server(file: str | None) -> None:
    waiting = ["", f"Pipe Server: Main thread awaiting client connection on {NAME}"]
    with Program(ARTICLE / "multithreaded_server.py") as server:
        assert server.lines(2) == waiting
        for _ in range(2):
            assert run(*client(file)) == TRANSCRIPT
            told = server.lines(7)
            assert [line for line in told if "InstanceThread" not in line and "Client Request" not in line] == [
                "Client connected, creating a processing thread.",
                *waiting,
            ]
            assert [line for line in told if "InstanceThread" in line or "Client Request" in line] == [
                "InstanceThread created, receiving and processing messages.",
                'Client Request String:"Default message from client."',
                "InstanceThread: client disconnected.",
                "InstanceThread exiting.",
            ]
        long = "x" * 1000
        assert run(ARTICLE / "client.py", long)[0] == f'Sending 2002 byte message: "{long}"'
        assert f'Client Request String:"{long}"' in server.lines(7)
        server.ctrl_c()
        assert server.rest() == (0, ["ending"], [])


@pytest.mark.parametrize("file", ["client.py", None])
@pytest.mark.parametrize(
    ("path", "ready"),
    [("overlapped_server.py", f"4 instances wait on {NAME}"), ("completion_server.py", f"waiting on {NAME}")],
)
def test_the_article_s_client_and_a_server_of_one_thread(path: str, ready: str, file: str | None) -> None:
    with Program(ARTICLE / path) as server:
        assert server.line() == ready
        for _ in range(6):  # more than there are instances
            assert run(*client(file)) == TRANSCRIPT
            assert re.fullmatch(r"\[\d+\] Default message from client\.", server.line())
        server.ctrl_c()
        assert server.rest() == (0, ["ending"], [])


@pytest.mark.parametrize(("path", "most"), [("overlapped_server.py", 4), ("completion_server.py", 6)])
def test_clients_stay_and_ask_in_any_order(path: str, most: int) -> None:
    question = "Question\0".encode("utf-16-le")
    with Program(ARTICLE / path) as server:
        server.line()
        clients = [npipe.connect(NAME, timeout=20) for _ in range(most)]
        try:
            for one in (*clients, *reversed(clients)):
                assert one.transact(question, timeout=20).decode("utf-16-le") == "Default answer from server\0"
            if most == 4:
                with pytest.raises(npipe.PipeBusyError):
                    npipe.connect(NAME, timeout=0)
        finally:
            for one in clients:
                one.close()
        with npipe.connect(NAME, timeout=20) as one:  # an instance that a client has left
            assert one.transact(question, timeout=20).decode("utf-16-le") == "Default answer from server\0"


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_the_article_s_client_and_npipe_s_own_servers(model: str) -> None:
    answer = "Ä" * 400 + "\0"
    with npipe.serve(NAME, lambda _: answer.encode("utf-16-le"), model=model):  # type: ignore[arg-type]
        assert run(ARTICLE / "client.py") == [*TRANSCRIPT[:3], f'"{"Ä" * 256}"', f'"{"Ä" * 144}"', *TRANSCRIPT[4:]]


def test_the_article_s_client_says_what_fails() -> None:
    with Program(ARTICLE / "client.py") as client:
        assert client.rest() == (1, ["Could not open pipe. GLE=2"], [])


def client(file: str | None) -> list[str | Path]:
    """The article's client: that of the examples, or the command's."""
    return ["-m", "npipe", "client"] if file is None else [ARTICLE / file]
