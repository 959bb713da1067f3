# cython: language_level=3, binding=True
"""OVERLAPPED, and the operation that it stands for."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t

from npipe.binding.engine cimport *
from npipe.binding.system cimport Py_DECREF, PyNumber_Index, PyTypeObject
from npipe.binding.win32.handles cimport PyHANDLE, Target, number_of, of_kind

import warnings

from npipe._process import refuse_copy

cdef class Operation:
    """One operation that was started with an OVERLAPPED: it keeps the buffers pinned until it is over."""

    def __cinit__(self):
        self.pinned = 0
        self.async = np_async_new()
        if self.async == NULL:
            raise MemoryError

    def __dealloc__(self):
        self.unpin()
        np_async_unref(self.async)

    cdef void unpin(self) noexcept:
        if self.pinned & 1:
            PyBuffer_Release(&self.first)
        if self.pinned & 2:
            PyBuffer_Release(&self.second)
        self.pinned = 0

    cdef int pin(self, source, bint writable, bint as_second) except -1:
        """Hold a buffer of the caller's."""
        if as_second:
            PyObject_GetBuffer(source, &self.second, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
            self.pinned |= 2
        else:
            PyObject_GetBuffer(source, &self.first, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
            self.pinned |= 1
        return 0


cdef void let_go_of(np_async *async) noexcept:
    """The engine is through with an operation: its buffers are free, and the references that were for it are dropped.
    """
    cdef Operation operation
    if async.owner != NULL:
        operation = <Operation>async.owner
        async.owner = NULL
        operation.unpin()
        operation.overlapped = None
        Py_DECREF(operation)
    np_async_unref(async)


cdef void reap_all() noexcept:
    cdef np_async *async = np_async_reap()
    cdef np_async *following
    while async != NULL:
        following = async.next_finished
        let_go_of(async)
        async = following


cdef class OVERLAPPED:
    """What an overlapped operation is known by. Attributes as pywin32's: Offset, OffsetHigh, hEvent, object, dword,
    Internal, InternalHigh.
    """

    def __cinit__(self):
        self.offset = self.offset_high = self.number = 0
        self.internal = self.internal_high = 0
        self.event = 0
        self.older = None
        self.block = NULL

    def __init__(self):
        pass  # that it takes no arguments

    def __reduce__(self):
        refuse_copy(self, "make a new OVERLAPPED for each operation that is to run at the same time")

    def __delattr__(self, str name):
        raise AttributeError("can't delete OVERLAPPED attributes")

    @property
    @cython.critical_section
    def Offset(self):
        """Where in a file to read or write: the lower 32 bits. Not looked at on pipes."""
        return self.offset

    @Offset.setter
    @cython.critical_section
    def Offset(self, value):
        self.offset = as_field(value)

    @property
    @cython.critical_section
    def OffsetHigh(self):
        """Where in a file to read or write: the upper 32 bits."""
        return self.offset_high

    @OffsetHigh.setter
    @cython.critical_section
    def OffsetHigh(self, value):
        self.offset_high = as_field(value)

    @property
    @cython.critical_section
    def object(self):
        """Whatever the program attaches to its operation."""
        return self.state

    @object.setter
    @cython.critical_section
    def object(self, value):
        self.state = value

    @property
    @cython.critical_section
    def dword(self):
        """A number of 32 bits for the program's use."""
        return self.number

    @dword.setter
    @cython.critical_section
    def dword(self, value):
        self.number = as_field(value)

    @property
    @cython.critical_section
    def hEvent(self):
        """The event that a completion sets: a handle, or 0."""
        return self.event

    @hEvent.setter
    @cython.critical_section
    def hEvent(self, value):
        number_of(value)
        self.event = 0 if value is None else value

    # ---- The caller has its critical section

    cdef Operation shown(self):
        """The operation whose state the OVERLAPPED shows: of several that share it the one that has written there last,
        by its start or by its end.
        """
        cdef Operation last = self.operation, one
        cdef uint64_t when
        if last is None:
            return None
        np_async_drive(last.async.handle)
        if self.older is None:
            return last
        for one in self.older:
            np_async_drive(one.async.handle)
        when = last.began if np_async_code(last.async) == NP_IO_PENDING else last.async.ended
        for one in self.older:
            if np_async_code(one.async) != NP_IO_PENDING and one.async.ended > when:
                last, when = one, one.async.ended
        return last

    @property
    @cython.critical_section
    def Internal(self):
        """The NTSTATUS of the operation: 0x103 while it is pending."""
        cdef Operation shown = self.shown()
        if shown is None:
            return self.internal
        return np_status_of(np_async_code(shown.async))

    @Internal.setter
    @cython.critical_section
    def Internal(self, value):
        self.operation = None
        self.internal = value

    @property
    @cython.critical_section
    def InternalHigh(self):
        """How many bytes the operation has moved."""
        cdef Operation shown = self.shown()
        if shown is None or np_async_code(shown.async) == NP_IO_PENDING:
            return self.internal_high
        return shown.async.count

    @InternalHigh.setter
    @cython.critical_section
    def InternalHigh(self, value):
        self.internal_high = value

    def __hash__(self):
        return <Py_ssize_t><void *>self >> 4

    def __eq__(self, other):
        if self is other:
            return True
        if not isinstance(other, OVERLAPPED):
            return NotImplemented
        return (self.Offset, self.OffsetHigh, number_of(self.hEvent), self.Internal, self.InternalHigh) == (
            other.Offset, other.OffsetHigh, number_of(other.hEvent), other.Internal, other.InternalHigh)

    cdef void failed_at_once(self):
        """Windows leaves it as it began (SEMANTICS §3.2, §5.4)."""
        self.operation = None
        self.internal = NP_STATUS_PENDING
        self.show(NP_STATUS_PENDING, 0)

    cdef void show(self, uint64_t status, uint64_t count) noexcept:
        """Write the state into the program's memory, if that is where it is to stand."""
        if self.block != NULL:
            self.block.count = count
            self.block.status = status

    cdef void done_at_once(self, uint32_t code, uint64_t count):
        """An operation that needs no engine."""
        self.operation = None
        self.internal = np_status_of(code)
        self.internal_high = count
        self.show(self.internal, count)


(<PyTypeObject *>OVERLAPPED).tp_name = "PyOVERLAPPED"  # what pywin32's is called in texts and by repr


cdef uint32_t as_field(value) except? 0xFFFFFFFF:
    """A number for a field of 32 bits; a negative one is warned of, as for pywin32's members."""
    number = PyNumber_Index(value)
    if not -0x80000000 <= number <= 0xFFFFFFFF:
        raise OverflowError("Python int too large to convert to C unsigned long")
    if number < 0:
        warnings.warn("Writing negative value into unsigned field", RuntimeWarning)
    return <uint32_t>(number & 0xFFFFFFFF)


cdef Target event_of(OVERLAPPED overlapped, str function, bint *no_packet):
    event = overlapped.hEvent
    cdef Py_ssize_t number = number_of(event)
    no_packet[0] = number & 1
    number &= ~1
    if number == 0:
        return None
    if type(event) is PyHANDLE and not no_packet[0]:
        return of_kind(event, "event", function)
    return of_kind(number, "event", function)


def has_completed(OVERLAPPED overlapped not None):
    """HasOverlappedIoCompleted: whether the operation is over."""
    return overlapped.Internal != NP_STATUS_PENDING


def keep_in_memory(OVERLAPPED overlapped not None, size_t address):
    """Let the two fields at `address`, Internal and InternalHigh of 64 bits each, show what becomes of its operations.

    The memory has to be there while one is pending. The OVERLAPPED lives that long by itself, and with it its `object`.
    """
    overlapped.block = <np_status_block *>address
