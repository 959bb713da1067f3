/* What a process believes of its neighbours: white box and with a clock of its own, for neighbours cannot be had on
 * demand. */
#include "base/identity.h"
#include "base/platform.h"
#include "base/socket.h"

static int64_t the_time = INT64_C(1000000000000);

static int64_t test_now(void)
{
    return the_time;
}

#define np_now test_now
#include "base/wait.c"

#include "check.h"

static void forget(void)
{
    contended.until = contended.span = contended.resumed = 0;
    contended.on = contended.remembered = false;
}

/* The time of not spinning ends, and `ns` later somebody waits. Whether it believes that neighbours are there. */
static bool believes_after(int64_t ns)
{
    the_time = contended.until + ns;
    return np_contended();
}

static void neighbours_are_believed_in_for_a_while(void)
{
    forget();
    CHECK(!np_contended());
    be_contended(the_time);
    CHECK(np_contended());
    CHECK(believes_after(-1));
    CHECK(!believes_after(0));
    CHECK(!believes_after(2 * IDLE_NS));
}

static void after_an_idle_time_they_are_remembered_once(void)
{
    forget();
    be_contended(the_time);
    CHECK(believes_after(2 * IDLE_NS));
    CHECK_EQUAL(contended.until, the_time + REMEMBERED_NS);
    /* One who waits now and then, and never for long, is not to believe in them for ever. */
    CHECK(!believes_after(2 * IDLE_NS));
    CHECK(!np_contended());
}

static void who_meets_them_again_at_once_keeps_still_for_longer(void)
{
    forget();
    be_contended(the_time);
    for (int64_t span = FIRST_OFF_NS; span <= LONGEST_OFF_NS; span *= 4) {
        CHECK_EQUAL(contended.span, span);
        CHECK(!believes_after(0));
        be_contended(the_time += CALM_NS);
    }
    CHECK_EQUAL(contended.span, LONGEST_OFF_NS);
    /* Having idled says nothing about them; having spun undisturbed does. */
    CHECK(believes_after(100 * CALM_NS));
    CHECK(!believes_after(0));
    be_contended(the_time += CALM_NS);
    CHECK_EQUAL(contended.span, LONGEST_OFF_NS);
    CHECK(!believes_after(0));
    be_contended(the_time += CALM_NS + 1);
    CHECK_EQUAL(contended.span, FIRST_OFF_NS);
}

static void what_happens_meanwhile_does_not_count(void)
{
    forget();
    last_look.known = true;
    last_look.spins_left = 100;
    be_contended(the_time);
    CHECK(np_contended());
    CHECK(!last_look.known);
    CHECK_EQUAL(last_look.spins_left, 0);
}

int main(void)
{
    RUN(neighbours_are_believed_in_for_a_while);
    RUN(after_an_idle_time_they_are_remembered_once);
    RUN(what_happens_meanwhile_does_not_count);
    RUN(who_meets_them_again_at_once_keeps_still_for_longer);
    return 0;
}
