/* The engine's interface: what the binding, the benchmarks and a program in C include. The folders are layers, the
 * lowest first:
 *
 *   base        codes, the operating system, waiting
 *   channel     the shared memory of a connection whose ends several processes may hold
 *   process     the process's own state and its native thread
 *   ring        segments, links, the two sides of a ring
 *   handle      handles, objects, the steps of reads and writes
 *   overlapped  overlapped operations
 *   blocking    reads and writes that wait
 *   pipe        names, instances, owners: how the two ends of a pipe find each other
 *   poll        all of it for event loops
 *   travel      handles that go from one process to another
 *   service     what the native thread does; forks; the end of the process
 *
 * A file includes, and calls, what stands in its own folder or below (scripts/check_layers.py). */
#ifndef NPIPE_ENGINE_H
#define NPIPE_ENGINE_H

#include "base/status.h"
#include "base/turn.h"
#include "blocking/read.h"
#include "blocking/view.h"
#include "blocking/write.h"
#include "channel/channel.h"
#include "handle/acceptor.h"
#include "handle/follow.h"
#include "handle/handle.h"
#include "handle/objects.h"
#include "overlapped/cancel.h"
#include "overlapped/drive.h"
#include "overlapped/operation.h"
#include "overlapped/start.h"
#include "overlapped/wait.h"
#include "pipe/accept.h"
#include "pipe/ask.h"
#include "pipe/close.h"
#include "pipe/create.h"
#include "pipe/dial.h"
#include "pipe/instances.h"
#include "pipe/open.h"
#include "pipe/owner.h"
#include "pipe/query.h"
#include "pipe/report.h"
#include "pipe/room.h"
#include "pipe/rule.h"
#include "pipe/state.h"
#include "poll/accept.h"
#include "poll/dial.h"
#include "poll/read.h"
#include "poll/view.h"
#include "poll/write.h"
#include "process/process.h"
#include "ring/tap.h"
#include "travel/lend.h"
#include "travel/passport.h"

#endif
