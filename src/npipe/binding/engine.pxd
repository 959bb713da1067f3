# The engine, as the binding calls it. Each function's contract stands in the header of its file.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from npipe.binding.system cimport c_bool, gid_t, iovec, pid_t, uid_t

# ---- Codes and waits (base/)

cdef extern from "engine.h" nogil:
    enum:
        NP_OK
        NP_FILE_NOT_FOUND
        NP_PATH_NOT_FOUND
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
        NP_IO_PENDING
        NP_IO_COMPLETION
        NP_ABANDONED_WAIT
        NP_OPERATION_ABORTED
        NP_NOT_FOUND
        NP_WOULD_WAIT
        NP_INTERRUPTED
        NP_RETRY
        NP_YIELD
        NP_TYPE_MESSAGE
        NP_UNLIMITED_INSTANCES
        NP_WHY_SIZE
        NP_CLOSED
    const int64_t NP_FOREVER
    const int64_t NP_TRY
    struct np_wait:
        int64_t deadline
        int (*interrupted)(void *) noexcept nogil
        void *context
        const uint32_t *cancel
        c_bool crowd
    int64_t np_now()
    bint np_on_first_thread()
    struct np_run:
        pass
    bint np_turn_is_over(np_run *)
    bint np_turn_is_crowd(const np_run *)
    uint32_t np_turn_given()
    void np_turn_wait()
    void np_turn_want()
    void np_turn_got(np_run *)
    void np_turn_got_again(np_run *)
    void np_turn_pass(uint32_t)

cdef extern from "base/fds.h" nogil:
    uint32_t np_forks
    void np_fds_hold()
    int np_fd_made(int)
    void np_fd_close(int)

cdef extern from "base/socket.h" nogil:
    uint32_t np_socket_wait(int, int64_t)

cdef extern from "base/call_lock.h" nogil:
    struct np_gate:
        pass
    bint np_gate_try(np_gate *)
    uint32_t np_gate_enter(np_gate *, const np_wait *)
    void np_gate_leave(np_gate *)

# ---- Handles (handle/, pipe/)

cdef extern from "engine.h" nogil:
    struct np_handle:
        bint server
        c_bool synchronous
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
    uint32_t np_rule_set(np_handle *, const np_access_rule *)
    void np_forbid_tracing(const np_handle *)
    struct np_trace_options:
        uint32_t most
    struct np_tracer:
        pass
    uint32_t np_tap_all(int, int, const np_trace_options *, np_tracer **)
    void np_tap_all_end(np_tracer *)
    uint64_t np_link_new_number()
    struct np_create_options:
        uint32_t access
        bint first_instance
        uint32_t type
        uint32_t mode
        uint32_t max_instances
        uint32_t out_quota, in_quota
        uint32_t default_timeout_ms
        np_access_rule rule
        bint untraceable
        bint overlapped
        const np_wait *wait
    struct np_open_options:
        uint32_t access
        bint hold
        bint verify_owner
        bint overlapped
        const void *remote
        uint32_t remote_size
    struct np_info:
        uint32_t flags, out_quota, in_quota, max_instances
    struct np_description:
        bint server
        uint32_t type, direction, mode, in_quota, out_quota, max_instances, access
    uint32_t np_create(const np_where *, const np_create_options *, np_handle **, char *)
    uint32_t np_create_another(np_handle *, const np_wait *, np_handle **)
    uint32_t np_replace(np_handle *, bint, np_handle **)
    uint32_t np_connect(np_handle *, const np_wait *)
    uint32_t np_connect_until(np_handle *, uint32_t, const np_wait *)
    uint32_t np_recalls(const np_handle *)
    void np_recall(np_handle *)
    int np_connect_reason(const np_handle *)
    uint32_t np_disconnect(np_handle *)
    uint32_t np_open(const np_where *, const np_open_options *, const np_wait *, np_handle **, char *)
    void np_close(np_handle *, bint)
    void np_let_go(np_handle *)
    void np_hold(np_handle *)
    void np_free(np_handle *)
    bint np_is_closed(np_handle *)
    bint np_is_disconnected(np_handle *)
    bint np_has_read(np_handle *)
    bint np_is_being_read(np_handle *)
    uint32_t np_set_state(np_handle *, uint32_t)
    uint32_t np_get_state(np_handle *, uint32_t *, uint32_t *)
    uint32_t np_get_info(np_handle *, np_info *)
    void np_describe(const np_handle *, np_description *)
    int np_peer_ended(np_handle *)
    uint32_t np_count_instances(np_handle *, uint32_t *)
    uint32_t np_client_pid(np_handle *, uint32_t *)
    uint32_t np_server_pid(np_handle *, uint32_t *)
    uint32_t np_peer(np_handle *, pid_t *, uid_t *)
    uint32_t np_remote(np_handle *, void **, uint32_t *)
    uint32_t np_rest_of_message(np_handle *)
    bint np_is_at_rest_of_message(np_handle *)
    uint32_t np_poll_socket(np_handle *, int *)
    void np_poll_end(np_handle *)
    uint32_t np_arm_read(np_handle *)
    void np_handle_cancel_blocked(np_handle *)
    uint32_t np_impersonate(np_handle *)

# ---- A pipe by its name (pipe/)

cdef extern from "pipe/messages.h" nogil:
    cdef enum npw_kind:
        NPW_OPEN
        NPW_WAIT
    enum:
        NPW_REMOTE_SIZE
    struct npw_answer:
        uint32_t type, direction, max_instances, instances, owner_pid, name_size, listening
    struct npw_details:
        uint32_t uid, in_quota, out_quota, instances, connected, held
        int64_t since
        uint64_t ended, in_bytes, in_messages, out_bytes, out_messages, sleeps
    struct npw_connection:
        uint64_t number
        int64_t since
        uint32_t pid, uid, flags, sleeping, in_quota, out_quota, pending_reads, pending_writes
        uint64_t in_bytes, in_messages, in_unread, out_bytes, out_messages, out_unread, out_unread_messages
        int64_t read_slept, write_slept
        uint64_t sleeps

cdef extern from "engine.h" nogil:
    struct np_breakable:
        pass
    struct np_listing:
        npw_answer answer
        uid_t uid
        const char *folder
        char name[1025]
    uint32_t np_wait_named(const np_where *, bint, const np_wait *, np_breakable *, char *)
    int64_t np_held_since
    uint32_t np_list(const char *, int (*)(void *, const np_listing *) noexcept nogil, void *, const np_wait *, char *)
    struct np_counts:
        int64_t since
        uint64_t in_bytes, in_messages, in_unread, out_bytes, out_messages, out_unread, out_unread_messages, sleeps
        int64_t read_slept, write_slept
        uint32_t pending_reads, pending_writes, sleeping
    void np_handle_count(np_handle *, np_counts *)
    struct np_described:
        uint32_t code
        c_bool first
        pid_t pid
        uid_t uid
        npw_answer answer
        npw_details details
        int64_t answer_ns
        uint32_t count
        const npw_connection *connections
    uint32_t np_ask(const char *, const char *, int (*)(void *, const np_described *) noexcept nogil, void *,
                    const np_wait *, char *)
    bint np_report_own(const np_where *, npw_details *)
    struct np_totals:
        uint64_t connections, in_bytes, in_messages, out_bytes, out_messages, sleeps
    struct np_process_counts:
        np_totals totals[2]
        uint32_t living[2]
    void np_report_process(np_process_counts *)
    uint32_t np_closed_seq()
    uint32_t np_wait_closed(const np_where *, uint32_t, const np_wait *)
    void np_wake_closed()

# ---- Handles that go from one process to another (travel/)

cdef extern from "engine.h" nogil:
    uint32_t np_lend(np_handle *, int)
    uint32_t np_offer(np_handle *, uint64_t, bint)
    void np_lends_withdraw(np_handle *)
    void np_offer_end(np_handle *, uint64_t)
    bint np_close_lent(np_handle *)
    bint np_may_claim_again(uint32_t)
    uint32_t np_claim(int, const np_wait *, np_handle **)
    uint32_t np_claim_from(pid_t, uint64_t, const np_wait *, np_handle **)

# ---- Data, by calls that wait (blocking/)

cdef extern from "engine.h" nogil:
    struct np_link:
        pass
    struct np_op:
        uint32_t count, size
    struct np_recv:
        np_op op
        np_link *link
        c_bool pended
        int64_t patience
    uint32_t np_read(np_handle *, void *, uint32_t, uint32_t *, const np_wait *)
    uint32_t np_write(np_handle *, const void *, uint32_t, uint32_t *, const np_wait *)
    uint32_t np_write_parts(np_handle *, const iovec *, uint32_t, uint32_t *, const np_wait *)
    void np_will_put_back(np_handle *)
    uint32_t np_put_back(np_handle *, const void *, uint32_t)
    uint32_t np_peek(np_handle *, void *, uint32_t, uint32_t *, uint32_t *, uint32_t *)
    void np_look(np_handle *)
    c_bool np_has_unread(np_handle *)
    uint32_t np_transact(np_handle *, const void *, uint32_t, const np_wait *,
                         uint32_t (*)(void *, const np_wait *) noexcept nogil, void *)
    uint32_t np_flush(np_handle *, const np_wait *)
    uint32_t np_drain(np_handle *, const np_wait *)
    bint np_spin_read(np_handle *, int64_t, c_bool *)
    uint32_t np_recv_try(np_handle *, uint32_t, uint32_t *)
    void np_recv_take(np_handle *, void *, uint32_t)
    uint32_t np_recv_take_parts(np_handle *, const iovec *, uint32_t)
    void np_recv_leave(np_handle *)
    void np_recv_prepare(np_recv *, bint)
    uint32_t np_recv_begin(np_handle *, np_recv *, uint32_t *, const np_wait *)
    void np_recv_into_parts(np_recv *, const iovec *)
    uint32_t np_recv_more(np_handle *, np_recv *, void *, uint32_t, const np_wait *)
    uint32_t np_recv_more_now(np_handle *, np_recv *, void *, uint32_t)
    uint32_t np_recv_end(np_handle *, np_recv *, void *, bint)

    struct np_mirror:
        pass
    struct np_reserve:
        np_op op
        np_link *link
        np_mirror *mirror
        void *data
    uint32_t np_reserve_place(np_handle *, np_reserve *, uint32_t, const np_wait *)
    uint32_t np_reserve_begin(np_handle *, np_reserve *, uint32_t)
    uint32_t np_reserve_step(np_handle *, np_reserve *)
    bint np_reserve_ready(const np_reserve *)
    uint32_t np_reserve_end(np_handle *, np_reserve *, uint32_t, bint, bint)
    void np_reserve_let_go(np_reserve *)
    struct np_view:
        np_recv recv
        np_mirror *mirror
        const void *data
        uint32_t size
        c_bool rest
    uint32_t np_view_now(np_handle *, np_view *, uint32_t)
    bint np_view_in_place(np_handle *, np_view *, bint)
    uint32_t np_view_take(np_handle *, np_view *)
    uint32_t np_view_end(np_handle *, np_view *, const void *, bint, bint)
    void np_view_let_go(np_view *)

# ---- The same in steps that never wait, for event loops (poll/)

cdef extern from "engine.h" nogil:
    struct np_poll_read:
        np_op op
        np_link *link
    struct np_poll_write:
        np_link *link
    struct np_dial:
        int socket
        int64_t until
        int64_t held_since
        npw_answer answer
    struct np_acceptor:
        pass
    bint np_poll_view(np_handle *, np_poll_read *, np_view *, uint32_t)
    uint32_t np_view_put_back(np_handle *, const np_view *, const void *, uint32_t)
    void np_poll_read_into_parts(np_poll_read *, const iovec *)
    bint np_poll_wake(np_handle *)
    void np_poll_promise_pauses(np_handle *)
    void np_poll_pause(np_handle *)
    bint np_poll_wake_deferred(np_handle *)
    bint np_poll_recv_take(np_handle *, void *, uint32_t)
    uint32_t np_poll_read_begin(np_handle *, np_poll_read *, void *, uint32_t)
    uint32_t np_poll_read_step(np_handle *, np_poll_read *)
    uint32_t np_poll_message(np_handle *, np_poll_read *, uint32_t *)
    uint32_t np_poll_message_more(np_handle *, np_poll_read *, void *, uint32_t)
    uint32_t np_poll_message_take(np_handle *, np_poll_read *)
    uint32_t np_poll_read_leave(np_handle *, np_poll_read *, void *)
    bint np_poll_has_ended(np_handle *)
    bint np_poll_has_come(np_handle *)
    uint64_t np_poll_announced(np_handle *)
    bint np_poll_is_read(np_handle *, uint64_t, uint32_t)
    bint np_poll_spin(np_handle *, int64_t)
    uint32_t np_poll_write_now(np_handle *, const void *, uint32_t, uint32_t *)
    uint32_t np_poll_write_parts_now(np_handle *, const iovec *, uint32_t, uint32_t *)
    uint32_t np_poll_write_begin(np_handle *, np_poll_write *, const void *, uint32_t)
    uint32_t np_poll_write_step(np_handle *, np_poll_write *)
    uint32_t np_poll_write_withdraw(np_handle *, np_poll_write *)
    uint32_t np_poll_write_leave(np_handle *, np_poll_write *, bint)
    bint np_poll_write_ready(const np_poll_write *)
    bint np_poll_all_put(np_handle *)
    uint32_t np_poll_flush_begin(np_handle *, np_poll_write *)
    uint32_t np_poll_flush_step(np_handle *, np_poll_write *)
    bint np_poll_flush_ready(np_handle *, const np_poll_write *)
    void np_poll_flush_leave(np_handle *, np_poll_write *)
    uint32_t np_poll_transact_check(np_handle *)
    np_dial *np_dial_new(const np_where *, npw_kind, const np_open_options *, int64_t, bint)
    void np_dial_free(np_dial *)
    uint32_t np_dial_poll(np_dial *, char *)
    uint32_t np_dial_handle(np_dial *, np_handle **, char *)
    np_acceptor *np_acceptor_new()
    int np_acceptor_event(const np_acceptor *)
    void np_acceptor_quieten(np_acceptor *)
    void np_acceptor_watch(np_acceptor *, np_handle *)
    void np_acceptor_await_room(np_acceptor *, const np_where *, uint32_t)
    void np_acceptor_forget_room(np_acceptor *)
    void np_acceptor_free(np_acceptor *)

# ---- Win32's objects and threads (handle/)

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
        int64_t tid
        uint64_t id
        np_object object
        np_breakable breakable
    struct np_call:
        pass
    np_thread *np_thread_self()
    np_thread *np_thread_find(int64_t)
    void np_thread_ref(np_thread *)
    void np_thread_unref(np_thread *)
    bint np_thread_cancel(np_thread *, np_handle **)
    uint32_t np_threads_cancel(const np_handle *)
    np_call np_call_begin(np_thread *, np_handle *, np_wait *)
    void np_call_end(np_thread *, const np_call *)
    uint32_t np_call_begin_named(np_thread *, np_wait *)
    void np_call_end_named(np_thread *, uint32_t)
    struct np_follow:
        np_object *object
        int fd
    uint32_t np_follow_begin(np_follow *)
    void np_follow_look(np_follow *)
    void np_follow_end(np_follow *)
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

# ---- Overlapped operations, routines and ports (overlapped/)

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
    struct np_status_block:
        uint64_t status
        uint64_t count
    enum:
        NP_STATUS_PENDING
    uint32_t np_status_of(uint32_t)
    uint32_t np_code_of_status(uint64_t)
    struct np_telling:
        np_object *event
        np_object *file
        np_object *port
        uint64_t key
        bint no_packet
        bint apc
        np_status_block *block
        void *owner
    struct np_apc:
        np_async *async
        void *context
        uint64_t value
    struct np_packet:
        uint32_t count
        uint64_t key
        void *posted
        np_async *async
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
    void np_async_bind(np_handle *, np_object *, uint64_t)
    bint np_apc_queue(np_thread *, void *, uint64_t)
    np_apc *np_apc_take()
    void np_port_close(np_object *)
    bint np_port_post(np_object *, uint32_t, uint64_t, void *)
    uint32_t np_port_take(np_object *, const np_wait *, np_packet **)

# ---- Whom a thread acts as (base/identity)

cdef extern from "engine.h" nogil:
    struct np_credentials:
        uid_t uid
        gid_t gid
        uint32_t n_groups
        gid_t groups[256]
    bint np_revert()
    bint np_settle_identity()
    bint np_is_impersonating()
    bint np_own_credentials(np_credentials *)

# ---- Channels (channel/)

cdef extern from "engine.h" nogil:
    const uint64_t NPC_BUFFERS
    const uint64_t NPC_LONGEST
    const uint64_t NPC_SIZE
    uint32_t NP_INVALID_DATA
    uint32_t NP_NOT_ENOUGH_MEMORY
    struct np_channel:
        uint8_t *map
        int socket
        int events[2]
        int side
        bint readable
        bint writable
        bint trusted
        uint32_t reading
    struct np_part:
        const void *data
        uint64_t size
    int np_segment_create(uint64_t)
    uint32_t np_channel_attach(np_channel *, int, int, int, int, int)
    void np_channel_detach(np_channel *)
    uint32_t np_channel_send(np_channel *, uint64_t, const np_part *, uint32_t, const np_wait *, c_bool *)
    uint32_t np_channel_begin(np_channel *, const np_wait *, uint64_t *, uint64_t *)
    uint32_t np_channel_take(np_channel *, void *, uint64_t, uint64_t *, const np_wait *)
    uint32_t np_channel_end(np_channel *, c_bool, c_bool *)
    void np_channel_tell(np_channel *, c_bool)
    uint32_t np_channel_poll(np_channel *, const np_wait *)
    c_bool np_channel_arm(np_channel *, c_bool)
    void np_channel_disarm(np_channel *)
    void np_channel_going(np_channel *)
    uint32_t np_depart_socket(np_handle *, c_bool, int *)
