#include "wait.h"

/* Waking a sleeper costs some tens of microseconds where it was measured (docs/design.md), so to spin for
 * about as long is never much worse than to sleep at once, and far better whenever the peer is running. */
#define SPIN_LIMIT_NS 50000u   /* a wait that is longer on average is not worth a spin */
#define SPIN_FIRST_NS 20000u   /* before anything is known */
#define SPIN_MARGIN_NS 4000u
#define PROBE_EVERY 64u        /* of the waits that are not worth it, one spins a little to see whether it is now */
#define PROBE_NS 8000u
#define PREEMPTED_NS 60000     /* a pause of this length within the spin: somebody else ran here */
#define OFF_NS 20000000        /* then leave the processor to him for a while */
#define CHECKS_PER_CLOCK 24

static int64_t budget_of(struct np_spin *spin, int64_t now)
{
    if (now < atomic_load_explicit(&spin->off_until, memory_order_relaxed))
        return 0;
    uint32_t average = atomic_load_explicit(&spin->average_ns, memory_order_relaxed);
    if (average == 0)
        return SPIN_FIRST_NS;
    if (average <= SPIN_LIMIT_NS)
        return 2 * (int64_t)average + SPIN_MARGIN_NS;
    uint32_t skipped = atomic_load_explicit(&spin->skipped, memory_order_relaxed) + 1;
    atomic_store_explicit(&spin->skipped, skipped, memory_order_relaxed);
    return skipped % PROBE_EVERY == 0 ? PROBE_NS : 0;
}

bool np_spin(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline)
{
    int64_t now = np_now();
    int64_t budget = budget_of(spin, now);
    if (budget == 0)
        return ready(what);
    int64_t end = now + budget, last = now;
    if (deadline < end)
        end = deadline;
    for (;;) {
        for (int i = 0; i < CHECKS_PER_CLOCK; i++) {
            if (ready(what))
                return true;
            np_pause();
        }
        now = np_now();
        if (now - last > PREEMPTED_NS) {
            atomic_store_explicit(&spin->off_until, now + OFF_NS, memory_order_relaxed);
            return ready(what);
        }
        if (now >= end)
            return false;
        last = now;
    }
}

void np_spin_learn(struct np_spin *spin, int64_t began)
{
    int64_t took = np_now() - began;
    if (took < 1)
        took = 1;
    if (took > 8 * (int64_t)SPIN_LIMIT_NS)
        took = 8 * (int64_t)SPIN_LIMIT_NS; /* so that a single long pause is forgotten soon */
    int64_t average = atomic_load_explicit(&spin->average_ns, memory_order_relaxed);
    average = average == 0 ? took : average + (took - average) / 8;
    atomic_store_explicit(&spin->average_ns, (uint32_t)(average < 1 ? 1 : average), memory_order_relaxed);
}

uint32_t np_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t bits, const struct np_wait *wait)
{
    uint32_t code = np_futex_wait(word, seen, bits, wait->deadline);
    if (code == NP_INTERRUPTED)
        return wait->interrupted && wait->interrupted(wait->context) ? NP_INTERRUPTED : NP_OK;
    return code;
}
