#include "handle/acceptor.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fds.h"
#include "process/process.h"
#include "handle/handle.h"

pthread_mutex_t np_acceptors_lock = PTHREAD_MUTEX_INITIALIZER;
struct np_acceptor *np_acceptors_waiting;

struct np_acceptor *np_acceptors;

struct np_acceptor *np_acceptor_new(void)
{
    struct np_acceptor *acceptor = calloc(1, sizeof *acceptor);
    if (!acceptor)
        return NULL;
    np_fds_hold();
    acceptor->event = np_fd_made(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (acceptor->event < 0) {
        free(acceptor);
        return NULL;
    }
    np_fds_hold();
    acceptor->next_of_all = np_acceptors;
    if (np_acceptors)
        np_acceptors->previous_of_all = acceptor;
    np_acceptors = acceptor;
    np_fds_release();
    return acceptor;
}

int np_acceptor_event(const struct np_acceptor *acceptor)
{
    return acceptor->event;
}

void np_acceptor_ring(const struct np_acceptor *acceptor)
{
    const uint64_t one = 1;
    if (write(acceptor->event, &one, sizeof one) < 0) {
        /* Its counter is full: it has rung. */
    }
}

void np_acceptor_quieten(struct np_acceptor *acceptor)
{
    uint64_t count;
    if (read(acceptor->event, &count, sizeof count) < 0) {
        /* It has not rung. */
    }
}

/* ---- A client */

void np_acceptor_unlink(struct np_handle *handle)
{
    if (handle->acceptor)
        handle->acceptor->handle = NULL;
    handle->acceptor = NULL;
}

void np_acceptor_notify(struct np_handle *handle)
{
    if (!handle->acceptor)
        return;
    np_acceptor_ring(handle->acceptor);
    np_acceptor_unlink(handle);
}

void np_acceptor_forget_handle(struct np_acceptor *acceptor)
{
    if (acceptor->handle)
        np_acceptor_unlink(acceptor->handle);
}

void np_acceptor_watch(struct np_acceptor *acceptor, struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    if (acceptor->handle != handle) {
        np_acceptor_forget_handle(acceptor);
        if (atomic_load_explicit(&handle->state, memory_order_acquire) == NP_LISTENING) {
            acceptor->handle = handle;
            handle->acceptor = acceptor;
        } else {
            np_acceptor_ring(acceptor);
        }
    }
    pthread_mutex_unlock(&np_process.lock);
}

/* ---- Room for an instance */

void np_acceptors_tell_closed(void)
{
    pthread_mutex_lock(&np_acceptors_lock);
    for (const struct np_acceptor *acceptor = np_acceptors_waiting; acceptor; acceptor = acceptor->next)
        np_acceptor_ring(acceptor);
    pthread_mutex_unlock(&np_acceptors_lock);
}

/* ---- The end */

void np_acceptors_after_fork(void)
{
    pthread_mutex_init(&np_acceptors_lock, NULL); /* its holder is not here */
    for (struct np_acceptor *acceptor = np_acceptors; acceptor; acceptor = acceptor->next_of_all) {
        acceptor->listed = false;
        acceptor->event = -1;
    }
    np_acceptors_waiting = NULL;
}
