/* What is counted of a connection: against what was really sent, and taken back; and what an owner tells of it, to
 * whoever asks, be that an honest one or not. */
#include <pthread.h>
#include <stdatomic.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/platform.h"
#include "base/socket.h"
#include "pair.h"
#include "pipe/directory.h"
#include "pipe/messages.h"

static struct np_counts counts_of(struct np_handle *handle)
{
    struct np_counts counts;
    np_handle_count(handle, &counts);
    return counts;
}

static void expect_out(struct np_handle *handle, uint64_t bytes, uint64_t messages, uint64_t unread,
                       uint64_t unread_messages)
{
    struct np_counts counts = counts_of(handle);
    CHECK_EQUAL(counts.out_bytes, bytes);
    CHECK_EQUAL(counts.out_messages, messages);
    CHECK_EQUAL(counts.out_unread, unread);
    CHECK_EQUAL(counts.out_unread_messages, unread_messages);
}

static void expect_in(struct np_handle *handle, uint64_t bytes, uint64_t messages, uint64_t unread)
{
    struct np_counts counts = counts_of(handle);
    CHECK_EQUAL(counts.in_bytes, bytes);
    CHECK_EQUAL(counts.in_messages, messages);
    CHECK_EQUAL(counts.in_unread, unread);
}

static void both_ends_count_what_was_sent(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 1000);
    CHECK_EQUAL(try_write(&pair.client, "abc", 3), NP_OK);
    CHECK_EQUAL(try_write(&pair.client, "", 0), NP_OK);
    CHECK_EQUAL(try_write(&pair.client, "defgh", 5), NP_OK);
    expect_out(&pair.client, 8, 3, 8, 3);
    expect_in(&pair.server, 0, 0, 8);
    expect_read(&pair.server, 10, NP_OK, "abc");
    expect_out(&pair.client, 8, 3, 5, 2);
    expect_in(&pair.server, 3, 1, 5);
    expect_read(&pair.server, 10, NP_OK, "");
    expect_read(&pair.server, 2, NP_MORE_DATA, "de"); /* a part: the message is not over */
    expect_in(&pair.server, 5, 2, 3);
    expect_out(&pair.client, 8, 3, 3, 1);
    expect_read(&pair.server, 10, NP_OK, "fgh");
    expect_in(&pair.server, 8, 3, 0);
    expect_out(&pair.client, 8, 3, 0, 0);
    expect_in(&pair.client, 0, 0, 0);
    close_pair(&pair);
}

/* A write of more than the quota, which is withdrawn when the time is over. */
static void write_in_vain(struct np_handle *handle, uint32_t size)
{
    static char data[100000];
    uint32_t count;
    struct np_wait wait = for_ms(20);
    CHECK_EQUAL(np_write(handle, data, size, &count, &wait), NP_SEM_TIMEOUT);
}

static void a_write_that_is_withdrawn_does_not_count(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 10);
    CHECK_EQUAL(try_write(&pair.client, "0123456789", 10), NP_OK);
    write_in_vain(&pair.client, 5);
    expect_out(&pair.client, 10, 1, 10, 1);
    expect_read(&pair.server, 10, NP_OK, "0123456789");
    expect_in(&pair.server, 10, 1, 0);
    write_in_vain(&pair.client, 90000); /* longer than the ring */
    expect_out(&pair.client, 10, 1, 0, 0);
    CHECK_EQUAL(try_write(&pair.client, "ab", 2), NP_OK);
    expect_read(&pair.server, 10, NP_OK, "ab");
    expect_in(&pair.server, 12, 2, 0);
    expect_out(&pair.client, 12, 2, 0, 0);
    close_pair(&pair);
}

static void of_a_write_that_is_withdrawn_in_part_the_bytes_count(void)
{
    struct pair pair;
    char buffer[4];
    uint32_t count;
    open_pair(&pair, 0, 0); /* each write waits for its reader */
    struct np_link *link = pair.client.link;
    struct np_op write = {.in = (const uint8_t *)"0123456789", .size = 10};
    pthread_mutex_lock(&pair.client.tx_lock);
    CHECK_EQUAL(np_tx_submit(link, &write), NP_OK);
    pthread_mutex_unlock(&pair.client.tx_lock);
    CHECK_EQUAL(counts_of(&pair.client).pending_writes, 1);
    expect_out(&pair.client, 10, 1, 10, 1);
    struct np_wait now = {.deadline = 0};
    CHECK_EQUAL(np_read(&pair.server, buffer, 4, &count, &now), NP_OK);
    CHECK_EQUAL(count, 4);
    pthread_mutex_lock(&pair.client.tx_lock);
    CHECK_EQUAL(np_tx_withdraw(link, &write), NP_OK);
    pthread_mutex_unlock(&pair.client.tx_lock);
    expect_out(&pair.client, 4, 0, 0, 0);
    struct np_op next = {.in = (const uint8_t *)"ab", .size = 2};
    pthread_mutex_lock(&pair.client.tx_lock);
    CHECK_EQUAL(np_tx_submit(link, &next), NP_OK);
    pthread_mutex_unlock(&pair.client.tx_lock);
    CHECK_EQUAL(np_read(&pair.server, buffer, 2, &count, &now), NP_OK);
    CHECK(count == 2 && memcmp(buffer, "ab", 2) == 0);
    expect_in(&pair.server, 6, 1, 0);
    expect_out(&pair.client, 6, 1, 0, 0);
    pthread_mutex_lock(&pair.client.tx_lock);
    CHECK_EQUAL(np_tx_pump(link), NP_OK);
    CHECK(next.done);
    pthread_mutex_unlock(&pair.client.tx_lock);
    close_pair(&pair);
}

/* Withdrawn where it stands, with another one behind it: the reader skips it, or the producer takes it back later. */
static void a_write_that_is_withdrawn_before_others_counts_nowhere(bool read_behind)
{
    struct pair pair;
    char buffer[10];
    uint32_t count;
    open_pair(&pair, NP_TYPE_MESSAGE, 4);
    struct np_link *link = pair.client.link;
    struct np_op ops[2] = {{.in = (const uint8_t *)"first", .size = 5}, {.in = (const uint8_t *)"second", .size = 6}};
    pthread_mutex_lock(&pair.client.tx_lock);
    CHECK_EQUAL(np_tx_submit(link, &ops[0]), NP_OK);
    CHECK_EQUAL(np_tx_submit(link, &ops[1]), NP_OK);
    CHECK_EQUAL(np_tx_withdraw(link, &ops[0]), NP_OK);
    pthread_mutex_unlock(&pair.client.tx_lock);
    expect_out(&pair.client, 6, 1, 6, 1);
    expect_in(&pair.server, 0, 0, 6);
    struct np_wait now = {.deadline = 0};
    if (read_behind) {
        CHECK_EQUAL(np_read(&pair.server, buffer, 10, &count, &now), NP_OK);
        CHECK(count == 6 && memcmp(buffer, "second", 6) == 0);
        expect_in(&pair.server, 6, 1, 0);
        expect_out(&pair.client, 6, 1, 0, 0);
    }
    pthread_mutex_lock(&pair.client.tx_lock);
    CHECK_EQUAL(np_tx_withdraw(link, &ops[1]), read_behind ? NP_NO_DATA : NP_OK);
    pthread_mutex_unlock(&pair.client.tx_lock);
    expect_out(&pair.client, read_behind ? 6 : 0, read_behind, 0, 0);
    CHECK_EQUAL(try_write(&pair.client, "abc", 3), NP_OK);
    expect_read(&pair.server, 10, NP_OK, "abc");
    expect_in(&pair.server, read_behind ? 9 : 3, read_behind ? 2 : 1, 0);
    expect_out(&pair.client, read_behind ? 9 : 3, read_behind ? 2 : 1, 0, 0);
    close_pair(&pair);
}

static void withdrawn_and_skipped(void)
{
    a_write_that_is_withdrawn_before_others_counts_nowhere(true);
}

static void withdrawn_and_taken_back(void)
{
    a_write_that_is_withdrawn_before_others_counts_nowhere(false);
}

static void the_segment_alone_tells_about_the_same(void)
{
    struct pair pair;
    struct np_counts counts;
    open_pair(&pair, NP_TYPE_MESSAGE, 1000);
    for (int i = 0; i < 5; i++)
        CHECK_EQUAL(try_write(&pair.client, "abc", 3), NP_OK);
    expect_read(&pair.server, 10, NP_OK, "abc");
    expect_read(&pair.server, 10, NP_OK, "abc");
    np_link_count_roughly(pair.client.link, &counts);
    CHECK(counts.rough);
    CHECK_EQUAL(counts.out_bytes, 15);
    CHECK_EQUAL(counts.out_messages, 2); /* those that were read */
    CHECK_EQUAL(counts.out_unread, 9);
    np_link_count_roughly(pair.server.link, &counts);
    CHECK_EQUAL(counts.in_bytes, 6);
    CHECK_EQUAL(counts.in_messages, 2);
    CHECK_EQUAL(counts.in_unread, 9);
    close_pair(&pair);
}

/* A peer that lies about what it has read is not believed beyond what can be. */
static void a_liar_moves_no_count_of_ours(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 1000);
    CHECK_EQUAL(try_write(&pair.client, "abc", 3), NP_OK);
    struct npl_consumer *consumer = &pair.client.link->tx.shared->consumer;
    atomic_store(&consumer->consumed, UINT64_MAX);
    atomic_store(&consumer->taken, 1000);
    expect_out(&pair.client, 3, 1, 3, 1);
    atomic_store(&pair.server.link->rx.shared->producer.announced, 0);
    expect_in(&pair.server, 0, 0, 0);
    close_pair(&pair);
}

#define MANY 20000
#define THREADS 2

struct work {
    struct np_handle *handle;
    uint64_t bytes;
    uint32_t seed;
};

static void *write_many(void *argument)
{
    struct work *work = argument;
    char data[200];
    uint32_t count;
    memset(data, 'x', sizeof data);
    for (int i = 0; i < MANY; i++) {
        uint32_t size = (work->seed = work->seed * 1103515245 + 12345) >> 16 & 127;
        CHECK_EQUAL(np_write(work->handle, data, size, &count, &for_ever), NP_OK);
        work->bytes += size;
    }
    return NULL;
}

static void *read_many(void *argument)
{
    struct work *work = argument;
    char data[200];
    uint32_t count;
    for (int i = 0; i < MANY * THREADS; i++) {
        CHECK_EQUAL(np_read(work->handle, data, sizeof data, &count, &for_ever), NP_OK);
        work->bytes += count;
    }
    return NULL;
}

static _Atomic bool over;

/* Somebody looks on all the time, with locks and without: the counts never go back, and never beyond each other. */
static void *look_on(void *argument)
{
    struct pair *pair = argument;
    uint64_t sent = 0, received = 0;
    while (!atomic_load(&over)) {
        struct np_counts in = counts_of(&pair->server), rough, out = counts_of(&pair->client);
        np_link_count_roughly(pair->server.link, &rough);
        CHECK(in.in_bytes >= received && out.out_bytes >= sent && in.in_bytes <= out.out_bytes);
        CHECK(in.in_messages <= out.out_messages && rough.in_bytes >= in.in_bytes);
        received = in.in_bytes;
        sent = out.out_bytes;
    }
    return NULL;
}

static void counts_are_exact_under_threads(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 2000);
    struct work writers[THREADS], reader = {.handle = &pair.server};
    pthread_t threads[THREADS], reading, looking;
    atomic_store(&over, false);
    for (uint32_t i = 0; i < THREADS; i++) {
        writers[i] = (struct work){.handle = &pair.client, .seed = i};
        CHECK(pthread_create(&threads[i], NULL, write_many, &writers[i]) == 0);
    }
    CHECK(pthread_create(&reading, NULL, read_many, &reader) == 0);
    CHECK(pthread_create(&looking, NULL, look_on, &pair) == 0);
    uint64_t sent = 0;
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sent += writers[i].bytes;
    }
    pthread_join(reading, NULL);
    atomic_store(&over, true);
    pthread_join(looking, NULL);
    CHECK_EQUAL(sent, reader.bytes);
    expect_out(&pair.client, sent, MANY * THREADS, 0, 0);
    expect_in(&pair.server, sent, MANY * THREADS, 0);
    CHECK_EQUAL(counts_of(&pair.server).sleeping & (NP_SLEEPS_READ | NP_SLEEPS_WRITE), 0);
    close_pair(&pair);
}

/* ---- What an owner tells */

static char root[64];
static struct np_where where = {.root = root, .folder = "COUNTS", .display = "counts"};

static struct np_handle *create(void)
{
    const struct np_create_options options = {
        .access = NP_ACCESS_DUPLEX,
        .type = NP_TYPE_MESSAGE,
        .mode = NP_MODE_READ_MESSAGE,
        .max_instances = NP_UNLIMITED_INSTANCES,
        .in_quota = 4096,
        .out_quota = 8192,
        .rule = {.allowed = NP_READ | NP_WRITE},
    };
    struct np_handle *handle;
    CHECK_EQUAL(np_create(&where, &options, &handle, NULL), NP_OK);
    return handle;
}

static struct np_handle *open_client(void)
{
    const struct np_open_options options = {.access = NP_READ | NP_WRITE, .hold = true, .verify_owner = true};
    struct np_handle *handle;
    CHECK_EQUAL(np_open(&where, &options, &for_ever, &handle, NULL), NP_OK);
    return handle;
}

static void end(struct np_handle *handle)
{
    np_close(handle, false);
    np_free(handle);
}

struct told {
    uint32_t owners, connections, parts, code;
    uint64_t last, in_bytes;
    struct npw_details details;
    uint32_t most; /* parts wanted; 0: all */
};

static int take(void *context, const struct np_described *described)
{
    struct told *told = context;
    told->code = described->code;
    told->parts++;
    if (described->first) {
        told->owners++;
        told->details = described->details;
        told->last = UINT64_MAX;
    }
    for (uint32_t i = 0; i < described->count; i++) {
        CHECK(described->connections[i].number < told->last);
        told->last = described->connections[i].number;
        told->in_bytes += described->connections[i].in_bytes;
        CHECK_EQUAL(described->connections[i].pid, getpid());
        CHECK_EQUAL(described->connections[i].uid, geteuid());
        CHECK_EQUAL(described->connections[i].in_quota, 4096);
        CHECK_EQUAL(described->connections[i].out_quota, 8192);
    }
    told->connections += described->count;
    return told->most == 0 || told->parts < told->most;
}

static struct told ask(uint32_t most)
{
    struct told told = {.most = most};
    CHECK_EQUAL(np_ask(root, where.folder, take, &told, &for_ever, NULL), NP_OK);
    return told;
}

static void a_pipe_that_is_not_there_is_not_found(void)
{
    struct told told = {0};
    CHECK_EQUAL(np_ask(root, where.folder, take, &told, &for_ever, NULL), NP_FILE_NOT_FOUND);
}

#define CROWD 300 /* more than one answer holds */

static void an_owner_tells_of_all_its_connections(void)
{
    static struct np_handle *servers[CROWD], *clients[CROWD];
    uint32_t count;
    for (int i = 0; i < CROWD; i++) {
        servers[i] = create();
        clients[i] = open_client();
        CHECK_EQUAL(np_write(clients[i], "abc", 3, &count, &only_try), NP_OK);
        expect_read(servers[i], 10, NP_OK, "abc");
    }
    struct told told = ask(0);
    CHECK_EQUAL(told.owners, 1);
    CHECK_EQUAL(told.connections, CROWD);
    CHECK_EQUAL(told.parts, 2);
    CHECK_EQUAL(told.in_bytes, 3 * CROWD);
    CHECK_EQUAL(told.details.instances, CROWD);
    CHECK_EQUAL(told.details.connected, CROWD);
    CHECK_EQUAL(told.details.ended, 0);
    CHECK_EQUAL(ask(1).parts, 1); /* who does not want more is not asked for more */
    /* What has ended is kept, in whichever way it did. */
    for (int i = 0; i < CROWD - 1; i++) {
        end(clients[i]);
        if (i % 2)
            CHECK_EQUAL(np_disconnect(servers[i]), NP_OK);
        end(servers[i]);
    }
    told = ask(0);
    CHECK_EQUAL(told.connections, 1);
    CHECK_EQUAL(told.details.ended, CROWD - 1);
    CHECK_EQUAL(told.details.in_bytes, 3 * (CROWD - 1));
    CHECK_EQUAL(told.details.in_messages, CROWD - 1);
    struct npw_details own;
    CHECK(np_report_own(&where, &own));
    CHECK_EQUAL(own.in_bytes, 3 * CROWD);
    CHECK_EQUAL(own.in_messages, CROWD);
    end(clients[CROWD - 1]);
    end(servers[CROWD - 1]);
    CHECK(!np_report_own(&where, &own));
    struct np_process_counts all;
    np_report_process(&all);
    CHECK_EQUAL(all.totals[1].connections, CROWD);
    CHECK_EQUAL(all.totals[1].in_bytes, 3 * CROWD);
    CHECK_EQUAL(all.totals[0].out_bytes, 3 * CROWD);
    CHECK_EQUAL(all.totals[0].out_messages, CROWD);
    CHECK_EQUAL(all.living[0] + all.living[1], 0);
}

static void after_its_end_an_end_keeps_its_counts(void)
{
    struct np_handle *server = create(), *client = open_client();
    uint32_t count;
    CHECK_EQUAL(np_write(client, "abcd", 4, &count, &only_try), NP_OK);
    np_close(client, false);
    expect_out(client, 4, 1, 4, 1);
    expect_read(server, 10, NP_OK, "abcd");
    np_close(server, false);
    expect_in(server, 4, 1, 0);
    np_free(client);
    np_free(server);
}

static void a_closed_pipe_is_not_found_by_who_asks(void)
{
    end(create());
    struct told told = {0};
    CHECK_EQUAL(np_ask(root, where.folder, take, &told, &for_ever, NULL), NP_FILE_NOT_FOUND);
}

/* ---- Owners that lie */

struct message {
    struct npw_answer answer;
    struct npw_details details;
    struct npw_connection connections[3];
};

static struct message honest(void)
{
    struct message message = {
        .answer = {.magic = NPW_MAGIC,
                   .version = NPW_VERSION,
                   .kind = NPW_DESCRIBE,
                   .type = NP_TYPE_MESSAGE,
                   .direction = NP_ACCESS_DUPLEX,
                   .max_instances = 3},
        .details = {.size = sizeof(struct npw_details), .connection_size = sizeof(struct npw_connection), .count = 3},
    };
    for (uint32_t i = 0; i < 3; i++)
        message.connections[i].number = 10 - i;
    return message;
}

static uint32_t judge(const struct message *message, size_t size, uint64_t from)
{
    static struct npw_connection connections[NPW_DESCRIPTION_SIZE / sizeof(struct npw_connection)];
    struct np_described described = {0};
    uint32_t code = np_described(message, (ssize_t)size, from, &described, connections);
    CHECK(code != NP_OK || described.count <= 3);
    return code;
}

static void what_makes_no_sense_is_refused(void)
{
    struct message message = honest();
    CHECK_EQUAL(judge(&message, sizeof message, 0), NP_OK);
    CHECK_EQUAL(judge(&message, sizeof message, 11), NP_OK);
    CHECK_EQUAL(judge(&message, sizeof message, 10), NP_INVALID_DATA); /* it was told that one already */
    for (size_t size = 0; size < sizeof message; size++)
        CHECK_EQUAL(judge(&message, size, 0), NP_INVALID_DATA);
    message.details.next = 8;
    CHECK_EQUAL(judge(&message, sizeof message, 0), NP_OK);
    const uint64_t wrong[] = {1, 9, 10, UINT64_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        message.details.next = wrong[i];
        CHECK_EQUAL(judge(&message, sizeof message, 0), NP_INVALID_DATA);
    }
    message = honest();
    message.connections[2].number = 9;
    CHECK_EQUAL(judge(&message, sizeof message, 0), NP_INVALID_DATA);
    message.connections[2].number = 0;
    CHECK_EQUAL(judge(&message, sizeof message, 0), NP_INVALID_DATA);
    const struct {
        size_t offset;
        uint32_t value, code;
    } cases[] = {
        {offsetof(struct message, answer.magic), 1, NP_INVALID_DATA},
        {offsetof(struct message, answer.version), 2, NP_REVISION_MISMATCH},
        {offsetof(struct message, answer.kind), NPW_QUERY, NP_INVALID_DATA},
        {offsetof(struct message, answer.code), NP_INVALID_FUNCTION, NP_INVALID_FUNCTION},
        {offsetof(struct message, answer.code), NP_ACCESS_DENIED, NP_ACCESS_DENIED},
        {offsetof(struct message, answer.code), NP_IO_PENDING, NP_INVALID_DATA},
        {offsetof(struct message, answer.code), NP_WOULD_WAIT, NP_INVALID_DATA},
        {offsetof(struct message, answer.type), 1, NP_INVALID_DATA},
        {offsetof(struct message, answer.direction), 4, NP_INVALID_DATA},
        {offsetof(struct message, answer.max_instances), 0, NP_INVALID_DATA},
        {offsetof(struct message, details.size), 0, NP_INVALID_DATA},
        {offsetof(struct message, details.size), UINT32_MAX, NP_INVALID_DATA},
        {offsetof(struct message, details.connection_size), 0, NP_INVALID_DATA},
        {offsetof(struct message, details.connection_size), UINT32_MAX, NP_INVALID_DATA},
        {offsetof(struct message, details.count), 2, NP_INVALID_DATA},
        {offsetof(struct message, details.count), 4, NP_INVALID_DATA},
        {offsetof(struct message, details.count), UINT32_MAX, NP_INVALID_DATA},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        message = honest();
        memcpy((char *)&message + cases[i].offset, &cases[i].value, sizeof cases[i].value);
        CHECK_EQUAL(judge(&message, sizeof message, 0), cases[i].code);
    }
}

static void a_later_version_may_add_to_the_ends(void)
{
    static char bytes[NPW_DESCRIPTION_SIZE];
    const struct message message = honest();
    struct npw_details details = message.details;
    struct np_described described = {0};
    struct npw_connection connections[NPW_DESCRIPTION_SIZE / sizeof(struct npw_connection)];
    details.size += 24;
    details.connection_size += 40;
    memset(bytes, 0xff, sizeof bytes);
    memcpy(bytes, &message.answer, sizeof message.answer);
    memcpy(bytes + sizeof message.answer, &details, sizeof details);
    size_t at = sizeof message.answer + details.size;
    for (int i = 0; i < 3; i++, at += details.connection_size)
        memcpy(bytes + at, &message.connections[i], sizeof *message.connections);
    CHECK_EQUAL(np_described(bytes, (ssize_t)at, 0, &described, connections), NP_OK);
    CHECK_EQUAL(described.count, 3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQUAL(connections[i].number, 10 - i);
}

/* An owner who answers each question with the same part, so that it would never end. */
static void *repeat(void *argument)
{
    int listening = *(int *)argument;
    for (int i = 0; i < 2; i++) {
        struct npw_request request;
        CHECK(np_socket_wait(listening, NP_FOREVER) == NP_OK);
        int socket = accept(listening, NULL, NULL), fd;
        CHECK(socket >= 0 && np_socket_wait(socket, NP_FOREVER) == NP_OK);
        CHECK_EQUAL(np_receive_message(socket, &request, sizeof request, &fd), sizeof request);
        CHECK_EQUAL(request.kind, NPW_DESCRIBE);
        struct message message = honest();
        for (int k = 0; k < 3; k++) { /* of this process and this quota, as take() wants it */
            message.connections[k].pid = (uint32_t)getpid();
            message.connections[k].uid = geteuid();
            message.connections[k].in_quota = 4096;
            message.connections[k].out_quota = 8192;
        }
        message.details.next = 8;
        CHECK(np_send_message(socket, &message, sizeof message, -1) > 0);
        CHECK(np_socket_wait(socket, NP_FOREVER) == NP_OK);
        close(socket);
    }
    return NULL;
}

static void an_owner_that_goes_round_in_circles_is_left(void)
{
    char path[128];
    struct told told = {0};
    pthread_t thread;
    CHECK(mkdir(root, 0700) == 0);
    snprintf(path, sizeof path, "%s/%s", root, where.folder);
    CHECK(mkdir(path, 0700) == 0);
    int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int listening = np_socket_listen(dirfd, "s0123456789abcdef", 0600);
    CHECK(listening >= 0);
    CHECK(pthread_create(&thread, NULL, repeat, &listening) == 0);
    CHECK_EQUAL(np_ask(root, where.folder, take, &told, &for_ever, NULL), NP_OK);
    pthread_join(thread, NULL);
    CHECK_EQUAL(told.code, NP_INVALID_DATA);
    CHECK_EQUAL(told.connections, 3);
    np_fd_close(listening);
    CHECK(unlinkat(dirfd, "s0123456789abcdef", 0) == 0);
    close(dirfd);
    CHECK(rmdir(path) == 0 && rmdir(root) == 0);
}

static void an_owner_that_is_silent_is_told_of(void)
{
    char path[128];
    struct told told = {0};
    CHECK(mkdir(root, 0700) == 0);
    snprintf(path, sizeof path, "%s/%s", root, where.folder);
    CHECK(mkdir(path, 0700) == 0);
    int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int listening = np_socket_listen(dirfd, "s0123456789abcdef", 0600);
    CHECK(listening >= 0);
    CHECK_EQUAL(np_ask(root, where.folder, take, &told, &for_ever, NULL), NP_OK);
    CHECK_EQUAL(told.owners, 1);
    CHECK_EQUAL(told.code, NP_SEM_TIMEOUT);
    np_fd_close(listening);
    CHECK(unlinkat(dirfd, "s0123456789abcdef", 0) == 0);
    close(dirfd);
    CHECK(rmdir(path) == 0 && rmdir(root) == 0);
}

int main(void)
{
    snprintf(root, sizeof root, "/tmp/npipe-counts-%d", (int)getpid());
    RUN(both_ends_count_what_was_sent);
    RUN(a_write_that_is_withdrawn_does_not_count);
    RUN(of_a_write_that_is_withdrawn_in_part_the_bytes_count);
    RUN(withdrawn_and_skipped);
    RUN(withdrawn_and_taken_back);
    RUN(the_segment_alone_tells_about_the_same);
    RUN(a_liar_moves_no_count_of_ours);
    RUN(counts_are_exact_under_threads);
    RUN(a_pipe_that_is_not_there_is_not_found);
    RUN(what_makes_no_sense_is_refused);
    RUN(a_later_version_may_add_to_the_ends);
    RUN(an_owner_that_goes_round_in_circles_is_left);
    RUN(an_owner_that_is_silent_is_told_of);
    RUN(an_owner_tells_of_all_its_connections);
    RUN(after_its_end_an_end_keeps_its_counts);
    RUN(a_closed_pipe_is_not_found_by_who_asks);
    rmdir(root);
    return 0;
}
