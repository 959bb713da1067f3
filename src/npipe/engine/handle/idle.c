#include "handle/idle.h"

#include <pthread.h>

#include "process/process.h"
#include "ring/idle.h"
#include "ring/link.h"
#include "ring/tx.h"
#include "handle/handle.h"

static bool collect(void *context, struct np_link *link, bool idle)
{
    struct np_idle *due = context;
    if (!link->handle)
        return true;
    if (due->count == sizeof due->handles / sizeof *due->handles)
        return false;
    np_hold(link->handle);
    due->idle[due->count] = idle;
    due->handles[due->count++] = link->handle;
    return true;
}

void np_idle_due(int64_t now, struct np_idle *due)
{
    int64_t next = np_idle_look(now, collect, due);
    if (next)
        np_alarm(next);
}

void np_idle_do(struct np_idle *due)
{
    for (uint32_t i = 0; i < due->count; i++) {
        struct np_handle *handle = due->handles[i];
        /* Whoever has the lock writes: it is not idle. The lock holds the link too. */
        if (pthread_mutex_trylock(&handle->tx_lock) == 0) {
            struct np_link *link = handle->link;
            if (link && np_tx_give_back(link, due->idle[i]))
                np_idle_forget(link);
            pthread_mutex_unlock(&handle->tx_lock);
        }
        np_free(handle);
    }
    due->count = 0;
}
