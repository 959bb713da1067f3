/* How a thread waits for objects and is woken (overlapped/wait.c: sleep_for, np_wake_thread): a waker makes no system
 * call for a thread that is awake. Stores as in link.pml. Two wakers, one event each, which the sleeper has to see
 * both.
 *
 * Both sides are sequentially consistent; without that (NO_FENCE_WAKER, NO_FENCE_SLEEPER) a wake is lost. */

bool event[2];        /* guarded by the objects' lock */
bool lock;
byte word;            /* the thread's futex */
bool sleeps;          /* it says so */
bool has_sleeps, new_sleeps, blocked;
byte added[2];        /* what a waker has added to the word and is not visible yet */

#define LOCK atomic { !lock -> lock = true }
#define UNLOCK lock = false

active proctype memory()
{
end:
    do
    :: atomic { has_sleeps -> sleeps = new_sleeps; has_sleeps = false }
    :: atomic { added[0] > 0 -> word++; added[0]-- }
    :: atomic { added[1] > 0 -> word++; added[1]-- }
    od
}

active [2] proctype waker()
{
    byte me = _pid - 1;
    LOCK;
    event[me] = true;
    added[me] = 1;
#ifndef NO_FENCE_WAKER
    added[me] == 0;
#endif
    if
    :: sleeps -> blocked = false /* futex wake; the system call is a barrier, but by then it has looked */
    :: else
    fi;
    added[me] == 0; /* the lock's release */
    UNLOCK
}

active proctype sleeper()
{
    byte seen;
    bool done;
    do
    :: done -> break
    :: else ->
        LOCK;
        seen = word;
        done = event[0] && event[1];
        UNLOCK;
        if
        :: done
        :: else ->
            new_sleeps = true;
            has_sleeps = true;
#ifndef NO_FENCE_SLEEPER
            !has_sleeps;
#endif
            if
            :: word == seen ->
                atomic { blocked = (word == seen) }
                !blocked
            :: else
            fi;
            atomic { !has_sleeps -> new_sleeps = false; has_sleeps = true }
        fi
    od
}
