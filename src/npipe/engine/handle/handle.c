#include "handle/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/platform.h"
#include "process/process.h"
#include "ring/link.h"
#include "handle/objects.h"

struct np_handle *np_handle_new(void)
{
    struct np_handle *handle = calloc(1, sizeof *handle);
    if (!handle)
        return NULL;
    pthread_mutex_init(&handle->rx_lock, NULL);
    pthread_mutex_init(&handle->tx_lock, NULL);
    atomic_init(&handle->refs, 1);
    return handle;
}

/* With the process lock held. */
void np_handle_register(struct np_handle *handle)
{
    handle->number = ++np_process.last_number;
    handle->previous = NULL;
    handle->next = np_process.handles;
    if (handle->next)
        handle->next->previous = handle;
    np_process.handles = handle;
}

/* By edges: a byte that is for somebody else (np_async_woken) stays where it is, and is told of once. */
#define WATCH_BYTES (EPOLLIN | EPOLLRDHUP | EPOLLET)

/* With the process lock held. */
static bool watch_link(struct np_link *link)
{
    if (!(atomic_load_explicit(&link->alert, memory_order_relaxed) & NP_ALERT_UNWATCHED))
        return true;
    link->watch = np_watch_add(link->socket, link->events ? WATCH_BYTES : EPOLLRDHUP, NP_WATCH_LINK, link);
    if (link->watch)
        atomic_fetch_and_explicit(&link->alert, ~(uint32_t)NP_ALERT_UNWATCHED, memory_order_acq_rel);
    return link->watch != 0;
}

bool np_handle_watch(struct np_handle *handle, struct np_link *link)
{
    if (!(atomic_load_explicit(&link->alert, memory_order_relaxed) & NP_ALERT_UNWATCHED))
        return true;
    pthread_mutex_lock(&np_process.lock);
    bool watched = handle->link != link || watch_link(link);
    pthread_mutex_unlock(&np_process.lock);
    return watched;
}

bool np_handle_watch_locked(struct np_handle *handle)
{
    return !handle->link || watch_link(handle->link);
}

void np_handle_watch_current(struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    np_handle_watch_locked(handle);
    pthread_mutex_unlock(&np_process.lock);
}

void np_handle_watch_events(struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    struct np_link *link = handle->link;
    if (link && !link->events) {
        link->events = true;
        if (link->watch)
            np_watch_change(link->watch, link->socket, WATCH_BYTES, NP_WATCH_LINK, link);
        else
            watch_link(link);
    }
    pthread_mutex_unlock(&np_process.lock);
}

void np_hold(struct np_handle *handle)
{
    atomic_fetch_add_explicit(&handle->refs, 1, memory_order_relaxed);
}

void np_free(struct np_handle *handle)
{
    if (atomic_fetch_sub_explicit(&handle->refs, 1, memory_order_acq_rel) != 1)
        return;
    np_object_unref(handle->port);
    np_summary_free(handle->summary);
    pthread_mutex_destroy(&handle->rx_lock);
    pthread_mutex_destroy(&handle->tx_lock);
    free(handle->root);
    free(handle->folder);
    free(handle);
}

/* ---- Counts */

struct np_summary *np_summary_new(void)
{
    struct np_summary *summary = calloc(1, sizeof *summary);
    if (summary)
        atomic_init(&summary->refs, 1);
    return summary;
}

struct np_summary *np_summary_hold(struct np_summary *summary)
{
    /* Relaxed: the caller's own reference keeps it. */
    atomic_fetch_add_explicit(&summary->refs, 1, memory_order_relaxed);
    return summary;
}

void np_summary_free(struct np_summary *summary)
{
    /* As for a handle: what was done with it comes before its end. */
    if (summary && atomic_fetch_sub_explicit(&summary->refs, 1, memory_order_acq_rel) == 1)
        free(summary);
}

void np_handle_counted(struct np_handle *handle, struct np_link *link)
{
    np_link_count(link, &handle->last);
    handle->last.sleeping = handle->last.pending_reads = handle->last.pending_writes = 0;
    handle->last.read_slept = handle->last.write_slept = 0;
    np_totals_add(&np_process.totals[handle->server], &handle->last);
    if (handle->summary)
        np_totals_add(&handle->summary->totals, &handle->last);
}

void np_handle_count(struct np_handle *handle, struct np_counts *counts)
{
    pthread_mutex_lock(&handle->rx_lock);
    pthread_mutex_lock(&handle->tx_lock);
    if (handle->link)
        np_link_count(handle->link, counts);
    else
        *counts = handle->last;
    pthread_mutex_unlock(&handle->tx_lock);
    pthread_mutex_unlock(&handle->rx_lock);
}

/* ---- State and information */

bool np_is_closed(struct np_handle *handle)
{
    return atomic_load_explicit(&handle->state, memory_order_acquire) == NP_CLOSED;
}

#define FRESH_NS 10000000

void np_fresh_add(struct np_handle *handle)
{
    handle->fresh_until = np_now() + FRESH_NS;
    handle->next_fresh = NULL;
    handle->previous_fresh = np_process.last_fresh;
    if (np_process.last_fresh)
        np_process.last_fresh->next_fresh = handle;
    else
        np_process.first_fresh = handle;
    np_process.last_fresh = handle;
    np_alarm(handle->fresh_until);
}

void np_fresh_remove(struct np_handle *handle)
{
    if (handle->fresh_until == 0)
        return;
    handle->fresh_until = 0;
    if (handle->previous_fresh)
        handle->previous_fresh->next_fresh = handle->next_fresh;
    else
        np_process.first_fresh = handle->next_fresh;
    if (handle->next_fresh)
        handle->next_fresh->previous_fresh = handle->previous_fresh;
    else
        np_process.last_fresh = handle->previous_fresh;
}
