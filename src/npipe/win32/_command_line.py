"""How Windows splits a command line into arguments."""

from __future__ import annotations

__all__ = ["split", "splits_of_program"]

_SPACES = " \t"


def split(text: str) -> list[str]:
    """Return the arguments of a command line, the program's name first (CommandLineToArgvW).

    Follows https://learn.microsoft.com/cpp/c-language/parsing-c-command-line-arguments
    """
    program, rest = _program(text)
    arguments = [program]
    at = 0
    while True:
        while at < len(rest) and rest[at] in _SPACES:
            at += 1
        if at == len(rest):
            return arguments
        argument, at = _argument(rest, at)
        arguments.append(argument)


def _program(text: str) -> tuple[str, str]:
    """Return (the program's name, the rest): quotation marks are all that counts in it."""
    if text.startswith('"'):
        name, _, rest = text[1:].partition('"')
        return name, rest
    end = next((place for place, letter in enumerate(text) if letter in _SPACES), len(text))
    return text[:end], text[end:]


def _argument(text: str, at: int) -> tuple[str, int]:
    """Return (an argument, where it ends).

    2n backslashes before a quotation mark are n, and the mark begins or ends a quoted part; of 2n + 1 the mark stands
    for itself. Two marks in a quoted part are one.
    """
    parts: list[str] = []
    quoted = False
    while at < len(text) and (quoted or text[at] not in _SPACES):
        begin = at
        while at < len(text) and text[at] == "\\":
            at += 1
        count = at - begin
        if at == len(text) or text[at] != '"':
            parts.append("\\" * count)
            if at < len(text) and (quoted or text[at] not in _SPACES):
                parts.append(text[at])
                at += 1
            continue
        parts.append("\\" * (count // 2))
        if count % 2:
            parts.append('"')
        elif quoted and text[at + 1 : at + 2] == '"':
            parts.append('"')
            at += 1
        else:
            quoted = not quoted
        at += 1
    return "".join(parts), at


def splits_of_program(text: str) -> list[tuple[str, str]]:
    """Return what a program's name may be, as CreateProcess tries it: [(name, the rest of the line)].

    Of a name without quotation marks every space may be part of it.
    """
    text = text.lstrip(_SPACES)
    if text.startswith('"'):
        return [_program(text)]
    ends = [place for place, letter in enumerate(text) if letter in _SPACES] + [len(text)]
    return [(text[:end], text[end:]) for end in ends]
