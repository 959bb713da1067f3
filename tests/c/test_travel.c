/* Ends that go from one process to another: what they take with them, and what is asked of those who lend them. */
#include "travel.h"

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
    RUN(one_who_cannot_get_in_yet_is_not_told_that_there_is_nothing);
    return 0;
}
