"""Samba's programs on this machine."""

from __future__ import annotations

import os
import shutil
from typing import Final

from npipe.errors import PipeStateError, WinError

__all__ = ["KEEP_ALIVE", "program"]

KEEP_ALIVE: Final = (
    "socket options = TCP_NODELAY SO_KEEPALIVE TCP_KEEPIDLE=10 TCP_KEEPINTVL=5 TCP_KEEPCNT=4 TCP_USER_TIMEOUT=30000"
)
"""What smb.conf has to say for clients whose machine or link is gone to be noticed.

By itself smbd keeps them, and their pipes, for hours.
"""

_PLACES: Final = ("/usr/sbin", "/usr/local/sbin", "/usr/local/samba/sbin", "/usr/local/samba/bin")


def program(name: str) -> str:
    """Return the path of one of Samba's programs ("smbd", "pdbedit", "testparm"), which users need not have in $PATH.

    Raises PipeStateError (50) if Samba is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_PLACES])
    found = shutil.which(name, path=path)
    if found is None:
        raise PipeStateError(
            WinError.NOT_SUPPORTED,
            detail=f"Samba is not installed: there is no {name} (Debian's and Fedora's package is samba)",
        )
    return found
