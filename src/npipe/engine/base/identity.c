#include "base/identity.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fds.h"
#include "base/platform.h"

/* What the kernel says instead of an id that the user namespace does not map. */
static struct {
    pthread_once_t once;
    id_t uid, gid;
} unmapped = {.once = PTHREAD_ONCE_INIT, .uid = 65534, .gid = 65534};

/* The beginning of a small file of /proc, as a string. False: it cannot be read. */
static bool read_text(const char *path, char *text, size_t size)
{
    np_fds_hold();
    int fd = np_fd_made(open(path, O_RDONLY | O_CLOEXEC));
    ssize_t got = fd < 0 ? -1 : read(fd, text, size - 1);
    np_fd_close(fd);
    text[got < 0 ? 0 : got] = 0;
    return got > 0;
}

static void read_id(const char *path, id_t *id)
{
    char text[32];
    unsigned long number;
    if (read_text(path, text, sizeof text) && sscanf(text, "%lu", &number) == 1)
        *id = (id_t)number;
}

static void read_unmapped(void)
{
    read_id("/proc/sys/kernel/overflowuid", &unmapped.uid);
    read_id("/proc/sys/kernel/overflowgid", &unmapped.gid);
}

/* Whether every id has a name of its own here. A map may only name what the namespace above maps too, so one that names
 * all holds for those above. If it cannot be read, no. */
static bool maps_all(const char *path)
{
    unsigned long long count, all = 0;
    char text[4096]; /* cut off, it maps less */
    if (!read_text(path, text, sizeof text))
        return false;
    int length;
    for (const char *line = text; sscanf(line, "%*u %*u %llu%n", &count, &length) == 1; line += length)
        all += count;
    return all >= UINT32_MAX; /* UINT32_MAX itself is no id */
}

bool np_is_nobody(uid_t uid)
{
    pthread_once(&unmapped.once, read_unmapped);
    return uid == (uid_t)-1 || (uid == unmapped.uid && !maps_all("/proc/self/uid_map"));
}

bool np_is_no_group(gid_t gid)
{
    pthread_once(&unmapped.once, read_unmapped);
    return gid == (gid_t)-1 || (gid == unmapped.gid && !maps_all("/proc/self/gid_map"));
}

bool np_is_user(uid_t one, uid_t other)
{
    return one == other && !np_is_nobody(one);
}

/* The calling thread acts as a client: `changed` if that is another user than the process's own. */
static _Thread_local struct {
    bool active, changed;
    uid_t client;
} impersonating;

/* The process's own credentials, of which all threads have had the effective ones before the first became a client; a
 * thread that is started by one that is a client has the client's, and does not know. Only root acts as others, so uid
 * is 0. */
static struct {
    pthread_mutex_t lock; /* a leaf */
    _Atomic bool known;   /* somebody has been a client; released with the rest in place */
    uid_t real, saved;
    gid_t gid;
    uint32_t n_groups;
    gid_t groups[NP_MAX_GROUPS];
    uint32_t n_clients; /* as whom threads have acted; more than there is room for: any */
    uid_t clients[64];
} own = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define MOST_CLIENTS (sizeof own.clients / sizeof own.clients[0])

/* The system calls themselves: the library's functions would change every thread of the process. */
static bool set_groups(uint32_t count, const gid_t *groups, gid_t gid)
{
    return syscall(SYS_setgroups, (size_t)count, groups) == 0 && syscall(SYS_setresgid, -1, gid, -1) == 0;
}

static bool set_user(uid_t uid)
{
    return syscall(SYS_setresuid, -1, uid, -1) == 0;
}

/* With its lock held. False: the process has more groups than we can give back. */
static bool remember_own(uid_t client)
{
    uid_t effective;
    int groups = getgroups(NP_MAX_GROUPS, own.groups);
    if (groups < 0 || getresuid(&own.real, &effective, &own.saved) != 0)
        return false;
    own.n_groups = (uint32_t)groups;
    own.gid = getegid();
    uint32_t i = 0;
    while (i < own.n_clients && i < MOST_CLIENTS && own.clients[i] != client)
        i++;
    if (i < MOST_CLIENTS)
        own.clients[i] = client;
    if (i == own.n_clients)
        own.n_clients++;
    /* Release, with its twin in may_have_inherited. */
    atomic_store_explicit(&own.known, true, memory_order_release);
    return true;
}

/* A thread that never acts as a client: 0 while there is none. */
static _Atomic int64_t reference_thread;

static void be_reference_thread(bool is)
{
    atomic_store_explicit(&reference_thread, is ? np_thread_number() : 0, memory_order_relaxed);
}

/* The effective user of that thread, which is the process's: a change of user by the library's functions reaches all
 * threads. False: nobody knows. */
static bool effective_of_process(uid_t *uid)
{
    int64_t thread = atomic_load_explicit(&reference_thread, memory_order_relaxed);
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/self/task/%lld/status", (long long)thread);
    if (!thread)
        return false;
    if (!read_text(path, text, sizeof text))
        return false;
    const char *line = strstr(text, "\nUid:");
    unsigned long effective;
    if (!line || sscanf(line, " Uid: %*u %lu", &effective) != 1)
        return false;
    *uid = (uid_t)effective;
    return true;
}

/* Whether this thread may have a client's credentials from the thread that started it: it has those of somebody who was
 * one, and the real and saved ids that the process's own have beside them. The program may have changed its user to
 * that one, too. */
static bool may_have_inherited(void)
{
    uid_t real, effective, saved;
    if (!atomic_load_explicit(&own.known, memory_order_acquire) || impersonating.active)
        return false;
    if (getresuid(&real, &effective, &saved) != 0 || effective == 0)
        return false;
    pthread_mutex_lock(&own.lock);
    bool was_client = own.n_clients > MOST_CLIENTS;
    for (uint32_t i = 0; i < own.n_clients && i < MOST_CLIENTS; i++)
        was_client = was_client || own.clients[i] == effective;
    bool inherited = was_client && real == own.real && saved == own.saved;
    pthread_mutex_unlock(&own.lock);
    return inherited;
}

static bool be_the_process(void)
{
    if (!set_user(0))
        return false;
    pthread_mutex_lock(&own.lock);
    bool done = set_groups(own.n_groups, own.groups, own.gid);
    pthread_mutex_unlock(&own.lock);
    return done;
}

bool np_become(const struct np_credentials *who)
{
    if (!np_revert())
        return false;
    if (np_is_nobody(who->uid) || np_is_no_group(who->gid))
        return false;
    uid_t self = geteuid();
    if (who->uid != self) {
        gid_t groups[NP_MAX_GROUPS];
        uint32_t count = 0;
        if (self != 0)
            return false;
        for (uint32_t i = 0; i < who->n_groups; i++)
            if (!np_is_no_group(who->groups[i]))
                groups[count++] = who->groups[i];
        pthread_mutex_lock(&own.lock);
        bool done = remember_own(who->uid);
        pthread_mutex_unlock(&own.lock);
        if (!done)
            return false;
        if (!set_groups(count, groups, who->gid) || !set_user(who->uid)) {
            be_the_process();
            return false;
        }
    }
    impersonating.active = true;
    impersonating.changed = who->uid != self;
    impersonating.client = who->uid;
    return true;
}

bool np_revert(void)
{
    bool changed = impersonating.changed;
    if (!impersonating.active && may_have_inherited()) {
        uid_t of_process;
        if (!effective_of_process(&of_process))
            return false; /* to guess could make a program that has given up its rights root again */
        changed = of_process != geteuid();
    }
    if (changed && !be_the_process())
        return false;
    impersonating.active = impersonating.changed = false;
    return true;
}

bool np_is_impersonating(void)
{
    return impersonating.active;
}

bool np_own_credentials(struct np_credentials *who)
{
    if (!np_settle_identity())
        return false;
    who->pid = getpid();
    if (!impersonating.changed) {
        int groups = getgroups(NP_MAX_GROUPS, who->groups);
        who->uid = geteuid();
        who->gid = getegid();
        who->n_groups = groups < 0 ? 0 : (uint32_t)groups;
        return groups >= 0;
    }
    pthread_mutex_lock(&own.lock);
    who->uid = 0;
    who->gid = own.gid;
    who->n_groups = own.n_groups;
    memcpy(who->groups, own.groups, sizeof who->groups);
    pthread_mutex_unlock(&own.lock);
    return true;
}

void np_settle_reference_thread(void)
{
    if (may_have_inherited())
        /* the thread that started it acts as a client: np_process_start has settled all others */
        (void)be_the_process();
    be_reference_thread(true);
}

void np_identity_after_fork(void)
{
    /* One thread, which acts for the process from here on: no other has inherited anything. */
    (void)np_revert();
    atomic_store_explicit(&own.known, false, memory_order_relaxed);
    own.n_clients = 0;
    be_reference_thread(false);
}

bool np_settle_identity(void)
{
    return impersonating.active || np_revert();
}

bool np_step_out(void)
{
    return impersonating.changed ? set_user(0) : false;
}

void np_step_back(bool out)
{
    if (out && !set_user(impersonating.client))
        abort(); /* what the program does next for a client would be done as root */
}

void np_own_lock(void)
{
    pthread_mutex_lock(&own.lock);
}

void np_own_unlock(void)
{
    pthread_mutex_unlock(&own.lock);
}
