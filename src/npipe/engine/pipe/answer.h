/* What an owner's answer means, and how long a client waits for it. */
#ifndef NPIPE_PIPE_ANSWER_H
#define NPIPE_PIPE_ANSWER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pipe/messages.h"

/* For how long a call that asked for no wait relies on another process's goodwill, all owners together, and what a WAIT
 * gives the question whether an instance listens at least: its time-out is for the instance (docs/semantics.md, 2.5 and
 * 4). */
#define NP_GOODWILL_NS INT64_C(1000000000)
#define NP_LEAST_ANSWER_NS INT64_C(50000000)
/* By when an owner has to have answered, while it does not hold the request: of a call that began at `began`. */
int64_t np_answer_due(bool waits, bool wait_named, bool use_default, int64_t began, int64_t deadline);
/* What is left of that for the owner who is asked now, with so many `others` behind it. */
int64_t np_share_of_time(int64_t due, uint32_t others);
/* Time is up: 231 where no wait was asked for, with the reason if no owner has answered (`pid`: the last one that was
 * asked, or 0). Other codes are as they were. */
uint32_t np_without_answer(uint32_t code, bool told, bool waits, int pid, char *why);
/* Why an owner has answered 1450. */
void np_say_reason(const struct npw_answer *answer, char *why);
/* Why it has answered 5. */
void np_say_denial(const struct npw_answer *answer, char *why);
/* What is known of a pipe that no instance of has come free: its owner's last answer. */
void np_say_busy(const struct npw_answer *answer, bool waited, char *why);
/* Whether a pipe can be like that: what a stranger says otherwise hides nobody else's. */
bool np_answer_makes_sense(const struct npw_answer *answer);
/* Whether 997 may be the answer to a request: only to one that is to be held, and once. */
static inline bool np_may_be_held(const struct npw_request *request)
{
    return request->kind == NPW_WAIT || request->flags & NPW_HOLD;
}
/* What np_receive_message has brought: the answer's code, NP_WOULD_WAIT (nothing yet), NP_RETRY (the owner has hung
 * up), or an error. */
uint32_t np_answer_code(ssize_t got, const struct npw_answer *answer, char *why);

#endif
