#include "pipe/create.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"
#include "process/process.h"
#include "ring/segment.h"
#include "handle/handle.h"
#include "pipe/close.h"
#include "pipe/directory.h"
#include "pipe/instances.h"
#include "pipe/owner.h"
#include "pipe/rule.h"

void np_listening_start(struct np_pipe *pipe, struct np_handle *handle)
{
    atomic_store_explicit(&handle->state, NP_LISTENING, memory_order_release);
    handle->client_pid = 0;
    np_listening_append(pipe, handle);
    np_pipe_serve(pipe);
    if (pipe->first_listening)
        np_pipe_nudge(pipe, true);
}

static void first_of_name(struct npf_page *page, const struct np_where *where, const struct np_create_options *options)
{
    size_t size = strlen(where->display);
    page->magic = NPF_MAGIC;
    page->version = NPF_VERSION;
    page->type = options->type;
    page->direction = options->access;
    page->max_instances = options->max_instances;
    page->default_timeout_ms = options->default_timeout_ms ? options->default_timeout_ms : NP_DEFAULT_TIMEOUT_MS;
    page->id = (uint32_t)np_random() | 1;
    page->name_size = (uint32_t)(size < NPF_NAME_SIZE ? size : NPF_NAME_SIZE);
    memcpy(page->name, where->display, page->name_size);
}

/* The checks of SEMANTICS 2.3 on a name that has `count` instances. */
static uint32_t may_create(const struct npf_page *page, uint32_t count, const struct np_create_options *options,
                           bool replaces)
{
    if (count == 0)
        return NP_OK;
    if (page->max_instances != NP_UNLIMITED_INSTANCES && count - replaces >= page->max_instances)
        return NP_PIPE_BUSY;
    if (options->first_instance || page->direction != options->access)
        return NP_ACCESS_DENIED;
    return NP_OK;
}

static uint32_t count_instances(const struct npf_page *page)
{
    uint32_t count = 0;
    for (int i = 0; i < NPF_SLOTS; i++)
        if (atomic_load_explicit(&page->slot[i].id, memory_order_acquire))
            count += atomic_load_explicit(&page->slot[i].instances, memory_order_relaxed);
    return count;
}

static const char *direction_name(uint32_t direction)
{
    return direction == NP_ACCESS_DUPLEX ? "duplex" : direction == NP_ACCESS_INBOUND ? "inbound" : "outbound";
}

/* Says why a name with so many instances takes no other one, and whose they are. */
static void say_taken(const struct np_folder *files, uint32_t code, uint32_t count,
                      const struct np_create_options *options, char *why)
{
    const struct npf_page *page = files->page;
    int32_t pid = 0;
    uint32_t owners = 0;
    for (int i = 0; i < NPF_SLOTS; i++)
        if (atomic_load_explicit(&page->slot[i].id, memory_order_acquire)) {
            pid = owners++ ? pid : (int32_t)page->slot[i].pid;
        }
    struct stat status;
    char whose[80];
    bool own = owners == 1 && pid == (int32_t)np_process.pid;
    if (own)
        snprintf(whose, sizeof whose, "this process");
    else
        snprintf(whose, sizeof whose, "process %d of uid %u%s", (int)pid,
                 fstat(files->dirfd, &status) == 0 ? (unsigned)status.st_uid : (unsigned)geteuid(),
                 owners > 1 ? " and others" : "");
    if (code == NP_PIPE_BUSY)
        np_say(why, "%s has all the instances that the pipe may have (max_instances: %u)\n%s", whose, count,
               own ? "close one first, or give the first listen a higher max_instances"
                   : "choose another name, or have its first server listen with a higher max_instances");
    else if (options->first_instance)
        np_say(why, "the name is taken: %s has it\n%s", whose,
               own ? "close that listener first, choose another name, or share it: exclusive=False in both"
                   : "end that process, choose another name, or share it: exclusive=False in both");
    else
        np_say(why, "%s has the name already, with access=\"%s\", and not \"%s\"\nlisten with access=\"%s\" too", whose,
               direction_name(page->direction), direction_name(options->access), direction_name(page->direction));
}

/* Checks under the folder's lock; `files` may be a pipe's own. */
static uint32_t check_name(const struct np_folder *files, uint64_t own_id, const struct np_create_options *options,
                           bool replaces, uint32_t *count, char *why)
{
    struct npf_page *page = files->page;
    bool known = page->magic == NPF_MAGIC;
    if (known && page->version != NPF_VERSION) {
        np_folder_bury(files, own_id);
        if (count_instances(page)) {
            np_say(why, "processes with another version of npipe own this pipe");
            return NP_REVISION_MISMATCH;
        }
    }
    *count = known ? count_instances(page) : 0;
    uint32_t code = may_create(page, *count, options, replaces);
    if (code != NP_OK) {
        np_folder_bury(files, own_id); /* perhaps only the dead are in the way */
        *count = count_instances(page);
        code = may_create(page, *count, options, replaces);
    }
    if (code != NP_OK)
        say_taken(files, code, *count, options, why);
    return code;
}

/* This process's first instance of the name. With the create lock held. NP_WOULD_WAIT: somebody else has the folder's
 * lock. */
static uint32_t new_pipe(const struct np_where *where, const struct np_create_options *options, struct np_pipe **result,
                         char *why)
{
    struct np_pipe *pipe = calloc(1, sizeof *pipe);
    if (!pipe)
        return NP_NOT_ENOUGH_MEMORY;
    pipe->socket = pipe->leader_event = -1;
    pipe->forks = np_forks;
    pipe->refs = 1;
    pipe->owner = geteuid();
    pipe->files = (struct np_folder){.dirfd = -1, .lockfd = -1};
    pipe->root = strdup(where->root);
    pipe->folder = strdup(where->folder);
    bool shared = np_rule_is_shared(&options->rule);
    uint32_t code = NP_NOT_ENOUGH_MEMORY, count = 0;
    pipe->summary = np_summary_new();
    pipe->since = np_wall_clock();
    if (!pipe->root || !pipe->folder || !pipe->summary || !np_rule_copy(&pipe->rule, &options->rule))
        goto failed;
    code = np_folder_enter(where->root, where->folder, shared, &pipe->files, why);
    if (code != NP_OK)
        goto failed;
    struct npf_page *page = pipe->files.page;
    code = check_name(&pipe->files, 0, options, false, &count, why);
    if (code != NP_OK)
        goto unlock;
    if (count == 0) {
        np_folder_bury(&pipe->files, 0);
        first_of_name(page, where, options);
    }
    pipe->type = page->type;
    pipe->direction = page->direction;
    pipe->max_instances = page->max_instances;
    pipe->default_timeout_ms = page->default_timeout_ms;
    pipe->slot = np_slot_find_free(page);
    if (!pipe->slot) {
        np_folder_bury(&pipe->files, 0);
        pipe->slot = np_slot_find_free(page);
    }
    if (!pipe->slot) {
        np_say(why, "too many processes (%d) own instances of this pipe", NPF_SLOTS);
        code = NP_NO_SYSTEM_RESOURCES;
        goto unlock;
    }
    do
        pipe->id = np_random();
    while (pipe->id == 0);
    char name[NPF_SOCKET_SIZE];
    np_socket_name(pipe->id, name);
    np_fds_hold();
    pipe->leader_event = np_fd_made(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    pipe->socket = pipe->leader_event < 0 ? -errno : np_socket_listen(pipe->files.dirfd, name, shared ? 0666 : 0600);
    if (pipe->socket < 0) {
        code = pipe->socket == -EMFILE || pipe->socket == -ENFILE ? NP_TOO_MANY_OPEN_FILES : NP_NO_SYSTEM_RESOURCES;
        np_say(why, "the pipe's socket cannot be made: %s", np_socket_error(-pipe->socket));
        goto unlock;
    }
    struct npf_slot *slot = pipe->slot;
    slot->pid = np_process.pid;
    atomic_store_explicit(&slot->instances, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->listening, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->waiters, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->id, pipe->id, memory_order_release);
    *result = pipe; /* the folder stays locked until the instance is counted */
    return NP_OK;
unlock:
    np_folder_remove(where->root, where->folder, &pipe->files);
    np_folder_unlock(&pipe->files);
failed:
    np_pipe_free(pipe);
    return code;
}

static uint32_t valid_options(const struct np_create_options *options)
{
    if (options->access < 1 || options->access > 3 || options->max_instances < 1 || options->max_instances > 255)
        return NP_INVALID_PARAMETER;
    if (options->type != NP_TYPE_MESSAGE && options->type != 0)
        return NP_INVALID_PARAMETER;
    if (options->mode & ~(uint32_t)(NP_MODE_NOWAIT | NP_MODE_READ_MESSAGE))
        return NP_INVALID_PARAMETER;
    if (options->mode & NP_MODE_READ_MESSAGE && options->type != NP_TYPE_MESSAGE)
        return NP_INVALID_PARAMETER; /* SEMANTICS 2.1 */
    return NP_OK;
}

/* What an instance has of its own, and what of its pipe (SEMANTICS 2.2). */
static void set_up(struct np_handle *handle, const struct np_pipe *pipe, const struct np_create_options *options)
{
    handle->server = true;
    handle->type = pipe->type;
    handle->direction = pipe->direction;
    handle->max_instances = pipe->max_instances;
    handle->quota[NPL_INBOUND] = options->in_quota;
    handle->quota[NPL_OUTBOUND] = options->out_quota;
    handle->server_pid = np_process.pid;
    handle->mode = options->mode;
    handle->no_socket_sleeps = handle->travels = options->overlapped;
    if (pipe->type != NP_TYPE_MESSAGE)
        handle->mode &= ~(uint32_t)NP_MODE_READ_MESSAGE;
    if (options->access & NP_ACCESS_INBOUND)
        handle->access |= NP_READ | NP_READ_ATTRIBUTES;
    if (options->access & NP_ACCESS_OUTBOUND)
        handle->access |= NP_WRITE | NP_WRITE_ATTRIBUTES;
}

void np_handle_copy_set_up(struct np_handle *fresh, const struct np_handle *handle)
{
    fresh->server = true;
    fresh->type = handle->type;
    fresh->direction = handle->direction;
    fresh->max_instances = handle->max_instances;
    memcpy(fresh->quota, handle->quota, sizeof fresh->quota);
    fresh->server_pid = np_process.pid;
    fresh->access = handle->access;
    fresh->no_socket_sleeps = handle->no_socket_sleeps;
    fresh->travels = handle->travels;
    fresh->mode = atomic_load_explicit(&handle->mode, memory_order_relaxed);
}

/* With both locks held. */
static void add_instance(struct np_pipe *pipe, struct np_handle *handle)
{
    pipe->instances++;
    atomic_fetch_add_explicit(&pipe->slot->instances, 1, memory_order_relaxed);
    handle->pipe = pipe;
    handle->summary = np_summary_hold(pipe->summary);
    np_handle_register(handle);
    np_listening_start(pipe, handle);
}

/* With the create lock held. NP_WOULD_WAIT: somebody else has the folder's lock. */
static uint32_t try_create(const struct np_where *where, const struct np_create_options *options,
                           struct np_handle *handle, char *why)
{
    struct np_pipe *pipe = np_pipe_find(where);
    bool fresh = !pipe, locked = true;
    uint32_t code = NP_OK;
    if (fresh) {
        code = new_pipe(where, options, &pipe, why);
    } else {
        uint32_t count;
        /* Without a limit nothing can go wrong that the lock would prevent. */
        locked = pipe->max_instances != NP_UNLIMITED_INSTANCES;
        if (locked && !np_folder_try_lock(&pipe->files))
            return NP_WOULD_WAIT;
        code = check_name(&pipe->files, pipe->id, options, false, &count, why);
        if (code != NP_OK && locked)
            np_folder_unlock(&pipe->files);
    }
    if (code != NP_OK)
        return code;
    set_up(handle, pipe, options);
    pthread_mutex_lock(&np_process.lock);
    if (options->untraceable && !pipe->untraceable)
        np_pipe_forbid_tracing(pipe);
    if (fresh) {
        pipe->watch = np_watch_add(pipe->socket, EPOLLIN, NP_WATCH_PIPE, pipe);
        if (!pipe->watch)
            code = NP_NOT_ENOUGH_MEMORY;
    }
    if (code == NP_OK) {
        if (fresh) {
            pipe->next = np_process.pipes;
            np_process.pipes = pipe;
        }
        add_instance(pipe, handle);
    }
    pthread_mutex_unlock(&np_process.lock);
    if (code != NP_OK) {
        np_pipe_vacate(pipe);
        np_pipe_end_locked(pipe);
    } else if (locked) {
        np_folder_unlock(&pipe->files);
    }
    return code;
}

uint32_t np_create(const struct np_where *where, const struct np_create_options *options, struct np_handle **result,
                   char *why)
{
    uint32_t code = valid_options(options);
    if (code != NP_OK)
        return code;
    struct np_handle *handle = np_handle_new();
    if (!handle)
        return NP_NOT_ENOUGH_MEMORY;
    struct np_lock_wait state = {0};
    do {
        code = np_process_start(); /* each time: the handler of a signal may have made a child of this process */
        if (code != NP_OK)
            break;
        pthread_mutex_lock(&np_process.create_lock);
        code = try_create(where, options, handle, why);
        pthread_mutex_unlock(&np_process.create_lock);
        if (code != NP_WOULD_WAIT)
            break;
        code = np_lock_pause(&state, options->wait, why);
    } while (code == NP_OK);
    if (code != NP_OK) {
        np_free(handle);
        return code;
    }
    *result = handle;
    return NP_OK;
}

static uint32_t try_create_another(const struct np_handle *handle, struct np_handle *fresh)
{
    uint32_t code = NP_OK;
    struct np_pipe *pipe = handle->pipe; /* changes under both locks */
    if (!pipe)
        return NP_INVALID_HANDLE;
    bool limited = pipe->max_instances != NP_UNLIMITED_INSTANCES;
    if (limited) {
        if (!np_folder_try_lock(&pipe->files))
            return NP_WOULD_WAIT;
        if (count_instances(pipe->files.page) >= pipe->max_instances)
            np_folder_bury(&pipe->files, pipe->id); /* perhaps only the dead are in the way */
        if (count_instances(pipe->files.page) >= pipe->max_instances)
            code = NP_PIPE_BUSY;
    }
    if (code == NP_OK) {
        pthread_mutex_lock(&np_process.lock);
        add_instance(pipe, fresh);
        pthread_mutex_unlock(&np_process.lock);
    }
    if (limited)
        np_folder_unlock(&pipe->files);
    return code;
}

uint32_t np_create_another(struct np_handle *handle, const struct np_wait *wait, struct np_handle **result)
{
    struct np_handle *fresh = np_handle_new();
    if (!fresh)
        return NP_NOT_ENOUGH_MEMORY;
    np_handle_copy_set_up(fresh, handle);
    struct np_lock_wait state = {0};
    uint32_t code;
    do {
        pthread_mutex_lock(&np_process.create_lock);
        code = try_create_another(handle, fresh);
        pthread_mutex_unlock(&np_process.create_lock);
        if (code != NP_WOULD_WAIT)
            break;
        code = np_lock_pause(&state, wait, NULL);
    } while (code == NP_OK);
    if (code == NP_OK)
        *result = fresh;
    else
        np_free(fresh);
    return code;
}
