/* What an end has moved so far, and who waits: from what the rings keep anyway, and a tally of what is rare. */
#ifndef NPIPE_RING_COUNTS_H
#define NPIPE_RING_COUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "process/process.h"
#include "ring/link.h"

enum np_sleeping {
    NP_SLEEPS_READ = 1,  /* this end, for data */
    NP_SLEEPS_WRITE = 2, /* for room, or for a flush */
    NP_PEER_READS = 4,   /* the peer says so of itself */
    NP_PEER_WRITES = 8,
};

/* `in` is what this end reads. A message is an entry: of a byte pipe, a write. */
struct np_counts {
    int64_t since; /* np_wall_clock(); 0: it was never connected */
    uint64_t in_bytes, in_messages;
    uint64_t in_unread; /* bytes; by the peer's word */
    uint64_t out_bytes, out_messages;
    uint64_t out_unread, out_unread_messages;
    uint64_t sleeps;                /* of threads, for data or room */
    int64_t read_slept, write_slept; /* for how long the longest sleeper does, in nanoseconds; 0: none does */
    uint32_t pending_reads, pending_writes;
    uint32_t sleeping; /* np_sleeping */
    bool peer_closed;
    bool rough; /* somebody was just moving them: what the segment says, so out_messages are those that were read */
};

/* With rx_lock and tx_lock. */
void np_link_count(struct np_link *link, struct np_counts *counts);
/* With neither: by the segment alone. */
void np_link_count_roughly(struct np_link *link, struct np_counts *counts);

/* One more connection has ended. */
void np_totals_add(struct np_totals *totals, const struct np_counts *counts);

#endif
