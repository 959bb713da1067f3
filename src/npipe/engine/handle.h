/* A handle: a server's instance or a client's end, with its modes. The public interface of the engine.
 *
 * Locks, in the order in which they may be taken: create lock, process lock (registry.h), rx_lock, tx_lock.
 * None is held while a thread waits. */
#ifndef NPIPE_HANDLE_H
#define NPIPE_HANDLE_H

#include "op.h"

struct np_pipe;  /* registry.h */
struct np_async;  /* async.h */
struct np_object; /* objects.h */
struct np_acceptor; /* poll.h */

enum np_state {
    NP_LISTENING = 1,
    NP_CONNECTED, /* also when the client has closed: its link tells */
    NP_DISCONNECTED,
    NP_CLOSED,
};

struct np_handle {
    _Atomic uint32_t refs;   /* the owner's, and of calls that may outlive his interest */
    pthread_mutex_t rx_lock; /* link->rx, and together with tx_lock: link, state */
    pthread_mutex_t tx_lock; /* link->tx */
    struct np_link *link;    /* NULL unless connected */
    _Atomic uint32_t state;  /* np_state */
    _Atomic uint32_t mode;   /* NP_MODE_* bits */
    uint32_t access;         /* NP_READ, ... */
    bool server;
    uint32_t type, direction, max_instances;
    uint32_t quota[2]; /* inbound, outbound */
    uint32_t server_pid, client_pid;
    uid_t peer_uid;
    uint32_t pipe_id;    /* a client's */
    char *root, *folder; /* where the pipe is, for a client's questions about it */
    /* While the link is too fresh to be watched; guarded by the process lock. */
    int64_t fresh_until;
    struct np_handle *next_fresh, *previous_fresh;
    /* A server's instance; guarded by the process lock. */
    struct np_pipe *pipe;
    struct np_handle *next_listening; /* of the same pipe, the longest-listening first */
    _Atomic uint32_t connect_seq;     /* futex: moves when the instance leaves the listening state */
    _Atomic uint32_t connect_sleepers;
    _Atomic int connect_failed;       /* 0, or the errno for which a client could not be let in, until one who accepts is told; */
    _Atomic int connect_reason;       /* and the last one that was */
    struct np_acceptor *acceptor;     /* is told that, or NULL */
    struct np_handle *next, *previous; /* all handles of the process */
    /* Overlapped operations (async.h). */
    bool no_socket_sleeps;     /* the native thread reads what comes through the socket */
    struct np_object *port;    /* held, or NULL; it, its key and the next are guarded by the objects' lock */
    uint64_t port_key;
    struct np_async *asyncs;
    struct np_async *connects; /* guarded by the process lock */
    _Atomic uint32_t pending_writes;
    _Atomic bool to_arm;
    _Atomic uint32_t starts; /* operations that were pended, as far as it matters whether there were any */
    uint32_t starts_listed;  /* of these, when it was listed to be armed (async_drive.c's lock guards it) */
    struct np_handle *next_to_arm;
    uint32_t starts_tended; /* this one and the next are the native thread's own */
    struct np_handle *next_tended;
};

/* ---- Names are given as (root, folder, display): see folder.h. Text for people goes to `why` (may be NULL). */

#define NP_WHY_SIZE 256
struct np_where {
    const char *root;    /* NULL: the default root */
    const char *folder;  /* the encoded, folded name */
    const char *display; /* the name in UTF-8, as its creator wrote it */
};

struct np_access_rule {
    bool everyone;
    uint32_t n_uids, n_gids;
    uid_t *uids;
    gid_t *gids;
    uint32_t allowed; /* NP_READ | NP_WRITE: what clients may ask for */
};

struct np_create_options {
    uint32_t access;        /* 1 inbound, 2 outbound, 3 duplex */
    bool first_instance;
    uint32_t type;          /* NP_TYPE_MESSAGE or 0 */
    uint32_t mode;          /* NP_MODE_* */
    uint32_t max_instances; /* 1..255 */
    uint32_t out_quota, in_quota;
    uint32_t default_timeout_ms;
    struct np_access_rule rule;
    bool overlapped; /* the handle may have overlapped operations */
    /* While another process has the lock of the pipe's folder: until when, and by what it is interrupted. NULL: the bound of
     * np_lock_pause alone, which holds in any case. */
    const struct np_wait *wait;
};

/* CreateNamedPipe (SEMANTICS 2). NP_SEM_TIMEOUT, NP_NO_SYSTEM_RESOURCES (and why), NP_INTERRUPTED: another process has the lock of the
 * pipe's folder, see np_lock_pause. */
uint32_t np_create(const struct np_where *where, const struct np_create_options *options, struct np_handle **handle, char *why);
/* Another instance like `handle`, which is open: the next one to listen. `wait` as in np_create_options. */
uint32_t np_create_another(struct np_handle *handle, const struct np_wait *wait, struct np_handle **fresh);
/* Why np_connect has just returned NP_NO_SYSTEM_RESOURCES: an errno. */
int np_connect_reason(const struct np_handle *handle);
/* ConnectNamedPipe (SEMANTICS 3.2): NP_OK, 535, 536 (NOWAIT), 232, 1, ... */
uint32_t np_connect(struct np_handle *handle, const struct np_wait *wait);
uint32_t np_disconnect(struct np_handle *handle);
/* Closes a server's handle and puts a new, listening instance in its place in one step, so that a name at its
 * limit of instances never goes away in between. */
uint32_t np_replace(struct np_handle *handle, bool discard, struct np_handle **fresh);
/* For a server at the limit: waits until the number of closed instances is not `seen` any more, or another process that owns
 * instances of the name has died. */
uint32_t np_closed_seq(void);
uint32_t np_wait_closed(const struct np_where *where, uint32_t seen, const struct np_wait *wait);
void np_wake_closed(void);

/* CreateFile on a pipe (SEMANTICS 2.5), and with `hold` also the wait for an instance, as one step. */
struct np_open_options {
    uint32_t access; /* NP_READ | NP_WRITE | attributes */
    bool hold;
    bool verify_owner; /* only pipes of the current user or of root */
    bool overlapped;
};
uint32_t np_open(const struct np_where *where, const struct np_open_options *options, const struct np_wait *wait,
                 struct np_handle **handle, char *why);
/* WaitNamedPipe (SEMANTICS 4). With `use_default` the pipe's own time-out replaces wait->deadline. */
/* `breakable`: what another thread may end it by (NP_INTERRUPTED), or NULL. */
uint32_t np_wait_named(const struct np_where *where, bool use_default, const struct np_wait *wait, struct np_breakable *breakable,
                       char *why);

/* Ends everything on the handle. With `discard` the peer loses what it has not read yet. If it was the pipe's last instance here, the
 * pipe has gone for everybody when this returns; its folder too, unless another process has that locked for 100 ms and more: then the
 * native thread removes it when that is over. */
void np_close(struct np_handle *handle, bool discard);
/* The same without these 100 ms, for whoever must not wait. */
void np_let_go(struct np_handle *handle);
/* Frees a closed handle as soon as all who hold it have freed it. */
void np_free(struct np_handle *handle);
void np_hold(struct np_handle *handle);

/* ---- Watching for the peer's death. A connection for a few messages is over before it would pay to have the native
 * thread watch its socket, which takes two system calls and a wake of that thread at the end. So for its first moment a link is
 * looked at by those who use it, and it is watched from its first long sleep on, or from the end of that moment. */

/* Whether `link`, if it is still the handle's, is watched from now on. Without rx_lock and tx_lock. */
bool np_handle_watch(struct np_handle *handle, struct np_link *link);
void np_handle_watch_current(struct np_handle *handle);
/* The same, and the native thread is woken by what comes through the socket too. */
void np_handle_watch_events(struct np_handle *handle);

/* ---- Data (read.c, write.c). `wait` with NP_TRY: NP_WOULD_WAIT instead of waiting. */

/* ReadFile: NP_OK or NP_MORE_DATA with *count, or why not. */
uint32_t np_read(struct np_handle *handle, void *buffer, uint32_t size, uint32_t *count, const struct np_wait *wait);
/* To be called before the first of the reads whose bytes np_put_back may bring back: threads that wait to read from then on can be
 * woken by it. */
void np_will_put_back(struct np_handle *handle);
/* Bytes that byte-mode reads have returned and that could not be delivered further: the next reads return them again. (A thread that
 * reads a link whose socket could not be watched, for want of memory, is woken by the peer alone.) */
uint32_t np_put_back(struct np_handle *handle, const void *data, uint32_t size);
/* WriteFile. NP_BROKEN_PIPE with *count == size > 0: another thread has closed this end meanwhile, but all of it stays readable. */
uint32_t np_write(struct np_handle *handle, const void *data, uint32_t size, uint32_t *count, const struct np_wait *wait);
/* PeekNamedPipe (SEMANTICS 7). */
uint32_t np_peek(struct np_handle *handle, void *buffer, uint32_t size, uint32_t *count, uint32_t *available, uint32_t *left);
/* The write half of TransactNamedPipe after its checks (SEMANTICS 8.1); the read half is a message-mode np_read. */
uint32_t np_transact(struct np_handle *handle, const void *data, uint32_t size, const struct np_wait *wait,
                     uint32_t (*read_reply)(void *context, const struct np_wait *wait), void *context);
/* FlushFileBuffers (SEMANTICS 10.1). */
uint32_t np_flush(struct np_handle *handle, const struct np_wait *wait);

/* Waits until all pending writes of this end stand in the ring, where they stay readable after a close. */
uint32_t np_drain(struct np_handle *handle, const struct np_wait *wait);
/* Spins for something to read, as long as that has been worth it lately. Whether a try may succeed now; `idle`: the pipe was
 * well and empty before, so what comes now belongs to the caller's read. */
bool np_spin_read(struct np_handle *handle, int64_t deadline, bool *idle);

/* A whole message at a time. np_recv_try: NP_OK and *size, and then exactly one of take and leave; the lock is
 * held in between. Otherwise the code, and nothing is held. */
uint32_t np_recv_try(struct np_handle *handle, uint32_t limit, uint32_t *size);
void np_recv_take(struct np_handle *handle, void *buffer, uint32_t size);
void np_recv_leave(struct np_handle *handle);
/* The same when it takes time: waits for a message, then keeps other readers out until np_recv_end. */
struct np_recv {
    struct np_op op;
    struct np_link *link;
    bool theirs; /* also set by a caller who has spun: what comes now came while it was pending: a DisconnectNamedPipe behind it takes nothing back */
    bool reply; /* set by the caller: it waits also on a NOWAIT handle (SEMANTICS 8.2) */
    uint64_t entry;
};
uint32_t np_recv_begin(struct np_handle *handle, struct np_recv *recv, uint32_t *size, const struct np_wait *wait);
/* Copies bytes [op.count, upto) of it into buffer + op.count. NP_RETRY: the message was withdrawn, begin again. */
uint32_t np_recv_more(struct np_handle *handle, struct np_recv *recv, void *buffer, uint32_t upto, const struct np_wait *wait);
/* Consumes the message (`keep` false) or puts it back. */
uint32_t np_recv_end(struct np_handle *handle, struct np_recv *recv, void *buffer, bool consume);

/* ---- State and information (handle.c). */

bool np_is_closed(struct np_handle *handle);
/* Moves whatever threads of this process sleep on in calls on the handle, so that those that are cancelled go. */
void np_handle_cancel_blocked(struct np_handle *handle);
/* ImpersonateNamedPipeClient (SEMANTICS 11): the calling thread acts as the client. */
uint32_t np_impersonate(struct np_handle *handle);
/* Whether it is a client's whose server has disconnected it. */
bool np_is_disconnected(struct np_handle *handle);
/* Whether anything was ever read from the current connection. */
bool np_has_read(struct np_handle *handle);
uint32_t np_set_state(struct np_handle *handle, uint32_t mode);
uint32_t np_get_state(struct np_handle *handle, uint32_t *mode, uint32_t *instances);
struct np_info {
    uint32_t flags, out_quota, in_quota, max_instances;
};
uint32_t np_get_info(struct np_handle *handle, struct np_info *info);
/* What the handle itself knows, without the access checks that Win32 makes. */
struct np_description {
    bool server;
    uint32_t type, direction, mode, in_quota, out_quota, max_instances;
};
void np_describe(const struct np_handle *handle, struct np_description *description);
/* The current instances of a handle's name, also without a check; 0 when its servers are gone. */
uint32_t np_count_instances(struct np_handle *handle, uint32_t *instances);
uint32_t np_client_pid(struct np_handle *handle, uint32_t *pid);
uint32_t np_server_pid(struct np_handle *handle, uint32_t *pid);
/* Who is at the other end; NP_PIPE_NOT_CONNECTED, NP_PIPE_LISTENING if nobody is. */
uint32_t np_peer(struct np_handle *handle, pid_t *pid, uid_t *uid);
/* Bytes of the head message that have not been read, after part of it was. 0: at a message boundary. */
uint32_t np_rest_of_message(struct np_handle *handle);

/* A descriptor of the caller's that is readable when a read would not wait. It is armed anew by
 * np_rearm after each read. */
uint32_t np_poll_socket(struct np_handle *handle, int *socket);
/* Says that the peer shall send a byte when something comes. NP_OK: armed, nothing is there. NP_MORE_DATA: a read
 * would not wait now. */
uint32_t np_arm_read(struct np_handle *handle);

#endif
