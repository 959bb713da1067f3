#include "base/wait.h"

#include <pthread.h>

#include "base/codes.h"
#include "base/platform.h"
#include "base/socket.h"

/* After failures in a row 1, 3, 7, ... up to this many waits sleep at once, so a spin that is of no use costs less
 * than a microsecond a wait on average. */
#define MOST_SKIPPED_BITS 6
#define CHECKS_PER_CLOCK 24
/* The first looks of a spin, for some hundreds of nanoseconds, come without a pause, which takes longer on some
 * processors than a cache line on its way, and without the clock. */
#define QUICK_CHECKS 100

/* ---- Neighbours. A spin that succeeds costs the whole of this thread's share of its processor, so while others want
 * it too, nobody in this process spins: then the thread sleeps as it would on a socket, and they lose no more than to
 * that. The kernel tells of them by taking the processor away (an involuntary switch). After the first time it is left
 * alone for a moment, after each further one for four times as long; one that comes alone, some daemon's, costs next to
 * nothing. */
#define FIRST_OFF_NS INT64_C(10000000)
#define LONGEST_OFF_NS INT64_C(640000000)
#define CALM_NS INT64_C(100000000) /* spinning undisturbed for so long: they are gone (one is noticed in 8 to 20 ms) */
#define IDLE_NS INT64_C(100000000) /* nobody having waited for so long: one may have missed that they came back */
#define REMEMBERED_NS INT64_C(40000000) /* for so long they are believed in then */
#define SPINS_PER_LOOK 256 /* asking costs as much as a round trip */
#define LEAST_LOST_NS 400000

/* All of it relaxed: guesses of several threads, of which a lost one costs a few spins or sleeps, and which publish
 * nothing else. */
static struct {
    _Atomic int64_t until, span;
    _Atomic int64_t resumed; /* the first time after that when somebody asked */
    _Atomic bool on; /* until then, if nobody has found out yet that it is over */
    _Atomic bool remembered; /* once more, after that */
} contended;

static void be_contended(int64_t now)
{
    int64_t until = atomic_load_explicit(&contended.until, memory_order_relaxed);
    int64_t span = atomic_load_explicit(&contended.span, memory_order_relaxed);
    if (now < until)
        return;
    int64_t calm = now - atomic_load_explicit(&contended.resumed, memory_order_relaxed);
    span = calm > CALM_NS ? FIRST_OFF_NS : span * 4 < LONGEST_OFF_NS ? span * 4 : LONGEST_OFF_NS;
    atomic_store_explicit(&contended.span, span, memory_order_relaxed);
    atomic_store_explicit(&contended.until, now + span, memory_order_relaxed);
    atomic_store_explicit(&contended.remembered, false, memory_order_relaxed);
    atomic_store_explicit(&contended.on, true, memory_order_relaxed);
}

/* What this thread knew when it last asked. */
static _Thread_local struct {
    uint32_t spins_left;
    bool known;
    int64_t at, slept;
    struct np_usage usage;
} last_look;

/* Whether others had the processor for a while since this thread last asked. A daemon, or this process's own native
 * thread, takes it for microseconds: that is not meant. */
static bool was_preempted(void)
{
    int64_t now = np_now();
    struct np_usage usage = np_thread_usage();
    int64_t lost = now - last_look.at - (usage.cpu - last_look.usage.cpu) - (np_slept - last_look.slept);
    bool preempted = last_look.known && usage.involuntary != last_look.usage.involuntary && lost > LEAST_LOST_NS;
    last_look.known = true;
    last_look.spins_left = SPINS_PER_LOOK;
    last_look.at = now;
    last_look.slept = np_slept;
    last_look.usage = usage;
    return preempted;
}

/* Whether neighbours are still assumed after they were last seen (until contended.until).
 *   - Until then they are.
 *   - A wait that comes within IDLE_NS after it ends the assumption.
 *   - A later one prolongs it by REMEMBERED_NS, once: nothing was learnt meanwhile. In that time waits sleep; a thread
 *     that has slept is placed beside its peer by the scheduler, one that has spun is placed apart from it. */
static bool still_contended(void)
{
    if (!atomic_load_explicit(&contended.on, memory_order_relaxed))
        return false;
    int64_t now = np_now(), until = atomic_load_explicit(&contended.until, memory_order_relaxed);
    if (now < until)
        return true;
    if (now - until > IDLE_NS && !atomic_exchange_explicit(&contended.remembered, true, memory_order_relaxed)) {
        atomic_store_explicit(&contended.until, now + REMEMBERED_NS, memory_order_relaxed);
        return true;
    }
    atomic_store_explicit(&contended.resumed, now, memory_order_relaxed);
    atomic_store_explicit(&contended.on, false, memory_order_relaxed);
    return false;
}

bool np_contended(void)
{
    if (!still_contended())
        return false;
    last_look.known = false; /* what happens meanwhile does not count */
    last_look.spins_left = 0;
    return true;
}

static bool worth_it(struct np_spin *spin)
{
    if (np_contended())
        return false;
    if (last_look.spins_left-- == 0 && was_preempted()) {
        be_contended(np_now());
        return false;
    }
    uint32_t skip = atomic_load_explicit(&spin->skip, memory_order_relaxed);
    if (skip)
        atomic_store_explicit(&spin->skip, skip - 1, memory_order_relaxed);
    return skip == 0;
}

static void failed(struct np_spin *spin)
{
    uint32_t failures = atomic_load_explicit(&spin->failures, memory_order_relaxed);
    if (failures < MOST_SKIPPED_BITS)
        failures++;
    atomic_store_explicit(&spin->failures, failures, memory_order_relaxed);
    atomic_store_explicit(&spin->skip, (1u << failures) - 1, memory_order_relaxed);
}

struct np_spin np_brief_spins[NP_BRIEF_SPINS];

static bool succeeded(struct np_spin *spin)
{
    if (atomic_load_explicit(&spin->failures, memory_order_relaxed))
        atomic_store_explicit(&spin->failures, 0, memory_order_relaxed);
    return true;
}

static void let_get_ahead(int64_t head_start, int64_t deadline)
{
    int64_t end = np_now() + head_start;
    if (deadline < end)
        end = deadline;
    while (np_now() < end)
        np_pause();
}

static bool look_for(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline, int64_t longest)
{
    for (int i = 0; i < QUICK_CHECKS; i++)
        if (ready(what))
            return succeeded(spin);
    int64_t now = np_now(), last = now, end = now + longest;
    if (deadline < end)
        end = deadline;
    for (;;) {
        for (int i = 0; i < CHECKS_PER_CLOCK; i++) {
            if (ready(what))
                return succeeded(spin);
            np_pause();
        }
        now = np_now();
        if (now - last > LEAST_LOST_NS) {
            be_contended(now);
            return ready(what);
        }
        if (now >= end) {
            failed(spin);
            return false;
        }
        last = now;
    }
}

bool np_spin_for(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline, int64_t longest)
{
    return worth_it(spin) ? look_for(spin, ready, what, deadline, longest) : ready(what);
}

bool np_spin(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline)
{
    return np_spin_for(spin, ready, what, deadline, NP_SPIN_NS);
}

bool np_spin_behind(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline, int64_t head_start,
                    int64_t longest)
{
    if (!worth_it(spin))
        return ready(what);
    if (head_start)
        let_get_ahead(head_start, deadline);
    return look_for(spin, ready, what, deadline, longest);
}

uint32_t np_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t bits, const struct np_wait *wait)
{
    if (np_cancelled(wait))
        return NP_INTERRUPTED;
    uint32_t code = np_futex_wait(word, seen, bits, wait->deadline);
    if (np_cancelled(wait))
        return NP_INTERRUPTED;
    if (code == NP_INTERRUPTED)
        return wait->interrupted && wait->interrupted(wait->context) ? NP_INTERRUPTED : NP_OK;
    return code;
}

/* ---- Ending a poll from outside */

uint32_t np_breakable_begin(struct np_breakable *breakable, uint32_t call)
{
    pthread_mutex_lock(&breakable->lock);
    uint32_t outer = breakable->call;
    breakable->call = call;
    breakable->socket = -1;
    pthread_mutex_unlock(&breakable->lock);
    return outer;
}

void np_breakable_end(struct np_breakable *breakable, uint32_t outer)
{
    np_breakable_begin(breakable, outer);
}

void np_breakable_poll(struct np_breakable *breakable, int socket)
{
    pthread_mutex_lock(&breakable->lock);
    breakable->socket = socket;
    pthread_mutex_unlock(&breakable->lock);
}

bool np_break(struct np_breakable *breakable)
{
    pthread_mutex_lock(&breakable->lock);
    bool waits = breakable->call != 0;
    if (waits) {
        /* Before the socket, under the lock: whoever polls next sees it, whoever polls is woken. */
        atomic_store_explicit(breakable->cancel, breakable->call, memory_order_release);
        if (breakable->socket >= 0)
            np_socket_break(breakable->socket);
    }
    pthread_mutex_unlock(&breakable->lock);
    return waits;
}
