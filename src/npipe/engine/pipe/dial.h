/* CreateFile and WaitNamedPipe: the client's side of the rendezvous. */
#ifndef NPIPE_PIPE_DIAL_H
#define NPIPE_PIPE_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/identity.h"
#include "ring/segment_cache.h"
#include "pipe/directory.h"
#include "pipe/messages.h"

struct np_breakable;
struct np_handle;
struct np_wait;

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
uint32_t np_wait_named(const struct np_where *where, bool use_default, const struct np_wait *wait,
                       struct np_breakable *breakable, char *why);
bool np_leads_home(uid_t folder_uid, uid_t owner_uid);
/* a listing asks the next owner of a pipe too when one has been silent for so long */
#define NEXT_OWNER_NS INT64_C(50000000)
/* and when nobody else can be asked any more, it gives up the one that was asked first */
#define CROWD_PATIENCE_NS INT64_C(20000000)
#define MAX_OWNERS NPF_SLOTS

struct np_request {
    const struct np_where *where;
    const struct np_wait *wait;
    struct np_breakable *breakable; /* or NULL */
    bool verify_owner;
    uid_t folder_uid; /* whose folder the socket was found in */
    struct npw_request request;
    int64_t deadline;
    int64_t answer_due; /* of an owner who does not hold the request */
    char *why;
    /* The answer */
    struct npw_answer answer;
    bool told; /* NP_RETRY was the owner's word, or came after it had held the request: not just a hang-up */
    int socket, segment;
    /* np_forks when they were made: in the handler of a signal this may have become a child, where they are closed */
    uint32_t forks;
    struct np_credentials owner;
    bool keep;           /* the pipe was opened before: its segments are kept, and one that was is offered */
    struct np_kept kept; /* the offer, segment NULL: none */
};

bool np_is_interrupted(const struct np_wait *wait);

struct np_request np_request_new(const struct np_where *where, const struct np_wait *wait, enum npw_kind kind,
                                 char *why);

#endif
