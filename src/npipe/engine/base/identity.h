/* As whom the process and its threads act.
 *
 * A thread that impersonates a client has the client's credentials for the kernel. The process's own are those that the
 * native thread has, which never impersonates: what the process does for its own sake is done with them. */
#ifndef NPIPE_IDENTITY_H
#define NPIPE_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Who is at the other end of a Unix socket, by the kernel's word. */
#define NP_MAX_GROUPS 256
struct np_credentials {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    uint32_t n_groups;
    gid_t groups[NP_MAX_GROUPS];
};

/* Whether the id is what the kernel says of everybody whom the user namespace does not map: it tells nothing. */
bool np_is_nobody(uid_t uid);
bool np_is_no_group(gid_t gid);
/* Whether both are the same user; nobody is no user, not even itself. */
bool np_is_user(uid_t one, uid_t other);

/* The calling thread acts as somebody else from now on, where it may; false: it may not. Then as itself again. */
bool np_become(const struct np_credentials *who);
bool np_revert(void);
bool np_is_impersonating(void);

/* A thread that was started by one that acted as a client has the client's credentials, and never asked for them: it
 * gets the process's own. One that acts as a client on purpose stays as it is, and so does one whose process has
 * changed its user: which of the two it is, the native thread's user tells. False: it cannot have them, or it cannot be
 * told. */
bool np_settle_identity(void);
/* The calling thread is the native thread, which acts for the process and tells whom that is. */
void np_settle_reference_thread(void);
/* The process's own, whomever the thread acts as. False: there are more groups than NP_MAX_GROUPS. */
bool np_own_credentials(struct np_credentials *who);
/* What the process does for its own sake in a thread that acts as a client is done as the process: from out to back. */
bool np_step_out(void);
void np_step_back(bool out);

/* Over a fork. */
void np_own_lock(void);
void np_own_unlock(void);
void np_identity_after_fork(void);

#endif
