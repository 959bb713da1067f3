"""The command `npipe`: Microsoft's pipe programs, and a look at what pipes there are.

It needs click and rich, which the extra `cli` installs (`pip install 'npipe[cli]'`); the library does not, and `demo`
does not either.
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
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not _has_libraries(words):
            return 1
        if words == ["demo"]:
            from npipe.cli.demonstration.story import tell

            return tell()
        from npipe.cli.app import run

        return run(words)
    except KeyboardInterrupt:  # so early or late that no command could take it
        return 130


def _has_libraries(words: list[str]) -> bool:
    """Whether the libraries are there that a command line needs; if not, say so."""
    if words == ["demo"]:
        return True
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        sys.stderr.write(
            f"npipe: the command needs {error.name or 'click and rich'}: pip install 'npipe[cli]' "
            "(`python -m npipe demo` does without)\n"
        )
        return False
    return True
