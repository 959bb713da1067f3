#include "overlapped/cancel.h"

#include "base/codes.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/rx.h"
#include "ring/tx.h"
#include "handle/handle.h"
#include "handle/objects.h"
#include "handle/step.h"
#include "overlapped/drive.h"
#include "overlapped/operation.h"
#include "overlapped/wait.h"

/* ---- Ending */

void np_async_end(struct np_link *link, uint32_t code)
{
    struct np_op *next;
    for (struct np_op *op = link->rx.first; op; op = next) {
        next = op->next;
        if (!op->completed)
            continue;
        np_rx_leave(link, op);
        bool taken = np_read_end(op, np_async_of(op)->message_mode, code) == NP_OK;
        np_async_complete(np_async_of(op), taken ? NP_OK : code, taken ? op->count : 0);
    }
    for (struct np_op *op = link->tx.first; op; op = next) {
        next = op->next;
        if (!op->completed)
            continue;
        bool stays = code == NP_BROKEN_PIPE && op->started && op->count == op->size;
        np_tx_forget(link, op);
        /* What stands in the ring stays readable after a close (SEMANTICS 3.4). */
        op->code = stays ? NP_OK : code;
        op->completed(op);
    }
}

static bool cancel_read(struct np_async *async)
{
    struct np_handle *handle = async->handle;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = async->link;
    bool pending = link && np_async_code(async) == NP_IO_PENDING;
    if (pending) {
        struct np_op *op = &async->op;
        np_rx_leave(link, op);
        if (np_read_end(op, async->message_mode, NP_OPERATION_ABORTED) == NP_OK)
            np_async_complete(async, NP_OK, op->count); /* what a byte-mode read has taken, it has read */
        else if (!async->message_mode || np_rx_give_back(link, op))
            np_async_complete(async, NP_OPERATION_ABORTED, 0);
        else
            np_async_complete(async, np_link_violated(link), 0);
        np_drive_back(handle, link);
    }
    np_unlock_moved(handle, &handle->rx_lock);
    return pending;
}

static bool cancel_write(struct np_async *async)
{
    struct np_handle *handle = async->handle;
    np_objects_drive_moved(); /* a read of this process that is pended for these bytes has them already */
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = async->link;
    bool pending = link && np_async_code(async) == NP_IO_PENDING;
    if (pending) {
        np_link_ref(link);
        uint32_t code = np_withdraw(handle, link, &async->op);
        pending = np_async_code(async) == NP_IO_PENDING;
        if (pending) {
            if (async->op.queued)
                np_tx_forget(link, &async->op);
            np_async_complete(async,
                              code == NP_OK        ? NP_OPERATION_ABORTED
                              : code == NP_NO_DATA ? NP_OK
                                                   : code,
                              code == NP_NO_DATA ? async->op.size : 0);
        }
        np_link_unref(link);
    }
    np_unlock_moved(handle, &handle->tx_lock);
    return pending;
}

bool np_async_cancel(struct np_async *async)
{
    if (np_async_code(async) != NP_IO_PENDING)
        return false;
    switch (async->kind) {
    case NP_ASYNC_WRITE:
        return cancel_write(async);
    case NP_ASYNC_CONNECT:
        return np_async_cancel_connect(async);
    default:
        return cancel_read(async);
    }
}

/* The next to cancel: reads in the order in which they began, then writes from the last one back, so that none is let
 * through by the one before it going away. With the objects' lock. */
static struct np_async *next_to_cancel(const struct np_handle *handle, const struct np_thread *thread)
{
    struct np_async *read = NULL, *write = NULL;
    for (struct np_async *async = handle->asyncs; async; async = async->of_handle.next) {
        if (async->cancelling || (thread && async->thread != thread))
            continue;
        if (async->kind != NP_ASYNC_WRITE)
            read = async;
        else if (!write)
            write = async;
    }
    return read ? read : write;
}

uint32_t np_async_cancel_all(struct np_handle *handle, const struct np_thread *thread)
{
    uint32_t cancelled = 0;
    np_async_drive(handle);
    for (;;) {
        np_objects_lock();
        struct np_async *found = next_to_cancel(handle, thread);
        if (found) {
            found->cancelling = true;
            np_async_ref(found);
        }
        np_objects_unlock();
        if (!found)
            return cancelled;
        cancelled += np_async_cancel(found);
        np_async_unref(found);
    }
}

void np_async_cancel_thread(struct np_thread *thread)
{
    for (;;) {
        np_objects_lock();
        struct np_async *found = NULL;
        for (struct np_async *async = thread->asyncs; async; async = async->of_thread.next)
            if (!async->cancelling && !async->port)
                found = async;
        if (found) {
            found->cancelling = true;
            np_async_ref(found);
        }
        np_objects_unlock();
        if (!found)
            return;
        np_async_cancel(found);
        np_async_unref(found);
    }
}

/* 101: before the constructors of the program, which may use pipes. */
__attribute__((constructor(101))) static void hear_of_threads_that_end(void)
{
    np_thread_ending = np_async_cancel_thread;
}
