#include "pipe/sweep.h"

#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "process/process.h"
#include "ring/link.h"
#include "ring/segment.h"
#include "ring/tap.h"
#include "handle/handle.h"
#include "pipe/directory.h"

#define FIRST_SWEEP_PAUSE_NS 10000000
#define LONGEST_SWEEP_PAUSE_NS 1000000000

static void plan_sweep(struct np_sweep **sweeps, const char *root, const char *folder, pid_t dying)
{
    for (struct np_sweep *item = *sweeps; item; item = item->next)
        if (strcmp(item->folder, folder) == 0 && strcmp(item->root, root) == 0 &&
            (item->dying == dying || item->dying == 0 || dying == 0)) {
            item->dying = item->dying ? item->dying : dying;
            return;
        }
    struct np_sweep *sweep = calloc(1, sizeof *sweep);
    if (!sweep)
        return; /* no memory: whoever comes next to the name cleans up */
    sweep->root = strdup(root);
    sweep->folder = strdup(folder);
    sweep->dying = dying;
    if (!sweep->root || !sweep->folder) {
        free(sweep->root);
        free(sweep->folder);
        free(sweep);
        return;
    }
    sweep->next = *sweeps;
    *sweeps = sweep;
}

/* Who has died, for plan_sweep. In another space of processes the kernel has no number for it, for anybody there. */
static pid_t dead_of(const struct np_handle *handle)
{
    return handle->link->peer_pid > 0 ? handle->link->peer_pid : NP_UNKNOWN_PID;
}

static void append_sweeps(struct np_sweep **sweeps, struct np_sweep *more)
{
    while (*sweeps)
        sweeps = &(*sweeps)->next;
    *sweeps = more;
}

struct np_sweep *np_sweeps_due(int64_t now)
{
    struct np_sweep *due = NULL;
    for (struct np_sweep **place = &np_process.sweeps; *place;) {
        struct np_sweep *sweep = *place;
        if (sweep->due > now) {
            np_alarm(sweep->due);
            place = &sweep->next;
            continue;
        }
        *place = sweep->next;
        sweep->next = due;
        due = sweep;
    }
    return due;
}

void np_sweep_free(struct np_sweep *sweep)
{
    free(sweep->root);
    free(sweep->folder);
    free(sweep);
}

void np_sweeps_do(struct np_sweep *sweeps)
{
    struct np_sweep *again = NULL;
    while (sweeps) {
        struct np_sweep *sweep = sweeps;
        sweeps = sweep->next;
        enum np_swept swept = np_folder_sweep(sweep->root, sweep->folder, sweep->dying);
        /* A process that is being ended may not run for a while, with the socket of its rendezvous open still. Who is
         * there after all the pauses does not die: its link alone has gone. */
        if (swept == NP_SWEPT || (swept == NP_SWEEP_DYING && sweep->pause >= LONGEST_SWEEP_PAUSE_NS)) {
            np_sweep_free(sweep);
            continue;
        }
        sweep->pause = sweep->pause == 0 ? FIRST_SWEEP_PAUSE_NS : 2 * sweep->pause;
        if (sweep->pause > LONGEST_SWEEP_PAUSE_NS)
            sweep->pause = LONGEST_SWEEP_PAUSE_NS;
        sweep->due = np_now() + sweep->pause;
        np_alarm(sweep->due);
        sweep->next = again;
        again = sweep;
    }
    if (!again)
        return;
    pthread_mutex_lock(&np_process.lock);
    append_sweeps(&np_process.sweeps, again);
    pthread_mutex_unlock(&np_process.lock);
}

void np_sweep_later(const char *root, const char *folder)
{
    pthread_mutex_lock(&np_process.lock);
    plan_sweep(&np_process.sweeps, root, folder, 0);
    pthread_mutex_unlock(&np_process.lock);
    np_native_thread_wake();
}

static bool server_died(const struct np_link *link)
{
    return link->side == NPL_CLIENT && atomic_load_explicit(&link->alert, memory_order_acquire) & NP_ALERT_GONE &&
           atomic_load_explicit(link->peer_state, memory_order_acquire) == NPL_END_OPEN;
}

void np_sweep_link_gone(struct np_link *link, uint64_t watch, struct np_sweep **sweeps)
{
    np_watch_remove(watch, link->socket);
    link->watch = 0;
    /* Release, as np_link_alert; whoever else finds it out (np_link_look) has told of it if the bit was set before. */
    uint32_t before = atomic_fetch_or_explicit(&link->alert, NP_ALERT_GONE, memory_order_release);
    if (!(before & NP_ALERT_GONE) && np_is_tapped(link))
        np_tap_event(link, NULL, NPR_GONE, NP_BROKEN_PIPE);
    np_link_wake_own(link);
    if (!server_died(link))
        return;
    for (struct np_handle *handle = np_process.handles; handle; handle = handle->next)
        if (handle->link == link && handle->root)
            plan_sweep(sweeps, handle->root, handle->folder, dead_of(handle));
}

void np_handle_leaves(const struct np_handle *handle)
{
    if (!handle->link || !handle->root || !server_died(handle->link))
        return;
    plan_sweep(&np_process.sweeps, handle->root, handle->folder, dead_of(handle));
    np_native_thread_wake();
}

void np_sweep_unwatched(struct np_sweep **sweeps)
{
    if (!atomic_exchange_explicit(&np_process.server_died, false, memory_order_acq_rel))
        return;
    for (struct np_handle *handle = np_process.handles; handle; handle = handle->next)
        if (handle->link && handle->root && server_died(handle->link) &&
            atomic_load_explicit(&handle->link->alert, memory_order_relaxed) & NP_ALERT_UNWATCHED)
            plan_sweep(sweeps, handle->root, handle->folder, dead_of(handle));
}
