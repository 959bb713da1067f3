#include "async.h"
#include "registry.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "fds.h"

struct np_process np_process = {
    .create_lock = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .epoll = -1,
    .alarm = -1,
    .alarm_lock = PTHREAD_MUTEX_INITIALIZER,
    .free_watch = UINT32_MAX,
};

/* ---- Watches: the native thread may hold an event for something that is gone, so events carry names
 * (index and generation), not pointers. */

static struct np_watch *find_watch(uint64_t name)
{
    uint32_t index = (uint32_t)name, generation = (uint32_t)(name >> 32);
    if (index >= np_process.n_watches || np_process.watches[index].generation != generation)
        return NULL;
    return &np_process.watches[index];
}

static bool grow_watches(void)
{
    uint32_t count = np_process.n_watches, more = count ? 2 * count : 64;
    struct np_watch *watches = realloc(np_process.watches, more * sizeof *watches);
    if (!watches)
        return false;
    for (uint32_t i = count; i < more; i++)
        watches[i] = (struct np_watch){.generation = 1, .next_free = i + 1 < more ? i + 1 : UINT32_MAX};
    np_process.watches = watches;
    np_process.n_watches = more;
    np_process.free_watch = count;
    return true;
}

uint64_t np_watch_add(int fd, uint32_t events, enum np_watched kind, void *object)
{
    if (np_process.free_watch == UINT32_MAX && !grow_watches())
        return 0;
    uint32_t index = np_process.free_watch;
    struct np_watch *watch = &np_process.watches[index];
    uint64_t name = (uint64_t)watch->generation << 32 | index;
    struct epoll_event event = {.events = events, .data.u64 = name};
    if (epoll_ctl(np_process.epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return 0;
    np_process.free_watch = watch->next_free;
    watch->kind = kind;
    watch->object = object;
    return name;
}

void np_watch_change(uint64_t name, int fd, uint32_t events, enum np_watched kind, void *object)
{
    struct np_watch *watch = find_watch(name);
    if (!watch)
        return;
    watch->kind = kind;
    watch->object = object;
    struct epoll_event event = {.events = events, .data.u64 = name};
    epoll_ctl(np_process.epoll, EPOLL_CTL_MOD, fd, &event);
}

void np_watch_remove(uint64_t name, int fd)
{
    struct np_watch *watch = find_watch(name);
    if (!watch)
        return;
    epoll_ctl(np_process.epoll, EPOLL_CTL_DEL, fd, NULL);
    watch->generation++;
    if (watch->generation == 0)
        watch->generation = 1; /* 0 would make a name of 0, which is no name */
    watch->kind = NP_WATCH_NOTHING;
    watch->object = NULL;
    watch->next_free = np_process.free_watch;
    np_process.free_watch = (uint32_t)name;
}

void np_alarm(int64_t due)
{
    if (due < 1)
        due = 1; /* at once; zero would stop the clock */
    pthread_mutex_lock(&np_process.alarm_lock);
    if (np_process.alarm >= 0 && (np_process.alarm_due == 0 || due < np_process.alarm_due)) {
        const struct itimerspec when = {.it_value = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000}};
        np_process.alarm_due = due;
        timerfd_settime(np_process.alarm, TFD_TIMER_ABSTIME, &when, NULL);
    }
    pthread_mutex_unlock(&np_process.alarm_lock);
}

void np_ring_doorbell(void)
{
    np_alarm(0);
}

static void alarm_has_rung(void)
{
    uint64_t count;
    pthread_mutex_lock(&np_process.alarm_lock);
    np_process.alarm_due = 0;
    if (read(np_process.alarm, &count, sizeof count) < 0) {
        /* Set anew since it rang: it will ring again. */
    }
    pthread_mutex_unlock(&np_process.alarm_lock);
}

/* ---- The native thread */

#define EVENTS 64

/* A folder whose owner has died, or has gone while somebody else had its lock: this process may be the only one that comes by to clean
 * up. */
struct sweep {
    struct sweep *next;
    char *root, *folder;
    bool dying;         /* he may be just dying */
    int64_t due, pause; /* not before that; since when it was locked, how long till the next attempt */
};

#define FIRST_SWEEP_PAUSE_NS 10000000
#define LONGEST_SWEEP_PAUSE_NS 1000000000

static void plan_sweep(struct sweep **sweeps, const char *root, const char *folder, bool dying)
{
    for (struct sweep *item = *sweeps; item; item = item->next)
        if (strcmp(item->folder, folder) == 0 && strcmp(item->root, root) == 0) {
            item->dying = item->dying || dying;
            return;
        }
    struct sweep *sweep = calloc(1, sizeof *sweep);
    if (!sweep)
        return; /* no memory: whoever comes next to the name cleans up */
    sweep->root = strdup(root);
    sweep->folder = strdup(folder);
    sweep->dying = dying;
    if (!sweep->root || !sweep->folder) {
        free(sweep->root);
        free(sweep->folder);
        free(sweep);
        return;
    }
    sweep->next = *sweeps;
    *sweeps = sweep;
}

static void append_sweeps(struct sweep **sweeps, struct sweep *more)
{
    while (*sweeps)
        sweeps = &(*sweeps)->next;
    *sweeps = more;
}

/* Takes out those that are due, with the process lock held. */
static struct sweep *due_sweeps(int64_t now)
{
    struct sweep *due = NULL;
    for (struct sweep **place = &np_process.sweeps; *place;) {
        struct sweep *sweep = *place;
        if (sweep->due > now) {
            np_alarm(sweep->due);
            place = &sweep->next;
            continue;
        }
        *place = sweep->next;
        sweep->next = due;
        due = sweep;
    }
    return due;
}

static void free_sweep(struct sweep *sweep)
{
    free(sweep->root);
    free(sweep->folder);
    free(sweep);
}

/* The native thread's, without a lock. Where somebody has the folder's lock it comes again: he may be stopped, and this process may
 * be the last one that knows. */
static void do_sweeps(struct sweep *sweeps)
{
    struct sweep *again = NULL;
    while (sweeps) {
        struct sweep *sweep = sweeps;
        sweeps = sweep->next;
        if (np_folder_sweep(sweep->root, sweep->folder, sweep->dying)) {
            free_sweep(sweep);
            continue;
        }
        sweep->pause = sweep->pause == 0 ? FIRST_SWEEP_PAUSE_NS : 2 * sweep->pause;
        if (sweep->pause > LONGEST_SWEEP_PAUSE_NS)
            sweep->pause = LONGEST_SWEEP_PAUSE_NS;
        sweep->due = np_now() + sweep->pause;
        np_alarm(sweep->due);
        sweep->next = again;
        again = sweep;
    }
    if (!again)
        return;
    pthread_mutex_lock(&np_process.lock);
    append_sweeps(&np_process.sweeps, again);
    pthread_mutex_unlock(&np_process.lock);
}

void np_sweep_later(const char *root, const char *folder)
{
    pthread_mutex_lock(&np_process.lock);
    plan_sweep(&np_process.sweeps, root, folder, false);
    pthread_mutex_unlock(&np_process.lock);
    np_ring_doorbell();
}

static bool server_died(const struct np_link *link)
{
    return link->side == NPL_CLIENT && atomic_load_explicit(&link->alert, memory_order_acquire) & NP_ALERT_GONE &&
           atomic_load_explicit(link->peer_state, memory_order_acquire) == NPL_END_OPEN;
}

/* The peer's socket hung up. */
static void link_gone(struct np_link *link, uint64_t watch, struct sweep **sweeps)
{
    np_watch_remove(watch, link->socket);
    link->watch = 0;
    np_link_alert(link, NP_ALERT_GONE);
    if (!server_died(link))
        return;
    for (struct np_handle *handle = np_process.handles; handle; handle = handle->next)
        if (handle->link == link && handle->root)
            plan_sweep(sweeps, handle->root, handle->folder, true);
}

void np_server_died(void)
{
    atomic_store_explicit(&np_process.server_died, true, memory_order_release);
    np_ring_doorbell();
}

void np_handle_leaves(const struct np_handle *handle)
{
    if (!handle->link || !handle->root || !server_died(handle->link))
        return;
    plan_sweep(&np_process.sweeps, handle->root, handle->folder, true);
    np_ring_doorbell();
}

/* A thread has found a server dead that was not watched. */
static void look_for_the_dead(struct sweep **sweeps)
{
    if (!atomic_exchange_explicit(&np_process.server_died, false, memory_order_acq_rel))
        return;
    for (struct np_handle *handle = np_process.handles; handle; handle = handle->next)
        if (handle->link && handle->root && server_died(handle->link) &&
            atomic_load_explicit(&handle->link->alert, memory_order_relaxed) & NP_ALERT_UNWATCHED)
            plan_sweep(sweeps, handle->root, handle->folder, true);
}

/* A leader who has not come back: the native thread answers again. */
static void end_leases(int64_t now)
{
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next) {
        if (pipe->leased_until > now)
            np_alarm(pipe->leased_until);
        if (pipe->leased_until == 0 || pipe->leased_until > now)
            continue;
        if (pipe->watch)
            np_watch_change(pipe->watch, pipe->socket, EPOLLIN, NP_WATCH_PIPE, pipe);
        pipe->leased_until = 0;
    }
}

static void watch_fresh(int64_t now)
{
    struct np_handle *handle;
    while ((handle = np_process.first_fresh) && handle->fresh_until <= now) {
        np_fresh_remove(handle);
        np_handle_watch_locked(handle);
    }
    if (handle)
        np_alarm(handle->fresh_until);
}

#define FRESH_NS 10000000

void np_fresh_add(struct np_handle *handle)
{
    handle->fresh_until = np_now() + FRESH_NS;
    handle->next_fresh = NULL;
    handle->previous_fresh = np_process.last_fresh;
    if (np_process.last_fresh)
        np_process.last_fresh->next_fresh = handle;
    else
        np_process.first_fresh = handle;
    np_process.last_fresh = handle;
    np_alarm(handle->fresh_until);
}

void np_fresh_remove(struct np_handle *handle)
{
    if (handle->fresh_until == 0)
        return;
    handle->fresh_until = 0;
    if (handle->previous_fresh)
        handle->previous_fresh->next_fresh = handle->next_fresh;
    else
        np_process.first_fresh = handle->next_fresh;
    if (handle->next_fresh)
        handle->next_fresh->previous_fresh = handle->previous_fresh;
    else
        np_process.last_fresh = handle->previous_fresh;
}

/* What is due by the clock. */
static void on_alarm(struct sweep **sweeps)
{
    alarm_has_rung();
    int64_t now = np_now();
    look_for_the_dead(sweeps);
    end_leases(now);
    watch_fresh(now);
    int64_t next = np_kept_expire(now);
    if (next)
        np_alarm(next);
}

/* Handles whose overlapped operations may go on, each held; what they do has no need of the process lock. */
struct to_tend {
    struct np_handle *handles[EVENTS];
    uint32_t count;
    bool arm;
};

static void tend_later(struct np_link *link, struct to_tend *tend)
{
    if (!link->handle || !link->events)
        return;
    np_hold(link->handle);
    tend->handles[tend->count++] = link->handle;
}

static void link_event(struct np_link *link, uint64_t watch, uint32_t events, struct sweep **sweeps, struct to_tend *tend)
{
    bool gone = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (gone || events & EPOLLIN)
        tend_later(link, tend);
    /* A visitor's event may be handled when its socket is a link's already: then it is a byte, not the end. */
    if (gone)
        link_gone(link, watch, sweeps);
}

static void handle_event(const struct epoll_event *event, struct sweep **sweeps, struct to_tend *tend)
{
    struct np_watch *watch = find_watch(event->data.u64);
    if (!watch)
        return; /* removed after the event was fetched */
    switch (watch->kind) {
    case NP_WATCH_ALARM:
        on_alarm(sweeps);
        tend->arm = true;
        break;
    case NP_WATCH_PIPE:
        np_pipe_accept(watch->object);
        break;
    case NP_WATCH_VISITOR:
        np_visitor_ready(watch->object, false);
        break;
    case NP_WATCH_LINK:
        link_event(watch->object, event->data.u64, event->events, sweeps, tend);
        break;
    case NP_WATCH_OWNER:
        np_owner_gone(watch->object);
        break;
    case NP_WATCH_NOTHING:
        break;
    }
}

/* What is due by the clock: visitors who never said what they want, and sockets that had to pause for want of
 * descriptors. Returns when to look again, in milliseconds (-1: nothing is timed). */
static int do_timers(void)
{
    int64_t now = np_now(), next = NP_FOREVER;
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next) {
        struct np_visitor *following;
        for (struct np_visitor *visitor = pipe->first_visitor; visitor; visitor = following) {
            following = visitor->next;
            if (visitor->deadline <= now)
                np_visitor_drop(visitor);
            else if (visitor->deadline < next)
                next = visitor->deadline;
        }
        if (pipe->paused_until && pipe->paused_until <= now) {
            pipe->paused_until = 0;
            if (!pipe->watch)
                pipe->watch = np_watch_add(pipe->socket, EPOLLIN, NP_WATCH_PIPE, pipe);
            np_pipe_serve(pipe);
        }
        if (pipe->paused_until && pipe->paused_until < next)
            next = pipe->paused_until;
    }
    if (next == NP_FOREVER)
        return -1;
    return (int)((next - now) / 1000000) + 1;
}

static void *native_thread(void *unused)
{
    (void)unused;
    np_settle_reference_thread(); /* whoever started it may have acted as a client: this thread acts for the process */
    struct epoll_event events[EVENTS];
    int timeout = -1;
    for (;;) {
        int count = epoll_wait(np_process.epoll, events, EVENTS, timeout);
        struct sweep *sweeps;
        struct to_tend tend = {.count = 0};
        pthread_mutex_lock(&np_process.lock);
        sweeps = due_sweeps(np_now());
        for (int i = 0; i < count; i++)
            handle_event(&events[i], &sweeps, &tend);
        timeout = do_timers();
        pthread_mutex_unlock(&np_process.lock);
        for (uint32_t i = 0; i < tend.count; i++) {
            np_async_tend(tend.handles[i]);
            np_free(tend.handles[i]);
        }
        if (tend.arm)
            np_async_arm_listed();
        do_sweeps(sweeps);
    }
    return NULL;
}

/* ---- Start, exit, fork */

#define EXIT_PATIENCE_NS INT64_C(300000000) /* for the locks of all folders: who holds one may be stopped */

/* Tries until then, and takes away what is left of a pipe of this process's. */
static void remove_folder(const struct np_pipe *pipe, const struct np_wait *until)
{
    struct np_lock_wait state = {0};
    while (!np_folder_try_lock(&pipe->files))
        if (np_lock_pause(&state, until, NULL) != NP_OK)
            return; /* whoever comes next to the name cleans up */
    np_folder_bury(&pipe->files, 0);
    np_folder_remove(pipe->root, pipe->folder, &pipe->files);
    np_folder_unlock(&pipe->files);
}

static void remove_pipes_at_exit(void)
{
    /* Not the locks: another thread may be stopped in the middle of anything by now, and the process goes away. */
    if (!np_process.running)
        return;
    bool out = np_step_out();
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next)
        np_pipe_vacate(pipe);
    const struct np_wait until = {.deadline = np_now() + EXIT_PATIENCE_NS};
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next)
        remove_folder(pipe, &until);
    struct sweep *sweeps = NULL;
    if (pthread_mutex_trylock(&np_process.lock) == 0) {
        sweeps = np_process.sweeps;
        np_process.sweeps = NULL;
        pthread_mutex_unlock(&np_process.lock);
    }
    while (sweeps) {
        struct sweep *sweep = sweeps;
        sweeps = sweep->next;
        np_folder_sweep(sweep->root, sweep->folder, false);
        free_sweep(sweep);
    }
    np_step_back(out);
}

static void before_fork(void)
{
    pthread_mutex_lock(&np_process.create_lock);
    pthread_mutex_lock(&np_process.lock);
    /* The leaves too: the child frees or walks what they guard, and no other thread is to be in the middle of it. */
    np_objects_lock();
    np_dial_hold();
    np_kept_hold();
    np_fds_hold();
    np_own_lock();
}

static void after_fork_in_parent(void)
{
    np_own_unlock();
    np_fds_release();
    np_kept_release();
    np_dial_release();
    np_objects_unlock();
    pthread_mutex_unlock(&np_process.lock);
    pthread_mutex_unlock(&np_process.create_lock);
}

static void forget_pipe(struct np_pipe *pipe)
{
    pipe->socket = pipe->bell = -1;
    pipe->watch = 0;
    np_folder_forget(&pipe->files);
    for (struct np_visitor *visitor = pipe->first_visitor; visitor; visitor = visitor->next)
        visitor->socket = -1;
}

/* The child has none of the parent's ends: it has no mapping of their segments (np_segment_map), every descriptor is closed, also
 * those that other threads had in their hands, and every handle says so. Nothing of the parent's is unlinked, unlocked or told. Other
 * threads do not exist here, so a lock that one of them held in the parent is made anew. */
static void after_fork_in_child(void)
{
    /* A new process is the process's own, whomever the thread acted as (as on Windows): so are its threads and its pipes. */
    np_own_unlock();
    np_identity_after_fork();
    np_fds_after_fork();
    np_links_after_fork();
    pthread_mutex_init(&np_process.lock, NULL);
    pthread_mutex_init(&np_process.create_lock, NULL);
    np_process.epoll = np_process.alarm = -1;
    pthread_mutex_init(&np_process.alarm_lock, NULL);
    np_process.alarm_due = 0;
    np_process.first_fresh = np_process.last_fresh = NULL;
    np_process.first_silent = np_process.last_silent = NULL;
    np_process.n_silent = np_process.n_held = 0;
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
    np_objects_after_fork();
    np_acceptors_after_fork();
    np_process.owners = NULL;
    np_process.sweeps = NULL; /* the parent does it */
    np_dial_forget();
    np_kept_after_fork();
    np_process.pid = (uint32_t)getpid();
    np_process.pipes = NULL;
    np_process.handles = NULL;
    np_process.watches = NULL;
    np_process.n_watches = 0;
    np_process.free_watch = UINT32_MAX;
}

/* From the start: also a process that only asks for pipes has descriptors and locks in its hands. */
__attribute__((constructor)) static void install_hooks(void)
{
    np_process.pid = (uint32_t)getpid();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    atexit(remove_pipes_at_exit);
}

uint32_t np_process_start(void)
{
    if (!np_settle_identity())
        return NP_PRIVILEGE_NOT_HELD;
    uint32_t code = NP_OK;
    pthread_mutex_lock(&np_process.lock);
    if (np_process.running)
        goto out;
    np_fds_hold();
    np_process.epoll = np_fd_made(epoll_create1(EPOLL_CLOEXEC));
    np_fds_hold();
    np_process.alarm = np_fd_made(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    np_process.alarm_due = 0;
    if (np_process.epoll < 0 || np_process.alarm < 0) {
        code = NP_TOO_MANY_OPEN_FILES;
        goto failed;
    }
    if (!np_watch_add(np_process.alarm, EPOLLIN, NP_WATCH_ALARM, NULL)) {
        code = NP_NOT_ENOUGH_MEMORY;
        goto failed;
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    /* Signals are for the program's own threads: a blocked call there must be interrupted, not this one. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    int error = pthread_create(&thread, &attributes, native_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error == 0) {
        np_process.running = true;
        goto out;
    }
    code = NP_NO_SYSTEM_RESOURCES;
failed:
    np_fd_close(np_process.epoll);
    np_fd_close(np_process.alarm);
    np_process.epoll = np_process.alarm = -1;
out:
    pthread_mutex_unlock(&np_process.lock);
    return code;
}
