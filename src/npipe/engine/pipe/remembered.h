/* The socket of the last pipe that was opened and had one owner: the next open goes there first. */
#ifndef NPIPE_PIPE_REMEMBERED_H
#define NPIPE_PIPE_REMEMBERED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct np_where;

/* The socket of the last pipe that was opened and had one owner, with the pipe's id and whose its folder is now. */
#define NP_REMEMBERED_SIZE 108 /* a socket address's */
struct np_remembered {
    char path[NP_REMEMBERED_SIZE];
    uint32_t pipe_id;
    uid_t folder_uid;
};
bool np_remembered(const struct np_where *where, struct np_remembered *found);
void np_remember(const struct np_where *where, const char *socket, uint32_t pipe_id);
void np_remember_nothing(void);
void np_dial_forget(void); /* in a forked child */
/* Over a fork. */
void np_dial_hold(void);
void np_dial_release(void);

#endif
