/* A handle: one end of a connection, or an instance that listens. Its lifetime, its place among all of the process. */
#ifndef NPIPE_HANDLE_HANDLE_H
#define NPIPE_HANDLE_HANDLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdatomic.h>
#include <pthread.h>
#include <sys/types.h>

#include "ring/counts.h"

struct np_acceptor;
struct np_async;
struct np_link;
struct np_object;
struct np_pipe;

enum np_state {
    NP_LISTENING = 1,
    NP_CONNECTED, /* also when the client has closed: its link tells */
    NP_DISCONNECTED,
    NP_CLOSED,
};

struct np_handle {
    _Atomic uint32_t refs;   /* the owner's, and of calls that may outlive its interest */
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
    _Atomic uint32_t recalls; /* how often those who wait for its client were called back */
    /* 0, or the errno for which a client could not be let in, until one who accepts is told; */
    _Atomic int connect_failed;
    _Atomic int connect_reason;       /* and the last one that was */
    struct np_acceptor *acceptor;     /* is told that, or NULL */
    struct np_handle *next, *previous; /* all handles of the process */
    struct np_counts last;        /* of its last connection that has ended; guarded by both locks */
    struct np_summary *summary;   /* of a server's pipe, held; or NULL */
    /* Its place among all of the process, which the newest leads. */
    uint64_t number;
    /* Overlapped operations (overlapped/operation.h). */
    bool no_socket_sleeps;     /* the native thread reads what comes through the socket */
    bool travels;              /* its links keep what it takes to hand them to another process (travel/) */
    bool synchronous;          /* as its program opened it: nothing to the engine, but it travels too */
    uint32_t lent;             /* how often it is (travel/lend.h); guarded by the process lock, */
    uint32_t answering;        /* and how many who ask for it are being answered */
    struct np_object *port;    /* held, or NULL; it, its key and the next are guarded by the objects' lock */
    uint64_t port_key;
    struct np_async *asyncs;
    struct np_async *connects; /* guarded by the process lock */
    _Atomic uint32_t pending_writes;
    _Atomic bool to_arm;
    _Atomic uint32_t starts; /* operations that were pended, as far as it matters whether there were any */
    uint32_t starts_listed;  /* of these, when it was listed to be armed (overlapped/drive.c's lock guards it) */
    struct np_handle *next_to_arm;
    uint32_t starts_driven; /* this one and the next are the native thread's own */
    struct np_handle *next_woken;
};
/* What the connections of a pipe that have ended have moved: its instances hold it, and the pipe itself, which may be
 * gone before the last of them has ended. */
struct np_summary {
    _Atomic uint32_t refs;
    struct np_totals totals; /* guarded by the process lock */
};
struct np_summary *np_summary_new(void);
struct np_summary *np_summary_hold(struct np_summary *summary);
void np_summary_free(struct np_summary *summary);
/* The link is about to end: what it has moved is kept. With the process lock and both of the handle's. */
void np_handle_counted(struct np_handle *handle, struct np_link *link);
/* What the handle's connection, or its last one, has moved; counts->since is 0: it had none. */
void np_handle_count(struct np_handle *handle, struct np_counts *counts);

/* Frees a closed handle as soon as all who hold it have freed it. */
void np_free(struct np_handle *handle);
void np_hold(struct np_handle *handle);

/* Whether `link`, if it is still the handle's, is watched from now on. Without rx_lock and tx_lock. */
bool np_handle_watch(struct np_handle *handle, struct np_link *link);
void np_handle_watch_current(struct np_handle *handle);
/* The same, and the native thread is woken by what comes through the socket too. */
void np_handle_watch_events(struct np_handle *handle);

bool np_is_closed(struct np_handle *handle);
/* A link that has just begun is watched from a moment later on, if it still exists. With the process lock held. */
void np_fresh_add(struct np_handle *handle);
void np_fresh_remove(struct np_handle *handle);

struct np_handle *np_handle_new(void);
/* np_handle_watch for the handle's link, with the process lock held. */
bool np_handle_watch_locked(struct np_handle *handle);
void np_handle_register(struct np_handle *handle);

#endif
