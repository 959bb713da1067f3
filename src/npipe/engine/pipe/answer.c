#include "pipe/answer.h"

#include <errno.h>
#include <string.h>

#include "base/codes.h"
#include "base/platform.h"
#include "pipe/directory.h"
#include "pipe/messages.h"

uint32_t np_answer_code(ssize_t got, const struct npw_answer *answer, char *why)
{
    if (got == -EAGAIN || got == -EINTR)
        return NP_WOULD_WAIT;
    if (got == -EMFILE)
        return NP_TOO_MANY_OPEN_FILES;
    if (got == -EMSGSIZE)
        got = sizeof *answer + 1; /* longer than ours: its beginning is here */
    if (got >= (ssize_t)(2 * sizeof(uint32_t)) && answer->magic == NPW_MAGIC && answer->version != NPW_VERSION) {
        np_say(why, "the server speaks version %u of npipe's protocol, this process version %u", answer->version,
               NPW_VERSION);
        return NP_REVISION_MISMATCH;
    }
    if (got <= 0)
        return NP_RETRY;
    /* An owner must not say the engine's own words: they would be taken for this process's. */
    if (got != (ssize_t)sizeof *answer || answer->magic != NPW_MAGIC || answer->code == NP_WOULD_WAIT ||
        answer->code == NP_INTERRUPTED) {
        np_say(why, "the server's answer makes no sense");
        return NP_INVALID_DATA;
    }
    return answer->code;
}

int64_t np_answer_due(bool waits, bool wait_named, bool use_default, int64_t began, int64_t deadline)
{
    int64_t goodwill = began + NP_GOODWILL_NS;
    if (!waits)
        return deadline != NP_TRY && deadline < goodwill ? deadline : goodwill;
    if (use_default || (wait_named && deadline <= began))
        return goodwill;
    int64_t least = began + NP_LEAST_ANSWER_NS;
    return wait_named && deadline < least ? least : deadline;
}

int64_t np_share_of_time(int64_t due, uint32_t others)
{
    int64_t now = np_now();
    if (others == 0 || due <= now)
        return due;
    return now + (due - now > NP_GOODWILL_NS ? NP_GOODWILL_NS / 4 : (due - now) / (others + 1));
}

uint32_t np_without_answer(uint32_t code, bool told, bool waits, int pid, char *why)
{
    if (code != NP_SEM_TIMEOUT || told)
        return code;
    const char *cure = waits ? "look at that process, or wait longer (timeout=)" : "look at that process";
    if (pid > 0)
        np_say(why, "the pipe's server does not answer: process %d is stopped, or very busy\n%s", pid, cure);
    else
        np_say(why, "the pipe's server does not answer: its process is stopped, or very busy\n%s", cure);
    return waits ? code : NP_PIPE_BUSY;
}

bool np_answer_makes_sense(const struct npw_answer *answer)
{
    return answer->direction >= NP_ACCESS_INBOUND && answer->direction <= NP_ACCESS_DUPLEX &&
           answer->max_instances >= 1 && answer->max_instances <= NP_UNLIMITED_INSTANCES &&
           (answer->type == 0 || answer->type == NP_TYPE_MESSAGE);
}

void np_say_reason(const struct npw_answer *answer, char *why)
{
    if (answer->reason > 0 && answer->reason < 4096)
        np_say(why, "the server cannot make the connection's memory: %s", strerror((int)answer->reason));
    else
        np_say(why, "the server cannot hold any more requests");
}

void np_say_denial(const struct npw_answer *answer, char *why)
{
    switch (answer->reason) {
    case NPW_NOT_THIS_USER:
        np_say(why, "the pipe's security does not let this user in\n"
                    "its server has to listen with a security that does (\"group:NAME\", \"everyone\", a Security)");
        break;
    case NPW_ONLY_READ:
        np_say(why, "the pipe's security lets clients only read\nconnect with access=\"read\"");
        break;
    case NPW_ONLY_WRITE:
        np_say(why, "the pipe's security lets clients only write\nconnect with access=\"write\"");
        break;
    case NPW_DIRECTION:
        if (answer->direction == NP_ACCESS_INBOUND)
            np_say(why, "the pipe is inbound: clients only write\nconnect with access=\"write\"");
        else if (answer->direction == NP_ACCESS_OUTBOUND)
            np_say(why, "the pipe is outbound: clients only read\nconnect with access=\"read\"");
        break;
    case NPW_NOT_FOR_OTHERS:
        np_say(why, "only the pipe's owner and root may open it for a client of another machine\n"
                    "run the export as the user whose server it is");
        break;
    default: /* another version of npipe, which does not tell */
        break;
    }
}

void np_say_busy(const struct npw_answer *answer, bool waited, char *why)
{
    const char *cure = waited ? "wait longer (timeout=), or let a client close"
                              : "wait for one: connect(timeout=...) or npipe.wait()";
    if (answer->max_instances != NP_UNLIMITED_INSTANCES && answer->instances >= answer->max_instances)
        np_say(why,
               waited ? "clients had all the instances that the pipe may have (max_instances: %u) in that time\n%s"
                      : "clients have all the instances that the pipe may have (max_instances: %u)\n%s",
               answer->instances, cure);
    else if (waited) /* more instances may be made, so it is the server that makes none */
        np_say(why, "no instance of the pipe was listening in that time\n"
                    "its server has to accept() the clients that have come, and listens again then; or wait longer "
                    "(timeout=)");
    else
        np_say(why, "no instance of the pipe is listening just now\n%s", cure);
}
