#include "ring/tx.h"

#include <stdlib.h>
#include <string.h>

#include "base/codes.h"
#include "base/copy.h"
#include "base/platform.h"
#include "ring/idle.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/segment.h"
#include "ring/tap.h"

#define CHUNK 32768u /* a long entry is published in pieces, so that both sides copy at once */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void copy_in(struct np_tx *tx, const void *source, uint32_t size)
{
    uint64_t offset = (tx->tail - tx->begin) & (tx->capacity - 1);
    uint64_t until_end = tx->capacity - offset;
    uint32_t first = (uint32_t)least(size, until_end);
    np_copy_over(tx->ring + offset, source, first);
    if (first < size)
        np_copy_over(tx->ring, (const uint8_t *)source + first, size - first);
    tx->tail += size;
}

static void gather(struct np_tx *tx, struct np_parts *from, uint32_t size)
{
    while (size) {
        void *place;
        uint32_t piece = np_parts_next(from, size, &place);
        copy_in(tx, place, piece);
        size -= piece;
    }
}

static void copy_from(struct np_tx *tx, struct np_source source, uint32_t size)
{
    if (source.parts) {
        struct np_parts from = {.part = source.parts};
        gather(tx, &from, size);
    } else {
        copy_in(tx, source.data, size);
    }
}

/* Loads the consumer's announcements, each once, and checks them. */
static bool refresh(struct np_link *link)
{
    struct np_tx *tx = &link->tx;
    struct npl_consumer *consumer = &tx->shared->consumer;
    /* Acquire: pairs with the consumer's release, after which it no longer looks at the space. */
    uint64_t head = atomic_load_explicit(&consumer->head, memory_order_acquire);
    uint64_t taken = atomic_load_explicit(&consumer->taken, memory_order_acquire);
    uint64_t consumed = atomic_load_explicit(&consumer->consumed, memory_order_acquire);
    /* Against what stands in the ring, not what is announced: nobody can have read what was not put yet, and one who
     * says so would have us keep all that we write. Each counter is compared with our own truth alone, which says no
     * less than any tail that we have published, and is not taken back while an entry may be read; so in which order
     * they are loaded does not matter. */
    if (tx->tail - head > tx->capacity || (int64_t)(head - tx->head) < 0 || consumed > tx->announced - tx->outside ||
        consumed < tx->consumed || taken > tx->last_put || taken < tx->taken) {
        np_link_violated(link);
        return false;
    }
    tx->head = head;
    tx->taken = taken;
    tx->consumed = consumed;
    while (tx->n_outstanding) {
        struct np_outstanding *oldest = &tx->outstanding[tx->first_outstanding];
        /* Not by the head: a reader frees an entry's space before it is through with the entry's state. */
        if (!oldest->put || taken < oldest->number)
            break;
        tx->first_outstanding = (tx->first_outstanding + 1) % NPL_DEFERRED;
        tx->n_outstanding--;
    }
    return true;
}

static uint64_t free_space(const struct np_tx *tx)
{
    return tx->capacity - (tx->tail - tx->head);
}

/* Payload that counts against the quota: neither read nor promised to a pending read. */
static uint64_t unread(const struct np_tx *tx)
{
    return tx->announced - most(tx->consumed, tx->handed);
}

/* What the peer is told of. */
static uint64_t told(const struct np_tx *tx)
{
    return tx->announced - tx->hidden;
}

/* The header of an entry of `size` bytes, in the form that one of `room` bytes has. */
static uint32_t header_in(uint8_t *header, uint32_t size, uint32_t room)
{
    if (room < 128) {
        header[0] = (uint8_t)size;
        return 1;
    }
    if (room < 16384) {
        header[0] = (uint8_t)(NPL_TAG_MEDIUM | size >> 8);
        header[1] = (uint8_t)size;
        return 2;
    }
    header[0] = NPL_TAG_LONG;
    memcpy(header + 1, &size, sizeof size);
    return 5;
}

static uint32_t plain_header(uint8_t *header, uint32_t size)
{
    return header_in(header, size, size);
}

/* Publishes what was put. `announced` first: who sees the tail sees an announcement that covers it. */
static void publish(struct np_link *link)
{
    struct np_tx *tx = &link->tx;
    if (atomic_load_explicit(&link->rx.streak, memory_order_relaxed))
        atomic_store_explicit(&link->rx.streak, 0, memory_order_relaxed);
    if (tx->tail > tx->stir_at)
        np_idle_stir(link);
    atomic_store_explicit(&tx->shared->producer.announced, told(tx), memory_order_relaxed);
    /* Release: the entry's bytes come before the tail that covers them. */
    atomic_store_explicit(&tx->shared->producer.tail, tx->tail, memory_order_release);
    /* Full fence, with its twin in the reader's way to sleep: either we see its flag, or it sees our tail. */
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t flags = atomic_load_explicit(&link->peer_sleep->flags, memory_order_relaxed);
    if (flags & (NPL_SLEEP_READ | NPL_ARMED_READ))
        np_link_wake_sleeper(link, NPL_SLEEP_READ | NPL_ARMED_READ);
}

static void put_plain(struct np_link *link, struct np_source source, uint32_t size, uint64_t number)
{
    link->tx.last_put = number;
    uint8_t header[NPL_MAX_ENTRY_HEADER];
    uint32_t length = plain_header(header, size);
    copy_in(&link->tx, header, length);
    copy_from(&link->tx, source, size);
    if (np_is_tapped(link)) /* before the peer can answer: the records stand in the order of cause and effect */
        np_tap_moved(link, true, link->tx.tail - size, size, 0, size, 0);
    publish(link);
}

static bool fits_plain(const struct np_tx *tx, uint32_t size)
{
    uint8_t header[NPL_MAX_ENTRY_HEADER];
    return (uint64_t)plain_header(header, size) + size <= free_space(tx);
}

/* What pending reads of the peer make of the quota (SEMANTICS 0.3, 6.1): each takes what it asked for, or what is left
 * of an entry, and is over. They are played through only when a write finds no room without them, so a write that has
 * room does not look. */
struct credit {
    uint64_t handed; /* of the bytes that are not consumed: goes straight to reads that are pending */
    uint32_t given;  /* of a further write of `size` bytes */
    uint32_t empty;  /* reads of no bytes that such a write ends after the last that takes something of it */
};

static struct credit credit_of(struct np_link *link, uint32_t size)
{
    struct np_tx *tx = &link->tx;
    struct npl_posts *posts = &tx->shared->posts;
    struct credit credit = {0};
    if (!(atomic_load_explicit(&link->peer_sleep->flags, memory_order_relaxed) & NPL_POSTED))
        return credit;
    /* Acquire: with the number come the sizes. What is over was so before it was said, and what it took is consumed by
     * then. */
    uint32_t next = atomic_load_explicit(&posts->finished, memory_order_acquire);
    uint32_t posted = atomic_load_explicit(&posts->posted, memory_order_acquire);
    uint64_t waiting = tx->entries - tx->taken;
    if (posted - next == 0 || posted - next > NPL_POSTS || waiting > tx->n_recent || waiting > NP_RECENT)
        return credit; /* also a peer that advertises nonsense */
    for (uint64_t i = waiting; i > 0 && next != posted; i--) {
        const struct np_recent *entry = &tx->recent[(tx->next_recent - i) % NP_RECENT];
        uint64_t rest = entry->end > tx->consumed ? least(entry->size, entry->end - tx->consumed) : 0;
        do {
            uint32_t asked = atomic_load_explicit(&posts->size[next++ % NPL_POSTS], memory_order_relaxed);
            uint64_t piece = least(asked, rest);
            credit.handed += piece;
            rest -= piece;
        } while (rest && next != posted);
        if (rest)
            return credit;
    }
    bool first = true;
    for (; next != posted && (first || credit.given < size); next++, first = false) {
        uint32_t asked = atomic_load_explicit(&posts->size[next % NPL_POSTS], memory_order_relaxed);
        credit.given += (uint32_t)least(asked, size - credit.given);
        credit.empty = asked ? 0 : credit.empty + 1;
    }
    return credit;
}

static void announce(struct np_tx *tx, uint32_t size)
{
    tx->announced += size;
    tx->entries++;
    tx->recent[tx->next_recent++ % NP_RECENT] = (struct np_recent){.end = tx->announced, .size = size};
    if (tx->n_recent < NP_RECENT)
        tx->n_recent++;
}

static void count_rewind(struct np_tx *tx)
{
    /* Release: who sees the count sees the tail, or the state, or the beginning, that it is about. */
    atomic_store_explicit(&tx->shared->takebacks.rewinds, ++tx->rewinds, memory_order_release);
}

/* Nothing stands in the ring, the consumer is through with all that ever did, and nothing is on its way into it: as
 * long as the lock is held, nobody reads from the ring. As of the last refresh. */
static bool is_empty(const struct np_tx *tx)
{
    return tx->head == tx->tail && tx->taken == tx->entries && tx->consumed == tx->announced &&
           tx->n_outstanding == 0 && !tx->first;
}

/* The next entry stands at the ring's offset 0. Of an empty ring. */
static void begin_anew(struct np_tx *tx)
{
    if (tx->begin == tx->tail)
        return;
    tx->begin = tx->tail;
    /* Relaxed: the count that follows is a release. */
    atomic_store_explicit(&tx->shared->takebacks.begin, tx->begin, memory_order_relaxed);
    count_rewind(tx);
    /* As for a tail that has gone back: the bytes that are written from here on come after the count. Who sees the next
     * tail sees the count, and looks for the beginning before it believes a byte. */
    atomic_thread_fence(memory_order_release);
    if (tx->stir_at != UINT64_MAX)
        tx->stir_at = tx->begin + NP_WARM;
}

/* A connection that trickles uses the first pages of its ring over and over, so that the others can be given back. One
 * that is fast does not: bytes go from core to core faster when a line is not used again right after it was read
 * (docs/performance.md). */
static bool look_for_beginning(struct np_link *link)
{
    struct np_tx *tx = &link->tx;
    int64_t now = np_now();
    bool slow = now - tx->looked > (int64_t)(tx->tail - tx->looked_at) * np_trickle_ns;
    if (slow) {
        if (!refresh(link))
            return false;
        if (is_empty(tx))
            begin_anew(tx);
    }
    tx->looked = now;
    tx->looked_at = tx->tail;
    tx->look_at = tx->tail + (slow ? NP_ANEW : tx->capacity);
    return true;
}

bool np_tx_give_back(struct np_link *link, bool is_idle)
{
    struct np_tx *tx = &link->tx;
    if (tx->stir_at != UINT64_MAX)
        return true;
    if (tx->first) /* who moves these on compares with what was refreshed; and what is reserved is just being written */
        return false;
    if (link->unshared[link->side == NPL_SERVER ? NPL_OUTBOUND : NPL_INBOUND])
        return true; /* memory of this process's own */
    if (!np_link_quiet(link) || !refresh(link))
        return true; /* it is about to end */
    if (is_idle && is_empty(tx))
        begin_anew(tx);
    /* Only this side writes into the ring, and it does not while the lock is held; what the consumer has not read, and
     * what is written from now on, stands in the part that stays. */
    uint64_t head = tx->head - tx->begin, tail = tx->tail - tx->begin;
    if (head > tail || tail > NP_WARM)
        return false;
    np_segment_discard(tx->ring + NP_WARM, tx->capacity - NP_WARM);
    tx->stir_at = tx->begin + NP_WARM;
    return true;
}

/* The numbers of entries move: what is remembered of them does not fit any more. */
static void forget_recent(struct np_tx *tx)
{
    tx->n_recent = 0;
}

/* A write that belongs to the engine: whoever made it is told that it is done, and it comes into the ring when there is
 * room. */
struct detached {
    struct np_op op;
    uint8_t data[];
};
#define MOST_DETACHED 65536u /* bytes: what does not fit into the ring though it is within the quota is short */

/* What a link keeps of such writes at most, in bytes of memory; the next one waits for its place. */
#define MOST_KEPT (UINT64_C(1) << 20)
#define KEPT_BESIDE 128u /* the least that one takes beside its data, with what the allocator adds */
_Static_assert(sizeof(struct detached) <= KEPT_BESIDE, "the bound counts less than there is");

static uint64_t kept_by(uint32_t size)
{
    return (uint64_t)size + KEPT_BESIDE;
}

void np_detached_done(struct np_op *op)
{
    free(op);
}

uint32_t np_tx_detach(struct np_link *link, struct np_source source, uint32_t size)
{
    struct detached *detached = malloc(sizeof *detached + size);
    if (!detached)
        return NP_NOT_ENOUGH_MEMORY;
    memset(&detached->op, 0, sizeof detached->op);
    np_source_copy(detached->data, source, size);
    detached->op.in = detached->data;
    detached->op.size = size;
    detached->op.completed = np_detached_done;
    uint32_t code = np_tx_submit(link, &detached->op);
    if (code != NP_OK && !detached->op.queued)
        free(detached); /* the link is broken; else it is the queue's, which frees it */
    return code;
}

bool np_tx_may_detach(const struct np_link *link, uint32_t size)
{
    return link->tx.kept == 0 || link->tx.kept + kept_by(size) <= MOST_KEPT;
}

bool np_tx_only_detached(const struct np_link *link)
{
    return link->tx.first && !link->tx.attached;
}

/* Whether all of it stands in the ring. */
static bool is_put(const struct np_op *op)
{
    return op->started && op->count == op->size;
}

/* Whether the ring's end is where the next entry belongs. */
static bool in_turn(const struct np_tx *tx)
{
    return !tx->first || is_put(tx->last);
}

static uint32_t try(struct np_link *link, struct np_source source, uint32_t size, bool may_detach)
{
    struct np_tx *tx = &link->tx;
    if (tx->most && (size == 0 || size > tx->most))
        return NP_INVALID_PARAMETER; /* what carries it on could not deliver it */
    /* Behind what somebody waits for. An empty message waits for nothing (SEMANTICS 6.1), but for a reservation: the
     * end of the pipe may come first, and what is detached is sent for its caller. */
    if (tx->attached && (size || tx->hidden))
        return NP_WOULD_WAIT;
    if (tx->tail >= tx->look_at && !look_for_beginning(link))
        return NP_INVALID_DATA;
    if (!in_turn(tx) || unread(tx) + size > tx->quota || !fits_plain(tx, size)) {
        uint32_t code = in_turn(tx) ? NP_OK : np_tx_pump(link);
        if (code != NP_OK || !refresh(link))
            return NP_INVALID_DATA;
        bool within = size == 0 || unread(tx) + size <= tx->quota;
        if (!within) {
            struct credit credit = credit_of(link, size);
            if (tx->announced - tx->consumed - credit.handed + size - credit.given > tx->quota)
                return NP_WOULD_WAIT;
        }
        if (!in_turn(tx) || !fits_plain(tx, size)) {
            /* What pending reads take may be more than the ring holds, and streams through it. */
            bool short_of_place = size == 0 || (within && np_tx_only_detached(link) && size <= MOST_DETACHED);
            return may_detach && short_of_place && np_tx_may_detach(link, size) ? np_tx_detach(link, source, size)
                                                                                : NP_WOULD_WAIT;
        }
    }
    announce(tx, size);
    put_plain(link, source, size, tx->entries);
    return NP_OK;
}

uint32_t np_tx_try(struct np_link *link, struct np_source source, uint32_t size)
{
    return try(link, source, size, false);
}

uint32_t np_tx_write(struct np_link *link, struct np_source source, uint32_t size)
{
    return try(link, source, size, true);
}

uint32_t np_tx_nowait(struct np_link *link, struct np_source source, uint32_t size, uint32_t *written)
{
    *written = 0;
    uint32_t code = np_tx_try(link, source, size);
    if (code == NP_OK)
        *written = size;
    if (code != NP_WOULD_WAIT)
        return code;
    /* A byte pipe gives pending reads what they asked for; a message is all or nothing. */
    if (link->tx.first || link->type == NP_TYPE_MESSAGE)
        return NP_OK;
    struct credit credit = credit_of(link, size);
    if (credit.given) {
        code = np_tx_try(link, source, credit.given);
        if (code == NP_OK)
            *written = credit.given;
    }
    /* Those that asked for nothing get it of the rest. An empty entry tells each of them, and nobody else
     * (np_rx_settle). */
    for (uint32_t i = 0; i < credit.empty && code != NP_INVALID_DATA; i++)
        code = np_tx_try(link, source, 0);
    return code == NP_WOULD_WAIT ? NP_OK : code;
}

#define SEQUENCES (UINT32_MAX >> 3) /* a mask */

/* Whether the next deferred entry's slot is free. Their number does not tell: those that were taken back have used up
 * sequence numbers, though they are not outstanding any more. */
static bool room_outstanding(const struct np_tx *tx)
{
    const struct np_outstanding *oldest = &tx->outstanding[tx->first_outstanding];
    return tx->n_outstanding == 0 || ((tx->next_sequence - oldest->sequence) & SEQUENCES) < NPL_DEFERRED;
}

static struct np_outstanding *newest_outstanding(struct np_tx *tx)
{
    return &tx->outstanding[(tx->first_outstanding + tx->n_outstanding - 1) % NPL_DEFERRED];
}

static void put_deferred_header(struct np_tx *tx, struct np_op *op)
{
    uint32_t sequence = tx->next_sequence;
    uint8_t slot = (uint8_t)(sequence % NPL_DEFERRED);
    uint8_t header[NPL_MAX_ENTRY_HEADER] = {NPL_TAG_DEFERRED, slot};
    memcpy(header + 2, &op->size, sizeof op->size);
    tx->next_sequence = (sequence + 1) & SEQUENCES;
    /* Published with the header by the release of the tail. */
    atomic_store_explicit(&tx->shared->deferred.state[slot], sequence << 3 | NPL_ENTRY_LIVE, memory_order_relaxed);
    copy_in(tx, header, sizeof header);
    tx->last_put = op->number;
    op->sequence = sequence;
    op->deferred = op->started = true;
    tx->n_outstanding++;
    *newest_outstanding(tx) = (struct np_outstanding){
        .number = op->number, .begin = tx->tail - sizeof header, .sequence = sequence};
}

static struct np_source source_of(const struct np_op *op)
{
    return (struct np_source){.data = op->in, .parts = op->parts.part};
}

/* Puts as much of `op` into the ring as there is room for. Whether it is all there. */
static bool put(struct np_link *link, struct np_op *op)
{
    struct np_tx *tx = &link->tx;
    if (op->hole) { /* from here on nobody else's bytes come into the ring */
        if (!op->started)
            op->started = op->end <= most(tx->consumed, tx->handed) + tx->quota && fits_plain(tx, op->size);
        return false;
    }
    if (!op->started) {
        bool complete = op->end - most(tx->consumed, tx->handed) <= tx->quota || op->size == 0;
        if (complete && fits_plain(tx, op->size)) {
            op->started = true;
            op->count = op->size;
            tx->outside -= op->size;
            put_plain(link, source_of(op), op->size, op->number);
            return true;
        }
        if (op->size == 0 || !room_outstanding(tx) || free_space(tx) < NPL_MAX_ENTRY_HEADER + 1)
            return false;
        put_deferred_header(tx, op);
    }
    while (op->count < op->size) {
        uint32_t piece = (uint32_t)least(least(op->size - op->count, CHUNK), free_space(tx));
        if (piece == 0)
            return false;
        if (op->parts.part)
            gather(tx, &op->parts, piece);
        else
            copy_in(tx, op->in + op->count, piece);
        if (np_is_tapped(link))
            np_tap_moved(link, true, tx->tail - piece, piece, op->count, op->size, op->sequence + 1);
        op->count += piece;
        tx->outside -= piece;
        if (op->count == op->size) {
            newest_outstanding(tx)->put = true;
        }
        publish(link);
    }
    return true;
}

static void dequeue(struct np_tx *tx, struct np_op *op)
{
    if (op->queued && op->completed == np_detached_done)
        tx->kept -= kept_by(op->size);
    else if (op->queued)
        tx->attached--;
    np_queue_remove(&tx->first, &tx->last, op);
}

uint32_t np_tx_pump(struct np_link *link)
{
    struct np_tx *tx = &link->tx;
    uint64_t taken = tx->taken;
    if (!refresh(link))
        return NP_INVALID_DATA;
    bool more_put = false, has_place = false;
    for (struct np_op *op = tx->first; op; op = op->next) {
        bool was_put = is_put(op), was_started = op->started;
        if (!put(link, op)) {
            has_place = op->hole && op->started && !was_started;
            break;
        }
        more_put = more_put || !was_put;
    }
    bool news = (tx->flushes && tx->taken != taken) || (tx->awaiting_put && more_put) || has_place;
    while (tx->first) {
        struct np_op *op = tx->first;
        bool complete = op->started && op->count == op->size &&
                        (op->size == 0 || op->end - most(tx->consumed, tx->handed) <= tx->quota ||
                         op->end <= most(tx->consumed, tx->handed));
        if (!complete)
            break;
        op->done = true;
        op->code = NP_OK;
        news = true;
        dequeue(tx, op);
        if (op->completed)
            op->completed(op);
    }
    /* Another thread of this end may be the one that waited for this. */
    if (news && tx->sleepers)
        np_link_wake_own(link);
    return NP_OK;
}

uint32_t np_tx_submit(struct np_link *link, struct np_op *op)
{
    struct np_tx *tx = &link->tx;
    if (!refresh(link))
        return NP_INVALID_DATA;
    struct credit credit = credit_of(link, op->size);
    announce(tx, op->size);
    tx->outside += op->size;
    tx->handed = most(tx->handed, tx->consumed + credit.handed + credit.given);
    op->end = tx->announced;
    op->number = tx->entries;
    np_queue_append(&tx->first, &tx->last, op);
    if (op->completed == np_detached_done)
        tx->kept += kept_by(op->size);
    else
        tx->attached++;
    uint32_t code = np_tx_pump(link);
    /* Also what has no room in the ring yet is queued for the reader. */
    atomic_store_explicit(&tx->shared->producer.announced, told(tx), memory_order_release);
    return code;
}

bool np_tx_all_put(const struct np_link *link)
{
    /* What is only reserved is no write yet, and what stands behind it cannot be put before its end. */
    for (const struct np_op *op = link->tx.first; op && !op->hole; op = op->next)
        if (!is_put(op))
            return false;
    return true;
}

bool np_tx_may_close(const struct np_link *link)
{
    if (!np_tx_all_put(link))
        return false;
    /* The reader has begun with it: then it is about to be complete. */
    for (const struct np_op *op = link->tx.first; op && !op->hole; op = op->next) {
        uint32_t live = op->sequence << 3 | NPL_ENTRY_LIVE;
        if (op->deferred && atomic_load_explicit(&link->tx.shared->deferred.state[op->sequence % NPL_DEFERRED],
                                                 memory_order_acquire) != live)
            return false;
    }
    return true;
}

struct np_tx_counts np_tx_counts(const struct np_link *link)
{
    return (struct np_tx_counts){link->tx.head, link->tx.consumed, link->tx.taken};
}

bool np_tx_moved_since(const struct np_link *link, const struct np_tx_counts *counts)
{
    struct npl_consumer *consumer = &link->tx.shared->consumer;
    return atomic_load_explicit(&consumer->head, memory_order_acquire) != counts->head ||
           atomic_load_explicit(&consumer->consumed, memory_order_acquire) != counts->consumed ||
           atomic_load_explicit(&consumer->taken, memory_order_acquire) != counts->taken;
}

bool np_tx_moved(const struct np_link *link)
{
    const struct np_tx_counts counts = np_tx_counts(link);
    return np_tx_moved_since(link, &counts);
}

static void take_back(struct np_link *link, struct np_op *op, uint64_t rest)
{
    struct np_tx *tx = &link->tx;
    forget_recent(tx);
    tx->announced -= rest;
    tx->outside -= op->size - op->count; /* the rest of it never will be in the ring */
    for (struct np_op *later = op->next; later; later = later->next)
        later->end -= rest;
    if (tx->handed > op->end - op->size)
        tx->handed = least(tx->handed, tx->announced); /* what was promised of it is not there any more */
    atomic_store_explicit(&tx->shared->producer.announced, told(tx), memory_order_release);
}

/* Entry `number` is as if it had never been: the numbers behind it move up. */
static void unnumber(struct np_tx *tx, uint64_t number)
{
    tx->entries--;
    for (struct np_op *op = tx->first; op; op = op->next)
        if (op->number > number)
            op->number--;
    for (struct np_op *flush = tx->flushes; flush; flush = flush->next)
        if (flush->number >= number)
            flush->number--;
}

static struct np_outstanding *find_outstanding(struct np_tx *tx, uint64_t number)
{
    for (uint32_t i = 0; i < tx->n_outstanding; i++) {
        struct np_outstanding *item = &tx->outstanding[(tx->first_outstanding + i) % NPL_DEFERRED];
        if (item->number == number)
            return item;
    }
    return NULL;
}

/* Takes back what stands in the ring from `position` on: the tail first, then the count, then perhaps other bytes. A
 * consumer that has read any of those sees the count move, and looks again (ring/rx.c). */
static void rewind_to(struct np_tx *tx, uint64_t position)
{
    if (tx->tail == position)
        return;
    tx->tail = position;
    atomic_store_explicit(&tx->shared->producer.tail, position, memory_order_release);
    count_rewind(tx);
    /* The bytes that are written from here on come after the count. */
    atomic_thread_fence(memory_order_release);
}

/* Release: the state says that the tail is where it belongs. */
static void moved(struct np_tx *tx, uint32_t sequence, enum npl_entry_state state)
{
    atomic_store_explicit(&tx->shared->deferred.state[sequence % NPL_DEFERRED], sequence << 3 | (uint32_t)state,
                          memory_order_release);
    count_rewind(tx); /* who has found it moving and is about to sleep looks once more */
}

/* Entries that were withdrawn while others stood behind them, and are the last ones now. */
static void rewind_withdrawn(struct np_link *link)
{
    struct np_tx *tx = &link->tx;
    while (tx->n_outstanding) {
        struct np_outstanding *last = newest_outstanding(tx);
        if (!last->withdrawn || last->number != tx->last_put || tx->head > last->begin)
            return;
        uint32_t word = last->sequence << 3 | NPL_ENTRY_WITHDRAWN;
        /* Unless the consumer has skipped it meanwhile. Acquire/release as for a withdrawal. */
        if (!atomic_compare_exchange_strong_explicit(&tx->shared->deferred.state[last->sequence % NPL_DEFERRED], &word,
                                                     last->sequence << 3 | NPL_ENTRY_MOVING, memory_order_acq_rel,
                                                     memory_order_acquire))
            return;
        rewind_to(tx, last->begin);
        moved(tx, last->sequence, NPL_ENTRY_REWOUND);
        tx->n_outstanding--;
        tx->last_put--;
        unnumber(tx, last->number);
        link->tally.tx_void--; /* it is not counted as an entry any more */
    }
}

/* A reader that moves byte by byte, or as fast as this end writes, does not hold its writer for longer than it takes to
 * store the thresholds so often, or to write so many bytes. */
#define MOST_RENEWALS 1000
#define MOST_MOVED (UINT64_C(4) << 20)

/* The thresholds are stored: from here on the reader's commits wake this end. */
static void await_reader(struct np_link *link, uint32_t flags)
{
    /* Release: the thresholds come before the flag that makes the reader look at them. Without one of ours, those who
     * sleep have set theirs. */
    if (flags)
        atomic_fetch_or_explicit(&link->sleep->flags, flags, memory_order_release);
    /* Full fence, with its twin in the reader's commit: either it sees the flag and the thresholds, or we see what it
     * has taken. */
    atomic_thread_fence(memory_order_seq_cst);
}

uint32_t np_tx_renew(struct np_link *link, uint32_t flags)
{
    struct np_tx *tx = &link->tx;
    const uint64_t tail = tx->tail;
    for (uint32_t turns = 0; turns < MOST_RENEWALS && tx->tail - tail < MOST_MOVED; turns++) {
        uint32_t code = np_tx_pump(link);
        if (code != NP_OK || (!tx->first && !tx->flushes) || !np_link_quiet(link))
            return code;
        np_tx_set_thresholds(link);
        await_reader(link, flags);
        if (!np_tx_moved(link))
            return NP_OK;
    }
    /* The reader is always ahead: its next commit wakes us whatever it has taken, and what came before, the pump
     * finds. Relaxed, and the fence: as for the thresholds above. */
    atomic_store_explicit(&link->sleep->wake_head, 0, memory_order_relaxed);
    atomic_store_explicit(&link->sleep->wake_consumed, 0, memory_order_relaxed);
    atomic_store_explicit(&link->sleep->wake_taken, 0, memory_order_relaxed);
    await_reader(link, flags);
    return np_tx_pump(link);
}

/* Something was taken back, so what others wait for comes sooner: whoever sleeps for it does so with thresholds that
 * may never be reached. What the reader has done before it could see the new ones, the pump finds. */
static uint32_t renew_thresholds(struct np_link *link)
{
    /* Whoever has waited for nothing else is over: a flush, a close that waits until all is put, a transaction whose
     * request has its place now. */
    if (link->tx.sleepers)
        np_link_wake_own(link);
    return np_tx_renew(link, 0);
}

uint32_t np_tx_withdraw(struct np_link *link, struct np_op *op)
{
    struct np_tx *tx = &link->tx;
    uint32_t code = np_tx_pump(link);
    if (code != NP_OK)
        return code;
    if (op->done)
        return NP_NO_DATA;
    if (op->hole) {
        if (op->started && tx->tail + NPL_MAX_ENTRY_HEADER + op->size > tx->stir_at)
            np_idle_stir(link); /* it may have been written all the same */
        tx->hidden -= op->size;
        take_back(link, op, op->size);
        unnumber(tx, op->number);
        dequeue(tx, op);
        return renew_thresholds(link); /* what was behind it has room now */
    }
    if (!op->started) {
        take_back(link, op, op->size);
        unnumber(tx, op->number);
        dequeue(tx, op);
        count_rewind(tx); /* a reader that is about to sleep until this comes looks once more, */
        np_link_wake_peer(link); /* and one that sleeps, too */
        return renew_thresholds(link);
    }
    if (!op->deferred)
        return NP_NO_DATA; /* a plain entry is complete once it is in the ring: the next pump says so */
    uint32_t slot = op->sequence % NPL_DEFERRED;
    _Atomic uint32_t *state = &tx->shared->deferred.state[slot];
    uint32_t word = atomic_load_explicit(state, memory_order_acquire);
    uint32_t kind = word & 7;
    if (word >> 3 != op->sequence) {
        np_link_violated(link);
        return NP_INVALID_DATA;
    }
    if (kind == NPL_ENTRY_BUSY || kind == NPL_ENTRY_DONE)
        return NP_WOULD_WAIT; /* DONE: its counters are a moment away */
    if (kind != NPL_ENTRY_LIVE && kind != NPL_ENTRY_PARTIAL)
        return NP_WOULD_WAIT;
    /* The last entry in the ring gives its space back: nothing has to wait for a reader to come by. */
    struct np_outstanding *own = find_outstanding(tx, op->number);
    bool last = own && own->number == tx->last_put;
    bool whole = last && kind == NPL_ENTRY_LIVE;
    atomic_store_explicit(&tx->shared->deferred.put[slot], op->count, memory_order_relaxed);
    /* Acquire: with the state that the consumer has let go of comes what it has announced before. */
    if (!atomic_compare_exchange_strong_explicit(state, &word, op->sequence << 3 | NPL_ENTRY_MOVING,
                                                 memory_order_acq_rel, memory_order_acquire))
        return NP_WOULD_WAIT;
    /* From here on nobody reads from it, nor goes on to what is behind it: the counters hold still. (If it was marked
     * as withdrawn at once, the consumer could be beyond it by now, and what it has read there would count as read of
     * this one.) */
    if (!refresh(link))
        return NP_INVALID_DATA;
    uint64_t begin = op->end - op->size;
    uint64_t delivered = tx->consumed > begin ? tx->consumed - begin : 0;
    if (delivered > op->size) {
        np_link_violated(link);
        return NP_INVALID_DATA;
    }
    op->delivered = (uint32_t)delivered;
    if (np_is_tapped(link))
        np_tap_withdrawn(link, true, op->delivered, op->size, op->sequence + 1, NP_OPERATION_ABORTED);
    own = find_outstanding(tx, op->number);
    if (whole && (!own || tx->head > own->begin)) {
        np_link_violated(link); /* the consumer says that it has taken what it had not begun */
        return NP_INVALID_DATA;
    }
    take_back(link, op, op->size - delivered);
    if (own)
        own->put = own->withdrawn = true;
    if (whole) {
        rewind_to(tx, own->begin);
        moved(tx, op->sequence, NPL_ENTRY_REWOUND);
        unnumber(tx, op->number);
        tx->n_outstanding--;
        tx->last_put--;
        rewind_withdrawn(link);
    } else if (last) { /* begun: the tail goes back to the head */
        link->tally.tx_void++;
        rewind_to(tx, tx->head);
        moved(tx, op->sequence, NPL_ENTRY_CUT);
    } else {
        link->tally.tx_void++;
        moved(tx, op->sequence, NPL_ENTRY_WITHDRAWN); /* its release comes after `put`, too */
    }
    dequeue(tx, op);
    np_link_wake_peer(link); /* a reader may wait for the rest of it */
    return renew_thresholds(link); /* what was behind it has room now */
}

void np_tx_forget(struct np_link *link, struct np_op *op)
{
    dequeue(&link->tx, op);
}

bool np_tx_may_reserve(const struct np_link *link, uint32_t size)
{
    if (link->tx.most && size > link->tx.most)
        return false; /* what carries it on could not deliver it */
    return size > 0 && size <= link->tx.quota && (uint64_t)size + NPL_MAX_ENTRY_HEADER <= link->tx.capacity;
}

static void queue_hole(struct np_tx *tx, struct np_op *op)
{
    announce(tx, op->size);
    tx->outside += op->size;
    tx->hidden += op->size;
    op->hole = true;
    op->end = tx->announced;
    op->number = tx->entries;
    np_queue_append(&tx->first, &tx->last, op);
    tx->attached++;
}

uint32_t np_tx_reserve_now(struct np_link *link, struct np_op *op)
{
    struct np_tx *tx = &link->tx;
    if (tx->tail >= tx->look_at && !look_for_beginning(link))
        return NP_INVALID_DATA;
    if (tx->first || unread(tx) + op->size > tx->quota || !fits_plain(tx, op->size)) {
        if (np_tx_pump(link) != NP_OK)
            return NP_INVALID_DATA;
        if (tx->attached || !in_turn(tx) || unread(tx) + op->size > tx->quota || !fits_plain(tx, op->size))
            return NP_WOULD_WAIT;
    }
    queue_hole(tx, op);
    op->started = true;
    return NP_OK;
}

uint32_t np_tx_reserve(struct np_link *link, struct np_op *op)
{
    queue_hole(&link->tx, op);
    return np_tx_pump(link);
}

uint64_t np_tx_reserved(const struct np_link *link, const struct np_op *op)
{
    uint8_t header[NPL_MAX_ENTRY_HEADER];
    return link->tx.tail - link->tx.begin + plain_header(header, op->size);
}

uint32_t np_tx_commit(struct np_link *link, struct np_op *op, uint32_t size)
{
    struct np_tx *tx = &link->tx;
    uint8_t header[NPL_MAX_ENTRY_HEADER];
    uint32_t length = header_in(header, size, op->size);
    tx->hidden -= op->size;
    op->count = size;
    if (size < op->size)
        take_back(link, op, op->size - size);
    tx->outside -= size;
    tx->last_put = op->number;
    copy_in(tx, header, length);
    tx->tail += size; /* its bytes stand there already */
    if (np_is_tapped(link))
        np_tap_moved(link, true, tx->tail - size, size, 0, size, 0);
    publish(link);
    dequeue(tx, op);
    op->done = true;
    op->code = NP_OK;
    return tx->first || tx->flushes || tx->sleepers ? renew_thresholds(link) : NP_OK;
}

void np_tx_begin_flush(struct np_link *link, struct np_op *op)
{
    op->number = link->tx.entries;
    /* What is only reserved is not written before it. */
    for (const struct np_op *write = link->tx.first; write; write = write->next)
        if (write->hole) {
            op->number = write->number - 1;
            break;
        }
    op->next = link->tx.flushes;
    link->tx.flushes = op;
}

bool np_tx_flushed(struct np_link *link, const struct np_op *op)
{
    struct np_tx *tx = &link->tx;
    if (tx->taken >= op->number)
        return true;
    /* Withdrawn entries stand in the ring until the reader comes by, but nobody waits for them. */
    uint64_t withdrawn = 0;
    for (uint32_t i = 0; i < tx->n_outstanding; i++) {
        struct np_outstanding *item = &tx->outstanding[(tx->first_outstanding + i) % NPL_DEFERRED];
        withdrawn += item->withdrawn && item->number > tx->taken && item->number <= op->number;
    }
    return tx->taken + withdrawn >= op->number;
}

void np_tx_end_flush(struct np_link *link, struct np_op *op)
{
    for (struct np_op **place = &link->tx.flushes; *place; place = &(*place)->next)
        if (*place == op) {
            *place = op->next;
            return;
        }
}

void np_tx_set_thresholds(struct np_link *link)
{
    struct np_tx *tx = &link->tx;
    uint64_t head = UINT64_MAX, consumed = UINT64_MAX, taken = UINT64_MAX;
    for (struct np_op *op = tx->first; op; op = op->next) {
        if (is_put(op))
            continue;
        if (op->hole) { /* all of it or nothing; once it has its place, the reader changes nothing */
            uint64_t end = tx->tail + op->size + NPL_MAX_ENTRY_HEADER;
            head = op->started ? UINT64_MAX : end > tx->capacity ? end - tx->capacity : 0;
        } else if (!op->started && !room_outstanding(tx)) {
            taken = tx->outstanding[tx->first_outstanding].number;
        } else {
            /* Half a ring at a time, so that the two sides do not take turns over single bytes. */
            uint64_t wanted = least((uint64_t)(op->size - op->count) + NPL_MAX_ENTRY_HEADER, tx->capacity / 2);
            head = tx->tail + wanted > tx->capacity ? tx->tail + wanted - tx->capacity : 0;
        }
        break;
    }
    if (tx->first && !(tx->first->hole && tx->first->started))
        consumed = tx->first->end > tx->quota ? tx->first->end - tx->quota : 0;
    for (struct np_op *flush = tx->flushes; flush; flush = flush->next)
        taken = least(taken, tx->taken + 1);
    struct npl_sleep *own = link->sleep;
    atomic_store_explicit(&own->wake_head, head, memory_order_relaxed);
    atomic_store_explicit(&own->wake_consumed, consumed, memory_order_relaxed);
    atomic_store_explicit(&own->wake_taken, taken, memory_order_relaxed);
}
