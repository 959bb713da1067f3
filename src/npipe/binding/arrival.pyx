# cython: language_level=3, binding=True
"""Waiting for a pipe that is not there: what tells that something has changed where it would be."""

cimport cython
from libc.errno cimport EACCES, EINTR, ELOOP, EMFILE, ENFILE, ENOENT, ENOMEM, ENOSPC, ENOTDIR, errno
from libc.stdint cimport uint32_t, uint64_t

from npipe.binding.engine cimport (
    NP_FOREVER, NP_INTERRUPTED, NP_OK, np_fd_close, np_fd_made, np_fds_hold, np_forks, np_now, np_socket_wait, np_wait,
)
from npipe.binding.system cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, IN_ATTRIB, IN_CLOEXEC, IN_CREATE,
    IN_DELETE_SELF, IN_DONT_FOLLOW, IN_IGNORED, IN_MOVED_TO, IN_MOVE_SELF, IN_NONBLOCK, IN_ONLYDIR, IN_Q_OVERFLOW,
    IN_UNMOUNT, PyErr_CheckSignals, c_read, c_write, epoll_create1, epoll_ctl, epoll_event, eventfd,
    inotify_add_watch, inotify_event, inotify_init1, inotify_rm_watch, npipe_reraise,
)
from npipe.binding.waits cimport wait_until

import os

from npipe.errors import error_from_code

DOING = "waiting for the pipe's server"

cdef enum:
    MOST_READS = 4  # of all that has been told, at a time

cdef uint32_t _CHANGES = IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
cdef uint32_t _OF_ITSELF = IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT


cdef bytes _parent(bytes path):
    """The folder that `path` is in; the path itself at the end. Nothing is resolved: ".." may follow a link."""
    return os.path.dirname(path).rstrip(b"/") or (b"/" if path.startswith(b"/") else b".")


cdef class Folders:
    """The one instance of inotify that all waits of this process share, for a user may have 128 only, as a rule.

    Whoever finds something to read in it tells all whom it concerns, each by an event of its own: so nobody sleeps over
    what another one has read.
    """

    cdef int fd
    cdef uint32_t forks
    cdef set waits
    cdef dict users  # watch -> how many waits want it

    def __cinit__(self):
        np_fds_hold()
        self.fd = np_fd_made(inotify_init1(IN_NONBLOCK | IN_CLOEXEC))
        self.forks = np_forks
        self.waits = set()
        self.users = {}

    def __dealloc__(self):
        if self.fd >= 0 and self.forks == np_forks:
            np_fd_close(self.fd)

    cdef int drop(self, int watch) except -1:
        """One wait less wants this watch."""
        left = self.users.pop(watch, 1) - 1
        if left:
            self.users[watch] = left
        else:
            inotify_rm_watch(self.fd, watch)  # which may have ended with its folder
        return 0

    cdef int take(self) except -1:
        """Read what has been told, and tell all whom it concerns. Never waits; what is left where others change things
        as fast as they are read is found by the next one.
        """
        cdef uint64_t room[512]  # as aligned as an event has to be
        cdef ssize_t got, at
        cdef inotify_event *event
        cdef Arrival one
        cdef int times
        for times in range(MOST_READS):
            got = c_read(self.fd, room, sizeof(room))
            if got < 0 and errno == EINTR:
                continue
            if got <= 0:
                return 0
            at = 0
            while at < got:
                event = <inotify_event *>(<char *>room + at)
                for one in list(self.waits):
                    if one.is_wanted(event):
                        one.tell()
                at += sizeof(inotify_event) + event.len


cdef Folders _folders = None
# Of the above, of what it keeps, and of all waits: who finds something tells others' waits of it.
cdef object _shared = object()


cdef class Arrival:
    """Tells when a pipe may have come: by inotify, so nothing is asked again and again.

    Watched are the pipe's folder and the root, as far as they are there; else the nearest folder above that is, and the
    one that this is in. What has no part in the pipe's path wakes nobody but this.

        arrival.arm()      the watches, before the look
        (a look for the pipe)
        arrival.wait()     a change since `arm`

    Whatever happens after `arm` is told, so nothing is lost between the look and the wait.
    """

    cdef int fd, event
    cdef bint told
    cdef uint32_t forks
    cdef str name
    cdef list chain
    cdef dict wanted
    cdef Folders folders

    def __cinit__(self, str root not None, str folder not None, str name not None):
        self.fd = self.event = -1
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
        """Let the descriptors go; once. A forked child has none."""
        with cython.critical_section(_shared):
            self.let_go()

    cdef int let_go(self) except -1:
        global _folders
        cdef int fd = self.fd, event = self.event
        cdef Folders folders = self.folders
        self.fd = self.event = -1
        self.folders = None
        if self.forks != np_forks:
            return 0
        if fd >= 0:
            np_fd_close(fd)
        if event >= 0:
            np_fd_close(event)
        if folders is not None:
            folders.waits.discard(self)
            for watch in self.wanted:
                folders.drop(watch)
            self.wanted = {}
            if not folders.waits and folders is _folders:
                _folders = None  # which closes it
        return 0

    cdef int open(self) except -1:
        """Make the descriptor: an epoll over inotify's and an event for what another wait has read."""
        global _folders
        cdef epoll_event about
        cdef int one
        if _folders is None or _folders.forks != np_forks:
            _folders = Folders()
            if _folders.fd < 0:
                error = errno
                _folders = None
                raise self.failure(error, None)
        self.folders = _folders
        self.folders.waits.add(self)
        np_fds_hold()
        self.event = np_fd_made(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))
        if self.event >= 0:
            np_fds_hold()
            self.fd = np_fd_made(epoll_create1(EPOLL_CLOEXEC))
        if self.fd < 0:
            raise self.failure(errno, None)
        for one in (self.folders.fd, self.event):
            about.events = EPOLLIN
            about.data.fd = one
            if epoll_ctl(self.fd, EPOLL_CTL_ADD, one, &about) != 0:
                raise self.failure(errno, None)
        return 0

    cdef int tell(self) except -1:
        cdef uint64_t one = 1
        if not self.told:
            self.told = True
            c_write(self.event, &one, sizeof(one))  # the counter was 0: it does not wait
        return 0

    def fileno(self):
        """The descriptor, readable when something has changed; -1 before `arm`, and in a child that was forked since.
        """
        with cython.critical_section(_shared):
            return self.fd if self.forks == np_forks else -1

    def arm(self):
        """Watch what is there now, and forget what has changed before.

        Raises PipeAccessError (5: a folder may not be read) and PipeResourceError (4, 8, 1450: no descriptors, no
        memory, or a limit of inotify's).
        """
        with cython.critical_section(_shared):
            self.watch_anew()

    cdef int watch_anew(self) except -1:
        cdef uint64_t count
        if self.forks != np_forks:
            self.forks = np_forks
            self.fd = self.event = -1
            self.folders = None
            self.wanted = {}
        if self.fd < 0:
            self.open()
        self.folders.take()
        c_read(self.event, &count, sizeof(count))
        self.told = False
        before, self.wanted = self.wanted, {}
        try:
            self.watch_all()
        finally:
            for watch in before:
                self.folders.drop(watch)
        return 0

    cdef int watch_all(self) except -1:
        cdef int at = 0
        # Upwards to the first that is there, and down again as far as it goes: what was made meanwhile, between a look
        # and the watch above it, is found so.
        while not self.watch(at):
            at += 1
        while at and self.watch(at - 1):
            at -= 1
        if at + 1 < len(self.chain):
            self.watch(at + 1, False)  # tells at once when the lowest one is made anew
        return 0

    cdef bint watch(self, int at, bint needed=True) except -1:
        """Watch the folder at this place of the chain; False when it is not there, or what is not needed cannot be."""
        cdef bytes path = self.chain[at]
        cdef uint32_t flags = 0 if at else IN_DONT_FOLLOW  # a pipe's folder is no link
        cdef int watch = inotify_add_watch(self.folders.fd, path, _CHANGES | IN_ONLYDIR | flags)
        if watch >= 0:
            if watch not in self.wanted:
                self.folders.users[watch] = self.folders.users.get(watch, 0) + 1
            if at == 0:
                self.wanted[watch] = None
            elif self.wanted.get(watch, ...) is not None:  # else it is the pipe's folder too, by a mount
                self.wanted.setdefault(watch, set()).add(os.path.basename(self.chain[at - 1]))
            return True
        # The pipe's own folder may not be open to us yet; the root tells when that changes.
        if not needed or at == 0 and errno in (EACCES, ELOOP) or errno in (ENOENT, ENOTDIR) and \
                at + 1 < len(self.chain):
            return False
        raise self.failure(errno, path)

    cdef object failure(self, int error, path):
        """The exception for what inotify has failed with."""
        if error == EACCES:
            return error_from_code(5, self.name, DOING, f"the folder {os.fsdecode(path)} may not be read")
        if error == ENOMEM:
            return error_from_code(8, self.name, DOING)
        if error == ENFILE or error == EMFILE:
            why = "no descriptor is left, or fs.inotify.max_user_instances of this user's processes wait already"
            return error_from_code(4, self.name, DOING, why)
        why = "fs.inotify.max_user_watches is reached" if error == ENOSPC else os.strerror(error)
        return error_from_code(1450, self.name, DOING, why)

    def changed(self):
        """Whether something that matters has changed since `arm`. Never waits."""
        with cython.critical_section(_shared):
            if self.fd < 0 or self.forks != np_forks:
                return True  # to be armed anew
            if not self.told:
                self.folders.take()
            return self.told

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
            if code != NP_OK and code != NP_INTERRUPTED or until.deadline != NP_FOREVER and np_now() >= until.deadline:
                return self.changed()
        return True
