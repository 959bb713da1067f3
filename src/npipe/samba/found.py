"""What there is of Samba on this machine, and what it has to be told."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Final

from npipe.errors import PipeStateError, WinError
from npipe.remote_access import DEFAULT_SAMBA_DIR
from npipe.samba.programs import KEEP_ALIVE, program

__all__ = ["FoundSamba", "find_samba", "lines_for"]

_ASKED: Final = ("external_rpc_pipe:socket_dir", "ncalrpc dir", "server smb encrypt", "map to guest")


@dataclass(frozen=True)
class FoundSamba:
    """An smbd of this machine, and its configuration as testparm tells it."""

    smbd: str
    version: str
    socket_dir: str | None
    """Where it looks for pipes that are not its own; None: in ncalrpc_dir."""
    ncalrpc_dir: str
    encrypt: str
    guests: str

    @property
    def samba_dir(self) -> str:
        """Where it looks for pipes now."""
        return self.socket_dir or self.ncalrpc_dir


def find_samba(configuration: str | None = None) -> FoundSamba:
    """Ask Samba's own programs. `configuration`: another smb.conf than the usual one.

    Raises PipeStateError (50) if Samba is not installed, or cannot read its configuration.
    """
    smbd = program("smbd")
    version = _said([smbd, "--version"]).removeprefix("Version ").strip()
    answers = [_asked(name, configuration) for name in _ASKED]
    return FoundSamba(smbd, version, answers[0] or None, answers[1] or DEFAULT_SAMBA_DIR, answers[2], answers[3])


def _asked(name: str, configuration: str | None) -> str:
    command = [program("testparm"), "-s", f"--parameter-name={name}", *([configuration] if configuration else [])]
    return _said(command, parametric=":" in name).strip()


def _said(command: list[str], *, parametric: bool = False) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode and not parametric:  # a parametric option that is not set is an error to testparm
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise PipeStateError(WinError.NOT_SUPPORTED, detail=f"{command[0]}: {lines[-1] if lines else done.returncode}")
    return "" if done.returncode else done.stdout


def lines_for(samba_dir: str) -> str:
    """Return the lines that an existing smb.conf wants."""
    return "\n".join(
        (
            "[global]",
            f"    external_rpc_pipe:socket_dir = {samba_dir}",
            "    # Where nobody lists this server's shares: a pipe that is not there is then told of at once.",
            "    # rpc start on demand helpers = no",
            "    # Clients that are gone without a word (a link that was cut) are noticed within half a minute by:",
            f"    # {KEEP_ALIVE}",
            "    # For all that this server shares, so they are yours to decide:",
            "    # server smb encrypt = desired",
            "    # server signing = mandatory",
            "    # restrict anonymous = 2",
            "    # map to guest = never",
        )
    )
