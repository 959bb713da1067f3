# Waiting for objects and for operations.

from libc.stdint cimport uint32_t

from npipe.binding.engine cimport np_object

cdef uint32_t run_wait(np_object **objects, uint32_t count, bint all_of_them, bint alertable, timeout,
                       str function) except? 0xFFFFFFFE
