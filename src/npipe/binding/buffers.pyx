# cython: language_level=3, binding=True
"""Buffers that calls read from and write to, and the objects that reads return."""

from cpython.buffer cimport (
    PyBUF_CONTIG, PyBUF_CONTIG_RO, PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from npipe.binding.engine cimport np_handle, np_put_back

from npipe._buffers import check_dtype, check_elements, no_buffer
from npipe.errors import PipeArgumentError



cdef class Buffer:
    """A contiguous buffer of somebody's, for the time of a call."""

    def __cinit__(self, source, bint writable, bint plain=True):
        """`plain`: of bytes or numbers, and TypeError for others. Win32 does not look."""
        if not plain:
            PyObject_GetBuffer(source, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
            self.held = True
            return
        try:
            PyObject_GetBuffer(source, &self.view, PyBUF_FORMAT | (PyBUF_CONTIG if writable else PyBUF_CONTIG_RO))
        except TypeError:
            raise no_buffer(source) from None
        except ValueError as error:  # NumPy's for which struct has no word, times for one; and what is not contiguous
            check_dtype(source)
            try:
                PyObject_GetBuffer(source, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
            except ValueError:
                raise BufferError(str(error)) from None
        self.held = True
        if self.view.format != NULL and not (self.view.format[0] == b"B" and self.view.format[1] == 0):
            check_elements((<bytes>self.view.format).decode("utf-8", "replace"))

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef class Parts:
    """Several contiguous buffers of somebody's, for the time of a call: one message."""

    def __cinit__(self, tuple sources, bint writable, str name):
        cdef Py_ssize_t i, total = 0
        cdef Buffer buffer
        self.count = len(sources)
        self.sources = sources
        self.list = <iovec *>PyMem_Malloc((self.count + 1) * sizeof(iovec))
        if self.list == NULL:
            raise MemoryError
        for i in range(self.count):
            source = sources[i]
            if not writable and PyBytes_CheckExact(source):
                self.list[i].iov_base = PyBytes_AS_STRING(source)
                self.list[i].iov_len = PyBytes_GET_SIZE(source)
            else:
                buffer = Buffer(source, writable)
                if self.buffers is None:
                    self.buffers = []
                self.buffers.append(buffer)
                self.list[i].iov_base = buffer.view.buf
                self.list[i].iov_len = buffer.view.len
            total += self.list[i].iov_len
        self.size = size_of(total, name)

    def __dealloc__(self):
        PyMem_Free(self.list)

    cdef int scatter(self, const char *source, uint32_t size) except -1:
        """Copies `size` bytes into them, which are no more than there is room for."""
        cdef Py_ssize_t i
        cdef size_t piece
        for i in range(self.count):
            piece = min(<size_t>size, self.list[i].iov_len)
            if piece:
                memcpy(self.list[i].iov_base, source, piece)
                source += piece
                size -= <uint32_t>piece
        return 0

    cdef bytes joined(self):
        """A copy of all of them, one behind the other."""
        cdef bytes data = PyBytes_FromStringAndSize(NULL, self.size)
        cdef char *target = PyBytes_AS_STRING(data)
        cdef Py_ssize_t i
        for i in range(self.count):
            if self.list[i].iov_len:
                memcpy(target, self.list[i].iov_base, self.list[i].iov_len)
                target += self.list[i].iov_len
        return data


cdef uint32_t refuse_size(Py_ssize_t size, str name) except? 0xFFFFFFFF:
    raise PipeArgumentError(87, name, None, f"{size} bytes are more than one operation can take (2**32 - 1)")


# ---- What a read has consumed is delivered, also if there is no memory for anything more: so what it needs is there
# before it begins, and what cannot be is tried without an exception.

cdef extern from "Python.h":
    PyObject *npipe_bytes_or_null "PyBytes_FromStringAndSize"(const char *, Py_ssize_t)
    void npipe_set_size "Py_SET_SIZE"(object, Py_ssize_t)
    void npipe_keep "Py_INCREF"(object)
    void npipe_let_go "Py_DECREF"(object)
    void npipe_forget_error "PyErr_Clear"()
    void npipe_untrack "PyObject_GC_UnTrack"(object)


cdef bytes cut_short(bytes data, Py_ssize_t count):
    cdef PyObject *made = npipe_bytes_or_null(PyBytes_AS_STRING(data), count)
    if made != NULL:
        smaller = <bytes>made
        npipe_let_go(smaller)
        return smaller
    npipe_forget_error()
    PyBytes_AS_STRING(data)[count] = 0
    npipe_set_size(data, count)
    return data


cdef tuple empty_pair():
    """A pair for a number and bytes, which `fill` puts into it. Until then nobody may find it through the garbage
    collector, which has nothing to do with it afterwards either.
    """
    cdef tuple pair = PyTuple_New(2)
    npipe_untrack(pair)
    return pair


cdef tuple fill(tuple pair, first, second):
    npipe_keep(first)
    PyTuple_SET_ITEM(pair, 0, first)
    npipe_keep(second)
    PyTuple_SET_ITEM(pair, 1, second)
    return pair


cdef object put_back_all(np_handle *handle, const void *data, uint32_t count):
    np_put_back(handle, data, count)
    raise MemoryError


cdef class Readable:
    """An object of Python's whose memory is what `bytes` makes of it: memoryview(it), and whoever wants a buffer."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyObject_GetBuffer(bytes(self), view, flags)
