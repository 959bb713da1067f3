"""Which names are files of this system, and which are devices."""

from __future__ import annotations

from npipe.win32_error import make_error, text_of

__all__ = ["is_device", "local_path"]


def is_device(name: str) -> bool:
    r"""Return whether a name is not a file's: `\\.\...`, `\\?\pipe\...`, `\\HOST\...`."""
    if name.startswith("\\\\?\\/"):  # a path of this system, in the form for long ones
        return False
    return name.replace("/", "\\").startswith(("\\\\", "\\??\\"))


def local_path(name: object, function: str) -> str:
    r"""Return the path of a file of this system; raises 5 for a device's name. `\\?\` before it is taken away."""
    text = text_of(name)
    if not text:
        raise make_error(3, function)
    if is_device(text):
        raise make_error(5, function)
    return text.removeprefix("\\\\?\\")
