"""Run one of pywin32's pipe demos, unmodified, on npipe.win32: run_demo.py WHEEL client|service [ARGUMENTS].

The service runs until its standard input ends, then it is stopped as the service control manager would.
"""

from __future__ import annotations

import codecs
import faulthandler
import importlib
import runpy
import sys
import threading
import types
from pathlib import Path
from typing import Any

PATIENCE = 40  # seconds before all stacks are printed and the process ends


class ServiceFramework:
    """win32serviceutil.ServiceFramework without a service control manager."""

    def __init__(self, args: list[str]) -> None:
        self.arguments = args

    def ReportServiceStatus(self, *_: object) -> None:  # noqa: N802
        """Nobody is told."""


def stand_in(name: str, **attributes: Any) -> None:
    """Put a module with these attributes in the place of one that is no part of the face."""
    module = types.ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module


def ansi(name: str) -> codecs.CodecInfo | None:
    """The codec of the ANSI code page, which only Windows has: UTF-8, as it can be there."""
    return codecs.lookup("utf-8") if name == "mbcs" else None


def client(script: Path, arguments: list[str]) -> None:
    """Run it as a script."""
    codecs.register(ansi)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


def service(script: Path, _arguments: list[str]) -> None:
    """Run the service's main function here, and its stop from another thread, as the real framework does."""
    stand_in(
        "servicemanager",
        LogMsg=lambda *_: print("logged", flush=True),
        EVENTLOG_INFORMATION_TYPE=4,
        PYS_SERVICE_STARTED=1,
        PYS_SERVICE_STOPPED=2,
    )
    stand_in("win32service", SERVICE_STOP_PENDING=3)
    stand_in("win32serviceutil", ServiceFramework=ServiceFramework)
    made = runpy.run_path(str(script), run_name="pipeTestService")["TestPipeService"](["PyPipeTestService"])

    def stop() -> None:
        sys.stdin.read()
        made.SvcStop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    made.SvcDoRun()
    stopping.join()


def main(wheel: str, what: str, *arguments: str) -> None:
    """Run it in the scope of the drop-in modules."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    folder = Path(wheel) / "win32"
    win32: Any = importlib.import_module("npipe.win32")
    with win32.install():
        stand_in("ntsecuritycon", **public(runpy.run_path(str(folder / "lib" / "ntsecuritycon.py"))))
        demos = folder / "Demos" / "service"
        if what == "service":
            service(demos / "pipeTestService.py", list(arguments))
        else:
            client(demos / "pipeTestServiceClient.py", list(arguments))
    faulthandler.cancel_dump_traceback_later()


def public(names: dict[str, Any]) -> dict[str, Any]:
    """Without the names that a module has of its own."""
    return {name: value for name, value in names.items() if not name.startswith("_")}


if __name__ == "__main__":
    main(*sys.argv[1:])
