"""An echo server as a process, for tests: `python -P -m npipe.servers.echo NAME OPTIONS`, with serve's options in JSON.

It says `ready` when it listens, and ends when its standard input does: with whoever has started it, at the latest.
"""

from __future__ import annotations

import json
import signal
import sys

from npipe.servers import serve

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    name, options = arguments
    with serve(name, bytes, **json.loads(options)):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main(sys.argv[1:])
