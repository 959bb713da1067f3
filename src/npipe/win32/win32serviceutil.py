"""pywin32's `win32serviceutil`: the frame of a service, which runs in the foreground here.

`python SERVICE.py debug` runs it until Ctrl-C or SIGTERM, which call its SvcStop. There is no service control manager:
`install`, `start` and so on say so. The supervisor of this system (systemd, a container) runs the same command.
"""
# ruff: noqa: N802, N803, T201 - pywin32's names; the command line is answered by what is printed

from __future__ import annotations

import getopt
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from npipe import win32_error as _error
from npipe.win32 import servicemanager, win32service
from npipe.win32._offered import _no_such, _offered_by
from npipe.win32._services import run_service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final, NoReturn

error = RuntimeError

_COMMANDS = ("install", "update", "remove", "start", "stop", "restart")
_OPTIONS = ("password=", "username=", "startup=", "perfmonini=", "perfmondll=", "interactive", "wait=")


def _no_manager(function: str) -> NoReturn:
    text = "There is no service control manager here: run the service with 'debug'. See docs/porting.md."
    raise _error.error(50, function, text)


class ServiceFramework:
    """What a service is derived from: it has _svc_name_, _svc_display_name_, SvcDoRun and SvcStop."""

    _svc_name_ = ""
    _svc_deps_: Any = None
    _exe_name_: str | None = None
    _exe_args_: str | None = None
    _svc_description_: str | None = None

    def __init__(self, args: Sequence[str]) -> None:
        self.ssh: object = None  # nobody is told of its state, as when it is debugged on Windows
        servicemanager.RegisterServiceCtrlHandler(args[0], self.ServiceCtrlHandlerEx, True)
        servicemanager.SetEventSourceName(self._svc_name_)
        self.checkPoint = 0

    def GetAcceptedControls(self) -> int:
        """Return SERVICE_ACCEPT_* for what it has methods for."""
        accepted = 0
        if hasattr(self, "SvcStop"):
            accepted |= win32service.SERVICE_ACCEPT_STOP
        if hasattr(self, "SvcPause") and hasattr(self, "SvcContinue"):
            accepted |= win32service.SERVICE_ACCEPT_PAUSE_CONTINUE
        if hasattr(self, "SvcShutdown"):
            accepted |= win32service.SERVICE_ACCEPT_SHUTDOWN
        return accepted

    def ReportServiceStatus(
        self, serviceStatus: int, waitHint: int = 5000, win32ExitCode: int = 0, svcExitCode: int = 0
    ) -> None:
        """Nobody is told."""

    def SvcInterrogate(self) -> None:
        """Report that it runs."""
        self.ReportServiceStatus(win32service.SERVICE_RUNNING)

    def SvcOther(self, control: int) -> None:
        """Say that a control is not known."""
        print(f"Unknown control status - {control}")

    def SvcOtherEx(self, control: int, event_type: int, data: object) -> object:
        """Handle a control that has no method of its own."""
        del event_type, data
        self.SvcOther(control)
        return None

    def ServiceCtrlHandler(self, control: int) -> object:
        """Handle a control."""
        return self.ServiceCtrlHandlerEx(control, 0, None)

    def ServiceCtrlHandlerEx(self, control: int, event_type: int, data: object) -> object:
        """Handle a control: SERVICE_CONTROL_*, by the method of its name."""
        name = {
            win32service.SERVICE_CONTROL_STOP: "SvcStop",
            win32service.SERVICE_CONTROL_PAUSE: "SvcPause",
            win32service.SERVICE_CONTROL_CONTINUE: "SvcContinue",
            win32service.SERVICE_CONTROL_INTERROGATE: "SvcInterrogate",
            win32service.SERVICE_CONTROL_SHUTDOWN: "SvcShutdown",
        }.get(control)
        return self.SvcOtherEx(control, event_type, data) if name is None else getattr(self, name)()

    def SvcRun(self) -> None:
        """Run it: SvcDoRun is the service's own."""
        self.ReportServiceStatus(win32service.SERVICE_RUNNING)
        self.SvcDoRun()  # type: ignore[attr-defined]
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING)


def DebugService(cls: Any, argv: Sequence[str] = ()) -> None:
    """Run a service in the foreground, until it ends or is stopped: by Ctrl-C, or SIGTERM."""
    print(f"Debugging service {cls._svc_name_} - press Ctrl+C to stop.", flush=True)
    servicemanager.Debugging(1)
    servicemanager.PrepareToHostSingle(cls)
    try:
        run_service(cls, [cls._svc_name_, *argv])
    finally:
        servicemanager.Debugging(0)


def GetServiceClassString(cls: Any, argv: Sequence[str] | None = None) -> str:
    """Return "FILE.CLASS", by which pywin32 finds a service's class."""
    argv = sys.argv if argv is None else argv
    module = cls.__module__
    if module == "__main__":
        module = str(Path(argv[0]).absolute().with_suffix(""))
    return f"{module}.{cls.__name__}"


def usage() -> NoReturn:
    """Print what HandleCommandLine takes, and exit."""
    print(f"Usage: '{Path(sys.argv[0]).name} debug [...]'")
    print("It runs the service in this process until Ctrl-C. Windows' other commands (install, update, remove, start,")
    print("stop, restart) need a service control manager, which is not here: see docs/porting.md.")
    sys.exit(1)


def HandleCommandLine(
    cls: Any,
    serviceClassString: str | None = None,
    argv: Sequence[str] | None = None,
    customInstallOptions: str = "",
    customOptionHandler: Callable[..., Any] | None = None,
) -> int:
    """Do what a service's command line says: `debug` runs it here.

    Return 0, or 50 for a command that needs a service control manager; other lines print how to call it, and exit.
    """
    del serviceClassString, customOptionHandler
    argv = sys.argv if argv is None else argv
    if len(argv) <= 1:
        usage()
    try:
        _options, arguments = getopt.getopt(list(argv[1:]), customInstallOptions, list(_OPTIONS))
    except getopt.error as details:
        print(details)
        usage()
    if arguments[:1] == ["debug"]:
        DebugService(cls, arguments[1:])
        return 0
    if not arguments or arguments[0] not in _COMMANDS:
        print(f"Unknown command - '{arguments[0] if arguments else ''}'")
        usage()
    try:
        _no_manager("OpenSCManager")
    except _error.error as failure:
        print(f"Error: {failure.strerror} ({failure.winerror})")
        return failure.winerror


def _manager_function(name: str) -> Callable[..., NoReturn]:
    def function(*_arguments: object, **_options: object) -> NoReturn:
        _no_manager("OpenSCManager")

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name}: raises 50, there is no service control manager here."
    return function


InstallService: Final = _manager_function("InstallService")
ChangeServiceConfig: Final = _manager_function("ChangeServiceConfig")
RemoveService: Final = _manager_function("RemoveService")
ControlService: Final = _manager_function("ControlService")
StartService: Final = _manager_function("StartService")
StopService: Final = _manager_function("StopService")
StopServiceWithDeps: Final = _manager_function("StopServiceWithDeps")
RestartService: Final = _manager_function("RestartService")
QueryServiceStatus: Final = _manager_function("QueryServiceStatus")
WaitForServiceStatus: Final = _manager_function("WaitForServiceStatus")


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("win32serviceutil", name)


del annotations, TYPE_CHECKING
