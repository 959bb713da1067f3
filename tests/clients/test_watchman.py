"""pywatchman, unmodified: its named pipe, which is kernel32's overlapped I/O by ctypes."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.clients.programs import as_windows, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched

PROGRAM = """
import sys
import pywatchman

pipe = pywatchman.SockPath(named_pipe=sys.argv[1])
client = pywatchman.client(sockpath=pipe, transport="namedpipe", sendEncoding="json", recvEncoding="json", timeout=20)
for _ in range(3):
    answer = client.query("find", "\\u00e9", "*.py")
    print(answer["asked"], len(answer["files"]), answer["files"][-1])
client.setTimeout(0.2)
try:
    client.query("slow")
except pywatchman.SocketTimeout as error:
    print(str(error).partition(",")[0])
client.close()
try:
    pywatchman.client(sockpath=pywatchman.SockPath(named_pipe=sys.argv[1] + "-no"), transport="namedpipe").query("x")
except pywatchman.SocketConnectError as error:
    print("error code: 2" in str(error))
"""


@pytest.fixture
def watchman(name: str) -> Iterator[str]:
    """A pipe's path, at which one client's lines of JSON are answered as watchman does, but for "slow"."""

    def answer(listener: npipe.Listener[npipe.StreamPipe]) -> None:
        with listener.accept(timeout=30) as pipe, pipe.makefile("rwb") as file:
            while line := file.readline():
                asked = json.loads(line)
                if asked[0] != "slow":
                    files = [f"{number}.py" for number in range(20_000)]
                    file.write(json.dumps({"version": "1", "asked": asked, "files": files}).encode() + b"\n")
                    file.flush()

    with npipe.listen(name, mode="byte") as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        yield name
        thread.join()


@pytest.mark.parametrize("compatible", ["", "1"], ids=["GetOverlappedResultEx", "WaitForSingleObjectEx"])
def test_a_service_is_asked_by_overlapped_calls(
    compatible: str, watchman: str, watchman_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHMAN_WIN7_COMPAT", compatible)
    printed = run(watchman_folder, tmp_path / "program", PROGRAM, *as_windows("pywatchman"), arguments=(watchman,))
    answer = "['find', '\u00e9', '*.py'] 20000 19999.py"
    assert printed == [answer, answer, answer, "timed out after waiting 200ms for read", "True"]
