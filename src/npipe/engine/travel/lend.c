#include "travel/lend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/identity.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"
#include "process/process.h"
#include "handle/handle.h"
#include "travel/passport.h"

#define MAGIC UINT32_C(0x5450504e) /* "NPPT" */
#define VERSION 1
#define OFFER_NAME_SIZE 64
/* Of connections that have said nothing yet: so many, and no longer. */
#define MOST_VISITORS 64
#define VISITORS_PART 8 /* or of the descriptors that this process may have, this part */
#define VISITOR_PATIENCE_NS INT64_C(10000000000)
#define ACCEPTS_AT_ONCE 64
#define PAUSE_NS INT64_C(50000000) /* while no descriptor is left */
#define GOODWILL_NS INT64_C(1000000000)
#define PASSPORT_FDS 3
#define MOST_STALE 1024
#define ASK_AGAIN_NS INT64_C(200000000)

struct claim {
    uint32_t magic, version;
    uint64_t number; /* of an offer */
};

/* With it come the passport's three descriptors, if the code is NP_OK. */
struct answer {
    uint32_t magic, version, code, reserved;
};

/* All but `next_spoken` guarded by the process lock, as long as it is listed. */
struct np_lend {
    struct np_lend *next, *previous;
    struct np_handle *handle;   /* held; NULL: closed here, and nobody has come for its passport yet, */
    struct np_passport passport; /* or a visitor, who has not said what it wants */
    int socket;                 /* -1: an offer */
    uint64_t watch;
    uint64_t number;
    bool offered, visitor;
    bool only_while_open;
    bool answering; /* counted as such */
    bool at_exit;   /* its turn there has been */
    int64_t until;  /* a visitor's */
    struct np_lend *next_spoken;
};

static struct np_lend *lends;
static int offers = -1; /* the socket that visitors come to */
static uint64_t offers_watch;
static int64_t offers_resume; /* 0: not paused */
static uint32_t n_visitors;   /* listed */
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;

static void list(struct np_lend *lend)
{
    lend->previous = NULL;
    lend->next = lends;
    if (lends)
        lends->previous = lend;
    lends = lend;
    n_visitors += lend->visitor;
    if (lend->handle)
        lend->handle->lent++;
}

static void unlist(struct np_lend *lend)
{
    if (lend->previous)
        lend->previous->next = lend->next;
    else
        lends = lend->next;
    if (lend->next)
        lend->next->previous = lend->previous;
    lend->next = lend->previous = NULL;
    if (lend->watch)
        np_watch_remove(lend->watch, lend->socket);
    lend->watch = 0;
    n_visitors -= lend->visitor;
    if (lend->handle)
        lend->handle->lent--;
}

/* Of one that is not listed; without the process lock. */
static void free_lend(struct np_lend *lend)
{
    if (!lend->handle && !lend->visitor)
        np_passport_drop(&lend->passport);
    if (lend->handle)
        np_free(lend->handle);
    np_hang_up(lend->socket);
    free(lend);
}

/* Whoever closes the handle meanwhile waits for what becomes of it. With the process lock. */
static void begin_answer(struct np_lend *lend)
{
    if (!lend->handle)
        return;
    lend->answering = true;
    lend->handle->answering++;
}

static void end_answer(struct np_lend *lend)
{
    if (!lend->answering)
        return;
    lend->answering = false;
    lend->handle->answering--;
    pthread_cond_broadcast(&answered);
}

/* Of one that was answered for the last time; without the process lock. */
static void is_over(struct np_lend *lend)
{
    pthread_mutex_lock(&np_process.lock);
    end_answer(lend);
    pthread_mutex_unlock(&np_process.lock);
    free_lend(lend);
}

static struct np_lend *new_lend(struct np_handle *handle, int socket)
{
    struct np_lend *lend = calloc(1, sizeof *lend);
    if (!lend)
        return NULL;
    lend->passport = (struct np_passport){-1, -1, -1};
    lend->socket = socket;
    lend->handle = handle;
    lend->visitor = !handle;
    if (handle)
        np_hold(handle);
    return lend;
}

uint32_t np_lend(struct np_handle *handle, int socket)
{
    uint32_t code = np_process_start();
    struct np_lend *lend = code == NP_OK ? new_lend(handle, socket) : NULL;
    if (!lend) {
        np_hang_up(socket);
        return code == NP_OK ? NP_NOT_ENOUGH_MEMORY : code;
    }
    pthread_mutex_lock(&np_process.lock);
    if (np_is_closed(handle) || !handle->travels)
        code = NP_INVALID_HANDLE;
    else if (!(lend->watch = np_watch_add(socket, EPOLLIN | EPOLLRDHUP, NP_WATCH_LEND, lend)))
        code = NP_NOT_ENOUGH_MEMORY;
    else
        list(lend);
    pthread_mutex_unlock(&np_process.lock);
    if (code != NP_OK)
        free_lend(lend);
    return code;
}

static void offer_name(char *name, uid_t uid, pid_t pid)
{
    snprintf(name, OFFER_NAME_SIZE, "npipe/handles/%u/%d", (unsigned)uid, (int)pid);
}

/* With the process lock. */
static uint32_t listen_for_visitors(void)
{
    if (offers >= 0)
        return NP_OK;
    char name[OFFER_NAME_SIZE];
    bool out = np_step_out(); /* the name, and whom the kernel says who listens is: the process's */
    offer_name(name, geteuid(), (pid_t)np_process.pid);
    int socket = np_socket_listen_abstract(name);
    np_step_back(out);
    if (socket < 0)
        return socket == -EMFILE || socket == -ENFILE ? NP_TOO_MANY_OPEN_FILES : NP_NO_SYSTEM_RESOURCES;
    offers_watch = np_watch_add(socket, EPOLLIN, NP_WATCH_OFFERS, NULL);
    if (!offers_watch) {
        np_fd_close(socket);
        return NP_NOT_ENOUGH_MEMORY;
    }
    offers = socket;
    return NP_OK;
}

uint32_t np_offer(struct np_handle *handle, uint64_t number, bool only_while_open)
{
    uint32_t code = np_process_start();
    struct np_lend *lend = code == NP_OK ? new_lend(handle, -1) : NULL;
    if (!lend)
        return code == NP_OK ? NP_NOT_ENOUGH_MEMORY : code;
    lend->number = number;
    lend->offered = true;
    lend->only_while_open = only_while_open;
    pthread_mutex_lock(&np_process.lock);
    code = np_is_closed(handle) || !handle->travels ? NP_INVALID_HANDLE : listen_for_visitors();
    if (code == NP_OK)
        list(lend);
    pthread_mutex_unlock(&np_process.lock);
    if (code != NP_OK)
        free_lend(lend);
    return code;
}

/* The passport to whoever is at the other end. Whether it is there: it can be received, or they are gone by now. */
static bool send_passport(void *to, const struct np_passport *passport)
{
    const int *socket = to;
    const struct answer answer = {.magic = MAGIC, .version = VERSION, .code = NP_OK};
    const int fds[PASSPORT_FDS] = {passport->socket, passport->segment, passport->state};
    return np_send_descriptors(*socket, &answer, sizeof answer, fds, PASSPORT_FDS) == (ssize_t)sizeof answer;
}

static void refuse(int socket, uint32_t code)
{
    const struct answer answer = {.magic = MAGIC, .version = VERSION, .code = code};
    (void)np_send_message(socket, &answer, sizeof answer, -1); /* who does not wait for it does not miss it */
}

/* ---- The native thread */

/* Whether who is at the other end may hand something to this user's process, or ask it for something. */
static bool is_trusted(int socket, uid_t own, struct np_credentials *who)
{
    return np_peer_credentials(socket, false, who) && (np_is_user(who->uid, own) || who->uid == 0);
}

static void take_out(struct np_lend *lend, struct np_lend **over)
{
    unlist(lend);
    lend->next_spoken = *over;
    *over = lend;
}

void np_lend_ready(struct np_lend *lend, struct np_lend **spoken)
{
    take_out(lend, spoken);
    begin_answer(lend);
}

/* With the process lock. */
static void drop_visitor(struct np_lend *visitor)
{
    unlist(visitor);
    free_lend(visitor); /* it has no handle, so this takes no lock but a leaf */
}

static void drop_longest_silent(void)
{
    struct np_lend *oldest = NULL;
    for (struct np_lend *lend = lends; lend; lend = lend->next)
        if (lend->visitor)
            oldest = lend;
    if (oldest)
        drop_visitor(oldest);
}

void np_offers_due(int64_t now)
{
    if (offers_resume && offers_resume <= now) {
        offers_resume = 0;
        offers_watch = np_watch_add(offers, EPOLLIN, NP_WATCH_OFFERS, NULL);
        if (!offers_watch)
            offers_resume = now + PAUSE_NS;
    }
    if (offers_resume)
        np_alarm(offers_resume);
    struct np_lend *next;
    for (struct np_lend *lend = n_visitors ? lends : NULL; lend; lend = next) {
        next = lend->next;
        if (lend->visitor && lend->until <= now)
            drop_visitor(lend);
        else if (lend->visitor)
            np_alarm(lend->until);
    }
}

static void pause_offers(void)
{
    np_watch_remove(offers_watch, offers);
    offers_watch = 0;
    offers_resume = np_now() + PAUSE_NS;
    np_alarm(offers_resume);
}

void np_offers_ready(void)
{
    uint64_t most = np_descriptor_limit() / VISITORS_PART;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) { /* anybody may come, as fast as it can: the others' turn is next */
        np_fds_hold();
        int socket = np_fd_made(accept4(offers, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (socket < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
            pause_offers();
        if (socket < 0)
            return;
        struct np_credentials who;
        struct np_lend *visitor = NULL;
        /* The namespace has no permissions: who comes is looked at. */
        if (is_trusted(socket, geteuid(), &who))
            visitor = new_lend(NULL, socket);
        if (visitor)
            visitor->watch = np_watch_add(socket, EPOLLIN | EPOLLRDHUP, NP_WATCH_LEND, visitor);
        if (visitor && visitor->watch) {
            while (n_visitors >= MOST_VISITORS || (n_visitors && n_visitors >= most))
                drop_longest_silent();
            visitor->until = np_now() + VISITOR_PATIENCE_NS;
            list(visitor);
            np_alarm(visitor->until);
            continue;
        }
        free(visitor);
        np_hang_up(socket);
    }
}

/* Takes the offer of that number out of the list; NULL: there is none. */
static struct np_lend *take_offer(uint64_t number)
{
    pthread_mutex_lock(&np_process.lock);
    struct np_lend *lend = lends;
    while (lend && !(lend->offered && lend->number == number))
        lend = lend->next;
    if (lend) {
        unlist(lend);
        begin_answer(lend);
    }
    pthread_mutex_unlock(&np_process.lock);
    return lend;
}

static void put_back(struct np_lend *lend, uint32_t events)
{
    pthread_mutex_lock(&np_process.lock);
    if (lend->socket >= 0)
        lend->watch = np_watch_add(lend->socket, events, NP_WATCH_LEND, lend);
    bool watched = lend->socket < 0 || lend->watch;
    if (watched)
        list(lend);
    end_answer(lend);
    pthread_mutex_unlock(&np_process.lock);
    if (!watched)
        free_lend(lend);
}

/* Hands over what is lent. Whether it is over with it: it is there, or there is nothing to ask for any more. */
static bool hand_over(struct np_lend *lend, int socket)
{
    uint32_t code = NP_OK;
    if (lend->handle)
        code = np_depart_to(lend->handle, false, send_passport, &socket);
    else if (send_passport(&socket, &lend->passport))
        np_passport_sent(&lend->passport);
    else
        code = NP_NO_SYSTEM_RESOURCES;
    if (code != NP_OK)
        refuse(socket, code);
    return !np_may_claim_again(code);
}

static void answer_one(struct np_lend *lend)
{
    struct claim claim;
    int unwanted;
    ssize_t got = np_receive_message(lend->socket, &claim, sizeof claim, &unwanted);
    np_fd_close(unwanted);
    if (got == -EAGAIN || got == -EINTR) {
        put_back(lend, EPOLLIN | EPOLLRDHUP);
        return;
    }
    if (got != (ssize_t)sizeof claim || claim.magic != MAGIC || claim.version != VERSION) {
        /* The child has ended without it, or is not one of ours: the handle stays here. A closed one had been sent. */
        is_over(lend);
        return;
    }
    if (!lend->visitor) {
        if (hand_over(lend, lend->socket)) {
            is_over(lend);
        } else {
            put_back(lend, EPOLLIN | EPOLLRDHUP);
        }
        return;
    }
    struct np_lend *offer = take_offer(claim.number);
    if (!offer)
        refuse(lend->socket, NP_INVALID_HANDLE);
    else if (hand_over(offer, lend->socket))
        is_over(offer);
    else
        put_back(offer, 0);
    free_lend(lend);
}

void np_lends_answer(struct np_lend *spoken)
{
    while (spoken) {
        struct np_lend *lend = spoken;
        spoken = lend->next_spoken;
        answer_one(lend);
    }
}

/* ---- Closing */

/* With the process lock. */
static struct np_lend *first_lend(const struct np_handle *handle)
{
    struct np_lend *found = NULL;
    for (struct np_lend *lend = lends; lend; lend = lend->next)
        if (lend->handle == handle && !lend->only_while_open && (lend->socket < 0 || !np_socket_hung_up(lend->socket)))
            found = lend; /* the last one listed is the first one made */
    return found;
}

/* Takes the first lend of the handle out whose other end is there; NULL: there is none, or it has gone already. */
static struct np_lend *take_lend(struct np_handle *handle)
{
    pthread_mutex_lock(&np_process.lock);
    struct np_lend *found;
    /* One that is just being answered is not listed: it gets the handle, or comes again. */
    while (!(found = first_lend(handle)) && handle->answering && !np_is_closed(handle))
        pthread_cond_wait(&answered, &np_process.lock);
    if (found)
        unlist(found);
    pthread_mutex_unlock(&np_process.lock);
    return found;
}

/* Those that end with the handle here, or all of them. Whether any are left. */
static bool withdraw(struct np_handle *handle, bool all)
{
    struct np_lend *over = NULL, *next;
    pthread_mutex_lock(&np_process.lock);
    while (handle->answering && !np_is_closed(handle)) /* somebody gets it just now, or comes again */
        pthread_cond_wait(&answered, &np_process.lock);
    for (struct np_lend *lend = handle->lent ? lends : NULL; lend; lend = next) {
        next = lend->next;
        if (lend->handle == handle && (all || lend->only_while_open))
            take_out(lend, &over);
    }
    bool left = handle->lent > 0;
    pthread_mutex_unlock(&np_process.lock);
    while (over) {
        struct np_lend *lend = over;
        over = lend->next_spoken;
        free_lend(lend);
    }
    return left;
}

void np_lends_withdraw(struct np_handle *handle)
{
    (void)withdraw(handle, true);
}

void np_offer_end(struct np_handle *handle, uint64_t number)
{
    struct np_lend *found = NULL;
    pthread_mutex_lock(&np_process.lock);
    for (struct np_lend *lend = handle->lent ? lends : NULL; lend && !found; lend = lend->next)
        if (lend->handle == handle && lend->offered && lend->only_while_open && lend->number == number)
            found = lend;
    if (found)
        unlist(found);
    pthread_mutex_unlock(&np_process.lock);
    if (found)
        free_lend(found);
}

bool np_close_lent(struct np_handle *handle)
{
    struct np_lend *lend = withdraw(handle, false) ? take_lend(handle) : NULL;
    for (; lend; lend = take_lend(handle)) {
        if (lend->socket >= 0) {
            uint32_t code = np_depart_to(handle, true, send_passport, &lend->socket);
            free_lend(lend); /* what was sent stays readable */
            if (code == NP_OK)
                return true;
        } else if (np_depart(handle, true, &lend->passport) == NP_OK) {
            np_free(lend->handle);
            lend->handle = NULL;
            put_back(lend, 0);
            return true;
        } else {
            free_lend(lend);
        }
        /* In use here: it ends here. Or the child has just ended: the next one gets it. */
    }
    return false;
}

#define EXIT_PATIENCE_NS INT64_C(300000000)

static bool lock_at_exit(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += EXIT_PATIENCE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return pthread_mutex_timedlock(&np_process.lock, &until) == 0;
}

/* What is lent to children goes to them: they may live longer. What is offered ends with this process. */
static void hand_over_at_exit(void)
{
    /* Who has lent nothing takes no lock: another thread may be stopped in the middle of anything. */
    while (lends) {
        struct np_handle *handle = NULL;
        if (pthread_mutex_trylock(&np_process.lock) != 0 && !lock_at_exit())
            return;
        for (struct np_lend *lend = lends; lend && !handle; lend = lend->next)
            if (lend->socket >= 0 && lend->handle && !lend->at_exit) {
                lend->at_exit = true; /* in use by another thread, perhaps, which ends with the process: the next one */
                handle = lend->handle;
                np_hold(handle);
            }
        pthread_mutex_unlock(&np_process.lock);
        if (!handle)
            return;
        (void)np_close_lent(handle);
        np_free(handle);
    }
}

/* 101: before the constructors of the program, which may use pipes. */
__attribute__((constructor(101))) static void install_hook(void)
{
    atexit(hand_over_at_exit);
}

void np_lends_after_fork(void)
{
    lends = NULL; /* a few bytes are lost; the sockets are closed, and the handles are the parent's */
    offers = -1;
    offers_watch = 0;
    offers_resume = 0;
    n_visitors = 0;
    pthread_cond_init(&answered, NULL); /* who waited for it does not exist here */
}

/* ---- The other process */

static uint32_t receive_answer(int socket, struct np_passport *passport, bool *there)
{
    struct answer answer;
    int fds[PASSPORT_FDS];
    ssize_t got = np_receive_descriptors(socket, &answer, sizeof answer, fds, PASSPORT_FDS);
    if (got == -ECONNRESET) /* it was closed with our question unread, and has sent the handle before that */
        got = np_receive_descriptors(socket, &answer, sizeof answer, fds, PASSPORT_FDS);
    *there = got != -EAGAIN && got != -EINTR;
    if (!*there)
        return NP_OK;
    *passport = (struct np_passport){fds[0], fds[1], fds[2]};
    if (got == 0 || got == -ECONNRESET)
        return NP_INVALID_HANDLE;
    if (got == -EMFILE)
        return NP_TOO_MANY_OPEN_FILES;
    if (got != (ssize_t)sizeof answer || answer.magic != MAGIC || answer.version != VERSION)
        return NP_INVALID_DATA;
    if (answer.code == NP_OK && (fds[0] < 0 || fds[1] < 0 || fds[2] < 0))
        return NP_INVALID_DATA;
    return answer.code <= NP_NO_SYSTEM_RESOURCES ? answer.code : NP_INVALID_DATA;
}

/* Whether a passport could come in: one for which there are no descriptors is lost. */
static bool is_room_for_passport(int socket)
{
    int fds[PASSPORT_FDS];
    bool is = true;
    for (int i = 0; i < PASSPORT_FDS; i++) {
        np_fds_hold();
        fds[i] = np_fd_made(fcntl(socket, F_DUPFD_CLOEXEC, 0));
        is = is && fds[i] >= 0;
    }
    for (int i = 0; i < PASSPORT_FDS; i++)
        np_fd_close(fds[i]);
    return is;
}

static void send_claim(int socket, uint64_t number)
{
    const struct claim claim = {.magic = MAGIC, .version = VERSION, .number = number};
    (void)np_send_message(socket, &claim, sizeof claim, -1); /* if that fails, the answer says why */
}

/* The answer to a question that was sent. Through a socket that other processes have too (`number` 0: a lend's, which a
 * child or a fork may have as well) one of them may have taken it: it is asked again from time to time. Who leaves
 * waits for it a moment more, for the handle may be on its way; *left: why, or NP_OK. Whether it has come. */
static bool await_answer(int socket, uint64_t number, const struct np_wait *wait, struct np_passport *passport,
                         uint32_t *code, uint32_t *left)
{
    int64_t deadline = wait->deadline == NP_TRY ? 0 : wait->deadline;
    int64_t again = number ? NP_FOREVER : np_now() + ASK_AGAIN_NS;
    for (*left = NP_OK;;) {
        bool asks = *left == NP_OK && again < deadline;
        uint32_t waited = np_socket_wait(socket, asks ? again : deadline);
        bool there = false;
        if (waited == NP_OK)
            *code = receive_answer(socket, passport, &there);
        if (there)
            return true;
        if (asks && (waited == NP_SEM_TIMEOUT || (waited == NP_OK && np_now() >= again))) {
            send_claim(socket, number);
            again = np_now() + ASK_AGAIN_NS;
            continue;
        }
        if (*left != NP_OK && waited == NP_SEM_TIMEOUT)
            return false;
        if (waited == NP_OK || *left != NP_OK ||
            (waited == NP_INTERRUPTED && !np_cancelled(wait) && !np_is_interrupted(wait)))
            continue; /* what else interrupts who is leaving is looked at when it has left */
        *left = waited;
        deadline = np_now() + GOODWILL_NS;
    }
}

/* Asks unless it is there already: a process that has closed the handle has sent it. `once`: nobody asks through this
 * socket again. */
static uint32_t ask(int socket, uint64_t number, bool once, const struct np_wait *wait, struct np_handle **handle)
{
    struct np_passport passport = {-1, -1, -1};
    bool there;
    uint32_t left = NP_OK;
    *handle = NULL;
    if (!is_room_for_passport(socket))
        return NP_TOO_MANY_OPEN_FILES;
    uint32_t code, stale = 0;
    do /* a refusal that nobody waited for any more is no answer to this */
        code = receive_answer(socket, &passport, &there);
    while (there && !once && code != NP_TOO_MANY_OPEN_FILES && np_may_claim_again(code) && ++stale < MOST_STALE);
    if (!there) {
        send_claim(socket, number);
        there = await_answer(socket, number, wait, &passport, &code, &left);
    }
    if (!there && once) {
        shutdown(socket, SHUT_RDWR); /* from here on nothing can be sent to it, and what was sent is there */
        code = receive_answer(socket, &passport, &there);
        there = there && code == NP_OK;
    }
    if (!there) {
        np_passport_drop(&passport);
        return left;
    }
    if (code == NP_OK)
        code = np_arrive(&passport, handle);
    else
        np_passport_drop(&passport);
    return left == NP_INTERRUPTED ? left : code;
}

bool np_may_claim_again(uint32_t code)
{
    return code == NP_INTERRUPTED || code == NP_PIPE_BUSY || code == NP_PIPE_NOT_CONNECTED || code == NP_SEM_TIMEOUT ||
           code == NP_NOT_ENOUGH_MEMORY || code == NP_TOO_MANY_OPEN_FILES || code == NP_NO_SYSTEM_RESOURCES;
}

static uid_t own_user(void)
{
    bool out = np_step_out();
    uid_t own = geteuid();
    np_step_back(out);
    return own;
}

uint32_t np_claim(int socket, const struct np_wait *wait, struct np_handle **handle)
{
    struct np_credentials who;
    *handle = NULL;
    /* Who has made the pair of sockets. */
    return is_trusted(socket, own_user(), &who) ? ask(socket, 0, false, wait, handle) : NP_ACCESS_DENIED;
}

/* Connects to a process that offers handles: its listener has room for so many who have not been let in yet. */
static uint32_t reach(pid_t pid, uid_t own, const struct np_wait *wait, int *socket)
{
    char name[OFFER_NAME_SIZE];
    offer_name(name, own, pid);
    do {
        bool out = np_step_out(); /* the kernel tells the other process who this is */
        *socket = np_socket_connect_abstract(name, wait->deadline);
        np_step_back(out);
    } while (*socket == -EINTR && !np_cancelled(wait) && !np_is_interrupted(wait));
    switch (*socket < 0 ? -*socket : 0) {
    case 0:
        return NP_OK;
    case EINTR:
        return NP_INTERRUPTED;
    case EAGAIN:
        return NP_SEM_TIMEOUT;
    case EMFILE:
    case ENFILE:
        return NP_TOO_MANY_OPEN_FILES;
    case ENOMEM:
    case ENOBUFS:
        return NP_NOT_ENOUGH_MEMORY;
    default:
        return NP_INVALID_HANDLE;
    }
}

uint32_t np_claim_from(pid_t pid, uint64_t number, const struct np_wait *wait, struct np_handle **handle)
{
    struct np_credentials who;
    uid_t own = own_user();
    int socket;
    *handle = NULL;
    uint32_t code = reach(pid, own, wait, &socket);
    if (code != NP_OK)
        return code;
    if (is_trusted(socket, own, &who) && who.pid == pid)
        code = ask(socket, number, true, wait, handle);
    else
        code = NP_ACCESS_DENIED;
    np_fd_close(socket);
    return code;
}
