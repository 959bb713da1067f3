/* A reader that moves by one byte whenever its writer has looked: white box, so that it is always ahead. */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

static void (*after_a_fence)(void);
static uint32_t fences;

#undef atomic_thread_fence
#define atomic_thread_fence(order)                              \
    do {                                                        \
        __atomic_thread_fence(order);                           \
        if ((order) == memory_order_seq_cst && after_a_fence) { \
            fences++;                                           \
            after_a_fence();                                    \
        }                                                       \
    } while (0)

#include "ring/tx.c"

#include "handle/step.h"
#include "pair.h"

static struct pair pair;
static uint64_t head;

/* The reader's commit: also its wake, if it is to wake somebody. */
static void the_reader_moves(void)
{
    struct npl_direction *shared = pair.client.link->tx.shared;
    struct npl_sleep *sleep = pair.client.link->sleep;
    if (head == atomic_load(&shared->producer.tail))
        return;
    atomic_store(&shared->consumer.head, ++head);
    if (head >= atomic_load(&sleep->wake_head))
        atomic_fetch_and(&sleep->flags, ~(uint32_t)(NPL_SLEEP_WRITE | NPL_ARMED_WRITE));
}

static void begin_to_move(uint32_t quota)
{
    open_pair(&pair, NP_TYPE_MESSAGE, quota);
    head = 0;
}

enum { MOST = 5000 }; /* fences: each renewal has one, and what it publishes */

static void a_step_of_an_event_loops_writes_is_bounded(void)
{
    enum { SIZE = 16 << 20 };
    unsigned char *data = calloc(1, SIZE);
    struct np_poll_write write;
    begin_to_move(100);
    after_a_fence = the_reader_moves;
    fences = 0;
    CHECK_EQUAL(np_poll_write_begin(&pair.client, &write, data, SIZE), NP_WOULD_WAIT);
    CHECK(fences < MOST);
    for (int i = 0; i < 3; i++) {
        fences = 0;
        np_poll_wake(&pair.client);
        CHECK(fences > 0 && fences < MOST);
        /* It has asked to be woken by whatever the reader does next. */
        CHECK(atomic_load(&pair.client.link->sleep->flags) & NPL_ARMED_WRITE || np_tx_moved(pair.client.link));
    }
    after_a_fence = NULL;
    np_poll_write_leave(&pair.client, &write, false);
    close_pair(&pair);
    free(data);
}

static void the_reader_takes_all(void)
{
    struct npl_direction *shared = pair.client.link->tx.shared;
    atomic_store(&shared->consumer.head, atomic_load(&shared->producer.tail));
}

static void a_step_with_a_reader_as_fast_as_the_writer_is_bounded(void)
{
    enum { SIZE = 64 << 20 };
    unsigned char *data = calloc(1, SIZE);
    struct np_poll_write write;
    begin_to_move(100);
    after_a_fence = the_reader_takes_all;
    const uint64_t most = MOST_MOVED + 2 * pair.client.link->tx.capacity;
    CHECK_EQUAL(np_poll_write_begin(&pair.client, &write, data, SIZE), NP_WOULD_WAIT);
    CHECK(write.op.count <= 2 * most); /* as it is queued, and then once more */
    while (write.op.count < SIZE) {
        uint32_t before = write.op.count;
        np_poll_wake(&pair.client);
        CHECK(write.op.count > before && write.op.count - before <= most);
    }
    after_a_fence = NULL;
    np_poll_write_leave(&pair.client, &write, false);
    close_pair(&pair);
    free(data);
}

/* Writes that nobody waits for are moved on by whoever has taken a byte out of the socket. */
static void to_move_detached_writes_on_is_bounded(void)
{
    static unsigned char data[60000];
    begin_to_move(0);
    struct np_link *link = pair.client.link;
    pthread_mutex_lock(&pair.client.tx_lock);
    while (np_tx_may_detach(link, sizeof data))
        CHECK_EQUAL(np_tx_detach(link, np_source_of(data), sizeof data), NP_OK);
    CHECK(np_tx_only_detached(link) && !np_tx_all_put(link));
    pthread_mutex_unlock(&pair.client.tx_lock);
    after_a_fence = the_reader_moves;
    fences = 0;
    pthread_mutex_lock(&pair.client.rx_lock);
    np_move_detached(&pair.client, link);
    pthread_mutex_unlock(&pair.client.rx_lock);
    CHECK(fences > 0 && fences < MOST);
    after_a_fence = NULL;
    while (link->tx.first) {
        struct np_op *op = link->tx.first;
        np_tx_forget(link, op);
        np_detached_done(op);
    }
    close_pair(&pair);
}

static void a_withdrawal_is_bounded(void)
{
    enum { SIZE = 16 << 20 };
    unsigned char *data = calloc(1, SIZE);
    struct np_op before = {.in = data, .size = SIZE}, withdrawn = {.in = data, .size = 100};
    begin_to_move(0);
    struct np_link *link = pair.client.link;
    pthread_mutex_lock(&pair.client.tx_lock);
    CHECK_EQUAL(np_tx_submit(link, &before), NP_OK);
    CHECK_EQUAL(np_tx_submit(link, &withdrawn), NP_OK);
    after_a_fence = the_reader_moves;
    fences = 0;
    CHECK_EQUAL(np_tx_withdraw(link, &withdrawn), NP_OK);
    CHECK(fences > 0 && fences < MOST);
    after_a_fence = NULL;
    np_tx_forget(link, &before);
    pthread_mutex_unlock(&pair.client.tx_lock);
    close_pair(&pair);
    free(data);
}

int main(void)
{
    RUN(a_step_of_an_event_loops_writes_is_bounded);
    RUN(a_step_with_a_reader_as_fast_as_the_writer_is_bounded);
    RUN(to_move_detached_writes_on_is_bounded);
    RUN(a_withdrawal_is_bounded);
    return 0;
}
