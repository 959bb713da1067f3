#include "pipe/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/identity.h"
#include "base/platform.h"
#include "base/socket.h"
#include "base/wait.h"

void np_say(char *why, const char *format, ...)
{
    if (!why)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, NP_WHY_SIZE, format, arguments);
    va_end(arguments);
}

static uint32_t code_of_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return NP_FILE_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP:
        return NP_ACCESS_DENIED;
    case EMFILE:
    case ENFILE:
        return NP_TOO_MANY_OPEN_FILES;
    case ENOMEM:
        return NP_NOT_ENOUGH_MEMORY;
    default:
        return NP_NO_SYSTEM_RESOURCES;
    }
}

/* Nobody else may put things into a folder that we rely on. The sticky bit makes a shared root possible:
 * there nobody can rename or remove what is another's. */
static bool trustworthy(const struct stat *status, bool may_be_shared)
{
    if (!np_is_user(status->st_uid, geteuid()) && status->st_uid != 0)
        return false;
    if (!(status->st_mode & (S_IWGRP | S_IWOTH)))
        return true;
    return may_be_shared && status->st_mode & S_ISVTX;
}

uint32_t np_root_open(const char *root, bool create, int *result, char *why)
{
    if (create && mkdir(root, 0700) != 0 && errno != EEXIST) {
        int error = errno;
        np_say(why, "the root folder %s cannot be made: %s\n%s", root, strerror(error),
               error == ENOENT ? "make the folder that it is in, or set NPIPE_ROOT to another one"
                               : "set NPIPE_ROOT to a folder of your own");
        return error == ENOENT ? NP_PATH_NOT_FOUND : code_of_errno(error);
    }
    struct stat named;
    if (lstat(root, &named) == 0 && S_ISLNK(named.st_mode) && !np_is_user(named.st_uid, geteuid()) &&
        named.st_uid != 0) {
        np_say(why, "the root folder %s is a symbolic link of uid %u\nset NPIPE_ROOT to a folder of your own", root,
               (unsigned)named.st_uid);
        return NP_ACCESS_DENIED;
    }
    np_fds_hold();
    int fd = np_fd_made(open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0) {
        if (errno != ENOENT || create)
            np_say(why, "the root folder %s cannot be opened: %s", root, strerror(errno));
        return errno == ENOTDIR ? NP_ACCESS_DENIED : code_of_errno(errno);
    }
    struct stat status;
    if (fstat(fd, &status) != 0 || !trustworthy(&status, true)) {
        np_say(why,
               "the root folder %s cannot be trusted: it belongs to uid %u with mode %04o\nit has to belong to you or "
               "root, and only they may write to it, or it needs the sticky bit",
               root, (unsigned)status.st_uid, (unsigned)status.st_mode & 07777);
        np_fd_close(fd);
        return NP_ACCESS_DENIED;
    }
    *result = fd;
    return NP_OK;
}

bool np_folder_try_lock(const struct np_folder *folder)
{
    int code;
    do
        code = flock(folder->lockfd, LOCK_EX | LOCK_NB);
    while (code != 0 && errno == EINTR);
    return code == 0 || errno != EWOULDBLOCK; /* where files cannot be locked at all one goes without */
}

#define LOCK_PATIENCE_NS INT64_C(3000000000)
#define FIRST_PAUSE_NS 50000
#define LONGEST_PAUSE_NS 10000000

uint32_t np_lock_pause(struct np_lock_wait *state, const struct np_wait *wait, char *why)
{
    int64_t now = np_now();
    if (state->since == 0)
        *state = (struct np_lock_wait){.since = now, .pause = FIRST_PAUSE_NS};
    if (wait && np_expired(wait)) {
        np_say(why, "another process has the lock of the pipe's folder");
        return NP_SEM_TIMEOUT;
    }
    if (now - state->since >= LOCK_PATIENCE_NS) {
        np_say(why, "another process has had the lock of the pipe's folder for %d seconds; it may be stopped",
               (int)(LOCK_PATIENCE_NS / 1000000000));
        return NP_NO_SYSTEM_RESOURCES;
    }
    if (wait && (np_cancelled(wait) || (wait->interrupted && wait->interrupted(wait->context))))
        return NP_INTERRUPTED;
    int64_t until = now + state->pause;
    if (wait && wait->deadline < until)
        until = wait->deadline;
    if (state->pause < LONGEST_PAUSE_NS)
        state->pause += state->pause / 2;
    _Atomic uint32_t nobody_moves_it = 0;
    /* A signal ends the pause, and is asked for before the next one, or by the call that has the lock then. */
    (void)np_futex_wait(&nobody_moves_it, 0, UINT32_MAX, until);
    return NP_OK;
}

void np_folder_unlock(const struct np_folder *folder)
{
    flock(folder->lockfd, LOCK_UN);
}

void np_folder_close(struct np_folder *folder)
{
    if (folder->page)
        munmap(folder->page, sizeof *folder->page);
    /* The lock belongs to the open file: a duplicate in a child would keep it beyond a close. */
    if (folder->lockfd >= 0)
        np_folder_unlock(folder);
    np_fd_close(folder->lockfd);
    np_fd_close(folder->dirfd);
    np_folder_forget(folder);
}

void np_folder_forget(struct np_folder *folder)
{
    *folder = (struct np_folder){.dirfd = -1, .lockfd = -1};
}

static struct npf_page *map_page(int fd)
{
    return np_segment_map(fd, sizeof(struct npf_page));
}

static int open_in(int dirfd, const char *name, int flags)
{
    np_fds_hold();
    return np_fd_made(openat(dirfd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600));
}

/* Whether the locked file is still the one in the folder, and the folder still the one below the root: another
 * owner may have removed both between our open and our lock. */
static bool still_there(int rootfd, const char *name, const struct np_folder *folder)
{
    struct stat locked, linked, opened, named;
    return fstat(folder->lockfd, &locked) == 0 && fstatat(folder->dirfd, "lock", &linked, AT_SYMLINK_NOFOLLOW) == 0 &&
           locked.st_ino == linked.st_ino && fstat(folder->dirfd, &opened) == 0 &&
           fstatat(rootfd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && opened.st_ino == named.st_ino;
}

/* Gives the page its memory now: the first touch of a hole in a file system that is full would be a SIGBUS. */
static int page_size(int fd)
{
    int error = np_file_resize(fd, sizeof(struct npf_page));
    if (error)
        return error;
    do
        error = posix_fallocate(fd, 0, sizeof(struct npf_page));
    while (error == EINTR);
    return error == EOPNOTSUPP || error == EINVAL ? 0 : error; /* not every file system can promise that */
}

static uint32_t enter(int rootfd, const char *name, bool shared, struct np_folder *folder, char *why)
{
    *folder = (struct np_folder){.dirfd = -1, .lockfd = -1};
    bool made = mkdirat(rootfd, name, 0700) == 0;
    if (!made && errno != EEXIST) {
        np_say(why, "the pipe's folder cannot be made: %s", strerror(errno));
        return code_of_errno(errno);
    }
    folder->dirfd = open_in(rootfd, name, O_RDONLY | O_DIRECTORY);
    if (folder->dirfd < 0) {
        if (errno == ENOENT)
            return NP_RETRY;
        np_say(why, "the pipe's folder cannot be opened: %s", strerror(errno));
        return errno == ENOTDIR ? NP_ACCESS_DENIED : code_of_errno(errno);
    }
    struct stat status;
    if (fstat(folder->dirfd, &status) != 0 || !np_is_user(status.st_uid, geteuid()) ||
        status.st_mode & (S_IWGRP | S_IWOTH)) {
        np_say(why, "the name is taken: its folder belongs to uid %u with mode %04o\nchoose another name",
               (unsigned)status.st_uid, (unsigned)status.st_mode & 07777);
        return NP_ACCESS_DENIED;
    }
    folder->lockfd = open_in(folder->dirfd, "lock", O_RDWR | O_CREAT);
    if (folder->lockfd < 0) {
        if (errno == ENOENT)
            return NP_RETRY; /* removed under us */
        np_say(why, "the pipe's folder cannot be locked: %s", strerror(errno));
        return code_of_errno(errno);
    }
    if (!np_folder_try_lock(folder))
        return NP_WOULD_WAIT;
    if (!still_there(rootfd, name, folder))
        return NP_RETRY;
    if (shared)
        fchmod(folder->dirfd, 0755);
    int fd = open_in(folder->dirfd, "pipe", O_RDWR | O_CREAT);
    int error = fd < 0 ? errno : page_size(fd);
    if (error) {
        np_say(why, "the pipe's page cannot be made: %s", strerror(error));
        np_fd_close(fd);
        return code_of_errno(error);
    }
    folder->page = map_page(fd);
    np_fd_close(fd);
    return folder->page ? NP_OK : NP_NOT_ENOUGH_MEMORY;
}

uint32_t np_folder_enter(const char *root, const char *name, bool shared, struct np_folder *folder, char *why)
{
    int rootfd = -1;
    uint32_t code = np_root_open(root, true, &rootfd, why);
    if (code != NP_OK)
        return code;
    do {
        /* Every repetition means that another process has made progress: it removed the folder. */
        code = enter(rootfd, name, shared, folder, why);
        if (code != NP_OK)
            np_folder_close(folder);
    } while (code == NP_RETRY);
    np_fd_close(rootfd);
    return code;
}

void np_socket_name(uint64_t id, char name[NPF_SOCKET_SIZE])
{
    snprintf(name, NPF_SOCKET_SIZE, "s%016llx", (unsigned long long)id);
}

bool np_socket_is_dead(int dirfd, const char *name)
{
    bool out = np_step_out(); /* a client might not get there, and the dead would live */
    int fd = np_socket_connect(dirfd, name, np_now());
    np_step_back(out);
    np_hang_up(fd);
    return fd == -ECONNREFUSED || fd == -ENOENT;
}

#define DYING_NS INT64_C(50000000) /* for all sockets of a folder */

bool np_socket_is_dying(int dirfd, const char *name, int64_t until, pid_t *owner)
{
    *owner = NP_UNKNOWN_PID;
    int fd = np_socket_connect(dirfd, name, np_now());
    if (fd == -ECONNREFUSED || fd == -ENOENT)
        return true;
    if (fd < 0)
        return false;
    /* The living wait for a request; the dead hang up. */
    bool hung_up = np_socket_wait(fd, until) == NP_OK;
    struct np_credentials who;
    if (!hung_up && np_peer_credentials(fd, false, &who) && who.pid > 0)
        *owner = who.pid;
    np_hang_up(fd);
    return hung_up;
}

void np_folder_bury(const struct np_folder *folder, uint64_t own_id)
{
    struct npf_page *page = folder->page;
    for (int i = 0; i < NPF_SLOTS; i++) {
        uint64_t id = atomic_load_explicit(&page->slot[i].id, memory_order_acquire);
        char name[NPF_SOCKET_SIZE];
        np_socket_name(id, name);
        if (id == 0 || id == own_id || !np_socket_is_dead(folder->dirfd, name))
            continue;
        bool out = np_step_out();
        unlinkat(folder->dirfd, name, 0);
        np_step_back(out);
        np_slot_leave(&page->slot[i], id);
    }
}

void np_slot_leave(struct npf_slot *slot, uint64_t id)
{
    /* Release, as whoever takes it next acquires. It may be another one's by now, if others have taken its owner for
     * dead. */
    atomic_compare_exchange_strong_explicit(&slot->id, &id, 0, memory_order_release, memory_order_relaxed);
}

static DIR *open_list(int dirfd)
{
    int fd = open_in(dirfd, ".", O_RDONLY | O_DIRECTORY);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list)
        np_fd_close(fd);
    return list;
}

static bool anybody_in(const struct np_folder *folder)
{
    for (int i = 0; i < NPF_SLOTS; i++)
        if (atomic_load_explicit(&folder->page->slot[i].id, memory_order_acquire))
            return true;
    return false;
}

bool np_folder_remove(const char *root, const char *name, const struct np_folder *folder)
{
    if (anybody_in(folder))
        return false;
    int rootfd = -1;
    if (np_root_open(root, false, &rootfd, NULL) != NP_OK)
        return false;
    bool gone = false;
    if (still_there(rootfd, name, folder)) {
        /* All of it: also sockets without a slot, drafts of those who died while making one. */
        DIR *list = open_list(folder->dirfd);
        if (list) {
            for (struct dirent *entry; (entry = readdir(list));)
                if (entry->d_name[0] == 's' || strncmp(entry->d_name, "draft-", 6) == 0)
                    unlinkat(folder->dirfd, entry->d_name, 0);
            np_fd_close_list(list);
        }
        unlinkat(folder->dirfd, "pipe", 0);
        unlinkat(folder->dirfd, "lock", 0); /* last: without it nobody else can be inside */
        gone = unlinkat(rootfd, name, AT_REMOVEDIR) == 0;
    }
    np_fd_close(rootfd);
    return gone;
}

enum np_swept np_folder_sweep(const char *root, const char *name, pid_t dying)
{
    struct np_folder folder = {.dirfd = -1, .lockfd = -1};
    int rootfd = -1;
    if (np_root_open(root, false, &rootfd, NULL) != NP_OK)
        return NP_SWEPT;
    folder.dirfd = open_in(rootfd, name, O_RDONLY | O_DIRECTORY);
    struct stat status;
    if (folder.dirfd >= 0 && fstat(folder.dirfd, &status) == 0 && np_is_user(status.st_uid, geteuid()))
        folder.lockfd = open_in(folder.dirfd, "lock", O_RDWR | O_CREAT);
    char names[NPF_SLOTS][NPF_SOCKET_SIZE];
    int64_t until = np_now() + DYING_NS; /* for all of them */
    uint32_t count = folder.lockfd >= 0 && dying ? np_folder_sockets(folder.dirfd, names, NPF_SLOTS) : 0;
    bool lives = false;
    for (uint32_t i = 0; i < count; i++) {
        pid_t owner;
        /* Gives it the time to be dead. */
        lives = (!np_socket_is_dying(folder.dirfd, names[i], until, &owner) && owner == dying) || lives;
    }
    bool locked = folder.lockfd < 0 || np_folder_try_lock(&folder);
    if (locked && folder.lockfd >= 0 && still_there(rootfd, name, &folder)) {
        int fd = open_in(folder.dirfd, "pipe", O_RDWR | O_CREAT);
        if (fd >= 0 && page_size(fd) == 0 && (folder.page = map_page(fd))) {
            np_folder_bury(&folder, 0);
            np_folder_remove(root, name, &folder);
        }
        np_fd_close(fd);
    }
    np_fd_close(rootfd);
    np_folder_close(&folder);
    return !locked ? NP_SWEEP_LOCKED : lives ? NP_SWEEP_DYING : NP_SWEPT;
}

uint32_t np_folder_look(const char *root, const char *name, int *dirfd, char *why)
{
    int rootfd = -1;
    uint32_t code = np_root_open(root, false, &rootfd, why);
    if (code != NP_OK)
        return code;
    *dirfd = open_in(rootfd, name, O_RDONLY | O_DIRECTORY);
    if (*dirfd < 0)
        code = errno == ENOTDIR || errno == ELOOP ? NP_ACCESS_DENIED : code_of_errno(errno);
    int error = errno;
    struct stat status;
    if (code == NP_ACCESS_DENIED && error == EACCES && fstatat(rootfd, name, &status, AT_SYMLINK_NOFOLLOW) == 0)
        np_say(why,
               "the pipe belongs to uid %u, and its security does not let this user in\n"
               "its server has to listen with a security that does (\"group:NAME\", \"everyone\", a Security)",
               (unsigned)status.st_uid);
    else if (code == NP_ACCESS_DENIED)
        np_say(why, "the pipe's folder may not be entered: %s", strerror(error));
    np_fd_close(rootfd);
    return code;
}

uint32_t np_folder_sockets(int dirfd, char (*names)[NPF_SOCKET_SIZE], uint32_t max)
{
    uint32_t count = 0;
    DIR *list = open_list(dirfd);
    if (!list)
        return 0;
    for (struct dirent *entry; count < max && (entry = readdir(list));)
        if (entry->d_name[0] == 's' && strlen(entry->d_name) == 17)
            memcpy(names[count++], entry->d_name, 18);
    np_fd_close_list(list);
    return count;
}
