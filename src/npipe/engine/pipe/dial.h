/* The client's side of the rendezvous, in steps that never wait: finding the owners of a name, asking them one after
 * the other, and making a handle of what one of them grants. pipe/open.h is the blocking form; an event loop takes the
 * steps itself. */
#ifndef NPIPE_PIPE_DIAL_H
#define NPIPE_PIPE_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fds.h"
#include "base/identity.h"
#include "ring/segment_cache.h"
#include "pipe/directory.h"
#include "pipe/messages.h"
#include "pipe/remembered.h"

struct np_handle;

struct np_open_options {
    uint32_t access; /* NP_READ | NP_WRITE | attributes */
    bool hold; /* wait for an instance */
    bool verify_owner; /* only pipes of the current user or of root */
    bool overlapped;
    const void *remote; /* struct npw_remote and what is behind it, the caller's until np_dial_end; or NULL */
    uint32_t remote_size;
};

struct np_dial {
    struct np_where where; /* the caller's, until np_dial_end */
    struct np_open_options options;
    struct npw_request request;
    uint32_t flags;
    int dirfd;
    uint32_t count, next, dead, busy, gone, told_by, vanished;
    bool holding; /* the second round, in which one of the owners holds the request */
    uint32_t silent; /* owners that did not answer in time */
    int64_t deadline; /* of all of it */
    int64_t answer_due; /* of an owner that does not hold the request */
    int64_t until; /* of what is waited for just now */
    int64_t held_since; /* since when it is known that it has to wait, for an owner holds the request; 0: not at all */
    bool use_default; /* the deadline comes with the word that the request is held */
    bool started; /* what the process needs for it is there */
    bool looked; /* whether an owner is remembered */
    bool remembered; /* it is being asked, at this socket: */
    char path[NP_REMEMBERED_SIZE];
    uint32_t pipe_id; /* which the pipe had */
    bool keep; /* the pipe was opened before: its segments are kept, and one that was is offered: */
    struct np_kept kept; /* segment NULL: none */
    uid_t folder_uid; /* whose folder the socket is in */
    int socket, segment;
    /* np_forks when these were made: in the handler of a signal this may have become a child, where they are closed */
    uint32_t forks;
    bool held; /* by the owner who is being asked */
    bool told; /* NP_RETRY was that owner's word, or came after it had held the request: not just a hang-up */
    struct npw_answer answer;
    struct np_credentials owner;
    /* The owners of this turn, `count`: their sockets, who did not answer in time, who is busy. */
    char names[NPF_SLOTS][NPF_SOCKET_SIZE];
    bool was_silent[NPF_SLOTS];
    bool was_busy[NPF_SLOTS];
};

/* `kind`: NPW_OPEN, or NPW_WAIT, which may have the pipe's own time-out (`use_default`). */
void np_dial_begin(struct np_dial *dial, const struct np_where *where, enum npw_kind kind,
                   const struct np_open_options *options, int64_t deadline, bool use_default);
/* Hangs up: a request that is held is withdrawn. */
void np_dial_end(struct np_dial *dial);
/* Goes on as far as it can without waiting; for room in an owner's backlog, which no event tells of, it may wait until
 * `patience`.
 *   NP_IO_PENDING  again when dial->socket is readable, or at dial->until
 *   NP_WOULD_WAIT  the owner's backlog is full, or a signal has come: again in a moment
 *   NP_RETRY       another turn: again, at once
 *   NP_OK          an instance was granted, or (NPW_WAIT) listens
 *   other          the end of it, and `why` */
uint32_t np_dial_step(struct np_dial *dial, int64_t patience, char *why);
/* After NP_OK of an open. */
uint32_t np_dial_handle(struct np_dial *dial, struct np_handle **handle, char *why);

/* Whether this is a child of the process that has begun it, since its last step. */
static inline bool np_dial_has_forked(const struct np_dial *dial)
{
    return dial->forks != np_forks;
}

/* Whether an owner's socket in a folder of `folder_uid` may be taken for that folder's. */
bool np_leads_home(uid_t folder_uid, uid_t owner_uid);

#endif
