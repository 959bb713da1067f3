"""pywin32's `pywintypes`, as far as pipes need it: the error, handles, OVERLAPPED, security attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npipe import _engine
from npipe.win32 import _error, _security, _sid
from npipe.win32._error import _no_such

error = _error.error

HANDLE = _engine.PyHANDLE
HANDLEType = _engine.PyHANDLE
OVERLAPPED = _engine.OVERLAPPED
OVERLAPPEDType = _engine.OVERLAPPED

SECURITY_ATTRIBUTES = _security.SECURITY_ATTRIBUTES
SECURITY_DESCRIPTOR = _security.SECURITY_DESCRIPTOR
ACL = _security.ACL
SID = _sid.SID

FALSE = 0
TRUE = 1
WAVE_FORMAT_PCM = 1

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        raise _no_such("pywintypes", name)


del annotations, TYPE_CHECKING
