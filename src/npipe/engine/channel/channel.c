#include "channel/channel.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/platform.h"
#include "channel/holder.h"

_Static_assert(sizeof(struct npc_header) <= NPC_PAGE && sizeof(struct npc_direction) <= NPC_PAGE, "a page each");

#define MASK (NPC_RING - 1)
#define HEADER 8
#define WHOLE (UINT64_C(16) << 10) /* a message up to this is published at once; a longer one in such pieces */
#define TOLD (NPC_RING / 4)         /* for so much of one a reader is woken */
#define LOOK_NS INT64_C(100000)    /* after so long a sender asks whether there is still a reader */
#define BELL_NS INT64_C(2000000)   /* for so long one waits for who sets the event */
#define MANY 64                     /* what is to be over after a few times, and is not then, is somebody's malice */
#define LOCK_NS INT64_C(50000000)  /* for so long one waits for a lock before one asks whether its holder lives */
#define LAST_NS INT64_C(2000000000) /* for so long one waits for a reader after the other end has gone */
#define WISH_NS INT64_C(10000000) /* for so long a writer sleeps for more room than it needs (docs/performance.md) */
#define DEAF_NS INT64_C(10000000) /* the same for one whose event says nothing */
#define MODEST 64 /* after such a sleep in vain, so many times for no more than it needs */
#define FEW_BYTES (2 * NPC_PAGE) /* a ring keeps what so many have taken */
#define AGAIN_NS INT64_C(500000000) /* after so long a sleeper looks again: who was to wake it may have been killed */

/* ---- Who holds a lock */

static _Thread_local uint64_t own;
static _Thread_local uint32_t own_forks;

/* The process's birth, and above that 1 + the forks when it was asked. */
static _Atomic uint64_t own_birth;

/* The process with its birth, and the thread, in its own namespace of numbers. Asked once; a fork makes another thread
 * of it. */
static uint64_t own_numbers(void)
{
    if (own == 0 || own_forks != np_forks) {
        uint64_t forks = (uint64_t)np_forks + 1;
        /* Relaxed: a word that stands for itself; threads that come here at once find the same. */
        uint64_t birth = atomic_load_explicit(&own_birth, memory_order_relaxed);
        if (birth >> 12 != forks) {
            birth = forks << 12 | np_birth(getpid());
            atomic_store_explicit(&own_birth, birth, memory_order_relaxed);
        }
        own = (uint64_t)(uint32_t)getpid() << 32 | (uint32_t)np_thread_number() |
              (birth & NPC_BIRTH_LOW) << NPC_BIRTH_SHIFT | (birth >> 10 & 3) << NPC_BIRTH_REST_SHIFT;
        own_forks = np_forks;
    }
    return own;
}

/* Where this process's namespace is in the header's list; NPC_NOWHERE: that is full, or there is no /proc here. Of two
 * holders without one nobody knows whether they are in the same namespace. */
static uint64_t enter_namespace(struct np_channel *channel)
{
    uint64_t numbers = np_numbers_namespace();
    if (numbers == 0)
        return NPC_NOWHERE;
    for (uint64_t at = 0; at < NPC_NOWHERE; at++) {
        uint64_t there = 0;
        /* Relaxed: words that stand for themselves, and are written once. Who comes second sees the first one's by the
         * exchange. */
        if (atomic_compare_exchange_strong_explicit(&channel->header->numbers[at], &there, numbers,
                                                    memory_order_relaxed, memory_order_relaxed) ||
            there == numbers)
            return at;
    }
    return NPC_NOWHERE;
}

/* Asked at the first call after a fork, as only a fork takes a process to another namespace: before it has a lock, so
 * there is no word of its that names another one. */
static uint64_t own_namespace(struct np_channel *channel)
{
    uint64_t forks = (uint64_t)np_forks + 1;
    /* Relaxed: a word that stands for itself; threads that come here at once find the same. */
    uint64_t known = atomic_load_explicit(&channel->space, memory_order_relaxed);
    if (known >> 8 == forks)
        return known & 0xff;
    uint64_t space = enter_namespace(channel);
    atomic_store_explicit(&channel->space, forks << 8 | space, memory_order_relaxed);
    return space;
}

/* What a lock's word says of this thread: nobody else's word is the same, whatever its namespace, if there is a place
 * for that in the list. */
static uint64_t myself(struct np_channel *channel)
{
    return own_namespace(channel) << NPC_SPACE_SHIFT | own_numbers();
}

/* The process of a lock's word, if it is one of whose numbers this one knows what they say; or 0. */
static pid_t process_of(struct np_channel *channel, uint64_t holder)
{
    uint64_t space = own_namespace(channel);
    pid_t pid = (pid_t)(holder >> 32 & NPC_MOST_PROCESS);
    /* A number says something within its namespace alone. */
    return space == NPC_NOWHERE || holder >> NPC_SPACE_SHIFT != space ? 0 : pid;
}

/* A descriptor that is readable when the process has ended; -1: there is none such; -2: that cannot be told. It may be
 * of another one that has got its number. */
static int life_of(struct np_channel *channel, uint64_t holder)
{
    pid_t pid = process_of(channel, holder);
    if (pid <= 0)
        return -2;
    np_fds_hold();
    int fd = np_fd_made((int)syscall(SYS_pidfd_open, pid, 0));
    /* The latter two (which, depends on the kernel): not a process has the number now, but a thread of one. */
    return fd >= 0 ? fd : errno == ESRCH || errno == EINVAL || errno == ENOENT ? -1 : -2;
}

/* Whether a process that lives now is another one than that which has written the word. Where one of both births cannot
 * be told it is the same. */
static bool is_another(uint64_t holder)
{
    uint32_t birth = (uint32_t)(holder >> NPC_BIRTH_SHIFT & NPC_BIRTH_LOW) |
                     (uint32_t)(holder >> NPC_BIRTH_REST_SHIFT & 3) << 10;
    uint32_t now = birth ? np_birth((pid_t)(holder >> 32 & NPC_MOST_PROCESS)) : 0;
    return now && now != birth;
}

static bool is_dead(struct np_channel *channel, uint64_t holder)
{
    int life = life_of(channel, holder);
    if (life < 0)
        return life == -1;
    struct pollfd item = {.fd = life, .events = POLLIN};
    bool dead = (poll(&item, 1, 0) > 0 && item.revents & POLLIN) || is_another(holder);
    np_fd_close(life);
    return dead;
}

/* The holder of a lock, watched by one that waits for what it does. */
struct watch {
    uint64_t holder;
    int life; /* as life_of's */
    int64_t since; /* when it was asked whether it is still the same; 0: never */
};

/* A look at who holds it now. What could not be told (there was no descriptor) is asked again. */
static void watch_holder(struct np_channel *channel, struct watch *watch, const _Atomic uint64_t *lock)
{
    /* Relaxed: a number, about which the kernel is asked. */
    uint64_t holder = atomic_load_explicit(lock, memory_order_relaxed);
    int64_t now = np_now();
    if (holder == watch->holder && watch->life != -2) {
        /* Most waits are over before that: they cost no more than the descriptor. */
        if (watch->life < 0 || now - watch->since < AGAIN_NS)
            return;
        watch->since = now;
        if (!is_another(holder))
            return;
        np_fd_close(watch->life);
        watch->life = -1;
        return;
    }
    np_fd_close(watch->life);
    watch->holder = holder;
    watch->life = holder ? life_of(channel, holder) : -2;
    watch->since = now;
}

/* The half of the word that a futex can be: the thread's number. */
static _Atomic uint32_t *low_half(_Atomic uint64_t *word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (_Atomic uint32_t *)(uintptr_t)word;
#else
#error "the segment is little-endian"
#endif
}

static bool try_lock(struct np_channel *channel, _Atomic uint64_t *lock)
{
    uint64_t nobody = 0;
    /* Acquire: what its last holder has written is seen. Relaxed on failure: nothing is looked at then. */
    return atomic_compare_exchange_strong_explicit(lock, &nobody, myself(channel), memory_order_acquire,
                                                   memory_order_relaxed);
}

/* Whether everybody who had the other end has gone. */
static bool is_gone(const struct np_channel *channel)
{
    struct pollfd item = {.fd = channel->socket, .events = POLLRDHUP};
    return poll(&item, 1, 0) > 0 && item.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL);
}

/* Whether the holder of the lock will go on, when somebody lets it. Between ends of one program its word is believed
 * while it lives. Else it may be a stranger's, who has left the number of somebody that has never had the lock; of one
 * that is stopped with this very end in its hands that is to be believed. */
static bool will_go_on(struct np_channel *channel, uint64_t holder, bool late)
{
    pid_t process = process_of(channel, holder);
    if (process <= 0)
        return false;
    if (np_is_stopped_sibling(process, (pid_t)(holder & NPC_MOST_PROCESS), channel->socket))
        return true;
    return late && channel->trusted && !is_dead(channel, holder);
}

/* Of one that waits for a lock after the other end has gone. What its word says may be what a stranger there has left:
 * nobody is bound to give it free. To write is in vain in any case. Of a reader all is there that will ever come, so it
 * is done soon, unless its holder is stopped. */
static uint32_t give_up_lock(struct np_channel *channel, const _Atomic uint64_t *lock, int64_t *gone)
{
    if (!is_gone(channel))
        return NP_OK;
    if (lock == &channel->out->writer)
        return NP_NO_DATA;
    int64_t now = np_now();
    if (*gone == 0)
        *gone = now;
    bool late = now - *gone >= LAST_NS;
    /* Relaxed: a number, about which the kernel is asked. */
    uint64_t holder = atomic_load_explicit(lock, memory_order_relaxed);
    if (holder == 0)
        return NP_OK;
    if (will_go_on(channel, holder, late))
        *gone = now; /* the time begins anew when it goes on */
    else if (late)
        return NP_BROKEN_PIPE;
    return NP_OK;
}

/* Waits for a lock, and says so in `queued`. *stolen: its holder had died. NP_INTERRUPTED: also in the child of a
 * handler that has forked meanwhile; the call is the parent's. NP_NO_DATA, NP_BROKEN_PIPE: the other end has gone, and
 * nobody gives it free. */
static uint32_t take_lock(struct np_channel *channel, _Atomic uint64_t *lock, _Atomic uint32_t *queued,
                          const struct np_wait *wait, bool *stolen)
{
    uint32_t forks = np_forks;
    *stolen = false;
    bool slept = false;
    int64_t look = 0, gone = 0;
    enum np_heed heed = NP_HEED_ASK;
    for (;;) {
        if (try_lock(channel, lock)) {
            /* Whoever has woken it has taken the word of all that sleep. Relaxed: this one looks at it again itself. */
            if (slept)
                atomic_store_explicit(queued, 1, memory_order_relaxed);
            return NP_OK;
        }
        if (wait->deadline == NP_TRY)
            return NP_WOULD_WAIT;
        if (np_expired(wait))
            return NP_SEM_TIMEOUT;
        /* Sequentially consistent, like the unlocker's fence between its store and its look at this word: either it
         * sees that somebody waits, or the look at the lock sees that it has gone. */
        atomic_store_explicit(queued, 1, memory_order_seq_cst);
        uint64_t holder = atomic_load_explicit(lock, memory_order_seq_cst);
        if (holder == 0)
            continue;
        if (holder == myself(channel))
            return NP_PIPE_BUSY; /* a handler of a signal that has come in between */
        uint32_t code = np_heed_ask(&heed, wait);
        if (code != NP_OK || forks != np_forks)
            return NP_INTERRUPTED;
        struct np_wait limited = *wait;
        int64_t until = np_now() + LOCK_NS;
        if (until < limited.deadline)
            limited.deadline = until;
        code = np_sleep(low_half(lock), (uint32_t)holder, 1, &limited);
        slept = true;
        heed = NP_HEED_ASK;
        if (code == NP_INTERRUPTED || forks != np_forks)
            return NP_INTERRUPTED;
        /* By the clock: the word may change all the time. */
        if (np_now() >= look) {
            uint32_t over = look ? give_up_lock(channel, lock, &gone) : NP_OK;
            if (over != NP_OK)
                return over;
            look = np_now() + LOCK_NS;
        }
        if (code != NP_SEM_TIMEOUT || np_expired(wait))
            continue;
        /* Acquire, as above. */
        if (atomic_load_explicit(lock, memory_order_relaxed) == holder && is_dead(channel, holder) &&
            atomic_compare_exchange_strong_explicit(lock, &holder, myself(channel), memory_order_acquire,
                                                    memory_order_relaxed)) {
            *stolen = true;
            atomic_store_explicit(queued, 1, memory_order_relaxed); /* as above */
            return NP_OK;
        }
    }
}

/* Only the store: `after_unlock` follows, with the fence that it needs. Release: for the next holder. */
static void unlock(_Atomic uint64_t *lock)
{
    atomic_store_explicit(lock, 0, memory_order_release);
}

static void after_unlock(_Atomic uint64_t *lock, _Atomic uint32_t *queued)
{
    /* Taken before the wake, so that one that says afterwards that it waits is not forgotten. One that has said so, and
     * is not asleep when the wake comes, may be if somebody else has got the lock meanwhile: then it looks again after
     * LOCK_NS. */
    if (atomic_load_explicit(queued, memory_order_relaxed) && atomic_exchange_explicit(queued, 0, memory_order_seq_cst))
        np_futex_wake(low_half(lock), 1);
}

/* ---- The event of a direction */

static int event_of(const struct np_channel *channel, const struct npc_direction *direction)
{
    return channel->events[(direction == channel->in) == (channel->side == 0) ? 1 : 0];
}

static bool has_message(const struct npc_direction *direction)
{
    /* Acquire for the tail: whoever sees it may read what it covers. */
    uint64_t head = atomic_load_explicit(&direction->head, memory_order_relaxed);
    return atomic_load_explicit(&direction->tail, memory_order_acquire) != head ||
           atomic_load_explicit(&direction->broken, memory_order_relaxed);
}

/* False: it is held by a process that does not go on, by a debugger's or a shell's will, or somebody changes the word
 * all the time. */
static bool lock_bell(struct np_channel *channel, struct npc_direction *direction)
{
    int64_t end = 0;
    unsigned late = 0;
    for (uint32_t tries = 1; !try_lock(channel, &direction->bell); tries++) {
        np_pause();
        if (tries % 64)
            continue;
        np_yield();
        int64_t now = np_now();
        if (end == 0)
            end = now + BELL_NS;
        if (now < end)
            continue;
        uint64_t holder = atomic_load_explicit(&direction->bell, memory_order_relaxed);
        if (++late > MANY || (holder && !is_dead(channel, holder)))
            return false;
        /* What a dead one has left is settled by whoever has it next. */
        if (holder)
            atomic_compare_exchange_strong_explicit(&direction->bell, &holder, 0, memory_order_relaxed,
                                                    memory_order_relaxed);
    }
    return true;
}

/* The event's description is the other end's too, which may take O_NONBLOCK away, and fill or empty the counter,
 * whenever it wants to. So neither of these two relies on that. */

/* Sets the event. Whether it is. */
static bool set_event(int event)
{
    uint64_t count = 1;
    /* A counter that is not 0 says already what it is to say; only to one that is full a write may wait. There is no
     * way to write that does not wait in any case: it takes somebody who fills the counter just here. */
    struct pollfd item = {.fd = event, .events = POLLIN};
    if (poll(&item, 1, 0) > 0)
        return true;
    return write(event, &count, sizeof count) >= 0 || errno == EAGAIN;
}

/* Takes it back. Whether it is set still. */
static bool clear_event(int event)
{
    uint64_t count;
    ssize_t got = -1;
    errno = ENOSYS;
#if defined(SYS_preadv2) && defined(RWF_NOWAIT)
    struct iovec part = {&count, sizeof count};
    got = syscall(SYS_preadv2, event, &part, 1, -1L, -1L, RWF_NOWAIT);
#endif
    if (got < 0 && errno != EAGAIN) {
        /* Before Linux 5.8, or where somebody forbids the call. */
        struct pollfd item = {.fd = event, .events = POLLIN};
        if (poll(&item, 1, 0) == 0)
            return false;
        got = read(event, &count, sizeof count);
    }
    return got < 0 && errno != EAGAIN;
}

/* With the bell. The word first: one that is killed in between leaves an event that says too much, which whoever is
 * woken by it takes back, and not one that nobody would set again. */
static void take_back(struct np_channel *channel, struct npc_direction *direction)
{
    /* Relaxed: it goes to the next one with the bell, and of a dead one the kernel orders it before the call. */
    atomic_store_explicit(&direction->rung, 0, memory_order_relaxed);
    if (clear_event(event_of(channel, direction)))
        atomic_store_explicit(&direction->rung, 1, memory_order_relaxed);
}

static void ring(struct np_channel *channel, struct npc_direction *direction)
{
    bool there = has_message(direction);
    bool rung = atomic_load_explicit(&direction->rung, memory_order_relaxed);
    if (there && !rung)
        atomic_store_explicit(&direction->rung, set_event(event_of(channel, direction)), memory_order_relaxed);
    else if (!there && rung)
        take_back(channel, direction);
}

/* Makes the event say whether there is a message. Whoever has changed that calls it, so what the last one of them
 * leaves is right. */
static void settle(struct np_channel *channel, struct npc_direction *direction)
{
    unsigned turns = 0;
    do {
        /* Sequentially consistent, like the exchange and the load below: who has the lock sees the change, or this. */
        atomic_store_explicit(&direction->unsettled, 1, memory_order_seq_cst);
        if (!lock_bell(channel, direction))
            break;
        while (atomic_exchange_explicit(&direction->unsettled, 0, memory_order_seq_cst) && ++turns < MANY)
            ring(channel, direction);
        unlock(&direction->bell);
        atomic_thread_fence(memory_order_seq_cst);
        if (!atomic_load_explicit(&direction->unsettled, memory_order_seq_cst) && turns < MANY)
            return;
    } while (++turns < MANY);
    /* Whoever has the lock may be killed before it looks; or it is one who lets nobody finish. What is set too often is
     * taken back by who is woken by it. */
    if (has_message(direction))
        (void)set_event(event_of(channel, direction));
}

/* The event has been found set, and there is nothing: whatever `rung` says, it is taken back. False: it may be set
 * still, be it that a stranger has given a semaphore for an event, of which a read takes one of many. */
static bool unring(struct np_channel *channel, struct npc_direction *direction)
{
    bool done = lock_bell(channel, direction);
    if (done) {
        if (!has_message(direction)) {
            struct pollfd item = {.fd = event_of(channel, direction), .events = POLLIN};
            take_back(channel, direction);
            done = poll(&item, 1, 0) == 0;
        }
        unlock(&direction->bell);
    }
    settle(channel, direction); /* what has come meanwhile */
    return done;
}

/* ---- Waiting */

/* A wait's sleeps, one after the other. */
struct sleeps {
    enum np_heed heed;
    uint32_t woken;
};

/* Sleeps until one of the descriptors has something, for `longest` nanoseconds at most. NP_OK: look again. */
static uint32_t sleep_for(struct pollfd *items, nfds_t count, int64_t longest, const struct np_wait *wait,
                          struct sleeps *sleeps)
{
    uint32_t forks = np_forks;
    struct np_wait limited;
    uint32_t code = np_heed_begin(&sleeps->heed, wait, &limited);
    if (code != NP_OK || forks != np_forks)
        return NP_INTERRUPTED;
    int64_t began = np_now();
    if (began + longest < limited.deadline)
        limited.deadline = began + longest;
    int64_t ns = limited.deadline > began ? limited.deadline - began : 0;
    struct timespec left = {.tv_sec = (time_t)(ns / NP_SECOND_NS), .tv_nsec = (long)(ns % NP_SECOND_NS)};
    int got = ppoll(items, count, &left, NULL);
    int error = got < 0 ? errno : 0;
    np_slept += np_now() - began;
    if (got <= 0)
        for (nfds_t i = 0; i < count; i++)
            items[i].revents = 0;
    if (error == EINTR)
        code = np_is_interrupted(wait) ? NP_INTERRUPTED : NP_OK;
    else if (error)
        code = NP_NOT_ENOUGH_MEMORY;
    else
        code = got == 0 ? NP_SEM_TIMEOUT : NP_OK;
    code = np_heed_end(&sleeps->heed, code, wait, &limited);
    /* One that somebody wakes again and again asks for signals all the same. */
    if (++sleeps->woken % MANY == 0)
        sleeps->heed = NP_HEED_ASK;
    if (code == NP_OK || code == NP_SEM_TIMEOUT)
        code = np_expired(wait) ? NP_SEM_TIMEOUT : NP_OK;
    return code;
}

static bool in_is_ready(const void *what)
{
    return has_message(what);
}

struct more {
    const struct npc_direction *direction;
    uint64_t at;
};

static bool more_is_there(const void *what)
{
    const struct more *more = what;
    /* Acquire: as has_message. */
    return atomic_load_explicit(&more->direction->tail, memory_order_acquire) != more->at ||
           atomic_load_explicit(&more->direction->broken, memory_order_relaxed);
}

static bool room_is_there(const void *what)
{
    const struct more *more = what;
    /* Acquire: the reader has copied what it has given free. */
    return atomic_load_explicit(&more->direction->head, memory_order_acquire) >= more->at ||
           atomic_load_explicit(&more->direction->broken, memory_order_relaxed);
}

/* What is to be told of a direction: here, or by the caller, who learns of it. */
static void settle_or_say(struct np_channel *channel, struct npc_direction *direction, bool *untold)
{
    if (untold)
        *untold = true;
    else
        settle(channel, direction);
}

static void break_off(struct np_channel *channel, struct npc_direction *direction, bool *untold)
{
    /* A bit beside the other one, which stays. Release: the positions that it speaks of. */
    atomic_fetch_or_explicit(&direction->broken, NPC_CUT, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    settle_or_say(channel, direction, untold);
    /* Its writers, if these are others than the caller, sleep on their sockets. */
    if (direction == channel->in)
        (void)!send(channel->socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Whether nobody knows where in the ring a message begins. Relaxed: only a holder of the reader's lock makes it so, and
 * only such a one asks. */
static bool is_torn(const struct npc_direction *direction)
{
    return atomic_load_explicit(&direction->broken, memory_order_relaxed) & NPC_TORN;
}

/* ---- Attaching */

uint32_t np_channel_attach(struct np_channel *channel, int segment, int socket, int event0, int event1, int side)
{
    memset(channel, 0, sizeof *channel);
    channel->socket = socket;
    channel->events[0] = event0;
    channel->events[1] = event1;
    channel->side = side;
    if (np_segment_check(segment) != NPC_SIZE)
        return NP_INVALID_DATA;
    /* A forked child is to have it too, unlike np_segment_map's. */
    void *map = mmap(NULL, NPC_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, segment, 0);
    if (map == MAP_FAILED)
        return NP_NOT_ENOUGH_MEMORY;
    channel->map = map;
    channel->header = (struct npc_header *)(void *)channel->map;
    uint8_t *first = channel->map + NPC_PAGE, *second = first + NPC_PAGE + NPC_RING;
    channel->out = (struct npc_direction *)(void *)(side == 0 ? first : second);
    channel->in = (struct npc_direction *)(void *)(side == 0 ? second : first);
    channel->out_ring = (uint8_t *)channel->out + NPC_PAGE;
    channel->in_ring = (uint8_t *)channel->in + NPC_PAGE;
    (void)own_namespace(channel);
    channel->readable = channel->writable = true;
    return NP_OK;
}

void np_channel_detach(struct np_channel *channel)
{
    if (!channel->map)
        return;
    if (channel->reading == np_forks + 1)
        (void)np_channel_end(channel, false, NULL);
    munmap(channel->map, NPC_SIZE);
    channel->map = NULL;
}

void np_channel_going(struct np_channel *channel)
{
    /* Relaxed: who sees it asks the kernel. */
    if (channel->map && channel->readable)
        atomic_fetch_add_explicit(&channel->in->gone, 1, memory_order_relaxed);
}

/* ---- Sending */

static void copy_in(uint8_t *ring, uint64_t at, const void *data, uint64_t size)
{
    uint64_t offset = at & MASK, first = NPC_RING - offset < size ? NPC_RING - offset : size;
    memcpy(ring + offset, data, first);
    if (size > first)
        memcpy(ring, (const uint8_t *)data + first, size - first);
}

static void copy_out(void *data, const uint8_t *ring, uint64_t at, uint64_t size)
{
    uint64_t offset = at & MASK, first = NPC_RING - offset < size ? NPC_RING - offset : size;
    memcpy(data, ring + offset, first);
    if (size > first)
        memcpy((uint8_t *)data + first, ring, size - first);
}

/* Whether the reader's position can be one. */
static bool load_head(struct np_channel *channel, uint64_t tail)
{
    /* Acquire: as room_is_there. */
    uint64_t head = atomic_load_explicit(&channel->out->head, memory_order_acquire);
    channel->seen_head = head;
    return tail - head <= NPC_RING;
}

/* After the tail was published and a full fence: who sleeps for it. */
static void tell_readers(struct np_channel *channel, struct npc_direction *direction, bool *untold)
{
    if (atomic_load_explicit(&direction->sleepers, memory_order_relaxed) ||
        atomic_load_explicit(&direction->polled, memory_order_relaxed))
        settle_or_say(channel, direction, untold);
}

/* A reader that sleeps is woken for a good deal of a message or all of it (`tell`); one that spins sees each part. */
static void publish_part(struct np_channel *channel, uint64_t tail, uint64_t end, bool tell)
{
    /* Before the tail: whoever sees a part of a message finds out whether there is more to come. */
    atomic_store_explicit(&channel->out->mid, end, memory_order_relaxed);
    /* Release: the bytes before it, and that. */
    atomic_store_explicit(&channel->out->tail, tail, memory_order_release);
    if (!tell)
        return;
    /* Against the fence of a reader that goes to sleep: it sees the tail, or its wish is seen here. */
    atomic_thread_fence(memory_order_seq_cst);
    tell_readers(channel, channel->out, NULL);
}

/* Whether the holder of the readers' lock, which has died, has taken a message along. */
static bool died_within(const struct npc_direction *direction, uint64_t holder)
{
    /* Acquire, against keep_part's release: if it is the part of one that has taken the lock over since, the word of
     * the lock below is that one's. */
    uint64_t part = atomic_load_explicit(&direction->part, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&direction->head, memory_order_acquire);
    return part && part != head && atomic_load_explicit(&direction->reader, memory_order_relaxed) == holder;
}

/* What has come through the socket says only that there is something to look at. Not for ever: who sends it may go on
 * and on. */
static void empty_socket(const struct np_channel *channel)
{
    char bytes[64];
    for (int i = 0; i < MANY && recv(channel->socket, bytes, sizeof bytes, MSG_DONTWAIT) > 0; i++)
        ;
}

/* Sleeps until the head has come to more->at, of which the tail is a ring ahead at most. */
static uint32_t sleep_for_room(struct np_channel *channel, uint64_t tail, const struct more *more,
                               const struct np_wait *wait)
{
    uint32_t forks = np_forks, code = NP_OK;
    struct npc_direction *out = channel->out;
    struct sleeps sleeps = {NP_HEED_ASK, 0};
    struct watch reader = {0, -2, 0};
    /* When it has to sleep it may as well sleep until half of the ring is free; but not for long: the reader may wait
     * for what this writer does next. Where it has waited in vain so it wants no more than it needs for a while. */
    bool modest = channel->modest > 0;
    if (modest)
        channel->modest--;
    uint64_t wish = tail - NPC_RING / 2;
    int64_t until = np_now() + WISH_NS;
    for (;;) {
        int64_t left = until - np_now();
        if (modest || left <= 0 || (int64_t)(wish - more->at) < 0)
            wish = more->at;
        atomic_store_explicit(&out->wants_room, wish + 1, memory_order_relaxed);
        /* Against the fence of a reader that has published its head. */
        atomic_thread_fence(memory_order_seq_cst);
        if (room_is_there(more))
            break;
        if (left <= 0)
            watch_holder(channel, &reader, &out->reader);
        if (reader.life == -1 && died_within(out, reader.holder)) {
            break_off(channel, out, NULL);
            break;
        }
        struct pollfd items[2] = {{.fd = channel->socket, .events = POLLIN | POLLRDHUP},
                                  {.fd = reader.life, .events = POLLIN}};
        code = sleep_for(items, reader.life >= 0 ? 2 : 1, left > 0 ? left : AGAIN_NS, wait, &sleeps);
        if (forks != np_forks)
            return NP_INTERRUPTED; /* the descriptor is closed */
        if (code != NP_OK)
            break;
        if (items[0].revents)
            empty_socket(channel);
        if (room_is_there(more)) {
            if (wish != more->at && np_now() >= until)
                channel->modest = MODEST;
            break;
        }
        if (is_gone(channel)) {
            code = room_is_there(more) ? NP_OK : NP_NO_DATA;
            break;
        }
        if (items[1].revents) {
            np_fd_close(reader.life);
            reader.life = -1;
        }
    }
    np_fd_close(reader.life);
    return code;
}

/* Waits until the head has come to `needed`, while the writer's lock is held. */
static uint32_t await_room(struct np_channel *channel, uint64_t tail, uint64_t needed, const struct np_wait *wait)
{
    struct npc_direction *out = channel->out;
    struct more more = {out, needed};
    if (wait->deadline == NP_TRY)
        return NP_WOULD_WAIT;
    if (!np_spin(&channel->room, room_is_there, &more, wait->deadline)) {
        uint32_t code = sleep_for_room(channel, tail, &more, wait);
        if (code != NP_OK)
            return code;
    }
    if (atomic_load_explicit(&out->wants_room, memory_order_relaxed))
        atomic_store_explicit(&out->wants_room, 0, memory_order_relaxed);
    if (atomic_load_explicit(&out->broken, memory_order_relaxed))
        return NP_BROKEN_PIPE;
    return load_head(channel, tail) ? NP_OK : NP_INVALID_DATA;
}

static uint32_t send_locked(struct np_channel *channel, uint64_t flags, const struct np_part *parts, uint32_t count,
                            uint64_t size, const struct np_wait *wait, bool *cut)
{
    struct npc_direction *out = channel->out;
    /* Relaxed: the lock has made it the last writer's. */
    uint64_t tail = atomic_load_explicit(&out->tail, memory_order_relaxed);
    uint64_t whole = HEADER + ((size + 7) & ~UINT64_C(7));
    if (tail & 7)
        return NP_INVALID_DATA;
    /* The first piece: all of a short message. */
    uint64_t first = whole <= WHOLE ? whole : HEADER;
    if (tail - channel->seen_head > NPC_RING - first) {
        if (!load_head(channel, tail))
            return NP_INVALID_DATA;
        if (tail - channel->seen_head > NPC_RING - first) {
            uint32_t code = await_room(channel, tail, tail + first - NPC_RING, wait);
            if (code != NP_OK)
                return code;
        }
    }
    uint64_t header = flags | size, begin = tail, published = tail, told = tail;
    memcpy(channel->out_ring + (tail & MASK), &header, HEADER); /* aligned: in one piece */
    uint64_t end = tail + HEADER + size, behind = tail + whole;
    tail += HEADER;
    if (whole <= WHOLE) {
        for (uint32_t i = 0; i < count; i++) {
            copy_in(channel->out_ring, tail, parts[i].data, parts[i].size);
            tail += parts[i].size;
        }
        atomic_store_explicit(&out->tail, (tail + 7) & ~UINT64_C(7), memory_order_release); /* as publish_part's */
        return NP_OK;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *data = parts[i].data;
        uint64_t left = parts[i].size;
        while (left) {
            /* Relaxed: it stands for itself. A reader that has dropped the message reads nothing of the rest. */
            if (atomic_load_explicit(&out->broken, memory_order_relaxed)) {
                *cut = published != begin;
                return NP_BROKEN_PIPE;
            }
            uint64_t room = NPC_RING - (tail - channel->seen_head);
            uint64_t piece = left < WHOLE ? left : WHOLE;
            if (room < piece) {
                if (tail != told)
                    publish_part(channel, told = published = tail & ~UINT64_C(7), behind, true);
                uint32_t code = await_room(channel, tail, tail + piece - NPC_RING, wait);
                if (code != NP_OK) {
                    *cut = published != begin;
                    return code;
                }
            }
            copy_in(channel->out_ring, tail, data, piece);
            data += piece;
            left -= piece;
            tail += piece;
            if (tail - published >= WHOLE && tail != end) {
                published = tail & ~UINT64_C(7);
                bool tell = published - told >= TOLD;
                publish_part(channel, published, behind, tell);
                told = tell ? published : told;
            }
        }
    }
    atomic_store_explicit(&out->tail, (tail + 7) & ~UINT64_C(7), memory_order_release); /* as publish_part's */
    /* One that is killed in between has published all of it: the tail is where `mid` says that it ends. Release: the
     * tail comes first. */
    atomic_store_explicit(&out->mid, 0, memory_order_release);
    return NP_OK;
}

/* A holder that closes says so; of one that dies only the kernel knows. So it is asked when somebody has closed, and
 * once in a while. */
static bool nobody_reads(struct np_channel *channel)
{
    uint32_t gone = atomic_load_explicit(&channel->out->gone, memory_order_relaxed);
    int64_t now = np_now();
    if (gone == channel->seen_gone && now - channel->looked < LOOK_NS)
        return false;
    channel->seen_gone = gone;
    if (is_gone(channel))
        return true;
    channel->looked = now;
    return false;
}

/* The last holder of the writers' lock has died: was it in the middle of a message? */
static void inherit_tail(struct np_channel *channel)
{
    struct npc_direction *out = channel->out;
    /* Relaxed: the kernel has said that it is dead, and orders that after all that it has done. */
    uint64_t mid = atomic_load_explicit(&out->mid, memory_order_relaxed);
    if (mid && mid != atomic_load_explicit(&out->tail, memory_order_relaxed))
        break_off(channel, out, NULL);
    atomic_store_explicit(&out->mid, 0, memory_order_relaxed);
}

uint32_t np_channel_send(struct np_channel *channel, uint64_t flags, const struct np_part *parts, uint32_t count,
                         const struct np_wait *wait, bool *untold)
{
    struct npc_direction *out = channel->out;
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += parts[i].size;
    if (untold)
        *untold = false;
    if (size >= NPC_LONGEST)
        return NP_INVALID_PARAMETER;
    if (wait->deadline == NP_TRY && size > WHOLE - HEADER)
        return NP_WOULD_WAIT;
    bool stolen, cut = false;
    uint32_t code = take_lock(channel, &out->writer, &out->writers_queued, wait, &stolen);
    if (code != NP_OK)
        return code;
    uint32_t forks = np_forks;
    if (stolen)
        inherit_tail(channel);
    if (nobody_reads(channel))
        code = NP_NO_DATA;
    else if (atomic_load_explicit(&out->broken, memory_order_relaxed))
        code = NP_BROKEN_PIPE;
    else
        code = send_locked(channel, flags, parts, count, size, wait, &cut);
    /* A handler of a signal may have forked. In the child nothing of the call is its own. */
    if (forks != np_forks)
        return NP_INTERRUPTED; /* the lock and the rest of the message are the parent's */
    if (cut) {
        atomic_store_explicit(&out->mid, 0, memory_order_relaxed);
        break_off(channel, out, NULL);
    }
    unlock(&out->writer);
    /* One fence for both: a reader that goes to sleep, and a writer that waits for the lock. */
    atomic_thread_fence(memory_order_seq_cst);
    if (code == NP_OK)
        tell_readers(channel, out, untold);
    after_unlock(&out->writer, &out->writers_queued);
    return code;
}

/* ---- Receiving */

static void tell_writer(struct np_channel *channel, uint64_t head)
{
    uint64_t wish = atomic_load_explicit(&channel->in->wants_room, memory_order_relaxed);
    if (wish && (int64_t)(head - (wish - 1)) >= 0) {
        atomic_store_explicit(&channel->in->wants_room, 0, memory_order_relaxed);
        (void)!send(channel->socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

static void publish_head(struct np_channel *channel, uint64_t head)
{
    /* Release: the copies before it. */
    atomic_store_explicit(&channel->in->head, head, memory_order_release);
    /* Against await_room's. */
    atomic_thread_fence(memory_order_seq_cst);
    tell_writer(channel, head);
}

/* So much of a message is taken: its place is free. */
static void keep_part(struct np_channel *channel)
{
    /* Where it ends, before the head is within it. Release: after the word of the lock, for died_within. */
    atomic_store_explicit(&channel->in->part, (channel->at + channel->remaining + 7) & ~UINT64_C(7),
                          memory_order_release);
    publish_head(channel, channel->at & ~UINT64_C(7));
}

static void unlock_reader(struct np_channel *channel, bool consumed, bool *untold)
{
    struct npc_direction *in = channel->in;
    channel->reading = 0;
    unlock(&in->reader);
    atomic_thread_fence(memory_order_seq_cst); /* as np_channel_send's */
    if (consumed) {
        tell_writer(channel, atomic_load_explicit(&in->head, memory_order_relaxed));
        if (atomic_load_explicit(&in->rung, memory_order_relaxed) ||
            atomic_load_explicit(&in->polled, memory_order_relaxed))
            settle_or_say(channel, in, untold);
    }
    after_unlock(&in->reader, &in->readers_queued);
}

/* Before a look and a sleep for the event; against the fence of a writer that has published: it sees the sleeper, or
 * the look sees the message. */
static void be_sleeper(struct npc_direction *direction)
{
    atomic_fetch_add_explicit(&direction->sleepers, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

static void be_awake(struct npc_direction *direction)
{
    atomic_fetch_sub_explicit(&direction->sleepers, 1, memory_order_relaxed);
}

/* An empty ring's memory, if more than a little was written since that was last done. By the lock nobody writes, and as
 * it is empty nobody reads. What is read there afterwards is 0, as at first. */
static void give_back(struct np_channel *channel, struct npc_direction *direction)
{
    _Atomic uint64_t *given_back = &channel->given_back[direction == channel->out];
    /* Relaxed: a guess; the truth is loaded with the lock. */
    uint64_t tail = atomic_load_explicit(&direction->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(given_back, memory_order_relaxed) <= FEW_BYTES ||
        !try_lock(channel, &direction->writer))
        return;
    tail = atomic_load_explicit(&direction->tail, memory_order_relaxed); /* the lock has made it the last writer's */
    /* Acquire: the reader has copied what it has given free. */
    if (tail == atomic_load_explicit(&direction->head, memory_order_acquire)) {
        np_segment_discard((uint8_t *)direction + NPC_PAGE, NPC_RING);
        atomic_store_explicit(given_back, tail, memory_order_relaxed);
    }
    unlock(&direction->writer);
    atomic_thread_fence(memory_order_seq_cst); /* as np_channel_send's */
    after_unlock(&direction->writer, &direction->writers_queued);
}

/* What one that sleeps has seen of a direction. */
struct lull {
    uint64_t tail;
    bool seen;
};

/* After a sleep in which nothing has come: where nothing has been written since the last such look either, the memory
 * is given back. Both directions, for the other one's reader may sleep elsewhere. */
static void look_for_lull(struct np_channel *channel, struct lull lulls[2])
{
    for (int i = 0; i < 2; i++) {
        struct npc_direction *direction = i ? channel->out : channel->in;
        uint64_t tail = atomic_load_explicit(&direction->tail, memory_order_relaxed);
        if (lulls[i].seen && lulls[i].tail == tail)
            give_back(channel, direction);
        lulls[i] = (struct lull){tail, true};
    }
}

/* Sleeps until there is a message. */
static uint32_t await_message(struct np_channel *channel, const struct np_wait *wait)
{
    uint32_t forks = np_forks;
    struct npc_direction *in = channel->in;
    struct sleeps sleeps = {NP_HEED_ASK, 0};
    if (wait->deadline == NP_TRY)
        return NP_WOULD_WAIT;
    if (np_spin(&channel->spin, in_is_ready, in, wait->deadline))
        return NP_OK;
    be_sleeper(in);
    uint32_t code = NP_OK;
    struct lull lulls[2] = {{0, false}, {0, false}};
    bool deaf = false; /* the event is set, and cannot be taken back just now */
    while (code == NP_OK && !has_message(in)) {
        struct pollfd items[2] = {{.fd = deaf ? -1 : event_of(channel, in), .events = POLLIN},
                                  {.fd = channel->socket, .events = POLLRDHUP}};
        code = sleep_for(items, 2, deaf ? DEAF_NS : AGAIN_NS, wait, &sleeps);
        if (forks != np_forks)
            return NP_INTERRUPTED; /* the sleeper is the parent's */
        if (has_message(in))
            break;
        /* First the hang-up, then the look: what was written before it is there. */
        if (code == NP_OK && items[1].revents && is_gone(channel)) {
            code = has_message(in) ? NP_OK : NP_NO_DATA;
            break;
        }
        /* Somebody else has read it. */
        deaf = code == NP_OK && items[0].revents && !unring(channel, in);
        if (code == NP_OK && !deaf && !items[0].revents && !items[1].revents)
            look_for_lull(channel, lulls);
    }
    be_awake(in);
    return code == NP_SEM_TIMEOUT && has_message(in) ? NP_OK : code;
}

/* With the reader's lock: nothing more can be read, of what is there and of what a writer that is in the middle of a
 * message goes on to publish. */
static uint32_t drop_all(struct np_channel *channel, bool *untold)
{
    struct npc_direction *in = channel->in;
    /* First of all, so that who finds the lock of one that was killed here does not take the rest for a message.
     * Relaxed: it goes to the next reader with the lock; the release below keeps it before the head. */
    atomic_fetch_or_explicit(&in->broken, NPC_TORN, memory_order_relaxed);
    atomic_store_explicit(&in->head, atomic_load_explicit(&in->tail, memory_order_acquire), memory_order_release);
    atomic_store_explicit(&in->part, 0, memory_order_relaxed);
    break_off(channel, in, untold);
    return NP_INVALID_DATA;
}

/* The last holder of the readers' lock has died: has it taken the rest of a message along? */
static void inherit_head(struct np_channel *channel)
{
    struct npc_direction *in = channel->in;
    /* Relaxed: as inherit_tail's. */
    uint64_t part = atomic_load_explicit(&in->part, memory_order_relaxed);
    if (part && part != atomic_load_explicit(&in->head, memory_order_relaxed))
        drop_all(channel, NULL);
    atomic_store_explicit(&in->part, 0, memory_order_relaxed);
}

uint32_t np_channel_begin(struct np_channel *channel, const struct np_wait *wait, uint64_t *size, uint64_t *flags)
{
    uint32_t forks = np_forks, turns = 0;
    struct npc_direction *in = channel->in;
    for (;;) {
        if (forks != np_forks)
            return NP_INTERRUPTED;
        if (!has_message(in)) {
            uint32_t code = await_message(channel, wait);
            if (forks != np_forks)
                return NP_INTERRUPTED;
            if (code != NP_OK)
                return code;
        }
        bool stolen;
        uint32_t code = take_lock(channel, &in->reader, &in->readers_queued, wait, &stolen);
        if (code != NP_OK)
            return code;
        if (stolen)
            inherit_head(channel);
        /* Relaxed: the lock has made it the last reader's. Acquire: as has_message. */
        uint64_t head = atomic_load_explicit(&in->head, memory_order_relaxed);
        uint64_t tail = atomic_load_explicit(&in->tail, memory_order_acquire);
        if (tail == head || is_torn(in)) {
            bool broken = atomic_load_explicit(&in->broken, memory_order_relaxed);
            unlock_reader(channel, false, NULL);
            if (broken)
                return is_gone(channel) ? NP_NO_DATA : NP_BROKEN_PIPE;
            if (np_expired(wait))
                return wait->deadline == NP_TRY ? NP_WOULD_WAIT : NP_SEM_TIMEOUT;
            if (++turns % MANY == 0 && np_is_interrupted(wait))
                return NP_INTERRUPTED;
            continue; /* somebody else has read it */
        }
        uint64_t header = 0;
        bool sound = tail - head <= NPC_RING && tail - head >= HEADER && (head & 7) == 0;
        if (sound) {
            memcpy(&header, channel->in_ring + (head & MASK), HEADER);
            sound = (header & ~NPC_BUFFERS) < NPC_LONGEST;
        }
        if (!sound) {
            /* To drop it is to tell of it, which may wait. */
            code = wait->deadline == NP_TRY ? NP_WOULD_WAIT : drop_all(channel, NULL);
            unlock_reader(channel, false, NULL);
            return code;
        }
        channel->reading = np_forks + 1;
        channel->at = head + HEADER;
        channel->remaining = *size = header & ~NPC_BUFFERS;
        *flags = header & NPC_BUFFERS;
        return NP_OK;
    }
}

/* Waits for the rest of a message, with the lock. */
static uint32_t await_rest(struct np_channel *channel, const struct np_wait *wait)
{
    uint32_t forks = np_forks;
    struct npc_direction *in = channel->in;
    struct more more = {in, channel->at};
    struct sleeps sleeps = {NP_HEED_ASK, 0};
    struct watch writer = {0, -2, 0};
    if (more_is_there(&more))
        return NP_OK;
    if (wait->deadline == NP_TRY)
        return NP_WOULD_WAIT;
    if (np_spin(&channel->rest, more_is_there, &more, wait->deadline))
        return NP_OK;
    uint32_t code = NP_OK;
    /* All that was there is taken: so the event tells of what is new alone. */
    keep_part(channel);
    bool deaf = false; /* as await_message's */
    be_sleeper(in);
    while (code == NP_OK) {
        watch_holder(channel, &writer, &in->writer);
        /* This look comes after the one for the writer: what it has published before its death is there. */
        if (more_is_there(&more))
            break;
        bool dead = writer.life == -1;
        if (!dead) {
            struct pollfd items[3] = {{.fd = deaf ? -1 : event_of(channel, in), .events = POLLIN},
                                      {.fd = channel->socket, .events = POLLRDHUP},
                                      {.fd = writer.life, .events = POLLIN}};
            code = sleep_for(items, writer.life >= 0 ? 3 : 2, deaf ? DEAF_NS : AGAIN_NS, wait, &sleeps);
            if (forks != np_forks)
                return NP_INTERRUPTED; /* the sleeper is the parent's, and the descriptor is closed */
            if (code != NP_OK)
                break;
            dead = (writer.life >= 0 && items[2].revents) || (items[1].revents && is_gone(channel));
            deaf = !dead && items[0].revents && !unring(channel, in);
        }
        if (dead && !more_is_there(&more)) {
            break_off(channel, in, NULL);
            code = NP_BROKEN_PIPE;
        }
    }
    be_awake(in);
    np_fd_close(writer.life);
    return code;
}

uint32_t np_channel_take(struct np_channel *channel, void *data, uint64_t size, uint64_t *taken,
                         const struct np_wait *wait)
{
    struct npc_direction *in = channel->in;
    *taken = 0;
    while (size) {
        uint64_t tail = atomic_load_explicit(&in->tail, memory_order_acquire); /* as has_message */
        uint64_t there = tail - channel->at;
        if (tail - (channel->at & ~UINT64_C(7)) > NPC_RING || (tail & 7))
            return NP_INVALID_DATA; /* np_channel_end drops it */
        if (is_torn(in))
            return NP_BROKEN_PIPE;
        if (there == 0) {
            if (atomic_load_explicit(&in->broken, memory_order_relaxed))
                return NP_BROKEN_PIPE;
            uint32_t code = await_rest(channel, wait);
            if (code != NP_OK)
                return code;
            continue;
        }
        uint64_t piece = there < size ? there : size;
        if (piece > WHOLE)
            piece = WHOLE;
        if (data)
            copy_out((uint8_t *)data + *taken, channel->in_ring, channel->at, piece);
        channel->at += piece;
        channel->remaining -= piece;
        *taken += piece;
        size -= piece;
        /* Not for a message that is all there, or nearly: its end does it. */
        if (channel->remaining && channel->at - atomic_load_explicit(&in->head, memory_order_relaxed) >= WHOLE)
            keep_part(channel);
    }
    return NP_OK;
}

uint32_t np_channel_end(struct np_channel *channel, bool leave, bool *untold)
{
    struct npc_direction *in = channel->in;
    if (untold)
        *untold = false;
    if (leave && !atomic_load_explicit(&in->part, memory_order_relaxed)) {
        unlock_reader(channel, false, untold);
        return NP_OK;
    }
    uint32_t code = NP_OK;
    if (channel->remaining)
        code = drop_all(channel, untold); /* nobody will read the rest */
    else
        atomic_store_explicit(&in->head, (channel->at + 7) & ~UINT64_C(7), memory_order_release); /* publish_head's */
    /* One that is killed in between is done with it: the head is where `part` says that it ends. Release: the head
     * comes first. */
    atomic_store_explicit(&in->part, 0, memory_order_release);
    unlock_reader(channel, true, untold);
    return code;
}

void np_channel_tell(struct np_channel *channel, bool out)
{
    settle(channel, out ? channel->out : channel->in);
}

/* ---- Polling */

uint32_t np_channel_poll(struct np_channel *channel, const struct np_wait *wait)
{
    if (has_message(channel->in))
        return NP_OK;
    if (np_expired(wait)) {
        struct pollfd items[2] = {{.fd = channel->socket, .events = POLLRDHUP},
                                  {.fd = event_of(channel, channel->in), .events = POLLIN}};
        bool any = poll(items, 2, 0) > 0;
        /* First the hang-up, then the look. */
        if ((any && items[0].revents) || has_message(channel->in))
            return NP_OK;
        /* Else who waits for the event by a selector would come here again and again. */
        if (any)
            (void)unring(channel, channel->in);
        return has_message(channel->in) ? NP_OK : NP_SEM_TIMEOUT;
    }
    uint32_t code = await_message(channel, wait);
    return code == NP_NO_DATA ? NP_OK : code;
}

bool np_channel_arm(struct np_channel *channel, bool once)
{
    struct npc_direction *in = channel->in;
    if (once) {
        be_sleeper(in);
        return has_message(in);
    }
    atomic_store_explicit(&in->polled, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* as be_sleeper's */
    settle(channel, in);
    return has_message(in);
}

void np_channel_disarm(struct np_channel *channel)
{
    be_awake(channel->in);
    if (atomic_load_explicit(&channel->in->rung, memory_order_relaxed))
        settle(channel, channel->in);
}
