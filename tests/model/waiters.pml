/* Several processes own instances of a name. One holds a request because nobody listens (pipe/owner.c: hold,
 * count_waiters, others_listen), another one makes an instance listen and tells those who hold requests
 * (pipe/instances.c: np_listening_append, pipe/owner.c: np_pipe_nudge). Stores as in link.pml.
 *
 * Both counts are sequentially consistent; without that (NO_FENCE_HOLDER, NO_FENCE_CREATOR) a request is held for
 * ever although an instance listens. */

byte waiters, listening;          /* in the pipe's page */
bool has_waiter, has_listening;   /* not visible yet */
bool nudged;

active proctype memory()
{
end:
    do
    :: atomic { has_waiter -> waiters++; has_waiter = false }
    :: atomic { has_listening -> listening++; has_listening = false }
    od
}

active proctype holder()
{
    has_waiter = true;
#ifndef NO_FENCE_HOLDER
    !has_waiter;
#endif
    if
    :: listening > 0 /* try again there */
    :: else -> nudged
    fi
}

active proctype creator()
{
    has_listening = true;
#ifndef NO_FENCE_CREATOR
    !has_listening;
#endif
    if
    :: waiters > 0 -> nudged = true
    :: else
    fi
}
