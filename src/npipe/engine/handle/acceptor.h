/* The signals of event loops' listeners: an eventfd that says when to look at a listening handle again. */
#ifndef NPIPE_HANDLE_ACCEPTOR_H
#define NPIPE_HANDLE_ACCEPTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <pthread.h>

struct np_handle;

/* NULL: no memory, or no descriptors. */
struct np_acceptor *np_acceptor_new(void);
/* An eventfd that is readable when it is time to look again; np_acceptor_quieten takes the signal away. */
int np_acceptor_event(const struct np_acceptor *acceptor);
void np_acceptor_quieten(struct np_acceptor *acceptor);
/* It is when `handle` is not listening (any more): a client has come, or it was closed. */
void np_acceptor_watch(struct np_acceptor *acceptor, struct np_handle *handle);

void np_acceptor_notify(struct np_handle *handle); /* with the process lock held: it has left the listening state */
void np_acceptor_unlink(struct np_handle *handle); /* it will not tell anything any more */
void np_acceptors_tell_closed(void);
void np_acceptors_after_fork(void);

/* Guards the list of those that wait for room, and `listed` of who is in it. A leaf: no other lock is taken while it is
 * held. */
extern pthread_mutex_t np_acceptors_lock;
extern struct np_acceptor *np_acceptors_waiting;

struct np_acceptor {
    int event;      /* -1 in a child: it was the parent's */
    /* which tells when it has left the listening state; guarded by the process lock */
    struct np_handle *handle;
    bool listed;              /* to be told when an instance is closed */
    struct np_acceptor *next;
    struct np_acceptor *next_of_all, *previous_of_all; /* with np_fds_hold */
};

/* All of the process, guarded by np_fds_hold. */
extern struct np_acceptor *np_acceptors;

/* Makes the event readable. */
void np_acceptor_ring(const struct np_acceptor *acceptor);

/* With the process lock held. */
void np_acceptor_forget_handle(struct np_acceptor *acceptor);

#endif
