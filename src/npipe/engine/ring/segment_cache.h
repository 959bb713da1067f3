/* Segments kept for the next connection of the same client and the same server.
 *
 * To make a segment, map it twice, touch its pages and take it all down again costs more than the rest of a short
 * connection. A client that opens the same pipe again and again therefore says so, both sides keep the mapping when
 * they let go of a link, and the client offers it by its token with its next open. A segment never goes to another
 * client (SECURITY.md): the server gives a token's segment only to the process and user that had it, and sets its
 * header anew before. */
#ifndef NPIPE_RING_SEGMENT_CACHE_H
#define NPIPE_RING_SEGMENT_CACHE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ring/segment.h"

struct np_kept {
    struct npl_segment *segment;
    uint64_t size, token;
    pid_t peer_pid;
    uid_t peer_uid;
    int64_t until;    /* then it is dropped */
    uint32_t refused; /* offers that the server did not take: it had not let go of it yet, or has dropped it */
    int fd; /* the segment's, where links may travel, or -1 */
};
/* Offers a segment to be kept; it is unmapped if it is not. */
void np_keep(enum npl_side side, const struct np_kept *kept);
/* A client's longest-kept segment of that server, for an offer. */
bool np_kept_offer(pid_t peer_pid, struct np_kept *kept);
/* The server's part of what a client offers. */
bool np_kept_take(uint64_t token, uint64_t size, pid_t peer_pid, uid_t peer_uid, struct np_kept *kept);
/* The server did not want it: perhaps next time. */
void np_kept_refused(struct np_kept *kept);
void np_kept_drop(const struct np_kept *kept);
/* The server's ones are of no use any more; in a forked child none is. */
void np_kept_forget(enum npl_side side);
void np_kept_after_fork(void);
/* Over a fork. */
void np_kept_hold(void);
void np_kept_release(void);
/* Drops those whose time is over. When to come again, 0: none is left. */
int64_t np_kept_expire(int64_t now);

#endif
