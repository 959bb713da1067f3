/* What is the operating system's own, behind one header: a port is another platform_*.c. */
#ifndef NPIPE_PLATFORM_H
#define NPIPE_PLATFORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "codes.h"

#define NP_FOREVER INT64_MAX /* a deadline that never comes */
#define NP_TRY INT64_MIN     /* not a deadline: do not wait at all */

/* Monotonic nanoseconds. */
int64_t np_now(void);

/* Sleeps while *word == value, until woken with one of `bits`, a signal, or `deadline` (np_now's clock).
 * The word may be in shared memory. Returns NP_OK (look again), NP_SEM_TIMEOUT or NP_INTERRUPTED (a signal). */
uint32_t np_futex_wait(_Atomic uint32_t *word, uint32_t value, uint32_t bits, int64_t deadline);
void np_futex_wake(_Atomic uint32_t *word, uint32_t bits);

/* Who is at the other end of a Unix socket, by the kernel's word. */
#define NP_MAX_GROUPS 256
struct np_credentials {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    uint32_t n_groups;
    gid_t groups[NP_MAX_GROUPS];
};
void np_yield(void);
int64_t np_thread_number(void);
/* Whether the calling thread is the process's first one. */
bool np_on_first_thread(void);
/* The calling thread acts as somebody else from now on, where it may; false: it may not. Then as itself again. */
bool np_become(const struct np_credentials *who);
bool np_revert(void);
bool np_is_impersonating(void);
/* A thread that was started by one that acted as a client has the client's credentials, and never asked for them: it gets the
 * process's own. One that acts as a client on purpose stays as it is, and so does one whose process has changed its user: which of the
 * two it is, the native thread's user tells. False: it cannot have them, or it cannot be told. */
bool np_settle_identity(void);
/* The calling thread is the native thread, which acts for the process and tells whom that is. */
void np_settle_reference_thread(void);
void np_identity_after_fork(void);
/* The process's own, whomever the thread acts as. False: there are more groups than NP_MAX_GROUPS. */
bool np_own_credentials(struct np_credentials *who);
/* What the process does for its own sake in a thread that acts as a client is done as the process: from out to back. */
bool np_step_out(void);
void np_step_back(bool out);
/* Over a fork. */
void np_own_lock(void);
void np_own_unlock(void);
/* Whether the id is what the kernel says of everybody whom the user namespace does not map: it tells nothing. */
bool np_is_nobody(uid_t uid);
bool np_is_no_group(gid_t gid);
/* Whether both are the same user; nobody is no user, not even himself. */
bool np_is_user(uid_t one, uid_t other);
/* What this thread has used of the processor (ns), and how often it was taken away from it; costs a system call. */
struct np_usage {
    int64_t cpu, involuntary;
};
struct np_usage np_thread_usage(void);
/* Nanoseconds that this thread has spent asleep in the functions below. */
extern _Thread_local int64_t np_slept;

static inline void np_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* what `yield` should be: a wait of some tens of cycles */
#endif
}

/* A shared segment of fixed size, sealed against shrinking and growing. -1 and errno on failure. */
int np_segment_create(uint64_t size);
/* ftruncate, which beyond the file-size limit fails (EFBIG) without the signal that would end the process. 0, or an errno. */
int np_file_resize(int fd, uint64_t size);
/* How many descriptors the process may have open, as the limit stands now. */
uint64_t np_descriptor_limit(void);
/* Whether `fd` is such a segment; its size, or 0. */
uint64_t np_segment_check(int fd);
void *np_segment_map(int fd, uint64_t size);
void np_segment_unmap(void *map, uint64_t size);

/* With `with_groups` also the supplementary groups. */
bool np_peer_credentials(int socket, bool with_groups, struct np_credentials *who);

/* One message over a SOCK_SEQPACKET socket, `fd` with it (-1: none). Never waits, never raises SIGPIPE.
 * The number of bytes, or -errno. */
ssize_t np_send_message(int socket, const void *data, size_t size, int fd);
/* One message; `fd` gets the descriptor that came with it or -1 (any further ones are closed).
 * The number of bytes, 0 at the end, or -errno. A message longer than `size` gives -EMSGSIZE. */
ssize_t np_receive_message(int socket, void *data, size_t size, int *fd);

/* One byte, without what else np_send_message can do: for wakes. A full socket, or a peer that is gone, is no matter. */
void np_socket_poke(int socket);
/* Takes one such byte; a descriptor that came with it is closed by the kernel. Whether there was one. */
bool np_socket_poked(int socket);
/* Waits for such a byte, and takes it. NP_OK, NP_INTERRUPTED, NP_BROKEN_PIPE: the peer has gone, or the socket was shut down. */
uint32_t np_socket_await_poke(int socket);

/* Waits until `socket` has something to read or its peer has gone. NP_OK, NP_SEM_TIMEOUT, NP_INTERRUPTED. */
uint32_t np_socket_wait(int socket, int64_t deadline);
/* Whether it has something to read, be it the end, just now. */
/* Ends a poll of it in another thread. */
void np_socket_break(int socket);
bool np_socket_readable(int socket);
/* Whether its peer has gone, just now. */
bool np_socket_hung_up(int socket);
/* The same for either of two descriptors. */
uint32_t np_sockets_wait(int first, int second, int64_t deadline);

/* A Unix socket connected to / listening at `name` in the folder `dirfd`, however long the folder's path is.
 * -errno on failure: -ENOSYS where that needs /proc, which is not there, and nothing else will do. A connect waits for room in the backlog
 * until `deadline`, and not at all when that is over. */
int np_socket_connect(int dirfd, const char *name, int64_t deadline);
/* The same by a whole path, which is quicker; -ENAMETOOLONG if it does not fit. */
int np_socket_connect_path(const char *path, int64_t deadline);
int np_socket_listen(int dirfd, const char *name, mode_t mode);
/* What to say of an error of theirs. */
const char *np_socket_error(int error);
/* Waits until one of `count` sockets (-1: none) has something to read or its peer has gone; ready[i] says which. As np_socket_wait. */
uint32_t np_sockets_ready(const int *sockets, bool *ready, uint32_t count, int64_t deadline);

uint64_t np_random(void);

#endif
