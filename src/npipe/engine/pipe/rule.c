#include "pipe/rule.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/codes.h"
#include "process/process.h"
#include "handle/handle.h"
#include "pipe/directory.h"

bool np_rule_copy(struct np_access_rule *target, const struct np_access_rule *source)
{
    *target = *source;
    target->uids = malloc((source->n_uids + 1) * sizeof(uid_t));
    target->gids = malloc((source->n_gids + 1) * sizeof(gid_t));
    if (!target->uids || !target->gids)
        return false;
    if (source->n_uids)
        memcpy(target->uids, source->uids, source->n_uids * sizeof(uid_t));
    if (source->n_gids)
        memcpy(target->gids, source->gids, source->n_gids * sizeof(gid_t));
    return true;
}

void np_rule_free(struct np_access_rule *rule)
{
    free(rule->uids);
    free(rule->gids);
    rule->uids = NULL;
    rule->gids = NULL;
}

bool np_rule_is_shared(const struct np_access_rule *rule)
{
    return rule->everyone || rule->n_gids || rule->n_uids > 1;
}

/* The folder and the socket as np_folder_enter and np_socket_listen make them for a rule that is shared. They are not
 * closed again: the rule decides, and other processes may have instances. */
static bool open_to_others(const struct np_pipe *pipe)
{
    char name[NPF_SOCKET_SIZE];
    np_socket_name(pipe->id, name);
    return fchmod(pipe->files.dirfd, 0755) == 0 && fchmodat(pipe->files.dirfd, name, 0666, 0) == 0;
}

uint32_t np_rule_set(struct np_handle *handle, const struct np_access_rule *rule)
{
    struct np_access_rule fresh, before = {.uids = NULL, .gids = NULL};
    uint32_t code = NP_OK;
    if (!np_rule_copy(&fresh, rule)) {
        np_rule_free(&fresh);
        return NP_NOT_ENOUGH_MEMORY;
    }
    pthread_mutex_lock(&np_process.lock);
    struct np_pipe *pipe = handle->pipe;
    if (!pipe)
        code = NP_INVALID_FUNCTION;
    else if (np_rule_is_shared(&fresh) && !np_rule_is_shared(&pipe->rule) && !open_to_others(pipe))
        code = NP_ACCESS_DENIED;
    if (code == NP_OK) {
        before = pipe->rule;
        pipe->rule = fresh;
    }
    pthread_mutex_unlock(&np_process.lock);
    np_rule_free(code == NP_OK ? &before : &fresh);
    return code;
}
