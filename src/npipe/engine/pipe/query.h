/* Questions about pipes: how many instances there are, and the listing of a root. */
#ifndef NPIPE_PIPE_QUERY_H
#define NPIPE_PIPE_QUERY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pipe/messages.h"

struct np_wait;

uint32_t np_query_instances(const char *root, const char *folder, uint32_t id, uint32_t *instances);
struct np_listing {
    struct npw_answer answer;
    uid_t uid;
    const char *folder;           /* in which it was found, */
    char name[NPW_NAME_SIZE + 1]; /* and what its owner says of its name: who lies may say anything, in any encoding */
};
typedef int (*np_list_fn)(void *context, const struct np_listing *pipe);
/* All pipes below the root that the caller may use, one after the other. The owners are asked side by side, for a
 * second at most; of a pipe whose owners are silent it is told what its page says, where that may be read. */
uint32_t np_list(const char *root, np_list_fn each, void *context, const struct np_wait *wait, char *why);

#endif
