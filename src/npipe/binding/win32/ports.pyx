# cython: language_level=3, binding=True
"""Completion ports."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free

from npipe.binding.engine cimport *
from npipe.binding.system cimport (
    AF_INET, AF_INET6, Py_DECREF, Py_INCREF, PyNumber_Long, getsockname, npipe_reraise, sockaddr,
    sockaddr_storage, socklen_t,
)
from npipe.binding.win32.targets cimport PipeTarget
from npipe.binding.win32.handles cimport (
    INVALID_HANDLE, INVALID_PARAMETER, Target, as_dword, handle_of, noted, number_of, of_kind,
    target_of, wait_ms,
)
from npipe.binding.win32.overlapped cimport Operation, as_overlapped, let_go_of, reap

from npipe import win32_error
from npipe.win32_error import make_error

cdef enum:
    WAIT_TIMEOUT = 258


cdef class PortTarget(Target):
    """A completion port."""

    def __cinit__(self, *args, **kwargs):
        self.kind = "port"
        self.object = np_object_new(NP_OBJECT_PORT, True, False)
        if self.object == NULL:
            raise MemoryError

    cdef int shut(self, bint wait) except -1:
        # What is queued goes with it, and nobody waits any longer (735).
        cdef np_wait nothing = wait_ms(0)
        cdef np_packet *packet = NULL
        while np_port_take(self.object, &nothing, &packet) == NP_OK:
            take_packet(packet)
        np_port_close(self.object)
        while np_port_take(self.object, &nothing, &packet) == NP_OK:
            take_packet(packet)
        reap()
        return 0


cdef object _LOST = object()  # an OVERLAPPED that is no more


cdef tuple take_packet(np_packet *packet):
    """(bytes, key, OVERLAPPED, code) of a packet, which is freed; bytes and key are signed, as pywin32 gives them."""
    cdef Operation operation
    cdef uint32_t code = 0
    cdef uint32_t count = packet.count
    cdef uint64_t key = packet.key
    overlapped = None
    if packet.async != NULL:
        operation = <Operation>packet.async.owner
        overlapped = operation.known_by()
        if overlapped is None:
            overlapped = _LOST
        code = np_async_code(packet.async)
        let_go_of(packet.async)
    else:
        if packet.posted != NULL:
            overlapped = <object>packet.posted
            Py_DECREF(overlapped)
        free(packet)
    return <int32_t>count, <int64_t>key, overlapped, code


cdef bint is_internet_socket(Py_ssize_t number) noexcept nogil:
    """Whether it is no handle but the descriptor of a socket, which is a handle on Windows."""
    cdef sockaddr_storage address
    cdef socklen_t size = sizeof(address)
    if number < 0 or number > 0x7FFFFFFF or getsockname(<int>number, <sockaddr *>&address, &size) != 0:
        return False
    return address.ss_family == AF_INET or address.ss_family == AF_INET6


cdef uint64_t as_pointer(value) except? 0xFFFFFFFFFFFFFFFF:
    """An argument of a pointer's size; None is 0."""
    if value is None:
        return 0
    try:
        number = PyNumber_Long(value)
    except (TypeError, ValueError):
        number = 1 << 64
    if not -(1 << 63) <= number < 1 << 64:
        raise TypeError(f"Unable to convert {type(value).__name__} to pointer-sized value")
    return <uint64_t>(number & 0xFFFFFFFFFFFFFFFF)


def CreateIoCompletionPort(handle, existing, completionKey, numThreads):
    """CreateIoCompletionPort: a new port, or `existing`, which `handle` is bound to (SEMANTICS §10.6).

    Raises 87 (bound already, or opened without FILE_FLAG_OVERLAPPED), 6. A socket's descriptor may be bound too; there
    are no overlapped operations on sockets here that could complete.
    """
    cdef Target file
    cdef Target port
    cdef uint64_t key = as_pointer(completionKey)
    as_dword(numThreads)
    number_of(handle)
    if existing is None or number_of(existing) == 0:
        port = PortTarget()
        result = handle_of(port)
    else:
        port = target_of(existing, "CreateIoCompletionPort")
        result = existing
    if not isinstance(port, PortTarget):
        raise make_error(INVALID_HANDLE, "CreateIoCompletionPort")
    if number_of(handle) in (-1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
        return result
    if is_internet_socket(number_of(handle)):
        return result
    file = target_of(handle, "CreateIoCompletionPort")
    if not isinstance(file, PipeTarget):
        code = INVALID_HANDLE if file.kind not in ("file", "root") else INVALID_PARAMETER
        raise make_error(code, "CreateIoCompletionPort")
    if not (<PipeTarget>file).overlapped or not (<PipeTarget>file).bind(port, key):
        raise make_error(INVALID_PARAMETER, "CreateIoCompletionPort")
    return result


def GetQueuedCompletionStatus(hPort, timeOut):
    """GetQueuedCompletionStatus: (code, bytes, key, OVERLAPPED); (258, 0, 0, None) when the time is over, (6, 0, 0,
    None) for what is no port, (735, 0, 0, None) when the port is closed meanwhile. Bytes and key are signed numbers.

    Raises RuntimeError, as pywin32 does, when the OVERLAPPED of the operation has not been kept.
    """
    cdef np_wait wait = wait_ms(timeOut)
    cdef Target port
    try:
        port = of_kind(hPort, "port", "GetQueuedCompletionStatus")
    except win32_error.error:
        return (INVALID_HANDLE, 0, 0, None)
    cdef np_packet *packet = NULL
    cdef uint32_t code
    reap()
    if wait.deadline == NP_TRY:
        code = np_port_take(port.object, &wait, &packet)
    else:
        with nogil:
            code = np_port_take(port.object, &wait, &packet)
    if code == NP_SEM_TIMEOUT:
        return (noted(WAIT_TIMEOUT), 0, 0, None)
    if code == NP_ABANDONED_WAIT:
        return (noted(code), 0, 0, None)
    if code == NP_INTERRUPTED:
        npipe_reraise()
    if code != NP_OK:
        raise make_error(code, "GetQueuedCompletionStatus")
    count, key, overlapped, status = take_packet(packet)
    if overlapped is _LOST:
        raise RuntimeError("This overlapped object has lost all its references so was destroyed")
    return (noted(status), count, key, overlapped)


def PostQueuedCompletionStatus(hPort, numberOfbytes=0, completionKey=0, overlapped=None):
    """PostQueuedCompletionStatus: a packet of the program's own. Raises 6."""
    cdef Target port = of_kind(hPort, "port", "PostQueuedCompletionStatus")
    cdef uint32_t count = as_dword(numberOfbytes)
    cdef uint64_t key = as_pointer(completionKey)
    if as_overlapped(overlapped) is not None:
        Py_INCREF(overlapped)
    if not np_port_post(port.object, count, key,
                        <void *>overlapped if overlapped is not None else NULL):
        if overlapped is not None:
            Py_DECREF(overlapped)
        raise MemoryError
