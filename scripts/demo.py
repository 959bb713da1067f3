"""The main job: a multithreaded server in a process of its own, and the article's client against it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading

NAME = r"\\.\pipe\mynamedpipe"


def main() -> int:
    """Run the demonstration; the client's exit status."""
    with tempfile.TemporaryDirectory(prefix="npipe-demo-") as folder:
        environment = {**os.environ, "NPIPE_ROOT": folder}
        command = [sys.executable, "-m", "npipe"]
        print(f"$ npipe serve {NAME} &", flush=True)
        server = subprocess.Popen([*command, "serve", NAME], env=environment, stderr=subprocess.PIPE, text=True)
        lines = server.stderr
        assert lines is not None
        try:
            print(lines.readline(), end="", flush=True)  # it listens now
            log = threading.Thread(target=lambda: [print(line, end="", flush=True) for line in lines])
            log.start()
            print(f"$ npipe client {NAME}", flush=True)
            client = subprocess.run([*command, "client", NAME], env=environment, check=False, stdin=subprocess.DEVNULL)
            print(flush=True)
        finally:
            server.terminate()
            server.wait(20)
        log.join()
    return client.returncode or server.returncode


if __name__ == "__main__":
    sys.exit(main())
