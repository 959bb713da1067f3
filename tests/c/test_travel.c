/* Ends that go from one process to another: what they take with them, and what is asked of those who lend them. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pair.h"
#include "travel/lend.h"
#include "travel/passport.h"

#define QUOTA 4096

static const struct np_wait at_once = {.deadline = NP_TRY};

static struct np_wait seconds(int count)
{
    return (struct np_wait){.deadline = np_now() + count * INT64_C(1000000000)};
}

struct ends {
    struct np_handle *server, *client;
};

/* Handles as the registry has them, with links that keep what it takes to travel. */
static struct np_handle *registered(const struct np_handle *from)
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

static struct ends open_ends(uint32_t type)
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

static void end(struct np_handle *handle)
{
    np_close(handle, false);
    np_free(handle);
}

static struct np_handle *travelled(struct np_handle *handle)
{
    struct np_passport passport;
    struct np_handle *there;
    CHECK_EQUAL(np_depart(handle, true, &passport), NP_OK);
    CHECK(np_is_closed(handle));
    CHECK_EQUAL(np_arrive(&passport, &there), NP_OK);
    np_free(handle);
    return there;
}

static void write_all(struct np_handle *handle, const char *text)
{
    uint32_t count;
    CHECK_EQUAL(np_write(handle, text, (uint32_t)strlen(text), &count, &at_once), NP_OK);
    CHECK_EQUAL(count, strlen(text));
}

static void read_all(struct np_handle *handle, const char *text)
{
    char buffer[256];
    uint32_t count;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_read(handle, buffer, sizeof buffer, &count, &wait), NP_OK);
    CHECK_EQUAL(count, strlen(text));
    CHECK(memcmp(buffer, text, count) == 0);
}

static void what_is_unread_goes_with_the_end(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    write_all(ends.server, "one");
    write_all(ends.server, "two");
    write_all(ends.client, "up");
    read_all(ends.client, "one");
    ends.client = travelled(ends.client);
    read_all(ends.client, "two");
    write_all(ends.client, "again");
    ends.server = travelled(ends.server);
    read_all(ends.server, "up");
    read_all(ends.server, "again");
    for (int i = 0; i < 1000; i++) {
        write_all(ends.server, "there");
        read_all(ends.client, "there");
        if (i % 100 == 0)
            ends.client = travelled(ends.client);
        if (i % 70 == 0)
            ends.server = travelled(ends.server);
    }
    end(ends.server);
    char byte;
    uint32_t count;
    CHECK_EQUAL(np_read(ends.client, &byte, 1, &count, &at_once), NP_BROKEN_PIPE);
    end(ends.client);
}

static void a_message_in_the_middle_goes_on_there(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    write_all(ends.server, "abcdef");
    char buffer[2];
    uint32_t count;
    CHECK_EQUAL(np_read(ends.client, buffer, 2, &count, &at_once), NP_MORE_DATA);
    ends.client = travelled(ends.client);
    CHECK_EQUAL(np_rest_of_message(ends.client), 4);
    read_all(ends.client, "cdef");
    end(ends.client);
    end(ends.server);
}

static void what_was_put_back_keeps_its_order(void)
{
    struct ends ends = open_ends(0);
    write_all(ends.server, "gh");
    CHECK_EQUAL(np_put_back(ends.client, "ef", 2), NP_OK);
    CHECK_EQUAL(np_put_back(ends.client, "abcd", 4), NP_OK);
    ends.client = travelled(ends.client);
    char buffer[16];
    uint32_t total = 0, count;
    while (total < 8) {
        CHECK_EQUAL(np_read(ends.client, buffer + total, sizeof buffer - total, &count, &at_once), NP_OK);
        total += count;
    }
    CHECK(memcmp(buffer, "abcdefgh", 8) == 0);
    end(ends.client);
    end(ends.server);
}

static void an_end_that_is_in_use_stays(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    struct np_passport passport;
    struct np_op op = {.size = 1};
    pthread_mutex_lock(&ends.client->rx_lock);
    np_queue_append(&ends.client->link->rx.first, &ends.client->link->rx.last, &op);
    pthread_mutex_unlock(&ends.client->rx_lock);
    CHECK_EQUAL(np_depart(ends.client, true, &passport), NP_PIPE_BUSY);
    pthread_mutex_lock(&ends.client->rx_lock);
    np_queue_remove(&ends.client->link->rx.first, &ends.client->link->rx.last, &op);
    pthread_mutex_unlock(&ends.client->rx_lock);
    ends.client = travelled(ends.client);
    end(ends.client);
    CHECK_EQUAL(np_depart(ends.server, true, &passport), NP_OK);
    np_passport_drop(&passport);
    CHECK_EQUAL(np_depart(ends.server, true, &passport), NP_INVALID_HANDLE);
    end(ends.server);
}

static void a_passport_that_nobody_comes_for_ends_the_connection(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    struct np_passport passport;
    CHECK_EQUAL(np_depart(ends.client, true, &passport), NP_OK);
    np_passport_drop(&passport);
    char byte;
    uint32_t count;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_read(ends.server, &byte, 1, &count, &wait), NP_BROKEN_PIPE);
    end(ends.client);
    end(ends.server);
}

static void a_forged_state_is_refused(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    struct np_passport passport;
    CHECK_EQUAL(np_depart(ends.client, true, &passport), NP_OK);
    off_t size = lseek(passport.state, 0, SEEK_END);
    uint8_t *good = malloc((size_t)size);
    CHECK(pread(passport.state, good, (size_t)size, 0) == size);
    unsigned refused = 0;
    for (int turn = 0; turn < 3000; turn++) {
        np_fds_hold();
        int fd = np_fd_made(memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING));
        uint8_t *bad = malloc((size_t)size);
        memcpy(bad, good, (size_t)size);
        for (int i = 0; i < 4; i++)
            bad[np_random() % (uint64_t)size] = (uint8_t)np_random();
        size_t length = turn % 7 == 0 ? np_random() % (uint64_t)size : (size_t)size;
        CHECK(write(fd, bad, length) == (ssize_t)length);
        free(bad);
        if (turn % 11 != 0)
            CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0);
        struct np_passport forged = {-1, -1, fd};
        np_fds_hold();
        forged.socket = np_fd_made(dup(passport.socket));
        np_fds_hold();
        forged.segment = np_fd_made(dup(passport.segment));
        struct np_handle *handle;
        /* A file that was shut down by a refusal would end the pair: a socket of its own. */
        np_fd_close(forged.socket);
        int sockets[2];
        np_fds_hold();
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
        np_fd_enter(sockets[0]);
        np_fds_release();
        close(sockets[1]);
        forged.socket = sockets[0];
        uint32_t code = np_arrive(&forged, &handle);
        if (code != NP_OK) {
            refused++;
            continue;
        }
        char buffer[64];
        uint32_t count;
        (void)np_read(handle, buffer, sizeof buffer, &count, &at_once);
        (void)np_write(handle, buffer, 10, &count, &at_once);
        end(handle);
    }
    CHECK(refused > 500);
    free(good);
    np_passport_drop(&passport);
    end(ends.client);
    end(ends.server);
}

static void make_pair(int sockets[2])
{
    np_fds_hold();
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    np_fd_enter(sockets[0]);
    np_fd_enter(sockets[1]);
    np_fds_release();
}

static void a_lent_handle_goes_to_who_asks(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    write_all(ends.client, "before");
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_OK);
    CHECK(np_is_closed(ends.client));
    read_all(ends.server, "before");
    write_all(there, "after");
    read_all(ends.server, "after");
    np_free(ends.client);
    np_fd_close(sockets[1]);
    end(there);
    end(ends.server);
}

static void a_lent_handle_that_is_closed_goes_to_the_first_who_is_there(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int gone[2], sockets[2];
    make_pair(gone);
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, gone[0]), NP_OK);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    np_hang_up(gone[1]);
    write_all(ends.server, "late");
    CHECK(np_close_lent(ends.client));
    np_free(ends.client);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_OK);
    read_all(there, "late");
    np_fd_close(sockets[1]);
    end(there);
    end(ends.server);
}

static void a_handle_that_nobody_wants_any_more_is_closed(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    np_hang_up(sockets[1]);
    CHECK(!np_close_lent(ends.client));
    end(ends.client);
    char byte;
    uint32_t count;
    CHECK_EQUAL(np_read(ends.server, &byte, 1, &count, &at_once), NP_BROKEN_PIPE);
    end(ends.server);
}

static void an_offer_is_found_by_its_number_once(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 4711, false), NP_OK);
    CHECK_EQUAL(np_offer(ends.server, 4712, false), NP_OK);
    struct np_wait wait = seconds(5);
    struct np_handle *there;
    CHECK_EQUAL(np_claim_from(getpid(), 1, &wait, &there), NP_INVALID_HANDLE);
    CHECK_EQUAL(np_claim_from(getpid(), 4711, &wait, &there), NP_OK);
    struct np_handle *again;
    CHECK_EQUAL(np_claim_from(getpid(), 4711, &wait, &again), NP_INVALID_HANDLE);
    np_free(ends.client);
    write_all(there, "hello");
    CHECK(np_close_lent(ends.server)); /* nobody has come for it yet */
    np_free(ends.server);
    CHECK_EQUAL(np_claim_from(getpid(), 4712, &wait, &again), NP_OK);
    read_all(again, "hello");
    end(again);
    end(there);
}

static void an_offer_for_as_long_as_it_is_open_does_not_keep_the_connection(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 1, true), NP_OK);
    CHECK_EQUAL(np_offer(ends.client, 2, true), NP_OK);
    CHECK(!np_close_lent(ends.client));
    end(ends.client);
    char byte;
    uint32_t count;
    CHECK_EQUAL(np_read(ends.server, &byte, 1, &count, &at_once), NP_BROKEN_PIPE);
    struct np_wait wait = seconds(5);
    struct np_handle *there;
    CHECK_EQUAL(np_claim_from(getpid(), 1, &wait, &there), NP_INVALID_HANDLE);
    end(ends.server);
}

static void a_handle_in_use_says_so_and_can_be_asked_for_again(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    struct np_op op = {.size = 1};
    pthread_mutex_lock(&ends.client->rx_lock);
    np_queue_append(&ends.client->link->rx.first, &ends.client->link->rx.last, &op);
    pthread_mutex_unlock(&ends.client->rx_lock);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_PIPE_BUSY);
    pthread_mutex_lock(&ends.client->rx_lock);
    np_queue_remove(&ends.client->link->rx.first, &ends.client->link->rx.last, &op);
    pthread_mutex_unlock(&ends.client->rx_lock);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_OK);
    np_fd_close(sockets[1]);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

int main(void)
{
    RUN(what_is_unread_goes_with_the_end);
    RUN(a_message_in_the_middle_goes_on_there);
    RUN(what_was_put_back_keeps_its_order);
    RUN(an_end_that_is_in_use_stays);
    RUN(a_passport_that_nobody_comes_for_ends_the_connection);
    RUN(a_forged_state_is_refused);
    RUN(a_lent_handle_goes_to_who_asks);
    RUN(a_lent_handle_that_is_closed_goes_to_the_first_who_is_there);
    RUN(a_handle_that_nobody_wants_any_more_is_closed);
    RUN(an_offer_is_found_by_its_number_once);
    RUN(an_offer_for_as_long_as_it_is_open_does_not_keep_the_connection);
    RUN(a_handle_in_use_says_so_and_can_be_asked_for_again);
    return 0;
}
