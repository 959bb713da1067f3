# cython: language_level=3, binding=True
"""What the handles of pipes and files stand for: creating and opening them, their state, who is at the other end."""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from npipe.binding.engine cimport *
from npipe.binding.handle cimport Handle
from npipe.binding.named cimport Place, place_of
from npipe.binding.system cimport pid_t, uid_t
from npipe.binding.win32.handles cimport (
    INVALID_HANDLE, INVALID_PARAMETER, Target, blocking_wait, handle_of, own_thread, raise_interrupted, target_of,
    wait_ms,
)
from npipe.binding.win32.overlapped cimport OVERLAPPED, reap

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
        if self.handles == 0:
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
        self.port = None
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


def file_handle(str kind, file, bint overlapped):
    """A handle of an object that has `read_at`, `write_at`, `flush` and `close`."""
    return handle_of(FileTarget(kind, file, overlapped))


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


# ---- Creating and opening


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
    cdef PipeTarget pipe = pipe_of(handle, "SetNamedPipeHandleState")
    cdef np_handle *end = pipe.valid("SetNamedPipeHandleState")
    gated(pipe, "SetNamedPipeHandleState")
    cdef uint32_t code = np_set_state(end, mode)
    if code != NP_OK:
        raise make_error(code, "SetNamedPipeHandleState")


def get_pipe_state(handle):
    """GetNamedPipeHandleState: (modes, instances) (SEMANTICS §9.2)."""
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


def ImpersonateNamedPipeClient(handle):
    """ImpersonateNamedPipeClient: this thread acts as the client until RevertToSelf (SEMANTICS §11).

    Raises 1368 (nothing has been read yet), 1 (not a server's handle), 1314 (this process may not: only root acts as
    others).
    """
    cdef PipeTarget pipe = pipe_of(handle, "ImpersonateNamedPipeClient")
    cdef uint32_t code = np_impersonate(pipe.valid("ImpersonateNamedPipeClient"))
    if code != NP_OK:
        raise make_error(code, "ImpersonateNamedPipeClient")
