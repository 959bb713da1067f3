#include <errno.h>
#include <sys/epoll.h>

#include "base/identity.h"
#include "base/platform.h"
#include "process/process.h"
#include "ring/link.h"
#include "ring/segment_cache.h"
#include "handle/handle.h"
#include "handle/idle.h"
#include "handle/objects.h"
#include "overlapped/drive.h"
#include "pipe/instances.h"
#include "pipe/owner.h"
#include "pipe/room.h"
#include "pipe/sweep.h"
#include "travel/lend.h"

#define EVENTS 64

/* A leader who has not come back: the native thread answers again. */
static void end_leases(int64_t now)
{
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next) {
        if (pipe->leased_until > now)
            np_alarm(pipe->leased_until);
        if (pipe->leased_until == 0 || pipe->leased_until > now)
            continue;
        if (pipe->watch)
            np_watch_change(pipe->watch, pipe->socket, EPOLLIN, NP_WATCH_PIPE, pipe);
        pipe->leased_until = 0;
    }
}

static void watch_fresh(int64_t now)
{
    struct np_handle *handle;
    while ((handle = np_process.first_fresh) && handle->fresh_until <= now) {
        np_fresh_remove(handle);
        np_handle_watch_locked(handle);
    }
    if (handle)
        np_alarm(handle->fresh_until);
}

/* What is due by the clock. */
static void on_alarm(struct np_sweep **sweeps, struct np_idle *idle)
{
    np_alarm_has_rung();
    int64_t now = np_now();
    np_sweep_unwatched(sweeps);
    end_leases(now);
    watch_fresh(now);
    int64_t next = np_kept_expire(now);
    if (next)
        np_alarm(next);
    np_offers_due(now);
    np_idle_due(now, idle);
}

/* Handles whose overlapped operations may go on, each held; what they do has no need of the process lock. */
struct to_drive {
    struct np_handle *handles[EVENTS];
    uint32_t count;
    bool arm;
};

static void drive_later(struct np_link *link, struct to_drive *woken)
{
    if (!link->handle || !link->events)
        return;
    np_hold(link->handle);
    woken->handles[woken->count++] = link->handle;
}

static void link_event(struct np_link *link, uint64_t watch, uint32_t events, struct np_sweep **sweeps,
                       struct to_drive *woken)
{
    bool gone = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (gone || events & EPOLLIN)
        drive_later(link, woken);
    /* A visitor's event may be handled when its socket is a link's already: then it is a byte, not the end. */
    if (gone)
        np_sweep_link_gone(link, watch, sweeps);
}

static void handle_event(const struct epoll_event *event, struct np_sweep **sweeps, struct to_drive *woken,
                         struct np_lend **spoken, struct np_idle *idle)
{
    struct np_watch *watch = np_watch_find(event->data.u64);
    if (!watch)
        return; /* removed after the event was fetched */
    switch (watch->kind) {
    case NP_WATCH_ALARM:
        on_alarm(sweeps, idle);
        woken->arm = true;
        break;
    case NP_WATCH_PIPE:
        np_pipe_accept(watch->object);
        break;
    case NP_WATCH_VISITOR:
        np_visitor_ready(watch->object, false);
        break;
    case NP_WATCH_LINK:
        link_event(watch->object, event->data.u64, event->events, sweeps, woken);
        break;
    case NP_WATCH_OWNER:
        np_owner_gone(watch->object);
        break;
    case NP_WATCH_LEND:
        np_lend_ready(watch->object, spoken);
        break;
    case NP_WATCH_OFFERS:
        np_offers_ready();
        break;
    case NP_WATCH_OBJECT:
        np_event_set(watch->object);
        break;
    case NP_WATCH_NOTHING:
        break;
    }
}

/* What is due by the clock: visitors who never said what they want, and sockets that had to pause for want of
 * descriptors. Returns when to look again, in milliseconds (-1: nothing is timed). */
static int do_timers(void)
{
    int64_t now = np_now(), next = NP_FOREVER;
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next) {
        struct np_visitor *following;
        for (struct np_visitor *visitor = pipe->first_visitor; visitor; visitor = following) {
            following = visitor->next;
            if (visitor->deadline <= now)
                np_visitor_drop(visitor);
            else if (visitor->deadline < next)
                next = visitor->deadline;
        }
        if (pipe->paused_until && pipe->paused_until <= now) {
            pipe->paused_until = 0;
            if (!pipe->watch)
                pipe->watch = np_watch_add(pipe->socket, EPOLLIN, NP_WATCH_PIPE, pipe);
            np_pipe_serve(pipe);
        }
        if (pipe->paused_until && pipe->paused_until < next)
            next = pipe->paused_until;
    }
    if (next == NP_FOREVER)
        return -1;
    return (int)((next - now) / 1000000) + 1;
}

static void *native_thread(void *unused)
{
    (void)unused;
    np_settle_reference_thread(); /* whoever started it may have acted as a client: this thread acts for the process */
    struct epoll_event events[EVENTS];
    int timeout = -1;
    for (;;) {
        int count = epoll_wait(np_process.epoll, events, EVENTS, timeout);
        struct np_sweep *sweeps;
        struct to_drive woken = {.count = 0};
        struct np_lend *spoken = NULL;
        struct np_idle idle;
        idle.count = 0;
        pthread_mutex_lock(&np_process.lock);
        sweeps = np_sweeps_due(np_now());
        for (int i = 0; i < count; i++)
            handle_event(&events[i], &sweeps, &woken, &spoken, &idle);
        timeout = do_timers();
        pthread_mutex_unlock(&np_process.lock);
        for (uint32_t i = 0; i < woken.count; i++) {
            np_async_woken(woken.handles[i]);
            np_free(woken.handles[i]);
        }
        if (woken.arm)
            np_async_arm_listed();
        np_lends_answer(spoken);
        np_idle_do(&idle);
        np_sweeps_do(sweeps);
    }
    return NULL;
}

/* 101: before the constructors of the program, which may use pipes. */
__attribute__((constructor(101))) static void be_the_service(void)
{
    np_process.native_thread = native_thread;
}
