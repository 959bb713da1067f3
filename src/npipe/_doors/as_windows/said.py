"""A module that stands for another one, and says something else in a few of its attributes."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["standing_for"]

_MISSING: Final = object()
_dict_of: Final = cast("Callable[[ModuleType], dict[str, Any]]", vars(ModuleType)["__dict__"].__get__)


def standing_for(real: ModuleType, said: Mapping[str, Callable[[], Any]], is_open: Callable[[], bool]) -> ModuleType:
    """Return a module that is `real` in all but what it says.

    `said` has for each such attribute what gives its value. While `is_open()` is false it says nothing of its own.
    What is set or deleted goes to `real`, so `sys.stdout = file` is for all; but what is said is set for those alone
    that have this module: a test that sets `sys.platform` must not have the standard library believe it.
    """
    changed: dict[str, Any] = {}

    def value_of(name: str) -> Any:
        if is_open():
            value = changed.get(name, _MISSING)
            if value is not _MISSING:
                return value
            return said[name]()
        return getattr(real, name)

    def attribute(name: str) -> property:
        def get(_: ModuleType) -> Any:
            return value_of(name)

        def change(_: ModuleType, value: Any) -> None:
            if is_open():
                changed[name] = value
            else:
                setattr(real, name, value)

        def delete(_: ModuleType) -> None:
            if is_open():
                changed.pop(name, None)
            else:
                delattr(real, name)

        return property(get, change, delete)

    class Standing(_Standing):
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            names = said if is_open() else ()
            return {**vars(real), **{name: value_of(name) for name in names}}

        @property
        def __doc__(self) -> str | None:  # type: ignore[override]
            return real.__doc__

        def __dir__(self) -> list[str]:
            return sorted({*dir(real), *(said if is_open() else ())})

    Standing.__name__ = Standing.__qualname__ = "module"
    Standing.__module__ = "builtins"
    for name in said:
        setattr(Standing, name, attribute(name))
    made = Standing(real.__name__, real.__doc__)
    own = _dict_of(made)
    own.clear()  # whatever is not said is the other module's
    own["npipe_real"] = real
    return made


class _Standing(ModuleType):
    """See `standing_for`."""

    def npipe_reloads(self, reload: Callable[[ModuleType], object]) -> None:
        """Reload the module that this one stands for."""
        reload(_dict_of(self)["npipe_real"])

    def __getattr__(self, name: str) -> Any:
        real = _real(self)
        try:
            return getattr(real, name)
        except AttributeError as error:
            if name.startswith("__"):
                raise
            text = f"{error} (docs/porting.md has what Windows' names are here)"
            raise AttributeError(text, name=name, obj=real) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        else:
            setattr(_real(self), name, value)

    def __delattr__(self, name: str) -> None:
        if isinstance(getattr(type(self), name, None), property):
            object.__delattr__(self, name)
        else:
            delattr(_real(self), name)

    def __repr__(self) -> str:
        return repr(_real(self))


def _real(module: ModuleType) -> ModuleType:
    real: ModuleType = _dict_of(module)["npipe_real"]
    return real
