#include "pipe/dial.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/identity.h"
#include "base/platform.h"
#include "base/socket.h"
#include "process/process.h"
#include "ring/link.h"
#include "ring/segment_cache.h"
#include "ring/tap.h"
#include "handle/handle.h"
#include "pipe/answer.h"
#include "pipe/directory.h"
#include "pipe/messages.h"
#include "pipe/remembered.h"

#define MOST_VANISHED 3 /* turns in which all owners hang up without a word before they count as none */

void np_dial_begin(struct np_dial *dial, const struct np_where *where, enum npw_kind kind,
                   const struct np_open_options *options, int64_t deadline, bool use_default)
{
    bool waits = options->hold || kind == NPW_WAIT;
    /* All but the lists of owners, which begin_turn fills. */
    memset(dial, 0, offsetof(struct np_dial, names));
    dial->where = *where;
    dial->options = *options;
    dial->dirfd = dial->socket = dial->segment = -1;
    dial->forks = np_forks;
    dial->flags = (options->hold && kind == NPW_OPEN ? NPW_HOLD : 0) | (options->remote ? NPW_FOR : 0);
    dial->answer_due = np_answer_due(waits, kind == NPW_WAIT, use_default, np_now(), deadline);
    dial->deadline = use_default ? NP_FOREVER : waits ? deadline : dial->answer_due;
    dial->use_default = use_default;
    dial->request = (struct npw_request){
        .magic = NPW_MAGIC, .version = NPW_VERSION, .kind = kind, .access = options->access & (NP_READ | NP_WRITE)};
}

static void close_descriptor(int *fd)
{
    np_fd_close(*fd);
    *fd = -1;
}

/* A request that is held is withdrawn, whoever has duplicates of the socket. */
static void hang_up(struct np_dial *dial)
{
    np_hang_up(dial->socket);
    dial->socket = -1;
}

/* In a child: what there is was the parent's, and is closed. Its own call, if it goes on with it, begins anew. */
static bool heed_fork(struct np_dial *dial)
{
    if (!np_dial_has_forked(dial))
        return false;
    dial->forks = np_forks;
    dial->dirfd = dial->socket = dial->segment = -1;
    dial->kept.segment = NULL;
    dial->until = 0;
    dial->dead = 0;
    dial->started = dial->keep = dial->looked = dial->remembered = dial->held = dial->told = false;
    memset(dial->request.offer, 0, sizeof dial->request.offer);
    return true;
}

/* What was offered is not used again. */
static void withdraw_offer(struct np_dial *dial)
{
    dial->keep = false;
    dial->request.flags &= ~(uint32_t)NPW_KEEP;
    memset(dial->request.offer, 0, sizeof dial->request.offer);
    if (dial->kept.segment)
        np_kept_refused(&dial->kept);
    dial->kept.segment = NULL;
}

void np_dial_end(struct np_dial *dial)
{
    if (!heed_fork(dial) && dial->dead)
        np_folder_sweep(dial->where.root, dial->where.folder, 0); /* beside one that lives */
    withdraw_offer(dial);
    close_descriptor(&dial->dirfd);
    hang_up(dial);
    close_descriptor(&dial->segment);
}

/* A link in a stranger's folder could lead to a socket of this user's or root's own, for quite another pipe. */
bool np_leads_home(uid_t folder_uid, uid_t owner_uid)
{
    if (folder_uid == 0 || np_is_user(folder_uid, geteuid()))
        return true;
    /* Two who are nobody may be two; but neither is this user, unless it has nobody's number itself. */
    return folder_uid == owner_uid && (owner_uid != geteuid() || !np_is_nobody(owner_uid));
}

static bool send_request(const struct np_dial *dial)
{
    const size_t own = sizeof dial->request, size = own + dial->options.remote_size;
    if (!dial->options.remote)
        return np_send_message(dial->socket, &dial->request, own, -1) == (ssize_t)own;
    char *message = malloc(size);
    if (!message)
        return false;
    memcpy(message, &dial->request, own);
    memcpy(message + own, dial->options.remote, dial->options.remote_size);
    ssize_t sent = np_send_message(dial->socket, message, size, -1);
    free(message);
    return sent == (ssize_t)size;
}

/* Puts the request to the next owner. NP_OK; NP_WOULD_WAIT: its backlog is full, and was until `patience`, or a signal
 * has come; NP_RETRY: it has gone; or an error. */
static uint32_t ask(struct np_dial *dial, int64_t patience, bool *dead, char *why)
{
    dial->held = dial->told = false;
    if (patience > dial->until)
        patience = dial->until;
    int socket = dial->remembered ? np_socket_connect_path(dial->path, patience)
                                  : np_socket_connect(dial->dirfd, dial->names[dial->next], patience);
    switch (socket) {
    case -ECONNREFUSED:
        *dead = true;
        return NP_RETRY;
    case -ENOENT:
        return NP_RETRY;
    case -EACCES:
    case -EPERM:
        np_say(why, "the pipe's security does not let this user in\n"
                    "its server has to listen with a security that does (\"group:NAME\", \"everyone\", a Security)");
        return NP_ACCESS_DENIED;
    case -EAGAIN:
    case -EINTR:
        return NP_WOULD_WAIT;
    case -EMFILE:
    case -ENFILE:
        return NP_TOO_MANY_OPEN_FILES;
    default:
        if (socket < 0) {
            np_say(why, "the pipe's socket cannot be reached: %s", np_socket_error(-socket));
            return NP_NO_SYSTEM_RESOURCES;
        }
    }
    dial->socket = socket;
    if (!np_peer_credentials(socket, false, &dial->owner))
        return NP_NO_SYSTEM_RESOURCES;
    if (dial->options.verify_owner && !np_is_user(dial->owner.uid, geteuid()) && dial->owner.uid != 0) {
        np_say(why, "the pipe belongs to uid %u, not to you or root\nconnect with verify_owner=False if you trust it",
               (unsigned)dial->owner.uid);
        return NP_ACCESS_DENIED;
    }
    if (!np_leads_home(dial->folder_uid, dial->owner.uid)) {
        np_say(why, "the pipe's folder belongs to uid %u, and leads to a socket of uid %u", (unsigned)dial->folder_uid,
               (unsigned)dial->owner.uid);
        return NP_ACCESS_DENIED;
    }
    bool may_hold = dial->holding || dial->count == 1 || dial->remembered;
    dial->request.flags = may_hold ? dial->flags : dial->flags & ~(uint32_t)NPW_HOLD;
    if (dial->remembered && dial->request.kind == NPW_OPEN && !dial->options.remote) {
        dial->keep = true;
        dial->request.flags |= NPW_KEEP;
        bool kept = np_kept_offer(dial->owner.pid, &dial->kept);
        if (kept && dial->options.overlapped && dial->kept.fd < 0) {
            np_kept_drop(&dial->kept); /* a handle in it could not be handed to another process */
            dial->kept.segment = NULL;
        } else if (kept) {
            dial->request.offer[0] = (uint32_t)dial->kept.token;
            dial->request.offer[1] = (uint32_t)(dial->kept.token >> 32);
        }
    }
    return send_request(dial) ? NP_OK : NP_RETRY;
}

static uint32_t take_answer(struct np_dial *dial, char *why)
{
    struct npw_answer *answer = &dial->answer;
    close_descriptor(&dial->segment);
    ssize_t got = np_receive_message(dial->socket, answer, sizeof *answer, &dial->segment);
    uint32_t code = np_answer_code(got, answer, why);
    if (code == NP_WOULD_WAIT)
        return code;
    if (code == NP_IO_PENDING && (dial->held || !np_may_be_held(&dial->request))) {
        np_say(why, "the server's answers make no sense");
        return NP_INVALID_DATA; /* the owner could go on with that for ever */
    }
    dial->told = dial->told || code == NP_IO_PENDING || (got > 0 && code == NP_RETRY);
    dial->held = dial->held || code == NP_IO_PENDING;
    if (code == NP_IO_PENDING) {
        if (dial->use_default)
            dial->deadline = np_now() + (int64_t)answer->default_timeout_ms * 1000000;
        dial->use_default = false;
        dial->held_since = dial->held_since ? dial->held_since : np_now();
        dial->until = dial->deadline;
    }
    return code;
}

static uint32_t begin_turn(struct np_dial *dial, char *why)
{
    uint32_t code = np_folder_look(dial->where.root, dial->where.folder, &dial->dirfd, why);
    if (code != NP_OK) {
        dial->dirfd = -1;
        return code;
    }
    struct stat folder;
    dial->folder_uid = fstat(dial->dirfd, &folder) == 0 ? folder.st_uid : (uid_t)-1;
    dial->count = np_folder_sockets(dial->dirfd, dial->names, NPF_SLOTS);
    dial->next = dial->dead = dial->busy = dial->silent = dial->gone = dial->told_by = 0;
    memset(dial->was_silent, 0, sizeof dial->was_silent);
    memset(dial->was_busy, 0, sizeof dial->was_busy);
    dial->holding = false;
    return NP_OK;
}

/* Whether the request may be held, and the call waits for an instance. */
static bool waits(const struct np_dial *dial)
{
    return dial->flags & NPW_HOLD || dial->request.kind == NPW_WAIT;
}

static bool is_over(int64_t due)
{
    return due != NP_FOREVER && np_now() >= due;
}

/* All owners have been asked, or one has gone away while it held the request. NP_RETRY: another turn. */
static uint32_t end_turn(struct np_dial *dial)
{
    close_descriptor(&dial->dirfd);
    if (dial->dead)
        np_folder_sweep(dial->where.root, dial->where.folder, 0);
    dial->dead = 0;
    bool may_be_held = waits(dial);
    if (dial->silent && !may_be_held)
        return NP_SEM_TIMEOUT;
    if (dial->busy && !may_be_held)
        return NP_PIPE_BUSY;
    if (!dial->busy && !dial->silent && !dial->gone)
        return NP_FILE_NOT_FOUND;
    if (is_over(dial->deadline) && is_over(dial->answer_due))
        return NP_SEM_TIMEOUT;
    dial->vanished = dial->told_by || dial->busy || dial->silent ? 0 : dial->vanished + 1;
    return dial->vanished < MOST_VANISHED ? NP_RETRY : NP_FILE_NOT_FOUND;
}

/* Whoever was asked first of all was the one to ask (NP_OK), or the others are to be asked too (NP_RETRY). */
static uint32_t after_remembered(struct np_dial *dial, uint32_t code)
{
    dial->remembered = false;
    /* A wait's answer has no id. */
    if (code == NP_OK && (dial->request.kind != NPW_OPEN || dial->answer.pipe_id == dial->pipe_id))
        return code;
    withdraw_offer(dial);
    if (code != NP_OK && code != NP_RETRY && code != NP_PIPE_BUSY && code != NP_FILE_NOT_FOUND)
        return code;
    np_remember_nothing();
    return NP_RETRY;
}

static uint32_t dial_step(struct np_dial *dial, int64_t patience, char *why)
{
    struct np_remembered found;
    heed_fork(dial);
    if (!dial->started) {
        uint32_t code = dial->request.kind == NPW_OPEN ? np_process_start()
                        : np_settle_identity()         ? NP_OK
                                                       : NP_PRIVILEGE_NOT_HELD;
        if (code != NP_OK)
            return code;
    }
    dial->started = true;
    if (!dial->looked && np_remembered(&dial->where, &found)) {
        dial->remembered = true;
        dial->folder_uid = found.folder_uid;
        dial->pipe_id = found.pipe_id;
        memcpy(dial->path, found.path, sizeof dial->path);
    }
    dial->looked = true;
    for (;;) {
        uint32_t code;
        bool dead = false;
        if (dial->socket >= 0) {
            code = take_answer(dial, why);
            if (code == NP_WOULD_WAIT && !is_over(dial->until))
                return NP_IO_PENDING;
            if (code == NP_WOULD_WAIT)
                code = NP_SEM_TIMEOUT;
            if (code == NP_IO_PENDING)
                continue; /* it is held: another answer follows */
        } else {
            code = dial->dirfd < 0 && !dial->remembered ? begin_turn(dial, why) : NP_OK;
            if (code != NP_OK)
                return code;
            if (!dial->remembered && dial->next == dial->count) {
                if (!dial->holding && dial->busy + dial->silent && waits(dial)) {
                    /* All are busy: any of them can hold the request, the others tell it when they listen. Best one
                     * who answers. */
                    dial->holding = true;
                    dial->next = 0;
                    continue;
                }
                return end_turn(dial);
            }
            if (!dial->remembered && dial->holding && !(dial->busy ? dial->was_busy : dial->was_silent)[dial->next]) {
                dial->next++;
                continue;
            }
            if (dial->until == 0)
                dial->until = dial->remembered || dial->holding
                                  ? dial->answer_due
                                  : np_share_of_time(dial->answer_due, dial->count - 1 - dial->next);
            code = ask(dial, patience, &dead, why);
            if (code == NP_WOULD_WAIT && !is_over(dial->until))
                return code;
            if (code == NP_WOULD_WAIT)
                code = NP_SEM_TIMEOUT;
            if (code == NP_OK)
                continue;
        }
        dial->until = 0;
        bool first_of_all = dial->remembered;
        if (first_of_all)
            code = after_remembered(dial, code);
        else if (code == NP_OK && dial->count == 1 && dial->request.kind == NPW_OPEN)
            np_remember(&dial->where, dial->names[dial->next], dial->answer.pipe_id);
        if (code == NP_OK)
            return code;
        hang_up(dial);
        close_descriptor(&dial->segment);
        if (first_of_all && code == NP_RETRY)
            continue;
        dial->dead += dead;
        dial->gone += code == NP_RETRY && !dead;
        dial->told_by += code == NP_RETRY && dial->told;
        bool silent = code == NP_SEM_TIMEOUT && dial->count > 1 && !dial->told && !dial->holding;
        if (code != NP_RETRY && code != NP_FILE_NOT_FOUND && !silent && (code != NP_PIPE_BUSY || dial->holding))
            return code;
        if (!dial->holding) {
            dial->busy += dial->was_busy[dial->next] = code == NP_PIPE_BUSY;
            dial->silent += dial->was_silent[dial->next] = silent;
        }
        dial->next = dial->holding && code == NP_RETRY && !dead ? dial->count : dial->next + 1;
    }
}

uint32_t np_dial_step(struct np_dial *dial, int64_t patience, char *why)
{
    uint32_t before = dial_step(dial, patience, why);
    uint32_t code = np_without_answer(before, dial->told, waits(dial), (int)dial->owner.pid, why);
    if (code == NP_NO_SYSTEM_RESOURCES && dial->answer.code == code)
        np_say_reason(&dial->answer, why);
    else if (code == NP_ACCESS_DENIED && dial->answer.code == code)
        np_say_denial(&dial->answer, why);
    else if (before == NP_PIPE_BUSY || (before == NP_SEM_TIMEOUT && dial->told))
        np_say_busy(&dial->answer, before == NP_SEM_TIMEOUT, why);
    else if (code == NP_FILE_NOT_FOUND && dial->told)
        np_say(why, "its last instance was closed meanwhile, below %s", dial->where.root);
    else if (code == NP_FILE_NOT_FOUND)
        np_say(why, "there is none of that name below %s", dial->where.root);
    return code;
}

uint32_t np_dial_handle(struct np_dial *dial, struct np_handle **result, char *why)
{
    if (np_dial_has_forked(dial))
        return NP_BROKEN_PIPE; /* the parent's */
    bool sent = dial->segment >= 0, again = dial->answer.reused && dial->kept.segment;
    if (sent == again) {
        np_say(why, "the server sent no segment, or one too many");
        return NP_INVALID_DATA;
    }
    struct np_link *link;
    uint32_t code;
    if (again) {
        code = np_link_accept_again(&dial->kept, dial->socket, &link);
        dial->kept.segment = NULL; /* the link's, or gone */
    } else {
        code = np_link_accept(dial->segment, dial->socket, &link);
        if (code == NP_OK && dial->options.overlapped) {
            link->fd = dial->segment;
            dial->segment = -1;
        }
    }
    if (code != NP_OK) {
        if (code == NP_INVALID_DATA)
            np_say(why, "the server's segment is not as it should be");
        return code;
    }
    link->keep = dial->keep;
    dial->socket = -1; /* the link's from here on */
    struct np_handle *handle = np_handle_new();
    if (handle) {
        handle->root = strdup(dial->where.root);
        handle->folder = strdup(dial->where.folder);
    }
    if (!handle || !handle->root || !handle->folder) {
        if (handle)
            np_free(handle);
        np_link_unref(link);
        return NP_NOT_ENOUGH_MEMORY;
    }
    link->peer_pid = dial->owner.pid;
    link->peer_uid = dial->owner.uid;
    atomic_store_explicit(&link->alert, NP_ALERT_UNWATCHED, memory_order_relaxed);
    handle->link = link;
    link->handle = handle;
    np_tap_link(link, NULL);
    if (np_is_tapped(link))
        np_tap_opened(link, dial->where.display, (uint32_t)strlen(dial->where.display));
    handle->no_socket_sleeps = handle->travels = dial->options.overlapped;
    if (dial->options.overlapped)
        atomic_store_explicit(&link->rx.by_socket, 0, memory_order_relaxed);
    handle->state = NP_CONNECTED;
    handle->access = dial->options.access | NP_READ_ATTRIBUTES;
    handle->type = link->type;
    handle->direction = link->direction;
    handle->pipe_id = dial->answer.pipe_id;
    handle->max_instances = dial->answer.max_instances;
    memcpy(handle->quota, link->quota, sizeof handle->quota);
    handle->server_pid = link->server_pid;
    handle->client_pid = np_process.pid;
    handle->peer_uid = dial->owner.uid;
    /* With the lock comes also that a server in this process has told whoever waits for this client. */
    pthread_mutex_lock(&np_process.lock);
    np_handle_register(handle);
    np_fresh_add(handle);
    pthread_mutex_unlock(&np_process.lock);
    *result = handle;
    return NP_OK;
}
