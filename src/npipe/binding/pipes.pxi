# Named pipes, files and the calls on them that npipe.win32 is made of.

cdef extern from "base/call_lock.h" nogil:
    struct np_gate:
        pass
    bint np_gate_try(np_gate *)
    uint32_t np_gate_enter(np_gate *, const np_wait *)
    void np_gate_leave(np_gate *)

cdef extern from "engine.h" nogil:
    void np_handle_cancel_blocked(np_handle *)
    uint32_t np_impersonate(np_handle *)

cdef extern from "engine.h" nogil:
    struct np_credentials:
        uid_t uid
        gid_t gid
        uint32_t n_groups
        gid_t groups[256]
    bint np_revert()
    bint np_settle_identity()
    bint np_is_impersonating()
    bint np_own_credentials(np_credentials *)

cdef enum:
    _READ = 1
    _WRITE = 2
    _READ_ATTRIBUTES = 4
    _WRITE_ATTRIBUTES = 8


cdef class PipeTarget(Target):
    """A pipe's instance or a client's end."""

    cdef np_handle *handle
    cdef bint overlapped
    cdef np_gate gate  # of a synchronous handle: one operation at a time (SEMANTICS §6.4)
    cdef Target port
    cdef uint64_t key
    cdef readonly str name

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
            raise make_error(_INVALID_HANDLE, function)
        return self.handle

    cdef int shut(self, bint wait) except -1:
        """CloseHandle; of a synchronous handle it waits for the call that is under way (SEMANTICS §3.4)."""
        cdef np_handle *handle = self.handle
        cdef bint entered = False
        if not self.overlapped and wait:
            self.enter("CloseHandle")
            entered = True
        with nogil:
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

    cdef inline void leave(self) noexcept:
        np_gate_leave(&self.gate)


cdef np_wait blocking_wait() except *:
    """For ever, but for Ctrl-C, and CancelSynchronousIo between np_call_begin and np_call_end."""
    cdef np_wait wait = only_try()
    own_thread()  # there it is found
    wait.deadline = NP_FOREVER
    wait.interrupted = check_signals
    return wait


cdef int raise_interrupted(str function) except -1:
    npipe_reraise()
    raise make_error(NP_OPERATION_ABORTED, function)


cdef PipeTarget pipe_of(handle, str function):
    """The pipe that `handle` stands for; raises 6, as for any other kind of object but a file."""
    cdef Target target = target_of(handle, function)
    if type(target) is PipeTarget:
        return <PipeTarget>target
    if target.kind == "root":
        raise make_error(ROOT_CODES.get(function, _INVALID_PARAMETER), function)
    raise make_error(1 if target.kind == "file" else _INVALID_HANDLE, function)


cdef Target target_for(handle, OVERLAPPED overlapped, str function):
    """As target_of. Of what is started on no handle at all the OVERLAPPED says that it is pending, as Windows leaves it, and the event
    stays as it is."""
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


cdef class FileTarget(Target):
    """An ordinary file, or the root of all pipes: what is done with it is done in Python."""

    cdef readonly object file
    cdef readonly bint overlapped

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


# ---- Creating and opening


def create_pipe_instance(str root, str folder, str display, str name, *, uint32_t open_mode, uint32_t type, uint32_t mode,
                         uint32_t max_instances, uint32_t out_quota, uint32_t in_quota, uint32_t default_timeout_ms,
                         bint everyone, tuple uids, tuple gids, uint32_t allowed):
    """CreateNamedPipe with checked arguments: a PyHANDLE, or a number, the Win32 code."""
    cdef PipeTarget pipe = PipeTarget()
    cdef Handle made
    from npipe.errors import PipeError

    try:
        made = Handle.create(
            root, folder, display, name, access=open_mode & 3, first_instance=bool(open_mode & 0x80000), type=type, mode=mode,
            max_instances=max_instances, out_quota=out_quota, in_quota=in_quota, default_timeout_ms=default_timeout_ms,
            everyone=everyone, uids=uids, gids=gids, allowed=allowed, overlapped=True)
    except PipeError as error:
        return error.winerror
    pipe.handle, made.handle = made.handle, NULL
    pipe.name = name
    pipe.overlapped = bool(open_mode & 0x40000000)
    return handle_of(pipe)


def open_pipe(str root, str folder, str display, str name, *, uint32_t access, bint overlapped, patience=None):
    """CreateFile on a pipe: a PyHANDLE, or a number, the Win32 code; a server that is silent for `patience` seconds (1 at most) is busy."""
    cdef PipeTarget pipe = PipeTarget()
    cdef Handle made
    from npipe.errors import PipeError

    try:
        made = Handle.open(root, folder, display, name, access=access, hold=False, verify_owner=False, timeout=patience, overlapped=True)
    except PipeError as error:
        return error.winerror
    pipe.handle, made.handle = made.handle, NULL
    pipe.name = name
    pipe.overlapped = overlapped
    return handle_of(pipe)


def wait_for_pipe(str root, str folder, str display, timeout_ms):
    """WaitNamedPipe with milliseconds, 0 for the pipe's default: the Win32 code."""
    cdef _Where place = place_of(root, folder, display)
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


# ---- The server's verbs


def ConnectNamedPipe(hPipe, overlapped=None):
    """ConnectNamedPipe: 0, 535 (ERROR_PIPE_CONNECTED) or 997 (ERROR_IO_PENDING); raises the rest (SEMANTICS §3.2)."""
    cdef OVERLAPPED given = as_overlapped(overlapped)
    target_for(hPipe, given, "ConnectNamedPipe")
    cdef PipeTarget pipe = pipe_of(hPipe, "ConnectNamedPipe")
    cdef np_handle *handle = pipe.valid("ConnectNamedPipe")
    cdef np_wait wait
    cdef np_call outer
    cdef Operation operation
    cdef uint32_t code
    if given is not None:
        if not pipe.overlapped:
            pipe.enter("ConnectNamedPipe")
        try:
            operation = begin(given, pipe, NP_ASYNC_CONNECT, "ConnectNamedPipe")
            code = begun(given, operation, np_async_connect(operation.async))
            if code == NP_IO_PENDING and not pipe.overlapped:
                code = wait_until_over(operation, "ConnectNamedPipe")
        finally:
            if not pipe.overlapped:
                pipe.leave()
    else:
        wait = blocking_wait()
        if not pipe.overlapped:
            pipe.enter("ConnectNamedPipe")
        np_hold(handle)
        try:
            with nogil:
                outer = np_call_begin(np_thread_self(), handle, &wait)
                code = np_connect(handle, &wait)
                np_call_end(np_thread_self(), &outer)
        finally:
            if not pipe.overlapped:
                pipe.leave()
            np_free(handle)
        if code == NP_INTERRUPTED:
            raise_interrupted("ConnectNamedPipe")
    if code != NP_OK and code != NP_PIPE_CONNECTED and code != NP_IO_PENDING:
        raise make_error(code, "ConnectNamedPipe")
    return noted(code)


def cancel_synchronous_io(handle):
    """CancelSynchronousIo: ends the call that `handle`'s thread is blocked in; raises 1168 when there is none (SEMANTICS §10.2)."""
    cdef Target target = target_of(handle, "CancelSynchronousIo")
    cdef np_handle *pipe
    if not isinstance(target, ThreadTarget):
        raise make_error(_INVALID_HANDLE, "CancelSynchronousIo")
    # A thread in a call refers to the pipe, and lets go of it with the interpreter, which is here.
    if not np_thread_cancel((<ThreadTarget>target).thread, &pipe):
        raise make_error(NP_NOT_FOUND, "CancelSynchronousIo")
    if pipe != NULL:
        np_handle_cancel_blocked(pipe)


cdef uint32_t cancel_blocked(np_handle *handle):
    """CancelIoEx(h, NULL) also ends blocked calls, of any thread of this process."""
    cdef uint32_t count = np_threads_cancel(handle)
    if count:
        np_handle_cancel_blocked(handle)
    return count


def note_thread():
    """Make the calling thread known, for OpenThread."""
    own_thread()


def open_thread(ident):
    """A handle of a thread by its native id, or None if it is not known."""
    cdef np_thread *thread = np_thread_find(ident)
    if thread == NULL:
        return None
    target = thread_target(thread)
    np_thread_unref(thread)
    return handle_of(target)


def DisconnectNamedPipe(hPipe):
    """DisconnectNamedPipe: both directions are discarded (SEMANTICS §3.3). Raises 233 (disconnected already), 1 (a client's handle), 6."""
    cdef PipeTarget pipe = pipe_of(hPipe, "DisconnectNamedPipe")
    cdef np_handle *handle = pipe.valid("DisconnectNamedPipe")
    cdef uint32_t code
    if not pipe.overlapped:
        pipe.enter("DisconnectNamedPipe")
    with nogil:
        code = np_disconnect(handle)
    if not pipe.overlapped:
        pipe.leave()
    reap()
    if code != NP_OK:
        raise make_error(code, "DisconnectNamedPipe")


# ---- Reading and writing


def AllocateReadBuffer(bufSize):
    """A writable buffer (a memoryview) of `bufSize` bytes, for overlapped reads."""
    return memoryview(bytearray(PyNumber_Index(bufSize)))


cdef uint32_t finish_start(OVERLAPPED overlapped, PipeTarget pipe, Operation operation, uint32_t code, str function) except? 0xFFFFFFFE:
    """After a start: on a synchronous handle, whose gate the caller has, the call waits until it is over."""
    code = begun(overlapped, operation, code)
    if code == NP_IO_PENDING and not pipe.overlapped:
        code = wait_until_over(operation, function)
    if code != NP_OK and code != NP_MORE_DATA and code != NP_IO_PENDING:
        raise make_error(code, function)
    return code


cdef uint32_t start_read(OVERLAPPED overlapped, PipeTarget pipe, buffer, str function, routine=None) except? 0xFFFFFFFE:
    if pipe.overlapped:
        return begin_read(overlapped, pipe, buffer, function, routine)
    pipe.enter(function)
    try:
        return begin_read(overlapped, pipe, buffer, function, routine)
    finally:
        pipe.leave()


cdef uint32_t start_write(OVERLAPPED overlapped, PipeTarget pipe, data, str function, routine=None) except? 0xFFFFFFFE:
    if pipe.overlapped:
        return begin_write(overlapped, pipe, data, function, routine)
    pipe.enter(function)
    try:
        return begin_write(overlapped, pipe, data, function, routine)
    finally:
        pipe.leave()


cdef uint32_t begin_read(OVERLAPPED overlapped, PipeTarget pipe, buffer, str function, routine) except? 0xFFFFFFFE:
    cdef Operation operation = begin(overlapped, pipe, NP_ASYNC_READ, function, routine)
    try:
        operation.pin(buffer, True, False)
        size_of(operation.first.len, pipe.name)
    except (TypeError, BufferError):
        begun(overlapped, operation, _INVALID_PARAMETER)
        raise TypeError(_NO_BUFFER) from None
    except BaseException:
        begun(overlapped, operation, _INVALID_PARAMETER)
        raise
    cdef np_async *async = operation.async
    cdef uint32_t code = np_async_read(async, operation.first.buf, <uint32_t>operation.first.len)
    if code == NP_IO_PENDING and np_async_lacks_rest(async):
        with nogil:
            code = np_async_await_rest(async)
    return finish_start(overlapped, pipe, operation, code, function)


cdef uint32_t begin_write(OVERLAPPED overlapped, PipeTarget pipe, data, str function, routine) except? 0xFFFFFFFE:
    cdef Operation operation = begin(overlapped, pipe, NP_ASYNC_WRITE, function, routine)
    try:
        operation.pin(data, False, False)
        size_of(operation.first.len, pipe.name)
    except BaseException:
        begun(overlapped, operation, _INVALID_PARAMETER)
        raise
    return finish_start(overlapped, pipe, operation,
                        np_async_write(operation.async, operation.first.buf, <uint32_t>operation.first.len), function)


cdef uint32_t blocking_read(PipeTarget pipe, char *buffer, uint32_t size, uint32_t *count, str function) except? 0xFFFFFFFE:
    cdef np_handle *handle = pipe.valid(function)
    cdef np_wait wait = only_try()
    cdef np_call outer
    cdef uint32_t code
    if not pipe.overlapped:
        pipe.enter(function)
    try:
        code = np_read(handle, buffer, size, count, &wait)
        if code == NP_WOULD_WAIT:
            wait = blocking_wait()
            with nogil:
                outer = np_call_begin(np_thread_self(), handle, &wait)
                code = np_read(handle, buffer, size, count, &wait)
                np_call_end(np_thread_self(), &outer)
    finally:
        if not pipe.overlapped:
            pipe.leave()
    if code == NP_INTERRUPTED:
        raise_interrupted(function)
    if code != NP_OK and code != NP_MORE_DATA:
        raise make_error(code, function)
    return code


def ReadFile(hFile, bufSize, ol=None):
    """ReadFile: (0 or 234, bytes), which a writable buffer that was given has too; overlapped: (0, 234 or 997, the buffer).

    `bufSize` is a number of bytes or a writable buffer, which stays pinned while the operation is pending. Raises 109 (the peer has closed
    and nothing is left), 232 (PIPE_NOWAIT and nothing there), 233 (disconnected), 536 (listening), 5 (no right to read), 995 (cancelled),
    6. Follows SEMANTICS §5.
    """
    cdef Target target
    cdef PipeTarget pipe
    cdef uint32_t count = 0, code, size
    cdef bytes data
    cdef tuple result
    cdef Buffer view
    cdef OVERLAPPED overlapped = as_overlapped(ol)
    cdef bint a_number = isinstance(bufSize, int)
    if a_number:
        size = size_to_read(bufSize)
    target = target_for(hFile, overlapped, "ReadFile")
    if type(target) is not PipeTarget:
        return read_other(target, bufSize, overlapped)
    pipe = <PipeTarget>target
    if overlapped is not None:
        buffer = memoryview(bytearray(size)) if a_number else bufSize
        return noted(start_read(overlapped, pipe, buffer, "ReadFile")), buffer
    if a_number:
        result = empty_pair()
        data = PyBytes_FromStringAndSize(NULL, size)
        code = noted(blocking_read(pipe, PyBytes_AS_STRING(data), size, &count, "ReadFile"))
        return fill(result, code, shortened(data, count))
    try:
        view = Buffer(bufSize, True)
    except (TypeError, BufferError):
        raise TypeError(_NO_BUFFER) from None
    size = size_of(view.view.len, pipe.name)
    result = empty_pair()
    data = PyBytes_FromStringAndSize(NULL, size)
    code = noted(blocking_read(pipe, <char *>view.view.buf, size, &count, "ReadFile"))
    memcpy(PyBytes_AS_STRING(data), view.view.buf, count)
    return fill(result, code, shortened(data, count))


cdef str _NO_BUFFER = "Second param must be an integer or writeable buffer object"


cdef uint32_t size_to_read(value) except? 0xFFFFFFFF:
    if not 0 <= value <= 0x7FFFFFFF:
        raise TypeError(_NO_BUFFER)
    return value


cdef int check_data(value) except -1:
    """What is written is an object with a buffer, and no text."""
    if value is None:
        raise TypeError("Buffer cannot be None")
    return 0


def WriteFile(hFile, data, ol=None):
    """WriteFile: (0, bytes written) or (997, 0). `data` is bytes or another buffer, no text; it stays pinned while the operation is pending.

    Raises 232 (the peer has closed), 109 (it closed while this waited), 233 (disconnected), 536 (listening), 5 (no right to write),
    995 (cancelled), 6. Follows SEMANTICS §6.
    """
    cdef OVERLAPPED overlapped = as_overlapped(ol)
    check_data(data)
    cdef Target target = target_for(hFile, overlapped, "WriteFile")
    cdef PipeTarget pipe
    cdef np_handle *handle
    cdef Buffer view
    cdef uint32_t code, count = 0, size
    cdef np_wait wait
    cdef np_call outer
    if type(target) is not PipeTarget:
        return write_other(target, data, overlapped)
    pipe = <PipeTarget>target
    if overlapped is not None:
        code = noted(start_write(overlapped, pipe, data, "WriteFile"))
        return code, overlapped.operation.async.count if code == NP_OK else 0
    handle = pipe.valid("WriteFile")
    view = Buffer(data, False)
    size = size_of(view.view.len, pipe.name)
    wait = only_try()
    if not pipe.overlapped:
        pipe.enter("WriteFile")
    try:
        code = np_write(handle, view.view.buf, size, &count, &wait)
        if code == NP_WOULD_WAIT:
            wait = blocking_wait()
            with nogil:
                outer = np_call_begin(np_thread_self(), handle, &wait)
                code = np_write(handle, view.view.buf, size, &count, &wait)
                np_call_end(np_thread_self(), &outer)
    finally:
        if not pipe.overlapped:
            pipe.leave()
    if code == NP_INTERRUPTED:
        raise_interrupted("WriteFile")
    if code != NP_OK:
        raise make_error(code, "WriteFile")
    return 0, count


def read_file_ex(handle, buffer, OVERLAPPED overlapped not None, routine):
    """ReadFileEx: 0 or 234 (more data) at once; the routine runs in an alertable wait (SEMANTICS §10.5)."""
    cdef PipeTarget pipe = pipe_of(handle, "ReadFileEx")
    if pipe.port is not None:
        raise make_error(_INVALID_PARAMETER, "ReadFileEx")
    cdef uint32_t code = start_read(overlapped, pipe, buffer, "ReadFileEx", routine)
    return 0 if code == NP_IO_PENDING else code


def write_file_ex(handle, data, OVERLAPPED overlapped not None, routine):
    """WriteFileEx; the routine runs in an alertable wait (SEMANTICS §10.5)."""
    cdef PipeTarget pipe = pipe_of(handle, "WriteFileEx")
    if pipe.port is not None:
        raise make_error(_INVALID_PARAMETER, "WriteFileEx")
    start_write(overlapped, pipe, data, "WriteFileEx", routine)


cdef tuple read_other(Target target, size, OVERLAPPED overlapped):
    """ReadFile of an ordinary file, at the OVERLAPPED's offset if there is one."""
    cdef bint no_packet
    if target.kind == "root":
        raise make_error(_INVALID_PARAMETER, "ReadFile")
    if target.kind != "file":
        raise make_error(_INVALID_HANDLE, "ReadFile")
    buffer = None if isinstance(size, int) else memoryview(size)
    wanted = size if buffer is None else len(buffer)
    if overlapped is None:
        data = (<FileTarget>target).file.read_at(None, wanted)
        if buffer is not None:
            buffer[: len(data)] = data
        return 0, data
    if buffer is None:
        buffer = size = AllocateReadBuffer(wanted)
    data = (<FileTarget>target).file.read_at(overlapped.offset | <uint64_t>overlapped.offset_high << 32, wanted)
    if wanted and not data:
        overlapped.failed_at_once()
        raise make_error(38, "ReadFile")
    buffer[: len(data)] = data
    finish_other(target, overlapped, len(data))
    return 0, size


cdef tuple write_other(Target target, data, OVERLAPPED overlapped):
    if target.kind == "root":
        raise make_error(_INVALID_PARAMETER, "WriteFile")
    if target.kind != "file":
        raise make_error(_INVALID_HANDLE, "WriteFile")
    if overlapped is None:
        return 0, (<FileTarget>target).file.write_at(None, data)
    count = (<FileTarget>target).file.write_at(overlapped.offset | <uint64_t>overlapped.offset_high << 32, data)
    finish_other(target, overlapped, count)
    return 0, count


cdef int finish_other(Target target, OVERLAPPED overlapped, uint64_t count) except -1:
    cdef bint no_packet
    cdef Target event = event_of(overlapped, "ReadFile", &no_packet)
    overlapped.done_at_once(0, count)
    np_event_set(event.object if event is not None else target.object)
    return 0


def FlushFileBuffers(hFile):
    """FlushFileBuffers: waits until the peer has read everything (SEMANTICS §10.1). Raises 109 (the peer closes), 233, 5 (no right to write), 995, 6."""
    cdef Target target = target_of(hFile, "FlushFileBuffers")
    cdef PipeTarget pipe
    cdef np_handle *handle
    cdef np_wait wait
    cdef np_call outer
    cdef uint32_t code
    if target.kind == "file":
        (<FileTarget>target).file.flush()
        return
    pipe = pipe_of(hFile, "FlushFileBuffers")
    handle = pipe.valid("FlushFileBuffers")
    wait = blocking_wait()
    if not pipe.overlapped:
        pipe.enter("FlushFileBuffers")
    try:
        with nogil:
            outer = np_call_begin(np_thread_self(), handle, &wait)
            code = np_flush(handle, &wait)
            np_call_end(np_thread_self(), &outer)
    finally:
        if not pipe.overlapped:
            pipe.leave()
    if code == NP_INTERRUPTED:
        raise_interrupted("FlushFileBuffers")
    if code != NP_OK:
        raise make_error(code, "FlushFileBuffers")


# ---- Peeking, transactions, state


cdef enum:
    _MUCH = 1048576


def PeekNamedPipe(hPipe, size):
    """PeekNamedPipe: (data, at most `size` bytes; bytes available; bytes left in this message) (SEMANTICS §7).

    Raises 109 (the peer has closed and nothing is left), 230 (a server without a client), 233, 5 (no right to read), 6.
    """
    cdef uint32_t length = as_dword(size)
    cdef PipeTarget pipe = pipe_of(hPipe, "PeekNamedPipe")
    cdef np_handle *handle = pipe.valid("PeekNamedPipe")
    cdef bytes data
    cdef char *buffer
    cdef uint32_t count = 0, available = 0, left = 0, code
    if length > 0x7FFFFFFF:
        raise MemoryError  # as in pywin32, which asks for so much
    if not pipe.overlapped:
        pipe.enter("PeekNamedPipe")
    if length > _MUCH:  # no more than there is
        with nogil:
            code = np_peek(handle, NULL, 0, &count, &available, &left)
        length = max(_MUCH, available)
    data = PyBytes_FromStringAndSize(NULL, length)
    buffer = PyBytes_AS_STRING(data)
    with nogil:
        code = np_peek(handle, buffer, length, &count, &available, &left)
    if not pipe.overlapped:
        pipe.leave()
    reap()
    if code != NP_OK:
        raise make_error(code, "PeekNamedPipe")
    # pywin32 gives what is left as a signed number.
    return shortened(data, count), available, <int>left


def TransactNamedPipe(hPipe, writeData, buffer_bufSize, overlapped=None):
    """TransactNamedPipe: (0 or 234, the reply), which a writable buffer that was given has too; overlapped: (0, 234 or 997, the
    buffer that it comes into) (SEMANTICS §8).

    Raises 231 (something unread is there; nothing is sent), 230 (not in message-read mode, or not connected), 109 and 233 (while
    waiting for the reply), 5 (not both rights), 995 (cancelled), 6.
    """
    cdef OVERLAPPED given = as_overlapped(overlapped)
    check_data(writeData)
    target_for(hPipe, given, "TransactNamedPipe")
    cdef PipeTarget pipe = pipe_of(hPipe, "TransactNamedPipe")
    cdef np_handle *handle = pipe.valid("TransactNamedPipe")
    cdef Operation operation
    cdef uint32_t code, count
    cdef bytes reply
    cdef Buffer place
    cdef tuple result
    buffer = AllocateReadBuffer(buffer_bufSize) if isinstance(buffer_bufSize, int) else buffer_bufSize
    if given is None:
        given = OVERLAPPED()
    if not pipe.overlapped:
        pipe.enter("TransactNamedPipe")
    try:
        operation = begin(given, pipe, NP_ASYNC_TRANSACT, "TransactNamedPipe")
        try:
            operation.pin(writeData, False, False)
            operation.pin(buffer, True, True)
            size_of(operation.first.len, pipe.name)
            size_of(operation.second.len, pipe.name)
            if overlapped is None:
                reply = PyBytes_FromStringAndSize(NULL, operation.second.len)
                result = empty_pair()
                place = Buffer(buffer, True)
        except BaseException:
            begun(given, operation, _INVALID_PARAMETER)
            raise
        code = begun(given, operation, np_async_transact(operation.async, operation.first.buf, <uint32_t>operation.first.len,
                                                         operation.second.buf, <uint32_t>operation.second.len))
        if code == NP_IO_PENDING and (overlapped is None or not pipe.overlapped):
            code = wait_until_over(operation, "TransactNamedPipe")
    finally:
        if not pipe.overlapped:
            pipe.leave()
    if code != NP_OK and code != NP_MORE_DATA and code != NP_IO_PENDING:
        raise make_error(code, "TransactNamedPipe")
    noted(code)
    if overlapped is None:
        count = operation.async.count
        memcpy(PyBytes_AS_STRING(reply), place.view.buf, count)
        return fill(result, code, shortened(reply, count))
    return code, buffer


cdef int gated(PipeTarget pipe, str function) except -1:
    """Wait for the operation that is under way on a synchronous handle, even for a question (SEMANTICS §6.4)."""
    if not pipe.overlapped:
        pipe.enter(function)
        pipe.leave()
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
    """GetNamedPipeInfo: [flags, out buffer size, in buffer size, maximum instances] (SEMANTICS §9.3); a list, as in pywin32.

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

    Raises 1368 (nothing has been read yet), 1 (not a server's handle), 1314 (this process may not: only root acts as others).
    """
    cdef PipeTarget pipe = pipe_of(handle, "ImpersonateNamedPipeClient")
    cdef uint32_t code = np_impersonate(pipe.valid("ImpersonateNamedPipeClient"))
    if code != NP_OK:
        raise make_error(code, "ImpersonateNamedPipeClient")


def RevertToSelf():
    """RevertToSelf: no error when this thread acts as itself already.

    A thread that got a client's credentials from the one that started it gets the process's own. Raises 1314 where the
    process's own cannot be had any more.
    """
    if not np_revert():
        raise make_error(1314, "RevertToSelf")


def effective_uid():
    """The user whom this thread acts as; a thread that was started by one that acted as a client acts for the process."""
    np_settle_identity()
    return os.geteuid()


options.effective_uid = effective_uid  # for whom a Security is resolved


def is_impersonating():
    """Whether this thread acts as a client."""
    return bool(np_is_impersonating())


def own_credentials():
    """(uid, gid, groups) of the process, whomever this thread acts as."""
    cdef np_credentials who
    if not np_own_credentials(&who):
        raise make_error(1314, "OpenProcessToken")
    return who.uid, who.gid, tuple([who.groups[i] for i in range(who.n_groups)])


def is_own_thread(handle, str function):
    """Whether a handle is of the thread that asks. Raises 6, also for what is no thread."""
    cdef Target target = target_of(handle, function)
    if target.kind != "thread":
        raise make_error(_INVALID_HANDLE, function)
    return target.object == thread_target(own_thread()).object


def file_of(handle, str kind, str function):
    """What file_handle was given for a handle of this kind; raises 6 for any other."""
    cdef Target target = target_of(handle, function)
    if target.kind != kind or not isinstance(target, FileTarget):
        raise make_error(_INVALID_HANDLE, function)
    return (<FileTarget>target).file
