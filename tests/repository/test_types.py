"""What type checkers say to a program that uses npipe: mypy --strict, and pyright, on the oldest Python there is."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCES = CHECKOUT / "src"
OLDEST = "3.11"  # requires-python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def has(package: str) -> pytest.MarkDecorator:
    """Skip where a tool of `make build/stamp-tools` is not in the environment."""
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: the group lint of pyproject.toml has it")


def mypy(folder: Path) -> str:
    """What mypy says to a folder; nothing when it is content."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--python-version",
            OLDEST,
            "--config-file=",
            ".",
        ],
        cwd=folder,
        env=os.environ | {"MYPYPATH": str(SOURCES), "MYPY_CACHE_DIR": str(CHECKOUT / ".mypy_cache" / "users")},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def pyright(folder: Path, *arguments: str) -> Any:
    """What pyright says, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SOURCES), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.lstrip().startswith("{"), done.stdout + done.stderr
    return json.loads(done.stdout)


def pyright_errors(folder: Path) -> list[str]:
    settings = {"typeCheckingMode": "strict", "pythonVersion": OLDEST}
    settings |= {"reportMissingModuleSource": "none", "reportUnusedImport": "none"}  # a sample shows how to import
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    return [
        f"{one['file']}:{one['range']['start']['line'] + 1}: {one['message']}"
        for one in pyright(folder, ".")["generalDiagnostics"]
    ]


checkers = pytest.mark.parametrize(
    "check", [pytest.param(mypy, id="mypy"), pytest.param(pyright_errors, id="pyright", marks=has("basedpyright"))]
)


@has("basedpyright")
@pytest.mark.slow
def test_every_public_name_has_a_type_that_pyright_knows(tmp_path: Path) -> None:
    told = pyright(tmp_path, "--verifytypes", "npipe", "--ignoreexternal")["typeCompleteness"]
    wrong = [
        f"{one['name']}: {'; '.join(message['message'] for message in one['diagnostics'])}"
        for one in told["symbols"]
        if not one["isTypeKnown"] or one["isTypeAmbiguous"]
    ]
    assert not wrong
    assert told["completenessScore"] == 1
    assert told["exportedSymbolCounts"]["withKnownType"] > 2000


PROGRAMS_OF_OTHERS = {"howto_port_pywin32_pipes", "howto_testing_in_ci_agent", "howto_testing_in_ci_test_agent"}
"""Samples that show programs for Windows as they were found, without types."""


def samples() -> dict[str, str]:
    """The Python samples of README and the docs, by a name for a file. Those of a page import each other."""
    found = {}
    pages = [CHECKOUT / "README.md", CHECKOUT / "SECURITY.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
    for page in pages:
        place = page.relative_to(CHECKOUT).with_suffix("").as_posix().removeprefix("docs/").lower()
        prefix = re.sub(r"\W", "_", place)
        texts = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        stems = [named[1] if (named := re.match(r"# (\w+)\.py\n", text)) else "" for text in texts]
        names = [f"{prefix}_{stem or number}" for number, stem in enumerate(stems, 1)]
        for number, name in enumerate(names):  # a later version of a file is another one
            if name in names[:number]:
                names[number] = f"{name}_{number}"
        for number, text in enumerate(texts):
            ours = {}  # what it imports: the last version before it, or the first behind it
            for other in (*range(len(texts) - 1, number, -1), *range(number)):
                ours[stems[other]] = names[other]
            found[f"{names[number]}.py"] = with_imports(text, ours)
    return found


def with_imports(text: str, ours: dict[str, str]) -> str:
    """A sample that imports other samples by the names of their files."""
    for stem, name in ours.items():
        if stem:
            text = re.sub(rf"^import {stem}$", f"import {name} as {stem}", text, flags=re.MULTILINE)
            text = re.sub(rf"^from {stem} import", f"from {name} import", text, flags=re.MULTILINE)
    return text


@checkers
@pytest.mark.slow
def test_the_samples_of_readme_and_docs_pass(check: Callable[[Path], object], tmp_path: Path) -> None:
    found = samples()
    assert len(found) >= 70
    for name in PROGRAMS_OF_OTHERS:
        del found[f"{name}.py"]
    for file, text in found.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    assert not check(tmp_path)


BUFFERS = """
import array
import ctypes
import mmap
{imports}

import npipe
import npipe.aio


def sync(pipe: npipe.MessagePipe, stream: npipe.StreamPipe, {arguments}) -> None:
    doubles, mapped, c_bytes = array.array("d", [1.0]), mmap.mmap(-1, 4), (ctypes.c_ubyte * 4)()
    for room in bytearray(4), doubles, mapped, c_bytes, memoryview(bytearray(4)):
        pipe.recv_into(room)
        stream.readinto(room)
        pipe.send(room)
        stream.write(room)
    pipe.send(b"")
{array}


async def on_a_loop(pipe: npipe.aio.MessagePipe, stream: npipe.aio.StreamPipe, {arguments}) -> None:
    room = array.array("d", [1.0])
    await pipe.recv_into(room)
    await stream.readinto(room)
    await pipe.send(room)
    await stream.write(room)
{async_array}
"""

WITH_ARRAYS = {
    "imports": "\nimport numpy as np\nimport numpy.typing as npt",
    "arguments": "frame: npt.NDArray[np.float32]",
    "array": """
    pipe.send(frame)
    pipe.send(frame[1])
    pipe.recv_into(frame, exact=True, timeout=1)
    pipe.transact(frame)
    stream.write(frame)
    stream.readinto(frame)
    npipe.call("shout", frame)


def doubled(request: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(request, dtype=np.float32) * np.float32(2)


def serve() -> None:
    npipe.serve("shout", doubled)
""",
    "async_array": """
    await pipe.send(frame)
    await pipe.recv_into(frame)
    await pipe.transact(frame)
    await stream.write(frame)
    await stream.readinto(frame)
    await npipe.aio.call("shout", frame)
""",
}


@checkers
@pytest.mark.slow
def test_the_standard_library_s_buffers_pass(check: Callable[[Path], object], tmp_path: Path) -> None:
    nothing = {"imports": "", "arguments": "*_: object", "array": "", "async_array": ""}
    (tmp_path / "buffers.py").write_text(BUFFERS.format(**nothing))
    assert not check(tmp_path)


@has("numpy")
@checkers
@pytest.mark.slow
def test_numpy_s_arrays_pass_as_buffers(check: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "arrays.py").write_text(BUFFERS.format(**WITH_ARRAYS))
    assert not check(tmp_path)


POOLS = """
import npipe
import npipe.aio


def ask(pool: npipe.Pool, bytewise: npipe.Pool[npipe.StreamPipe]) -> bytes:
    with pool.connection() as pipe, bytewise.connection() as stream:
        return pipe.recv() + stream.read(5)


async def ask_on_a_loop(pool: npipe.aio.Pool) -> bytes:
    async with pool.connection() as pipe:
        return await pipe.recv()


with npipe.Pool("shout") as messages, npipe.Pool("flow", mode="byte") as streams:
    ask(messages, streams)
"""


@checkers
@pytest.mark.slow
def test_a_pool_is_one_of_message_pipes_unless_it_says_otherwise(
    check: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "pools.py").write_text(POOLS)
    assert not check(tmp_path)


WRONG = (
    'pipe.send("text")',
    "pipe.send(5)",
    "pipe.recv(4096)",
    "pipe.recv_into([])",
    "pipe.read()",
    "pipe.adopt()",
    'npipe.connect("shout", rights="write")',
    'npipe.listen("shout", mode="massage")',
    "npipe.PipeError().filename.upper()",
)


@checkers
def test_what_is_wrong_does_not_pass(check: Callable[[Path], object], tmp_path: Path) -> None:
    for number, call in enumerate(WRONG):
        text = f"import npipe\n\n\ndef use(pipe: npipe.MessagePipe) -> None:\n    {call}\n"
        (tmp_path / f"wrong_{number}.py").write_text(text)
    told = str(check(tmp_path))
    assert [call for number, call in enumerate(WRONG) if f"wrong_{number}.py:5: " not in told] == []
