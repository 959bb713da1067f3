#include "pipe/owner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
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
#include "pipe/directory.h"
#include "pipe/instances.h"
#include "pipe/messages.h"
#include "pipe/report.h"

#define REQUEST_PATIENCE_NS INT64_C(10000000000) /* between connecting and saying what one wants */
#define PAUSE_NS INT64_C(50000000)               /* between attempts to accept while no descriptor is left */
#define REQUEST_PATIENCE 16 /* turns for the request of somebody who has just connected, */
#define LONGEST_PATIENCE_NS 100000 /* and so long at most: then the others who were let go on have had their turn */
#define ACCEPTS_AT_ONCE 64
/* What somebody can make this process hold open: connections that say nothing, and requests that are held. */
#define MOST_SILENT 256
#define MOST_HELD 128     /* of one other user's, and */
#define MOST_HELD_ALL 512 /* of all others' of this machine, and */
#define MOST_HELD_REMOTE 1536 /* for all clients of other machines: as many as one gateway lets wait at most */
/* Or of the descriptors that this process may have, as the limit stands when somebody comes, so many sixteenths. */
#define SILENT_PART 2
#define HELD_PART 2
#define HELD_ALL_PART 4
#define HELD_REMOTE_PART 3
#define HELD_LOCAL_PART 7 /* of this machine's, with this user's own and root's, who could do worse; */
#define HELD_PARTS 8      /* of whomever: the rest is for connections */
/* So 5 of the 8 are kept from clients of other machines, and 1 from those of this one. */

/* A request, and what may be behind it. Guarded by the process lock. */
static union {
    struct npw_request request;
    char bytes[sizeof(struct npw_request) + NPW_REMOTE_SIZE];
} incoming;

static uint32_t at_most(uint32_t most, uint32_t sixteenths)
{
    uint64_t limit = np_descriptor_limit();
    uint64_t share = limit / 16 * sixteenths + limit % 16 * sixteenths / 16;
    return share < 1 ? 1 : share < most ? (uint32_t)share : most;
}

/* Whose the pipe is was settled when it was made: the thread that answers may be anybody just now. */
static bool is_owner(const struct np_pipe *pipe, const struct np_credentials *who)
{
    return who->uid == 0 || np_is_user(who->uid, pipe->owner);
}

static bool permitted(const struct np_pipe *pipe, const struct np_credentials *who)
{
    const struct np_access_rule *rule = &pipe->rule;
    if (rule->everyone || is_owner(pipe, who))
        return true;
    for (uint32_t i = 0; i < rule->n_uids; i++)
        if (np_is_user(rule->uids[i], who->uid))
            return true;
    for (uint32_t i = 0; i < rule->n_gids; i++) {
        bool member = rule->gids[i] == who->gid;
        for (uint32_t k = 0; k < who->n_groups; k++)
            member = member || rule->gids[i] == who->groups[k];
        if (member && !np_is_no_group(rule->gids[i]))
            return true;
    }
    return false;
}

uint32_t np_pipe_instances(const struct np_pipe *pipe)
{
    uint32_t count = 0;
    for (int i = 0; i < NPF_SLOTS; i++) {
        const struct npf_slot *slot = &pipe->files.page->slot[i];
        if (atomic_load_explicit(&slot->id, memory_order_acquire))
            count += atomic_load_explicit(&slot->instances, memory_order_relaxed);
    }
    return count;
}

uint32_t np_pipe_living_instances(const struct np_pipe *pipe)
{
    uint32_t count = 0;
    for (int i = 0; i < NPF_SLOTS; i++) {
        const struct npf_slot *slot = &pipe->files.page->slot[i];
        uint64_t id = atomic_load_explicit(&slot->id, memory_order_acquire);
        char name[NPF_SOCKET_SIZE];
        np_socket_name(id, name);
        if (id && (slot == pipe->slot || !np_socket_is_dead(pipe->files.dirfd, name)))
            count += atomic_load_explicit(&slot->instances, memory_order_relaxed);
    }
    return count;
}

static bool others_listen(const struct np_pipe *pipe)
{
    /* Full fence, with its twin in np_pipe_nudge: between our waiter and this look at the others, of whom one may have
     * just come. */
    atomic_thread_fence(memory_order_seq_cst);
    for (int i = 0; i < NPF_SLOTS; i++) {
        const struct npf_slot *slot = &pipe->files.page->slot[i];
        uint64_t id = atomic_load_explicit(&slot->id, memory_order_acquire);
        if (slot == pipe->slot || id == 0 || atomic_load_explicit(&slot->listening, memory_order_seq_cst) == 0)
            continue;
        char name[NPF_SOCKET_SIZE];
        np_socket_name(id, name);
        if (!np_socket_is_dead(pipe->files.dirfd, name)) /* the dead leave their slots as they were */
            return true;
    }
    return false;
}

static bool answer(struct np_visitor *visitor, uint32_t code, int fd)
{
    const struct np_pipe *pipe = visitor->pipe;
    struct npw_answer message = {
        .magic = NPW_MAGIC,
        .version = NPW_VERSION,
        .kind = visitor->kind,
        .code = code,
        .default_timeout_ms = pipe->default_timeout_ms,
        .type = pipe->type,
        .direction = pipe->direction,
        .max_instances = pipe->max_instances,
        .instances = np_pipe_instances(pipe),
        .owner_pid = np_process.pid,
        .pipe_id = visitor->kind == NPW_OPEN ? pipe->files.page->id : 0,
        .reused = code == NP_OK && visitor->kind == NPW_OPEN                   ? visitor->reused
                  : code == NP_NO_SYSTEM_RESOURCES || code == NP_ACCESS_DENIED ? (uint32_t)visitor->reason
                                                                               : 0,
    };
    return np_send_message(visitor->socket, &message, sizeof message, fd) == (ssize_t)sizeof message;
}

/* What is told of a pipe first, whoever asks. */
static struct npw_answer about(const struct np_pipe *pipe, uint32_t kind)
{
    return (struct npw_answer){
        .magic = NPW_MAGIC,
        .version = NPW_VERSION,
        .kind = kind,
        .queried_id = pipe->files.page->id,
        .type = pipe->type,
        .direction = pipe->direction,
        .max_instances = pipe->max_instances,
        .instances = np_pipe_living_instances(pipe),
        .owner_pid = np_process.pid,
        .listening = atomic_load_explicit(&pipe->slot->listening, memory_order_relaxed),
    };
}

static void answer_query(struct np_visitor *visitor)
{
    const struct np_pipe *pipe = visitor->pipe;
    struct {
        struct npw_answer answer;
        char name[NPW_NAME_SIZE];
    } message = {.answer = about(pipe, NPW_QUERY)};
    message.answer.name_size = pipe->files.page->name_size;
    if (message.answer.name_size > NPW_NAME_SIZE)
        message.answer.name_size = NPW_NAME_SIZE;
    memcpy(message.name, pipe->files.page->name, message.answer.name_size);
    (void)np_send_message(visitor->socket, &message, sizeof message.answer + message.answer.name_size, -1);
}

/* Guarded by the process lock. */
static struct {
    struct npw_answer answer;
    char report[NPW_DESCRIPTION_SIZE - sizeof(struct npw_answer)];
} description;

static void answer_describe(struct np_visitor *visitor, uint64_t from)
{
    const struct np_pipe *pipe = visitor->pipe;
    description.answer = about(pipe, NPW_DESCRIBE);
    size_t size = np_report(pipe, from, description.report, sizeof description.report);
    (void)np_send_message(visitor->socket, &description, sizeof description.answer + size, -1);
}

static void count_waiters(struct np_pipe *pipe, int change)
{
    /* Sequentially consistent, with its twin in np_pipe_nudge: either the creator of an instance sees the waiter,
     * or the waiter's owner sees the instance. */
    atomic_fetch_add_explicit(&pipe->slot->waiters, (uint32_t)change, memory_order_seq_cst);
}

static bool is_held(const struct np_visitor *visitor)
{
    return visitor->kind == NPW_OPEN || visitor->kind == NPW_WAIT;
}

static void has_spoken(struct np_visitor *visitor)
{
    if (!visitor->silent)
        return;
    visitor->silent = false;
    np_process.n_silent--;
    if (visitor->previous_silent)
        visitor->previous_silent->next_silent = visitor->next_silent;
    else
        np_process.first_silent = visitor->next_silent;
    if (visitor->next_silent)
        visitor->next_silent->previous_silent = visitor->previous_silent;
    else
        np_process.last_silent = visitor->previous_silent;
}

static void is_silent(struct np_visitor *visitor)
{
    visitor->silent = true;
    visitor->previous_silent = np_process.last_silent;
    if (np_process.last_silent)
        np_process.last_silent->next_silent = visitor;
    else
        np_process.first_silent = visitor;
    np_process.last_silent = visitor;
    np_process.n_silent++;
}

static void unlist(struct np_visitor *visitor)
{
    struct np_pipe *pipe = visitor->pipe;
    has_spoken(visitor);
    if (visitor->previous)
        visitor->previous->next = visitor->next;
    else
        pipe->first_visitor = visitor->next;
    if (visitor->next)
        visitor->next->previous = visitor->previous;
    else
        pipe->last_visitor = visitor->previous;
    if (is_held(visitor) && visitor->deadline == NP_FOREVER) {
        count_waiters(pipe, -1);
        np_process.n_held--;
        np_process.n_held_remote -= visitor->remote != NULL;
    }
}

/* The links of this process's instances of the pipe. */
static struct np_link *traced_link(const struct np_pipe *pipe, const struct np_handle *handle)
{
    return handle->pipe == pipe ? handle->link : NULL;
}

static void end_trace(struct np_visitor *visitor)
{
    struct np_pipe *pipe = visitor->pipe;
    if (!np_tap_remove(pipe->tap, visitor->tracer))
        return;
    for (struct np_handle *handle = np_process.handles; handle; handle = handle->next) {
        struct np_link *link = traced_link(pipe, handle);
        if (link)
            np_tap_link(link, NULL);
    }
}

void np_visitor_drop(struct np_visitor *visitor)
{
    unlist(visitor);
    if (visitor->tracer)
        end_trace(visitor);
    np_watch_remove(visitor->watch, visitor->socket);
    np_hang_up(visitor->socket);
    free(visitor->remote);
    free(visitor);
}

static void pause_pipe(struct np_pipe *pipe)
{
    pipe->paused_until = np_now() + PAUSE_NS;
    np_native_thread_wake(); /* it is the native thread that tries again, whoever tried now */
}

/* A link for the visitor: in the segment that it offers, if that is its own, or in a new one (then with *fd). */
static uint32_t link_for(const struct np_visitor *visitor, const struct np_handle *handle, struct np_link **link,
                         int *fd)
{
    struct np_link_shape shape = {
        .type = handle->type,
        .direction = handle->direction,
        .quota = {handle->quota[0], handle->quota[1]},
        .server_pid = np_process.pid,
    };
    struct np_kept kept;
    *fd = -1;
    if (visitor->offer &&
        np_kept_take(visitor->offer, np_link_size(&shape), visitor->who.pid, visitor->who.uid, &kept)) {
        if (kept.fd >= 0 || !handle->travels)
            return np_link_create_again(&shape, &kept, link);
        np_kept_drop(&kept); /* of a handle that could not travel */
    }
    return np_link_create(&shape, link, fd);
}

/* Gives the longest-listening instance to the visitor, whose socket becomes the link's: 0. Else the errno for which
 * there is no link, and the visitor is as it was. */
static int grant(struct np_visitor *visitor)
{
    struct np_pipe *pipe = visitor->pipe;
    struct np_handle *handle = pipe->first_listening;
    struct np_link *link;
    int fd;
    errno = 0;
    if (link_for(visitor, handle, &link, &fd) != NP_OK)
        return errno ? errno : ENOMEM;
    if (!np_link_unshare(link, visitor->access)) {
        np_fd_close(fd);
        np_link_unref(link);
        return ENOMEM;
    }
    link->client_pid = (uint32_t)visitor->who.pid;
    link->peer_pid = visitor->who.pid;
    link->peer_uid = visitor->who.uid;
    link->segment->header.client_pid = link->client_pid;
    link->tx.most = visitor->remote && link->type == NP_TYPE_MESSAGE ? visitor->remote->most : 0;
    visitor->reused = fd < 0;
    /* Held over the answer: a client that has it finds the instance connected, whatever this process calls next. */
    pthread_mutex_lock(&handle->rx_lock);
    pthread_mutex_lock(&handle->tx_lock);
    np_listening_remove(pipe, handle); /* before the client can ask another owner */
    bool told = answer(visitor, NP_OK, fd);
    if (told && handle->travels && fd >= 0)
        link->fd = fd;
    else
        np_fd_close(fd);
    if (!told) {
        np_listening_put_back(pipe, handle);
        pthread_mutex_unlock(&handle->tx_lock);
        pthread_mutex_unlock(&handle->rx_lock);
        np_link_unref(link);
        np_visitor_drop(visitor); /* it did not wait for the answer: the instance goes on listening */
        return 0;
    }
    unlist(visitor);
    link->keep = visitor->keep;
    link->socket = visitor->socket;
    link->watch = visitor->watch;
    if (link->watch)
        np_watch_change(link->watch, link->socket, EPOLLRDHUP, NP_WATCH_LINK, link);
    else
        atomic_fetch_or_explicit(&link->alert, NP_ALERT_UNWATCHED, memory_order_relaxed);
    if (!link->watch)
        np_fresh_add(handle);
    link->remote = visitor->remote;
    link->remote_size = visitor->remote_size;
    free(visitor);
    handle->link = link;
    link->handle = handle;
    np_tap_link(link, np_tap_has_tracers(pipe->tap) ? pipe->tap : NULL);
    if (np_is_tapped(link)) {
        const struct npf_page *page = pipe->files.page;
        uint32_t size = page->name_size; /* once: the page is shared with the other owners */
        np_tap_opened(link, page->name, size < NPF_NAME_SIZE ? size : NPF_NAME_SIZE);
    }
    if (handle->no_socket_sleeps)
        atomic_store_explicit(&link->rx.by_socket, 0, memory_order_relaxed);
    handle->client_pid = link->remote ? 0 : link->client_pid;
    atomic_store_explicit(&handle->connect_failed, 0, memory_order_relaxed); /* the state's release is behind it */
    handle->peer_uid = link->remote ? (uid_t)-1 : link->peer_uid; /* of nobody here */
    atomic_store_explicit(&handle->state, NP_CONNECTED, memory_order_release);
    pthread_mutex_unlock(&handle->tx_lock);
    pthread_mutex_unlock(&handle->rx_lock);
    np_left_listening(pipe, handle);
    return 0;
}

/* The native thread is told of what comes from the visitor. False: it cannot be. */
static bool watched(struct np_visitor *visitor)
{
    if (!visitor->watch)
        visitor->watch = np_watch_add(visitor->socket, EPOLLIN | EPOLLRDHUP, NP_WATCH_VISITOR, visitor);
    return visitor->watch != 0;
}

static void refuse(struct np_visitor *visitor, uint32_t code)
{
    (void)answer(visitor, code, -1);
    np_visitor_drop(visitor);
}

/* Whom requests are held for. Each crowd has a bound of its own, so that none of them keeps another out. */
enum crowd {
    OWN,    /* this user's own and root's */
    OTHERS, /* other users' of this machine */
    REMOTE, /* those that this user or root opens for clients of other machines, who did not have to be this user */
};

static enum crowd crowd_of(const struct np_visitor *visitor)
{
    if (visitor->remote)
        return REMOTE;
    return is_owner(visitor->pipe, &visitor->who) ? OWN : OTHERS;
}

static bool waits_in(const struct np_visitor *visitor, enum crowd crowd)
{
    return is_held(visitor) && visitor->deadline == NP_FOREVER && crowd_of(visitor) == crowd;
}

/* Of two of one crowd that is not OWN. */
static bool is_same_user(const struct np_visitor *visitor, const struct np_visitor *other)
{
    return visitor->remote ? visitor->remote->uid == other->remote->uid : visitor->who.uid == other->who.uid;
}

/* The same user, and of another machine from the same address: of such a gateway says the same, byte for byte. */
static bool is_same_client(const struct np_visitor *visitor, const struct np_visitor *other)
{
    return is_same_user(visitor, other) &&
           (!visitor->remote || (visitor->remote_hash == other->remote_hash && /* tells most apart without a look */
                                 visitor->remote_size == other->remote_size &&
                                 memcmp(visitor->remote, other->remote, visitor->remote_size) == 0));
}

struct held {
    uint32_t user, client; /* requests of the same user, and of the same client */
};

/* What is held for the users of a crowd, and for their clients. Guarded by the process lock; who uses it counts first.
 * A table has twice as many places as a crowd has requests, so that a search ends soon, and at an empty one. */
#define PLACES 4096
_Static_assert(PLACES >= 2 * MOST_HELD_REMOTE && PLACES >= 2 * MOST_HELD_ALL, "no crowd is larger");
static struct tally {
    const struct np_visitor *one; /* of them; NULL: an empty place */
    uint32_t held;
} users[PLACES], clients[PLACES];

static struct tally *tally_of(struct tally *table, const struct np_visitor *visitor)
{
    uint64_t uid = visitor->remote ? visitor->remote->uid : visitor->who.uid;
    uint64_t hash = uid * UINT64_C(0x9E3779B97F4A7C15) ^ (table == clients ? visitor->remote_hash : 0);
    for (uint32_t at = (uint32_t)(hash >> 32) % PLACES;; at = (at + 1) % PLACES) {
        const struct np_visitor *one = table[at].one;
        if (!one || (table == clients ? is_same_client(one, visitor) : is_same_user(one, visitor)))
            return &table[at];
    }
}

static void count_held(enum crowd crowd)
{
    memset(users, 0, sizeof users);
    memset(clients, 0, sizeof clients);
    for (const struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next)
        for (const struct np_visitor *other = pipe->first_visitor; other; other = other->next)
            if (waits_in(other, crowd)) {
                struct tally *user = tally_of(users, other), *client = tally_of(clients, other);
                user->one = client->one = other;
                user->held++;
                client->held++;
            }
}

static struct held held_for(const struct np_visitor *visitor)
{
    return (struct held){tally_of(users, visitor)->held, tally_of(clients, visitor)->held};
}

/* Whether one more request of this crowd, not OWN, may be held, in all pipes of this process together. If there are too
 * many, the user who has most of them loses one, and of its addresses the one that has most, if this user has fewer
 * then; else one goes of the address that has most of this user's own, if this one has fewer then. */
static bool may_hold(const struct np_visitor *visitor, enum crowd crowd)
{
    uint32_t all = 0, of_user = 0;
    for (const struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next)
        for (const struct np_visitor *other = pipe->first_visitor; other; other = other->next)
            if (waits_in(other, crowd)) {
                all++;
                of_user += is_same_user(visitor, other);
            }
    if (crowd == OTHERS && of_user >= at_most(MOST_HELD, HELD_PART))
        return false;
    if (all < (crowd == REMOTE ? at_most(MOST_HELD_REMOTE, HELD_REMOTE_PART) : at_most(MOST_HELD_ALL, HELD_ALL_PART)))
        return true;
    count_held(crowd);
    struct held own = held_for(visitor), most = {0, 0}, neighbours = {0, 0};
    struct np_visitor *victim = NULL, *neighbour = NULL; /* the youngest of theirs, about */
    for (const struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next)
        for (struct np_visitor *other = pipe->first_visitor; other; other = other->next) {
            if (!waits_in(other, crowd))
                continue;
            struct held theirs = held_for(other);
            if (theirs.user > most.user || (theirs.user == most.user && theirs.client >= most.client)) {
                most = theirs;
                victim = other;
            }
            if (is_same_user(visitor, other) && theirs.client >= neighbours.client) {
                neighbours = theirs;
                neighbour = other;
            }
        }
    if (most.user <= own.user + 1)
        victim = neighbours.client > own.client + 1 ? neighbour : NULL;
    if (!victim)
        return false;
    refuse(victim, NP_NO_SYSTEM_RESOURCES);
    return true;
}

/* Whether one more request may be held, be it this user's own. */
static bool has_room(const struct np_visitor *visitor)
{
    enum crowd crowd = crowd_of(visitor);
    uint32_t remote = np_process.n_held_remote;
    if (np_process.n_held >= at_most(UINT32_MAX, HELD_PARTS))
        return false;
    if (crowd != REMOTE && np_process.n_held - remote >= at_most(UINT32_MAX, HELD_LOCAL_PART))
        return false;
    return crowd == OWN || may_hold(visitor, crowd);
}

/* Keeps the request until an instance listens, and says so. */
static void hold(struct np_visitor *visitor)
{
    if (!has_room(visitor)) {
        refuse(visitor, NP_NO_SYSTEM_RESOURCES);
        return;
    }
    if (!watched(visitor)) {
        np_visitor_drop(visitor);
        return;
    }
    visitor->deadline = NP_FOREVER;
    np_process.n_held++;
    np_process.n_held_remote += visitor->remote != NULL;
    count_waiters(visitor->pipe, 1);
    if (!answer(visitor, NP_IO_PENDING, -1)) {
        np_visitor_drop(visitor);
        return;
    }
    if (others_listen(visitor->pipe)) {
        (void)answer(visitor, visitor->kind == NPW_WAIT ? NP_OK : NP_RETRY, -1);
        np_visitor_drop(visitor);
    }
}

/* Why a client may not open the pipe for that: enum npw_denial, or 0. */
static int denial_of(const struct np_pipe *pipe, uint32_t access)
{
    if (access & NP_READ && !(pipe->direction & NP_ACCESS_OUTBOUND))
        return NPW_DIRECTION;
    if (access & NP_WRITE && !(pipe->direction & NP_ACCESS_INBOUND))
        return NPW_DIRECTION;
    if (access & NP_READ && !(pipe->rule.allowed & NP_READ))
        return NPW_ONLY_WRITE;
    return access & NP_WRITE && !(pipe->rule.allowed & NP_WRITE) ? NPW_ONLY_READ : 0;
}

/* Descriptors come back when others are closed: who has asked to be held waits for that, as it does before accept(). */
static bool is_passing(int reason)
{
    return reason == EMFILE || reason == ENFILE;
}

static void cannot_grant(struct np_visitor *visitor, int reason)
{
    struct np_pipe *pipe = visitor->pipe;
    visitor->reason = reason;
    refuse(visitor, NP_NO_SYSTEM_RESOURCES);
    np_accept_failed(pipe, pipe->first_listening, reason);
}

static void do_open(struct np_visitor *visitor, uint32_t flags)
{
    struct np_pipe *pipe = visitor->pipe;
    int denial = denial_of(pipe, visitor->access);
    if (denial) {
        visitor->reason = denial;
        refuse(visitor, NP_ACCESS_DENIED); /* before busy (SEMANTICS 2.5) */
    } else if (pipe->first_listening) {
        int reason = grant(visitor);
        if (is_passing(reason) && flags & NPW_HOLD) {
            pause_pipe(pipe);
            hold(visitor);
        } else if (reason) {
            cannot_grant(visitor, reason);
        }
    } else if (flags & NPW_HOLD)
        hold(visitor);
    else
        refuse(visitor, NP_PIPE_BUSY);
}

static void be_nudged(struct np_pipe *pipe)
{
    np_tell_closed();
    if (!others_listen(pipe))
        return;
    struct np_visitor *next;
    for (struct np_visitor *visitor = pipe->first_visitor; visitor; visitor = next) {
        next = visitor->next;
        if (is_held(visitor))
            refuse(visitor, visitor->kind == NPW_WAIT ? NP_OK : NP_RETRY);
    }
}

/* FNV-1a, which has no key: what it is of is said by a gateway, which belongs to the pipe's owner or to root. */
static uint64_t hash_of(const char *bytes, size_t size)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001B3);
    return hash;
}

/* Takes what is behind an OPEN with NPW_FOR, `size` bytes. False: it is not as it should be, or there is no memory. */
static bool take_remote(struct np_visitor *visitor, const char *bytes, size_t size)
{
    struct npw_remote remote;
    if (size < sizeof remote)
        return false;
    memcpy(&remote, bytes, sizeof remote);
    if (remote.n_groups > NP_MAX_GROUPS || remote.n_groups * sizeof(uint32_t) > size - sizeof remote)
        return false;
    visitor->remote = malloc(size);
    if (!visitor->remote)
        return false;
    memcpy(visitor->remote, bytes, size);
    visitor->remote_size = (uint32_t)size;
    visitor->remote_hash = hash_of(bytes, size);
    return true;
}

static bool opens_for_another(const struct npw_request *request)
{
    return request->kind == NPW_OPEN && request->flags & NPW_FOR;
}

/* The visitor gets records of what this process's connections of the pipe do, in the ring that is in `fd`. */
static void do_trace(struct np_visitor *visitor, const struct npw_request *request, int fd)
{
    struct np_pipe *pipe = visitor->pipe;
    const struct np_trace_options options = {.most = request->offer[0]};
    visitor->kind = request->kind;
    if (!is_owner(pipe, &visitor->who) || pipe->untraceable) {
        visitor->reason = pipe->untraceable ? NPW_NOT_TRACEABLE : NPW_NOT_FOR_OTHERS;
        refuse(visitor, NP_ACCESS_DENIED);
        return;
    }
    if (!pipe->tap)
        pipe->tap = np_tap_new();
    uint32_t code = pipe->tap && watched(visitor)
                        ? np_tap_add(pipe->tap, fd, visitor->socket, &options, &visitor->tracer)
                        : NP_NOT_ENOUGH_MEMORY;
    if (code != NP_OK) {
        refuse(visitor, code);
        return;
    }
    visitor->deadline = NP_FOREVER;
    /* Before the answer: who has it misses nothing of what happens from then on. */
    for (struct np_handle *handle = np_process.handles; handle; handle = handle->next) {
        struct np_link *link = traced_link(pipe, handle);
        if (!link)
            continue;
        np_tap_link(link, pipe->tap);
        np_tap_event(link, visitor->tracer, NPR_PRESENT, NP_OK);
    }
    if (!answer(visitor, NP_OK, -1))
        np_visitor_drop(visitor);
}

/* `behind`: how many bytes came behind the request. `fd`: what came with it, or -1; stays the caller's. */
static void do_request(struct np_visitor *visitor, const struct npw_request *request, size_t behind, int fd)
{
    struct np_pipe *pipe = visitor->pipe;
    uint32_t kind = request->kind;
    if (kind == NPW_NUDGE && is_owner(pipe, &visitor->who)) {
        np_visitor_drop(visitor);
        be_nudged(pipe);
        return;
    }
    if (kind == NPW_STAY && is_owner(pipe, &visitor->who) && watched(visitor)) {
        visitor->kind = kind;
        visitor->deadline = NP_FOREVER;
        return;
    }
    if (kind == NPW_TRACE) {
        do_trace(visitor, request, fd);
        return;
    }
    bool for_another = opens_for_another(request);
    if (for_another && !is_owner(pipe, &visitor->who)) {
        visitor->reason = NPW_NOT_FOR_OTHERS;
        refuse(visitor, NP_ACCESS_DENIED);
        return;
    }
    if (for_another != (behind > 0) || (for_another && !take_remote(visitor, (const char *)(request + 1), behind))) {
        refuse(visitor, NP_INVALID_DATA);
        return;
    }
    if (!permitted(pipe, &visitor->who)) {
        visitor->reason = NPW_NOT_THIS_USER;
        refuse(visitor, NP_ACCESS_DENIED);
        return;
    }
    switch (kind) {
    case NPW_OPEN:
        visitor->kind = kind;
        visitor->access = request->access;
        visitor->keep = request->flags & NPW_KEEP && !for_another;
        visitor->offer = for_another ? 0 : (uint64_t)request->offer[1] << 32 | request->offer[0];
        do_open(visitor, request->flags);
        break;
    case NPW_WAIT:
        visitor->kind = kind;
        if (pipe->first_listening || others_listen(pipe))
            refuse(visitor, NP_OK);
        else
            hold(visitor);
        break;
    case NPW_QUERY:
        answer_query(visitor);
        np_visitor_drop(visitor);
        break;
    case NPW_DESCRIBE:
        visitor->kind = kind;
        if (is_owner(pipe, &visitor->who)) {
            answer_describe(visitor, (uint64_t)request->offer[1] << 32 | request->offer[0]);
            np_visitor_drop(visitor);
        } else {
            visitor->reason = NPW_NOT_FOR_OTHERS;
            refuse(visitor, NP_ACCESS_DENIED);
        }
        break;
    default:
        refuse(visitor, NP_INVALID_FUNCTION);
    }
}

/* In whichever pipe it is; but somebody who has more than half of all makes room for itself. */
static void drop_longest_silent(uid_t uid)
{
    uint32_t own = 0;
    struct np_visitor *oldest = NULL;
    for (struct np_visitor *visitor = np_process.first_silent; visitor; visitor = visitor->next_silent)
        if (visitor->who.uid == uid) {
            own++;
            oldest = oldest ? oldest : visitor;
        }
    np_visitor_drop(own > np_process.n_silent / 2 ? oldest : np_process.first_silent);
}

/* The request comes right behind the connect: a moment's patience saves two ways through the native thread's epoll. The
 * client may be on this processor, so it is let go on; on a busy machine that can take milliseconds, in which this
 * process waits for its lock. So after visitors who said nothing the next 1, 3, 7, ... up to 63 get no patience.
 * Guarded by the process lock. */
static struct {
    uint32_t failures, skip;
} patience;

static bool is_patient(void)
{
    if (patience.skip == 0)
        return true;
    patience.skip--;
    return false;
}

static void patience_ended(bool rewarded)
{
    if (rewarded)
        patience.failures = 0;
    else if (patience.failures < 6)
        patience.failures++;
    patience.skip = (1u << patience.failures) - 1;
}

static ssize_t receive_request(const struct np_visitor *visitor, bool patient, int *fd)
{
    ssize_t got;
    int64_t until = patient ? np_now() + LONGEST_PATIENCE_NS : 0;
    for (int i = 0;; i++) {
        got = np_receive_message(visitor->socket, incoming.bytes, sizeof incoming, fd);
        if (got != -EAGAIN || !patient || i == REQUEST_PATIENCE || np_now() > until)
            break;
        np_yield();
    }
    if (patient)
        patience_ended(got != -EAGAIN);
    return got;
}

void np_visitor_ready(struct np_visitor *visitor, bool fresh)
{
    const struct npw_request *request = &incoming.request;
    int fd;
    ssize_t got = receive_request(visitor, fresh && is_patient(), &fd);
    if (got == -EAGAIN || got == -EINTR) {
        if (!watched(visitor))
            np_visitor_drop(visitor);
        else if (np_process.n_silent > at_most(MOST_SILENT, SILENT_PART))
            drop_longest_silent(visitor->who.uid);
        return;
    }
    has_spoken(visitor);
    bool known = got >= (ssize_t)(2 * sizeof(uint32_t)) && request->magic == NPW_MAGIC;
    if (!known && got != -EMSGSIZE) {
        np_visitor_drop(visitor); /* gone, or not one of us */
    } else if (got < (ssize_t)sizeof *request || request->version != NPW_VERSION ||
               (got > (ssize_t)sizeof *request && !opens_for_another(request))) {
        refuse(visitor, NP_REVISION_MISMATCH);
    } else if (visitor->deadline == NP_FOREVER) {
        np_visitor_drop(visitor); /* a second request while the first is held */
    } else {
        do_request(visitor, request, (size_t)got - sizeof *request, fd);
    }
    np_fd_close(fd); /* a tracer's ring is mapped; nobody asked for anything else */
}

void np_pipe_accept(struct np_pipe *pipe)
{
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        np_fds_hold();
        int socket = np_fd_made(accept4(pipe->socket, NULL, NULL, SOCK_CLOEXEC));
        if (socket < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                /* The client waits in the backlog; to look again at once would only spin. */
                np_watch_remove(pipe->watch, pipe->socket);
                pipe->watch = 0;
                pause_pipe(pipe);
            }
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            return;
        }
        struct np_visitor *visitor = calloc(1, sizeof *visitor);
        if (!visitor || !np_peer_credentials(socket, pipe->rule.n_gids > 0, &visitor->who)) {
            np_hang_up(socket);
            free(visitor);
            continue;
        }
        visitor->pipe = pipe;
        visitor->socket = socket;
        visitor->deadline = np_now() + REQUEST_PATIENCE_NS;
        is_silent(visitor);
        visitor->previous = pipe->last_visitor;
        if (pipe->last_visitor)
            pipe->last_visitor->next = visitor;
        else
            pipe->first_visitor = visitor;
        pipe->last_visitor = visitor;
        np_visitor_ready(visitor, true);
        if (pipe->leader_awake &&
            atomic_load_explicit(&pipe->leader->connect_seq, memory_order_relaxed) != pipe->leader_seq)
            return; /* it has its client */
    }
}

void np_pipe_serve(struct np_pipe *pipe)
{
    struct np_visitor *next;
    for (struct np_visitor *visitor = pipe->first_visitor; visitor; visitor = next) {
        next = visitor->next;
        if (visitor->kind == NPW_WAIT && visitor->deadline == NP_FOREVER)
            refuse(visitor, NP_OK); /* all of them: it is only a hint (SEMANTICS 4) */
    }
    for (struct np_visitor *visitor = pipe->first_visitor; visitor && pipe->first_listening; visitor = next) {
        next = visitor->next;
        int reason = visitor->kind == NPW_OPEN && visitor->deadline == NP_FOREVER ? grant(visitor) : 0;
        if (is_passing(reason)) {
            pause_pipe(pipe);
            return;
        }
        if (reason)
            cannot_grant(visitor, reason);
    }
}

void np_pipe_nudge(struct np_pipe *pipe, bool listening)
{
    static const struct npw_request nudge = {.magic = NPW_MAGIC, .version = NPW_VERSION, .kind = NPW_NUDGE};
    /* as in others_listen: between our slot and instance, and this look at the waiters */
    atomic_thread_fence(memory_order_seq_cst);
    for (int i = 0; i < NPF_SLOTS; i++) {
        struct npf_slot *slot = &pipe->files.page->slot[i];
        uint64_t id = atomic_load_explicit(&slot->id, memory_order_acquire);
        if (slot == pipe->slot || id == 0)
            continue;
        if (listening && atomic_load_explicit(&slot->waiters, memory_order_seq_cst) == 0)
            continue;
        char name[NPF_SOCKET_SIZE];
        np_socket_name(id, name);
        bool out = np_step_out(); /* it is an owner who nudges */
        int socket = np_socket_connect(pipe->files.dirfd, name, np_now());
        np_step_back(out);
        if (socket < 0)
            continue; /* dead: whoever waits there is told by the hang-up */
        (void)np_send_message(socket, &nudge, sizeof nudge, -1);
        np_hang_up(socket);
    }
}

void np_pipe_turn_away(struct np_pipe *pipe)
{
    bool others = np_pipe_instances(pipe) > 0;
    while (pipe->first_visitor)
        refuse(pipe->first_visitor, others ? NP_RETRY : NP_FILE_NOT_FOUND);
}

void np_pipe_forbid_tracing(struct np_pipe *pipe)
{
    struct np_visitor *next;
    pipe->untraceable = true;
    for (struct np_visitor *visitor = pipe->first_visitor; visitor; visitor = next) {
        next = visitor->next;
        if (visitor->tracer)
            refuse(visitor, NP_ACCESS_DENIED);
    }
}

void np_forbid_tracing(const struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    if (handle->pipe)
        np_pipe_forbid_tracing(handle->pipe);
    pthread_mutex_unlock(&np_process.lock);
}
