# cython: language_level=3, binding=True
"""Waiting for a pipe that is not there: what tells that something has changed where it would be."""

from libc.errno cimport EACCES, EAGAIN, EINTR, EMFILE, ENFILE, ENOENT, ENOMEM, ENOSPC, ENOTDIR, errno
from libc.stdint cimport uint32_t, uint64_t

from npipe.binding.engine cimport (
    NP_INTERRUPTED, NP_OK, np_fd_close, np_fd_made, np_fds_hold, np_forks, np_socket_wait, np_wait,
)
from npipe.binding.system cimport (
    IN_ATTRIB, IN_CLOEXEC, IN_CREATE, IN_DELETE_SELF, IN_IGNORED, IN_MOVED_TO, IN_MOVE_SELF, IN_NONBLOCK, IN_ONLYDIR,
    IN_Q_OVERFLOW, IN_UNMOUNT, PyErr_CheckSignals, c_read, inotify_add_watch, inotify_event, inotify_init1,
    inotify_rm_watch, npipe_reraise,
)
from npipe.binding.waits cimport wait_until

import os

from npipe.errors import error_from_code

DOING = "waiting for the pipe's server"

cdef uint32_t _CHANGES = IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
cdef uint32_t _OF_ITSELF = IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT


cdef bytes _parent(bytes path):
    """The folder that `path` is in; the path itself at the end. Nothing is resolved: ".." may follow a link."""
    return os.path.dirname(path).rstrip(b"/") or (b"/" if path.startswith(b"/") else b".")


cdef class Arrival:
    """Tells when a pipe may have come: by inotify, so nothing is asked again and again.

    Watched are the pipe's folder and the root, as far as they are there; else the nearest folder above that is, and the
    one that this is in. What has no part in the pipe's path wakes nobody but this.

        arrival.arm()      the watches, before the look
        (a look for the pipe)
        arrival.wait()     a change since `arm`

    Whatever happens after `arm` is told, so nothing is lost between the look and the wait.
    """

    cdef int fd
    cdef uint32_t forks
    cdef str name
    cdef list chain
    cdef dict wanted

    def __cinit__(self, str root not None, str folder not None, str name not None):
        self.fd = -1
        self.forks = np_forks
        self.name = name
        self.wanted = {}  # watch -> the entries that matter there, None: the sockets of servers
        path = os.fsencode(root)
        path = path.rstrip(b"/") or path[:1]
        self.chain = [os.path.join(path, os.fsencode(folder)), path]  # the lowest first
        while (above := _parent(self.chain[-1])) != self.chain[-1]:
            self.chain.append(above)

    def __dealloc__(self):
        self.close()

    cpdef close(self):
        """Let the descriptor go; once. A forked child has none."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0 and self.forks == np_forks:
            np_fd_close(fd)

    def fileno(self):
        """The descriptor, readable when something has changed; -1 before `arm`, and in a child that was forked since.
        """
        return self.fd if self.forks == np_forks else -1

    def arm(self):
        """Watch what is there now, and forget what has changed before.

        Raises PipeAccessError (5: a folder may not be read) and PipeResourceError (4, 8, 1450: no descriptors, no
        memory, or a limit of inotify's).
        """
        cdef int at = 0
        if self.forks != np_forks:
            self.forks = np_forks
            self.fd = -1
        if self.fd < 0:
            np_fds_hold()
            self.fd = np_fd_made(inotify_init1(IN_NONBLOCK | IN_CLOEXEC))
            if self.fd < 0:
                raise self.failure(errno, None)
        self.changed()
        before, self.wanted = self.wanted, {}
        # Upwards to the first that is there, and down again as far as it goes: what was made meanwhile, between a look
        # and the watch above it, is found so.
        while not self.watch(at):
            at += 1
        while at and self.watch(at - 1):
            at -= 1
        if at + 1 < len(self.chain):
            self.watch(at + 1, False)  # tells at once when the lowest one is made anew
        for watch in before.keys() - self.wanted.keys():
            inotify_rm_watch(self.fd, watch)

    cdef bint watch(self, int at, bint needed=True) except -1:
        """Watch the folder at this place of the chain; False when it is not there, or what is not needed cannot be."""
        cdef bytes path = self.chain[at]
        cdef int watch = inotify_add_watch(self.fd, path, _CHANGES | IN_ONLYDIR)
        if watch >= 0:
            if at == 0:
                self.wanted[watch] = None
            else:
                self.wanted.setdefault(watch, set()).add(os.path.basename(self.chain[at - 1]))
            return True
        # The pipe's own folder may not be open to us yet; the root tells when that changes.
        if not needed or at == 0 and errno == EACCES or errno in (ENOENT, ENOTDIR) and at + 1 < len(self.chain):
            return False
        raise self.failure(errno, path)

    cdef object failure(self, int error, path):
        """The exception for what inotify has failed with."""
        if error == EACCES:
            return error_from_code(5, self.name, DOING, f"the folder {os.fsdecode(path)} may not be read")
        if error == ENOMEM:
            return error_from_code(8, self.name, DOING)
        if error == ENFILE or error == EMFILE:
            why = "no descriptor is left, or this user has as many waits as fs.inotify.max_user_instances allows"
            return error_from_code(4, self.name, DOING, why)
        why = "fs.inotify.max_user_watches is reached" if error == ENOSPC else os.strerror(error)
        return error_from_code(1450, self.name, DOING, why)

    def changed(self):
        """Take what has been told; whether something in it matters. Never waits."""
        cdef uint64_t room[512]  # as aligned as an event has to be
        cdef ssize_t got, at
        cdef inotify_event *event
        cdef bint matters = False
        if self.fd < 0 or self.forks != np_forks:
            return True  # to be armed anew
        while True:
            got = c_read(self.fd, room, sizeof(room))
            if got < 0 and errno == EINTR:
                continue
            if got <= 0:
                return matters
            at = 0
            while at < got:
                event = <inotify_event *>(<char *>room + at)
                matters = self.is_wanted(event) or matters
                at += sizeof(inotify_event) + event.len

    cdef bint is_wanted(self, inotify_event *event) except -1:
        cdef bytes entry
        if event.mask & IN_Q_OVERFLOW:
            return True
        if event.wd not in self.wanted:
            return False
        if event.mask & _OF_ITSELF or event.len == 0:
            return True
        entry = event.name  # up to its first NUL
        names = self.wanted[event.wd]
        return entry.startswith(b"s") if names is None else entry in names

    def wait(self, timeout=None):
        """Wait until something that matters has changed since `arm`, at most `timeout` seconds (None: for ever).

        Whether it has.
        """
        cdef np_wait until = wait_until(timeout)
        cdef uint32_t code
        cdef int fd
        while not self.changed():
            if PyErr_CheckSignals() != 0:
                npipe_reraise()
            fd = self.fileno()
            if fd < 0:
                return True  # a handler of a signal has forked, and this is the child
            with nogil:
                code = np_socket_wait(fd, until.deadline)
            if code != NP_OK and code != NP_INTERRUPTED:
                return self.changed()
        return True
