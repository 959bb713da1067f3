/* The folder of a pipe below the root: who owns instances of it, and under which terms.
 *
 *   ROOT/FOLDER/pipe     the page: attributes, and a slot for each owning process (mode 0600)
 *   ROOT/FOLDER/lock     flock: creation and removal are atomic among owners
 *   ROOT/FOLDER/s<id>    the listening socket of one owner
 *
 * Whoever is dead refuses connections; the next one to come by takes away what it left. */
#ifndef NPIPE_PIPE_DIRECTORY_H
#define NPIPE_PIPE_DIRECTORY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <stdatomic.h>

struct np_wait;

#define NPF_MAGIC UINT32_C(0x4650504e) /* "NPPF" */
#define NPF_VERSION 1
#define NPF_SLOTS 128
#define NPF_NAME_SIZE 1024
#define NPF_SOCKET_SIZE 24

struct npf_slot {
    _Atomic uint64_t id; /* of the owner's socket; 0: free */
    uint32_t pid;
    _Atomic uint32_t instances;
    _Atomic uint32_t listening;
    _Atomic uint32_t waiters; /* requests that this owner holds */
    uint32_t reserved[2];
};

struct npf_page {
    uint32_t magic, version;
    uint32_t type, direction, max_instances, default_timeout_ms;
    uint32_t name_size;
    char name[NPF_NAME_SIZE];
    uint32_t id; /* of this pipe: another one of the same name, made after it has gone, has another */
    struct npf_slot slot[NPF_SLOTS];
};

_Static_assert(sizeof(struct npf_slot) == 32, "docs/protocol.md");

struct np_folder {
    int dirfd, lockfd;
    struct npf_page *page;
};

/* Opens the root folder and checks whose it is. NP_FILE_NOT_FOUND if it is missing and not to be made,
 * NP_ACCESS_DENIED with a reason in `why` if it cannot be trusted. */
uint32_t np_root_open(const char *root, bool create, int *fd, char *why);

/* Opens (making it if need be) and locks the folder; undone by np_folder_close. The page is mapped and may be
 * all zero. `shared`: other users may look for the socket. NP_WOULD_WAIT: somebody else has the lock. */
uint32_t np_folder_enter(const char *root, const char *name, bool shared, struct np_folder *folder, char *why);
/* False: somebody else has it. Nobody waits for it with anything in its hands: see np_lock_pause. */
bool np_folder_try_lock(const struct np_folder *folder);
void np_folder_unlock(const struct np_folder *folder);
/* Unlocks it too. */
void np_folder_close(struct np_folder *folder);
/* In a forked child: it is the parent's, whose lock it leaves alone. */
void np_folder_forget(struct np_folder *folder);

/* Waiting for the lock. Another process holds it, for microseconds; but it may be stopped in that moment, and then for
 * ever. flock() has no time-out, and no event tells that such a lock is free, but a thread that sleeps in flock()
 * itself, in the hands of the process that holds it. So it is tried, then again after pauses from 50 us to 10 ms: by a
 * thread that has no other lock, nor the interpreter, and that answers to signals and its deadline, and for
 * LOCK_PATIENCE_NS at most. */
struct np_lock_wait {
    int64_t since; /* 0: it has not waited yet */
    int64_t pause;
};
/* NP_OK: try again. NP_INTERRUPTED; NP_SEM_TIMEOUT: wait's deadline is over (NP_TRY: it always is);
 * NP_NO_SYSTEM_RESOURCES: the bound is. `wait` NULL: only the bound. */
uint32_t np_lock_pause(struct np_lock_wait *state, const struct np_wait *wait, char *why);
/* With the lock: forgets owners that are dead. */
void np_folder_bury(const struct np_folder *folder, uint64_t own_id);
/* With the lock: removes the folder if nobody is in it. Whether it has gone. */
bool np_folder_remove(const char *root, const char *name, const struct np_folder *folder);
/* With the lock or without: the slot is free, if it is still that owner's. */
void np_slot_leave(struct npf_slot *slot, uint64_t id);
#define NP_UNKNOWN_PID ((pid_t) - 1)

enum np_swept {
    NP_SWEPT,
    NP_SWEEP_LOCKED, /* somebody else has the lock */
    NP_SWEEP_DYING,  /* the dying one has not closed its socket yet */
};

/* For whoever found only dead owners: takes away what they left, if this user may. `dying`: a process that is just
 * dying (or NP_UNKNOWN_PID), which is given the time to be dead; 0: nobody. */
enum np_swept np_folder_sweep(const char *root, const char *name, pid_t dying);

/* Opens the folder of an existing pipe for looking only: NP_OK, NP_FILE_NOT_FOUND, NP_ACCESS_DENIED. */
uint32_t np_folder_look(const char *root, const char *name, int *dirfd, char *why);
/* The owners' socket names in `dirfd`; the number, at most `max`. */
uint32_t np_folder_sockets(int dirfd, char (*names)[NPF_SOCKET_SIZE], uint32_t max);
void np_socket_name(uint64_t id, char name[NPF_SOCKET_SIZE]);
/* Whether nobody listens at that socket any more. */
bool np_socket_is_dead(int dirfd, const char *name);
/* The same for one that is just dying: at its end a process closes one thing after the other. If it lives on: *owner
 * is who listens there, or NP_UNKNOWN_PID. */
bool np_socket_is_dying(int dirfd, const char *name, int64_t until, pid_t *owner);

/* Why a call fails: the reason, and perhaps, behind a line's end, what to do about it. */
void np_say(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define NP_WHY_SIZE 1024
struct np_where {
    const char *root;    /* NULL: the default root */
    const char *folder;  /* the encoded, folded name */
    const char *display; /* the name in UTF-8, as its creator wrote it */
};

#endif
