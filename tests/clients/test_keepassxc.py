"""keepassxc-proxy-client, unmodified: a password manager's encrypted protocol over win32file."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import pytest

from tests.clients.programs import as_windows, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched

SERVER = """
import base64, json
from nacl.public import Box, PrivateKey, PublicKey

key, boxes = PrivateKey.generate(), []


def text(data):
    return base64.b64encode(data).decode()


def answer(request):
    asked = json.loads(request)
    nonce = base64.b64decode(asked["nonce"])
    if asked["action"] == "change-public-keys":
        boxes.append(Box(key, PublicKey(base64.b64decode(asked["publicKey"]))))
        answer = {"publicKey": text(bytes(key.public_key)), "success": "true"}
    else:
        inner = json.loads(boxes[-1].decrypt(base64.b64decode(asked["message"]), nonce))
        inner = {"hash": "of " + inner["action"], "id": "an id", "success": "true"}
        answer = {"message": text(boxes[-1].encrypt(json.dumps(inner).encode(), nonce).ciphertext)}
    return json.dumps({"action": asked["action"], "nonce": text(nonce), **answer}).encode()
"""

PROGRAM = """
import npipe, sys
from keepassxc_proxy_client import protocol
from server import answer

with npipe.serve("org.keepassxc.KeePassXC.BrowserServer_" + sys.argv[1], answer):
    connection = protocol.Connection()
    connection.connect()
    print(connection.get_databasehash(), connection.associate(), connection.test_associate())
    connection.socket.close()
try:
    protocol.Connection().connect()
except Exception as error:
    print(error.args[1].winerror)
"""


def test_a_password_manager_is_asked(keepassxc_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "program"
    place.mkdir()
    (place / "server.py").write_text(SERVER, encoding="utf-8")
    switches = as_windows("keepassxc_proxy_client")
    printed = run(keepassxc_folder, place, PROGRAM, *switches, arguments=(getpass.getuser(),))
    assert printed == ["of get-databasehash True True", "2"]
