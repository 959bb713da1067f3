"""Running a service in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from npipe.win32._console import SetConsoleCtrlHandler

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run_service"]

_SHUTDOWN: Final = 6  # CTRL_SHUTDOWN_EVENT
_CONTROL_STOP: Final = 1
_CONTROL_SHUTDOWN: Final = 5


def run_service(cls: Any, argv: Sequence[str]) -> None:
    """Run a service until it ends, or a console event stops it."""
    service = cls(argv)

    def stop(event: int) -> bool:
        shuts_down = event == _SHUTDOWN and hasattr(service, "SvcShutdown")
        control = _CONTROL_SHUTDOWN if shuts_down else _CONTROL_STOP
        service.ServiceCtrlHandlerEx(control, 0, None)
        return True

    SetConsoleCtrlHandler(stop, True)
    try:
        service.SvcRun()
    finally:
        SetConsoleCtrlHandler(stop, False)
