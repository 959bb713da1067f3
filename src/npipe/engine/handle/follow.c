#include "handle/follow.h"

#include <poll.h>
#include <sys/epoll.h>

#include "base/codes.h"
#include "base/fds.h"
#include "handle/objects.h"
#include "process/process.h"

uint32_t np_follow_begin(struct np_follow *follow)
{
    uint32_t code = np_process_start();
    if (code != NP_OK)
        return code;
    pthread_mutex_lock(&np_process.lock);
    follow->forks = np_forks;
    /* Once: it stays readable. */
    follow->watch = np_watch_add(follow->fd, EPOLLIN | EPOLLONESHOT, NP_WATCH_OBJECT, follow->object);
    pthread_mutex_unlock(&np_process.lock);
    return follow->watch ? NP_OK : NP_NOT_ENOUGH_MEMORY;
}

void np_follow_look(struct np_follow *follow)
{
    if (np_object_looks_signalled(follow->object))
        return;
    struct pollfd due = {.fd = follow->fd, .events = POLLIN};
    if (poll(&due, 1, 0) == 1)
        np_event_set(follow->object);
    else if (follow->forks != np_forks)
        (void)np_follow_begin(follow); /* without memory for it, the waits with a time-out still look here */
}

void np_follow_end(struct np_follow *follow)
{
    if (!follow->watch)
        return;
    pthread_mutex_lock(&np_process.lock);
    if (follow->forks == np_forks) /* else the name is the parent's, and may be another watch's here */
        np_watch_remove(follow->watch, follow->fd);
    pthread_mutex_unlock(&np_process.lock);
    follow->watch = 0;
}
