# OVERLAPPED operations, completion ports and completion routines of npipe.win32.

from cpython.ref cimport Py_DECREF, Py_INCREF

cdef extern from "Python.h":
    object PyWeakref_NewRef(object, void *)
    Py_ssize_t Py_REFCNT(object)

cdef extern from "sys/socket.h" nogil:
    enum:
        AF_INET
        AF_INET6
    ctypedef unsigned int socklen_t
    struct sockaddr:
        int sa_family
    struct sockaddr_storage:
        int ss_family
    int getsockname(int, sockaddr *, socklen_t *)

cdef extern from "engine.h" nogil:
    enum:
        NP_ASYNC_READ
        NP_ASYNC_WRITE
        NP_ASYNC_CONNECT
        NP_ASYNC_TRANSACT
    struct np_async:
        uint32_t count
        void *owner
        np_async *next_finished
        np_object *event
        np_handle *handle
        uint64_t ended
        bint by_start
    struct np_telling:
        np_object *event
        np_object *file
        np_object *port
        uint64_t key
        bint no_packet
        bint apc
        void *owner
    void np_async_bind(np_handle *, np_object *, uint64_t)
    np_async *np_async_new()
    void np_async_unref(np_async *)
    bint np_async_reusable(const np_async *)
    void np_async_prepare(np_async *, np_handle *, int, const np_telling *)
    uint32_t np_async_read(np_async *, void *, uint32_t)
    uint32_t np_async_write(np_async *, const void *, uint32_t)
    bint np_async_lacks_rest(np_async *)
    uint32_t np_async_await_rest(np_async *)
    uint32_t np_async_transact(np_async *, const void *, uint32_t, void *, uint32_t)
    uint32_t np_async_connect(np_async *)
    uint32_t np_async_code(const np_async *)
    void np_async_drive(np_handle *)
    uint64_t np_async_clock()
    bint np_async_cancel(np_async *)
    uint32_t np_async_cancel_all(np_handle *, const np_thread *)
    np_async *np_async_reap()
    bint np_async_any_finished()

cdef extern from "engine.h" nogil:
    enum:
        NP_IO_PENDING
        NP_IO_COMPLETION
        NP_ABANDONED_WAIT
        NP_OPERATION_ABORTED
        NP_NOT_FOUND

cdef dict _STATUS = {  # NTSTATUS of a Win32 code (SEMANTICS §0.1)
    0: 0, 997: 0x103, 234: 0x80000005, 1: 0xC00000AF, 2: 0xC0000034, 5: 0xC0000022, 6: 0xC0000008, 87: 0xC000000D,
    109: 0xC000014B, 121: 0xC00000B5, 230: 0xC00000AD, 231: 0xC00000AE, 232: 0xC00000B1, 233: 0xC00000B0,
    535: 0xC00000B2, 536: 0xC00000B3, 995: 0xC0000120, 38: 0xC0000011, 1168: 0xC0000225, 8: 0xC0000017,
}
cdef uint32_t _STATUS_PENDING = 0x103


cdef class Operation:
    """One operation that was started with an OVERLAPPED: it keeps the buffers pinned until it is over."""

    cdef np_async *async
    cdef OVERLAPPED overlapped  # for a routine; otherwise it lives as long as the caller wants
    cdef object known_by  # a weak reference to the OVERLAPPED
    cdef Target file, event
    cdef object routine
    cdef uint64_t began  # by np_async_clock, when its OVERLAPPED had another one pending
    cdef Py_buffer first, second
    cdef uint8_t pinned

    def __cinit__(self):
        self.pinned = 0
        self.async = np_async_new()
        if self.async == NULL:
            raise MemoryError

    def __dealloc__(self):
        self.unpin()
        np_async_unref(self.async)

    cdef void unpin(self) noexcept:
        if self.pinned & 1:
            PyBuffer_Release(&self.first)
        if self.pinned & 2:
            PyBuffer_Release(&self.second)
        self.pinned = 0

    cdef int pin(self, source, bint writable, bint as_second) except -1:
        """Hold a buffer of the caller's."""
        if as_second:
            PyObject_GetBuffer(source, &self.second, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
            self.pinned |= 2
        else:
            PyObject_GetBuffer(source, &self.first, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
            self.pinned |= 1
        return 0


cdef void let_go_of(np_async *async) noexcept:
    """The engine is through with an operation: its buffers are free, and the references that were for it are dropped."""
    cdef Operation operation
    if async.owner != NULL:
        operation = <Operation>async.owner
        async.owner = NULL
        operation.unpin()
        Py_DECREF(operation)
    np_async_unref(async)


cdef void reap_all() noexcept:
    cdef np_async *async = np_async_reap()
    cdef np_async *following
    while async != NULL:
        following = async.next_finished
        let_go_of(async)
        async = following


cdef inline void reap() noexcept:
    if np_async_any_finished():
        reap_all()


cdef class OVERLAPPED:
    """What an overlapped operation is known by. Attributes as pywin32's: Offset, OffsetHigh, hEvent, object, dword, Internal, InternalHigh."""

    cdef uint32_t offset, offset_high, number
    cdef object state
    cdef object event
    cdef Operation operation  # the last one that was started
    cdef list older  # others that are still pending
    cdef uint64_t internal, internal_high  # while there is no operation
    cdef object __weakref__

    def __cinit__(self):
        self.offset = self.offset_high = self.number = 0
        self.internal = self.internal_high = 0
        self.event = 0
        self.older = None

    def __init__(self):
        pass  # that it takes no arguments

    def __reduce__(self):
        refuse_copy(self, "make a new OVERLAPPED for each operation that is to run at the same time")

    def __delattr__(self, str name):
        raise AttributeError("can't delete OVERLAPPED attributes")

    @property
    def Offset(self):
        """Where in a file to read or write: the lower 32 bits. Not looked at on pipes."""
        return self.offset

    @Offset.setter
    def Offset(self, value):
        self.offset = as_field(value)

    @property
    def OffsetHigh(self):
        """Where in a file to read or write: the upper 32 bits."""
        return self.offset_high

    @OffsetHigh.setter
    def OffsetHigh(self, value):
        self.offset_high = as_field(value)

    @property
    def object(self):
        """Whatever the program attaches to its operation."""
        return self.state

    @object.setter
    def object(self, value):
        self.state = value

    @property
    def dword(self):
        """A number of 32 bits for the program's use."""
        return self.number

    @dword.setter
    def dword(self, value):
        self.number = as_field(value)

    @property
    def hEvent(self):
        """The event that a completion sets: a handle, or 0."""
        return self.event

    @hEvent.setter
    def hEvent(self, value):
        number_of(value)
        self.event = 0 if value is None else value

    cdef Operation shown(self):
        """The operation whose state the OVERLAPPED shows: of several that share it the one that has written there last, by its start or
        by its end."""
        cdef Operation last = self.operation, one
        cdef uint64_t when
        if last is None:
            return None
        np_async_drive(last.async.handle)
        if self.older is None:
            return last
        for one in self.older:
            np_async_drive(one.async.handle)
        when = last.began if np_async_code(last.async) == NP_IO_PENDING else last.async.ended
        for one in self.older:
            if np_async_code(one.async) != NP_IO_PENDING and one.async.ended > when:
                last, when = one, one.async.ended
        return last

    @property
    def Internal(self):
        """The NTSTATUS of the operation: 0x103 while it is pending."""
        cdef Operation shown = self.shown()
        if shown is None:
            return self.internal
        return _STATUS.get(np_async_code(shown.async), 0xC0000001)

    @Internal.setter
    def Internal(self, value):
        self.operation = None
        self.internal = value

    @property
    def InternalHigh(self):
        """How many bytes the operation has moved."""
        cdef Operation shown = self.shown()
        if shown is None or np_async_code(shown.async) == NP_IO_PENDING:
            return self.internal_high
        return shown.async.count

    @InternalHigh.setter
    def InternalHigh(self, value):
        self.internal_high = value

    def __hash__(self):
        return <Py_ssize_t><void *>self >> 4

    def __eq__(self, other):
        if self is other:
            return True
        if not isinstance(other, OVERLAPPED):
            return NotImplemented
        return (self.offset, self.offset_high, number_of(self.event), self.Internal, self.InternalHigh) == (
            (<OVERLAPPED>other).offset, (<OVERLAPPED>other).offset_high, number_of((<OVERLAPPED>other).event), other.Internal, other.InternalHigh)

    cdef void failed_at_once(self):
        """Windows leaves it as it began (SEMANTICS §3.2, §5.4)."""
        self.operation = None
        self.internal = _STATUS_PENDING

    cdef void done_at_once(self, uint32_t code, uint64_t count):
        """An operation that needs no engine."""
        self.operation = None
        self.internal = <uint64_t>_STATUS.get(code, 0xC0000001)
        self.internal_high = count


(<_PyType *>OVERLAPPED).tp_name = "PyOVERLAPPED"  # what pywin32's is called in texts and by repr


cdef uint32_t as_field(value) except? 0xFFFFFFFF:
    """A number for a field of 32 bits; a negative one is warned of, as for pywin32's members."""
    number = PyNumber_Index(value)
    if not -0x80000000 <= number <= 0xFFFFFFFF:
        raise OverflowError("Python int too large to convert to C unsigned long")
    if number < 0:
        import warnings

        warnings.warn("Writing negative value into unsigned field", RuntimeWarning)
    return <uint32_t>(number & 0xFFFFFFFF)


cdef OVERLAPPED as_overlapped(value):
    """An argument that is an OVERLAPPED or None."""
    if value is not None and type(value) is not OVERLAPPED:
        raise TypeError("The object is not a PyOVERLAPPED object")
    return <OVERLAPPED>value


cdef Target event_of(OVERLAPPED overlapped, str function, bint *no_packet):
    cdef Py_ssize_t number = number_of(overlapped.event)
    no_packet[0] = number & 1
    number &= ~1
    if number == 0:
        return None
    if type(overlapped.event) is PyHANDLE and not no_packet[0]:
        return of_kind(overlapped.event, "event", function)
    return of_kind(number, "event", function)


cdef Operation begin(OVERLAPPED overlapped, PipeTarget pipe, int kind, str function, routine=None):
    """A fresh operation on `pipe`, which holds a reference for the engine."""
    cdef Operation operation
    cdef np_telling telling
    cdef bint no_packet = False
    reap()
    operation = overlapped.operation
    if operation is not None and Py_REFCNT(operation) == 2 and np_async_reusable(operation.async):
        overlapped.operation = None  # the last one is over, and nobody else knows it
    else:
        operation = Operation.__new__(Operation)
        operation.known_by = PyWeakref_NewRef(overlapped, NULL)
    operation.overlapped = overlapped if routine is not None else None
    operation.file = pipe
    operation.routine = routine
    telling.apc = routine is not None
    if routine is None:
        operation.event = event_of(overlapped, function, &no_packet)
    telling.event = operation.event.object if operation.event is not None else NULL
    telling.file = pipe.object
    telling.port = pipe.port.object if pipe.port is not None and not no_packet else NULL
    telling.key = pipe.key
    telling.no_packet = no_packet
    telling.owner = <void *>operation
    if overlapped.operation is not None and np_async_code(overlapped.operation.async) == NP_IO_PENDING:
        np_async_drive(overlapped.operation.async.handle)  # it may be over, and only not been looked at
        if np_async_code(overlapped.operation.async) == NP_IO_PENDING:
            overlapped.older = [*(overlapped.older or ()), overlapped.operation]
    if overlapped.older is not None:
        overlapped.older = [one for one in overlapped.older if np_async_code((<Operation>one).async) == NP_IO_PENDING] or None
    np_async_prepare(operation.async, pipe.handle, kind, &telling)
    operation.began = np_async_clock()
    overlapped.internal_high = 0
    Py_INCREF(operation)
    return operation


cdef uint32_t begun(OVERLAPPED overlapped, Operation operation, uint32_t code):
    """What a start has given: the operation is the OVERLAPPED's from now on, unless it has failed at once."""
    if code == NP_OK or code == NP_MORE_DATA or code == NP_IO_PENDING:
        overlapped.operation = operation
        if overlapped.older is not None and code != NP_IO_PENDING:
            for one in overlapped.older:  # what this one has let through was before its own end
                np_async_drive((<Operation>one).async.handle)
            operation.async.ended = np_async_clock()
        if operation.async.by_start:
            operation.async.owner = NULL
            operation.unpin()
            Py_DECREF(operation)
    else:
        operation.async.owner = NULL
        operation.unpin()
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
                # What was over before tells what became of it, and has taken what it read; but not when a signal's handler has raised.
                if np_async_code(operation.async) == NP_OPERATION_ABORTED:
                    raise_interrupted(function)
                npipe_reraise()
    finally:
        np_call_end(thread, &outer)
    return np_async_code(operation.async)


def GetOverlappedResult(hFile, overlapped, bWait):
    """GetOverlappedResult: the bytes moved; raises 996 while it is pending, and the operation's own error, 234 included (SEMANTICS §10.3)."""
    if overlapped is None:
        raise TypeError("The object is not a PyOVERLAPPED object")
    if type(hFile) is not PyHANDLE:
        number_of(hFile)
    return result_of(hFile, as_overlapped(overlapped), _INFINITE if as_bool(bWait) else 0, False, "GetOverlappedResult", 996)


def overlapped_result(file, OVERLAPPED overlapped not None, timeout, bint alertable, str function, uint32_t in_vain):
    """GetOverlappedResultEx: as GetOverlappedResult, waiting so many milliseconds; raises 258 and 192 too."""
    return result_of(file, overlapped, timeout, alertable, function, in_vain)


cdef object result_of(file, OVERLAPPED overlapped, timeout, bint alertable, str function, uint32_t in_vain):
    cdef Operation operation = overlapped.operation
    cdef Target target
    cdef bint no_packet
    cdef uint32_t code, waited
    cdef bint pending
    reap()
    if operation is not None:
        pending = np_async_code(operation.async) == NP_IO_PENDING
        if pending or overlapped.older is not None:
            operation = overlapped.shown()
            pending = np_async_code(operation.async) == NP_IO_PENDING
    else:
        pending = overlapped.internal == _STATUS_PENDING
    if pending:
        if <uint32_t>(int(timeout) & 0xFFFFFFFF) == 0:
            raise make_error(in_vain, function)
        target = event_of(overlapped, function, &no_packet)
        if target is None:
            target = waitable(file, function)
        waited = run_wait(&target.object, 1, False, alertable, timeout, function)
        if waited != 0:
            raise make_error(waited, function)
    if operation is None or np_async_code(operation.async) == NP_IO_PENDING:
        # Whoever has set the event counts as the completion, as on Windows.
        code = 0 if pending else code_of_status(overlapped.internal)
        if code:
            raise make_error(code, function)
        return overlapped.InternalHigh
    reap()
    code = np_async_code(operation.async)
    if code:
        raise make_error(code, function)
    return operation.async.count


cdef uint32_t code_of_status(uint64_t status):
    for code, known in _STATUS.items():
        if known == status:
            return code
    return 317


def has_completed(OVERLAPPED overlapped not None):
    """HasOverlappedIoCompleted: whether the operation is over."""
    return overlapped.Internal != _STATUS_PENDING


# ---- Cancelling


def CancelIo(handle):
    """CancelIo: the calling thread's operations on this file end with 995; no error if there are none (SEMANTICS §10.2). Raises 6."""
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
        raise make_error(_INVALID_HANDLE, "CancelIo")


cdef bint cancel_one(Operation operation):
    cdef np_async *async = operation.async
    cdef bint done
    with nogil:
        done = np_async_cancel(async)
    return done


def cancel_io_ex(handle, OVERLAPPED overlapped):
    """CancelIoEx: one operation, or (None) all of this process on the file; raises 1168 when there is none."""
    cdef Target target = target_of(handle, "CancelIoEx")
    cdef np_handle *pipe
    cdef uint32_t count = 0
    if isinstance(target, PipeTarget):
        pipe = (<PipeTarget>target).valid("CancelIoEx")
        if overlapped is None:
            with nogil:
                count = np_async_cancel_all(pipe, NULL)
            count += cancel_blocked(pipe)
        elif overlapped.operation is not None:
            if overlapped.operation.file is target:
                np_async_drive(pipe)
                count = cancel_one(overlapped.operation)
            for one in overlapped.older or ():
                if (<Operation>one).file is target:
                    count += cancel_one(<Operation>one)
    elif target.kind not in ("file", "root"):
        raise make_error(_INVALID_HANDLE, "CancelIoEx")
    reap()
    if count == 0:
        raise make_error(NP_NOT_FOUND, "CancelIoEx")


# ---- Completion routines


def queue_user_apc(routine, thread, value):
    """QueueUserAPC: `routine(value)` runs in `thread`'s next alertable wait."""
    cdef Target target = target_of(thread, "QueueUserAPC")
    if not isinstance(target, ThreadTarget):
        raise make_error(_INVALID_HANDLE, "QueueUserAPC")
    if not callable(routine):
        raise TypeError("a routine is a callable")
    context = (routine, value)
    Py_INCREF(context)
    if not np_apc_queue((<ThreadTarget>target).thread, <void *>context, 0):
        Py_DECREF(context)
        raise make_error(31, "QueueUserAPC")


cdef int run_routines() except -1:
    """Run what is queued to this thread now, in order (SEMANTICS §10.5). An exception of a routine's comes out of the wait, and
    the routines behind it stay for the next one."""
    cdef np_apc *apc = np_apc_take()
    cdef Operation operation
    cdef uint32_t code, count
    while apc != NULL:
        if apc.async == NULL:
            context = <object>apc.context
            Py_DECREF(context)
            free(apc)
            context[0](context[1])
        else:
            operation = <Operation>apc.async.owner
            overlapped, routine = operation.overlapped, operation.routine
            operation.overlapped = operation.routine = None
            code = np_async_code(operation.async)
            count = operation.async.count
            let_go_of(apc.async)
            operation = None  # that the routine may use it again
            routine(code, count, overlapped)
        apc = np_apc_take()
    return 0


# ---- Completion ports


cdef class PortTarget(Target):
    """A completion port."""

    def __cinit__(self, *args, **kwargs):
        self.kind = "port"
        self.object = np_object_new(NP_OBJECT_PORT, True, False)
        if self.object == NULL:
            raise MemoryError

    cdef int shut(self, bint wait) except -1:
        # What is queued goes with it, and nobody waits any longer (735).
        cdef np_wait nothing = wait_ms(0)
        cdef np_packet *packet = NULL
        while np_port_take(self.object, &nothing, &packet) == NP_OK:
            take_packet(packet)
        np_port_close(self.object)
        while np_port_take(self.object, &nothing, &packet) == NP_OK:
            take_packet(packet)
        reap()
        return 0


cdef object _LOST = object()  # an OVERLAPPED that is no more


cdef tuple take_packet(np_packet *packet):
    """(bytes, key, OVERLAPPED, code) of a packet, which is freed; bytes and key are signed, as pywin32 gives them."""
    cdef Operation operation
    cdef uint32_t code = 0
    cdef uint32_t count = packet.count
    cdef uint64_t key = packet.key
    overlapped = None
    if packet.async != NULL:
        operation = <Operation>packet.async.owner
        overlapped = operation.known_by()
        if overlapped is None:
            overlapped = _LOST
        code = np_async_code(packet.async)
        let_go_of(packet.async)
    else:
        if packet.posted != NULL:
            overlapped = <object>packet.posted
            Py_DECREF(overlapped)
        free(packet)
    return <int32_t>count, <int64_t>key, overlapped, code


cdef bint is_internet_socket(Py_ssize_t number) noexcept nogil:
    """Whether it is no handle but the descriptor of a socket, which is a handle on Windows."""
    cdef sockaddr_storage address
    cdef socklen_t size = sizeof(address)
    if number < 0 or number > 0x7FFFFFFF or getsockname(<int>number, <sockaddr *>&address, &size) != 0:
        return False
    return address.ss_family == AF_INET or address.ss_family == AF_INET6


cdef uint64_t as_pointer(value) except? 0xFFFFFFFFFFFFFFFF:
    """An argument of a pointer's size; None is 0."""
    if value is None:
        return 0
    try:
        number = PyNumber_Long(value)
    except (TypeError, ValueError):
        number = 1 << 64
    if not -(1 << 63) <= number < 1 << 64:
        raise TypeError(f"Unable to convert {type(value).__name__} to pointer-sized value")
    return <uint64_t>(number & 0xFFFFFFFFFFFFFFFF)


def CreateIoCompletionPort(handle, existing, completionKey, numThreads):
    """CreateIoCompletionPort: a new port, or `existing`, which `handle` is bound to (SEMANTICS §10.6).

    Raises 87 (bound already, or opened without FILE_FLAG_OVERLAPPED), 6. A socket's descriptor may be bound too; there are no overlapped operations on sockets here that could complete.
    """
    cdef Target file
    cdef Target port
    cdef uint64_t key = as_pointer(completionKey)
    as_dword(numThreads)
    number_of(handle)
    if existing is None or number_of(existing) == 0:
        result = handle_of(PortTarget())
        port = (<PyHANDLE>result).target
    else:
        port = target_of(existing, "CreateIoCompletionPort")
        result = existing
    if not isinstance(port, PortTarget):
        raise make_error(_INVALID_HANDLE, "CreateIoCompletionPort")
    if number_of(handle) in (-1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
        return result
    if is_internet_socket(number_of(handle)):
        return result
    file = target_of(handle, "CreateIoCompletionPort")
    if not isinstance(file, PipeTarget):
        raise make_error(_INVALID_HANDLE if file.kind not in ("file", "root") else _INVALID_PARAMETER, "CreateIoCompletionPort")
    if not (<PipeTarget>file).overlapped or (<PipeTarget>file).port is not None:
        raise make_error(_INVALID_PARAMETER, "CreateIoCompletionPort")
    (<PipeTarget>file).port = port
    (<PipeTarget>file).key = key
    np_async_bind((<PipeTarget>file).handle, port.object, (<PipeTarget>file).key)
    return result


def GetQueuedCompletionStatus(hPort, timeOut):
    """GetQueuedCompletionStatus: (code, bytes, key, OVERLAPPED); (258, 0, 0, None) when the time is over, (6, 0, 0, None) for what
    is no port, (735, 0, 0, None) when the port is closed meanwhile. Bytes and key are signed numbers.

    Raises RuntimeError, as pywin32 does, when the OVERLAPPED of the operation has not been kept.
    """
    cdef np_wait wait = wait_ms(timeOut)
    cdef Target port
    try:
        port = of_kind(hPort, "port", "GetQueuedCompletionStatus")
    except win32_error.error:
        return (_INVALID_HANDLE, 0, 0, None)
    cdef np_packet *packet = NULL
    cdef uint32_t code
    reap()
    if wait.deadline == NP_TRY:
        code = np_port_take(port.object, &wait, &packet)
    else:
        with nogil:
            code = np_port_take(port.object, &wait, &packet)
    if code == NP_SEM_TIMEOUT:
        return (noted(_WAIT_TIMEOUT), 0, 0, None)
    if code == NP_ABANDONED_WAIT:
        return (noted(code), 0, 0, None)
    if code == NP_INTERRUPTED:
        npipe_reraise()
    if code != NP_OK:
        raise make_error(code, "GetQueuedCompletionStatus")
    count, key, overlapped, status = take_packet(packet)
    if overlapped is _LOST:
        raise RuntimeError("This overlapped object has lost all its references so was destroyed")
    return (noted(status), count, key, overlapped)


def PostQueuedCompletionStatus(hPort, numberOfbytes=0, completionKey=0, overlapped=None):
    """PostQueuedCompletionStatus: a packet of the program's own. Raises 6."""
    cdef Target port = of_kind(hPort, "port", "PostQueuedCompletionStatus")
    cdef uint32_t count = as_dword(numberOfbytes)
    cdef uint64_t key = as_pointer(completionKey)
    if as_overlapped(overlapped) is not None:
        Py_INCREF(overlapped)
    if not np_port_post(port.object, count, key,
                        <void *>overlapped if overlapped is not None else NULL):
        if overlapped is not None:
            Py_DECREF(overlapped)
        raise MemoryError
