/* A victim, its enemies and its friend, all of them processes.
 *
 * The enemies open the victim's pipe (or own the pipe that it opens), and write random and chosen values into every
 * word of the segment that they have mapped while the victim does all that can be done with its end. The friend has
 * another pipe of the same victim's, and is to notice nothing.
 * To be built with the address and undefined-behaviour sanitizers.
 *
 *   test-hostile_peer [MUTATIONS [SEED]]
 */
#include <errno.h>
#include <signal.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/socket.h"
#include "pair.h"

enum {
    WORKERS = 2,
    ENEMIES = 2, /* of each kind: an enemy that is a server has its own worker */
    CALL_MS = 5,
    SLACK_MS = 10000,
    BURST = 24,
    OPS_PER_LINK = 300,
    MUTATIONS_PER_LINK = 3000
};

#ifdef __SANITIZE_ADDRESS__
#define USUAL_MUTATIONS 1000000
#else
#define USUAL_MUTATIONS 100000 /* less can be found without it */
#endif

static char root[256];

static struct np_where place(const char *name)
{
    return (struct np_where){.root = root, .folder = name, .display = name};
}

static uint32_t create(const char *name, uint32_t type, uint32_t quota, struct np_handle **handle)
{
    struct np_where where = place(name);
    struct np_create_options options = {
        .access = NP_ACCESS_DUPLEX,
        .type = type,
        .mode = type ? NP_MODE_READ_MESSAGE : 0,
        .max_instances = 255,
        .out_quota = quota,
        .in_quota = quota,
        .rule = {.allowed = NP_READ | NP_WRITE},
        .overlapped = true,
    };
    return np_create(&where, &options, handle, NULL);
}

static uint32_t open_for(const char *name, int ms, struct np_handle **handle)
{
    struct np_where where = place(name);
    struct np_open_options options = {
        .access = NP_READ | NP_WRITE | NP_WRITE_ATTRIBUTES, .hold = true, .overlapped = true};
    struct np_wait wait = for_ms(ms);
    return np_open(&where, &options, &wait, handle, NULL);
}

/* ---- The enemy */

static uint64_t chosen(unsigned long long *random, uint64_t now)
{
    static const uint64_t values[] = {
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        127,
        128,
        255,
        4095,
        4096,
        16383,
        16384,
        65535,
        65536,
        65537,
        131072,
        UINT32_MAX >> 3,
        INT32_MAX,
        (uint64_t)INT32_MAX + 1,
        UINT32_MAX,
        (uint64_t)UINT32_MAX + 1,
        INT64_MAX,
        UINT64_MAX / 2 + 1,
        UINT64_MAX - 1,
        UINT64_MAX,
    };
    uint32_t kind = next_random(random) % 8;
    if (kind < 2)
        return values[next_random(random) % (sizeof values / sizeof *values)];
    if (kind < 5)
        return now + next_random(random) % 17 - 8; /* what may look right */
    if (kind < 6)
        return now ^ (UINT64_C(1) << next_random(random) % 64);
    if (kind < 7)
        return (now & ~UINT64_C(7)) | next_random(random) % 8; /* another state of the same entry */
    return (uint64_t)next_random(random) << 32 | next_random(random);
}

static void mutate(struct np_link *link, unsigned long long *random)
{
    uint8_t *bytes = (uint8_t *)link->segment;
    uint64_t size = sizeof(struct npl_segment), at;
    uint32_t where = next_random(random) % 8;
    if (where < 5) {
        at = next_random(random) % size;
    } else if (where < 7) { /* what the victim is about to read */
        uint64_t tail = atomic_load_explicit(&link->tx.shared->producer.tail, memory_order_relaxed) +
                        next_random(random) % 256 - 128;
        at = (uint64_t)(link->tx.ring - bytes) + (tail & (link->tx.capacity - 1));
    } else {
        at = next_random(random) % link->size;
    }
    /* By atomic stores: it is the victim that is looked at by the sanitizers, and what it makes of them. */
    if (next_random(random) % 2 && at + 8 <= link->size) {
        _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)(bytes + (at & ~UINT64_C(7)));
        atomic_store_explicit(word, chosen(random, atomic_load_explicit(word, memory_order_relaxed)),
                              memory_order_relaxed);
    } else {
        _Atomic uint32_t *word = (_Atomic uint32_t *)(void *)(bytes + (at & ~UINT64_C(3)) % (link->size - 3));
        atomic_store_explicit(word, (uint32_t)chosen(random, atomic_load_explicit(word, memory_order_relaxed)),
                              memory_order_relaxed);
    }
}

/* Something that is allowed, so that there is something to spoil. */
static void behave(struct np_handle *handle, unsigned long long *random)
{
    static char data[100000];
    uint32_t count, size = next_random(random) % 4 ? next_random(random) % 300 : next_random(random) % sizeof data;
    struct np_wait wait = {.deadline = np_now() + next_random(random) % 200000};
    switch (next_random(random) % 4) {
    case 0:
    case 1:
        np_write(handle, data, size, &count, &wait);
        break;
    case 2:
        np_read(handle, data, size, &count, &wait);
        break;
    default:
        np_send_message(handle->link->socket, data, size % 20, next_random(random) % 16 ? -1 : 0);
    }
}

static long be_hostile(struct np_handle *handle, unsigned long long *random)
{
    struct np_link *link = handle->link; /* stays mapped until the handle is closed */
    long done = 0;
    /* the patient see more of the victim */
    uint32_t most = next_random(random) % 3 ? 1 + next_random(random) % 3 : BURST;
    while (done < MUTATIONS_PER_LINK) {
        uint32_t burst = 1 + next_random(random) % most;
        for (uint32_t i = 0; i < burst; i++)
            mutate(link, random);
        done += burst;
        if (next_random(random) % 2 || most < BURST)
            behave(handle, random);
        else if (next_random(random) % 4 == 0)
            sched_yield();
        if (np_link_look(link, false))
            break; /* the victim has had enough */
    }
    return done;
}

static int enemy(const char *role, int number, long mutations, unsigned long long seed)
{
    unsigned long long random = seed * 2654435761u + (unsigned)number + 1;
    bool owns = strcmp(role, "owner") == 0;
    long done = 0;
    char name[32];
    snprintf(name, sizeof name, owns ? "EVIL-%d" : "VICTIM", number);
    struct np_handle *handle;
    if (owns) {
        CHECK_EQUAL(create(name, number % 2 ? NP_TYPE_MESSAGE : 0, 4096, &handle), NP_OK);
        CHECK(write(STDOUT_FILENO, "+", 1) == 1); /* the victim may come */
    }
    while (done < mutations) {
        if (owns) {
            struct np_wait wait = for_ms(20000);
            uint32_t code = np_connect(handle, &wait);
            if (code == NP_NO_DATA)
                np_disconnect(handle);
            else
                CHECK(code == NP_OK || code == NP_PIPE_CONNECTED);
            if (code == NP_NO_DATA)
                continue;
        } else {
            CHECK_EQUAL(open_for(name, 20000, &handle), NP_OK);
        }
        done += be_hostile(handle, &random);
        if (owns) {
            np_disconnect(handle);
        } else {
            np_close(handle, next_random(&random) % 2);
            np_free(handle);
        }
    }
    if (owns) {
        np_close(handle, true);
        np_free(handle);
    }
    printf("%ld\n", done);
    return 0;
}

/* ---- The friend */

static int be_friend(void)
{
    struct np_handle *handle;
    static uint8_t out[9000], in[9000];
    long turns = 0, slowest = 0;
    CHECK_EQUAL(open_for("FRIEND", 20000, &handle), NP_OK);
    CHECK_EQUAL(np_set_state(handle, NP_MODE_READ_MESSAGE), NP_OK);
    unsigned long long random = 42;
    for (;; turns++) {
        uint32_t size = 1 + next_random(&random) % (sizeof out - 1), count;
        fill_pattern(out, size, (unsigned)turns);
        int64_t began = np_now();
        struct np_wait wait = for_ms(SLACK_MS);
        uint32_t code = np_write(handle, out, size, &count, &wait);
        if (code == NP_NO_DATA)
            break; /* closed: it is over */
        CHECK_EQUAL(code, NP_OK);
        code = np_read(handle, in, sizeof in, &count, &wait);
        if (code == NP_BROKEN_PIPE)
            break;
        CHECK_EQUAL(code, NP_OK);
        CHECK_EQUAL(count, size);
        CHECK(memcmp(in, out, size) == 0);
        long took = (long)((np_now() - began) / 1000000);
        if (took > slowest)
            slowest = took;
        if (turns % 64 == 0)
            usleep(1000); /* it is not to take the processor from the others, nor to be alone with it */
    }
    np_close(handle, false);
    np_free(handle);
    CHECK(turns > 0);
    fprintf(stderr, "friend: %ld round trips, the slowest %ld ms\n", turns, slowest);
    return 0;
}

static void *serve_friend(void *argument)
{
    struct np_handle *handle = argument;
    static uint8_t data[9000];
    uint32_t count;
    struct np_wait wait = for_ms(20000);
    uint32_t code = np_connect(handle, &wait);
    CHECK(code == NP_OK || code == NP_PIPE_CONNECTED);
    do {
        code = np_read(handle, data, sizeof data, &count, &for_ever);
        if (code == NP_OK)
            code = np_write(handle, data, count, &count, &for_ever);
    } while (code == NP_OK);
    CHECK(code == NP_BROKEN_PIPE || code == NP_INVALID_HANDLE); /* closed in the call, or between two */
    return NULL;
}

/* ---- The victim */

static _Atomic int over;
static _Atomic long calls, ended_links, slowest_us;

static void took(int64_t began, int64_t ms)
{
    long us = (long)((np_now() - began) / 1000), seen = slowest_us;
    calls++;
    while (us > seen && !atomic_compare_exchange_weak(&slowest_us, &seen, us))
        continue;
    if (us > (ms + SLACK_MS) * 1000) {
        fprintf(stderr, "a call took %ld us\n", us);
        abort();
    }
}

static void known_code(uint32_t code)
{
    switch (code) {
    case NP_OK:
    case NP_MORE_DATA:
    case NP_SEM_TIMEOUT:
    case NP_INVALID_DATA:
    case NP_BROKEN_PIPE:
    case NP_NO_DATA:
    case NP_PIPE_NOT_CONNECTED:
    case NP_BAD_PIPE:
    case NP_PIPE_BUSY:
    case NP_WOULD_WAIT:
    case NP_RETRY:
    case NP_YIELD:
    case NP_IO_PENDING:
    case NP_OPERATION_ABORTED:
    case NP_INVALID_PARAMETER:
        return;
    default:
        fprintf(stderr, "a call gave %u\n", code);
        abort();
    }
}

static uint32_t no_reply(void *context, const struct np_wait *wait)
{
    (void)context, (void)wait;
    return NP_OK;
}

static uint32_t receive(struct np_handle *handle, const struct np_wait *wait)
{
    struct np_recv recv = {0};
    uint32_t size, code = np_recv_begin(handle, &recv, &size, wait);
    if (code != NP_OK)
        return code;
    uint8_t *buffer = NULL;
    uint32_t upto = size < 5000 ? size : 5000;
    if (size > 200000) {
        code = NP_MORE_DATA;
    } else {
        buffer = malloc(upto ? upto : 1);
        for (;;) {
            code = np_recv_more(handle, &recv, buffer, upto, wait);
            if (code != NP_OK || upto == size)
                break;
            upto = size - upto < upto ? size : 2 * upto;
            buffer = realloc(buffer, upto);
        }
    }
    uint32_t end = np_recv_end(handle, &recv, buffer, code == NP_OK);
    free(buffer);
    return code == NP_OK ? end : code;
}

static void overlapped(struct np_handle *handle, unsigned long long *random, uint8_t *data, uint32_t size,
                       const struct np_wait *wait)
{
    struct np_object *event = np_object_new(NP_OBJECT_EVENT, true, false);
    struct np_async *async = np_async_new();
    struct np_telling telling = {.event = event};
    enum np_async_kind kind = next_random(random) % 3 == 0 ? NP_ASYNC_TRANSACT
                              : next_random(random) % 2    ? NP_ASYNC_READ
                                                           : NP_ASYNC_WRITE;
    uint8_t *more = malloc(size + 1);
    memset(more, 'm', size + 1);
    np_async_prepare(async, handle, kind, &telling);
    uint32_t code = kind == NP_ASYNC_READ    ? np_async_read(async, data, size)
                    : kind == NP_ASYNC_WRITE ? np_async_write(async, data, size)
                                             : np_async_transact(async, more, size, data, size);
    known_code(code);
    if (code == NP_IO_PENDING) {
        uint32_t index;
        bool abandoned;
        np_wait_objects(&event, 1, false, false, wait, &index, &abandoned);
        if (np_async_code(async) == NP_IO_PENDING)
            np_async_cancel(async);
        CHECK(np_async_code(async) != NP_IO_PENDING);
    }
    known_code(np_async_code(async));
    if (kind != NP_ASYNC_WRITE)
        CHECK(async->count <= size);
    struct np_async *next;
    if (np_async_code(async) != NP_IO_PENDING && code != NP_INVALID_DATA &&
        (code == NP_OK || code == NP_MORE_DATA || code == NP_IO_PENDING))
        for (struct np_async *one = np_async_reap(); one; one = next) {
            next = one->next_finished;
            np_async_unref(one);
        }
    np_async_unref(async);
    np_object_unref(event);
    free(more);
}

static void by_steps(struct np_handle *handle, unsigned long long *random, uint8_t *data, uint32_t size)
{
    struct np_poll_read read;
    struct np_poll_write write;
    uint32_t length;
    np_poll_wake(handle);
    if (next_random(random) % 2) {
        known_code(np_poll_read_begin(handle, &read, data, size));
        if (read.link)
            known_code(np_poll_read_step(handle, &read));
        np_poll_read_leave(handle, &read, data);
    } else if (np_poll_read_begin(handle, &read, NULL, 0) == NP_OK) {
        uint32_t code = np_poll_message(handle, &read, &length);
        if (code == NP_OK && length <= size) {
            code = np_poll_message_more(handle, &read, data, length);
            if (code == NP_OK)
                code = np_poll_message_take(handle, &read);
        }
        known_code(code);
        np_poll_read_leave(handle, &read, data);
    }
    known_code(np_poll_write_begin(handle, &write, data, size));
    if (write.link && np_poll_write_withdraw(handle, &write) == NP_WOULD_WAIT)
        np_poll_write_leave(handle, &write, false);
    np_poll_all_put(handle);
}

/* One call. Whether the link has ended. */
static bool do_something(struct np_handle *handle, unsigned long long *random)
{
    uint32_t size = next_random(random) % 4 ? next_random(random) % 600 : next_random(random) % 150000, count = 0,
             available, left;
    uint8_t *data = malloc(size ? size : 1); /* of exactly this size: what is beyond it is the sanitizer's */
    memset(data, 'v', size);
    struct np_wait wait = {.deadline = np_now() + next_random(random) % (CALL_MS * 1000000)};
    int64_t began = np_now();
    uint32_t code = NP_OK;
    switch (next_random(random) % 10) {
    case 0:
    case 1:
        code = np_read(handle, data, size, &count, &wait);
        break;
    case 2:
        code = np_write(handle, data, size, &count, &wait);
        break;
    case 3:
        code = np_peek(handle, data, size, &count, &available, &left);
        break;
    case 4:
        code = receive(handle, &wait);
        break;
    case 5:
        code = np_transact(handle, data, size, &wait, no_reply, NULL);
        break;
    case 6:
        code = next_random(random) % 2 ? np_flush(handle, &wait) : np_drain(handle, &wait);
        break;
    case 7:
        overlapped(handle, random, data, size, &wait);
        break;
    case 8:
        by_steps(handle, random, data, size);
        break;
    default:
        np_rest_of_message(handle);
        np_arm_read(handle);
        code = np_set_state(handle, next_random(random) % 2 && handle->type ? NP_MODE_READ_MESSAGE : 0);
    }
    took(began, CALL_MS);
    CHECK(count <= size);
    free(data);
    known_code(code);
    pthread_mutex_lock(&handle->rx_lock);
    bool ended = !handle->link || !np_link_quiet(handle->link);
    pthread_mutex_unlock(&handle->rx_lock);
    return ended;
}

static struct np_handle *instances[WORKERS];

static void *worker(void *argument)
{
    int number = *(int *)argument;
    unsigned long long random = 77777 + (unsigned)number;
    bool client = number >= WORKERS;
    struct np_handle *handle = NULL;
    char name[32];
    snprintf(name, sizeof name, "EVIL-%d", number - WORKERS);
    if (!client)
        handle = instances[number];
    while (!over) {
        struct np_wait wait = for_ms(100);
        uint32_t code = client ? open_for(name, 100, &handle) : np_connect(handle, &wait);
        if (code != NP_OK && code != NP_PIPE_CONNECTED) {
            if (!client && code == NP_NO_DATA)
                np_disconnect(handle);
            continue;
        }
        for (int i = 0; i < OPS_PER_LINK && !do_something(handle, &random); i++)
            continue;
        for (int i = 0; i < 3; i++)
            do_something(handle, &random); /* also when it is over */
        ended_links++;
        if (client) {
            np_close(handle, next_random(&random) % 2);
            np_free(handle);
        } else {
            np_disconnect(handle);
        }
    }
    if (!client) {
        np_close(handle, true);
        np_free(handle);
    }
    return NULL;
}

static pid_t start(char *const *arguments, int *out)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], out ? 1 : 2);
        if (!out)
            dup2(2, 1);
        close(ends[0]);
        execv("/proc/self/exe", arguments);
        _exit(127);
    }
    close(ends[1]);
    if (out)
        *out = ends[0];
    else
        close(ends[0]);
    return pid;
}

static long result_of(pid_t pid, int out)
{
    char text[64] = "";
    ssize_t got = read(out, text, sizeof text - 1);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQUAL(status, 0);
    CHECK(got > 0);
    close(out);
    return strtol(text, NULL, 10);
}

int main(int count, char **arguments)
{
    if (count > 2 && strcmp(arguments[1], "friend") == 0) {
        snprintf(root, sizeof root, "%s", arguments[2]);
        int result = be_friend();
        printf("0\n");
        return result;
    }
    if (count > 5 && (strcmp(arguments[1], "owner") == 0 || strcmp(arguments[1], "client") == 0)) {
        snprintf(root, sizeof root, "%s", arguments[2]);
        return enemy(arguments[1], atoi(arguments[3]), atol(arguments[4]), strtoull(arguments[5], NULL, 10));
    }
    long mutations = count > 1 ? atol(arguments[1]) : USUAL_MUTATIONS;
    const char *seed = count > 2 ? arguments[2] : "1";
    alarm(deadline(count > 1 ? 3600 : 110));
    snprintf(root, sizeof root, "/tmp/npipe-hostile-%d", (int)getpid());
    struct np_handle *for_friend;
    CHECK_EQUAL(create("FRIEND", NP_TYPE_MESSAGE, 65536, &for_friend), NP_OK);
    pthread_t friends_thread, threads[2 * WORKERS];
    CHECK(pthread_create(&friends_thread, NULL, serve_friend, for_friend) == 0);
    int numbers[2 * WORKERS], outs[2 * ENEMIES + 1];
    pid_t pids[2 * ENEMIES + 1];
    char *friend_arguments[] = {arguments[0], "friend", root, NULL};
    pids[2 * ENEMIES] = start(friend_arguments, &outs[2 * ENEMIES]);
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQUAL(create("VICTIM", NP_TYPE_MESSAGE, i ? 4096 : 100, &instances[i]), NP_OK);
    for (int i = 0; i < 2 * ENEMIES; i++) {
        char number[16], share[32];
        snprintf(number, sizeof number, "%d", i % ENEMIES);
        snprintf(share, sizeof share, "%ld", mutations / (2 * ENEMIES));
        char *enemy_arguments[] = {arguments[0], i < ENEMIES ? "client" : "owner", root, number,
                                   share,        (char *)(uintptr_t)seed,          NULL};
        pids[i] = start(enemy_arguments, &outs[i]);
        char ready;
        CHECK(i < ENEMIES || read(outs[i], &ready, 1) == 1);
    }
    for (int i = 0; i < 2 * WORKERS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, worker, &numbers[i]) == 0);
    }
    long done = 0;
    for (int i = 0; i < 2 * ENEMIES; i++)
        done += result_of(pids[i], outs[i]);
    over = 1;
    for (int i = 0; i < 2 * WORKERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    np_close(for_friend, false);
    CHECK(pthread_join(friends_thread, NULL) == 0);
    np_free(for_friend);
    result_of(pids[2 * ENEMIES], outs[2 * ENEMIES]);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%ld mutations, %ld calls on %ld links, the slowest call %ld ms, at most %ld MB of memory\n", done, calls,
           ended_links, slowest_us / 1000, usage.ru_maxrss / 1024);
    CHECK(done >= mutations * 9 / 10);
    rmdir(root);
    return 0;
}
