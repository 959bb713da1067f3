# cython: language_level=3, binding=True
"""The rendezvous for event loops: a client's way to an instance, step by step, and a listener's helper."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint32_t

from npipe.binding.engine cimport *
from npipe.binding.failures cimport failure
from npipe.binding.handle cimport Handle
from npipe.binding.loop.polled cimport PolledHandle
from npipe.binding.named cimport Place, place_of
from npipe.binding.waits cimport wait_until


cdef class Dial:
    """A client's way to an instance of a pipe, or to the news that one listens, step by step."""

    cdef np_dial *dial
    cdef Place place
    cdef str name
    cdef str doing
    cdef bytes remote

    def __cinit__(self, str root, str folder, str display, str name, *, uint32_t access=0, bint hold=True,
                  bint verify_owner=True, bint only_wait=False, timeout=None, bint use_default=False,
                  bytes remote=None):
        """`timeout` in seconds is for all of the steps, from now on. `remote`: for a client of another machine, of whom
        this tells.
        """
        cdef np_wait wait = wait_until(timeout)
        cdef np_open_options options
        self.dial = NULL
        self.place = place_of(root, folder, display)
        self.name = name
        self.doing = "waiting for an instance" if only_wait else "opening the pipe"
        options.access = access
        options.hold = hold
        options.verify_owner = verify_owner
        options.overlapped = False
        self.remote = remote
        options.remote = NULL
        options.remote_size = 0
        if remote is not None:
            if len(remote) > NPW_REMOTE_SIZE:
                raise ValueError(f"what tells of a client has at most {NPW_REMOTE_SIZE} bytes, not {len(remote)}")
            options.remote = PyBytes_AS_STRING(remote)
            options.remote_size = <uint32_t>len(remote)
        self.dial = np_dial_new(&self.place.where, NPW_WAIT if only_wait else NPW_OPEN, &options, wait.deadline,
                                use_default)
        if self.dial == NULL:
            raise MemoryError

    def __dealloc__(self):
        self.close()

    cpdef close(self):
        """Hangs up; a request that is held is withdrawn."""
        if self.dial != NULL:
            np_dial_free(self.dial)
        self.dial = NULL

    def step(self):
        """True: it has what it wants. False: again when `fileno` is readable or at `until`, or, with fileno -1, in a
        moment.
        """
        cdef char why[NP_WHY_SIZE]
        cdef uint32_t code
        why[0] = 0
        code = np_dial_poll(self.dial, why)
        if code == NP_IO_PENDING or code == NP_WOULD_WAIT:
            return False
        if code != NP_OK:
            raise failure(code, self.name, self.doing, why)
        return True

    def fileno(self):
        """The socket to wait for, or -1."""
        return self.dial.socket

    @property
    def shape(self):
        """(the pipe's type, its direction), as the owner that has answered says, be it with a refusal; None: none has.
        """
        cdef npw_answer *answer = &self.dial.answer
        return (answer.type, answer.direction) if answer.direction else None

    @property
    def held_since(self):
        """The time.monotonic since which an owner holds the request, for all instances are busy; None: none did."""
        return self.dial.held_since / 1e9 if self.dial.held_since else None

    @property
    def until(self):
        """The time.monotonic at which to step again, whatever has come; None: never."""
        return None if self.dial.until >= NP_FOREVER - 1 else self.dial.until / 1e9

    def handle(self):
        """After an open: (the handle, the number of instances at that time)."""
        cdef char why[NP_WHY_SIZE]
        cdef PolledHandle handle = PolledHandle.__new__(PolledHandle)
        cdef uint32_t instances = self.dial.answer.instances
        cdef uint32_t code
        why[0] = 0
        code = np_dial_handle(self.dial, &handle.handle, why)
        if code != NP_OK:
            raise failure(code, self.name, "opening the pipe", why)
        handle.name = self.name
        return handle, instances


cdef class Acceptor:
    """Tells a listener, through a descriptor, when to look again: at its instance, or whether there is room for one."""

    cdef np_acceptor *acceptor
    cdef Place place

    def __cinit__(self, str root, str folder, str display):
        self.place = place_of(root, folder, display)
        self.acceptor = np_acceptor_new()
        if self.acceptor == NULL:
            raise failure(4, None, "listening")

    def __dealloc__(self):
        self.close()

    cpdef close(self):
        """Nobody is told any more, and the descriptor is closed."""
        if self.acceptor != NULL:
            np_acceptor_free(self.acceptor)
        self.acceptor = NULL

    def fileno(self):
        """A descriptor that is readable when there is a reason to look; `quieten` makes it wait for the next one."""
        return np_acceptor_event(self.acceptor)

    def quieten(self):
        """Take the descriptor's signal away."""
        if self.acceptor != NULL:
            np_acceptor_quieten(self.acceptor)

    def watch(self, Handle handle not None):
        """Tell when `handle` does not listen any more: a client has come."""
        np_acceptor_watch(self.acceptor, handle.valid())

    def await_room(self, uint32_t seen):
        """Tell when instances have been closed since `seen`, until `forget_room`."""
        np_acceptor_await_room(self.acceptor, &self.place.where, seen)

    def forget_room(self):
        """Do not tell of closed instances any more."""
        np_acceptor_forget_room(self.acceptor)
