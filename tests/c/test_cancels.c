/* CancelSynchronousIo against the end of the call that it has found: white box, so that each can come in between the
 * other's steps. */
#include "handle/objects.c"

#include "check.h"

static struct np_handle *const one = (struct np_handle *)16, *const other = (struct np_handle *)32; /* names only */

static const struct np_call none;

static void a_cancel_that_comes_late_does_not_hit_the_next_call(void)
{
    struct np_thread *thread = np_thread_self();
    struct np_wait first = {.deadline = NP_FOREVER}, second = first, third = first;
    struct np_handle *handle;
    np_call_begin(thread, one, &first);
    uint32_t found = call_of(thread, &handle);
    CHECK(found != 0);
    CHECK(handle == one);
    np_call_end(thread, &none);
    np_call_begin(thread, other, &second);
    cancel_call(thread, found); /* who has looked before says it now */
    CHECK(!np_cancelled(&second));
    CHECK(np_cancelled(&first));

    CHECK(np_thread_cancel(thread, &handle));
    CHECK(handle == other);
    CHECK(np_cancelled(&second));
    cancel_call(thread, found); /* and does not take back what another one has said */
    CHECK(np_cancelled(&second));
    np_call_end(thread, &none);
    np_call_begin(thread, one, &third);
    CHECK(!np_cancelled(&third));
    np_call_end(thread, &none);
}

static void between_calls_there_is_nothing_to_cancel(void)
{
    struct np_thread *thread = np_thread_self();
    struct np_wait wait = {.deadline = NP_FOREVER};
    struct np_handle *handle = one;
    CHECK(!np_thread_cancel(thread, &handle));
    CHECK(handle == NULL);
    CHECK_EQUAL(np_threads_cancel(one), 0);
    np_call_begin(thread, one, &wait);
    CHECK_EQUAL(np_threads_cancel(other), 0);
    CHECK(!np_cancelled(&wait));
    CHECK_EQUAL(np_threads_cancel(one), 1);
    CHECK(np_cancelled(&wait));
    np_call_end(thread, &none);
    CHECK(!np_thread_cancel(thread, &handle));
    np_call_begin(thread, one, &wait);
    CHECK(!np_cancelled(&wait));
    np_call_end(thread, &none);
}

static void a_wait_for_a_name_leaves_no_cancel_behind(void)
{
    struct np_thread *thread = np_thread_self();
    struct np_wait named = {.deadline = NP_FOREVER}, next = named;
    struct np_handle *handle;
    np_call_begin_named(thread, &named);
    CHECK_EQUAL(np_threads_cancel(one), 0);
    CHECK(np_thread_cancel(thread, &handle));
    CHECK(handle == NULL);
    CHECK(np_cancelled(&named));
    np_call_end_named(thread, 0); /* it may have ended for another reason, and nobody has looked at the cancel */
    CHECK(!np_thread_cancel(thread, &handle));
    np_call_begin_named(thread, &next);
    CHECK(!np_cancelled(&next));
    np_call_end_named(thread, 0);
    np_call_begin(thread, one, &next);
    CHECK(!np_cancelled(&next));
    np_call_end(thread, &none);
}

static void the_numbers_may_wrap(void)
{
    struct np_thread *thread = np_thread_self();
    struct np_wait wait = {.deadline = NP_FOREVER};
    struct np_handle *handle;
    thread->number = UINT32_MAX - 4;
    thread->cancel = UINT32_MAX - 4;
    for (int i = 0; i < 3; i++) {
        np_call_begin(thread, one, &wait);
        CHECK(!np_cancelled(&wait));
        CHECK(np_thread_cancel(thread, &handle));
        CHECK(np_cancelled(&wait));
        np_call_end(thread, &none);
    }
}

/* A signal's handler makes calls in the middle of one. */
static void a_call_within_a_call_has_a_number_of_its_own(void)
{
    struct np_thread *thread = np_thread_self();
    struct np_handle *handle;
    /* 1: the outer one before, 2: the inner one, 4: the outer one after */
    for (int cancels = 0; cancels < 8; cancels++) {
        for (int named = 0; named < 2; named++) {
            struct np_wait outside = {.deadline = NP_FOREVER}, inside = outside;
            CHECK(!np_call_begin(thread, one, &outside).wait);
            if (cancels & 1)
                CHECK(np_thread_cancel(thread, &handle));
            struct np_call outer = {0};
            uint32_t number = 0;
            if (named)
                number = np_call_begin_named(thread, &inside);
            else
                outer = np_call_begin(thread, other, &inside);
            CHECK(!np_cancelled(&inside));
            if (cancels & 2) {
                CHECK(np_thread_cancel(thread, &handle));
                CHECK(handle == (named ? NULL : other));
            }
            CHECK(np_cancelled(&inside) == ((cancels & 2) != 0));
            if (named)
                np_call_end_named(thread, number);
            else
                np_call_end(thread, &outer);
            CHECK(np_cancelled(&outside) == ((cancels & 1) != 0));
            if (cancels & 4) {
                CHECK(np_thread_cancel(thread, &handle));
                CHECK(handle == one);
                CHECK(np_cancelled(&outside));
            }
            np_call_end(thread, &none);
            CHECK(!np_thread_cancel(thread, &handle));
        }
    }
}

/* ---- In threads */

enum { CALLS = 100000 };
static struct np_thread *_Atomic victim;
static _Atomic bool victim_is_done;
static uint32_t cancelled[2]; /* calls, by handle */

static void *call_again_and_again(void *unused)
{
    (void)unused;
    struct np_thread *thread = np_thread_self();
    victim = thread;
    for (uint32_t i = 0; i < CALLS; i++) {
        struct np_wait wait = {.deadline = np_now() + i % 7 * 300};
        np_call_begin(thread, i % 2 ? other : one, &wait);
        while (!np_cancelled(&wait) && !np_expired(&wait))
            np_pause();
        cancelled[i % 2] += np_cancelled(&wait);
        np_call_end(thread, &none);
    }
    victim_is_done = true;
    return NULL;
}

static void no_more_calls_are_cancelled_than_cancels_have_found_them(void)
{
    pthread_t thread;
    uint32_t found[2] = {0};
    CHECK(pthread_create(&thread, NULL, call_again_and_again, NULL) == 0);
    while (!victim)
        np_yield();
    struct np_thread *whom = victim;
    np_thread_ref(whom);
    while (!victim_is_done) {
        struct np_handle *handle;
        if (np_thread_cancel(whom, &handle))
            found[handle == other]++;
    }
    CHECK(pthread_join(thread, NULL) == 0);
    np_thread_unref(whom);
    CHECK(cancelled[0] <= found[0]);
    CHECK(cancelled[1] <= found[1]);
}

int main(void)
{
    RUN(a_cancel_that_comes_late_does_not_hit_the_next_call);
    RUN(between_calls_there_is_nothing_to_cancel);
    RUN(a_wait_for_a_name_leaves_no_cancel_behind);
    RUN(the_numbers_may_wrap);
    RUN(a_call_within_a_call_has_a_number_of_its_own);
    RUN(no_more_calls_are_cancelled_than_cancels_have_found_them);
    return 0;
}
