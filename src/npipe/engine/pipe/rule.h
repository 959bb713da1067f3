/* Who may connect to a pipe: the rule of those of its instances that are this process's. */
#ifndef NPIPE_PIPE_RULE_H
#define NPIPE_PIPE_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "pipe/instances.h"

struct np_handle;

/* False: no memory; what there is of it is to be freed even so. */
bool np_rule_copy(struct np_access_rule *target, const struct np_access_rule *source);
void np_rule_free(struct np_access_rule *rule);
/* Whether it lets users in who are not the owner: they have to find the socket. */
bool np_rule_is_shared(const struct np_access_rule *rule);
/* From now on clients are checked against another rule; who is connected stays.
 *   NP_INVALID_FUNCTION  it is not the handle of an instance here
 *   NP_ACCESS_DENIED     the pipe's files may not be opened to others */
uint32_t np_rule_set(struct np_handle *handle, const struct np_access_rule *rule);

#endif
