/* A fuzzer of what is said before there is a link: requests that a server gets, answers and segments that a client
 * gets. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fds.h"
#include "base/socket.h"
#include "pair.h"
#include "pipe/answer.h"
#include "pipe/owner.h"
#include "pipe/remembered.h"
#include "pipe/sweep.h"
#include "ring/record.h"

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[64];
static struct np_handle *instance;

static void clean_up(void)
{
    np_close(instance, true);
    np_free(instance);
    rmdir(root);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    (void)count, (void)arguments;
    snprintf(root, sizeof root, "/tmp/npipe-fuzz-%d", (int)getpid());
    const struct np_where where = {.root = root, .folder = "FUZZ", .display = "fuzz"};
    const struct np_create_options options = {
        .access = NP_ACCESS_DUPLEX,
        .type = NP_TYPE_MESSAGE,
        .mode = NP_MODE_NOWAIT,
        .max_instances = 1,
        .in_quota = 4096,
        .out_quota = 4096,
        .rule = {.allowed = NP_READ | NP_WRITE},
    };
    CHECK_EQUAL(np_create(&where, &options, &instance, NULL), NP_OK);
    atexit(clean_up);
    return 0;
}

/* Sends what the input has, message by message: a byte says how long, its highest bit whether a descriptor goes with
 * it. */
static void say_all(int socket, const uint8_t *data, size_t size, int fd)
{
    while (size) {
        size_t length = data[0] & 0x7f;
        bool with = data[0] & 0x80;
        data++, size--;
        if (length > size)
            length = size;
        if (np_send_message(socket, data, length, with ? fd : -1) < 0)
            return;
        data += length, size -= length;
    }
}

/* A ring for records that a tracer may send: as it should be, so that what is behind the request is tried. */
static int trace_ring(void)
{
    static int fd = -1;
    if (fd >= 0)
        return fd;
    const struct npr_header header = {.magic = NPR_MAGIC, .version = NPR_VERSION, .capacity = NPR_MIN_RING};
    fd = memfd_create("trace", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, NPR_HEADER_SIZE + NPR_MIN_RING) == 0);
    CHECK(pwrite(fd, &header, sizeof header, 0) == (ssize_t)sizeof header);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    return fd;
}

static void hear_all(int socket)
{
    uint8_t bytes[4096];
    int fd;
    while (np_receive_message(socket, bytes, sizeof bytes, &fd) > 0)
        np_fd_close(fd);
}

/* A visitor to the pipe, as np_pipe_accept makes it. */
static void visit(const uint8_t *data, size_t size)
{
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    say_all(ends[0], data, size, size % 2 ? trace_ring() : ends[0]);
    shutdown(ends[0], SHUT_WR);
    struct np_visitor *visitor = calloc(1, sizeof *visitor);
    CHECK(visitor && np_peer_credentials(ends[1], true, &visitor->who));
    pthread_mutex_lock(&np_process.lock);
    struct np_pipe *pipe = instance->pipe;
    visitor->pipe = pipe;
    visitor->socket = ends[1];
    visitor->deadline = np_now() + 1000000000;
    visitor->silent = true; /* and the only one */
    np_process.first_silent = np_process.last_silent = visitor;
    np_process.n_silent = 1;
    visitor->previous = pipe->last_visitor;
    if (pipe->last_visitor)
        pipe->last_visitor->next = visitor;
    else
        pipe->first_visitor = visitor;
    pipe->last_visitor = visitor;
    for (int i = 0; i < 8 && pipe->last_visitor == visitor; i++)
        np_visitor_ready(visitor, false);
    while (pipe->first_visitor)
        np_visitor_drop(pipe->first_visitor);
    CHECK_EQUAL(np_process.n_silent, 0);
    CHECK_EQUAL(np_process.n_held, 0);
    CHECK_EQUAL(np_process.n_held_remote, 0);
    CHECK_EQUAL(atomic_load(&pipe->slot->waiters), 0);
    pthread_mutex_unlock(&np_process.lock);
    hear_all(ends[0]);
    close(ends[0]);
    np_disconnect(instance);
    np_connect(instance, &only_try); /* listens again */
}

/* A segment with what the input has at its beginning. */
static int segment_of(const uint8_t *data, size_t size, uint8_t kind)
{
    static const uint64_t sizes[] = {4096 + 2 * 65536, 4096, 100, 1 << 20};
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)sizes[kind & 3]) == 0);
    if (kind & 4) {
        struct npl_header good = {
            .magic = NPL_MAGIC,
            .version = NPL_VERSION,
            .size = sizes[kind & 3],
            .ring_offset = {4096, 4096 + 65536},
            .ring_capacity = {65536, 65536},
            .quota = {4096, 10},
            .type = 4,
            .direction = 3,
        };
        CHECK(pwrite(fd, &good, sizeof good, 0) == (ssize_t)sizeof good);
    }
    for (; size >= 4; data += 4, size -= 4) { /* two bytes of offset, two of value */
        uint16_t offset = (uint16_t)(data[0] | data[1] << 8);
        CHECK(pwrite(fd, data + 2, 2, offset % 4096) == 2 || errno == EFBIG);
    }
    if (kind & 8)
        CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    return fd;
}

/* What a client makes of answers, and of the segment that comes with them. */
static void be_answered(const uint8_t *data, size_t size)
{
    if (size < 2)
        return;
    uint8_t kind = data[0];
    size_t words = data[1] * 4u;
    data += 2, size -= 2;
    if (words > size)
        words = size;
    int ends[2], fd = segment_of(data, words, kind), got_fd;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    say_all(ends[0], data + words, size - words, fd);
    shutdown(ends[0], SHUT_WR);
    char why[NP_WHY_SIZE];
    for (int i = 0; i < 8; i++) {
        struct npw_answer answer;
        ssize_t got = np_receive_message(ends[1], &answer, sizeof answer, &got_fd);
        uint32_t code = np_answer_code(got, &answer, why);
        struct np_link *link;
        if (got_fd >= 0 && code == NP_OK && np_link_accept(got_fd, -1, &link) == NP_OK) {
            struct np_handle handle;
            char bytes[100];
            uint32_t count, available, left;
            attach_handle(&handle, link, false);
            np_peek(&handle, bytes, sizeof bytes, &count, &available, &left);
            np_read(&handle, bytes, sizeof bytes, &count, &only_try);
            np_write(&handle, bytes, sizeof bytes, &count, &only_try);
            np_link_unref(link);
        }
        np_fd_close(got_fd);
        if (got <= 0)
            break;
    }
    close(fd);
    close(ends[0]);
    close(ends[1]);
}

/* What somebody who looks on makes of an owner's description: an honest one of two connections, of which the input
 * changes words (a byte of place, four of value), and with an odd kind the length. */
static void be_described(const uint8_t *data, size_t size)
{
    struct {
        struct npw_answer answer;
        struct npw_details details;
        struct npw_connection connections[2];
    } said = {
        .answer = {.magic = NPW_MAGIC,
                   .version = NPW_VERSION,
                   .kind = NPW_DESCRIBE,
                   .type = NP_TYPE_MESSAGE,
                   .direction = NP_ACCESS_DUPLEX,
                   .max_instances = 3},
        .details = {.size = sizeof(struct npw_details), .connection_size = sizeof(struct npw_connection), .count = 2},
        .connections = {{.number = 2}, {.number = 1}},
    };
    static struct npw_connection connections[NPW_DESCRIPTION_SIZE / sizeof(struct npw_connection)];
    struct np_described described = {0};
    size_t length = sizeof said;
    if (size >= 3 && data[0] & 1)
        length = (data[1] | (size_t)data[2] << 8) % (sizeof said + 1);
    size_t skipped = size < 3 ? size : 3;
    for (data += skipped, size -= skipped; size >= 5; data += 5, size -= 5)
        memcpy((uint8_t *)&said + data[0] * 4u % sizeof said, data + 1, 4);
    uint8_t *exact = malloc(length + 1); /* so that a byte too many is seen */
    CHECK(exact);
    memcpy(exact, &said, length);
    uint32_t code = np_described(exact, (ssize_t)length, 0, &described, connections);
    CHECK(code == NP_OK || described.count == 0);
    for (uint32_t i = 1; i < described.count; i++)
        CHECK(connections[i].number < connections[i - 1].number);
    CHECK(code != NP_OK || described.details.next == 0 ||
          (described.count && described.details.next == connections[described.count - 1].number));
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 0xfe)
        be_described(data + 1, size - 1);
    else if (data[0] & 1)
        visit(data + 1, size - 1);
    else
        be_answered(data + 1, size - 1);
    return 0;
}
