"""The program of Microsoft's article "Named Pipe Client" over SMB, by smbprotocol.

article_client.py HOST PORT NAME USER; the password is $DEMO_PASSWORD.
"""

from __future__ import annotations

import os
import sys
import uuid

from smbprotocol.connection import Connection
from smbprotocol.exceptions import SMBException
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

MESSAGE = "Default message from client."


def main(host: str, port: str, name: str, user: str) -> int:
    """Print the article's transcript; 1 if something fails."""
    connection = Connection(uuid.uuid4(), host, int(port), require_signing=True)
    connection.connect(timeout=10)
    try:
        session = Session(connection, user, os.environ["DEMO_PASSWORD"], auth_protocol="ntlm")
        session.connect()
        tree = TreeConnect(session, rf"\\{host}\IPC$")
        tree.connect(require_secure_negotiate=False)
        pipe = Open(tree, name)
        try:
            pipe.create(
                ImpersonationLevel.Impersonation,
                FilePipePrinterAccessMask.GENERIC_READ | FilePipePrinterAccessMask.GENERIC_WRITE,
                FileAttributes.FILE_ATTRIBUTE_NORMAL,
                ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE,
                CreateDisposition.FILE_OPEN,
                CreateOptions.FILE_NON_DIRECTORY_FILE,
            )
            data = f"{MESSAGE}\0".encode("utf-16-le")
            print(f'Sending {len(data)} byte message: "{MESSAGE}"')
            pipe.write(data)
            print("\nMessage sent to server, receiving reply as follows:")
            print(f'"{pipe.read(0, 65536).decode("utf-16-le").removesuffix(chr(0))}"')
            print("\n<End of message, press ENTER to terminate connection and exit>")
            pipe.close()
        except SMBException as error:
            print(f"Could not talk to the pipe: {error}")
            return 1
    finally:
        connection.disconnect(True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
