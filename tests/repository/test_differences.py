"""What is left out or expected to fail on Windows: that all it names is there."""

from __future__ import annotations

import ast

from tests.helpers import CHECKOUT
from tests.windows import differences

TESTS = CHECKOUT / "tests"


def test_what_differs_on_windows_is_named_as_it_is() -> None:
    """As far as can be seen here: files and functions. On Windows the parameters are looked at too."""
    assert not list(differences.stale([]))
    for path, known in differences.DIFFERENCES.items():
        tree = ast.parse((TESTS / path).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        named = {key.partition("[")[0] for key in known}
        assert named <= functions, path
