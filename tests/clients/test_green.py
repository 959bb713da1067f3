"""Programs that gevent or eventlet has patched: what works in them, and what says what to do (docs/servers.md)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PATCHED = {
    "gevent": (
        "import gevent.monkey; gevent.monkey.patch_all()",
        "import gevent; from gevent.socket import wait_read; spawn = gevent.spawn; result = lambda green: green.get()",
    ),
    "eventlet": (
        "import eventlet; eventlet.monkey_patch()",
        (
            "from eventlet.hubs import trampoline; wait_read = lambda fd: trampoline(fd, read=True); "
            "spawn = eventlet.spawn; result = lambda green: green.wait()"
        ),
    ),
}


def run(folder: Path, kind: str, script: str, name: str) -> str:
    patch, names = PATCHED[kind]
    lines = [
        "import sys, warnings",
        "warnings.simplefilter('ignore')",
        f"sys.path.append({str(folder)!r})",
        patch,
        names,
    ]
    program = "\n".join([*lines, "import npipe", "name = sys.argv[1]", textwrap.dedent(script)])
    done = subprocess.run(
        [sys.executable, "-c", program, name], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", PATCHED)
def test_a_green_thread_waits_by_the_descriptor_and_others_go_on(green_folder: Path, kind: str, name: str) -> None:
    script = """
        import select
        said = []
        with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept() as server:
            def answer():
                wait_read(server.fileno())
                said.append("asked")
                server.send(server.recv(timeout=0).upper())
            green = spawn(answer)
            client.send(b"question")
            assert select.select([client], [], [], 20)[0] == [client]
            print(client.recv(timeout=0), said)
            result(green)
        """
    assert run(green_folder, kind, script, name) == "b'QUESTION' ['asked']\n"


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
@pytest.mark.parametrize("kind", PATCHED)
def test_serve_does_not_freeze_but_says_what_to_do(green_folder: Path, kind: str, name: str, model: str) -> None:
    script = f"""
        try:
            npipe.serve(name, bytes.upper, model={model!r})
        except npipe.PipeStateError as error:
            print(error.winerror, error)
        """
    said = run(green_folder, kind, script, name)
    assert said.startswith("50 ")
    assert f"{kind} has put green threads in the place of threads" in said
    assert "a process of its own" in said
