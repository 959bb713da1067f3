/* A fuzzer of what reading and writing make of a segment: the input is a script of the peer's stores and of this end's
 * calls.
 *
 * Built with the patience of waits set to nothing (scripts/build-fuzz.sh), so that an input says what happens, and not
 * the clock. */
#include <sys/mman.h>

#include "pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct script {
    const uint8_t *at, *end;
};

static uint64_t take(struct script *script, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes && script->at < script->end; i++)
        value |= (uint64_t)*script->at++ << 8 * i;
    return value;
}

/* The peer's words of the header, by number. */
static void store(struct np_link *link, struct script *script)
{
    uint32_t offset = (uint32_t)take(script, 2) % sizeof(struct npl_segment);
    uint8_t kind = (uint8_t)take(script, 1);
    if (kind & 1) {
        _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)((uint8_t *)link->segment + (offset & ~7u));
        uint64_t value = take(script, kind & 2 ? 8 : 2);
        atomic_store(word, kind & 4 ? *word + (uint64_t)(int16_t)value : value);
    } else {
        _Atomic uint32_t *word = (_Atomic uint32_t *)(void *)((uint8_t *)link->segment + (offset & ~3u));
        uint32_t value = (uint32_t)take(script, kind & 2 ? 4 : 2);
        atomic_store(word, kind & 4 ? *word + (uint32_t)(int16_t)value : value);
    }
}

/* Bytes of an entry behind the peer's tail, and the tail behind them. */
static void put(struct np_link *peer, struct script *script)
{
    struct np_tx *tx = &peer->tx;
    uint64_t tail = atomic_load(&tx->shared->producer.tail);
    uint8_t count = (uint8_t)take(script, 1);
    uint16_t covered = (uint16_t)take(script, 2) % 600; /* a ring full of empty entries takes long and shows little */
    for (uint8_t i = 0; i < count; i++)
        tx->ring[(tail + i) & (tx->capacity - 1)] = (uint8_t)take(script, 1);
    atomic_store(&tx->shared->producer.tail, tail + covered);
}

static void write_some(struct np_handle *handle, struct script *script)
{
    static const uint8_t bytes[70000];
    uint32_t count, size = (uint32_t)take(script, 2) + (take(script, 1) & 1) * 4000;
    const struct np_wait wait = {.deadline = 0};
    np_write(handle, bytes, size, &count, take(script, 1) & 1 ? &only_try : &wait);
}

static void read_some(struct np_handle *handle, struct script *script)
{
    uint32_t size = (uint32_t)take(script, 2), count;
    uint8_t *buffer = malloc(size ? size : 1); /* of exactly this size */
    const struct np_wait wait = {.deadline = 0};
    uint32_t code = np_read(handle, buffer, size, &count, take(script, 1) & 1 ? &only_try : &wait);
    CHECK(count <= size);
    (void)code;
    free(buffer);
}

static void peek_some(struct np_handle *handle, struct script *script)
{
    uint32_t size = (uint32_t)take(script, 2), count, available, left;
    uint8_t *buffer = malloc(size ? size : 1);
    np_peek(handle, buffer, size, &count, &available, &left);
    CHECK(count <= size);
    free(buffer);
}

static void receive(struct np_handle *handle, struct script *script)
{
    struct np_recv recv = {0};
    const struct np_wait wait = {.deadline = 0};
    uint32_t size, limit = (uint32_t)take(script, 2);
    if (np_recv_try(handle, limit, &size) == NP_OK) {
        uint8_t *buffer = malloc(size ? size : 1);
        np_recv_take(handle, buffer, size);
        free(buffer);
        return;
    }
    if (np_recv_begin(handle, &recv, &size, &wait) != NP_OK)
        return;
    uint32_t upto = size < limit ? size : limit;
    uint8_t *buffer = malloc(upto ? upto : 1);
    uint32_t code = np_recv_more(handle, &recv, buffer, upto, &wait);
    np_recv_end(handle, &recv, buffer, code == NP_OK && upto == size);
    free(buffer);
}

static void step(struct np_handle *handle, struct script *script)
{
    static const uint8_t bytes[5000];
    struct np_poll_read read;
    struct np_poll_write write;
    uint32_t size = (uint32_t)take(script, 2), length;
    uint8_t *buffer = malloc(size ? size : 1);
    if (np_poll_read_begin(handle, &read, size & 1 ? buffer : NULL, size) == NP_OK) {
        if (size & 1)
            np_poll_read_step(handle, &read);
        else if (np_poll_message(handle, &read, &length) == NP_OK && length <= size &&
                 np_poll_message_more(handle, &read, buffer, length) == NP_OK)
            np_poll_message_take(handle, &read);
        np_poll_read_leave(handle, &read, buffer);
    }
    if (np_poll_write_begin(handle, &write, bytes, size % sizeof bytes) == NP_WOULD_WAIT) {
        store(handle->link, script);
        np_poll_write_step(handle, &write);
        if (write.link && np_poll_write_withdraw(handle, &write) == NP_WOULD_WAIT)
            np_poll_write_leave(handle, &write, false);
    }
    free(buffer);
}

/* As open_pair, but always in the same memory: to map it anew for each input takes most of the time. The rings of both
 * quotas have the same size. */
static void open_again(struct pair *pair, uint32_t type, uint32_t quota)
{
    static struct np_kept kept;
    const struct np_link_shape shape = {
        .type = type, .direction = NP_ACCESS_DUPLEX, .quota = {quota, quota}, .server_pid = 1};
    struct np_link *server, *client;
    int sockets[2];
    if (!kept.segment) {
        kept.size = np_link_size(&shape);
        kept.segment = mmap(NULL, kept.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK((void *)kept.segment != MAP_FAILED);
    }
    memset((void *)kept.segment, 0, kept.size);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    CHECK_EQUAL(np_link_create_again(&shape, &kept, &server), NP_OK);
    server->socket = sockets[0];
    CHECK_EQUAL(np_link_accept_again(&kept, sockets[1], &client), NP_OK);
    attach_handle(&pair->server, server, true);
    attach_handle(&pair->client, client, false);
}

static void close_again(struct np_handle *handle)
{
    atomic_fetch_or(&handle->link->alert, NP_ALERT_FORKED); /* leaves the memory alone */
    np_link_unref(handle->link);
    pthread_mutex_destroy(&handle->rx_lock);
    pthread_mutex_destroy(&handle->tx_lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = {data, data + size};
    struct pair pair;
    uint8_t shape = (uint8_t)take(&script, 1);
    open_again(&pair, shape & 1 ? NP_TYPE_MESSAGE : 0, shape & 2 ? 4096 : 10);
    struct np_handle *victim = shape & 4 ? &pair.server : &pair.client, *peer = shape & 4 ? &pair.client : &pair.server;
    if (shape & 8)
        victim->mode = 0;
    for (int turns = 0; script.at < script.end && turns < 60; turns++) {
        switch (take(&script, 1) % 12) {
        case 0:
        case 1:
            store(peer->link, &script);
            break;
        case 2:
        case 3:
            put(peer->link, &script);
            break;
        case 4:
            write_some(peer, &script);
            break;
        case 5:
            read_some(peer, &script);
            break;
        case 6:
            write_some(victim, &script);
            break;
        case 7:
            peek_some(victim, &script);
            break;
        case 8:
            receive(victim, &script);
            break;
        case 9:
            step(victim, &script);
            break;
        case 10:
            np_rest_of_message(victim);
            np_arm_read(victim);
            np_flush(victim, &only_try);
            break;
        default:
            read_some(victim, &script);
        }
    }
    close_again(&pair.server);
    close_again(&pair.client);
    return 0;
}
