# The system and Python, where Cython has no declarations of its own.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

cdef extern from "stdbool.h" nogil:
    ctypedef bint c_bool "bool"

cdef extern from "sys/types.h" nogil:
    ctypedef int pid_t
    ctypedef unsigned int uid_t
    ctypedef unsigned int gid_t

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/stat.h>" nogil:
    struct c_stat "stat":
        unsigned int st_mode
    int do_stat "stat"(const char *, c_stat *)
    bint S_ISDIR(unsigned int)

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET
        AF_INET6
    ctypedef unsigned int socklen_t
    struct sockaddr:
        int sa_family
    struct sockaddr_storage:
        int ss_family
    int getsockname(int, sockaddr *, socklen_t *)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data "epoll_data_t":
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data data
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLLIN
        EPOLLRDHUP

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int, int)
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK

cdef extern from "<sys/inotify.h>" nogil:
    struct inotify_event:
        int wd
        uint32_t mask
        uint32_t len
        char *name
    int inotify_init1(int)
    int inotify_add_watch(int, const char *, uint32_t)
    int inotify_rm_watch(int, int)
    enum:
        IN_ATTRIB
        IN_CLOEXEC
        IN_CREATE
        IN_DELETE_SELF
        IN_DONT_FOLLOW
        IN_IGNORED
        IN_MOVED_TO
        IN_MOVE_SELF
        IN_NONBLOCK
        IN_ONLYDIR
        IN_Q_OVERFLOW
        IN_UNMOUNT

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int)
    ssize_t c_write "write"(int, const void *, size_t)
    ssize_t c_read "read"(int, void *, size_t)

cdef extern from "Python.h":
    int PyErr_CheckSignals()
    void PyErr_SetObject(object, object)
    int PyErr_WarnFormat(object, Py_ssize_t, const char *, const char *) except -1
    PyObject *number_or_null "PyLong_FromUnsignedLong"(unsigned long)
    object PyNumber_Long(object)
    object PyNumber_Index(object)
    object PyWeakref_NewRef(object, void *)
    void Py_INCREF(object)
    void Py_DECREF(object)
    ctypedef struct PyAsyncMethods:
        void *am_send
    ctypedef struct PyTypeObject:
        const char *tp_name
        void *tp_iternext
        PyAsyncMethods *tp_as_async
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(object, object, PyObject **)

cdef extern from *:
    """
    /* A number that another thread may be writing, where it does not matter which of the two one has: it says nothing
     * of any other memory, hence relaxed. */
    #define npipe_look(place) __atomic_load_n(place, __ATOMIC_RELAXED)
    #define npipe_put(place, value) __atomic_store_n(place, value, __ATOMIC_RELAXED)

    /* Whether an object is this thread's alone, which knows of so many references. Without the interpreter's lock what
     * other threads have is counted in a word of its own. Acquire: who has let go of it, with which that word came back
     * to 0, does not look at the object any more. */
    static inline int npipe_is_alone(PyObject *object, Py_ssize_t references)
    {
    #ifdef Py_GIL_DISABLED
        return __atomic_load_n(&object->ob_tid, __ATOMIC_RELAXED) == _Py_ThreadId() &&
               (Py_ssize_t)__atomic_load_n(&object->ob_ref_local, __ATOMIC_RELAXED) == references &&
               __atomic_load_n(&object->ob_ref_shared, __ATOMIC_ACQUIRE) == 0;
    #else
        return Py_REFCNT(object) == references;
    #endif
    }
    """
    int look_at "npipe_look"(int *) noexcept nogil
    uint32_t look_at_word "npipe_look"(uint32_t *) noexcept nogil
    Py_ssize_t look_at_size "npipe_look"(Py_ssize_t *) noexcept nogil
    unsigned long look_at_thread "npipe_look"(unsigned long *) noexcept nogil
    void put_thread "npipe_put"(unsigned long *, unsigned long) noexcept nogil
    void put "npipe_put"(int *, int) noexcept nogil
    void put_word "npipe_put"(uint32_t *, uint32_t) noexcept nogil
    void put_size "npipe_put"(Py_ssize_t *, Py_ssize_t) noexcept nogil
    bint npipe_is_alone(object, Py_ssize_t) noexcept

cdef extern from *:
    """
    /* A call has left its exception behind: hand it on. */
    static inline int npipe_reraise(void) { return PyErr_Occurred() ? -1 : 0; }
    """
    int npipe_reraise() except -1
