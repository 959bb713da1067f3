"""What npipe promises to keep: the names in public_names.txt, and none that is there by chance."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.helpers import CHECKOUT
from tests.repository import public_names

REWRITE = "python -m tests.repository.public_names writes the list anew; CHANGELOG.md tells users of the change"


def test_the_public_names_are_those_of_the_list() -> None:
    assert public_names.LIST.read_text(encoding="utf-8") == public_names.text(), REWRITE


def test_every_module_is_public_or_internal_or_has_an_underscore() -> None:
    found = {name for name in public_names.modules() if not public_names.is_internal(name)}
    assert found - {"npipe.__main__"} == set(public_names.MODULES)
    assert not [name for name in public_names.MODULES if public_names.is_internal(name)]


@pytest.mark.parametrize("module", public_names.MODULES)
def test_every_public_name_is_there(module: str) -> None:
    found = importlib.import_module(module)
    missing = [name for name in public_names.names(module) if not hasattr(found, name)]
    assert not missing


def test_the_pages_and_examples_import_public_modules_alone() -> None:
    pages = [CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md"), *(CHECKOUT / "examples").rglob("*.py")]
    wrong = []
    for page in pages:
        for one, other in re.findall(
            r"^(?:>>> )? *(?:from (npipe[\w.]*) import|import (npipe[\w.]*))", page.read_text("utf-8"), re.MULTILINE
        ):
            if (one or other) not in public_names.MODULES:
                wrong.append(f"{page.relative_to(CHECKOUT)}: {one or other}")
    assert not wrong
