"""What docs/_ext makes of pages, docstrings and help texts."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.win32 import install
from tests.docs import helpers as h
from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def extensions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its modules, while a test lasts."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(h.DOCS / "_ext"))
    yield
    for name in set(sys.modules) - before:
        if name in ("pages", "words", "command", "faces", "matrix"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("page", "text", "made"),
    [
        ("docs/aio.md", "[pools](pool.md#time)", "[pools](pool.md#time)"),
        ("docs/aio.md", "[S](../SECURITY.md#relays)", "[S](about/security.md#relays)"),
        ("docs/howto/x.md", "[S](../../CHANGELOG.md)", "[S](../about/changelog.md)"),
        ("docs/semantics.md", "[t](../tests/conformance)", "[t](R/tree/main/tests/conformance)"),
        ("docs/design.md", "[m](../Makefile)", "[m](R/blob/main/Makefile)"),
        ("docs/design.md", "[R](../README.md#install)", "[R](index.md)"),
        ("docs/design.md", "[else](https://example.org/x.md)", "[else](https://example.org/x.md)"),
        ("docs/design.md", "[here](#below)", "[here](#below)"),
        ("docs/design.md", "[a]: ../LICENSE", "[a]: R/blob/main/LICENSE"),
        ("docs/design.md", "```\n[m](../Makefile)\n```", "```\n[m](../Makefile)\n```"),
        ("CHANGELOG.md", "[w](docs/windows.md)", "[w](../windows.md)"),
        ("CHANGELOG.md", "[r](docs/reference/index.md)", "[r](../reference/index.md)"),
    ],
)
def test_links_lead_on_the_site_where_they_lead_on_the_host(page: str, text: str, made: str) -> None:
    import pages  # type: ignore[import-not-found]  # docs/_ext

    shown = h.DOCS / "about" / "changelog.md" if page == "CHANGELOG.md" else CHECKOUT / page
    assert pages.page_for_site(text, CHECKOUT / page, shown, "R") == made


def test_a_picture_for_light_and_dark_is_two_for_the_theme() -> None:
    import pages

    text = (
        '<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="benchmarks/a-dark.svg">\n'
        '  <img alt="A plot" src="benchmarks/a-light.svg">\n</picture>\n'
    )
    page = h.DOCS / "x.md"
    assert pages.page_for_site(text, page, page, "R") == (
        "![A plot](benchmarks/a-light.svg){.only-light} ![A plot](benchmarks/a-dark.svg){.only-dark}\n"
    )


def link(word: str) -> str | None:
    known = {"recv": "npipe.MessagePipe.recv", "PipeError": "npipe.PipeError", "npipe.Pipe": "npipe.Pipe"}
    return known.get(word)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("As `recv` does, `x` not.", ["As :py:obj:`recv <npipe.MessagePipe.recv>` does, ``x`` not."]),
        ("A PipeError, or two.", ["A :py:obj:`PipeError <npipe.PipeError>`, or two."]),
        ("npipe.Pipe's own.", [":py:obj:`npipe.Pipe <npipe.Pipe>`'s own."]),
        (r"`\\.\pipe\NAME`, not \\.\pipe", [r"``\\.\pipe\NAME``, not \\\\.\\pipe"]),
        ("**Threads**: 2**32 and *args", [r"**Threads**: 2\*\*32 and \*args"]),
        ("See docs/aio.md.", ["See :doc:`/aio`."]),
        ("Code:\n\n    x = `y`\n\nAfter.", ["Code:", "", ".. code-block:: python", "", "    x = `y`", "", "After."]),
        ("Of these:\n- one\n- two", ["Of these:", "", "- one", "- two"]),
        ("A `word\nthat` goes on.", ["A ``word that`` goes on."]),
        ("Returns:\n    A pair: two.", [":returns:", "    A pair: two."]),
        ("Raises:\n    PipeError: it (5).", ["Raises:", "    PipeError: it (5)."]),
    ],
)
def test_a_docstring_is_what_sphinx_takes(text: str, made: list[str]) -> None:
    pytest.importorskip("sphinx", reason="the group `docs` is not installed")
    import words  # type: ignore[import-not-found]  # docs/_ext

    assert words.converted(text.split("\n"), link) == made


def test_the_tables_of_features_tell_what_the_code_has() -> None:
    pytest.importorskip("sphinx", reason="the group `docs` is not installed")
    import matrix  # type: ignore[import-not-found]  # docs/_ext

    def rows(table: str) -> dict[str, tuple[str, ...]]:
        return {row[0].strip("`"): row[1:] for row in matrix.TABLES[table]()[1:]}

    has, has_not = matrix._HAS, matrix._HAS_NOT
    names = rows("names")
    assert names["open_stream"] == (has_not, f":py:obj:`{has} <npipe.aio.open_stream>`", has_not)
    assert not {name for name in npipe.__all__ if name.islower()} - names.keys() - {"remote", "__version__"}
    messages = rows("members-MessagePipe")
    assert [cell != has_not for cell in messages["transact"][:3]] == [True, True, False]
    assert "await" in messages["recv"][1]
    assert "await" not in messages["recv"][0]
    assert "read" not in messages  # it only says where what is meant is
    assert messages["fileno"][3].startswith("Not on Windows")
    assert messages["stats"][3] != "the same"
    assert messages["send"][3] == "the same"
    assert rows("members-StreamPipe")["makefile"][1] == has_not
    assert rows("options-connect")["timeout"][0] == "``20.0``"
    assert rows("options-listen").keys() >= {"name", "exclusive", "max_instances", "traceable"}
    commands = rows("commands")
    assert [name for name, cells in commands.items() if cells == (has, has_not)] == ["npipe samba"]
    assert rows("doors").keys() == {*inspect.signature(install).parameters}
    for table in matrix.TABLES:
        assert len(matrix.TABLES[table]()) > 3, table


@pytest.mark.parametrize(
    ("lines", "made"),
    [
        (["A pipe_ and `npipe ls`, *all*"], [r"A pipe\_ and ``npipe ls``, \*all\*"]),
        (["An end:", "| NAME  a pipe_", "", "More."], ["An end:", "", ".. code-block:: text", "", "   NAME  a pipe_"]),
    ],
)
def test_a_command_s_help_is_shown_as_it_is(lines: list[str], made: list[str]) -> None:
    import command  # type: ignore[import-not-found]  # docs/_ext

    shown: Any = command.plain(lines)
    assert shown[: len(made)] == made
