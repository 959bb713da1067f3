/* Memory of connections that are idle goes back to the system. */
#ifndef NPIPE_HANDLE_IDLE_H
#define NPIPE_HANDLE_IDLE_H

#include <stdbool.h>
#include <stdint.h>

struct np_handle;

/* Handles whose links have memory to give back, each held. */
struct np_idle {
    struct np_handle *handles[256];
    bool idle[256];
    uint32_t count;
};

/* What is due by now; sets the alarm for the next. With the process lock held. */
void np_idle_due(int64_t now, struct np_idle *due);
/* Does it, and frees the handles. Without the lock. */
void np_idle_do(struct np_idle *due);

#endif
