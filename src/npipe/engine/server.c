/* The server's side: creating instances, connecting, disconnecting, closing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "async.h"
#include "fds.h"
#include "registry.h"

/* ---- Listening instances, with the process lock held */

void np_listening_append(struct np_pipe *pipe, struct np_handle *handle)
{
    handle->next_listening = NULL;
    if (pipe->last_listening)
        pipe->last_listening->next_listening = handle;
    else
        pipe->first_listening = handle;
    pipe->last_listening = handle;
    /* Sequentially consistent: see count_waiters in rendezvous.c. */
    atomic_fetch_add_explicit(&pipe->slot->listening, 1, memory_order_seq_cst);
}

void np_listening_put_back(struct np_pipe *pipe, struct np_handle *handle)
{
    handle->next_listening = pipe->first_listening;
    pipe->first_listening = handle;
    if (!pipe->last_listening)
        pipe->last_listening = handle;
    atomic_fetch_add_explicit(&pipe->slot->listening, 1, memory_order_seq_cst);
}

void np_listening_remove(struct np_pipe *pipe, struct np_handle *handle)
{
    struct np_handle *before = NULL;
    for (struct np_handle *item = pipe->first_listening; item; before = item, item = item->next_listening) {
        if (item != handle)
            continue;
        if (before)
            before->next_listening = item->next_listening;
        else
            pipe->first_listening = item->next_listening;
        if (pipe->last_listening == item)
            pipe->last_listening = before;
        item->next_listening = NULL;
        atomic_fetch_sub_explicit(&pipe->slot->listening, 1, memory_order_seq_cst);
        return;
    }
}

/* The instance is the last in line from now on, and whoever waits is served. */
static void start_listening(struct np_pipe *pipe, struct np_handle *handle)
{
    atomic_store_explicit(&handle->state, NP_LISTENING, memory_order_release);
    handle->client_pid = 0;
    np_listening_append(pipe, handle);
    np_pipe_serve(pipe);
    if (pipe->first_listening)
        np_pipe_nudge(pipe, true);
}

/* ---- Pipes of this process */

static struct np_pipe *find_pipe(const struct np_where *where)
{
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next)
        if (strcmp(pipe->folder, where->folder) == 0 && strcmp(pipe->root, where->root) == 0)
            return pipe;
    return NULL;
}

static bool copy_rule(struct np_access_rule *target, const struct np_access_rule *source)
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

static void free_pipe(struct np_pipe *pipe)
{
    if (pipe->forks == np_forks) {
        np_fd_close(pipe->socket);
        np_fd_close(pipe->bell);
        np_folder_close(&pipe->files);
    }
    free(pipe->rule.uids);
    free(pipe->rule.gids);
    free(pipe->root);
    free(pipe->folder);
    free(pipe);
}

static struct npf_slot *free_slot(struct npf_page *page)
{
    for (int i = 0; i < NPF_SLOTS; i++)
        if (atomic_load_explicit(&page->slot[i].id, memory_order_acquire) == 0)
            return &page->slot[i];
    return NULL;
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
static uint32_t may_create(const struct npf_page *page, uint32_t count, const struct np_create_options *options, bool replaces)
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

/* Checks under the folder's lock; `files` may be a pipe's own. */
static uint32_t check_name(const struct np_folder *files, uint64_t own_id, const struct np_create_options *options, bool replaces,
                           uint32_t *count, char *why)
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
    if (code == NP_ACCESS_DENIED)
        np_say(why, options->first_instance ? "the pipe exists already, and its first instance was asked for"
                                            : "the pipe exists with another direction");
    return code;
}

/* This process's first instance of the name. With the create lock held. NP_WOULD_WAIT: somebody else has the folder's lock. */
static uint32_t new_pipe(const struct np_where *where, const struct np_create_options *options, struct np_pipe **result, char *why)
{
    struct np_pipe *pipe = calloc(1, sizeof *pipe);
    if (!pipe)
        return NP_NOT_ENOUGH_MEMORY;
    pipe->socket = pipe->bell = -1;
    pipe->forks = np_forks;
    pipe->refs = 1;
    pipe->owner = geteuid();
    pipe->files = (struct np_folder){.dirfd = -1, .lockfd = -1};
    pipe->root = strdup(where->root);
    pipe->folder = strdup(where->folder);
    bool shared = options->rule.everyone || options->rule.n_gids || options->rule.n_uids > 1;
    uint32_t code = NP_NOT_ENOUGH_MEMORY, count = 0;
    if (!pipe->root || !pipe->folder || !copy_rule(&pipe->rule, &options->rule))
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
    pipe->slot = free_slot(page);
    if (!pipe->slot) {
        np_folder_bury(&pipe->files, 0);
        pipe->slot = free_slot(page);
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
    pipe->bell = np_fd_made(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    pipe->socket = pipe->bell < 0 ? -errno : np_socket_listen(pipe->files.dirfd, name, shared ? 0666 : 0600);
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
    free_pipe(pipe);
    return code;
}

static void put_pipe(struct np_pipe *pipe)
{
    pthread_mutex_lock(&np_process.lock);
    bool last = --pipe->refs == 0;
    pthread_mutex_unlock(&np_process.lock);
    if (last)
        free_pipe(pipe);
}

/* The last to close may act as a client just now: then it steps out of that. Whether it has. */
static bool as_owner(const struct np_pipe *pipe)
{
    return geteuid() != pipe->owner && np_step_out();
}

void np_pipe_vacate(struct np_pipe *pipe)
{
    char name[NPF_SOCKET_SIZE];
    np_socket_name(pipe->id, name);
    bool out = as_owner(pipe);
    unlinkat(pipe->files.dirfd, name, 0);
    np_step_back(out);
    np_stop_listening(pipe->socket); /* not before: what refuses in a folder is taken for a dead one's */
    np_slot_leave(pipe->slot, pipe->id);
}

/* The rest of it, with the folder's lock. */
static void end_locked(struct np_pipe *pipe)
{
    bool out = as_owner(pipe);
    np_folder_bury(&pipe->files, 0);
    np_folder_remove(pipe->root, pipe->folder, &pipe->files);
    np_step_back(out);
    np_folder_unlock(&pipe->files);
    put_pipe(pipe);
}

/* The last instance here has gone. With the create lock held, the pipe out of the list. False: somebody else has the folder's lock,
 * and end_pipe is to follow without ours. To the others the pipe has gone already. */
static bool try_end_pipe(struct np_pipe *pipe)
{
    np_pipe_vacate(pipe);
    if (!np_process.pipes)
        np_kept_forget(NPL_SERVER);
    if (!np_folder_try_lock(&pipe->files))
        return false;
    end_locked(pipe);
    return true;
}

#define CLOSE_PATIENCE_NS 100000000 /* then the native thread takes over */

/* Without a lock. */
static void end_pipe(struct np_pipe *pipe, bool waits)
{
    const struct np_wait wait = {.deadline = waits ? np_now() + CLOSE_PATIENCE_NS : NP_TRY};
    struct np_lock_wait state = {0};
    while (!np_folder_try_lock(&pipe->files)) {
        if (np_lock_pause(&state, &wait, NULL) == NP_OK)
            continue;
        np_sweep_later(pipe->root, pipe->folder);
        put_pipe(pipe);
        return;
    }
    end_locked(pipe);
}

/* With the process lock held. */
static void unlist_pipe(struct np_pipe *pipe)
{
    for (struct np_pipe **place = &np_process.pipes; *place; place = &(*place)->next)
        if (*place == pipe) {
            *place = pipe->next;
            break;
        }
    np_pipe_turn_away(pipe);
    if (pipe->watch)
        np_watch_remove(pipe->watch, pipe->socket);
    pipe->watch = 0;
}

/* ---- Creation */

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
    handle->no_socket_sleeps = options->overlapped;
    if (pipe->type != NP_TYPE_MESSAGE)
        handle->mode &= ~(uint32_t)NP_MODE_READ_MESSAGE;
    if (options->access & NP_ACCESS_INBOUND)
        handle->access |= NP_READ | NP_READ_ATTRIBUTES;
    if (options->access & NP_ACCESS_OUTBOUND)
        handle->access |= NP_WRITE | NP_WRITE_ATTRIBUTES;
}

/* Another instance with the attributes of `handle`. */
static void copy_set_up(struct np_handle *fresh, const struct np_handle *handle)
{
    fresh->server = true;
    fresh->type = handle->type;
    fresh->direction = handle->direction;
    fresh->max_instances = handle->max_instances;
    memcpy(fresh->quota, handle->quota, sizeof fresh->quota);
    fresh->server_pid = np_process.pid;
    fresh->access = handle->access;
    fresh->no_socket_sleeps = handle->no_socket_sleeps;
    fresh->mode = atomic_load_explicit(&handle->mode, memory_order_relaxed);
}

/* With both locks held. */
static void add_instance(struct np_pipe *pipe, struct np_handle *handle)
{
    pipe->instances++;
    atomic_fetch_add_explicit(&pipe->slot->instances, 1, memory_order_relaxed);
    handle->pipe = pipe;
    np_handle_register(handle);
    start_listening(pipe, handle);
}

/* With the create lock held. NP_WOULD_WAIT: somebody else has the folder's lock. */
static uint32_t try_create(const struct np_where *where, const struct np_create_options *options, struct np_handle *handle, char *why)
{
    struct np_pipe *pipe = find_pipe(where);
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
        end_locked(pipe);
    } else if (locked) {
        np_folder_unlock(&pipe->files);
    }
    return code;
}

uint32_t np_create(const struct np_where *where, const struct np_create_options *options, struct np_handle **result, char *why)
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
    copy_set_up(fresh, handle);
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

/* ---- Connecting */

/* A disconnected instance listens again, unless it was closed, or another thread was first. */
static void listen_again(struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    if (handle->pipe && atomic_load_explicit(&handle->state, memory_order_acquire) == NP_DISCONNECTED)
        start_listening(handle->pipe, handle);
    pthread_mutex_unlock(&np_process.lock);
}

void np_accept_failed(struct np_pipe *pipe, struct np_handle *handle, int reason)
{
    /* Release, with np_connect's exchange: behind the word stand only the handle's own fields, which its lock guards. */
    atomic_store_explicit(&handle->connect_failed, reason ? reason : ENOMEM, memory_order_release);
    if (np_async_fail_connect(handle))
        atomic_store_explicit(&handle->connect_failed, 0, memory_order_relaxed); /* he is told */
    np_left_listening(pipe, handle);
}

int np_connect_reason(const struct np_handle *handle)
{
    return atomic_load_explicit(&handle->connect_reason, memory_order_relaxed);
}

/* Whether a client could not be let in since somebody was told of that. */
static bool accept_has_failed(struct np_handle *handle)
{
    int reason = atomic_load_explicit(&handle->connect_failed, memory_order_relaxed) == 0
                     ? 0
                     : atomic_exchange_explicit(&handle->connect_failed, 0, memory_order_acquire);
    if (reason)
        atomic_store_explicit(&handle->connect_reason, reason, memory_order_relaxed);
    return reason != 0;
}

void np_left_listening(struct np_pipe *pipe, struct np_handle *handle)
{
    uint64_t one = 1;
    np_async_end_connects(handle);
    np_acceptor_told(handle);
    atomic_fetch_add_explicit(&handle->connect_seq, 1, memory_order_seq_cst);
    /* Sequentially consistent, with its twin in await_client: either we see the sleeper, or he sees the number move. */
    if (atomic_load_explicit(&handle->connect_sleepers, memory_order_seq_cst))
        np_futex_wake(&handle->connect_seq, UINT32_MAX);
    if (pipe->led && !pipe->leader_awake && !pipe->bell_rings)
        pipe->bell_rings = write(pipe->bell, &one, sizeof one) == (ssize_t)sizeof one;
}

/* Takes the pipe's socket over from the native thread, so that a client that comes wakes the thread that waits for it,
 * and not another one first. NULL: somebody else has it. */
static struct np_pipe *lead(struct np_handle *handle, uint32_t seen)
{
    pthread_mutex_lock(&np_process.lock);
    struct np_pipe *pipe = handle->pipe;
    if (!pipe || pipe->led || !pipe->watch) {
        pipe = NULL;
    } else {
        pipe->led = handle;
        pipe->led_seq = seen;
        pipe->refs++;
        if (!pipe->leased_until)
            np_watch_change(pipe->watch, pipe->socket, 0, NP_WATCH_PIPE, pipe);
        pipe->leased_until = 0;
    }
    pthread_mutex_unlock(&np_process.lock);
    return pipe;
}

#define LEASE_NS 1000000

static void begin_lease(struct np_pipe *pipe)
{
    pipe->leased_until = np_now() + LEASE_NS;
    np_alarm(pipe->leased_until);
}

/* This thread has got a client without waiting, and most servers come for the next one in a moment: see stop_leading. */
static void lease(struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    struct np_pipe *pipe = handle->pipe;
    if (pipe && pipe->watch && !pipe->led && !pipe->leased_until) {
        begin_lease(pipe);
        np_watch_change(pipe->watch, pipe->socket, 0, NP_WATCH_PIPE, pipe);
    }
    pthread_mutex_unlock(&np_process.lock);
}

static void quieten_bell(struct np_pipe *pipe)
{
    uint64_t count;
    if (pipe->bell_rings && read(pipe->bell, &count, sizeof count) == (ssize_t)sizeof count)
        pipe->bell_rings = false;
}

/* Gives the socket back to the native thread; if `back_soon` only after a moment, in which most servers come for the next
 * client: else each of them would wake two threads. */
static void stop_leading(struct np_pipe *pipe, bool back_soon)
{
    pthread_mutex_lock(&np_process.lock);
    pipe->led = NULL;
    if (pipe->watch && back_soon)
        begin_lease(pipe);
    else if (pipe->watch)
        np_watch_change(pipe->watch, pipe->socket, EPOLLIN, NP_WATCH_PIPE, pipe);
    quieten_bell(pipe);
    pthread_mutex_unlock(&np_process.lock);
    put_pipe(pipe);
}

static uint32_t sleep_until_connected(struct np_handle *handle, uint32_t seen, const struct np_wait *wait)
{
    atomic_fetch_add_explicit(&handle->connect_sleepers, 1, memory_order_seq_cst);
    uint32_t code = np_sleep(&handle->connect_seq, seen, UINT32_MAX, wait);
    atomic_fetch_sub_explicit(&handle->connect_sleepers, 1, memory_order_relaxed);
    return code;
}

static bool somebody_comes(const void *what)
{
    const struct np_pipe *pipe = what;
    return np_socket_readable(pipe->socket);
}

/* Waits until the instance may have left the listening state, of which `seen` was read before. */
static uint32_t await_client(struct np_handle *handle, uint32_t seen, const struct np_wait *wait)
{
    struct np_pipe *pipe = lead(handle, seen);
    if (!pipe)
        return sleep_until_connected(handle, seen, wait);
    uint32_t code = NP_OK;
    bool paused = false;
    while (code == NP_OK && !paused && atomic_load_explicit(&handle->connect_seq, memory_order_acquire) == seen) {
        if (!np_spin_for(&np_brief_spins[NP_BRIEF_ACCEPT], somebody_comes, pipe, wait->deadline, NP_BRIEF_NS))
            code = np_sockets_wait(pipe->socket, pipe->bell, wait->deadline);
        if (code == NP_INTERRUPTED) {
            /* A handler may take its time, and clients are not to wait for it. */
            stop_leading(pipe, false);
            return wait->interrupted && wait->interrupted(wait->context) ? NP_INTERRUPTED : NP_OK;
        }
        pthread_mutex_lock(&np_process.lock);
        quieten_bell(pipe);
        pipe->leader_awake = true;
        if (pipe->watch)
            np_pipe_accept(pipe);
        pipe->leader_awake = false;
        paused = pipe->watch == 0; /* no descriptors are left, or the pipe has gone */
        pthread_mutex_unlock(&np_process.lock);
    }
    stop_leading(pipe, code == NP_OK && !paused);
    if (code == NP_OK && paused)
        code = sleep_until_connected(handle, seen, wait);
    return code;
}

uint32_t np_connect(struct np_handle *handle, const struct np_wait *wait)
{
    if (!handle->server)
        return NP_INVALID_FUNCTION;
    uint32_t code = NP_OK, seen;
    bool first = true, asked = false;
    for (;;) {
        if (np_cancelled(wait))
            return NP_INTERRUPTED;
        if (code == NP_INTERRUPTED)
            return code; /* a client that has come meanwhile is there for the next call */
        seen = atomic_load_explicit(&handle->connect_seq, memory_order_acquire);
        uint32_t state = atomic_load_explicit(&handle->state, memory_order_acquire);
        if (state == NP_LISTENING && first) {
            /* A client whose open has returned is there: the one who let it in may still be about to say so here. */
            pthread_mutex_lock(&np_process.lock);
            pthread_mutex_unlock(&np_process.lock);
            state = atomic_load_explicit(&handle->state, memory_order_acquire);
        }
        if (state == NP_DISCONNECTED && first) {
            listen_again(handle);
            first = false;
            continue;
        }
        if (state == NP_CLOSED)
            return first ? NP_INVALID_HANDLE : NP_BROKEN_PIPE;
        if (state == NP_DISCONNECTED)
            return NP_PIPE_NOT_CONNECTED; /* by another thread, while we waited */
        if (state == NP_CONNECTED) {
            if (!first)
                return NP_OK;
            pthread_mutex_lock(&handle->rx_lock);
            /* Looked at here and now: the native thread's word may be on its way. */
            if (handle->link)
                np_link_look(handle->link, false);
            bool left = handle->link && np_link_condition(handle->link) == NP_BROKEN_PIPE;
            pthread_mutex_unlock(&handle->rx_lock);
            lease(handle);
            return left ? NP_NO_DATA : NP_PIPE_CONNECTED;
        }
        if (accept_has_failed(handle))
            return NP_NO_SYSTEM_RESOURCES; /* it goes on listening */
        if (atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT)
            return NP_PIPE_LISTENING;
        if (wait->deadline == NP_TRY)
            return NP_WOULD_WAIT;
        if (code != NP_OK)
            return code; /* the time is up, and no client has come */
        first = false;
        if (!asked) {
            asked = true;
            if (wait->interrupted && wait->interrupted(wait->context))
                return NP_INTERRUPTED;
        }
        code = await_client(handle, seen, wait);
    }
}

uint32_t np_async_connect(struct np_async *async)
{
    struct np_handle *handle = async->handle;
    if (!handle->server)
        return NP_INVALID_FUNCTION;
    uint32_t code = NP_IO_PENDING;
    pthread_mutex_lock(&np_process.lock);
    uint32_t state = atomic_load_explicit(&handle->state, memory_order_acquire);
    bool nowait = atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT;
    if (state == NP_CLOSED || !handle->pipe) {
        code = NP_INVALID_HANDLE;
    } else if (state == NP_CONNECTED) {
        np_link_look(handle->link, false);
        code = np_link_condition(handle->link) == NP_BROKEN_PIPE ? NP_NO_DATA : NP_PIPE_CONNECTED;
    } else {
        if (nowait)
            code = NP_PIPE_LISTENING;
        else
            np_async_add_connect(async); /* before it listens, for somebody may be waiting */
        if (state == NP_DISCONNECTED)
            start_listening(handle->pipe, handle);
        else if (accept_has_failed(handle) && code == NP_IO_PENDING)
            (void)np_async_fail_connect(handle);
    }
    pthread_mutex_unlock(&np_process.lock);
    return code;
}

uint32_t np_disconnect(struct np_handle *handle)
{
    if (!handle->server)
        return NP_INVALID_FUNCTION;
    pthread_mutex_lock(&np_process.lock);
    uint32_t state = atomic_load_explicit(&handle->state, memory_order_acquire);
    if (state == NP_LISTENING) {
        np_listening_remove(handle->pipe, handle);
        atomic_store_explicit(&handle->state, NP_DISCONNECTED, memory_order_release);
        np_left_listening(handle->pipe, handle);
    }
    pthread_mutex_unlock(&np_process.lock);
    if (state == NP_DISCONNECTED)
        return NP_PIPE_NOT_CONNECTED;
    if (state == NP_CLOSED)
        return NP_INVALID_HANDLE;
    if (state == NP_CONNECTED)
        np_handle_unlink(handle, NP_ALERT_DISCONNECTED, NPL_END_DISCONNECTED, NP_DISCONNECTED);
    return NP_OK;
}

/* ---- Closing */

static void unregister(struct np_handle *handle)
{
    if (handle->previous)
        handle->previous->next = handle->next;
    else if (np_process.handles == handle)
        np_process.handles = handle->next;
    if (handle->next)
        handle->next->previous = handle->previous;
    handle->next = handle->previous = NULL;
}

/* With the create lock held: one instance less. The pipe, if end_pipe is to follow without the lock. */
static struct np_pipe *leave_pipe(struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    struct np_pipe *pipe = handle->pipe;
    bool last = false;
    if (pipe) {
        handle->pipe = NULL;
        np_listening_remove(pipe, handle);
        atomic_store_explicit(&handle->state, NP_CLOSED, memory_order_release);
        np_left_listening(pipe, handle);
        atomic_fetch_sub_explicit(&pipe->slot->instances, 1, memory_order_relaxed);
        last = --pipe->instances == 0;
        if (last)
            unlist_pipe(pipe);
        if (pipe->max_instances != NP_UNLIMITED_INSTANCES)
            np_pipe_nudge(pipe, false); /* another owner may wait for room */
    }
    pthread_mutex_unlock(&np_process.lock);
    return last && !try_end_pipe(pipe) ? pipe : NULL;
}

static void end_link(struct np_handle *handle, bool discard)
{
    enum npl_end_state end = NPL_END_CLOSED;
    if (discard)
        end = handle->server ? NPL_END_DISCONNECTED : NPL_END_ABORTED;
    np_handle_unlink(handle, NP_ALERT_CLOSING, end, NP_CLOSED);
}

static void close_handle(struct np_handle *handle, bool discard, bool waits)
{
    if (atomic_load_explicit(&handle->state, memory_order_acquire) == NP_CLOSED)
        return;
    pthread_mutex_lock(&np_process.create_lock);
    struct np_pipe *left = leave_pipe(handle);
    end_link(handle, discard);
    pthread_mutex_lock(&np_process.lock);
    unregister(handle);
    pthread_mutex_unlock(&np_process.lock);
    pthread_mutex_unlock(&np_process.create_lock);
    if (handle->server)
        np_tell_closed();
    if (left)
        end_pipe(left, waits);
}

void np_close(struct np_handle *handle, bool discard)
{
    close_handle(handle, discard, true);
}

void np_let_go(struct np_handle *handle)
{
    close_handle(handle, false, false);
}

uint32_t np_replace(struct np_handle *handle, bool discard, struct np_handle **result)
{
    struct np_handle *fresh = np_handle_new();
    if (!fresh)
        return NP_NOT_ENOUGH_MEMORY;
    copy_set_up(fresh, handle);
    pthread_mutex_lock(&np_process.create_lock);
    pthread_mutex_lock(&np_process.lock);
    struct np_pipe *pipe = handle->pipe;
    if (pipe) {
        /* The count stays as it is: the new instance takes the old one's place, and the name never goes. */
        np_listening_remove(pipe, handle);
        handle->pipe = NULL;
        atomic_store_explicit(&handle->state, NP_CLOSED, memory_order_release);
        np_left_listening(pipe, handle);
        fresh->pipe = pipe;
        np_handle_register(fresh);
        start_listening(pipe, fresh);
    }
    pthread_mutex_unlock(&np_process.lock);
    if (pipe) {
        end_link(handle, discard);
        pthread_mutex_lock(&np_process.lock);
        unregister(handle);
        pthread_mutex_unlock(&np_process.lock);
    }
    pthread_mutex_unlock(&np_process.create_lock);
    if (!pipe) {
        np_free(fresh);
        return NP_INVALID_HANDLE;
    }
    *result = fresh;
    return NP_OK;
}

uint32_t np_closed_seq(void)
{
    return atomic_load_explicit(&np_process.closed_seq, memory_order_acquire);
}

void np_tell_closed(void)
{
    atomic_fetch_add_explicit(&np_process.closed_seq, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&np_process.closed_waiters, memory_order_seq_cst) == 0)
        return;
    np_futex_wake(&np_process.closed_seq, UINT32_MAX);
    np_acceptors_tell_closed();
}

void np_wake_closed(void)
{
    np_tell_closed();
}
