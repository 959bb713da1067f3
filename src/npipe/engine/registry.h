/* The process's own registry: its pipes, its handles, and the native thread that answers for them without
 * ever running Python. The only global state of the engine. */
#ifndef NPIPE_REGISTRY_H
#define NPIPE_REGISTRY_H

#include "folder.h"
#include "handle.h"
#include "wire.h"

/* Somebody connected to a pipe's socket who has no link yet. */
struct np_visitor {
    struct np_visitor *next, *previous; /* in its pipe's list */
    struct np_pipe *pipe;
    int socket;
    uint64_t watch;
    int64_t deadline;  /* by which its request has to be here; NP_FOREVER once it is */
    uint32_t kind;     /* npw_kind; 0 until its request is here */
    uint32_t access;
    uint64_t offer;    /* token of the segment that it has kept, or 0 */
    bool keep, reused;
    bool silent; /* has not said what it wants: in np_process's list, */
    struct np_visitor *next_silent, *previous_silent; /* the longest-silent first */
    int reason; /* why there is no memory for its link: an errno, or 0 */
    struct np_credentials who;
};

/* A pipe of which this process owns instances. Guarded by the process lock. */
struct np_pipe {
    struct np_pipe *next;
    char *root, *folder;
    struct np_folder files;
    uint32_t forks;        /* np_forks when it was made: in a child all of it is the parent's */
    struct npf_slot *slot; /* our own in files.page */
    uint64_t id;
    int socket;
    uint64_t watch;
    int64_t paused_until; /* no descriptors were left for accept: 0, or when to try again */
    struct np_handle *led; /* whose np_connect answers at the socket itself, instead of the native thread, or NULL */
    uint32_t led_seq;      /* his connect_seq when he began */
    bool leader_awake;     /* he is at it just now */
    int64_t leased_until;  /* he has his client and will be back in a moment: till then nobody looks at the socket; 0: no */
    bool bell_rings;
    int bell;             /* eventfd that calls it back */
    uint32_t refs;        /* the list's, and that thread's */
    uint32_t type, direction, max_instances, default_timeout_ms;
    struct np_access_rule rule;
    uid_t owner; /* as whom the thread acted that made it */
    uint32_t instances;
    struct np_handle *first_listening, *last_listening;
    struct np_visitor *first_visitor, *last_visitor;
};

enum np_watched { NP_WATCH_NOTHING, NP_WATCH_ALARM, NP_WATCH_PIPE, NP_WATCH_VISITOR, NP_WATCH_LINK, NP_WATCH_OWNER };

/* Another owner of a name whose limit of instances is reached: his end makes room. */
struct np_owner {
    struct np_owner *next;
    int socket;
    uint64_t watch;
};

struct np_watch {
    uint32_t generation;
    enum np_watched kind;
    void *object;
    uint32_t next_free;
};

struct np_process {
    pthread_mutex_t create_lock; /* one creation or removal of instances at a time */
    pthread_mutex_t lock;        /* everything below */
    struct np_pipe *pipes;
    struct np_handle *handles;
    bool running;
    int epoll;
    int alarm; /* timerfd: wakes the native thread, */
    pthread_mutex_t alarm_lock; /* a leaf */
    int64_t alarm_due;          /* then; 0: it is not set */
    struct np_owner *owners; /* that somebody here waits for */
    struct sweep *sweeps;    /* folders of the dead and of those who have gone, for the native thread */
    struct np_handle *first_fresh, *last_fresh; /* whose links are not watched yet */
    struct np_watch *watches;
    uint32_t n_watches, free_watch;
    _Atomic uint32_t closed_seq; /* futex: moves when an instance of any pipe is closed */
    _Atomic uint32_t closed_waiters;
    struct np_visitor *first_silent, *last_silent; /* of all pipes */
    uint32_t n_silent;
    uint32_t n_held; /* requests, in all pipes */
    _Atomic bool server_died;    /* an unwatched link's, and nobody has cleaned up yet */
    uint32_t pid;
};

extern struct np_process np_process;

/* What np_wait_closed waits for has happened. */
void np_tell_closed(void);

/* Starts the native thread if it is not running. */
uint32_t np_process_start(void);

/* Watching a descriptor, with the process lock held. 0: no memory. */
uint64_t np_watch_add(int fd, uint32_t events, enum np_watched kind, void *object);
void np_watch_change(uint64_t watch, int fd, uint32_t events, enum np_watched kind, void *object);
void np_watch_remove(uint64_t watch, int fd);
/* Wakes the native thread at `due` (np_now's clock) or sooner. With any lock. */
void np_alarm(int64_t due);
/* A link that has just begun is watched from a moment later on, if it still exists. With the process lock held. */
void np_fresh_add(struct np_handle *handle);
void np_fresh_remove(struct np_handle *handle);
/* Makes the native thread look at its timers again. */
void np_ring_doorbell(void);
/* Has it take away what is left of a pipe whose folder somebody else has locked, as soon as that is over. Without the process lock. */
void np_sweep_later(const char *root, const char *folder);

/* rendezvous.c: with the process lock held. */
void np_pipe_accept(struct np_pipe *pipe);
void np_visitor_ready(struct np_visitor *visitor, bool fresh);
void np_visitor_drop(struct np_visitor *visitor);
/* An instance has begun to listen: waiters and held requests get what they wait for. */
void np_pipe_serve(struct np_pipe *pipe);
/* Tells the other owners of the name, if any holds requests (`listening`) or waits for room to create. */
void np_pipe_nudge(struct np_pipe *pipe, bool listening);
/* The last instance here has gone: nobody waits any longer. */
void np_pipe_turn_away(struct np_pipe *pipe);
uint32_t np_pipe_instances(const struct np_pipe *pipe);
/* The same without those of processes that have died since. */
uint32_t np_pipe_living_instances(const struct np_pipe *pipe);

/* server.c */
/* This process has no instance of the pipe any more: nobody finds its socket, who has found it is told, and its place in the page is
 * free. Needs neither the folder's lock nor ours. */
void np_pipe_vacate(struct np_pipe *pipe);
/* A client could not be let in for want of memory: whoever accepts is told 1450 with the reason, and the instance goes on listening. */
void np_accept_failed(struct np_pipe *pipe, struct np_handle *handle, int reason);
/* The instance has left the listening state: whoever waits for that is woken. */
void np_left_listening(struct np_pipe *pipe, struct np_handle *handle);
void np_listening_append(struct np_pipe *pipe, struct np_handle *handle);
void np_listening_put_back(struct np_pipe *pipe, struct np_handle *handle); /* as the longest-listening */
void np_listening_remove(struct np_pipe *pipe, struct np_handle *handle);

/* poll_accept.c: the signals of event loops' listeners. */
void np_acceptor_told(struct np_handle *handle); /* with the process lock held: it has left the listening state */
void np_acceptor_unlink(struct np_handle *handle); /* it will not tell anything any more */
void np_acceptors_tell_closed(void);
void np_acceptors_after_fork(void);

/* dial.c: a client's view. */
/* Somebody waits for np_tell_closed, from begin to end. */
void np_await_closed_begin(void);
void np_await_closed_end(void);
/* Has all other owners of the name watched while somebody does. False: one of them is dead already, so there may be room now. */
bool np_watch_owners(const struct np_where *where);
/* With the process lock: what the native thread does when an owner that somebody waits for has gone. */
void np_owner_gone(struct np_owner *owner);
/* For how long a call that asked for no wait relies on another process's goodwill, all owners together, and what a WAIT gives the
 * question whether an instance listens at least: its time-out is for the instance (docs/semantics.md, 2.5 and 4). */
#define NP_GOODWILL_NS INT64_C(1000000000)
#define NP_LEAST_ANSWER_NS INT64_C(50000000)
/* By when an owner has to have answered, while it does not hold the request: of a call that began at `began`. */
int64_t np_answer_due(bool waits, bool wait_named, bool use_default, int64_t began, int64_t deadline);
/* What is left of that for the owner who is asked now, with so many `others` behind him. */
int64_t np_share_of_time(int64_t due, uint32_t others);
/* Time is up: 231 where no wait was asked for, with the reason if no owner has answered. Other codes are as they were. */
uint32_t np_without_answer(uint32_t code, bool told, bool waits, char *why);
/* Why an owner has answered 1450. */
void np_say_reason(const struct npw_answer *answer, char *why);
/* Whether 997 may be the answer to a request: only to one that is to be held, and once. */
static inline bool np_may_be_held(const struct npw_request *request)
{
    return request->kind == NPW_WAIT || request->flags & NPW_HOLD;
}
/* What np_receive_message has brought: the answer's code, NP_WOULD_WAIT (nothing yet), NP_RETRY (the owner has hung up), or an error. */
uint32_t np_answer_code(ssize_t got, const struct npw_answer *answer, char *why);
/* The socket of the last pipe that was opened and had one owner, with the pipe's id and whose its folder is now. */
#define NP_REMEMBERED_SIZE 108 /* a socket address's */
struct np_remembered {
    char path[NP_REMEMBERED_SIZE];
    uint32_t pipe_id;
    uid_t folder_uid;
};
bool np_remembered(const struct np_where *where, struct np_remembered *found);
void np_remember(const struct np_where *where, const char *socket, uint32_t pipe_id);
void np_remember_nothing(void);
void np_dial_forget(void); /* in a forked child */
/* Over a fork. */
void np_dial_hold(void);
void np_dial_release(void);
bool np_leads_home(uid_t folder_uid, uid_t owner_uid);
uint32_t np_query_instances(const char *root, const char *folder, uint32_t id, uint32_t *instances);
struct np_listing {
    struct npw_answer answer;
    uid_t uid;
    const char *folder;           /* in which it was found, */
    char name[NPW_NAME_SIZE + 1]; /* and what its owner says of its name: who lies may say anything, in any encoding */
};
typedef int (*np_list_fn)(void *context, const struct np_listing *pipe);
/* All pipes below the root that the caller may use, one after the other. The owners are asked side by side, for a second at most; of a
 * pipe whose owners are silent it is told what its page says, where that may be read. */
uint32_t np_list(const char *root, np_list_fn each, void *context, const struct np_wait *wait, char *why);

/* handle.c */
struct np_handle *np_handle_new(void);
/* np_handle_watch for the handle's link, with the process lock held. */
bool np_handle_watch_locked(struct np_handle *handle);
void np_handle_register(struct np_handle *handle);
/* Before its link is taken away, with the process lock: a client that knows that its server is dead may leave before the native
 * thread has come to clean up behind the dead. */
void np_handle_leaves(const struct np_handle *handle);
/* Takes the link of a handle away and ends it with `state`; `alert` says why to those who wait. */
void np_handle_unlink(struct np_handle *handle, uint32_t alert, enum npl_end_state end, enum np_state state);

#endif
