"""Installs dependency groups or extras of pyproject.toml into this environment.

install-groups.py [--extra | --each] NAME...

With --each every requirement is installed on its own, from a wheel, and one for which there is none is left out with a
sentence: what a benchmark compares with need not be there.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

_PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def main(arguments: list[str]) -> int:
    """Install what pyproject.toml lists under the given names; say in one sentence if that fails."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    options = [argument for argument in arguments if argument.startswith("--")]
    table = project["project"]["optional-dependencies"] if "--extra" in options else project["dependency-groups"]
    wanted = [requirement for name in arguments[len(options) :] for requirement in table[name]]
    if "--each" in options:
        if subprocess.run([*_PIP, "--only-binary", ":all:", *wanted], check=False, capture_output=True).returncode:
            for requirement in wanted:
                _try(requirement)
        return 0
    if subprocess.run([*_PIP, *wanted], check=False).returncode:
        print(
            f"npipe's set-up needs these from PyPI, and pip could not install them: {', '.join(wanted)}",
            file=sys.stderr,
        )
        return 1
    return 0


def _try(requirement: str) -> None:
    if subprocess.run([*_PIP, "--only-binary", ":all:", requirement], check=False, capture_output=True).returncode:
        print(f"left out, as there is no wheel of it for this Python and machine: {requirement}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
