#include "wait.h"

/* Waking a sleeper costs some tens of microseconds where it was measured (docs/design.md), so to spin for
 * about as long is never much worse than to sleep at once, and far better whenever the peer is running. The time
 * covers a peer that has to wake up first: else two that both sleep would never find out that they need not. */
#define SPIN_NS 60000
/* After failures in a row 1, 3, 7, ... up to this many waits sleep at once, so a spin that is of no use costs less
 * than a microsecond a wait on average. */
#define MOST_SKIPPED_BITS 6
#define PREEMPTED_NS 60000 /* a pause of this length within the spin: somebody else ran here */
#define OFF_NS 20000000    /* then leave the processor to him for a while */
#define CHECKS_PER_CLOCK 24

static bool worth_it(struct np_spin *spin, int64_t now)
{
    uint32_t skip = atomic_load_explicit(&spin->skip, memory_order_relaxed);
    if (skip)
        atomic_store_explicit(&spin->skip, skip - 1, memory_order_relaxed);
    return skip == 0 && now >= atomic_load_explicit(&spin->off_until, memory_order_relaxed);
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

bool np_spin(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline)
{
    return np_spin_for(spin, ready, what, deadline, SPIN_NS);
}

bool np_spin_for(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline, int64_t longest)
{
    int64_t now = np_now();
    if (!worth_it(spin, now))
        return ready(what);
    int64_t end = now + longest, last = now;
    if (deadline < end)
        end = deadline;
    for (;;) {
        for (int i = 0; i < CHECKS_PER_CLOCK; i++) {
            if (ready(what)) {
                atomic_store_explicit(&spin->failures, 0, memory_order_relaxed);
                return true;
            }
            np_pause();
        }
        now = np_now();
        if (now - last > PREEMPTED_NS) {
            atomic_store_explicit(&spin->off_until, now + OFF_NS, memory_order_relaxed);
            return ready(what);
        }
        if (now >= end) {
            failed(spin);
            return false;
        }
        last = now;
    }
}

uint32_t np_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t bits, const struct np_wait *wait)
{
    uint32_t code = np_futex_wait(word, seen, bits, wait->deadline);
    if (code == NP_INTERRUPTED)
        return wait->interrupted && wait->interrupted(wait->context) ? NP_INTERRUPTED : NP_OK;
    return code;
}
