"""pywin32's `servicemanager`: what a service says and is told, for one that runs in the foreground.

There is no service control manager here. A service runs as an ordinary process, as with `debug` on Windows: Ctrl-C and
SIGTERM stop it, and what it would put into the event log is printed to stderr.
"""
# ruff: noqa: N802, N803, T201 - pywin32's names; its messages are for whoever started it

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from npipe.win32._offered import _no_such, _offered_by
from npipe.win32._services import run_service
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

EVENTLOG_ERROR_TYPE = 1
EVENTLOG_WARNING_TYPE = 2
EVENTLOG_INFORMATION_TYPE = 4
EVENTLOG_AUDIT_SUCCESS = 8
EVENTLOG_AUDIT_FAILURE = 16
PYS_SERVICE_STARTING = 0x40001001
PYS_SERVICE_STARTED = 0x40001002
PYS_SERVICE_STOPPING = 0x40001003
PYS_SERVICE_STOPPED = 0x40001004

_WORDS = {1: "Error", 2: "Warning", 4: "Info", 8: "Audit success", 16: "Audit failure"}
_TEXTS = {
    PYS_SERVICE_STARTING: "The service {0} is starting.{1}",
    PYS_SERVICE_STARTED: "The service {0} has started.{1}",
    PYS_SERVICE_STOPPING: "The service {0} is stopping.{1}",
    PYS_SERVICE_STOPPED: "The service {0} has stopped.{1}",
}


class startup_error(Exception):  # noqa: N801, N818 - pywin32's name
    """A service could not be started."""


def LogMsg(errorType: int, eventId: int, inserts: Sequence[str] | None = None, /) -> None:
    """Print a message of the event log: an EVENTLOG_*_TYPE, a number, and what stands in its text."""
    parts = [str(insert) for insert in inserts or ()]
    text = _TEXTS[eventId].format(*(*parts, "", "")) if eventId in _TEXTS else ", ".join(parts)
    print(f"{_WORDS.get(errorType, errorType)} 0x{eventId & 0xFFFFFFFF:X} - {text}", file=sys.stderr, flush=True)


def LogInfoMsg(msg: str, /) -> None:
    """Print a message."""
    print(f"Info - {msg}", file=sys.stderr, flush=True)


def LogWarningMsg(msg: str, /) -> None:
    """Print a warning."""
    print(f"Warning - {msg}", file=sys.stderr, flush=True)


def LogErrorMsg(msg: str, /) -> None:
    """Print an error."""
    print(f"Error - {msg}", file=sys.stderr, flush=True)


_debugging = False
_hosted: list[Any] = []


def Debugging(newVal: int = -1, /) -> bool:
    """Return whether a service is being debugged; a number that is not negative sets it, and the one before comes."""
    global _debugging
    before = _debugging
    if newVal >= 0:
        _debugging = bool(newVal)
    return before


def RunningAsService() -> bool:
    """Return False: it is an ordinary process."""
    return False


def Initialize(eventSourceName: str | None = None, eventSourceFile: str | None = None, /) -> None:
    """Nothing has to be done."""


def Finalize() -> None:
    """Nothing has to be done."""


def SetEventSourceName(sourceName: str, registerNow: object = False, /) -> None:
    """Nothing has to be done: what is printed comes from this process."""


def PumpWaitingMessages(firstMessage: int = 0, lastMessage: int = 0, /) -> int:
    """Return 0: there are no messages of windows."""
    del firstMessage, lastMessage
    return 0


def RegisterServiceCtrlHandler(serviceName: str, callback: Callable[..., Any], extra_args: object = False, /) -> None:
    """Return None, as for a service that is debugged: nobody but Ctrl-C and SIGTERM controls it."""


def PrepareToHostSingle(klass: Any = None, /) -> None:
    """Note which class of service StartServiceCtrlDispatcher runs."""
    _hosted[:] = [klass]


def PrepareToHostMultiple(service_name: str, klass: Any, /) -> None:
    """Note one more class of service. Only one can run in the foreground."""
    del service_name
    _hosted.append(klass)


def StartServiceCtrlDispatcher() -> None:
    """Run the service in the foreground until it ends or is stopped: by Ctrl-C, or SIGTERM.

    Raises 1063 (there is none, or more than one).
    """
    if len(_hosted) != 1 or _hosted[0] is None:
        raise make_error(1063, "StartServiceCtrlDispatcher")
    run_service(_hosted[0], [_hosted[0]._svc_name_])


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("servicemanager", name)


del annotations, TYPE_CHECKING
