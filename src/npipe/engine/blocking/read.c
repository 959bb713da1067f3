#include "blocking/read.h"

#include <string.h>

#include "base/codes.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"
#include "ring/back.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/rx.h"
#include "ring/segment.h"
#include "handle/handle.h"
#include "handle/message.h"
#include "handle/step.h"
#include "overlapped/drive.h"

#ifndef STREAM_PATIENCE_NS /* the fuzzers have none */
#define STREAM_PATIENCE_NS 100000000 /* for the rest of an entry that a writer is still streaming */
#endif

/* ---- Reading */

/* A stream's next entries are let come together. An answer is never late for it, as nothing has been read since the
 * question; and an entry that comes alone is late only if it comes within that time. */
#define STREAM_ENTRIES 16
#define STREAM_NS 500
static int64_t head_start(const struct np_link *link)
{
    return atomic_load_explicit(&link->rx.streak, memory_order_relaxed) >= STREAM_ENTRIES ? STREAM_NS : 0;
}

static bool read_ready(const void *what)
{
    const struct np_rx_awaited *awaited = what;
    return np_rx_moved(awaited) || !np_link_quiet(awaited->link);
}

/* Sleeps until the peer sends the byte that was asked for, or hangs up; a close in this process shuts the socket
 * down. */
static uint32_t sleep_by_socket(struct np_link *link, const struct np_wait *wait)
{
    if (atomic_load_explicit(&link->rx.by_socket, memory_order_relaxed) > 0)
        atomic_fetch_sub_explicit(&link->rx.by_socket, 1, memory_order_relaxed);
    bool for_ever = wait->deadline == NP_FOREVER; /* then one system call does both */
    uint32_t code = for_ever ? np_socket_await_poke(link->socket) : np_socket_wait(link->socket, wait->deadline);
    if (code == NP_INTERRUPTED)
        return wait->interrupted && wait->interrupted(wait->context) ? NP_INTERRUPTED : NP_OK;
    bool ended = code == NP_BROKEN_PIPE || (!for_ever && code == NP_OK && !np_link_drain_socket(link));
    if (ended && !(atomic_load_explicit(&link->alert, memory_order_acquire) & ~(uint32_t)NP_ALERT_UNWATCHED))
        np_link_look(link, true); /* it was not this process that shut it down */
    return code == NP_SEM_TIMEOUT ? code : NP_OK;
}

/* Whether this process has found out, or the peer has, that neighbours want the processors. */
static bool is_contended(struct np_link *link)
{
    int64_t until = atomic_load_explicit(&link->rx.contended, memory_order_relaxed);
    if (until && np_now() >= until)
        atomic_store_explicit(&link->rx.contended, until = 0, memory_order_relaxed);
    return until || np_contended();
}

/* Waits on `link` for what comes in, or, behind other reads, for its turn. Called and returns with rx_lock held. */
static uint32_t wait_to_read(struct np_handle *handle, struct np_link *link, const struct np_op *op, enum np_heed *heed,
                             const struct np_wait *wait)
{
    struct np_rx_awaited awaited = np_rx_awaited(link);
    bool in_turn = link->rx.first == op;
    /* The rest of an entry comes at another pace than the next entry. */
    struct np_spin *spin = link->rx.active ? &link->rx.stream : &link->rx.spin;
    int64_t behind = link->rx.active ? 0 : head_start(link);
    /* Read under the lock: whatever gives this read its turn moves the word afterwards. */
    uint32_t seen = atomic_load_explicit(&link->sleep->seq, memory_order_acquire);
    uint32_t code = NP_OK;
    /* While neighbours want the processors: the scheduler takes a wake through a socket for one whose sender is about
     * to sleep, and brings the two together, where a futex leaves each on a processor of its own and in the neighbours'
     * way. */
    bool contended = in_turn && !handle->no_socket_sleeps && !link->rx.polled && !link->rx.may_come_back &&
                     !wait->cancel && is_contended(link);
    bool by_socket = contended || (in_turn && atomic_load_explicit(&link->rx.by_socket, memory_order_relaxed) > 0);
    np_unlock_moved(handle, &handle->rx_lock);
    if (!by_socket)
        by_socket = !np_handle_watch(handle, link) && in_turn;
    bool ready = in_turn &&
                 (contended || wait->crowd ? read_ready(&awaited)
                  : by_socket
                      ? np_spin_for(&np_brief_spins[NP_BRIEF_READ], read_ready, &awaited, wait->deadline, NP_BRIEF_NS)
                      : np_spin_behind(spin, read_ready, &awaited, wait->deadline, behind, NP_SPIN_NS));
    if (!ready) {
        struct np_wait limited;
        code = np_heed_begin(heed, wait, &limited);
        pthread_mutex_lock(&handle->rx_lock);
        if (code != NP_OK || np_forked(link))
            return code;
        np_rx_post(link);
        np_tally_read_sleeps(&link->tally);
        if (by_socket)
            link->rx.on_socket = true;
        np_unlock_moved(handle, &handle->rx_lock);
        uint32_t how = by_socket ? NPL_ARMED_READ : NPL_SLEEP_READ;
        atomic_fetch_or_explicit(&link->sleep->flags, contended && np_contended() ? how | NPL_CONTENDED : how,
                                 memory_order_relaxed);
        /* Full fence, with its twin in the writer's publish: either it sees our flag, or we see its tail. */
        atomic_thread_fence(memory_order_seq_cst);
        if (!(in_turn && read_ready(&awaited)))
            code = by_socket ? sleep_by_socket(link, &limited)
                             : np_sleep(&link->sleep->seq, seen, NPL_SLEEP_READ, &limited);
        code = np_heed_end(heed, code, wait, &limited);
    }
    pthread_mutex_lock(&handle->rx_lock);
    if (!ready)
        np_tally_read_woke(&link->tally);
    if (by_socket) {
        link->rx.on_socket = false;
        if (np_in_use(handle, link) && !np_forked(link))
            np_move_detached(handle, link);
    }
    return code;
}

/* What a call finds that stands behind other reads. What is left when it has its turn may be its. */
static uint32_t behind_others(const struct np_link *link, bool waited)
{
    uint32_t code = np_link_known(link);
    return code == NP_OK || code == NP_BROKEN_PIPE || np_read_is_owed(link, waited) ? NP_WOULD_WAIT : code;
}

/* Blocks with `op` in the queue until step() gives something else than NP_WOULD_WAIT. With rx_lock held. */
static uint32_t pend_read(struct np_handle *handle, struct np_link *link, struct np_op *op, bool message_mode,
                          const struct np_wait *wait)
{
    enum np_heed heed = NP_HEED_ASK;
    uint32_t code, turns = 0;
    np_link_ref(link);
    if (!op->queued)
        np_queue_append(&link->rx.first, &link->rx.last, op);
    /* A step comes first: the try that sent us here leaves alone what it cannot finish at once. */
    for (uint32_t waited = NP_OK;; waited = np_restless(&turns, wait_to_read(handle, link, op, &heed, wait), wait)) {
        if (waited == NP_INTERRUPTED) {
            code = waited; /* what may have come meanwhile stays for the next read */
            break;
        }
        if (!np_in_use(handle, link) && !np_read_is_owed(link, op->waited)) {
            code = np_code_of_end(link);
            break;
        }
        np_drive_ahead(handle, link, op);
        if (link->rx.first == op)
            code = np_read_step(handle, link, op, message_mode, false);
        else
            code = behind_others(link, op->waited);
        op->waited = true; /* from here on, also behind others */
        if (code != NP_OK && code != NP_WOULD_WAIT && !np_in_use(handle, link))
            code = np_code_of_end(link);
        if (code == NP_WOULD_WAIT && waited != NP_OK)
            code = waited;
        if (code != NP_WOULD_WAIT)
            break;
    }
    return code;
}

static void end_pended_read(struct np_handle *handle, struct np_link *link, struct np_op *op)
{
    np_rx_leave(link, op);
    np_drive_back(handle, link);
    np_link_unref(link);
}

/* What is there is read without waiting, but of a long entry the rest has to come through the ring first. */
static int64_t patient(const struct np_link *link, int64_t deadline, bool nowait)
{
    int64_t patience = np_now() + STREAM_PATIENCE_NS;
    if (nowait)
        return deadline < patience ? deadline : patience;
    return link->rx.active && deadline < patience ? patience : deadline;
}

static uint32_t read_with(struct np_handle *handle, struct np_op *op, const struct np_wait *wait)
{
    struct np_link *link = handle->link;
    if (!link)
        return np_code_without_link(handle);
    bool message_mode = np_message_mode_of(handle);
    uint32_t code = NP_WOULD_WAIT;
    np_drive_ahead(handle, link, op);
    if (!link->rx.first)
        code = np_read_step(handle, link, op, message_mode, true);
    if (code != NP_WOULD_WAIT || wait->deadline == NP_TRY)
        return code;
    struct np_wait limited = *wait;
    bool nowait = atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT;
    if (nowait && link->rx.first)
        return NP_NO_DATA; /* others wait already: nothing is there */
    limited.deadline = patient(link, wait->deadline, nowait);
    /* What is there but only in part is read at once; a read that finds nothing is pending from here on. */
    op->pended = !link->rx.active;
    code = pend_read(handle, link, op, message_mode, &limited);
    bool kept = true;
    if (message_mode && (code == NP_SEM_TIMEOUT || code == NP_INTERRUPTED))
        kept = np_rx_give_back(link, op);
    else if (code == NP_INTERRUPTED && !np_cancelled(wait) && np_op_has_taken(op))
        /* a signal's handler has raised: nobody is there to deliver to */
        kept = np_back_put(&link->rx, op->out, op->count);
    else if (!np_forked(link)) /* in a child this call is the parent's, which delivers it there */
        code = np_read_end(op, message_mode, code); /* a byte-mode read returns what there is */
    if (!kept)
        code = np_link_violated(link); /* no memory to keep what was taken: the pipe cannot go on */
    end_pended_read(handle, link, op);
    return code;
}

uint32_t np_read(struct np_handle *handle, void *buffer, uint32_t size, uint32_t *count, const struct np_wait *wait)
{
    *count = 0;
    if (!(handle->access & NP_READ))
        return NP_ACCESS_DENIED;
    struct np_op op = {.out = buffer, .size = size};
    pthread_mutex_lock(&handle->rx_lock);
    uint32_t code = read_with(handle, &op, wait);
    np_unlock_moved(handle, &handle->rx_lock);
    if (code != NP_OK)
        return code;
    *count = op.count;
    return op.code;
}

void np_will_put_back(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    if (link) {
        /* Who sleeps on the socket already is before us, and has left it when a read of ours takes anything. */
        link->rx.may_come_back = true;
        atomic_store_explicit(&link->rx.by_socket, 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&handle->rx_lock);
}

uint32_t np_put_back(struct np_handle *handle, const void *data, uint32_t size)
{
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    uint32_t code = NP_OK;
    if (!link) {
        code = np_code_without_link(handle);
    } else if (np_back_put(&link->rx, data, size)) {
        np_drive_ahead(handle, link, NULL);
        np_link_wake_own(link);
    } else {
        code = np_link_violated(link); /* no memory to keep it: the pipe cannot go on */
    }
    np_unlock_moved(handle, &handle->rx_lock);
    return code;
}

/* ---- Whole messages */

bool np_spin_read(struct np_handle *handle, int64_t deadline, bool *was_idle)
{
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    struct np_rx_awaited awaited = {0};
    bool idle = link && np_link_quiet(link) && !link->rx.first && !np_rx_has_back(link) &&
                np_rx_settle(link) == NP_WOULD_WAIT &&
                atomic_load_explicit(&link->rx.by_socket, memory_order_relaxed) <= 0;
    *was_idle = idle;
    if (idle) {
        awaited = np_rx_awaited(link);
        np_link_ref(link);
    }
    pthread_mutex_unlock(&handle->rx_lock);
    if (!idle)
        return false;
    bool ready = !is_contended(link) &&
                 np_spin_behind(&link->rx.spin, read_ready, &awaited, deadline, head_start(link), NP_SPIN_NS);
    np_link_unref(link);
    return ready;
}

uint32_t np_recv_try(struct np_handle *handle, uint32_t limit, uint32_t *size)
{
    if (!(handle->access & NP_READ))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    uint32_t code = NP_WOULD_WAIT;
    if (link && np_link_quiet(link) && !link->rx.first) {
        code = np_rx_settle(link);
        if (code == NP_OK && (link->rx.deferred || link->rx.stash_length || np_rx_has_back(link)))
            code = NP_WOULD_WAIT; /* the long way handles these */
        if (code == NP_OK) {
            *size = np_rx_rest(&link->rx);
            if (*size <= limit)
                return NP_OK;
            code = NP_MORE_DATA;
        }
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

void np_recv_take(struct np_handle *handle, void *buffer, uint32_t size)
{
    struct np_op op = {.out = buffer, .size = size};
    /* A plain entry stands in the ring in full, so this cannot fail. */
    np_rx_read(handle->link, &op, true, true);
    np_unlock_moved(handle, &handle->rx_lock);
}

uint32_t np_recv_take_parts(struct np_handle *handle, const struct iovec *parts, uint32_t size)
{
    struct np_link *link = handle->link;
    uint32_t rest = np_rx_rest(&link->rx), upto = size < rest ? size : rest;
    np_rx_take_parts(link, parts, upto);
    np_unlock_moved(handle, &handle->rx_lock);
    return upto;
}

void np_recv_leave(struct np_handle *handle)
{
    pthread_mutex_unlock(&handle->rx_lock);
}

/* The end of a call that waited in vain: out of the queue, the lock released. */
static uint32_t recv_fail(struct np_handle *handle, struct np_recv *recv, uint32_t code)
{
    end_pended_read(handle, recv->link, &recv->op);
    recv->link = NULL;
    np_unlock_moved(handle, &handle->rx_lock);
    return code;
}

/* How long a call may go on with messages: with the first one's its patience for the rest begins, once. */
static struct np_wait in_message(const struct np_recv *recv, const struct np_wait *wait)
{
    struct np_wait limited = *wait;
    if (limited.deadline < recv->patience)
        limited.deadline = recv->patience;
    return limited;
}

uint32_t np_recv_begin(struct np_handle *handle, struct np_recv *recv, uint32_t *size, const struct np_wait *wait)
{
    const struct np_recv before = {
        .reply = recv->reply, .pended = recv->pended || recv->reply, .again = true, .patience = recv->patience};
    bool again = recv->again;
    *recv = before;
    recv->message.waits = before.reply;
    recv->message.pended = before.pended;
    if (!(handle->access & NP_READ))
        return NP_ACCESS_DENIED;
    if (again) { /* a peer may take its messages back for ever */
        const struct np_wait limited = in_message(recv, wait);
        uint32_t code = np_overdue(&limited);
        if (code != NP_OK)
            return code;
    }
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    if (!link) {
        pthread_mutex_unlock(&handle->rx_lock);
        return np_code_without_link(handle);
    }
    recv->op.size = UINT32_MAX; /* it takes a message of any length */
    recv->op.pended = true;
    recv->link = link;
    np_link_ref(link);
    np_queue_append(&link->rx.first, &link->rx.last, &recv->op);
    enum np_heed heed = NP_HEED_ASK;
    uint32_t waited = NP_OK, turns = 0;
    for (;;) {
        uint32_t code;
        if (waited == NP_INTERRUPTED)
            return recv_fail(handle, recv, waited);
        if (!np_in_use(handle, link) && !np_read_is_owed(link, recv->pended))
            return recv_fail(handle, recv, np_code_of_end(link));
        np_drive_ahead(handle, link, &recv->op);
        if (link->rx.first == &recv->op)
            code = np_message_find(handle, link, &recv->message, size);
        else
            code = behind_others(link, recv->pended);
        recv->message.pended = recv->pended = true;
        if (code == NP_OK)
            break;
        if (code == NP_WOULD_WAIT && waited != NP_OK)
            code = waited;
        if (code != NP_WOULD_WAIT)
            return recv_fail(handle, recv, np_in_use(handle, link) ? code : np_code_of_end(link));
        waited = np_restless(&turns, wait_to_read(handle, link, &recv->op, &heed, wait), wait);
    }
    np_unlock_moved(handle, &handle->rx_lock);
    return NP_OK;
}

static uint32_t copy_more(struct np_handle *handle, struct np_recv *recv, void *buffer, uint32_t upto)
{
    struct np_link *link = recv->link;
    if (!np_in_use(handle, link) && !np_read_is_owed(link, recv->pended))
        return np_code_of_end(link);
    return np_message_copy(link, &recv->op, &recv->message, buffer, upto);
}

uint32_t np_recv_more_now(struct np_handle *handle, struct np_recv *recv, void *buffer, uint32_t upto)
{
    pthread_mutex_lock(&handle->rx_lock);
    uint32_t code = copy_more(handle, recv, buffer, upto);
    if (code != NP_OK && code != NP_WOULD_WAIT && !np_in_use(handle, recv->link))
        code = np_code_of_end(recv->link);
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

uint32_t np_recv_more(struct np_handle *handle, struct np_recv *recv, void *buffer, uint32_t upto,
                      const struct np_wait *wait)
{
    struct np_link *link = recv->link;
    enum np_heed heed = NP_HEED_AWAKE;
    uint32_t waited = NP_OK;
    pthread_mutex_lock(&handle->rx_lock);
    if (!recv->patience && link->rx.active)
        recv->patience = patient(link, NP_TRY, false);
    const struct np_wait limited = in_message(recv, wait);
    for (;;) {
        uint32_t code = waited == NP_INTERRUPTED ? waited : copy_more(handle, recv, buffer, upto);
        if (code == NP_WOULD_WAIT && waited != NP_OK)
            code = waited;
        if (code != NP_WOULD_WAIT) {
            if (code != NP_OK && !np_in_use(handle, link) && waited == NP_OK)
                code = np_code_of_end(link);
            pthread_mutex_unlock(&handle->rx_lock);
            return code;
        }
        waited = np_restless(&recv->turns, wait_to_read(handle, link, &recv->op, &heed, &limited), &limited);
    }
}

uint32_t np_recv_end(struct np_handle *handle, struct np_recv *recv, void *buffer, bool consume)
{
    struct np_link *link = recv->link;
    uint32_t code = NP_OK;
    if (!link)
        return NP_OK;
    pthread_mutex_lock(&handle->rx_lock);
    bool in_use = np_in_use(handle, link);
    if (!in_use && !np_read_is_owed(link, recv->pended))
        code = consume ? np_code_of_end(link) : NP_OK;
    else if (consume)
        code = np_message_take(link, &recv->op, &recv->message);
    else if (in_use)
        code = np_message_leave(link, &recv->op, &recv->message, buffer);
    if (code == NP_RETRY && !in_use)
        code = np_code_of_end(link);
    end_pended_read(handle, link, &recv->op);
    recv->link = NULL;
    np_unlock_moved(handle, &handle->rx_lock);
    return code;
}

/* ---- Peeking */

uint32_t np_peek(struct np_handle *handle, void *buffer, uint32_t size, uint32_t *count, uint32_t *available,
                 uint32_t *left)
{
    *count = *available = *left = 0;
    if (!(handle->access & NP_READ))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    uint32_t code;
    if (!link) {
        code = np_code_without_link(handle);
        if (handle->server && code != NP_INVALID_HANDLE)
            code = NP_BAD_PIPE;
    } else {
        np_drive_ahead(handle, link, NULL);
        code = np_link_check(link);
        bool broken = code == NP_BROKEN_PIPE;
        uint32_t peer = atomic_load_explicit(link->peer_state, memory_order_acquire);
        if (broken && peer != NPL_END_ABORTED) {
            if (peer == NPL_END_OPEN)
                np_rx_trim(link);
            if (np_rx_settle(link) == NP_OK) {
                np_rx_drop_incomplete(link);
                code = np_rx_settle(link) == NP_OK ? NP_OK : NP_BROKEN_PIPE;
            }
        }
        if (broken && np_rx_has_back(link))
            code = NP_OK;
        if (code == NP_OK && !link->rx.first)
            *count = np_rx_peek(link, buffer, size, available, left);
        if (code == NP_OK && atomic_load_explicit(&link->alert, memory_order_relaxed) & NP_ALERT_BROKEN)
            code = NP_INVALID_DATA;
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

void np_look(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    if (handle->link)
        np_link_look(handle->link, false);
    pthread_mutex_unlock(&handle->rx_lock);
}

bool np_has_unread(struct np_handle *handle)
{
    if (!(handle->access & NP_READ))
        return false;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    bool unread = false;
    if (link && np_link_check(link) == NP_OK) {
        np_drive_ahead(handle, link, NULL);
        unread = np_rx_has_back(link) || np_rx_settle(link) == NP_OK;
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return unread;
}
