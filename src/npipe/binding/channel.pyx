# cython: language_level=3, binding=True
"""What a connection of npipe.connection stands on: one end of a channel, and its hot methods."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from npipe.binding.engine cimport (
    NP_BROKEN_PIPE, NP_FOREVER, NP_INTERRUPTED, NP_INVALID_DATA, NP_NO_DATA, NP_NOT_ENOUGH_MEMORY, NP_OK, NP_PIPE_BUSY,
    NP_SEM_TIMEOUT, NP_TRY, NP_WOULD_WAIT, NPC_BUFFERS, NPC_LONGEST, NPC_SIZE, np_channel, np_channel_arm,
    np_channel_attach, np_channel_begin, np_channel_detach, np_channel_end, np_channel_going, np_channel_poll,
    np_channel_send, np_channel_disarm, np_channel_take, np_channel_tell, np_fd_close, np_forks, np_now, np_part,
    np_segment_create, np_wait,
)
from npipe.binding.system cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, EPOLLRDHUP, c_bool, c_close, epoll_create1, epoll_ctl, epoll_event,
    look_at, npipe_reraise, put,
)
from npipe.binding.waits cimport check_signals, only_try

import errno
import os
import struct
from _pickle import Pickler
from _thread import allocate_lock, get_ident
from copyreg import dispatch_table as _copyreg_table
from pickle import loads
from weakref import WeakSet

from npipe.options import look_timeout

cdef extern from *:
    """
    /* The ends whose calls this thread is in, several if handlers of signals call too. Of those that have come along by
     * a fork it is in its own alone: the other threads have stayed behind. */
    enum { NPIPE_DEEPEST = 64 };
    static _Thread_local struct {
        void *ends[NPIPE_DEEPEST];
        int depth;
    } npipe_calls;

    static int npipe_call_begins(void *end)
    {
        if (npipe_calls.depth == NPIPE_DEEPEST)
            return 0;
        npipe_calls.ends[npipe_calls.depth++] = end;
        return 1;
    }

    static void npipe_call_ends(void *end)
    {
        /* The last one, but for those that switch stacks. */
        for (int at = npipe_calls.depth - 1; at >= 0; at--)
            if (npipe_calls.ends[at] == end) {
                npipe_calls.depth--;
                for (; at < npipe_calls.depth; at++)
                    npipe_calls.ends[at] = npipe_calls.ends[at + 1];
                return;
            }
    }

    static int npipe_calls_of(void *end)
    {
        int count = 0;
        for (int at = 0; at < npipe_calls.depth; at++)
            count += npipe_calls.ends[at] == end;
        return count;
    }
    """
    bint npipe_call_begins(void *)
    void npipe_call_ends(void *)
    int npipe_calls_of(void *)

cdef extern from *:
    """
    #include <stdatomic.h>
    #include <stdint.h>
    /* What ends that are no more have moved. Relaxed: numbers to be shown, each for itself. */
    static _Atomic uint64_t npipe_ended[6];
    static void npipe_add_ended(unsigned which, uint64_t count)
    {
        atomic_fetch_add_explicit(&npipe_ended[which], count, memory_order_relaxed);
    }
    static uint64_t npipe_get_ended(unsigned which)
    {
        return atomic_load_explicit(&npipe_ended[which], memory_order_relaxed);
    }
    static void npipe_forget_ended(void)
    {
        for (unsigned i = 0; i < 6; i++)
            atomic_store_explicit(&npipe_ended[i], 0, memory_order_relaxed);
    }
    """
    void npipe_add_ended(unsigned, uint64_t) noexcept
    uint64_t npipe_get_ended(unsigned) noexcept
    void npipe_forget_ended() noexcept

cdef extern from "Python.h":
    bytearray new_bytearray "PyByteArray_FromStringAndSize"(const char *, Py_ssize_t)

cdef enum:
    SMALL = 4096  # bytes: buffers below go within the pickle
    LARGE = 65536  # what pickle hands on without a copy
    FEW = 8
    TABLE = 16  # bytes before a table's lengths

cdef uint64_t READ_ONLY = <uint64_t>1 << 63  # of a buffer, in the table
cdef bytes NEXT_BUFFER = b"\x97"


def make_segment():
    """A new channel's memory: a descriptor, not inheritable, which is the caller's."""
    cdef int fd = np_segment_create(NPC_SIZE)
    if fd < 0:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
    try:
        return os.dup(fd)  # the engine's own, a forked child has not
    finally:
        np_fd_close(fd)


# ---- Pickling

cdef class Reducers:
    """Who pickles what in an own way: multiprocessing's reducers, then copyreg's, as they are at that time."""

    cdef readonly dict extra

    def __init__(self, dict extra):
        self.extra = extra

    def __getitem__(self, kind):
        found = self.extra.get(kind)
        return _copyreg_table[kind] if found is None else found


cdef Reducers _reducers = Reducers({})
cdef object _shared = object()  # whose critical section is of this one and of `_packs`


def use_reducers(dict extra):
    """Take `extra` (ForkingPickler's, live) from now on."""
    global _reducers
    made = Reducers(extra)
    with cython.critical_section(_shared):
        _reducers = made
        _packs.clear()


cdef class Pack:
    """One pickler that is used again and again, and what it has made of an object."""

    cdef object dump, clear
    cdef list pieces, buffers

    def __init__(self):
        self.pieces, self.buffers = [], []
        pickler = Pickler(self, 5, buffer_callback=self.take)
        with cython.critical_section(_shared):
            reducers = _reducers
        pickler.dispatch_table = reducers
        self.dump, self.clear = pickler.dump, pickler.clear_memo

    def write(self, piece):
        """What the pickler calls. Large bytes and bytearrays come as they are, each behind a piece that ends with its
        opcode and length: then it goes as a buffer, so that it is copied once here and once there.
        """
        cdef Py_ssize_t size = len(piece), end
        cdef bytes before
        if size >= LARGE and self.pieces:
            before = self.pieces[-1]
            end = len(before)
            if type(piece) is bytes:
                if size <= 0xFFFFFFFF and end >= 5 and before[end - 5] == 0x42 and (
                    before[end - 4:] == size.to_bytes(4, "little")
                ):
                    return self.move(before[:end - 5], piece)
                if end >= 9 and before[end - 9] == 0x8E and before[end - 8:] == size.to_bytes(8, "little"):
                    return self.move(before[:end - 9], piece)
            elif type(piece) is bytearray:
                if end >= 9 and before[end - 9] == 0x96 and before[end - 8:] == size.to_bytes(8, "little"):
                    return self.move(before[:end - 9], piece)
        self.pieces.append(piece if type(piece) is bytes else bytes(piece))

    cdef move(self, bytes before, piece):
        self.pieces[-1] = before + NEXT_BUFFER
        self.buffers.append(piece)

    def take(self, buffer):
        """What the pickler calls for a PickleBuffer: false if it goes apart."""
        raw = buffer.raw()
        if raw.nbytes < SMALL:
            return True
        self.buffers.append(raw)
        return False

    cdef list parts(self):
        """All of the message in the order in which it goes: the table, the pickle, the buffers."""
        cdef list lengths = [], parts, buffers = []
        for buffer in self.buffers:
            if type(buffer) is bytearray:
                buffer = memoryview(buffer)  # so nobody changes its length after this, and before it is sent
            buffers.append(buffer)
            if type(buffer) is bytes:
                lengths.append(<object>(<uint64_t>len(buffer) | READ_ONLY))
            else:
                lengths.append(<object>(<uint64_t>buffer.nbytes | (READ_ONLY if buffer.readonly else 0)))
        table = struct.pack(f"<QQ{len(lengths)}Q", len(lengths), sum([len(piece) for piece in self.pieces]), *lengths)
        parts = [table]
        parts += self.pieces
        parts += buffers
        return parts

    cdef int reset(self) except -1:
        self.pieces.clear()
        self.buffers.clear()
        self.clear()
        return 0


cdef list _packs = []


cdef Pack pack_of(obj):
    """A pack with the pickle of an object; `give_back` it."""
    cdef Pack pack = None
    with cython.critical_section(_shared):
        if _packs:
            pack = _packs.pop()
    if pack is None:
        pack = Pack()
    pack.dump(obj)  # if it raises, the pack is not used again
    return pack


cdef int give_back(Pack pack) except -1:
    pack.reset()
    with cython.critical_section(_shared):
        if len(_packs) < 4:
            _packs.append(pack)
    return 0


def dumps(obj):
    """The parts of an object's message, and whether there are buffers among them."""
    cdef Pack pack = pack_of(obj)
    cdef bint apart = bool(pack.buffers)
    parts = pack.parts() if apart else list(pack.pieces)
    give_back(pack)
    return parts, apart


cdef bytes binary(data):
    """The opcode that makes a bytes object, or a bytearray, of its content."""
    return (b"\x8e" if type(data) is bytes else b"\x96") + len(data).to_bytes(8, "little")


cdef bytes one_pickle(bytes pickled, list buffers):
    """A pickle, as multiprocessing would have sent one, of what has come with buffers apart."""
    pieces = [b"\x80\x05cnpipe.connection\n_rebuild\n", binary(pickled), pickled, b"("]
    for buffer in buffers:
        pieces += binary(buffer), buffer
    pieces.append(b"l\x86R.")  # a list of them, a tuple of two, called, the end
    return b"".join(pieces)


# ---- Receiving

cdef class Incoming:
    """A message that is being read, with what has come of it already: a call that a signal's handler has ended leaves
    it to the next one.
    """

    cdef uint64_t size, flags, taken, at
    cdef uint32_t forks  # a child's are the parent's
    cdef list targets  # of bytes and bytearray objects that are filled one after the other
    cdef Py_ssize_t filling
    cdef int stage  # 0: the beginning of the table, 1: its lengths, 2: all that it speaks of
    cdef object head, lengths

    def __init__(self):
        self.targets = []

    cdef int begin(self, uint64_t size, uint64_t flags) except -1:
        self.size, self.flags = size, flags
        self.forks = np_forks
        if flags & NPC_BUFFERS:
            self.head = PyBytes_FromStringAndSize(NULL, TABLE)
            self.targets.append(self.head)
        else:
            self.stage = 2
            self.targets.append(PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size))
        return 0

    cdef int go_on(self) except -1:
        """What the part that has come says of the rest."""
        cdef uint64_t count, pickled, total
        if self.stage == 0:
            count, pickled = struct.unpack("<QQ", self.head)
            if self.size < TABLE or count > (self.size - TABLE) // 8 or pickled > self.size:
                raise OSError(errno.EIO, "a message says that it is longer than it is")
            self.head = (count, pickled)
            self.lengths = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(count * 8))
            self.targets.append(self.lengths)
            self.stage = 1
        elif self.stage == 1:
            count, pickled = self.head
            lengths = struct.unpack(f"<{count}Q", self.lengths)
            wanted = TABLE + 8 * int(count) + int(pickled) + sum([int(one & ~READ_ONLY) for one in lengths])
            if wanted != self.size:
                raise OSError(errno.EIO, "the parts of a message are longer or shorter than it is")
            self.targets.append(PyBytes_FromStringAndSize(NULL, <Py_ssize_t>pickled))
            for one in lengths:
                if <uint64_t>one & READ_ONLY:
                    self.targets.append(PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(<uint64_t>one & ~READ_ONLY)))
                else:
                    self.targets.append(new_bytearray(NULL, <Py_ssize_t>one))
            self.stage = 2
        return 0

    cdef object content(self):
        """The bytes of it."""
        if not self.flags & NPC_BUFFERS:
            return self.targets[0]
        return one_pickle(self.targets[2], self.targets[3:])

    cdef object value(self):
        """The object."""
        if not self.flags & NPC_BUFFERS:
            return loads(self.targets[0])
        return loads(self.targets[2], buffers=self.targets[3:])


cdef uint64_t size_of_target(target):
    return <uint64_t>(PyBytes_GET_SIZE(target) if type(target) is bytes else len(target))


cdef char *memory_of(target):
    return PyBytes_AS_STRING(target) if type(target) is bytes else PyByteArray_AS_STRING(target)


cdef object interruption(uint32_t code, bint is_closed=False, bint may_go_on=False):
    """What the handler of a signal has raised that has ended a call with this code; at once after that. None: nothing
    has, or (`may_go_on`) the rest of a message has ended it, which somebody else may have taken since.
    """
    if code != NP_INTERRUPTED:
        return None
    try:
        npipe_reraise()
    except BaseException as error:
        return error
    if is_closed:
        return OSError("handle is closed")
    if may_go_on:
        return None
    return OSError(errno.EINTR, "the process has forked in the middle of the call")


cdef np_wait for_ever() noexcept:
    cdef np_wait wait
    wait.interrupted = check_signals
    wait.context = NULL
    wait.cancel = NULL
    wait.crowd = False
    wait.deadline = NP_FOREVER
    return wait


cdef class Armed


cdef struct Enders:  # written in the end's section; who waits looks at them without
    int is_closed
    int has_rest  # there is an interrupted message


cdef int check_signals_and_end(void *enders) noexcept nogil:
    """For a wait for a message's beginning: what a signal's handler does has ended it too, if that closes the
    connection, or leaves the rest of a message to the next call, which is this one.
    """
    cdef int interrupted = check_signals(NULL)
    return interrupted or look_at(&(<Enders *>enders).is_closed) or look_at(&(<Enders *>enders).has_rest)


cdef object _living = WeakSet()  # all ends that there are


def moved_by_channels():
    """What all ends of this process have moved: how many are open, how many there were, bytes and messages in, the same
    out, and waits."""
    cdef list sums = [npipe_get_ended(which) for which in range(6)]
    living = [one for one in list(_living) if one.was_attached]
    for one in living:
        for at, count in enumerate(one._moved, 1):
            sums[at] += count
    return sum([not one.closed for one in living]), sums[0] + len(living), *sums[1:]


def _forget_all():
    """In a child that was forked: what was moved is its parent's."""
    npipe_forget_ended()
    for one in list(_living):
        one._forget_moved()


os.register_at_fork(after_in_child=_forget_all)


@cython.no_gc_clear
cdef class ChannelEnd:
    """One end of a channel, as several processes may have it.

    Its methods have its critical section, which they let go of while they wait, as they would of the interpreter's
    lock. Whatever they call of Python's may close the end, or let another thread do so. Therefore each call of the
    engine comes directly after `enter`, which asks whether the end is open, and holds it until `leave`; a message that
    was begun, until `finish`. A close in between is done by who leaves last.
    """

    cdef np_channel channel
    cdef int segment, epoll
    cdef int may_read
    cdef bint may_write, attached
    cdef Enders enders
    # The other side is somebody else's program, which may have the engine wait for the event that both have: so what
    # there is to tell by it is told without the interpreter's lock.
    cdef bint is_strange
    cdef Py_ssize_t users  # calls that are under way, and waits
    cdef uint32_t forks  # when they were counted
    cdef Incoming incoming  # what a handler of a signal has interrupted: the next call's
    cdef list kept  # messages, all of each, that handlers have kept from being returned: the next calls' too
    cdef object kept_by  # None, or the one thread that may have the first of them
    cdef object turn, turn_thread  # of who takes the rest of it: a lock that it holds, and its thread
    # What calls of this process have moved, with the section: bytes and messages in, the same out; and calls that
    # could not be done at once: there was nothing, or no room, or it was long.
    cdef uint64_t in_bytes, in_messages, out_bytes, out_messages, waits
    cdef readonly bint was_attached
    cdef public object _tap  # None, or who records this process (npipe._tapping)
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        self.segment = self.epoll = -1
        self.channel.socket = self.channel.events[0] = self.channel.events[1] = -1
        self.enders.is_closed = True
        self.forks = np_forks
        self.kept = []
        _living.add(self)

    @cython.critical_section
    def _attach(
        self, int segment, int socket, int event0, int event1, int side, bint readable, bint writable, bint strange
    ):
        """Be that end. The descriptors belong to it from here on, also if this raises."""
        cdef uint32_t code
        self.segment = segment
        code = np_channel_attach(&self.channel, segment, socket, event0, event1, side)
        if code != NP_OK:
            self._close_all()
            raise OSError(errno.EIO if code == NP_INVALID_DATA else errno.ENOMEM, "no channel could be made of that")
        self.channel.readable = readable
        self.channel.writable = writable
        self.channel.trusted = not strange
        self.may_read, self.may_write = readable, writable
        self.is_strange = strange
        self.attached = self.was_attached = True
        put(&self.enders.is_closed, False)

    def __dealloc__(self):
        if self.was_attached:
            npipe_add_ended(0, 1)
            npipe_add_ended(1, self.in_bytes)
            npipe_add_ended(2, self.in_messages)
            npipe_add_ended(3, self.out_bytes)
            npipe_add_ended(4, self.out_messages)
            npipe_add_ended(5, self.waits)
        self.close_now()

    cdef void close_now(self) noexcept:
        cdef int socket
        if self.attached:
            self.attached = False
            self.end_message(False)  # while there is a socket by which its writer is told
            socket, self.channel.socket = self.channel.socket, -1
            if socket >= 0:
                c_close(socket)  # and then the others are told to look
            np_channel_going(&self.channel)
            np_channel_detach(&self.channel)
        self._close_all()

    cdef void _close_all(self) noexcept:
        cdef int fd
        fd, self.segment = self.segment, -1
        if fd >= 0:
            c_close(fd)
        fd, self.epoll = self.epoll, -1
        if fd >= 0:
            c_close(fd)
        fd, self.channel.socket = self.channel.socket, -1
        if fd >= 0:
            c_close(fd)
        for i in range(2):
            fd, self.channel.events[i] = self.channel.events[i], -1
            if fd >= 0:
                c_close(fd)

    @cython.critical_section
    def close(self):
        """Close this process's hold of the end."""
        if not self.enders.is_closed:
            put(&self.enders.is_closed, True)
            self.look_for_fork()
            if self.users == 0:
                self.close_now()
            if self._tap is not None:
                self._tap.closed()

    @cython.final
    cdef inline void look_for_fork(self) noexcept:
        """In a child, what was counted and begun was the parent's, but for the calls of the thread that has forked."""
        if self.forks != np_forks:
            self.forks = np_forks
            self.users = npipe_calls_of(<void *>self)
            self.turn = None
            self.keep_rest(None)
            self.kept = []

    @cython.final
    cdef inline void keep_rest(self, Incoming incoming) noexcept:
        self.incoming = incoming
        put(&self.enders.has_rest, incoming is not None)

    @cython.final
    cdef inline bint has_rest(self) except -1:
        """Whether there is something for this thread that is not in the ring any more, at least in part."""
        return self.incoming is not None or self.has_kept()

    @cython.final
    cdef inline bint has_kept(self) except -1:
        return bool(self.kept) and (self.kept_by is None or self.kept_by == get_ident())

    cdef Incoming take_kept(self):
        self.kept_by = None
        return self.kept.pop(0)

    @cython.final
    cdef inline int enter(self) except -1:
        """Directly before a call of the engine: see the class."""
        self.look_for_fork()
        if self.enders.is_closed:
            raise OSError("handle is closed")
        if not npipe_call_begins(<void *>self):
            raise RecursionError("too many handlers of signals in calls of connections")
        self.users += 1
        return 0

    @cython.final
    cdef inline void leave(self) noexcept:
        self.look_for_fork()
        npipe_call_ends(<void *>self)
        self.users -= 1
        if self.users == 0 and self.enders.is_closed:
            self.close_now()

    @cython.final
    cdef inline void end_message(self, bint for_others) noexcept:
        """Be done with the message that was begun, if it is not the parent's. What is left of it is dropped, or it is
        left to others as a whole.
        """
        if self.channel.reading != np_forks + 1:
            return
        cdef c_bool untold
        np_channel_end(&self.channel, for_others, &untold)
        if untold:
            self.tell(False)

    @cython.final
    cdef void tell(self, bint out) noexcept:
        """What a call of the engine has left to be told."""
        if self.is_strange:
            with nogil:
                np_channel_tell(&self.channel, out)
        else:
            np_channel_tell(&self.channel, out)

    @cython.final
    cdef inline void finish(self, bint for_others) noexcept:
        """The same, and leave."""
        self.end_message(for_others)
        self.leave()

    @property
    def closed(self):
        """True if the connection is closed."""
        return bool(look_at(&self.enders.is_closed))

    @property
    def readable(self):
        """True if the connection is readable."""
        return bool(look_at(&self.may_read))

    @property
    def writable(self):
        """True if the connection is writable."""
        return self.may_write

    @property
    def _strange(self):
        """Whether the other side is somebody else's program."""
        return self.is_strange

    @cython.final
    cdef inline int check_open(self) except -1:
        self.look_for_fork()
        if self.enders.is_closed:
            raise OSError("handle is closed")
        return 0

    @cython.final
    cdef inline int check_readable(self) except -1:
        self.check_open()
        if not self.may_read:
            raise OSError("connection is write-only")
        return 0

    @cython.final
    cdef inline int check_writable(self) except -1:
        self.check_open()
        if not self.may_write:
            raise OSError("connection is read-only")
        return 0

    cdef int fail(self, uint32_t code, raised=None) except -1:
        if raised is not None:
            raise raised
        if self._tap is not None and (code == NP_NO_DATA or code == NP_BROKEN_PIPE):
            self._tap.gone(code)
        if code == NP_NO_DATA:
            raise EOFError
        if code == NP_PIPE_BUSY:
            raise OSError(errno.EBUSY, "this thread is in the middle of such a call already")
        if code == NP_NOT_ENOUGH_MEMORY:
            raise MemoryError
        if code == NP_INVALID_DATA:
            raise OSError(errno.EIO, "the other end has broken the rules of the channel")
        raise OSError("got end of file during message")

    # ---- Sending

    @property
    def _moved(self):
        """What calls of this process have moved: bytes and messages in, the same out, and waits."""
        return self.in_bytes, self.in_messages, self.out_bytes, self.out_messages, self.waits

    @cython.critical_section
    def _forget_moved(self):
        """Count from zero: in a child that was forked, the rest is the parent's."""
        self.in_bytes = self.in_messages = self.out_bytes = self.out_messages = self.waits = 0

    @cython.final
    cdef inline void count_in(self, uint64_t size) noexcept:
        self.in_bytes += size
        self.in_messages += 1

    @cython.final
    cdef inline void count_out(self, uint64_t size) noexcept:
        self.out_bytes += size
        self.out_messages += 1

    cdef int tell_read(self, list parts, const char *memory, uint64_t size, Incoming incoming) except -1:
        """Tell who records of a message that was taken: into `parts`, or if there are none to `memory`. If a signal's
        handler raises meanwhile, the message is the next call's: `incoming`, or None for one in `parts` or `memory`."""
        try:
            if parts is None:
                parts = self.beginning(memory, size, self._tap.most())
                if parts is not None:
                    self._tap.took(*parts, count=size)
            else:
                self._tap.took(*parts)
        except BaseException:
            if incoming is None:
                data = PyBytes_FromStringAndSize(memory, <Py_ssize_t>size)
                incoming = Incoming()
                incoming.stage = 2
                incoming.size = incoming.taken = size
                incoming.forks = np_forks
                incoming.targets.append(data)
                incoming.filling = 1
            self.kept.append(incoming)
            raise
        return 0

    cdef list beginning(self, const char *memory, uint64_t size, uint64_t most):
        """Copy as much of memory that is no object's as is recorded. A view of it would live on in a traceback, if a
        signal's handler raises. None: there is no memory for it, and those who record are told."""
        try:
            return [PyBytes_FromStringAndSize(memory, <Py_ssize_t>min(size, most))]
        except MemoryError:
            self._tap.lose()
            return None

    cdef int send_failed(self, uint32_t code, raised=None) except -1:
        if self._tap is not None and (code == NP_NO_DATA or code == NP_BROKEN_PIPE):
            self._tap.gone(code)
        if code == NP_NO_DATA:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        if code == NP_BROKEN_PIPE:
            raise BrokenPipeError(errno.EPIPE, "a message before this one was cut")
        return self.fail(code, raised)

    @cython.final
    cdef int send_memory(self, const void *data, uint64_t size) except -1:
        cdef np_part part
        cdef np_wait wait
        cdef uint32_t code
        cdef c_bool untold
        raised = None
        part.data = data
        part.size = size
        self.enter()
        wait = only_try()
        code = np_channel_send(&self.channel, 0, &part, 1, &wait, &untold)
        if untold:
            self.tell(True)
        if code == NP_WOULD_WAIT:
            self.waits += 1
            wait = for_ever()
            with nogil:
                code = np_channel_send(&self.channel, 0, &part, 1, &wait, NULL)
            raised = interruption(code)
        self.leave()
        if code == NP_OK:
            self.count_out(size)
        if self._tap is not None and code == NP_OK:
            kept = self.beginning(<const char *>data, size, self._tap.most())
            if kept is not None:
                self._tap.wrote(*kept, count=size)
        return 0 if code == NP_OK else self.send_failed(code, raised)

    cdef int tell_written(self, const np_part *parts, Py_ssize_t count, uint64_t total) except -1:
        cdef uint64_t left = self._tap.most()
        cdef list all_kept = [], kept
        for i in range(count):
            kept = self.beginning(<const char *>parts[i].data, parts[i].size, left)
            if kept is None:
                return 0
            all_kept += kept
            left -= min(left, parts[i].size)
        self._tap.wrote(*all_kept, count=total)
        return 0

    cdef int send_list(self, list pieces, uint64_t flags) except -1:
        cdef Py_ssize_t count = len(pieces), held = 0
        cdef Py_buffer *views = <Py_buffer *>PyMem_Malloc(count * sizeof(Py_buffer))
        cdef np_part *parts = <np_part *>PyMem_Malloc(count * sizeof(np_part))
        cdef np_wait wait = for_ever()
        cdef uint64_t total = 0
        cdef uint32_t code
        try:
            if views == NULL or parts == NULL:
                raise MemoryError
            for piece in pieces:
                PyObject_GetBuffer(piece, &views[held], PyBUF_SIMPLE)
                parts[held].data = views[held].buf
                parts[held].size = <uint64_t>views[held].len
                total += parts[held].size
                held += 1
            self.enter()
            with nogil:
                code = np_channel_send(&self.channel, flags, parts, <uint32_t>count, &wait, NULL)
            raised = interruption(code)
            self.leave()
            if code != NP_OK:
                self.send_failed(code, raised)
            self.count_out(total)
            if self._tap is not None:
                self.tell_written(parts, count, total)
        finally:
            while held:
                held -= 1
                PyBuffer_Release(&views[held])
            PyMem_Free(views)
            PyMem_Free(parts)
        return 0

    @cython.critical_section
    def send(self, obj):
        """Send a (picklable) object."""
        cdef Pack pack
        self.check_writable()
        pack = pack_of(obj)
        try:
            if pack.buffers:
                self.send_list(pack.parts(), NPC_BUFFERS)
            elif len(pack.pieces) == 1:
                piece = pack.pieces[0]
                self.send_memory(PyBytes_AS_STRING(piece), <uint64_t>PyBytes_GET_SIZE(piece))
            else:
                self.send_list(pack.pieces, 0)
        finally:
            give_back(pack)

    @cython.critical_section
    def send_bytes(self, buf, offset=0, size=None):
        """Send the bytes data from a bytes-like object."""
        cdef Py_buffer view
        cdef Py_ssize_t first, count
        self.check_writable()
        if offset == 0 and size is None and PyBytes_CheckExact(buf):
            self.send_memory(PyBytes_AS_STRING(buf), <uint64_t>PyBytes_GET_SIZE(buf))
            return
        data = memoryview(buf)
        if data.itemsize > 1:
            data = data.cast("B")
        first = offset
        if first < 0:
            raise ValueError("offset is negative")
        if data.nbytes < first:
            raise ValueError("buffer length < offset")
        if size is None:
            count = data.nbytes - first
        else:
            count = size
            if count < 0:
                raise ValueError("size is negative")
            if first + count > data.nbytes:
                raise ValueError("buffer length < offset + size")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.send_memory(<char *>view.buf + first, <uint64_t>count)
        finally:
            PyBuffer_Release(&view)

    @cython.critical_section
    def _send_parts(self, list parts, bint apart):
        """Send what `dumps` has made."""
        self.check_writable()
        self.send_list(parts, NPC_BUFFERS if apart else 0)

    # ---- Receiving

    @cython.final
    cdef inline bint begin(self, uint64_t *size, uint64_t *flags) except -1:
        """Wait for a message, and be in the middle of it until `finish`. False: there is the rest of one to take
        instead, which was not there before.
        """
        while not self.begun(size, flags):
            self.check_readable()
            if self.has_rest():
                return False
        return True

    @cython.final
    cdef inline bint begun(self, uint64_t *size, uint64_t *flags) except -1:
        """False: it has waited for another thread that had the rest of a message which this one had begun; or that has
        left the rest of one to this call, which waits in vain else: in this process nobody gives the lock free.
        """
        cdef np_wait wait
        cdef uint32_t code, forks = np_forks
        raised = None
        turn, thread = self.turn, self.turn_thread
        self.enter()
        wait = only_try()
        code = np_channel_begin(&self.channel, &wait, size, flags)
        if code == NP_WOULD_WAIT:
            self.waits += 1
            wait = for_ever()
            wait.interrupted = check_signals_and_end
            wait.context = &self.enders
            with nogil:
                code = np_channel_begin(&self.channel, &wait, size, flags)
            raised = interruption(code, self.enders.is_closed, forks == np_forks)
            if self.enders.is_closed and code == NP_OK:  # by another thread
                self.finish(True)
                return self.check_open()
        if code == NP_OK:
            return True
        self.leave()
        if code == NP_PIPE_BUSY and turn is not None and thread != get_ident():
            with turn:
                return False
        if raised is None:
            self.check_open()
            if code == NP_INTERRUPTED or (code == NP_PIPE_BUSY and self.incoming is not None):
                return False
        return self.fail(code, raised)

    cdef int take(self, Incoming incoming, bint to_its_end) except -1:
        """Take all of a message that was begun, and finish it. What a signal's handler raises is raised at once, and
        the message left as it is to the next call; or, `to_its_end`, when all of it has come.
        """
        cdef np_wait wait = for_ever()
        cdef uint64_t taken, left
        cdef uint32_t code = NP_OK
        cdef char *memory
        raised = None
        try:
            while True:
                while incoming.filling < len(incoming.targets):
                    target = incoming.targets[incoming.filling]
                    left = size_of_target(target) - incoming.at
                    memory = memory_of(target) + incoming.at
                    if incoming.taken + left > incoming.size:
                        raise OSError(errno.EIO, "a message says that it is longer than it is")
                    with nogil:
                        code = np_channel_take(&self.channel, memory, left, &taken, &wait)
                    error = interruption(code)
                    incoming.at += taken
                    incoming.taken += taken
                    if error is not None:
                        if raised is not None and error is not raised:
                            error.__context__ = raised
                        raised = error
                    if code == NP_INTERRUPTED and to_its_end and self.may_go_on(incoming):
                        continue
                    if code != NP_OK:
                        break
                    incoming.filling += 1
                    incoming.at = 0
                if code != NP_OK or incoming.stage == 2:
                    break
                incoming.go_on()
        except BaseException as error:
            self.finish(False)
            if raised is not None:
                error.__context__ = raised
            raise
        if code == NP_INTERRUPTED and self.may_go_on(incoming):
            self.keep_rest(incoming)
            self.leave()
            raise raised
        self.finish(False)
        if code != NP_OK:
            self.fail(code, raised)
        self.count_in(incoming.size)
        if self._tap is not None:
            try:
                self.tell_read(incoming.targets, NULL, 0, incoming)
            except BaseException as error:
                if raised is not None:
                    error.__context__ = raised
                raise
        if raised is not None:
            self.kept.append(incoming)
            raise raised
        return 0

    @cython.final
    cdef inline bint may_go_on(self, Incoming incoming) noexcept:
        return incoming.forks == np_forks and not self.enders.is_closed

    @cython.final
    cdef Incoming receive(self, maxlength, bint to_its_end=False):
        """The next message as a whole."""
        cdef uint64_t size, flags
        cdef Incoming incoming
        while self.has_rest() or not self.begin(&size, &flags):
            incoming = self.resume(maxlength, to_its_end) if self.has_rest() else None
            if incoming is not None:
                return incoming
        try:
            if maxlength is not None and size > maxlength:
                incoming = None
            else:
                incoming = Incoming()
                incoming.begin(size, flags)
        except BaseException:
            # There is no memory for it. Others, or a later call, may have some for a friend's message; a length that a
            # stranger says may be for nobody, and would stand before all others for ever.
            self.finish(not self.is_strange)
            raise
        if incoming is None:
            self.finish(True)
            self.refuse_length()
        self.take(incoming, to_its_end)
        return incoming

    cdef Incoming resume(self, maxlength, bint to_its_end):
        """The message that was kept, or interrupted. None: another thread has it."""
        cdef Incoming incoming = self.kept[0] if self.has_kept() else self.incoming
        if maxlength is not None and incoming.size > maxlength:
            self.refuse_length()
        if self.has_kept():
            return self.take_kept() if incoming is self.kept[0] else None
        if incoming is not self.incoming:
            return None
        turn, thread = allocate_lock(), get_ident()
        turn.acquire()
        self.enter()
        if self.incoming is not incoming:
            self.leave()
            return None
        self.keep_rest(None)
        self.turn, self.turn_thread = turn, thread
        try:
            self.take(incoming, to_its_end)
        finally:
            self.turn = None
            turn.release()
        return incoming

    cdef int refuse_length(self) except -1:
        if self.may_write:
            put(&self.may_read, False)
        else:
            self.close()
        raise OSError("bad message length")

    @cython.final
    cdef bytes receive_short(self, uint64_t longest):
        """The next message if it is a short one without buffers: None if not, and then it is not begun."""
        cdef uint64_t size, flags, taken
        cdef uint32_t code
        cdef np_wait wait
        cdef bytes data
        if self.has_rest() or not self.begin(&size, &flags):
            return None
        if flags or size > SMALL or size > longest:
            self.finish(True)
            return None
        try:
            data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        except BaseException:
            self.finish(True)
            raise
        wait = only_try()
        code = np_channel_take(&self.channel, PyBytes_AS_STRING(data), size, &taken, &wait)
        self.finish(False)
        if code != NP_OK:
            self.fail(NP_BROKEN_PIPE)  # a short message is published as a whole: this one by somebody who does not
        self.count_in(size)
        if self._tap is not None:
            self.tell_read([data], PyBytes_AS_STRING(data), size, None)
        return data

    @cython.critical_section
    def recv(self):
        """Receive a (picklable) object."""
        cdef bytes data
        self.check_readable()
        data = self.receive_short(SMALL)
        if data is not None:
            return loads(data)
        return self.receive(None).value()

    @cython.critical_section
    def recv_bytes(self, maxlength=None):
        """Receive bytes data as a bytes object."""
        cdef bytes data
        self.check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        data = self.receive_short(SMALL if maxlength is None or maxlength > SMALL else maxlength)
        return data if data is not None else self.receive(maxlength).content()

    @cython.critical_section
    def _recv_parts(self):
        """The next message's pickle, and the buffers that go with it (None: there are none).

        For those that have a lock meanwhile, which they let go of when this raises: a message that was begun is taken
        to its end before that, and is then the next call's.
        """
        cdef bytes data
        self.check_readable()
        data = self.receive_short(SMALL)
        if data is not None:
            return data, None
        return parts_of(self.receive(None, True))

    @cython.critical_section
    def _kept_parts(self):
        """The same of a message that such a call has not returned because of a signal; None: there is none."""
        if not self.kept:
            return None
        self.look_for_fork()
        return parts_of(self.take_kept()) if self.has_kept() else None

    @cython.critical_section
    def _keep(self):
        """Keep such a message for this thread alone. False: there is none, or another thread has it."""
        if not self.kept:
            return False
        self.look_for_fork()
        if not self.has_kept():
            return False
        self.kept_by = get_ident()
        return True

    @cython.critical_section
    def recv_bytes_into(self, buf, offset=0):
        """Receive bytes data into a writable bytes-like object.

        Return the number of bytes read.
        """
        cdef Py_buffer view
        cdef Py_ssize_t first
        cdef uint64_t size, flags
        self.check_readable()
        try:
            PyObject_GetBuffer(buf, &view, PyBUF_WRITABLE)
        except BufferError as error:
            raise TypeError(str(error)) from None
        try:
            first = offset
            if first < 0:
                raise ValueError("negative offset")
            if first > view.len:
                raise ValueError("offset too large")
            self.check_readable()
            if not self.has_rest() and self.begin(&size, &flags):
                if not flags and size <= <uint64_t>(view.len - first):
                    self.take_into(<char *>view.buf + first, size)
                    return size
                self.finish(True)
            data = self.receive(None).content()
            if len(data) > view.len - first:
                raise _too_short()(data)
            memcpy(<char *>view.buf + first, PyBytes_AS_STRING(data), len(data))
            return len(data)
        finally:
            PyBuffer_Release(&view)

    cdef int take_into(self, char *memory, uint64_t size) except -1:
        """Take all of a message that was begun, and finish it."""
        cdef np_wait wait = for_ever()
        cdef uint64_t taken
        cdef uint32_t code, forks = np_forks
        cdef Incoming incoming
        with nogil:
            code = np_channel_take(&self.channel, memory, size, &taken, &wait)
        raised = interruption(code)
        if code == NP_INTERRUPTED and forks == np_forks:
            try:  # what has come is the next call's
                incoming = Incoming()
                incoming.begin(size, 0)
                memcpy(memory_of(incoming.targets[0]), memory, taken)
                incoming.at = incoming.taken = taken
            except BaseException:
                self.finish(False)
                raise
            if self.may_go_on(incoming):
                self.keep_rest(incoming)
                self.leave()
                raise raised
        self.finish(False)
        if code == NP_OK:
            self.count_in(size)
        if self._tap is not None and code == NP_OK:
            self.tell_read(None, memory, size, None)
        return 0 if code == NP_OK else self.fail(code, raised)

    @cython.critical_section
    def poll(self, timeout=0.0):
        """Whether there is any input available to be read, or comes within `timeout` seconds.

        None: for ever. Zero or less: only a look. NaN raises PipeArgumentError (87).
        """
        cdef np_wait wait = for_ever()
        cdef uint32_t code, forks = np_forks
        cdef double seconds
        self.check_readable()
        if timeout is not None:
            if type(timeout) is not float or timeout != timeout:
                timeout = look_timeout(timeout)
        if timeout is not None:
            seconds = timeout
            if seconds < 9e9:
                wait.deadline = np_now() + <int64_t>(seconds * 1e9) if seconds > 0 else NP_TRY
        wait.interrupted = check_signals_and_end
        wait.context = &self.enders
        while not self.has_rest():
            self.enter()
            with nogil:
                code = np_channel_poll(&self.channel, &wait)
            raised = interruption(code, self.enders.is_closed, forks == np_forks)
            self.leave()
            if code == NP_OK or code == NP_SEM_TIMEOUT or code == NP_WOULD_WAIT:
                return code == NP_OK
            if code != NP_INTERRUPTED or raised is not None:
                self.fail(code, raised)
        return True

    # ---- For selectors, and for other processes

    @cython.critical_section
    def fileno(self):
        """File descriptor of the connection, for waiting."""
        cdef epoll_event about
        self.check_open()
        if self.epoll >= 0:
            return self.epoll
        cdef int epoll = epoll_create1(EPOLL_CLOEXEC)
        cdef int failed = epoll < 0
        about.data.fd = 0
        if not failed and self.may_read:
            about.events = EPOLLIN
            failed = epoll_ctl(epoll, EPOLL_CTL_ADD, self.event(), &about)
        if not failed:
            about.events = EPOLLRDHUP
            failed = epoll_ctl(epoll, EPOLL_CTL_ADD, self.channel.socket, &about)
        if failed:
            if epoll >= 0:
                c_close(epoll)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.epoll = epoll
        if self.may_read:
            self.enter()
            with nogil:
                np_channel_arm(&self.channel, False)
            self.leave()
        return epoll

    cdef int event(self) noexcept:
        return self.channel.events[0 if self.channel.side == 1 else 1]

    @cython.critical_section
    def _arm(self, dict armed, at):
        """For one wait: enter at `at` in `armed` what to wait for. False: there is something already. An end that only
        writes waits for the other one's end.
        """
        cdef Armed made
        self.check_open()
        if self.has_rest():
            return False
        made = Armed.__new__(Armed)
        made.end = self
        if made.arm():
            return False
        armed[at] = made
        return True

    cdef void disarm(self, uint32_t forks, bint reads) noexcept:
        """After it. In a child that was forked meanwhile there is nothing to take back: it was the parent's."""
        if forks != np_forks:
            return
        if reads:
            with nogil:
                np_channel_disarm(&self.channel)
        self.users -= 1
        if self.users == 0 and self.enders.is_closed:
            self.close_now()

    @cython.critical_section
    def _descriptors(self):
        """The descriptors of this end: segment, socket, events; and its side."""
        self.check_open()
        return (
            (self.segment, self.channel.socket, self.channel.events[0], self.channel.events[1]), self.channel.side,
        )


@cython.no_gc_clear
cdef class Armed:
    """An end that tells a wait of messages, which it does as long as this object lives: so it does not matter when a
    signal's handler ends that wait.
    """

    cdef ChannelEnd end
    cdef bint is_armed
    cdef readonly bint reads
    cdef uint32_t forks

    cdef bint arm(self) except -1:
        """Whether a read would not wait just now."""
        cdef ChannelEnd end = self.end
        cdef bint there = False
        end.enter()
        self.forks = np_forks
        self.reads = end.may_read
        if self.reads:
            with nogil:
                there = np_channel_arm(&end.channel, True)
        self.is_armed = True
        end.users += 1
        end.leave()
        return there

    def __dealloc__(self):
        if self.is_armed:
            with cython.critical_section(self.end):
                self.end.disarm(self.forks, self.reads)

    @property
    def descriptors(self):
        """What is readable when there is something to read, and what hangs up at the end."""
        return self.end.event(), self.end.channel.socket


cdef object parts_of(Incoming incoming):
    if incoming.flags & NPC_BUFFERS:
        return incoming.targets[2], incoming.targets[3:]
    return incoming.targets[0], None


cdef object _too_short():
    from multiprocessing import BufferTooShort

    return BufferTooShort
