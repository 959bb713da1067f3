/* What the machine can do for a crowd: clients that are threads of four processes, and a server with a thread for each
 * of them, all in C. With the engine, or with pairs of SOCK_SEQPACKET sockets and nothing else. */
#include "crowd.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

#define SIZE 64
#define PROCESSES 4
#define MOST 1000

static const struct np_wait for_ever = {.deadline = NP_FOREVER};

/* Of all processes. */
struct shared {
    _Atomic int ready, failed;
    _Atomic int phase; /* 0: connect, 1: work, 2: count, 3: over */
    _Atomic long counts[MOST];
};

static struct shared *shared;
static int pairs[MOST][2];
static bool by_sockets;
static struct np_where where;

static bool send_one(struct np_handle *pipe, int sock, const void *data)
{
    uint32_t count;
    return by_sockets ? send(sock, data, SIZE, MSG_NOSIGNAL) == SIZE
                      : np_write(pipe, data, SIZE, &count, &for_ever) == NP_OK;
}

static bool receive_one(struct np_handle *pipe, int sock, void *data)
{
    uint32_t count = 0;
    return by_sockets ? recv(sock, data, SIZE, 0) == SIZE
                      : np_read(pipe, data, SIZE, &count, &for_ever) == NP_OK && count == SIZE;
}

static void *serve_one(void *number)
{
    struct np_handle *pipe = NULL;
    char data[SIZE], why[NP_WHY_SIZE] = "";
    int sock = pairs[(intptr_t)number][0];
    if (!by_sockets) {
        struct np_create_options options = {
            .access = NP_ACCESS_DUPLEX,
            .type = NP_TYPE_MESSAGE,
            .mode = NP_MODE_READ_MESSAGE,
            .max_instances = NP_UNLIMITED_INSTANCES,
            .out_quota = 65536,
            .in_quota = 65536,
            .rule = {.allowed = NP_READ | NP_WRITE},
        };
        if (np_create(&where, &options, &pipe, why) != NP_OK)
            atomic_store(&shared->failed, 1);
    }
    atomic_fetch_add(&shared->ready, 1);
    if (pipe) {
        uint32_t code = np_connect(pipe, &for_ever);
        if (code != NP_OK && code != NP_PIPE_CONNECTED)
            atomic_store(&shared->failed, 1);
    }
    while (receive_one(pipe, sock, data) && send_one(pipe, sock, data))
        ;
    return NULL;
}

static void *ask(void *number)
{
    intptr_t own = (intptr_t)number;
    int sock = pairs[own][1];
    struct np_handle *pipe = NULL;
    char why[NP_WHY_SIZE] = "";
    if (!by_sockets) {
        struct np_open_options options = {
            .access = NP_READ | NP_WRITE | NP_WRITE_ATTRIBUTES, .hold = true, .verify_owner = true};
        if (np_open(&where, &options, &for_ever, &pipe, why) != NP_OK ||
            np_set_state(pipe, NP_MODE_READ_MESSAGE) != NP_OK) {
            atomic_store(&shared->failed, 1);
            return NULL;
        }
    }
    atomic_fetch_add(&shared->ready, 1);
    int phase;
    while ((phase = atomic_load(&shared->phase)) == 0)
        usleep(1000);
    long data[SIZE / sizeof(long)] = {own}, got[SIZE / sizeof(long)];
    for (; phase < 3; phase = atomic_load_explicit(&shared->phase, memory_order_relaxed)) {
        data[1]++;
        if (!send_one(pipe, sock, data) || !receive_one(pipe, sock, got) || memcmp(data, got, SIZE) != 0) {
            atomic_store(&shared->failed, 1);
            break;
        }
        if (phase == 2)
            atomic_fetch_add_explicit(&shared->counts[own], 1, memory_order_relaxed);
    }
    atomic_fetch_sub(&shared->ready, 1);
    return NULL;
}

/* A process of threads, which stays until it is killed. */
static pid_t start(void *(*call)(void *), int first, int count)
{
    pid_t process = fork();
    if (process != 0)
        return process;
    for (intptr_t i = first; i < first + count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, call, (void *)i) != 0)
            atomic_store(&shared->failed, 1);
    }
    for (;;)
        pause();
}

/* Waits until so many are ready; false: somebody has failed. */
static bool await_ready(int count)
{
    for (int i = 0; i < 10000 && !atomic_load(&shared->failed); i++) {
        if (atomic_load(&shared->ready) == count)
            return true;
        usleep(1000);
    }
    return false;
}

int measure_crowd(int clients, long milliseconds, bool sockets)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char root[] = "/tmp/npipe-limit-XXXXXX";
    if (shared == MAP_FAILED || clients < 1 || clients > MOST || !mkdtemp(root))
        return 1;
    by_sockets = sockets;
    where = (struct np_where){.root = root, .folder = "CROWD", .display = "crowd"};
    for (int i = 0; sockets && i < clients; i++)
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pairs[i]) != 0)
            return 1;
    pid_t processes[1 + PROCESSES] = {start(serve_one, 0, clients)};
    bool well = await_ready(clients);
    int first = 0, count = 1;
    for (int i = 0; well && i < PROCESSES; i++, count++) {
        int share = clients / PROCESSES + (i < clients % PROCESSES);
        processes[count] = start(ask, first, share);
        first += share;
    }
    well = well && await_ready(2 * clients);
    struct timespec window = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    struct timespec before = {window.tv_sec / 4, window.tv_nsec / 4};
    atomic_store(&shared->phase, 1);
    nanosleep(&before, NULL);
    int64_t began = np_now();
    atomic_store(&shared->phase, 2);
    nanosleep(&window, NULL);
    int64_t took = np_now() - began;
    atomic_store(&shared->phase, 3);
    well = well && await_ready(clients);
    for (int i = 0; i < count; i++)
        if (processes[i] > 0) {
            kill(processes[i], SIGKILL);
            waitpid(processes[i], NULL, 0);
        }
    char remove[64];
    snprintf(remove, sizeof remove, "rm -rf %s", root);
    well = system(remove) == 0 && well;
    long sum = 0, least = -1;
    for (int i = 0; i < clients; i++) {
        long got = atomic_load(&shared->counts[i]);
        sum += got;
        least = least < 0 || got < least ? got : least;
    }
    if (!well || sum == 0)
        return 1;
    printf("%.1f %.3f\n", (double)took / (double)sum, (double)least * clients / (double)sum);
    return 0;
}
