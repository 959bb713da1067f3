#include "travel/passport.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/platform.h"
#include "process/process.h"
#include "ring/back.h"
#include "ring/idle.h"
#include "ring/link.h"
#include "ring/segment.h"
#include "handle/handle.h"
#include "overlapped/drive.h"
#include "overlapped/operation.h"
#include "pipe/close.h"
#include "pipe/state.h"

#define MAGIC UINT32_C(0x5650504e) /* "NPPV" */
#define VERSION 1
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)
#define LONGEST_PATH 4096
#define MOST_BACK (UINT64_C(1) << 32) /* bytes that were put back, or taken out in advance */
#define LONGER UINT32_C(1) /* of a piece */

/* What a handle and its link know, as it is in memory: the two processes run the same version, or `shape` differs.
 * Behind it: the root and the folder with their zeros, the stash, and each piece that was put back (struct piece, its
 * bytes). */
struct piece {
    uint32_t size, flags; /* LONGER */
};

struct state {
    uint32_t magic, version, shape; /* the first, in every version */
    uint32_t side;
    uint32_t mode, access, type, direction, max_instances, quota[2], server_pid, client_pid, pipe_id;
    uid_t peer_uid;
    pid_t peer_pid;
    bool server, overlapped, synchronous, has_place;
    uint32_t root, folder; /* bytes, with the zero */
    uint32_t stash, backs;
    uint64_t size; /* of all of it */
    struct np_rx rx; /* all pointers NULL */
    struct np_tx tx;
    struct np_tally tally;
    int64_t since;
};

/* Two builds whose structures differ cannot read each other's states. */
static uint32_t shape_of_state(void)
{
    return (uint32_t)(sizeof(struct state) ^ (sizeof(struct np_rx) << 12) ^ (sizeof(struct np_tx) << 20)) ^
           (uint32_t)offsetof(struct np_tx, recent) << 4 ^ (uint32_t)offsetof(struct np_rx, streak);
}

/* ---- Leaving */

struct writer {
    uint8_t *at;
};

static void put(struct writer *writer, const void *data, size_t size)
{
    if (size)
        memcpy(writer->at, data, size);
    writer->at += size;
}

/* Whether somebody is in the middle of something. With rx_lock and tx_lock. */
static bool is_busy(const struct np_handle *handle, const struct np_link *link)
{
    return link->rx.first || link->tx.first || link->tx.flushes || link->tx.outside || link->tx.kept ||
           link->rx.polled || handle->asyncs || handle->connects ||
           atomic_load_explicit(&link->refs, memory_order_acquire) > 1; /* threads that wait */
}

static uint64_t size_of_backs(const struct np_rx *rx, uint32_t *count)
{
    uint64_t size = 0;
    *count = 0;
    for (const struct np_back *piece = rx->back; piece; piece = np_back_next(piece)) {
        size += sizeof(struct piece) + np_back_size(piece);
        ++*count;
    }
    return size;
}

/* Where things are in this process's memory is nobody else's business. */
static void remove_pointers(struct state *state)
{
    state->rx.shared = NULL;
    state->rx.ring = NULL;
    state->rx.stash = NULL;
    state->rx.back = NULL;
    state->rx.first = state->rx.last = NULL;
    state->tx.shared = NULL;
    state->tx.ring = NULL;
    state->tx.first = state->tx.last = state->tx.flushes = NULL;
}

/* The state of a handle in a file that nobody can change any more. With rx_lock and tx_lock. */
static uint32_t write_state(const struct np_handle *handle, const struct np_link *link, int *result)
{
    struct state state;
    memset(&state, 0, sizeof state);
    state.magic = MAGIC;
    state.version = VERSION;
    state.shape = shape_of_state();
    state.side = link->side;
    state.mode = atomic_load_explicit(&handle->mode, memory_order_relaxed);
    state.access = handle->access;
    state.type = handle->type;
    state.direction = handle->direction;
    state.max_instances = handle->max_instances;
    memcpy(state.quota, handle->quota, sizeof state.quota);
    state.server_pid = handle->server_pid;
    state.client_pid = handle->client_pid;
    state.pipe_id = handle->pipe_id;
    state.peer_uid = handle->peer_uid;
    state.peer_pid = link->peer_pid;
    state.server = handle->server;
    state.overlapped = handle->no_socket_sleeps;
    state.synchronous = handle->synchronous;
    state.has_place = handle->root && handle->folder;
    state.root = state.has_place ? (uint32_t)strlen(handle->root) + 1 : 0;
    state.folder = state.has_place ? (uint32_t)strlen(handle->folder) + 1 : 0;
    state.stash = link->rx.stash_length;
    state.rx = link->rx;
    state.rx.stash_begin = 0; /* the rest of it goes, and that alone */
    state.tx = link->tx;
    state.tally = link->tally; /* nobody sleeps (is_busy) */
    state.since = link->since;
    remove_pointers(&state);
    state.size = sizeof state + state.root + state.folder + state.stash + size_of_backs(&link->rx, &state.backs);
    np_fds_hold();
    int fd = np_fd_made(memfd_create("npipe-state", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (fd < 0)
        return errno == EMFILE || errno == ENFILE ? NP_TOO_MANY_OPEN_FILES : NP_NOT_ENOUGH_MEMORY;
    void *map = np_file_resize(fd, state.size) == 0 ? mmap(NULL, state.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                                                    : MAP_FAILED;
    if (map == MAP_FAILED) {
        np_fd_close(fd);
        return NP_NOT_ENOUGH_MEMORY;
    }
    struct writer writer = {map};
    put(&writer, &state, sizeof state);
    put(&writer, handle->root, state.root);
    put(&writer, handle->folder, state.folder);
    put(&writer, state.stash ? link->rx.stash + link->rx.stash_begin : NULL, state.stash);
    for (const struct np_back *piece = link->rx.back; piece; piece = np_back_next(piece)) {
        struct piece head = {.size = np_back_size(piece), .flags = np_back_was_longer(piece) ? LONGER : 0};
        put(&writer, &head, sizeof head);
        put(&writer, np_back_bytes(piece), head.size);
    }
    munmap(map, state.size);
    if (fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        np_fd_close(fd);
        return NP_NOT_ENOUGH_MEMORY;
    }
    *result = fd;
    return NP_OK;
}

static uint32_t depart(struct np_handle *handle, bool waits, bool with_state, np_deliver_fn deliver, void *context,
                       struct np_passport *passport)
{
    *passport = (struct np_passport){-1, -1, -1};
    pthread_mutex_lock(&np_process.create_lock);
    pthread_mutex_lock(&np_process.lock);
    pthread_mutex_lock(&handle->rx_lock);
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    if (link && link->rx.first)
        np_async_drive_reads(handle, link);
    if (link)
        np_async_drive_writes(handle, link);
    uint32_t code = NP_OK;
    if (np_is_closed(handle))
        code = NP_INVALID_HANDLE;
    else if (!link)
        code = NP_PIPE_NOT_CONNECTED;
    else if (with_state && (link->fd < 0 || link->unshared[0] || link->unshared[1]))
        code = NP_INVALID_HANDLE;
    else if (is_busy(handle, link))
        code = NP_PIPE_BUSY;
    else if (with_state)
        code = write_state(handle, link, &passport->state);
    const struct np_passport copy = {link ? link->socket : -1, link ? link->fd : -1, passport->state};
    if (code == NP_OK && deliver && !deliver(context, &copy)) {
        np_fd_close(passport->state);
        passport->state = -1;
        code = NP_NO_SYSTEM_RESOURCES;
    }
    if (code == NP_OK) {
        np_handle_counted(handle, link);
        np_link_tell_departure(link);
        handle->link = NULL;
        atomic_store_explicit(&handle->state, NP_CLOSED, memory_order_release);
        np_fresh_remove(handle);
        if (link->watch)
            np_watch_remove(link->watch, link->socket);
        link->watch = 0;
        link->handle = NULL;
        passport->socket = link->socket;
        passport->segment = link->fd;
        link->socket = link->fd = -1; /* so nobody hangs up */
        link->keep = false;
    }
    pthread_mutex_unlock(&handle->tx_lock);
    pthread_mutex_unlock(&handle->rx_lock);
    pthread_mutex_unlock(&np_process.lock);
    struct np_pipe *left = code == NP_OK ? np_handle_leave(handle) : NULL;
    pthread_mutex_unlock(&np_process.create_lock);
    if (code != NP_OK)
        return code;
    np_handle_left(handle, left, waits);
    np_link_unref(link);
    return NP_OK;
}

uint32_t np_depart(struct np_handle *handle, bool waits, struct np_passport *passport)
{
    return depart(handle, waits, true, NULL, NULL, passport);
}

uint32_t np_depart_socket(struct np_handle *handle, bool waits, int *socket)
{
    struct np_passport passport;
    uint32_t code = depart(handle, waits, false, NULL, NULL, &passport);
    *socket = passport.socket;
    passport.socket = -1;
    np_passport_sent(&passport);
    return code;
}

uint32_t np_depart_to(struct np_handle *handle, bool waits, np_deliver_fn deliver, void *context)
{
    struct np_passport passport;
    uint32_t code = depart(handle, waits, true, deliver, context, &passport);
    np_passport_sent(&passport);
    return code;
}

/* ---- Arriving */

void np_passport_sent(struct np_passport *passport)
{
    /* Not a hang-up: the socket is the other process's now. */
    np_fd_close(passport->socket);
    np_fd_close(passport->segment);
    np_fd_close(passport->state);
    *passport = (struct np_passport){-1, -1, -1};
}

void np_passport_drop(struct np_passport *passport)
{
    np_hang_up(passport->socket);
    passport->socket = -1;
    np_passport_sent(passport);
}

struct reader {
    const uint8_t *at, *end;
};

/* NULL: it is not there. */
static const uint8_t *take(struct reader *reader, uint64_t size)
{
    if (size > (uint64_t)(reader->end - reader->at))
        return NULL;
    const uint8_t *found = reader->at;
    reader->at += size;
    return found;
}

static char *take_text(struct reader *reader, uint32_t size)
{
    const uint8_t *text = size && size <= LONGEST_PATH ? take(reader, size) : NULL;
    return text && text[size - 1] == 0 && strlen((const char *)text) == size - 1 ? strdup((const char *)text) : NULL;
}

/* Whether what is to be a bool is one, before it is taken for one. */
static bool are_bools(const uint8_t *state)
{
    static const size_t flags[] = {
        offsetof(struct state, server),           offsetof(struct state, overlapped),
        offsetof(struct state, synchronous),      offsetof(struct state, has_place),
        offsetof(struct state, rx.active),        offsetof(struct state, rx.deferred),
        offsetof(struct state, rx.claimed),       offsetof(struct state, rx.may_come_back),
        offsetof(struct state, rx.trimmed),       offsetof(struct state, rx.polled),
        offsetof(struct state, rx.on_socket),     offsetof(struct state, rx.may_defer_wake),
        offsetof(struct state, rx.wake_deferred),
    };
    uint8_t all = 0;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        all |= state[flags[i]];
    for (size_t i = 0; i < NPL_DEFERRED; i++) {
        const uint8_t *item = state + offsetof(struct state, tx.outstanding) + i * sizeof(struct np_outstanding);
        all |= item[offsetof(struct np_outstanding, put)] | item[offsetof(struct np_outstanding, withdrawn)];
    }
    return all <= 1;
}

/* Entries that are taken back set the tail to where they began. */
static bool are_outstanding(const struct np_tx *tx)
{
    for (uint32_t i = 0; i < tx->n_outstanding; i++) {
        const struct np_outstanding *item = &tx->outstanding[(tx->first_outstanding + i) % NPL_DEFERRED];
        if ((int64_t)(tx->tail - item->begin) < 0)
            return false;
    }
    return true;
}

/* Whether the positions that somebody else claims can be those of rings of this size. What the peer announces is
 * compared with them at every step, as always. */
static bool is_sound(const struct state *state, const struct np_link *link)
{
    const struct np_rx *rx = &state->rx;
    const struct np_tx *tx = &state->tx;
    return state->mode <= (NP_MODE_NOWAIT | NP_MODE_READ_MESSAGE) && state->type == link->type &&
           state->direction == link->direction && state->access < 16 && state->server == (state->side == NPL_SERVER) &&
           rx->tail - rx->head <= link->rx.capacity && tx->tail - tx->head <= link->tx.capacity &&
           rx->header <= NPL_MAX_ENTRY_HEADER && rx->slot < NPL_DEFERRED && rx->pulled <= rx->total &&
           rx->delivered <= rx->pulled && rx->stash_length == state->stash && rx->stash_begin == 0 &&
           rx->stash_length == (rx->active ? rx->pulled - rx->delivered : 0) && tx->n_recent <= NP_RECENT &&
           tx->first_outstanding < NPL_DEFERRED && tx->n_outstanding <= NPL_DEFERRED && are_outstanding(tx) &&
           tx->outside == 0 && tx->hidden == 0 && tx->kept == 0;
}

/* The truth about the rings, in a link that has its own pointers. */
static uint32_t fill_in(struct np_link *link, const struct state *state, struct reader *rest)
{
    if (!is_sound(state, link))
        return NP_INVALID_DATA;
    struct np_rx fresh_rx = link->rx;
    struct np_tx fresh_tx = link->tx;
    link->rx = state->rx;
    link->tx = state->tx;
    link->rx.shared = fresh_rx.shared;
    link->rx.ring = fresh_rx.ring;
    link->rx.capacity = fresh_rx.capacity;
    link->rx.quota = fresh_rx.quota;
    link->rx.stash = NULL;
    link->rx.back = NULL;
    link->rx.first = link->rx.last = NULL;
    link->rx.on_socket = link->rx.polled = link->rx.may_come_back = false;
    link->rx.wake_deferred = link->rx.may_defer_wake = false;
    link->rx.spin = fresh_rx.spin;
    link->rx.stream = fresh_rx.stream;
    atomic_init(&link->rx.by_socket, 0);
    atomic_init(&link->rx.contended, 0);
    link->tx.shared = fresh_tx.shared;
    link->tx.ring = fresh_tx.ring;
    link->tx.capacity = fresh_tx.capacity;
    link->tx.quota = fresh_tx.quota;
    link->tx.first = link->tx.last = link->tx.flushes = NULL;
    link->tx.attached = link->tx.sleepers = link->tx.awaiting_put = 0; /* its threads are elsewhere */
    link->tx.spin = fresh_tx.spin;
    link->tx.stream = fresh_tx.stream;
    link->tally = state->tally;
    link->tally.rx_sleepers = link->tally.tx_sleepers = 0;
    link->since = state->since;
    const uint8_t *stash = take(rest, state->stash);
    if (!stash)
        return NP_INVALID_DATA;
    if (state->stash) {
        link->rx.stash = malloc(state->stash);
        if (!link->rx.stash)
            return NP_NOT_ENOUGH_MEMORY;
        memcpy(link->rx.stash, stash, state->stash);
    }
    /* Each piece is put before those that are there, so the last one comes first. */
    if (state->backs > (uint64_t)(rest->end - rest->at) / sizeof(struct piece))
        return NP_INVALID_DATA;
    const uint8_t **pieces = state->backs ? calloc(state->backs, sizeof *pieces) : NULL;
    if (state->backs && !pieces)
        return NP_NOT_ENOUGH_MEMORY;
    uint32_t code = NP_OK;
    struct piece head;
    for (uint32_t i = 0; i < state->backs && code == NP_OK; i++) {
        pieces[i] = take(rest, sizeof head);
        if (pieces[i])
            memcpy(&head, pieces[i], sizeof head);
        if (!pieces[i] || head.flags & ~LONGER || !take(rest, head.size))
            code = NP_INVALID_DATA;
    }
    for (uint32_t i = state->backs; i > 0 && code == NP_OK; i--) {
        memcpy(&head, pieces[i - 1], sizeof head);
        bool (*put_back)(struct np_rx *, const void *, uint32_t) = head.flags & LONGER ? np_back_put_rest : np_back_put;
        if (!put_back(&link->rx, pieces[i - 1] + sizeof head, head.size))
            code = NP_NOT_ENOUGH_MEMORY;
    }
    free(pieces);
    return code;
}

static uint32_t make_handle(const struct state *state, struct np_passport *passport, struct reader *rest,
                            struct np_handle **result)
{
    struct np_handle *handle = np_handle_new();
    if (!handle)
        return NP_NOT_ENOUGH_MEMORY;
    if (state->has_place) {
        handle->root = take_text(rest, state->root);
        handle->folder = take_text(rest, state->folder);
    }
    struct np_link *link = NULL;
    uint32_t code = state->has_place && (!handle->root || !handle->folder) ? NP_INVALID_DATA : NP_OK;
    if (code == NP_OK)
        code = np_link_take_over(passport->segment, passport->socket, (enum npl_side)state->side, &link);
    if (code != NP_OK) {
        np_free(handle);
        return code;
    }
    passport->socket = -1; /* the link's from here on, and the segment */
    link->fd = passport->segment;
    passport->segment = -1;
    link->peer_pid = state->peer_pid;
    link->peer_uid = state->peer_uid;
    code = fill_in(link, state, rest);
    if (code != NP_OK) {
        np_free(handle);
        np_link_unref(link);
        return code;
    }
    atomic_store_explicit(&link->alert, NP_ALERT_UNWATCHED, memory_order_relaxed);
    handle->server = state->server;
    handle->mode = state->mode;
    handle->access = state->access;
    handle->type = link->type;
    handle->direction = link->direction;
    handle->max_instances = state->max_instances;
    memcpy(handle->quota, link->quota, sizeof handle->quota);
    handle->server_pid = state->server_pid;
    handle->client_pid = state->client_pid;
    handle->peer_uid = state->peer_uid;
    handle->pipe_id = state->pipe_id;
    handle->no_socket_sleeps = state->overlapped;
    handle->synchronous = state->synchronous;
    handle->travels = true;
    handle->link = link;
    link->handle = handle;
    np_idle_stir(link); /* whatever its ring has used by now */
    atomic_store_explicit(&handle->state, NP_CONNECTED, memory_order_release);
    pthread_mutex_lock(&np_process.lock);
    np_handle_register(handle);
    np_fresh_add(handle);
    pthread_mutex_unlock(&np_process.lock);
    *result = handle;
    return NP_OK;
}

static uint32_t take_state(const uint8_t *map, uint64_t size, struct np_passport *passport, struct reader *rest,
                           struct np_handle **result)
{
    uint32_t form[3];
    memcpy(form, map, sizeof form);
    if (form[0] != MAGIC || form[1] != VERSION || form[2] != shape_of_state())
        return NP_REVISION_MISMATCH;
    if (!are_bools(map))
        return NP_INVALID_DATA;
    struct state state;
    memcpy((void *)&state, map, sizeof state);
    if (state.side > NPL_CLIENT || state.size != size)
        return NP_INVALID_DATA;
    return make_handle(&state, passport, rest, result);
}

/* Whether it is of the kind that all ends have: what is not could make us wait where a link's socket never does. */
static bool is_kind_of_socket(int socket)
{
    int domain = 0, type = 0;
    socklen_t size = sizeof domain;
    return getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
           getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

uint32_t np_arrive(struct np_passport *passport, struct np_handle **result)
{
    uint32_t code = np_process_start();
    if (code == NP_OK && !is_kind_of_socket(passport->socket))
        code = NP_INVALID_DATA;
    struct stat status;
    int seals = fcntl(passport->state, F_GET_SEALS);
    /* Sealed, so that it can neither be cut short under us nor change between a check and a use. */
    if (code == NP_OK && (seals < 0 || (seals & SEALS) != SEALS || fstat(passport->state, &status) != 0 ||
                          status.st_size < (off_t)sizeof(struct state) || (uint64_t)status.st_size > MOST_BACK))
        code = NP_INVALID_DATA;
    const uint8_t *map = MAP_FAILED;
    if (code == NP_OK) {
        map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, passport->state, 0);
        code = map == MAP_FAILED ? NP_NOT_ENOUGH_MEMORY : NP_OK;
    }
    if (code == NP_OK) {
        struct reader rest = {map + sizeof(struct state), map + status.st_size};
        code = take_state(map, (uint64_t)status.st_size, passport, &rest, result);
    }
    if (map != MAP_FAILED)
        munmap((void *)(uintptr_t)map, (size_t)status.st_size);
    if (code != NP_OK)
        np_hang_up(passport->socket); /* nobody else has it: the peer is to know */
    if (code != NP_OK)
        passport->socket = -1;
    np_passport_sent(passport);
    return code;
}
