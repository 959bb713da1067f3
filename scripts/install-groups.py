"""Installs dependency groups or extras of pyproject.toml into this environment: install-groups.py [--extra] NAME..."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Install what pyproject.toml lists under the given names; say in one sentence if that fails."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    extra = arguments[:1] == ["--extra"]
    table = project["project"]["optional-dependencies"] if extra else project["dependency-groups"]
    wanted = [requirement for name in arguments[extra:] for requirement in table[name]]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    if subprocess.run(command, check=False).returncode:
        print(
            f"npipe's set-up needs these from PyPI, and pip could not install them: {', '.join(wanted)}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
