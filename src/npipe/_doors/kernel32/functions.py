"""What a function of a library is: ctypes' own function object, whose code is a Python function of ours.

Each function that `exported` registers gets an entry point in memory (a ctypes callback) when it is first asked for. A
program's function objects call that address, so `argtypes`, `restype`, `errcheck`, prototypes with parameter flags,
and the conversions of arguments are ctypes' own. What the entry point cannot see, the types of what the addresses point
to, the object hands over beside the call (`Call`).
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.kernel32 import memory
from npipe._doors.kernel32.call import Call
from npipe.binding.win32 import handles as _handles
from npipe.errors import PipeError
from npipe.win32_error import error

if TYPE_CHECKING:
    from collections.abc import Callable

    _FunctionType = Any
else:
    _FunctionType = ctypes._CFuncPtr  # noqa: SLF001

__all__ = [
    "EXPORTS",
    "WINFUNCTYPE",
    "Absent",
    "Export",
    "Function",
    "exported",
    "exported_text",
    "get_last_error",
    "missing",
    "set_last_error",
]

_FUNCFLAG_CDECL: Final = 1
_FUNCFLAG_USE_ERRNO: Final = 8
_WRITE_FAULT: Final = 29
_NOT_FOUND: Final = "npipe offers what programs with pipes use (docs/porting.md)"

_KINDS: Final = {
    "h": ctypes.c_ssize_t,  # a HANDLE
    "p": ctypes.c_size_t,  # an address
    "w": ctypes.c_size_t,  # of a text
    "a": ctypes.c_size_t,  # of a text of bytes
    "q": ctypes.c_size_t,  # a number of a pointer's size
    "d": ctypes.c_uint32,  # a DWORD
    "l": ctypes.c_int32,  # a LONG or a BOOL
}
"""The parameters of functions, by the letters that `exported` takes."""

_ADDRESSES: Final = "hpwaq"


class _Thread(threading.local):
    """What belongs to a thread."""

    def __init__(self) -> None:
        self.last_error = 0  # ctypes' own copy
        self.call: Call | None = None  # what the next entry point is called with


_thread: Final = _Thread()
_making: Final = threading.RLock()  # of entry points


class Export:
    """A function of a library: its name, its parameters, and its entry point."""

    def __init__(self, name: str, kinds: str, code: Callable[..., Any], failure: int) -> None:
        self.name = name
        self.kinds = kinds
        self._code = code
        self._failure = failure
        self._entry: Any = None

    @property
    def address(self) -> int:
        """Where it begins; for good."""
        with _making:  # a second one would end the first, which has been called perhaps
            if self._entry is None:
                types = [_KINDS[kind] for kind in self.kinds]
                self._entry = ctypes.CFUNCTYPE(ctypes.c_size_t, *types)(self._run)
        return ctypes.cast(self._entry, ctypes.c_void_p).value or 0

    def _run(self, *values: int) -> int:
        call, _thread.call = _thread.call, None
        if call is None:  # by its address alone
            return self._result_of(Call(), values)
        if call.uses_last_error:
            _exchange_last_error()
        try:
            return self._result_of(call, values)
        except BaseException as failure:  # noqa: BLE001 - the caller raises it: C does not carry it
            call.error = failure
            return 0
        finally:
            if call.uses_last_error:  # here: errcheck, and a restype that is a function, find it
                _exchange_last_error()

    def _result_of(self, call: Call, values: tuple[int, ...]) -> int:
        call.wide = not self.name.endswith("A")
        try:
            result = self._code(call, *(self._argument(call, index, value) for index, value in enumerate(values)))
        except error as failure:
            _handles.set_last_error(failure.winerror)
            return self._failure
        except PipeError as failure:
            _handles.set_last_error(failure.winerror)
            return self._failure
        except OSError as failure:  # of an ordinary file
            _handles.set_last_error(memory.CODES.get(failure.errno or 0, _WRITE_FAULT))
            return self._failure
        except MemoryError:
            _handles.set_last_error(8)
            return self._failure
        return 1 if result is None else result & 0xFFFFFFFFFFFFFFFF

    def _argument(self, call: Call, index: int, value: int) -> Any:
        kind = self.kinds[index]
        if kind == "w":
            return memory.wide_text_at(value, call.arguments[index] if index < len(call.arguments) else None)
        if kind == "a":
            return memory.text_at(value)
        if kind == "h" and value >= 0xFFFFFFFE:
            return value - (1 << 32)
        return value


class Absent(Export):
    """A function that a library has not: it can be named and given types; its call is the AttributeError."""

    def __init__(self, library: str, name: str) -> None:
        super().__init__(name, "", self._fail, 0)
        self.library = library

    def _fail(self, _call: Call) -> None:
        raise missing(self.library, self.name)  # by its address alone: Python prints it


EXPORTS: Final[dict[str, dict[str, Export]]] = {"kernel32": {}, "advapi32": {}}
"""What each library has, by name."""


def exported(
    name: str, kinds: str, *, library: str = "kernel32", failure: int = 0
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a Python function as a library's: `code(call, *values)`, one value for each letter of `kinds`.

    It returns the result as a number, None for TRUE. If it raises npipe.win32's `error` the result is `failure`, and
    the code is the last error. A text is a str, or None for NULL; what else is given by address comes as the address.
    """

    def register(code: Callable[..., Any]) -> Callable[..., Any]:
        EXPORTS[library][name] = Export(name, kinds, code, failure)
        return code

    return register


def exported_text(
    name: str, kinds: str, *, library: str = "kernel32", failure: int = 0
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register NAMEW and NAMEA; `t` is a text in either's characters."""

    def register(code: Callable[..., Any]) -> Callable[..., Any]:
        for letter in "WA":
            text_kinds = kinds.replace("t", letter.lower())
            exported(name + letter, text_kinds, library=library, failure=failure)(code)
        return code

    return register


def missing(library: str, name: object) -> AttributeError:
    """Return the error for a function that a library has not."""
    what = f"function ordinal {name} not found" if isinstance(name, int) else f"function {name!r} not found"
    return AttributeError(f"{what} in {library}: {_NOT_FOUND}", name=str(name))


class Function(_FunctionType):  # type: ignore[misc]
    """A function pointer as ctypes has it, which also takes `(name, library)` of a library of ours."""

    _flags_ = _FUNCFLAG_CDECL
    _restype_ = ctypes.c_int
    _last_error_ = False  # use_last_error

    _export: Export | None = None
    _has_flags = False
    _check: Callable[..., Any] | None = None

    def __new__(cls, *arguments: Any) -> Any:
        """Make one of `(name, library)` and flags for its parameters, of an address, or of a Python function."""
        library = arguments[0][1] if arguments and _is_reference(arguments[0]) else None
        if library is None:
            return super().__new__(cls, *arguments)
        export = library.export(arguments[0][0])
        # By way of any function there is: only so ctypes takes the parameters' flags.
        made = super().__new__(cls, ("Py_IsInitialized", ctypes.pythonapi), *arguments[1:])
        ctypes.c_void_p.from_address(ctypes.addressof(made)).value = export.address
        made._export = export
        made._has_flags = len(arguments) > 1 and arguments[1] is not None
        return made

    @property
    def errcheck(self) -> Any:
        """What looks at the result: `errcheck(result, function, arguments)`, with the program's own arguments."""
        return self._check if self._check is not None else super().errcheck

    @errcheck.setter
    def errcheck(self, check: Callable[..., Any]) -> None:
        ctypes_own: Any = _FunctionType.errcheck
        ctypes_own.__set__(self, check)  # TypeError for what cannot be called
        if self._export is not None and not self._has_flags:
            ctypes_own.__delete__(self)
            self._check = check

    @errcheck.deleter
    def errcheck(self) -> None:
        self._check = None
        ctypes_own: Any = _FunctionType.errcheck
        ctypes_own.__delete__(self)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it, as ctypes does."""
        if self._export is None:
            return self._called(arguments, keywords)
        if isinstance(self._export, Absent):
            raise missing(self._export.library, self._export.name)
        if self._has_flags:
            return self._run(Call(uses_last_error=self._last_error_), arguments, keywords)
        call = Call(arguments, uses_last_error=self._last_error_)
        result = self._run(call, self._prepared(self._export, arguments), keywords)
        if self._check is None:
            return result
        checked = self._check(result, self, arguments)
        return result if checked is arguments else checked

    def _run(self, call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        before, _thread.call = _thread.call, call  # a signal's handler may call between here and there
        try:
            result = super().__call__(*arguments, **keywords)
        except BaseException:
            if call.error is None:
                raise
        finally:
            _thread.call = before
        if call.error is not None:
            raise call.error
        return result

    def _called(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if not self._last_error_:
            return super().__call__(*arguments, **keywords)
        _exchange_last_error()
        try:
            return super().__call__(*arguments, **keywords)
        finally:
            _exchange_last_error()

    def _prepared(self, export: Export, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments as ctypes on Windows would take them; raises TypeError for their number."""
        declared = self.argtypes
        needed, given = len(export.kinds), len(arguments)
        if declared is not None and len(declared) != given:
            needed = len(declared)
        if given < needed or (declared is not None and given != needed):
            raise TypeError(f"this function takes {needed} argument{'' if needed == 1 else 's'} ({given} given)")
        if declared is not None:
            return tuple(map(memory.same_on_windows, arguments, declared))
        return tuple(
            # Without a type a number is an int; what is to be an address is not cut down to it.
            ctypes.c_void_p(value) if isinstance(value, int) and kind in _ADDRESSES else value
            for value, kind in zip(arguments, export.kinds, strict=False)
        )


def _is_reference(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and hasattr(value[1], "export")


# ---- Errors: ctypes' own copy of the last error


def get_last_error() -> int:
    """Return ctypes' private copy of this thread's last error, of functions with `use_last_error`."""
    return _thread.last_error


def set_last_error(value: int) -> int:
    """Set ctypes' private copy of this thread's last error, and return what it was."""
    before, _thread.last_error = _thread.last_error, value & 0xFFFFFFFF
    return before


def _exchange_last_error() -> None:
    own = _thread.last_error
    _thread.last_error = _handles.get_last_error()
    _handles.set_last_error(own)


# ---- Prototypes

_prototypes: dict[tuple[Any, ...], type] = {}


def WINFUNCTYPE(restype: Any, *argtypes: Any, use_errno: bool = False, use_last_error: bool = False) -> Any:  # noqa: N802
    """Return a type of functions: of callbacks, of addresses, and of `(name, library)`; the same one for the same."""
    key = (restype, argtypes, use_errno, use_last_error)
    if key not in _prototypes:
        members = {
            "_argtypes_": argtypes,
            "_restype_": restype,
            "_flags_": _FUNCFLAG_CDECL | (_FUNCFLAG_USE_ERRNO if use_errno else 0),
            "_last_error_": use_last_error,
            "__module__": "ctypes",
        }
        _prototypes[key] = type("WinFunctionType", (Function,), members)
    return _prototypes[key]
