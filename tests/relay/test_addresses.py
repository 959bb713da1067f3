"""What ends of relays are called, and messages in streams."""

from __future__ import annotations

import random

import pytest

import npipe
from npipe.relay import Relay, RelayOptions, parse_address
from npipe.relay.framing import LengthFrames, LineFrames


@pytest.mark.parametrize(
    ("text", "kind", "host", "port", "path"),
    [
        ("tcp:80", "tcp", "127.0.0.1", 80, ""),
        ("tcp::80", "tcp", "127.0.0.1", 80, ""),
        ("TCP:example.org:80", "tcp", "example.org", 80, ""),
        ("tls:[::1]:443", "tls", "::1", 443, ""),
        ("ws:80", "ws", "127.0.0.1", 80, "/"),
        ("ws://h:80/a/b?c", "ws", "h", 80, "/a/b?c"),
        ("wss:h:1/x", "wss", "h", 1, "/x"),
        ("unix:/a b", "unix", "", 0, "/a b"),
        ("exec:echo tcp:1", "exec", "", 0, "echo tcp:1"),
        ("dotnet:/abs/x", "unix", "", 0, "/abs/x"),
        ("stdio", "stdio", "", 0, ""),
    ],
)
def test_an_end_is_what_its_text_says(text: str, kind: str, host: str, port: int, path: str) -> None:
    found = parse_address(text)
    assert (found.kind, found.host, found.port, found.path, found.role) == (kind, host, port, path, None)


@pytest.mark.parametrize("text", ["x", r"\\.\pipe\x", "npipe:////./pipe/x", "pipe:x"])
def test_every_form_of_a_pipe_s_name_is_an_end(text: str) -> None:
    found = parse_address(text).name
    assert found is not None
    assert found.path == r"\\.\pipe\x"


def test_a_role_may_stand_before_it() -> None:
    assert parse_address("listen:unix:/x").role == "listen"
    assert parse_address("dial:x").role == "dial"


@pytest.mark.parametrize(
    "text",
    ["", "tcp:", "tcp:host", "tcp:h:65536", "tcp:::1:5", "unix:", "unix:" + "x" * 108, "listen:exec:x", "listen:stdio",
     "listen:listen:x", "ws:h/x", "dotnet:a/b",
     f"tcp:{'a' * 64}.x:1", "tcp:.x:1", "tls:a..b:1", "ws:a\0b:1/x", "unix:a\0b", "exec:", "listen:"],
)  # fmt: skip
def test_what_is_no_end_is_code_87(text: str) -> None:
    with pytest.raises(npipe.PipeArgumentError) as caught:
        parse_address(text)
    assert caught.value.winerror == 87


@pytest.mark.parametrize("wrong", [".x", "", "a" * 64, "a\0b"])
def test_a_name_that_no_certificate_has_is_code_87(wrong: str) -> None:
    with pytest.raises(npipe.PipeArgumentError, match="certificate") as caught:
        Relay("x", "tcp:1", RelayOptions(tls_name=wrong))
    assert caught.value.winerror == 87


@pytest.mark.parametrize("ends", [("stdio", "x"), ("exec:cat", "stdio")])
def test_standard_input_and_output_are_not_connected_again(ends: tuple[str, str]) -> None:
    with pytest.raises(npipe.PipeArgumentError, match="once") as caught:
        Relay(*ends, RelayOptions(reconnect=True))
    assert caught.value.winerror == 87


def test_two_ends_that_do_not_go_together_are_code_87() -> None:
    for first, second in (("stdio", "stdio"), ("tls:1", "x"), ("x", "tls:1"), (r"\\host\pipe\x", "y")):
        with pytest.raises(npipe.PipeArgumentError):
            Relay(first, second, RelayOptions())


@pytest.mark.parametrize("order", ["<", ">"])
def test_length_frames_are_found_however_the_stream_is_cut(order: str) -> None:
    chance = random.Random(1)
    messages = [chance.randbytes(chance.choice([0, 1, 3, 4, 5, 1000])) for _ in range(200)]
    stream = b"".join(LengthFrames(1000, order).frame(message) for message in messages)
    frames, got, at = LengthFrames(1000, order), [], 0
    while at < len(stream):
        size = chance.choice([1, 2, 5, 700])
        got += frames.feed(stream[at : at + size])
        at += size
    assert got + frames.end() == messages


def test_lines_are_found_however_the_stream_is_cut() -> None:
    chance = random.Random(2)
    messages = [chance.randbytes(chance.choice([0, 1, 50])).replace(b"\n", b"") for _ in range(300)] + [b"last"]
    stream = b"\n".join(messages)
    frames, got, at = LineFrames(50), [], 0
    while at < len(stream):
        size = chance.choice([1, 2, 5, 70])
        got += frames.feed(stream[at : at + size])
        at += size
    assert got + frames.end() == messages


def test_a_line_over_the_limit_is_an_error_behind_those_before_it_and_all_bytes_are_counted() -> None:
    frames = LineFrames(3)
    assert frames.feed(b"ab") == []
    assert frames.feed(b"c\nd\nefgh\nij") == [b"abc", b"d"]
    assert frames.error is not None
    assert frames.unfinished == len(b"efgh\nij")
