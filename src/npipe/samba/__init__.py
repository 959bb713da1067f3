"""Samba for pipes: what an existing one has to be told, and a private smbd with users of its own."""

from npipe.samba.private import PrivateSmbd
from npipe.samba.programs import program

__all__ = ["PrivateSmbd", "program"]
