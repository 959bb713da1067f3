# Handles of npipe.win32 and what they stand for: numbers, PyHANDLE, events, semaphores, mutexes, timers, threads, waits.

from libc.stdint cimport uintptr_t

from npipe import win32_error
from npipe.win32_error import make_error

cdef extern from *:
    """
    /* GetLastError's, of each thread. */
    static _Thread_local unsigned int npipe_last_error;
    """
    unsigned int npipe_last_error

cdef extern from "Python.h":
    object PyNumber_Long(object)
    object PyNumber_Index(object)
    bint PyNumber_Check(object)
    struct _PyType "_typeobject":
        const char *tp_name

cdef extern from "engine.h" nogil:
    enum:
        NP_OBJECT_EVENT
        NP_OBJECT_SEMAPHORE
        NP_OBJECT_MUTEX
        NP_OBJECT_TIMER
        NP_OBJECT_FILE
        NP_OBJECT_PORT
        NP_OBJECT_THREAD
        NP_MOST_OBJECTS
    struct np_object:
        uint32_t count, maximum
        bint manual
    struct np_thread:
        uint64_t id
        np_object object
        np_breakable breakable
    struct np_async
    struct np_apc:
        np_async *async
        void *context
        uint64_t value
    struct np_packet:
        uint32_t count
        uint64_t key
        void *posted
        np_async *async
    np_thread *np_thread_self()
    np_thread *np_thread_find(int64_t)
    uint32_t np_threads_cancel(const np_handle *)
    struct np_call:
        pass
    np_call np_call_begin(np_thread *, np_handle *, np_wait *)
    void np_call_end(np_thread *, const np_call *)
    uint32_t np_call_begin_named(np_thread *, np_wait *)
    void np_call_end_named(np_thread *, uint32_t)
    bint np_thread_cancel(np_thread *, np_handle **)
    void np_thread_ref(np_thread *)
    void np_thread_unref(np_thread *)
    np_object *np_object_new(int, bint, bint)
    void np_object_ref(np_object *)
    void np_object_unref(np_object *)
    void np_event_set(np_object *)
    void np_event_reset(np_object *)
    void np_event_pulse(np_object *)
    bint np_semaphore_release(np_object *, uint32_t, uint32_t *)
    bint np_mutex_release(np_object *)
    void np_timer_set(np_object *, int64_t, int64_t)
    void np_timer_cancel(np_object *)
    bint np_object_looks_signalled(const np_object *)
    uint32_t np_wait_objects(np_object **, uint32_t, bint, bint, const np_wait *, uint32_t *, c_bool *)
    bint np_apc_queue(np_thread *, void *, uint64_t)
    np_apc *np_apc_take()
    void np_port_close(np_object *)
    bint np_port_post(np_object *, uint32_t, uint64_t, void *)
    uint32_t np_port_take(np_object *, const np_wait *, np_packet **)

cdef enum:
    _WAIT_TIMEOUT = 258
    _WAIT_IO_COMPLETION = 192
    _WAIT_ABANDONED = 128
    _INVALID_HANDLE = 6
    _INVALID_PARAMETER = 87
    _PATH_NOT_FOUND = 3
    _ALREADY_EXISTS = 183

cdef uint32_t _INFINITE = 0xFFFFFFFF
cdef enum:
    _CURRENT_PROCESS = -1
    _CURRENT_THREAD = -2


def get_last_error():
    """GetLastError: the code of the calling thread's last failure, or what SetLastError has set."""
    return npipe_last_error


def set_last_error(code):
    """SetLastError, of the calling thread."""
    global npipe_last_error
    npipe_last_error = <unsigned int>(PyNumber_Index(code) & 0xFFFFFFFF)


win32_error.note_code = set_last_error  # by whomever an error is raised


cdef inline uint32_t noted(uint32_t code) noexcept:
    """A code that a call returns, which GetLastError tells too."""
    global npipe_last_error
    if code:
        npipe_last_error = code
    return code


cdef unsigned int as_dword(value) except? 0xFFFFFFFF:
    """A DWORD argument, signed or not; raises TypeError, and OverflowError beyond 32 bits."""
    number = PyNumber_Index(value)
    if not -0x80000000 <= number <= 0xFFFFFFFF:
        raise OverflowError("Python int too large to convert to C long")
    return <unsigned int>(number & 0xFFFFFFFF)


def dword(value):
    """A DWORD argument of a Win32 function as a number that is not negative; raises TypeError, OverflowError."""
    return as_dword(value)


cdef inline bint as_bool(value) except? -1:
    """A BOOL argument: an integer."""
    return PyNumber_Index(value) != 0


cdef class Target:
    """What a handle stands for: a kernel object. It lives until its last handle is closed and nobody uses it any more."""

    cdef np_object *object
    cdef uint32_t handles  # open ones
    cdef readonly str kind
    cdef readonly str object_name
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        self.object = NULL
        self.handles = 0
        self.kind = "object"
        self.object_name = None

    def __dealloc__(self):
        np_object_unref(self.object)

    cdef int shut(self, bint wait) except -1:
        """The last handle is being closed."""
        return 0


cdef class ThreadTarget(Target):
    """A thread of this process."""

    cdef np_thread *thread

    def __cinit__(self, *args, **kwargs):
        self.kind = "thread"
        self.thread = NULL

    def __dealloc__(self):
        self.object = NULL  # it is the thread's own
        np_thread_unref(self.thread)


cdef ThreadTarget thread_target(np_thread *thread):
    cdef ThreadTarget target = ThreadTarget()
    np_thread_ref(thread)
    target.thread = thread
    target.object = &thread.object
    return target


cdef Target new_object(int kind, str word, bint manual, bint signalled):
    cdef Target target = Target()
    target.object = np_object_new(kind, manual, signalled)
    if target.object == NULL:
        raise MemoryError
    target.kind = word
    return target


cdef dict _handles = {}  # number: Target
cdef Py_ssize_t _next_handle = 0x100
cdef object _named = None  # name: Target, for events and the like of this process


cdef Py_ssize_t new_number(Target target) except -1:
    global _next_handle
    cdef Py_ssize_t number = _next_handle
    _next_handle += 4
    _handles[number] = target
    target.handles += 1
    return number


cdef int close_number(Py_ssize_t number, str function, bint wait) except -1:
    cdef Target target = _handles.pop(number, None)
    if target is None:
        raise make_error(_INVALID_HANDLE, function)
    target.handles -= 1
    if target.handles == 0:
        target.shut(wait)
    return 0


cdef class PyHANDLE:
    """A handle of npipe.win32, which closes itself with its last reference; usable wherever a number is."""

    cdef Py_ssize_t number
    cdef Target target

    def __cinit__(self, value=0):
        self.number = number_of(value)
        self.target = _handles.get(self.number)

    def __dealloc__(self):
        if self.number and self.number in _handles:
            close_number(self.number, "CloseHandle", False)

    @property
    def handle(self):
        """The number."""
        return self.number

    def Close(self):
        """Close the handle; closing it twice is no error."""
        cdef Py_ssize_t number = self.number
        self.number = 0
        self.target = None
        if number:
            close_number(number, "CloseHandle", True)

    close = Close

    def __reduce__(self):
        refuse_copy(self, "pass the pipe's name, and open it there; win32api.DuplicateHandle gives a second handle here")

    def __getattr__(self, name):
        # As on Windows there is no such method, and programs ask for that; who calls it all the same is told what to use.
        if name == "fileno":
            raise AttributeError("a handle has no descriptor: " + NO_FILE)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def Detach(self):
        """Return the number, which this object no longer closes."""
        cdef Py_ssize_t number = self.number
        self.number = 0
        self.target = None
        return number

    def __int__(self):
        return self.number

    def __index__(self):
        return self.number

    def __bool__(self):
        return self.number != 0

    def __hash__(self):
        return hash(self.number)

    def __eq__(self, other):
        if isinstance(other, PyHANDLE):
            return self.number == (<PyHANDLE>other).number
        if isinstance(other, int):
            return self.number == other
        return NotImplemented

    def __repr__(self):
        return f"<PyHANDLE:{self.number}>"

    def __str__(self):
        return self.__repr__()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.Close()


(<_PyType *>PyHANDLE).tp_name = "PyHANDLE"  # what pywin32's is called in texts and by repr


cdef PyHANDLE handle_of(Target target):
    """A new handle of `target`."""
    cdef PyHANDLE handle = PyHANDLE.__new__(PyHANDLE)
    handle.number = new_number(target)
    handle.target = target
    return handle


cdef Py_ssize_t number_of(handle) except? -7:
    if type(handle) is PyHANDLE:
        return (<PyHANDLE>handle).number
    if handle is None:
        return 0
    # As pywin32: whatever can be made a number that a pointer has room for.
    try:
        number = PyNumber_Long(handle)
    except (TypeError, ValueError, OverflowError):
        number = 1 << 64
    if not -(1 << 63) <= number < 1 << 64:
        raise TypeError("The object is not a PyHANDLE object")
    return number - (1 << 64) if number >> 63 == 1 else number


cdef Target target_of(handle, str function):
    """What `handle`, a PyHANDLE or a number, stands for; raises error 6."""
    cdef Target target
    if type(handle) is PyHANDLE:
        target = (<PyHANDLE>handle).target
        if target is not None and target.handles > 0 and (<PyHANDLE>handle).number != 0:
            return target
    cdef Py_ssize_t number = number_of(handle)
    if number == _CURRENT_THREAD:
        return thread_target(own_thread())
    target = _handles.get(number)
    if target is None:
        raise make_error(_INVALID_HANDLE, function)
    return target


cdef Target waitable(handle, str function):
    cdef Target target = target_of(handle, function)
    if target.object == NULL:
        raise make_error(_INVALID_HANDLE, function)
    if type(target) is PipeTarget and np_is_disconnected((<PipeTarget>target).handle):
        np_event_reset(target.object)  # SEMANTICS §10.3
    return target


cdef np_thread *own_thread() except NULL:
    cdef np_thread *thread = np_thread_self()
    if thread == NULL:
        raise MemoryError
    return thread


cdef np_wait wait_ms(timeout) except *:
    """A wait of so many milliseconds; INFINITE is for ever."""
    cdef np_wait wait
    cdef uint32_t ms = <uint32_t>(PyNumber_Index(timeout) & 0xFFFFFFFF)
    wait.interrupted = check_signals
    wait.context = NULL
    wait.cancel = NULL
    if ms == _INFINITE:
        wait.deadline = NP_FOREVER
    elif ms == 0:
        wait.deadline = NP_TRY
    else:
        wait.deadline = np_now() + <int64_t>ms * 1000000
    return wait


def close_handle(handle, str function="CloseHandle"):
    """CloseHandle: of a PyHANDLE or a number. To close what stands for no handle or for oneself is no error, as in pywin32."""
    cdef PyHANDLE wrapper
    cdef Py_ssize_t number = number_of(handle)
    if isinstance(handle, PyHANDLE):
        wrapper = <PyHANDLE>handle
        wrapper.number = 0
        wrapper.target = None
    if number not in (0, _CURRENT_PROCESS, _CURRENT_THREAD):
        close_number(number, function, True)


def duplicate_handle(handle):
    """A second handle of the same object."""
    return handle_of(target_of(handle, "DuplicateHandle"))


def handle_kind(handle, str function):
    """What kind of object a handle is of: 'pipe', 'event', 'file', …"""
    return target_of(handle, function).kind


# ---- Objects


cdef str own_name(str name):
    """An object's name without `Local\\`, in which all are by themselves. Upper and lower case are not the same."""
    return name.removeprefix("Local\\")


cdef Target named(name, str kind, str function, bint *fresh):
    """The object of that name, which may exist in this process already."""
    global _named
    fresh[0] = True
    set_last_error(0)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"Objects of type '{type(name).__name__}' can not be converted to Unicode.")
    if not name:
        return None
    name = own_name(name)
    if "\\" in name.removeprefix("Global\\"):
        raise make_error(_PATH_NOT_FOUND, function)
    if _named is None:
        import weakref

        _named = weakref.WeakValueDictionary()
    cdef Target target = _named.get(name)
    if target is None:
        return None
    if target.kind != kind:
        raise make_error(_INVALID_HANDLE, function)
    fresh[0] = False
    set_last_error(_ALREADY_EXISTS)
    return target


cdef Target name_it(Target target, name):
    if name:
        target.object_name = own_name(name)
        _named[target.object_name] = target
    return target


def create_event(attributes, manual, initial, name):
    """CreateEvent; a name is known in this process only. Raises 6 when the name is another kind of object's."""
    cdef bint fresh, stays = as_bool(manual), signalled = as_bool(initial)
    cdef Target target = named(name, "event", "CreateEvent", &fresh)
    if fresh:
        target = name_it(new_object(NP_OBJECT_EVENT, "event", stays, signalled), name)
    return handle_of(target)


def create_semaphore(attributes, initial, maximum, name):
    """CreateSemaphore; a name is known in this process only. Raises 87 (the counts), and 6 as create_event does."""
    cdef bint fresh
    cdef Target target = named(name, "semaphore", "CreateSemaphore", &fresh)
    if fresh:
        if maximum <= 0 or initial < 0 or initial > maximum:
            raise make_error(_INVALID_PARAMETER, "CreateSemaphore")
        target = new_object(NP_OBJECT_SEMAPHORE, "semaphore", False, False)
        target.object.count = initial
        target.object.maximum = maximum
        name_it(target, name)
    return handle_of(target)


def create_mutex(attributes, owned, name):
    """CreateMutex; a name is known in this process only. Raises 6 as create_event does."""
    cdef bint fresh, mine = as_bool(owned)
    cdef Target target = named(name, "mutex", "CreateMutex", &fresh)
    cdef np_wait wait
    cdef uint32_t index
    cdef c_bool abandoned
    if fresh:
        target = name_it(new_object(NP_OBJECT_MUTEX, "mutex", False, False), name)
        if mine:
            wait = wait_ms(0)
            np_wait_objects(&target.object, 1, False, False, &wait, &index, &abandoned)
    return handle_of(target)


def create_timer(attributes, manual, name):
    """CreateWaitableTimer; a name is known in this process only. Raises 6 as create_event does."""
    cdef bint fresh, stays = as_bool(manual)
    cdef Target target = named(name, "timer", "CreateWaitableTimer", &fresh)
    if fresh:
        target = name_it(new_object(NP_OBJECT_TIMER, "timer", stays, False), name)
    return handle_of(target)


def open_object(str kind, name, str function):
    """OpenEvent and the like: of an object that this process has named. Raises 2."""
    cdef bint fresh
    cdef Target target = named(name, kind, function, &fresh)
    if target is None:
        raise make_error(2, function)
    return handle_of(target)


cdef Target of_kind(handle, str kind, str function):
    cdef Target target = target_of(handle, function)
    if target.kind != kind:
        raise make_error(_INVALID_HANDLE, function)
    return target


def SetEvent(hEvent):
    """SetEvent: whoever waits for the event goes on. Raises 6."""
    cdef Target target = of_kind(hEvent, "event", "SetEvent")
    np_event_set(target.object)


def ResetEvent(hEvent):
    """ResetEvent: who waits for the event from now on waits. Raises 6."""
    cdef Target target = of_kind(hEvent, "event", "ResetEvent")
    np_event_reset(target.object)


def PulseEvent(hEvent):
    """PulseEvent: releases those who wait just now. As unreliable as Windows' own. Raises 6."""
    cdef Target target = of_kind(hEvent, "event", "PulseEvent")
    np_event_pulse(target.object)


def ReleaseSemaphore(hSemaphore, lReleaseCount):
    """ReleaseSemaphore: return the count before. Raises 298 (more than its maximum), 87 (not a positive number), 6."""
    cdef Target target = of_kind(hSemaphore, "semaphore", "ReleaseSemaphore")
    cdef uint32_t previous
    if PyNumber_Index(lReleaseCount) <= 0:
        raise make_error(_INVALID_PARAMETER, "ReleaseSemaphore")
    if not 0 < lReleaseCount <= 0x7FFFFFFF or not np_semaphore_release(target.object, lReleaseCount, &previous):
        raise make_error(298, "ReleaseSemaphore")
    return previous


def ReleaseMutex(hMutex):
    """ReleaseMutex. Raises 288 (another thread has it, or none), 6."""
    cdef Target target = of_kind(hMutex, "mutex", "ReleaseMutex")
    own_thread()
    if not np_mutex_release(target.object):
        raise make_error(288, "ReleaseMutex")


cdef double MOST_SECONDS = 4e9  # of which two and np_now are less than 2**63 ns


def set_timer(handle, double due, double period):
    """Let a waitable timer ring in `due` seconds, and again each `period` seconds (0: once)."""
    cdef Target target = of_kind(handle, "timer", "SetWaitableTimer")
    cdef int64_t now = np_now()
    # As far away as can be counted is never, and a period that long is none.
    np_timer_set(target.object, NP_FOREVER if due >= MOST_SECONDS else now + <int64_t>(due * 1e9),
                 0 if period >= MOST_SECONDS else <int64_t>(period * 1e9))


def CancelWaitableTimer(hTimer):
    """CancelWaitableTimer: it does not ring any more. Raises 6."""
    cdef Target target = of_kind(hTimer, "timer", "CancelWaitableTimer")
    np_timer_cancel(target.object)


# ---- Waiting


cdef uint32_t run_wait(np_object **objects, uint32_t count, bint all_of_them, bint alertable, timeout, str function) except? 0xFFFFFFFE:
    cdef np_wait wait = wait_ms(timeout), at_once = wait
    cdef uint32_t index = 0, code = NP_SEM_TIMEOUT
    cdef c_bool abandoned = False
    reap()
    if wait.deadline == NP_TRY or (count == 1 and np_object_looks_signalled(objects[0])):
        at_once.deadline = NP_TRY
        code = np_wait_objects(objects, count, all_of_them, alertable, &at_once, &index, &abandoned)
    if code == NP_SEM_TIMEOUT and wait.deadline != NP_TRY:
        with nogil:
            code = np_wait_objects(objects, count, all_of_them, alertable, &wait, &index, &abandoned)
    reap()
    if code == NP_OK:
        return index + (_WAIT_ABANDONED if abandoned else 0)
    if code == NP_SEM_TIMEOUT:
        return _WAIT_TIMEOUT
    if code == NP_IO_COMPLETION:
        run_routines()
        return _WAIT_IO_COMPLETION
    if code == NP_INTERRUPTED:
        npipe_reraise()
    raise make_error(code, function)


cdef uint32_t wait_single(handle, timeout, bint alertable, str function) except? 0xFFFFFFFE:
    cdef Target target = waitable(handle, function)
    return run_wait(&target.object, 1, False, alertable, timeout, function)


def WaitForSingleObject(hHandle, milliseconds):
    """WaitForSingleObject: 0, 128 (WAIT_ABANDONED) or 258 (WAIT_TIMEOUT). `milliseconds` -1 (INFINITE) is for ever. Raises 6."""
    return wait_single(hHandle, milliseconds, False, "WaitForSingleObject")


def WaitForSingleObjectEx(hHandle, milliseconds, bAlertable):
    """WaitForSingleObjectEx: as WaitForSingleObject, or 192 after completion routines have run (SEMANTICS §10.5)."""
    return wait_single(hHandle, milliseconds, as_bool(bAlertable), "WaitForSingleObjectEx")


cdef str _NO_HANDLES = "Handles must be a list of integers"


cdef list list_of(sequence):
    """The handles of another sequence than a list."""
    if isinstance(sequence, (dict, PyHANDLE)) or not hasattr(type(sequence), "__getitem__"):
        raise TypeError(_NO_HANDLES)
    return [sequence[index] for index in range(len(sequence))]


cdef uint32_t wait_several(handles, bint all_of_them, timeout, bint alertable, str function) except? 0xFFFFFFFE:
    cdef np_object *objects[NP_MOST_OBJECTS]
    cdef list targets = []
    cdef uint32_t count = 0
    if not isinstance(handles, (list, tuple)):
        handles = list_of(handles)
    for handle in handles:
        try:
            target = waitable(handle, function)
        except TypeError:
            raise TypeError(_NO_HANDLES) from None
        if count == NP_MOST_OBJECTS:
            raise make_error(_INVALID_PARAMETER, function)
        if all_of_them and target in targets:
            raise make_error(_INVALID_PARAMETER, function)
        targets.append(target)
        objects[count] = (<Target>target).object
        count += 1
    if count == 0 or (all_of_them and len(set(targets)) < <Py_ssize_t>count):
        raise make_error(_INVALID_PARAMETER, function)
    return run_wait(objects, count, all_of_them, alertable, timeout, function)


def WaitForMultipleObjects(handles, bWaitAll, milliseconds):
    """WaitForMultipleObjects over at most 64 handles: the first's index that is signalled, 128 and more for abandoned mutexes, or 258.

    Raises 87 (no handle, more than 64, or with `bWaitAll` one twice), 6.
    """
    return wait_several(handles, as_bool(bWaitAll), milliseconds, False, "WaitForMultipleObjects")


def WaitForMultipleObjectsEx(handles, bWaitAll, milliseconds, bAlertable):
    """WaitForMultipleObjectsEx: as WaitForMultipleObjects, or 192 after completion routines have run."""
    return wait_several(handles, as_bool(bWaitAll), milliseconds, as_bool(bAlertable), "WaitForMultipleObjectsEx")


def sleep_ex(milliseconds, alertable):
    """SleepEx: 0 when the time is over, 192 after completion routines have run."""
    cdef uint32_t result = run_wait(NULL, 0, False, bool(alertable), milliseconds, "SleepEx")
    return 0 if result == _WAIT_TIMEOUT else result
