#include "poll.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "registry.h"
#include "rx.h"
#include "tx.h"

/* ---- Waking */

/* Moves the pending writes on and, if any are left, asks for a byte when there is room for more. With tx_lock held. */
static void pump(struct np_link *link)
{
    while (np_tx_pump(link) == NP_OK && (link->tx.first || link->tx.flushes) && np_link_quiet(link)) {
        np_tx_set_thresholds(link);
        /* Release: the thresholds come before the flag that makes the reader look at them. */
        atomic_fetch_or_explicit(&link->sleep->flags, NPL_ARMED_WRITE, memory_order_release);
        /* Full fence, with its twin in the reader's commit: either it sees us armed, or we see what it has taken. */
        atomic_thread_fence(memory_order_seq_cst);
        if (!np_tx_moved(link))
            return;
    }
}

bool np_poll_wake(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    if (link && !np_link_drain_socket(link))
        np_link_look(link, false);
    bool gone = !link || !np_link_quiet(link);
    pthread_mutex_unlock(&handle->rx_lock);
    pthread_mutex_lock(&handle->tx_lock);
    if (handle->link && (handle->link->tx.first || handle->link->tx.flushes))
        pump(handle->link);
    pthread_mutex_unlock(&handle->tx_lock);
    return gone;
}

/* ---- Pausing */

void np_poll_promise_pauses(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    if (handle->link)
        handle->link->rx.owing = true;
    pthread_mutex_unlock(&handle->rx_lock);
}

void np_poll_pause(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    if (handle->link)
        np_rx_pause(handle->link);
    pthread_mutex_unlock(&handle->rx_lock);
}

bool np_poll_owes(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    bool owes = handle->link && handle->link->rx.owes_wake;
    pthread_mutex_unlock(&handle->rx_lock);
    return owes;
}

bool np_poll_recv_take(struct np_handle *handle, void *buffer, uint32_t size)
{
    struct np_op op = {.out = buffer, .size = size};
    /* A plain entry stands in the ring in full, so this cannot fail. */
    np_rx_read(handle->link, &op, true, true);
    bool owes = handle->link->rx.owes_wake;
    pthread_mutex_unlock(&handle->rx_lock);
    return owes;
}

/* ---- Reading */

uint32_t np_poll_read_begin(struct np_handle *handle, struct np_poll_read *read, void *buffer, uint32_t size)
{
    memset(read, 0, sizeof *read);
    if (!(handle->access & NP_READ))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    uint32_t code = link ? NP_OK : np_code_without_link(handle);
    if (link) {
        read->op.out = buffer;
        read->op.size = buffer ? size : UINT32_MAX; /* a whole message may have any length */
        read->op.pended = buffer == NULL || !link->rx.active;
        read->message_mode = np_message_mode_of(handle);
        read->link = link;
        np_link_ref(link);
        np_queue_append(&link->rx.first, &link->rx.last, &read->op);
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

#define MOST_FUTILE 65536u /* turns in one step in which the peer moves without giving anything */

/* Asks for a byte when something comes; false: something has come, look again (`*turns` counts how often for nothing). With rx_lock
 * held. */
static bool armed(struct np_link *link, const struct np_op *op, uint32_t *count, uint32_t *turns)
{
    *turns = op->count == *count ? *turns + 1 : 0;
    *count = op->count;
    if (*turns > MOST_FUTILE) {
        np_link_violated(link); /* which the next look says */
        return false;
    }
    np_rx_pause(link);
    np_rx_post(link);
    atomic_fetch_or_explicit(&link->sleep->flags, NPL_ARMED_READ, memory_order_relaxed);
    /* Full fence, with its twin in the writer's publish: either it sees us armed, or we see its tail. */
    atomic_thread_fence(memory_order_seq_cst);
    const struct npl_producer *producer = &link->rx.shared->producer;
    return atomic_load_explicit(&producer->tail, memory_order_acquire) == link->rx.tail &&
           atomic_load_explicit(&producer->rewinds, memory_order_relaxed) == link->rx.rewinds && np_link_quiet(link);
}

static uint32_t read_once(struct np_handle *handle, struct np_poll_read *read)
{
    struct np_link *link = read->link;
    struct np_op *op = &read->op;
    if (!np_in_use(handle, link))
        return np_code_of_end(link);
    np_drive_ahead(handle, link, op);
    if (link->rx.first != op)
        return NP_WOULD_WAIT;
    uint32_t code = np_read_step(handle, link, op, read->message_mode, false);
    /* What a read of bytes has taken it returns: nothing of it would survive a cancel. */
    if (code == NP_WOULD_WAIT && !read->message_mode && (op->count || op->touched)) {
        op->done = true;
        op->code = code = NP_OK;
    }
    return code == NP_OK ? op->code : code;
}

uint32_t np_poll_read_step(struct np_handle *handle, struct np_poll_read *read)
{
    uint32_t code, count = 0, turns = 0;
    pthread_mutex_lock(&handle->rx_lock);
    do
        code = read_once(handle, read);
    while (code == NP_WOULD_WAIT && np_in_use(handle, read->link) && !armed(read->link, &read->op, &count, &turns));
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

/* Finds out how long the head message is. */
static uint32_t settle_once(struct np_handle *handle, struct np_poll_read *read, uint32_t *size)
{
    struct np_link *link = read->link;
    if (!np_in_use(handle, link))
        return np_code_of_end(link);
    np_drive_ahead(handle, link, &read->op);
    if (link->rx.first != &read->op)
        return NP_WOULD_WAIT;
    /* A write that was not complete vanishes with its process (SEMANTICS 10.4), so before it is begun one has to know. */
    if (np_link_quiet(link) && np_rx_settle(link) == NP_OK && link->rx.deferred && link->rx.pulled == 0)
        np_link_look(link, false);
    uint32_t condition = np_link_known(link);
    if (condition != NP_OK && condition != NP_BROKEN_PIPE)
        return condition;
    if (condition == NP_BROKEN_PIPE) {
        uint32_t peer = atomic_load_explicit(link->peer_state, memory_order_acquire);
        if (peer == NPL_END_ABORTED)
            return NP_BROKEN_PIPE;
        if (peer == NPL_END_OPEN)
            np_rx_trim(link);
    }
    uint32_t code = np_rx_settle(link);
    if (code == NP_OK) {
        *size = np_rx_rest(&link->rx);
        read->entry = link->rx.entry;
    }
    /* The condition was looked at before the ring, so an empty ring now stays empty. */
    return code == NP_WOULD_WAIT && condition != NP_OK ? NP_BROKEN_PIPE : code;
}

uint32_t np_poll_message(struct np_handle *handle, struct np_poll_read *read, uint32_t *size)
{
    uint32_t code, count = 0, turns = 0;
    pthread_mutex_lock(&handle->rx_lock);
    read->op.count = 0;
    do
        code = settle_once(handle, read, size);
    while (code == NP_WOULD_WAIT && np_in_use(handle, read->link) && !armed(read->link, &read->op, &count, &turns));
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

static uint32_t copy_once(struct np_handle *handle, struct np_poll_read *read, uint8_t *buffer, uint32_t upto)
{
    struct np_link *link = read->link;
    if (!np_in_use(handle, link))
        return np_code_of_end(link);
    uint32_t code = np_link_known(link);
    bool gone = code == NP_BROKEN_PIPE;
    if (code == NP_OK || gone)
        code = np_rx_copy(link, &read->op, read->entry, buffer, upto);
    if (code == NP_WOULD_WAIT && gone) {
        np_rx_drop_incomplete(link);
        code = NP_RETRY; /* np_poll_message says what is left */
    }
    if (code == NP_RETRY)
        read->op.count = 0;
    return code;
}

uint32_t np_poll_message_more(struct np_handle *handle, struct np_poll_read *read, void *buffer, uint32_t upto)
{
    uint32_t code, count = 0, turns = 0;
    pthread_mutex_lock(&handle->rx_lock);
    do
        code = copy_once(handle, read, buffer, upto);
    while (code == NP_WOULD_WAIT && np_in_use(handle, read->link) && !armed(read->link, &read->op, &count, &turns));
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

uint32_t np_poll_message_take(struct np_handle *handle, struct np_poll_read *read)
{
    struct np_link *link = read->link;
    uint32_t code;
    pthread_mutex_lock(&handle->rx_lock);
    if (!np_in_use(handle, link))
        code = np_code_of_end(link);
    else if (!link->rx.active || link->rx.entry != read->entry)
        code = NP_RETRY;
    else
        code = np_rx_consume(link, read->op.count);
    read->op.count = 0; /* consumed, or of an entry that has gone */
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

uint32_t np_poll_read_leave(struct np_handle *handle, struct np_poll_read *read, void *buffer)
{
    struct np_link *link = read->link;
    struct np_op *op = &read->op;
    uint32_t code = NP_OK;
    if (!link)
        return NP_OK;
    read->link = NULL;
    pthread_mutex_lock(&handle->rx_lock);
    bool same = op->out || (link->rx.active && link->rx.entry == read->entry);
    if (!op->done && op->count && same && np_in_use(handle, link) && !np_forked(link)) {
        op->out = buffer;
        if (!np_rx_give_back(link, op))
            code = np_link_violated(link); /* no memory to keep what was copied: the pipe cannot go on */
    }
    np_rx_leave(link, op);
    pthread_mutex_unlock(&handle->rx_lock);
    np_link_unref(link);
    return code;
}

struct awaited {
    const struct np_link *link;
    uint64_t tail;
};

static bool has_come(const void *what)
{
    const struct awaited *awaited = what;
    return atomic_load_explicit(&awaited->link->rx.shared->producer.tail, memory_order_acquire) != awaited->tail ||
           !np_link_quiet(awaited->link);
}

bool np_poll_spin(struct np_handle *handle, int64_t longest)
{
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    struct awaited awaited = {link, link ? link->rx.tail : 0};
    if (link)
        np_link_ref(link);
    pthread_mutex_unlock(&handle->rx_lock);
    if (!link)
        return true;
    bool come = np_spin_for(&link->rx.spin, has_come, &awaited, NP_FOREVER, longest);
    np_link_unref(link);
    return come;
}

/* ---- Writing */

uint32_t np_poll_write_begin(struct np_handle *handle, struct np_poll_write *write, const void *data, uint32_t size)
{
    memset(write, 0, sizeof *write);
    if (!(handle->access & NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    uint32_t code = link ? np_write_condition(link, false) : np_code_without_link(handle);
    if (code == NP_OK && (size || link->type == NP_TYPE_MESSAGE)) /* SEMANTICS 5.2 */
        code = np_tx_try(link, data, size);
    if (code == NP_WOULD_WAIT) {
        write->op.in = data;
        write->op.size = size;
        code = np_tx_submit(link, &write->op);
        if (code == NP_OK && !write->op.done)
            pump(link);
        if (code == NP_OK && !write->op.done) {
            write->link = link;
            np_link_ref(link);
            code = NP_WOULD_WAIT;
        } else if (write->op.queued) {
            np_tx_forget(link, &write->op);
        }
    }
    pthread_mutex_unlock(&handle->tx_lock);
    return code;
}

/* With tx_lock held. */
static void end_write(struct np_link *link, struct np_poll_write *write, uint32_t code)
{
    if (write->op.queued)
        np_tx_forget(link, &write->op);
    write->op.code = code; /* for who asks later */
    write->link = NULL;
}

uint32_t np_poll_write_step(struct np_handle *handle, struct np_poll_write *write)
{
    struct np_link *link = write->link;
    struct np_op *op = &write->op;
    if (!link)
        return op->code;
    pthread_mutex_lock(&handle->tx_lock);
    /* The condition before the ring: what the peer had read before it went is written. */
    uint32_t code = np_in_use(handle, link) ? np_write_condition(link, true) : np_code_of_end(link);
    if (!op->done && np_in_use(handle, link))
        pump(link);
    if (op->done)
        code = op->code;
    else if (code == NP_OK)
        code = NP_WOULD_WAIT;
    if (code != NP_WOULD_WAIT)
        end_write(link, write, code);
    pthread_mutex_unlock(&handle->tx_lock);
    if (code != NP_WOULD_WAIT)
        np_link_unref(link);
    return code;
}

bool np_poll_write_ready(const struct np_poll_write *write)
{
    return !write->link || write->op.done || !np_link_quiet(write->link);
}

#ifndef WITHDRAW_PATIENCE_NS /* the fuzzers have none */
#define WITHDRAW_PATIENCE_NS INT64_C(50000000) /* a reader copies for microseconds, if nothing takes its processor away; an event loop does not wait for one that was stopped */
#endif

static uint32_t withdraw(struct np_handle *handle, struct np_link *link, struct np_op *op)
{
    int64_t limit = np_now() + WITHDRAW_PATIENCE_NS;
    for (;;) {
        if (!np_in_use(handle, link))
            return op->done ? NP_NO_DATA : np_code_of_end(link);
        uint32_t condition = np_write_condition(link, true);
        uint32_t code = np_tx_pump(link);
        if (op->done)
            return NP_NO_DATA;
        if (condition != NP_OK || code != NP_OK)
            return condition != NP_OK ? condition : code;
        /* What the peer has taken cannot be taken back: all or nothing is then all. */
        if (op->size && link->tx.consumed > op->end - op->size)
            return NP_WOULD_WAIT;
        uint64_t before = link->tx.announced;
        code = np_tx_withdraw(link, op);
        if (code == NP_OK || code == NP_INVALID_DATA) /* nobody else announces anything while the lock is held */
            return code == NP_OK && before - link->tx.announced < op->size ? NP_MORE_DATA : code;
        if (code != NP_WOULD_WAIT)
            return code;
        if (np_now() > limit)
            return NP_WOULD_WAIT;
        np_pause();
    }
}

uint32_t np_poll_write_withdraw(struct np_handle *handle, struct np_poll_write *write)
{
    struct np_link *link = write->link;
    if (!link)
        return write->op.code == NP_OK ? NP_NO_DATA : write->op.code;
    pthread_mutex_lock(&handle->tx_lock);
    uint32_t code = withdraw(handle, link, &write->op);
    if (np_in_use(handle, link))
        pump(link); /* also the thresholds have changed */
    if (code == NP_WOULD_WAIT && write->op.done)
        code = NP_NO_DATA;
    if (code != NP_WOULD_WAIT)
        end_write(link, write, code == NP_NO_DATA ? NP_OK : code == NP_OK ? NP_OPERATION_ABORTED : code);
    pthread_mutex_unlock(&handle->tx_lock);
    if (code != NP_WOULD_WAIT)
        np_link_unref(link);
    return code;
}

uint32_t np_poll_write_leave(struct np_handle *handle, struct np_poll_write *write)
{
    struct np_link *link = write->link;
    if (!link)
        return write->op.code;
    pthread_mutex_lock(&handle->tx_lock);
    const struct np_op *op = &write->op;
    uint32_t code = op->done ? op->code : op->started && op->count == op->size ? NP_OK : NP_BROKEN_PIPE;
    end_write(link, write, code);
    pthread_mutex_unlock(&handle->tx_lock);
    np_link_unref(link);
    return code;
}

bool np_poll_all_put(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    bool all = true;
    if (link && !np_tx_all_put(link)) {
        pump(link);
        all = np_tx_all_put(link) || !np_link_quiet(link);
    }
    pthread_mutex_unlock(&handle->tx_lock);
    return all;
}

static void end_flush(struct np_link *link, struct np_poll_write *flush)
{
    np_tx_end_flush(link, &flush->op);
    flush->link = NULL;
}

uint32_t np_poll_flush_begin(struct np_handle *handle, struct np_poll_write *flush)
{
    memset(flush, 0, sizeof *flush);
    if (!(handle->access & NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    uint32_t code = link ? np_link_check(link) : np_code_without_link(handle);
    if (!link && code != NP_INVALID_HANDLE && handle->server)
        code = NP_OK; /* a server without a client has nothing unread (SEMANTICS 3.5) */
    else if (code == NP_BROKEN_PIPE)
        code = NP_OK; /* nobody is there to read: nothing is unread */
    else if (link && code == NP_OK) {
        code = np_tx_pump(link);
        np_tx_begin_flush(link, &flush->op);
        if (code == NP_OK && !np_tx_flushed(link, &flush->op)) {
            flush->link = link;
            np_link_ref(link);
            pump(link);
            code = NP_WOULD_WAIT;
        } else {
            np_tx_end_flush(link, &flush->op);
        }
    }
    pthread_mutex_unlock(&handle->tx_lock);
    return code;
}

uint32_t np_poll_flush_step(struct np_handle *handle, struct np_poll_write *flush)
{
    struct np_link *link = flush->link;
    if (!link)
        return NP_OK;
    pthread_mutex_lock(&handle->tx_lock);
    uint32_t code = np_in_use(handle, link) ? np_write_condition(link, true) : np_code_of_end(link);
    if (np_in_use(handle, link))
        pump(link);
    if (np_tx_flushed(link, &flush->op))
        code = NP_OK;
    else if (code == NP_OK)
        code = NP_WOULD_WAIT;
    if (code != NP_WOULD_WAIT)
        end_flush(link, flush);
    pthread_mutex_unlock(&handle->tx_lock);
    if (code != NP_WOULD_WAIT)
        np_link_unref(link);
    return code;
}

void np_poll_flush_leave(struct np_handle *handle, struct np_poll_write *flush)
{
    struct np_link *link = flush->link;
    if (!link)
        return;
    pthread_mutex_lock(&handle->tx_lock);
    end_flush(link, flush);
    pthread_mutex_unlock(&handle->tx_lock);
    np_link_unref(link);
}

uint32_t np_poll_transact_check(struct np_handle *handle)
{
    if ((handle->access & (NP_READ | NP_WRITE)) != (NP_READ | NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->rx_lock);
    uint32_t code = np_transact_check(handle);
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

/* ---- Connecting */

#define MOST_VANISHED 3 /* turns in which all owners hang up without a word before they count as none */

struct np_dial *np_dial_new(const struct np_where *where, enum npw_kind kind, const struct np_open_options *options)
{
    struct np_dial *dial = calloc(1, sizeof *dial);
    if (!dial)
        return NULL;
    dial->dirfd = dial->socket = dial->segment = -1;
    dial->root = strdup(where->root);
    dial->folder = strdup(where->folder);
    dial->access = options->access;
    dial->verify_owner = options->verify_owner;
    dial->flags = options->hold ? NPW_HOLD : 0;
    dial->request = (struct npw_request){
        .magic = NPW_MAGIC, .version = NPW_VERSION, .kind = kind, .access = options->access & (NP_READ | NP_WRITE)};
    if (!dial->root || !dial->folder || np_process_start() != NP_OK) {
        np_dial_free(dial);
        return NULL;
    }
    return dial;
}

static void close_descriptor(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void np_dial_free(struct np_dial *dial)
{
    close_descriptor(&dial->dirfd);
    close_descriptor(&dial->socket);
    close_descriptor(&dial->segment);
    free(dial->root);
    free(dial->folder);
    free(dial);
}

/* Puts the request to the next owner. NP_OK, NP_WOULD_WAIT: his backlog is full; NP_RETRY: he has gone; or an error. */
static uint32_t ask(struct np_dial *dial, bool *dead, char *why)
{
    dial->held = dial->told = false;
    int socket;
    do
        socket = np_socket_connect(dial->dirfd, dial->names[dial->next], np_now());
    while (socket == -EINTR);
    switch (socket) {
    case -ECONNREFUSED:
        *dead = true;
        return NP_RETRY;
    case -ENOENT:
        return NP_RETRY;
    case -EACCES:
    case -EPERM:
        np_say(why, "the pipe's access rule does not let this user in");
        return NP_ACCESS_DENIED;
    case -EAGAIN:
        return NP_WOULD_WAIT;
    case -EMFILE:
    case -ENFILE:
        return NP_TOO_MANY_OPEN_FILES;
    default:
        if (socket < 0) {
            np_say(why, "the pipe's socket cannot be reached: %s", strerror(-socket));
            return NP_NO_SYSTEM_RESOURCES;
        }
    }
    dial->socket = socket;
    if (!np_peer_credentials(socket, false, &dial->owner))
        return NP_NO_SYSTEM_RESOURCES;
    if (dial->verify_owner && dial->owner.uid != geteuid() && dial->owner.uid != 0) {
        np_say(why, "the pipe belongs to uid %u, not to you or root (verify_owner)", (unsigned)dial->owner.uid);
        return NP_ACCESS_DENIED;
    }
    dial->request.flags = dial->holding || dial->count == 1 ? dial->flags : 0;
    ssize_t sent = np_send_message(socket, &dial->request, sizeof dial->request, -1);
    return sent == (ssize_t)sizeof dial->request ? NP_OK : NP_RETRY;
}

static uint32_t take_answer(struct np_dial *dial, char *why)
{
    struct npw_answer *answer = &dial->answer;
    close_descriptor(&dial->segment);
    ssize_t got = np_receive_message(dial->socket, answer, sizeof *answer, &dial->segment, false);
    uint32_t code = np_answer_code(got, answer, why);
    if (code == NP_WOULD_WAIT)
        return code;
    if (code == NP_IO_PENDING && dial->held) {
        np_say(why, "the server's answers make no sense");
        return NP_INVALID_DATA; /* he could go on with that for ever */
    }
    dial->told = dial->told || code == NP_IO_PENDING || (got > 0 && code == NP_RETRY);
    dial->held = dial->held || code == NP_IO_PENDING;
    return code;
}

static uint32_t begin_turn(struct np_dial *dial, char *why)
{
    uint32_t code = np_folder_look(dial->root, dial->folder, &dial->dirfd, why);
    if (code != NP_OK) {
        dial->dirfd = -1;
        return code;
    }
    dial->count = np_folder_sockets(dial->dirfd, dial->names, NPF_SLOTS);
    dial->next = dial->dead = dial->busy = dial->gone = dial->told_by = 0;
    dial->holding = false;
    return NP_OK;
}

/* All owners have been asked, or one has gone away while he held the request. NP_RETRY: another turn. */
static uint32_t end_turn(struct np_dial *dial)
{
    close_descriptor(&dial->dirfd);
    if (dial->dead)
        np_folder_sweep(dial->root, dial->folder);
    if (dial->busy && !(dial->flags & NPW_HOLD))
        return NP_PIPE_BUSY;
    if (!dial->busy && !dial->gone)
        return NP_FILE_NOT_FOUND;
    dial->vanished = dial->told_by || dial->busy ? 0 : dial->vanished + 1;
    return dial->vanished < MOST_VANISHED ? NP_RETRY : NP_FILE_NOT_FOUND;
}

uint32_t np_dial_step(struct np_dial *dial, char *why)
{
    for (;;) {
        uint32_t code;
        bool dead = false;
        if (dial->socket >= 0) {
            code = take_answer(dial, why);
            if (code == NP_WOULD_WAIT)
                return NP_IO_PENDING;
            if (code == NP_IO_PENDING)
                continue; /* it is held: another answer follows */
        } else {
            code = dial->dirfd < 0 ? begin_turn(dial, why) : NP_OK;
            if (code != NP_OK)
                return code;
            if (dial->next == dial->count) {
                if (!dial->holding && dial->busy && dial->flags & NPW_HOLD) {
                    /* All are busy: any of them can hold the request, the others tell him when they listen. */
                    dial->holding = true;
                    dial->next = 0;
                    continue;
                }
                code = end_turn(dial);
                if (code != NP_RETRY)
                    return code;
                continue;
            }
            code = ask(dial, &dead, why);
            if (code == NP_WOULD_WAIT)
                return code;
            if (code == NP_OK)
                continue;
        }
        if (code == NP_OK)
            return code;
        close_descriptor(&dial->socket);
        close_descriptor(&dial->segment);
        dial->dead += dead;
        dial->gone += code == NP_RETRY && !dead;
        dial->told_by += code == NP_RETRY && dial->told;
        dial->busy += code == NP_PIPE_BUSY;
        if (code != NP_RETRY && code != NP_FILE_NOT_FOUND && (code != NP_PIPE_BUSY || dial->holding))
            return code;
        dial->next = dial->holding && code == NP_RETRY && !dead ? dial->count : dial->next + 1;
    }
}

uint32_t np_dial_handle(struct np_dial *dial, struct np_handle **result, char *why)
{
    if (dial->segment < 0 || dial->answer.reused) {
        np_say(why, "the server sent no segment");
        return NP_INVALID_DATA;
    }
    struct np_link *link;
    uint32_t code = np_link_accept(dial->segment, dial->socket, &link);
    if (code != NP_OK) {
        if (code == NP_INVALID_DATA)
            np_say(why, "the server's segment is not as it should be");
        return code;
    }
    dial->socket = -1; /* the link's from here on */
    struct np_handle *handle = np_handle_new();
    if (!handle) {
        np_link_unref(link);
        return NP_NOT_ENOUGH_MEMORY;
    }
    handle->root = dial->root;
    handle->folder = dial->folder;
    dial->root = dial->folder = NULL;
    link->peer_pid = dial->owner.pid;
    link->peer_uid = dial->owner.uid;
    atomic_store_explicit(&link->alert, NP_ALERT_UNWATCHED, memory_order_relaxed);
    handle->link = link;
    link->handle = handle;
    handle->state = NP_CONNECTED;
    handle->access = dial->access | NP_READ_ATTRIBUTES;
    handle->type = link->type;
    handle->direction = link->direction;
    handle->pipe_id = dial->answer.pipe_id;
    handle->max_instances = dial->answer.max_instances;
    memcpy(handle->quota, link->quota, sizeof handle->quota);
    handle->server_pid = link->server_pid;
    handle->client_pid = np_process.pid;
    handle->peer_uid = dial->owner.uid;
    pthread_mutex_lock(&np_process.lock);
    np_handle_register(handle);
    np_fresh_add(handle);
    pthread_mutex_unlock(&np_process.lock);
    *result = handle;
    return NP_OK;
}

/* ---- Accepting */

struct np_acceptor {
    pthread_mutex_t lock; /* for all of it */
    pthread_cond_t asked, done;
    uint32_t refs;
    int event;
    bool started, at_work, ends;
    struct np_handle *handle; /* held */
    char *root, *folder;
    uint32_t seen;
    _Atomic uint32_t cancel;
};

struct np_acceptor *np_acceptor_new(void)
{
    struct np_acceptor *acceptor = calloc(1, sizeof *acceptor);
    if (!acceptor)
        return NULL;
    acceptor->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (acceptor->event < 0) {
        free(acceptor);
        return NULL;
    }
    pthread_mutex_init(&acceptor->lock, NULL);
    pthread_cond_init(&acceptor->asked, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC); /* np_now's */
    pthread_cond_init(&acceptor->done, &clock);
    pthread_condattr_destroy(&clock);
    acceptor->refs = 1;
    return acceptor;
}

int np_acceptor_event(const struct np_acceptor *acceptor)
{
    return acceptor->event;
}

static void put_acceptor(struct np_acceptor *acceptor)
{
    bool last = --acceptor->refs == 0;
    pthread_mutex_unlock(&acceptor->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&acceptor->lock);
    pthread_cond_destroy(&acceptor->asked);
    pthread_cond_destroy(&acceptor->done);
    free(acceptor->root);
    free(acceptor->folder);
    free(acceptor);
}

static void *accepting_thread(void *argument)
{
    struct np_acceptor *acceptor = argument;
    const uint64_t one = 1;
    pthread_mutex_lock(&acceptor->lock);
    while (!acceptor->ends) {
        if (!acceptor->at_work) {
            pthread_cond_wait(&acceptor->asked, &acceptor->lock);
            continue;
        }
        struct np_handle *handle = acceptor->handle;
        const struct np_wait wait = {.deadline = NP_FOREVER, .cancel = &acceptor->cancel};
        const struct np_where where = {.root = acceptor->root, .folder = acceptor->folder, .display = ""};
        uint32_t seen = acceptor->seen;
        acceptor->handle = NULL;
        pthread_mutex_unlock(&acceptor->lock);
        if (handle) {
            np_connect(handle, &wait); /* how it ended is asked for again by who asked */
            np_free(handle);
        } else {
            np_wait_closed(&where, seen, &wait);
        }
        pthread_mutex_lock(&acceptor->lock);
        acceptor->at_work = false;
        pthread_cond_signal(&acceptor->done);
        if (acceptor->event >= 0 && write(acceptor->event, &one, sizeof one) < 0)
            break; /* cannot be: the counter is taken away each time */
    }
    put_acceptor(acceptor);
    return NULL;
}

/* With the lock held. */
static bool start_thread(struct np_acceptor *acceptor)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    /* Signals are for the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    acceptor->refs++;
    acceptor->started = pthread_create(&thread, &attributes, accepting_thread, acceptor) == 0;
    if (!acceptor->started)
        acceptor->refs--;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return acceptor->started;
}

bool np_acceptor_start(struct np_acceptor *acceptor, struct np_handle *handle, const struct np_where *where, uint32_t seen)
{
    pthread_mutex_lock(&acceptor->lock);
    bool may = !acceptor->at_work && !acceptor->ends;
    if (may && !acceptor->root) {
        acceptor->root = strdup(where->root);
        acceptor->folder = strdup(where->folder);
    }
    may = may && acceptor->root && acceptor->folder && (acceptor->started || start_thread(acceptor));
    if (may) {
        if (handle)
            np_hold(handle);
        acceptor->handle = handle;
        acceptor->seen = seen;
        acceptor->at_work = true;
        pthread_cond_signal(&acceptor->asked);
    }
    pthread_mutex_unlock(&acceptor->lock);
    return may;
}

bool np_acceptor_busy(struct np_acceptor *acceptor)
{
    uint64_t count;
    pthread_mutex_lock(&acceptor->lock);
    bool busy = acceptor->at_work;
    if (read(acceptor->event, &count, sizeof count) < 0)
        count = 0;
    pthread_mutex_unlock(&acceptor->lock);
    return busy;
}

#define END_PATIENCE_NS INT64_C(50000000)

void np_acceptor_free(struct np_acceptor *acceptor)
{
    pthread_mutex_lock(&acceptor->lock);
    acceptor->ends = true;
    atomic_store_explicit(&acceptor->cancel, 1, memory_order_seq_cst);
    close_descriptor(&acceptor->event);
    pthread_cond_signal(&acceptor->asked);
    if (acceptor->at_work) {
        /* It holds the pipe, and with it descriptors, which shall be gone when this returns: a wake-up's time. */
        pthread_mutex_unlock(&acceptor->lock);
        np_wake_closed(); /* an instance that is being waited for was closed before this */
        int64_t until = np_now() + END_PATIENCE_NS;
        const struct timespec limit = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
        pthread_mutex_lock(&acceptor->lock);
        while (acceptor->at_work && pthread_cond_timedwait(&acceptor->done, &acceptor->lock, &limit) == 0)
            continue;
    }
    put_acceptor(acceptor);
}
