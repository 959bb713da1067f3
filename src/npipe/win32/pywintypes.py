"""pywin32's `pywintypes`, as far as pipes need it: the error, handles, OVERLAPPED, security attributes."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from npipe import win32_error as _error
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import overlapped as _overlapped
from npipe.win32 import _security, _sid
from npipe.win32._offered import _no_such

error = _error.error

HANDLE = _handles.PyHANDLE
HANDLEType = _handles.PyHANDLE
OVERLAPPED = _overlapped.OVERLAPPED
OVERLAPPEDType = _overlapped.OVERLAPPED

SECURITY_ATTRIBUTES = _security.SECURITY_ATTRIBUTES
SECURITY_DESCRIPTOR = _security.SECURITY_DESCRIPTOR
ACL = _security.ACL
SID = _sid.SID
ACLType = _security.ACL
SECURITY_ATTRIBUTESType = _security.SECURITY_ATTRIBUTES
SECURITY_DESCRIPTORType = _security.SECURITY_DESCRIPTOR
SIDType = _sid.SID
TimeType = dt.datetime


class com_error(Exception):  # noqa: N801, N818 - pywin32's name
    """A COM call failed; nothing here raises it, programs name it beside `error`."""

    __module__ = "pywintypes"

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.hresult: object
        self.strerror: object
        self.excepinfo: object
        self.argerror: object
        self.hresult, self.strerror, self.excepinfo, self.argerror = (*args, None, None, None, None)[:4]


FALSE = 0
TRUE = 1
WAVE_FORMAT_PCM = 1

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        raise _no_such("pywintypes", name)


del annotations, TYPE_CHECKING
