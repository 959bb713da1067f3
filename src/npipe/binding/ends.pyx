# cython: language_level=3, binding=True
"""What the pipes of npipe stand on: a handle, and their hot methods."""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from npipe.binding.buffers cimport LARGEST, Buffer, Parts, count_or_put_back, shortened, size_of
from npipe.binding.engine cimport (
    NP_BROKEN_PIPE, NP_MORE_DATA, NP_OK, NP_WOULD_WAIT, np_handle, np_is_closed, np_put_back, np_read,
    np_turn_is_over, np_wait, np_will_put_back, np_write,
)
from npipe.binding.handle cimport Handle
from npipe.binding.system cimport (
    PyErr_CheckSignals, look_at, look_at_thread, look_at_word, npipe_reraise, put, put_word,
)
from npipe.binding.views cimport ReceivedView, Reservation
from npipe.binding.waits cimport check_time, let_others_go_first, only_try, wait_until

from npipe._display import refuse_construction
from npipe._process import refuse_copy
from npipe.errors import PipeMessageTooLargeError, does_not_fit, short_write
from npipe.options import check_timeout, flag, message_size, refuse_position

cdef enum:
    PIECE = 65536  # bytes that a read of all asks for at a time
    MOST_AT_ONCE = 0x40000000


@cython.no_gc_clear  # so that a method always has it
cdef class PipeEnd:
    """A pipe's handle."""

    cdef readonly Handle _handle

    def __cinit__(self, handle=None, *args, **kwargs):
        if not isinstance(handle, Handle):
            refuse_construction("npipe.MessagePipe" if isinstance(self, MessageEnd) else "npipe.StreamPipe")
        self._handle = handle

    def __reduce__(self):
        refuse_copy(self, "pass the pipe's name, and open it there with npipe.connect")

    @property
    def name(self):
        """The pipe's full name."""
        return self._handle.name

    @property
    def closed(self):
        """Whether this end is closed."""
        return self._handle.closed


cdef class MessageEnd(PipeEnd):
    """The hot methods of a message pipe."""

    @property
    def max_message_size(self):
        """The longest message that `recv` accepts, in bytes."""
        return self._handle.max_message_size

    @max_message_size.setter
    def max_message_size(self, size):
        cdef uint32_t most = message_size(size)
        put_word(&self._handle.max_message_size, most)

    @property
    def _owed(self):
        """How many answers of transactions are still to be read that ended before they came."""
        with cython.critical_section(self._handle):
            return 1 if self._handle.is_owed() else 0

    def send(self, data, *more, timeout=None):
        """See MessagePipe.send."""
        cdef np_wait wait
        cdef uint32_t count, code, size = 0
        check_time(timeout)
        if more:
            self.send_all((data, *more), timeout)
            return
        if PyBytes_CheckExact(data) and self._handle.handle != NULL and not look_at_thread(&self._handle.writer) and \
                PyBytes_GET_SIZE(data) <= <Py_ssize_t>LARGEST:
            wait = only_try()
            size = <uint32_t>PyBytes_GET_SIZE(data)
            code = np_write(self._handle.handle, PyBytes_AS_STRING(data), size, &count, &wait)
            if code == NP_OK:
                if count == size:
                    return
                raise short_write(self._handle.name, count, size)
        count = self._handle.write_from(data, timeout, True, &size)
        if count != size:
            raise short_write(self._handle.name, count, size)

    cdef int send_all(self, tuple sources, timeout) except -1:
        cdef Parts parts = Parts(sources, False, self._handle.name)
        cdef uint32_t count = self._handle.write_parts(parts, timeout)
        if count != parts.size:
            raise short_write(self._handle.name, count, parts.size)
        return 0

    def send_parts(self, *parts, timeout=None):
        """See MessagePipe.send_parts."""
        check_time(timeout)
        self.send_all(parts, timeout)

    def reserve(self, nbytes, *, timeout=None):
        """See MessagePipe.reserve."""
        if timeout is not None:
            timeout = check_timeout(timeout)
        return Reservation.__new__(Reservation, self._handle, nbytes, timeout)

    def recv_view(self, *, timeout=None, copy=False):
        """See MessagePipe.recv_view."""
        if timeout is not None:
            timeout = check_timeout(timeout)
        return ReceivedView.__new__(ReceivedView, self._handle, timeout, copy is not False and flag(copy, "copy"))

    def recv(self, positional=..., /, *, timeout=None):
        """See MessagePipe.recv."""
        if positional is not ...:
            refuse_position((positional,))
        check_time(timeout)
        return self._handle.receive(timeout, look_at_word(&self._handle.max_message_size))

    cdef object recv_into_all(self, tuple buffers, bint exact, timeout):
        cdef Parts parts = Parts(buffers, True, self._handle.name)
        cdef uint32_t count = 0
        cdef bytes message
        if not exact:
            return self._handle.read_parts(parts, timeout)
        if np_turn_is_over(&self._handle.run):
            let_others_go_first(&self._handle.run)
        self._handle.valid()
        with cython.critical_section(self._handle):
            if self._handle.read_parts_now(parts, parts.size, &count):
                return count
        try:
            message = self._handle.receive(timeout, parts.size)
        except PipeMessageTooLargeError:
            raise does_not_fit(self._handle.name, parts.size) from None
        parts.scatter(PyBytes_AS_STRING(message), <uint32_t>PyBytes_GET_SIZE(message))
        return PyBytes_GET_SIZE(message)

    def recv_into(self, buffer, *more, exact=False, timeout=None):
        """See MessagePipe.recv_into."""
        cdef Buffer target
        cdef bytes message
        check_time(timeout)
        if more:
            return self.recv_into_all((buffer, *more), exact is not False and flag(exact, "exact"), timeout)
        if exact is not False and flag(exact, "exact"):
            target = Buffer(buffer, True)
            try:
                message = self._handle.receive(timeout, size_of(target.view.len, self._handle.name))
            except PipeMessageTooLargeError:
                raise does_not_fit(self._handle.name, target.view.len) from None
            memcpy(target.view.buf, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
            return PyBytes_GET_SIZE(message)
        return self._handle.read_part_into(buffer, timeout)


cdef class StreamEnd(PipeEnd):
    """The hot methods of a byte pipe."""

    cdef int ended  # an empty message has been read: the peer has closed for writing alone

    def readinto(self, buffer, *, timeout=None):
        """See StreamPipe.readinto."""
        check_time(timeout)
        cdef Buffer target = Buffer(buffer, True)
        cdef uint32_t count = 0
        cdef uint32_t size = size_of(target.view.len, self._handle.name)
        if look_at(&self.ended) and not self._handle.closed:
            return 0
        self._handle.read_to(<char *>target.view.buf, size, &count, timeout)
        if count == 0 and size:
            put(&self.ended, True)
        return count_or_put_back(self._handle.handle, target.view.buf, count)

    def _read_some(self, uint32_t size, timeout):
        """What is there, at least one byte and at most `size`; nothing at the end that an empty message is."""
        cdef bytes data
        cdef uint32_t count = 0
        if look_at(&self.ended) and not self._handle.closed:
            return b""
        data = PyBytes_FromStringAndSize(NULL, size)
        self._handle.read_to(PyBytes_AS_STRING(data), size, &count, timeout)
        if count == 0 and size:
            put(&self.ended, True)
        return shortened(data, count)

    def _read_all(self, timeout):
        """StreamPipe.read of all. Not in Python, where a signal's handler may raise between a read and the next line,
        which takes with it what the read has returned.
        """
        cdef np_handle *handle = self._handle.valid()
        cdef bytearray data = bytearray()
        cdef Py_ssize_t length = 0
        cdef bytes result
        cdef np_wait wait
        cdef uint32_t code, count
        cdef char *place
        if look_at(&self.ended) and not self._handle.closed:
            return b""
        np_will_put_back(handle)
        try:
            while True:
                PyByteArray_Resize(data, length + PIECE)
                place = PyByteArray_AS_STRING(data) + length
                wait = only_try()
                code = np_read(handle, place, PIECE, &count, &wait)
                if code == NP_WOULD_WAIT:
                    wait = wait_until(timeout)
                    with nogil:
                        code = np_read(handle, place, PIECE, &count, &wait)
                if code == NP_BROKEN_PIPE and not np_is_closed(handle):
                    break
                if code != NP_OK and code != NP_MORE_DATA:
                    with cython.critical_section(self._handle):
                        raise self._handle.read_ended_by(code, "reading")
                length += count
                self._handle.tell_poller()
                if count == 0:
                    break
                if PyErr_CheckSignals():  # a read that does not wait does not look
                    npipe_reraise()
            result = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(data), length)
        except BaseException:
            if length:
                self.return_all(PyByteArray_AS_STRING(data), length)
            raise
        if code != NP_BROKEN_PIPE:
            put(&self.ended, True)
        return result

    cdef int return_all(self, const char *data, Py_ssize_t length) except -1:
        """Put back what a read of all has read. Of a pipe that is closed it is lost."""
        cdef Py_ssize_t piece
        while length:
            piece = min(length, <Py_ssize_t>MOST_AT_ONCE)
            length -= piece
            if np_put_back(self._handle.handle, data + length, <uint32_t>piece) != NP_OK:
                break
        self._handle.tell_poller()
        return 0

    def _put_back(self, data):
        """What reads have returned and could not be delivered: the next reads return it again. Raises PipeClosedError
        (6).
        """
        cdef Buffer source = Buffer(data, False)
        cdef uint32_t size = size_of(source.view.len, self._handle.name)
        cdef uint32_t code = np_put_back(self._handle.valid(), source.view.buf, size)
        if code != NP_OK:
            raise self._handle.explain(code, "putting back what was read")
        self._handle.tell_poller()

    def write(self, data, *, timeout=None):
        """See StreamPipe.write."""
        check_time(timeout)
        return self._handle.write_file(data, timeout, True)
