#include "base/turn.h"

#include "base/platform.h"

/* Whoever wants the lock gets it as soon as there is a processor for it. CPython lets a thread keep it for so long. */
#define LONGEST_NS INT64_C(5000000)
#define MOST_ALONE 1 /* doublings of a turn while nobody else has work */

struct np_turns np_turns;

bool np_turn_end(struct np_run *run)
{
    uint32_t waiting = atomic_load_explicit(&np_turns.waiting, memory_order_relaxed), given = np_turn_given();
    atomic_store_explicit(&run->reads, 0, memory_order_relaxed);
    if (waiting && (np_turn_is_wanted() || given != atomic_load_explicit(&run->given, memory_order_relaxed))) {
        atomic_store_explicit(&run->given, given, memory_order_relaxed);
        atomic_store_explicit(&run->alone, 0, memory_order_relaxed);
        return true;
    }
    /* They may have been woken, and have no processor: this thread has one, and the one that it talks to another. To
     * let go of it tells; but it is a system call, so a turn is longer while it tells of nobody. */
    atomic_store_explicit(&run->alone, MOST_ALONE, memory_order_relaxed);
    return waiting && waiting + 2 > np_processors();
}

bool np_turn_has_work(const struct np_run *run, uint32_t waiting)
{
    return np_turn_given() != atomic_load_explicit(&run->given, memory_order_relaxed) && waiting + 2 > np_processors();
}

void np_turn_wait(void)
{
    atomic_fetch_add_explicit(&np_turns.waiting, 1, memory_order_relaxed);
}

void np_turn_want(void)
{
    atomic_fetch_add_explicit(&np_turns.wanting, 1, memory_order_relaxed);
}

void np_turn_got_again(struct np_run *run)
{
    atomic_fetch_sub_explicit(&np_turns.wanting, 1, memory_order_relaxed);
    /* Not in a child that was forked from a signal's handler in this wait: there nobody is counted. */
    if (atomic_load_explicit(&np_turns.waiting, memory_order_relaxed))
        atomic_fetch_sub_explicit(&np_turns.waiting, 1, memory_order_relaxed);
    /* Sequentially consistent, with its twin in np_turn_pass: each side moves its word and then looks at the other's,
     * so either we see the one that passes, or it sees that the lock was given. */
    uint32_t given = atomic_fetch_add_explicit(&np_turns.given, 1, memory_order_seq_cst) + 1;
    atomic_store_explicit(&run->given, given, memory_order_relaxed);
    if (atomic_load_explicit(&np_turns.passing, memory_order_seq_cst))
        np_futex_wake(&np_turns.given, UINT32_MAX);
}

void np_turn_got(struct np_run *run)
{
    np_turn_got_again(run);
    atomic_store_explicit(&run->reads, 0, memory_order_relaxed);
}

void np_turn_pass(uint32_t given)
{
    if (!np_turn_is_wanted()) {
        np_yield();
        return;
    }
    atomic_fetch_add_explicit(&np_turns.passing, 1, memory_order_seq_cst);
    int64_t until = np_now() + LONGEST_NS;
    while (atomic_load_explicit(&np_turns.given, memory_order_seq_cst) == given &&
           np_futex_wait(&np_turns.given, given, UINT32_MAX, until) != NP_SEM_TIMEOUT)
        ; /* woken, or a signal, which is heeded when the call is over */
    atomic_fetch_sub_explicit(&np_turns.passing, 1, memory_order_relaxed);
}

void np_turns_after_fork(void)
{
    atomic_store_explicit(&np_turns.waiting, 0, memory_order_relaxed);
    atomic_store_explicit(&np_turns.wanting, 0, memory_order_relaxed);
    atomic_store_explicit(&np_turns.passing, 0, memory_order_relaxed);
}
