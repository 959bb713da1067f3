/* An object that follows a descriptor: it is signalled, and stays so, once the descriptor can be read. Of a process's
 * descriptor (pidfd_open) that is the process's end. */
#ifndef NPIPE_HANDLE_FOLLOW_H
#define NPIPE_HANDLE_FOLLOW_H

#include <stdint.h>

struct np_object;

struct np_follow {
    struct np_object *object; /* the caller's, until np_follow_end */
    int fd;                   /* as well */
    uint64_t watch;           /* 0: nobody looks */
    uint32_t forks;           /* np_forks when that began */
};

/* Lets the native thread signal follow->object. NP_OK, or that of np_process_start, or NP_NOT_ENOUGH_MEMORY. */
uint32_t np_follow_begin(struct np_follow *follow);
/* Signals it now if it is due: before a wait, which is not to depend on how soon the native thread runs. In a forked
 * child the native thread is told anew. */
void np_follow_look(struct np_follow *follow);
void np_follow_end(struct np_follow *follow);

#endif
