"""What a module of pywin32's name offers, and what it says of a name that it has not."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["_no_such", "_offered_by", "missing_name"]

_OFFERED: Final = "npipe offers pipes, events, overlapped I/O, completion ports and what belongs to them"
_PAGE: Final = "see docs/porting.md"


def _no_such(module: str, name: str) -> AttributeError | ImportError:
    """Return the error for a name that a module of pywin32's has and npipe's has not, or that neither has.

    For a module's `__getattr__`, which raises it. `module` is pywin32's name, "win32pipe".
    """
    from npipe.win32._absent import reason_of  # here: few programs ask for what is not there

    reason = reason_of(module, name)
    but = "" if reason is None else f", but not {reason}"
    about = f"{_OFFERED}{but}; {_PAGE}"
    return missing_name(module, name, about, sys.modules.get(f"npipe.win32.{module}"), depth=3)


def missing_name(
    module: str, name: str, about: str, owner: object = None, *, depth: int = 2
) -> AttributeError | ImportError:
    """Return the error for a name that a module has not, which says why: AttributeError, or ImportError.

    For a module's `__getattr__`, which raises it; who asked that stands `depth` calls above this. The statement `from
    module import name` passes on an ImportError, and puts one without a reason in the place of an AttributeError.
    """
    if _imports_a_name(sys._getframe(depth)):  # noqa: SLF001 - who asks
        return ImportError(f"cannot import name {name!r} from {module!r} ({about})", name=module)
    return AttributeError(f"module {module!r} has no attribute {name!r} ({about})", name=name, obj=owner)


def _imports_a_name(frame: FrameType) -> bool:
    """Return whether code is at such a statement."""
    from opcode import opmap

    code, place = frame.f_code.co_code, frame.f_lasti
    return 0 <= place < len(code) and code[place] == opmap["IMPORT_FROM"]


def _offered_by(names: dict[str, object]) -> list[str]:
    """Return which of a module's globals a `from win32api import *` gives: not what it has imported for itself."""
    return [
        name
        for name, value in names.items()
        if not name.startswith("_")
        and name not in ("annotations", "TYPE_CHECKING")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", None) not in _HELPERS
    ]


_HELPERS: Final = (
    "npipe.errors",
    "npipe.names",
    "npipe.transports.local",
    "npipe.win32._access",
    "npipe.win32._inheritance",
    "npipe.win32._services",
    "npipe.win32_error",
    __name__,
    "pathlib",
    "pathlib._local",  # in Python 3.13
    "typing",
    "uuid",
)
