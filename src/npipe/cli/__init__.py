"""The command `npipe`: Microsoft's pipe programs, and a look at what pipes there are.

It needs click and rich, which the extra `cli` installs (`pip install 'npipe[cli]'`); the library does not.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (None: those of this process) and return its exit status.

    0 is success, 1 a failure, which has its line on standard error, 2 a wrong use, 130 the end by Ctrl-C.
    """
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        sys.stderr.write(f"npipe: the command needs {error.name or 'click and rich'}: pip install 'npipe[cli]'\n")
        return 1
    try:
        from npipe.cli.app import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # so early or late that no command could take it
        return 130
