#ifndef NPIPE_BENCH_CROWD_H
#define NPIPE_BENCH_CROWD_H

#include <stdbool.h>

/* Prints the nanoseconds that one round trip of the crowd takes, all clients together, and what the least served one
 * got, of the mean. The status: 0 if all answers were right. */
int measure_crowd(int clients, long milliseconds, bool sockets);

#endif
