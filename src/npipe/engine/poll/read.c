#include "poll/read.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/platform.h"
#include "base/wait.h"
#include "ring/back.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/rx.h"
#include "ring/segment.h"
#include "ring/tx.h"
#include "handle/handle.h"
#include "handle/message.h"
#include "handle/step.h"
#include "overlapped/drive.h"

uint32_t np_poll_socket(struct np_handle *handle, int *socket)
{
    np_handle_watch_current(handle);
    pthread_mutex_lock(&handle->rx_lock);
    uint32_t code = handle->link ? NP_OK : np_is_closed(handle) ? NP_INVALID_HANDLE : NP_PIPE_NOT_CONNECTED;
    if (handle->link) {
        *socket = handle->link->socket;
        handle->link->rx.polled = true; /* its bytes are the caller's from now on */
        atomic_store_explicit(&handle->link->rx.by_socket, 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

void np_poll_end(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    if (handle->link)
        handle->link->rx.polled = false; /* a byte that still comes is only a wake too many */
    pthread_mutex_unlock(&handle->rx_lock);
}

uint32_t np_arm_read(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    uint32_t code = NP_MORE_DATA;
    if (link && np_link_check(link) == NP_OK && !np_rx_has_back(link) && np_rx_settle(link) == NP_WOULD_WAIT) {
        link->rx.polled = true;
        atomic_store_explicit(&link->rx.by_socket, 0, memory_order_relaxed);
        /* Drain first: a byte that is still in flight is then only a wake too many. */
        for (int i = 0; i < NP_MOST_DRAINED && !link->rx.on_socket && np_link_drain_socket(link); i++)
            continue;
        np_move_detached(handle, link);
        atomic_fetch_or_explicit(&link->sleep->flags, NPL_ARMED_READ, memory_order_relaxed);
        /* Full fence, with its twin in the writer's publish: either it sees us armed, or we see its tail. */
        atomic_thread_fence(memory_order_seq_cst);
        code = NP_OK;
        if (np_rx_settle(link) != NP_WOULD_WAIT || !np_link_quiet(link))
            code = NP_MORE_DATA;
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

/* ---- Waking */

void np_poll_pump(struct np_link *link)
{
    np_tx_renew(link, NPL_ARMED_WRITE);
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
        np_poll_pump(handle->link);
    pthread_mutex_unlock(&handle->tx_lock);
    return gone;
}

/* ---- Pausing */

void np_poll_promise_pauses(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    if (handle->link)
        handle->link->rx.may_defer_wake = true;
    pthread_mutex_unlock(&handle->rx_lock);
}

void np_poll_pause(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    if (handle->link)
        np_rx_pause(handle->link);
    pthread_mutex_unlock(&handle->rx_lock);
}

bool np_poll_wake_deferred(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    bool owes = handle->link && handle->link->rx.wake_deferred;
    pthread_mutex_unlock(&handle->rx_lock);
    return owes;
}

bool np_poll_recv_take(struct np_handle *handle, void *buffer, uint32_t size)
{
    struct np_op op = {.out = buffer, .size = size};
    /* A plain entry stands in the ring in full, so this cannot fail. */
    np_rx_read(handle->link, &op, true, true);
    bool owes = handle->link->rx.wake_deferred;
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
        read->message.waits = true;
        read->link = link;
        np_link_ref(link);
        np_queue_append(&link->rx.first, &link->rx.last, &read->op);
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

#define MOST_FUTILE 65536u /* turns in a row, over several steps, in which the peer moves without giving anything */
/* In one step, of such turns and of any others, and of bytes: then the event loop has its turn. */
#define STEP_TURNS 256u
#define STEP_BYTES (4u << 20)

/* Asks for a byte when something comes; false: something has come, look again. */
static bool armed(struct np_link *link)
{
    np_rx_pause(link);
    np_rx_post(link);
    atomic_fetch_or_explicit(&link->sleep->flags, NPL_ARMED_READ, memory_order_relaxed);
    /* Full fence, with its twin in the writer's publish: either it sees us armed, or we see its tail. */
    atomic_thread_fence(memory_order_seq_cst);
    return !np_rx_moved_since(link, link->rx.tail, link->rx.rewinds) && np_link_quiet(link);
}

static void end_step(struct np_poll_read *read)
{
    read->turns = read->bytes = 0;
}

/* One turn more, which has taken what op->count has grown by. Whether the step may have another one. */
static bool may_turn(struct np_poll_read *read)
{
    const struct np_op *op = &read->op;
    if (op->count > read->seen) {
        read->bytes += op->count - read->seen;
        read->futile = 0;
    }
    read->seen = op->count;
    if (++read->futile > MOST_FUTILE) {
        np_link_violated(read->link); /* which the next look says */
        return true;
    }
    return ++read->turns < STEP_TURNS && read->bytes < STEP_BYTES;
}

/* Whether a look that gave *code is to be followed by another one in this step. With rx_lock held. */
static bool again(const struct np_handle *handle, struct np_poll_read *read, uint32_t *code)
{
    if (*code == NP_WOULD_WAIT && np_in_use(handle, read->link)) {
        if (armed(read->link)) {
            read->futile = 0;
        } else {
            if (may_turn(read))
                return true;
            *code = NP_YIELD;
        }
    }
    if (*code == NP_WOULD_WAIT || *code == NP_YIELD)
        end_step(read);
    return false;
}

static uint32_t read_once(struct np_handle *handle, struct np_poll_read *read)
{
    struct np_link *link = read->link;
    struct np_op *op = &read->op;
    bool in_use = np_in_use(handle, link);
    if (!in_use && !np_read_is_owed(link, op->waited))
        return np_code_of_end(link);
    np_drive_ahead(handle, link, op);
    if (link->rx.first != op)
        return in_use ? NP_WOULD_WAIT : np_code_of_end(link);
    uint32_t code = np_read_step(handle, link, op, read->message_mode, false);
    /* What a read of bytes has taken it returns: nothing of it would survive a cancel. */
    if (code == NP_WOULD_WAIT && !read->message_mode && np_op_has_taken(op)) {
        op->done = true;
        op->code = code = NP_OK;
    }
    if (code != NP_OK && !in_use)
        return np_code_of_end(link);
    return code == NP_OK ? op->code : code;
}

uint32_t np_poll_read_step(struct np_handle *handle, struct np_poll_read *read)
{
    uint32_t code;
    pthread_mutex_lock(&handle->rx_lock);
    do
        code = read_once(handle, read);
    while (again(handle, read, &code));
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

static uint32_t find_once(struct np_handle *handle, struct np_poll_read *read, uint32_t *size)
{
    struct np_link *link = read->link;
    bool in_use = np_in_use(handle, link);
    if (!in_use && !np_read_is_owed(link, read->message.pended))
        return np_code_of_end(link);
    np_drive_ahead(handle, link, &read->op);
    uint32_t code = NP_WOULD_WAIT;
    if (link->rx.first == &read->op)
        code = np_message_find(handle, link, &read->message, size);
    read->message.pended = read->message.pended || code == NP_WOULD_WAIT;
    return code == NP_OK || in_use ? code : np_code_of_end(link);
}

uint32_t np_poll_message(struct np_handle *handle, struct np_poll_read *read, uint32_t *size)
{
    uint32_t code = NP_OK;
    pthread_mutex_lock(&handle->rx_lock);
    read->op.count = 0;
    if (read->found && !may_turn(read)) { /* a peer may take its messages back for ever */
        code = NP_YIELD;
        end_step(read);
    }
    if (code == NP_OK)
        do
            code = find_once(handle, read, size);
        while (again(handle, read, &code));
    read->found = code == NP_OK || code == NP_YIELD;
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

static uint32_t copy_once(struct np_handle *handle, struct np_poll_read *read, uint8_t *buffer, uint32_t upto)
{
    bool in_use = np_in_use(handle, read->link);
    if (!in_use && !np_read_is_owed(read->link, read->message.pended))
        return np_code_of_end(read->link);
    uint32_t code = np_message_copy(read->link, &read->op, &read->message, buffer, upto);
    return code == NP_OK || in_use ? code : np_code_of_end(read->link);
}

uint32_t np_poll_message_more(struct np_handle *handle, struct np_poll_read *read, void *buffer, uint32_t upto)
{
    uint32_t code;
    pthread_mutex_lock(&handle->rx_lock);
    do
        code = copy_once(handle, read, buffer, upto);
    while (again(handle, read, &code));
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

uint32_t np_poll_message_take(struct np_handle *handle, struct np_poll_read *read)
{
    struct np_link *link = read->link;
    pthread_mutex_lock(&handle->rx_lock);
    bool in_use = np_in_use(handle, link);
    uint32_t code = NP_RETRY;
    if (in_use || np_read_is_owed(link, read->message.pended))
        code = np_message_take(link, &read->op, &read->message);
    if (code != NP_OK && !in_use)
        code = np_code_of_end(link);
    read->op.count = 0; /* consumed, or of an entry that has gone */
    if (code == NP_OK)
        read->found = false;
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
    if (!op->done && op->count && np_in_use(handle, link) && !np_forked(link)) {
        if (!op->out) {
            code = np_message_leave(link, op, &read->message, buffer);
        } else {
            op->out = buffer;
            if (!np_rx_give_back(link, op))
                code = np_link_violated(link); /* no memory to keep what was copied: the pipe cannot go on */
        }
    }
    np_rx_leave(link, op);
    np_drive_back(handle, link);
    pthread_mutex_unlock(&handle->rx_lock);
    np_link_unref(link);
    return code;
}

uint64_t np_poll_announced(struct np_handle *handle)
{
    uint64_t announced = 0;
    pthread_mutex_lock(&handle->rx_lock);
    if (handle->link && handle->link->rx.shared)
        /* Relaxed: nothing is read by it. A peer that says too much has more messages in a turn, and no more than its
         * turn has. */
        announced = atomic_load_explicit(&handle->link->rx.shared->producer.announced, memory_order_relaxed);
    pthread_mutex_unlock(&handle->rx_lock);
    return announced;
}

bool np_poll_is_read(struct np_handle *handle, uint64_t upto, uint32_t more)
{
    pthread_mutex_lock(&handle->rx_lock);
    bool is_read = !handle->link || (int64_t)(handle->link->rx.consumed + more - upto) >= 0;
    pthread_mutex_unlock(&handle->rx_lock);
    return is_read;
}

struct awaited {
    const struct np_link *link;
    uint64_t tail;
    uint32_t rewinds;
};

static struct awaited what_is_awaited(const struct np_link *link)
{
    return (struct awaited){link, link->rx.tail, link->rx.rewinds};
}

static bool has_come(const void *what)
{
    const struct awaited *awaited = what;
    return np_rx_moved_since(awaited->link, awaited->tail, awaited->rewinds) || !np_link_quiet(awaited->link);
}

bool np_poll_has_ended(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    bool ended = !handle->link || !np_link_quiet(handle->link);
    pthread_mutex_unlock(&handle->rx_lock);
    return ended;
}

bool np_poll_has_come(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    struct awaited awaited = {0};
    if (handle->link)
        awaited = what_is_awaited(handle->link);
    /* Whoever has taken a byte and finds nothing has to ask for another one: the peer took that request away before it
     * sent the byte, perhaps long after its message had been read. Relaxed: the byte came after that. */
    bool asks = !awaited.link || !awaited.link->rx.first ||
                atomic_load_explicit(&awaited.link->sleep->flags, memory_order_relaxed) & NPL_ARMED_READ;
    bool come = !asks || !awaited.link || awaited.link->rx.active || np_rx_has_back(awaited.link) ||
                awaited.link->rx.head != awaited.tail || has_come(&awaited);
    pthread_mutex_unlock(&handle->rx_lock);
    return come;
}

bool np_poll_spin(struct np_handle *handle, int64_t longest)
{
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    struct awaited awaited = {0};
    if (link) {
        awaited = what_is_awaited(link);
        np_link_ref(link);
    }
    pthread_mutex_unlock(&handle->rx_lock);
    if (!link)
        return true;
    bool come = np_spin_for(&link->rx.spin, has_come, &awaited, NP_FOREVER, longest);
    np_link_unref(link);
    return come;
}
