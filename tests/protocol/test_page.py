"""The page's numbers are the engine's, and the examples' are the page's."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import client
import link
import owner
import pytest
import rendezvous

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from types import ModuleType

PAGE = (CHECKOUT / "docs" / "protocol.md").read_text(encoding="utf-8")
ENGINE = CHECKOUT / "src" / "npipe" / "engine"


def rows(after: str) -> list[list[str]]:
    """The cells of the first table behind this text."""
    found: list[list[str]] = []
    for line in PAGE[PAGE.index(after) :].splitlines()[1:]:
        if line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif found:
            break
    return found[2:]


def offsets(after: str) -> dict[int, str]:
    """What stands where, of a table that begins with offsets and sizes."""
    places: dict[int, str] = {}
    for row in rows(after):
        at, sizes = row[0], row[1]
        if ", " in at:
            places |= {int(one): row[-1] for one in at.split(", ")}
            continue
        offset = int(at)
        size, _, count = sizes.partition(" × ")
        for one in [size] if count else sizes.split(", "):
            places[offset] = row[-1]
            offset += int(one)
    return places


# Of each table: its structure, and the fields at the page's offsets, in their order.
LAYOUTS = {
    "One page of header, then": ("npl_segment", [
        "header.magic", "header.version", "header.size", "header.ring_offset[0]", "header.ring_offset[1]",
        "header.ring_capacity[0]", "header.ring_capacity[1]", "header.quota[0]", "header.quota[1]", "header.type",
        "header.direction", "header.server_pid", "header.client_pid", "header.token", "side[0]", "side[1]", "sleep[0]",
        "sleep[1]", "direction[0]", "direction[1]",
    ]),
    "\nA direction:": ("npl_direction", [
        "producer.tail", "producer.announced", "consumer.head", "consumer.consumed", "consumer.taken", "posts.posted",
        "posts.finished", "posts.size", "deferred.state", "deferred.put", "takebacks.rewinds", "takebacks.begin",
    ]),
    "## 6. Sleeping": ("npl_sleep", ["flags", "seq", "wake_head", "wake_consumed", "wake_taken"]),
    "## 2. The page": ("npf_page", [
        "magic", "version", "type", "direction", "max_instances", "default_timeout_ms", "name_size", "name", "id",
        "slot",
    ]),
    "one request of 32 bytes": ("npw_request", [
        "magic", "version", "kind", "flags", "access", "reserved", "offer",
    ]),
    "It answers with 48 bytes": ("npw_answer", [
        "magic", "version", "kind", "code", "default_timeout_ms", "type", "direction", "max_instances", "instances",
        "owner_pid", "listening", "name_size",
    ]),
}  # fmt: skip
# The engine's numbers, by their names, and where the page has them.
NUMBERS = {
    "NPL_VERSION": r"magic `NPLK`, version (\d+)", "NPL_HEADER_SIZE": r"the offsets are (\d+) and",
    "NPL_DEFERRED": r"uses slot \*k\* mod (\d+)", "NPL_POSTS": r"stands? .*at \*k\* mod (\d+)|at \*k\* mod (\d+), then",
    "NPL_MIN_RING": r"power of two that is at least ([\d,]+)", "NPW_VERSION": r"\| 4 \| 4 \| version, (\d+); the first",
    "NPF_VERSION": r"\| 4 \| 4 \| version, (\d+) \|", "NPF_SLOTS": r"\| 1056 \| (\d+) × 32",
    "NPF_NAME_SIZE": r"\| 28 \| (\d+) \| the name", "NPW_REMOTE_SIZE": r"in at most ([\d,]+) bytes, stands who",
    "NPW_OPEN": r"kind: (\d+) OPEN", "NPW_WAIT": r"(\d+) WAIT,", "NPW_QUERY": r"(\d+) QUERY,",
    "NPW_NUDGE": r"(\d+) NUDGE,", "NPW_DESCRIBE": r"(\d+) DESCRIBE,", "NPW_TRACE": r"(\d+) TRACE,",
    "NPW_STAY": r"(\d+) STAY \|", "NPW_HOLD": r"flags: (\d+) HOLD", "NPW_KEEP": r"(\d+) KEEP,",
    "NPW_FOR": r"(\d+) FOR \(", "NPL_END_OPEN": r"end: (\d+) open", "NPL_END_CLOSED": r"(\d+) closed, 3 disc",
    "NPL_END_DISCONNECTED": r"(\d+) disconnected \(", "NPL_END_ABORTED": r"(\d+) aborted \(",
    "NPL_SLEEP_READ": r"flags: (\d+) a thread sleeps for data", "NPL_SLEEP_WRITE": r"(\d+) a thread sleeps for room",
    "NPL_ARMED_READ": r"(\d+) and 8 the same on", "NPL_ARMED_WRITE": r"4 and (\d+) the same on",
    "NPL_POSTED": r"(\d+) reads have been advertised", "NPL_CONTENDED": r"(\d+) \(with 4\) others",
    "NPL_ENTRY_MOVING": r"\| (\d) moving", "NPL_ENTRY_LIVE": r"\| (\d) live", "NPL_ENTRY_BUSY": r"\| (\d) busy",
    "NPL_ENTRY_PARTIAL": r"\| (\d) partial", "NPL_ENTRY_WITHDRAWN": r"\| (\d) withdrawn",
    "NPL_ENTRY_DONE": r"\| (\d) done", "NPL_ENTRY_REWOUND": r"\| (\d) rewound", "NPL_ENTRY_CUT": r"\| (\d) cut",
    "NP_RETRY": r"or (\d+): look at the folder again",
}  # fmt: skip
# The examples' names for them.
EXAMPLES: dict[str, tuple[ModuleType, str]] = {
    "NPL_VERSION": (link, "VERSION"), "NPL_HEADER_SIZE": (link, "PAGE"), "NPL_DEFERRED": (link, "SLOTS"),
    "NPW_VERSION": (rendezvous, "VERSION"), "NPF_VERSION": (owner, "PAGE_VERSION"), "NPF_SLOTS": (owner, "SLOTS"),
    "NPF_NAME_SIZE": (owner, "NAME_SIZE"), "NPL_END_OPEN": (link, "OPEN"), "NPL_END_CLOSED": (link, "CLOSED"),
    "NPL_END_DISCONNECTED": (link, "DISCONNECTED"), "NPL_END_ABORTED": (link, "ABORTED"),
    "NPL_SLEEP_READ": (link, "FOR_DATA"), "NPL_SLEEP_WRITE": (link, "FOR_ROOM"),
    "NPL_ARMED_READ": (link, "BYTE_FOR_DATA"), "NPL_ARMED_WRITE": (link, "BYTE_FOR_ROOM"),
    "NPL_CONTENDED": (link, "CONTENDED"), "NP_RETRY": (rendezvous, "LOOK_AGAIN"),
    **{f"NPL_ENTRY_{state}": (link, state) for state in (
        "MOVING", "LIVE", "BUSY", "PARTIAL", "WITHDRAWN", "DONE", "REWOUND", "CUT",
    )},
    **{f"NPW_{kind}": (rendezvous, kind) for kind in (
        "OPEN", "WAIT", "QUERY", "NUDGE", "DESCRIBE", "TRACE", "STAY", "HOLD", "KEEP", "FOR",
    )},
}  # fmt: skip
# Of the page's tables, the examples' offsets.
PLACES = {
    "\nA direction:": (link, {
        "TAIL": "producer.tail", "ANNOUNCED": "producer.announced", "HEAD": "consumer.head",
        "CONSUMED": "consumer.consumed", "TAKEN": "consumer.taken", "STATES": "deferred.state", "PUT": "deferred.put",
        "REWINDS": "takebacks.rewinds", "BEGIN": "takebacks.begin",
    }),
    "## 6. Sleeping": (link, {
        "FLAGS": "flags", "SEQ": "seq", "WAKE_HEAD": "wake_head", "WAKE_CONSUMED": "wake_consumed",
        "WAKE_TAKEN": "wake_taken",
    }),
}  # fmt: skip


def number_of(name: str) -> int:
    """What the page says of it."""
    found = {group for match in re.finditer(NUMBERS[name], PAGE) for group in match.groups() if group}
    assert len(found) == 1, f"the page says {found or 'nothing'} of {name}"
    return int(found.pop().replace(",", ""))


def test_the_page_has_the_engines_numbers(tmp_path: Path) -> None:
    """The engine's headers and what the page says: a compiler compares."""
    said = [f"({name}) == {number_of(name)}" for name in NUMBERS]
    for after, (structure, fields) in LAYOUTS.items():
        places = list(offsets(after))
        assert len(places) == len(fields), after
        said += [f"offsetof(struct {structure}, {name}) == {at}" for name, at in zip(fields, places, strict=True)]
    program = tmp_path / "page.c"
    headers = ["base/codes.h", "ring/segment.h", "pipe/messages.h", "pipe/directory.h"]
    lines = [f'#include "{header}"' for header in headers]
    lines += [f'_Static_assert({what}, "{what}");' for what in said]
    program.write_text("\n".join([*lines, "int main(void) { return 0; }", ""]), encoding="utf-8")
    made = subprocess.run(
        ["cc", "-std=c11", "-D_GNU_SOURCE", "-fsyntax-only", f"-I{ENGINE}", str(program)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


def test_the_examples_have_the_pages_numbers() -> None:
    assert {name: getattr(module, short) for name, (module, short) in EXAMPLES.items()} == {
        name: number_of(name) for name in EXAMPLES
    }
    for after, (module, fields) in PLACES.items():
        places = dict(zip(LAYOUTS[after][1], offsets(after), strict=True))
        assert {short: getattr(module, short) for short in fields} == {
            short: places[field] for short, field in fields.items()
        }
    segment = dict(zip(LAYOUTS["One page of header, then"][1], offsets("One page of header, then"), strict=True))
    assert (segment["side[0]"], segment["side[1]"]) == link.END_STATES
    assert (segment["sleep[0]"], segment["sleep[1]"]) == link.SLEEPS
    assert (segment["direction[0]"], segment["direction[1]"]) == link.DIRECTIONS


@pytest.mark.parametrize("row", rows("lower-case digits.\n"), ids=lambda row: str(row[0]))
def test_the_pages_folders_are_right(row: list[str]) -> None:
    """The examples of names, by the examples and by npipe."""
    from npipe.names import parse_name

    text, folder = row
    if "×" in text:
        text = "".join(word * int(count) for count, word in re.findall(r"(\d+) × `(.+?)`", text)) + "".join(
            re.findall(r"then `(.+?)`", text)
        )
        count, word, begin = re.findall(r"(\d+) × `(.+?)`, `~`, and 64 digits that begin with `(.+?)`", folder)[0]
        assert rendezvous.folder_of(text).startswith(f"{word * int(count)}~{begin}")
    else:
        text = text.strip("`")
        assert rendezvous.folder_of(text) == folder.strip("`")
    assert rendezvous.folder_of(text) == parse_name("\\\\?\\pipe\\" + text).folder


@pytest.mark.parametrize("there", ["NPIPE_ROOT", "XDG_RUNTIME_DIR", "TMPDIR", "TEMP", ""])
def test_the_root_is_found_as_npipe_finds_it(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first of these variables that applies; those before it do not."""
    import npipe

    names = ["NPIPE_ROOT", "XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP"]
    for name in names:
        monkeypatch.setenv(name, str(tmp_path / "missing") if name not in {"NPIPE_ROOT", there} else "")
    if there:
        monkeypatch.setenv(there, str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it is remembered
    found = rendezvous.root_folder()
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert found == npipe.root()
    if not Path("/run/npipe").is_dir():
        ends = {"NPIPE_ROOT": "", "XDG_RUNTIME_DIR": "/npipe"}.get(there, f"/npipe-{os.geteuid()}")
        assert found == f"{tmp_path if there else '/tmp'}{ends}"


def test_no_example_knows_npipe() -> None:
    """The examples stand on the standard library alone."""
    for path in (CHECKOUT / "examples" / "protocol").glob("*.py"):
        assert not re.search(r"^\s*(import|from) npipe", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert client.__doc__
