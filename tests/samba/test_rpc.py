"""npipe as the transport of DCE/RPC: Samba's own srvsvc pipe, with impacket's encoder and decoder."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests.samba.test_client import HOST, _no_connection_is_left, remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.samba import PrivateSmbd

__all__ = ["_no_connection_is_left"]

pytest.importorskip("impacket", reason="`make test-samba` installs impacket")
if not any(Path(folder, "samba", "samba-dcerpcd").exists() for folder in ("/usr/libexec", "/usr/lib/x86_64-linux-gnu")):
    pytest.skip("this Samba has no samba-dcerpcd, which serves srvsvc", allow_module_level=True)

from impacket.dcerpc.v5 import rpcrt, srvs  # which needs it


class Over(rpcrt.TransportClient if hasattr(rpcrt, "TransportClient") else object):  # type: ignore[misc]
    """What impacket expects of a transport, over a message pipe."""

    def __init__(self, pipe: npipe.MessagePipe) -> None:
        self._pipe = pipe

    def connect(self) -> int:
        return 1

    def disconnect(self) -> None:
        """The test closes the pipe."""

    def get_max_frag_size(self) -> int:
        return 4280

    _max_send_frag = None
    _max_recv_frag = None

    def get_credentials(self) -> tuple[str, ...]:
        return "", "", "", "", "", "", "", ""

    def doesSupportNTLMv2(self) -> bool:  # noqa: N802 - impacket's name
        return True

    def send(self, data: bytes, *_: Any, **__: Any) -> None:
        self._pipe.send(data, timeout=20)

    def recv(self, *_: Any, **__: Any) -> bytes:
        return self._pipe.recv(timeout=20)


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
def test_the_shares_of_a_samba_are_listed(own_smbd: Callable[..., PrivateSmbd], tmp_path: Path, encrypt: bool) -> None:
    share = f"[papers]\npath = {tmp_path}\ncomment = those of the test\n"
    where = "external_rpc_pipe:socket_dir = {folder}/ncalrpc"  # Samba's own pipes are there, and not with ours
    smbd = own_smbd(extra=f"rpc start on demand helpers = yes\n{where}\n{share}")
    # A registry that an smbd with services of its own would have made.
    command = ["net", "-s", str(smbd.configuration), "registry", "createkey"]
    subprocess.run([*command, r"HKLM\SYSTEM\CurrentControlSet\Services"], check=True, capture_output=True, timeout=20)
    name = rf"\\{HOST}\pipe\srvsvc"
    with npipe.connect(name, remote=remote(smbd.port, encrypt=encrypt), timeout=30) as pipe:
        rpc = rpcrt.DCERPC_v5(Over(pipe))
        rpc.connect()
        rpc.bind(srvs.MSRPC_UUID_SRVS)
        shares = srvs.hNetrShareEnum(rpc, 1)["InfoStruct"]["ShareInfo"]["Level1"]["Buffer"]
        told = {one["shi1_netname"].rstrip("\0"): one["shi1_remark"].rstrip("\0") for one in shares}
        assert told["papers"] == "those of the test"
        assert "IPC$" in told
