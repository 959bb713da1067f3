/* The Win32 codes that pipes produce (SEMANTICS 0.1), and the engine's own results beside them.
 *
 * Every function of the engine that can fail returns one of these. */
#ifndef NPIPE_CODES_H
#define NPIPE_CODES_H

enum np_code {
    NP_OK = 0,
    NP_INVALID_FUNCTION = 1,
    NP_FILE_NOT_FOUND = 2,
    NP_PATH_NOT_FOUND = 3,
    NP_TOO_MANY_OPEN_FILES = 4,
    NP_ACCESS_DENIED = 5,
    NP_INVALID_HANDLE = 6,
    NP_NOT_ENOUGH_MEMORY = 8,
    NP_INVALID_DATA = 13,
    NP_INVALID_PARAMETER = 87,
    NP_IO_COMPLETION = 192, /* WAIT_IO_COMPLETION */
    NP_BROKEN_PIPE = 109,
    NP_SEM_TIMEOUT = 121,
    NP_INVALID_NAME = 123,
    NP_BAD_PIPE = 230,
    NP_PIPE_BUSY = 231,
    NP_NO_DATA = 232,
    NP_PIPE_NOT_CONNECTED = 233,
    NP_MORE_DATA = 234,
    NP_PIPE_CONNECTED = 535,
    NP_PIPE_LISTENING = 536,
    NP_ABANDONED_WAIT = 735,
    NP_OPERATION_ABORTED = 995,
    NP_IO_PENDING = 997,
    NP_NOT_FOUND = 1168,
    NP_REVISION_MISMATCH = 1306,
    NP_PRIVILEGE_NOT_HELD = 1314,
    NP_CANNOT_IMPERSONATE = 1368,
    NP_NO_SYSTEM_RESOURCES = 1450,

    /* Not Win32's: never handed to a user. */
    NP_WOULD_WAIT = 0x10001,  /* the operation cannot finish at once, and was asked only to try */
    NP_INTERRUPTED = 0x10002, /* the caller's interrupt callback asked to stop */
    NP_RETRY = 0x10003,       /* the pipe's owner or folder went away meanwhile: look again */
    NP_YIELD = 0x10004,       /* a step for an event loop has taken long enough: again in the loop's next turn */
};

/* Win32 constants in use. */
enum {
    NP_ACCESS_INBOUND = 1,
    NP_ACCESS_OUTBOUND = 2,
    NP_ACCESS_DUPLEX = 3,

    NP_MODE_NOWAIT = 1,
    NP_MODE_READ_MESSAGE = 2,
    NP_TYPE_MESSAGE = 4,

    NP_INFO_SERVER_END = 1,
    NP_UNLIMITED_INSTANCES = 255,
    NP_DEFAULT_TIMEOUT_MS = 50, /* what 0 means at creation (SEMANTICS 2.1) */

    NP_READ = 1,             /* access of an end: FILE_READ_DATA */
    NP_WRITE = 2,            /* FILE_WRITE_DATA */
    NP_READ_ATTRIBUTES = 4,  /* FILE_READ_ATTRIBUTES */
    NP_WRITE_ATTRIBUTES = 8, /* FILE_WRITE_ATTRIBUTES */
};

#endif
