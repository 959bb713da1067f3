/* One operation at a time on a synchronous handle (SEMANTICS 6.4): a lock that a thread waits for under a deadline,
 * interruptibly. */
#ifndef NPIPE_GATE_H
#define NPIPE_GATE_H

#include "base/wait.h"

struct np_gate {
    _Atomic uint32_t word; /* futex: 0 free, 1 taken, 2 taken and waited for */
};

static inline bool np_gate_try(struct np_gate *gate)
{
    uint32_t free = 0;
    /* Acquire: what the last holder did is seen. */
    return atomic_compare_exchange_strong_explicit(&gate->word, &free, 1, memory_order_acquire, memory_order_relaxed);
}

/* NP_OK, or NP_INTERRUPTED and NP_SEM_TIMEOUT without the gate. */
static inline uint32_t np_gate_enter(struct np_gate *gate, const struct np_wait *wait)
{
    if (np_gate_try(gate))
        return NP_OK;
    if (wait->interrupted && wait->interrupted(wait->context))
        return NP_INTERRUPTED;
    while (atomic_exchange_explicit(&gate->word, 2, memory_order_acquire) != 0) {
        uint32_t code = np_sleep(&gate->word, 2, UINT32_MAX, wait);
        if (code != NP_OK)
            return code;
    }
    return NP_OK;
}

static inline void np_gate_leave(struct np_gate *gate)
{
    if (atomic_exchange_explicit(&gate->word, 0, memory_order_release) == 2)
        np_futex_wake(&gate->word, UINT32_MAX);
}

#endif
