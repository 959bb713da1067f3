#include "process/process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/identity.h"

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

struct np_watch *np_watch_find(uint64_t name)
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
    struct np_watch *watch = np_watch_find(name);
    if (!watch)
        return;
    watch->kind = kind;
    watch->object = object;
    struct epoll_event event = {.events = events, .data.u64 = name};
    epoll_ctl(np_process.epoll, EPOLL_CTL_MOD, fd, &event);
}

void np_watch_remove(uint64_t name, int fd)
{
    struct np_watch *watch = np_watch_find(name);
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

void np_native_thread_wake(void)
{
    np_alarm(0);
}

void np_alarm_has_rung(void)
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

void np_server_died(void)
{
    atomic_store_explicit(&np_process.server_died, true, memory_order_release);
    np_native_thread_wake();
}

/* ---- Start, exit, fork */

uint32_t np_process_start(void)
{
    if (!np_settle_identity())
        return NP_PRIVILEGE_NOT_HELD;
    if (!np_process.native_thread)
        return NP_INVALID_FUNCTION; /* the service was not linked in (meson.build: link_whole) */
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
    int error = pthread_create(&thread, &attributes, np_process.native_thread, NULL);
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
