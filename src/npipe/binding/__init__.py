"""The binding of the engine: its handles, objects and operations, as Python has them (Cython).

The parts are modules of their own; what others call of one is declared in its `.pxd`. All stand in one shared object,
`_parts`: each further one would carry an engine, and a state of the process, of its own. So they are loaded here, the
lowest first, and all at once: a child that is forked while another thread imports a module may wait for it for ever.
The last words of their names differ, since each has a function PyInit_WORD in that object.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

__all__ = [
    "Acceptor",
    "Arrival",
    "ChannelEnd",
    "Dial",
    "Handle",
    "LateTurn",
    "LoopMessagePipe",
    "LoopPipe",
    "LoopStreamPipe",
    "LoopWaker",
    "MessageEnd",
    "OwnTrace",
    "PendingWrite",
    "PipeEnd",
    "PolledHandle",
    "Poller",
    "StreamEnd",
    "closed_instances",
    "describe_named_pipe",
    "effective_uid",
    "full_fence",
    "held_since",
    "is_folder",
    "list_named_pipes",
    "make_segment",
    "moved_by_channels",
    "new_connection_number",
    "own_named_pipe",
    "pipe_peer",
    "process_counts",
    "wait_closed",
    "wait_named_pipe",
    "wake_closed",
]

PARTS: Final = (
    "utility",  # Cython's own, for all others
    "waits",
    "failures",
    "buffers",
    "named",
    "arrival",
    "identity",
    "imports",
    "handle",
    "views",
    "ends",
    "poller",
    "channel",
    "loop.polled",
    "loop.rendezvous",
    "loop.calls",
    "loop.blocks",
    "loop.pipes",
    "win32.handles",
    "win32.objects",
    "win32.overlapped",
    "win32.waiting",
    "win32.targets",
    "win32.operations",
    "win32.ports",
    "win32.travel",
)
"""The parts, each above those that it calls."""


def _load() -> None:
    found = find_spec(f"{__name__}._parts")
    if found is None or found.origin is None:
        raise ImportError("npipe was built without its engine", name=f"{__name__}._parts")
    for part in PARTS:
        name = f"{__name__}.{part}"
        package, _, last = name.rpartition(".")
        parent = import_module(package)
        loader = ExtensionFileLoader(name, found.origin)
        module = module_from_spec(cast("ModuleSpec", spec_from_loader(name, loader)))
        sys.modules[name] = module
        loader.exec_module(module)
        setattr(parent, last, module)


_load()

# What the layers above use, but for npipe.win32, which takes it from the parts in win32/.
from npipe.binding.arrival import Arrival  # noqa: E402
from npipe.binding.channel import ChannelEnd, make_segment, moved_by_channels  # noqa: E402
from npipe.binding.ends import MessageEnd, PipeEnd, StreamEnd  # noqa: E402
from npipe.binding.handle import Handle  # noqa: E402
from npipe.binding.identity import effective_uid  # noqa: E402
from npipe.binding.loop.calls import LateTurn, LoopWaker  # noqa: E402
from npipe.binding.loop.pipes import LoopMessagePipe, LoopPipe, LoopStreamPipe  # noqa: E402
from npipe.binding.loop.polled import PendingWrite, PolledHandle  # noqa: E402
from npipe.binding.loop.rendezvous import Acceptor, Dial  # noqa: E402
from npipe.binding.named import (  # noqa: E402
    OwnTrace,
    closed_instances,
    describe_named_pipe,
    full_fence,
    held_since,
    is_folder,
    list_named_pipes,
    new_connection_number,
    own_named_pipe,
    process_counts,
    wait_closed,
    wait_named_pipe,
    wake_closed,
)
from npipe.binding.poller import Poller  # noqa: E402
from npipe.binding.win32.targets import pipe_peer  # noqa: E402
