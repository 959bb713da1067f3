#include "base/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/identity.h"
#include "base/platform.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

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

ssize_t np_send_descriptors(int socket, const void *data, size_t size, const int *fds, uint32_t count)
{
    union {
        char bytes[CMSG_SPACE(NP_MOST_DESCRIPTORS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data /* sendmsg only reads it */, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
    }
    ssize_t sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

ssize_t np_send_message(int socket, const void *data, size_t size, int fd)
{
    return np_send_descriptors(socket, data, size, &fd, fd >= 0);
}

/* Takes up to `count` descriptors, the others are closed; how many could not be. */
static uint32_t take_descriptors(struct msghdr *message, int *fds, uint32_t count)
{
    uint32_t taken = 0, lost = 0;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item; item = CMSG_NXTHDR(message, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int received;
            memcpy(&received, CMSG_DATA(item) + i * sizeof(int), sizeof(int));
            if (taken == count)
                close(received);
            else if (np_fd_enter(received))
                fds[taken++] = received;
            else
                lost++;
        }
    }
    return lost;
}

static ssize_t receive(int socket, void *data, size_t size, int *fds, uint32_t count)
{
    union {
        char bytes[CMSG_SPACE(NP_MOST_DESCRIPTORS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    for (uint32_t i = 0; i < count; i++)
        fds[i] = -1;
    np_fds_hold();
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0) {
        int error = errno;
        np_fds_release();
        return -error;
    }
    uint32_t lost = take_descriptors(&message, fds, count);
    np_fds_release();
    if (lost)
        message.msg_flags |= MSG_CTRUNC; /* as if there had been no room for it */
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        for (uint32_t i = 0; i < count; i++) {
            np_fd_close(fds[i]);
            fds[i] = -1;
        }
        return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : -EMFILE;
    }
    return got;
}

ssize_t np_receive_message(int socket, void *data, size_t size, int *fd)
{
    return receive(socket, data, size, fd, 1);
}

ssize_t np_receive_descriptors(int socket, void *data, size_t size, int *fds, uint32_t count)
{
    return receive(socket, data, size, fds, count);
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
        rest = (struct timespec){.tv_sec = left / NP_SECOND_NS, .tv_nsec = left % NP_SECOND_NS};
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

static int connect_at(const struct sockaddr_un *address, socklen_t size, int64_t deadline)
{
    np_fds_hold();
    int fd = np_fd_made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, size) == 0)
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
        limit = (struct timeval){.tv_sec = left / NP_SECOND_NS, .tv_usec = (left % NP_SECOND_NS) / 1000};
        if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) {
            int error = errno;
            np_fd_close(fd);
            return -error;
        }
    }
    if (connect(fd, (const struct sockaddr *)address, size) != 0) {
        int error = errno;
        np_fd_close(fd);
        return -error;
    }
    return fd;
}

static int connect_to(const struct sockaddr_un *address, int64_t deadline)
{
    return connect_at(address, sizeof *address, deadline);
}

static socklen_t abstract_address(struct sockaddr_un *address, const char *name)
{
    size_t length = strlen(name);
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (length >= sizeof address->sun_path)
        return 0;
    memcpy(address->sun_path + 1, name, length);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

int np_socket_connect_abstract(const char *name, int64_t deadline)
{
    struct sockaddr_un address;
    socklen_t size = abstract_address(&address, name);
    return size ? connect_at(&address, size, deadline) : -ENAMETOOLONG;
}

int np_socket_listen_abstract(const char *name)
{
    struct sockaddr_un address;
    socklen_t size = abstract_address(&address, name);
    if (!size)
        return -ENAMETOOLONG;
    np_fds_hold();
    int fd = np_fd_made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)&address, size) == 0 && listen(fd, 64) == 0)
        return fd;
    int error = errno;
    np_fd_close(fd);
    return -error;
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
