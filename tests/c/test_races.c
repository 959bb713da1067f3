/* Both ends at work in threads of one process: for the thread sanitizer too. */
#include <sched.h>

#include "pair.h"

struct job {
    struct np_handle *handle;
    unsigned long long random;
    int count;
    uint32_t largest;
    int timeouts; /* give some of the calls hardly any time */
    long arrived;
};

enum { MAGIC = 0x5a };

static uint32_t make_message(struct job *job, unsigned char *data, uint32_t number)
{
    uint32_t size = 8 + (next_random(&job->random) % 16 ? next_random(&job->random) % 200
                                                        : next_random(&job->random) % job->largest);
    memset(data, (int)(number % 251), size);
    memcpy(data, &number, 4);
    memcpy(data + 4, &size, 4);
    return size;
}

static void *writer(void *argument)
{
    struct job *job = argument;
    unsigned char *data = malloc(job->largest + 8);
    for (int i = 0; i < job->count;) {
        uint32_t size = make_message(job, data, (uint32_t)i), count;
        struct np_wait wait = job->timeouts && next_random(&job->random) % 4 == 0
                                  ? (struct np_wait){.deadline = np_now() + next_random(&job->random) % 100000}
                                  : for_ever;
        uint32_t code = np_write(job->handle, data, size, &count, &wait);
        if (code == NP_SEM_TIMEOUT)
            continue; /* withdrawn: it must not arrive, so the same number goes again */
        CHECK_EQUAL(code, NP_OK);
        i++;
    }
    free(data);
    return NULL;
}

static void *reader(void *argument)
{
    struct job *job = argument;
    unsigned char *data = malloc(job->largest + 8);
    while (job->arrived < job->count) {
        uint32_t count, number, size;
        struct np_wait wait = job->timeouts && next_random(&job->random) % 4 == 0
                                  ? (struct np_wait){.deadline = np_now() + next_random(&job->random) % 100000}
                                  : for_ever;
        uint32_t code = np_read(job->handle, data, job->largest + 8, &count, &wait);
        if (code == NP_SEM_TIMEOUT)
            continue;
        CHECK_EQUAL(code, NP_OK);
        memcpy(&number, data, 4);
        memcpy(&size, data + 4, 4);
        CHECK_EQUAL(number, job->arrived);
        CHECK_EQUAL(size, count);
        for (uint32_t i = 8; i < size; i++)
            CHECK_EQUAL(data[i], number % 251);
        job->arrived++;
    }
    free(data);
    return NULL;
}

/* Which ends have been told that neighbours want the processors, so that they sleep by the socket: 1 the server, 2 the
 * client. */
static int told;

static void open_told(struct pair *pair, uint32_t quota)
{
    open_pair(pair, NP_TYPE_MESSAGE, quota);
    if (told & 1)
        pair->server.link->rx.contended = NP_FOREVER;
    if (told & 2)
        pair->client.link->rx.contended = NP_FOREVER;
}

static void both_ways(uint32_t quota, int count, uint32_t largest, int timeouts)
{
    struct pair pair;
    open_told(&pair, quota);
    struct job jobs[4] = {
        {&pair.client, 1234567, count, largest, timeouts, 0},
        {&pair.server, 7654321, count, largest, timeouts, 0},
        {&pair.server, 1111111, count, largest, timeouts, 0},
        {&pair.client, 2222222, count, largest, timeouts, 0},
    };
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, i < 2 ? writer : reader, &jobs[i]) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    close_pair(&pair);
}

static void every_message_arrives_once_and_in_order(void)
{
    both_ways(65536, 20000, 60000, 0);
    both_ways(10, 5000, 3000, 0);
    both_ways(0, 3000, 3000, 0);
}

static void messages_larger_than_the_ring_arrive_whole(void)
{
    both_ways(65536, 2000, 700000, 0);
    both_ways(100, 500, 300000, 0);
}

static void what_timed_out_was_neither_consumed_nor_sent(void)
{
    both_ways(10, 3000, 3000, 1);
    both_ways(4096, 1000, 300000, 1);
    both_ways(65536, 5000, 700000, 1);
}

static void *blocked_reader(void *argument)
{
    struct np_handle *handle = argument;
    char byte;
    uint32_t count;
    uint32_t code = np_read(handle, &byte, 1, &count, &for_ever);
    CHECK(code == NP_BROKEN_PIPE || code == NP_INVALID_HANDLE);
    return NULL;
}

static void a_close_ends_reads_that_wait(void)
{
    for (int i = 0; i < 2000; i++) {
        struct pair pair;
        open_told(&pair, 100);
        pthread_t threads[3];
        for (int k = 0; k < 3; k++)
            CHECK(pthread_create(&threads[k], NULL, blocked_reader, k < 2 ? &pair.server : &pair.client) == 0);
        close_end(&pair.server);
        for (int k = 0; k < 3; k++)
            CHECK(pthread_join(threads[k], NULL) == 0);
        close_pair(&pair);
    }
}

static void beside_busy_neighbours_it_is_the_same(void)
{
    for (told = 1; told <= 3; told++) {
        both_ways(65536, 5000, 60000, 0);
        both_ways(10, 2000, 3000, 0);
        both_ways(100, 200, 300000, 0);
        both_ways(4096, 1000, 30000, 1);
        a_close_ends_reads_that_wait();
    }
    told = 0;
}

static void *write_one(void *argument)
{
    CHECK_EQUAL(try_write(argument, "x", 1), NP_OK);
    return NULL;
}

static void *read_one(void *argument)
{
    char byte;
    uint32_t count;
    CHECK_EQUAL(np_read(argument, &byte, 1, &count, &for_ever), NP_OK);
    return NULL;
}

static void who_wakes_a_sleeper_hears_of_his_neighbours(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 100);
    _Atomic uint32_t *flags = &pair.server.link->sleep->flags;
    atomic_fetch_or(flags, NPL_ARMED_READ | NPL_CONTENDED);
    int64_t before = np_now();
    CHECK_EQUAL(try_write(&pair.client, "x", 1), NP_OK);
    CHECK(pair.client.link->rx.contended >= before + NP_CONTENDED_NS);
    CHECK_EQUAL(atomic_load(flags), 0);
    CHECK(np_link_drain_socket(pair.server.link));
    expect_read(&pair.server, 10, NP_OK, "x");
    /* Then it sleeps by the socket too. (Whether it says the same depends on what this process has seen itself.) */
    pair.client.link->rx.by_socket = 0;
    pair.client.link->rx.contended = NP_FOREVER;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, read_one, &pair.client) == 0);
    uint32_t seen;
    while (!((seen = atomic_load(&pair.client.link->sleep->flags)) & (NPL_ARMED_READ | NPL_SLEEP_READ)))
        sched_yield();
    CHECK(seen & NPL_ARMED_READ);
    CHECK_EQUAL(try_write(&pair.server, "x", 1), NP_OK);
    CHECK(pthread_join(thread, NULL) == 0);
    close_pair(&pair);
}

static void who_has_been_told_of_neighbours_does_not_spin(void)
{
    struct pair pair;
    told = 1;
    open_told(&pair, 100);
    told = 0;
    struct np_rx *rx = &pair.server.link->rx;
    rx->by_socket = 0;
    bool was_idle;
    CHECK(!np_spin_read(&pair.server, np_now() + 1000000, &was_idle));
    CHECK(was_idle);
    CHECK_EQUAL(rx->spin.failures, 0); /* as it would count one */
    CHECK_EQUAL(try_write(&pair.client, "x", 1), NP_OK);
    expect_read(&pair.server, 10, NP_OK, "x");
    close_pair(&pair);
}

/* A reader sleeps by the socket, and for the first time somebody asks for the descriptor, to wait for it too. */
static void a_selector_takes_no_byte_from_a_reader(void)
{
    for (told = 1; told >= 0; told--)
        for (int i = 0; i < 2000; i++) {
            struct pair pair;
            open_told(&pair, 100);
            pthread_t threads[2];
            CHECK(pthread_create(&threads[0], NULL, read_one, &pair.server) == 0);
            while (i % 2 && !(atomic_load(&pair.server.link->sleep->flags) & (NPL_ARMED_READ | NPL_SLEEP_READ)))
                sched_yield();
            CHECK(pthread_create(&threads[1], NULL, write_one, &pair.client) == 0);
            for (int k = 0; k < 30; k++)
                np_arm_read(&pair.server);
            for (int k = 0; k < 2; k++)
                CHECK(pthread_join(threads[k], NULL) == 0);
            close_pair(&pair);
        }
    told = 0;
}

struct write {
    struct np_handle *handle;
    uint32_t size;
    int64_t deadline;
    uint32_t code;
    _Atomic pid_t thread;
    _Atomic bool ended;
};

static void *write_until(void *argument)
{
    struct write *write = argument;
    unsigned char data[4096] = {0};
    uint32_t count;
    const struct np_wait wait = {.deadline = write->deadline};
    write->code = np_write(write->handle, data, write->size, &count, &wait);
    atomic_store(&write->ended, true);
    return NULL;
}

/* Two writers wait for a reader. The first, with more to write, gives up: the other one is told when its own bytes are
 * read, though those are fewer than it waited for when it fell asleep. */
static void a_writer_behind_one_that_gives_up_is_woken_by_its_own_bytes(void)
{
    int64_t patience = 30000000;
    for (int i = 0; i < 20;) {
        struct pair pair;
        open_pair(&pair, NP_TYPE_MESSAGE, 0);
        struct write first = {.handle = &pair.client, .size = 2000, .deadline = np_now() + patience},
                     second = {.handle = &pair.client, .size = 1000, .deadline = NP_FOREVER};
        pthread_t threads[2];
        CHECK(pthread_create(&threads[0], NULL, write_until, &first) == 0);
        while (atomic_load(&pair.client.link->tx.shared->producer.announced) != 2000 && !atomic_load(&first.ended))
            sched_yield();
        if (atomic_load(&first.ended)) { /* it had no turn until its time was over: once more, with more */
            CHECK(pthread_join(threads[0], NULL) == 0);
            CHECK_EQUAL(first.code, NP_SEM_TIMEOUT);
            close_pair(&pair);
            patience *= 2;
            continue;
        }
        i++;
        CHECK(pthread_create(&threads[1], NULL, write_until, &second) == 0);
        CHECK(pthread_join(threads[0], NULL) == 0);
        CHECK_EQUAL(first.code, NP_SEM_TIMEOUT);
        while (atomic_load(&pair.client.link->tx.shared->producer.announced) != 1000 ||
               !(atomic_load(&pair.client.link->sleep->flags) & NPL_SLEEP_WRITE))
            sched_yield();
        unsigned char buffer[4096];
        uint32_t count;
        CHECK_EQUAL(np_read(&pair.server, buffer, sizeof buffer, &count, &for_ever), NP_OK);
        CHECK_EQUAL(count, 1000);
        CHECK(pthread_join(threads[1], NULL) == 0);
        CHECK_EQUAL(second.code, NP_OK);
        close_pair(&pair);
    }
}

static void *drain_for_seconds(void *argument)
{
    struct write *drain = argument;
    drain->thread = gettid();
    const struct np_wait wait = {.deadline = drain->deadline};
    drain->code = np_drain(drain->handle, &wait);
    return NULL;
}

static void await_sleeper(const struct pair *pair, const struct write *waiter)
{
    while (!(atomic_load(&pair->client.link->sleep->flags) & NPL_SLEEP_WRITE) || !sleeps(waiter->thread))
        sched_yield();
}

static uint32_t reply_at_once(void *context, const struct np_wait *wait)
{
    (void)wait;
    *(bool *)context = true;
    return NP_OK;
}

static void *transact_for_seconds(void *argument)
{
    struct write *transact = argument;
    transact->thread = gettid();
    static const unsigned char request[150];
    const struct np_wait wait = {.deadline = transact->deadline};
    bool sent = false;
    transact->code = np_transact(transact->handle, request, sizeof request, &wait, reply_at_once, &sent);
    CHECK_EQUAL(transact->code == NP_OK, sent);
    return NULL;
}

/* A signal's handler raises while the reader copies the last but one part of a request: by the time it could be taken
 * back, it is sent. */
static void *copy_a_part(void *argument)
{
    struct np_tx *tx = &((struct np_link *)argument)->tx;
    usleep(20000);
    atomic_store(&tx->shared->consumer.head, atomic_load(&tx->shared->producer.tail));
    usleep(20000);
    atomic_store(&tx->shared->deferred.state[0], NPL_ENTRY_PARTIAL);
    return NULL;
}

static pthread_t copier;

static int raise_while_it_is_copied(void *context)
{
    struct np_link *link = context;
    atomic_store(&link->tx.shared->deferred.state[0], NPL_ENTRY_BUSY);
    CHECK(pthread_create(&copier, NULL, copy_a_part, link) == 0);
    return 1;
}

static uint32_t be_told_of_it(void *context, const struct np_wait *wait)
{
    CHECK(wait == NULL);
    *(bool *)context = true;
    return NP_INTERRUPTED;
}

static void a_request_that_is_sent_while_it_is_interrupted_is_told_of(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 4096);
    struct np_link *link = pair.client.link;
    link->peer_sleep->flags |= NPL_POSTED; /* the reader waits for a message of any length */
    link->tx.shared->posts.size[0] = UINT32_MAX;
    link->tx.shared->posts.posted = 1;
    static const unsigned char request[100000];
    const struct np_wait wait = {.deadline = NP_FOREVER, .interrupted = raise_while_it_is_copied, .context = link};
    bool told = false;
    CHECK_EQUAL(np_transact(&pair.client, request, sizeof request, &wait, be_told_of_it, &told), NP_INTERRUPTED);
    CHECK(told);
    CHECK(pthread_join(copier, NULL) == 0);
    close_pair(&pair);
}

/* A reader that takes what stands in the ring, while a signal's handler raises. */
struct taker {
    struct pair *pair;
    struct np_poll_read read;
    uint8_t *data;
    uint32_t size;
};

static int raise_while_a_part_is_taken(void *context)
{
    struct taker *taker = context;
    struct np_handle *server = &taker->pair->server;
    CHECK_EQUAL(np_poll_read_begin(server, &taker->read, NULL, 0), NP_OK);
    CHECK_EQUAL(np_poll_message(server, &taker->read, &taker->size), NP_OK);
    CHECK_EQUAL(np_poll_message_more(server, &taker->read, taker->data, taker->size), NP_WOULD_WAIT);
    return 1;
}

static void a_call_whose_last_part_finds_its_place_when_a_handler_raises_says_so(void)
{
    enum { SIZE = 100000 };
    uint8_t *request = malloc(SIZE), *received = malloc(SIZE);
    CHECK(request && received);
    for (uint32_t i = 0; i < SIZE; i++)
        request[i] = (uint8_t)(i * 2654435761u >> 24);
    for (int drains = 0; drains < 2; drains++) {
        struct pair pair;
        open_pair(&pair, NP_TYPE_MESSAGE, 4096);
        struct taker taker = {.pair = &pair, .data = received};
        const struct np_wait wait = {
            .deadline = NP_FOREVER, .interrupted = raise_while_a_part_is_taken, .context = &taker};
        struct np_op op = {.in = request, .size = SIZE};
        bool told = false;
        if (drains) {
            pthread_mutex_lock(&pair.client.tx_lock);
            CHECK_EQUAL(np_tx_submit(pair.client.link, &op), NP_OK);
            pthread_mutex_unlock(&pair.client.tx_lock);
            CHECK_EQUAL(np_drain(&pair.client, &wait), NP_INTERRUPTED);
        } else {
            CHECK_EQUAL(np_transact(&pair.client, request, SIZE, &wait, be_told_of_it, &told), NP_INTERRUPTED);
            CHECK(told);
        }
        CHECK_EQUAL(taker.size, SIZE);
        CHECK_EQUAL(np_poll_message_more(&pair.server, &taker.read, received, SIZE), NP_OK);
        CHECK_EQUAL(np_poll_message_take(&pair.server, &taker.read), NP_OK);
        CHECK(memcmp(received, request, SIZE) == 0);
        np_poll_read_leave(&pair.server, &taker.read, NULL);
        if (drains) {
            pthread_mutex_lock(&pair.client.tx_lock);
            CHECK_EQUAL(np_tx_pump(pair.client.link), NP_OK);
            CHECK(op.done);
            pthread_mutex_unlock(&pair.client.tx_lock);
        }
        close_pair(&pair);
    }
    free(request);
    free(received);
}

static int raise_while_the_reader_goes(void *context)
{
    np_link_end(((struct pair *)context)->server.link, NPL_END_CLOSED, false);
    return 1;
}

static void a_write_whose_reader_goes_when_a_handler_raises_says_so(void)
{
    static const unsigned char data[100000];
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 4096);
    const struct np_wait wait = {.deadline = NP_FOREVER, .interrupted = raise_while_the_reader_goes, .context = &pair};
    uint32_t count;
    CHECK_EQUAL(np_write(&pair.client, data, sizeof data, &count, &wait), NP_INTERRUPTED);
    CHECK_EQUAL(count, 0);
    close_pair(&pair);
}

enum { SECONDS = 20 };

static struct np_op *submit(struct np_handle *handle, uint32_t size)
{
    struct np_op *op = calloc(1, sizeof *op);
    op->in = calloc(1, size);
    op->size = size;
    pthread_mutex_lock(&handle->tx_lock);
    CHECK_EQUAL(np_tx_submit(handle->link, op), NP_OK);
    pthread_mutex_unlock(&handle->tx_lock);
    return op;
}

static void dispose(struct np_op *op)
{
    free((void *)(uintptr_t)op->in);
    free(op);
}

static void withdraw(struct np_handle *handle, struct np_op *op)
{
    pthread_mutex_lock(&handle->tx_lock);
    CHECK_EQUAL(np_tx_withdraw(handle->link, op), NP_OK);
    pthread_mutex_unlock(&handle->tx_lock);
}

/* What waits until a write has its place in the ring is no completion, and no flush. */
static void a_withdrawal_ends_what_waited_for_a_place_in_the_ring(void)
{
    void *(*const waits[])(void *) = {drain_for_seconds, transact_for_seconds};
    for (int i = 0; i < 2; i++) {
        struct pair pair;
        open_pair(&pair, NP_TYPE_MESSAGE, 100);
        struct np_op *op = submit(&pair.client, 1 << 20);
        struct write waiter = {
            .handle = &pair.client, .deadline = np_now() + SECONDS * INT64_C(1000000000), .code = NP_INTERRUPTED};
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, waits[i], &waiter) == 0);
        await_sleeper(&pair, &waiter);
        withdraw(&pair.client, op);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK_EQUAL(waiter.code, NP_OK);
        CHECK(np_now() < waiter.deadline);
        dispose(op);
        close_pair(&pair);
    }
}

/* What a signal's handler has raised while the thread was awake, so that no sleep was ended by it. */
static _Atomic int raised;

static int has_raised(void *context)
{
    (void)context;
    return atomic_load(&raised);
}

struct heeding {
    struct np_handle *handle;
    struct np_wait wait;
    _Atomic pid_t thread;
    uint32_t code;
};

static void *write_much(void *argument)
{
    struct heeding *heeding = argument;
    static const unsigned char data[1 << 20];
    uint32_t count;
    heeding->thread = gettid();
    heeding->code = np_write(heeding->handle, data, sizeof data, &count, &heeding->wait);
    return NULL;
}

static void *read_much(void *argument)
{
    struct heeding *heeding = argument;
    static unsigned char data[1 << 20];
    uint32_t count;
    heeding->thread = gettid();
    heeding->code = np_read(heeding->handle, data, sizeof data, &count, &heeding->wait);
    return NULL;
}

static void *receive_much(void *argument)
{
    struct heeding *heeding = argument;
    static unsigned char data[1 << 20];
    uint32_t size;
    struct np_recv recv;
    heeding->thread = gettid();
    np_recv_prepare(&recv, false);
    CHECK_EQUAL(np_recv_begin(heeding->handle, &recv, &size, &heeding->wait), NP_OK);
    CHECK_EQUAL(size, sizeof data);
    heeding->code = np_recv_more(heeding->handle, &recv, data, size, &heeding->wait);
    CHECK_EQUAL(np_recv_end(heeding->handle, &recv, data, false), NP_OK);
    return NULL;
}

static void a_handler_that_raises_while_its_thread_is_awake_ends_the_next_sleep(void)
{
    void *(*const calls[])(void *) = {write_much, read_much, receive_much};
    for (int i = 0; i < 3; i++) {
        struct pair pair;
        open_pair(&pair, NP_TYPE_MESSAGE, 4096);
        struct np_handle *handle = i ? &pair.server : &pair.client;
        struct heeding heeding = {.handle = handle,
                                  .wait = {.deadline = np_now() + 20 * INT64_C(1000000000), .interrupted = has_raised},
                                  .code = NP_OK};
        pthread_t thread;
        struct np_op *op = NULL;
        atomic_store(&raised, 0);
        CHECK(pthread_create(&thread, NULL, calls[i], &heeding) == 0);
        while (!(atomic_load(&handle->link->sleep->flags) & (i ? NPL_SLEEP_READ | NPL_ARMED_READ : NPL_SLEEP_WRITE)) ||
               !sleeps(heeding.thread))
            sched_yield();
        atomic_store(&raised, 1);
        if (i) { /* as much as has room in the ring wakes the reader */
            op = submit(&pair.client, 1 << 20);
        } else {
            static unsigned char part[1 << 20];
            struct np_poll_read read;
            uint32_t size;
            CHECK_EQUAL(np_poll_read_begin(&pair.server, &read, NULL, 0), NP_OK);
            CHECK_EQUAL(np_poll_message(&pair.server, &read, &size), NP_OK);
            CHECK_EQUAL(np_poll_message_more(&pair.server, &read, part, 40000), NP_OK);
            CHECK_EQUAL(np_poll_read_leave(&pair.server, &read, part), NP_OK);
        }
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK_EQUAL(heeding.code, NP_INTERRUPTED);
        if (op) {
            withdraw(&pair.client, op);
            dispose(op);
        }
        close_pair(&pair);
    }
}

/* The reader has made exactly the room that was wanted, which is less than what it wakes somebody for; another call of
 * this end finds it. */
static void whoever_puts_the_rest_into_the_ring_ends_what_waited_for_that(void)
{
    struct pair pair;
    enum { PLAIN = 1000 };
    static unsigned char plain[PLAIN];
    uint32_t count;
    open_pair(&pair, NP_TYPE_MESSAGE, 4096);
    CHECK_EQUAL(try_write(&pair.client, plain, PLAIN), NP_OK);
    /* Headers of two bytes and of six, and a rest as long as the plain entry. */
    struct np_op *op = submit(&pair.client, (uint32_t)pair.client.link->tx.capacity - 6);
    CHECK_EQUAL(op->size - op->count, 2 + PLAIN);
    struct write waiter = {
        .handle = &pair.client, .deadline = np_now() + SECONDS * INT64_C(1000000000), .code = NP_INTERRUPTED};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, drain_for_seconds, &waiter) == 0);
    await_sleeper(&pair, &waiter);
    CHECK_EQUAL(np_read(&pair.server, plain, PLAIN, &count, &only_try), NP_OK);
    CHECK(atomic_load(&pair.client.link->sleep->flags) & NPL_SLEEP_WRITE); /* it is not told */
    CHECK_EQUAL(np_flush(&pair.client, &only_try), NP_WOULD_WAIT);
    CHECK_EQUAL(op->count, op->size);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(waiter.code, NP_OK);
    CHECK(np_now() < waiter.deadline);
    pthread_mutex_lock(&pair.client.tx_lock);
    np_tx_forget(pair.client.link, op);
    pthread_mutex_unlock(&pair.client.tx_lock);
    dispose(op);
    close_pair(&pair);
}

enum { TAKEN_BACK = 20000 };

static _Atomic long long_bytes, short_bytes;
static _Atomic bool all_written;

static void *take_back_and_write_less(void *argument)
{
    struct np_handle *handle = argument;
    static unsigned char data[300];
    unsigned long long random = 7;
    memset(data, 'l', sizeof data);
    for (int i = 0; i < TAKEN_BACK; i++) {
        uint32_t count, size = 101 + next_random(&random) % 199;
        struct np_wait wait = {.deadline = np_now() + next_random(&random) % 20000};
        uint32_t code = np_write(handle, data, size, &count, &wait);
        CHECK(code == NP_OK || code == NP_SEM_TIMEOUT);
        if (code == NP_OK)
            long_bytes += size;
        CHECK_EQUAL(np_write(handle, "s", 1, &count, &for_ever), NP_OK);
        short_bytes++;
    }
    all_written = true;
    return NULL;
}

/* A reader of bytes looks at the header of an entry, which is taken back, and a shorter one comes in its place. What
 * was taken back while it was read in part stays read. */
static void what_is_taken_back_under_a_reader_is_no_violation(void)
{
    struct pair pair;
    static unsigned char buffer[100000];
    uint32_t count;
    long longs = 0, shorts = 0;
    open_pair(&pair, NP_TYPE_MESSAGE, 100);
    pair.server.mode = 0;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, take_back_and_write_less, &pair.client) == 0);
    while (!all_written || shorts < TAKEN_BACK) {
        struct np_wait wait = {.deadline = np_now() + 3000};
        uint32_t code = np_read(&pair.server, buffer, sizeof buffer, &count, &wait);
        CHECK(code == NP_OK || code == NP_SEM_TIMEOUT);
        for (uint32_t i = 0; code == NP_OK && i < count; i++) {
            longs += buffer[i] == 'l';
            shorts += buffer[i] == 's';
            CHECK(buffer[i] == 'l' || buffer[i] == 's');
        }
    }
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(shorts, short_bytes);
    CHECK(longs >= long_bytes);
    close_pair(&pair);
}

/* ---- Several threads at each end, in whatever calls there are */

static _Atomic long sent_bytes, received_bytes;
static _Atomic int writers_left;

static void *some_writer(void *argument)
{
    struct job *job = argument;
    unsigned char *data = calloc(1, job->largest + 1);
    for (int i = 0; i < job->count; i++) {
        uint32_t size = next_random(&job->random) % job->largest, count;
        struct np_wait wait = next_random(&job->random) % 2
                                  ? for_ever
                                  : (struct np_wait){.deadline = np_now() + next_random(&job->random) % 300000};
        uint32_t code = np_write(job->handle, data, size, &count, &wait);
        CHECK(code == NP_OK || code == NP_SEM_TIMEOUT);
        if (code == NP_OK)
            sent_bytes += size;
        if (next_random(&job->random) % 16 == 0) {
            wait.deadline = np_now() + 100000;
            code = np_flush(job->handle, &wait);
            CHECK(code == NP_OK || code == NP_SEM_TIMEOUT);
        }
    }
    writers_left--;
    free(data);
    return NULL;
}

static void *some_reader(void *argument)
{
    struct job *job = argument;
    unsigned char *data = malloc(job->largest + 1);
    uint32_t count, available, left;
    for (;;) {
        struct np_wait wait = {.deadline = np_now() + next_random(&job->random) % 3000000};
        /* whole: what is left of one may be withdrawn */
        uint32_t code = np_read(job->handle, data, job->largest, &count, &wait);
        CHECK(code == NP_OK || code == NP_SEM_TIMEOUT);
        received_bytes += count; /* none when the time was over */
        code = np_peek(job->handle, data, next_random(&job->random) % job->largest, &count, &available, &left);
        CHECK_EQUAL(code, NP_OK);
        np_rest_of_message(job->handle);
        if (!writers_left && received_bytes == sent_bytes)
            break;
    }
    free(data);
    return NULL;
}

static void many_threads_at_each_end_lose_nothing(void)
{
    static const uint32_t quotas[] = {0, 100, 65536};
    for (int round = 0; round < 30; round++) {
        struct pair pair;
        open_pair(&pair, NP_TYPE_MESSAGE, quotas[round % 3]);
        sent_bytes = received_bytes = 0;
        writers_left = 3;
        struct job jobs[5] = {
            {&pair.client, 11 + (unsigned)round, 2000, 3000, 0, 0},
            {&pair.client, 22, 2000, 3000, 0, 0},
            {&pair.client, 33, 300, 150000, 0, 0},
            {&pair.server, 44, 0, 150000, 0, 0},
            {&pair.server, 55, 0, 150000, 0, 0},
        };
        pthread_t threads[5];
        for (int i = 0; i < 5; i++)
            CHECK(pthread_create(&threads[i], NULL, i < 3 ? some_writer : some_reader, &jobs[i]) == 0);
        for (int i = 0; i < 5; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK_EQUAL(received_bytes, sent_bytes);
        close_pair(&pair);
    }
}

int main(void)
{
    RUN(a_request_that_is_sent_while_it_is_interrupted_is_told_of);
    RUN(a_call_whose_last_part_finds_its_place_when_a_handler_raises_says_so);
    RUN(a_write_whose_reader_goes_when_a_handler_raises_says_so);
    RUN(who_has_been_told_of_neighbours_does_not_spin); /* first: the others make this process see neighbours itself */
    RUN(every_message_arrives_once_and_in_order);
    RUN(messages_larger_than_the_ring_arrive_whole);
    RUN(what_timed_out_was_neither_consumed_nor_sent);
    RUN(a_close_ends_reads_that_wait);
    RUN(beside_busy_neighbours_it_is_the_same);
    RUN(who_wakes_a_sleeper_hears_of_his_neighbours);
    RUN(a_selector_takes_no_byte_from_a_reader);
    RUN(a_writer_behind_one_that_gives_up_is_woken_by_its_own_bytes);
    RUN(a_withdrawal_ends_what_waited_for_a_place_in_the_ring);
    RUN(whoever_puts_the_rest_into_the_ring_ends_what_waited_for_that);
    RUN(what_is_taken_back_under_a_reader_is_no_violation);
    RUN(a_handler_that_raises_while_its_thread_is_awake_ends_the_next_sleep);
    RUN(many_threads_at_each_end_lose_nothing);
    return 0;
}
