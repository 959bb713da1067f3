/* What /proc says of a process that has a channel's lock, for those who wait for it in vain.
 *
 * All of it costs some system calls. So it is asked once by a process of itself, and of others only after a wait that
 * was longer than any holder takes. */
#ifndef NPIPE_CHANNEL_HOLDER_H
#define NPIPE_CHANNEL_HOLDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NPC_MOST_BIRTH 4095

/* When a process was started, so far as 12 bits can tell it: in hundredths of a second, 1 to NPC_MOST_BIRTH over and
 * over. Another process that has got the same number since was born at another time. 0: that cannot be told. */
uint32_t np_birth(pid_t process);

/* The namespace of this process in which numbers of processes, and births, say the same; 0: that cannot be told. */
uint64_t np_numbers_namespace(void);

/* Whether a thread of a process does not go on, by the will of a debugger or a shell, and the process has the socket
 * too, by its kernel's word and not by what stands in shared memory. False as well if that cannot be told. */
bool np_is_stopped_sibling(pid_t process, pid_t thread, int socket);

#endif
