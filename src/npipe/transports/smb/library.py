"""What is used of smbprotocol and pyspnego, which have no types: these here, and Any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "KERBEROS_ERRORS",
    "Commands",
    "Connection",
    "CreateDisposition",
    "CreateOptions",
    "CtlCode",
    "Dialects",
    "FileInformationClass",
    "IOCTLFlags",
    "ImpersonationLevel",
    "NegotiateOptions",
    "NtStatus",
    "Open",
    "SMB2CloseRequest",
    "SMB2CreateRequest",
    "SMB2FlushRequest",
    "SMB2IOCTLRequest",
    "SMB2ReadRequest",
    "SMB2SetInfoRequest",
    "SMB2WriteRequest",
    "SMBAuthenticationError",
    "SMBException",
    "SMBResponseException",
    "Session",
    "ShareAccess",
    "Smb2Flags",
    "SpnegoError",
    "TreeConnect",
    "spnego_client",
]

if TYPE_CHECKING:
    import threading

    Commands: Any
    CreateDisposition: Any
    CreateOptions: Any
    CtlCode: Any
    Dialects: Any
    FileInformationClass: Any
    IOCTLFlags: Any
    ImpersonationLevel: Any
    NegotiateOptions: Any
    NtStatus: Any
    Open: Any
    SMB2CloseRequest: Any
    SMB2CreateRequest: Any
    SMB2FlushRequest: Any
    SMB2IOCTLRequest: Any
    SMB2ReadRequest: Any
    SMB2SetInfoRequest: Any
    SMB2WriteRequest: Any
    Session: Any
    ShareAccess: Any
    Smb2Flags: Any
    TreeConnect: Any
    spnego_client: Any

    KERBEROS_ERRORS: tuple[type[Exception], ...]

    class SMBException(Exception):  # noqa: N818 - its name
        """What smbprotocol raises."""

    class SMBAuthenticationError(SMBException):
        """No proof of who one is could be made."""

    class SMBResponseException(SMBException):
        """The server has answered with an error."""

        header: Any

    class SpnegoError(Exception):
        """What pyspnego raises."""

    class Connection:
        """What is used of a connection, its private parts too."""

        dialect: int
        max_read_size: int
        max_transact_size: int
        max_write_size: int
        session_table: dict[int, Any]
        _t_worker: threading.Thread | None

        def __init__(self, guid: object, server_name: str, port: int, require_signing: bool) -> None:
            """Connect nothing yet."""

        def connect(self, dialect: object = None, timeout: float | None = None) -> None:
            """Negotiate."""

        def send(self, message: Any, *, sid: int, tid: int, credit_request: int | None = None) -> Any:
            """Send a request, and return it."""

        def verify_signature(self, header: Any, session_id: int, force: bool = False) -> None:
            """Check an answer's signature."""

        def _process_message_thread(self) -> None: ...

else:
    from contextlib import suppress
    from importlib import import_module

    from smbprotocol import Dialects
    from smbprotocol.connection import Connection
    from smbprotocol.exceptions import SMBAuthenticationError, SMBException, SMBResponseException
    from smbprotocol.file_info import FileInformationClass
    from smbprotocol.header import Commands, NtStatus, Smb2Flags
    from smbprotocol.ioctl import CtlCode, IOCTLFlags, SMB2IOCTLRequest
    from smbprotocol.open import (
        CreateDisposition,
        CreateOptions,
        ImpersonationLevel,
        Open,
        ShareAccess,
        SMB2CloseRequest,
        SMB2CreateRequest,
        SMB2FlushRequest,
        SMB2ReadRequest,
        SMB2SetInfoRequest,
        SMB2WriteRequest,
    )
    from smbprotocol.session import Session
    from smbprotocol.tree import TreeConnect
    from spnego import NegotiateOptions
    from spnego import client as spnego_client
    from spnego.exceptions import SpnegoError

    KERBEROS_ERRORS = ()
    for _library, _name in (("krb5", "Krb5Error"), ("gssapi.exceptions", "GSSError")):
        with suppress(ImportError, OSError):  # pyspnego[kerberos] is not installed, or Kerberos itself is not
            KERBEROS_ERRORS += (getattr(import_module(_library), _name),)
