/* The engine's descriptors, and how they end.
 *
 * A forked child has a duplicate of every descriptor of its parent's, and a duplicate keeps a socket connected, a
 * request held and a file locked for as long as the child lives. So every descriptor of the engine is entered here in
 * the moment in which it is made (a fork comes before both or after both), and the child closes all of them first of
 * all: also those that a thread which does not exist there had on its stack. Orderly ends do not rely on that: what
 * ends a connection ends it for all duplicates (np_hang_up). */
#ifndef NPIPE_FDS_H
#define NPIPE_FDS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>

/* How many forks this process has come out of as the child. Whoever keeps a descriptor beyond one of its own calls, or
 * over a question for signals (whose handlers may fork), remembers the number: if it is another one, the descriptor was
 * the parent's, is closed, and its number may be somebody else's by now. Written in a child before it has threads. */
extern uint32_t np_forks;

/* Around the making of descriptors: `fd = (np_fds_hold(), np_fd_made(socket(...)))` in two statements. No fork comes in
 * between. A leaf: no other lock is taken, and nothing is waited for, while it is held. */
void np_fds_hold(void);
void np_fds_release(void);
/* Enters `fd`, which the same thread has made since np_fds_hold, and releases. -1 and errno as they are if it is -1; -1
 * and ENOMEM, the descriptor closed, if there is no memory to remember it. */
int np_fd_made(int fd);
/* The same while it goes on to be held; false: closed, for want of memory. */
bool np_fd_enter(int fd);

void np_fd_close(int fd);
/* The same for a directory stream over an entered descriptor. */
void np_fd_close_list(DIR *list);
/* Ends a socket's connection at both ends, now and whoever has duplicates of it, and closes it. What was sent stays
 * readable. */
void np_hang_up(int fd);
/* A listening socket refuses connections from here on, and hangs up on those that it has not accepted. Closes
 * nothing. */
void np_stop_listening(int fd);

/* In the child, by the thread that forked, with np_fds_hold from before the fork: closes them all, counts, and
 * releases. */
void np_fds_after_fork(void);

#endif
