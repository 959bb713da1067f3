# cython: language_level=3, binding=True
"""A handle of a local pipe, in Win32's own verbs.

Every method that may wait tries first without giving the interpreter up, and waits without it. What Python's own lock
does for the fields of a handle, its critical section does where there is no such lock (docs/design.md): it too is let
go of for a wait.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport uint32_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from npipe.binding.buffers cimport LARGEST, TRUSTED_SIZE, Buffer, Parts, empty_pair, fill, shortened, size_of
from npipe.binding.engine cimport *
from npipe.binding.failures cimport failure, failure_to_accept
from npipe.binding.named cimport Place, place_of
from npipe.binding.system cimport gid_t, look_at_thread, put_thread, npipe_reraise, pid_t, uid_t
from npipe.binding.waits cimport let_others_go_first, only_try, wait_until

import os

from npipe._process import refuse_copy
from npipe.errors import (
    PipeClosedError, PipeMessageTooLargeError, PipeTimeoutError, reply_owed, short_write, unanswered,
)
from npipe.reasons import (
    PeerEnd, being_read_elsewhere, closed_by_fork, closed_here, denied, ended, no_messages, not_carried, partly_read,
    still_reserved, still_viewed, too_large, unread,
)

cdef enum:
    ACCESS_DENIED = 5
    INVALID_PARAMETER = 87
    BAD_PIPE = 230
    PIECE = 65536  # bytes of an answer that are dropped at a time
    COPIED_AT_ONCE = 65536  # bytes of a message that are not worth giving the interpreter up for

cdef tuple ENDS = (NP_BROKEN_PIPE, 232, 233)
cdef int PEER_OPEN = PeerEnd.OPEN
cdef unsigned long OF_COPIES = <unsigned long>-1  # no thread
cdef str SETTING_MODES = "setting the pipe's modes"

cdef struct Reply:
    np_handle *handle
    np_recv recv
    uint32_t size
    bint sent  # the request


cdef uint32_t begin_reply(void *context, const np_wait *wait) noexcept nogil:
    cdef Reply *reply = <Reply *>context
    reply.sent = True
    if wait == NULL:
        return NP_INTERRUPTED
    return np_recv_begin(reply.handle, &reply.recv, &reply.size, wait)


cdef class Handle:
    """A handle of a local pipe: a server's instance or a client's end, in Win32's own verbs.

    The methods raise the exceptions of npipe.errors; a method that may wait takes `timeout` in seconds, None for ever.
    """

    def __cinit__(self, *args, **kwargs):
        self.handle = NULL
        self.max_message_size = LARGEST
        self.owed = 0
        self.answer_too_long = self.transacting = False
        self.dropping = NOTHING
        self.writer = self.reader = 0
        self.name = ""
        self.forks = np_forks

    def __del__(self):
        # Not in __dealloc__: the interpreter may be given up only while others can still get hold of this object (a
        # weak reference).
        cdef np_handle *handle = self.handle
        if handle != NULL:
            np_hold(handle)
            with nogil:
                np_close(handle, False)
                np_free(handle)

    def __dealloc__(self):
        if self.handle != NULL:
            np_let_go(self.handle)
            np_free(self.handle)

    def __reduce__(self):
        refuse_copy(self, "pass the pipe's name, and open it there with npipe.connect")

    # ---- Opening and closing

    @classmethod
    def create(cls, str root, str folder, str display, str name, *, uint32_t access, bint first_instance,
               uint32_t type, uint32_t mode, uint32_t max_instances, uint32_t out_quota, uint32_t in_quota,
               uint32_t default_timeout_ms, bint everyone=False, tuple uids=(), tuple gids=(), uint32_t allowed=3,
               bint overlapped=False, timeout=None, bint traceable=True):
        """CreateNamedPipe: a new, listening instance (SEMANTICS §2).

        `timeout` is for another process that has the lock of the pipe's folder: PipeTimeoutError (121), or, after 3
        seconds in any case, PipeResourceError (1450).
        """
        cdef Handle self = cls.__new__(cls)
        cdef Place place = place_of(root, folder, display)
        cdef np_create_options options
        cdef np_wait wait = wait_until(timeout)
        cdef char why[NP_WHY_SIZE]
        cdef uint32_t code
        cdef np_where *where = &place.where
        why[0] = 0
        options.wait = &wait
        self.name = name
        options.access = access
        options.first_instance = first_instance
        options.type = type
        options.mode = mode
        options.max_instances = max_instances
        options.out_quota = out_quota
        options.in_quota = in_quota
        options.default_timeout_ms = default_timeout_ms
        options.overlapped = overlapped
        options.untraceable = not traceable
        options.rule.everyone = everyone
        options.rule.allowed = allowed
        options.rule.n_uids = <uint32_t>len(uids)
        options.rule.n_gids = <uint32_t>len(gids)
        options.rule.uids = <uid_t *>malloc((len(uids) + 1) * sizeof(uid_t))
        options.rule.gids = <gid_t *>malloc((len(gids) + 1) * sizeof(gid_t))
        try:
            if options.rule.uids == NULL or options.rule.gids == NULL:
                raise MemoryError
            for i, uid in enumerate(uids):
                options.rule.uids[i] = uid
            for i, gid in enumerate(gids):
                options.rule.gids[i] = gid
            with nogil:
                code = np_create(where, &options, &self.handle, why)
        finally:
            free(options.rule.uids)
            free(options.rule.gids)
        if code != NP_OK:
            raise failure(code, name, "creating an instance", why)
        return self

    @classmethod
    def open(cls, str root, str folder, str display, str name, *, uint32_t access, bint hold, bint verify_owner,
             timeout, bint overlapped=False):
        """CreateFile on a pipe; with `hold` it waits for an instance, as one step (SEMANTICS §2.5)."""
        cdef Handle self = cls.__new__(cls)
        cdef Place place = place_of(root, folder, display)
        cdef np_open_options options
        cdef np_wait wait = wait_until(timeout)
        cdef char why[NP_WHY_SIZE]
        cdef uint32_t code
        cdef np_where *where = &place.where
        why[0] = 0
        self.name = name
        options.access = access
        options.hold = hold
        options.verify_owner = verify_owner
        options.overlapped = overlapped
        options.remote = NULL
        options.remote_size = 0
        with nogil:
            code = np_open(where, &options, &wait, &self.handle, why)
        if code != NP_OK:
            raise failure(code, name, "opening the pipe", why)
        return self

    def close_handle(self, bint discard=False, double patience=5.0):
        """CloseHandle. With `discard` the peer loses what it has not read. Closing twice is no error.

        A write that another thread has under way, and that is too long for the ring, gets `patience` seconds to come
        through.
        """
        cdef np_handle *handle
        if not discard:
            self.drain(patience)
        handle = self.handle
        if handle != NULL:
            np_hold(handle)  # see connect
            with nogil:
                np_close(handle, discard)
                np_free(handle)

    def replace(self, bint discard=False):
        """Closes this server handle and returns a new listening one in its place, without a gap."""
        cdef Handle fresh = Handle.__new__(Handle)
        cdef np_handle *handle = self.valid()
        cdef uint32_t code
        fresh.name = self.name
        fresh.max_message_size = self.max_message_size
        np_hold(handle)  # see connect
        with nogil:
            code = np_replace(handle, discard, &fresh.handle)
            np_free(handle)
        if code != NP_OK:
            raise failure(code, self.name, "listening again")
        return fresh

    def another(self, timeout=None):
        """A new, listening instance of the same pipe with the attributes of this one (CreateNamedPipe, SEMANTICS §2).
        `timeout` as in create.
        """
        cdef Handle fresh = Handle.__new__(Handle)
        cdef np_handle *handle = self.valid()
        cdef np_wait wait = wait_until(timeout)
        cdef uint32_t code
        fresh.name = self.name
        fresh.max_message_size = self.max_message_size
        np_hold(handle)  # see connect
        with nogil:
            code = np_create_another(handle, &wait, &fresh.handle)
            np_free(handle)
        if code != NP_OK:
            raise failure(code, self.name, "creating an instance")
        return fresh

    def adopt(self, Handle other not None):
        """Takes the handle out of `other`, which is closed afterwards."""
        # Both are their maker's alone as yet, so nobody is in a call with what `other` loses: no other handle goes from
        # object to object.
        if self.handle != NULL:
            raise ValueError("this object has a handle already")
        self.handle, other.handle = other.handle, NULL
        self.name = other.name
        self.max_message_size = other.max_message_size

    @property
    def closed(self):
        """Whether the handle is closed on this side."""
        return self.handle == NULL or np_is_closed(self.handle)

    @property
    def forked(self):
        """Whether it belongs to the process that this one was forked from."""
        return self.forks != np_forks

    cdef np_handle *valid(self) except NULL:
        if self.handle == NULL:
            raise self.explain(NP_INVALID_HANDLE, "using the pipe")
        return self.handle

    cdef int tell_poller(self) except -1:
        """A read has changed what there is to read."""
        cdef object rearm
        with cython.critical_section(self):
            rearm = self.rearm
        if rearm is not None:
            rearm()
        return 0

    cdef object explain(self, uint32_t code, str doing):
        """The exception for a call that has failed, with what this end knows of the reason."""
        cdef np_description about
        cdef int how
        if code == NP_INTERRUPTED or self.handle == NULL and code != NP_INVALID_HANDLE:
            return failure(code, self.name, doing)
        if code == NP_INVALID_HANDLE or code == NP_BROKEN_PIPE and np_is_closed(self.handle):
            if self.forks != np_forks:
                return closed_by_fork(self.name, doing, code=code)
            return closed_here(self.name, doing, code=code)
        np_describe(self.handle, &about)
        if code == ACCESS_DENIED:
            return denied(self.name, doing, is_server=about.server, direction=about.direction, access=about.access)
        if code == NP_PIPE_BUSY and doing == "transacting":
            return being_read_elsewhere(self.name) if np_is_being_read(self.handle) else unread(self.name)
        if code == INVALID_PARAMETER and doing in ("writing", "transacting"):
            return not_carried(self.name)
        if code == INVALID_PARAMETER and doing == SETTING_MODES and not about.type:
            return no_messages(self.name, doing, "")
        how = np_peer_ended(self.handle)
        if code in ENDS or code == BAD_PIPE and how != PEER_OPEN:
            return ended(code, self.name, doing, is_server=about.server, how=how)
        return failure(code, self.name, doing)

    cdef object too_long(self, uint32_t size, uint32_t most):
        """The exception for a message of `size` bytes where `most` are allowed."""
        if self.rearm is not None:
            self.rearm()
        return too_large(self.name, most, size)

    cdef object read_ended_by(self, uint32_t code, str doing):
        """The same for a read. It too asks for the byte of the next message, or takes one that came for nothing: else
        the descriptor would stay readable, or the next message not be told of.
        """
        if code == NP_INTERRUPTED:
            try:
                npipe_reraise()  # a signal handler's: no Python code may run before it is raised
            finally:
                if self.rearm is not None:
                    self.rearm()
        if self.rearm is not None:
            self.rearm()
        return self.explain(code, doing)

    # ---- The server's verbs

    def connect(self, timeout=None, recalls=None):
        """ConnectNamedPipe: 0, or 535 if a client is there already (SEMANTICS §3.2).

        `recalls`, what recalls() has said: 995 as soon as recall() is called, or was since then.
        """
        cdef np_handle *handle = self.valid()
        cdef np_wait wait = wait_until(timeout)
        cdef uint32_t code, seen = 0 if recalls is None else recalls
        cdef bint may_end = recalls is not None
        # Another thread may get this client, adopt the handle, and close it while we are still inside.
        np_hold(handle)
        with nogil:
            code = np_connect_until(handle, seen, &wait) if may_end else np_connect(handle, &wait)
        try:
            if code != NP_OK and code != NP_PIPE_CONNECTED and (code != NP_OPERATION_ABORTED or not may_end):
                raise failure_to_accept(handle, code, self.name)
        finally:
            with nogil:
                np_free(handle)
        return code

    def recalls(self):
        """See connect. Of one that is closed nothing is to be told: 0."""
        return 0 if self.handle == NULL else np_recalls(self.handle)

    def recall(self):
        """Ends connects on it that wait, and that were given what recalls() has said by now."""
        cdef np_handle *handle = self.handle
        if handle == NULL:
            return
        np_hold(handle)  # see connect
        with nogil:
            np_recall(handle)
            np_free(handle)

    def disconnect(self):
        """DisconnectNamedPipe: both directions are discarded (SEMANTICS §3.3)."""
        cdef np_handle *handle = self.valid()
        cdef uint32_t code
        np_hold(handle)  # see connect
        with nogil:
            code = np_disconnect(handle)
            np_free(handle)
        if code != NP_OK:
            raise self.explain(code, "disconnecting")

    # ---- Data

    def write_file(self, data, timeout=None, bint may_be_left=False):
        """WriteFile: the number of bytes written (SEMANTICS §6). `may_be_left`: see below."""
        cdef uint32_t size = 0
        return self.write_from(data, timeout, may_be_left, &size)

    cdef uint32_t write_from(self, data, timeout, bint may_be_left, uint32_t *length_of_it) except? 0xFFFFFFFF:
        """write_file, which also says how many bytes there were to write."""
        cdef Buffer buffer = None
        cdef const char *bytes
        cdef Py_ssize_t length
        cdef uint32_t size
        self.valid()
        if PyBytes_CheckExact(data):
            bytes = PyBytes_AS_STRING(data)
            length = PyBytes_GET_SIZE(data)
        else:
            buffer = Buffer(data, False)
            bytes = <const char *>buffer.view.buf
            length = buffer.view.len
        size = size_of(length, self.name)
        length_of_it[0] = size
        return self.write_bytes(bytes, size, timeout, may_be_left)

    cdef uint32_t write_bytes(self, const char *bytes, uint32_t size, timeout,
                              bint may_be_left) except? 0xFFFFFFFF:
        cdef np_handle *handle = self.valid()
        cdef uint32_t count, code
        cdef np_wait wait = only_try()
        if look_at_thread(&self.writer):
            self.check_writer("writing")
        code = np_write(handle, bytes, size, &count, &wait)
        if code == NP_WOULD_WAIT:
            wait = wait_until(timeout)
            if wait.deadline != NP_FOREVER and timeout <= 0:
                code = NP_SEM_TIMEOUT
            else:
                with nogil:
                    code = np_write(handle, bytes, size, &count, &wait)
        return self.after_write(code, count, size, may_be_left)

    cdef int write_all(self, const char *bytes, uint32_t size, timeout) except -1:
        """A message, as MessagePipe.send writes it."""
        cdef uint32_t count = self.write_bytes(bytes, size, timeout, True)
        if count != size:
            raise short_write(self.name, count, size)
        return 0

    cdef int check_writer(self, str doing) except -1:
        """Raise what a thread gets that would wait for the end of a reservation of its own."""
        cdef unsigned long thread = PyThread_get_thread_ident()
        cdef bint own = look_at_thread(&self.writer) == thread
        if not own:
            with cython.critical_section(self):
                own = self.copying is not None and thread in self.copying
        if own:
            raise still_reserved(self.name, doing)
        return 0

    cdef int begin_reserving(self, unsigned long thread, object copier) except -1:
        """A thread has a reservation out: in place, of which there is one at a time; or, if `copier` is that thread and
        not None, as a copy.
        """
        with cython.critical_section(self):
            if copier is None:
                put_thread(&self.writer, thread)
            else:
                if self.copying is None:
                    self.copying = [copier]
                else:
                    self.copying.append(copier)
                if not look_at_thread(&self.writer):
                    put_thread(&self.writer, OF_COPIES)
        return 0

    cdef void end_reserving(self, object copier) noexcept:
        """It is over; with what `begin_reserving` got, for this needs no memory."""
        with cython.critical_section(self):
            if copier is not None and self.copying is not None:
                self.copying.remove(copier)
                if not self.copying:
                    self.copying = None
            if copier is None or look_at_thread(&self.writer) == OF_COPIES:
                put_thread(&self.writer, 0 if self.copying is None else OF_COPIES)

    cdef int check_reader(self, str doing) except -1:
        """The same of a view."""
        if look_at_thread(&self.reader) == PyThread_get_thread_ident():
            raise still_viewed(self.name, doing)
        return 0

    cdef uint32_t after_write(self, uint32_t code, uint32_t count, uint32_t size, bint may_be_left) except? 0xFFFFFFFF:
        if may_be_left and code == NP_BROKEN_PIPE and size and count == size:
            return count  # another thread has closed the pipe, but the peer can read all of it
        if code == NP_SEM_TIMEOUT and count:
            raise partly_read(self.name, count, size)
        if code != NP_OK:
            raise self.explain(code, "writing")
        return count

    cdef uint32_t write_parts(self, Parts parts, timeout) except? 0xFFFFFFFF:
        """WriteFile of several buffers as one message: the number of bytes. Of a pipe that is closed meanwhile it may
        be left, as in write_from.
        """
        cdef np_handle *handle = self.valid()
        cdef uint32_t count, code
        cdef np_wait wait = only_try()
        if look_at_thread(&self.writer):
            self.check_writer("writing")
        code = np_write_parts(handle, parts.list, parts.size, &count, &wait)
        if code == NP_WOULD_WAIT:
            wait = wait_until(timeout)
            if wait.deadline != NP_FOREVER and timeout <= 0:
                code = NP_SEM_TIMEOUT
            else:
                with nogil:
                    code = np_write_parts(handle, parts.list, parts.size, &count, &wait)
        return self.after_write(code, count, parts.size, True)

    def read_file(self, uint32_t size, timeout=None):
        """ReadFile: (0 or 234, data) (SEMANTICS §5)."""
        cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
        cdef tuple result = empty_pair()
        cdef uint32_t count = 0
        cdef uint32_t code = self.read_to(PyBytes_AS_STRING(data), size, &count, timeout)
        return fill(result, code, shortened(data, count))

    def read_file_into(self, buffer, timeout=None):
        """ReadFile into a writable buffer: (0 or 234, number of bytes)."""
        cdef Buffer target = Buffer(buffer, True)
        cdef uint32_t count = 0
        cdef uint32_t size = size_of(target.view.len, self.name)
        cdef uint32_t code = self.read_to(<char *>target.view.buf, size, &count, timeout)
        return code, count

    @cython.critical_section
    cdef uint32_t read_to(self, char *buffer, uint32_t size, uint32_t *count, timeout) except? 0xFFFFFFFF:
        cdef np_handle *handle = self.valid()
        cdef np_wait wait = only_try()
        cdef uint32_t code
        if np_turn_is_over(&self.run):
            let_others_go_first(&self.run)
        code = np_read(handle, buffer, size, count, &wait)
        if code == NP_WOULD_WAIT:
            wait = wait_until(timeout)
            wait.crowd = np_turn_is_crowd(&self.run)
            np_turn_wait()
            with nogil:
                code = np_read(handle, buffer, size, count, &wait)
                np_turn_want()
            np_turn_got(&self.run)
        if code != NP_OK and code != NP_MORE_DATA:
            raise self.read_ended_by(code, "reading")
        if self.rearm is not None:
            self.rearm()
        return code

    @cython.critical_section
    cdef bytes receive(self, timeout, uint32_t most):
        """The next whole message, of at most `most` bytes."""
        cdef np_handle *handle = self.valid()
        cdef np_wait wait
        cdef np_recv recv
        cdef uint32_t size = 0, code
        cdef bint ready
        cdef bytes data
        if np_turn_is_over(&self.run):
            let_others_go_first(&self.run)
        code = np_recv_try(handle, most, &size) if self.dropping == NOTHING else NP_WOULD_WAIT
        if code == NP_WOULD_WAIT:
            self.check_reader("receiving a message")
            wait = wait_until(timeout)
            np_recv_prepare(&recv, False)
            wait.crowd = np_turn_is_crowd(&self.run)
            if self.dropping == NOTHING and not wait.crowd:
                with nogil:
                    ready = np_spin_read(handle, wait.deadline, &recv.pended)
                if ready and self.dropping == NOTHING:
                    code = np_recv_try(handle, most, &size)
        if code == NP_OK:
            try:
                data = PyBytes_FromStringAndSize(NULL, size)
            except MemoryError:
                np_recv_leave(handle)
                raise
            np_recv_take(handle, PyBytes_AS_STRING(data), size)
        elif code == NP_MORE_DATA:
            raise self.too_long(size, most)
        elif code == NP_WOULD_WAIT:
            while True:
                np_turn_wait()
                with nogil:
                    code = np_recv_begin(handle, &recv, &size, &wait)
                    np_turn_want()
                np_turn_got(&self.run)
                if code != NP_OK:
                    raise self.read_ended_by(code, "receiving a message")
                if self.dropping != NOTHING and self.drops_this():
                    self.drop(&recv, size, &wait)
                    continue
                data = self.collect(&recv, size, most, &wait)
                if data is not None:
                    break
        else:
            raise self.read_ended_by(code, "receiving a message")
        if self.owed:
            self.has_delivered()
        if self.rearm is not None:
            self.rearm()
        return data

    cdef int has_delivered(self) except -1:
        """A message has been read, which is the answer if one is owed."""
        if self.owed:
            self.owed -= 1
            self.answer_too_long = False
        return 0

    # ---- Answers that nobody wants. What is looked at and changed here is so with the turn to read and the handle's
    # critical section: a read that has its turn knows whether the message before it is one that is being dropped.

    cdef bint is_owed(self) noexcept:
        """Whether an answer is to be read that no transaction waits for."""
        return self.owed > 0 and not self.transacting

    cdef bint drops_this(self) except -1:
        """Whether the message that has been found, by the read that has its turn, is to be dropped."""
        if self.dropping == THE_REST and not np_is_at_rest_of_message(self.handle):
            self.dropping = NOTHING  # the writer has given up what was left of it
            self.has_delivered()
        return self.dropping != NOTHING

    cdef int drop(self, np_recv *recv, uint32_t size, const np_wait *wait) except -1:
        """Drop the message of `size` bytes that np_recv_begin announced, as far as it comes in time: what is left then
        goes before the next read.
        """
        cdef np_handle *handle = self.handle
        cdef bytes scrap = None
        cdef uintptr_t place
        cdef uint32_t upto = 0, dropped, code = NP_OK, end
        try:
            scrap = PyBytes_FromStringAndSize(NULL, PIECE if size > PIECE else size)
        except MemoryError:
            np_recv_end(handle, recv, NULL, False)
            raise
        place = <uintptr_t>PyBytes_AS_STRING(scrap)
        while code == NP_OK and upto < size:
            upto = size if size - upto < PIECE else upto + PIECE
            with nogil:  # it copies to where all of it would have its place
                code = np_recv_more(handle, recv, <void *>(place - recv.op.count), upto, wait)
        dropped = recv.op.count
        if code == NP_RETRY:  # it has gone: the next look finds out
            np_recv_end(handle, recv, NULL, False)
            return 0
        end = np_recv_end(handle, recv, NULL, code == NP_OK or dropped > 0)
        if end == NP_OK and dropped == size:
            self.dropping = NOTHING
            self.has_delivered()
        elif end == NP_OK and dropped:
            self.dropping = THE_REST
        if code != NP_OK or end != NP_OK and end != NP_RETRY:
            raise self.read_ended_by(code if code != NP_OK else end, "discarding the answer")
        if self.rearm is not None:
            self.rearm()
        return 0

    @cython.critical_section
    def discard_reply(self, timeout=None):
        """Drop the answer that is owed, when it has come; see MessagePipe.discard_reply. One thread at a time."""
        cdef np_handle *handle
        cdef np_wait wait = wait_until(timeout)
        cdef np_recv recv
        cdef uint32_t size = 0, code
        self.check_reader("discarding the answer")
        np_recv_prepare(&recv, False)
        while self.is_owed():
            handle = self.valid()
            with nogil:
                code = np_recv_begin(handle, &recv, &size, &wait)
            if not self.is_owed():  # another thread has read it meanwhile
                if code == NP_OK:
                    np_recv_end(handle, &recv, NULL, False)
                elif code == NP_INTERRUPTED:
                    raise self.read_ended_by(code, "discarding the answer")
                if self.rearm is not None:
                    self.rearm()
                return
            if code != NP_OK:
                raise self.read_ended_by(code, "discarding the answer")
            if self.dropping == NOTHING or self.drops_this():
                self.drop(&recv, size, &wait)
                continue
            np_recv_end(handle, &recv, NULL, False)  # its writer has given it up: this is the next message
            if self.rearm is not None:
                self.rearm()

    @cython.critical_section
    def forget_reply(self):
        """Be owed nothing: the writer of the answer has given it up."""
        self.has_delivered()

    @property
    @cython.critical_section
    def too_long(self):
        """Whether the answer that is owed is known to be longer than max_message_size."""
        return self.answer_too_long != 0

    @property
    @cython.critical_section
    def drops(self):
        """Whether the next read has something to drop first."""
        return self.dropping == THE_REST

    @cython.critical_section
    def drop_what_is_there(self):
        """Drop the rest of the message that is being dropped, if it is there. Whether nothing of it is left."""
        cdef np_handle *handle = self.valid()
        cdef np_wait wait = only_try()
        cdef np_recv recv
        cdef uint32_t size = 0, code
        if self.dropping != NOTHING:
            np_recv_prepare(&recv, False)
            code = np_recv_begin(handle, &recv, &size, &wait)
            if code == NP_OK and not self.drops_this():
                np_recv_end(handle, &recv, NULL, False)
            elif code == NP_OK:
                recv.patience = 1  # over: what has not come yet is not waited for
                try:
                    self.drop(&recv, size, &wait)
                except PipeTimeoutError:
                    pass
            elif code != NP_WOULD_WAIT and code != NP_SEM_TIMEOUT:
                raise self.read_ended_by(code, "peeking")
        return self.dropping == NOTHING

    @cython.critical_section
    def read_part_into(self, buffer, timeout=None):
        """ReadFile into a writable buffer, of a message pipe: the number of bytes."""
        cdef np_handle *handle = self.valid()
        cdef Buffer target = Buffer(buffer, True)
        cdef uint32_t size = size_of(target.view.len, self.name), count = 0, code = NP_WOULD_WAIT
        cdef np_wait wait = only_try()
        cdef np_recv recv
        np_recv_prepare(&recv, False)  # once: a peer that takes its messages back is not to renew the time-out
        if np_turn_is_over(&self.run):
            let_others_go_first(&self.run)
        if self.dropping == NOTHING:
            code = np_read(handle, target.view.buf, size, &count, &wait)
        if code == NP_WOULD_WAIT:
            self.check_reader("reading")
            wait = wait_until(timeout)
            # An answer that is owed may be dropped before this read has its turn.
            while code == NP_WOULD_WAIT and (self.owed or self.dropping != NOTHING):
                code = self.read_in_turn(&recv, <char *>target.view.buf, size, &count, &wait)
            if code == NP_WOULD_WAIT:
                wait.crowd = np_turn_is_crowd(&self.run)
                np_turn_wait()
                with nogil:
                    code = np_read(handle, target.view.buf, size, &count, &wait)
                    np_turn_want()
                np_turn_got(&self.run)
        if code != NP_OK and code != NP_MORE_DATA:
            raise self.read_ended_by(code, "reading")
        if self.owed and code == NP_OK:  # that was all of it
            self.has_delivered()
        if self.rearm is not None:
            self.rearm()
        return count

    cdef bint read_parts_now(self, Parts parts, uint32_t most, uint32_t *count) except -1:
        """Read the next message into several buffers if it is there in full, and has at most `most` bytes. The caller
        has the critical section.
        """
        cdef uint32_t size = 0
        if self.dropping != NOTHING or np_recv_try(self.handle, most, &size) != NP_OK:
            return False
        count[0] = np_recv_take_parts(self.handle, parts.list, parts.size)
        if self.owed and count[0] == size:
            self.has_delivered()
        if self.rearm is not None:
            self.rearm()
        return True

    @cython.critical_section
    cdef uint32_t read_parts(self, Parts parts, timeout) except? 0xFFFFFFFF:
        """ReadFile of a message pipe into several buffers, one behind the other: the number of bytes."""
        cdef np_handle *handle = self.valid()
        cdef uint32_t code, length = 0, upto, part, end, count = 0
        cdef Py_ssize_t i
        cdef np_wait wait
        cdef np_recv recv
        cdef bint ready
        if np_turn_is_over(&self.run):
            let_others_go_first(&self.run)
        if self.read_parts_now(parts, LARGEST, &count):
            return count
        self.check_reader("reading")
        wait = wait_until(timeout)
        np_recv_prepare(&recv, False)
        wait.crowd = np_turn_is_crowd(&self.run)
        if self.dropping == NOTHING and not wait.crowd:
            np_turn_wait()  # who has the interpreter is to know that it is wanted behind the spin
            with nogil:
                ready = np_spin_read(handle, wait.deadline, &recv.pended)
                np_turn_want()
            np_turn_got_again(&self.run)
            if ready and self.read_parts_now(parts, LARGEST, &count):
                return count
        while True:
            np_turn_wait()
            with nogil:
                code = np_recv_begin(handle, &recv, &length, &wait)
                np_turn_want()
            np_turn_got(&self.run)
            if code != NP_OK:
                raise self.read_ended_by(code, "reading")
            if self.dropping != NOTHING and self.drops_this():
                self.drop(&recv, length, &wait)
                continue
            upto = parts.size if parts.size < length else length
            np_recv_into_parts(&recv, parts.list)
            np_turn_wait()
            with nogil:
                end = 0
                for i in range(parts.count):
                    if end >= upto or code != NP_OK:
                        break
                    part = upto - end if parts.list[i].iov_len > upto - end else <uint32_t>parts.list[i].iov_len
                    if part:  # it copies to where all of it would have its place
                        code = np_recv_more(handle, &recv, <void *>(<uintptr_t>parts.list[i].iov_base - end),
                                            end + part, &wait)
                    end += part
                np_turn_want()
            np_turn_got_again(&self.run)
            if code == NP_OK and (upto or not length):
                code = np_recv_end(handle, &recv, NULL, True)
            else:
                np_recv_end(handle, &recv, NULL, False)
            if code == NP_RETRY:
                continue
            if code != NP_OK:
                raise self.read_ended_by(code, "reading")
            if self.owed and upto == length:
                self.has_delivered()
            if self.rearm is not None:
                self.rearm()
            return upto

    cdef uint32_t read_in_turn(self, np_recv *recv, char *buffer, uint32_t size, uint32_t *count,
                               const np_wait *wait) except 0xFFFFFFFF:
        """ReadFile, which looks whether the message is being dropped when its turn has come. NP_WOULD_WAIT: look for
        the next one.
        """
        cdef np_handle *handle = self.handle
        cdef uint32_t code, length = 0, upto
        with nogil:
            code = np_recv_begin(handle, recv, &length, wait)
        if code != NP_OK:
            return code
        if self.dropping != NOTHING and self.drops_this():
            self.drop(recv, length, wait)
            return NP_WOULD_WAIT
        upto = size if size < length else length
        if upto:
            with nogil:
                code = np_recv_more(handle, recv, buffer, upto, wait)
        count[0] = recv.op.count
        if code == NP_OK and (upto or not length):
            code = np_recv_end(handle, recv, buffer, True)
        else:
            np_recv_end(handle, recv, buffer, False)
        if code == NP_RETRY:
            return NP_WOULD_WAIT
        return NP_MORE_DATA if code == NP_OK and upto < length else code

    cdef bytes collect(self, np_recv *recv, uint32_t size, uint32_t most, const np_wait *wait):
        """The message of `size` bytes that np_recv_begin announced; None if it was withdrawn: begin again."""
        cdef np_handle *handle = self.handle
        cdef uint32_t upto = size if size < TRUSTED_SIZE else TRUSTED_SIZE
        cdef uint32_t code = NP_OK
        cdef bytes data = None
        cdef char *buffer = NULL
        cdef bytes larger
        try:
            if size > most:
                code = NP_MORE_DATA
            else:
                data = PyBytes_FromStringAndSize(NULL, upto)
                while True:
                    buffer = PyBytes_AS_STRING(data)
                    code = np_recv_more_now(handle, recv, buffer, upto) if upto <= COPIED_AT_ONCE else NP_WOULD_WAIT
                    if code == NP_WOULD_WAIT:
                        with nogil:
                            code = np_recv_more(handle, recv, buffer, upto, wait)
                    if code != NP_OK or upto == size:
                        break
                    upto = size if size - upto <= upto else 2 * upto
                    larger = PyBytes_FromStringAndSize(NULL, upto)
                    memcpy(PyBytes_AS_STRING(larger), PyBytes_AS_STRING(data), recv.op.count)
                    data = larger
        except MemoryError:
            np_recv_end(handle, recv, buffer, False)
            raise
        if code == NP_OK:
            code = np_recv_end(handle, recv, buffer, True)
        else:
            np_recv_end(handle, recv, buffer, False)
        if code == NP_RETRY:
            return None
        if code == NP_MORE_DATA:
            raise self.too_long(size, most)
        if code != NP_OK:
            raise self.read_ended_by(code, "receiving a message")
        return data

    @cython.critical_section
    def transact_pipe(self, data, timeout=None):
        """TransactNamedPipe, with room for a reply of any length (SEMANTICS §8); but of a pipe that is owed an answer
        PipeStateError (996).
        """
        cdef Buffer buffer = Buffer(data, False)  # what cannot be sent is told first
        cdef const char *bytes = <const char *>buffer.view.buf
        cdef uint32_t size = size_of(buffer.view.len, self.name)
        cdef np_wait wait = wait_until(timeout)
        cdef np_handle *handle = self.valid()
        cdef Reply reply
        cdef uint32_t code
        self.check_writer("transacting")
        self.check_reader("transacting")
        if self.transacting:
            raise being_read_elsewhere(self.name)
        if self.owed and not np_is_closed(handle):
            raise reply_owed(self.name, too_long=self.answer_too_long != 0)
        reply.handle = handle
        np_recv_prepare(&reply.recv, True)
        reply.sent = False
        # From here on, and not when this has failed: another thread may read the answer, or begin a transaction, before
        # this one has the interpreter again.
        self.transacting = True
        self.owed += 1
        try:
            # It gives the interpreter up each time, so it has no turn; but others are to know that it wants it again.
            np_turn_wait()
            with nogil:
                code = np_transact(handle, bytes, size, &wait, begin_reply, &reply)
                np_turn_want()
            np_turn_got(&self.run)
            while code == NP_OK:
                answer = self.collect(&reply.recv, reply.size, self.max_message_size, &wait)
                if answer is not None:
                    break
                with nogil:
                    code = np_recv_begin(handle, &reply.recv, &reply.size, &wait)
            if code == NP_SEM_TIMEOUT:
                if self.rearm is not None:
                    self.rearm()
                raise unanswered(self.name, sent=reply.sent)
            if code != NP_OK:
                raise self.read_ended_by(code, "transacting")
        except PipeClosedError:
            self.has_delivered()  # nothing will come
            raise
        except PipeMessageTooLargeError:
            self.answer_too_long = self.owed > 0
            raise
        except BaseException:  # Ctrl-C too
            if not reply.sent:
                self.has_delivered()
            raise
        finally:
            self.transacting = False
        self.has_delivered()
        if self.rearm is not None:
            self.rearm()
        return answer

    def peek_pipe(self, uint32_t size=0):
        """PeekNamedPipe: (data, bytes available, bytes left in this message) (SEMANTICS §7)."""
        cdef np_handle *handle = self.valid()
        cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
        cdef char *buffer = PyBytes_AS_STRING(data)
        cdef uint32_t count = 0, available = 0, left = 0, code
        np_hold(handle)  # see connect
        with nogil:
            code = np_peek(handle, buffer, size, &count, &available, &left)
            np_free(handle)
        if code == NP_BROKEN_PIPE and look_at_thread(&self.reader):
            return b"", 0, 0  # what is looked at is not consumed yet, so that is not the end
        if code != NP_OK:
            raise self.explain(code, "peeking")
        return data if count == size else data[:count], available, left

    def look(self):
        """Finds out now whether the peer has gone, of which the native thread tells a moment after it."""
        cdef np_handle *handle = self.valid()
        np_hold(handle)  # see connect
        with nogil:
            np_look(handle)
            np_free(handle)

    def has_unread(self):
        """Whether there is something to read, be it an empty message, of which a peek does not tell."""
        cdef np_handle *handle = self.valid()
        cdef bint unread
        np_hold(handle)  # see connect
        with nogil:
            unread = np_has_unread(handle)
            np_free(handle)
        return unread

    def flush_buffers(self, timeout=None):
        """FlushFileBuffers: waits until the peer has read everything (SEMANTICS §10.1)."""
        cdef np_handle *handle = self.valid()
        cdef np_wait wait = wait_until(timeout)
        cdef uint32_t code
        with nogil:
            code = np_flush(handle, &wait)
        if code != NP_OK:
            raise self.explain(code, "flushing")

    def drain(self, timeout=None):
        """Waits until all writes under way stand in the ring, where a close leaves them. Whether that was so in time.
        """
        cdef np_wait wait = wait_until(timeout)
        cdef uint32_t code = NP_OK
        cdef np_handle *handle = self.handle
        if handle != NULL:
            np_hold(handle)  # see connect
            with nogil:
                code = np_drain(handle, &wait)
                np_free(handle)
        if code == NP_INTERRUPTED:
            npipe_reraise()
        return code == NP_OK

    # ---- State

    def set_state(self, uint32_t mode):
        """SetNamedPipeHandleState: read mode (2) and wait mode (1) (SEMANTICS §9.1)."""
        cdef uint32_t code = np_set_state(self.valid(), mode)
        if code != NP_OK:
            raise self.explain(code, SETTING_MODES)

    def get_state(self):
        """GetNamedPipeHandleState: (modes, current instances) (SEMANTICS §9.2)."""
        cdef np_handle *handle = self.valid()
        cdef uint32_t mode = 0, instances = 0, code
        with nogil:
            code = np_get_state(handle, &mode, &instances)
        if code != NP_OK:
            raise self.explain(code, "getting the pipe's state")
        return mode, instances

    def get_info(self):
        """GetNamedPipeInfo: (flags, out buffer size, in buffer size, maximum instances) (SEMANTICS §9.3)."""
        cdef np_info info
        cdef uint32_t code = np_get_info(self.valid(), &info)
        if code != NP_OK:
            raise self.explain(code, "getting the pipe's information")
        return info.flags, info.out_quota, info.in_quota, info.max_instances

    def describe(self):
        """(is the server's, type, direction, modes, in buffer size, out buffer size, maximum instances)."""
        cdef np_description about
        np_describe(self.valid(), &about)
        return (about.server, about.type, about.direction, about.mode, about.in_quota, about.out_quota,
                about.max_instances)

    def data_access(self):
        """What this end may do: 1 read, 2 write."""
        cdef np_description about
        np_describe(self.valid(), &about)
        return about.access

    def count_instances(self):
        """The current instances of the pipe's name; 0 when its servers are gone."""
        cdef np_handle *handle = self.valid()
        cdef uint32_t instances = 0, code
        with nogil:
            code = np_count_instances(handle, &instances)
        if code != NP_OK:
            raise self.explain(code, "counting the instances")
        return instances

    def client_pid(self):
        """GetNamedPipeClientProcessId (SEMANTICS §11)."""
        cdef uint32_t pid = 0
        cdef uint32_t code = np_client_pid(self.valid(), &pid)
        if code != NP_OK:
            raise self.explain(code, "getting the client's process id")
        return pid

    def server_pid(self):
        """GetNamedPipeServerProcessId (SEMANTICS §11)."""
        cdef uint32_t pid = 0
        cdef uint32_t code = np_server_pid(self.valid(), &pid)
        if code != NP_OK:
            raise self.explain(code, "getting the server's process id")
        return pid

    def counts(self):
        """What this end's connection, or its last one, has moved: since (ns since 1970), received bytes, messages and
        what is unread, sent bytes, messages and what of these is unread, pending reads and writes, for how long a read
        and a write sleep (ns, 0: none), who sleeps (np_sleeping), how often threads slept.
        """
        cdef np_handle *handle = self.valid()
        cdef np_counts about
        with nogil:
            np_handle_count(handle, &about)
        return counted(&about)

    def peer_credentials(self):
        """(process id, user id) of the other end, by the kernel's word when it connected."""
        cdef pid_t pid = 0
        cdef uid_t uid = 0
        cdef uint32_t code = np_peer(self.valid(), &pid, &uid)
        if code != NP_OK:
            raise self.explain(code, "asking for the peer")
        return pid, uid

    def remote(self):
        """Of a server's end: what tells of the client of another machine for whom it was opened; None: of this one."""
        cdef np_handle *handle = self.valid()
        cdef void *data = NULL
        cdef uint32_t size = 0
        cdef uint32_t code = np_remote(handle, &data, &size)
        if code != NP_OK:
            raise self.explain(code, "asking for the peer")
        if data == NULL:
            return None
        try:
            return PyBytes_FromStringAndSize(<char *>data, size)
        finally:
            free(data)

    def rest_of_message(self):
        """Unread bytes of the message that was read in part; 0 at a message's start."""
        return 0 if self.handle == NULL else np_rest_of_message(self.handle)

    # ---- For selectors

    def poll_socket(self):
        """The link's socket, which hangs up with the peer and gets a byte when a read is armed."""
        cdef int socket = -1
        cdef uint32_t code = np_poll_socket(self.valid(), &socket)
        if code != NP_OK:
            raise self.explain(code, "asking for the descriptor")
        return socket

    def part_with_socket(self):
        """Ends the handle, but not the connection: a descriptor of the link's socket, not inheritable, which is the
        caller's. For two ends that go on by it alone, and that have sent nothing yet.
        """
        cdef int socket = -1
        cdef uint32_t code
        cdef np_handle *handle = self.valid()
        # Behind the parting nothing may fail, for nobody could part again: so its place is there first.
        cdef int place = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            with nogil:
                code = np_depart_socket(handle, True, &socket)
            if code != NP_OK:
                raise self.explain(code, "parting with the pipe")
            os.dup2(socket, place, False)
        except BaseException:
            os.close(place)
            raise
        finally:
            np_fd_close(socket)
        return place

    def arm_read(self):
        """Asks for a byte when something comes. False: something is there already."""
        return np_arm_read(self.valid()) == NP_OK

    @cython.critical_section
    def set_rearm(self, rearm):
        """Sets what is called after each read, None for nothing."""
        self.rearm = rearm
