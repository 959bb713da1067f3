#include "poll/accept.h"

#include <stdlib.h>

#include "base/fds.h"
#include "process/process.h"
#include "handle/acceptor.h"
#include "pipe/directory.h"
#include "pipe/instances.h"
#include "pipe/room.h"

void np_acceptor_forget_room(struct np_acceptor *acceptor)
{
    pthread_mutex_lock(&np_acceptors_lock);
    bool listed = acceptor->listed;
    acceptor->listed = false;
    for (struct np_acceptor **place = &np_acceptors_waiting; *place; place = &(*place)->next)
        if (*place == acceptor) {
            *place = acceptor->next;
            break;
        }
    pthread_mutex_unlock(&np_acceptors_lock);
    if (listed)
        np_await_closed_end();
}

void np_acceptor_await_room(struct np_acceptor *acceptor, const struct np_where *where, uint32_t seen)
{
    np_acceptor_forget_room(acceptor); /* others may own instances by now */
    np_await_closed_begin();
    pthread_mutex_lock(&np_acceptors_lock);
    acceptor->listed = true;
    acceptor->next = np_acceptors_waiting;
    np_acceptors_waiting = acceptor;
    pthread_mutex_unlock(&np_acceptors_lock);
    /* Counted and listed before the number is looked at: who closes an instance moves the number before it looks for
     * those who are counted (both sequentially consistent), so it rings, or the number has moved. */
    if (!np_watch_owners(where) || np_closed_seq() != seen)
        np_acceptor_ring(acceptor);
}

void np_acceptor_free(struct np_acceptor *acceptor)
{
    pthread_mutex_lock(&np_process.lock);
    np_acceptor_forget_handle(acceptor);
    pthread_mutex_unlock(&np_process.lock);
    np_acceptor_forget_room(acceptor);
    np_fd_close(acceptor->event);
    np_fds_hold();
    if (acceptor->previous_of_all)
        acceptor->previous_of_all->next_of_all = acceptor->next_of_all;
    else
        np_acceptors = acceptor->next_of_all;
    if (acceptor->next_of_all)
        acceptor->next_of_all->previous_of_all = acceptor->previous_of_all;
    np_fds_release();
    free(acceptor);
}
