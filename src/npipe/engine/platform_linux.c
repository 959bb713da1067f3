/* Linux: futex, memfd, Unix sockets and their credentials. */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "fds.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

#define SECOND INT64_C(1000000000)

_Thread_local int64_t np_slept;

int64_t np_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

uint32_t np_futex_wait(_Atomic uint32_t *word, uint32_t value, uint32_t bits, int64_t deadline)
{
    struct timespec until, *limit = NULL;
    if (deadline != NP_FOREVER) {
        if (deadline < 0)
            deadline = 0;
        until = (struct timespec){.tv_sec = deadline / SECOND, .tv_nsec = deadline % SECOND};
        limit = &until;
    }
    int64_t began = np_now();
    /* FUTEX_WAIT_BITSET takes an absolute monotonic time. Not FUTEX_PRIVATE: the word may be shared. The kernel reads the word behind a
     * full barrier, and a wake has one before it looks for sleepers. */
    int error = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, limit, NULL, bits) == 0 ? 0 : errno;
    np_slept += np_now() - began;
    if (error == 0 || error == EAGAIN)
        return NP_OK;
    return error == ETIMEDOUT ? NP_SEM_TIMEOUT : NP_INTERRUPTED;
}

struct np_usage np_thread_usage(void)
{
    struct rusage usage;
    struct timespec cpu; /* rusage has the times too, but counts them in ticks */
    if (getrusage(RUSAGE_THREAD, &usage) != 0 || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu) != 0)
        return (struct np_usage){0};
    return (struct np_usage){.cpu = cpu.tv_sec * SECOND + cpu.tv_nsec, .involuntary = usage.ru_nivcsw};
}

/* ---- Who is who */

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

/* Whether every id has a name of its own here. A map may only name what the namespace above maps too, so one that names all
 * holds for those above. If it cannot be read, no. */
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

/* The process's own credentials, of which all threads have had the effective ones before the first became a client; a thread that
 * is started by one that is a client has the client's, and does not know. Only root acts as others, so uid is 0. */
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

/* The effective user of that thread, which is the process's: a change of user by the library's functions reaches all threads. False:
 * nobody knows. */
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

/* Whether this thread may have a client's credentials from the thread that started it: it has those of somebody who was one, and the real
 * and saved ids that the process's own have beside them. The program may have changed its user to that one, too. */
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
        (void)be_the_process(); /* the thread that started it acts as a client: np_process_start has settled all others */
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

int64_t np_thread_number(void)
{
    return syscall(SYS_gettid);
}

/* Asked before each sleep, of which two system calls would be a good part. In a child the thread that forked is the first one. */
static _Thread_local enum { NOT_ASKED, FIRST_THREAD, ANOTHER_THREAD } which_thread;

static void ask_again(void)
{
    which_thread = NOT_ASKED;
}

static void ask_again_after_fork(void)
{
    pthread_atfork(NULL, NULL, ask_again);
}

bool np_on_first_thread(void)
{
    static pthread_once_t hook = PTHREAD_ONCE_INIT;
    if (which_thread == NOT_ASKED) {
        pthread_once(&hook, ask_again_after_fork);
        which_thread = np_thread_number() == getpid() ? FIRST_THREAD : ANOTHER_THREAD;
    }
    return which_thread == FIRST_THREAD;
}

void np_yield(void)
{
    sched_yield();
}

void np_futex_wake(_Atomic uint32_t *word, uint32_t bits)
{
    syscall(SYS_futex, word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, bits);
}

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int np_file_resize(int fd, uint64_t size)
{
    /* The signal goes to this thread only: kept back, and taken away again if it came now. */
    sigset_t beyond, before, pending;
    sigemptyset(&beyond);
    sigaddset(&beyond, SIGXFSZ);
    bool kept = pthread_sigmask(SIG_BLOCK, &beyond, &before) == 0;
    bool was_pending = kept && sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ);
    int error = ftruncate(fd, (off_t)size) != 0 ? errno : 0;
    if (error == EFBIG && kept && !was_pending) {
        const struct timespec at_once = {0};
        while (sigtimedwait(&beyond, NULL, &at_once) < 0 && errno == EINTR)
            ;
    }
    if (kept)
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

uint64_t np_descriptor_limit(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}

int np_segment_create(uint64_t size)
{
    np_fds_hold();
    int fd = np_fd_made(memfd_create("npipe-link", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (fd < 0)
        return -1;
    int error = np_file_resize(fd, size);
    if (error == 0 && fcntl(fd, F_ADD_SEALS, SEALS) != 0)
        error = errno;
    if (error) {
        np_fd_close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

uint64_t np_segment_check(int fd)
{
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
        return 0; /* a segment that could be cut short under us would be a SIGBUS at the peer's will */
    if (seals & F_SEAL_WRITE || fstat(fd, &status) != 0 || status.st_size <= 0)
        return 0;
    return (uint64_t)status.st_size;
}

void *np_segment_map(int fd, uint64_t size)
{
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return NULL;
    /* A forked child does not get it: two processes must never act as one side. So nothing is unmapped there, not even what a thread
     * had in its hands that is not there. */
    (void)madvise(map, size, MADV_DONTFORK);
    return map;
}

void np_segment_unmap(void *map, uint64_t size)
{
    munmap(map, size);
}

bool np_peer_credentials(int socket, bool with_groups, struct np_credentials *who)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return false;
    who->pid = peer.pid;
    who->uid = peer.uid;
    who->gid = peer.gid;
    who->n_groups = 0;
    if (with_groups) {
        size = sizeof who->groups;
        if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, who->groups, &size) == 0)
            who->n_groups = (uint32_t)(size / sizeof(gid_t));
        /* Else there are more than fit, or the kernel is too old: then only the main group counts. */
    }
    return true;
}

ssize_t np_send_message(int socket, const void *data, size_t size, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data /* sendmsg only reads it */, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(rights), &fd, sizeof(int));
    }
    ssize_t sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

ssize_t np_receive_message(int socket, void *data, size_t size, int *fd)
{
    union {
        char bytes[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    *fd = -1;
    np_fds_hold();
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0) {
        int error = errno;
        np_fds_release();
        return -error;
    }
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int received;
            memcpy(&received, CMSG_DATA(item) + i * sizeof(int), sizeof(int));
            if (*fd >= 0)
                close(received);
            else if (np_fd_enter(received))
                *fd = received;
            else
                message.msg_flags |= MSG_CTRUNC; /* as if there had been no room for it */
        }
    }
    np_fds_release();
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        np_fd_close(*fd);
        *fd = -1;
        return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : -EMFILE;
    }
    return got;
}

void np_socket_poke(int socket)
{
    static const uint8_t byte = 1;
    (void)send(socket, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool np_socket_poked(int socket)
{
    uint8_t byte;
    return recv(socket, &byte, 1, MSG_DONTWAIT) > 0;
}

uint32_t np_socket_await_poke(int socket)
{
    uint8_t byte;
    int64_t began = np_now();
    ssize_t got = recv(socket, &byte, 1, 0);
    /* A client's socket does not wait by itself, for connect() was not to. Nothing else relies on that. */
    if (got < 0 && errno == EAGAIN && fcntl(socket, F_SETFL, 0) == 0)
        got = recv(socket, &byte, 1, 0);
    np_slept += np_now() - began;
    if (got > 0)
        return NP_OK;
    return got < 0 && errno == EINTR ? NP_INTERRUPTED : NP_BROKEN_PIPE;
}

static uint32_t wait_for(struct pollfd *items, nfds_t count, int64_t deadline)
{
    struct timespec rest, *limit = NULL;
    if (deadline != NP_FOREVER) {
        int64_t left = deadline - np_now();
        if (left < 0)
            left = 0;
        rest = (struct timespec){.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
        limit = &rest;
    }
    int64_t began = np_now();
    int ready = ppoll(items, count, limit, NULL);
    np_slept += np_now() - began;
    if (ready > 0)
        return NP_OK;
    return ready == 0 ? NP_SEM_TIMEOUT : NP_INTERRUPTED;
}

uint32_t np_socket_wait(int socket, int64_t deadline)
{
    struct pollfd item = {.fd = socket, .events = POLLIN | POLLRDHUP};
    return wait_for(&item, 1, deadline);
}

void np_socket_break(int socket)
{
    shutdown(socket, SHUT_RD);
}

bool np_socket_readable(int socket)
{
    struct pollfd item = {.fd = socket, .events = POLLIN};
    return poll(&item, 1, 0) > 0;
}

bool np_socket_hung_up(int socket)
{
    struct pollfd item = {.fd = socket, .events = POLLRDHUP};
    return poll(&item, 1, 0) > 0;
}

uint32_t np_sockets_ready(const int *sockets, bool *ready, uint32_t count, int64_t deadline)
{
    struct pollfd *items = calloc(count ? count : 1, sizeof *items);
    if (!items)
        return NP_NOT_ENOUGH_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        items[i] = (struct pollfd){.fd = sockets[i], .events = POLLIN | POLLRDHUP};
    uint32_t code = wait_for(items, count, deadline);
    for (uint32_t i = 0; i < count; i++)
        ready[i] = code == NP_OK && items[i].revents;
    free(items);
    return code;
}

uint32_t np_sockets_wait(int first, int second, int64_t deadline)
{
    struct pollfd items[2] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
    return wait_for(items, 2, deadline);
}

/* A socket address holds 107 bytes of path: the folder is named by its descriptor instead. */
static bool socket_address(struct sockaddr_un *address, int dirfd, const char *name)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int length = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", dirfd, name);
    return length > 0 && (size_t)length < sizeof address->sun_path;
}

static int connect_to(const struct sockaddr_un *address, int64_t deadline)
{
    np_fds_hold();
    int fd = np_fd_made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0)
        return fd;
    /* It waits only for room in the backlog: no event tells of that, but a blocking connect() with a time-out does. */
    if (errno != EAGAIN || (deadline != NP_FOREVER && deadline <= np_now()) || fcntl(fd, F_SETFL, 0) != 0) {
        int error = errno;
        np_fd_close(fd);
        return -error;
    }
    struct timeval limit = {.tv_sec = 0, .tv_usec = 0};
    if (deadline != NP_FOREVER) {
        int64_t left = deadline - np_now();
        if (left < 1000)
            left = 1000; /* zero would mean for ever */
        limit = (struct timeval){.tv_sec = left / SECOND, .tv_usec = (left % SECOND) / 1000};
        if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) {
            int error = errno;
            np_fd_close(fd);
            return -error;
        }
    }
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0) {
        int error = errno;
        np_fd_close(fd);
        return -error;
    }
    return fd;
}

const char *np_socket_error(int error)
{
    return error == ENOSYS ? "/proc is not mounted here, and a thread may have no folder of its own" : strerror(error);
}

/* Without /proc: a thread whose working folder is its own goes into the folder, where the bare name is short enough. */
struct errand {
    int dirfd;
    const char *name;
    int64_t deadline;
    int listener; /* to bind; or -1, to connect */
    int result;
};

static void *run_errand(void *what)
{
    struct errand *errand = what;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(errand->name) >= sizeof address.sun_path) {
        errand->result = -ENAMETOOLONG;
        return NULL;
    }
    strcpy(address.sun_path, errand->name);
    if (unshare(CLONE_FS) != 0)
        errand->result = -ENOSYS; /* a sandbox that has neither */
    else if (fchdir(errand->dirfd) != 0)
        errand->result = -errno;
    else if (errand->listener < 0)
        errand->result = connect_to(&address, errand->deadline);
    else
        errand->result = bind(errand->listener, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : -errno;
    return NULL;
}

#define ERRAND_NS INT64_C(50000000) /* then its caller looks for signals, which the errand's thread does not get */

static int send_errand(struct errand *errand)
{
    int64_t deadline = errand->deadline, slice = np_now() + ERRAND_NS;
    if (slice < deadline)
        errand->deadline = slice;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run_errand, errand);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    return errand->result == -EAGAIN && slice < deadline ? -EINTR : errand->result;
}

/* Whether `error` may come from /proc's not being there. */
static bool lacks_proc(int error)
{
    return error == ENOENT && access("/proc/self/fd", F_OK) != 0;
}

int np_socket_connect(int dirfd, const char *name, int64_t deadline)
{
    struct sockaddr_un address;
    int fd = socket_address(&address, dirfd, name) ? connect_to(&address, deadline) : -ENAMETOOLONG;
    if (fd >= 0 || !lacks_proc(-fd))
        return fd;
    struct errand errand = {.dirfd = dirfd, .name = name, .deadline = deadline, .listener = -1};
    return send_errand(&errand);
}

int np_socket_connect_path(const char *path, int64_t deadline)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path) + 1;
    if (size > sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, size);
    return connect_to(&address, deadline);
}

int np_socket_listen(int dirfd, const char *name, mode_t mode)
{
    /* Bound and listening under a name that nobody looks for, then renamed: a socket that is in the
     * folder and refuses connections belongs to the dead. */
    struct sockaddr_un address;
    char draft[64];
    snprintf(draft, sizeof draft, "draft-%s", name);
    if (!socket_address(&address, dirfd, draft))
        return -ENAMETOOLONG;
    np_fds_hold();
    int fd = np_fd_made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0)
        return -errno;
    bool bound = false;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        struct errand errand = {.dirfd = dirfd, .name = draft, .deadline = NP_FOREVER, .listener = fd};
        int result = lacks_proc(errno) ? send_errand(&errand) : -errno;
        if (result < 0) {
            errno = -result;
            goto failed;
        }
    }
    bound = true;
    if (fchmodat(dirfd, draft, mode, 0) != 0 || listen(fd, 4096) != 0 || renameat(dirfd, draft, dirfd, name) != 0)
        goto failed;
    return fd;
failed:;
    int error = errno;
    if (bound)
        unlinkat(dirfd, draft, 0);
    np_fd_close(fd);
    return -error;
}

uint64_t np_random(void)
{
    uint64_t value = 0;
    if (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value)
        value = (uint64_t)np_now() * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)getpid();
    return value;
}
