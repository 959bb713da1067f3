/* The process's own state: its pipes, its handles, and the native thread, which answers for them without ever running
 * Python. The only global state of the engine. */
#ifndef NPIPE_PROCESS_PROCESS_H
#define NPIPE_PROCESS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdatomic.h>
#include <pthread.h>

struct np_handle;
struct np_owner;
struct np_pipe;
struct np_visitor;
struct np_sweep;

/* A client has found that its server is dead; the native thread removes what it left behind. */
void np_server_died(void);

enum np_watched {
    NP_WATCH_NOTHING,
    NP_WATCH_ALARM,
    NP_WATCH_PIPE,
    NP_WATCH_VISITOR,
    NP_WATCH_LINK,
    NP_WATCH_OWNER,
    NP_WATCH_LEND,
    NP_WATCH_OFFERS,
    NP_WATCH_OBJECT /* that follows a descriptor */
};

struct np_watch {
    uint32_t generation;
    enum np_watched kind;
    void *object;
    uint32_t next_free;
};

/* What connections that have ended have moved, and how often threads slept for it. */
struct np_totals {
    uint64_t connections, in_bytes, in_messages, out_bytes, out_messages, sleeps;
};

struct np_process {
    pthread_mutex_t create_lock; /* one creation or removal of instances at a time */
    pthread_mutex_t lock;        /* everything below */
    struct np_pipe *pipes;
    struct np_handle *handles;
    uint64_t last_number; /* of a handle */
    struct np_totals totals[2]; /* of clients' ends and of servers' */
    void *(*native_thread)(void *unused); /* what it runs: the service's, which stands above this layer */
    bool running;
    int epoll;
    int alarm; /* timerfd: wakes the native thread, */
    pthread_mutex_t alarm_lock; /* a leaf */
    int64_t alarm_due;          /* then; 0: it is not set */
    struct np_owner *owners; /* that somebody here waits for */
    struct np_sweep *sweeps;    /* folders of the dead and of those who have gone, for the native thread */
    struct np_handle *first_fresh, *last_fresh; /* whose links are not watched yet */
    struct np_watch *watches;
    uint32_t n_watches, free_watch;
    _Atomic uint32_t closed_seq; /* futex: moves when an instance of any pipe is closed */
    _Atomic uint32_t closed_waiters;
    struct np_visitor *first_silent, *last_silent; /* of all pipes */
    uint32_t n_silent;
    uint32_t n_held; /* requests, in all pipes; */
    uint32_t n_held_remote; /* of them for clients of other machines */
    _Atomic bool server_died;    /* an unwatched link's, and nobody has cleaned up yet */
    uint32_t pid;
};

extern struct np_process np_process;

/* Starts the native thread if it is not running. */
uint32_t np_process_start(void);

/* Watching a descriptor, with the process lock held. 0: no memory. */
uint64_t np_watch_add(int fd, uint32_t events, enum np_watched kind, void *object);
void np_watch_change(uint64_t watch, int fd, uint32_t events, enum np_watched kind, void *object);
void np_watch_remove(uint64_t watch, int fd);
/* Wakes the native thread at `due` (np_now's clock) or sooner. With any lock. */
void np_alarm(int64_t due);
/* Makes the native thread look at its timers again. */
void np_native_thread_wake(void);

/* NULL: it was removed after its event was fetched. With the process lock held. */
struct np_watch *np_watch_find(uint64_t name);

/* The native thread has been woken by the alarm, which is not set any more. */
void np_alarm_has_rung(void);

#endif
