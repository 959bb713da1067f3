#include "poll/dial.h"

#include <stdlib.h>
#include <string.h>

#include "base/codes.h"
#include "base/platform.h"

#define TURNS_AT_ONCE 16 /* owners that answer at once, that one look again, do not hold the loop */

struct np_dial *np_dial_new(const struct np_where *where, enum npw_kind kind, const struct np_open_options *options,
                            int64_t deadline, bool use_default)
{
    size_t root = strlen(where->root) + 1, folder = strlen(where->folder) + 1;
    struct np_dial *dial = malloc(sizeof *dial + root + folder);
    if (!dial)
        return NULL;
    char *names = (char *)(dial + 1);
    memcpy(names, where->root, root);
    memcpy(names + root, where->folder, folder);
    const struct np_where own = {.root = names, .folder = names + root, .display = ""};
    np_dial_begin(dial, &own, kind, options, deadline, use_default);
    return dial;
}

void np_dial_free(struct np_dial *dial)
{
    np_dial_end(dial);
    free(dial);
}

uint32_t np_dial_poll(struct np_dial *dial, char *why)
{
    uint32_t code = NP_RETRY;
    for (int turn = 0; turn < TURNS_AT_ONCE && code == NP_RETRY; turn++)
        code = np_dial_step(dial, np_now(), why);
    return code == NP_RETRY ? NP_WOULD_WAIT : code;
}
