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

#include "registry.h"

#define ANSWER_PATIENCE_NS INT64_C(10000000000) /* for an owner that has been stopped */
#define FIRST_ANSWER_NS INT64_C(1000000000)
#define QUERY_PATIENCE_NS INT64_C(1000000000)
#define LISTING_PATIENCE_NS INT64_C(3000000000) /* for all that do not answer: somebody may own any number of pipes and say nothing */
#define LEAST_PATIENCE_NS INT64_C(20000000)    /* for each one after that */
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
    char *why;
    /* The answer */
    struct npw_answer answer;
    bool told; /* NP_RETRY was the owner's word, or came after he had held the request: not just a hang-up */
    int socket, segment;
    struct np_credentials owner;
    bool keep;           /* the pipe was opened before: its segments are kept, and one that was is offered */
    struct np_kept kept; /* the offer, segment NULL: none */
};

static bool interrupted(const struct np_wait *wait)
{
    return wait->interrupted && wait->interrupted(wait->context);
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
    if (call->segment >= 0)
        close(call->segment); /* of an answer that was not the last */
    return np_answer_code(np_receive_message(call->socket, &call->answer, sizeof call->answer, &call->segment, false), &call->answer,
                          call->why);
}

static void hang_up(struct call *call)
{
    if (call->socket >= 0)
        close(call->socket);
    if (call->segment >= 0)
        close(call->segment);
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

/* Puts the request to one owner, at `name` in a folder or (dirfd -1) by its path, and waits for the last word. NP_RETRY: he
 * has gone. */
static uint32_t ask(struct call *call, int dirfd, const char *name, bool *dead)
{
    *dead = call->told = false;
    call->segment = -1;
    for (;;) {
        call->socket = dirfd < 0 ? np_socket_connect_path(name, call->deadline) : np_socket_connect(dirfd, name, call->deadline);
        if (call->socket != -EINTR)
            break;
        if (interrupted(call->wait))
            return NP_INTERRUPTED;
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
            np_say(call->why, "the pipe's socket cannot be reached: %s", strerror(-call->socket));
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
    int64_t began = np_now();
    for (;;) {
        int64_t deadline = call->deadline;
        int64_t patience = np_now() + ANSWER_PATIENCE_NS;
        if (!holds && !(call->request.flags & NPW_HOLD) && call->request.kind != NPW_WAIT && patience < deadline)
            deadline = patience;
        /* The time-out of a wait is for an instance, not for the question whether one listens. */
        int64_t least = began + FIRST_ANSWER_NS;
        if (!holds && call->request.kind == NPW_WAIT && deadline < least)
            deadline = least;
        uint32_t code = await_answer(call, deadline);
        if (code == NP_OK || code == NP_SEM_TIMEOUT) {
            /* Also at the last moment: what has been granted is not thrown away. */
            uint32_t last = take_answer(call);
            call->told = call->told || last == NP_IO_PENDING || (last == NP_RETRY && call->answer.code == NP_RETRY);
            if (last != NP_WOULD_WAIT && last != NP_IO_PENDING)
                return last;
            if (last == NP_IO_PENDING && holds) {
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
    if (call->kept.segment)
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
    uint32_t code = ask(call, -1, found.path, &dead);
    if (code == NP_OK && (call->request.kind != NPW_OPEN || call->answer.pipe_id == found.pipe_id))
        return code;
    withdraw_offer(call);
    hang_up(call);
    if (code != NP_OK && code != NP_RETRY && code != NP_PIPE_BUSY && code != NP_FILE_NOT_FOUND)
        return code;
    np_remember_nothing();
    return NP_RETRY;
}

/* Puts the request to the owners in turn, until one says something definite. With a request that is to be held,
 * each is first asked without holding it, if there are several. */
static uint32_t ask_owners(struct call *call)
{
    char names[MAX_OWNERS][NPF_SOCKET_SIZE];
    int dirfd;
    uint32_t known = ask_remembered(call);
    if (known != NP_RETRY)
        return known;
    for (int vanished = 0; vanished < MOST_VANISHED;) {
        uint32_t code = np_folder_look(call->where->root, call->where->folder, &dirfd, call->why);
        if (code != NP_OK)
            return code;
        struct stat folder;
        call->folder_uid = fstat(dirfd, &folder) == 0 ? folder.st_uid : (uid_t)-1;
        uint32_t count = np_folder_sockets(dirfd, names, MAX_OWNERS), dead_ones = 0, busy = 0, gone = 0, told = 0;
        uint32_t flags = call->request.flags;
        code = NP_FILE_NOT_FOUND;
        for (uint32_t i = 0; i < count; i++) {
            bool dead;
            call->request.flags = count > 1 ? 0 : flags;
            code = ask(call, dirfd, names[i], &dead);
            if (code == NP_OK && count == 1 && call->request.kind == NPW_OPEN) /* a wait's answer has no id */
                np_remember(call->where, names[i], call->answer.pipe_id);
            if (code == NP_OK)
                break;
            hang_up(call);
            dead_ones += dead;
            gone += code == NP_RETRY && !dead;
            told += code == NP_RETRY && call->told;
            if (code == NP_PIPE_BUSY)
                busy++;
            else if (code != NP_RETRY && code != NP_FILE_NOT_FOUND)
                break;
        }
        call->request.flags = flags;
        bool settled = code != NP_RETRY && code != NP_PIPE_BUSY && code != NP_FILE_NOT_FOUND;
        if (!settled && busy && flags & NPW_HOLD) {
            /* All are busy: any of them can hold the request, the others tell him when they listen. */
            for (uint32_t i = 0; i < count && !settled; i++) {
                bool dead;
                code = ask(call, dirfd, names[i], &dead);
                settled = code != NP_RETRY && code != NP_FILE_NOT_FOUND;
                if (code != NP_OK)
                    hang_up(call);
                if (code == NP_RETRY && !dead)
                    break;
            }
        }
        close(dirfd);
        if (dead_ones)
            np_folder_sweep(call->where->root, call->where->folder);
        if (settled)
            return code;
        if (busy && !(flags & NPW_HOLD))
            return NP_PIPE_BUSY;
        if (!busy && !gone)
            return NP_FILE_NOT_FOUND;
        if (np_now() >= call->deadline)
            return NP_SEM_TIMEOUT;
        if (np_cancelled(call->wait) || interrupted(call->wait))
            return NP_INTERRUPTED; /* owners that answer at once let nobody sleep */
        /* An owner went away while we asked, or told us to look again: who is there now? */
        vanished = told || busy ? 0 : vanished + 1;
    }
    return NP_FILE_NOT_FOUND; /* what is in the folder is no pipe: nobody there says a word */
}

static struct call new_call(const struct np_where *where, const struct np_wait *wait, enum npw_kind kind, char *why)
{
    return (struct call){
        .where = where,
        .wait = wait,
        .deadline = wait->deadline,
        .request = {.magic = NPW_MAGIC, .version = NPW_VERSION, .kind = kind},
        .why = why,
        .socket = -1,
        .segment = -1,
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
    if (call->segment >= 0)
        close(call->segment);
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
    code = ask_owners(&call);
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
    if (use_default)
        call.deadline = NP_FOREVER - 1; /* until the owner has said how long */
    uint32_t code = ask_owners(&call);
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
        ssize_t got = answered ? np_receive_message(socket, &message, sizeof message, &fd, false) : -1;
        if (answered && fd >= 0)
            close(fd);
        if (got >= (ssize_t)sizeof message.answer && message.answer.magic == NPW_MAGIC && message.answer.version == NPW_VERSION) {
            code = message.answer.code;
            if (code == NP_OK && message.answer.queried_id == id)
                *instances = message.answer.instances; /* else the pipe has gone, and this is another of its name */
        }
        close(socket);
    }
    close(dirfd);
    return code;
}

/* What the first living owner of the pipe in `folder` says of it. `patience` is what is left for those who do not answer. */
static bool query_listing(int dirfd, struct np_listing *listing, bool *dead, int64_t *patience)
{
    struct stat folder;
    uid_t folder_uid = fstat(dirfd, &folder) == 0 ? folder.st_uid : (uid_t)-1;
    char names[MAX_OWNERS][NPF_SOCKET_SIZE];
    uint32_t count = np_folder_sockets(dirfd, names, MAX_OWNERS);
    static const struct npw_request request = {.magic = NPW_MAGIC, .version = NPW_VERSION, .kind = NPW_QUERY};
    *dead = count == 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t began = np_now(), deadline = began + (*patience > QUERY_PATIENCE_NS ? QUERY_PATIENCE_NS : *patience);
        int socket = np_socket_connect(dirfd, names[i], deadline), fd = -1;
        if (socket < 0) {
            *dead = *dead || socket == -ECONNREFUSED;
            continue;
        }
        struct {
            struct npw_answer answer;
            char name[NPW_NAME_SIZE];
        } message;
        struct np_credentials owner;
        bool answered = np_peer_credentials(socket, false, &owner) && np_leads_home(folder_uid, owner.uid) &&
                        np_send_message(socket, &request, sizeof request, -1) > 0 && np_socket_wait(socket, deadline) == NP_OK;
        ssize_t got = answered ? np_receive_message(socket, &message, sizeof message, &fd, false) : -1;
        if (fd >= 0)
            close(fd);
        close(socket);
        if (!answered && (*patience -= np_now() - began) < LEAST_PATIENCE_NS)
            *patience = LEAST_PATIENCE_NS;
        if (got < (ssize_t)sizeof message.answer || message.answer.magic != NPW_MAGIC || message.answer.code != NP_OK ||
            message.answer.version != NPW_VERSION || message.answer.name_size > got - (ssize_t)sizeof message.answer)
            continue;
        if (message.answer.direction < 1 || message.answer.direction > 3 || message.answer.max_instances < 1 ||
            message.answer.max_instances > NP_UNLIMITED_INSTANCES || (message.answer.type != 0 && message.answer.type != NP_TYPE_MESSAGE))
            continue; /* no pipe is like that */
        listing->answer = message.answer;
        listing->uid = owner.uid;
        memcpy(listing->name, message.name, message.answer.name_size);
        listing->name[message.answer.name_size] = 0;
        return true;
    }
    return false;
}

uint32_t np_list(const char *root, np_list_fn each, void *context, char *why)
{
    int rootfd;
    if (!np_settle_identity())
        return NP_PRIVILEGE_NOT_HELD;
    uint32_t code = np_root_open(root, false, &rootfd, why);
    if (code == NP_FILE_NOT_FOUND)
        return NP_OK; /* no root, no pipes */
    if (code != NP_OK)
        return code;
    DIR *list = fdopendir(rootfd);
    if (!list) {
        close(rootfd);
        return NP_NOT_ENOUGH_MEMORY;
    }
    bool wanted = true;
    int64_t patience = LISTING_PATIENCE_NS;
    for (struct dirent *entry; wanted && (entry = readdir(list));) {
        if (entry->d_name[0] == '.')
            continue;
        int dirfd = openat(rootfd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dirfd < 0)
            continue; /* not a pipe's folder, or not for us */
        struct np_listing listing;
        bool dead;
        bool found = query_listing(dirfd, &listing, &dead, &patience);
        listing.folder = entry->d_name;
        close(dirfd);
        if (dead)
            np_folder_sweep(root, entry->d_name);
        if (found)
            wanted = each(context, &listing);
    }
    closedir(list);
    return NP_OK;
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
    close(owner->socket);
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
            close(socket); /* without descriptors or memory his end is noticed later */
    }
    close(dirfd);
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
