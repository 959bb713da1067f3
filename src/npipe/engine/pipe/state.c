#include "pipe/state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/identity.h"
#include "base/socket.h"
#include "process/process.h"
#include "ring/back.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/rx.h"
#include "ring/segment.h"
#include "ring/tx.h"
#include "handle/handle.h"
#include "overlapped/cancel.h"
#include "overlapped/drive.h"
#include "overlapped/operation.h"
#include "pipe/instances.h"
#include "pipe/messages.h"
#include "pipe/owner.h"
#include "pipe/query.h"
#include "pipe/sweep.h"

bool np_handle_unlink(struct np_handle *handle, uint32_t alert, enum npl_end_state end, enum np_state state)
{
    pthread_mutex_lock(&np_process.lock);
    pthread_mutex_lock(&handle->rx_lock);
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    bool waited_for = false;
    bool closed = atomic_load_explicit(&handle->state, memory_order_acquire) == NP_CLOSED;
    np_handle_leaves(handle);
    if (link && link->rx.first)
        np_async_drive_reads(handle, link); /* what has come already is theirs */
    if (link)
        np_async_drive_writes(handle, link);
    handle->link = NULL;
    if (!closed) /* once and for all */
        atomic_store_explicit(&handle->state, state, memory_order_release);
    np_fresh_remove(handle);
    if (link) {
        if (link->watch)
            np_watch_remove(link->watch, link->socket);
        link->watch = 0;
        link->handle = NULL;
        atomic_fetch_or_explicit(&link->alert, alert, memory_order_release);
        np_async_end(link, end == NPL_END_DISCONNECTED ? NP_PIPE_NOT_CONNECTED : NP_BROKEN_PIPE);
        np_handle_counted(handle, link);
        /* Threads that wait hold references, taken under the locks that are held here. */
        waited_for = atomic_load_explicit(&link->refs, memory_order_acquire) > 1;
        if (waited_for)
            np_link_wake_own(link);
        np_link_end(link, end, !waited_for);
    }
    uint64_t pair = np_async_pair(link);
    pthread_mutex_unlock(&handle->tx_lock);
    pthread_mutex_unlock(&handle->rx_lock);
    pthread_mutex_unlock(&np_process.lock);
    if (!link)
        return !closed;
    if (pair)
        np_async_drive_pair(pair);
    if (waited_for)
        shutdown(link->socket, SHUT_RDWR); /* the peer's native thread shall not wait for them to go */
    np_link_unref(link);
    return !closed;
}

void np_handle_cancel_blocked(struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    if (handle->link)
        np_link_wake_own(handle->link);
    else if (handle->pipe)
        np_left_listening(handle->pipe, handle);
    pthread_mutex_unlock(&np_process.lock);
}

bool np_is_disconnected(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    bool is = !handle->server && handle->link && np_link_condition(handle->link) == NP_PIPE_NOT_CONNECTED;
    pthread_mutex_unlock(&handle->rx_lock);
    return is;
}

bool np_has_read(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    bool has = handle->link && (handle->link->rx.taken > 0 || handle->link->rx.consumed > 0);
    pthread_mutex_unlock(&handle->rx_lock);
    return has;
}

/* Whom the client of another machine is here. */
static bool remote_credentials(const struct np_link *link, struct np_credentials *who)
{
    const struct npw_remote *remote = link->remote;
    const uint32_t *groups = (const uint32_t *)(remote + 1);
    who->pid = 0;
    who->uid = remote->uid;
    who->gid = remote->gid;
    who->n_groups = remote->n_groups; /* checked when it came (pipe/owner.c) */
    for (uint32_t i = 0; i < remote->n_groups; i++)
        who->groups[i] = groups[i];
    return true;
}

uint32_t np_remote(struct np_handle *handle, void **data, uint32_t *size)
{
    uint32_t code = NP_OK;
    *data = NULL;
    *size = 0;
    pthread_mutex_lock(&handle->rx_lock);
    const struct np_link *link = handle->link;
    if (link && link->remote) {
        *data = malloc(link->remote_size);
        code = *data ? NP_OK : NP_NOT_ENOUGH_MEMORY;
        if (*data) {
            memcpy(*data, link->remote, link->remote_size);
            *size = link->remote_size;
        }
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

uint32_t np_impersonate(struct np_handle *handle)
{
    if (!handle->server)
        return NP_INVALID_FUNCTION;
    struct np_credentials who;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    /* Nobody to be before the client has said something. Of a client of another machine the socket tells who has opened
     * the pipe for it, which is somebody else: so it does where this process has the end from another one, which alone
     * knows who the client is. */
    bool known = link && (link->rx.taken > 0 || link->rx.consumed > 0) &&
                 (link->remote                    ? remote_credentials(link, &who)
                  : handle->peer_uid == (uid_t)-1 ? false
                                                  : np_peer_credentials(link->socket, true, &who));
    pthread_mutex_unlock(&handle->rx_lock);
    if (!known)
        return NP_CANNOT_IMPERSONATE;
    return np_become(&who) ? NP_OK : NP_PRIVILEGE_NOT_HELD;
}

/* A disconnected client is good for nothing any more (SEMANTICS 3.5, 9). With rx_lock held. */
static uint32_t usable(const struct np_handle *handle)
{
    if (atomic_load_explicit(&handle->state, memory_order_acquire) == NP_CLOSED)
        return NP_INVALID_HANDLE;
    if (!handle->server && handle->link) {
        uint32_t condition = np_link_condition(handle->link);
        if (condition == NP_PIPE_NOT_CONNECTED || condition == NP_INVALID_HANDLE)
            return condition;
    }
    return NP_OK;
}

static uint32_t usable_locked(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    uint32_t code = usable(handle);
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

/* A transaction's request never counts as one (SEMANTICS 8.2). */
static bool writes_are_pending(const struct np_link *link)
{
    for (const struct np_op *op = link->tx.first; op; op = op->next)
        if (op->completed != np_detached_done)
            return true;
    return false;
}

uint32_t np_set_state(struct np_handle *handle, uint32_t mode)
{
    if (mode & ~(uint32_t)(NP_MODE_NOWAIT | NP_MODE_READ_MESSAGE))
        return NP_INVALID_PARAMETER;
    pthread_mutex_lock(&handle->rx_lock);
    pthread_mutex_lock(&handle->tx_lock);
    uint32_t code = usable(handle);
    if (code == NP_OK && !(handle->access & NP_WRITE_ATTRIBUTES))
        code = NP_ACCESS_DENIED;
    if (code == NP_OK && mode & NP_MODE_READ_MESSAGE && handle->type != NP_TYPE_MESSAGE)
        code = NP_INVALID_PARAMETER;
    uint32_t before = atomic_load_explicit(&handle->mode, memory_order_relaxed);
    if (handle->link && handle->link->rx.first)
        np_async_drive_reads(handle, handle->link);
    if (handle->link)
        np_async_drive_writes(handle, handle->link);
    bool pending = handle->link && (handle->link->rx.first || writes_are_pending(handle->link));
    if (code == NP_OK && mode & ~before & NP_MODE_NOWAIT && pending)
        code = NP_PIPE_BUSY; /* SEMANTICS 9.1 */
    if (code == NP_OK)
        atomic_store_explicit(&handle->mode, mode, memory_order_relaxed);
    pthread_mutex_unlock(&handle->tx_lock);
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

uint32_t np_count_instances(struct np_handle *handle, uint32_t *instances)
{
    *instances = 0;
    if (handle->server) {
        pthread_mutex_lock(&np_process.lock);
        if (handle->pipe)
            *instances = np_pipe_living_instances(handle->pipe);
        pthread_mutex_unlock(&np_process.lock);
        return NP_OK;
    }
    uint32_t code = np_query_instances(handle->root, handle->folder, handle->pipe_id, instances);
    return code == NP_FILE_NOT_FOUND ? NP_OK : code; /* its servers are all gone: none */
}

uint32_t np_get_state(struct np_handle *handle, uint32_t *mode, uint32_t *instances)
{
    uint32_t code = usable_locked(handle);
    if (code != NP_OK)
        return code;
    if (!(handle->access & NP_READ_ATTRIBUTES))
        return NP_ACCESS_DENIED;
    *mode = atomic_load_explicit(&handle->mode, memory_order_relaxed);
    return np_count_instances(handle, instances);
}

void np_describe(const struct np_handle *handle, struct np_description *description)
{
    *description = (struct np_description){
        .server = handle->server,
        .type = handle->type,
        .direction = handle->direction,
        .mode = atomic_load_explicit(&handle->mode, memory_order_relaxed),
        .in_quota = handle->quota[NPL_INBOUND],
        .out_quota = handle->quota[NPL_OUTBOUND],
        .max_instances = handle->max_instances,
        .access = handle->access & (NP_READ | NP_WRITE),
    };
}

enum np_peer_end np_peer_ended(struct np_handle *handle)
{
    enum np_peer_end end = NP_PEER_UNKNOWN;
    pthread_mutex_lock(&handle->rx_lock);
    if (handle->link) {
        uint32_t alert = atomic_load_explicit(&handle->link->alert, memory_order_acquire);
        switch (atomic_load_explicit(handle->link->peer_state, memory_order_acquire)) {
        case NPL_END_CLOSED:
            end = NP_PEER_CLOSED;
            break;
        case NPL_END_DISCONNECTED:
            end = NP_PEER_DISCONNECTED;
            break;
        case NPL_END_ABORTED:
            end = NP_PEER_ABORTED;
            break;
        default:
            end = alert & NP_ALERT_GONE ? NP_PEER_DIED : NP_PEER_OPEN;
        }
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return end;
}

uint32_t np_get_info(struct np_handle *handle, struct np_info *info)
{
    uint32_t code = usable_locked(handle);
    if (code != NP_OK)
        return code;
    if (!(handle->access & NP_READ_ATTRIBUTES))
        return NP_ACCESS_DENIED;
    *info = (struct np_info){
        .flags = handle->type | (handle->server ? NP_INFO_SERVER_END : 0),
        .out_quota = handle->quota[NPL_OUTBOUND],
        .in_quota = handle->quota[NPL_INBOUND],
        .max_instances = handle->max_instances,
    };
    return NP_OK;
}

uint32_t np_client_pid(struct np_handle *handle, uint32_t *pid)
{
    uint32_t code = usable_locked(handle);
    if (code != NP_OK)
        return code;
    if (handle->server && atomic_load_explicit(&handle->state, memory_order_acquire) != NP_CONNECTED)
        return NP_NOT_FOUND;
    *pid = handle->client_pid;
    return NP_OK;
}

uint32_t np_server_pid(struct np_handle *handle, uint32_t *pid)
{
    uint32_t code = usable_locked(handle);
    if (code == NP_OK)
        *pid = handle->server_pid;
    return code;
}

uint32_t np_peer(struct np_handle *handle, pid_t *pid, uid_t *uid)
{
    uint32_t code = usable_locked(handle);
    uint32_t state = atomic_load_explicit(&handle->state, memory_order_acquire);
    if (code != NP_OK)
        return code;
    if (handle->server && state != NP_CONNECTED)
        return state == NP_LISTENING ? NP_PIPE_LISTENING : NP_PIPE_NOT_CONNECTED;
    *pid = (pid_t)(handle->server ? handle->client_pid : handle->server_pid);
    *uid = handle->peer_uid;
    return NP_OK;
}

bool np_is_at_rest_of_message(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    const struct np_link *link = handle->link;
    bool begun = link && (np_rx_has_back(link) ? np_back_begun(&link->rx) : link->rx.active && link->rx.delivered > 0);
    pthread_mutex_unlock(&handle->rx_lock);
    return begun;
}

uint32_t np_rest_of_message(struct np_handle *handle)
{
    uint32_t rest = 0;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    if (link && !link->rx.first && np_rx_has_back(link))
        rest = np_back_begun(&link->rx) ? np_back_rest(&link->rx) : 0;
    else if (link && np_link_condition(link) != NP_PIPE_NOT_CONNECTED && !link->rx.first && link->rx.active &&
             link->rx.delivered > 0 && np_rx_settle(link) == NP_OK && link->rx.delivered > 0)
        rest = np_rx_rest(&link->rx);
    pthread_mutex_unlock(&handle->rx_lock);
    return rest;
}

bool np_is_being_read(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    bool is = handle->link && handle->link->rx.first;
    pthread_mutex_unlock(&handle->rx_lock);
    return is;
}
