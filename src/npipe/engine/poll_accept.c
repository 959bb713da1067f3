/* Accepting: a listener is told, through an eventfd, that a client has come to its instance, or that there may be room for one. */
#include "poll.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fds.h"
#include "registry.h"

/* Guards the list, and `listed` of who is in it. A leaf: no other lock is taken while it is held. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct np_acceptor *waiting_for_room;

struct np_acceptor {
    int event;      /* -1 in a child: it was the parent's */
    struct np_handle *handle; /* which tells when it has left the listening state; guarded by the process lock */
    bool listed;              /* to be told when an instance is closed */
    struct np_acceptor *next;
    struct np_acceptor *next_of_all, *previous_of_all; /* with np_fds_hold */
};

static struct np_acceptor *acceptors;

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
    acceptor->next_of_all = acceptors;
    if (acceptors)
        acceptors->previous_of_all = acceptor;
    acceptors = acceptor;
    np_fds_release();
    return acceptor;
}

int np_acceptor_event(const struct np_acceptor *acceptor)
{
    return acceptor->event;
}

static void ring(const struct np_acceptor *acceptor)
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

void np_acceptor_told(struct np_handle *handle)
{
    if (!handle->acceptor)
        return;
    ring(handle->acceptor);
    np_acceptor_unlink(handle);
}

/* With the process lock held. */
static void forget_handle(struct np_acceptor *acceptor)
{
    if (acceptor->handle)
        np_acceptor_unlink(acceptor->handle);
}

void np_acceptor_watch(struct np_acceptor *acceptor, struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    if (acceptor->handle != handle) {
        forget_handle(acceptor);
        if (atomic_load_explicit(&handle->state, memory_order_acquire) == NP_LISTENING) {
            acceptor->handle = handle;
            handle->acceptor = acceptor;
        } else {
            ring(acceptor);
        }
    }
    pthread_mutex_unlock(&np_process.lock);
}

/* ---- Room for an instance */

void np_acceptors_tell_closed(void)
{
    pthread_mutex_lock(&lock);
    for (const struct np_acceptor *acceptor = waiting_for_room; acceptor; acceptor = acceptor->next)
        ring(acceptor);
    pthread_mutex_unlock(&lock);
}

void np_acceptor_forget_room(struct np_acceptor *acceptor)
{
    pthread_mutex_lock(&lock);
    bool listed = acceptor->listed;
    acceptor->listed = false;
    for (struct np_acceptor **place = &waiting_for_room; *place; place = &(*place)->next)
        if (*place == acceptor) {
            *place = acceptor->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    if (listed)
        np_await_closed_end();
}

void np_acceptor_await_room(struct np_acceptor *acceptor, const struct np_where *where, uint32_t seen)
{
    np_acceptor_forget_room(acceptor); /* others may own instances by now */
    np_await_closed_begin();
    pthread_mutex_lock(&lock);
    acceptor->listed = true;
    acceptor->next = waiting_for_room;
    waiting_for_room = acceptor;
    pthread_mutex_unlock(&lock);
    /* Counted and listed before the number is looked at: who closes an instance moves the number before he looks for those who are
     * counted (both sequentially consistent), so he rings, or the number has moved. */
    if (!np_watch_owners(where) || np_closed_seq() != seen)
        ring(acceptor);
}

/* ---- The end */

void np_acceptor_free(struct np_acceptor *acceptor)
{
    pthread_mutex_lock(&np_process.lock);
    forget_handle(acceptor);
    pthread_mutex_unlock(&np_process.lock);
    np_acceptor_forget_room(acceptor);
    np_fd_close(acceptor->event);
    np_fds_hold();
    if (acceptor->previous_of_all)
        acceptor->previous_of_all->next_of_all = acceptor->next_of_all;
    else
        acceptors = acceptor->next_of_all;
    if (acceptor->next_of_all)
        acceptor->next_of_all->previous_of_all = acceptor->previous_of_all;
    np_fds_release();
    free(acceptor);
}

void np_acceptors_after_fork(void)
{
    pthread_mutex_init(&lock, NULL); /* its holder is not here */
    for (struct np_acceptor *acceptor = acceptors; acceptor; acceptor = acceptor->next_of_all) {
        acceptor->listed = false;
        acceptor->event = -1;
    }
    waiting_for_room = NULL;
}
