#include "pipe/report.h"

#include <string.h>

#include "base/codes.h"
#include "base/platform.h"
#include "process/process.h"
#include "ring/counts.h"
#include "ring/segment.h"
#include "handle/handle.h"
#include "pipe/instances.h"
#include "pipe/messages.h"
#include "pipe/owner.h"

#define TRIES 16 /* for locks that others have for moments, or for as long as they copy a message */

/* What a link has moved. A link does not go while the process lock is held, so no lock of its handle's is waited for:
 * whoever has one may be copying, and the native thread has others to answer. */
static void count(struct np_handle *handle, struct np_counts *counts)
{
    struct np_link *link = handle->link;
    for (int i = 0; i < TRIES; i++) {
        if (pthread_mutex_trylock(&handle->rx_lock) == 0) {
            bool both = pthread_mutex_trylock(&handle->tx_lock) == 0;
            if (both) {
                np_link_count(link, counts);
                pthread_mutex_unlock(&handle->tx_lock);
            }
            pthread_mutex_unlock(&handle->rx_lock);
            if (both)
                return;
        }
        np_pause();
    }
    np_link_count_roughly(link, counts);
}

static void describe(const struct np_handle *handle, const struct np_counts *counts, struct npw_connection *to)
{
    const struct np_link *link = handle->link;
    *to = (struct npw_connection){
        .number = handle->number,
        .since = counts->since,
        .pid = link->remote ? 0 : link->client_pid,
        .uid = link->remote ? UINT32_MAX : link->peer_uid,
        .flags = (link->remote ? NPW_REMOTE : 0u) | (counts->rough ? NPW_ROUGH : 0u) |
                 (counts->peer_closed ? NPW_LEFT : 0u),
        .sleeping = counts->sleeping,
        .in_quota = link->quota[NPL_INBOUND],
        .out_quota = link->quota[NPL_OUTBOUND],
        .pending_reads = counts->pending_reads,
        .pending_writes = counts->pending_writes,
        .in_bytes = counts->in_bytes,
        .in_messages = counts->in_messages,
        .in_unread = counts->in_unread,
        .out_bytes = counts->out_bytes,
        .out_messages = counts->out_messages,
        .out_unread = counts->out_unread,
        .out_unread_messages = counts->out_unread_messages,
        .read_slept = counts->read_slept,
        .write_slept = counts->write_slept,
        .sleeps = counts->sleeps,
    };
}

static uint32_t count_held(const struct np_pipe *pipe)
{
    uint32_t held = 0;
    for (const struct np_visitor *visitor = pipe->first_visitor; visitor; visitor = visitor->next)
        held += (visitor->kind == NPW_OPEN || visitor->kind == NPW_WAIT) && visitor->deadline == NP_FOREVER;
    return held;
}

static struct npw_details summary_of(const struct np_pipe *pipe)
{
    const struct np_totals *totals = &pipe->summary->totals;
    return (struct npw_details){
        .size = sizeof(struct npw_details),
        .connection_size = sizeof(struct npw_connection),
        .uid = pipe->owner,
        .instances = pipe->instances,
        .held = count_held(pipe),
        .since = pipe->since,
        .ended = totals->connections,
        .in_bytes = totals->in_bytes,
        .in_messages = totals->in_messages,
        .out_bytes = totals->out_bytes,
        .out_messages = totals->out_messages,
        .sleeps = totals->sleeps,
    };
}

size_t np_report(const struct np_pipe *pipe, uint64_t from, void *buffer, size_t size)
{
    struct npw_details details = summary_of(pipe);
    struct npw_connection connection;
    uint8_t *place = (uint8_t *)buffer + sizeof details;
    size_t room = (size - sizeof details) / sizeof connection;
    const struct np_handle *newest = NULL;
    uint64_t last = 0;
    for (struct np_handle *handle = np_process.handles; handle; handle = handle->next) {
        if (handle->pipe != pipe)
            continue;
        newest = newest ? newest : handle;
        details.connected += handle->link != NULL;
        if (!handle->link || (from && handle->number >= from))
            continue;
        if (details.count == room) {
            details.next = last;
            continue;
        }
        struct np_counts counts;
        count(handle, &counts);
        describe(handle, &counts, &connection);
        memcpy(place, &connection, sizeof connection);
        place += sizeof connection;
        last = handle->number;
        details.count++;
    }
    if (newest) {
        details.in_quota = newest->quota[NPL_INBOUND];
        details.out_quota = newest->quota[NPL_OUTBOUND];
    }
    memcpy(buffer, &details, sizeof details);
    return sizeof details + details.count * sizeof connection;
}

bool np_report_own(const struct np_where *where, struct npw_details *details)
{
    pthread_mutex_lock(&np_process.lock);
    const struct np_pipe *pipe = np_pipe_find(where);
    if (pipe) {
        *details = summary_of(pipe);
        for (struct np_handle *handle = np_process.handles; handle; handle = handle->next) {
            if (handle->pipe != pipe || !handle->link)
                continue;
            struct np_counts counts;
            count(handle, &counts);
            details->connected++;
            details->in_bytes += counts.in_bytes;
            details->in_messages += counts.in_messages;
            details->out_bytes += counts.out_bytes;
            details->out_messages += counts.out_messages;
            details->sleeps += counts.sleeps;
        }
    }
    pthread_mutex_unlock(&np_process.lock);
    return pipe != NULL;
}

void np_report_process(struct np_process_counts *counts)
{
    pthread_mutex_lock(&np_process.lock);
    *counts = (struct np_process_counts){.totals = {np_process.totals[0], np_process.totals[1]}};
    for (struct np_handle *handle = np_process.handles; handle; handle = handle->next) {
        struct np_counts one;
        if (!handle->link)
            continue;
        count(handle, &one);
        np_totals_add(&counts->totals[handle->server], &one);
        counts->living[handle->server]++;
    }
    pthread_mutex_unlock(&np_process.lock);
}
