#include <unistd.h>

#include "base/fds.h"
#include "base/identity.h"
#include "base/turn.h"
#include "process/process.h"
#include "ring/idle.h"
#include "ring/link.h"
#include "ring/mirror.h"
#include "ring/segment_cache.h"
#include "handle/acceptor.h"
#include "handle/handle.h"
#include "handle/objects.h"
#include "overlapped/drive.h"
#include "pipe/directory.h"
#include "pipe/instances.h"
#include "pipe/owner.h"
#include "pipe/remembered.h"
#include "travel/lend.h"

static void before_fork(void)
{
    pthread_mutex_lock(&np_process.create_lock);
    pthread_mutex_lock(&np_process.lock);
    /* The leaves too: the child frees or walks what they guard, and no other thread is to be in the middle of it. */
    np_objects_lock();
    np_dial_hold();
    np_kept_hold();
    np_idle_hold();
    np_fds_hold();
    np_mirrors_before_fork();
    np_own_lock();
}

static void after_fork_in_parent(void)
{
    np_own_unlock();
    np_mirrors_after_fork(false);
    np_fds_release();
    np_idle_release();
    np_kept_release();
    np_dial_release();
    np_objects_unlock();
    pthread_mutex_unlock(&np_process.lock);
    pthread_mutex_unlock(&np_process.create_lock);
}

static void forget_pipe(struct np_pipe *pipe)
{
    pipe->socket = pipe->leader_event = -1;
    pipe->watch = 0;
    np_folder_forget(&pipe->files);
    for (struct np_visitor *visitor = pipe->first_visitor; visitor; visitor = visitor->next)
        visitor->socket = -1;
}

/* The child has none of the parent's ends: it has no mapping of their segments (np_segment_map), every descriptor is
 * closed, also those that other threads had in their hands, and every handle says so. Nothing of the parent's is
 * unlinked, unlocked or told. Other threads do not exist here, so a lock that one of them held in the parent is made
 * anew. */
static void after_fork_in_child(void)
{
    /* A new process is the process's own, whomever the thread acted as (as on Windows): so are its threads and its
     * pipes. */
    np_own_unlock();
    np_identity_after_fork();
    np_fds_after_fork();
    np_turns_after_fork();
    np_mirrors_after_fork(true);
    np_links_after_fork();
    pthread_mutex_init(&np_process.lock, NULL);
    pthread_mutex_init(&np_process.create_lock, NULL);
    np_process.epoll = np_process.alarm = -1;
    pthread_mutex_init(&np_process.alarm_lock, NULL);
    np_process.alarm_due = 0;
    np_process.first_fresh = np_process.last_fresh = NULL;
    np_process.first_silent = np_process.last_silent = NULL;
    np_process.n_silent = np_process.n_held = np_process.n_held_remote = 0;
    np_process.running = false;
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next)
        forget_pipe(pipe);
    for (struct np_handle *handle = np_process.handles; handle; handle = handle->next) {
        pthread_mutex_init(&handle->rx_lock, NULL);
        pthread_mutex_init(&handle->tx_lock, NULL);
        handle->link = NULL;
        handle->pipe = NULL;
        np_acceptor_unlink(handle);
        atomic_fetch_add(&handle->connect_seq, 1); /* for a call from whose signal handler this fork came */
        atomic_store(&handle->state, NP_CLOSED);
        np_async_after_fork(handle);
    }
    memset(np_process.totals, 0, sizeof np_process.totals); /* the parent's */
    np_objects_after_fork();
    np_acceptors_after_fork();
    np_process.owners = NULL;
    np_process.sweeps = NULL; /* the parent does it */
    np_dial_forget();
    np_lends_after_fork();
    np_kept_after_fork();
    np_idle_after_fork();
    np_process.pid = (uint32_t)getpid();
    np_process.pipes = NULL;
    np_process.handles = NULL;
    np_process.watches = NULL;
    np_process.n_watches = 0;
    np_process.free_watch = UINT32_MAX;
}

/* From the start: also a process that only asks for pipes has descriptors and locks in its hands. */
/* 101: before the constructors of the program, which may use pipes. */
__attribute__((constructor(101))) static void install_hooks(void)
{
    np_process.pid = (uint32_t)getpid();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
