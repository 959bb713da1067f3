#include "pipe/open.h"

#include "base/codes.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"
#include "pipe/dial.h"

_Thread_local int64_t np_held_since;

/* No event tells that there is room in a full backlog, and only a signal ends a connect() that waits for it: whoever
 * may be cancelled looks so often whether it was. */
#define BACKLOG_SLICE_NS INT64_C(50000000)

static bool has_answer(const void *what)
{
    const struct np_dial *dial = what;
    return np_socket_readable(dial->socket);
}

/* Waits until the owner has something to say, or dial->until: NP_OK. NP_INTERRUPTED: a signal's handler has raised, or
 * the call was cancelled. */
static uint32_t await_answer(const struct np_dial *dial, const struct np_wait *wait, struct np_breakable *breakable)
{
    if (np_spin_for(&np_brief_spins[NP_BRIEF_ANSWER], has_answer, dial, dial->until, NP_BRIEF_NS))
        return NP_OK;
    if (np_is_interrupted(wait))
        return NP_INTERRUPTED;
    if (np_dial_has_forked(dial))
        return NP_OK; /* the socket was the parent's */
    if (breakable)
        np_breakable_poll(breakable, dial->socket);
    uint32_t code = np_cancelled(wait) ? NP_INTERRUPTED : np_socket_wait(dial->socket, dial->until);
    if (breakable)
        np_breakable_poll(breakable, -1);
    if (np_cancelled(wait) || (code == NP_INTERRUPTED && np_is_interrupted(wait)))
        return NP_INTERRUPTED;
    return NP_OK;
}

/* Takes steps until one of them is the last. */
static uint32_t dial_through(struct np_dial *dial, const struct np_wait *wait, struct np_breakable *breakable,
                             char *why)
{
    for (;;) {
        /* A connect that nobody may cancel waits for as long as the dial itself would: a signal ends it. */
        int64_t patience = breakable ? np_now() + BACKLOG_SLICE_NS : NP_FOREVER;
        uint32_t code = np_dial_step(dial, patience, why);
        if (code == NP_IO_PENDING)
            code = await_answer(dial, wait, breakable);
        else if (code != NP_WOULD_WAIT && code != NP_RETRY)
            return code;
        else
            code = np_cancelled(wait) || np_is_interrupted(wait) ? NP_INTERRUPTED : NP_OK;
        if (code != NP_OK)
            return code;
    }
}

uint32_t np_open(const struct np_where *where, const struct np_open_options *options, const struct np_wait *wait,
                 struct np_handle **result, char *why)
{
    struct np_dial dial;
    np_dial_begin(&dial, where, NPW_OPEN, options, wait->deadline, false);
    uint32_t code = dial_through(&dial, wait, NULL, why);
    if (code == NP_OK)
        code = np_dial_handle(&dial, result, why);
    np_held_since = dial.held_since;
    np_dial_end(&dial);
    return code;
}

uint32_t np_wait_named(const struct np_where *where, bool use_default, const struct np_wait *wait,
                       struct np_breakable *breakable, char *why)
{
    const struct np_open_options options = {0};
    struct np_dial dial;
    np_dial_begin(&dial, where, NPW_WAIT, &options, wait->deadline, use_default);
    uint32_t code = dial_through(&dial, wait, breakable, why);
    np_held_since = dial.held_since;
    np_dial_end(&dial);
    return code;
}
