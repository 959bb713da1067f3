/* Handles that another process may ask for: an inherited one, through a socket that the child was started with; one
 * that was duplicated into another process, through this process's socket for offers. Whoever asks gets the handle, and
 * this process has it no more; it stays here if it cannot be sent. A process that ends between the sending and its
 * receiving takes the connection along. Closing a handle that is lent hands it over, and does not end the connection.
 */
#ifndef NPIPE_TRAVEL_LEND_H
#define NPIPE_TRAVEL_LEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct np_handle;
struct np_lend;
struct np_wait;

/* Lends the handle to whoever has the other end of `socket` (SOCK_SEQPACKET), which is taken in any case. */
uint32_t np_lend(struct np_handle *handle, int socket);
/* Lends it to processes of this user that ask for `number` (np_claim_from). `only_while_open`: it is no reason to keep
 * the connection once the handle is closed here. */
uint32_t np_offer(struct np_handle *handle, uint64_t number, bool only_while_open);
/* Nobody else may take it any more: whoever it was lent to is told that it is not there. */
void np_lends_withdraw(struct np_handle *handle);
/* The number is closed here, the handle is not: an offer for as long as it is open ends. */
void np_offer_end(struct np_handle *handle, uint64_t number);
/* For CloseHandle: a handle that is lent goes to whom it is lent. False: np_close is to follow. */
bool np_close_lent(struct np_handle *handle);

/* What was lent through `socket`, which stays the caller's. Who leaves after it has asked waits for the answer a moment
 * more (1 s), for the handle may be on its way. *handle is NULL unless it has come.
 *   NP_OK
 *   NP_INTERRUPTED           *handle may have come all the same
 *   NP_INVALID_HANDLE        it is not lent any more: closed, somebody else's, or its process has ended
 *   NP_ACCESS_DENIED         whoever lends it is another user (root may)
 *   those of np_arrive       it is lost
 * It may be asked for again after NP_INTERRUPTED and
 *   NP_PIPE_BUSY             its process is using it just now
 *   NP_PIPE_NOT_CONNECTED    it is not connected just now
 *   NP_SEM_TIMEOUT
 *   NP_NOT_ENOUGH_MEMORY, NP_TOO_MANY_OPEN_FILES, NP_NO_SYSTEM_RESOURCES, there or here */
uint32_t np_claim(int socket, const struct np_wait *wait, struct np_handle **handle);
/* Whether a handle may be asked for again after such a code. */
bool np_may_claim_again(uint32_t code);
/* The same of a process that offers it. */
uint32_t np_claim_from(pid_t pid, uint64_t number, const struct np_wait *wait, struct np_handle **handle);

/* The native thread's, with the process lock: notes who has something to say. */
void np_lend_ready(struct np_lend *lend, struct np_lend **spoken);
void np_offers_ready(void);
void np_offers_due(int64_t now);
/* ... and without it: answers them. */
void np_lends_answer(struct np_lend *spoken);

/* In a forked child: everything is the parent's. */
void np_lends_after_fork(void);

#endif
