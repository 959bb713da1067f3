/* Messages in place: reservations and views between two ends of one process, alone and mixed with the copying calls. */
#include "pair.h"
#include "ring/idle.h"

#define QUOTA 20000u

static uint64_t seed;

static uint32_t pick(uint32_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % below;
}

static uint32_t reserve(struct np_handle *handle, struct np_reserve *place, uint32_t size)
{
    return np_reserve_place(handle, place, size, &only_try);
}

static void send_in_place(struct np_handle *handle, const void *data, uint32_t size, uint32_t room)
{
    struct np_reserve place;
    CHECK_EQUAL(reserve(handle, &place, room), NP_OK);
    if (size)
        memcpy(place.data, data, size);
    CHECK_EQUAL(np_reserve_end(handle, &place, size, true, false), NP_OK);
    np_reserve_let_go(&place);
}

static void a_reservation_is_a_message_at_its_end_or_never(void)
{
    struct pair pair;
    struct np_reserve place, second;
    open_pair(&pair, NP_TYPE_MESSAGE, QUOTA);
    CHECK_EQUAL(reserve(&pair.client, &place, 5), NP_OK);
    memcpy(place.data, "abcde", 5);
    expect_read(&pair.server, 10, NP_WOULD_WAIT, "");
    CHECK_EQUAL(try_write(&pair.client, "x", 1), NP_WOULD_WAIT);
    CHECK_EQUAL(reserve(&pair.client, &second, 5), NP_WOULD_WAIT);
    CHECK_EQUAL(np_reserve_end(&pair.client, &place, 5, true, false), NP_OK);
    np_reserve_let_go(&place);
    expect_read(&pair.server, 10, NP_OK, "abcde");
    CHECK_EQUAL(reserve(&pair.client, &place, 5), NP_OK);
    CHECK_EQUAL(np_reserve_end(&pair.client, &place, 5, false, false), NP_OK);
    np_reserve_let_go(&place);
    expect_read(&pair.server, 10, NP_WOULD_WAIT, "");
    CHECK_EQUAL(reserve(&pair.client, &place, 0), NP_MORE_DATA);
    CHECK_EQUAL(reserve(&pair.client, &place, QUOTA + 1), NP_MORE_DATA);
    CHECK_EQUAL(reserve(&pair.client, &place, QUOTA), NP_OK);
    CHECK_EQUAL(np_reserve_end(&pair.client, &place, 0, true, false), NP_OK);
    np_reserve_let_go(&place);
    expect_read(&pair.server, 10, NP_OK, "");
    close_pair(&pair);
}

static void every_size_at_every_position_of_the_ring_is_contiguous(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, QUOTA);
    static unsigned char data[QUOTA];
    static const uint32_t sizes[] = {1, 2, 126, 127, 128, 129, 4095, 16383, 16384, 16385, 19999, 20000};
    for (unsigned round = 0; round < 300; round++)
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            uint32_t room = sizes[i], size = round % 3 ? room : room / (1 + round % 7);
            struct np_view view;
            fill_pattern(data, size, round + i);
            send_in_place(&pair.client, data, size, room);
            CHECK_EQUAL(np_view_now(&pair.server, &view, size), NP_OK);
            CHECK_EQUAL(view.size, size);
            CHECK(size == 0 || memcmp(view.data, data, size) == 0);
            CHECK_EQUAL(np_view_end(&pair.server, &view, NULL, true, false), NP_OK);
            np_view_let_go(&view);
        }
    close_pair(&pair);
}

static void a_view_stays_until_its_end_and_an_exported_one_for_ever(void)
{
    struct pair pair;
    struct np_view view, other;
    open_pair(&pair, NP_TYPE_MESSAGE, QUOTA);
    static unsigned char data[QUOTA], in[QUOTA];
    for (int turn = 0; turn < 30; turn++) {
        fill_pattern(data, QUOTA, (uint32_t)turn);
        CHECK_EQUAL(try_write(&pair.client, data, QUOTA), NP_OK);
        CHECK_EQUAL(np_view_now(&pair.server, &view, QUOTA - 1), NP_MORE_DATA);
        CHECK_EQUAL(np_view_now(&pair.server, &view, QUOTA), NP_OK);
        CHECK_EQUAL(np_view_now(&pair.server, &other, QUOTA), NP_WOULD_WAIT);
        CHECK_EQUAL(try_write(&pair.client, "x", 1), NP_WOULD_WAIT); /* it still fills the quota */
        CHECK_EQUAL(np_view_end(&pair.server, &view, NULL, false, false), NP_OK);
        np_view_let_go(&view);
        CHECK_EQUAL(np_view_now(&pair.server, &view, QUOTA), NP_OK);
        const void *kept = view.data;
        CHECK_EQUAL(np_view_end(&pair.server, &view, NULL, true, true), NP_OK);
        uint32_t count;
        for (int i = 0; i < 8; i++) {
            CHECK_EQUAL(try_write(&pair.client, in, QUOTA), NP_OK);
            CHECK_EQUAL(np_read(&pair.server, in, sizeof in, &count, &only_try), NP_OK);
        }
        CHECK(memcmp(kept, data, QUOTA) == 0);
        np_view_let_go(&view);
    }
    CHECK_EQUAL(try_write(&pair.client, data, QUOTA), NP_OK);
    CHECK_EQUAL(np_view_now(&pair.server, &view, QUOTA), NP_OK);
    close_end(&pair.client);
    struct np_link *link = pair.server.link;
    np_link_ref(link);
    close_end(&pair.server);
    CHECK(memcmp(view.data, data, QUOTA) == 0);
    CHECK_EQUAL(np_view_end(&pair.server, &view, NULL, true, true), NP_OK);
    np_link_unref(link);
    CHECK(memcmp(view.data, data, QUOTA) == 0);
    np_view_let_go(&view);
    close_pair(&pair);
}

static void what_an_exported_reservation_writes_is_nobody_elses(void)
{
    struct pair pair;
    struct np_reserve place;
    open_pair(&pair, NP_TYPE_MESSAGE, QUOTA);
    for (int turn = 0; turn < 30; turn++) {
        CHECK_EQUAL(reserve(&pair.client, &place, 15000), NP_OK);
        unsigned char *kept = place.data;
        memset(kept, 1, 15000);
        CHECK_EQUAL(np_reserve_end(&pair.client, &place, 15000, false, true), NP_OK);
        static unsigned char data[15000], in[15000];
        fill_pattern(data, sizeof data, (uint32_t)turn);
        send_in_place(&pair.client, data, sizeof data, sizeof data);
        memset(kept, 2, 15000);
        uint32_t count;
        CHECK_EQUAL(np_read(&pair.server, in, sizeof in, &count, &only_try), NP_OK);
        CHECK(count == sizeof in && memcmp(in, data, sizeof in) == 0);
        np_reserve_let_go(&place);
    }
    close_pair(&pair);
}

/* One thread: whatever is reserved, sent, shrunk, withdrawn, queued and read in whatever way comes whole, once and in
 * order. */
#define MOST 64
struct expected {
    uint32_t size, number;
};

static void random_mixes_keep_order_and_content(void)
{
    static unsigned char data[3 * QUOTA], in[3 * QUOTA];
    for (uint32_t turn = 0; turn < 60; turn++) {
        struct pair pair;
        struct expected queue[MOST];
        uint32_t first = 0, last = 0, number = 0;
        struct np_op *pending = NULL;
        void *pending_data = NULL;
        open_pair(&pair, NP_TYPE_MESSAGE, QUOTA);
        seed = turn;
        for (int step = 0; step < 3000; step++) {
            uint32_t size = pick(4) ? pick(200) : pick(QUOTA + 1), how = pick(7);
            if (last - first < MOST && how < 3) {
                fill_pattern(data, size, number);
                struct np_reserve place;
                uint32_t room = size + pick(100);
                uint32_t code = how ? NP_MORE_DATA : reserve(&pair.client, &place, room);
                if (code == NP_OK) {
                    bool commit = pick(4) != 0;
                    if (size)
                        memcpy(place.data, data, size);
                    CHECK_EQUAL(np_reserve_end(&pair.client, &place, size, commit, pick(50) == 0), NP_OK);
                    np_reserve_let_go(&place);
                    if (commit)
                        queue[last++ % MOST] = (struct expected){size, number++};
                } else if (code == NP_MORE_DATA && try_write(&pair.client, data, size) == NP_OK)
                    queue[last++ % MOST] = (struct expected){size, number++};
            } else if (last - first < MOST && how == 3 && !pending) { /* over the quota, in its turn */
                size += QUOTA;
                pending_data = malloc(size);
                fill_pattern(pending_data, size, number);
                pending = calloc(1, sizeof *pending);
                pending->in = pending_data;
                pending->size = size;
                pthread_mutex_lock(&pair.client.tx_lock);
                CHECK_EQUAL(np_tx_submit(pair.client.link, pending), NP_OK);
                pthread_mutex_unlock(&pair.client.tx_lock);
                queue[last++ % MOST] = (struct expected){size, number++};
            } else if (how >= 4) {
                struct np_view view;
                uint32_t count = 0, code;
                const void *got = in;
                bool in_place = how == 4 && np_view_now(&pair.server, &view, UINT32_MAX) == NP_OK;
                if (in_place) {
                    got = view.data;
                    count = view.size;
                    code = NP_OK;
                } else
                    code = np_read(&pair.server, in, sizeof in, &count, &only_try);
                if (code == NP_OK) {
                    CHECK(first != last);
                    const struct expected *expected = &queue[first % MOST];
                    CHECK_EQUAL(count, expected->size);
                    fill_pattern(data, count, expected->number);
                    CHECK(count == 0 || memcmp(got, data, count) == 0);
                    bool consume = !in_place || pick(3);
                    if (in_place) {
                        CHECK_EQUAL(np_view_end(&pair.server, &view, NULL, consume, pick(50) == 0), NP_OK);
                        np_view_let_go(&view);
                    }
                    first += consume;
                } else
                    CHECK_EQUAL(code, NP_WOULD_WAIT);
            }
            if (pending) {
                pthread_mutex_lock(&pair.client.tx_lock);
                CHECK_EQUAL(np_tx_pump(pair.client.link), NP_OK);
                pthread_mutex_unlock(&pair.client.tx_lock);
                if (pending->done) {
                    free(pending);
                    free(pending_data);
                    pending = NULL;
                    pending_data = NULL;
                }
            }
        }
        if (pending) {
            pthread_mutex_lock(&pair.client.tx_lock);
            if (pending->queued)
                np_tx_forget(pair.client.link, pending);
            pthread_mutex_unlock(&pair.client.tx_lock);
            free(pending);
            free(pending_data);
        }
        close_pair(&pair);
    }
}

/* Threads: two write, one in place and one not, two read. Each message says who wrote it and how many that one had
 * written before. */
#define MESSAGES 4000u
struct writer {
    struct pair *pair;
    uint32_t number;
    bool in_place;
};

static void *write_all(void *argument)
{
    const struct writer *writer = argument;
    unsigned char data[600];
    for (uint32_t i = 0; i < MESSAGES; i++) {
        uint32_t size = 8 + i % 500, count;
        memcpy(data, &writer->number, 4);
        memcpy(data + 4, &i, 4);
        memset(data + 8, (int)(i % 251), size - 8);
        if (writer->in_place) {
            struct np_reserve place;
            CHECK_EQUAL(np_reserve_place(&writer->pair->client, &place, size + i % 50, &for_ever), NP_OK);
            memcpy(place.data, data, size);
            CHECK_EQUAL(np_reserve_end(&writer->pair->client, &place, size, i % 5 != 0, false), NP_OK);
            np_reserve_let_go(&place);
            if (i % 5)
                continue;
        }
        CHECK_EQUAL(np_write(&writer->pair->client, data, size, &count, &for_ever), NP_OK);
    }
    return NULL;
}

static _Atomic uint32_t read_so_far;
static _Atomic uint32_t next_of[2];

static void check(const unsigned char *data, uint32_t size)
{
    uint32_t number, i;
    memcpy(&number, data, 4);
    memcpy(&i, data + 4, 4);
    CHECK(number < 2 && i < MESSAGES && size == 8 + i % 500);
    for (uint32_t k = 8; k < size; k++)
        CHECK(data[k] == i % 251);
}

static void *read_all(void *argument)
{
    const struct writer *reader = argument;
    struct np_handle *handle = &reader->pair->server;
    unsigned char data[600];
    while (atomic_fetch_add(&read_so_far, 1) < 2 * MESSAGES) {
        uint32_t size = 0;
        if (!reader->in_place) {
            CHECK_EQUAL(np_read(handle, data, sizeof data, &size, &for_ever), NP_OK);
            check(data, size);
            continue;
        }
        struct np_view view;
        memset(&view, 0, sizeof view);
        np_recv_prepare(&view.recv, false);
        CHECK_EQUAL(np_recv_begin(handle, &view.recv, &size, &for_ever), NP_OK);
        view.size = size;
        if (np_view_in_place(handle, &view, true)) {
            check(view.data, size);
            uint32_t number, i;
            memcpy(&number, view.data, 4);
            memcpy(&i, (const unsigned char *)view.data + 4, 4);
            CHECK(atomic_load(&next_of[number]) <= i); /* who looks has the turn: they come in order */
            atomic_store(&next_of[number], i + 1);
            CHECK_EQUAL(np_view_end(handle, &view, NULL, true, i % 100 == 0), NP_OK);
            np_view_let_go(&view);
            continue;
        }
        CHECK_EQUAL(np_recv_more(handle, &view.recv, data, size, &for_ever), NP_OK);
        check(data, size);
        CHECK_EQUAL(np_view_take(handle, &view), NP_OK);
        CHECK_EQUAL(np_view_end(handle, &view, data, true, false), NP_OK);
        np_view_let_go(&view);
    }
    return NULL;
}

static void threads_share_both_ends(void)
{
    for (uint32_t quota = 1000; quota <= 100000; quota *= 10) {
        struct pair pair;
        struct writer of[4] = {{&pair, 0, true}, {&pair, 1, false}, {&pair, 0, true}, {&pair, 0, false}};
        pthread_t threads[4];
        open_pair(&pair, NP_TYPE_MESSAGE, quota);
        atomic_store(&read_so_far, 0);
        atomic_store(&next_of[0], 0);
        atomic_store(&next_of[1], 0);
        for (int i = 0; i < 4; i++)
            CHECK(pthread_create(&threads[i], NULL, i < 2 ? write_all : read_all, &of[i]) == 0);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        close_pair(&pair);
    }
}

static void *end_late(void *argument)
{
    struct pair *pair = argument;
    struct np_reserve place;
    uint32_t code = np_reserve_place(&pair->client, &place, 10, &for_ever);
    CHECK(code == NP_BROKEN_PIPE || code == NP_INVALID_HANDLE);
    return NULL;
}

static void a_close_ends_the_wait_for_room_and_a_time_out_leaves_nothing(void)
{
    struct pair pair;
    struct np_reserve place;
    open_pair(&pair, NP_TYPE_MESSAGE, 10);
    CHECK_EQUAL(try_write(&pair.client, "0123456789", 10), NP_OK);
    const struct np_wait soon = for_ms(20);
    CHECK_EQUAL(np_reserve_place(&pair.client, &place, 5, &soon), NP_SEM_TIMEOUT);
    expect_read(&pair.server, 20, NP_OK, "0123456789");
    expect_read(&pair.server, 20, NP_WOULD_WAIT, "");
    CHECK_EQUAL(try_write(&pair.client, "0123456789", 10), NP_OK);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, end_late, &pair) == 0);
    close_end(&pair.client);
    pthread_join(thread, NULL);
    close_pair(&pair);
}

/* A few at a time are taken, and those that were looked at keep what they have: nobody reads from them. */
#define LINKS 40
#define AT_A_TIME 7

struct looks {
    struct np_link *links[LINKS];
    uint32_t seen[LINKS], taken;
};

static bool look(void *context, struct np_link *link, bool idle)
{
    struct looks *looks = context;
    CHECK(idle);
    if (looks->taken == AT_A_TIME)
        return false;
    looks->taken++;
    for (uint32_t i = 0; i < LINKS; i++)
        looks->seen[i] += looks->links[i] == link;
    return true;
}

static void a_round_of_looks_at_idle_links_comes_to_each_of_them_once(void)
{
    static struct pair pairs[LINKS];
    struct looks looks = {0};
    np_idle_ns = 1;
    for (uint32_t i = 0; i < LINKS; i++) {
        open_pair(&pairs[i], NP_TYPE_MESSAGE, 100);
        looks.links[i] = pairs[i].client.link;
        np_idle_stir(looks.links[i]);
    }
    int64_t now = np_now() + NP_SECOND_NS;
    for (uint32_t round = 1; round <= 3; round++) {
        uint32_t turns = 0;
        for (uint32_t all = 0; all < LINKS; all += looks.taken) {
            looks.taken = 0;
            int64_t next = np_idle_look(now, look, &looks);
            CHECK(next > now);
            CHECK_EQUAL(np_idle_look(next - 1, look, &looks), next); /* not before */
            now = next;
            CHECK(++turns <= LINKS);
        }
        for (uint32_t i = 0; i < LINKS; i++)
            CHECK_EQUAL(looks.seen[i], round);
    }
    np_idle_ns = NP_SECOND_NS;
    for (uint32_t i = 0; i < LINKS; i++)
        close_pair(&pairs[i]);
    looks.taken = 0;
    CHECK_EQUAL(np_idle_look(now + NP_SECOND_NS, look, &looks), 0);
    CHECK_EQUAL(looks.taken, 0);
}

int main(void)
{
    RUN(a_reservation_is_a_message_at_its_end_or_never);
    RUN(every_size_at_every_position_of_the_ring_is_contiguous);
    RUN(a_view_stays_until_its_end_and_an_exported_one_for_ever);
    RUN(what_an_exported_reservation_writes_is_nobody_elses);
    RUN(random_mixes_keep_order_and_content);
    RUN(threads_share_both_ends);
    RUN(a_close_ends_the_wait_for_room_and_a_time_out_leaves_nothing);
    RUN(a_round_of_looks_at_idle_links_comes_to_each_of_them_once);
    return 0;
}
