#include "ring/counts.h"

#include <string.h>

#include "base/codes.h"
#include "base/platform.h"
#include "ring/back.h"
#include "ring/op.h"
#include "ring/segment.h"
#include "ring/tx.h"

#define MOST_COUNTED 65536u /* operations of one queue: who asks has locks */

static uint64_t difference(uint64_t more, uint64_t less)
{
    return (int64_t)(more - less) > 0 ? more - less : 0;
}

static int64_t slept_since(int64_t since)
{
    int64_t now = since ? np_now() : 0;
    return now > since ? now - since : since ? 1 : 0;
}

static uint32_t peer_sleeps(const struct np_link *link)
{
    /* Relaxed, as all here: hints for whoever looks on. */
    uint32_t flags = atomic_load_explicit(&link->peer_sleep->flags, memory_order_relaxed);
    return (flags & (NPL_SLEEP_READ | NPL_ARMED_READ) ? NP_PEER_READS : 0) |
           (flags & (NPL_SLEEP_WRITE | NPL_ARMED_WRITE) ? NP_PEER_WRITES : 0);
}

static void count_state(const struct np_link *link, struct np_counts *counts)
{
    memset(counts, 0, sizeof *counts);
    counts->since = link->since;
    counts->sleeping = peer_sleeps(link);
    counts->peer_closed = atomic_load_explicit(link->peer_state, memory_order_relaxed) != NPL_END_OPEN ||
                          atomic_load_explicit(&link->alert, memory_order_relaxed) & NP_ALERT_GONE;
}

static void count_read(const struct np_link *link, struct np_counts *counts)
{
    const struct np_rx *rx = &link->rx;
    uint64_t back = 0, pieces = 0;
    for (const struct np_back *piece = rx->back; piece; piece = np_back_next(piece)) {
        back += np_back_size(piece);
        pieces += link->type == NP_TYPE_MESSAGE;
    }
    counts->in_bytes = difference(rx->consumed, back);
    counts->in_messages = difference(rx->taken - link->tally.rx_void, pieces);
    counts->in_unread = difference(atomic_load_explicit(&rx->shared->producer.announced, memory_order_relaxed),
                                   rx->consumed) +
                        back;
    for (const struct np_op *op = rx->first; op && counts->pending_reads < MOST_COUNTED; op = op->next)
        counts->pending_reads++;
}

static void count_written(const struct np_link *link, struct np_counts *counts)
{
    const struct np_tx *tx = &link->tx;
    struct npl_consumer *consumer = &tx->shared->consumer;
    uint64_t holes = 0, unread_void = 0;
    uint32_t seen = 0;
    for (const struct np_op *op = tx->first; op && seen < MOST_COUNTED; op = op->next, seen++) {
        holes += op->hole;
        counts->pending_writes += !op->hole && op->completed != np_detached_done;
    }
    /* Once, and what cannot be is not believed: then what was checked last. */
    uint64_t consumed = atomic_load_explicit(&consumer->consumed, memory_order_relaxed);
    uint64_t taken = atomic_load_explicit(&consumer->taken, memory_order_relaxed);
    if (consumed < tx->consumed || consumed > tx->announced - tx->outside)
        consumed = tx->consumed;
    if (taken < tx->taken || taken > tx->last_put)
        taken = tx->taken;
    for (uint32_t i = 0; i < tx->n_outstanding; i++) {
        const struct np_outstanding *item = &tx->outstanding[(tx->first_outstanding + i) % NPL_DEFERRED];
        unread_void += item->withdrawn && item->number > taken;
    }
    counts->out_bytes = tx->announced - tx->hidden;
    counts->out_messages = tx->entries - link->tally.tx_void - holes;
    counts->out_unread = difference(counts->out_bytes, consumed);
    counts->out_unread_messages = difference(tx->entries - holes, taken + unread_void);
}

void np_link_count(struct np_link *link, struct np_counts *counts)
{
    const struct np_tally *tally = &link->tally;
    count_state(link, counts);
    count_read(link, counts);
    count_written(link, counts);
    counts->sleeps = tally->rx_sleeps + tally->tx_sleeps;
    counts->read_slept = slept_since(tally->rx_sleepers ? tally->rx_since : 0);
    counts->write_slept = slept_since(tally->tx_sleepers ? tally->tx_since : 0);
    counts->sleeping |= (tally->rx_sleepers ? NP_SLEEPS_READ : 0u) | (tally->tx_sleepers ? NP_SLEEPS_WRITE : 0u);
}

void np_link_count_roughly(struct np_link *link, struct np_counts *counts)
{
    struct npl_direction *in = link->rx.shared, *out = link->tx.shared;
    count_state(link, counts);
    counts->rough = true;
    /* Relaxed, each for itself: a count that others move is old when it is told, and nothing is done by it. */
    counts->in_bytes = atomic_load_explicit(&in->consumer.consumed, memory_order_relaxed);
    counts->in_messages = atomic_load_explicit(&in->consumer.taken, memory_order_relaxed);
    counts->in_unread = difference(atomic_load_explicit(&in->producer.announced, memory_order_relaxed),
                                   counts->in_bytes);
    counts->out_bytes = atomic_load_explicit(&out->producer.announced, memory_order_relaxed);
    counts->out_messages = atomic_load_explicit(&out->consumer.taken, memory_order_relaxed);
    counts->out_unread = difference(counts->out_bytes,
                                    atomic_load_explicit(&out->consumer.consumed, memory_order_relaxed));
}

void np_totals_add(struct np_totals *totals, const struct np_counts *counts)
{
    totals->connections++;
    totals->in_bytes += counts->in_bytes;
    totals->in_messages += counts->in_messages;
    totals->out_bytes += counts->out_bytes;
    totals->out_messages += counts->out_messages;
    totals->sleeps += counts->sleeps;
}
