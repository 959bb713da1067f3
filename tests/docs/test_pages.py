"""The runner of the pages' samples itself: what it takes for right, what it finds, and that nothing outlives it."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.docs import pages

if TYPE_CHECKING:
    from pathlib import Path

SERVER = """
```python
# server.py
import signal
import sys

try:
    print("ready")
    signal.sigwait([signal.SIGTERM]) if len(sys.argv) > 1 else signal.pause()
except KeyboardInterrupt:
    print("interrupted")
```
"""


def carry_out(text: str, folder: Path) -> int:
    return pages.run(textwrap.dedent(text), folder)


def test_files_and_transcripts_are_carried_out_in_order(tmp_path: Path) -> None:
    page = """
        ```python
        # words/one.py
        print("first")
        ```

        - in a list

          ~~~console
          $ python words/one.py
          first
          ~~~

        ```python
        # words/one.py
        print("second")
        print("and more")
        ```

        ```console
        $ cd words
        $ export WORD='third'
        $ python one.py && echo $WORD
        second
        and more
        third
        $ echo one \\
        > two
        one two
        ```

        ````text
        ```console
        $ false
        ```
        ````
        """
    assert carry_out(page, tmp_path) == 5
    assert (tmp_path / "words" / "one.py").read_text() == '# words/one.py\nprint("second")\nprint("and more")\n'


def test_dots_stand_for_anything_in_a_line_and_for_lines(tmp_path: Path) -> None:
    assert carry_out("```console\n$ seq 5\n1\n...\n5\n$ echo process 12 came\nprocess ... came\n```\n", tmp_path) == 2
    assert carry_out("```console\n$ seq 2\n1\n2\n...\n```\n", tmp_path) == 1


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("```console\n$ echo one\ntwo\n```\n", r"line 2: echo one: expected\ntwo\n-- and it has printed\none\n"),
        ("```console\n$ echo one\n```\n", r"line 2: echo one: expected\n\n-- and it has printed\none\n"),
        ("```console\n$ true\none\n```\n", r"line 2: true: expected\none\n"),
        ("```console\n$ seq 3\n1\n3\n```\n", r"line 2: seq 3: expected"),
        ("```console\n$ echo aXb\na.b\n```\n", r"line 2: echo aXb: expected"),
        ("```console\n$ echo more >&2\n```\n", r"-- and it has printed\nmore\n"),
        ("```console\n$ false\n$ true\n```\n", r"line 2: false: it has ended with 1, which the page does not tell"),
        ("```console\n$ false\n```\n", r"line 2: false: it has ended with 1, which the page does not tell"),
        ("```console\n$ false\n$ echo $?\n2\n```\n", r"line 3: echo \$\?: expected\n2\n-- and it has printed\n1\n"),
        ("```console\nhello\n```\n", r"line 2: a transcript begins with a command"),
        ("```console\n$ true\n", r"line 1: the block has no end"),
        (
            "```python\nimport nothing_of_the_kind\n```\n",
            r"line 2: python block_at_line_2\.py: it has ended with 1, .*\nTraceback",
        ),
        ("```console\n$ fg\n```\n", r"line 2: there is no such job"),
        ("```console\n$ sh -c 'echo a; exit 3' &\na\n$ sleep 0.2\n```\n", r"sh -c .*: it has ended with 3, after\na$"),
        ("```console\n$ echo a &\na\nb\n```\n", r"line 2: echo a: expected\nb\nand it has ended, after\na$"),
        ("```console\n$ echo Traceback &\nTraceback\n```\n", r"echo Traceback: it has printed\nTraceback"),
    ],
)
def test_what_is_not_so_is_found_with_its_line(tmp_path: Path, page: str, found: str) -> None:
    with pytest.raises(pages.PageError, match=found):
        pages.run(page, tmp_path)


def test_an_exit_status_may_be_told(tmp_path: Path) -> None:
    assert carry_out("```console\n$ sh -c 'exit 7'\n$ echo $?\n7\n$ echo $?\n0\n```\n", tmp_path) == 3


def test_a_job_is_waited_for_taken_back_and_interrupted(tmp_path: Path) -> None:
    page = SERVER + "```console\n$ python server.py &\nready\n$ echo meanwhile\nmeanwhile\n$ fg\n^C\ninterrupted\n```\n"
    assert pages.run(page, tmp_path) == 3
    wrong = page.replace("^C\ninterrupted", "^C\nended")
    with pytest.raises(pages.PageError, match=r"expected\nended\n-- and it has printed\ninterrupted"):
        pages.run(wrong, tmp_path)


def test_a_job_is_ended_by_its_number(tmp_path: Path) -> None:
    page = (
        SERVER
        + "```console\n$ python server.py 1 &\nready\n$ python server.py &\nready\n$ kill %1\n$ fg\n^C\n...\n```\n"
    )
    assert pages.run(page, tmp_path) == 4


@pytest.mark.parametrize("pause", ["", "$ sleep 0.3\n"])
def test_a_job_that_ends_by_itself_is_waited_for(tmp_path: Path, pause: str) -> None:
    page = f"```console\n$ sh -c 'sleep 0.1; echo done' &\n{pause}$ wait %1\ndone\n```\n"
    assert pages.run(page, tmp_path) == (3 if pause else 2)


def test_a_job_that_is_told_to_end_is_not_waited_for(tmp_path: Path) -> None:
    job = "sh -c 'trap told=yes TERM; echo ready; until test -f go; do sleep 0.05; done; echo told: $told'"
    page = f"```console\n$ {job} &\nready\n$ kill -TERM %1\n$ touch go\n$ fg\n...\ntold: yes\n```\n"
    assert pages.run(page, tmp_path) == 4


@pytest.mark.parametrize("last", ["", "$ echo one\ntwo\n"])
def test_no_process_outlives_a_page(tmp_path: Path, last: str) -> None:
    page = f"""```console
$ sh -c 'sleep 600 & echo $!; wait' &
...
$ python -c "import os; print(os.getppid())" > /dev/null
{last}```
"""
    page = page.replace("echo $!;", "echo $! > pid; echo it is there;").replace("\n...\n", "\nit is there\n")
    if last:
        with pytest.raises(pages.PageError):
            pages.run(page, tmp_path)
    else:
        pages.run(page, tmp_path)
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        _living(pid)


def _living(pid: int) -> None:
    """Raise ProcessLookupError for a process that has ended, also where nobody has waited for it yet."""
    os.kill(pid, 0)
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
        if file.read().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError


def test_a_command_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "DEADLINE", 0.5)
    with pytest.raises(pages.PageError, match=r"line 2: echo a; sleep 600: nothing more in 0\.5 s, after\na$"):
        pages.run("```console\n$ echo a; sleep 600\na\n```\n", tmp_path)
