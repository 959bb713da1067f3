"""`npipe metrics`: what an OpenMetrics parser makes of it, against what was sent."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import npipe
from tests.cli.helpers import DEADLINE, INTERRUPTED, NPIPE, run

if TYPE_CHECKING:
    from collections.abc import Iterator


def samples(text: str) -> dict[tuple[str, str, str], float]:
    """What the parser finds: (name, pipe, direction) -> value."""
    found = {}
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            key = (sample.name, sample.labels["pipe"], sample.labels.get("direction", ""))
            assert key not in found
            found[key] = sample.value
    return found


def test_the_counters_are_what_was_sent(name: str) -> None:
    with (
        npipe.listen(name, in_buffer_size=4000, out_buffer_size=3000) as listener,
        npipe.connect(name) as client,
        listener.accept(DEADLINE) as server,
    ):
        for size in (10, 20, 30):
            client.send(bytes(size))
        server.recv()
        server.send(b"four")
        done = run("metrics", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert samples(done.stdout) == {
        ("npipe_up", name, ""): 1,
        ("npipe_instances", name, ""): 2,
        ("npipe_listening", name, ""): 1,
        ("npipe_connected", name, ""): 1,
        ("npipe_ended_connections", name, ""): 0,
        ("npipe_waiting_clients", name, ""): 0,
        ("npipe_connections_total", name, ""): 1,
        ("npipe_bytes_total", name, "in"): 10,
        ("npipe_bytes_total", name, "out"): 4,
        ("npipe_messages_total", name, "in"): 1,
        ("npipe_messages_total", name, "out"): 1,
        ("npipe_waits_total", name, ""): 0,
        ("npipe_unread_bytes", name, "in"): 50,
        ("npipe_unread_bytes", name, "out"): 4,
        ("npipe_pending", name, "in"): 0,
        ("npipe_pending", name, "out"): 0,
        ("npipe_quota_bytes", name, "in"): 4000,
        ("npipe_quota_bytes", name, "out"): 3000,
    }


def test_without_a_name_all_pipes_are_told(name: str) -> None:
    with npipe.listen(name + "-a"), npipe.listen(name + "-b"):
        told = samples(run("metrics").stdout)
    assert {pipe for _, pipe, _ in told} == {name + "-a", name + "-b"}


def test_without_pipes_it_is_a_valid_page() -> None:
    done = run("metrics")
    assert (done.returncode, done.stderr) == (0, "")
    assert samples(done.stdout) == {}


@pytest.mark.parametrize("hard", ['quo"te', "new\nline", "\x1b[31mred", "{le=1} 2", "\N{SNOWMAN}", "back\\\\slash\\n"])
def test_a_hard_name_breaks_no_line(hard: str) -> None:
    name = "\\\\?\\pipe\\" + hard.replace("\\", "")
    with npipe.listen(name) as listener:
        done = run("metrics")
        plain = listener.name.replace("\\\\?\\", "\\\\.\\", 1)
        wanted = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert {pipe for _, pipe, _ in samples(done.stdout)} == {wanted}
    assert "\x1b" not in done.stdout


def test_json_has_each_value_of_the_page() -> None:
    hard = "\\\\?\\pipe\\a\x1b[31m\nb"
    with npipe.listen(hard) as listener, npipe.connect(hard) as client, listener.accept() as server:
        client.send(b"12345")
        server.recv()
        page, told = run("metrics").stdout, json.loads(run("metrics", "--json").stdout)
    found = {(one["name"], one["labels"]["pipe"], one["labels"].get("direction", "")): one["value"] for one in told}
    plain = hard.replace("?", ".", 1)
    assert found == {(what, plain, way): value for (what, _, way), value in samples(page).items()}
    (bytes_in,) = [one for one in told if one["name"] == "npipe_bytes_total" and one["labels"]["direction"] == "in"]
    assert (bytes_in["value"], bytes_in["type"]) == (5, "counter")


def test_json_is_not_served() -> None:
    done = run("metrics", "--json", "--listen", "0")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_pipe_that_is_not_there_has_the_exit_status_3(name: str) -> None:
    done = run("metrics", name)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("npipe: [WinError 2] ")


@pytest.fixture
def scraped(ctrl_c: None) -> Iterator[str]:
    """Where an `npipe metrics --listen` serves."""
    process = subprocess.Popen(
        [*NPIPE, "metrics", "--listen", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    found = re.fullmatch(r"npipe: metrics at (http://127\.0\.0\.1:[0-9]+/metrics)\n", process.stderr.readline())
    assert found
    yield found[1]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (INTERRUPTED, "", "")


def test_a_scraper_gets_the_counts_of_that_moment(scraped: str, name: str) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept(DEADLINE) as server:
        for number in range(1, 4):
            client.send(b"abc")
            server.recv()
            with urllib.request.urlopen(scraped, timeout=DEADLINE) as answer:
                assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
                told = samples(answer.read().decode())
            assert told["npipe_bytes_total", name, "in"] == 3 * number
    with urllib.request.urlopen(scraped, timeout=DEADLINE) as answer:
        assert samples(answer.read().decode()) == {}


def test_a_scraper_that_says_nothing_holds_nobody_up(scraped: str) -> None:
    host, port = scraped.split("/")[2].split(":")
    with (
        socket.create_connection((host, int(port)), timeout=DEADLINE),
        socket.create_connection((host, int(port))) as b,
    ):
        b.sendall(b"nonsense\r\n\r\n")
        with urllib.request.urlopen(scraped, timeout=DEADLINE) as answer:
            assert answer.read().decode().endswith("# EOF\n")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(scraped + "/else", timeout=DEADLINE)
        caught.value.close()
        assert caught.value.code == 404


@pytest.mark.parametrize("address", ["", "x", "localhost", "127.0.0.1:99999", "[::1]", "1:2:x"])
def test_an_address_that_is_none_is_a_wrong_use(address: str) -> None:
    done = run("metrics", "--listen", address)
    assert done.returncode == 2
    assert "PORT" in done.stderr
