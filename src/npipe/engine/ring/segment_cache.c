#include "ring/segment_cache.h"

#include <pthread.h>
#include <string.h>

#include "base/fds.h"
#include "base/platform.h"
#include "process/process.h"
#include "ring/segment.h"

#define KEPT 4
#define KEPT_NS 20000000 /* who opens it again and again comes sooner */
#define LARGEST_KEPT (UINT64_C(1) << 20) /* bytes of a segment */

/* Only leaves are taken while it is held: the descriptors' lock and the alarm's. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct np_kept kept_segments[2][KEPT]; /* by side; the longest-kept first; segment NULL: free */

void np_kept_drop(const struct np_kept *kept)
{
    np_segment_unmap(kept->segment, kept->size);
    np_fd_close(kept->fd);
}

/* Takes number `index` out. With the lock held. */
static struct np_kept take_out(enum npl_side side, int index)
{
    struct np_kept *list = kept_segments[side], found = list[index];
    memmove(&list[index], &list[index + 1], (size_t)(KEPT - 1 - index) * sizeof *list);
    list[KEPT - 1] = (struct np_kept){0};
    return found;
}

void np_keep(enum npl_side side, const struct np_kept *kept)
{
    struct np_kept old = *kept;
    if (kept->size <= LARGEST_KEPT && kept->token) {
        pthread_mutex_lock(&lock);
        struct np_kept *list = kept_segments[side];
        old = list[KEPT - 1].segment ? take_out(side, 0) : (struct np_kept){0};
        for (int i = 0; i < KEPT; i++)
            if (!list[i].segment) {
                list[i] = *kept;
                list[i].until = np_now() + KEPT_NS;
                np_alarm(list[i].until);
                break;
            }
        pthread_mutex_unlock(&lock);
    }
    if (old.segment)
        np_kept_drop(&old);
}

#define MOST_REFUSALS 3

void np_kept_refused(struct np_kept *kept)
{
    if (++kept->refused < MOST_REFUSALS)
        np_keep(NPL_CLIENT, kept);
    else
        np_kept_drop(kept);
}

bool np_kept_offer(pid_t peer_pid, struct np_kept *kept)
{
    bool found = false;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < KEPT && !found; i++) {
        const struct np_kept *item = &kept_segments[NPL_CLIENT][i];
        found = item->segment && item->peer_pid == peer_pid;
        if (found)
            *kept = take_out(NPL_CLIENT, i);
    }
    pthread_mutex_unlock(&lock);
    return found;
}

bool np_kept_take(uint64_t token, uint64_t size, pid_t peer_pid, uid_t peer_uid, struct np_kept *kept)
{
    bool found = false;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < KEPT && !found; i++) {
        const struct np_kept *item = &kept_segments[NPL_SERVER][i];
        found = item->segment && item->token == token && item->size == size && item->peer_pid == peer_pid &&
                item->peer_uid == peer_uid;
        if (found)
            *kept = take_out(NPL_SERVER, i);
    }
    pthread_mutex_unlock(&lock);
    return found;
}

int64_t np_kept_expire(int64_t now)
{
    int64_t next = 0;
    pthread_mutex_lock(&lock);
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < KEPT && kept_segments[side][i].segment;) {
            int64_t until = kept_segments[side][i].until;
            if (until <= now) {
                const struct np_kept old = take_out((enum npl_side)side, i);
                np_kept_drop(&old);
                continue;
            }
            if (next == 0 || until < next)
                next = until;
            i++;
        }
    pthread_mutex_unlock(&lock);
    return next;
}

void np_kept_forget(enum npl_side side)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < KEPT; i++)
        if (kept_segments[side][i].segment)
            np_kept_drop(&kept_segments[side][i]);
    memset(kept_segments[side], 0, sizeof kept_segments[side]);
    pthread_mutex_unlock(&lock);
}

void np_kept_hold(void)
{
    pthread_mutex_lock(&lock);
}

void np_kept_release(void)
{
    pthread_mutex_unlock(&lock);
}

void np_kept_after_fork(void)
{
    pthread_mutex_init(&lock, NULL); /* held over the fork by the thread that is here */
    memset(kept_segments, 0, sizeof kept_segments); /* their mappings are the parent's alone (np_segment_map) */
}
