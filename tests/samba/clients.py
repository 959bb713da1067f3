"""Other people's SMB clients."""

from __future__ import annotations

import uuid
from typing import Any, Self

from smbprotocol.connection import Connection
from smbprotocol.ioctl import CtlCode, IOCTLFlags, SMB2IOCTLRequest, SMB2IOCTLResponse
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    FileAttributes,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    ShareAccess,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

PASSWORD = "s3cret-of-the-tests"


class Client:
    """smbprotocol, connected to IPC$ of 127.0.0.1."""

    def __init__(self, port: int, user: str = "alice", *, password: str = PASSWORD, encrypt: bool = False) -> None:
        self.connection = Connection(uuid.uuid4(), "127.0.0.1", port, require_signing=True)
        self.connection.connect(timeout=20)
        self.session = Session(self.connection, user, password, require_encryption=encrypt, auth_protocol="ntlm")
        self.session.connect()
        self.tree = TreeConnect(self.session, r"\\127.0.0.1\IPC$")
        self.tree.connect(require_secure_negotiate=False)

    def open(self, name: str) -> Open:
        """CreateFile."""
        pipe = Open(self.tree, name)
        pipe.create(
            ImpersonationLevel.Impersonation,
            FilePipePrinterAccessMask.GENERIC_READ | FilePipePrinterAccessMask.GENERIC_WRITE,
            FileAttributes.FILE_ATTRIBUTE_NORMAL,
            ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE,
            CreateDisposition.FILE_OPEN,
            CreateOptions.FILE_NON_DIRECTORY_FILE,
        )
        return pipe

    def begin(self, pipe: Open, data: bytes, size: int = 65536) -> Any:
        """Send a TRANSCEIVE; return the request, whose answer `end` gives."""
        request = SMB2IOCTLRequest()
        request["ctl_code"] = CtlCode.FSCTL_PIPE_TRANSCEIVE
        request["file_id"] = pipe.file_id
        request["max_output_response"] = size
        request["flags"] = IOCTLFlags.SMB2_0_IOCTL_IS_FSCTL
        request["buffer"] = data
        return self.connection.send(request, self.session.session_id, self.tree.tree_connect_id)

    def end(self, request: Any) -> bytes:
        """Return the answer to a TRANSCEIVE."""
        response = SMB2IOCTLResponse()
        response.unpack(self.connection.receive(request, timeout=30)["data"].get_value())
        answer: bytes = response["buffer"].get_value()
        return answer

    def call(self, pipe: Open, data: bytes) -> bytes:
        """TransactNamedPipe."""
        return self.end(self.begin(pipe, data))

    def close(self) -> None:
        self.connection.disconnect(True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
