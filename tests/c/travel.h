/* A pair of ends that can go to another process, and what their tests share. */
#ifndef NP_TESTS_TRAVEL_H
#define NP_TESTS_TRAVEL_H

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/identity.h"
#include "base/socket.h"
#include "pair.h"
#include "poll/read.h"
#include "travel/lend.h"
#include "travel/passport.h"

#define QUOTA 4096
#define SOMEBODY 4711 /* a user's number */
#define LONG_MESSAGE 150000 /* longer than the ring */

static const struct np_wait at_once = {.deadline = NP_TRY};

static inline struct np_wait seconds(int count)
{
    return (struct np_wait){.deadline = np_now() + count * INT64_C(1000000000)};
}

struct ends {
    struct np_handle *server, *client;
};

/* Handles as the registry has them, with links that keep what it takes to travel. */
static inline struct np_handle *registered(const struct np_handle *from)
{
    struct np_handle *handle = np_handle_new();
    handle->link = from->link;
    from->link->handle = handle;
    handle->server = from->server;
    handle->state = NP_CONNECTED;
    handle->type = from->type;
    handle->direction = from->direction;
    handle->access = from->access;
    handle->mode = from->mode;
    handle->travels = true;
    memcpy(handle->quota, from->link->quota, sizeof handle->quota);
    pthread_mutex_lock(&np_process.lock);
    np_handle_register(handle);
    pthread_mutex_unlock(&np_process.lock);
    return handle;
}

static inline struct ends open_ends(uint32_t type)
{
    struct np_link_shape shape = {
        .type = type, .direction = NP_ACCESS_DUPLEX, .quota = {QUOTA, QUOTA}, .server_pid = 1};
    struct np_link *server, *client;
    int fd, sockets[2];
    CHECK_EQUAL(np_process_start(), NP_OK);
    CHECK_EQUAL(np_link_create(&shape, &server, &fd), NP_OK);
    np_fds_hold();
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    np_fd_enter(sockets[0]);
    np_fd_enter(sockets[1]);
    np_fds_release();
    server->socket = sockets[0];
    CHECK_EQUAL(np_link_accept(fd, sockets[1], &client), NP_OK);
    np_fds_hold();
    client->fd = np_fd_made(dup(fd));
    server->fd = fd;
    struct np_handle a, b;
    attach_handle(&a, server, true);
    attach_handle(&b, client, false);
    return (struct ends){registered(&a), registered(&b)};
}

static inline void end(struct np_handle *handle)
{
    np_close(handle, false);
    np_free(handle);
}

static inline struct np_handle *travelled(struct np_handle *handle)
{
    struct np_passport passport;
    struct np_handle *there;
    CHECK_EQUAL(np_depart(handle, true, &passport), NP_OK);
    CHECK(np_is_closed(handle));
    CHECK_EQUAL(np_arrive(&passport, &there), NP_OK);
    np_free(handle);
    return there;
}

static inline void write_all(struct np_handle *handle, const char *text)
{
    uint32_t count;
    CHECK_EQUAL(np_write(handle, text, (uint32_t)strlen(text), &count, &at_once), NP_OK);
    CHECK_EQUAL(count, strlen(text));
}

static inline void read_all(struct np_handle *handle, const char *text)
{
    char buffer[256];
    uint32_t count;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_read(handle, buffer, sizeof buffer, &count, &wait), NP_OK);
    CHECK_EQUAL(count, strlen(text));
    CHECK(memcmp(buffer, text, count) == 0);
}

static inline void make_pair(int sockets[2])
{
    np_fds_hold();
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    np_fd_enter(sockets[0]);
    np_fd_enter(sockets[1]);
    np_fds_release();
}

static inline int visit(void)
{
    char name[64];
    snprintf(name, sizeof name, "npipe/handles/%u/%d", (unsigned)geteuid(), (int)getpid());
    int socket = np_socket_connect_abstract(name, np_now() + INT64_C(5000000000));
    CHECK(socket >= 0);
    return socket;
}

/* No number for a descriptor is left from here on, until rlim_cur is what it was. */
static inline struct rlimit use_up_descriptors(void)
{
    struct rlimit before, none;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    int lowest = dup(0);
    CHECK(lowest >= 0);
    close(lowest);
    none.rlim_cur = (rlim_t)lowest;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    return before;
}

#endif
