"""osquery's extension manager, unmodified: Thrift over overlapped pipes, between two processes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.clients.programs import as_windows, environment, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched

CORE = r"""
import sys
from osquery.TPipe import TPipeServer
from osquery.extensions import ExtensionManager
from osquery.extensions.ttypes import ExtensionResponse, ExtensionStatus
from thrift.protocol import TBinaryProtocol
from thrift.server import TServer
from thrift.transport import TTransport

class Core:
    def ping(self):
        return ExtensionStatus(code=0, message="pong \u00fc", uuid=1)

    def query(self, sql):
        status = ExtensionStatus(code=0, message="OK", uuid=1)
        return ExtensionResponse(status=status, response=[{"sql": sql, "row": str(row)} for row in range(3)])

class Pipe(TPipeServer):
    def create_named_pipe(self):
        super().create_named_pipe()
        print("listening", flush=True)

server = TServer.TSimpleServer(
    ExtensionManager.Processor(Core()),
    Pipe(sys.argv[1]),
    TTransport.TBufferedTransportFactory(),
    TBinaryProtocol.TBinaryProtocolFactory(),
)
server.serve()
"""

CLIENT = r"""
import sys
import osquery

client = osquery.ExtensionClient(path=sys.argv[1])
assert client.open(timeout=10)
manager = client.extension_manager_client()
print(manager.ping().message)
for row in manager.query("select 1").response:
    print(sorted(row.items()))
large = "x" * 300_000
print([row["sql"] == large for row in manager.query(large).response])
"""


def test_queries_of_an_extension_manager(osquery_folder: Path, tmp_path: Path, name: str) -> None:
    core = tmp_path / "core"
    core.mkdir()
    (core / "core.py").write_text(CORE)
    with subprocess.Popen(
        [sys.executable, "-m", "npipe", "run", *as_windows("osquery"), "core.py", name],
        cwd=core,
        env=environment(osquery_folder),
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n"
            for _ in range(2):  # a server takes one client after another
                place = tmp_path / "client"
                printed = run(osquery_folder, place, CLIENT, *as_windows("osquery"), arguments=(name,))
                assert printed == [
                    "pong \u00fc",
                    *(f"[('row', '{row}'), ('sql', 'select 1')]" for row in range(3)),
                    "[True, True, True]",
                ]
        finally:
            server.kill()


def test_an_extension_manager_that_is_not_there(osquery_folder: Path, tmp_path: Path, name: str) -> None:
    program = """
import sys
from osquery.TPipe import TPipe
from thrift.transport.TTransport import TTransportException
try:
    TPipe(sys.argv[1]).open()
except TTransportException as error:
    print(error.type == TTransportException.NOT_OPEN, "(2, 'CreateFile'" in str(error))
"""
    printed = run(osquery_folder, tmp_path / "client", program, *as_windows("osquery"), arguments=(name,))
    assert printed == ["True True"]
