r"""Every error that the faces raise, as a table: what is done, and what it says.

Each case provokes its error for real. The texts have words in capitals for what differs from run to run: NAME for
the pipe's full name, ROOT for the root folder, PID for the server's process, USER for who runs this. docs/errors.md has
the same texts, without the codes' own words; tests/faces/test_error_texts.py compares.

    .venv/bin/python -m tests.faces.error_cases        # prints what is raised, for both faces
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from tests.faces import error_cases_opening, error_cases_pipes, error_cases_remote, error_cases_tracing
from tests.faces.error_table import CASES, expected_of, provoke, shown

__all__ = ["CASES", "error_cases_opening", "error_cases_pipes", "error_cases_remote", "error_cases_tracing"]


def main() -> None:
    """Print everything."""
    logging.disable()
    for number, one in enumerate(CASES):
        for kind in one.faces:
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder, "root")
                root.parent.chmod(0o711)
                os.environ["NPIPE_ROOT"] = str(root)
                if one.root_only:
                    root.mkdir()
                    root.chmod(0o1777)
                print(f"--- {one.title} [{kind}]", flush=True)
                try:
                    error = provoke(one, kind, f"case-{number}")
                except BaseException as other:
                    print(f"    !!! {type(other).__name__}: {other}")
                    continue
                said = shown(error)
                wrong = type(error) is not one.kind or said != expected_of(one, error)
                print(f"    {type(error).__name__} {said}" + ("   <<<<<<" if wrong else ""))


if __name__ == "__main__":
    main()
