/* WaitForMultipleObjects, GetQueuedCompletionStatus, alertable waits: they drive the operations that they wait for. */
#ifndef NPIPE_OVERLAPPED_WAIT_H
#define NPIPE_OVERLAPPED_WAIT_H

#include <stdbool.h>
#include <stdint.h>

struct np_apc;
struct np_object;
struct np_packet;
struct np_wait;

/* Tells what has come to its end already, whoever has noticed: a reset that follows is after it (SEMANTICS 10.3). */
void np_object_settle(struct np_object *object);
/* Moves on whatever this process has started and can go on: before something is taken back that its own reads may
 * have. */
void np_objects_drive_moved(void);
void np_event_reset(struct np_object *event);
void np_event_pulse(struct np_object *event);

#define NP_MOST_OBJECTS 64
/* WaitForMultipleObjectsEx: NP_OK and *index (*abandoned: of a mutex whose owner has ended), NP_SEM_TIMEOUT,
 * NP_IO_COMPLETION (alertable, and routines are queued), NP_INTERRUPTED. With no objects: SleepEx. */
uint32_t np_wait_objects(struct np_object *const *objects, uint32_t count, bool all, bool alertable,
                         const struct np_wait *wait, uint32_t *index, bool *abandoned);
/* The calling thread's next routine; the caller frees it. */
struct np_apc *np_apc_take(void);
/* GetQueuedCompletionStatus: NP_OK and the packet, which the caller frees, NP_SEM_TIMEOUT, NP_ABANDONED_WAIT,
 * NP_INTERRUPTED. */
uint32_t np_port_take(struct np_object *port, const struct np_wait *wait, struct np_packet **packet);

#endif
