"""The first thing that a process does with npipe imports most of it: who comes in between is in good hands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


def test_a_child_that_is_forked_while_another_thread_uses_npipe_first_can_use_it(
    name: str, child: Callable[..., Child]
) -> None:
    program = child(
        """
        import faulthandler, os, sys, threading
        import npipe

        def hook(event, arguments):  # the import waits in the middle until this process is about to fork
            if event == "exec" and arguments[0].co_filename.endswith("arrival.py"):
                amid.set()
                forks.wait(20)

        amid, forks = threading.Event(), threading.Event()
        sys.addaudithook(hook)
        os.register_at_fork(before=forks.set)
        thread = threading.Thread(target=lambda: npipe.connect)
        thread.start()
        assert amid.wait(20)
        sys.setswitchinterval(60)  # nor does it go on before the fork, unless that waits for it
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(15, exit=True)
            with npipe.listen(sys.argv[1]) as listener, npipe.connect(sys.argv[1]) as client:
                client.send(b"said")
                with listener.accept() as server:
                    os._exit(0 if server.recv() == b"said" else 2)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        thread.join(20)
        """,
        name,
    )
    assert program.line() == "0"
    assert program.wait() == 0
