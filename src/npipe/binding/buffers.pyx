# cython: language_level=3, binding=True
"""Buffers that calls read from and write to, and the objects that reads return."""

from cpython.buffer cimport (
    PyBUF_CONTIG, PyBUF_CONTIG_RO, PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint32_t

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
