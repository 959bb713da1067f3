/* Overlapped operations within one process: driven by waits, by other calls and by the native thread, cancelled and
 * closed upon. For the thread sanitizer too. */
#include <sched.h>

#include "pair.h"
#include "pipe/owner.h"
#include "pipe/remembered.h"
#include "pipe/sweep.h"
#include "ring/back.h"

static char root[64];

struct ends {
    struct np_handle *server, *client;
    struct np_object *files[2];
};

static struct ends connect_ends(const char *name, uint32_t quota)
{
    struct np_where where = {.root = root, .folder = name, .display = name};
    struct np_create_options options = {
        .access = NP_ACCESS_DUPLEX,
        .type = NP_TYPE_MESSAGE,
        .mode = NP_MODE_READ_MESSAGE,
        .max_instances = 1,
        .out_quota = quota,
        .in_quota = quota,
        .rule = {.allowed = NP_READ | NP_WRITE},
        .overlapped = true,
    };
    struct np_open_options open = {.access = NP_READ | NP_WRITE | NP_WRITE_ATTRIBUTES, .overlapped = true};
    struct ends ends;
    CHECK_EQUAL(np_create(&where, &options, &ends.server, NULL), NP_OK);
    CHECK_EQUAL(np_open(&where, &open, &for_ever, &ends.client, NULL), NP_OK);
    CHECK_EQUAL(np_set_state(ends.client, NP_MODE_READ_MESSAGE), NP_OK);
    for (int i = 0; i < 2; i++)
        ends.files[i] = np_object_new(NP_OBJECT_FILE, true, true);
    return ends;
}

static void end_both(struct ends *ends)
{
    np_close(ends->client, false);
    np_free(ends->client);
    np_close(ends->server, false);
    np_free(ends->server);
    for (int i = 0; i < 2; i++)
        np_object_unref(ends->files[i]);
}

/* An operation with its event; the owner's reference is the structure's own address. */
struct io {
    struct np_async *async;
    struct np_object *event;
    unsigned char buffer[256];
};

static void make_io(struct io *io)
{
    io->async = np_async_new();
    io->event = np_object_new(NP_OBJECT_EVENT, true, false);
    CHECK(io->async && io->event);
}

static void free_io(struct io *io)
{
    np_async_unref(io->async);
    np_object_unref(io->event);
}

static void renew(struct io *io)
{
    np_async_unref(io->async);
    io->async = np_async_new();
    CHECK(io->async);
}

static void reap(void)
{
    struct np_async *next;
    for (struct np_async *async = np_async_reap(); async; async = next) {
        next = async->next_finished;
        np_async_unref(async);
    }
}

static uint32_t start_read(struct io *io, struct np_handle *handle, struct np_object *file)
{
    struct np_telling telling = {.event = io->event, .file = file};
    renew(io);
    np_async_prepare(io->async, handle, NP_ASYNC_READ, &telling);
    return np_async_read(io->async, io->buffer, sizeof io->buffer);
}

static uint32_t start_write(struct io *io, struct np_handle *handle, struct np_object *file, const void *data,
                            uint32_t size)
{
    struct np_telling telling = {.event = io->event, .file = file};
    renew(io);
    np_async_prepare(io->async, handle, NP_ASYNC_WRITE, &telling);
    return np_async_write(io->async, data, size);
}

static uint32_t await(struct io *io, int ms)
{
    struct np_wait wait = ms < 0 ? for_ever : for_ms(ms);
    uint32_t index;
    bool abandoned;
    return np_wait_objects(&io->event, 1, false, false, &wait, &index, &abandoned);
}

enum { TURNS = 3000 };

struct side {
    struct np_handle *handle;
    struct np_object *file;
    bool first;
};

static void *play(void *argument)
{
    const struct side *side = argument;
    struct io reading, writing;
    make_io(&reading);
    make_io(&writing);
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        if (side->first)
            CHECK_EQUAL(start_write(&writing, side->handle, side->file, &turn, sizeof turn), NP_OK);
        uint32_t code = start_read(&reading, side->handle, side->file);
        CHECK(code == NP_OK || code == NP_IO_PENDING);
        CHECK_EQUAL(await(&reading, 20000), NP_OK);
        CHECK_EQUAL(np_async_code(reading.async), NP_OK);
        CHECK_EQUAL(reading.async->count, sizeof turn);
        CHECK(memcmp(reading.buffer, &turn, sizeof turn) == 0);
        if (!side->first)
            CHECK_EQUAL(start_write(&writing, side->handle, side->file, &turn, sizeof turn), NP_OK);
        reap();
    }
    free_io(&reading);
    free_io(&writing);
    return NULL;
}

static void both_ends_wait_for_each_other(void)
{
    struct ends ends = connect_ends("PLAY", 1000);
    struct side sides[2] = {{ends.client, ends.files[0], true}, {ends.server, ends.files[1], false}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, play, &sides[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    reap();
    end_both(&ends);
}

static void a_completion_needs_nobody_who_waits(void)
{
    struct ends ends = connect_ends("ALONE", 1000);
    struct io reading;
    make_io(&reading);
    for (int i = 0; i < 20; i++) {
        CHECK_EQUAL(start_read(&reading, ends.server, ends.files[0]), NP_IO_PENDING);
        if (i % 2)
            usleep(1500); /* past the moment after which the native thread takes care of it */
        uint32_t count;
        CHECK_EQUAL(np_write(ends.client, "hello", 5, &count, &for_ever), NP_OK);
        /* The peer's flush ends when the native thread has moved the read on. */
        struct np_wait wait = for_ms(5000);
        CHECK_EQUAL(np_flush(ends.client, &wait), NP_OK);
        CHECK_EQUAL(await(&reading, 0), NP_OK); /* seen at once, also in the moment between the two */
        CHECK_EQUAL(np_async_code(reading.async), NP_OK);
        reap();
    }
    free_io(&reading);
    end_both(&ends);
}

static void writes_over_the_quota_complete_in_order_or_are_withdrawn(void)
{
    struct ends ends = connect_ends("OVER", 10);
    struct io writes[3], reading;
    for (int i = 0; i < 3; i++)
        make_io(&writes[i]);
    make_io(&reading);
    CHECK_EQUAL(start_write(&writes[0], ends.client, ends.files[0], "0123456789", 10), NP_OK);
    CHECK_EQUAL(start_write(&writes[1], ends.client, ends.files[0], "abc", 3), NP_IO_PENDING);
    CHECK_EQUAL(start_write(&writes[2], ends.client, ends.files[0], "de", 2), NP_IO_PENDING);
    CHECK(np_async_cancel(writes[1].async));
    CHECK_EQUAL(np_async_code(writes[1].async), NP_OPERATION_ABORTED);
    CHECK_EQUAL(np_async_code(writes[2].async), NP_IO_PENDING);
    CHECK_EQUAL(start_read(&reading, ends.server, ends.files[1]), NP_OK);
    CHECK_EQUAL(await(&writes[2], 5000), NP_OK);
    CHECK_EQUAL(start_read(&reading, ends.server, ends.files[1]), NP_OK);
    CHECK_EQUAL(reading.async->count, 2);
    CHECK(!np_async_cancel(writes[2].async));
    reap();
    for (int i = 0; i < 3; i++)
        free_io(&writes[i]);
    free_io(&reading);
    end_both(&ends);
}

static void *write_now_and_then(void *argument)
{
    struct ends *ends = argument;
    unsigned long long random = 7;
    for (int i = 0; i < 400; i++) {
        uint32_t count;
        uint32_t code = np_write(ends->client, "x", 1, &count, &for_ever);
        CHECK(code == NP_OK);
        if (next_random(&random) % 3 == 0)
            usleep(next_random(&random) % 100);
    }
    return NULL;
}

/* A cancel and a message meet: each message is read by exactly one read, or by the one after. */
static void cancels_lose_nothing(void)
{
    struct ends ends = connect_ends("CANCEL", 100000);
    struct io reading;
    make_io(&reading);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, write_now_and_then, &ends), 0);
    int read = 0;
    while (read < 400) {
        uint32_t code = start_read(&reading, ends.server, ends.files[1]);
        CHECK(code == NP_OK || code == NP_IO_PENDING);
        np_async_cancel(reading.async);
        code = np_async_code(reading.async);
        CHECK(code == NP_OK || code == NP_OPERATION_ABORTED);
        read += code == NP_OK;
        reap();
    }
    pthread_join(thread, NULL);
    free_io(&reading);
    end_both(&ends);
}

static void *close_the_client(void *argument)
{
    struct ends *ends = argument;
    np_close(ends->client, false);
    return NULL;
}

struct behind {
    struct ends *ends;
    struct io io;
};

/* A signal's handler that starts a read behind the one that it interrupts, and raises. */
static int start_behind(void *context)
{
    struct behind *behind = context;
    CHECK_EQUAL(start_read(&behind->io, behind->ends->server, behind->ends->files[0]), NP_IO_PENDING);
    return 1;
}

static void a_read_behind_one_that_puts_back_what_it_took_gets_it(void)
{
    struct ends ends = connect_ends("back", 4096);
    struct behind behind = {.ends = &ends};
    struct np_wait wait = for_ever;
    unsigned char data[30], buffer[256];
    uint32_t count;
    make_io(&behind.io);
    fill_pattern(data, sizeof data, 5);
    CHECK_EQUAL(np_set_state(ends.server, 0), NP_OK);
    CHECK_EQUAL(np_write(ends.client, data, sizeof data, &count, &only_try), NP_OK);
    /* More is announced, so the read takes what is there and waits for it. */
    struct npl_direction *inbound = ends.client->link->tx.shared;
    atomic_store(&inbound->producer.announced, sizeof data + 10);
    wait.interrupted = start_behind;
    wait.context = &behind;
    CHECK_EQUAL(np_read(ends.server, buffer, sizeof buffer, &count, &wait), NP_INTERRUPTED);
    atomic_store(&inbound->producer.announced, sizeof data);
    CHECK_EQUAL(np_async_code(behind.io.async), NP_OK); /* without anybody who waits and looks */
    CHECK_EQUAL(behind.io.async->count, sizeof data);
    CHECK(memcmp(behind.io.buffer, data, sizeof data) == 0);
    reap();
    free_io(&behind.io);
    end_both(&ends);
}

/* A read that was first in the queue leaves it, with something put back that is for the overlapped one behind it. */
static void what_was_put_back_completes_the_read_whose_turn_it_is(void)
{
    for (int first = 0; first < 3; first++) {
        struct ends ends = connect_ends("BACK", 10);
        struct io one, behind;
        struct np_recv recv = {0};
        struct np_poll_read poll = {0};
        const struct np_wait now = {.deadline = NP_TRY};
        make_io(&one);
        make_io(&behind);
        if (first == 0)
            CHECK_EQUAL(np_poll_read_begin(ends.server, &poll, NULL, 0), NP_OK);
        else
            CHECK_EQUAL(start_read(&one, ends.server, ends.files[0]), NP_IO_PENDING);
        CHECK_EQUAL(start_read(&behind, ends.server, ends.files[0]), NP_IO_PENDING);
        if (first == 0) {
            pthread_mutex_lock(&ends.server->rx_lock);
            CHECK(np_back_put(&ends.server->link->rx, "0123456789", 10));
            pthread_mutex_unlock(&ends.server->rx_lock);
            CHECK_EQUAL(np_poll_read_leave(ends.server, &poll, NULL), NP_OK);
        } else if (first == 1) {
            pthread_mutex_lock(&ends.server->rx_lock);
            CHECK(np_back_put(&ends.server->link->rx, "0123456789", 10));
            pthread_mutex_unlock(&ends.server->rx_lock);
            CHECK(np_async_cancel(one.async));
        } else {
            uint32_t size;
            CHECK(np_async_cancel(one.async));
            CHECK(np_async_cancel(behind.async));
            reap();
            renew(&behind);
            CHECK_EQUAL(np_put_back(ends.server, "0123456789", 10), NP_OK);
            CHECK_EQUAL(np_put_back(ends.server, "0123456789", 10), NP_OK);
            CHECK_EQUAL(np_recv_begin(ends.server, &recv, &size, &now), NP_OK); /* it has the turn */
            CHECK_EQUAL(size, 10);
            CHECK_EQUAL(start_read(&behind, ends.server, ends.files[0]), NP_IO_PENDING);
            unsigned char message[10];
            CHECK_EQUAL(np_recv_more(ends.server, &recv, message, size, &now), NP_OK);
            CHECK_EQUAL(np_recv_end(ends.server, &recv, message, true), NP_OK);
        }
        CHECK_EQUAL(np_async_code(behind.async), NP_OK); /* without anybody who waits and looks */
        CHECK_EQUAL(behind.async->count, 10);
        CHECK(memcmp(behind.buffer, "0123456789", 10) == 0);
        reap();
        free_io(&one);
        free_io(&behind);
        end_both(&ends);
    }
}

static void a_close_ends_what_is_pending_on_both_ends(void)
{
    for (int i = 0; i < 50; i++) {
        struct ends ends = connect_ends("CLOSE", 10);
        struct io mine, theirs, full;
        make_io(&mine);
        make_io(&theirs);
        make_io(&full);
        CHECK_EQUAL(start_read(&mine, ends.server, ends.files[0]), NP_IO_PENDING);
        CHECK_EQUAL(start_read(&theirs, ends.client, ends.files[1]), NP_IO_PENDING);
        pthread_t thread;
        CHECK_EQUAL(pthread_create(&thread, NULL, close_the_client, &ends), 0);
        CHECK_EQUAL(await(&mine, 5000), NP_OK);
        CHECK_EQUAL(np_async_code(mine.async), NP_BROKEN_PIPE);
        CHECK_EQUAL(await(&theirs, 5000), NP_OK);
        CHECK_EQUAL(np_async_code(theirs.async), NP_BROKEN_PIPE);
        pthread_join(thread, NULL);
        reap();
        free_io(&mine);
        free_io(&theirs);
        free_io(&full);
        end_both(&ends);
    }
}

/* The other end goes at any moment of a read's start, which either fails and tells nothing or tells what became of
 * it. */
static struct np_handle *_Atomic to_close;
static _Atomic bool last_closed;

static void *close_what_comes(void *argument)
{
    (void)argument;
    while (!atomic_load(&last_closed)) {
        struct np_handle *handle = atomic_load(&to_close);
        if (handle) {
            np_close(handle, false);
            atomic_store(&to_close, NULL);
        }
    }
    return NULL;
}

static void told_or_failed(struct ends *ends)
{
    struct np_telling telling = {.file = ends->files[0], .apc = true};
    struct np_async *async = np_async_new();
    unsigned char buffer[16];
    uint32_t code;
    telling.owner = async;
    np_async_prepare(async, ends->server, NP_ASYNC_READ, &telling);
    code = np_async_read(async, buffer, sizeof buffer);
    if (code == NP_IO_PENDING) {
        struct np_wait wait = for_ms(20000);
        uint32_t index;
        bool abandoned;
        CHECK_EQUAL(np_wait_objects(NULL, 0, false, true, &wait, &index, &abandoned), NP_IO_COMPLETION);
        struct np_apc *apc = np_apc_take();
        CHECK(apc && apc->async == async);
        CHECK_EQUAL(np_async_code(async), NP_BROKEN_PIPE);
        np_async_unref(async);
    } else {
        CHECK_EQUAL(code, NP_BROKEN_PIPE);
        CHECK_EQUAL(np_async_code(async), NP_IO_PENDING);
    }
    CHECK(!np_apc_take());
    np_async_unref(async);
}

static void a_start_that_fails_tells_nothing(void)
{
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, close_what_comes, NULL), 0);
    for (int i = 0; i < 2000; i++) {
        struct ends ends = connect_ends("START", 10);
        atomic_store(&to_close, ends.client);
        for (int idle = 0; idle < i % 50; idle++)
            np_pause();
        told_or_failed(&ends);
        while (atomic_load(&to_close))
            sched_yield();
        end_both(&ends);
    }
    atomic_store(&last_closed, true);
    pthread_join(thread, NULL);
}

enum { PACKETS = 500, TAKERS = 3 };

static _Atomic int taken;

static void *take_packets(void *argument)
{
    struct np_object *port = argument;
    for (;;) {
        struct np_packet *packet;
        struct np_wait wait = for_ms(20000);
        CHECK_EQUAL(np_port_take(port, &wait, &packet), NP_OK);
        uint64_t key = packet->key;
        free(packet);
        if (key == PACKETS)
            return NULL;
        atomic_fetch_add(&taken, 1);
    }
}

static void a_port_gives_each_packet_to_one_thread(void)
{
    struct np_object *port = np_object_new(NP_OBJECT_PORT, true, false);
    pthread_t threads[TAKERS];
    for (int i = 0; i < TAKERS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, take_packets, port), 0);
    for (uint64_t i = 0; i < PACKETS; i++)
        CHECK(np_port_post(port, 0, i, NULL));
    for (int i = 0; i < TAKERS; i++)
        CHECK(np_port_post(port, 0, PACKETS, NULL));
    for (int i = 0; i < TAKERS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(atomic_load(&taken), PACKETS);
    np_object_unref(port);
}

static int set_it_and_raise(void *context)
{
    np_event_set(context);
    return 1;
}

static void a_wait_that_a_handler_ends_takes_nothing(void)
{
    struct np_object *event = np_object_new(NP_OBJECT_EVENT, false, false);
    const struct np_wait wait = {.deadline = NP_FOREVER, .interrupted = set_it_and_raise, .context = event};
    uint32_t index;
    bool abandoned;
    CHECK_EQUAL(np_wait_objects(&event, 1, false, false, &wait, &index, &abandoned), NP_INTERRUPTED);
    CHECK_EQUAL(np_wait_objects(&event, 1, false, false, &only_try, &index, &abandoned), NP_OK);
    np_object_unref(event);
}

/* What a signal's handler has raised while the thread was awake, so that no sleep was ended by it. */
static _Atomic int raised;

static int has_raised(void *context)
{
    (void)context;
    return atomic_load(&raised);
}

struct waiter {
    struct np_object *events[2];
    _Atomic pid_t thread;
    uint32_t code;
};

static void *wait_for_both(void *argument)
{
    struct waiter *waiter = argument;
    struct np_wait wait = for_ms(20000);
    wait.interrupted = has_raised;
    uint32_t index;
    bool abandoned;
    atomic_store(&waiter->thread, gettid());
    waiter->code = np_wait_objects(waiter->events, 2, true, false, &wait, &index, &abandoned);
    return NULL;
}

static void a_handler_that_raises_while_the_thread_is_awake_ends_the_wait(void)
{
    struct waiter waiter = {.code = NP_OK};
    for (int i = 0; i < 2; i++)
        waiter.events[i] = np_object_new(NP_OBJECT_EVENT, false, false);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, wait_for_both, &waiter), 0);
    pid_t id;
    while (!(id = atomic_load(&waiter.thread)) || !sleeps(id))
        sched_yield();
    atomic_store(&raised, 1);
    np_event_set(waiter.events[0]); /* wakes it, and is not enough */
    pthread_join(thread, NULL);
    CHECK_EQUAL(waiter.code, NP_INTERRUPTED);
    uint32_t index;
    bool abandoned;
    CHECK_EQUAL(np_wait_objects(waiter.events, 1, false, false, &only_try, &index, &abandoned), NP_OK);
    for (int i = 0; i < 2; i++)
        np_object_unref(waiter.events[i]);
}

static void *let_one_through(void *argument)
{
    struct np_object *event = argument;
    for (int i = 0; i < 1000; i++) {
        struct np_wait wait = for_ms(20000);
        uint32_t index;
        bool abandoned;
        CHECK_EQUAL(np_wait_objects(&event, 1, false, false, &wait, &index, &abandoned), NP_OK);
        np_event_set(event);
    }
    return NULL;
}

static void an_auto_reset_event_is_a_lock(void)
{
    struct np_object *event = np_object_new(NP_OBJECT_EVENT, false, true);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, let_one_through, event), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    np_object_unref(event);
}

/* A block that shows an operation's end is written before anything tells of it, with or without a wait. */
static void the_programs_own_memory_tells_the_end(void)
{
    struct ends ends = connect_ends("block", 4096);
    struct np_status_block block = {NP_STATUS_PENDING, 77};
    struct io io;
    uint32_t count;
    make_io(&io);
    struct np_telling telling = {.event = io.event, .file = ends.files[0], .block = &block};
    np_async_prepare(io.async, ends.server, NP_ASYNC_READ, &telling);
    CHECK_EQUAL(np_async_read(io.async, io.buffer, sizeof io.buffer), NP_IO_PENDING);
    CHECK_EQUAL(atomic_load(&block.status), NP_STATUS_PENDING);
    CHECK_EQUAL(np_write(ends.client, "abc", 3, &count, &only_try), NP_OK);
    CHECK_EQUAL(await(&io, -1), NP_OK);
    CHECK_EQUAL(atomic_load(&block.status), 0);
    CHECK_EQUAL(atomic_load(&block.count), 3);
    reap();
    renew(&io);
    np_async_prepare(io.async, ends.server, NP_ASYNC_READ, &telling);
    CHECK_EQUAL(np_async_read(io.async, io.buffer, sizeof io.buffer), NP_IO_PENDING);
    CHECK(np_async_cancel(io.async));
    CHECK_EQUAL(atomic_load(&block.status), np_status_of(NP_OPERATION_ABORTED));
    CHECK_EQUAL(np_code_of_status(atomic_load(&block.status)), NP_OPERATION_ABORTED);
    CHECK_EQUAL(atomic_load(&block.count), 0);
    reap();
    free_io(&io);
    end_both(&ends);
}

int main(void)
{
    strcpy(root, "/tmp/npipe-test-XXXXXX");
    CHECK(mkdtemp(root));
    RUN(both_ends_wait_for_each_other);
    RUN(a_completion_needs_nobody_who_waits);
    RUN(writes_over_the_quota_complete_in_order_or_are_withdrawn);
    RUN(cancels_lose_nothing);
    RUN(a_wait_that_a_handler_ends_takes_nothing);
    RUN(a_handler_that_raises_while_the_thread_is_awake_ends_the_wait);
    RUN(a_read_behind_one_that_puts_back_what_it_took_gets_it);
    RUN(what_was_put_back_completes_the_read_whose_turn_it_is);
    RUN(a_close_ends_what_is_pending_on_both_ends);
    RUN(a_start_that_fails_tells_nothing);
    RUN(the_programs_own_memory_tells_the_end);
    RUN(a_port_gives_each_packet_to_one_thread);
    RUN(an_auto_reset_event_is_a_lock);
    rmdir(root);
    return 0;
}
