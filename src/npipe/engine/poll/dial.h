/* Dialling in an event loop, in steps that never wait. */
#ifndef NPIPE_POLL_DIAL_H
#define NPIPE_POLL_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/identity.h"
#include "ring/segment_cache.h"
#include "pipe/directory.h"
#include "pipe/messages.h"

struct np_handle;
struct np_open_options;

#define NP_DIAL_PATH 108 /* NP_REMEMBERED_SIZE */

struct np_dial {
    char *root, *folder;
    uint32_t access;
    bool verify_owner;
    struct npw_request request;
    uint32_t flags;
    int dirfd;
    char names[NPF_SLOTS][NPF_SOCKET_SIZE];
    uint32_t count, next, dead, busy, gone, told_by, vanished;
    bool holding; /* the second round, in which one of the owners holds the request */
    uint32_t silent;            /* owners that did not answer in time, */
    bool was_silent[NPF_SLOTS]; /* these, */
    bool was_busy[NPF_SLOTS];   /* and these are busy */
    int64_t deadline;           /* of all of it */
    int64_t answer_due;         /* of an owner who does not hold the request */
    int64_t until;              /* of what is waited for just now */
    bool use_default;           /* the deadline comes with the word that the request is held */
    bool looked;  /* whether an owner is remembered */
    bool remembered;         /* it is being asked, at this socket: */
    char path[NP_DIAL_PATH];
    uint32_t pipe_id;        /* which the pipe had */
    bool keep;               /* and segments are kept, and one that was is offered: */
    struct np_kept kept;     /* segment NULL: none */
    uid_t folder_uid;        /* whose folder the socket is in */
    int socket, segment;
    uint32_t forks;          /* np_forks when these were made */
    bool held, told; /* by the owner who is being asked */
    struct npw_answer answer;
    struct np_credentials owner;
};
/* `kind` NPW_OPEN or NPW_WAIT, the latter perhaps with the pipe's own time-out. NULL: no memory. */
struct np_dial *np_dial_new(const struct np_where *where, enum npw_kind kind, const struct np_open_options *options,
                            int64_t deadline, bool use_default);
void np_dial_free(struct np_dial *dial);
/* NP_IO_PENDING: again when dial->socket is readable, or at dial->until. NP_WOULD_WAIT: the owner's backlog is full,
 * again in a moment. NP_OK, or the end of it. */
uint32_t np_dial_step(struct np_dial *dial, char *why);
/* After NP_OK of an open. */
uint32_t np_dial_handle(struct np_dial *dial, struct np_handle **handle, char *why);

#endif
