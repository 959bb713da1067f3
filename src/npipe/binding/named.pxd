# Pipes by their names.

from npipe.binding.engine cimport np_where


cdef class Place:
    cdef bytes root, folder, display
    cdef np_where where


cdef Place place_of(str root, str folder, str display)
