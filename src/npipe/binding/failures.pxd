# The exceptions of npipe.errors for the engine's codes.

from libc.stdint cimport uint32_t

from npipe.binding.engine cimport np_handle

cdef object failure(uint32_t code, str name, str doing, char *why=*)
cdef object failure_to_accept(np_handle *handle, uint32_t code, str name)
