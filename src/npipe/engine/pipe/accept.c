#include "pipe/accept.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"
#include "process/process.h"
#include "ring/link.h"
#include "ring/segment.h"
#include "handle/handle.h"
#include "overlapped/operation.h"
#include "pipe/close.h"
#include "pipe/create.h"
#include "pipe/instances.h"
#include "pipe/owner.h"
#include "pipe/state.h"

/* ---- Connecting */

/* A disconnected instance listens again, unless it was closed, or another thread was first. */
static void listen_again(struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    if (handle->pipe && atomic_load_explicit(&handle->state, memory_order_acquire) == NP_DISCONNECTED)
        np_listening_start(handle->pipe, handle);
    pthread_mutex_unlock(&np_process.lock);
}

/* Whether a client could not be let in since somebody was told of that. */
static bool accept_has_failed(struct np_handle *handle)
{
    int reason = atomic_load_explicit(&handle->connect_failed, memory_order_relaxed) == 0
                     ? 0
                     : atomic_exchange_explicit(&handle->connect_failed, 0, memory_order_acquire);
    if (reason)
        atomic_store_explicit(&handle->connect_reason, reason, memory_order_relaxed);
    return reason != 0;
}

/* Takes the pipe's socket over from the native thread, so that a client that comes wakes the thread that waits for it,
 * and not another one first. NULL: somebody else has it. */
static struct np_pipe *lead(struct np_handle *handle, uint32_t seen)
{
    pthread_mutex_lock(&np_process.lock);
    struct np_pipe *pipe = handle->pipe;
    if (!pipe || pipe->leader || !pipe->watch) {
        pipe = NULL;
    } else {
        pipe->leader = handle;
        pipe->leader_seq = seen;
        pipe->refs++;
        if (!pipe->leased_until)
            np_watch_change(pipe->watch, pipe->socket, 0, NP_WATCH_PIPE, pipe);
        pipe->leased_until = 0;
    }
    pthread_mutex_unlock(&np_process.lock);
    return pipe;
}

#define LEASE_NS 1000000

static void begin_lease(struct np_pipe *pipe)
{
    pipe->leased_until = np_now() + LEASE_NS;
    np_alarm(pipe->leased_until);
}

/* This thread has got a client without waiting, and most servers come for the next one in a moment: see
 * stop_leading. */
static void lease(struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    struct np_pipe *pipe = handle->pipe;
    if (pipe && pipe->watch && !pipe->leader && !pipe->leased_until) {
        begin_lease(pipe);
        np_watch_change(pipe->watch, pipe->socket, 0, NP_WATCH_PIPE, pipe);
    }
    pthread_mutex_unlock(&np_process.lock);
}

static void quieten_bell(struct np_pipe *pipe)
{
    uint64_t count;
    if (pipe->leader_called && read(pipe->leader_event, &count, sizeof count) == (ssize_t)sizeof count)
        pipe->leader_called = false;
}

/* Gives the socket back to the native thread; if `back_soon` only after a moment, in which most servers come for the
 * next client: else each of them would wake two threads. */
static void stop_leading(struct np_pipe *pipe, bool back_soon)
{
    pthread_mutex_lock(&np_process.lock);
    pipe->leader = NULL;
    if (pipe->watch && back_soon)
        begin_lease(pipe);
    else if (pipe->watch)
        np_watch_change(pipe->watch, pipe->socket, EPOLLIN, NP_WATCH_PIPE, pipe);
    quieten_bell(pipe);
    pthread_mutex_unlock(&np_process.lock);
    np_pipe_put(pipe);
}

static uint32_t sleep_until_connected(struct np_handle *handle, uint32_t seen, enum np_heed *heed,
                                      const struct np_wait *wait)
{
    const struct np_wait limited = np_heed_limit(*heed, wait);
    atomic_fetch_add_explicit(&handle->connect_sleepers, 1, memory_order_seq_cst);
    uint32_t code = np_sleep(&handle->connect_seq, seen, UINT32_MAX, &limited);
    atomic_fetch_sub_explicit(&handle->connect_sleepers, 1, memory_order_relaxed);
    return np_heed_end(heed, code, wait, &limited);
}

static bool somebody_comes(const void *what)
{
    const struct np_pipe *pipe = what;
    return np_socket_readable(pipe->socket);
}

/* Waits until the instance may have left the listening state, of which `seen` was read before, or signals are to be
 * asked for. */
static uint32_t await_client(struct np_handle *handle, uint32_t seen, enum np_heed *heed, const struct np_wait *wait)
{
    struct np_pipe *pipe = lead(handle, seen);
    if (!pipe)
        return sleep_until_connected(handle, seen, heed, wait);
    uint32_t code = NP_OK;
    bool paused = false;
    while (code == NP_OK && !paused && *heed != NP_HEED_ASK &&
           atomic_load_explicit(&handle->connect_seq, memory_order_acquire) == seen) {
        const struct np_wait limited = np_heed_limit(*heed, wait);
        if (!np_spin_for(&np_brief_spins[NP_BRIEF_ACCEPT], somebody_comes, pipe, wait->deadline, NP_BRIEF_NS))
            code = np_sockets_wait(pipe->socket, pipe->leader_event, limited.deadline);
        if (code == NP_INTERRUPTED) {
            /* A handler may take its time, and clients are not to wait for it. */
            *heed = NP_HEED_AWAKE;
            stop_leading(pipe, false);
            return wait->interrupted && wait->interrupted(wait->context) ? NP_INTERRUPTED : NP_OK;
        }
        code = np_heed_end(heed, code, wait, &limited);
        pthread_mutex_lock(&np_process.lock);
        quieten_bell(pipe);
        pipe->leader_awake = true;
        if (pipe->watch)
            np_pipe_accept(pipe);
        pipe->leader_awake = false;
        paused = pipe->watch == 0; /* no descriptors are left, or the pipe has gone */
        pthread_mutex_unlock(&np_process.lock);
    }
    stop_leading(pipe, code == NP_OK && !paused);
    if (code == NP_OK && paused)
        code = sleep_until_connected(handle, seen, heed, wait);
    return code;
}

uint32_t np_recalls(const struct np_handle *handle)
{
    /* Acquire, with np_recall's release: who has the number sees what was there before the call. */
    return atomic_load_explicit(&handle->recalls, memory_order_acquire);
}

void np_recall(struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    /* Release: before the number on which the sleep stands moves, so that who sees that one sees this one too. */
    atomic_fetch_add_explicit(&handle->recalls, 1, memory_order_release);
    np_wake_connects(handle);
    pthread_mutex_unlock(&np_process.lock);
}

/* `recalls`: see np_connect_until; NULL: nobody calls it back. */
static uint32_t connect_or_recalled(struct np_handle *handle, const uint32_t *recalls, const struct np_wait *wait)
{
    if (!handle->server)
        return NP_INVALID_FUNCTION;
    uint32_t code = NP_OK, seen;
    bool first = true;
    enum np_heed heed = NP_HEED_ASK;
    for (;;) {
        if (np_cancelled(wait))
            return NP_INTERRUPTED;
        if (code == NP_INTERRUPTED)
            return code; /* a client that has come meanwhile is there for the next call */
        seen = atomic_load_explicit(&handle->connect_seq, memory_order_acquire);
        uint32_t state = atomic_load_explicit(&handle->state, memory_order_acquire);
        if (state == NP_LISTENING && first) {
            /* A client whose open has returned is there: the one who let it in may still be about to say so here. */
            pthread_mutex_lock(&np_process.lock);
            pthread_mutex_unlock(&np_process.lock);
            state = atomic_load_explicit(&handle->state, memory_order_acquire);
        }
        if (state == NP_DISCONNECTED && first) {
            listen_again(handle);
            first = false;
            continue;
        }
        if (state == NP_CLOSED)
            return first ? NP_INVALID_HANDLE : NP_BROKEN_PIPE;
        if (state == NP_DISCONNECTED)
            return NP_PIPE_NOT_CONNECTED; /* by another thread, while we waited */
        if (state == NP_CONNECTED) {
            if (!first)
                return NP_OK;
            pthread_mutex_lock(&handle->rx_lock);
            /* Looked at here and now: the native thread's word may be on its way. */
            if (handle->link)
                np_link_look(handle->link, false);
            bool left = handle->link && np_link_condition(handle->link) == NP_BROKEN_PIPE;
            pthread_mutex_unlock(&handle->rx_lock);
            lease(handle);
            return left ? NP_NO_DATA : NP_PIPE_CONNECTED;
        }
        /* Behind the look at connect_seq, which moves after it: a call that is not seen here ends the sleep. */
        if (recalls && np_recalls(handle) != *recalls)
            return NP_OPERATION_ABORTED;
        if (accept_has_failed(handle))
            return NP_NO_SYSTEM_RESOURCES; /* it goes on listening */
        if (atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT)
            return NP_PIPE_LISTENING;
        if (wait->deadline == NP_TRY)
            return NP_WOULD_WAIT;
        if (code != NP_OK)
            return code; /* the time is up, and no client has come */
        first = false;
        code = np_heed_ask(&heed, wait);
        if (code != NP_OK)
            return code;
        code = await_client(handle, seen, &heed, wait);
    }
}

uint32_t np_connect(struct np_handle *handle, const struct np_wait *wait)
{
    return connect_or_recalled(handle, NULL, wait);
}

uint32_t np_connect_until(struct np_handle *handle, uint32_t recalls, const struct np_wait *wait)
{
    return connect_or_recalled(handle, &recalls, wait);
}

uint32_t np_async_connect(struct np_async *async)
{
    struct np_handle *handle = async->handle;
    if (!handle->server)
        return NP_INVALID_FUNCTION;
    uint32_t code = NP_IO_PENDING;
    pthread_mutex_lock(&np_process.lock);
    uint32_t state = atomic_load_explicit(&handle->state, memory_order_acquire);
    bool nowait = atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT;
    if (state == NP_CLOSED) {
        code = NP_INVALID_HANDLE;
    } else if (state == NP_CONNECTED) {
        np_link_look(handle->link, false);
        code = np_link_condition(handle->link) == NP_BROKEN_PIPE ? NP_NO_DATA : NP_PIPE_CONNECTED;
    } else if (!handle->pipe) {
        code = NP_PIPE_NOT_CONNECTED; /* it came from another process (travel/), and was disconnected here */
    } else {
        if (nowait)
            code = NP_PIPE_LISTENING;
        else
            np_async_add_connect(async); /* before it listens, for somebody may be waiting */
        if (state == NP_DISCONNECTED)
            np_listening_start(handle->pipe, handle);
        else if (accept_has_failed(handle) && code == NP_IO_PENDING)
            (void)np_async_fail_connect(handle);
    }
    pthread_mutex_unlock(&np_process.lock);
    return code;
}

uint32_t np_disconnect(struct np_handle *handle)
{
    if (!handle->server)
        return NP_INVALID_FUNCTION;
    pthread_mutex_lock(&np_process.lock);
    uint32_t state = atomic_load_explicit(&handle->state, memory_order_acquire);
    if (state == NP_LISTENING) {
        np_listening_remove(handle->pipe, handle);
        atomic_store_explicit(&handle->state, NP_DISCONNECTED, memory_order_release);
        np_left_listening(handle->pipe, handle);
    }
    pthread_mutex_unlock(&np_process.lock);
    if (state == NP_DISCONNECTED)
        return NP_PIPE_NOT_CONNECTED;
    if (state == NP_CLOSED)
        return NP_INVALID_HANDLE;
    /* Another thread may have closed it meanwhile, or handed it to another process. */
    if (state == NP_CONNECTED &&
        !np_handle_unlink(handle, NP_ALERT_DISCONNECTED, NPL_END_DISCONNECTED, NP_DISCONNECTED))
        return NP_INVALID_HANDLE;
    return NP_OK;
}

/* ---- Closing */

uint32_t np_replace(struct np_handle *handle, bool discard, struct np_handle **result)
{
    struct np_handle *fresh = np_handle_new();
    if (!fresh)
        return NP_NOT_ENOUGH_MEMORY;
    np_handle_copy_set_up(fresh, handle);
    pthread_mutex_lock(&np_process.create_lock);
    pthread_mutex_lock(&np_process.lock);
    struct np_pipe *pipe = handle->pipe;
    if (pipe) {
        /* The count stays as it is: the new instance takes the old one's place, and the name never goes. */
        np_listening_remove(pipe, handle);
        handle->pipe = NULL;
        atomic_store_explicit(&handle->state, NP_CLOSED, memory_order_release);
        np_left_listening(pipe, handle);
        fresh->pipe = pipe;
        fresh->summary = np_summary_hold(pipe->summary);
        np_handle_register(fresh);
        np_listening_start(pipe, fresh);
    }
    pthread_mutex_unlock(&np_process.lock);
    if (pipe) {
        np_handle_end_link(handle, discard);
        pthread_mutex_lock(&np_process.lock);
        np_handle_unregister(handle);
        pthread_mutex_unlock(&np_process.lock);
    }
    pthread_mutex_unlock(&np_process.create_lock);
    if (!pipe) {
        np_free(fresh);
        return NP_INVALID_HANDLE;
    }
    *result = fresh;
    return NP_OK;
}
