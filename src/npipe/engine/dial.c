/* The client's side: opening a pipe, waiting for one, asking about one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fds.h"
#include "registry.h"

#define QUERY_PATIENCE_NS INT64_C(1000000000)
#define LISTING_NS INT64_C(1000000000)     /* for a whole listing: somebody may own any number of pipes and say nothing */
#define NEXT_OWNER_NS INT64_C(50000000)    /* a listing asks the next owner of a pipe too when one has been silent for so long */
#define CROWD_PATIENCE_NS INT64_C(20000000) /* and when nobody else can be asked any more, it gives up the one that was asked first */
#define MOST_ASKED 1024                    /* owners at a time, and a quarter of the descriptors at most */
#define MAX_OWNERS NPF_SLOTS
#define MOST_VANISHED 3 /* turns in which all owners hang up without a word before they count as none */

struct call {
    const struct np_where *where;
    const struct np_wait *wait;
    struct np_breakable *breakable; /* or NULL */
    bool verify_owner;
    uid_t folder_uid; /* whose folder the socket was found in */
    struct npw_request request;
    int64_t deadline;
    int64_t answer_due; /* of an owner who does not hold the request */
    char *why;
    /* The answer */
    struct npw_answer answer;
    bool told; /* NP_RETRY was the owner's word, or came after he had held the request: not just a hang-up */
    int socket, segment;
    uint32_t forks;  /* np_forks when they were made: in the handler of a signal this may have become a child, where they are closed */
    struct np_credentials owner;
    bool keep;           /* the pipe was opened before: its segments are kept, and one that was is offered */
    struct np_kept kept; /* the offer, segment NULL: none */
};

static bool interrupted(const struct np_wait *wait)
{
    return wait->interrupted && wait->interrupted(wait->context);
}

/* The request was the parent's. This process's own call begins anew. */
static bool has_forked(const struct call *call)
{
    return call->forks != np_forks;
}

static bool has_answer(const void *what)
{
    const struct call *call = what;
    return np_socket_readable(call->socket);
}

/* Waits until the owner has something to say. */
static uint32_t await_answer(struct call *call, int64_t deadline)
{
    if (np_spin_for(&np_brief_spins[NP_BRIEF_ANSWER], has_answer, call, deadline, NP_BRIEF_NS))
        return NP_OK;
    if (interrupted(call->wait))
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
        if (interrupted(call->wait))
            return NP_INTERRUPTED;
    }
}

uint32_t np_answer_code(ssize_t got, const struct npw_answer *answer, char *why)
{
    if (got == -EAGAIN || got == -EINTR)
        return NP_WOULD_WAIT;
    if (got == -EMFILE)
        return NP_TOO_MANY_OPEN_FILES;
    if (got == -EMSGSIZE)
        got = sizeof *answer + 1; /* longer than ours: its beginning is here */
    if (got >= (ssize_t)(2 * sizeof(uint32_t)) && answer->magic == NPW_MAGIC && answer->version != NPW_VERSION) {
        np_say(why, "the server speaks version %u of npipe's protocol, this process version %u", answer->version, NPW_VERSION);
        return NP_REVISION_MISMATCH;
    }
    if (got <= 0)
        return NP_RETRY;
    /* The engine's own words are not his to say: they would be taken for ours. */
    if (got != (ssize_t)sizeof *answer || answer->magic != NPW_MAGIC || answer->code == NP_WOULD_WAIT || answer->code == NP_INTERRUPTED) {
        np_say(why, "the server's answer makes no sense");
        return NP_INVALID_DATA;
    }
    return answer->code;
}

/* Reads one answer: its code, or NP_RETRY when the owner hung up. */
static uint32_t take_answer(struct call *call)
{
    np_fd_close(call->segment); /* of an answer that was not the last */
    return np_answer_code(np_receive_message(call->socket, &call->answer, sizeof call->answer, &call->segment), &call->answer,
                          call->why);
}

static void hang_up(struct call *call)
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

/* No event tells that there is room in a full backlog, and only a signal ends a connect() that waits for it: whoever may be cancelled
 * looks so often whether it was. */
#define BACKLOG_SLICE_NS INT64_C(50000000)

/* The socket, or -errno; -EINTR: come again, unless the call is over. */
static int reach(const struct call *call, int dirfd, const char *name, int64_t due)
{
    int64_t slice = call->breakable ? np_now() + BACKLOG_SLICE_NS : due;
    if (slice > due)
        slice = due;
    int socket = dirfd < 0 ? np_socket_connect_path(name, slice) : np_socket_connect(dirfd, name, slice);
    return socket == -EAGAIN && slice < due ? -EINTR : socket;
}

/* Puts the request to one owner, at `name` in a folder or (dirfd -1) by its path, and waits for the last word, for the first one until
 * `due`. NP_RETRY: he has gone. */
static uint32_t ask(struct call *call, int dirfd, const char *name, int64_t due, bool *dead)
{
    *dead = call->told = false;
    call->segment = -1;
    for (;;) {
        call->socket = reach(call, dirfd, name, due);
        if (call->socket != -EINTR)
            break;
        if (np_cancelled(call->wait) || interrupted(call->wait))
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
        np_say(call->why, "the pipe's folder belongs to uid %u, and leads to a socket of uid %u", (unsigned)call->folder_uid,
               (unsigned)call->owner.uid);
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
                return NP_INVALID_DATA; /* he could go on with that for ever */
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

/* The socket of the last pipe that was opened and had one owner: programs open the same pipe again and again, and finding it
 * costs more than asking. Root and folder were found trustworthy when they were looked up. In a root that is not `private` the
 * folder may be somebody else's by now, and is looked at again; whatever else may have become of it, the pipe's id tells. */
static struct {
    pthread_mutex_t lock;
    char *root, *folder, *path;
    bool private;
    uint32_t pipe_id;
    uid_t uid; /* as whom the thread acted that found them trustworthy */
} remembered = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* With its lock held. */
static void forget_remembered(void)
{
    free(remembered.root);
    free(remembered.folder);
    free(remembered.path);
    remembered.root = remembered.folder = remembered.path = NULL;
}

void np_dial_hold(void)
{
    pthread_mutex_lock(&remembered.lock);
}

void np_dial_release(void)
{
    pthread_mutex_unlock(&remembered.lock);
}

void np_dial_forget(void)
{
    forget_remembered(); /* in a forked child: held over the fork, so nobody was in the middle of it */
    pthread_mutex_init(&remembered.lock, NULL);
}

void np_remember(const struct np_where *where, const char *socket, uint32_t pipe_id)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s/%s", where->root, where->folder, socket);
    if (where->root[0] != '/' || length < 0 || (size_t)length >= sizeof path)
        return; /* a relative root may be another one next time */
    pthread_mutex_lock(&remembered.lock);
    forget_remembered();
    remembered.root = strdup(where->root);
    remembered.folder = strdup(where->folder);
    remembered.path = strdup(path);
    remembered.pipe_id = pipe_id;
    remembered.uid = geteuid();
    struct stat root;
    remembered.private = stat(where->root, &root) == 0 && !(root.st_mode & (S_IWGRP | S_IWOTH));
    if (!remembered.root || !remembered.folder || !remembered.path)
        forget_remembered();
    pthread_mutex_unlock(&remembered.lock);
}

void np_remember_nothing(void)
{
    pthread_mutex_lock(&remembered.lock);
    forget_remembered();
    pthread_mutex_unlock(&remembered.lock);
}

/* The segment that was offered is not used again. */
static void withdraw_offer(struct call *call)
{
    call->keep = false;
    call->request.flags &= ~(uint32_t)NPW_KEEP;
    memset(call->request.offer, 0, sizeof call->request.offer);
    if (call->kept.segment && !has_forked(call))
        np_kept_refused(&call->kept);
    call->kept.segment = NULL;
}

static bool folder_of_socket(const char *path, struct stat *folder)
{
    char place[NP_REMEMBERED_SIZE];
    strcpy(place, path);
    char *slash = strrchr(place, '/');
    if (slash)
        *slash = 0;
    return slash && lstat(place, folder) == 0;
}

bool np_remembered(const struct np_where *where, struct np_remembered *found)
{
    bool private = false, known = false;
    pthread_mutex_lock(&remembered.lock);
    if (remembered.root && strcmp(remembered.root, where->root) == 0 && strcmp(remembered.folder, where->folder) == 0 &&
        remembered.uid == geteuid() && strlen(remembered.path) < sizeof found->path) {
        strcpy(found->path, remembered.path);
        found->pipe_id = remembered.pipe_id;
        private = remembered.private;
        known = true;
    }
    pthread_mutex_unlock(&remembered.lock);
    struct stat folder;
    if (known)
        found->folder_uid = private ? 0 : folder_of_socket(found->path, &folder) ? folder.st_uid : (uid_t)-1;
    return known;
}

/* Asks the owner that is remembered for this pipe. NP_RETRY: there is none, or he is not the one to ask any more. */
static uint32_t ask_remembered(struct call *call)
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

int64_t np_share_of_time(int64_t due, uint32_t others)
{
    int64_t now = np_now();
    if (others == 0 || due <= now)
        return due;
    return now + (due - now > NP_GOODWILL_NS ? NP_GOODWILL_NS / 4 : (due - now) / (others + 1));
}

/* Puts the request to the owners in turn, until one says something definite. With a request that is to be held,
 * each is first asked without holding it, if there are several; and one who is silent does not keep from the others.
 * NP_RETRY: has_forked. */
static uint32_t try_owners(struct call *call)
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
        uint32_t count = np_folder_sockets(dirfd, names, MAX_OWNERS), dead_ones = 0, busy = 0, silent = 0, gone = 0, told = 0;
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
            /* All are busy: any of them can hold the request, the others tell him when they listen. Best one who answers. */
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
        if (np_cancelled(call->wait) || interrupted(call->wait))
            return NP_INTERRUPTED; /* owners that answer at once let nobody sleep */
        if (has_forked(call))
            return NP_RETRY;
        /* An owner went away while we asked, or told us to look again: who is there now? */
        vanished = told || busy || silent ? 0 : vanished + 1;
    }
    return NP_FILE_NOT_FOUND; /* what is in the folder is no pipe: nobody there says a word */
}

static uint32_t ask_owners(struct call *call)
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

uint32_t np_without_answer(uint32_t code, bool told, bool waits, char *why)
{
    if (code != NP_SEM_TIMEOUT || told)
        return code;
    np_say(why, "the pipe's server does not answer: its process is stopped, or very busy");
    return waits ? code : NP_PIPE_BUSY;
}

void np_say_reason(const struct npw_answer *answer, char *why)
{
    if (answer->reason > 0 && answer->reason < 4096)
        np_say(why, "the server cannot make the connection's memory: %s", strerror((int)answer->reason));
    else
        np_say(why, "the server cannot hold any more requests");
}

static struct call new_call(const struct np_where *where, const struct np_wait *wait, enum npw_kind kind, char *why)
{
    return (struct call){
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

static uint32_t client_handle(struct call *call, const struct np_open_options *options, struct np_handle **result)
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
    struct call call = new_call(where, wait, NPW_OPEN, why);
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

uint32_t np_wait_named(const struct np_where *where, bool use_default, const struct np_wait *wait, struct np_breakable *breakable,
                       char *why)
{
    if (!np_settle_identity())
        return NP_PRIVILEGE_NOT_HELD;
    struct call call = new_call(where, wait, NPW_WAIT, why);
    call.breakable = breakable;
    call.answer_due = np_answer_due(true, true, use_default, np_now(), wait->deadline);
    if (use_default)
        call.deadline = NP_FOREVER - 1; /* until the owner has said how long */
    uint32_t code = np_without_answer(ask_owners(&call), call.told, true, why);
    hang_up(&call);
    return code;
}

uint32_t np_query_instances(const char *root, const char *folder, uint32_t id, uint32_t *instances)
{
    struct np_where where = {.root = root, .folder = folder, .display = ""};
    char names[MAX_OWNERS][NPF_SOCKET_SIZE];
    int dirfd;
    *instances = 0;
    uint32_t code = np_folder_look(root, folder, &dirfd, NULL);
    if (code != NP_OK)
        return code;
    uint32_t count = np_folder_sockets(dirfd, names, MAX_OWNERS);
    code = NP_FILE_NOT_FOUND;
    struct np_wait wait = {.deadline = np_now() + QUERY_PATIENCE_NS}; /* for all of them */
    for (uint32_t i = 0; i < count && code != NP_OK; i++) {
        struct call call = new_call(&where, &wait, NPW_QUERY, NULL);
        int socket = np_socket_connect(dirfd, names[i], wait.deadline), fd;
        if (socket < 0)
            continue;
        struct {
            struct npw_answer answer;
            char name[NPW_NAME_SIZE];
        } message;
        bool answered = np_send_message(socket, &call.request, sizeof call.request, -1) > 0 &&
                        np_socket_wait(socket, wait.deadline) == NP_OK;
        ssize_t got = answered ? np_receive_message(socket, &message, sizeof message, &fd) : -1;
        if (answered)
            np_fd_close(fd);
        if (got >= (ssize_t)sizeof message.answer && message.answer.magic == NPW_MAGIC && message.answer.version == NPW_VERSION) {
            code = message.answer.code;
            if (code == NP_OK && message.answer.queried_id == id)
                *instances = message.answer.instances; /* else the pipe has gone, and this is another of its name */
        }
        np_hang_up(socket);
    }
    np_fd_close(dirfd);
    return code;
}

/* ---- Listing */

/* A folder of the root, while its owners are asked. */
struct listed {
    char *name;
    uid_t uid;
    char (*sockets)[NPF_SOCKET_SIZE];
    uint32_t count, next;
    uint32_t asked;    /* who have not answered yet */
    int64_t next_due;  /* when the next one is asked even so */
    bool answered, silent, dead;
};

struct question {
    uint32_t folder; /* index */
    int64_t began;
    struct np_credentials owner;
};

struct listing_work {
    int rootfd;
    struct listed *folders;
    uint32_t n_folders;
    int sockets[MOST_ASKED];
    bool ready[MOST_ASKED];
    struct question questions[MOST_ASKED];
    uint32_t n_questions, most; /* the oldest first */
    np_list_fn each;
    void *context;
    bool wanted;
};

static int open_folder(int rootfd, const char *name)
{
    np_fds_hold();
    return np_fd_made(openat(rootfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

static bool add_folder(struct listing_work *work, const char *name)
{
    int dirfd = open_folder(work->rootfd, name);
    if (dirfd < 0)
        return true; /* not a pipe's folder, or not for us */
    if (work->n_folders % 64 == 0) {
        struct listed *more = realloc(work->folders, (work->n_folders + 64) * sizeof *more);
        if (!more) {
            np_fd_close(dirfd);
            return false;
        }
        work->folders = more;
    }
    char sockets[MAX_OWNERS][NPF_SOCKET_SIZE];
    struct stat status;
    struct listed *folder = &work->folders[work->n_folders];
    *folder = (struct listed){.uid = fstat(dirfd, &status) == 0 ? status.st_uid : (uid_t)-1};
    folder->count = np_folder_sockets(dirfd, sockets, MAX_OWNERS);
    np_fd_close(dirfd);
    folder->dead = folder->count == 0;
    folder->name = strdup(name);
    folder->sockets = malloc((folder->count + 1) * sizeof *sockets);
    if (!folder->name || !folder->sockets) {
        free(folder->name);
        free(folder->sockets);
        return false;
    }
    memcpy(folder->sockets, sockets, folder->count * sizeof *sockets);
    work->n_folders++;
    return true;
}

static void end_question(struct listing_work *work, uint32_t which)
{
    work->folders[work->questions[which].folder].asked--;
    np_hang_up(work->sockets[which]);
    work->n_questions--;
    memmove(work->sockets + which, work->sockets + which + 1, (work->n_questions - which) * sizeof *work->sockets);
    memmove(work->ready + which, work->ready + which + 1, (work->n_questions - which) * sizeof *work->ready);
    memmove(work->questions + which, work->questions + which + 1, (work->n_questions - which) * sizeof *work->questions);
}

/* Asks the folder's next owner, which never waits. False: no descriptor is left for it. */
static bool ask_next(struct listing_work *work, uint32_t index)
{
    static const struct npw_request request = {.magic = NPW_MAGIC, .version = NPW_VERSION, .kind = NPW_QUERY};
    struct listed *folder = &work->folders[index];
    int dirfd = open_folder(work->rootfd, folder->name);
    if (dirfd < 0 && (errno == EMFILE || errno == ENFILE))
        return false;
    int64_t now = np_now();
    int socket = dirfd < 0 ? -ENOENT : np_socket_connect(dirfd, folder->sockets[folder->next], now);
    np_fd_close(dirfd);
    if (socket == -EMFILE || socket == -ENFILE)
        return false;
    folder->next++;
    if (socket < 0) {
        folder->dead = folder->dead || socket == -ECONNREFUSED;
        folder->silent = folder->silent || socket == -EAGAIN;
        return true;
    }
    struct question *question = &work->questions[work->n_questions];
    *question = (struct question){.folder = index, .began = now};
    if (!np_peer_credentials(socket, false, &question->owner) || !np_leads_home(folder->uid, question->owner.uid) ||
        np_send_message(socket, &request, sizeof request, -1) <= 0) {
        np_hang_up(socket);
        return true;
    }
    folder->next_due = now + NEXT_OWNER_NS;
    folder->asked++;
    work->sockets[work->n_questions++] = socket;
    return true;
}

/* Whether a pipe can be like that: what a stranger says otherwise hides nobody else's. */
static bool makes_sense(const struct npw_answer *answer)
{
    return answer->direction >= NP_ACCESS_INBOUND && answer->direction <= NP_ACCESS_DUPLEX && answer->max_instances >= 1 &&
           answer->max_instances <= NP_UNLIMITED_INSTANCES && (answer->type == 0 || answer->type == NP_TYPE_MESSAGE);
}

static void take_listing(struct listing_work *work, uint32_t which)
{
    const struct question *question = &work->questions[which];
    struct listed *folder = &work->folders[question->folder];
    struct {
        struct npw_answer answer;
        char name[NPW_NAME_SIZE];
    } message;
    struct np_listing listing;
    int fd;
    ssize_t got = np_receive_message(work->sockets[which], &message, sizeof message, &fd);
    np_fd_close(fd);
    if (folder->answered || got < (ssize_t)sizeof message.answer || message.answer.magic != NPW_MAGIC || message.answer.code != NP_OK ||
        message.answer.version != NPW_VERSION || message.answer.name_size > got - (ssize_t)sizeof message.answer ||
        !makes_sense(&message.answer))
        return;
    folder->answered = true;
    listing.answer = message.answer;
    listing.folder = folder->name;
    listing.uid = question->owner.uid;
    memcpy(listing.name, message.name, message.answer.name_size);
    listing.name[message.answer.name_size] = 0;
    work->wanted = work->wanted && work->each(work->context, &listing);
}

/* Asks whoever is to be asked now. When to go on with that, NP_FOREVER: all have been asked who will be. */
static int64_t ask_more(struct listing_work *work)
{
    int64_t next = NP_FOREVER, now = np_now();
    for (uint32_t i = 0; i < work->n_folders; i++) {
        struct listed *folder = &work->folders[i];
        while (!folder->answered && folder->next < folder->count && (folder->asked == 0 || folder->next_due <= now)) {
            if (work->n_questions == work->most || !ask_next(work, i)) {
                if (work->n_questions == 0)
                    return next; /* no descriptor is left, and none will come back from here */
                int64_t patience = work->questions[0].began + CROWD_PATIENCE_NS;
                if (patience > now)
                    return patience < next ? patience : next;
                work->folders[work->questions[0].folder].silent = true;
                end_question(work, 0);
            }
        }
        if (!folder->answered && folder->next < folder->count && folder->next_due < next)
            next = folder->next_due;
    }
    return next;
}

static uint32_t ask_all(struct listing_work *work, int64_t deadline, const struct np_wait *wait)
{
    for (;;) {
        int64_t next = ask_more(work);
        if (work->n_questions == 0 && next == NP_FOREVER)
            return NP_OK;
        uint32_t code = np_sockets_ready(work->sockets, work->ready, work->n_questions, next < deadline ? next : deadline);
        if (code == NP_INTERRUPTED && interrupted(wait))
            return code;
        if (code == NP_NOT_ENOUGH_MEMORY)
            return code;
        for (uint32_t i = work->n_questions; code == NP_OK && i-- > 0;)
            if (work->ready[i]) {
                take_listing(work, i);
                end_question(work, i);
            }
        if (!work->wanted || np_now() >= deadline)
            return NP_OK;
    }
}

/* What the page says of a pipe whose owners are silent. */
static bool listing_of_page(int rootfd, const struct listed *folder, struct np_listing *listing)
{
    struct npf_page page;
    struct stat status;
    int dirfd = open_folder(rootfd, folder->name);
    int fd = -1;
    if (dirfd >= 0) {
        np_fds_hold();
        fd = np_fd_made(openat(dirfd, "pipe", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    }
    /* Read, not mapped: it may be cut short at any time. */
    bool whole = fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == folder->uid &&
                 pread(fd, &page, sizeof page, 0) == (ssize_t)sizeof page;
    np_fd_close(fd);
    np_fd_close(dirfd);
    if (!whole || page.magic != NPF_MAGIC || page.version != NPF_VERSION || page.name_size > NPF_NAME_SIZE ||
        page.name_size > NPW_NAME_SIZE)
        return false;
    *listing = (struct np_listing){
        .answer = {.type = page.type, .direction = page.direction, .max_instances = page.max_instances, .name_size = page.name_size},
        .uid = folder->uid,
        .folder = folder->name,
    };
    if (!makes_sense(&listing->answer))
        return false;
    for (int i = 0; i < NPF_SLOTS; i++) {
        if (atomic_load_explicit(&page.slot[i].id, memory_order_relaxed) == 0)
            continue;
        listing->answer.instances += atomic_load_explicit(&page.slot[i].instances, memory_order_relaxed);
        listing->answer.owner_pid = listing->answer.owner_pid ? listing->answer.owner_pid : page.slot[i].pid;
    }
    memcpy(listing->name, page.name, page.name_size);
    return listing->answer.owner_pid != 0;
}

static void end_listing(struct listing_work *work)
{
    while (work->n_questions)
        end_question(work, work->n_questions - 1);
    for (uint32_t i = 0; i < work->n_folders; i++) {
        free(work->folders[i].name);
        free(work->folders[i].sockets);
    }
    free(work->folders);
    free(work);
}

uint32_t np_list(const char *root, np_list_fn each, void *context, const struct np_wait *wait, char *why)
{
    int64_t deadline = np_now() + LISTING_NS;
    int rootfd;
    if (!np_settle_identity())
        return NP_PRIVILEGE_NOT_HELD;
    uint32_t code = np_root_open(root, false, &rootfd, why);
    if (code == NP_FILE_NOT_FOUND)
        return NP_OK; /* no root, no pipes */
    if (code != NP_OK)
        return code;
    DIR *list = fdopendir(rootfd);
    struct listing_work *work = calloc(1, sizeof *work);
    if (!list || !work) {
        if (list)
            np_fd_close_list(list);
        else
            np_fd_close(rootfd);
        free(work);
        return NP_NOT_ENOUGH_MEMORY;
    }
    uint64_t quarter = np_descriptor_limit() / 4;
    work->rootfd = rootfd;
    work->most = quarter > MOST_ASKED ? MOST_ASKED : quarter ? (uint32_t)quarter : 1;
    work->each = each;
    work->context = context;
    work->wanted = true;
    for (struct dirent *entry; code == NP_OK && (entry = readdir(list));)
        if (entry->d_name[0] != '.' && !add_folder(work, entry->d_name))
            code = NP_NOT_ENOUGH_MEMORY;
    if (code == NP_OK)
        code = ask_all(work, deadline, wait);
    for (uint32_t i = 0; i < work->n_folders && code == NP_OK && work->wanted; i++) {
        struct listed *folder = &work->folders[i];
        struct np_listing listing;
        if (!folder->answered && (folder->silent || folder->asked || folder->next < folder->count) &&
            listing_of_page(rootfd, folder, &listing))
            work->wanted = each(context, &listing);
        if (folder->dead && np_now() < deadline)
            np_folder_sweep(root, folder->name, false);
    }
    end_listing(work);
    np_fd_close_list(list);
    return code;
}

/* ---- Waiting for room at the limit of instances */

static void drop_owner(struct np_owner *owner)
{
    for (struct np_owner **place = &np_process.owners; *place; place = &(*place)->next)
        if (*place == owner) {
            *place = owner->next;
            break;
        }
    np_watch_remove(owner->watch, owner->socket);
    np_hang_up(owner->socket);
    free(owner);
}

void np_owner_gone(struct np_owner *owner)
{
    drop_owner(owner);
    np_tell_closed();
}

/* Has the native thread watch the owner at `socket`, who keeps it for as long as he lives. */
static bool watch_owner(int socket)
{
    static const struct npw_request stay = {.magic = NPW_MAGIC, .version = NPW_VERSION, .kind = NPW_STAY};
    struct np_owner *owner = calloc(1, sizeof *owner);
    if (!owner || np_send_message(socket, &stay, sizeof stay, -1) != (ssize_t)sizeof stay) {
        free(owner);
        return false;
    }
    owner->socket = socket;
    pthread_mutex_lock(&np_process.lock);
    owner->watch = np_watch_add(socket, EPOLLIN | EPOLLRDHUP, NP_WATCH_OWNER, owner);
    if (owner->watch) {
        owner->next = np_process.owners;
        np_process.owners = owner;
    }
    bool watched = owner->watch != 0; /* from here on the native thread may free it */
    pthread_mutex_unlock(&np_process.lock);
    if (!watched)
        free(owner);
    return watched;
}

static bool is_own_socket(const char *name)
{
    bool own = false;
    char of_pipe[NPF_SOCKET_SIZE];
    pthread_mutex_lock(&np_process.lock);
    for (struct np_pipe *pipe = np_process.pipes; pipe && !own; pipe = pipe->next) {
        np_socket_name(pipe->id, of_pipe);
        own = strcmp(of_pipe, name) == 0;
    }
    pthread_mutex_unlock(&np_process.lock);
    return own;
}

bool np_watch_owners(const struct np_where *where)
{
    char names[MAX_OWNERS][NPF_SOCKET_SIZE];
    int dirfd;
    if (np_folder_look(where->root, where->folder, &dirfd, NULL) != NP_OK)
        return false;
    uint32_t count = np_folder_sockets(dirfd, names, MAX_OWNERS);
    bool alive = true;
    for (uint32_t i = 0; i < count && alive; i++) {
        if (is_own_socket(names[i]))
            continue;
        bool out = np_step_out(); /* it is an owner who stays */
        int socket = np_socket_connect(dirfd, names[i], np_now());
        np_step_back(out);
        alive = socket != -ECONNREFUSED && socket != -ENOENT;
        if (socket >= 0 && !watch_owner(socket))
            np_hang_up(socket); /* without descriptors or memory his end is noticed later */
    }
    np_fd_close(dirfd);
    return alive;
}

void np_await_closed_begin(void)
{
    /* Sequentially consistent, with its twin in np_tell_closed: either we are seen, or we see the number move. */
    atomic_fetch_add_explicit(&np_process.closed_waiters, 1, memory_order_seq_cst);
}

void np_await_closed_end(void)
{
    if (atomic_fetch_sub_explicit(&np_process.closed_waiters, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_lock(&np_process.lock);
    while (np_process.owners && atomic_load_explicit(&np_process.closed_waiters, memory_order_acquire) == 0)
        drop_owner(np_process.owners);
    pthread_mutex_unlock(&np_process.lock);
}

uint32_t np_wait_closed(const struct np_where *where, uint32_t seen, const struct np_wait *wait)
{
    uint32_t code = NP_OK;
    np_await_closed_begin();
    if (np_watch_owners(where))
        code = np_sleep(&np_process.closed_seq, seen, UINT32_MAX, wait);
    np_await_closed_end();
    return code;
}
