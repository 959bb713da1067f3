"""What the reference says beside the docstrings: environment variables and limits, compared with the sources."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

import npipe
from npipe import names, options, pipe
from npipe.servers import overlapped
from tests.docs import helpers as h
from tests.helpers import CHECKOUT

REFERENCE: Final = h.DOCS / "reference"
SOURCES: Final = CHECKOUT / "src" / "npipe"


def test_the_page_of_environment_variables_has_all_that_the_sources_read_and_no_other() -> None:
    page = (REFERENCE / "environment.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(_?NPIPE_[A-Z_]+)`", page))
    package = {
        name
        for path in SOURCES.rglob("*")
        if path.suffix in (".py", ".pyx", ".pxd", ".c", ".h")
        for name in re.findall(r"[\"'](_?NPIPE_[A-Z_]+)[\"']", path.read_text(encoding="utf-8"))
    }
    remote = (SOURCES / "remote.py").read_text(encoding="utf-8")
    package |= {f"NPIPE_REMOTE_{name}" for name in re.findall(r"\b(?:get|switch)\(\"([A-Z_]+)\"", remote)}
    package -= {"NPIPE_REMOTE_"}
    inside, _, own = page.partition("## Tests and measurements")
    assert set(re.findall(r"`(_?NPIPE_[A-Z_]+)`", inside)) == package
    elsewhere = {
        name
        for folder in ("tests", "scripts", "bench", ".ci")
        for path in (CHECKOUT / folder).rglob("*")
        if path.is_file() and path.suffix in (".py", ".sh", ".c", ".h", "")
        for name in re.findall(
            r"(?:[\"'({$ ]|\b)(NPIPE_[A-Z_]+)\b(?!_)", path.read_text(encoding="utf-8", errors="replace")
        )
        if not name.endswith(("_H", "_"))
    }
    assert set(re.findall(r"`(NPIPE_[A-Z_]+)`", own)) <= elsewhere
    assert not {name for name in elsewhere if _is_read(name)} - named, "docs/reference/environment.md lacks them"


def _is_read(name: str) -> bool:
    """Whether a variable is one of the tests' own, which somebody is to set, and not one that a test makes up."""
    made_up = {"NPIPE_TEST", "NPIPE_FAST_TESTS"}
    return name not in made_up


def defined(file: str, name: str) -> int:
    """The number that a line of the engine's defines."""
    text = (SOURCES / "engine" / file).read_text(encoding="utf-8")
    found = re.search(rf"^#define {name} (.*?)(?: */\*.*)?$", text, re.MULTILINE)
    assert found, name
    return int(eval(re.sub(r"UINT64_C\((\d+)\)|(?<=\d)u\b", r"\1", found[1])))


def default(function: Any, parameter: str) -> object:
    return inspect.signature(function).parameters[parameter].default


def constant(file: str, name: str) -> float:
    """The number that a line of the package's defines, where importing it takes what is not installed."""
    found = re.search(rf"^{name}(?:: Final)? = ([\d._]+)", (SOURCES / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert found, name
    return float(found[1])


LIMITS: Final[dict[str, float]] = {
    r"length of a name, in UTF-16 units, with `\\.\pipe\`": names.MAX_NAME_UNITS,
    "length of a host's name": names._MAX_HOST,
    "bytes of a folder's name below the root; a longer one is its head and a hash, which nobody sees": (
        names._MAX_FOLDER
    ),
    "bytes of a message": options.LARGEST_MESSAGE,
    "bytes of a message from a peer that may be another user's, unless `max_message_size` says otherwise": (
        options.STRANGER_MESSAGE
    ),
    "bytes of a message to or from another machine's pipe": constant("transports/smb/files.py", "LONGEST_MESSAGE"),
    "`in_buffer_size` and `out_buffer_size`, bytes": options._MAX_DWORD,
    "`in_buffer_size` and `out_buffer_size`, where none is given": int(str(default(npipe.listen, "in_buffer_size"))),
    "bytes of a ring, the least: smaller quotas are counted exactly in it": defined("ring/segment.h", "NPL_MIN_RING"),
    "bytes of a ring, the most: greater quotas are counted exactly, and their writes wait sooner": (
        defined("ring/segment.h", "NPL_MAX_RING")
    ),
    "bytes that `read` of a stream asks for at once, where it is told no number": pipe._READ_SIZE,
    "`max_instances`, or None for no limit": options.PIPE_UNLIMITED_INSTANCES - 1,
    "processes that own instances of one name": defined("pipe/directory.h", "NPF_SLOTS"),
    'instances of a server of model "overlapped"': overlapped.MOST_INSTANCES,
    "connections of a `Pool`": options._MAX_POOL,
    "connections of a `Pool`, where no number is given": int(str(default(npipe.Pool, "size"))),
    "objects that one `WaitForMultipleObjects` takes": defined("overlapped/wait.h", "NP_MOST_OBJECTS"),
    "groups of a user that an owner looks at, to see who may connect": defined("base/identity.h", "NP_MAX_GROUPS"),
    "clients of `npipe trace` and its like at one pipe of a process": defined("ring/tap.h", "NP_MOST_TRACERS"),
    "windows of one `npipe top --web`": constant("cli/_monitor/web.py", "_MOST"),
    "`connect`, `call`: for an instance, and an answer": float(str(default(npipe.connect, "timeout"))),
    '`default_timeout` of a pipe, which `wait(timeout="default")` uses': float(
        str(default(npipe.listen, "default_timeout"))
    ),
    "`close`: for writes that other threads have under way": pipe.CLOSE_TIMEOUT,
    "a host that does not answer, where no time is given": constant("transports/smb/transport.py", "_PATIENCE"),
    "a connection to another machine, kept when its last pipe is closed": constant(
        "transports/smb/connections.py", "IDLE"
    ),
    "an exported pipe: what was written to it is kept for its client, after a close": constant(
        "transports/export/relay.py", "LINGER"
    ),
}


def test_the_page_of_limits_has_the_numbers_that_the_code_has() -> None:
    page = (REFERENCE / "limits.md").read_text(encoding="utf-8")
    told = {what: float(number) for what, number in re.findall(r"^\| (.*?) \| ([\d.]+) \|$", page, re.MULTILINE)}
    assert told == LIMITS
