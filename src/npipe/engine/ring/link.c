#include "ring/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"
#include "process/process.h"
#include "ring/back.h"
#include "ring/idle.h"
#include "ring/mirror.h"
#include "ring/segment.h"
#include "ring/segment_cache.h"
#include "ring/tap.h"

/* Payload within the quota must always fit, whatever its entries: the smallest that counts is one byte of
 * payload with one byte of header, so twice the quota is enough; a ring that is larger is
 * faster (ring/segment.h, docs/performance.md). */
static uint64_t ring_capacity(uint32_t quota)
{
    uint64_t capacity = NPL_MIN_RING;
    while (capacity < 4 * (uint64_t)quota && capacity < NPL_MAX_RING)
        capacity *= 2;
    return capacity;
}

/* A socket's wake is a hint that the waker will wait for an answer: the kernel lets the two take turns on one
 * processor, which is the fastest way for a single message and its answer. A futex's wake looks for another processor,
 * which is what two that are going to spin need. So a new link begins with the first and goes on with the second, but
 * for reads beside busy neighbours (blocking/read.c). */
#define FIRST_SLEEPS_BY_SOCKET 2

static void attach(struct np_link *link, enum npl_side side)
{
    struct npl_segment *segment = link->segment;
    enum npl_ring in = side == NPL_SERVER ? NPL_INBOUND : NPL_OUTBOUND;
    enum npl_ring out = side == NPL_SERVER ? NPL_OUTBOUND : NPL_INBOUND;
    uint64_t offset[2], capacity[2];
    for (int i = 0; i < 2; i++) {
        capacity[i] = ring_capacity(link->quota[i]);
        offset[i] = i == 0 ? NPL_HEADER_SIZE : NPL_HEADER_SIZE + capacity[0];
    }
    link->side = side;
    link->sleep = &segment->sleep[side];
    link->peer_sleep = &segment->sleep[!side];
    link->state = &segment->side[side].end_state;
    link->peer_state = &segment->side[!side].end_state;
    link->rx.shared = &segment->direction[in];
    link->rx.ring = (const uint8_t *)segment + offset[in];
    link->rx.capacity = capacity[in];
    link->rx.quota = link->quota[in];
    link->tx.shared = &segment->direction[out];
    link->tx.ring = (uint8_t *)segment + offset[out];
    link->tx.capacity = capacity[out];
    link->tx.quota = link->quota[out];
    link->tx.look_at = NP_ANEW;
    link->tx.stir_at = NP_WARM;
    atomic_init(&link->refs, 1);
    atomic_init(&link->rx.by_socket, FIRST_SLEEPS_BY_SOCKET);
}

uint64_t np_link_size(const struct np_link_shape *shape)
{
    return NPL_HEADER_SIZE + ring_capacity(shape->quota[0]) + ring_capacity(shape->quota[1]);
}

static uint64_t last_number; /* guarded by np_fds_hold */
static struct np_link *links; /* guarded by np_fds_hold, so that a fork finds the list in order */

uint64_t np_link_new_number(void)
{
    np_fds_hold();
    uint64_t number = ++last_number;
    np_fds_release();
    return number;
}

static struct np_link *new_link(void)
{
    struct np_link *link = calloc(1, sizeof *link);
    if (!link)
        return NULL;
    link->socket = link->fd = -1;
    link->since = np_wall_clock();
    np_fds_hold();
    link->number = ++last_number;
    link->next = links;
    if (links)
        links->previous = link;
    links = link;
    np_fds_release();
    return link;
}

static void free_link(struct np_link *link)
{
    np_fds_hold();
    if (link->previous)
        link->previous->next = link->next;
    else
        links = link->next;
    if (link->next)
        link->next->previous = link->previous;
    np_fds_release();
    free(link);
}

void np_links_after_fork(void)
{
    np_tap_after_fork();
    for (struct np_link *link = links; link; link = link->next) {
        atomic_fetch_or_explicit(&link->alert, NP_ALERT_FORKED, memory_order_relaxed);
        link->socket = link->fd = -1;
        /* The tracers are the parent's. Whoever had the tap's lock is not there, so nobody touches it any more. */
        atomic_store_explicit(&link->tap, NULL, memory_order_relaxed);
        link->tap_kept = NULL;
        (void)np_mirrors_let_go(link); /* who has a place in one keeps it */
    }
}

/* Fills in the header of a segment that is all zero there, before it is shared. */
static void set_up(struct np_link *link, const struct np_link_shape *shape)
{
    uint64_t capacity[2] = {ring_capacity(shape->quota[0]), ring_capacity(shape->quota[1])};
    link->type = shape->type;
    link->direction = shape->direction;
    memcpy(link->quota, shape->quota, sizeof link->quota);
    link->server_pid = shape->server_pid;
    link->segment->header = (struct npl_header){
        .magic = NPL_MAGIC,
        .version = NPL_VERSION,
        .size = link->size,
        .ring_offset = {NPL_HEADER_SIZE, NPL_HEADER_SIZE + capacity[0]},
        .ring_capacity = {capacity[0], capacity[1]},
        .quota = {shape->quota[0], shape->quota[1]},
        .type = shape->type,
        .direction = shape->direction,
        .server_pid = shape->server_pid,
        .token = link->token,
    };
    attach(link, NPL_SERVER);
    atomic_store_explicit(link->state, NPL_END_OPEN, memory_order_relaxed);
    atomic_store_explicit(link->peer_state, NPL_END_OPEN, memory_order_relaxed);
}

uint32_t np_link_create(const struct np_link_shape *shape, struct np_link **result, int *fd)
{
    struct np_link *link = new_link();
    if (!link)
        return NP_NOT_ENOUGH_MEMORY;
    link->size = np_link_size(shape);
    *fd = np_segment_create(link->size);
    if (*fd < 0) {
        uint32_t code = errno == EMFILE || errno == ENFILE ? NP_TOO_MANY_OPEN_FILES : NP_NOT_ENOUGH_MEMORY;
        free_link(link);
        return code;
    }
    link->segment = np_segment_map(*fd, link->size);
    if (!link->segment) {
        np_fd_close(*fd);
        free_link(link);
        return NP_NOT_ENOUGH_MEMORY;
    }
    link->token = np_random();
    set_up(link, shape);
    *result = link;
    return NP_OK;
}

uint32_t np_link_create_again(const struct np_link_shape *shape, const struct np_kept *kept, struct np_link **result)
{
    struct np_link *link = new_link();
    if (!link) {
        np_kept_drop(kept);
        return NP_NOT_ENOUGH_MEMORY;
    }
    link->size = kept->size;
    link->segment = kept->segment;
    link->fd = kept->fd;
    link->token = kept->token;
    memset((void *)link->segment, 0, sizeof *link->segment);
    set_up(link, shape);
    np_idle_stir(link); /* the last connection has used it */
    *result = link;
    return NP_OK;
}

/* A direction of its own, empty for ever, and `ring` bytes behind it. */
static struct npl_direction *new_direction(uint64_t ring)
{
    void *memory;
    if (posix_memalign(&memory, _Alignof(struct npl_direction), sizeof(struct npl_direction) + ring) != 0)
        return NULL;
    memset(memory, 0, sizeof(struct npl_direction));
    return memory;
}

bool np_link_unshare(struct np_link *link, uint32_t access)
{
    if (link->direction & NP_ACCESS_INBOUND && !(access & NP_WRITE)) {
        struct npl_direction *direction = new_direction(0);
        if (!direction)
            return false;
        link->unshared[0] = link->rx.shared = direction;
    }
    if (link->direction & NP_ACCESS_OUTBOUND && !(access & NP_READ)) {
        struct npl_direction *direction = new_direction(link->tx.capacity);
        if (!direction)
            return false;
        link->unshared[1] = link->tx.shared = direction;
        link->tx.ring = (uint8_t *)(direction + 1);
    }
    return true;
}

static uint32_t accept_segment(struct np_link *link, int socket, enum npl_side side)
{
    /* One copy, then only the copy: the other side could change the words between a check and a use. */
    struct npl_header header;
    memcpy(&header, (const void *)link->segment, sizeof header);
    uint64_t capacity[2] = {ring_capacity(header.quota[0]), ring_capacity(header.quota[1])};
    bool sound = header.magic == NPL_MAGIC && header.version == NPL_VERSION && header.size == link->size &&
                 (header.type == NP_TYPE_MESSAGE || header.type == 0) && header.direction >= 1 &&
                 header.direction <= 3 && header.ring_capacity[0] == capacity[0] &&
                 header.ring_capacity[1] == capacity[1] && header.ring_offset[0] == NPL_HEADER_SIZE &&
                 header.ring_offset[1] == NPL_HEADER_SIZE + capacity[0] &&
                 link->size == NPL_HEADER_SIZE + capacity[0] + capacity[1];
    if (!sound) {
        np_segment_unmap(link->segment, link->size);
        np_fd_close(link->fd);
        free_link(link);
        return NP_INVALID_DATA;
    }
    link->socket = socket;
    link->type = header.type;
    link->direction = header.direction;
    memcpy(link->quota, header.quota, sizeof link->quota);
    link->server_pid = header.server_pid;
    link->client_pid = header.client_pid;
    link->token = header.token;
    attach(link, side);
    return NP_OK;
}

uint32_t np_link_take_over(int fd, int socket, enum npl_side side, struct np_link **result)
{
    uint64_t size = np_segment_check(fd);
    if (size < NPL_HEADER_SIZE || size > NPL_HEADER_SIZE + 2 * NPL_MAX_RING)
        return NP_INVALID_DATA;
    struct np_link *link = new_link();
    if (!link)
        return NP_NOT_ENOUGH_MEMORY;
    link->size = size;
    link->segment = np_segment_map(fd, size);
    if (!link->segment) {
        free_link(link);
        return NP_NOT_ENOUGH_MEMORY;
    }
    uint32_t code = accept_segment(link, socket, side);
    if (code == NP_OK)
        *result = link;
    return code;
}

uint32_t np_link_accept(int fd, int socket, struct np_link **result)
{
    return np_link_take_over(fd, socket, NPL_CLIENT, result);
}

uint32_t np_link_accept_again(const struct np_kept *kept, int socket, struct np_link **result)
{
    struct np_link *link = new_link();
    if (!link) {
        np_kept_drop(kept);
        return NP_NOT_ENOUGH_MEMORY;
    }
    link->size = kept->size;
    link->segment = kept->segment;
    link->fd = kept->fd;
    uint32_t code = accept_segment(link, socket, NPL_CLIENT);
    if (code == NP_OK) {
        np_idle_stir(link);
        *result = link;
    }
    return code;
}

void np_link_ref(struct np_link *link)
{
    /* Relaxed: the caller holds a reference already, so the count cannot reach zero meanwhile. */
    atomic_fetch_add_explicit(&link->refs, 1, memory_order_relaxed);
}

void np_link_unref(struct np_link *link)
{
    /* Release: what this thread did with the link comes before its end; acquire: before the unmap. */
    if (atomic_fetch_sub_explicit(&link->refs, 1, memory_order_acq_rel) != 1)
        return;
    uint32_t alert = atomic_load_explicit(&link->alert, memory_order_relaxed);
    np_idle_forget(link);
    bool peer_has_left = false, viewed = np_mirrors_let_go(link);
    if (link->segment && !(alert & NP_ALERT_FORKED)) {
        peer_has_left = atomic_load_explicit(link->peer_state, memory_order_relaxed) != NPL_END_OPEN;
        const struct np_kept kept = {link->segment,  link->size, link->token, link->peer_pid,
                                     link->peer_uid, 0,          0,           link->fd};
        bool died = alert & NP_ALERT_GONE &&
                    atomic_load_explicit(link->peer_state, memory_order_relaxed) == NPL_END_OPEN;
        if (link->keep && !died && !viewed && !(alert & NP_ALERT_BROKEN))
            np_keep(link->side, &kept);
        else
            np_kept_drop(&kept);
    }
    if (peer_has_left)
        np_fd_close(link->socket); /* there is nobody to tell: a system call less */
    else
        np_hang_up(link->socket);
    free(link->rx.stash);
    np_back_free(&link->rx);
    free(link->unshared[0]);
    free(link->unshared[1]);
    free(link->remote);
    np_tap_unref(link->tap_kept);
    free_link(link);
}

void np_link_wake_own(struct np_link *link)
{
    /* The word moves before the wake, so that a thread on its way to sleep does not fall asleep. Release: it
     * then sees what this is about (an alert bit). */
    atomic_fetch_add_explicit(&link->sleep->seq, 1, memory_order_release);
    np_futex_wake(&link->sleep->seq, NPL_SLEEP_READ | NPL_SLEEP_WRITE);
}

void np_link_alert(struct np_link *link, uint32_t bits)
{
    atomic_fetch_or_explicit(&link->alert, bits, memory_order_release);
    np_link_wake_own(link);
}

void np_link_wake_peer(struct np_link *link)
{
    const uint32_t all = NPL_SLEEP_READ | NPL_SLEEP_WRITE | NPL_ARMED_READ | NPL_ARMED_WRITE;
    /* Full fence, with its twin in every way to sleep: either we see the flag, or the sleeper sees the change. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&link->peer_sleep->flags, memory_order_relaxed) & all)
        np_link_wake_sleeper(link, all);
}

void np_link_wake_sleeper(struct np_link *link, uint32_t kinds)
{
    struct npl_sleep *peer = link->peer_sleep;
    /* Taking the bits away says that this wake is on its way, so that the next write need not do it again. */
    uint32_t flags = atomic_fetch_and_explicit(&peer->flags, ~(kinds | NPL_CONTENDED), memory_order_acq_rel) &
                     (kinds | NPL_CONTENDED);
    if (flags & NPL_CONTENDED)
        atomic_store_explicit(&link->rx.contended, np_now() + NP_CONTENDED_NS, memory_order_relaxed);
    if (flags & (NPL_SLEEP_READ | NPL_SLEEP_WRITE)) {
        atomic_fetch_add_explicit(&peer->seq, 1, memory_order_release);
        np_futex_wake(&peer->seq, flags & (NPL_SLEEP_READ | NPL_SLEEP_WRITE));
    }
    if (flags & (NPL_ARMED_READ | NPL_ARMED_WRITE) && link->socket >= 0)
        np_socket_poke(link->socket); /* a full one is readable already, and a peer that is gone needs no waking */
}

static void tell_closed(struct np_link *link, uint32_t code)
{
    if (!np_is_tapped(link) || link->told_end)
        return;
    link->told_end = true;
    np_tap_event(link, NULL, NPR_CLOSED, code);
}

void np_link_tell_end(struct np_link *link, enum npl_end_state state)
{
    tell_closed(link, state == NPL_END_DISCONNECTED ? NP_PIPE_NOT_CONNECTED : NP_BROKEN_PIPE);
}

void np_link_tell_departure(struct np_link *link)
{
    tell_closed(link, NP_OK);
}

void np_link_end(struct np_link *link, enum npl_end_state state, bool hangs_up)
{
    np_link_tell_end(link, state);
    /* Release: everything written before the close is visible to whoever sees the close. */
    atomic_store_explicit(link->state, state, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* as in np_link_wake_peer */
    const uint32_t threads = NPL_SLEEP_READ | NPL_SLEEP_WRITE, events = NPL_ARMED_READ | NPL_ARMED_WRITE;
    uint32_t flags = atomic_load_explicit(&link->peer_sleep->flags, memory_order_relaxed);
    uint32_t wanted = hangs_up ? threads : threads | events;
    if (flags & wanted)
        np_link_wake_sleeper(link, wanted);
}

bool np_link_drain_socket(struct np_link *link)
{
    return np_socket_poked(link->socket);
}

uint32_t np_link_violated(struct np_link *link)
{
    np_link_alert(link, NP_ALERT_BROKEN);
    if (link->socket >= 0)
        shutdown(link->socket, SHUT_RDWR);
    return NP_INVALID_DATA;
}

bool np_link_look(struct np_link *link, bool waits)
{
    if (link->socket < 0 || !np_socket_hung_up(link->socket))
        return false;
    uint32_t before = atomic_fetch_or_explicit(&link->alert, NP_ALERT_GONE, memory_order_acq_rel);
    if (before & NP_ALERT_GONE)
        return true;
    if (np_is_tapped(link))
        np_tap_event(link, NULL, NPR_GONE, NP_BROKEN_PIPE);
    /* Full fence, with its twin in every way to sleep, which comes after the waiter's reference and before its look at
     * the alert: either we see that it waits, or it sees that the peer has gone. */
    atomic_thread_fence(memory_order_seq_cst);
    /* The handle has a reference, and each thread that waits; this one may be one of them. */
    if (atomic_load_explicit(&link->refs, memory_order_acquire) > (waits ? 2u : 1u))
        np_link_wake_own(link);
    if (link->side == NPL_CLIENT && atomic_load_explicit(link->peer_state, memory_order_acquire) == NPL_END_OPEN)
        np_server_died();
    return true;
}

uint32_t np_link_condition(const struct np_link *link)
{
    uint32_t alert = atomic_load_explicit(&link->alert, memory_order_acquire);
    if (alert & (NP_ALERT_CLOSING | NP_ALERT_FORKED))
        return NP_INVALID_HANDLE;
    if (alert & NP_ALERT_DISCONNECTED)
        return NP_PIPE_NOT_CONNECTED;
    if (alert & NP_ALERT_BROKEN)
        return NP_INVALID_DATA;
    uint32_t peer = atomic_load_explicit(link->peer_state, memory_order_acquire);
    if (peer == NPL_END_DISCONNECTED && link->side == NPL_CLIENT)
        return NP_PIPE_NOT_CONNECTED;
    if (peer != NPL_END_OPEN || alert & NP_ALERT_GONE)
        return NP_BROKEN_PIPE;
    return NP_OK;
}
