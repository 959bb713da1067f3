#include "blocking/write.h"

#include "base/codes.h"
#include "base/platform.h"
#include "base/wait.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/segment.h"
#include "ring/tx.h"
#include "handle/handle.h"
#include "handle/step.h"
#include "overlapped/drive.h"
#include "overlapped/start.h"

struct write_awaited {
    const struct np_link *link;
    struct np_tx_counts counts;
    uint32_t seen; /* of the word that moves when another thread of this end has found what this one waits for */
};

static bool write_ready(const void *what)
{
    const struct write_awaited *awaited = what;
    return np_tx_moved_since(awaited->link, &awaited->counts) || !np_link_quiet(awaited->link) ||
           atomic_load_explicit(&awaited->link->sleep->seq, memory_order_relaxed) != awaited->seen;
}

/* A reader who has many entries before it is busy for a while: let it make room for more than one. */
#define MANY_ENTRIES 16
#define MOST_ENTRIES 1024
#define ENTRY_NS 20
static int64_t head_start(const struct np_link *link)
{
    uint64_t before_reader = link->tx.entries - link->tx.taken;
    return before_reader < MANY_ENTRIES
               ? 0
               : ENTRY_NS * (int64_t)(before_reader < MOST_ENTRIES ? before_reader : MOST_ENTRIES);
}

/* Waits until the consumer has moved. Called and returns with tx_lock held. */
static uint32_t wait_to_write(struct np_handle *handle, struct np_link *link, enum np_heed *heed,
                              const struct np_wait *wait)
{
    /* Read under the lock: what another thread finds out from here on moves it. */
    struct write_awaited awaited = {link, np_tx_counts(link),
                                    atomic_load_explicit(&link->sleep->seq, memory_order_acquire)};
    uint32_t code = NP_OK;
    int64_t behind = head_start(link);
    link->tx.sleepers++;
    np_unlock_moved(handle, &handle->tx_lock);
    np_handle_watch(handle, link);
    if (!np_spin_behind(&link->tx.spin, write_ready, &awaited, wait->deadline, behind, NP_SPIN_NS)) {
        struct np_wait limited;
        code = np_heed_begin(heed, wait, &limited);
        pthread_mutex_lock(&handle->tx_lock);
        if (code != NP_OK || np_forked(link)) {
            link->tx.sleepers--;
            return code;
        }
        np_tx_set_thresholds(link);
        np_tally_write_sleeps(&link->tally);
        /* Release: the thresholds come before the flag that makes the reader look at them. */
        atomic_fetch_or_explicit(&link->sleep->flags, NPL_SLEEP_WRITE, memory_order_release);
        pthread_mutex_unlock(&handle->tx_lock);
        /* Full fence, with its twin in the reader's commit. */
        atomic_thread_fence(memory_order_seq_cst);
        if (!write_ready(&awaited))
            code = np_sleep(&link->sleep->seq, awaited.seen, NPL_SLEEP_WRITE, &limited);
        code = np_heed_end(heed, code, wait, &limited);
        pthread_mutex_lock(&handle->tx_lock);
        np_tally_write_woke(&link->tally);
    } else {
        pthread_mutex_lock(&handle->tx_lock);
    }
    link->tx.sleepers--;
    return code;
}

uint32_t np_await_room(struct np_handle *handle, struct np_link *link, struct np_awaiting *awaiting,
                       const struct np_wait *wait)
{
    return np_restless(&awaiting->turns, wait_to_write(handle, link, &awaiting->heed, wait), wait);
}

/* A signal's handler has raised: nobody is there to be told what became of the call. A cancel is not that: 995 says
 * that the write was withdrawn (SEMANTICS 10.2), so one that comes when all is read changes nothing. */
static bool left_by_signal(uint32_t waited, const struct np_wait *wait)
{
    return waited == NP_INTERRUPTED && !np_cancelled(wait);
}

/* Whether another thread has closed this end while all of `op` stood in the ring, where the peer can read it. tx_lock
 * is held. */
static bool stays_readable(const struct np_handle *handle, const struct np_link *link, const struct np_op *op)
{
    return !np_in_use(handle, link) && op->started && op->count == op->size &&
           atomic_load_explicit(link->state, memory_order_acquire) == NPL_END_CLOSED;
}

/* Queues `op` and waits until it is complete. With tx_lock held. *count: see np_write. */
static uint32_t pend_write(struct np_handle *handle, struct np_link *link, struct np_op *op, uint32_t *count,
                           const struct np_wait *wait)
{
    enum np_heed heed = NP_HEED_ASK;
    uint32_t code = np_tx_submit(link, op), waited = NP_OK, turns = 0;
    np_link_ref(link);
    for (;;) {
        /* The condition before the ring: what the peer had read before it went is written. */
        uint32_t condition = np_in_use(handle, link) ? np_write_condition(link, true) : np_code_of_end(link);
        if (np_in_use(handle, link) && code == NP_OK && !op->done)
            code = np_tx_pump(link);
        if (op->done) {
            code = left_by_signal(waited, wait) ? waited : op->code;
            break;
        }
        if (code == NP_OK)
            code = condition;
        if (code != NP_OK) {
            if (left_by_signal(waited, wait))
                code = waited;
            break;
        }
        if (waited != NP_OK) {
            code = np_withdraw(handle, link, op);
            if (left_by_signal(waited, wait))
                code = waited; /* written or withdrawn: the caller is on its way out */
            else
                code = op->done ? op->code : code == NP_OK ? waited : code;
            if (code == NP_SEM_TIMEOUT)
                *count = op->delivered;
            break;
        }
        waited = np_restless(&turns, wait_to_write(handle, link, &heed, wait), wait);
    }
    if (code == NP_BROKEN_PIPE && stays_readable(handle, link, op))
        *count = op->size;
    if (op->queued)
        np_tx_forget(link, op);
    np_link_unref(link);
    return code;
}

/* In a stream the reader makes room all the time, so before a write is queued as pending, which costs both sides more,
 * it looks for that a moment; and for room for more than itself, so that not each has to. */
#define STREAM_NS 3000
#define FEW_ENTRIES 4

struct room_awaited {
    const struct np_link *link;
    uint64_t consumed;
};

static bool room_ready(const void *what)
{
    const struct room_awaited *awaited = what;
    uint64_t consumed = atomic_load_explicit(&awaited->link->tx.shared->consumer.consumed, memory_order_relaxed);
    return (int64_t)(consumed - awaited->consumed) >= 0 || !np_link_quiet(awaited->link);
}

/* Called and returns with tx_lock held. */
static uint32_t write_in_stream(struct np_handle *handle, struct np_link *link, struct np_source source, uint32_t size,
                                const struct np_wait *wait)
{
    struct np_tx *tx = &link->tx;
    if (tx->first || size > tx->quota / FEW_ENTRIES || tx->entries - tx->taken < FEW_ENTRIES)
        return NP_WOULD_WAIT;
    const struct room_awaited awaited = {link, tx->announced + size + tx->quota / FEW_ENTRIES - tx->quota};
    int64_t behind = head_start(link);
    np_link_ref(link);
    np_unlock_moved(handle, &handle->tx_lock);
    np_spin_behind(&tx->stream, room_ready, &awaited, wait->deadline, behind, STREAM_NS);
    pthread_mutex_lock(&handle->tx_lock);
    uint32_t code = np_in_use(handle, link) ? np_write_condition(link, false) : np_code_of_end(link);
    if (code == NP_OK)
        code = np_tx_write(link, source, size);
    np_link_unref(link);
    return code;
}

static uint32_t write_with(struct np_handle *handle, struct np_source source, uint32_t size, uint32_t *count,
                           const struct np_wait *wait)
{
    struct np_link *link = handle->link;
    if (!link)
        return np_code_without_link(handle);
    uint32_t code = np_write_condition(link, false);
    if (code != NP_OK)
        return code;
    if (size == 0 && link->type != NP_TYPE_MESSAGE)
        return NP_OK; /* no effect at all (SEMANTICS 5.2) */
    if (atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT && size)
        return np_tx_nowait(link, source, size, count);
    code = np_tx_write(link, source, size);
    if (code == NP_WOULD_WAIT && atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT)
        /* an empty message beyond what is kept of them: it must not wait, and was not written */
        return NP_NO_SYSTEM_RESOURCES;
    if (code == NP_WOULD_WAIT && wait->deadline != NP_TRY)
        code = write_in_stream(handle, link, source, size, wait);
    if (code == NP_WOULD_WAIT && wait->deadline != NP_TRY) {
        struct np_op op = {.in = source.data, .parts = {.part = source.parts}, .size = size};
        code = pend_write(handle, link, &op, count, wait);
    }
    if (code == NP_OK)
        *count = size;
    return code;
}

static uint32_t write_from(struct np_handle *handle, struct np_source source, uint32_t size, uint32_t *count,
                           const struct np_wait *wait)
{
    *count = 0;
    if (!(handle->access & NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->tx_lock);
    uint32_t code = write_with(handle, source, size, count, wait);
    bool detached = handle->link && np_tx_only_detached(handle->link);
    np_unlock_moved(handle, &handle->tx_lock);
    if (detached)
        np_async_arm_later(handle);
    return code;
}

uint32_t np_write(struct np_handle *handle, const void *data, uint32_t size, uint32_t *count,
                  const struct np_wait *wait)
{
    return write_from(handle, np_source_of(data), size, count, wait);
}

uint32_t np_write_parts(struct np_handle *handle, const struct iovec *parts, uint32_t size, uint32_t *count,
                        const struct np_wait *wait)
{
    return write_from(handle, (struct np_source){.parts = parts}, size, count, wait);
}

uint32_t np_flush(struct np_handle *handle, const struct np_wait *wait)
{
    if (!(handle->access & NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    uint32_t code = NP_OK, waited = NP_OK, turns = 0;
    enum np_heed heed = NP_HEED_ASK;
    struct np_op op = {0};
    if (!link) {
        code = np_code_without_link(handle);
        /* A server without a client has nothing unread (SEMANTICS 3.5). */
        pthread_mutex_unlock(&handle->tx_lock);
        return code == NP_INVALID_HANDLE || !handle->server ? code : NP_OK;
    }
    code = np_link_check(link);
    if (code == NP_OK)
        code = np_tx_pump(link);
    if (code == NP_BROKEN_PIPE)
        code = NP_OK; /* nobody is there to read: nothing is unread */
    else if (code == NP_OK) {
        np_link_ref(link);
        np_tx_begin_flush(link, &op);
        for (;;) {
            /* The condition before the ring: what was read before the peer went is flushed. */
            uint32_t condition = np_in_use(handle, link) ? np_write_condition(link, true) : np_code_of_end(link);
            code = np_in_use(handle, link) ? np_tx_pump(link) : condition;
            if (waited == NP_INTERRUPTED)
                code = waited;
            if (code != NP_OK || np_tx_flushed(link, &op))
                break;
            code = condition != NP_OK ? condition : waited;
            if (code == NP_OK && wait->deadline == NP_TRY)
                code = NP_WOULD_WAIT;
            if (code != NP_OK)
                break;
            waited = np_restless(&turns, wait_to_write(handle, link, &heed, wait), wait);
        }
        np_tx_end_flush(link, &op);
        np_link_unref(link);
    }
    np_unlock_moved(handle, &handle->tx_lock);
    return code;
}

uint32_t np_drain(struct np_handle *handle, const struct np_wait *wait)
{
    uint32_t code = NP_OK, waited = NP_OK, turns = 0;
    enum np_heed heed = NP_HEED_ASK;
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    if (link && !np_tx_may_close(link)) {
        np_link_ref(link);
        link->tx.awaiting_put++;
        code = np_tx_pump(link);
        while (code == NP_OK && !np_tx_may_close(link) && np_in_use(handle, link) && np_link_quiet(link)) {
            if (waited != NP_OK) {
                code = waited;
                break;
            }
            waited = np_restless(&turns, wait_to_write(handle, link, &heed, wait), wait);
            if (np_in_use(handle, link))
                code = np_tx_pump(link);
        }
        if (waited == NP_INTERRUPTED)
            code = waited; /* whatever has become of the writes: what a signal's handler has raised is set */
        link->tx.awaiting_put--;
        np_link_unref(link);
    }
    np_unlock_moved(handle, &handle->tx_lock);
    return code;
}

/* ---- Transactions */

uint32_t np_transact(struct np_handle *handle, const void *data, uint32_t size, const struct np_wait *wait,
                     uint32_t (*read_reply)(void *context, const struct np_wait *wait), void *context)
{
    if ((handle->access & (NP_READ | NP_WRITE)) != (NP_READ | NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->rx_lock);
    uint32_t code = np_transact_check(handle);
    pthread_mutex_unlock(&handle->rx_lock);
    if (code != NP_OK)
        return code;
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    if (!link || (code = np_write_condition(link, false)) != NP_OK) {
        pthread_mutex_unlock(&handle->tx_lock);
        return link && code != NP_NO_DATA ? code : NP_BAD_PIPE;
    }
    /* The request never waits for the quota (SEMANTICS 8.2): what is over it is queued as a pending write, which
     * the reply's arrival may find unfinished. */
    struct np_op op = {.in = data, .size = size};
    code = np_tx_try(link, np_source_of(data), size);
    bool pending = code == NP_WOULD_WAIT, sent = false;
    if (pending)
        code = np_tx_submit(link, &op);
    if (pending && code == NP_OK) {
        /* All of it has to be in the ring before the caller's buffer may be left alone. */
        enum np_heed heed = NP_HEED_ASK;
        uint32_t waited = NP_OK, turns = 0;
        np_link_ref(link);
        link->tx.awaiting_put++;
        while (code == NP_OK && !op.done && !(op.started && op.count == op.size)) {
            if (waited != NP_OK) {
                code = np_withdraw(handle, link, &op);
                sent = op.done || (code == NP_NO_DATA && np_in_use(handle, link));
                code = waited == NP_INTERRUPTED        ? waited
                       : op.done || code == NP_NO_DATA ? NP_OK
                       : code == NP_OK                 ? waited
                                                       : code;
                break;
            }
            waited = np_restless(&turns, wait_to_write(handle, link, &heed, wait), wait);
            uint32_t condition = np_in_use(handle, link) ? np_write_condition(link, true) : np_code_of_end(link);
            if (np_in_use(handle, link) && !op.done)
                code = np_tx_pump(link);
            if (code == NP_OK && !op.done)
                code = condition;
        }
        if (waited == NP_INTERRUPTED && code != waited) {
            /* The last part found its place, or the peer went, in the turn in which a signal's handler raised. */
            sent = code == NP_OK;
            code = waited;
        }
        if (op.queued)
            np_tx_forget(link, &op); /* complete as far as anybody is concerned: only the quota is exceeded */
        link->tx.awaiting_put--;
        /* A peer may answer before it has read all, and go: the answer came while this call waited for it. */
        if (np_in_use(handle, link) && (code == NP_BROKEN_PIPE || code == NP_PIPE_NOT_CONNECTED))
            code = NP_OK;
        np_link_unref(link);
    }
    np_unlock_moved(handle, &handle->tx_lock);
    if (code == NP_INTERRUPTED && sent)
        return read_reply(context, NULL);
    return code == NP_OK ? read_reply(context, wait) : code;
}
