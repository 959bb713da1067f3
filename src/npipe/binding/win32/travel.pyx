# cython: language_level=3, binding=True
"""Handles of pipes that other processes get: children, by inheritance, and whoever a handle is duplicated for."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from cpython.exc cimport PyErr_SetFromErrno
from posix.fcntl cimport F_DUPFD_CLOEXEC, fcntl

from npipe.binding.engine cimport *
from npipe.binding.system cimport pid_t
from npipe.binding.win32.handles cimport (
    INVALID_HANDLE, Target, blocking_wait, handle_of, inheritable_numbers, keep_free, known, number_of, on_arrival,
    put_at, raise_interrupted, target_of,
)
from npipe.binding.win32.targets cimport PipeTarget

import os
import socket
import stat
import threading

from npipe.binding.win32.handles import set_handle_inheritable
from npipe.win32_error import make_error

VARIABLE = "NPIPE_HANDLES"
"""The environment's variable that tells a child what it inherits: NUMBER:DESCRIPTOR:INODE for each, with commas."""

cdef dict _inherited = {}  # number: the descriptor of the socket through which it is to be had
cdef dict _asking = {}  # number: (the thread that asks for it, a lock that is held meanwhile)
cdef dict _kept = {}  # (pid, number): what came out of a process for a call that an exception had ended
cdef uint64_t _slots = 0
# Of the number above, and of the descriptors in `_inherited`: who has one there has it open.
cdef object _shared = object()

# A handle that another process has duplicated for this one: which process, and which of its offers.
cdef enum:
    PID_SHIFT = 24
    SLOT_SHIFT = 2
    MARK_SHIFT = 46


cdef PipeTarget target_for(np_handle *handle):
    cdef PipeTarget pipe = PipeTarget()
    pipe.handle = handle
    pipe.name = ""
    pipe.overlapped = not handle.synchronous
    return pipe


def _arrive(Py_ssize_t number, str function):
    """The target of a number that comes from another process, None if there is none such; raises 6, 231, 1450."""
    if number not in _inherited and (number <= 0 or number >> MARK_SHIFT != 1):
        return None
    _begin(number, function)
    try:
        target = known(number)  # another thread was first
        return _claim(number, function) if target is None else target
    finally:
        _end(number)


cdef int _begin(Py_ssize_t number, str function) except -1:
    """Be the one thread that asks for a number, after the one that does already. 231: that is this one, in whose signal
    handler this is.
    """
    own = (threading.get_ident(), threading.Lock())
    own[1].acquire()
    while True:
        first = _asking.setdefault(number, own)
        if first is own:
            return 0
        if first[0] == own[0]:
            raise make_error(NP_PIPE_BUSY, function)
        with first[1]:
            pass  # it is over


cdef int _end(Py_ssize_t number) except -1:
    own = _asking.pop(number, None)
    if own is not None:  # None: a handler has forked, and this is the child
        own[1].release()
    return 0


def _claim(Py_ssize_t number, str function):
    cdef np_handle *handle = NULL
    cdef np_wait wait
    cdef uint32_t code
    cdef int fd = -1
    cdef pid_t pid
    fd = _inherited.get(number, -1)  # who has begun to ask is the only one who may take it out
    if fd >= 0:
        wait = blocking_wait()
        with nogil:
            code = np_claim(fd, &wait, &handle)
    elif number >> MARK_SHIFT == 1:
        pid = <pid_t>((number >> PID_SHIFT) & ((<Py_ssize_t>1 << (MARK_SHIFT - PID_SHIFT)) - 1))
        wait = blocking_wait()
        with nogil:
            code = np_claim_from(pid, <uint64_t>number, &wait, &handle)
    else:
        return None  # another thread has asked in vain
    if code == NP_INTERRUPTED:
        try:
            raise_interrupted(function)
        finally:
            if handle != NULL:  # it has come all the same, and is there for the next call
                _come(handle, number, fd)
    if code == NP_OK:
        return _come(handle, number, fd)
    if fd >= 0 and not np_may_claim_again(code):
        _end_inheritance(number, fd)
    raise make_error(code, function)


cdef PipeTarget _come(np_handle *handle, Py_ssize_t number, int fd):
    cdef PipeTarget pipe = target_for(handle)
    if fd >= 0:
        _end_inheritance(number, fd)
    put_at(number, pipe)
    if fd >= 0:
        set_handle_inheritable(number, True, "CreateProcess")  # as it was where it comes from
    return pipe


cdef int _end_inheritance(Py_ssize_t number, int fd) except -1:
    if take_descriptor(number) >= 0:
        os.close(fd)
    return 0


cdef int take_descriptor(Py_ssize_t number) except -2:
    """The descriptor of what was inherited, which is the caller's to close from now on; -1: there is none."""
    with cython.critical_section(_shared):
        return _inherited.pop(number, -1)


cdef PipeTarget pipe_that_travels(handle, str function):
    cdef Target target = target_of(handle, function)
    if not isinstance(target, PipeTarget):
        raise make_error(INVALID_HANDLE, function)
    cdef PipeTarget pipe = <PipeTarget>target
    cdef np_handle *end = pipe.valid(function)
    end.synchronous = not pipe.overlapped
    return pipe


def lend_handle(handle):
    """Lend a pipe's handle to a child process: the descriptor (of the caller's, not inheritable) of a socket through
    which the child has it. Raises 6, and OSError.
    """
    cdef PipeTarget pipe = pipe_that_travels(handle, "CreateProcess")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    cdef np_handle *end = pipe.handle
    cdef int fd, number
    cdef uint32_t code
    with theirs:
        with ours:
            # Nothing that asks for the interpreter while that is held: who has it may wait for this.
            number = ours.fileno()
            with nogil:
                np_fds_hold()
                fd = np_fd_made(fcntl(number, F_DUPFD_CLOEXEC, 0))
            if fd < 0:
                PyErr_SetFromErrno(OSError)
        with nogil:
            code = np_lend(end, fd)
        if code != NP_OK:
            raise make_error(code, "CreateProcess")
        return theirs.detach()


def offer_handle(handle, pid):
    """Duplicate a pipe's handle for another process of this user: the number that it has there. Raises 6, 1450.

    The process gets it when it uses the number for the first time; then this one has it no more.
    """
    global _slots
    cdef PipeTarget pipe = pipe_that_travels(handle, "DuplicateHandle")
    cdef uint64_t slot
    with cython.critical_section(_shared):
        slot = _slots = (_slots + 1) & ((<uint64_t>1 << (PID_SHIFT - SLOT_SHIFT)) - 1)
    # The number names the process that offers it: only that one has it.
    cdef uint64_t process = os.getpid()
    cdef uint64_t number = <uint64_t>1 << MARK_SHIFT | process << PID_SHIFT | slot << SLOT_SHIFT
    cdef np_handle *end = pipe.handle
    cdef uint32_t code
    with nogil:
        code = np_offer(end, number, False)
    if code != NP_OK:
        raise make_error(code, "DuplicateHandle")
    return number


def offer_while_open(handle):
    """Let other processes of this user take a pipe's handle by its number, as long as it is open (DuplicateHandle out
    of this process). Raises 6, 1450.
    """
    cdef PipeTarget pipe = pipe_that_travels(handle, "DuplicateHandle")
    cdef np_handle *end = pipe.handle
    cdef uint64_t number = <uint64_t>number_of(handle)
    cdef uint32_t code
    with nogil:
        code = np_offer(end, number, True)
    if code != NP_OK:
        raise make_error(code, "DuplicateHandle")


def take_handle(pid, number):
    """Take a pipe's handle out of another process of this user: a PyHANDLE. Raises 6 (it is not offered), 5, 231.

    If a signal's handler raises, and the handle comes all the same, it is kept for the next call with these arguments.
    """
    cdef np_handle *handle = NULL
    kept = _kept.pop((pid, number), None)
    if kept is not None:
        return handle_of(kept)
    cdef np_wait wait = blocking_wait()
    cdef uint64_t key = number
    cdef pid_t process = pid
    cdef uint32_t code
    with nogil:
        code = np_claim_from(process, key, &wait, &handle)
    if code == NP_INTERRUPTED:
        try:
            raise_interrupted("DuplicateHandle")
        finally:
            if handle != NULL:
                _kept[pid, number] = target_for(handle)
    if code != NP_OK:
        raise make_error(code, "DuplicateHandle")
    return handle_of(target_for(handle))


def inheritable_pipes():
    """The numbers of the pipes' handles that a child is to get, in ascending order."""
    return [number for number in inheritable_numbers() if isinstance(known(number), PipeTarget)]


def unused():
    """What this process has inherited itself and not used: {number: the descriptor of its socket}."""
    return dict(_inherited)


def second_of_unused(Py_ssize_t number):
    """A second descriptor of what this process has inherited and not used, -1: it has used it. Raises OSError."""
    cdef int source, fd
    with cython.critical_section(_shared):  # who closes it has taken it out before
        source = _inherited.get(number, -1)
        if source < 0:
            return -1
        fd = fcntl(source, F_DUPFD_CLOEXEC, 0)  # the caller's, so not entered among the engine's
    if fd < 0:
        PyErr_SetFromErrno(OSError)
    return fd


def inherit(str told):
    """Note what this process has inherited; what is no such thing is left alone."""
    for item in told.split(","):
        try:
            place, fd, inode = map(int, item.split(":"))
            # No other numbers are given to handles.
            if place <= 0 or place >> MARK_SHIFT > 1 or (place >> MARK_SHIFT == 0 and place >> 32):
                continue
            status = os.fstat(fd)
            # The variable may have come through a process that had the descriptors closed, and others in their place.
            if not stat.S_ISSOCK(status.st_mode) or status.st_ino != inode or known(place) is not None \
                    or place in _inherited:
                continue
            os.set_inheritable(fd, False)
        except (ValueError, OverflowError, OSError):
            continue
        _inherited[place] = fd
        if place >> MARK_SHIFT == 0:  # the others come from elsewhere, and what is behind them is others'
            keep_free(place)


def _leave(Py_ssize_t number, str function):
    """Close what was inherited and never used. Whether there was such a thing; raises 231.

    The process that has lent it has it still; if that has closed it, the connection ends.
    """
    if number not in _inherited:
        return False
    _begin(number, function)
    try:
        fd = take_descriptor(number)
    finally:
        _end(number)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


on_arrival(_arrive, _leave)
os.register_at_fork(after_in_child=_asking.clear)  # who asks there is not here
if VARIABLE in os.environ:
    inherit(os.environ.pop(VARIABLE))
for _item in os.environ.get("NPIPE_FILES", "").split(","):  # _inheritance takes these, perhaps after handles were made
    _number = _item.partition(":")[0]
    if _number.isdecimal() and len(_number) <= 10 and int(_number) >> 32 == 0:
        keep_free(int(_number))
