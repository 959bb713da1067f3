/* What an owner tells of its instances: DESCRIBE's answer. */
#ifndef NPIPE_PIPE_REPORT_H
#define NPIPE_PIPE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "process/process.h"

struct np_pipe;
struct np_where;
struct npw_connection;
struct npw_details;

/* Writes struct npw_details and as many struct npw_connection as fit into `buffer`, of which there is room for one at
 * least. `from`: 0, or where to go on. Returns how many bytes that are. With the process lock held. */
size_t np_report(const struct np_pipe *pipe, uint64_t from, void *buffer, size_t size);

/* The same of this process's own pipe, with what its connections that still live have moved added to what those that
 * have ended have. False: it has none of that name. Without a lock. */
bool np_report_own(const struct np_where *where, struct npw_details *details);

/* All of this process: what clients' ends ([0]) and servers' ([1]) have moved, those that live included, and how many
 * of them live. */
struct np_process_counts {
    struct np_totals totals[2];
    uint32_t living[2];
};
void np_report_process(struct np_process_counts *counts);

#endif
