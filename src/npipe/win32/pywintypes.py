"""pywin32's `pywintypes`, as far as pipes need it: the errors, handles, OVERLAPPED, security, times and GUIDs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npipe import win32_error as _error
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import overlapped as _overlapped
from npipe.win32 import _guid, _security, _sid, _time
from npipe.win32._offered import _no_such

if TYPE_CHECKING:
    from typing import Final

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
IIDType = _guid.IIDType
TimeType = _time.TimeType
com_error = _guid.com_error

IID: Final = _guid.IID
CreateGuid: Final = _guid.CreateGuid
Time: Final = _time.Time
TimeStamp: Final = _time.TimeStamp

FALSE = 0
TRUE = 1
WAVE_FORMAT_PCM = 1

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        raise _no_such("pywintypes", name)


del annotations, TYPE_CHECKING
