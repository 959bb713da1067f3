/* Messages in place: reserved and written in the ring, received and looked at in the ring. For calls that wait and for
 * event loops.
 *
 * What is in place is a plain entry, and looked at through a mirror of the ring (ring/mirror.h). All else (longer than
 * the quota, still streaming, withdrawn and put back, on a system without mirrors) is the caller's to copy: it is told
 * by NP_MORE_DATA. While one is out, other writes, or reads, of this end stand behind it. */
#ifndef NPIPE_BLOCKING_VIEW_H
#define NPIPE_BLOCKING_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "blocking/read.h"
#include "ring/op.h"

struct np_handle;
struct np_link;
struct np_mirror;
struct np_wait;

/* ---- Writing */

struct np_reserve {
    struct np_op op;
    struct np_link *link;     /* held; NULL: nothing is reserved */
    struct np_mirror *mirror; /* once it has its place: held, until np_reserve_let_go */
    void *data;               /* then: `op.size` bytes */
};
/* NP_OK: there is room for `size` bytes at reserve->data. NP_WOULD_WAIT with NP_TRY alone. NP_MORE_DATA: not in place;
 * the pipe is well. Else why not, as for np_write. */
uint32_t np_reserve_place(struct np_handle *handle, struct np_reserve *reserve, uint32_t size,
                          const struct np_wait *wait);
/* The same in steps that never wait: after np_reserve_place with NP_TRY gave NP_WOULD_WAIT it stands in its turn, until
 * np_reserve_step gives something else than that. */
uint32_t np_reserve_begin(struct np_handle *handle, struct np_reserve *reserve, uint32_t size);
uint32_t np_reserve_step(struct np_handle *handle, struct np_reserve *reserve);
bool np_reserve_ready(const struct np_reserve *reserve);
/* Sends the first `size` bytes, or with `commit` false takes it back. `exported`: somebody may go on writing there.
 * NP_OK, or why nothing was sent, as for np_write. In a forked child nothing happens. */
uint32_t np_reserve_end(struct np_handle *handle, struct np_reserve *reserve, uint32_t size, bool commit,
                        bool exported);
/* Nobody looks at its bytes any more. */
void np_reserve_let_go(struct np_reserve *reserve);

/* ---- Reading */

struct np_view {
    struct np_recv recv;      /* recv.link: NULL when nothing is out */
    struct np_mirror *mirror; /* held, until np_view_let_go; NULL: not in place */
    const void *data;
    uint32_t size;
    bool rest;  /* of a message that was read in part */
    bool taken; /* the message is consumed; not in place */
};
/* The next message in place, if it is there, of at most `most` bytes: NP_OK. Else NP_WOULD_WAIT (also when the long way
 * has to find out) or NP_MORE_DATA (view->size is more), and nothing is held. */
uint32_t np_view_now(struct np_handle *handle, struct np_view *view, uint32_t most);
/* After np_recv_begin on view->recv has announced view->size bytes: whether they are in place, which has to be
 * `wanted`. If not they are to be copied by np_recv_more, */
bool np_view_in_place(struct np_handle *handle, struct np_view *view, bool wanted);
/* and consumed, without giving the turn back: NP_OK, NP_RETRY (it was withdrawn: np_view_end, and begin again), or why
 * not. */
uint32_t np_view_take(struct np_handle *handle, struct np_view *view);
/* Consumes it, or leaves it for the next read (what was taken is put back from `copy`), and gives the turn back.
 * `exported` as above. NP_OK or NP_INVALID_DATA. In a forked child nothing happens. */
uint32_t np_view_end(struct np_handle *handle, struct np_view *view, const void *copy, bool consume, bool exported);
void np_view_let_go(struct np_view *view);

#endif
