# cython: language_level=3, binding=True
"""What the handles of pipes and files stand for: creating and opening them, their state, who is at the other end."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from npipe.binding.engine cimport *
from npipe.binding.handle cimport Handle, counted
from npipe.binding.named cimport Place, place_of
from npipe.binding.poller cimport Poller
from npipe.binding.system cimport gid_t, look_at_word, pid_t, uid_t
from npipe.binding.waits cimport only_try
from npipe.binding.win32.handles cimport (
    INVALID_HANDLE, INVALID_PARAMETER, Target, blocking_wait, handle_of, keep_free, known, open_target, own_thread,
    put_at, raise_interrupted, replace, target_of, wait_ms,
)
from npipe.binding.win32.overlapped cimport OVERLAPPED, reap

import os
import threading

from npipe import win32_error
from npipe.errors import PipeError
from npipe.win32_error import make_error


cdef class PipeTarget(Target):
    """A pipe's instance or a client's end."""

    def __cinit__(self, *args, **kwargs):
        self.kind = "pipe"
        self.handle = NULL
        self.object = np_object_new(NP_OBJECT_FILE, True, True)
        if self.object == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.handle != NULL:
            np_let_go(self.handle)  # unless `shut` has closed it: with the interpreter, so without waiting
            np_free(self.handle)

    cdef np_handle *valid(self, str function) except NULL:
        if look_at_word(&self.handles) == 0:
            raise make_error(INVALID_HANDLE, function)
        return self.handle

    cdef int shut(self, bint wait) except -1:
        """CloseHandle; of a synchronous handle it waits for the call that is under way (SEMANTICS §3.4)."""
        cdef np_handle *handle = self.handle
        cdef bint entered = False
        if not self.overlapped and wait:
            self.enter("CloseHandle")
            entered = True
        with nogil:
            if not np_close_lent(handle):
                np_close(handle, False)
        if entered:
            np_gate_leave(&self.gate)
        with cython.critical_section(self):
            port, self.port = self.port, None
        reap()
        return 0

    cdef int enter(self, str function) except -1:
        """Begin an operation on a synchronous handle: after the one that is under way."""
        cdef np_wait wait
        cdef uint32_t code
        if np_gate_try(&self.gate):
            return 0
        wait = blocking_wait()
        with nogil:
            code = np_gate_enter(&self.gate, &wait)
        if code == NP_INTERRUPTED:
            raise_interrupted(function)
        return 0

    cdef int rearm(self) except -1:
        """Let whoever waits for a descriptor know whether the next read has to wait."""
        with cython.critical_section(self):
            pollers = self.pollers
        if pollers is not None:
            for poller in pollers:  # a list that is replaced, and never changed
                (<Poller>poller).rearm()
        return 0

    cdef bint bind(self, Target port, uint64_t key) except -1:
        """Let a completion port be told of what is started from now on. False: one is already."""
        with cython.critical_section(self):
            if self.port is not None:
                return False
            self.port = port
            self.key = key
            np_async_bind(self.handle, port.object, key)
        return True

    cdef Target bound_to(self, uint64_t *key):
        """That port, and its key; or None."""
        with cython.critical_section(self):
            if key != NULL:
                key[0] = self.key
            return self.port

    cdef void before_wait(self) noexcept:
        if np_is_disconnected(self.handle):
            np_event_reset(self.object)  # SEMANTICS §10.3

    cdef void number_closed(self, Py_ssize_t number) noexcept:
        with nogil:
            np_offer_end(self.handle, <uint64_t>number)


cdef class FileTarget(Target):
    """An ordinary file, or the root of all pipes: what is done with it is done in Python."""

    def __cinit__(self, str kind="file", file=None, bint overlapped=False):
        self.kind = kind
        self.file = file
        self.overlapped = overlapped
        self.object = np_object_new(NP_OBJECT_FILE, True, True)
        if self.object == NULL:
            raise MemoryError

    cdef int shut(self, bint wait) except -1:
        if self.file is not None:
            self.file.close()
        return 0


cdef class FollowingTarget(FileTarget):
    """What is signalled once a descriptor can be read: a process (pidfd), when it has ended."""

    def __dealloc__(self):
        np_follow_end(&self.follow)

    cdef int shut(self, bint wait) except -1:
        np_follow_end(&self.follow)
        return FileTarget.shut(self, wait)

    cdef void before_wait(self) noexcept:
        np_follow_look(&self.follow)


def following_handle(str kind, file, int fd, str function):
    """A handle of an object with `close` that can be waited for: until the descriptor `fd`, which is the object's, can
    be read. Raises 8, 1450.
    """
    cdef FollowingTarget target = FollowingTarget(kind, file, False)
    np_event_reset(target.object)
    target.follow.object = target.object
    target.follow.fd = fd
    cdef uint32_t code = np_follow_begin(&target.follow)
    if code != NP_OK:
        raise make_error(code, function)
    return handle_of(target)


def file_handle(str kind, file, bint overlapped):
    """A handle of an object that has `read_at`, `write_at`, `flush` and `close`."""
    return handle_of(FileTarget(kind, file, overlapped))


def file_handle_at(Py_ssize_t number, str kind, file):
    """The same for a number that this process has been told of. False: that is in use, or can be no handle's."""
    if number <= 0 or number >> 32 or known(number) is not None:
        return False
    keep_free(number)
    return put_at(number, FileTarget(kind, file, False))


def handle_beside(Handle handle not None):
    """A handle of the pipe's end that another face has, for as long as that is open: closing either one ends it."""
    cdef PipeTarget pipe = PipeTarget()
    np_hold(handle.valid())
    pipe.handle = handle.handle
    pipe.overlapped = True
    pipe.name = handle.name
    return handle_of(pipe)


cdef object descriptor_of(Target target):
    """The file of a descriptor that is a pipe of the system, and answers as a pipe does; None for anything else."""
    if target.kind == "file" and isinstance(target, FileTarget) and hasattr((<FileTarget>target).file, "peek"):
        return (<FileTarget>target).file
    return None


cdef PipeTarget refuse(Target target, str function):
    """What is no pipe."""
    if target.kind == "root":
        raise make_error(ROOT_CODES.get(function, INVALID_PARAMETER), function)
    raise make_error(1 if target.kind == "file" else INVALID_HANDLE, function)


cdef Target look_up_for(handle, OVERLAPPED overlapped, str function):
    try:
        return target_of(handle, function)
    except win32_error.error:
        if overlapped is not None:
            with cython.critical_section(overlapped):
                overlapped.failed_at_once()
        raise


# A handle of \\.\pipe\ itself is no pipe (SEMANTICS §1).
cdef dict ROOT_CODES = {
    "DisconnectNamedPipe": 233, "ConnectNamedPipe": 1, "TransactNamedPipe": 233, "ImpersonateNamedPipeClient": 1,
}


def file_of(handle, str kind, str function):
    """What file_handle was given for a handle of this kind; raises 6 for any other."""
    cdef Target target = target_of(handle, function)
    if target.kind != kind or not isinstance(target, FileTarget):
        raise make_error(INVALID_HANDLE, function)
    return (<FileTarget>target).file


# ---- Descriptors


def poller_of(handle, str function):
    """A descriptor of a pipe's handle that selectors can wait for, once `arm` has been called with it."""
    cdef PipeTarget pipe = pipe_of(handle, function)
    cdef Poller poller = Poller.__new__(Poller)
    poller.begin(pipe.valid(function))
    return poller


def arm(handle, Poller poller not None, str function):
    """Begin to tell by a descriptor when there is something to read; of a pipe without a client there is nothing."""
    cdef PipeTarget pipe = pipe_of(handle, function)
    cdef np_handle *end = pipe.valid(function)
    cdef int socket = -1
    if poller.fileno() < 0 or np_poll_socket(end, &socket) != NP_OK:
        return
    poller.watch(socket)
    with cython.critical_section(pipe):
        if pipe.pollers is None:
            pipe.pollers = [poller]
        elif poller not in pipe.pollers:
            pipe.pollers = [*pipe.pollers, poller]
    poller.rearm()


def disarm(handle, Poller poller not None):
    """End what `arm` has begun; a handle that is closed is no error. Whether that had begun."""
    cdef Target target = open_target(handle)
    cdef PipeTarget pipe
    if not isinstance(target, PipeTarget):
        return False
    pipe = <PipeTarget>target
    with cython.critical_section(pipe):
        if pipe.pollers is None or poller not in pipe.pollers:
            return False
        pipe.pollers = [one for one in pipe.pollers if one is not poller] or None
        if pipe.pollers is None and pipe.handle != NULL:
            np_poll_end(pipe.handle)
    return True


# ---- Creating and opening


_refusals = threading.local()


def last_refusal():
    """Code, reason and cure of this thread's last create_pipe_instance that has failed."""
    return getattr(_refusals, "last", (0, None, ""))


def create_pipe_instance(str root, str folder, str display, str name, *, uint32_t open_mode, uint32_t type,
                         uint32_t mode, uint32_t max_instances, uint32_t out_quota, uint32_t in_quota,
                         uint32_t default_timeout_ms, bint everyone, tuple uids, tuple gids, uint32_t allowed):
    """CreateNamedPipe with checked arguments: a PyHANDLE, or a number, the Win32 code."""
    cdef PipeTarget pipe = PipeTarget()
    cdef Handle made
    try:
        made = Handle.create(
            root, folder, display, name, access=open_mode & 3, first_instance=bool(open_mode & 0x80000), type=type,
            mode=mode, max_instances=max_instances, out_quota=out_quota, in_quota=in_quota,
            default_timeout_ms=default_timeout_ms, everyone=everyone, uids=uids, gids=gids, allowed=allowed,
            overlapped=True)
    except PipeError as error:
        _refusals.last = error.winerror, error.detail, error.hint
        return error.winerror
    pipe.handle, made.handle = made.handle, NULL
    pipe.name = name
    pipe.overlapped = bool(open_mode & 0x40000000)
    return handle_of(pipe)


def open_pipe(str root, str folder, str display, str name, *, uint32_t access, bint overlapped, patience=None):
    """CreateFile on a pipe: a PyHANDLE, or a number, the Win32 code; a server that is silent for `patience` seconds (1
    at most) is busy.
    """
    cdef PipeTarget pipe = PipeTarget()
    cdef Handle made
    try:
        made = Handle.open(root, folder, display, name, access=access, hold=False, verify_owner=False, timeout=patience,
                           overlapped=True)
    except PipeError as error:
        return error.winerror
    pipe.handle, made.handle = made.handle, NULL
    pipe.name = name
    pipe.overlapped = overlapped
    return handle_of(pipe)


def wait_for_pipe(str root, str folder, str display, timeout_ms):
    """WaitNamedPipe with milliseconds, 0 for the pipe's default: the Win32 code."""
    cdef Place place = place_of(root, folder, display)
    cdef np_where *where = &place.where
    cdef np_wait wait = wait_ms(timeout_ms)
    cdef bint use_default = (int(timeout_ms) & 0xFFFFFFFF) == 0
    cdef np_thread *thread
    cdef uint32_t code, outer
    if use_default:
        wait.deadline = NP_FOREVER
    thread = own_thread()
    outer = np_call_begin_named(thread, &wait)
    with nogil:
        code = np_wait_named(where, use_default, &wait, &thread.breakable, NULL)
    np_call_end_named(thread, outer)
    if code == NP_INTERRUPTED:
        raise_interrupted("WaitNamedPipe")
    return code


def set_pipe_rule(handle, bint everyone, tuple uids, tuple gids, uint32_t allowed, str function):
    """Let other clients into an instance's pipe from now on. Raises 1 (not an instance of this process), 5, 6."""
    cdef PipeTarget pipe = pipe_of(handle, function)
    cdef np_handle *end = pipe.valid(function)
    cdef np_access_rule rule
    rule.everyone = everyone
    rule.allowed = allowed
    rule.n_uids = <uint32_t>len(uids)
    rule.n_gids = <uint32_t>len(gids)
    rule.uids = <uid_t *>malloc((len(uids) + 1) * sizeof(uid_t))
    rule.gids = <gid_t *>malloc((len(gids) + 1) * sizeof(gid_t))
    try:
        if rule.uids == NULL or rule.gids == NULL:
            raise MemoryError
        for i, uid in enumerate(uids):
            rule.uids[i] = uid
        for i, gid in enumerate(gids):
            rule.gids[i] = gid
        code = np_rule_set(end, &rule)
    finally:
        free(rule.uids)
        free(rule.gids)
    if code != NP_OK:
        raise make_error(code, function)


# ---- Ends that become descriptors of the system


def pipe_target(handle, str function):
    """The object behind the handle of a pipe. Raises 6, 1."""
    return pipe_of(handle, function)


cdef extern from "<fcntl.h>" nogil:
    ssize_t c_tee "tee"(int, int, size_t, unsigned int)
    enum:
        SPLICE_F_NONBLOCK


def tee(int source, int target, size_t size):
    """Copy what is unread in the pipe `source` into the pipe `target`, without a wait: the number of bytes; OSError."""
    cdef ssize_t count
    with nogil:
        count = c_tee(source, target, size, SPLICE_F_NONBLOCK)
    if count < 0:
        raise OSError(errno, os.strerror(errno))
    return count


cdef bytes drained(PipeTarget pipe):
    """What is unread in a byte pipe; the gate is the caller's."""
    cdef list parts = []
    cdef char buffer[65536]
    cdef uint32_t count = 0, code
    cdef np_wait wait = only_try()
    while True:
        code = np_read(pipe.handle, buffer, sizeof(buffer), &count, &wait)
        if code != NP_OK or count == 0:
            return b"".join(parts)
        parts.append(PyBytes_FromStringAndSize(buffer, count))


def become_files(PipeTarget reader not None, PipeTarget writer not None, make, str function):
    """Let the two ends of a pipe of this process go on as files: `make(unread bytes)` is called for the reader's file
    and the writer's.

    Raises 6 (an end is closed), 231 (an operation is under way), 50 (overlapped), and what `make` raises: then nothing
    has changed. Children that have inherited an end, and have not used it yet, have it no more.
    """
    cdef np_handle *ends[2]
    cdef np_handle *end
    ends[0], ends[1] = reader.valid(function), writer.valid(function)
    if reader.overlapped or writer.overlapped:
        raise make_error(50, function)
    if not np_gate_try(&reader.gate):
        raise make_error(NP_PIPE_BUSY, function)
    if not np_gate_try(&writer.gate):
        np_gate_leave(&reader.gate)
        raise make_error(NP_PIPE_BUSY, function)
    try:
        for end in ends:
            np_lends_withdraw(end)
            if np_is_closed(end):
                raise make_error(INVALID_HANDLE, function)  # another process has just taken it
        read_file, write_file = make(drained(reader))
        replace(reader, FileTarget("file", read_file, False))
        replace(writer, FileTarget("file", write_file, False))
    finally:
        np_gate_leave(&reader.gate)
        np_gate_leave(&writer.gate)
    writer.shut(False)
    reader.shut(False)


# ---- State


def DisconnectNamedPipe(hPipe):
    """DisconnectNamedPipe: both directions are discarded (SEMANTICS §3.3). Raises 233 (disconnected already), 1 (a
    client's handle), 6.
    """
    cdef PipeTarget pipe = pipe_of(hPipe, "DisconnectNamedPipe")
    cdef np_handle *handle = pipe.valid("DisconnectNamedPipe")
    cdef uint32_t code
    if not pipe.overlapped:
        pipe.enter("DisconnectNamedPipe")
    with nogil:
        code = np_disconnect(handle)
    if not pipe.overlapped:
        leave(pipe)
    reap()
    if code != NP_OK:
        raise make_error(code, "DisconnectNamedPipe")


cdef int gated(PipeTarget pipe, str function) except -1:
    """Wait for the operation that is under way on a synchronous handle, even for a question (SEMANTICS §6.4)."""
    if not pipe.overlapped:
        pipe.enter(function)
        leave(pipe)
    return 0


def set_pipe_state(handle, uint32_t mode):
    """SetNamedPipeHandleState's mode (SEMANTICS §9.1)."""
    cdef Target target = target_of(handle, "SetNamedPipeHandleState")
    if type(target) is not PipeTarget and descriptor_of(target) is not None:
        descriptor_of(target).set_mode(mode)
        return
    cdef PipeTarget pipe = pipe_of(handle, "SetNamedPipeHandleState")
    cdef np_handle *end = pipe.valid("SetNamedPipeHandleState")
    gated(pipe, "SetNamedPipeHandleState")
    cdef uint32_t code = np_set_state(end, mode)
    if code != NP_OK:
        raise make_error(code, "SetNamedPipeHandleState")


def get_pipe_state(handle):
    """GetNamedPipeHandleState: (modes, instances) (SEMANTICS §9.2)."""
    cdef Target target = target_of(handle, "GetNamedPipeHandleState")
    if type(target) is not PipeTarget and descriptor_of(target) is not None:
        return descriptor_of(target).mode, 1
    cdef PipeTarget pipe = pipe_of(handle, "GetNamedPipeHandleState")
    cdef np_handle *end = pipe.valid("GetNamedPipeHandleState")
    cdef uint32_t mode = 0, instances = 0, code
    gated(pipe, "GetNamedPipeHandleState")
    with nogil:
        code = np_get_state(end, &mode, &instances)
    if code != NP_OK:
        raise make_error(code, "GetNamedPipeHandleState")
    return mode, instances


def GetNamedPipeInfo(hPipe):
    """GetNamedPipeInfo: [flags, out buffer size, in buffer size, maximum instances] (SEMANTICS §9.3); a list, as in
    pywin32.

    Sizes are bytes, 255 instances are no limit. Raises 233 (a disconnected client), 5 (an outbound server's handle), 6.
    """
    cdef Target target = target_of(hPipe, "GetNamedPipeInfo")
    if type(target) is not PipeTarget and descriptor_of(target) is not None:
        return descriptor_of(target).info()
    cdef PipeTarget pipe = pipe_of(hPipe, "GetNamedPipeInfo")
    cdef np_handle *end = pipe.valid("GetNamedPipeInfo")
    cdef np_info info
    gated(pipe, "GetNamedPipeInfo")
    cdef uint32_t code = np_get_info(end, &info)
    if code != NP_OK:
        raise make_error(code, "GetNamedPipeInfo")
    return [info.flags, <int32_t>info.out_quota, <int32_t>info.in_quota, info.max_instances]


def GetNamedPipeClientProcessId(hPipe):
    """GetNamedPipeClientProcessId (SEMANTICS §11). Raises 1168 (there is no client), 233 (a disconnected client), 6."""
    cdef PipeTarget pipe = pipe_of(hPipe, "GetNamedPipeClientProcessId")
    cdef uint32_t pid = 0
    cdef uint32_t code = np_client_pid(pipe.valid("GetNamedPipeClientProcessId"), &pid)
    if code != NP_OK:
        raise make_error(code, "GetNamedPipeClientProcessId")
    return pid


def GetNamedPipeServerProcessId(hPipe):
    """GetNamedPipeServerProcessId (SEMANTICS §11). Raises 233 (a disconnected client), 6."""
    cdef PipeTarget pipe = pipe_of(hPipe, "GetNamedPipeServerProcessId")
    cdef uint32_t pid = 0
    cdef uint32_t code = np_server_pid(pipe.valid("GetNamedPipeServerProcessId"), &pid)
    if code != NP_OK:
        raise make_error(code, "GetNamedPipeServerProcessId")
    return pid


def pipe_peer(handle, str function):
    """(is the server's end, has a client or had one, has read something, pid, uid) of a pipe's handle."""
    cdef PipeTarget pipe = pipe_of(handle, function)
    cdef np_handle *end = pipe.valid(function)
    cdef np_description about
    cdef pid_t pid = 0
    cdef uid_t uid = 0
    np_describe(end, &about)
    cdef uint32_t code = np_peer(end, &pid, &uid)
    return bool(about.server), code == NP_OK, np_has_read(end), pid, uid


def forbid_tracing(handle, str function):
    """Nobody may trace the pipe of this instance from now on (docs/tracing.md)."""
    cdef PipeTarget pipe = pipe_of(handle, function)
    cdef np_handle *valid = pipe.valid(function)
    with nogil:
        np_forbid_tracing(valid)


def pipe_counts(PipeTarget pipe):
    """What this end's connection has moved, or the last one, also when it is closed: as Handle.counts."""
    cdef np_counts about
    with nogil:
        np_handle_count(pipe.handle, &about)
    return counted(&about)


def pipe_remote(handle, str function):
    """What tells of the client of another machine at a pipe's server's end; None: there is none."""
    cdef PipeTarget pipe = pipe_of(handle, function)
    cdef void *data = NULL
    cdef uint32_t size = 0
    cdef uint32_t code = np_remote(pipe.valid(function), &data, &size)
    if code != NP_OK:
        raise make_error(code, function)
    if data == NULL:
        return None
    try:
        return PyBytes_FromStringAndSize(<char *>data, size)
    finally:
        free(data)


def ImpersonateNamedPipeClient(handle):
    """ImpersonateNamedPipeClient: this thread acts as the client until RevertToSelf (SEMANTICS §11).

    Raises 1368 (nothing has been read yet), 1 (not a server's handle), 1314 (this process may not: only root acts as
    others).
    """
    cdef PipeTarget pipe = pipe_of(handle, "ImpersonateNamedPipeClient")
    cdef uint32_t code = np_impersonate(pipe.valid("ImpersonateNamedPipeClient"))
    if code != NP_OK:
        raise make_error(code, "ImpersonateNamedPipeClient")
