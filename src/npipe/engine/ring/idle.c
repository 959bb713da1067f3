#include "ring/idle.h"

#include <pthread.h>

#include "base/platform.h"
#include "process/process.h"
#include "ring/link.h"

int64_t np_idle_ns = NP_SECOND_NS;
int64_t np_trickle_ns = 1000; /* less than a megabyte a second */

/* A leaf. Guards the list, and in each link the words that belong to it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct np_link *stirred, *last_stirred;
static uint64_t n_stirred, left_to_see; /* all of them; and those that are still to be looked at in this round */
static bool moves;               /* something has, in this round */
static int64_t pause_ns; /* between two looks: longer where nothing happens */
static int64_t next_look;

#define LONGEST_PAUSE (4 * np_idle_ns) /* for what nobody reads */
#define MORE_NS 10000000               /* later the next ones have their turn */

void np_idle_stir(struct np_link *link)
{
    int64_t now = np_now();
    link->tx.stir_at = UINT64_MAX;
    pthread_mutex_lock(&lock);
    if (!stirred || next_look > now + np_idle_ns)
        next_look = now + np_idle_ns;
    if (!link->stirred) {
        link->stirred = true;
        link->idle_tail = link->tx.tail;
        link->idle_since = now;
        link->next_stirred = NULL;
        link->previous_stirred = last_stirred;
        if (last_stirred)
            last_stirred->next_stirred = link;
        else
            stirred = link;
        last_stirred = link;
        n_stirred++;
    }
    pause_ns = np_idle_ns;
    int64_t due = next_look;
    pthread_mutex_unlock(&lock);
    np_alarm(due);
}

static void take_out(struct np_link *link)
{
    if (!link->stirred)
        return;
    link->stirred = false;
    if (link->previous_stirred)
        link->previous_stirred->next_stirred = link->next_stirred;
    else
        stirred = link->next_stirred;
    if (link->next_stirred)
        link->next_stirred->previous_stirred = link->previous_stirred;
    else
        last_stirred = link->previous_stirred;
    n_stirred--;
}

/* The next look begins with `link`: those before it have had theirs. */
static void turn_to(struct np_link *link)
{
    struct np_link *before = link->previous_stirred;
    if (!before)
        return;
    last_stirred->next_stirred = stirred;
    stirred->previous_stirred = last_stirred;
    last_stirred = before;
    before->next_stirred = NULL;
    link->previous_stirred = NULL;
    stirred = link;
}

void np_idle_forget(struct np_link *link)
{
    /* Whoever puts it in, or takes it out, has tx_lock and holds the link. */
    if (!link->stirred)
        return;
    pthread_mutex_lock(&lock);
    take_out(link);
    pthread_mutex_unlock(&lock);
}

int64_t np_idle_look(int64_t now, bool (*found)(void *context, struct np_link *link, bool idle), void *context)
{
    bool some = false;
    pthread_mutex_lock(&lock);
    if (!stirred || now < next_look) { /* the alarm was for something else */
        int64_t then = stirred ? next_look : 0;
        pthread_mutex_unlock(&lock);
        return then;
    }
    if (left_to_see == 0) {
        left_to_see = n_stirred;
        moves = false;
    }
    struct np_link *link = stirred;
    for (; link && left_to_see; link = link->next_stirred, left_to_see--) {
        if (atomic_load_explicit(&link->alert, memory_order_relaxed) & NP_ALERT_FORKED)
            continue; /* the segment is the parent's, and not mapped here */
        /* Hints, so relaxed: what is done about them is done with tx_lock, by the truth. Not through link->tx, which
         * may be about to be moved out of the segment (np_link_unshare). */
        const struct npl_direction *shared =
            &link->segment->direction[link->side == NPL_SERVER ? NPL_OUTBOUND : NPL_INBOUND];
        uint64_t tail = atomic_load_explicit(&shared->producer.tail, memory_order_relaxed);
        uint64_t begin = atomic_load_explicit(&shared->takebacks.begin, memory_order_relaxed);
        some = true;
        if (tail != link->idle_tail) {
            link->idle_tail = tail;
            link->idle_since = now;
            moves = true;
        }
        bool idle = now - link->idle_since >= np_idle_ns;
        if ((idle || tail - begin <= NP_WARM) && !found(context, link, idle))
            break;
    }
    if (link && left_to_see) {
        turn_to(link);
        next_look = now + MORE_NS;
    } else {
        left_to_see = 0; /* some may have gone meanwhile */
        next_look = now + pause_ns;
        pause_ns = moves ? np_idle_ns : 2 * pause_ns;
        if (pause_ns > LONGEST_PAUSE)
            pause_ns = LONGEST_PAUSE;
    }
    int64_t then = some ? next_look : 0;
    pthread_mutex_unlock(&lock);
    return then;
}

void np_idle_hold(void)
{
    pthread_mutex_lock(&lock);
}

void np_idle_release(void)
{
    pthread_mutex_unlock(&lock);
}

void np_idle_after_fork(void)
{
    pthread_mutex_init(&lock, NULL); /* held over the fork by the thread that is here */
}
