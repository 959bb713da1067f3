# cython: language_level=3, binding=True
"""The exceptions of npipe.errors for the engine's codes."""

from npipe.binding.engine cimport NP_INTERRUPTED, NP_NO_SYSTEM_RESOURCES, NP_PATH_NOT_FOUND, np_connect_reason
from npipe.binding.system cimport npipe_reraise

import os
import re

from npipe.errors import PipeNameError, error_from_code

try:
    import pwd
except ImportError:  # a Python without it: users have numbers
    pwd = None

_UID = re.compile(r"\buid (\d+)")


def _with_name(found):
    """A user's number, with its name before it."""
    try:
        return f"user {pwd.getpwuid(int(found[1])).pw_name} (uid {found[1]})"
    except (KeyError, OverflowError, AttributeError):
        return found[0]


cdef object failure(uint32_t code, str name, str doing, char *why=NULL):
    """The exception for a code; an interrupted wait has set its own already."""
    if code == NP_INTERRUPTED:
        npipe_reraise()
    if why == NULL or not why[0]:
        return error_from_code(code, name, doing)
    detail, line, hint = (<bytes>why).decode("utf-8", "replace").partition("\n")
    if code == NP_PATH_NOT_FOUND:
        return PipeNameError(code, name, doing, detail, hint=hint, text="The folder of pipes cannot be made")
    return error_from_code(code, name, doing, _UID.sub(_with_name, detail), hint if line else None)


cdef object failure_to_accept(np_handle *handle, uint32_t code, str name):
    """The same after np_connect."""
    if code != NP_NO_SYSTEM_RESOURCES:
        return failure(code, name, "waiting for a client")
    return error_from_code(code, name, "waiting for a client",
                           "a client could not be let in, for there is no memory for its connection: "
                           + os.strerror(np_connect_reason(handle)))
