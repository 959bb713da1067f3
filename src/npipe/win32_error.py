"""Win32's errors as pywin32 has them: its `error`, and what Windows says for the codes that pipes and handles give."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NO_MESSAGE", "error", "make_error", "message_of", "text_of"]

NO_MESSAGE: Final = "No error message is available"
"""What pywin32 says for a code that Windows has no text for."""


class error(Exception):  # noqa: N801, N818 - pywin32's name
    """A Win32 call failed: `error(winerror, funcname, strerror)`.

    As in pywin32 it looks like the tuple of its arguments, `args`, and takes any number of them: an attribute whose
    argument was not given is None. `pywintypes.error`, `win32pipe.error` and so on are this class.
    """

    __module__ = "pywintypes"

    winerror: int
    """The Win32 code."""
    funcname: str
    """The function of Win32 that failed."""
    strerror: str
    """Windows' text for the code."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.winerror, self.funcname, self.strerror = (*args, None, None, None)[:3]

    def __reduce__(self) -> Any:
        # Not by the name pywintypes.error, which leads here only while npipe.win32 is installed.
        return (_remake, (self.args, self.__dict__.copy())) if type(self) is error else super().__reduce__()


def _remake(args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Unpickle an `error`; on Windows it becomes pywin32's own."""
    if sys.platform == "win32":
        import pywintypes

        made: BaseException = pywintypes.error(*args)
    else:
        made = error(*args)
    made.__dict__.update(state)
    return made


note_code: Callable[[int], None] | None = None
"""What tells GetLastError of an error, when there is an engine."""


def make_error(code: int, funcname: str) -> error:
    """Return the `error` for a Win32 code, with Windows' text, to be raised by the caller."""
    if note_code is not None:
        note_code(code)
    return error(code, funcname, message_of(code) or NO_MESSAGE)


def text_of(value: object) -> str:
    """Return an argument that has to be text, as pywin32 checks it."""
    if value is None:
        raise TypeError("None is not a valid string in this context")
    if not isinstance(value, str):
        raise TypeError(f"Objects of type '{type(value).__name__}' can not be converted to Unicode.")
    return value


def message_of(code: int) -> str | None:
    """Return Windows' text for a Win32 code, without the line break at its end; None where none is known here."""
    return _MESSAGES.get(code)


_MESSAGES: Final = {
    0: "The operation completed successfully.",
    1: "Incorrect function.",
    2: "The system cannot find the file specified.",
    3: "The system cannot find the path specified.",
    4: "The system cannot open the file.",
    5: "Access is denied.",
    6: "The handle is invalid.",
    8: "Not enough memory resources are available to process this command.",
    12: "The access code is invalid.",
    13: "The data is invalid.",
    14: "Not enough memory resources are available to complete this operation.",
    17: "The system cannot move the file to a different disk drive.",
    18: "There are no more files.",
    21: "The device is not ready.",
    24: "The program issued a command but the command length is incorrect.",
    29: "The system cannot write to the specified device.",
    30: "The system cannot read from the specified device.",
    31: "A device attached to the system is not functioning.",
    32: "The process cannot access the file because it is being used by another process.",
    33: "The process cannot access the file because another process has locked a portion of the file.",
    38: "Reached the end of the file.",
    50: "The request is not supported.",
    53: "The network path was not found.",
    59: "An unexpected network error occurred.",
    64: "The specified network name is no longer available.",
    67: "The network name cannot be found.",
    71: (
        "No more connections can be made to this remote computer at this time because there are already as many "
        "connections as the computer can accept."
    ),
    80: "The file exists.",
    87: "The parameter is incorrect.",
    100: "Cannot create another system semaphore.",
    101: "The exclusive semaphore is owned by another process.",
    103: "The semaphore cannot be set again.",
    105: "The previous ownership of this semaphore has ended.",
    109: "The pipe has been ended.",
    110: "The system cannot open the device or file specified.",
    111: "The file name is too long.",
    112: "There is not enough space on the disk.",
    114: "The target internal file identifier is incorrect.",
    120: "This function is not supported on this system.",
    121: "The semaphore timeout period has expired.",
    122: "The data area passed to a system call is too small.",
    123: "The filename, directory name, or volume label syntax is incorrect.",
    124: "The system call level is not correct.",
    126: "The specified module could not be found.",
    127: "The specified procedure could not be found.",
    158: "The segment is already unlocked.",
    160: "One or more arguments are not correct.",
    161: "The specified path is invalid.",
    170: "The requested resource is in use.",
    183: "Cannot create a file when that file already exists.",
    187: "The specified system semaphore name was not found.",
    203: "The system could not find the environment option that was entered.",
    206: "The filename or extension is too long.",
    229: "The pipe is local.",
    230: "The pipe state is invalid.",
    231: "All pipe instances are busy.",
    232: "The pipe is being closed.",
    233: "No process is on the other end of the pipe.",
    234: "More data is available.",
    258: "The wait operation timed out.",
    259: "No more data is available.",
    267: "The directory name is invalid.",
    288: "Attempt to release mutex not owned by caller.",
    298: "Too many posts were made to a semaphore.",
    299: "Only part of a ReadProcessMemory or WriteProcessMemory request was completed.",
    487: "Attempt to access invalid address.",
    534: "Arithmetic result exceeded 32 bits.",
    535: "There is a process on other end of the pipe.",
    536: "Waiting for a process to open the other end of the pipe.",
    995: "The I/O operation has been aborted because of either a thread exit or an application request.",
    996: "Overlapped I/O event is not in a signaled state.",
    997: "Overlapped I/O operation is in progress.",
    998: "Invalid access to memory location.",
    1003: "Cannot complete this function.",
    1004: "Invalid flags.",
    1006: "The volume for a file has been externally altered so that the opened file is no longer valid.",
    1008: "An attempt was made to reference a token that does not exist.",
    1130: "Not enough server memory resources are available to process this command.",
    1131: "A potential deadlock condition has been detected.",
    1168: "Element not found.",
    1223: "The operation was canceled by the user.",
    1305: "The revision level is unknown.",
    1306: "Indicates two revision levels are incompatible.",
    1307: "This security ID may not be assigned as the owner of this object.",
    1309: (
        "An attempt has been made to operate on an impersonation token by a thread that is not currently "
        "impersonating a client."
    ),
    1314: "A required privilege is not held by the client.",
    1332: "No mapping between account names and security IDs was done.",
    1336: "The access control list (ACL) structure is invalid.",
    1337: "The security ID structure is invalid.",
    1338: "The security descriptor structure is invalid.",
    1346: "Either a required impersonation level was not provided, or the provided impersonation level is invalid.",
    1368: "Unable to impersonate using a named pipe until data has been read from that pipe.",
    1450: "Insufficient system resources exist to complete the requested service.",
    1460: "This operation returned because the timeout period expired.",
    1784: "The supplied user buffer is not valid for the requested operation.",
    1816: "Not enough quota is available to process this command.",
}
