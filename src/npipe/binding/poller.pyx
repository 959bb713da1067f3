# cython: language_level=3, binding=True
"""Pipe.fileno: a descriptor that selectors can wait for."""

from libc.errno cimport errno
from libc.stdint cimport uint64_t

from npipe.binding.engine cimport NP_OK, np_arm_read, np_is_closed
from npipe.binding.handle cimport Handle
from npipe.binding.system cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, EPOLLRDHUP, c_close, c_read, c_write,
    epoll_create1, epoll_ctl, epoll_event, eventfd,
)

import os
import weakref


cdef class Poller:
    """A descriptor that is readable when a read on `handle` would not wait (Pipe.fileno).

    The peer sends a byte through the link's socket when it has been asked to; what is there already when we ask is told
    by an event of our own. One epoll descriptor holds both. Not select.epoll, which gevent and eventlet take out of the
    module; and no Python code in `rearm`: it is called when a read has its data, which nothing that raises there may
    take away.
    """

    cdef int epoll, event
    cdef bint signalled
    cdef object handle  # weakly
    cdef object __weakref__

    def __cinit__(self, Handle handle not None):
        cdef epoll_event about
        cdef int one
        self.epoll = self.event = -1
        self.handle = weakref.ref(handle)
        socket = handle.poll_socket()
        self.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        self.epoll = epoll_create1(EPOLL_CLOEXEC) if self.event >= 0 else -1
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))
        for one in (socket, self.event):
            about.events = EPOLLIN | EPOLLRDHUP
            about.data.fd = one
            if epoll_ctl(self.epoll, EPOLL_CTL_ADD, one, &about) != 0:
                raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        self.close()

    cpdef close(self):
        """Close the descriptors; once."""
        cdef int epoll = self.epoll, event = self.event
        self.epoll = self.event = -1
        if epoll >= 0:
            c_close(epoll)
        if event >= 0:
            c_close(event)

    def fileno(self):
        """The descriptor; -1 once it is closed."""
        return self.epoll

    def rearm(self):
        """Find out, after each read, whether the next one has to wait. Raises nothing; of a pipe that was closed
        meanwhile there is nothing to find out.
        """
        cdef Handle handle = self.handle()
        cdef uint64_t one = 1
        cdef bint ready
        if handle is None or handle.handle == NULL or np_is_closed(handle.handle) or self.event < 0:
            return
        ready = np_arm_read(handle.handle) != NP_OK
        # The counter is 0 or 1, so neither of them has to wait.
        if ready and not self.signalled:
            self.signalled = c_write(self.event, &one, sizeof(one)) == sizeof(one)
        elif self.signalled and not ready:
            self.signalled = c_read(self.event, &one, sizeof(one)) != sizeof(one)
