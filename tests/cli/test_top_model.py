"""What `npipe top` makes of the answers: rates, rows, columns; without a terminal, and without a pipe."""

from __future__ import annotations

import pytest

pytest.importorskip("rich", reason="the command's extra is not installed")

from rich.cells import cell_len

from npipe.cli._monitor.model import HISTORY, Board, PipeState, Rates, Sample, matches
from npipe.cli._monitor.tables import CONNECTION_COLUMNS, PIPE_COLUMNS, Look, fit, pipe_fields, sorted_rows
from npipe.cli._monitor.text import answer_text, compact, fitted, idle_text, percent, spark, waits_text
from npipe.figures import OwnerReport, PipeReport
from tests.cli.figures import connection, owner, stats

NAME = r"\\.\pipe\shop"


def answer(at: float, *owners: OwnerReport) -> Sample:
    report = PipeReport(
        name=NAME, type="message", direction="duplex", instances=len(owners), max_instances=None, owners=owners
    )
    return Sample(NAME, at, 1000.0 + at, report)


def state_of(*samples: Sample) -> PipeState:
    state = PipeState(NAME)
    for sample in samples:
        state.feed(sample)
    return state


def test_the_first_answer_has_no_rate_and_the_second_one_has() -> None:
    state = state_of(answer(1.0, owner(connection(1, stats(1000, 50)))))
    assert state.row().rates is None
    state.feed(answer(3.0, owner(connection(1, stats(1400, 150)))))
    assert state.row().rates == Rates(200.0, 50.0, 20.0, 5.0)
    assert list(state.history) == [Rates(200.0, 50.0, 20.0, 5.0)]
    [one] = state.connections()
    assert one.rates == Rates(200.0, 50.0, 20.0, 5.0)


def test_a_connection_that_ends_takes_nothing_from_the_pipe_s_rate() -> None:
    state = state_of(
        answer(1.0, owner(connection(1, stats(1000)), connection(2, stats(500)))),
        answer(2.0, owner(connection(2, stats(600)), ended=1000)),
    )
    assert state.row().rates == Rates(100.0, 0.0, 0.0, 0.0)
    assert [one.number for one in state.connections()] == [2]


def test_a_connection_that_came_since_counts_from_zero() -> None:
    state = state_of(answer(1.0, owner()), answer(2.0, owner(connection(9, stats(300)))))
    [one] = state.connections()
    assert one.rates.bytes_in == 300.0
    assert state.rates is not None
    assert state.rates.bytes_in == 300.0


def test_a_server_that_is_started_anew_counts_from_zero_and_an_old_one_that_is_seen_late_does_not() -> None:
    before = answer(1.0, owner(connection(1, stats(10_000))))
    anew = state_of(before, answer(2.0, owner(connection(1, stats(40)), pid=6, since=1001.5)))
    assert anew.rates is not None
    assert anew.rates.bytes_in == 40.0
    late = state_of(before, answer(2.0, owner(connection(1, stats(10_000))), owner(connection(1, stats(70)), pid=6)))
    assert late.rates is not None
    assert late.rates.bytes_in == 0.0


def test_a_rough_count_that_goes_back_is_no_rate_below_zero_and_is_not_counted_twice() -> None:
    counted = [100, 60, 150]
    state = PipeState(NAME)
    rates = []
    for at, count in enumerate(counted):
        state.feed(answer(float(at), owner(connection(1, stats(sent=count)))))
        rates.append(state.rates)
    assert [None if one is None else one.bytes_out for one in rates] == [None, 0.0, 50.0]


def test_an_owner_that_does_not_answer_has_no_rate_and_then_that_of_the_whole_time() -> None:
    state = state_of(
        answer(1.0, owner(connection(1, stats(0)))),
        answer(2.0, owner(since=None, code=121)),
    )
    assert state.row().rates is None
    assert state.row().problem == "it does not answer: it is stopped, or very busy"
    state.feed(answer(3.0, owner(since=None, code=121)))
    state.feed(answer(5.0, owner(connection(1, stats(400)))))
    assert state.rates is not None
    assert state.rates.bytes_in == 100.0
    assert state.row().problem is None


def test_one_of_two_owners_that_does_not_answer_leaves_the_other_its_rate() -> None:
    state = state_of(
        answer(1.0, owner(connection(1, stats(0))), owner(pid=6)),
        answer(2.0, owner(connection(1, stats(10))), owner(pid=6, since=None, code=121)),
    )
    row = state.row()
    assert row.rates is not None
    assert row.rates.bytes_in == 10.0
    assert row.problem is not None


def test_a_pipe_that_goes_is_shown_for_a_moment_and_as_long_as_it_is_kept() -> None:
    board = Board()
    board.feed(Sample(NAME, 0.0, 0.0, None))
    assert board.rows() == []
    board.feed(answer(1.0, owner(connection(1, stats(10)))))
    board.feed(Sample(NAME, 2.0, 2.0, None))
    board.forget(4.0)
    [row] = board.rows()
    assert (row.gone, row.problem, row.clients, row.instances) == (True, "there is no such pipe", None, 0)
    assert board.pipes[NAME].connections() == []
    board.kept.add(NAME)
    board.forget(100.0)
    assert len(board.rows()) == 1
    board.feed(answer(101.0, owner(connection(1, stats(3)))))
    assert not board.rows()[0].gone
    board.feed(Sample(NAME, 102.0, 2.0, None))
    board.kept.clear()
    board.forget(110.0)
    assert board.rows() == []


def test_an_answer_that_is_older_than_the_last_is_not_taken() -> None:
    state = state_of(answer(2.0, owner()), answer(1.0, owner(connection(1, stats(10)))))
    assert state.connections() == []


def test_depth_is_of_the_fullest_way_and_waiters_are_counted() -> None:
    state = state_of(
        answer(1.0, owner(connection(1, stats(unread=30, reads=2)), connection(2, stats(by_peer=250, writes=1))))
    )
    row = state.row()
    assert (row.depth, row.readers, row.writers, row.unread) == (2.5, 2, 1, 280)


def test_ended_ones_are_counted_and_are_together_after_those_that_live() -> None:
    gone = [connection(number, stats(number * 1000), pid=number, left=True) for number in (3, 4)]
    live = [connection(number, stats(number), pid=number) for number in (1, 2)]
    state = state_of(answer(1.0, owner(gone[0], live[0], gone[1], live[1])))
    row = state.row()
    assert (row.clients, row.ended) == (4, 2)
    for column in CONNECTION_COLUMNS:
        for backwards in (False, True):
            shown = sorted_rows(state.connections(), CONNECTION_COLUMNS, column.key, Look(), backwards=backwards)
            assert [one.left for one in shown] == [False, False, True, True], column.key
    moved = sorted_rows(state.connections(), CONNECTION_COLUMNS, "moved", Look(), backwards=False)
    assert [one.number for one in moved] == [2, 1, 4, 3]
    rate = next(column for column in CONNECTION_COLUMNS if column.key == "rate")
    assert [rate.cell(one, 6, Look())[0].strip() for one in moved] == ["▁", "▁", "ended", "ended"]
    ended = next(column for column in PIPE_COLUMNS if column.key == "ended")
    assert ended.cell(row, 5, Look()) == ("2", "yellow")
    state.feed(Sample(NAME, 2.0, 1002.0, None))
    assert state.row().ended == 0


def idle_of(state: PipeState) -> tuple[float, bool]:
    (one,) = state.connections()
    return one.idle, one.idle_exactly


def test_idle_is_for_how_long_nothing_has_changed() -> None:
    state = state_of(answer(1.0, owner(connection(1, stats(50, since=900.0)))))
    assert idle_of(state) == (0.0, False)  # perhaps for long: nobody has looked before
    state.feed(answer(4.0, owner(connection(1, stats(50, since=900.0)))))
    assert idle_of(state) == (3.0, False)
    state.feed(answer(5.0, owner(connection(1, stats(50, 10, since=900.0)))))
    assert idle_of(state) == (0.0, True)
    state.feed(answer(7.0, owner(connection(1, stats(50, 10, since=900.0)))))
    assert idle_of(state) == (2.0, True)
    state.feed(answer(8.0, owner(connection(1, stats(50, 10, unread=4, since=900.0)))))
    assert idle_of(state) == (0.0, True)  # what was written and is not read is something, too
    state.feed(answer(9.0, owner(since=None, code=121)))
    state.feed(answer(12.0, owner(connection(1, stats(50, 10, unread=4, since=900.0)))))
    assert idle_of(state) == (4.0, True)


def test_a_connection_that_has_moved_nothing_is_idle_since_it_is_there() -> None:
    state = state_of(answer(1.0, owner(connection(1, stats(since=941.0)))))
    assert idle_of(state) == (60.0, True)
    state.feed(answer(2.0, owner(connection(1, stats(1, since=941.0)))))
    assert idle_of(state) == (0.0, True)
    later = state_of(answer(1.0, owner()), answer(2.0, owner(connection(1, stats(9, since=1001.5)))))
    assert idle_of(later) == (0.0, True)
    ahead = state_of(answer(1.0, owner(connection(1, stats(since=5000.0)))))  # by its own clock
    assert idle_of(ahead) == (0.0, True)


def test_idle_times_have_five_characters_at_most() -> None:
    times = (0, 0.9, 59.9, 60, 3599, 3600, 86399, 86400, 999 * 86400.0, 1e12)
    told = ["0s", "0s", "59s", "1m", "59m", "1h", "23h", "1d", "999d", "many"]
    assert [idle_text(seconds, exactly=True) for seconds in times] == told
    assert [idle_text(seconds, exactly=False) for seconds in times] == [f">{text}" for text in told]


def test_the_history_has_an_end() -> None:
    state = PipeState(NAME)
    for at in range(HISTORY + 20):
        state.feed(answer(float(at), owner(connection(1, stats(at * 10)))))
    assert len(state.history) == HISTORY
    assert len(state.connections()[0].history) == HISTORY


def test_a_filter_wants_all_its_words_whatever_their_case() -> None:
    row = state_of(answer(1.0, owner())).row()
    assert matches("SHOP anna", pipe_fields(row))
    assert matches("", pipe_fields(row))
    assert not matches("shop berta", pipe_fields(row))


def named(name: str, at: float) -> PipeState:
    state = PipeState(name)
    state.feed(answer(at, owner(connection(1, stats(int(at) * 10)))))
    state.feed(answer(at + 1, owner(connection(1, stats(int(at) * 20)))))
    return state


def test_rows_are_sorted_by_any_column_and_then_by_name() -> None:
    rows = [named(name, at).row() for name, at in (("b", 1.0), ("c", 9.0), ("a", 1.0))]
    look = Look()

    def names(key: str, *, backwards: bool = False) -> list[str]:
        return [row.name for row in sorted_rows(rows, PIPE_COLUMNS, key, look, backwards=backwards)]

    assert names("name") == ["a", "b", "c"]
    assert names("name", backwards=True) == ["c", "b", "a"]
    assert names("in") == ["c", "a", "b"]
    for column in PIPE_COLUMNS:
        assert sorted(names(column.key)) == ["a", "b", "c"]


@pytest.mark.parametrize("columns", [PIPE_COLUMNS, CONNECTION_COLUMNS])
def test_columns_fit_every_width_and_the_one_sorted_by_is_there(columns: tuple) -> None:  # type: ignore[type-arg]
    for width in range(1, 400):
        for column in columns:
            shown = fit(columns, width, column.key)
            assert sum(cells for _, cells in shown) + len(shown) - 1 <= width
            assert shown[0][0] is columns[0]
            if width >= 40:
                assert column in [one for one, _ in shown]
    assert [column.key for column, _ in fit(columns, 1000, "in")] == [column.key for column in columns]


@pytest.mark.parametrize(
    ("columns", "width", "sort", "shown"),
    [
        (PIPE_COLUMNS, 40, "rate", "name in out rate clients"),
        (PIPE_COLUMNS, 40, "name", "name in out clients depth"),
        (PIPE_COLUMNS, 40, "pid", "name in out clients pid"),
        (PIPE_COLUMNS, 60, "rate", "name in out rate clients depth waits queue"),
        (PIPE_COLUMNS, 60, "ended", "name in out clients ended depth waits queue"),
        (CONNECTION_COLUMNS, 40, "rate", "client in out rate depth"),
        (CONNECTION_COLUMNS, 40, "idle", "client in out depth waits idle"),
        (CONNECTION_COLUMNS, 60, "rate", "client in out rate depth waits idle moved"),
    ],
)
def test_a_narrow_terminal_has_what_finds_faults_before_what_describes(
    columns: tuple,  # type: ignore[type-arg]
    width: int,
    sort: str,
    shown: str,
) -> None:
    assert [column.key for column, _ in fit(columns, width, sort)] == shown.split()


def test_the_keys_are_readable_on_a_narrow_terminal() -> None:
    pytest.importorskip("textual", reason="the extra `monitor` is not installed")
    from npipe.cli._monitor.keys import KEYS

    assert max(map(len, KEYS.splitlines())) < 40
    columns = [(column.key, column.title) for column in PIPE_COLUMNS]
    columns += [(column.key, column.title) for column in CONNECTION_COLUMNS]
    for key, title in columns:
        if key not in ("name", "clients", "client", "unread", "pid", "user", "program", "rate", "moved"):
            known = title in ("unread in", "unread out", "for")  # they say it
            assert known or f"\n{title} " in KEYS, key


def test_numbers_have_five_characters_at_most() -> None:
    for power in range(21):
        for digit in (1, 4, 9, 9.49, 9.5, 9.94, 9.96, 9.99, 9.996, 9.9996):
            assert len(compact(digit * 10.0**power)) <= 5, digit * 10.0**power
    assert [compact(value) for value in (0, 0.25, 3, 12.4, 999, 1000, 12345, 999_500, 1.25e6, 1e30)] == [
        "0", "0.2", "3", "12", "999", "1.0K", "12K", "1.0M", "1.2M", "many",
    ]  # fmt: skip
    assert [percent(part) for part in (0, 0.001, 0.5, 1, 9.9, 20)] == ["0%", "<1%", "50%", "100%", "990%", ">999%"]
    assert [answer_text(s) for s in (0.00008, 0.0012, 0.12, 1.04)] == ["80µs", "1.2ms", "120ms", "1.0s"]
    assert waits_text(1200, 0) == "1.2K/0"


def test_a_sparkline_has_the_newest_values_at_its_right_end() -> None:
    assert spark([0, 1, 2, 4], 6) == "  ▁▃▅█"[:2] + spark([0, 1, 2, 4], 4)
    assert spark([0, 7], 2) == "▁█"
    assert spark([0, 0], 3) == " ▁▁"
    assert spark([9, 0, 4], 2) == "▁█"
    assert spark([], 3) == "   "
    assert spark([1, 2], 0) == ""
    assert spark([0, 8], 2, plain=True).isascii()


@pytest.mark.parametrize(
    "text", ["plain", "\x1b[31mred\x07", "日本語の名前", "e\u0301" * 30, "\u202eevil", "\udcff", "[b]x[/b]", ""]
)
def test_text_of_strangers_is_printable_and_has_its_cells(text: str) -> None:
    for width in range(1, 40):
        for right in (False, True):
            made = fitted(text, width, right=right)
            assert cell_len(made) == width
            assert made.isprintable()
