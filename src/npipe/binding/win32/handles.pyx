# cython: language_level=3, binding=True
"""Handles of npipe.win32: numbers, PyHANDLE, and what they stand for; and GetLastError's code."""

cimport cython
from libc.stdint cimport int64_t, uint32_t

from npipe.binding.engine cimport *
from npipe.binding.system cimport (
    PyNumber_Index, PyNumber_Long, PyTypeObject, look_at_size, look_at_word, npipe_reraise, put_size,
    put_word,
)
from npipe.binding.waits cimport check_signals, only_try

from npipe import win32_error
from npipe._process import NO_FILE, refuse_copy
from npipe.win32_error import make_error

cdef extern from *:
    """
    /* GetLastError's, of each thread. Only this part may have it: each that declares it would have one of its own. */
    static _Thread_local unsigned int npipe_last_error;
    """
    unsigned int npipe_last_error

cdef enum:
    CURRENT_PROCESS = -1
    CURRENT_THREAD = -2


def get_last_error():
    """GetLastError: the code of the calling thread's last failure, or what SetLastError has set."""
    return npipe_last_error


def set_last_error(code):
    """SetLastError, of the calling thread."""
    global npipe_last_error
    npipe_last_error = <unsigned int>(PyNumber_Index(code) & 0xFFFFFFFF)


win32_error.note_code = set_last_error  # by whomever an error is raised


cdef void note(uint32_t code) noexcept:
    """Let GetLastError tell of a code."""
    global npipe_last_error
    npipe_last_error = code


cdef unsigned int as_dword(value) except? 0xFFFFFFFF:
    """A DWORD argument, signed or not; raises TypeError, and OverflowError beyond 32 bits."""
    number = PyNumber_Index(value)
    if not -0x80000000 <= number <= 0xFFFFFFFF:
        raise OverflowError("Python int too large to convert to C long")
    return <unsigned int>(number & 0xFFFFFFFF)


def dword(value):
    """A DWORD argument of a Win32 function as a number that is not negative; raises TypeError, OverflowError."""
    return as_dword(value)


cdef class Target:
    """What a handle stands for: a kernel object. It lives until its last handle is closed and nobody uses it any more.
    """

    def __cinit__(self, *args, **kwargs):
        self.object = NULL
        self.handles = 0
        self.kind = "object"
        self.object_name = None

    def __dealloc__(self):
        np_object_unref(self.object)

    @property
    def handles(self):
        """How many handles of it are open."""
        return look_at_word(&self.handles)

    cdef int shut(self, bint wait) except -1:
        """The last handle is being closed."""
        return 0

    cdef void before_wait(self) noexcept:
        """Somebody is about to wait for it."""

    cdef void number_closed(self, Py_ssize_t number) noexcept:
        """One of its handles was closed, and it has others."""


cdef class ThreadTarget(Target):
    """A thread of this process."""

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

# Of the four below, and of each target's `handles`. A critical section, within which no Python is run.
cdef object _table = object()
cdef dict _handles = {}  # number: Target
cdef set _inheritable = set()  # of these, the numbers that a child gets (HANDLE_FLAG_INHERIT)
cdef object _departure = None  # what closes such a number that was never used
cdef object _arrival = None  # what finds the target of a number that comes from another process (travel.pyx)
cdef Py_ssize_t _next_handle = 0x100


cdef Py_ssize_t new_number(Target target, bint another=False) except -1:
    """A number for a target; as `another` one only if it has any: else 0."""
    global _next_handle
    cdef Py_ssize_t number
    with cython.critical_section(_table):
        if another and target.handles == 0:
            return 0
        number = _next_handle
        _next_handle += 4
        _handles[number] = target
        count_one(target, 1)
    return number


cdef void count_one(Target target, int change) noexcept:
    """One handle of it more, or less. Whoever asks whether it has any does not lock the table for it."""
    put_word(&target.handles, target.handles + change)


cdef void keep_free(Py_ssize_t number) noexcept:
    """Give no handle this number, nor one below."""
    global _next_handle
    with cython.critical_section(_table):
        if number >= _next_handle:
            _next_handle = number + 4


cdef Target known(Py_ssize_t number):
    """What a number stands for, or None."""
    return _handles.get(number)


cdef bint put_at(Py_ssize_t number, Target target) except -1:
    """Let a number that is free stand for `target`. False: it is not free."""
    with cython.critical_section(_table):
        if number in _handles:
            return False
        _handles[number] = target
        count_one(target, 1)
    return True


cdef int replace(Target old, Target new) except -1:
    """Let every handle of `old` stand for `new`; the caller ends `old`."""
    cdef Py_ssize_t number
    with cython.critical_section(_table):
        for number, target in list(_handles.items()):
            if target is old:
                _handles[number] = new
                count_one(new, 1)
        put_word(&old.handles, 0)  # a PyHANDLE that knows it looks up its number from now on
    return 0


cdef list inheritable_numbers():
    """The numbers that a child gets, in ascending order."""
    with cython.critical_section(_table):
        numbers = list(_inheritable)
    return sorted(numbers)


cdef int on_arrival(arrive, leave) except -1:
    """Let `arrive(number, function)` find what a number stands for that is nobody's here, None: nothing; and
    `leave(number, function)` close it, False: it is nothing.
    """
    global _arrival, _departure
    _arrival = arrive
    _departure = leave
    return 0


cdef Target take_out(Py_ssize_t number, bint *last):
    """What a number stood for, which from now on is nobody's; None: nothing. `last`: it has no other handle."""
    cdef Target target
    with cython.critical_section(_table):
        target = _handles.pop(number, None)
        if target is not None:
            _inheritable.discard(number)
            count_one(target, -1)
            last[0] = target.handles == 0
    return target


cdef int close_number(Py_ssize_t number, str function, bint wait) except -1:
    cdef bint last = False
    cdef Target target = take_out(number, &last)
    if target is None and _departure is not None:
        if _departure(number, function):
            return 0
        target = take_out(number, &last)  # another thread may have been asking for it
    if target is None:
        raise make_error(INVALID_HANDLE, function)
    end_of(target, number, last, wait)
    return 0


cdef int end_of(Target target, Py_ssize_t number, bint last, bint wait) except -1:
    if last:
        target.shut(wait)
    else:
        target.number_closed(number)
    return 0


cdef class PyHANDLE:
    """A handle of npipe.win32, which closes itself with its last reference; usable wherever a number is."""

    def __cinit__(self, value=0):
        self.number = number_of(value)
        self.target = _handles.get(self.number)

    def __dealloc__(self):
        cdef bint last = False
        cdef Target target
        if self.number:
            target = take_out(self.number, &last)
            if target is not None:
                end_of(target, self.number, last, False)

    @property
    def handle(self):
        """The number."""
        return look_at_size(&self.number)

    def Close(self):
        """Close the handle; closing it twice is no error."""
        cdef Py_ssize_t number = self.taken()
        if number:
            close_number(number, "CloseHandle", True)

    close = Close

    def __reduce__(self):
        refuse_copy(self, "pass the pipe's name, and open it there; "
                    "win32api.DuplicateHandle gives a second handle here")

    def __getattr__(self, name):
        # As on Windows there is no such method, and programs ask for that; who calls it all the same is told
        # what to use.
        if name == "fileno":
            raise AttributeError("a handle has no descriptor: " + NO_FILE)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def Detach(self):
        """Return the number, which this object no longer closes."""
        return self.taken()

    cdef Py_ssize_t taken(self) noexcept:
        """The number, which is one thread's alone from now on: 0 for any other."""
        cdef Py_ssize_t number
        with cython.critical_section(self):
            number = self.number
            put_size(&self.number, 0)
            self.target = None
        return number

    def __int__(self):
        return look_at_size(&self.number)

    def __index__(self):
        return look_at_size(&self.number)

    def __bool__(self):
        return look_at_size(&self.number) != 0

    def __hash__(self):
        return hash(look_at_size(&self.number))

    def __eq__(self, other):
        if isinstance(other, PyHANDLE):
            return look_at_size(&self.number) == look_at_size(&(<PyHANDLE>other).number)
        if isinstance(other, int):
            return look_at_size(&self.number) == other
        return NotImplemented

    def __repr__(self):
        return f"<PyHANDLE:{look_at_size(&self.number)}>"

    def __str__(self):
        return self.__repr__()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.Close()


(<PyTypeObject *>PyHANDLE).tp_name = "PyHANDLE"  # what pywin32's is called in texts and by repr


cdef PyHANDLE handle_of(Target target):
    """A new handle of `target`."""
    cdef PyHANDLE handle = PyHANDLE.__new__(PyHANDLE)
    handle.number = new_number(target)
    handle.target = target
    return handle


cdef Py_ssize_t as_number(handle) except? -7:
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


cdef Target look_up(handle, str function):
    cdef Py_ssize_t number = number_of(handle)
    cdef Target target
    if number == CURRENT_THREAD:
        return thread_target(own_thread())
    target = _handles.get(number)
    if target is None and _arrival is not None:
        target = _arrival(number, function)
    if target is None:
        raise make_error(INVALID_HANDLE, function)
    return target


cdef Target of_kind(handle, str kind, str function):
    cdef Target target = target_of(handle, function)
    if target.kind != kind:
        raise make_error(INVALID_HANDLE, function)
    return target


cdef Target waitable(handle, str function):
    cdef Target target = target_of(handle, function)
    if target.object == NULL:
        raise make_error(INVALID_HANDLE, function)
    target.before_wait()
    return target


def close_handle(handle, str function="CloseHandle"):
    """CloseHandle: of a PyHANDLE or a number. To close what stands for no handle or for oneself is no error, as in
    pywin32.
    """
    cdef Py_ssize_t number = number_of(handle)
    if isinstance(handle, PyHANDLE):
        number = (<PyHANDLE>handle).taken()
    if number not in (0, CURRENT_PROCESS, CURRENT_THREAD):
        close_number(number, function, True)


def duplicate_handle(handle):
    """A second handle of the same object."""
    cdef Target target = target_of(handle, "DuplicateHandle")
    cdef PyHANDLE made = PyHANDLE.__new__(PyHANDLE)
    made.number = new_number(target, number_of(handle) != CURRENT_THREAD)
    if made.number == 0:  # another thread has closed the last one meanwhile
        raise make_error(INVALID_HANDLE, "DuplicateHandle")
    made.target = target
    return made


def numbers_of_kind(str kind):
    """The numbers of all open handles of a kind, in ascending order."""
    return sorted(number for number, target in list(_handles.items()) if target.kind == kind)


def handle_is_inheritable(handle, str function):
    """Whether a child process gets the handle; raises 6."""
    target_of(handle, function)
    return number_of(handle) in _inheritable


def set_handle_inheritable(handle, inherits, str function):
    """Let child processes get the handle, or not; raises 6."""
    target_of(handle, function)
    cdef Py_ssize_t number = number_of(handle)
    with cython.critical_section(_table):
        if not inherits:
            _inheritable.discard(number)
        elif number in _handles:  # else it was closed meanwhile
            _inheritable.add(number)


def handle_kind(handle, str function):
    """What kind of object a handle is of: 'pipe', 'event', 'file', …"""
    return target_of(handle, function).kind


# ---- Waiting


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
    wait.crowd = False
    if ms == INFINITE:
        wait.deadline = NP_FOREVER
    elif ms == 0:
        wait.deadline = NP_TRY
    else:
        wait.deadline = np_now() + <int64_t>ms * 1000000
    return wait


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
