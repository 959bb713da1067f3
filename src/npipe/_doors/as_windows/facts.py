"""What Windows 10 says of itself to Python: its name, versions, machine."""

from __future__ import annotations

import platform
import sys
from typing import Any, Final, NamedTuple

__all__ = ["BUILD", "FACTS_OF_PLATFORM", "MAJOR", "MINOR", "windows_version"]

MAJOR: Final = 10
MINOR: Final = 0
BUILD: Final = 19045
_VERSION: Final = f"{MAJOR}.{MINOR}.{BUILD}"
_MACHINES: Final = {"x86_64": "AMD64", "aarch64": "ARM64", "i386": "x86", "i686": "x86"}


class _WindowsVersion(NamedTuple):
    major: int
    minor: int
    build: int
    platform: int
    service_pack: str


class _SysWindowsVersion(_WindowsVersion):
    """A tuple of five, with more attributes."""

    service_pack_major = 0
    service_pack_minor = 0
    suite_mask = 256
    product_type = 1
    platform_version = (MAJOR, MINOR, BUILD)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"sys.getwindowsversion({fields})"


def windows_version() -> Any:
    """Return what `sys.getwindowsversion()` does."""
    return _SysWindowsVersion(MAJOR, MINOR, BUILD, 2, "")


def _system() -> str:
    return "Windows"


def _release() -> str:
    return str(MAJOR)


def _version() -> str:
    return _VERSION


def _machine() -> str:
    real = platform.machine()
    return _MACHINES.get(real, real)


def _processor() -> str:
    return platform.processor() or _machine()


def _uname() -> platform.uname_result:
    return platform.uname_result(_system(), platform.node(), _release(), _version(), _machine())


def _platform(aliased: bool = False, terse: bool = False) -> str:
    del aliased
    return f"Windows-{MAJOR}" if terse else f"Windows-{MAJOR}-{_VERSION}-SP0"


def _win32_ver(release: str = "", version: str = "", csd: str = "", ptype: str = "") -> tuple[str, str, str, str]:
    del release, version, csd, ptype
    return str(MAJOR), _VERSION, "SP0", "Multiprocessor Free"


def _win32_edition() -> str:
    return "Professional"


def _win32_is_iot() -> bool:
    return False


def _architecture(executable: str = sys.executable, bits: str = "", linkage: str = "") -> tuple[str, str]:
    return platform.architecture(executable, bits, linkage)[0], "WindowsPE"


def _libc_ver(*_: object, **__: object) -> tuple[str, str]:
    return "", ""


FACTS_OF_PLATFORM: Final = {
    "system": _system,
    "release": _release,
    "version": _version,
    "machine": _machine,
    "processor": _processor,
    "uname": _uname,
    "platform": _platform,
    "win32_ver": _win32_ver,
    "win32_edition": _win32_edition,
    "win32_is_iot": _win32_is_iot,
    "architecture": _architecture,
    "libc_ver": _libc_ver,
}
"""The functions of the module `platform` that have something to say."""
