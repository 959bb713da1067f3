/* Waiting: a short adaptive spin, then a sleep on a futex, under a deadline and with interrupts. */
#ifndef NPIPE_WAIT_H
#define NPIPE_WAIT_H

#include <pthread.h>

#include "base/codes.h"
#include "base/platform.h"

/* How a caller waits. */
struct np_wait {
    int64_t deadline; /* np_now's clock; NP_FOREVER; NP_TRY returns NP_WOULD_WAIT instead of waiting */
    /* Asked before the first sleep and after every signal (see np_heed); not zero ends the wait with NP_INTERRUPTED. */
    int (*interrupted)(void *context);
    void *context;
    /* If not NULL: somebody sets it to this call's number, and then moves the word that this wait sleeps on, to end it
     * with NP_INTERRUPTED. Any other number was meant for another call, which is over. */
    const _Atomic uint32_t *cancel;
    uint32_t call;
    bool crowd; /* others of this process have work for all processors (np_turn_is_crowd): no spin */
};

/* A wait that polls a socket and that another thread may end. */
struct np_breakable {
    pthread_mutex_t lock; /* a leaf */
    uint32_t call; /* the number of the call that waits; 0: none does */
    int socket; /* that is polled just now, or -1 */
    _Atomic uint32_t *cancel; /* np_wait's */
};

/* The number of the call that waits by it already, and goes on when this one has ended; 0: none. */
uint32_t np_breakable_begin(struct np_breakable *breakable, uint32_t call);
void np_breakable_end(struct np_breakable *breakable, uint32_t outer);
/* Which socket is polled from now on; -1: none. */
void np_breakable_poll(struct np_breakable *breakable, int socket);
/* Sets the wait's `cancel` and ends its poll. False: nobody waits. */
bool np_break(struct np_breakable *breakable);

/* What one kind of waiting on one link has learnt about its peer. Guarded by nothing: a lost update only
 * makes the next guess a little worse. */
struct np_spin {
    _Atomic uint32_t failures; /* spins in a row that ended in a sleep */
    _Atomic uint32_t skip; /* waits that shall not spin */
};

typedef bool (*np_ready_fn)(const void *what);

/* Waking a sleeper costs some tens of microseconds where it was measured (docs/performance.md), so to spin for
 * about as long is never much worse than to sleep at once, and far better whenever the peer is running. The time
 * covers a peer that has to wake up first: else two that both sleep would never find out that they need not. */
#define NP_SPIN_NS 60000

/* Spins until ready(what), unless that has not been worth it lately. Whether it is ready. */
bool np_spin(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline);

/* The same for `longest` nanoseconds at most. */
bool np_spin_for(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline, int64_t longest);

/* The same, but looks only when `head_start` nanoseconds are over. A look takes the line away from the one who is at
 * work on it, so in a stream, where each message is waited for on its own, both sides would pay for the line's way
 * there and back with each; let it get ahead, and it pays once for many. */
bool np_spin_behind(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline, int64_t head_start,
                    int64_t longest);

/* Whether neighbours want the processors, so that nobody in this process spins. */
bool np_contended(void);
#define NP_CONTENDED_NS INT64_C(10000000) /* for how long one believes a peer who says so */

/* What short connections have learnt: a link of a few messages has no time to learn anything itself. Whether such a
 * spin pays depends on where the scheduler has put the two processes: on two processors it saves a wake, on one it
 * never succeeds. */
enum np_brief_spin { NP_BRIEF_ANSWER, NP_BRIEF_ACCEPT, NP_BRIEF_READ, NP_BRIEF_SPINS };
extern struct np_spin np_brief_spins[NP_BRIEF_SPINS];
#define NP_BRIEF_NS 20000

/* Sleeps on *word, of which `seen` was read before the caller found nothing ready. NP_OK means look again. */
uint32_t np_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t bits, const struct np_wait *wait);

static inline bool np_cancelled(const struct np_wait *wait)
{
    return wait->cancel && atomic_load_explicit(wait->cancel, memory_order_acquire) == wait->call;
}

/* Whether the handler of a signal that has come has raised. */
static inline bool np_is_interrupted(const struct np_wait *wait)
{
    return wait->interrupted && wait->interrupted(wait->context);
}

static inline bool np_expired(const struct np_wait *wait)
{
    return wait->deadline != NP_FOREVER && (wait->deadline == NP_TRY || np_now() >= wait->deadline);
}

/* A signal ends a sleep; of one that comes while the thread is awake nobody learns but who asks, and to ask may mean to
 * wait for the interpreter. So a call asks before its first sleep, and once more when a later one takes longer than
 * NP_UNHEARD_NS. */
enum np_heed {
    NP_HEED_ASK, /* before the next sleep */
    NP_HEED_ASKED, /* and has not slept since */
    NP_HEED_AWAKE, /* it was awake since: the next sleep is no longer than that at first */
};
#define NP_UNHEARD_NS INT64_C(20000000)

/* Asks if it is time to: NP_INTERRUPTED or NP_OK. */
static inline uint32_t np_heed_ask(enum np_heed *heed, const struct np_wait *wait)
{
    if (*heed != NP_HEED_ASK)
        return NP_OK;
    *heed = NP_HEED_ASKED;
    return np_is_interrupted(wait) ? NP_INTERRUPTED : NP_OK;
}

/* How long the next sleep may take, when it was asked. */
static inline struct np_wait np_heed_limit(enum np_heed heed, const struct np_wait *wait)
{
    struct np_wait limited = *wait;
    if (heed == NP_HEED_AWAKE && wait->interrupted) {
        int64_t until = np_now() + NP_UNHEARD_NS;
        if (until < wait->deadline)
            limited.deadline = until;
    }
    return limited;
}

/* Before a sleep, both: *limited is how long it may take, or NP_INTERRUPTED. */
static inline uint32_t np_heed_begin(enum np_heed *heed, const struct np_wait *wait, struct np_wait *limited)
{
    uint32_t code = np_heed_ask(heed, wait);
    *limited = np_heed_limit(*heed, wait);
    return code;
}

/* After it, which has given `code`. */
static inline uint32_t np_heed_end(enum np_heed *heed, uint32_t code, const struct np_wait *wait,
                                   const struct np_wait *limited)
{
    bool brief = code == NP_SEM_TIMEOUT && limited->deadline < wait->deadline;
    *heed = brief ? NP_HEED_ASK : NP_HEED_AWAKE;
    return brief ? NP_OK : code;
}

#endif
