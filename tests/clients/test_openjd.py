"""openjd's adaptor runtime, unmodified, in its branch for Windows: its server and its clients on message pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.programs import as_windows, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched

PROGRAM = r"""
import threading
from openjd.adaptor_runtime.application_ipc._actions_queue import ActionsQueue
from openjd.adaptor_runtime.application_ipc._win_adaptor_server import WinAdaptorServer
from openjd.adaptor_runtime_client import Action, ClientInterface

class Rule:
    def to_dict(self):
        return dict(source_path_format="WINDOWS", source_path="C:\\a", destination_path="/b", destination_os="LINUX")

class Adaptor:
    path_mapping_rules = [Rule()]

    def map_path(self, path):
        return path.replace("C:", "/c") + "\u00fc"

class Client(ClientInterface):
    done = []

    def render(self, args):
        self.done.append(args)

    def close(self, args):
        self.done.append("closed")

    def graceful_shutdown(self, signum, frame):
        pass

print(ClientInterface.__name__)
queue = ActionsQueue()
server = WinAdaptorServer(queue, Adaptor())
thread = threading.Thread(target=server.serve_forever)
thread.start()
client = Client(server.server_path)
client.actions["render"] = client.render
path = "C:" + "y" * 20_000
print(client.map_path(path) == "/c" + "y" * 20_000 + "\u00fc")
print(client.path_mapping_rules()[0].destination_path)
for frame in range(3):
    queue.enqueue_action(Action("render", {"frame": frame}))
queue.enqueue_action(Action("close"))
client.poll()
print(client.done)
server.shutdown()
thread.join(20)
print(thread.is_alive())
"""


def test_actions_and_paths(openjd_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "program").mkdir()
    printed = run(openjd_folder, tmp_path / "program", PROGRAM, *as_windows("openjd"))
    said = [line for line in printed if not line.startswith(("Requesting ", "Mapped ", "Performing "))]
    assert said == [
        "WinClientInterface",
        "True",
        "/b",
        "[{'frame': 0}, {'frame': 1}, {'frame': 2}, 'closed']",
        "False",
    ]
