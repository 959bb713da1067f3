# cython: language_level=3, binding=True
"""The exceptions of npipe.errors for the engine's codes."""

from npipe.binding.engine cimport NP_INTERRUPTED, NP_NO_SYSTEM_RESOURCES, np_connect_reason
from npipe.binding.system cimport npipe_reraise

import os

from npipe.errors import error_from_code


cdef object failure(uint32_t code, str name, str doing, char *why=NULL):
    """The exception for a code; an interrupted wait has set its own already."""
    if code == NP_INTERRUPTED:
        npipe_reraise()
    detail = (<bytes>why).decode("utf-8", "replace") if why != NULL and why[0] else None
    return error_from_code(code, name, doing, detail)


cdef object failure_to_accept(np_handle *handle, uint32_t code, str name):
    """The same after np_connect."""
    if code != NP_NO_SYSTEM_RESOURCES:
        return failure(code, name, "waiting for a client")
    return error_from_code(code, name, "waiting for a client",
                           "a client could not be let in, for there is no memory for its connection: "
                           + os.strerror(np_connect_reason(handle)))
