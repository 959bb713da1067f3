"""Samba for pipes, on Linux: what an existing one has to be told, and a private smbd with users of its own."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

from npipe.samba.private import PrivateSmbd
from npipe.samba.programs import program

__all__ = ["PrivateSmbd", "program"]
