/* The messages of the rendezvous: what a client and an owner say to each other over a pipe's socket before
 * the link exists (docs/protocol.md). One SOCK_SEQPACKET message each, little-endian. */
#ifndef NPIPE_WIRE_H
#define NPIPE_WIRE_H

#include <stdint.h>

#define NPW_MAGIC UINT32_C(0x5250504e) /* "NPPR" */
#define NPW_VERSION 1
#define NPW_NAME_SIZE 1024

enum npw_kind {
    NPW_OPEN = 1,  /* CreateFile; the answer carries the segment */
    NPW_WAIT = 2,  /* WaitNamedPipe */
    NPW_QUERY = 3, /* what is this pipe? */
    NPW_DESCRIBE = 5, /* for the pipe's owner and root: this owner's instances, who is connected, what was moved */
    NPW_NUDGE = 4, /* from another owner: an instance of the name listens there, or was closed */
    NPW_TRACE = 6, /* with a ring for records (ring/record.h): what the pipe's connections here read and write */
    NPW_STAY = 16, /* from another owner: no answer; the hang-up tells it of this one's end */
};

enum npw_flags {
    NPW_HOLD = 1, /* with OPEN: keep the request until an instance listens */
    NPW_KEEP = 2, /* with OPEN: this client opens the pipe again and again, and will offer the segment next time */
    NPW_FOR = 4,  /* with OPEN: for a client of another machine, of whom struct npw_remote tells, right behind */
};

enum npw_denial {
    NPW_NOT_THIS_USER = 1, /* the security does not let this user in */
    NPW_DIRECTION = 2,     /* the pipe does not go that way */
    NPW_ONLY_READ = 3,     /* the security lets clients read alone */
    NPW_ONLY_WRITE = 4,    /* and write alone */
    NPW_NOT_FOR_OTHERS = 5, /* only the pipe's owner and root may open it for others, or trace it */
    NPW_NOT_TRACEABLE = 6,  /* its server does not let anybody trace it */
};

struct npw_request {
    uint32_t magic;
    uint32_t version; /* first of all, and for ever at this place */
    uint32_t kind;
    uint32_t flags;
    uint32_t access; /* NP_READ | NP_WRITE */
    uint32_t reserved;
    /* OPEN: the token of a segment that this client has mapped and does not use any more, or 0; DESCRIBE: where to go
     * on; TRACE: how many bytes of each write are wanted, and 0 */
    uint32_t offer[2];
};

/* Behind an OPEN with NPW_FOR, in the same message: on whose behalf the owner of the pipe, or root, opens it. The
 * numbers are whom the client is on this machine; `n_groups` groups (4 bytes each) follow, and then, to the message's
 * end, text that the engine hands on as it is. */
struct npw_remote {
    uint32_t uid, gid;
    uint32_t n_groups; /* at most NP_MAX_GROUPS */
    uint32_t most; /* bytes of the longest message that can be sent to the client, and then none is empty; 0: any */
};
#define NPW_REMOTE_SIZE 65536 /* of all that is behind the request, at most */

/* code NP_IO_PENDING: the request is held; another answer follows. NP_RETRY: look at the folder again. */
struct npw_answer {
    uint32_t magic;
    uint32_t version;
    uint32_t kind;
    uint32_t code;
    union {
        uint32_t default_timeout_ms;
        uint32_t queried_id; /* QUERY: the pipe's id */
    };
    uint32_t type, direction, max_instances;
    uint32_t instances; /* of the name, in all processes */
    uint32_t owner_pid;
    union {
        uint32_t listening; /* QUERY: instances of this owner that listen */
        uint32_t pipe_id; /* OPEN */
    };
    union {
        uint32_t name_size; /* QUERY: UTF-8 bytes that follow the structure */
        uint32_t reused; /* OPEN: not zero: no segment comes, the offered one is used again */
        uint32_t reason; /* with code 1450: the errno for which the owner cannot make a segment, or 0;
                             * with code 5: enum npw_denial, or 0 */
    };
};

/* DESCRIBE with code 0: behind the answer, in the same message. Later versions add to the ends of both structures,
 * whose sizes are here. request.offer: where to go on, or 0. */
struct npw_details {
    uint32_t size;            /* of this */
    uint32_t connection_size; /* of each struct npw_connection that follows */
    uint32_t count;           /* how many */
    uint32_t uid;             /* the pipe's owner */
    uint32_t in_quota, out_quota; /* of the newest instance */
    uint32_t instances, connected; /* of this owner */
    uint32_t held;            /* requests */
    uint32_t reserved;
    uint64_t next;            /* where to go on; 0: this was all */
    int64_t since;            /* nanoseconds since 1970, as all here */
    uint64_t ended;           /* connections, and what they have moved: */
    uint64_t in_bytes, in_messages, out_bytes, out_messages, sleeps;
};

enum npw_connection_flags {
    NPW_REMOTE = 1, /* another machine's client */
    NPW_ROUGH = 2,  /* somebody was just moving the counts */
    NPW_LEFT = 4,   /* the client's end is closed */
};

struct npw_connection {
    uint64_t number; /* of the instance: the newest comes first */
    int64_t since;
    uint32_t pid, uid;
    uint32_t flags;    /* npw_connection_flags */
    uint32_t sleeping; /* np_sleeping, as the server sees it */
    uint32_t in_quota, out_quota;
    uint32_t pending_reads, pending_writes;
    uint64_t in_bytes, in_messages, in_unread;
    uint64_t out_bytes, out_messages, out_unread, out_unread_messages;
    int64_t read_slept, write_slept; /* nanoseconds */
    uint64_t sleeps;
};
#define NPW_DESCRIPTION_SIZE 32768 /* of the whole answer, at most */

_Static_assert(sizeof(struct npw_details) == 104, "docs/protocol.md");
_Static_assert(sizeof(struct npw_connection) == 128, "docs/protocol.md");
_Static_assert(sizeof(struct npw_request) == 32, "docs/protocol.md");
_Static_assert(sizeof(struct npw_remote) == 16, "docs/protocol.md");
_Static_assert(sizeof(struct npw_answer) == 48, "docs/protocol.md");

#endif
