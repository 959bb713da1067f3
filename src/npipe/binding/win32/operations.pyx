# cython: language_level=3, binding=True
"""Operations on the handles of pipes and files, overlapped or not, and ending them."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from npipe.binding.buffers cimport Buffer, empty_pair, fill, shortened, size_of
from npipe.binding.engine cimport *
from npipe.binding.system cimport (
    Py_DECREF, Py_INCREF, PyNumber_Index, PyWeakref_NewRef, c_bool, npipe_is_alone, npipe_reraise,
)
from npipe.binding.waits cimport let_others_go_first, only_try
from npipe.binding.win32.targets cimport FileTarget, PipeTarget, descriptor_of, leave, pipe_of, target_for
from npipe.binding.win32.handles cimport (
    INVALID_HANDLE, INVALID_PARAMETER, Target, ThreadTarget, as_dword, blocking_wait, noted, own_thread,
    raise_interrupted, target_of,
)
from npipe.binding.win32.overlapped cimport OVERLAPPED, Operation, as_overlapped, event_of, reap

from npipe.win32_error import make_error

cdef enum:
    MUCH = 1048576


# ---- Starting


cdef Operation begin(OVERLAPPED overlapped, PipeTarget pipe, int kind, str function, routine=None):
    """A fresh operation on `pipe`, which holds a reference for the engine."""
    cdef bint no_packet = False
    cdef Target event = event_of(overlapped, function, &no_packet) if routine is None else None
    reap()
    with cython.critical_section(overlapped):
        return begin_alone(overlapped, pipe, kind, event, no_packet, routine)


cdef Operation begin_alone(OVERLAPPED overlapped, PipeTarget pipe, int kind, Target event, bint no_packet, routine):
    cdef Operation operation
    cdef Target port
    cdef np_telling telling
    operation = overlapped.operation
    if operation is not None and npipe_is_alone(operation, 2) and np_async_reusable(operation.async):
        overlapped.operation = None  # the last one is over, and nobody else knows it
    else:
        operation = Operation.__new__(Operation)
        operation.known_by = PyWeakref_NewRef(overlapped, NULL)
    operation.overlapped = overlapped if routine is not None or overlapped.block != NULL else None
    operation.file = pipe
    operation.routine = routine
    telling.apc = routine is not None
    if routine is None:
        operation.event = event
    telling.event = operation.event.object if operation.event is not None else NULL
    telling.file = pipe.object
    port = pipe.bound_to(&telling.key)
    telling.port = port.object if port is not None and not no_packet else NULL
    telling.no_packet = no_packet
    telling.block = overlapped.block
    telling.owner = <void *>operation
    if overlapped.operation is not None and np_async_code(overlapped.operation.async) == NP_IO_PENDING:
        np_async_drive(overlapped.operation.async.handle)  # it may be over, and only not been looked at
        if np_async_code(overlapped.operation.async) == NP_IO_PENDING:
            overlapped.older = [*(overlapped.older or ()), overlapped.operation]
    if overlapped.older is not None:
        pending = [one for one in overlapped.older if np_async_code((<Operation>one).async) == NP_IO_PENDING]
        overlapped.older = pending or None
    np_async_prepare(operation.async, pipe.handle, kind, &telling)
    operation.began = np_async_clock()
    overlapped.internal_high = 0
    overlapped.show(NP_STATUS_PENDING, 0)
    Py_INCREF(operation)
    return operation


cdef uint32_t begun(OVERLAPPED overlapped, Operation operation, uint32_t code):
    """What a start has given: the operation is the OVERLAPPED's from now on, unless it has failed at once."""
    with cython.critical_section(overlapped):
        return begun_alone(overlapped, operation, code)


cdef uint32_t begun_alone(OVERLAPPED overlapped, Operation operation, uint32_t code):
    if code == NP_OK or code == NP_MORE_DATA or code == NP_IO_PENDING:
        overlapped.operation = operation
        if overlapped.older is not None and code != NP_IO_PENDING:
            for one in overlapped.older:  # what this one has let through was before its own end
                np_async_drive((<Operation>one).async.handle)
            operation.async.ended = np_async_clock()
        if operation.async.by_start:
            operation.async.owner = NULL
            operation.unpin()
            operation.overlapped = None
            Py_DECREF(operation)
    else:
        operation.async.owner = NULL
        operation.unpin()
        operation.overlapped = None
        Py_DECREF(operation)
        overlapped.failed_at_once()
    return code


cdef uint32_t wait_until_over(Operation operation, str function) except? 0xFFFFFFFE:
    """Block until the operation is over, whatever becomes of its event (a synchronous handle)."""
    cdef np_wait wait = blocking_wait()
    cdef np_object *objects[1]
    cdef np_handle *handle = operation.async.handle
    cdef uint32_t index, code
    cdef c_bool abandoned
    objects[0] = operation.event.object if operation.event is not None else operation.file.object
    cdef np_thread *thread = own_thread()
    cdef np_call outer = np_call_begin(thread, handle, &wait)
    try:
        while np_async_code(operation.async) == NP_IO_PENDING:
            with nogil:
                code = np_wait_objects(objects, 1, False, False, &wait, &index, &abandoned)
            if code == NP_INTERRUPTED:
                np_async_cancel(operation.async)
                # What was over before tells what became of it, and has taken what it read; but not when a signal's
                # handler has raised.
                if np_async_code(operation.async) == NP_OPERATION_ABORTED:
                    raise_interrupted(function)
                npipe_reraise()
    finally:
        np_call_end(thread, &outer)
    return np_async_code(operation.async)


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
                leave(pipe)
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
                leave(pipe)
            np_free(handle)
        if code == NP_INTERRUPTED:
            raise_interrupted("ConnectNamedPipe")
    if code != NP_OK and code != NP_PIPE_CONNECTED and code != NP_IO_PENDING:
        raise make_error(code, "ConnectNamedPipe")
    return noted(code)


# ---- Reading and writing


def AllocateReadBuffer(bufSize):
    """A writable buffer (a memoryview) of `bufSize` bytes, for overlapped reads."""
    return memoryview(bytearray(PyNumber_Index(bufSize)))


cdef uint32_t finish_start(OVERLAPPED overlapped, PipeTarget pipe, Operation operation, uint32_t code,
                           str function) except? 0xFFFFFFFE:
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
        leave(pipe)


cdef uint32_t start_write(OVERLAPPED overlapped, PipeTarget pipe, data, str function, routine=None) except? 0xFFFFFFFE:
    if pipe.overlapped:
        return begin_write(overlapped, pipe, data, function, routine)
    pipe.enter(function)
    try:
        return begin_write(overlapped, pipe, data, function, routine)
    finally:
        leave(pipe)


cdef uint32_t begin_read(OVERLAPPED overlapped, PipeTarget pipe, buffer, str function, routine) except? 0xFFFFFFFE:
    cdef Operation operation = begin(overlapped, pipe, NP_ASYNC_READ, function, routine)
    try:
        operation.pin(buffer, True, False)
        size_of(operation.first.len, pipe.name)
    except (TypeError, BufferError):
        begun(overlapped, operation, INVALID_PARAMETER)
        raise TypeError(_NO_BUFFER) from None
    except BaseException:
        begun(overlapped, operation, INVALID_PARAMETER)
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
        begun(overlapped, operation, INVALID_PARAMETER)
        raise
    return finish_start(overlapped, pipe, operation,
                        np_async_write(operation.async, operation.first.buf, <uint32_t>operation.first.len), function)


cdef uint32_t blocking_read(PipeTarget pipe, char *buffer, uint32_t size, uint32_t *count,
                            str function) except? 0xFFFFFFFE:
    cdef np_handle *handle = pipe.valid(function)
    cdef np_wait wait = only_try()
    cdef np_call outer
    cdef uint32_t code
    if np_turn_is_over(&pipe.run):
        let_others_go_first(&pipe.run)
    if not pipe.overlapped:
        pipe.enter(function)
    try:
        code = np_read(handle, buffer, size, count, &wait)
        if code == NP_WOULD_WAIT:
            wait = blocking_wait()
            wait.crowd = np_turn_is_crowd(&pipe.run)
            np_turn_wait()
            with nogil:
                outer = np_call_begin(np_thread_self(), handle, &wait)
                code = np_read(handle, buffer, size, count, &wait)
                np_call_end(np_thread_self(), &outer)
                np_turn_want()
            np_turn_got(&pipe.run)
    finally:
        if not pipe.overlapped:
            leave(pipe)
    pipe.rearm()
    if code == NP_INTERRUPTED:
        raise_interrupted(function)
    if code != NP_OK and code != NP_MORE_DATA:
        raise make_error(code, function)
    return code


def read_into(handle, buffer):
    """ReadFile of a pipe into a writable buffer: the number of bytes, also of a part of a message. Raises as ReadFile.
    """
    cdef PipeTarget pipe = pipe_of(handle, "ReadFile")
    cdef Buffer view = Buffer(buffer, True, False)
    cdef uint32_t count = 0
    blocking_read(pipe, <char *>view.view.buf, size_of(view.view.len, pipe.name), &count, "ReadFile")
    return count


def put_back(handle, data):
    """Make `data`, which reads have returned, what the next reads of a pipe return."""
    cdef PipeTarget pipe = pipe_of(handle, "ReadFile")
    cdef np_handle *end = pipe.valid("ReadFile")
    cdef Buffer view = Buffer(data, False, False)
    cdef uint32_t code = np_put_back(end, view.view.buf, size_of(view.view.len, pipe.name))
    if code != NP_OK:
        raise make_error(code, "ReadFile")
    pipe.rearm()


def ReadFile(hFile, bufSize, ol=None):
    """ReadFile: (0 or 234, bytes), which a writable buffer that was given has too; overlapped: (0, 234 or 997, the
    buffer).

    `bufSize` is a number of bytes or a writable buffer, which stays pinned while the operation is pending. Raises 109
    (the peer has closed and nothing is left), 232 (PIPE_NOWAIT and nothing there), 233 (disconnected), 536 (listening),
    5 (no right to read), 995 (cancelled), 6. Follows SEMANTICS §5.
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
        view = Buffer(bufSize, True, False)
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
    """WriteFile: (0, bytes written) or (997, 0). `data` is bytes or another buffer, no text; it stays pinned while the
    operation is pending.

    Raises 232 (the peer has closed), 109 (it closed while this waited), 233 (disconnected), 536 (listening), 5 (no
    right to write), 995 (cancelled), 6. Follows SEMANTICS §6.
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
        return code, overlapped.InternalHigh if code == NP_OK else 0
    handle = pipe.valid("WriteFile")
    view = Buffer(data, False, False)
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
            leave(pipe)
    if code == NP_INTERRUPTED:
        raise_interrupted("WriteFile")
    if code != NP_OK:
        raise make_error(code, "WriteFile")
    return 0, count


def read_file_ex(handle, buffer, OVERLAPPED overlapped not None, routine):
    """ReadFileEx: 0 or 234 (more data) at once; the routine runs in an alertable wait (SEMANTICS §10.5)."""
    cdef PipeTarget pipe = pipe_of(handle, "ReadFileEx")
    if pipe.bound_to(NULL) is not None:
        raise make_error(INVALID_PARAMETER, "ReadFileEx")
    cdef uint32_t code = start_read(overlapped, pipe, buffer, "ReadFileEx", routine)
    return 0 if code == NP_IO_PENDING else code


def write_file_ex(handle, data, OVERLAPPED overlapped not None, routine):
    """WriteFileEx; the routine runs in an alertable wait (SEMANTICS §10.5)."""
    cdef PipeTarget pipe = pipe_of(handle, "WriteFileEx")
    if pipe.bound_to(NULL) is not None:
        raise make_error(INVALID_PARAMETER, "WriteFileEx")
    start_write(overlapped, pipe, data, "WriteFileEx", routine)


cdef uint64_t place_in_file(OVERLAPPED overlapped) noexcept:
    with cython.critical_section(overlapped):
        return overlapped.offset | <uint64_t>overlapped.offset_high << 32


cdef tuple read_other(Target target, size, OVERLAPPED overlapped):
    """ReadFile of an ordinary file, at the OVERLAPPED's offset if there is one."""
    cdef bint no_packet
    if target.kind == "root":
        raise make_error(INVALID_PARAMETER, "ReadFile")
    if target.kind != "file":
        raise make_error(INVALID_HANDLE, "ReadFile")
    buffer = None if isinstance(size, int) else memoryview(size)
    wanted = size if buffer is None else len(buffer)
    if overlapped is None:
        data = (<FileTarget>target).file.read_at(None, wanted)
        if buffer is not None:
            buffer[: len(data)] = data
        return 0, data
    if buffer is None:
        buffer = size = AllocateReadBuffer(wanted)
    data = (<FileTarget>target).file.read_at(place_in_file(overlapped), wanted)
    if wanted and not data:
        with cython.critical_section(overlapped):
            overlapped.failed_at_once()
        raise make_error(38, "ReadFile")
    buffer[: len(data)] = data
    finish_other(target, overlapped, len(data))
    return 0, size


cdef tuple write_other(Target target, data, OVERLAPPED overlapped):
    if target.kind == "root":
        raise make_error(INVALID_PARAMETER, "WriteFile")
    if target.kind != "file":
        raise make_error(INVALID_HANDLE, "WriteFile")
    if overlapped is None:
        return 0, (<FileTarget>target).file.write_at(None, data)
    count = (<FileTarget>target).file.write_at(place_in_file(overlapped), data)
    finish_other(target, overlapped, count)
    return 0, count


cdef int finish_other(Target target, OVERLAPPED overlapped, uint64_t count) except -1:
    cdef bint no_packet
    cdef Target event = event_of(overlapped, "ReadFile", &no_packet)
    with cython.critical_section(overlapped):
        overlapped.done_at_once(0, count)
    np_event_set(event.object if event is not None else target.object)
    return 0


def FlushFileBuffers(hFile):
    """FlushFileBuffers: waits until the peer has read everything (SEMANTICS §10.1). Raises 109 (the peer closes), 233,
    5 (no right to write), 995, 6.
    """
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
            leave(pipe)
    if code == NP_INTERRUPTED:
        raise_interrupted("FlushFileBuffers")
    if code != NP_OK:
        raise make_error(code, "FlushFileBuffers")


# ---- Peeking, transactions, state


def PeekNamedPipe(hPipe, size):
    """PeekNamedPipe: (data, at most `size` bytes; bytes available; bytes left in this message) (SEMANTICS §7).

    Raises 109 (the peer has closed and nothing is left), 230 (a server without a client), 233, 5 (no right to read), 6.
    """
    cdef uint32_t length = as_dword(size)
    cdef Target target = target_for(hPipe, None, "PeekNamedPipe")
    if type(target) is not PipeTarget and descriptor_of(target) is not None:
        return descriptor_of(target).peek(length)
    cdef PipeTarget pipe = pipe_of(hPipe, "PeekNamedPipe")
    cdef np_handle *handle = pipe.valid("PeekNamedPipe")
    cdef bytes data
    cdef char *buffer
    cdef uint32_t count = 0, available = 0, left = 0, code
    if length > 0x7FFFFFFF:
        raise MemoryError  # as in pywin32, which asks for so much
    if not pipe.overlapped:
        pipe.enter("PeekNamedPipe")
    if length > MUCH:  # no more than there is
        with nogil:
            code = np_peek(handle, NULL, 0, &count, &available, &left)
        length = max(MUCH, available)
    data = PyBytes_FromStringAndSize(NULL, length)
    buffer = PyBytes_AS_STRING(data)
    with nogil:
        code = np_peek(handle, buffer, length, &count, &available, &left)
    if not pipe.overlapped:
        leave(pipe)
    reap()
    if code != NP_OK:
        raise make_error(code, "PeekNamedPipe")
    # pywin32 gives what is left as a signed number.
    return shortened(data, count), available, <int>left


def TransactNamedPipe(hPipe, writeData, buffer_bufSize, overlapped=None):
    """TransactNamedPipe: (0 or 234, the reply), which a writable buffer that was given has too; overlapped: (0, 234 or
    997, the buffer that it comes into) (SEMANTICS §8).

    Raises 231 (something unread is there; nothing is sent), 230 (not in message-read mode, or not connected), 109 and
    233 (while waiting for the reply), 5 (not both rights), 995 (cancelled), 6.
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
                place = Buffer(buffer, True, False)
        except BaseException:
            begun(given, operation, INVALID_PARAMETER)
            raise
        code = np_async_transact(operation.async, operation.first.buf, <uint32_t>operation.first.len,
                                 operation.second.buf, <uint32_t>operation.second.len)
        code = begun(given, operation, code)
        if code == NP_IO_PENDING and (overlapped is None or not pipe.overlapped):
            code = wait_until_over(operation, "TransactNamedPipe")
    finally:
        if not pipe.overlapped:
            leave(pipe)
    if code != NP_OK and code != NP_MORE_DATA and code != NP_IO_PENDING:
        raise make_error(code, "TransactNamedPipe")
    noted(code)
    if overlapped is None:
        count = operation.async.count
        memcpy(PyBytes_AS_STRING(reply), place.view.buf, count)
        return fill(result, code, shortened(reply, count))
    return code, buffer


# ---- Cancelling


def CancelIo(handle):
    """CancelIo: the calling thread's operations on this file end with 995; no error if there are none (SEMANTICS
    §10.2). Raises 6.
    """
    cdef Target target = target_of(handle, "CancelIo")
    cdef np_handle *pipe
    cdef np_thread *thread
    if isinstance(target, PipeTarget):
        pipe = (<PipeTarget>target).valid("CancelIo")
        thread = own_thread()
        with nogil:
            np_async_cancel_all(pipe, thread)
        reap()
    elif target.kind not in ("file", "root"):
        raise make_error(INVALID_HANDLE, "CancelIo")


cdef bint cancel_one(Operation operation):
    cdef np_async *async = operation.async
    cdef bint done
    with nogil:
        done = np_async_cancel(async)
    return done


def cancel_io_ex(handle, OVERLAPPED overlapped):
    """CancelIoEx: one operation, or (None) all of this process on the file; raises 1168 when there is none."""
    cdef Operation operation
    cdef Target target = target_of(handle, "CancelIoEx")
    cdef np_handle *pipe
    cdef uint32_t count = 0
    if isinstance(target, PipeTarget):
        pipe = (<PipeTarget>target).valid("CancelIoEx")
        if overlapped is None:
            with nogil:
                count = np_async_cancel_all(pipe, NULL)
            count += cancel_blocked(pipe)
        else:
            with cython.critical_section(overlapped):
                operation = overlapped.operation
                older = overlapped.older
            if operation is not None:
                if operation.file is target:
                    np_async_drive(pipe)
                    count = cancel_one(operation)
                for one in older or ():
                    if (<Operation>one).file is target:
                        count += cancel_one(<Operation>one)
    elif target.kind not in ("file", "root"):
        raise make_error(INVALID_HANDLE, "CancelIoEx")
    reap()
    if count == 0:
        raise make_error(NP_NOT_FOUND, "CancelIoEx")


def cancel_synchronous_io(handle):
    """CancelSynchronousIo: ends the call that `handle`'s thread is blocked in; raises 1168 when there is none
    (SEMANTICS §10.2).
    """
    cdef Target target = target_of(handle, "CancelSynchronousIo")
    cdef np_handle *pipe
    if not isinstance(target, ThreadTarget):
        raise make_error(INVALID_HANDLE, "CancelSynchronousIo")
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
