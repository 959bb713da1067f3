#include "pipe/room.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/identity.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"
#include "process/process.h"
#include "pipe/dial.h"
#include "pipe/directory.h"
#include "pipe/instances.h"
#include "pipe/messages.h"

static void drop_owner(struct np_owner *owner)
{
    for (struct np_owner **place = &np_process.owners; *place; place = &(*place)->next)
        if (*place == owner) {
            *place = owner->next;
            break;
        }
    np_watch_remove(owner->watch, owner->socket);
    np_hang_up(owner->socket);
    free(owner);
}

void np_owner_gone(struct np_owner *owner)
{
    drop_owner(owner);
    np_tell_closed();
}

/* Has the native thread watch the owner at `socket`, who keeps it for as long as it lives. */
static bool watch_owner(int socket)
{
    static const struct npw_request stay = {.magic = NPW_MAGIC, .version = NPW_VERSION, .kind = NPW_STAY};
    struct np_owner *owner = calloc(1, sizeof *owner);
    if (!owner || np_send_message(socket, &stay, sizeof stay, -1) != (ssize_t)sizeof stay) {
        free(owner);
        return false;
    }
    owner->socket = socket;
    pthread_mutex_lock(&np_process.lock);
    owner->watch = np_watch_add(socket, EPOLLIN | EPOLLRDHUP, NP_WATCH_OWNER, owner);
    if (owner->watch) {
        owner->next = np_process.owners;
        np_process.owners = owner;
    }
    bool watched = owner->watch != 0; /* from here on the native thread may free it */
    pthread_mutex_unlock(&np_process.lock);
    if (!watched)
        free(owner);
    return watched;
}

static bool is_own_socket(const char *name)
{
    bool own = false;
    char of_pipe[NPF_SOCKET_SIZE];
    pthread_mutex_lock(&np_process.lock);
    for (struct np_pipe *pipe = np_process.pipes; pipe && !own; pipe = pipe->next) {
        np_socket_name(pipe->id, of_pipe);
        own = strcmp(of_pipe, name) == 0;
    }
    pthread_mutex_unlock(&np_process.lock);
    return own;
}

bool np_watch_owners(const struct np_where *where)
{
    char names[NPF_SLOTS][NPF_SOCKET_SIZE];
    int dirfd;
    if (np_folder_look(where->root, where->folder, &dirfd, NULL) != NP_OK)
        return false;
    uint32_t count = np_folder_sockets(dirfd, names, NPF_SLOTS);
    bool alive = true;
    for (uint32_t i = 0; i < count && alive; i++) {
        if (is_own_socket(names[i]))
            continue;
        bool out = np_step_out(); /* it is an owner who stays */
        int socket = np_socket_connect(dirfd, names[i], np_now());
        np_step_back(out);
        alive = socket != -ECONNREFUSED && socket != -ENOENT;
        if (socket >= 0 && !watch_owner(socket))
            np_hang_up(socket); /* without descriptors or memory its end is noticed later */
    }
    np_fd_close(dirfd);
    return alive;
}

void np_await_closed_begin(void)
{
    /* Sequentially consistent, with its twin in np_tell_closed: either we are seen, or we see the number move. */
    atomic_fetch_add_explicit(&np_process.closed_waiters, 1, memory_order_seq_cst);
}

void np_await_closed_end(void)
{
    if (atomic_fetch_sub_explicit(&np_process.closed_waiters, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_lock(&np_process.lock);
    while (np_process.owners && atomic_load_explicit(&np_process.closed_waiters, memory_order_acquire) == 0)
        drop_owner(np_process.owners);
    pthread_mutex_unlock(&np_process.lock);
}

uint32_t np_wait_closed(const struct np_where *where, uint32_t seen, const struct np_wait *wait)
{
    uint32_t code = NP_OK;
    np_await_closed_begin();
    if (np_watch_owners(where))
        code = np_sleep(&np_process.closed_seq, seen, UINT32_MAX, wait);
    np_await_closed_end();
    return code;
}
