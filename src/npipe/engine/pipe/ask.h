/* DESCRIBE: what a pipe's owners tell of their instances. */
#ifndef NPIPE_PIPE_ASK_H
#define NPIPE_PIPE_ASK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pipe/messages.h"

struct np_wait;

/* One owner of a pipe, and a part of its connections: the first with `first`, and then as many as there are. */
struct np_described {
    /* NP_OK; NP_INVALID_FUNCTION: it is of a version that cannot tell; NP_ACCESS_DENIED; NP_SEM_TIMEOUT: it does not
     * answer; NP_INVALID_DATA: what it says makes no sense; NP_BROKEN_PIPE, not with `first`: it has gone in the midst.
     * Then there is nothing else. */
    uint32_t code;
    bool first;
    pid_t pid; /* the kernel's word */
    uid_t uid;
    struct npw_answer answer;
    struct npw_details details;
    int64_t answer_ns; /* from the question to its first answer: what its rendezvous takes just now; 0 without one */
    uint32_t count;
    const struct npw_connection *connections;
};
/* False ends it. */
typedef int (*np_describe_fn)(void *context, const struct np_described *described);
/* Asks all owners, one after the other, each for a second at most between two answers, all of them for ten seconds and
 * 131,072 connections. NP_OK; NP_FILE_NOT_FOUND: there is none; NP_INTERRUPTED; or why the folder cannot be looked at.
 */
uint32_t np_ask(const char *root, const char *folder, np_describe_fn each, void *context, const struct np_wait *wait,
                char *why);
/* Whether the answer of `got` bytes to a DESCRIBE from `from` on makes sense, and what it says. For the tests, too. */
uint32_t np_described(const void *bytes, ssize_t got, uint64_t from, struct np_described *described,
                      struct npw_connection *connections);

#endif
