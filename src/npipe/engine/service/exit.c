#include <stdlib.h>

#include "base/codes.h"
#include "base/identity.h"
#include "base/platform.h"
#include "base/wait.h"
#include "process/process.h"
#include "pipe/close.h"
#include "pipe/directory.h"
#include "pipe/instances.h"
#include "pipe/sweep.h"

#define EXIT_PATIENCE_NS INT64_C(300000000) /* for the locks of all folders: who holds one may be stopped */

/* Tries until then, and takes away what is left of a pipe of this process's. */
static void remove_folder(const struct np_pipe *pipe, const struct np_wait *until)
{
    struct np_lock_wait state = {0};
    while (!np_folder_try_lock(&pipe->files))
        if (np_lock_pause(&state, until, NULL) != NP_OK)
            return; /* whoever comes next to the name cleans up */
    np_folder_bury(&pipe->files, 0);
    np_folder_remove(pipe->root, pipe->folder, &pipe->files);
    np_folder_unlock(&pipe->files);
}

static void remove_pipes_at_exit(void)
{
    /* Not the locks: another thread may be stopped in the middle of anything by now, and the process goes away. */
    if (!np_process.running)
        return;
    bool out = np_step_out();
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next)
        np_pipe_vacate(pipe);
    const struct np_wait until = {.deadline = np_now() + EXIT_PATIENCE_NS};
    for (struct np_pipe *pipe = np_process.pipes; pipe; pipe = pipe->next)
        remove_folder(pipe, &until);
    struct np_sweep *sweeps = NULL;
    if (pthread_mutex_trylock(&np_process.lock) == 0) {
        sweeps = np_process.sweeps;
        np_process.sweeps = NULL;
        pthread_mutex_unlock(&np_process.lock);
    }
    while (sweeps) {
        struct np_sweep *sweep = sweeps;
        sweeps = sweep->next;
        np_folder_sweep(sweep->root, sweep->folder, 0);
        np_sweep_free(sweep);
    }
    np_step_back(out);
}

/* From the start: whoever makes pipes is to leave nothing behind. */
/* 101: before the constructors of the program, which may use pipes. */
__attribute__((constructor(101))) static void install_hook(void)
{
    atexit(remove_pipes_at_exit);
}
