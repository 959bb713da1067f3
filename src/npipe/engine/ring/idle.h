/* Links whose rings have memory to give back, of all the process. The native thread looks at them once a second
 * (handle/idle.c); a link that is quiet is not among them, so it costs nothing. */
#ifndef NPIPE_RING_IDLE_H
#define NPIPE_RING_IDLE_H

#include <stdbool.h>
#include <stdint.h>

struct np_link;

#define NP_WARM UINT64_C(12288) /* bytes of a ring that are never given back */
#define NP_ANEW UINT64_C(8192)  /* a trickle begins anew behind so many */

/* How long nothing must have moved; and what trickles: whatever takes longer than this for each byte. Variables for the
 * C tests alone. */
extern int64_t np_idle_ns, np_trickle_ns;

/* More than NP_WARM of the link's ring is in use from now on. With tx_lock. */
void np_idle_stir(struct np_link *link);
/* It is not any more, or the link ends. */
void np_idle_forget(struct np_link *link);

/* Calls `found` for those links that have something to give back: `idle` says whether nothing has moved for np_idle_ns.
 * False: no more for now. Returns when to look again; 0: there is nothing. With the process lock held. */
int64_t np_idle_look(int64_t now, bool (*found)(void *context, struct np_link *link, bool idle), void *context);

/* Held over a fork, so that the child has the list in order. */
void np_idle_hold(void);
void np_idle_release(void);
void np_idle_after_fork(void);

#endif
