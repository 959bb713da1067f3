/* Ends that go from one process to another: what they take with them, and what is asked of those who lend them. */
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
#define LONG_MESSAGE 150000 /* longer than the ring */

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

static void make_pair(int sockets[2])
{
    np_fds_hold();
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    np_fd_enter(sockets[0]);
    np_fd_enter(sockets[1]);
    np_fds_release();
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

static void an_end_that_a_selector_waits_for_stays_until_it_does_not(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    struct np_passport passport;
    int socket;
    CHECK_EQUAL(np_poll_socket(ends.client, &socket), NP_OK);
    CHECK_EQUAL(np_arm_read(ends.client), NP_OK);
    CHECK_EQUAL(np_depart(ends.client, true, &passport), NP_PIPE_BUSY);
    write_all(ends.server, "woken");
    np_poll_end(ends.client);
    ends.client = travelled(ends.client);
    read_all(ends.client, "woken");
    write_all(ends.server, "again");
    read_all(ends.client, "again");
    end(ends.client);
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

/* A passport that somebody has written, with a socket whose other end is *peer. */
static struct np_passport forge(const uint8_t *state, size_t size, int segment, int *peer)
{
    int sockets[2];
    make_pair(sockets);
    *peer = sockets[1];
    np_fds_hold();
    int fd = np_fd_made(memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    CHECK(write(fd, state, size) == (ssize_t)size);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0);
    np_fds_hold();
    return (struct np_passport){sockets[0], np_fd_made(dup(segment)), fd};
}

/* All that is done with an end; whatever comes of it, it comes soon and touches no memory but its own. */
static void try_all(struct np_handle *handle)
{
    static uint8_t buffer[LONG_MESSAGE];
    uint32_t count, available, left;
    (void)np_rest_of_message(handle);
    (void)np_peek(handle, buffer, sizeof buffer, &count, &available, &left);
    (void)np_read(handle, buffer, 3, &count, &at_once);
    (void)np_read(handle, buffer, sizeof buffer, &count, &at_once);
    (void)np_put_back(handle, buffer, 5);
    (void)np_read(handle, buffer, 2, &count, &at_once);
    (void)np_write(handle, buffer, 10, &count, &at_once);
    (void)np_write(handle, buffer, LONG_MESSAGE, &count, &at_once);
    (void)np_write(handle, buffer, 1, &count, &at_once);
    (void)np_flush(handle, &at_once);
    (void)np_read(handle, buffer, sizeof buffer, &count, &at_once);
}

#define BASES 4

/* Ends with something of everything that a state tells of. */
static struct np_handle *end_with_a_past(int which, struct ends *ends)
{
    static uint8_t buffer[LONG_MESSAGE];
    uint32_t count, available, left;
    *ends = open_ends(which == 3 ? 0 : NP_TYPE_MESSAGE);
    write_all(ends->server, "abcdef");
    write_all(ends->server, "ghi");
    write_all(ends->client, "up");
    if (which == 0)
        return ends->client;
    CHECK_EQUAL(np_read(ends->client, buffer, 2, &count, &at_once), which == 3 ? NP_OK : NP_MORE_DATA);
    CHECK_EQUAL(np_put_back(ends->client, "xy", 2), NP_OK);
    if (which == 1 || which == 3)
        return ends->client;
    struct np_wait wait = {.deadline = np_now() + 10000000};
    CHECK_EQUAL(np_write(ends->client, buffer, LONG_MESSAGE, &count, &wait), NP_SEM_TIMEOUT);
    (void)np_peek(ends->client, buffer, 100, &count, &available, &left);
    return ends->client;
}

static void each_word_of_a_state_may_be_a_lie(void)
{
    const uint64_t lies[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0x10000, 0x10001, UINT64_MAX, UINT64_MAX / 2};
    unsigned refused = 0, taken = 0;
    for (int base = 0; base < BASES; base++) {
        struct ends ends;
        struct np_passport passport;
        struct np_handle *from = end_with_a_past(base, &ends);
        CHECK_EQUAL(np_depart(from, true, &passport), NP_OK);
        size_t size = (size_t)lseek(passport.state, 0, SEEK_END);
        size_t shared = (size_t)lseek(passport.segment, 0, SEEK_END);
        uint8_t *good = malloc(size), *bad = malloc(size), *segment = malloc(shared);
        CHECK(pread(passport.state, good, size, 0) == (ssize_t)size);
        CHECK(pread(passport.segment, segment, shared, 0) == (ssize_t)shared);
        for (size_t at = 0; at + 4 <= size; at += 4)
            for (size_t lie = 0; lie < sizeof lies / sizeof *lies; lie++) {
                size_t width = lie >= 8 ? 8 : 4; /* of the last ones: both halves of a long word */
                if (at + width > size)
                    continue;
                memcpy(bad, good, size);
                memcpy(bad + at, &lies[lie], width);
                int peer;
                struct np_handle *there;
                struct np_passport forged = forge(bad, size, passport.segment, &peer);
                if (np_arrive(&forged, &there) == NP_OK) {
                    taken++;
                    alarm(deadline(20));
                    try_all(there);
                    end(there);
                    CHECK(pwrite(passport.segment, segment, shared, 0) == (ssize_t)shared);
                } else {
                    refused++;
                }
                np_fd_close(peer);
            }
        free(good);
        free(bad);
        free(segment);
        np_passport_drop(&passport);
        end(ends.client);
        end(ends.server);
    }
    CHECK(refused > 500);
    CHECK(taken > 500);
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

static void a_handle_that_is_not_lent_any_more_stays(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    CHECK_EQUAL(np_offer(ends.client, 4714, false), NP_OK);
    np_lends_withdraw(ends.client);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_INVALID_HANDLE);
    CHECK_EQUAL(np_claim_from(getpid(), 4714, &wait, &there), NP_INVALID_HANDLE);
    CHECK(!np_close_lent(ends.client));
    write_all(ends.client, "still here");
    read_all(ends.server, "still here");
    np_fd_close(sockets[1]);
    end(ends.client);
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

/* ---- What was there when the end left */

static uint8_t long_message[LONG_MESSAGE];

static void *write_long_message(void *handle)
{
    uint32_t count;
    struct np_wait wait = seconds(20);
    CHECK_EQUAL(np_write(handle, long_message, LONG_MESSAGE, &count, &wait), NP_OK);
    CHECK_EQUAL(count, LONG_MESSAGE);
    return NULL;
}

static void what_was_taken_out_in_advance_goes_from_where_the_reader_is(void)
{
    static uint8_t got[LONG_MESSAGE], seen[LONG_MESSAGE];
    for (size_t i = 0; i < LONG_MESSAGE; i++)
        long_message[i] = (uint8_t)(i * 7 + i / 251);
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    pthread_t writer;
    CHECK(pthread_create(&writer, NULL, write_long_message, ends.server) == 0);
    struct np_wait wait = seconds(20);
    uint32_t first, second, rest, copied, available, left;
    CHECK_EQUAL(np_read(ends.client, got, 10, &first, &wait), NP_MORE_DATA);
    CHECK_EQUAL(np_peek(ends.client, seen, 100000, &copied, &available, &left), NP_OK);
    CHECK_EQUAL(np_read(ends.client, got + first, 1000, &second, &wait), NP_MORE_DATA);
    CHECK(ends.client->link->rx.stash_begin > 0);
    ends.client = travelled(ends.client);
    CHECK_EQUAL(np_read(ends.client, got + first + second, LONG_MESSAGE, &rest, &wait), NP_OK);
    CHECK_EQUAL(first + second + rest, LONG_MESSAGE);
    CHECK(memcmp(got, long_message, LONG_MESSAGE) == 0);
    CHECK(pthread_join(writer, NULL) == 0);
    end(ends.client);
    end(ends.server);
}

static void a_rest_that_was_put_back_is_a_rest_there(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_put_back(ends.client, "abcdef", 6), NP_OK);
    char buffer[2];
    uint32_t count;
    CHECK_EQUAL(np_read(ends.client, buffer, 2, &count, &at_once), NP_MORE_DATA);
    CHECK_EQUAL(np_rest_of_message(ends.client), 4);
    for (int i = 0; i < 2; i++) {
        ends.client = travelled(ends.client);
        CHECK_EQUAL(np_rest_of_message(ends.client), 4);
    }
    read_all(ends.client, "cdef");
    CHECK_EQUAL(np_rest_of_message(ends.client), 0);
    end(ends.client);
    end(ends.server);
}

static void no_address_of_this_process_leaves_it(void)
{
    struct ends ends = open_ends(0);
    CHECK_EQUAL(np_put_back(ends.client, "abcd", 4), NP_OK);
    const struct np_link *link = ends.client->link;
    const void *const addresses[] = {link,        link->rx.ring, link->rx.shared, link->rx.back,
                                     ends.client, link->tx.ring, link->tx.shared, link->segment};
    struct np_passport passport;
    CHECK_EQUAL(np_depart(ends.client, true, &passport), NP_OK);
    off_t size = lseek(passport.state, 0, SEEK_END);
    uint8_t *state = malloc((size_t)size);
    CHECK(pread(passport.state, state, (size_t)size, 0) == size);
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        CHECK(!memmem(state, (size_t)size, &addresses[i], sizeof addresses[i]));
    free(state);
    np_passport_drop(&passport);
    end(ends.client);
    end(ends.server);
}

static void *disconnect(void *handle)
{
    (void)np_disconnect(handle);
    return NULL;
}

static void an_end_that_has_left_stays_closed_whoever_disconnects_it(void)
{
    for (int i = 0; i < 500; i++) {
        struct ends ends = open_ends(NP_TYPE_MESSAGE);
        struct np_passport passport;
        pthread_t other;
        CHECK(pthread_create(&other, NULL, disconnect, ends.server) == 0);
        for (volatile uint64_t turns = np_random() % 30000; turns; turns--) {
        }
        uint32_t code = np_depart(ends.server, true, &passport);
        CHECK(pthread_join(other, NULL) == 0);
        CHECK_EQUAL(np_is_closed(ends.server), code == NP_OK);
        if (code == NP_OK)
            np_passport_drop(&passport);
        end(ends.server);
        end(ends.client);
    }
}

/* ---- Who asks, and leaves */

struct claimer {
    int socket;
    uint32_t code;
    struct np_handle *there;
};

static void *claim(void *context)
{
    struct claimer *claimer = context;
    struct np_wait wait = seconds(20);
    claimer->code = np_claim(claimer->socket, &wait, &claimer->there);
    return NULL;
}

static void a_handle_that_is_closed_while_somebody_asks_for_it_gets_there(void)
{
    for (int i = 0; i < 500; i++) {
        struct ends ends = open_ends(NP_TYPE_MESSAGE);
        int sockets[2];
        make_pair(sockets);
        CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
        struct claimer claimer = {.socket = sockets[1]};
        pthread_t other;
        CHECK(pthread_create(&other, NULL, claim, &claimer) == 0);
        for (volatile uint64_t turns = np_random() % 60000; turns; turns--) {
        }
        if (!np_close_lent(ends.client))
            np_close(ends.client, false);
        np_free(ends.client);
        CHECK(pthread_join(other, NULL) == 0);
        CHECK_EQUAL(claimer.code, NP_OK);
        write_all(claimer.there, "arrived");
        read_all(ends.server, "arrived");
        np_fd_close(sockets[1]);
        end(claimer.there);
        end(ends.server);
    }
}

static pthread_mutex_t *held; /* and let go by who is interrupted */
static timer_t signals;

static int let_go(void *context)
{
    (void)context;
    if (!held)
        return 0;
    CHECK(timer_delete(signals) == 0);
    pthread_mutex_unlock(held);
    held = NULL;
    return 1;
}

static void nothing(int number)
{
    (void)number;
}

/* Signals come until one has ended the wait: there is no telling when it has begun. */
static struct np_wait interrupted_wait(pthread_mutex_t *lock)
{
    const struct sigaction action = {.sa_handler = nothing};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    const struct itimerspec often = {{0, 2000000}, {0, 2000000}};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &signals) == 0);
    pthread_mutex_lock(lock);
    held = lock;
    CHECK(timer_settime(signals, 0, &often, NULL) == 0);
    struct np_wait wait = seconds(20);
    wait.interrupted = let_go;
    return wait;
}

static void what_comes_for_one_who_is_interrupted_is_not_lost(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    CHECK_EQUAL(np_offer(ends.server, 99, false), NP_OK);
    struct np_handle *client, *server;
    struct np_wait wait = interrupted_wait(&ends.client->rx_lock);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &client), NP_INTERRUPTED);
    CHECK(client);
    wait = interrupted_wait(&ends.server->rx_lock);
    CHECK_EQUAL(np_claim_from(getpid(), 99, &wait, &server), NP_INTERRUPTED);
    CHECK(server);
    write_all(client, "still connected");
    read_all(server, "still connected");
    np_free(ends.client);
    np_free(ends.server);
    np_fd_close(sockets[1]);
    end(client);
    end(server);
}

static void one_who_has_left_can_ask_again(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    CHECK_EQUAL(np_offer(ends.server, 98, false), NP_OK);
    struct np_handle *client, *server;
    struct np_wait wait = seconds(5);
    pthread_mutex_lock(&ends.client->rx_lock); /* so that there is no answer */
    CHECK_EQUAL(np_claim(sockets[1], &at_once, &client), NP_SEM_TIMEOUT);
    CHECK(!client);
    pthread_mutex_unlock(&ends.client->rx_lock);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &client), NP_OK);
    pthread_mutex_lock(&ends.server->rx_lock);
    CHECK_EQUAL(np_claim_from(getpid(), 98, &at_once, &server), NP_SEM_TIMEOUT);
    CHECK(!server);
    pthread_mutex_unlock(&ends.server->rx_lock);
    CHECK_EQUAL(np_claim_from(getpid(), 98, &wait, &server), NP_OK);
    write_all(server, "second try");
    read_all(client, "second try");
    np_free(ends.client);
    np_free(ends.server);
    np_fd_close(sockets[1]);
    end(client);
    end(server);
}

static int visit(void)
{
    char name[64];
    snprintf(name, sizeof name, "npipe/handles/%u/%d", (unsigned)geteuid(), (int)getpid());
    int socket = np_socket_connect_abstract(name, np_now() + INT64_C(5000000000));
    CHECK(socket >= 0);
    return socket;
}

static void a_handle_stays_when_who_asked_has_gone(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 97, false), NP_OK);
    const struct {
        uint32_t magic, version;
        uint64_t number;
    } question = {0x5450504e, 1, 97};
    for (int i = 0; i < 20; i++) {
        int socket = visit();
        pthread_mutex_lock(&ends.client->rx_lock); /* no answer yet */
        CHECK(np_send_message(socket, &question, sizeof question, -1) == (ssize_t)sizeof question);
        np_hang_up(socket);
        pthread_mutex_unlock(&ends.client->rx_lock);
    }
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim_from(getpid(), 97, &wait, &there), NP_OK); /* after them */
    write_all(ends.server, "the one who is there");
    read_all(there, "the one who is there");
    np_free(ends.client);
    end(there);
    end(ends.server);
}

/* No number for a descriptor is left from here on, until rlim_cur is what it was. */
static struct rlimit use_up_descriptors(void)
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

static void one_who_has_no_descriptors_left_can_ask_again(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    struct rlimit before = use_up_descriptors();
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_TOO_MANY_OPEN_FILES);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(!np_is_closed(ends.client));
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_OK);
    write_all(there, "room again");
    read_all(ends.server, "room again");
    np_free(ends.client);
    np_fd_close(sockets[1]);
    end(there);
    end(ends.server);
}

static void an_end_that_is_not_connected_can_be_asked_for_again(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.server, sockets[0]), NP_OK);
    CHECK_EQUAL(np_disconnect(ends.server), NP_OK);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_PIPE_NOT_CONNECTED);
    end(ends.server);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_INVALID_HANDLE);
    np_fd_close(sockets[1]);
    end(ends.client);
}

/* ---- Others' connections */

#define VISITORS 300
#define MOST_SILENT 64

static void those_who_say_nothing_do_not_keep_others_away(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 96, false), NP_OK);
    int visitors[VISITORS], there_still = 0;
    for (int i = 0; i < VISITORS; i++)
        visitors[i] = visit();
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim_from(getpid(), 96, &wait, &there), NP_OK); /* so all of them were let in */
    for (int i = 0; i < VISITORS; i++) {
        there_still += !np_socket_hung_up(visitors[i]);
        np_fd_close(visitors[i]);
    }
    CHECK(there_still <= MOST_SILENT);
    write_all(there, "through");
    read_all(ends.server, "through");
    np_free(ends.client);
    end(there);
    end(ends.server);
}

static double processor_seconds(void)
{
    struct timespec used;
    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static void a_visitor_for_whom_there_is_no_descriptor_costs_no_processor(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 95, false), NP_OK);
    const struct {
        uint32_t magic, version;
        uint64_t number;
    } question = {0x5450504e, 1, 94};
    pthread_mutex_lock(&np_process.lock); /* nobody lets it in yet */
    int visitor = visit();
    struct rlimit before = use_up_descriptors();
    pthread_mutex_unlock(&np_process.lock);
    CHECK(np_send_message(visitor, &question, sizeof question, -1) == (ssize_t)sizeof question);
    struct pollfd answer = {.fd = visitor, .events = POLLIN};
    double began = processor_seconds();
    CHECK_EQUAL(poll(&answer, 1, 400), 0);
    CHECK(processor_seconds() - began < 0.2);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_EQUAL(poll(&answer, 1, 5000), 1); /* let in as soon as there is one */
    np_fd_close(visitor);
    if (!np_close_lent(ends.client))
        np_close(ends.client, false);
    np_free(ends.client);
    end(ends.server);
}

static void an_offer_for_as_long_as_a_number_is_open_ends_with_the_number(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    for (uint64_t number = 1; number <= 100; number++) {
        CHECK_EQUAL(np_offer(ends.client, number, true), NP_OK);
        if (number > 1)
            np_offer_end(ends.client, number);
    }
    CHECK_EQUAL(ends.client->lent, 1);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim_from(getpid(), 2, &wait, &there), NP_INVALID_HANDLE);
    CHECK_EQUAL(np_claim_from(getpid(), 1, &wait, &there), NP_OK);
    write_all(there, "one");
    read_all(ends.server, "one");
    np_free(ends.client);
    end(there);
    end(ends.server);
}

#define SOMEBODY 4711 /* a user's number */

static void an_offer_is_the_processs_whomever_its_thread_acts_as(void)
{
    if (geteuid() != 0)
        return; /* only root acts as others */
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    const struct np_credentials who = {.pid = getpid(), .uid = SOMEBODY, .gid = SOMEBODY};
    CHECK(np_become(&who));
    CHECK_EQUAL(np_offer(ends.client, 93, false), NP_OK);
    CHECK(np_revert());
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim_from(getpid(), 93, &wait, &there), NP_OK);
    write_all(there, "mine");
    read_all(ends.server, "mine");
    np_free(ends.client);
    end(there);
    end(ends.server);
}

static void a_socket_that_another_user_has_made_brings_no_handle(void)
{
    if (geteuid() != 0)
        return; /* only root acts as others */
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    const struct np_credentials who = {.pid = getpid(), .uid = SOMEBODY, .gid = SOMEBODY};
    int sockets[2];
    CHECK(np_become(&who));
    make_pair(sockets);
    CHECK(np_revert());
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_ACCESS_DENIED);
    write_all(ends.client, "here");
    read_all(ends.server, "here");
    np_fd_close(sockets[1]);
    if (!np_close_lent(ends.client))
        np_close(ends.client, false);
    np_free(ends.client);
    end(ends.server);
}

/* ---- What else may come through these sockets */

struct question {
    uint32_t magic, version;
    uint64_t number;
};

struct reply {
    uint32_t magic, version, code, reserved;
};

static const struct question no_question = {0x5450504e, 1, 0};

#define MOST_RIGHTS 253 /* the kernel's, for a message */

/* A message as nobody who keeps to the rules sends it. */
static void ask_with(int socket, const void *data, size_t size, const int *fds, size_t n_fds)
{
    union {
        char bytes[CMSG_SPACE(MOST_RIGHTS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    memset(&control, 0, sizeof control);
    if (n_fds) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, n_fds * sizeof(int));
    }
    CHECK(sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)size);
}

static bool hangs_up(int socket)
{
    struct pollfd item = {.fd = socket, .events = POLLRDHUP};
    return poll(&item, 1, 5000) == 1 && item.revents & (POLLRDHUP | POLLHUP);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void what_is_no_question_ends_the_connection_and_takes_nothing(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 92, false), NP_OK);
    static uint8_t large[5000];
    const struct question wrong[] = {{0x5450504f, 1, 92}, {0x5450504e, 2, 92}, {0x5450504e, 0, 92}, {0, 0, 92}};
    const size_t sizes[] = {1, 4, 15, 17, 24, sizeof large};
    unsigned before = open_descriptors();
    memcpy(large, &(struct question){0x5450504e, 1, 92}, sizeof(struct question));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong + sizeof sizes / sizeof *sizes; i++) {
        bool is_wrong = i < sizeof wrong / sizeof *wrong;
        int visitor = visit();
        if (is_wrong)
            ask_with(visitor, &wrong[i], sizeof *wrong, NULL, 0);
        else
            ask_with(visitor, large, sizes[i - sizeof wrong / sizeof *wrong], NULL, 0);
        CHECK(hangs_up(visitor));
        np_fd_close(visitor);
    }
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim_from(getpid(), 92, &wait, &there), NP_OK);
    write_all(there, "untouched");
    read_all(ends.server, "untouched");
    np_free(ends.client);
    end(there);
    end(ends.server);
    CHECK(open_descriptors() <= before + 1); /* who was answered last is let go just now */
}

static void a_child_that_talks_nonsense_leaves_the_handle_where_it_is(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    ask_with(sockets[1], "nonsense", 8, NULL, 0);
    CHECK(hangs_up(sockets[1]));
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_INVALID_HANDLE);
    write_all(ends.client, "here");
    read_all(ends.server, "here");
    np_fd_close(sockets[1]);
    end(ends.client);
    end(ends.server);
}

static void descriptors_that_nobody_has_asked_for_are_closed(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 91, false), NP_OK);
    const struct question question = {0x5450504e, 1, 90};
    int fds[MOST_RIGHTS];
    for (size_t i = 0; i < MOST_RIGHTS; i++)
        fds[i] = 1;
    unsigned before = 0;
    for (size_t turn = 0; turn < 60; turn++) {
        int visitor = visit();
        ask_with(visitor, &question, turn % 2 ? sizeof question : 1, fds, turn % 3 == 0 ? MOST_RIGHTS : turn % 3);
        CHECK(hangs_up(visitor));
        np_fd_close(visitor);
        if (turn == 5)
            before = open_descriptors();
    }
    CHECK(is_emulated() || open_descriptors() <= before + 1); /* who was answered last is let go just now */
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim_from(getpid(), 91, &wait, &there), NP_OK);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

static void an_answer_that_is_none_brings_no_handle(void)
{
    const struct reply wrong[] = {
        {0x5450504f, 1, 0, 0}, {0x5450504e, 2, 0, 0}, {0x5450504e, 1, 99999, 0}, {0x5450504e, 1, UINT32_MAX, 0}};
    const struct reply good = {0x5450504e, 1, 0, 0};
    int files[2];
    CHECK(pipe2(files, O_CLOEXEC) == 0);
    unsigned before = open_descriptors();
    for (size_t i = 0; i < 11; i++) {
        int sockets[2];
        make_pair(sockets);
        /* Of kinds that are in no passport. */
        const int fds[5] = {files[0], files[1], sockets[0], 0, 1};
        if (i < 4)
            ask_with(sockets[0], &wrong[i], sizeof *wrong, fds, 3);
        else if (i < 9)
            ask_with(sockets[0], &good, sizeof good, fds, i - 4);
        else
            ask_with(sockets[0], &good, i == 9 ? 3 : 16, fds, 3);
        struct np_handle *there = NULL;
        struct np_wait wait = seconds(5);
        CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_INVALID_DATA);
        CHECK(!there);
        np_fd_close(sockets[0]);
        np_fd_close(sockets[1]);
    }
    CHECK_EQUAL(open_descriptors(), before);
    close(files[0]);
    close(files[1]);
}

static void a_passport_whose_descriptors_are_of_other_kinds_is_refused(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    struct np_passport passport;
    CHECK_EQUAL(np_depart(ends.client, true, &passport), NP_OK);
    int stream[2], datagrams[2], tube[2], network = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagrams) == 0);
    CHECK(pipe2(tube, O_CLOEXEC) == 0);
    int unsealed = memfd_create("unsealed", MFD_CLOEXEC);
    CHECK(unsealed >= 0 && ftruncate(unsealed, 1 << 20) == 0);
    const int strange[] = {stream[0], datagrams[0], tube[0], network, unsealed, passport.state, passport.segment};
    unsigned before = open_descriptors();
    for (size_t which = 0; which < 3; which++)
        for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
            int fds[3] = {passport.socket, passport.segment, passport.state};
            if (strange[i] == fds[which])
                continue;
            fds[which] = strange[i];
            int sockets[2];
            make_pair(sockets);
            if (which != 0) { /* what is refused is hung up: a pair of its own */
                np_fd_close(sockets[1]);
                fds[0] = sockets[0];
            }
            struct np_passport forged;
            int *const places[3] = {&forged.socket, &forged.segment, &forged.state};
            for (size_t place = 0; place < 3; place++) {
                np_fds_hold();
                CHECK((*places[place] = np_fd_made(dup(fds[place]))) >= 0);
            }
            struct np_handle *there;
            CHECK_EQUAL(np_arrive(&forged, &there), NP_INVALID_DATA);
            np_fd_close(sockets[0]);
            if (which == 0)
                np_fd_close(sockets[1]);
        }
    CHECK_EQUAL(open_descriptors(), before);
    close(network);
    close(unsealed);
    for (int i = 0; i < 2; i++) {
        close(stream[i]);
        close(datagrams[i]);
        close(tube[i]);
    }
    np_passport_drop(&passport);
    end(ends.client);
    end(ends.server);
}

/* The kernel says that the connection was reset, once, and then gives what had been sent. */
static void what_was_sent_before_the_question_was_read_is_there(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    struct np_passport passport;
    CHECK_EQUAL(np_depart(ends.client, true, &passport), NP_OK);
    int sockets[2];
    make_pair(sockets);
    const struct reply reply = {0x5450504e, 1, 0, 0};
    const int fds[3] = {passport.socket, passport.segment, passport.state};
    ask_with(sockets[1], &no_question, sizeof no_question, NULL, 0);
    ask_with(sockets[0], &reply, sizeof reply, fds, 3);
    np_passport_sent(&passport);
    np_hang_up(sockets[0]);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_OK);
    write_all(there, "not lost");
    read_all(ends.server, "not lost");
    np_fd_close(sockets[1]);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

static void one_who_lends_and_goes_without_a_word_has_lent_nothing(void)
{
    for (int asked = 0; asked < 2; asked++) {
        int sockets[2];
        make_pair(sockets);
        if (asked)
            ask_with(sockets[1], &no_question, sizeof no_question, NULL, 0);
        np_hang_up(sockets[0]);
        struct np_handle *there;
        struct np_wait wait = seconds(5);
        CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_INVALID_HANDLE);
        np_fd_close(sockets[1]);
    }
}

static void one_who_lends_and_has_no_descriptors_left_keeps_the_handle(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    struct rlimit before = use_up_descriptors();
    ask_with(sockets[1], &no_question, sizeof no_question, NULL, 0);
    struct pollfd item = {.fd = sockets[1], .events = POLLIN};
    CHECK_EQUAL(poll(&item, 1, 5000), 1);
    struct reply reply;
    CHECK(recv(sockets[1], &reply, sizeof reply, 0) == sizeof reply);
    CHECK_EQUAL(reply.code, NP_TOO_MANY_OPEN_FILES);
    CHECK(np_may_claim_again(reply.code));
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    write_all(ends.client, "here");
    read_all(ends.server, "here");
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_OK);
    write_all(there, "there");
    read_all(ends.server, "there");
    np_fd_close(sockets[1]);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

/* Nobody lets them in: a signal ends the wait for room among them if its handler says so, and not else. */
static void one_who_cannot_get_in_yet_is_not_told_that_there_is_nothing(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 87, false), NP_OK);
    char name[64];
    snprintf(name, sizeof name, "npipe/handles/%u/%d", (unsigned)geteuid(), (int)getpid());
    int visitors[VISITORS], count = 0;
    struct np_handle *there;
    struct np_wait wait = interrupted_wait(&np_process.lock);
    while (count < VISITORS && (visitors[count] = np_socket_connect_abstract(name, 0)) >= 0)
        count++;
    CHECK(count < VISITORS);
    CHECK_EQUAL(np_claim_from(getpid(), 87, &at_once, &there), NP_SEM_TIMEOUT);
    CHECK_EQUAL(np_claim_from(getpid(), 87, &wait, &there), NP_INTERRUPTED);
    CHECK(!there);
    wait = seconds(20);
    CHECK_EQUAL(np_claim_from(getpid(), 87, &wait, &there), NP_OK);
    while (count > 0)
        np_fd_close(visitors[--count]);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

#define PATIENCE_NS INT64_C(10000000000)

static void who_says_nothing_has_ten_seconds(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 89, false), NP_OK);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    int64_t began = np_now();
    int first = visit(), second = visit();
    CHECK_EQUAL(np_claim_from(getpid(), 1, &wait, &there), NP_INVALID_HANDLE); /* so both have been let in */
    int64_t let_in = np_now();
    /* By a clock that runs ahead. */
    pthread_mutex_lock(&np_process.lock);
    np_offers_due(began + PATIENCE_NS - 1);
    pthread_mutex_unlock(&np_process.lock);
    CHECK(!np_socket_hung_up(first) && !np_socket_hung_up(second));
    pthread_mutex_lock(&np_process.lock);
    np_offers_due(let_in + PATIENCE_NS);
    pthread_mutex_unlock(&np_process.lock);
    CHECK(np_socket_hung_up(first) && np_socket_hung_up(second));
    /* And by the true one. */
    began = np_now();
    int third = visit();
    struct pollfd item = {.fd = third, .events = POLLRDHUP};
    CHECK_EQUAL(poll(&item, 1, 20000), 1);
    CHECK(np_now() - began >= PATIENCE_NS);
    CHECK_EQUAL(np_claim_from(getpid(), 89, &wait, &there), NP_OK);
    np_fd_close(first);
    np_fd_close(second);
    np_fd_close(third);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

/* ---- Other users */

static void another_user_who_visits_is_sent_away(void)
{
    if (geteuid() != 0)
        return; /* only root acts as others */
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 88, false), NP_OK);
    char name[64];
    snprintf(name, sizeof name, "npipe/handles/%u/%d", (unsigned)geteuid(), (int)getpid());
    const struct np_credentials who = {.pid = getpid(), .uid = SOMEBODY, .gid = SOMEBODY};
    const struct question question = {0x5450504e, 1, 88};
    for (int i = 0; i < 200; i++) {
        CHECK(np_become(&who));
        int visitor = np_socket_connect_abstract(name, np_now() + INT64_C(5000000000));
        CHECK(np_revert());
        CHECK(visitor >= 0);
        (void)np_send_message(visitor, &question, sizeof question, -1);
        CHECK(hangs_up(visitor));
        struct reply reply;
        CHECK(recv(visitor, &reply, sizeof reply, MSG_DONTWAIT) <= 0);
        np_fd_close(visitor);
    }
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim_from(getpid(), 88, &wait, &there), NP_OK);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

int main(void)
{
    /* First: no descriptor of another test's is closed meanwhile. */
    RUN(a_visitor_for_whom_there_is_no_descriptor_costs_no_processor);
    RUN(what_is_unread_goes_with_the_end);
    RUN(a_message_in_the_middle_goes_on_there);
    RUN(what_was_put_back_keeps_its_order);
    RUN(an_end_that_is_in_use_stays);
    RUN(an_end_that_a_selector_waits_for_stays_until_it_does_not);
    RUN(a_passport_that_nobody_comes_for_ends_the_connection);
    RUN(a_forged_state_is_refused);
    RUN(each_word_of_a_state_may_be_a_lie);
    RUN(a_lent_handle_goes_to_who_asks);
    RUN(a_lent_handle_that_is_closed_goes_to_the_first_who_is_there);
    RUN(a_handle_that_nobody_wants_any_more_is_closed);
    RUN(a_handle_that_is_not_lent_any_more_stays);
    RUN(an_offer_is_found_by_its_number_once);
    RUN(an_offer_for_as_long_as_it_is_open_does_not_keep_the_connection);
    RUN(a_handle_in_use_says_so_and_can_be_asked_for_again);
    RUN(what_was_taken_out_in_advance_goes_from_where_the_reader_is);
    RUN(a_rest_that_was_put_back_is_a_rest_there);
    RUN(no_address_of_this_process_leaves_it);
    RUN(an_end_that_has_left_stays_closed_whoever_disconnects_it);
    RUN(a_handle_that_is_closed_while_somebody_asks_for_it_gets_there);
    RUN(what_comes_for_one_who_is_interrupted_is_not_lost);
    RUN(one_who_has_left_can_ask_again);
    RUN(a_handle_stays_when_who_asked_has_gone);
    RUN(one_who_has_no_descriptors_left_can_ask_again);
    RUN(an_end_that_is_not_connected_can_be_asked_for_again);
    RUN(those_who_say_nothing_do_not_keep_others_away);
    RUN(an_offer_for_as_long_as_a_number_is_open_ends_with_the_number);
    RUN(an_offer_is_the_processs_whomever_its_thread_acts_as);
    RUN(a_socket_that_another_user_has_made_brings_no_handle);
    RUN(what_is_no_question_ends_the_connection_and_takes_nothing);
    RUN(a_child_that_talks_nonsense_leaves_the_handle_where_it_is);
    RUN(descriptors_that_nobody_has_asked_for_are_closed);
    RUN(an_answer_that_is_none_brings_no_handle);
    RUN(a_passport_whose_descriptors_are_of_other_kinds_is_refused);
    RUN(what_was_sent_before_the_question_was_read_is_there);
    RUN(one_who_lends_and_goes_without_a_word_has_lent_nothing);
    RUN(one_who_lends_and_has_no_descriptors_left_keeps_the_handle);
    RUN(one_who_cannot_get_in_yet_is_not_told_that_there_is_nothing);
    RUN(who_says_nothing_has_ten_seconds);
    RUN(another_user_who_visits_is_sent_away);
    return 0;
}
