/* Both ends of a link in one process, without the rendezvous. */
#ifndef NPIPE_PAIR_H
#define NPIPE_PAIR_H

#include <sys/socket.h>

#include "base/fds.h"
#include "check.h"
#include "engine.h"
#include "ring/rx.h"
#include "ring/tx.h"

struct pair {
    struct np_handle server, client;
};

static inline void attach_handle(struct np_handle *handle, struct np_link *link, bool server)
{
    memset(handle, 0, sizeof *handle);
    pthread_mutex_init(&handle->rx_lock, NULL);
    pthread_mutex_init(&handle->tx_lock, NULL);
    handle->link = link;
    handle->server = server;
    handle->state = NP_CONNECTED;
    handle->type = link->type;
    handle->direction = link->direction;
    handle->access = NP_READ | NP_WRITE | NP_READ_ATTRIBUTES | NP_WRITE_ATTRIBUTES;
    handle->mode = link->type == NP_TYPE_MESSAGE ? NP_MODE_READ_MESSAGE : 0;
}

static inline void open_pair(struct pair *pair, uint32_t type, uint32_t quota)
{
    struct np_link_shape shape = {
        .type = type, .direction = NP_ACCESS_DUPLEX, .quota = {quota, quota}, .server_pid = 1};
    struct np_link *server, *client;
    int fd, sockets[2];
    CHECK_EQUAL(np_link_create(&shape, &server, &fd), NP_OK);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    server->socket = sockets[0];
    CHECK_EQUAL(np_link_accept(fd, sockets[1], &client), NP_OK);
    np_fd_close(fd);
    attach_handle(&pair->server, server, true);
    attach_handle(&pair->client, client, false);
}

/* As np_close does it, but without a registry. */
static inline void close_end(struct np_handle *handle)
{
    struct np_link *link = handle->link;
    if (!link)
        return;
    pthread_mutex_lock(&handle->rx_lock);
    pthread_mutex_lock(&handle->tx_lock);
    np_async_end(link, NP_BROKEN_PIPE);
    handle->link = NULL;
    handle->state = NP_CLOSED;
    np_link_alert(link, NP_ALERT_CLOSING);
    np_link_end(link, NPL_END_CLOSED, false);
    shutdown(link->socket, SHUT_RDWR);
    pthread_mutex_unlock(&handle->tx_lock);
    pthread_mutex_unlock(&handle->rx_lock);
    np_link_unref(link);
}

static inline void close_pair(struct pair *pair)
{
    close_end(&pair->server);
    close_end(&pair->client);
    pthread_mutex_destroy(&pair->server.rx_lock);
    pthread_mutex_destroy(&pair->server.tx_lock);
    pthread_mutex_destroy(&pair->client.rx_lock);
    pthread_mutex_destroy(&pair->client.tx_lock);
}

static const struct np_wait only_try = {.deadline = NP_TRY};
static const struct np_wait for_ever = {.deadline = NP_FOREVER};

static inline struct np_wait for_ms(int ms)
{
    return (struct np_wait){.deadline = np_now() + (int64_t)ms * 1000000};
}

static inline uint32_t try_write(struct np_handle *handle, const void *data, uint32_t size)
{
    uint32_t count;
    return np_write(handle, data, size, &count, &only_try);
}

/* Reads and compares: the code, and the text. */
static inline void expect_read(struct np_handle *handle, uint32_t size, uint32_t code, const char *text)
{
    char buffer[4096];
    uint32_t count;
    CHECK(size <= sizeof buffer);
    uint32_t got = np_read(handle, buffer, size, &count, &only_try);
    struct np_wait now = {.deadline = 0};
    if (got == NP_WOULD_WAIT) /* a try leaves alone what it may not be able to finish */
        got = np_read(handle, buffer, size, &count, &now);
    CHECK_EQUAL(got == NP_SEM_TIMEOUT ? NP_WOULD_WAIT : got, code);
    CHECK_EQUAL(count, strlen(text));
    CHECK(memcmp(buffer, text, count) == 0);
}

#endif
