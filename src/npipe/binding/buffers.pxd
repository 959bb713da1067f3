# Buffers that calls read from and write to, and the objects that reads return.

from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from npipe.binding.engine cimport np_handle
from npipe.binding.system cimport Py_DECREF, iovec, number_or_null

cdef enum:
    LARGEST = 0xFFFFFFFF
    # A message's buffer grows with what has arrived, not with what the peer says will come.
    TRUSTED_SIZE = 16 * 1024 * 1024


cdef class Buffer:
    cdef Py_buffer view
    cdef bint held


cdef class Parts:
    cdef iovec *list
    cdef uint32_t size  # of all
    cdef Py_ssize_t count
    cdef object sources  # kept, with their buffers
    cdef list buffers

    cdef int scatter(self, const char *source, uint32_t size) except -1
    cdef bytes joined(self)


cdef uint32_t refuse_size(Py_ssize_t size, str name) except? 0xFFFFFFFF
cdef bytes cut_short(bytes data, Py_ssize_t count)
cdef tuple empty_pair()
cdef tuple fill(tuple pair, first, second)
cdef object put_back_all(np_handle *handle, const void *data, uint32_t count)


cdef inline uint32_t size_of(Py_ssize_t size, str name) except? 0xFFFFFFFF:
    """The size of one operation; raises PipeArgumentError (87) for more than a DWORD has room for."""
    return refuse_size(size, name) if size > <Py_ssize_t>LARGEST else <uint32_t>size


cdef inline bytes shortened(bytes data, Py_ssize_t count):
    """The first `count` bytes of `data`, which a read has just filled and nobody else has seen. Without memory for a
    smaller object it is the same one, whose rest is not given back.
    """
    return data if count == PyBytes_GET_SIZE(data) else cut_short(data, count)


cdef inline object count_or_put_back(np_handle *handle, const void *data, uint32_t count):
    """The number of bytes that a byte-mode read has put into the caller's buffer; without memory for it they are put
    back.
    """
    cdef PyObject *made = number_or_null(count)
    if made == NULL:
        return put_back_all(handle, data, count)
    number = <object>made
    Py_DECREF(number)
    return number


cdef inline bytes copy_of(Buffer buffer):
    return PyBytes_FromStringAndSize(<const char *>buffer.view.buf, buffer.view.len)
