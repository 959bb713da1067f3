/* Turns of threads that wait for messages and share a lock, here a mutex in the place of an interpreter's. */
#include <pthread.h>

#include "base/platform.h"
#include "base/turn.h"

#include "check.h"

#define OTHERS 8

static pthread_mutex_t the_lock = PTHREAD_MUTEX_INITIALIZER;
static int had_it; /* with the lock: how many have */

static void *wants(void *context)
{
    (void)context;
    struct np_run run = {0};
    np_turn_wait();
    np_turn_want();
    pthread_mutex_lock(&the_lock);
    np_turn_got(&run);
    had_it++;
    CHECK_EQUAL(run.given, np_turn_given());
    pthread_mutex_unlock(&the_lock);
    return NULL;
}

static bool a_turn_ends(struct np_run *run)
{
    for (int i = 0; i < NP_TURN_READS; i++)
        CHECK(!np_turn_is_over(run));
    return np_turn_is_over(run);
}

static void who_is_alone_goes_on(void)
{
    struct np_run run = {0};
    for (int i = 0; i < 100000; i++)
        CHECK(!np_turn_is_over(&run));
    CHECK(!np_turn_is_crowd(&run));
}

static void let_others_go_first(struct np_run *run)
{
    uint32_t given = np_turn_given();
    np_turn_wait();
    pthread_mutex_unlock(&the_lock);
    np_turn_pass(given);
    np_turn_want();
    pthread_mutex_lock(&the_lock);
    np_turn_got(run);
}

/* One that never sleeps lets all go that want the lock, each within a turn; and then nobody is waited for. */
static void who_never_sleeps_lets_others_go(void)
{
    pthread_t threads[OTHERS];
    struct np_run run = {0};
    had_it = 0;
    pthread_mutex_lock(&the_lock);
    for (int i = 0; i < OTHERS; i++)
        pthread_create(&threads[i], NULL, wants, NULL);
    while (atomic_load(&np_turns.wanting) < OTHERS)
        np_yield();
    CHECK(a_turn_ends(&run));
    let_others_go_first(&run);
    while (had_it < OTHERS) /* each of them is given the lock in a pass, or there is no processor for it yet */
        let_others_go_first(&run);
    CHECK_EQUAL(atomic_load(&np_turns.wanting), 0);
    CHECK_EQUAL(atomic_load(&np_turns.waiting), 0);
    pthread_mutex_unlock(&the_lock);
    for (int i = 0; i < OTHERS; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_lock(&the_lock);
    who_is_alone_goes_on();
    pthread_mutex_unlock(&the_lock);
}

/* One that waits and has nothing to do is no reason to sleep, but to ask now and then; one that has had work is. */
static void who_waits_for_nothing_is_no_crowd(void)
{
    struct np_run mine = {0}, others = {0};
    mine.given = np_turn_given();
    bool few = np_processors() > 2;
    np_turn_wait(); /* the other one, for all that follows */
    CHECK(!np_turn_is_crowd(&mine));
    CHECK_EQUAL(a_turn_ends(&mine), !few);
    np_turn_want();
    np_turn_got(&others);
    np_turn_wait(); /* it is back */
    CHECK_EQUAL(np_turn_is_crowd(&mine), !few);
    mine.reads = mine.alone = 0;
    CHECK(a_turn_ends(&mine));
    CHECK(!np_turn_is_crowd(&mine)); /* that is known now */
    np_turn_want();
    np_turn_got(&others);
}

static void a_pass_in_vain_ends(void)
{
    struct np_run run = {0};
    np_turn_wait();
    np_turn_want(); /* nobody, who never gets it */
    np_turn_pass(np_turn_given());
    np_turn_got(&run);
    np_turn_pass(np_turn_given());
    CHECK_EQUAL(atomic_load(&np_turns.passing), 0);
}

static void in_a_child_the_others_are_forgotten(void)
{
    np_turn_wait();
    np_turn_want();
    np_turns_after_fork();
    CHECK(!np_turn_is_wanted());
    who_is_alone_goes_on();
    struct np_run run = {0}; /* the wait that the child was forked in ends there */
    np_turn_want();
    np_turn_got(&run);
    CHECK_EQUAL(atomic_load(&np_turns.waiting), 0);
}

int main(void)
{
    RUN(who_is_alone_goes_on);
    RUN(who_never_sleeps_lets_others_go);
    RUN(who_waits_for_nothing_is_no_crowd);
    RUN(a_pass_in_vain_ends);
    RUN(in_a_child_the_others_are_forgotten);
    return 0;
}
