/* For event loops: reads, writes and flushes that are begun, looked at whenever the link's socket wakes the loop, and ended,
 * none of which waits; the rendezvous step by step; and a signal of a listener's clients.
 *
 * The socket of the link is the wake descriptor: a step that finds nothing asks the peer for a byte. One thread of this process
 * at a time uses a handle in this way, and no thread waits on it otherwise. */
#ifndef NPIPE_POLL_H
#define NPIPE_POLL_H

#include "folder.h"
#include "handle.h"
#include "wire.h"

/* Whether the connection has ended: then there is nothing more to be woken for. Takes the byte that woke the loop, moves the
 * pending writes on, and asks for the next byte where one is needed. */
bool np_poll_wake(struct np_handle *handle);

/* From now on the caller says when it pauses after reads that left something: until then a writer who waits for room may wait a
 * little longer, so that he is not woken for each message. */
void np_poll_promise_pauses(struct np_handle *handle);
void np_poll_pause(struct np_handle *handle);
/* Whether such a wake waits for the pause. */
bool np_poll_owes(struct np_handle *handle);
/* np_recv_take, and the same. */
bool np_poll_recv_take(struct np_handle *handle, void *buffer, uint32_t size);

/* Moves the pending writes on and, if any are left, asks for a byte when there is room for more. With tx_lock held. */
void np_poll_pump(struct np_link *link);

/* A read that is pending. It counts as room for the peer (SEMANTICS 6.1) until it is left. */
struct np_poll_read {
    struct np_op op;
    struct np_link *link; /* held; NULL: not begun */
    bool message_mode;
    uint64_t entry;
};
/* `buffer` NULL: for a whole message. */
uint32_t np_poll_read_begin(struct np_handle *handle, struct np_poll_read *read, void *buffer, uint32_t size);
/* Into the buffer: NP_OK and NP_MORE_DATA with op.count; NP_WOULD_WAIT: the socket will say when to come again. */
uint32_t np_poll_read_step(struct np_handle *handle, struct np_poll_read *read);
/* A whole message: NP_OK and its size; then its bytes [op.count, upto), NP_RETRY: it was withdrawn, look for the next one; then
 * it is consumed. */
uint32_t np_poll_message(struct np_handle *handle, struct np_poll_read *read, uint32_t *size);
uint32_t np_poll_message_more(struct np_handle *handle, struct np_poll_read *read, void *buffer, uint32_t upto);
uint32_t np_poll_message_take(struct np_handle *handle, struct np_poll_read *read);
/* The end of it. What was copied into `buffer` and not consumed is put back. */
uint32_t np_poll_read_leave(struct np_handle *handle, struct np_poll_read *read, void *buffer);
/* Whether there may be something to read, or to say to one who reads. */
bool np_poll_has_come(struct np_handle *handle);
/* Spins for up to `longest` nanoseconds. Whether there is something to read. */
bool np_poll_spin(struct np_handle *handle, int64_t longest);

/* A write that is pending. Its data stays where it is until the write is over. */
struct np_poll_write {
    struct np_op op;
    struct np_link *link; /* held; NULL: over, or not begun */
};
/* A write that is not to wait: NP_OK and *count, fewer than `size` on a NOWAIT handle alone; NP_WOULD_WAIT: nothing was written. */
uint32_t np_poll_write_now(struct np_handle *handle, const void *data, uint32_t size, uint32_t *count);
/* NP_OK: complete; NP_WOULD_WAIT: it stands in its turn. */
uint32_t np_poll_write_begin(struct np_handle *handle, struct np_poll_write *write, const void *data, uint32_t size);
/* NP_WOULD_WAIT, or its result, and then it is over. */
uint32_t np_poll_write_step(struct np_handle *handle, struct np_poll_write *write);
/* Whether a step would give its result: the last np_poll_wake has seen to it that this is known. By the thread that uses the handle. */
bool np_poll_write_ready(const struct np_poll_write *write);
/* NP_OK: nothing of it will be read. NP_NO_DATA: it is complete. NP_WOULD_WAIT: the peer has read a part of it, so it goes on.
 * NP_MORE_DATA: the peer has read a part of it just now, and the rest was taken back. Else why the link has ended. */
uint32_t np_poll_write_withdraw(struct np_handle *handle, struct np_poll_write *write);
/* The handle is about to be closed: NP_OK if all of it will stay readable. */
uint32_t np_poll_write_leave(struct np_handle *handle, struct np_poll_write *write);
/* Whether all pending writes stand in the ring, where they stay readable after a close. */
bool np_poll_all_put(struct np_handle *handle);

/* The same for a flush. */
uint32_t np_poll_flush_begin(struct np_handle *handle, struct np_poll_write *flush);
uint32_t np_poll_flush_step(struct np_handle *handle, struct np_poll_write *flush);
bool np_poll_flush_ready(struct np_handle *handle, const struct np_poll_write *flush);
void np_poll_flush_leave(struct np_handle *handle, struct np_poll_write *flush);

/* Whether a transaction may begin (SEMANTICS 8.1). */
uint32_t np_poll_transact_check(struct np_handle *handle);

/* ---- Connecting, step by step */

#define NP_DIAL_PATH 108 /* NP_REMEMBERED_SIZE */

struct np_dial {
    char *root, *folder;
    uint32_t access;
    bool verify_owner;
    struct npw_request request;
    uint32_t flags;
    int dirfd;
    char names[NPF_SLOTS][NPF_SOCKET_SIZE];
    uint32_t count, next, dead, busy, gone, told_by, vanished;
    bool holding; /* the second round, in which one of the owners holds the request */
    uint32_t silent;            /* owners that did not answer in time, */
    bool was_silent[NPF_SLOTS]; /* these, */
    bool was_busy[NPF_SLOTS];   /* and these are busy */
    int64_t deadline;           /* of all of it */
    int64_t answer_due;         /* of an owner who does not hold the request */
    int64_t until;              /* of what is waited for just now */
    bool use_default;           /* the deadline comes with the word that the request is held */
    bool looked;  /* whether an owner is remembered */
    bool remembered;         /* he is being asked, at this socket: */
    char path[NP_DIAL_PATH];
    uint32_t pipe_id;        /* which the pipe had */
    bool keep;               /* and segments are kept, and one that was is offered: */
    struct np_kept kept;     /* segment NULL: none */
    uid_t folder_uid;        /* whose folder the socket is in */
    int socket, segment;
    uint32_t forks;          /* np_forks when these were made */
    bool held, told; /* by the owner who is being asked */
    struct npw_answer answer;
    struct np_credentials owner;
};
/* `kind` NPW_OPEN or NPW_WAIT, the latter perhaps with the pipe's own time-out. NULL: no memory. */
struct np_dial *np_dial_new(const struct np_where *where, enum npw_kind kind, const struct np_open_options *options, int64_t deadline,
                            bool use_default);
void np_dial_free(struct np_dial *dial);
/* NP_IO_PENDING: again when dial->socket is readable, or at dial->until. NP_WOULD_WAIT: the owner's backlog is full, again in a moment.
 * NP_OK, or the end of it. */
uint32_t np_dial_step(struct np_dial *dial, char *why);
/* After NP_OK of an open. */
uint32_t np_dial_handle(struct np_dial *dial, struct np_handle **handle, char *why);

/* ---- Accepting (poll_accept.c) */

struct np_acceptor;
/* NULL: no memory, or no descriptors. */
struct np_acceptor *np_acceptor_new(void);
/* An eventfd that is readable when it is time to look again; np_acceptor_quieten takes the signal away. */
int np_acceptor_event(const struct np_acceptor *acceptor);
void np_acceptor_quieten(struct np_acceptor *acceptor);
/* It is when `handle` is not listening (any more): a client has come, or it was closed. */
void np_acceptor_watch(struct np_acceptor *acceptor, struct np_handle *handle);
/* And it is when instances have been closed since np_closed_seq was `seen`, or another owner of the name has died: until
 * np_acceptor_forget_room. */
void np_acceptor_await_room(struct np_acceptor *acceptor, const struct np_where *where, uint32_t seen);
void np_acceptor_forget_room(struct np_acceptor *acceptor);
void np_acceptor_free(struct np_acceptor *acceptor);

#endif
