/* A channel: the shared memory of a connection whose ends several processes may hold (npipe.connection).
 *
 * An end belongs to everybody who has its descriptors: they are inherited by a fork, and sent. So nothing that the
 * others have to know is in private memory. Each direction has its positions in the segment, and a lock for its writers
 * and one for its readers, each with the process that has it in its word; whoever waits for such a lock, or for the
 * rest of a message, finds out when that process has died. That the last holder of the other end has gone is the
 * kernel's word: the socket hangs up.
 *
 * Descriptors of an end, which are the caller's: one side of a socket pair, the segment (only to hand it on), and an
 * event for each direction, which both sides have. An event is readable while somebody waits for a message that is
 * there. */
#ifndef NPIPE_CHANNEL_H
#define NPIPE_CHANNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/wait.h"

#define NPC_MAGIC UINT32_C(0x4843504e) /* "NPCH" */
#define NPC_VERSION 1
#define NPC_PAGE 4096
#define NPC_RING (UINT64_C(1) << 18) /* bytes, for each direction */
#define NPC_SIZE (NPC_PAGE + 2 * (NPC_PAGE + NPC_RING))

/* A lock's word: 0, or thread | process << 32 | place of their namespace in the header's list << 56; and in the bits
 * between them when the process was born (np_birth), the lower ten over the thread, the upper two over the process. */
#define NPC_MOST_PROCESS UINT64_C(0x3fffff) /* Linux has no greater number of a process or a thread */
#define NPC_BIRTH_SHIFT 22
#define NPC_BIRTH_LOW UINT64_C(0x3ff)
#define NPC_BIRTH_REST_SHIFT 54
#define NPC_SPACE_SHIFT 56
#define NPC_NOWHERE 255 /* one without a place, or that is not known: of its holders nobody can tell that they died */

/* The first page of the segment. */
struct npc_header {
    _Atomic uint32_t magic, version;
    /* The holders' namespaces of process numbers (np_numbers_namespace), entered by the first holder in each. Where in
     * this list its own is a holder says in the words of the locks that it takes: nobody else's number is the same. */
    _Atomic uint64_t numbers[NPC_NOWHERE];
};

/* The first page of a direction. Its ring follows. Zero is its first state. */
struct npc_direction {
    _Alignas(128) _Atomic uint64_t tail; /* ring bytes published; only grows */
    _Atomic uint64_t writer;             /* the lock */
    _Atomic uint64_t mid;                /* its holder has published a message in part, which ends there; 0: none */
    _Alignas(128) _Atomic uint64_t head; /* ring bytes free again; only grows */
    _Atomic uint64_t reader;             /* the lock */
    _Atomic uint64_t part;               /* its holder has taken a message in part, which ends there; 0: none */
    /* How readers wait; written when they begin to. */
    _Alignas(128) _Atomic uint32_t sleepers; /* so many sleep until there is more, or have died asleep */
    _Atomic uint32_t polled;                   /* a selector has the event: it is kept up to date from then on */
    _Atomic uint64_t bell;                     /* a lock, around the event and the next word */
    _Atomic uint32_t rung;                     /* the event is set */
    _Atomic uint32_t unsettled;                /* something has changed since the holder of the lock has looked */
    _Alignas(128) _Atomic uint64_t wants_room; /* 0, or 1 + the head that a writer sleeps for */
    _Atomic uint32_t writers_queued;           /* somebody waits for the writers' lock */
    _Atomic uint32_t broken;                   /* 0, or why nothing more comes: the bits below */
    _Atomic uint32_t gone;                     /* grows when a reader closes its hold */
    _Atomic uint32_t readers_queued;           /* somebody waits for the readers' lock */
};

_Static_assert(offsetof(struct npc_direction, part) == 144 && offsetof(struct npc_direction, unsettled) == 276 &&
                   offsetof(struct npc_direction, gone) == 400 && offsetof(struct npc_header, numbers) == 8,
               "docs/protocol.md, section 8");

#define NPC_CUT 1u  /* nothing follows what is in the ring, the last message of which is not whole */
#define NPC_TORN 2u /* what is in the ring begins within a message: nobody reads it */

/* A message in the ring: its header, and so many bytes. No padding, but behind the last byte up to the next 8. */
#define NPC_BUFFERS (UINT64_C(1) << 63) /* in the header: pickled, with buffers behind it (docs/protocol.md) */
#define NPC_LONGEST (UINT64_C(1) << 62)

struct np_channel {
    uint8_t *map;
    int socket;
    int events[2]; /* of the directions 0 to 1: an event is its readers' */
    int side;
    bool readable, writable;
    bool trusted; /* the other end is of this program: what stands in the segment is believed while it can be true */
    struct npc_header *header;
    _Atomic uint64_t space; /* the own namespace's place in the list, and above that 1 + the forks when it was asked */
    struct npc_direction *in, *out;
    uint8_t *in_ring, *out_ring;
    /* The writer's: guesses, which may be behind. */
    uint64_t seen_head;
    uint32_t seen_gone;
    int64_t looked; /* when it last asked for a hang-up */
    uint32_t modest; /* for so many sleeps it wants no more room than it needs */
    /* The message that this holder is reading, with the reader's lock. */
    uint32_t reading; /* 1 + the forks then; 0: none */
    uint64_t at, remaining;
    struct np_spin spin, rest, room;
    /* By direction: the tail when the ring's memory was last given back. A guess, of which each holder has its own. */
    _Atomic uint64_t given_back[2];
};

/* A piece of a message. */
struct np_part {
    const void *data;
    uint64_t size;
};

/* Maps the segment, which is checked. NP_INVALID_DATA: it is none. */
uint32_t np_channel_attach(struct np_channel *channel, int segment, int socket, int event0, int event1, int side);
/* Unmaps it. What is in the middle of a message leaves that broken. Closes no descriptor. */
void np_channel_detach(struct np_channel *channel);

/* The event of a direction is the other side's too, which may have who sets it wait. `untold` (may be NULL) is for
 * calls that must not: these set no event, but *untold says that np_channel_tell is to be called. A send or an end with
 * it, and NP_TRY, waits for nobody. */

/* Puts one message: the header says `flags` (NPC_BUFFERS). With wait->deadline NP_TRY: all of it, or NP_WOULD_WAIT and
 * nothing. `untold`: only with NP_TRY.
 *   NP_NO_DATA      nobody has the other end any more
 *   NP_BROKEN_PIPE  a message was cut
 *   NP_INTERRUPTED  the message is cut if some of it was out */
uint32_t np_channel_send(struct np_channel *channel, uint64_t flags, const struct np_part *parts, uint32_t count,
                         const struct np_wait *wait, bool *untold);

/* Begins with the next message: its size and flags. The reader's lock is held until np_channel_end. With NP_TRY it
 * waits for nobody: what breaks the rules is dropped by a call that may wait.
 *   NP_PIPE_BUSY    this thread has begun with one
 *   NP_WOULD_WAIT, NP_SEM_TIMEOUT, NP_INTERRUPTED
 *   NP_NO_DATA      the end: nobody has the other end, and everything was read
 *   NP_BROKEN_PIPE  a message was cut; or nobody has the other end, and whoever has the lock goes on having it */
uint32_t np_channel_begin(struct np_channel *channel, const struct np_wait *wait, uint64_t *size, uint64_t *flags);
/* Takes the next `size` bytes of it (at most what remains). *taken counts; also of what failed. */
uint32_t np_channel_take(struct np_channel *channel, void *data, uint64_t size, uint64_t *taken,
                         const struct np_wait *wait);
/* Is done with it. What remains of it is dropped, which may wait as np_channel_take does; one of which nothing was
 * taken can be left to the next reader. */
uint32_t np_channel_end(struct np_channel *channel, bool leave, bool *untold);
/* Makes the event of a direction say what there is: see above. */
void np_channel_tell(struct np_channel *channel, bool out);

/* Whether a read would not wait: a message, the end, an error. NP_OK, NP_SEM_TIMEOUT, NP_INTERRUPTED. */
uint32_t np_channel_poll(struct np_channel *channel, const struct np_wait *wait);
/* For a selector: the event tells of messages from now on; `once`: until np_channel_disarm. Whether a read would not
 * wait just now. */
bool np_channel_arm(struct np_channel *channel, bool once);
void np_channel_disarm(struct np_channel *channel);
/* A holder goes: the others look sooner. */
void np_channel_going(struct np_channel *channel);

#endif
