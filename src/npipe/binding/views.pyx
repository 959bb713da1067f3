# cython: language_level=3, binding=True
"""Messages in place: what a reservation gives to write, and a view to read."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF
from cpython.weakref cimport PyWeakref_GetRef, PyWeakref_NewRef
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from npipe.binding.buffers cimport TRUSTED_SIZE, size_of
from npipe.binding.engine cimport (
    NP_FOREVER, NP_MORE_DATA, NP_OK, NP_RETRY, NP_SEM_TIMEOUT, NP_WOULD_WAIT, np_forks, np_handle, np_recv_begin,
    np_recv_end, np_recv_more, np_recv_prepare, np_reserve_end, np_reserve_let_go, np_reserve_place, np_spin_read,
    np_turn_got, np_turn_is_crowd, np_turn_is_over, np_turn_wait, np_turn_want,
    np_view_end, np_view_in_place, np_view_let_go, np_view_now, np_view_take, np_wait,
)
from npipe.binding.handle cimport NOTHING, Handle
from npipe.binding.system cimport c_bool, look_at_thread, look_at_word, put_thread, put_word
from npipe.binding.waits cimport let_others_go_first, only_try, wait_until

from npipe._process import refuse_copy
from npipe.errors import PipeArgumentError
from npipe.reasons import closed_by_fork, still_exported

cdef char NOBODYS[1]


@cython.no_gc_clear  # __dealloc__ ends what is out
cdef class Place:
    """The owner of the bytes that a block has got: as long as anybody looks at them they are there."""

    def __cinit__(self, *args, **kwargs):
        self.stage = FRESH
        self.data = NOBODYS

    def __reduce__(self):
        refuse_copy(self, "make bytes of what it gives")

    @property
    @cython.critical_section
    def in_place(self):
        """Whether what its block has got stands in the ring."""
        return self.stage == OUT and self.private is None

    cdef int claim(self, str what) except -1:
        """Begin to enter its block, which nobody else does meanwhile: what the engine has of it stands in a queue."""
        cdef bint fresh
        with cython.critical_section(self):
            fresh = self.stage == FRESH
            if fresh:
                self.stage = CLAIMED
        if not fresh:
            raise RuntimeError(f"{what} is for one block")
        return 0

    cdef void unclaim(self) noexcept:
        """It could not be entered, or half-way, and may be tried again. Nobody has got its view."""
        cdef bint exported = False
        if self.leave():
            with cython.critical_section(self):
                exported = self.exports > 0
            self.withdraw(exported)
            if exported:
                return  # it is over: somebody else looks at its bytes
            with cython.critical_section(self):
                self.begin_anew()
            return
        with cython.critical_section(self):
            if self.stage == CLAIMED:  # else somebody has left it already
                self.begin_anew()

    cdef void begin_anew(self) noexcept:
        self.stage = FRESH
        self.data, self.private = NOBODYS, None

    cdef bint leave(self) noexcept:
        """Begin the end of its block, which nobody else does then: whether it is out."""
        cdef bint out
        with cython.critical_section(self):
            out = self.stage == OUT
            if out:
                self.stage = LEAVING
        return out

    cdef uint32_t withdraw(self, bint exported) noexcept:
        """End what is out as an exception in its block does."""
        return 0

    cdef bint is_read_only(self) noexcept:
        return True

    cdef void let_go(self) noexcept:
        """Nobody looks at them any more."""

    @cython.critical_section
    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.stage != OUT:
            raise BufferError("it has no bytes outside of its block")
        PyBuffer_FillInfo(buffer, self, self.data, self.length, self.is_read_only(), flags)
        self.exports += 1

    @cython.critical_section
    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1
        if self.exports == 0 and self.stage == OVER:
            self.let_go()

    cdef object lend(self):
        """What the block gets. If this fails it is out all the same, and `unclaim` takes it back.

        What was set before belonged to the thread that has claimed it; with the stage others may look at it too.
        """
        with cython.critical_section(self):
            self.stage = OUT
        view = PyMemoryView_FromObject(self)
        known = PyWeakref_NewRef(view, None)
        with cython.critical_section(self):
            self.view = known
        return view

    cdef bint take_view(self) noexcept:
        """The block is over: whether somebody looks at its bytes all the same."""
        cdef PyObject *found = NULL
        with cython.critical_section(self):
            known = self.view
        if known is not None and PyWeakref_GetRef(known, &found):
            view = <object>found
            Py_DECREF(view)
            try:
                view.release()
            except (BufferError, MemoryError):  # without memory for the former
                pass
        with cython.critical_section(self):
            return self.exports > 0


# ---- Writing


@cython.no_gc_clear
cdef class Reserved(Place):
    def __cinit__(self, Handle handle not None, Py_ssize_t size, timeout, pipe=None):
        self.handle = handle
        self.timeout = timeout
        if size < 0:
            raise PipeArgumentError(87, handle.name, None, f"a message cannot have {size} bytes")
        self.size = self.length = size_of(size, handle.name)
        self.reserve.link = NULL
        self.reserve.mirror = NULL

    def __dealloc__(self):
        if self.stage == OUT:
            self.end(False, False)
        self.let_go()

    cdef bint is_read_only(self) noexcept:
        return False

    cdef void let_go(self) noexcept:
        np_reserve_let_go(&self.reserve)

    @property
    def size(self):
        """See npipe.views.Reservation.size."""
        return look_at_word(&self.size)

    def shrink(self, Py_ssize_t size):
        """See npipe.views.Reservation.shrink."""
        cdef uint32_t most
        with cython.critical_section(self):  # two threads only ever shrink it
            most = self.size
            if 0 <= size <= <Py_ssize_t>most:
                put_word(&self.size, <uint32_t>size)
                return
        raise PipeArgumentError(87, self.handle.name, None, f"a reservation of {most} bytes cannot shrink to {size}")

    cdef uint32_t try_now(self) except? 0xFFFFFFFF:
        """np_reserve, once, without any waiting."""
        cdef np_wait wait = only_try()
        return np_reserve_place(self.handle.valid(), &self.reserve, self.length, &wait)

    cdef object begin(self, uint32_t code):
        """What the block gets, after np_reserve has given `code`."""
        if code == NP_MORE_DATA:  # zeros, for what nobody writes goes to the peer
            self.private = bytearray(self.length)
            if self.length:
                self.data = PyByteArray_AS_STRING(self.private)
        elif code == NP_OK:
            self.data = <char *>self.reserve.data
        else:
            raise self.handle.explain(code, "reserving")
        cdef unsigned long thread = PyThread_get_thread_ident()
        self.copier = None if self.private is None else thread
        self.handle.begin_reserving(thread, self.copier)
        return self.lend()

    cdef uint32_t withdraw(self, bint exported) noexcept:
        return self.end(False, exported)

    cdef uint32_t end(self, bint commit, bint exported) noexcept:
        """Send what is in the ring, or take it back."""
        cdef uint32_t code
        with cython.critical_section(self):
            self.stage = OVER
            self.handle.end_reserving(self.copier)
            code = np_reserve_end(self.handle.handle, &self.reserve, self.size, commit, exported)
            if self.exports == 0:
                self.let_go()
        return code


cdef class Reservation(Reserved):
    """What MessagePipe.reserve returns."""

    def __enter__(self):
        self.claim("a reservation")
        try:
            return self.find()
        except BaseException:
            self.unclaim()
            raise

    cdef object find(self):
        cdef np_wait wait
        cdef uint32_t code
        cdef np_handle *handle = self.handle.valid()
        if look_at_thread(&self.handle.writer):
            self.handle.check_writer("reserving")
        code = self.try_now()
        if code == NP_WOULD_WAIT:
            wait = wait_until(self.timeout)
            if wait.deadline != NP_FOREVER and self.timeout <= 0:
                code = NP_SEM_TIMEOUT
            else:
                with nogil:
                    code = np_reserve_place(handle, &self.reserve, self.length, &wait)
        return self.begin(code)

    def __exit__(self, kind, error, trace):
        if not self.leave():
            return
        cdef bint exported = self.take_view()
        cdef bint commit = kind is None and not exported
        cdef uint32_t code = self.end(commit, exported)
        if kind is not None:
            return
        if exported:
            raise still_exported(self.handle.name, writes=True)
        if self.handle.forks != np_forks:
            raise closed_by_fork(self.handle.name, "sending")
        if self.private is not None:
            self.handle.write_all(self.data, look_at_word(&self.size), self.timeout)
        elif code != NP_OK:
            raise self.handle.explain(code, "sending")


# ---- Reading


@cython.no_gc_clear
cdef class Received(Place):
    def __cinit__(self, Handle handle not None, timeout, bint copied, pipe=None):
        self.handle = handle
        self.timeout = timeout
        self.copied = copied
        self.place.recv.link = NULL
        self.place.mirror = NULL

    def __dealloc__(self):
        if self.stage == OUT:
            self.end(False, False)
        self.let_go()

    cdef void let_go(self) noexcept:
        np_view_let_go(&self.place)

    cdef object begin(self):
        """What the block gets of what has been found in place."""
        self.data = <char *>self.place.data if self.place.size else NOBODYS
        self.length = self.place.size
        put_thread(&self.handle.reader, PyThread_get_thread_ident())
        return self.lend()

    cdef object begin_with(self, bytes message):
        """The same of a copy."""
        self.private = message
        self.data = PyBytes_AS_STRING(message)
        self.length = <uint32_t>PyBytes_GET_SIZE(message)
        put_thread(&self.handle.reader, PyThread_get_thread_ident())
        return self.lend()

    cdef uint32_t withdraw(self, bint exported) noexcept:
        return self.end(False, exported)

    cdef uint32_t end(self, bint consume, bint exported) noexcept:
        """Consume the message, or leave it."""
        cdef uint32_t code
        with cython.critical_section(self):
            self.stage = OVER
            put_thread(&self.handle.reader, 0)
            code = np_view_end(self.handle.handle, &self.place, self.data, consume, exported)
            if self.exports == 0:
                self.let_go()
        return code


cdef class ReceivedView(Received):
    """What MessagePipe.recv_view returns."""

    def __enter__(self):
        self.claim("a view")
        try:
            with cython.critical_section(self.handle):
                return self.find()
        except BaseException:
            self.unclaim()
            raise

    cdef object find(self):
        cdef np_handle *handle = self.handle.valid()
        cdef uint32_t most = look_at_word(&self.handle.max_message_size), code = NP_WOULD_WAIT, size = 0
        cdef bint in_place = not self.copied
        cdef bint ready
        cdef c_bool pended = False
        cdef np_wait wait
        if np_turn_is_over(&self.handle.run):
            let_others_go_first(&self.handle.run)
        if in_place and self.handle.dropping == NOTHING:
            code = np_view_now(handle, &self.place, most)
        if code == NP_WOULD_WAIT:
            self.handle.check_reader("receiving a message")
            wait = wait_until(self.timeout)
            wait.crowd = np_turn_is_crowd(&self.handle.run)
            if self.handle.dropping == NOTHING and not wait.crowd:
                with nogil:
                    ready = np_spin_read(handle, wait.deadline, &pended)
                if ready and in_place and self.handle.dropping == NOTHING:
                    code = np_view_now(handle, &self.place, most)
        if code == NP_OK:
            return self.begin()
        if code == NP_MORE_DATA:
            raise self.handle.too_long(self.place.size, most)
        if code != NP_WOULD_WAIT:
            raise self.handle.read_ended_by(code, "receiving a message")
        np_recv_prepare(&self.place.recv, False)
        self.place.recv.pended = pended
        while True:
            np_turn_wait()
            with nogil:
                code = np_recv_begin(handle, &self.place.recv, &size, &wait)
                np_turn_want()
            np_turn_got(&self.handle.run)
            if code != NP_OK:
                raise self.handle.read_ended_by(code, "receiving a message")
            if self.handle.dropping != NOTHING and self.handle.drops_this():
                self.handle.drop(&self.place.recv, size, &wait)
                continue
            if size > most:
                np_recv_end(handle, &self.place.recv, NULL, False)
                raise self.handle.too_long(size, most)
            self.place.size = size
            if np_view_in_place(handle, &self.place, in_place):
                return self.begin()
            message = self.collect(size, &wait)
            if message is not None:
                return self.begin_with(message)

    cdef bytes collect(self, uint32_t size, const np_wait *wait):
        """A copy of the message that np_recv_begin announced, which is consumed; None if it was withdrawn."""
        cdef np_handle *handle = self.handle.handle
        cdef uint32_t upto = size if size < TRUSTED_SIZE else TRUSTED_SIZE
        cdef uint32_t code
        cdef bytes data = None
        cdef bytes larger
        cdef char *buffer = NULL
        try:
            data = PyBytes_FromStringAndSize(NULL, upto)
            while True:
                buffer = PyBytes_AS_STRING(data)
                with nogil:
                    code = np_recv_more(handle, &self.place.recv, buffer, upto, wait)
                if code != NP_OK or upto == size:
                    break
                upto = size if size - upto <= upto else 2 * upto
                larger = PyBytes_FromStringAndSize(NULL, upto)
                memcpy(PyBytes_AS_STRING(larger), PyBytes_AS_STRING(data), self.place.recv.op.count)
                data = larger
        except MemoryError:
            np_recv_end(handle, &self.place.recv, buffer, False)
            raise
        if code == NP_OK:
            code = np_view_take(handle, &self.place)
        if code != NP_OK:
            np_recv_end(handle, &self.place.recv, buffer, False)
            if code != NP_RETRY:
                raise self.handle.read_ended_by(code, "receiving a message")
            return None
        return data

    def __exit__(self, kind, error, trace):
        if not self.leave():
            return
        cdef bint exported = self.take_view()
        cdef bint forked = self.handle.forks != np_forks
        cdef uint32_t code = self.end(kind is None, exported)
        if forked:
            return
        with cython.critical_section(self.handle):
            if kind is None and code == NP_OK and self.handle.owed:
                self.handle.has_delivered()
        self.handle.tell_poller()
        if kind is not None:
            return
        if exported:
            raise still_exported(self.handle.name, writes=False)
        if code != NP_OK:
            raise self.handle.explain(code, "receiving a message")
