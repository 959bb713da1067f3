#include "pipe/instances.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/platform.h"
#include "process/process.h"
#include "handle/acceptor.h"
#include "handle/handle.h"
#include "overlapped/operation.h"
#include "pipe/directory.h"

void np_listening_append(struct np_pipe *pipe, struct np_handle *handle)
{
    handle->next_listening = NULL;
    if (pipe->last_listening)
        pipe->last_listening->next_listening = handle;
    else
        pipe->first_listening = handle;
    pipe->last_listening = handle;
    /* Sequentially consistent: see count_waiters in pipe/owner.c. */
    atomic_fetch_add_explicit(&pipe->slot->listening, 1, memory_order_seq_cst);
}

void np_listening_put_back(struct np_pipe *pipe, struct np_handle *handle)
{
    handle->next_listening = pipe->first_listening;
    pipe->first_listening = handle;
    if (!pipe->last_listening)
        pipe->last_listening = handle;
    atomic_fetch_add_explicit(&pipe->slot->listening, 1, memory_order_seq_cst);
}

void np_listening_remove(struct np_pipe *pipe, struct np_handle *handle)
{
    struct np_handle *before = NULL;
    for (struct np_handle *item = pipe->first_listening; item; before = item, item = item->next_listening) {
        if (item != handle)
            continue;
        if (before)
            before->next_listening = item->next_listening;
        else
            pipe->first_listening = item->next_listening;
        if (pipe->last_listening == item)
            pipe->last_listening = before;
        item->next_listening = NULL;
        atomic_fetch_sub_explicit(&pipe->slot->listening, 1, memory_order_seq_cst);
        return;
    }
}

struct np_pipe *np_pipe_find(const struct np_where *where)
{
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next)
        if (strcmp(pipe->folder, where->folder) == 0 && strcmp(pipe->root, where->root) == 0)
            return pipe;
    return NULL;
}

void np_accept_failed(struct np_pipe *pipe, struct np_handle *handle, int reason)
{
    /* Release, with np_connect's exchange: behind the word stand only the handle's own fields, which its lock
     * guards. */
    atomic_store_explicit(&handle->connect_failed, reason ? reason : ENOMEM, memory_order_release);
    if (np_async_fail_connect(handle))
        atomic_store_explicit(&handle->connect_failed, 0, memory_order_relaxed); /* it is told */
    np_left_listening(pipe, handle);
}

int np_connect_reason(const struct np_handle *handle)
{
    return atomic_load_explicit(&handle->connect_reason, memory_order_relaxed);
}

/* Has those look again who wait in np_connect for `handle`. */
static void wake_connects(struct np_pipe *pipe, struct np_handle *handle)
{
    uint64_t one = 1;
    atomic_fetch_add_explicit(&handle->connect_seq, 1, memory_order_seq_cst);
    /* Sequentially consistent, with its twin in await_client: either we see the sleeper, or it sees the number move. */
    if (atomic_load_explicit(&handle->connect_sleepers, memory_order_seq_cst))
        np_futex_wake(&handle->connect_seq, UINT32_MAX);
    if (pipe && pipe->leader && !pipe->leader_awake && !pipe->leader_called)
        pipe->leader_called = write(pipe->leader_event, &one, sizeof one) == (ssize_t)sizeof one;
}

void np_left_listening(struct np_pipe *pipe, struct np_handle *handle)
{
    np_async_end_connects(handle);
    np_acceptor_notify(handle);
    wake_connects(pipe, handle);
}

void np_wake_connects(struct np_handle *handle)
{
    wake_connects(handle->pipe, handle);
}

uint32_t np_closed_seq(void)
{
    return atomic_load_explicit(&np_process.closed_seq, memory_order_acquire);
}

void np_tell_closed(void)
{
    atomic_fetch_add_explicit(&np_process.closed_seq, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&np_process.closed_waiters, memory_order_seq_cst) == 0)
        return;
    np_futex_wake(&np_process.closed_seq, UINT32_MAX);
    np_acceptors_tell_closed();
}

void np_wake_closed(void)
{
    np_tell_closed();
}
