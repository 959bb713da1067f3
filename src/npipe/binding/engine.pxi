# What the binding uses of the engine, and of the system beside it.

cdef extern from "Python.h":
    int PyErr_CheckSignals()

cdef extern from *:
    """
    /* An interrupted wait has left its exception behind: hand it on. */
    static int npipe_reraise(void) { return PyErr_Occurred() ? -1 : 0; }
    """
    int npipe_reraise() except -1

cdef extern from "stdbool.h" nogil:
    ctypedef bint c_bool "bool"

cdef extern from "sys/types.h":
    ctypedef int pid_t
    ctypedef unsigned int uid_t
    ctypedef unsigned int gid_t

cdef extern from "engine.h" nogil:
    const int64_t NP_FOREVER
    const int64_t NP_TRY
    int64_t np_now()
    bint np_on_first_thread()

cdef extern from "engine.h" nogil:
    enum:
        NP_OK
        NP_FILE_NOT_FOUND
        NP_INVALID_HANDLE
        NP_NO_SYSTEM_RESOURCES
        NP_BROKEN_PIPE
        NP_SEM_TIMEOUT
        NP_PIPE_BUSY
        NP_NO_DATA
        NP_PIPE_NOT_CONNECTED
        NP_MORE_DATA
        NP_PIPE_CONNECTED
        NP_PIPE_LISTENING
        NP_WOULD_WAIT
        NP_INTERRUPTED
        NP_RETRY
        NP_TYPE_MESSAGE
        NP_UNLIMITED_INSTANCES

cdef extern from "engine.h" nogil:
    struct np_wait:
        int64_t deadline
        int (*interrupted)(void *) noexcept nogil
        void *context
        const uint32_t *cancel
    struct np_breakable:
        pass

cdef extern from "engine.h" nogil:
    struct np_op:
        uint32_t count

cdef extern from "engine.h" nogil:
    enum:
        NP_WHY_SIZE
        NP_CLOSED
    struct np_handle:
        pass
    struct np_where:
        const char *root
        const char *folder
        const char *display
    struct np_access_rule:
        bint everyone
        uint32_t n_uids, n_gids
        uid_t *uids
        gid_t *gids
        uint32_t allowed
    struct np_create_options:
        uint32_t access
        bint first_instance
        uint32_t type
        uint32_t mode
        uint32_t max_instances
        uint32_t out_quota, in_quota
        uint32_t default_timeout_ms
        np_access_rule rule
        bint overlapped
        const np_wait *wait
    struct np_open_options:
        uint32_t access
        bint hold
        bint verify_owner
        bint overlapped
    struct np_recv:
        np_op op
        bint reply
        c_bool pended
    struct np_info:
        uint32_t flags, out_quota, in_quota, max_instances
    uint32_t np_create(const np_where *, const np_create_options *, np_handle **, char *)
    uint32_t np_connect(np_handle *, const np_wait *)
    int np_connect_reason(const np_handle *)
    uint32_t np_disconnect(np_handle *)
    uint32_t np_replace(np_handle *, bint, np_handle **)
    uint32_t np_create_another(np_handle *, const np_wait *, np_handle **)
    uint32_t np_closed_seq()
    uint32_t np_wait_closed(const np_where *, uint32_t, const np_wait *)
    void np_wake_closed()
    uint32_t np_open(const np_where *, const np_open_options *, const np_wait *, np_handle **, char *)
    uint32_t np_wait_named(const np_where *, bint, const np_wait *, np_breakable *, char *)
    void np_close(np_handle *, bint)
    void np_let_go(np_handle *)
    void np_free(np_handle *)
    void np_hold(np_handle *)
    uint32_t np_read(np_handle *, void *, uint32_t, uint32_t *, const np_wait *)
    uint32_t np_write(np_handle *, const void *, uint32_t, uint32_t *, const np_wait *)
    void np_will_put_back(np_handle *)
    uint32_t np_put_back(np_handle *, const void *, uint32_t)
    uint32_t np_peek(np_handle *, void *, uint32_t, uint32_t *, uint32_t *, uint32_t *)
    uint32_t np_transact(np_handle *, const void *, uint32_t, const np_wait *,
                         uint32_t (*)(void *, const np_wait *) noexcept nogil, void *)
    uint32_t np_flush(np_handle *, const np_wait *)
    uint32_t np_drain(np_handle *, const np_wait *)
    bint np_spin_read(np_handle *, int64_t, c_bool *)
    uint32_t np_recv_try(np_handle *, uint32_t, uint32_t *)
    void np_recv_take(np_handle *, void *, uint32_t)
    void np_recv_leave(np_handle *)
    uint32_t np_recv_begin(np_handle *, np_recv *, uint32_t *, const np_wait *)
    uint32_t np_recv_more(np_handle *, np_recv *, void *, uint32_t, const np_wait *)
    uint32_t np_recv_end(np_handle *, np_recv *, void *, bint)
    uint32_t np_set_state(np_handle *, uint32_t)
    uint32_t np_get_state(np_handle *, uint32_t *, uint32_t *)
    uint32_t np_get_info(np_handle *, np_info *)
    struct np_description:
        bint server
        uint32_t type, direction, mode, in_quota, out_quota, max_instances
    void np_describe(const np_handle *, np_description *)
    uint32_t np_count_instances(np_handle *, uint32_t *)
    uint32_t np_client_pid(np_handle *, uint32_t *)
    uint32_t np_server_pid(np_handle *, uint32_t *)
    uint32_t np_peer(np_handle *, pid_t *, uid_t *)
    uint32_t np_rest_of_message(np_handle *)
    uint32_t np_poll_socket(np_handle *, int *)
    uint32_t np_arm_read(np_handle *)
    bint np_is_closed(np_handle *)
    bint np_has_read(np_handle *)
    bint np_is_disconnected(np_handle *)

cdef extern from "pipe/messages.h" nogil:
    struct npw_answer:
        uint32_t type, direction, max_instances, instances, owner_pid, name_size

cdef extern from "engine.h" nogil:
    struct np_listing:
        npw_answer answer
        uid_t uid
        const char *folder
        char name[1025]
    uint32_t np_list(const char *, int (*)(void *, const np_listing *) noexcept nogil, void *, const np_wait *, char *)
