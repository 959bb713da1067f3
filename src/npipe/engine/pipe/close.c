#include "pipe/close.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/identity.h"
#include "base/platform.h"
#include "base/wait.h"
#include "process/process.h"
#include "ring/link.h"
#include "ring/segment.h"
#include "ring/segment_cache.h"
#include "ring/tap.h"
#include "handle/handle.h"
#include "pipe/directory.h"
#include "pipe/instances.h"
#include "pipe/owner.h"
#include "pipe/rule.h"
#include "pipe/state.h"
#include "pipe/sweep.h"

void np_pipe_free(struct np_pipe *pipe)
{
    if (pipe->forks == np_forks) {
        np_fd_close(pipe->socket);
        np_fd_close(pipe->leader_event);
        np_folder_close(&pipe->files);
    }
    if (pipe->forks == np_forks)
        np_tap_unref(pipe->tap);
    np_rule_free(&pipe->rule);
    np_summary_free(pipe->summary);
    free(pipe->root);
    free(pipe->folder);
    free(pipe);
}

struct npf_slot *np_slot_find_free(struct npf_page *page)
{
    for (int i = 0; i < NPF_SLOTS; i++)
        if (atomic_load_explicit(&page->slot[i].id, memory_order_acquire) == 0)
            return &page->slot[i];
    return NULL;
}

void np_pipe_put(struct np_pipe *pipe)
{
    pthread_mutex_lock(&np_process.lock);
    bool last = --pipe->refs == 0;
    pthread_mutex_unlock(&np_process.lock);
    if (last)
        np_pipe_free(pipe);
}

/* The last to close may act as a client just now: then it steps out of that. Whether it has. */
static bool as_owner(const struct np_pipe *pipe)
{
    return geteuid() != pipe->owner && np_step_out();
}

void np_pipe_vacate(struct np_pipe *pipe)
{
    char name[NPF_SOCKET_SIZE];
    np_socket_name(pipe->id, name);
    bool out = as_owner(pipe);
    unlinkat(pipe->files.dirfd, name, 0);
    np_step_back(out);
    np_stop_listening(pipe->socket); /* not before: what refuses in a folder is taken for a dead one's */
    np_slot_leave(pipe->slot, pipe->id);
}

void np_pipe_end_locked(struct np_pipe *pipe)
{
    bool out = as_owner(pipe);
    np_folder_bury(&pipe->files, 0);
    np_folder_remove(pipe->root, pipe->folder, &pipe->files);
    np_step_back(out);
    np_folder_unlock(&pipe->files);
    np_pipe_put(pipe);
}

/* The last instance here has gone. With the create lock held, the pipe out of the list. False: somebody else has the
 * folder's lock, and end_pipe is to follow without ours. To the others the pipe has gone already. */
static bool try_end_pipe(struct np_pipe *pipe)
{
    np_pipe_vacate(pipe);
    if (!np_process.pipes)
        np_kept_forget(NPL_SERVER);
    if (!np_folder_try_lock(&pipe->files))
        return false;
    np_pipe_end_locked(pipe);
    return true;
}

#define CLOSE_PATIENCE_NS 100000000 /* then the native thread takes over */

/* Without a lock. */
static void end_pipe(struct np_pipe *pipe, bool waits)
{
    const struct np_wait wait = {.deadline = waits ? np_now() + CLOSE_PATIENCE_NS : NP_TRY};
    struct np_lock_wait state = {0};
    while (!np_folder_try_lock(&pipe->files)) {
        if (np_lock_pause(&state, &wait, NULL) == NP_OK)
            continue;
        np_sweep_later(pipe->root, pipe->folder);
        np_pipe_put(pipe);
        return;
    }
    np_pipe_end_locked(pipe);
}

/* With the process lock held. */
static void unlist_pipe(struct np_pipe *pipe)
{
    for (struct np_pipe **place = &np_process.pipes; *place; place = &(*place)->next)
        if (*place == pipe) {
            *place = pipe->next;
            break;
        }
    np_pipe_turn_away(pipe);
    if (pipe->watch)
        np_watch_remove(pipe->watch, pipe->socket);
    pipe->watch = 0;
}

void np_handle_unregister(struct np_handle *handle)
{
    if (handle->previous)
        handle->previous->next = handle->next;
    else if (np_process.handles == handle)
        np_process.handles = handle->next;
    if (handle->next)
        handle->next->previous = handle->previous;
    handle->next = handle->previous = NULL;
}

/* With the create lock held: one instance less. The pipe, if end_pipe is to follow without the lock. `ending`: its link
 * is about to end, in this state; or NULL. */
static struct np_pipe *leave_pipe(struct np_handle *handle, const enum npl_end_state *ending)
{
    pthread_mutex_lock(&np_process.lock);
    struct np_pipe *pipe = handle->pipe;
    bool last = false;
    if (pipe) {
        handle->pipe = NULL;
        np_listening_remove(pipe, handle);
        atomic_store_explicit(&handle->state, NP_CLOSED, memory_order_release);
        np_left_listening(pipe, handle);
        atomic_fetch_sub_explicit(&pipe->slot->instances, 1, memory_order_relaxed);
        last = --pipe->instances == 0;
        if (last && ending && handle->link) /* behind this nobody looks on any more */
            np_link_tell_end(handle->link, *ending);
        if (last)
            unlist_pipe(pipe);
        if (pipe->max_instances != NP_UNLIMITED_INSTANCES)
            np_pipe_nudge(pipe, false); /* another owner may wait for room */
    }
    pthread_mutex_unlock(&np_process.lock);
    return last && !try_end_pipe(pipe) ? pipe : NULL;
}

static enum npl_end_state end_of(const struct np_handle *handle, bool discard)
{
    if (!discard)
        return NPL_END_CLOSED;
    return handle->server ? NPL_END_DISCONNECTED : NPL_END_ABORTED;
}

void np_handle_end_link(struct np_handle *handle, bool discard)
{
    (void)np_handle_unlink(handle, NP_ALERT_CLOSING, end_of(handle, discard), NP_CLOSED);
}

struct np_pipe *np_handle_leave(struct np_handle *handle)
{
    struct np_pipe *left = leave_pipe(handle, NULL);
    pthread_mutex_lock(&np_process.lock);
    np_handle_unregister(handle);
    pthread_mutex_unlock(&np_process.lock);
    return left;
}

void np_handle_left(const struct np_handle *handle, struct np_pipe *left, bool waits)
{
    if (handle->server)
        np_tell_closed();
    if (left)
        end_pipe(left, waits);
}

static void close_handle(struct np_handle *handle, bool discard, bool waits)
{
    if (atomic_load_explicit(&handle->state, memory_order_acquire) == NP_CLOSED)
        return;
    pthread_mutex_lock(&np_process.create_lock);
    const enum npl_end_state ending = end_of(handle, discard);
    struct np_pipe *left = leave_pipe(handle, &ending);
    np_handle_end_link(handle, discard);
    pthread_mutex_lock(&np_process.lock);
    np_handle_unregister(handle);
    pthread_mutex_unlock(&np_process.lock);
    pthread_mutex_unlock(&np_process.create_lock);
    if (handle->server)
        np_tell_closed();
    if (left)
        end_pipe(left, waits);
}

void np_close(struct np_handle *handle, bool discard)
{
    close_handle(handle, discard, true);
}

void np_let_go(struct np_handle *handle)
{
    close_handle(handle, false, false);
}
