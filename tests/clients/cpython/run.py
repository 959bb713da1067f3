"""CPython's own tests of multiprocessing with npipe's connections in the place of its own: run.py METHOD [NAME...]."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import sys
import unittest
from typing import Any

from test import _test_multiprocessing as theirs  # type: ignore[import-not-found,unused-ignore]

import npipe.connection as ours

CLASSES = [
    "WithProcessesTestConnection",
    "WithProcessesTestListener",
    "WithProcessesTestListenerClient",
    "WithProcessesTestPoll",
    "WithProcessesTestPicklingConnections",
    "WithProcessesTestQueue",
    "WithProcessesTestSimpleQueue",
    "WithProcessesTestPool",
    "WithProcessesTestPoolWorkerLifetime",
    "WithProcessesTestPoolWorkerErrors",
    "TestWait",
    "TestSimpleQueue",
    "TestPoolNotLeakOnFailure",
    "WithManagerTestQueue",
    "WithManagerTestPool",
    "WithManagerTestContainers",
    "WithManagerTestCondition",
]

DIFFERENT = {
    "test_abstract_socket": "of sockets' addresses",
    "test_missing_fd_transfer": "it duplicates the descriptor of fileno(), which is for waiting",
    "test_fd_transfer": "it passes a connection's number, found by fileno(), as the descriptor of a file",
    "test_large_fd_transfer": "it passes a connection's number, found by fileno(), as the descriptor of a file",
}


def install(method: str) -> None:
    """Make the test classes, with our connections in them, here: where their workers look for them."""
    ctx = ours.context(method)
    mixin = theirs.ProcessesMixin
    mixin.connection = ours
    for name in ("Pipe", "Queue", "JoinableQueue", "SimpleQueue", "Pool", "Manager"):
        setattr(multiprocessing, name, getattr(ctx, name))
        if name in vars(mixin) and name != "Manager":
            setattr(mixin, name, staticmethod(getattr(ctx, name)))
    multiprocessing.connection.wait = ours.wait  # it is imported in the tests
    theirs.install_tests_in_module_dict(globals(), method)


def suite(chosen: list[str]) -> unittest.TestSuite:
    """Return the tests of these names, or all of them."""
    tests = unittest.TestSuite()
    for name in CLASSES:
        if name in globals():
            test: Any
            for test in unittest.defaultTestLoader.loadTestsFromTestCase(globals()[name]):
                method = test._testMethodName
                if method not in DIFFERENT and (not chosen or name in chosen or method in chosen):
                    tests.addTest(test)
    return tests


install(sys.argv[1])

if __name__ == "__main__":
    globals()["setUpModule"]()
    try:
        result = unittest.TextTestRunner(verbosity=2).run(suite(sys.argv[2:]))
    finally:
        globals()["tearDownModule"]()
    sys.exit(not result.wasSuccessful())
