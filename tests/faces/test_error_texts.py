"""What every error says: the table of error_cases.py, provoked; and docs/errors.md, which has all of them."""

from __future__ import annotations

import os
import re

import pytest

import npipe
from npipe import errors
from npipe.errors import PipeError, WinError
from tests.faces.error_cases import CASES
from tests.faces.error_table import Case, expected_of, provoke, shown
from tests.helpers import CHECKOUT

PAGE = CHECKOUT / "docs" / "errors.md"


@pytest.mark.parametrize(
    ("one", "kind"), [pytest.param(one, kind, id=f"{one.title}-{kind}") for one in CASES for kind in one.faces]
)
def test_an_error_says_its_one_reason(
    one: Case, kind: str, name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if one.root_only:
        if os.geteuid() != 0:
            pytest.skip("only root can act as other users")
        request.getfixturevalue("shared_root")
    error = provoke(one, kind, name)
    assert (type(error), error.winerror) == (one.kind, one.code)
    assert shown(error) == expected_of(one, error)
    assert str(error).isprintable()
    assert not re.search(r"\b(may be|perhaps|probably)\b", str(error))


def _sections() -> dict[int, str]:
    """Return the page's sections by their codes."""
    parts = re.split(r"^### (\d+)\b", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(set(parts[1::2])) == len(parts[1::2])
    return {int(code): text for code, text in zip(parts[1::2], parts[2::2], strict=True)}


def _plain(text: str) -> str:
    """Return a reason, and a row of a table, in one form."""
    return re.sub(r"\s+", " ", text.replace("`", "").replace("\\|", "|"))


@pytest.mark.parametrize("one", [pytest.param(one, id=one.title) for one in CASES])
def test_the_page_of_errors_has_each_reason_and_its_cure(one: Case) -> None:
    section = _plain(_sections()[one.code])
    assert one.kind.__name__ in section
    for part in one.reason.split("; "):
        assert _plain(part) in section, part


def test_the_page_of_errors_has_every_code_with_its_class_and_no_other() -> None:
    sections = _sections()
    assert set(sections) == {int(code) for code in WinError} - {WinError.SUCCESS}
    for code, text in sections.items():
        assert f"`{type(errors.error_from_code(code)).__name__}`" in text, code
    classes = {kind for kind in vars(npipe).values() if isinstance(kind, type) and issubclass(kind, PipeError)}
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`(Pipe\w*Error)`", page))
    assert named == {kind.__name__ for kind in classes}


def test_every_class_is_provoked_but_what_the_faces_never_raise() -> None:
    elsewhere = {npipe.PipeCancelledError, PipeError}  # npipe.win32's operations; a code that no pipe has
    classes = {kind for kind in vars(npipe).values() if isinstance(kind, type) and issubclass(kind, PipeError)}
    assert {one.kind for one in CASES} == classes - elsewhere
