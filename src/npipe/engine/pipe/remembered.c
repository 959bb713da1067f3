#include "pipe/remembered.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipe/directory.h"

/* The socket of the last pipe that was opened and had one owner: programs open the same pipe again and again, and
 * finding it costs more than asking. Root and folder were found trustworthy when they were looked up. In a root that is
 * not `private` the folder may be somebody else's by now, and is looked at again; whatever else may have become of it,
 * the pipe's id tells. */
static struct {
    pthread_mutex_t lock;
    char *root, *folder, *path;
    bool private;
    uint32_t pipe_id;
    uid_t uid; /* as whom the thread acted that found them trustworthy */
} remembered = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* With its lock held. */
static void forget_remembered(void)
{
    free(remembered.root);
    free(remembered.folder);
    free(remembered.path);
    remembered.root = remembered.folder = remembered.path = NULL;
}

void np_dial_hold(void)
{
    pthread_mutex_lock(&remembered.lock);
}

void np_dial_release(void)
{
    pthread_mutex_unlock(&remembered.lock);
}

void np_dial_forget(void)
{
    forget_remembered(); /* in a forked child: held over the fork, so nobody was in the middle of it */
    pthread_mutex_init(&remembered.lock, NULL);
}

void np_remember(const struct np_where *where, const char *socket, uint32_t pipe_id)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s/%s", where->root, where->folder, socket);
    if (where->root[0] != '/' || length < 0 || (size_t)length >= sizeof path)
        return; /* a relative root may be another one next time */
    pthread_mutex_lock(&remembered.lock);
    forget_remembered();
    remembered.root = strdup(where->root);
    remembered.folder = strdup(where->folder);
    remembered.path = strdup(path);
    remembered.pipe_id = pipe_id;
    remembered.uid = geteuid();
    struct stat root;
    remembered.private = stat(where->root, &root) == 0 && !(root.st_mode & (S_IWGRP | S_IWOTH));
    if (!remembered.root || !remembered.folder || !remembered.path)
        forget_remembered();
    pthread_mutex_unlock(&remembered.lock);
}

void np_remember_nothing(void)
{
    pthread_mutex_lock(&remembered.lock);
    forget_remembered();
    pthread_mutex_unlock(&remembered.lock);
}

static bool folder_of_socket(const char *path, struct stat *folder)
{
    char place[NP_REMEMBERED_SIZE];
    strcpy(place, path);
    char *slash = strrchr(place, '/');
    if (slash)
        *slash = 0;
    return slash && lstat(place, folder) == 0;
}

bool np_remembered(const struct np_where *where, struct np_remembered *found)
{
    bool private = false, known = false;
    pthread_mutex_lock(&remembered.lock);
    if (remembered.root && strcmp(remembered.root, where->root) == 0 && strcmp(remembered.folder, where->folder) == 0 &&
        remembered.uid == geteuid() && strlen(remembered.path) < sizeof found->path) {
        strcpy(found->path, remembered.path);
        found->pipe_id = remembered.pipe_id;
        private = remembered.private;
        known = true;
    }
    pthread_mutex_unlock(&remembered.lock);
    struct stat folder;
    if (known)
        found->folder_uid = private ? 0 : folder_of_socket(found->path, &folder) ? folder.st_uid : (uid_t)-1;
    return known;
}
