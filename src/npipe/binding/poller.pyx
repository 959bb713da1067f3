# cython: language_level=3, binding=True
"""Pipe.fileno: a descriptor that selectors can wait for."""

cimport cython
from libc.errno cimport EEXIST, errno
from libc.stdint cimport uint64_t

from npipe.binding.engine cimport NP_OK, np_arm_read, np_free, np_handle, np_hold, np_is_closed
from npipe.binding.handle cimport Handle
from npipe.binding.system cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, EPOLLRDHUP, c_close, c_read, c_write,
    epoll_create1, epoll_ctl, epoll_event, eventfd,
)

import os


cdef class Poller:
    """A descriptor that is readable when a read on a handle would not wait (Pipe.fileno).

    The peer sends a byte through the link's socket when it has been asked to; what is there already when we ask is told
    by an event of our own. One epoll descriptor holds both. Not select.epoll, which gevent and eventlet take out of the
    module; and no Python code in `rearm`: it is called when a read has its data, which nothing that raises there may
    take away.
    """

    def __cinit__(self, *args):
        self.epoll = self.event = -1
        self.handle = NULL

    def __init__(self, Handle handle not None):
        socket = handle.poll_socket()
        self.begin(handle.handle)
        self.watch(socket)

    cdef int begin(self, np_handle *handle) except -1:
        """Make the descriptor; it tells of nothing until there is a socket to watch."""
        np_hold(handle)
        self.handle = handle
        self.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        self.epoll = epoll_create1(EPOLL_CLOEXEC) if self.event >= 0 else -1
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))
        return self.watch(self.event)

    @cython.critical_section
    cdef int watch(self, int socket) except -1:
        """Tell of what comes through a socket; once for each."""
        cdef epoll_event about
        about.events = EPOLLIN | EPOLLRDHUP
        about.data.fd = socket
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, socket, &about) != 0 and errno != EEXIST:
            raise OSError(errno, os.strerror(errno))
        return 0

    def __dealloc__(self):
        self.let_go(True)

    cpdef close(self):
        """Close the descriptors; once."""
        with cython.critical_section(self):
            self.let_go(True)

    @cython.critical_section
    def forget(self):
        """Close all but the descriptor itself, which somebody else has closed."""
        self.let_go(False)

    cdef void let_go(self, bint whole) noexcept:
        cdef int epoll = self.epoll
        cdef int event = self.event
        cdef np_handle *handle = self.handle
        self.epoll = self.event = -1
        self.handle = NULL
        if whole and epoll >= 0:
            c_close(epoll)
        if event >= 0:
            c_close(event)
        if handle != NULL:
            np_free(handle)

    @cython.critical_section
    def take(self, int fd):
        """Have another number for the descriptor, which dup2 has made one; the one that it had is closed."""
        cdef int epoll = self.epoll
        self.epoll = fd
        if epoll >= 0:
            c_close(epoll)

    @cython.critical_section
    def fileno(self):
        """The descriptor; -1 once it is closed."""
        return self.epoll

    cpdef rearm(self):
        """Find out, after each read, whether the next one has to wait. Raises nothing; of a pipe that was closed
        meanwhile there is nothing to find out.
        """
        with cython.critical_section(self):
            self.find_out()

    cdef void find_out(self) noexcept:
        cdef uint64_t one = 1
        cdef bint ready
        if self.handle == NULL or np_is_closed(self.handle) or self.event < 0:
            return
        ready = np_arm_read(self.handle) != NP_OK
        # The counter is 0 or 1, so neither of them has to wait.
        if ready and not self.signalled:
            self.signalled = c_write(self.event, &one, sizeof(one)) == sizeof(one)
        elif self.signalled and not ready:
            self.signalled = c_read(self.event, &one, sizeof(one)) != sizeof(one)
