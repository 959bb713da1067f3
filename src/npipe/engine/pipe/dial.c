#include "pipe/dial.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/identity.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"
#include "process/process.h"
#include "ring/link.h"
#include "ring/segment_cache.h"
#include "handle/handle.h"
#include "pipe/answer.h"
#include "pipe/directory.h"
#include "pipe/messages.h"
#include "pipe/remembered.h"

#define MOST_VANISHED 3 /* turns in which all owners hang up without a word before they count as none */

bool np_is_interrupted(const struct np_wait *wait)
{
    return wait->interrupted && wait->interrupted(wait->context);
}

/* The request was the parent's. This process's own call begins anew. */
static bool has_forked(const struct np_request *call)
{
    return call->forks != np_forks;
}

static bool has_answer(const void *what)
{
    const struct np_request *call = what;
    return np_socket_readable(call->socket);
}

/* Waits until the owner has something to say. */
static uint32_t await_answer(struct np_request *call, int64_t deadline)
{
    if (np_spin_for(&np_brief_spins[NP_BRIEF_ANSWER], has_answer, call, deadline, NP_BRIEF_NS))
        return NP_OK;
    if (np_is_interrupted(call->wait))
        return NP_INTERRUPTED;
    for (;;) {
        if (has_forked(call))
            return NP_RETRY;
        if (call->breakable)
            np_breakable_poll(call->breakable, call->socket);
        uint32_t code = np_cancelled(call->wait) ? NP_OK : np_socket_wait(call->socket, deadline);
        if (call->breakable)
            np_breakable_poll(call->breakable, -1);
        if (np_cancelled(call->wait))
            return NP_INTERRUPTED;
        if (code != NP_INTERRUPTED)
            return code;
        if (np_is_interrupted(call->wait))
            return NP_INTERRUPTED;
    }
}

/* Reads one answer: its code, or NP_RETRY when the owner hung up. */
static uint32_t take_answer(struct np_request *call)
{
    np_fd_close(call->segment); /* of an answer that was not the last */
    return np_answer_code(np_receive_message(call->socket, &call->answer, sizeof call->answer, &call->segment),
                          &call->answer, call->why);
}

static void hang_up(struct np_request *call)
{
    if (!has_forked(call)) {
        np_hang_up(call->socket); /* a request that is held is withdrawn, whoever has duplicates of the socket */
        np_fd_close(call->segment);
    }
    call->socket = call->segment = -1;
}

/* A link in a stranger's folder could lead to a socket of this user's or root's own, for quite another pipe. */
bool np_leads_home(uid_t folder_uid, uid_t owner_uid)
{
    if (folder_uid == 0 || np_is_user(folder_uid, geteuid()))
        return true;
    /* Two who are nobody may be two; but neither is this user, unless it has nobody's number itself. */
    return folder_uid == owner_uid && (owner_uid != geteuid() || !np_is_nobody(owner_uid));
}

/* Puts the request to one owner, at `name` in a folder or (dirfd -1) by its path, and waits for the last word, for the
 * first one until `due`. NP_RETRY: it has gone. */
static uint32_t ask(struct np_request *call, int dirfd, const char *name, int64_t due, bool *dead)
{
    *dead = call->told = false;
    call->segment = -1;
    for (;;) {
        call->socket = dirfd < 0 ? np_socket_connect_path(name, due) : np_socket_connect(dirfd, name, due);
        if (call->socket != -EINTR)
            break;
        if (np_is_interrupted(call->wait))
            return NP_INTERRUPTED;
        if (has_forked(call))
            return NP_RETRY;
    }
    switch (call->socket) {
    case -ECONNREFUSED:
        *dead = true;
        return NP_RETRY;
    case -ENOENT:
        return NP_RETRY;
    case -EACCES:
    case -EPERM:
        np_say(call->why, "the pipe's access rule does not let this user in");
        return NP_ACCESS_DENIED;
    case -EAGAIN: /* the backlog is full, and stayed so until the deadline */
        return NP_SEM_TIMEOUT;
    case -EMFILE:
    case -ENFILE:
        return NP_TOO_MANY_OPEN_FILES;
    default:
        if (call->socket < 0) {
            np_say(call->why, "the pipe's socket cannot be reached: %s", np_socket_error(-call->socket));
            return NP_NO_SYSTEM_RESOURCES;
        }
    }
    if (!np_peer_credentials(call->socket, false, &call->owner))
        return NP_NO_SYSTEM_RESOURCES;
    if (call->verify_owner && !np_is_user(call->owner.uid, geteuid()) && call->owner.uid != 0) {
        np_say(call->why, "the pipe belongs to uid %u, not to you or root (verify_owner)", (unsigned)call->owner.uid);
        return NP_ACCESS_DENIED;
    }
    if (!np_leads_home(call->folder_uid, call->owner.uid)) {
        np_say(call->why, "the pipe's folder belongs to uid %u, and leads to a socket of uid %u",
               (unsigned)call->folder_uid, (unsigned)call->owner.uid);
        return NP_ACCESS_DENIED;
    }
    if (call->keep && !call->kept.segment && np_kept_offer(call->owner.pid, &call->kept)) {
        call->request.offer[0] = (uint32_t)call->kept.token;
        call->request.offer[1] = (uint32_t)(call->kept.token >> 32);
    }
    ssize_t sent = np_send_message(call->socket, &call->request, sizeof call->request, -1);
    if (sent != (ssize_t)sizeof call->request)
        return NP_RETRY;
    bool holds = false;
    for (;;) {
        uint32_t code = await_answer(call, holds ? call->deadline : due);
        if (code == NP_OK || code == NP_SEM_TIMEOUT) {
            /* Also at the last moment: what has been granted is not thrown away. */
            uint32_t last = take_answer(call);
            call->told = call->told || last == NP_IO_PENDING || (last == NP_RETRY && call->answer.code == NP_RETRY);
            if (last != NP_WOULD_WAIT && last != NP_IO_PENDING)
                return last;
            if (last == NP_IO_PENDING && (holds || !np_may_be_held(&call->request))) {
                np_say(call->why, "the server's answers make no sense");
                return NP_INVALID_DATA; /* the owner could go on with that for ever */
            }
            if (last == NP_IO_PENDING) {
                holds = true;
                if (call->deadline == NP_FOREVER - 1) /* np_wait_named: the pipe's own time-out */
                    call->deadline = np_now() + (int64_t)call->answer.default_timeout_ms * 1000000;
            }
        }
        if (code != NP_OK)
            return code;
    }
}

/* The segment that was offered is not used again. */
static void withdraw_offer(struct np_request *call)
{
    call->keep = false;
    call->request.flags &= ~(uint32_t)NPW_KEEP;
    memset(call->request.offer, 0, sizeof call->request.offer);
    if (call->kept.segment && !has_forked(call))
        np_kept_refused(&call->kept);
    call->kept.segment = NULL;
}

/* Asks the owner that is remembered for this pipe. NP_RETRY: there is none, or it is not the one to ask any more. */
static uint32_t ask_remembered(struct np_request *call)
{
    struct np_remembered found;
    if (!np_remembered(call->where, &found))
        return NP_RETRY;
    call->folder_uid = found.folder_uid;
    bool dead;
    if (call->request.kind == NPW_OPEN) {
        call->keep = true;
        call->request.flags |= NPW_KEEP;
    }
    uint32_t code = ask(call, -1, found.path, call->answer_due, &dead);
    if (code == NP_OK && (call->request.kind != NPW_OPEN || call->answer.pipe_id == found.pipe_id))
        return code;
    withdraw_offer(call);
    hang_up(call);
    if (code != NP_OK && code != NP_RETRY && code != NP_PIPE_BUSY && code != NP_FILE_NOT_FOUND)
        return code;
    if (has_forked(call))
        return code;
    np_remember_nothing();
    return NP_RETRY;
}

/* Puts the request to the owners in turn, until one says something definite. With a request that is to be held,
 * each is first asked without holding it, if there are several; and one who is silent does not keep from the others.
 * NP_RETRY: has_forked. */
static uint32_t try_owners(struct np_request *call)
{
    char names[MAX_OWNERS][NPF_SOCKET_SIZE];
    bool busy_ones[MAX_OWNERS], silent_ones[MAX_OWNERS];
    int dirfd;
    uint32_t known = ask_remembered(call);
    if (known != NP_RETRY || has_forked(call))
        return known;
    for (int vanished = 0; vanished < MOST_VANISHED;) {
        uint32_t code = np_folder_look(call->where->root, call->where->folder, &dirfd, call->why);
        if (code != NP_OK)
            return code;
        struct stat folder;
        call->folder_uid = fstat(dirfd, &folder) == 0 ? folder.st_uid : (uid_t)-1;
        uint32_t count = np_folder_sockets(dirfd, names, MAX_OWNERS), dead_ones = 0, busy = 0, silent = 0, gone = 0,
                 told = 0;
        uint32_t flags = call->request.flags;
        bool settled = false;
        code = NP_FILE_NOT_FOUND;
        for (uint32_t i = 0; i < count && !settled; i++) {
            bool dead;
            busy_ones[i] = silent_ones[i] = false;
            call->request.flags = count > 1 ? 0 : flags;
            code = ask(call, dirfd, names[i], np_share_of_time(call->answer_due, count - 1 - i), &dead);
            if (code == NP_OK && count == 1 && call->request.kind == NPW_OPEN) /* a wait's answer has no id */
                np_remember(call->where, names[i], call->answer.pipe_id);
            if (code != NP_OK)
                hang_up(call);
            if (has_forked(call))
                return code;
            dead_ones += dead;
            gone += code == NP_RETRY && !dead;
            told += code == NP_RETRY && call->told;
            busy += busy_ones[i] = code == NP_PIPE_BUSY;
            silent += silent_ones[i] = code == NP_SEM_TIMEOUT && count > 1 && !call->told;
            settled = !busy_ones[i] && !silent_ones[i] && code != NP_RETRY && code != NP_FILE_NOT_FOUND;
        }
        call->request.flags = flags;
        bool may_be_held = np_may_be_held(&call->request);
        if (!settled && busy + silent && may_be_held) {
            /* All are busy: any of them can hold the request, the others tell it when they listen. Best one who
             * answers. */
            for (uint32_t i = 0; i < count && !settled; i++) {
                bool dead;
                if (busy ? !busy_ones[i] : !silent_ones[i])
                    continue;
                code = ask(call, dirfd, names[i], call->answer_due, &dead);
                settled = code != NP_RETRY && code != NP_FILE_NOT_FOUND;
                if (code != NP_OK)
                    hang_up(call);
                if (has_forked(call))
                    return code;
                if (code == NP_RETRY && !dead)
                    break;
            }
        }
        np_fd_close(dirfd);
        if (dead_ones)
            np_folder_sweep(call->where->root, call->where->folder, false);
        if (settled)
            return code;
        if (silent && !may_be_held)
            return NP_SEM_TIMEOUT;
        if (busy && !may_be_held)
            return NP_PIPE_BUSY;
        if (!busy && !silent && !gone)
            return NP_FILE_NOT_FOUND;
        if (np_now() >= call->deadline && np_now() >= call->answer_due)
            return NP_SEM_TIMEOUT;
        if (np_cancelled(call->wait) || np_is_interrupted(call->wait))
            return NP_INTERRUPTED; /* owners that answer at once let nobody sleep */
        if (has_forked(call))
            return NP_RETRY;
        /* An owner went away while we asked, or told us to look again: who is there now? */
        vanished = told || busy || silent ? 0 : vanished + 1;
    }
    return NP_FILE_NOT_FOUND; /* what is in the folder is no pipe: nobody there says a word */
}

static uint32_t ask_owners(struct np_request *call)
{
    for (;;) {
        uint32_t code = try_owners(call);
        if (code != NP_RETRY)
            return code;
        call->forks = np_forks;
        code = np_process_start();
        if (code != NP_OK)
            return code;
    }
}

struct np_request np_request_new(const struct np_where *where, const struct np_wait *wait, enum npw_kind kind,
                                 char *why)
{
    return (struct np_request){
        .where = where,
        .wait = wait,
        .deadline = wait->deadline,
        .answer_due = wait->deadline,
        .request = {.magic = NPW_MAGIC, .version = NPW_VERSION, .kind = kind},
        .why = why,
        .socket = -1,
        .segment = -1,
        .forks = np_forks,
    };
}

static uint32_t client_handle(struct np_request *call, const struct np_open_options *options, struct np_handle **result)
{
    struct np_link *link;
    uint32_t code;
    if (call->segment < 0) {
        code = np_link_accept_again(&call->kept, call->socket, &link);
        call->kept.segment = NULL;
    } else {
        code = np_link_accept(call->segment, call->socket, &link);
    }
    bool keep = call->keep;
    withdraw_offer(call);
    if (code != NP_OK) {
        if (code == NP_INVALID_DATA)
            np_say(call->why, "the server's segment is not as it should be");
        hang_up(call);
        return code;
    }
    link->keep = keep;
    np_fd_close(call->segment);
    struct np_handle *handle = np_handle_new();
    if (handle) {
        handle->root = strdup(call->where->root);
        handle->folder = strdup(call->where->folder);
    }
    if (!handle || !handle->root || !handle->folder) {
        if (handle)
            np_free(handle);
        np_link_unref(link);
        return NP_NOT_ENOUGH_MEMORY;
    }
    link->peer_pid = call->owner.pid;
    link->peer_uid = call->owner.uid;
    atomic_store_explicit(&link->alert, NP_ALERT_UNWATCHED, memory_order_relaxed);
    handle->link = link;
    link->handle = handle;
    handle->no_socket_sleeps = options->overlapped;
    if (options->overlapped)
        atomic_store_explicit(&link->rx.by_socket, 0, memory_order_relaxed);
    handle->state = NP_CONNECTED;
    handle->access = options->access | NP_READ_ATTRIBUTES;
    handle->type = link->type;
    handle->direction = link->direction;
    handle->pipe_id = call->answer.pipe_id;
    handle->max_instances = call->answer.max_instances;
    memcpy(handle->quota, link->quota, sizeof handle->quota);
    handle->server_pid = link->server_pid;
    handle->client_pid = np_process.pid;
    handle->peer_uid = call->owner.uid;
    /* With the lock comes also that a server in this process has told whoever waits for this client. */
    pthread_mutex_lock(&np_process.lock);
    np_handle_register(handle);
    np_fresh_add(handle);
    pthread_mutex_unlock(&np_process.lock);
    *result = handle;
    return NP_OK;
}

uint32_t np_open(const struct np_where *where, const struct np_open_options *options, const struct np_wait *wait,
                 struct np_handle **result, char *why)
{
    uint32_t code = np_process_start();
    if (code != NP_OK)
        return code;
    struct np_request call = np_request_new(where, wait, NPW_OPEN, why);
    call.verify_owner = options->verify_owner;
    call.request.access = options->access & (NP_READ | NP_WRITE);
    call.request.flags = options->hold ? NPW_HOLD : 0;
    int64_t began = np_now();
    call.answer_due = np_answer_due(options->hold, false, false, began, wait->deadline);
    if (!options->hold)
        call.deadline = call.answer_due;
    code = np_without_answer(ask_owners(&call), call.told, options->hold, why);
    if (code == NP_NO_SYSTEM_RESOURCES && call.answer.code == code)
        np_say_reason(&call.answer, why);
    if (code != NP_OK)
        return code;
    /* Either a segment, or the word that the one that was offered is used again. */
    bool sent = call.segment >= 0, again = call.answer.reused;
    if (sent == again || (again && !call.kept.segment)) {
        withdraw_offer(&call);
        hang_up(&call);
        np_say(why, "the server sent no segment, or one too many");
        return NP_INVALID_DATA;
    }
    return client_handle(&call, options, result);
}

uint32_t np_wait_named(const struct np_where *where, bool use_default, const struct np_wait *wait,
                       struct np_breakable *breakable, char *why)
{
    if (!np_settle_identity())
        return NP_PRIVILEGE_NOT_HELD;
    struct np_request call = np_request_new(where, wait, NPW_WAIT, why);
    call.breakable = breakable;
    call.answer_due = np_answer_due(true, true, use_default, np_now(), wait->deadline);
    if (use_default)
        call.deadline = NP_FOREVER - 1; /* until the owner has said how long */
    uint32_t code = np_without_answer(ask_owners(&call), call.told, true, why);
    hang_up(&call);
    return code;
}
