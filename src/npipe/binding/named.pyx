# cython: language_level=3, binding=True
"""Pipes by their names: where one is, waiting for an instance, listing them."""

from libc.stdint cimport uint32_t

from npipe.binding.engine cimport (
    NP_OK, NP_WHY_SIZE, np_ask, np_closed_seq, np_described, np_held_since, np_link_new_number, np_list, np_listing,
    np_process_counts, np_report_own, np_report_process, np_tap_all, np_tap_all_end, np_trace_options, np_tracer,
    np_wait, np_wait_closed, np_wait_named, np_wake_closed, np_where, npw_connection, npw_details,
)
from npipe.binding.failures cimport failure
from npipe.binding.system cimport S_ISDIR, c_stat, do_stat
from npipe.binding.waits cimport wait_until

cdef extern from *:
    """
    #include <stdatomic.h>
    static void np_full_fence(void)
    {
        atomic_thread_fence(memory_order_seq_cst);
    }
    """
    void np_full_fence()


import os

from npipe.names import name_in_folder


cdef class Place:
    """A pipe's place, in the form that the engine takes."""

    def __cinit__(self, str root not None, str folder not None, str display not None):
        self.root = os.fsencode(root)
        self.folder = folder.encode("ascii")
        self.display = display.encode("utf-8", "surrogatepass")
        self.where.root = self.root
        self.where.folder = self.folder
        self.where.display = self.display


cdef dict _places = {}  # programs use few pipes, and each many times


cdef Place place_of(str root, str folder, str display):
    """The place of a pipe, perhaps made before."""
    cdef tuple key = (root, folder, display)
    cdef Place place = _places.get(key)
    if place is None:
        if len(_places) > 255:
            _places.clear()
        place = _places[key] = Place(root, folder, display)
    return place


def wait_named_pipe(str root, str folder, str display, str name, timeout, bint use_default=False):
    """WaitNamedPipe: returns when an instance listens (SEMANTICS §4)."""
    cdef Place place = place_of(root, folder, display)
    cdef np_wait wait = wait_until(timeout)
    cdef np_where *where = &place.where
    cdef char why[NP_WHY_SIZE]
    cdef uint32_t code
    why[0] = 0
    with nogil:
        code = np_wait_named(where, use_default, &wait, NULL, why)
    if code != NP_OK:
        raise failure(code, name, "waiting for an instance", why)


def held_since():
    """The time.monotonic since which this thread's last open or wait_named_pipe had to wait for an instance; None: it
    had not.
    """
    return np_held_since / 1e9 if np_held_since else None


# What the engine tells of, row by row. A row for which there was no memory ends it: a part is not taken for the whole.
cdef struct told:
    void *rows
    bint short_of_memory


cdef int add_listing(void *context, const np_listing *pipe) noexcept with gil:
    so_far = <told *>context
    try:
        (<list>so_far.rows).append((
            <bytes>pipe.name[:pipe.answer.name_size], <bytes>pipe.folder, pipe.answer.type, pipe.answer.direction,
            pipe.answer.instances, pipe.answer.max_instances, pipe.answer.owner_pid, pipe.uid,
        ))
    except MemoryError:
        so_far.short_of_memory = True
        return 0
    return 1


def list_named_pipes(str root):
    """A tuple (name, type, direction, instances, maximum, owner's pid, owner's uid) for each pipe below `root`.

    A pipe whose owner gives it a name that is not its folder's is left out: that name is another pipe's, or nobody's.
    """
    cdef char why[NP_WHY_SIZE]
    cdef bytes path = os.fsencode(root)
    cdef const char *place = path
    cdef np_wait wait = wait_until(None)
    cdef uint32_t code
    rows = []
    cdef told so_far = told(<void *>rows, False)
    why[0] = 0
    with nogil:
        code = np_list(place, add_listing, &so_far, &wait, why)
    if so_far.short_of_memory:
        raise MemoryError
    if code != NP_OK:
        raise failure(code, None, "listing the pipes", why)
    named = [(name_in_folder(said, folder), rest) for said, folder, *rest in rows]
    return [(name, *rest) for name, rest in named if name is not None]


cdef tuple connection_row(const npw_connection *one):
    return (one.number, one.since, one.pid, one.uid, one.flags, one.sleeping, one.in_quota, one.out_quota,
            one.pending_reads, one.pending_writes, one.in_bytes, one.in_messages, one.in_unread, one.out_bytes,
            one.out_messages, one.out_unread, one.out_unread_messages, one.read_slept, one.write_slept, one.sleeps)


cdef tuple details_row(const npw_details *details):
    return (details.uid, details.in_quota, details.out_quota, details.instances, details.connected, details.held,
            details.since, details.ended, details.in_bytes, details.in_messages, details.out_bytes,
            details.out_messages, details.sleeps)


cdef int add_described(void *context, const np_described *said) noexcept with gil:
    so_far = <told *>context
    rows = <list>so_far.rows
    try:
        if said.first:
            rows.append((said.code, said.pid, said.uid, (
                said.answer.type, said.answer.direction, said.answer.max_instances, said.answer.instances,
                said.answer.listening), details_row(&said.details), [], said.answer_ns))
        elif said.code != NP_OK:  # it told the beginning
            rows[-1] = (said.code, *rows[-1][1:])
        (<list>rows[-1][5]).extend([connection_row(&said.connections[i]) for i in range(said.count)])
    except MemoryError:
        so_far.short_of_memory = True
        return 0
    return 1


def describe_named_pipe(str root, str folder, str display, str name):
    """What each owner of a pipe tells of its instances: (code, owner's pid, its uid, pipe, owner, connections,
    nanoseconds to its first answer).

    The codes and the fields are those of np_described (pipe/ask.h). With a code that is not 0 the rest is what was told
    before.
    """
    cdef char why[NP_WHY_SIZE]
    cdef Place place = place_of(root, folder, display)
    cdef np_where *where = &place.where
    cdef np_wait wait = wait_until(None)
    cdef uint32_t code
    rows = []
    cdef told so_far = told(<void *>rows, False)
    why[0] = 0
    with nogil:
        code = np_ask(where.root, where.folder, add_described, &so_far, &wait, why)
    if so_far.short_of_memory:
        raise MemoryError
    if code != NP_OK:
        raise failure(code, name, "asking for the pipe's counts", why)
    return rows


def own_named_pipe(str root, str folder, str display):
    """What this process's instances of a pipe have moved, those that live included: see details_row. None: it has none.
    """
    cdef Place place = place_of(root, folder, display)
    cdef npw_details details
    cdef bint found
    with nogil:
        found = np_report_own(&place.where, &details)
    if not found:
        return None
    return details_row(&details)


def process_counts():
    """Of the clients' ends of this process, and of its servers': (living, connections, bytes and messages received,
    bytes and messages sent, sleeps).
    """
    cdef np_process_counts about
    with nogil:
        np_report_process(&about)
    return [(about.living[i], about.totals[i].connections, about.totals[i].in_bytes, about.totals[i].in_messages,
             about.totals[i].out_bytes, about.totals[i].out_messages, about.totals[i].sleeps) for i in range(2)]


def closed_instances():
    """A number that changes whenever an instance of this process's is closed."""
    return np_closed_seq()


def wait_closed(str root, str folder, str display, uint32_t seen, timeout=None):
    """Waits until closed_instances() is not `seen` any more, or another owner of the name has died. Raises
    PipeTimeoutError.
    """
    cdef Place place = place_of(root, folder, display)
    cdef np_where *where = &place.where
    cdef np_wait wait = wait_until(timeout)
    cdef uint32_t code
    with nogil:
        code = np_wait_closed(where, seen, &wait)
    if code != NP_OK:
        raise failure(code, None, "waiting for room for an instance")


def wake_closed():
    """Wakes those who are in wait_closed."""
    np_wake_closed()


def is_folder(str path):
    """Whether `path` is a folder."""
    cdef c_stat about
    cdef bytes place = os.fsencode(path)
    return do_stat(place, &about) == 0 and S_ISDIR(about.st_mode)


def full_fence():
    """A fence between what this thread stored in shared memory and what it loads next (docs/protocol.md, section 9)."""
    np_full_fence()


cdef class OwnTrace:
    """What all connections that this process makes from now on do is recorded in the ring of records in `memory`.

    Bytes that wake its reader go through `socket`, which has to stay open until `end`. `code`: the Win32 code, 0.
    """

    cdef np_tracer *tracer
    cdef readonly uint32_t code

    def __cinit__(self, int memory, int socket, uint32_t most):
        cdef np_trace_options options
        options.most = most
        self.tracer = NULL
        self.code = np_tap_all(memory, socket, &options, &self.tracer)

    def end(self):
        """Nothing is recorded any more. In a forked child nothing is anyway."""
        cdef np_tracer *tracer = self.tracer
        self.tracer = NULL
        if tracer != NULL:
            np_tap_all_end(tracer)


def new_connection_number():
    """Return a number for a connection of this process that the engine does not know."""
    return np_link_new_number()
