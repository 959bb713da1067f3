r"""The names of pipes: every way to write one, and what makes two of them the same pipe.

    \\.\pipe\NAME   //./pipe/NAME           normalised as Windows normalises a path
    \\?\pipe\NAME   \??\pipe\NAME           literal: "/", "..", trailing dots and spaces are part of the name
    \\.\GLOBALROOT\Device\NamedPipe\NAME    the same namespace, by the device's own name
    \\HOST\pipe\NAME                        a pipe of another machine
    npipe:////./pipe/NAME                   Docker's spelling of the first (npipe face only)
    NAME                                    taken literally (npipe face only)

Names are compared without regard to case, by simple one-to-one upcasing; the case given is kept for display. A
backslash inside a name is an ordinary character: there are no folders. See SEMANTICS §1.
"""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from npipe.errors import PipeNameError, WinError

# Python imports a codec on first use, and a child that is forked while another thread is at that waits for ever.
codecs.lookup("utf-16-le")

__all__ = ["MAX_NAME_UNITS", "PipeName", "parse_name", "parse_win32_name"]

MAX_NAME_UNITS: Final = 256
r"""Longest `\\.\pipe\NAME`, prefix included, in UTF-16 code units."""

_PREFIX: Final = "\\\\.\\pipe\\"
_LITERAL_FORM: Final = "\\\\?\\pipe\\NAME"
_RAW: Final = 'write it as a raw string, r"\\\\.\\pipe\\NAME" (in a shell: in quotes), or the bare NAME'
_LITERAL_PREFIXES: Final = ("\\\\?\\", "\\??\\")
_DEVICE_PREFIX: Final = re.compile(r"[\\/]{2}[.?](?:[\\/]|\Z)")
_UNC_PREFIX: Final = re.compile(r"[\\/]{2}")
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")
_DOCKER_SCHEME: Final = re.compile(r"npipe:", re.IGNORECASE)
_ROOT_DEVICE: Final = ("globalroot", "device", "namedpipe")
_BAD_IN_HOST: Final = re.compile(r"[\x00-\x20\x7f\"*/:<>?\\|]")
_MAX_HOST: Final = 255
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_MAX_FOLDER: Final = 200
_HASHED_HEAD: Final = 100


@dataclass(frozen=True, eq=False)
class PipeName:
    """The name of a pipe, parsed. Two are equal when they mean the same pipe of the same host."""

    text: str
    """The name as the caller wrote it."""
    display: str
    r"""The name's own part, after `\\.\pipe\`, in the case given."""
    key: str
    """`display` upcased: equal for two names exactly when they mean the same pipe."""
    host: str | None = None
    r"""HOST of `\\HOST\pipe\NAME`; None for this machine. Local-only callers reject a name with a host."""

    @cached_property
    def path(self) -> str:
        r"""The full name, `\\.\pipe\NAME` or `\\HOST\pipe\NAME`, which parses to an equal name.

        Where normalising would make another name of it (a literal name with "/" or a trailing dot, say), or it has
        control characters, it is written in the literal form, `\\?\pipe\NAME` or `\\?\UNC\HOST\pipe\NAME`.
        """
        if self.host is None:
            return self.here
        return ("\\\\?\\UNC\\" if self._is_literal else "\\\\") + f"{self.host}\\pipe\\{self.display}"

    @property
    def here(self) -> str:
        """The full name of this machine's pipe of that name."""
        return ("\\\\?\\pipe\\" if self._is_literal else _PREFIX) + self.display

    @property
    def _is_literal(self) -> bool:
        return _normalise(self.display) != self.display or _CONTROL.search(self.display) is not None

    @cached_property
    def folder(self) -> str:
        """The pipe's folder name under the root: ASCII, safe in a file system, one for each `key`.

        Letters, digits, ".", "_" and "-" stand for themselves, all else is %XX of the key's UTF-8; what is longer
        than 200 bytes is its head, "~" and the key's SHA-256 ("~" itself is always escaped, so the two
        forms cannot meet). It never begins with ".": hidden names are left for the engine's own use.
        """
        raw = self.key.encode("utf-8", "surrogatepass")
        encoded = "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in raw)
        if encoded.startswith("."):
            encoded = "%2E" + encoded[1:]
        if len(encoded) <= _MAX_FOLDER:
            return encoded
        end = _HASHED_HEAD
        cut = encoded.rfind("%", end - 2, end)  # an escape that the cut would split goes as a whole
        if cut != -1:
            end = cut
        import hashlib  # rarely needed, and slow to load

        return f"{encoded[:end]}~{hashlib.sha256(raw).hexdigest()}"

    def __str__(self) -> str:
        return self.path

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PipeName):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[str, str | None]:
        return self.key, None if self.host is None else self.host.lower()


def parse_name(text: str | os.PathLike[str]) -> PipeName:
    r"""Parse a name in any form, bare names and Docker's `npipe:` form included.

    A bare name is anything that begins neither with a slash or backslash nor with `npipe:`, and means the pipe that it
    means behind `\\.\pipe\`. So one that would be changed there is refused: "/" becomes a backslash there, "." and ".."
    are folded, separators merged, and dots and spaces at the end go; taken as it is it would be a pipe that nobody else
    finds. A drive path such as `C:\x` is refused too. Control characters (a line's end, say) are refused in all forms
    but the literal one, `\\?\pipe\NAME`, in which every name can be written that Win32 has.

    Raises `PipeNameError` with 3 for an empty text or a device that is not the pipe device (`\\.\pip\x`), with 123
    for anything else that is not a pipe's name: the root itself, too long, an embedded NUL; `TypeError` for
    anything that is neither text nor a path.
    """
    return _parse_text(text) if type(text) is str else _parse(*_text_of(text))


@lru_cache(maxsize=256)
def _parse_text(text: str) -> PipeName:
    return _parse(*_text_of(text))


@lru_cache(maxsize=256)
def _parse(given: str, joined: str) -> PipeName:
    """Parse what _text_of has made of a name: programs use few names, and each many times."""
    if not joined.startswith(_LITERAL_PREFIXES) and _CONTROL.search(joined):
        if joined.startswith("\\"):
            raise _bad(given, "it has a control character", _RAW)
        raise _bad(given, "it has a control character", f"if that is meant, write {_LITERAL_FORM}")
    if _DOCKER_SCHEME.match(joined):
        rest = joined[len("npipe:") :]
        if not rest.startswith("//"):
            raise _bad(given, "after npipe: comes ////./pipe/NAME")
        # Docker puts the whole path after "npipe://"; others let "npipe:" stand before "//./pipe/NAME".
        target = rest[2:] if _UNC_PREFIX.match(rest, 2) else rest
        return _parse_path(given, target)
    if joined[0] not in "\\/":
        if _DRIVE.match(joined):
            raise _bad(given, "this is the path of a file")
        if _normalise(joined) != joined:
            raise _not_bare(given, joined)
        return _make(given, None, joined)
    return _parse_path(given, joined)


def _not_bare(given: str, joined: str) -> PipeNameError:
    """Return the error of a bare name that would be another one behind the prefix, or none."""
    same, literal = f"a bare name means the same as behind {_PREFIX}", f"{_LITERAL_FORM} for a pipe of this very name"
    try:
        becomes = _parse_path(given, _PREFIX + joined).path
    except PipeNameError:
        return _bad(given, f"{same}, where this names no pipe", f"write {literal}")
    return _bad(given, f"{same}, where this would become {becomes}", f"write that, or {literal}")


def parse_win32_name(text: str | os.PathLike[str]) -> PipeName:
    r"""Parse a name as CreateNamedPipe and CreateFile take it: a full path, so bare and `npipe:` names give 123.

    Raises as `parse_name` does.
    """
    given, joined = _text_of(text)
    return _parse_path(given, joined)


def name_in_folder(said: bytes, folder: bytes) -> str | None:
    """Return the name that its owner gives the pipe in this folder; None if it is no name, or not the folder's."""
    try:
        name = _make("", None, said.decode("utf-8", "surrogatepass"))
    except (UnicodeDecodeError, PipeNameError):
        return None
    return name.display if "\0" not in name.display and os.fsencode(name.folder) == folder else None


def is_pipe_root(text: str) -> bool:
    r"""Whether this is `\\.\pipe` or `\\.\pipe\`: the pipe file system itself (SEMANTICS §1)."""
    return text.replace("/", "\\").rstrip("\\").lower() in (r"\\.\pipe", r"\\?\pipe", r"\??\pipe")


def _text_of(text: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the text as given, and with surrogate pairs joined, so that one UTF-16 string is one Python string."""
    given: object = os.fspath(text) if isinstance(text, os.PathLike) else text
    if not isinstance(given, str):
        raise TypeError(f"the name of a pipe is str or a path of str, not {type(given).__name__}")
    if not given:
        raise PipeNameError(WinError.PATH_NOT_FOUND, given, detail="the name is empty")
    if "\0" in given:
        raise _bad(given, "a NUL cannot be part of a name")
    return given, given.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _parse_path(given: str, path: str) -> PipeName:
    """Parse the forms that are paths."""
    # Only these very characters make a literal path: "//?/" is normalised, as Windows does it.
    if path.startswith(_LITERAL_PREFIXES):
        return _parse_device(given, path[4:])
    if _DEVICE_PREFIX.match(path):
        normalised = _normalise(path[4:])
        first = next((part for part in re.split(r"[\\/]", path[4:]) if part), "")
        if _is(first, "pipe") and not _is(normalised.partition("\\")[0], "pipe"):
            raise _bad(given, "its .. leads out of the pipe device")
        return _parse_device(given, normalised, unc=False)
    if _UNC_PREFIX.match(path):
        host, share, name = _cut(path[2:].replace("/", "\\"), 3)
        # ".." cannot climb above \\HOST\SHARE.
        return _parse_unc(given, host, share, _normalise(name))
    if path.startswith("\\"):  # one backslash: two of a text that is not raw
        raise _bad(given, "this is not the path of a pipe", _RAW)
    raise _bad(given, "this is not the path of a pipe")


def _parse_device(given: str, rest: str, *, unc: bool = True) -> PipeName:
    r"""Parse what follows `\\.\` or `\\?\`: a device and the name on it. UNC is one in the literal form only."""
    device, name = _cut(rest, 2)
    if _is(device, "pipe"):
        return _make(given, None, name)
    if _is(device, _ROOT_DEVICE[0]):
        *route, name = _cut(rest, 4)
        if all(_is(part, word) for part, word in zip(route, _ROOT_DEVICE, strict=True)):
            return _make(given, None, name)
    if unc and _is(device, "unc"):
        host, share, name = _cut(name, 3)
        return _parse_unc(given, host, share, name)
    raise PipeNameError(WinError.PATH_NOT_FOUND, given, detail="this is not the pipe device")


def _parse_unc(given: str, host: str, share: str, name: str) -> PipeName:
    r"""Parse `\\HOST\pipe\NAME`, already cut into its parts."""
    if not host.strip(".") or len(host) > _MAX_HOST or _BAD_IN_HOST.search(host):
        raise _bad(given, "this is not the name of a host")
    if not _is(share, "pipe"):
        raise _bad(given, r"a pipe of a host is \\HOST\pipe\NAME")
    return _make(given, host, name)


def _make(given: str, host: str | None, name: str) -> PipeName:
    """Check what holds for every form, and make the name."""
    if not name.strip("\\"):
        raise _bad(given, "this is the root of all pipes, not a pipe")
    if len((_PREFIX + name).encode("utf-16-le", "surrogatepass")) // 2 > MAX_NAME_UNITS:
        raise _bad(given, f"longer than {MAX_NAME_UNITS} characters, prefix included", "choose a shorter one")
    return PipeName(given, name, _upcase(name), host)


def _normalise(path: str) -> str:
    r"""Normalise what follows `\\.\` as RtlGetFullPathName does.

    "/" becomes a backslash, "." and ".." are folded, separators merged, and the last component loses its trailing
    dots and spaces; a trailing backslash stays.
    """
    parts = path.replace("/", "\\").split("\\")
    kept: list[str] = []
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part not in {"", "."}:
            kept.append(part)
    if kept and not parts[-1]:
        kept.append("")
    return "\\".join(kept).rstrip(" .")


def _upcase(name: str) -> str:
    """Upcase as Windows compares: each UTF-16 unit by itself, to one other at most, so that "ß" stays "ß"."""
    if name.isascii():
        return name.upper()
    return "".join(map(_upcase_one, name))


def _upcase_one(char: str) -> str:
    # Outside the BMP a character is two units, neither of which has a case.
    if char > "\uffff":
        return char
    # Python upcases in full ("ᾳ" to two letters); where that is longer, the title case is the simple mapping.
    for mapped in (char.upper(), char.title()):
        if len(mapped) == 1:
            return mapped
    return char


def _cut(path: str, count: int) -> list[str]:
    """Split off the first `count` - 1 components; what is missing is empty."""
    parts = path.split("\\", count - 1)
    return parts + [""] * (count - len(parts))


def _is(part: str, word: str) -> bool:
    """Whether a component is this ASCII word in any case (a dotless "ı" upcases to "I", and must not pass)."""
    return part.isascii() and part.lower() == word


def _bad(given: str, detail: str, hint: str | None = None) -> PipeNameError:
    return PipeNameError(WinError.INVALID_NAME, given, detail=detail, hint=hint)
