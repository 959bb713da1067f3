#include "ring/rx.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/codes.h"
#include "base/platform.h"
#include "ring/back.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/segment.h"
#include "ring/tap.h"

#define CHUNK 32768u /* a long entry's space is handed back in pieces, so that both sides copy at once */

/* How often in one call a peer may make us skip an entry, or look again, before there is something to read. Whoever
 * keeps to the rules stays far below it: at most NPL_DEFERRED entries can be withdrawn in the ring. Others could go on
 * for ever. */
#define MOST_FUTILE 65536u
#define MOST_PAUSES 256u /* in these, while the producer takes an entry back */

static uint32_t smaller(uint32_t a, uint64_t b)
{
    return a < b ? a : (uint32_t)b;
}

static void copy_out(const struct np_rx *rx, uint64_t position, void *target, uint32_t size)
{
    uint64_t offset = (position - rx->begin) & (rx->capacity - 1);
    uint64_t until_end = rx->capacity - offset;
    uint32_t first = smaller(size, until_end);
    memcpy(target, rx->ring + offset, first);
    if (first < size)
        memcpy((uint8_t *)target + first, rx->ring, size - first);
}

static uint32_t word_of(uint32_t sequence, enum npl_entry_state state)
{
    return sequence << 3 | (uint32_t)state;
}

static _Atomic uint32_t *state_of(const struct np_rx *rx)
{
    return &rx->shared->deferred.state[rx->slot];
}

/* Forgets a parsed header that nothing was read behind. */
static void unparse(struct np_rx *rx)
{
    rx->head -= rx->header;
    rx->active = false;
    rx->entry++;
}

/* Whether the tail went back since it was read, so that what stands behind it may be something else by now. */
static bool rewound(const struct np_rx *rx)
{
    /* The fence orders the reads of the ring before the read of the count, as in a sequence lock. */
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&rx->shared->takebacks.rewinds, memory_order_relaxed) != rx->rewinds;
}

static bool refresh(struct np_link *link)
{
    struct np_rx *rx = &link->rx;
    /* Acquire, and before the tail: the producer moves the tail back before it counts the rewind, so a tail that is
     * void comes with an old count, which parse() then finds out. */
    uint32_t rewinds = atomic_load_explicit(&rx->shared->takebacks.rewinds, memory_order_acquire);
    /* Acquire: pairs with the producer's release, so the bytes before the tail are there. */
    uint64_t tail = atomic_load_explicit(&rx->shared->producer.tail, memory_order_acquire);
    /* An entry that is parsed and not begun has moved our head, and the producer may have rewound it meanwhile, and put
     * others in its place: it is given back, and looked at anew. So whoever has an entry looks after this whether it is
     * still there. */
    if (rx->active && rx->deferred && !rx->claimed && (rewinds != rx->rewinds || tail - rx->head > rx->capacity))
        unparse(rx);
    if (rewinds != rx->rewinds) {
        /* Relaxed: it comes with the count. It moves when nothing is unread, so it is right for all from our head on,
         * whenever it is loaded; and whatever it says, the place is within the ring. */
        rx->begin = atomic_load_explicit(&rx->shared->takebacks.begin, memory_order_relaxed);
    }
    if (tail - rx->head > rx->capacity) {
        np_link_violated(link);
        return false;
    }
    if (rx->active && !rx->deferred && tail - rx->head < rx->total - rx->pulled) {
        np_link_violated(link); /* a plain entry was there as a whole, and none is taken back */
        return false;
    }
    rx->rewinds = rewinds;
    rx->tail = tail;
    return true;
}

/* Release: what was copied out comes before the space is free for the producer to overwrite. */
static void publish_head(struct np_rx *rx)
{
    atomic_store_explicit(&rx->shared->consumer.head, rx->head, memory_order_release);
}

static void wake_writer(struct np_link *link)
{
    struct np_rx *rx = &link->rx;
    /* Full fence, with its twin in the writer's way to sleep: either we see its flag, or it sees our stores. */
    atomic_thread_fence(memory_order_seq_cst);
    struct npl_sleep *peer = link->peer_sleep;
    uint32_t flags = atomic_load_explicit(&peer->flags, memory_order_relaxed);
    if (!(flags & (NPL_SLEEP_WRITE | NPL_ARMED_WRITE)))
        return;
    /* Acquire on the flag would order these; the fence above does, and stale thresholds only wake too often:
     * the writer stores them before it sets its flag, and looks at the ring again after. */
    uint64_t consumed = atomic_load_explicit(&peer->wake_consumed, memory_order_relaxed);
    bool needed = rx->head >= atomic_load_explicit(&peer->wake_head, memory_order_relaxed) ||
                  rx->taken >= atomic_load_explicit(&peer->wake_taken, memory_order_relaxed);
    if (!needed && rx->consumed < consumed)
        return;
    /* There is room for the writer's next few bytes only, and more to read: it is told when it can do more with it, or
     * when this reader pauses, whichever is first. */
    rx->wake_deferred = rx->may_defer_wake && !needed && rx->head != rx->tail &&
                        rx->consumed - consumed < rx->quota / 2;
    if (!rx->wake_deferred)
        np_link_wake_sleeper(link, NPL_SLEEP_WRITE | NPL_ARMED_WRITE);
}

void np_rx_pause(struct np_link *link)
{
    if (!link->rx.wake_deferred)
        return;
    link->rx.wake_deferred = false;
    np_link_wake_sleeper(link, NPL_SLEEP_WRITE | NPL_ARMED_WRITE);
}

static void commit(struct np_link *link)
{
    struct np_rx *rx = &link->rx;
    atomic_store_explicit(&rx->shared->consumer.consumed, rx->consumed, memory_order_release);
    atomic_store_explicit(&rx->shared->consumer.taken, rx->taken, memory_order_release);
    publish_head(rx);
    wake_writer(link);
}

/* The head entry is over, one way or another. */
static void leave_entry(struct np_rx *rx)
{
    rx->active = false;
    rx->stash_length = rx->stash_begin = 0;
    if (rx->stash) {
        free(rx->stash);
        rx->stash = NULL;
    }
    rx->taken++;
    /* Relaxed, and not counted exactly: a guess. */
    atomic_store_explicit(&rx->streak, atomic_load_explicit(&rx->streak, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* The same of one that no read has had to its end. */
static void leave_void(struct np_link *link)
{
    link->tally.rx_void++;
    leave_entry(&link->rx);
}

/* NP_OK, NP_RETRY (refresh and look again) or NP_INVALID_DATA. */
static uint32_t parse(struct np_link *link)
{
    struct np_rx *rx = &link->rx;
    uint8_t header[NPL_MAX_ENTRY_HEADER] = {0}; /* the last entry may be shorter, and a liar's cut off */
    uint64_t there = rx->tail - rx->head;
    copy_out(rx, rx->head, header, smaller(NPL_MAX_ENTRY_HEADER, there));
    uint32_t size;
    rx->deferred = false;
    if (header[0] < NPL_TAG_MEDIUM) {
        size = 1;
        rx->total = header[0];
    } else if (header[0] < NPL_TAG_LONG) {
        size = 2;
        rx->total = (uint32_t)(header[0] & 0x3f) << 8 | header[1];
    } else if (header[0] == NPL_TAG_LONG) {
        size = 5;
        memcpy(&rx->total, header + 1, sizeof rx->total);
    } else if (header[0] == NPL_TAG_DEFERRED) {
        size = 6;
        rx->deferred = true;
        rx->slot = header[1] % NPL_DEFERRED;
        memcpy(&rx->total, header + 2, sizeof rx->total);
        /* The word was stored before the header was published. */
        rx->sequence = atomic_load_explicit(state_of(rx), memory_order_acquire) >> 3;
    } else {
        size = NPL_MAX_ENTRY_HEADER + 1; /* nonsense */
    }
    if (rewound(rx))
        return NP_RETRY; /* we may have read what is being overwritten */
    if (there < size || (!rx->deferred && there - size < rx->total) ||
        (rx->deferred && (rx->slot != header[1] || rx->slot != rx->sequence % NPL_DEFERRED)))
        return np_link_violated(link);
    rx->entry++;
    rx->claimed = false;
    rx->header = (uint8_t)size;
    rx->head += size;
    rx->pulled = rx->delivered = 0;
    rx->active = true;
    return NP_OK;
}

/* The next `size` bytes of the head entry are about to be taken out of the ring. */
static void record(struct np_link *link, uint32_t size)
{
    const struct np_rx *rx = &link->rx;
    np_tap_moved(link, false, rx->head, size, rx->pulled, rx->total, rx->deferred ? rx->sequence + 1 : 0);
}

/* The rest of the head entry does not come. */
static void record_end(struct np_link *link, uint32_t code)
{
    const struct np_rx *rx = &link->rx;
    if (np_is_tapped(link) && rx->pulled)
        np_tap_withdrawn(link, false, rx->pulled, rx->total, rx->deferred ? rx->sequence + 1 : 0, code);
}

/* Skips what a withdrawn entry left in the ring. */
static bool skip_withdrawn(struct np_link *link)
{
    struct np_rx *rx = &link->rx;
    /* From here on the producer does not move its tail back over this entry. Acquire/release as for a claim. */
    uint32_t word = word_of(rx->sequence, NPL_ENTRY_WITHDRAWN);
    if (!atomic_compare_exchange_strong_explicit(state_of(rx), &word, word_of(rx->sequence, NPL_ENTRY_DONE),
                                                 memory_order_acq_rel, memory_order_acquire))
        return true; /* it just did: look again */
    uint32_t put = atomic_load_explicit(&rx->shared->deferred.put[rx->slot], memory_order_relaxed);
    rx->claimed = true; /* by that */
    if (!refresh(link))
        return false;
    if (put < rx->pulled || put > rx->total || put - rx->pulled > rx->tail - rx->head) {
        np_link_violated(link);
        return false;
    }
    record_end(link, NP_OPERATION_ABORTED);
    rx->head += put - rx->pulled;
    leave_void(link);
    commit(link);
    return true;
}

uint32_t np_rx_settle(struct np_link *link)
{
    struct np_rx *rx = &link->rx;
    for (uint32_t turns = 0; turns < MOST_FUTILE; turns++) {
        if (!rx->active) {
            if (rx->head == rx->tail && !refresh(link))
                return NP_INVALID_DATA;
            if (rx->head == rx->tail)
                return NP_WOULD_WAIT;
            uint32_t code = parse(link);
            if (code == NP_RETRY && refresh(link))
                continue;
            if (code != NP_OK)
                return NP_INVALID_DATA;
        }
        if (!rx->deferred) {
            if (rx->total > 0 || link->type == NP_TYPE_MESSAGE || (rx->first && rx->first->size == 0))
                return NP_OK;
            leave_entry(rx); /* it was to end a read of no bytes that is not there any more */
            commit(link);
            continue;
        }
        if (!rx->claimed && rewound(rx)) {
            /* Perhaps it is not there any more, and its slot another's. */
            unparse(rx);
            if (!refresh(link))
                return NP_INVALID_DATA;
            continue;
        }
        /* Acquire: with WITHDRAWN comes the slot's `put`, and the tail that it counts. */
        uint32_t word = atomic_load_explicit(state_of(rx), memory_order_acquire);
        if (word == word_of(rx->sequence, NPL_ENTRY_WITHDRAWN)) {
            if (!skip_withdrawn(link))
                return NP_INVALID_DATA;
            continue;
        }
        if (word == word_of(rx->sequence, NPL_ENTRY_MOVING)) {
            /* Until the tail is where it belongs, nothing behind our head means anything. The producer needs a
             * moment. */
            if (turns > MOST_PAUSES)
                return NP_WOULD_WAIT;
            np_pause();
            continue;
        }
        if (word == word_of(rx->sequence, NPL_ENTRY_CUT)) {
            record_end(link, NP_OPERATION_ABORTED);
            leave_void(link);
            if (!refresh(link))
                return NP_INVALID_DATA;
            commit(link);
            continue;
        }
        if (word == word_of(rx->sequence, NPL_ENTRY_REWOUND)) {
            if (rx->claimed)
                return np_link_violated(link);
            /* Not the count of rewinds is what tells: a refresh since the header was parsed may have seen it move. One
             * who lies is found here again and again, as often as there are turns. */
            unparse(rx);
            if (!refresh(link))
                return NP_INVALID_DATA;
            continue;
        }
        if (rx->trimmed && rx->consumed - rx->delivered + rx->total > rx->trim) {
            /* By what is there now: of what came since the last look nothing is an entry's beginning, perhaps. */
            if (!refresh(link))
                return NP_INVALID_DATA;
            if (!rx->active)
                continue; /* it was taken back before its writer died */
            record_end(link, NP_BROKEN_PIPE);
            rx->head = rx->tail; /* its own rest and all that is behind it, which is deferred like it */
            leave_void(link);
            commit(link);
            return NP_WOULD_WAIT;
        }
        return NP_OK;
    }
    return np_link_violated(link);
}

uint32_t np_rx_rest(const struct np_rx *rx)
{
    return rx->total - rx->delivered;
}

uint32_t np_rx_available(const struct np_rx *rx)
{
    return rx->stash_length + smaller(rx->total - rx->pulled, rx->tail - rx->head);
}

/* Whether more than `size` unread bytes are announced. */
static bool announced_beyond(const struct np_link *link, uint32_t size)
{
    const struct np_rx *rx = &link->rx;
    uint64_t announced = atomic_load_explicit(&rx->shared->producer.announced, memory_order_acquire);
    return (int64_t)(announced - rx->consumed) > (int64_t)size;
}

bool np_rx_more_announced(const struct np_link *link)
{
    return announced_beyond(link, 0);
}

/* Takes `size` bytes of the head entry: from the stash, then from the ring. */
static void take(struct np_link *link, uint8_t *target, uint32_t size)
{
    struct np_rx *rx = &link->rx;
    uint32_t stashed = smaller(size, rx->stash_length);
    if (stashed) {
        memcpy(target, rx->stash + rx->stash_begin, stashed);
        rx->stash_begin += stashed;
        rx->stash_length -= stashed;
        target += stashed;
        size -= stashed;
    }
    while (size) {
        uint32_t piece = smaller(size, CHUNK);
        copy_out(rx, rx->head, target, piece);
        if (np_is_tapped(link))
            record(link, piece);
        rx->head += piece;
        rx->pulled += piece;
        target += piece;
        size -= piece;
        if (size && rx->deferred) {
            publish_head(rx);
            wake_writer(link);
        }
    }
}

/* Claims a deferred head entry for copying. False: it was withdrawn just now, or the word is nonsense. */
static bool claim(struct np_rx *rx)
{
    if (!rx->deferred)
        return true;
    uint32_t busy = word_of(rx->sequence, NPL_ENTRY_BUSY);
    uint32_t word = word_of(rx->sequence, NPL_ENTRY_LIVE);
    /* Acquire/release: a claim comes after what the other side did before it let go of the entry. */
    if (atomic_compare_exchange_strong_explicit(state_of(rx), &word, busy, memory_order_acq_rel,
                                                memory_order_acquire)) {
        rx->claimed = true;
        return true;
    }
    word = word_of(rx->sequence, NPL_ENTRY_PARTIAL);
    return rx->claimed && atomic_compare_exchange_strong_explicit(state_of(rx), &word, busy, memory_order_acq_rel,
                                                                  memory_order_acquire);
}

/* Lets a claimed entry go. Only the consumer changes a BUSY word, so a plain release store is enough. */
static void let_go(struct np_rx *rx, enum npl_entry_state state)
{
    if (rx->deferred)
        atomic_store_explicit(state_of(rx), word_of(rx->sequence, state), memory_order_release);
}

/* The head before the state: a producer that sees the entry let go may move its tail back to the head. */
static void let_go_in_part(struct np_link *link)
{
    publish_head(&link->rx);
    let_go(&link->rx, NPL_ENTRY_PARTIAL);
    wake_writer(link);
}

static void deliver(struct np_rx *rx, uint32_t size)
{
    rx->delivered += size;
    rx->consumed += size;
}

/* After bytes were delivered: the entry is finished or stays in part. Commits. */
static void settle_entry(struct np_link *link)
{
    struct np_rx *rx = &link->rx;
    bool finished = rx->delivered == rx->total;
    bool deferred = rx->deferred;
    if (rx->total == 0 && np_is_tapped(link))
        record(link, 0);
    if (finished)
        leave_entry(rx);
    /* The counters before the state: a producer that sees the entry let go must see what was read of it. */
    atomic_store_explicit(&rx->shared->consumer.consumed, rx->consumed, memory_order_release);
    publish_head(rx);
    if (deferred)
        let_go(rx, finished ? NPL_ENTRY_DONE : NPL_ENTRY_PARTIAL);
    commit(link);
}

static uint32_t finish_read(struct np_op *op, uint32_t code)
{
    op->done = true;
    op->code = code;
    return NP_OK;
}

/* Why a claim has failed: NP_OK, the entry was taken back (look again), or NP_INVALID_DATA. `futile` counts the
 * times. */
static uint32_t nonsense(struct np_link *link, uint32_t *futile)
{
    if (++*futile > MOST_FUTILE)
        return np_link_violated(link);
    if (!link->rx.claimed && rewound(&link->rx))
        return NP_OK;
    uint32_t word = atomic_load_explicit(state_of(&link->rx), memory_order_relaxed);
    enum npl_entry_state state = (enum npl_entry_state)(word & 7);
    if (word >> 3 == link->rx.sequence && (state == NPL_ENTRY_WITHDRAWN || state == NPL_ENTRY_REWOUND ||
                                           state == NPL_ENTRY_CUT || state == NPL_ENTRY_MOVING))
        return NP_OK;
    return np_link_violated(link);
}

/* A peer that brings a long message byte by byte, or as fast as it is read, is not to keep its reader from looking at
 * the clock. */
#define MOST_ROUNDS 1024u
#define MOST_AT_A_TIME (4u << 20) /* bytes */

/* What has just been found in the ring is forgotten, so that whoever waits finds it at once. */
static void come_again(struct np_rx *rx)
{
    rx->tail = rx->head;
}

static uint32_t read_message(struct np_link *link, struct np_op *op, bool try_only)
{
    struct np_rx *rx = &link->rx;
    uint32_t futile = 0, rounds = 0, moved = 0;
    for (;;) {
        uint32_t code = np_rx_settle(link);
        if (code != NP_OK) {
            op->count = 0; /* what was copied was of an entry that has gone */
            return code;
        }
        uint32_t rest = np_rx_rest(rx);
        if (op->size == 0 && rest > 0)
            return finish_read(op, NP_MORE_DATA); /* consumes nothing (SEMANTICS 5.2) */
        uint32_t target = smaller(op->size, rest);
        if (rx->pulled == rx->delivered + rx->stash_length)
            op->count = 0; /* a new entry since this read last looked */
        if (target - op->count > np_rx_available(rx)) {
            if (!refresh(link) || (!rx->active && ++futile > MOST_FUTILE))
                return np_link_violated(link);
            if (!rx->active)
                continue; /* it was taken back */
            if (try_only && target - op->count > np_rx_available(rx))
                return NP_WOULD_WAIT;
        }
        if (!claim(rx)) {
            code = nonsense(link, &futile);
            if (code != NP_OK)
                return code;
            continue; /* withdrawn: the next one */
        }
        uint32_t piece = smaller(target - op->count, np_rx_available(rx));
        take(link, op->out + op->count, piece);
        op->count += piece;
        moved += piece;
        if (op->count == target) {
            deliver(rx, target);
            settle_entry(link);
            return finish_read(op, target < rest ? NP_MORE_DATA : NP_OK);
        }
        let_go_in_part(link);
        if (!refresh(link))
            return NP_INVALID_DATA;
        if (np_rx_available(rx) == 0)
            return NP_WOULD_WAIT; /* the rest is on its way */
        if (++rounds >= MOST_ROUNDS || moved >= MOST_AT_A_TIME) {
            come_again(rx);
            return NP_WOULD_WAIT;
        }
    }
}

/* Takes bytes of one entry after the other. What it returns is read_bytes' business: it may have taken some and then
 * have to wait, or have met an error. */
static uint32_t take_bytes(struct np_link *link, struct np_op *op, bool try_only)
{
    struct np_rx *rx = &link->rx;
    uint32_t futile = 0, rounds = 0;
    uint64_t seen = rx->tail; /* what stood there when the first bytes were taken */
    for (;;) {
        uint32_t code = np_rx_settle(link);
        if (code == NP_WOULD_WAIT && np_op_has_taken(op)) {
            /* An entry that a writer waits with outside the ring counts as queued too. */
            if (op->pended || !np_rx_more_announced(link))
                return finish_read(op, NP_OK);
            return NP_WOULD_WAIT;
        }
        if (code != NP_OK)
            return code;
        uint32_t rest = np_rx_rest(rx);
        if (op->size == 0 && rest > 0)
            return finish_read(op, NP_OK); /* consumes nothing */
        if (op->count == 0 && op->size > rest) { /* it goes further: how far is told by what stands there now */
            if (!refresh(link) || (!rx->active && ++futile > MOST_FUTILE))
                return np_link_violated(link);
            if (!rx->active)
                continue; /* it was taken back */
        }
        if (op->count == 0)
            seen = rx->tail;
        else if (rx->total == 0 && (int64_t)(rx->head - rx->header - seen) >= 0)
            return finish_read(op, NP_OK); /* it came after a flush was told of what this read took: the next read's */
        uint32_t target = smaller(op->size - op->count, rest);
        if (target > np_rx_available(rx)) {
            if (!refresh(link) || (!rx->active && ++futile > MOST_FUTILE))
                return np_link_violated(link);
            if (!rx->active)
                continue; /* it was taken back */
        }
        /* What goes over several entries, or comes bit by bit, may have to wait in the middle: not in a try. Once it
         * has begun, nothing but this entry was announced, so it may end with it; what comes meanwhile it takes as far
         * as it goes. */
        if (try_only && !np_op_has_taken(op) &&
            (target > np_rx_available(rx) || (op->size > rest && announced_beyond(link, rest))))
            return NP_WOULD_WAIT;
        if (!claim(rx)) {
            code = nonsense(link, &futile);
            if (code != NP_OK)
                return code;
            continue;
        }
        uint32_t piece = smaller(target, np_rx_available(rx));
        take(link, op->out + op->count, piece);
        op->count += piece;
        deliver(rx, piece);
        bool finished = rx->delivered == rx->total;
        if (finished)
            op->touched = true;
        settle_entry(link);
        if ((op->count == op->size && (op->size || finished)) || (finished && op->pended))
            return finish_read(op, NP_OK);
        /* Empty messages can go by as fast as somebody writes them. */
        if (finished && piece == 0 && ++futile > MOST_FUTILE)
            return finish_read(op, NP_OK);
        if (!finished && piece == 0)
            return NP_WOULD_WAIT;
        /* All that stood there is taken, and more has come ever since. */
        if ((int64_t)(rx->head - seen) >= 0 && ++rounds >= MOST_ROUNDS) {
            if (!refresh(link))
                return NP_INVALID_DATA;
            if (rx->head != rx->tail) {
                come_again(rx);
                return NP_WOULD_WAIT;
            }
        }
    }
}

static uint32_t read_bytes(struct np_link *link, struct np_op *op, bool try_only)
{
    uint32_t code = take_bytes(link, op, try_only);
    if (code != NP_OK && (try_only || code != NP_WOULD_WAIT) && np_op_has_taken(op))
        return finish_read(op, NP_OK);
    return code;
}

uint32_t np_rx_read(struct np_link *link, struct np_op *op, bool message_mode, bool try_only)
{
    if (np_rx_has_back(link) && !np_op_has_taken(op)) {
        np_back_read(&link->rx, op, message_mode);
        return NP_OK;
    }
    uint64_t consumed = link->rx.consumed;
    uint32_t code = message_mode ? read_message(link, op, try_only) : read_bytes(link, op, try_only);
    /* What the header promises. */
    assert(code != NP_OK || op->done);
    assert(code == NP_OK || (code == NP_WOULD_WAIT && !try_only && !message_mode) ||
           (link->rx.consumed == consumed && (message_mode || !np_op_has_taken(op))));
    (void)consumed;
    return code;
}

uint32_t np_rx_head(struct np_link *link, uint64_t *entry, uint32_t *size)
{
    struct np_rx *rx = &link->rx;
    if (np_rx_has_back(link)) {
        *entry = np_back_entry(rx);
        *size = np_back_rest(rx);
        return NP_OK;
    }
    uint32_t code = np_rx_settle(link);
    if (code == NP_OK) {
        *entry = rx->entry;
        *size = np_rx_rest(rx);
    }
    return code;
}

bool np_rx_is_head(const struct np_link *link, uint64_t entry)
{
    if (entry & NP_ENTRY_BACK)
        return np_rx_has_back(link) && np_back_entry(&link->rx) == entry;
    return link->rx.active && link->rx.entry == entry;
}

uint32_t np_rx_copy(struct np_link *link, struct np_op *op, uint64_t entry, uint8_t *buffer, uint32_t upto)
{
    struct np_rx *rx = &link->rx;
    uint32_t futile = 0, rounds = 0, moved = 0;
    if (entry & NP_ENTRY_BACK) {
        if (!np_rx_is_head(link, entry) || upto > np_back_rest(rx))
            return NP_RETRY;
        np_back_copy(rx, op->count, buffer + op->count, upto - op->count);
        op->count = upto;
        return NP_OK;
    }
    for (;;) {
        uint32_t code = np_rx_settle(link);
        if (rx->entry != entry)
            return NP_RETRY;
        if (code != NP_OK || op->count >= upto)
            return code;
        if (np_rx_available(rx) == 0) {
            if (!refresh(link))
                return NP_INVALID_DATA;
            if (!rx->active)
                return NP_RETRY; /* it was taken back */
            if (np_rx_available(rx) == 0)
                return NP_WOULD_WAIT;
        }
        if (!claim(rx)) {
            code = nonsense(link, &futile);
            if (code != NP_OK)
                return code;
            continue;
        }
        uint32_t piece = smaller(smaller(upto - op->count, np_rx_available(rx)), MOST_AT_A_TIME);
        take(link, buffer + op->count, piece);
        op->count += piece;
        moved += piece;
        let_go_in_part(link);
        /* Of one that has ended nothing more comes: what stands there is taken, or it would be taken for a part. */
        if (op->count < upto && (++rounds >= MOST_ROUNDS || (moved >= MOST_AT_A_TIME && np_link_quiet(link)))) {
            come_again(rx);
            return NP_WOULD_WAIT;
        }
    }
}

void np_rx_take_parts(struct np_link *link, const struct iovec *parts, uint32_t size)
{
    struct np_rx *rx = &link->rx;
    struct np_parts into = {.part = parts};
    assert(rx->active && !rx->deferred && size <= np_rx_rest(rx));
    for (uint32_t left = size; left;) {
        void *place;
        uint32_t piece = np_parts_next(&into, left, &place);
        take(link, place, piece);
        left -= piece;
    }
    deliver(rx, size);
    settle_entry(link);
}

void np_rx_pass(struct np_link *link, uint32_t size)
{
    struct np_rx *rx = &link->rx;
    assert(rx->active && !rx->deferred && size <= rx->total - rx->pulled);
    if (size && np_is_tapped(link)) /* an empty one is recorded when it is settled */
        record(link, size);
    rx->head += size;
    rx->pulled += size;
}

uint32_t np_rx_consume(struct np_link *link, uint64_t entry, uint32_t size)
{
    struct np_rx *rx = &link->rx;
    if (entry & NP_ENTRY_BACK) {
        np_back_consume(rx, size);
        return NP_OK;
    }
    if (!claim(rx)) {
        uint32_t futile = 0;
        uint32_t code = nonsense(link, &futile);
        return code == NP_OK ? NP_RETRY : code;
    }
    deliver(rx, size);
    settle_entry(link);
    return NP_OK;
}

/* Makes room for `size` more bytes in front of (`in_front`) or behind the stash. NULL: no memory. */
static uint8_t *stash_room(struct np_rx *rx, uint32_t size, bool in_front)
{
    uint8_t *stash = malloc((size_t)rx->stash_length + size);
    if (!stash)
        return NULL;
    if (rx->stash_length)
        memcpy(stash + (in_front ? size : 0), rx->stash + rx->stash_begin, rx->stash_length);
    free(rx->stash);
    rx->stash = stash;
    rx->stash_begin = 0;
    uint8_t *room = in_front ? stash : stash + rx->stash_length;
    rx->stash_length += size;
    return room;
}

bool np_rx_give_back(struct np_link *link, struct np_op *op)
{
    struct np_rx *rx = &link->rx;
    /* Not what is of an entry that has gone meanwhile: another call may have skipped it. */
    if (op->count == 0 || !rx->active || rx->pulled != rx->delivered + rx->stash_length + op->count) {
        op->count = 0;
        return true;
    }
    uint8_t *room = stash_room(rx, op->count, true);
    if (!room)
        return false;
    np_source_copy(room, (struct np_source){.data = op->out, .parts = op->parts.part}, op->count);
    op->count = 0;
    return true;
}

bool np_rx_drop_incomplete(struct np_link *link)
{
    struct np_rx *rx = &link->rx;
    /* By what is there now: the last look may have been before the rest came. */
    if (!rx->active || !refresh(link) || !rx->active || np_rx_rest(rx) <= np_rx_available(rx))
        return false;
    record_end(link, NP_BROKEN_PIPE);
    rx->head = rx->tail;
    leave_void(link);
    commit(link);
    return true;
}

void np_rx_trim(struct np_link *link)
{
    struct np_rx *rx = &link->rx;
    if (rx->trimmed)
        return;
    rx->trimmed = true;
    rx->trim = rx->consumed + rx->quota;
}

/* Pulls what is in the ring of a long head entry into the stash, so that a peek can see further. */
static bool pull_ahead(struct np_link *link, uint32_t wanted)
{
    struct np_rx *rx = &link->rx;
    uint32_t piece = smaller(rx->total - rx->pulled, rx->tail - rx->head);
    if (wanted <= rx->stash_length || piece == 0 || !claim(rx))
        return false;
    uint8_t *room = stash_room(rx, piece, false);
    if (room) {
        copy_out(rx, rx->head, room, piece);
        if (np_is_tapped(link))
            record(link, piece);
        rx->head += piece;
        rx->pulled += piece;
    }
    let_go_in_part(link);
    return room != NULL;
}

#ifndef PEEK_PATIENCE_NS /* the fuzzers have none */
/* for a writer that has to bring the rest of a long entry, or the next so many bytes of it: */
#define PEEK_PATIENCE_NS 50000000
#endif
#define PEEK_STEP 4096u

/* Waits until the writer has moved: then the head entry may be another one. `until`: the patience is over then; 0: it
 * begins here. */
static bool wait_for_more(struct np_link *link, int64_t *until)
{
    struct np_rx *rx = &link->rx;
    uint64_t before = rx->tail;
    if (*until == 0)
        *until = np_now() + PEEK_PATIENCE_NS;
    while (np_link_condition(link) == NP_OK && np_now() < *until) {
        if (!refresh(link))
            return false;
        if (rx->tail != before || !rx->active)
            return true; /* more of it, or it has been taken back */
        np_pause();
    }
    return false;
}

/* Copies entries from `position` on into what is left of the buffer, for byte-type pipes. */
static uint32_t peek_further(struct np_link *link, uint8_t *target, uint32_t size)
{
    struct np_rx saved = link->rx, *rx = &link->rx;
    uint32_t copied = 0, futile = 0;
    /* Walk a copy of the state: parse() and settle move it, nothing is published, and it is put back. */
    while (copied < size && futile < MOST_FUTILE) {
        rx->head += rx->total - rx->pulled;
        if ((int64_t)(rx->tail - rx->head) <= 0)
            break;
        rx->stash_length = 0;
        if (parse(link) != NP_OK)
            break;
        uint32_t word = rx->deferred ? atomic_load_explicit(state_of(rx), memory_order_acquire) : 0;
        if (rx->deferred && word == word_of(rx->sequence, NPL_ENTRY_WITHDRAWN)) {
            rx->total = atomic_load_explicit(&rx->shared->deferred.put[rx->slot], memory_order_relaxed);
            futile++;
            continue;
        }
        uint32_t piece = smaller(size - copied, np_rx_available(rx));
        futile += piece == 0; /* there are none in a byte pipe */
        copy_out(rx, rx->head, target + copied, piece);
        copied += piece;
    }
    link->rx = saved;
    return copied;
}

/* One look. NP_RETRY: what was looked at has been taken back meanwhile. */
static uint32_t look(struct np_link *link, void *buffer, uint32_t size, uint32_t *copied, uint32_t *available,
                     uint32_t *left)
{
    struct np_rx *rx = &link->rx;
    if (np_rx_settle(link) != NP_OK || !refresh(link))
        return NP_OK;
    if (!rx->active)
        return NP_RETRY; /* it was taken back just now */
    uint32_t rest = np_rx_rest(rx), wanted = smaller(size, rest);
    uint64_t expected = np_rx_available(rx);
    int64_t patience_end = 0;
    while (wanted > np_rx_available(rx) && !rewound(rx)) {
        if (!pull_ahead(link, wanted) && !wait_for_more(link, &patience_end))
            break;
        if (np_rx_settle(link) != NP_OK || np_rx_rest(rx) != rest)
            return NP_RETRY;
        /* It comes: be patient again, but not for each byte. */
        if (np_rx_available(rx) >= expected + PEEK_STEP) {
            expected = np_rx_available(rx);
            patience_end = 0;
        }
    }
    if (!rx->active)
        return NP_RETRY; /* the head stands on a header again, and what follows is no data */
    wanted = smaller(wanted, np_rx_available(rx));
    uint32_t stashed = smaller(wanted, rx->stash_length);
    if (stashed)
        memcpy(buffer, rx->stash + rx->stash_begin, stashed);
    if (wanted > stashed)
        copy_out(rx, rx->head, (uint8_t *)buffer + stashed, wanted - stashed);
    *copied = wanted;
    uint64_t announced = atomic_load_explicit(&rx->shared->producer.announced, memory_order_acquire);
    uint64_t all = announced - rx->consumed;
    if ((int64_t)all < (int64_t)rest)
        all = rest;
    if (link->type != NP_TYPE_MESSAGE && wanted < size && wanted == rest)
        *copied += peek_further(link, (uint8_t *)buffer + wanted, size - wanted);
    if (rewound(rx))
        return NP_RETRY; /* we may have looked at what is overwritten */
    *available = smaller(UINT32_MAX, all);
    /* A byte pipe gives 0 - read here, as Windows does (SEMANTICS 7). */
    *left = link->type == NP_TYPE_MESSAGE ? rest - *copied : 0u - *copied;
    return NP_OK;
}

#define MOST_LOOKS 1000
#define FEW_LOOKS 10 /* however long they took: this process may not have run meanwhile */
#define LOOKS_NS INT64_C(1000000000)

static uint32_t peek_ring(struct np_link *link, void *buffer, uint32_t size, uint32_t *available, uint32_t *left)
{
    int64_t limit = 0;
    for (int i = 0; i < MOST_LOOKS; i++) {
        uint32_t copied = 0;
        *available = *left = 0;
        if (look(link, buffer, size, &copied, available, left) == NP_OK)
            return copied;
        if (i == 0)
            limit = np_now() + LOOKS_NS;
        else if (i > FEW_LOOKS && np_now() > limit)
            break;
    }
    np_link_violated(link); /* nobody takes something back all the time */
    *available = *left = 0;
    return 0;
}

uint32_t np_rx_peek(struct np_link *link, void *buffer, uint32_t size, uint32_t *available, uint32_t *left)
{
    struct np_rx *rx = &link->rx;
    if (!np_rx_has_back(link))
        return peek_ring(link, buffer, size, available, left);
    uint64_t more;
    uint32_t back = np_back_peek(rx, buffer, size, &more), count = 0;
    if (link->type ==
        NP_TYPE_MESSAGE) { /* data and rest are of the first message only (SEMANTICS 7): here the first piece */
        peek_ring(link, NULL, 0, available, left);
        back = smaller(size, np_back_rest(rx));
        *left = np_back_rest(rx) - back;
    } else {
        count = peek_ring(link, back < size ? (uint8_t *)buffer + back : buffer, size - back, available, left);
        *left -= back; /* as Windows has it (SEMANTICS 7) */
    }
    *available = smaller(UINT32_MAX, *available + more);
    return back + count;
}

void np_rx_post(struct np_link *link)
{
    struct np_rx *rx = &link->rx;
    struct npl_posts *posts = &rx->shared->posts;
    uint32_t before = rx->posted;
    for (struct np_op *op = rx->first; op; op = op->next) {
        if (op->posted || rx->posted - rx->finished >= NPL_POSTS)
            continue;
        op->posted = true;
        op->post = rx->posted++;
        atomic_store_explicit(&posts->size[op->post % NPL_POSTS], op->size, memory_order_relaxed);
    }
    if (rx->posted == before)
        return;
    /* Release: the sizes come before the number that says they are there. */
    atomic_store_explicit(&posts->posted, rx->posted, memory_order_release);
    if (!(atomic_load_explicit(&link->sleep->flags, memory_order_relaxed) & NPL_POSTED))
        atomic_fetch_or_explicit(&link->sleep->flags, NPL_POSTED, memory_order_relaxed);
}

void np_rx_leave(struct np_link *link, struct np_op *op)
{
    struct np_rx *rx = &link->rx;
    if (!op->queued)
        return;
    np_queue_remove(&rx->first, &rx->last, op);
    if (atomic_load_explicit(&link->alert, memory_order_relaxed) & NP_ALERT_FORKED)
        return; /* the segment is the parent's */
    if (op->posted) {
        struct npl_posts *posts = &rx->shared->posts;
        op->posted = false;
        atomic_store_explicit(&posts->size[op->post % NPL_POSTS], 0, memory_order_relaxed);
        uint32_t finished = rx->posted;
        for (struct np_op *item = rx->first; item; item = item->next)
            if (item->posted) {
                finished = item->post;
                break;
            }
        rx->finished = finished;
        atomic_store_explicit(&posts->finished, finished, memory_order_release);
    }
    if (rx->first)
        np_link_wake_own(link); /* the next in line has its turn */
}
