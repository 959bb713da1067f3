/* Unix sockets: messages with descriptors, wakes by one byte, waits, connecting and listening by a name in a folder. */
#ifndef NPIPE_SOCKET_H
#define NPIPE_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct np_credentials; /* identity.h */

/* Who is at the other end; `with_groups`: also the supplementary groups. */
bool np_peer_credentials(int socket, bool with_groups, struct np_credentials *who);

/* One message over a SOCK_SEQPACKET socket, `fd` with it (-1: none). Never waits, never raises SIGPIPE.
 * The number of bytes, or -errno. */
ssize_t np_send_message(int socket, const void *data, size_t size, int fd);
/* One message; `fd` gets the descriptor that came with it or -1 (any further ones are closed).
 * The number of bytes, 0 at the end, or -errno. A message longer than `size` gives -EMSGSIZE. */
ssize_t np_receive_message(int socket, void *data, size_t size, int *fd);

/* The same with `count` descriptors, at most NP_MOST_DESCRIPTORS: all of them come, or it is an error. */
#define NP_MOST_DESCRIPTORS 4
ssize_t np_send_descriptors(int socket, const void *data, size_t size, const int *fds, uint32_t count);
ssize_t np_receive_descriptors(int socket, void *data, size_t size, int *fds, uint32_t count);

/* A socket in the abstract namespace: connected to, listening at. -errno on failure. It is gone with its process; who
 * is at the other end, np_peer_credentials tells. */
int np_socket_connect_abstract(const char *name, int64_t deadline);
int np_socket_listen_abstract(const char *name);

/* One byte, without what else np_send_message can do: for wakes. A full socket, or a peer that is gone, is no
 * matter. */
void np_socket_poke(int socket);
/* Takes one such byte; a descriptor that came with it is closed by the kernel. Whether there was one. */
bool np_socket_poked(int socket);
/* Waits for such a byte, and takes it. NP_OK, NP_INTERRUPTED, NP_BROKEN_PIPE: the peer has gone, or the socket was shut
 * down. */
uint32_t np_socket_await_poke(int socket);

/* Waits until `socket` has something to read or its peer has gone. NP_OK, NP_SEM_TIMEOUT, NP_INTERRUPTED. */
uint32_t np_socket_wait(int socket, int64_t deadline);
/* The same for either of two descriptors, */
uint32_t np_sockets_wait(int first, int second, int64_t deadline);
/* and for one of `count` (-1: none); ready[i] says which. */
uint32_t np_sockets_ready(const int *sockets, bool *ready, uint32_t count, int64_t deadline);
/* Ends such a wait in another thread. */
void np_socket_break(int socket);
/* Whether it has something to read, be it the end, just now. */
bool np_socket_readable(int socket);
/* Whether its peer has gone, just now. */
bool np_socket_hung_up(int socket);

/* A Unix socket connected to / listening at `name` in the folder `dirfd`, however long the folder's path is. -errno on
 * failure: -ENOSYS where that needs /proc, which is not there, and nothing else will do. A connect waits for room in
 * the backlog until `deadline`, and not at all when that is over. */
int np_socket_connect(int dirfd, const char *name, int64_t deadline);
/* The same by a whole path, which is quicker; -ENAMETOOLONG if it does not fit. */
int np_socket_connect_path(const char *path, int64_t deadline);
int np_socket_listen(int dirfd, const char *name, mode_t mode);
/* What to say of an error of theirs. */
const char *np_socket_error(int error);

#endif
