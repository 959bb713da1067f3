"""`npipe trace -r`: answer times, pairs, what was not answered, filters, and the sum of it at the end."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from npipe._text import printable
from npipe.cli import main
from npipe.tracing.answers import Answers, Exchange
from npipe.tracing.events import Event, Flags, Kind
from npipe.tracing.files import TraceWriter, read_trace
from npipe.tracing.summary import Summary, Times

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BEGIN = 1_800_000_000_000_000_000
SHOP = r"\\.\pipe\shop"
WHOLE = Flags.FIRST | Flags.LAST


def at(seconds: float) -> int:
    return BEGIN + round(seconds * 1e9)


def clock(seconds: float) -> str:
    moment = at(seconds)
    return time.strftime("%H:%M:%S", time.localtime(moment // 10**9)) + f".{moment % 10**9 // 1000:06}"


def said(
    seconds: float, way: str, data: bytes, connection: int = 1, *, pipe: str = SHOP, flags: Flags = Flags.MESSAGE
) -> Event:
    """What a server has read ("in") or written ("out")."""
    flags |= Flags.SERVER | WHOLE | (Flags.OUT if way == "out" else Flags(0))
    return Event(at(seconds), Kind.DATA, flags, pipe, 10, connection, 20 + connection, 0, len(data), data)


def happened(seconds: float, kind: Kind, connection: int = 1, *, code: int = 0, pipe: str = SHOP) -> Event:
    flags = Flags.SERVER | Flags.MESSAGE
    return Event(at(seconds), kind, flags, pipe, 10, connection, 20 + connection, code, 0, b"")


class Recording:
    """A file, and what the command prints of it."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys

    def write(self, *events: Event) -> None:
        with TraceWriter(self.path) as writer:
            for event in events:
                writer.write(event)

    def shown(self, *arguments: str, status: int = 0) -> list[str]:
        return self.both(*arguments, status=status)[0]

    def both(self, *arguments: str, status: int = 0) -> tuple[list[str], list[str]]:
        code = main(["trace", "-r", str(self.path), *arguments])
        out, err = self._capsys.readouterr()
        assert code == status, err
        return out.splitlines(), err.splitlines()

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.shown("--json", *arguments)]


@pytest.fixture
def recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Recording:
    return Recording(tmp_path / "trace.pcapng", capsys)


def contents(objects: Iterable[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(one["request"]["text"], one["answer"] and one["answer"]["text"]) for one in objects]


# ---- Answer times


def test_an_answer_says_how_long_it_took(recording: Recording) -> None:
    recording.write(
        said(0, "in", b"one"),
        said(0.1, "in", b"two", 2),
        said(0.25, "out", b"ONE"),
        said(0.25, "out", b"and more"),
        said(1.1, "out", b"TWO", 2),
    )
    assert recording.shown() == [
        rf"{clock(0)} \\.\pipe\shop #1 21 -> 3 one",
        rf"{clock(0.1)} \\.\pipe\shop #2 22 -> 3 two",
        rf"{clock(0.25)} \\.\pipe\shop #1 21 <- 3 after 0.250000 s ONE",
        rf"{clock(0.25)} \\.\pipe\shop #1 21 <- 8 and more",
        rf"{clock(1.1)} \\.\pipe\shop #2 22 <- 3 after 1.000000 s TWO",
    ]
    told = recording.objects()
    assert [one.get("answer_seconds") for one in told] == [None, None, 0.25, None, 1.0]
    assert [one["text"] for one in told] == ["one", "two", "ONE", "and more", "TWO"]


def test_a_pair_is_one_block(recording: Recording) -> None:
    recording.write(
        happened(0, Kind.OPENED),
        said(0, "in", b"one"),
        said(0.1, "in", b"two", 2),
        said(0.2, "out", b"TWO\x1b[31m", 2),
        said(0.25, "out", b"ONE"),
        said(0.3, "out", b"news"),
        said(0.4, "in", b"three"),
    )
    assert recording.shown("--pairs") == [
        rf"{clock(0)} \\.\pipe\shop #1 opened by 21",
        rf"{clock(0.1)} \\.\pipe\shop #2 22 -> 3 two",
        rf"  {clock(0.2)} <- 8 after 0.100000 s TWO\x1b[31m",
        rf"{clock(0)} \\.\pipe\shop #1 21 -> 3 one",
        rf"  {clock(0.25)} <- 3 after 0.250000 s ONE",
        rf"{clock(0.3)} \\.\pipe\shop #1 21 <- 4 news",
        rf"{clock(0.4)} \\.\pipe\shop #1 21 -> 5 three",
        "  no answer in 0.000000 s, when the trace ended",
    ]
    shown = recording.shown("--pairs", "-x", "--match", "ONE")
    assert shown[1:] == [
        f"  00000000  {'6f 6e 65':<47}  one",
        f"  {clock(0.25)} <- 3 after 0.250000 s",
        f"  00000000  {'4f 4e 45':<47}  ONE",
    ]


def test_a_pair_in_json_is_one_object(recording: Recording) -> None:
    recording.write(said(0, "in", b"one"), said(0.25, "out", b"\xff"), said(1, "in", b"two"), said(3, "in", b"three"))
    first, second, third = recording.objects("--pairs")
    request, answer = recording.objects("-c", "2")
    del answer["answer_seconds"]
    assert first == {
        "time": request["time"],
        "ns": BEGIN,
        "event": "exchange",
        "pipe": SHOP,
        "owner": 10,
        "connection": 1,
        "peer": 21,
        "side": "server",
        "end": "answered",
        "answer_seconds": 0.25,
        "unanswered_seconds": None,
        "request": request,
        "answer": answer,
    }
    assert (second["end"], second["answer_seconds"], second["unanswered_seconds"]) == ("next", None, 2.0)
    assert (third["end"], third["answer"], third["request"]["text"]) == ("end", None, "three")


def test_slower_shows_what_took_longer_and_what_has_waited_longer(recording: Recording) -> None:
    recording.write(
        said(0, "in", b"quick"),
        said(0.5, "out", b"QUICK"),
        said(1, "in", b"slow"),
        said(1.75, "out", b"SLOW"),
        said(2, "in", b"passed over"),
        said(3, "in", b"next"),
        said(3.1, "out", b"NEXT"),
        said(4, "in", b"closed", 2),
        said(4, "in", b"gone", 3),
        said(4, "in", b"late", 4),
        happened(5, Kind.CLOSED, 2, code=109),
        happened(6, Kind.GONE, 3, code=109),
        said(7.5, "in", b"too late", 5),
        happened(8, Kind.OPENED, 6),
    )
    assert recording.shown("--slower", "0.5") == [
        rf"{clock(1)} \\.\pipe\shop #1 21 -> 4 slow",
        rf"  {clock(1.75)} <- 4 after 0.750000 s SLOW",
        rf"{clock(2)} \\.\pipe\shop #1 21 -> 11 passed over",
        "  no answer in 1.000000 s, when the next request came",
        rf"{clock(4)} \\.\pipe\shop #2 22 -> 6 closed",
        "  no answer in 1.000000 s, when the connection was closed",
        rf"{clock(4)} \\.\pipe\shop #3 23 -> 4 gone",
        "  no answer in 2.000000 s, when the other side had gone",
        rf"{clock(4)} \\.\pipe\shop #4 24 -> 4 late",
        "  no answer in 4.000000 s, when the trace ended",
    ]
    told = recording.objects("--slower", "0.74")
    assert contents(told)[0] == ("slow", "SLOW")
    assert [one["end"] for one in told] == ["answered", "next", "closed", "gone", "end"]
    assert recording.shown("--slower", "4") == []


def test_pairs_are_chosen_by_either_of_them_and_counted_as_one(recording: Recording) -> None:
    recording.write(
        *(said(n, way, b"%s %d" % (way.encode(), n)) for n in range(4) for way in ("in", "out")),
        said(9, "in", b"a longer one"),
    )
    assert contents(recording.objects("--pairs", "--match", "in 2")) == [("in 2", "out 2")]
    assert contents(recording.objects("--pairs", "--match", "out 1")) == [("in 1", "out 1")]
    assert contents(recording.objects("--pairs", "--size", "9:")) == [("a longer one", None)]
    assert contents(recording.objects("--pairs", "-c", "2")) == [("in 0", "out 0"), ("in 1", "out 1")]


def test_what_overlaps_is_paired_in_order_where_that_is_said(recording: Recording) -> None:
    events = [
        said(0, "in", b"one"),
        said(1, "in", b"two"),
        said(2, "out", b"ONE"),
        said(3, "in", b"three"),
        said(4, "out", b"TWO"),
        said(5, "out", b"THREE"),
    ]
    recording.write(*events)
    told = recording.objects("--pairs", "--pipelined")
    assert contents(told) == [("one", "ONE"), ("two", "TWO"), ("three", "THREE")]
    assert [one["answer_seconds"] for one in told] == [2.0, 3.0, 2.0]
    hint = "npipe: requests may have overlapped: --pipelined pairs answers in the order of requests"
    assert hint in recording.both()[1]
    assert hint not in recording.both("--pipelined")[1]
    recording.write(*events[:1], *events[3:5])
    assert hint not in recording.both()[1]


def test_the_server_may_be_the_one_that_asks(recording: Recording) -> None:
    recording.write(said(0, "in", b"hello"), said(1, "out", b"do it"), said(3, "in", b"done"))
    assert contents(recording.objects("--slower", "1.5", "--asks", "server")) == [("do it", "done")]
    assert recording.objects("--slower", "1.5") == []


def test_of_a_byte_pipe_all_up_to_the_answer_is_the_request(recording: Recording) -> None:
    flags = Flags(0)
    recording.write(
        said(0, "in", b"GET ", flags=flags),
        said(1, "in", b"/x\n", flags=flags),
        said(1.5, "out", b"200\n", flags=flags),
        said(2, "out", b"body", flags=flags),
        said(3, "in", b"GET /y\n", flags=flags),
    )
    first, rest, last = recording.objects("--pairs")
    assert (first["request"]["text"], first["request"]["size"], first["answer"]["text"]) == ("GET /x\n", 7, "200\n")
    assert (first["answer_seconds"], first["ns"]) == (0.5, at(0))
    assert (rest["event"], rest["text"]) == ("data", "body")
    assert (last["request"]["text"], last["end"]) == ("GET /y\n", "end")


def test_what_was_lost_or_withdrawn_is_no_answer_and_no_request(recording: Recording) -> None:
    withdrawn = Flags.MESSAGE | Flags.WITHDRAWN
    recording.write(
        said(0, "in", b"one"),
        Event(at(1), Kind.LOST, Flags(0), SHOP, 10, 1, 21, 0, 3),
        said(2, "out", b"of what?"),
        said(3, "in", b"two"),
        said(4, "out", b"", flags=withdrawn),
        said(5, "out", b"TWO"),
        said(6, "in", b"three"),
        said(7, "in", b"", flags=withdrawn),
        said(8, "out", b"news"),
    )
    told = recording.objects("--pairs")
    assert [one["event"] for one in told] == ["data", "lost", "data", "data", "exchange", "data", "data", "data"]
    assert contents(one for one in told if one["event"] == "exchange") == [("two", "TWO")]
    assert told[4]["answer_seconds"] == 2.0


def test_what_is_recorded_of_pairs_are_their_events(recording: Recording, tmp_path: Path) -> None:
    slow = [said(1, "in", b"slow"), said(3, "out", b"SLOW")]
    recording.write(said(0, "in", b"quick"), said(0.1, "out", b"QUICK"), *slow)
    for name in ("slow.pcapng", "slow.jsonl"):
        assert recording.shown("--slower", "1", "-w", str(tmp_path / name)) == []
        assert list(read_trace(tmp_path / name)) == slow


def test_the_client_s_end_measures_the_round_trip(recording: Recording) -> None:
    flags = Flags.MESSAGE | WHOLE
    recording.write(
        Event(at(0), Kind.DATA, flags | Flags.OUT, SHOP, 10, 1, 20, 0, 3, b"one"),
        Event(at(2), Kind.DATA, flags, SHOP, 10, 1, 20, 0, 3, b"ONE"),
    )
    assert contents(recording.objects("--slower", "1")) == [("one", "ONE")]
    assert recording.both()[1][1] == (
        r"npipe: \\.\pipe\shop (client): 1 connection, in 3 bytes in 1 message, out 3 bytes in 1 message, 0 errors, "
        "0 lost; 1 answer: median 2.000000 s, p99 2.000000 s, longest 2.000000 s"
    )


def test_a_connection_that_is_told_of_late_keeps_its_request(recording: Recording) -> None:
    recording.write(said(0, "in", b"one"), happened(0.5, Kind.PRESENT), said(1, "out", b"ONE"))
    assert [one["event"] for one in recording.objects("--pairs")] == ["present", "exchange"]
    assert recording.objects()[2]["answer_seconds"] == 1.0


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ([happened(0, Kind.OPENED)], False),
        ([happened(0, Kind.PRESENT)], True),
        ([Event(at(0), Kind.LOST, Flags(0), SHOP, 10, 1, 21, 0, 7)], True),
    ],
)
def test_pairs_of_which_requests_are_not_known_are_said_to_be_uncertain(
    recording: Recording, events: list[Event], wrong: bool
) -> None:
    recording.write(*events, said(1, "in", b"two"), said(2, "out", b"ONE"), said(3, "out", b"TWO"))
    hint = "npipe: pairs may be wrong: requests before the trace, or lost ones, may have taken answers"
    assert (hint in recording.both("--pairs", "--pipelined")[1]) is wrong
    assert hint not in recording.both("--pairs")[1]


def test_a_recording_that_is_cut_short_is_told_up_to_there(recording: Recording) -> None:
    recording.write(said(0, "in", b"one"), said(1, "out", b"ONE"), said(2, "in", b"two"), said(3, "out", b"TWO"))
    whole = recording.path.read_bytes()
    recording.path.write_bytes(whole[:-5])
    shown, told = recording.both("--pairs", status=7)
    assert [line.split()[-1] for line in shown] == ["one", "ONE", "two", "ended"]
    assert shown[-1] == "  no answer in 0.000000 s, when the trace ended"
    assert "1 answer: median 1.000000 s" in told[1]
    assert told[-1] == f"npipe: {recording.path}: cut short after 3 records"


# ---- What is kept meanwhile


def pairs_of(answers: Answers, events: Iterable[Event]) -> list[tuple[bytes, bytes | None]]:
    found = [item for event in events for item in answers.take(event)]
    return [
        (one.request.data, None if one.answer is None else one.answer.data)
        for one in found
        if isinstance(one, Exchange)
    ]


def test_of_more_requests_than_are_kept_the_answers_stay_with_theirs() -> None:
    count = 5000
    numbers = [str(number).encode() for number in range(count)]
    answers = Answers(pipelined=True)
    found = [item for number in numbers for item in answers.take(said(0, "in", number))]
    assert [item.data for item in found if isinstance(item, Event)] == numbers[: count - 4096]
    got = pairs_of(answers, (said(1, "out", number) for number in numbers))
    assert got == [(number, number) for number in numbers[count - 4096 :]]


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_kept_of_requests_is_bounded(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    monkeypatch.setattr("npipe.tracing.answers._MOST_HELD", 100_000)
    answers = Answers(whole=whole)
    told: list[Event] = []
    for connection in range(1, 101):  # each has two pieces of a request on a byte pipe
        for piece in (b"a" * 1000, b"b" * 1000):
            taken = [*answers.take(said(connection, "in", piece, connection, flags=Flags(0)))]
            told += [item for item in taken if isinstance(item, Event)]
    released = 67 if whole else 0  # the longest-waiting connections: 200 pieces of 1512 bytes, of which 66 find room
    assert len(told) == 2 * released
    assert [event.connection for event in told] == [connection for connection in range(1, released + 1) for _ in "ab"]
    ended = [
        item
        for connection in range(1, 101)
        for item in answers.take(said(200, "out", b"!", connection, flags=Flags(0)))
        if isinstance(item, Exchange)
    ]
    assert [one.pieces[-1].connection for one in ended] == list(range(released + 1, 101))
    content = b"a" * 1000 + b"b" * 1000 if whole else b""
    assert {(one.request.data, one.nanoseconds) for one in ended} == {
        (content, 10**9 * (200 - one.pieces[-1].connection)) for one in ended
    }
    assert pairs_of(answers, [said(201, "in", b"more", flags=Flags(0)), said(202, "out", b"!", flags=Flags(0))]) == [
        (b"more" if whole else b"", b"!")
    ]


def test_one_request_is_kept_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npipe.tracing.answers._MOST_HELD", 1000)
    long = b"x" * 5000
    assert pairs_of(Answers(), [said(0, "in", long), said(1, "out", b"y")]) == [(long, b"y")]


def test_what_a_process_has_not_answered_when_it_ends_has_waited_until_then() -> None:
    answers, summary = Answers(), Summary()
    for event in (said(0, "in", b"one"), said(1, "in", b"two", 2), said(1, "in", b"else", pipe="other")):
        summary.add(event)
        assert list(answers.take(event)) == []
    ended = list(answers.owner_ended(SHOP, 10, at(3)))
    assert [(one.request.data, one.nanoseconds, one.end) for one in ended] == [
        (b"one", 3 * 10**9, "closed"),
        (b"two", 2 * 10**9, "closed"),
    ]
    assert [one.request.data for one in answers.finish(at(9))] == [b"else"]


def test_connections_that_have_ended_are_counted_and_forgotten() -> None:
    summary = Summary()
    for number in range(1, 5001):
        for event in (
            happened(number, Kind.OPENED, number),
            happened(number, Kind.CLOSED, number),
            said(number, "in", b"late", number),  # what was seen of it after its end is no other one
        ):
            summary.add(event)
    summary.add(happened(5001, Kind.OPENED, 5001))
    (pipe,) = summary._pipes.values()
    assert (pipe.connections, len(pipe.open), len(pipe.closed)) == (5001, 1, 1024)
    summary.owner_ended(SHOP, 10)
    assert (pipe.connections, len(pipe.open), len(pipe.closed)) == (5001, 0, 0)
    assert r"\\.\pipe\shop: 5001 connections, in 20000 bytes in 5000 messages" in "".join(summary.lines())


# ---- The sum at the end


def test_the_sum_at_the_end_has_a_line_for_each_pipe(recording: Recording) -> None:
    answers = [
        event
        for number in range(100)
        for event in (said(number, "in", b"12345"), said(number + (number + 1) / 1000, "out", b"123"))
    ]
    recording.write(
        *answers,
        Event(at(101), Kind.LOST, Flags(0), SHOP, 10, 1, 21, 0, 7),
        said(102, "in", b"unanswered", 2),
        replace(said(102, "out", b"x", 3, flags=Flags.MESSAGE | Flags.WITHDRAWN), code=995),
        happened(103, Kind.CLOSED, 2, code=109),
        happened(103, Kind.OPENED, 1, pipe="\\\\?\\pipe\\a\x1b[31m"),
        Event(at(104), Kind.LOST, Flags(0), "?", 10, 0, 0, 0, 2),
    )
    shown, told = recording.both("--match", "unanswered")
    form = "%Y-%m-%d %H:%M:%S %z"
    first, last = (time.strftime(form, time.localtime(at(seconds) // 10**9)) for seconds in (0, 104))
    moved = "in 510 bytes in 101 messages, out 300 bytes in 100 messages, 1 error (995), 7 lost"
    times = "100 answers: median 0.050000 s, p99 0.099000 s, longest 0.100000 s"
    nothing = "in 0 bytes in 0 messages, out 0 bytes in 0 messages, 0 errors, 0 lost"
    assert (len(shown), shown[1].split()[-1]) == (3, "unanswered")  # and what was lost
    assert told == [
        f"npipe: 206 events, {first} to {last}",
        rf"npipe: \\.\pipe\shop: 3 connections, {moved}; {times}; 1 not answered",
        rf"npipe: \\?\pipe\a\x1b[31m: 1 connection, {nothing}",
        "npipe: 2 records lost, of which nothing else is known",
    ]
    assert recording.both("--quiet")[1] == []
    assert recording.both("--json")[1] == told
    assert "1 connection, in 10 bytes in 1 message, out 0" in recording.both("--connection", "2")[1][1]


def test_times_are_kept_to_three_digits_and_the_longest_whole() -> None:
    times = Times()
    for time_ in (0, 7, 123_456, 123_499, 987_654_321):
        times.add(time_)
    assert [times.percentile(percent) for percent in (1, 40, 50, 99)] == [0, 7, 123_000, 987_654_321]
    assert (times.longest, times.count) == (987_654_321, 5)
    assert Times().percentile(50) == 0


# ---- Filters, times and wrong use


def test_a_connection_is_chosen_by_its_number(recording: Recording) -> None:
    recording.write(
        happened(0, Kind.OPENED, 1),
        happened(0, Kind.OPENED, 2),
        said(1, "in", b"one"),
        said(1, "in", b"two", 2),
        said(2, "out", b"TWO", 2),
    )
    told = recording.objects("--connection", "2")
    assert [(one["event"], one.get("text")) for one in told] == [("opened", None), ("data", "two"), ("data", "TWO")]
    assert recording.shown("--connection", "3") == []


def test_a_recording_is_filtered_by_names_as_pipes_are_compared(recording: Recording) -> None:
    strange = "\\\\?\\pipe\\Gr\u00fc\u00dfe\x1b[31m"
    recording.write(
        said(0, "in", b"shop"), said(1, "in", b"strange", pipe=strange), said(2, "in", b"far", pipe=r"\\HOST\pipe\Shop")
    )

    def found(*names: str) -> list[str]:
        return [one["text"] for one in recording.objects(*names)]

    for name in ("shop", "SHOP", r"\\.\PIPE\Shop", "//./pipe/shop", r"\\?\pipe\shop"):
        assert found(name) == ["shop"]
    for name in (strange, strange.upper().replace("SS", "\u00df"), strange.replace("\x1b", r"\x1b")):
        assert found(name) == ["strange"]
    assert found(r"\\host\pipe\shop") == ["far"]
    assert found("shop", strange) == ["shop", "strange"]
    shown, told = recording.both("nothing", "shop", "--json", status=3)
    assert [json.loads(line)["text"] for line in shown] == ["shop"]
    there = r"\\.\pipe\shop, \\?\pipe\Grüße\x1b[31m, \\HOST\pipe\Shop"
    assert told[-1] == rf"npipe: {recording.path}: nothing of \\.\pipe\nothing; it has {there}"
    assert recording.both("", status=2)[0] == []


def test_a_pipe_s_name_that_is_none_is_compared_with_nothing(recording: Recording) -> None:
    recording.write(said(0, "in", b"x", pipe=""), said(1, "in", b"y", pipe="a" * 300), said(2, "in", b"z"))
    assert [one["text"] for one in recording.objects("shop")] == ["z"]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows: a process has no time zone of its own")
def test_times_are_local_and_those_in_json_are_utc(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    recording.write(said(0, "in", b"x"))
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    try:
        assert recording.shown()[0].startswith("13:30:00.000000 ")
        assert recording.both()[1][0] == "npipe: 1 event, 2027-01-15 13:30:00 +0530 to 2027-01-15 13:30:00 +0530"
        assert recording.objects()[0]["time"] == "2027-01-15T08:00:00.000000000Z"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("moment", [0, (1 << 63) - 1, (1 << 64) - 1])
def test_any_time_can_be_shown(recording: Recording, moment: int) -> None:
    flags = Flags.SERVER | WHOLE | Flags.MESSAGE
    recording.write(
        Event(moment, Kind.DATA, flags, SHOP, 1, 2, 3, 0, 1, b"x"),
        Event(BEGIN, Kind.DATA, flags | Flags.OUT, SHOP, 1, 2, 3, 0, 1, b"y"),
    )
    assert [line[-1] for line in recording.shown()] == ["x", "y"]
    assert contents(recording.objects("--pairs")) == [("x", "y")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slower", "-1"], "Invalid value for '--slower'"),
        (["--slower", "nan"], "Invalid value for '--slower'"),
        (["--size", "5:3"], "'5:3' is no size: MIN is more than MAX."),
        (["--match", "a{99999999999999999999}"], "'a{99999999999999999999}' is no regular expression: "),
        (["--connection", "0"], "Invalid value for '--connection'"),
        (["--asks", "nobody"], "Invalid value for '--asks'"),
        (["-f"], "--follow is for pipes, not for --read FILE."),
    ],
)
def test_a_wrong_use_is_told(recording: Recording, arguments: list[str], said: str) -> None:
    shown, told = recording.both(*arguments, status=2)
    assert (shown, len(told)) == ([], 1)
    assert told[0].startswith(f"npipe: {said}")


def test_a_recording_that_is_recorded_again_says_where(recording: Recording, tmp_path: Path) -> None:
    recording.write(said(0, "in", b"x"))
    target = tmp_path / ("copy\x1b.pcapng" if os.name == "posix" else "copy.pcapng")
    assert recording.both("-w", str(target))[1][0] == f"npipe: recording into {printable(str(target))}"
    assert list(read_trace(target)) == list(read_trace(recording.path))
