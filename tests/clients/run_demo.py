"""Run one of pywin32's pipe demos, unmodified, on npipe.win32: run_demo.py WHEEL client|service [ARGUMENTS].

The service runs until its standard input ends; then it gets SIGTERM.
"""

from __future__ import annotations

import codecs
import faulthandler
import importlib
import os
import runpy
import signal
import sys
import threading
from pathlib import Path
from typing import Any

PATIENCE = 40  # seconds before all stacks are printed and the process ends


def ansi(name: str) -> codecs.CodecInfo | None:
    """The codec of the ANSI code page, which only Windows has: UTF-8, as it can be there."""
    return codecs.lookup("utf-8") if name == "mbcs" else None


def client(script: Path, arguments: list[str]) -> None:
    """Run it as a script."""
    codecs.register(ansi)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


def service(script: Path, _arguments: list[str]) -> None:
    """Run it as a script, with `debug`; it is stopped as its supervisor would stop it."""

    def stop() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    sys.argv = [str(script), "debug"]
    runpy.run_path(str(script), run_name="__main__")


def main(wheel: str, what: str, *arguments: str) -> None:
    """Run it in the scope of the drop-in modules."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    folder = Path(wheel) / "win32"
    win32: Any = importlib.import_module("npipe.win32")
    with win32.install():
        demos = folder / "Demos" / "service"
        if what == "service":
            service(demos / "pipeTestService.py", list(arguments))
        else:
            client(demos / "pipeTestServiceClient.py", list(arguments))
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(*sys.argv[1:])
