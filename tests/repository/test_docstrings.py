"""What hover and help() show of the public names: that there is something, that it is whole, and the meaning first."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
import npipe.anyio
from npipe.win32 import completion
from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FACES = (npipe, npipe.aio, npipe.anyio)

# asyncio's and anyio's own methods, whose words are theirs, with what is another here.
FOREIGN = {"PipeTransport", "PipeServer", "PipeEventLoop", "PipeAttribute"}


def classes() -> Iterator[tuple[str, type]]:
    for face in FACES:
        for name in face.__all__:
            if inspect.isclass(getattr(face, name)):
                yield f"{face.__name__}.{name}", getattr(face, name)


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, and method of a public class that npipe defines."""
    for face in FACES:
        for name in face.__all__:
            if inspect.isfunction(getattr(face, name)):
                yield f"{face.__name__}.{name}", getattr(face, name)
    for path, kind in classes():
        for name in dir(kind):
            found = inspect.getattr_static(kind, name)
            function = found.__func__ if isinstance(found, (classmethod, staticmethod)) else found
            if inspect.isfunction(function) and function.__module__.startswith("npipe") and not name.startswith("_"):
                yield f"{path}.{name}", function


def properties() -> Iterator[tuple[str, property]]:
    for path, kind in classes():
        for name in dir(kind):
            found = inspect.getattr_static(kind, name)
            if isinstance(found, property) and not name.startswith("_"):
                yield f"{path}.{name}", found


def words(thing: object) -> str:
    return inspect.cleandoc(getattr(thing, "__doc__", None) or "")


EVERYTHING: dict[str, Any] = {**dict(classes()), **dict(functions()), **dict(properties())}
OWN = {path: thing for path, thing in functions() if path.split(".")[-2] not in FOREIGN}


@pytest.mark.parametrize("path", EVERYTHING)
def test_every_public_name_has_a_docstring_whose_first_sentence_says_what_it_is(path: str) -> None:
    first = words(EVERYTHING[path]).partition("\n\n")[0]
    assert re.match(r"[`\"A-Z]", first), first
    assert first.endswith((".", ":")), first
    assert "\n" not in first, first


@pytest.mark.parametrize("path", OWN)
def test_a_function_s_docstring_names_its_parameters_and_what_it_returns(path: str) -> None:
    text = words(OWN[path])
    signature = inspect.signature(OWN[path])
    if re.search(r"^See [\w.]+\.$", text):
        return  # asyncio's or anyio's own, as it is
    for name in signature.parameters:
        if name not in ("self", "cls") and not name.startswith("_"):
            assert re.search(rf"`{name}`|^ *{name}: ", text, re.MULTILINE), (name, text)
    returned = str(signature.return_annotation)
    if returned not in ("None", "Coroutine[Any, Any, None]", "NoReturn"):
        assert re.search(r"\b[Rr]eturn|\bWhether\b|\b[Rr]eceive|^(Messages|Pieces) ", text), text


@pytest.mark.parametrize("path", OWN)
def test_a_function_that_waits_or_opens_says_what_it_raises(path: str) -> None:
    if {"timeout", "name"} & set(inspect.signature(OWN[path]).parameters):
        assert re.search(r"^Raises:$|\braises?\b|\bno error\b|are ended", words(OWN[path]), re.MULTILINE)


@pytest.mark.parametrize("path", [path for path in EVERYTHING if not path.split(".")[1].endswith("Error")])
def test_the_meaning_stands_before_its_code(path: str) -> None:
    text = words(EVERYTHING[path])
    assert not re.search(r"\(\d+: ", text), text
    for section in re.findall(r"^Raises:\n((?:    .*\n?|\n)+)", text, re.MULTILINE):
        for item in re.findall(r"^    (\S.*)", section, re.MULTILINE):
            assert re.match(r"\w+Error: [a-z`\"]", item), item


def test_every_page_that_a_docstring_names_is_there() -> None:
    named = set()
    for face in (*FACES, completion):
        named |= set(re.findall(r"\b((?:docs/)?[\w-]+\.md)\b", words(face)))
    for thing in EVERYTHING.values():
        named |= set(re.findall(r"\b((?:docs/)?[\w-]+\.md)\b", words(thing)))
    assert {"docs/servers.md", "docs/aio.md", "docs/semantics.md"} <= named
    assert all((CHECKOUT / page).is_file() for page in named), named


def test_the_objects_that_a_program_gets_have_the_words_of_their_classes(name: str) -> None:
    for mode, kind in (("message", npipe.MessagePipe), ("byte", npipe.StreamPipe)):
        mode_: Any = mode
        with npipe.listen(f"{name}-{mode}", mode=mode_), npipe.connect(f"{name}-{mode}", mode=mode_) as pipe:
            assert words(kind) in words(type(pipe))
            for one in dir(kind):
                found = inspect.getattr_static(type(pipe), one)
                if not one.startswith("_") and not inspect.isgetsetdescriptor(found):
                    assert words(found) == words(inspect.getattr_static(kind, one)), one
