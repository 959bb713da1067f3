#include "channel/holder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fds.h"

#define FIRST_TIME UINT32_C(0xeffffffa) /* the inode of the namespace of times in which the machine has started */

/* Whether /proc is that of this process's own numbers: after an unshare it may be another namespace's. */
static bool has_own_proc(void)
{
    char link[16];
    ssize_t length = readlink("/proc/self", link, sizeof link - 1);
    if (length <= 0)
        return false;
    link[length] = 0;
    return strtol(link, NULL, 10) == (long)getpid();
}

/* What stands behind the name in a stat file of /proc, which may have anything in it: from the state on. NULL: there is
 * none. */
static const char *read_stat(const char *path, char *text, size_t size)
{
    np_fds_hold();
    int fd = np_fd_made(open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0)
        return NULL;
    ssize_t length = read(fd, text, size - 1);
    np_fd_close(fd);
    if (length <= 0)
        return NULL;
    text[length] = 0;
    const char *behind = strrchr(text, ')');
    return behind && behind[1] == ' ' ? behind + 2 : NULL;
}

uint32_t np_birth(pid_t process)
{
    char path[64], text[1024];
    if (!has_own_proc())
        return 0;
    /* The first thread's is the process's. (Of /proc/PID/stat qemu's user mode makes one of its own, in which each
     * thread finds another time.) */
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)process, (int)process);
    const char *field = read_stat(path, text, sizeof text);
    for (int i = 3; field && i < 22; i++) { /* the state is the third one, and this the 22nd */
        field = strchr(field, ' ');
        field = field ? field + 1 : NULL;
    }
    if (!field || *field < '0' || *field > '9')
        return 0;
    return (uint32_t)(strtoull(field, NULL, 10) % NPC_MOST_BIRTH) + 1;
}

uint64_t np_numbers_namespace(void)
{
    struct stat numbers, times;
    if (stat("/proc/self/ns/pid", &numbers) != 0)
        return 0;
    /* Both inodes are of 32 bits. Where there is but one namespace of times, or none such, the word is the other one's
     * alone. */
    uint64_t time = stat("/proc/self/ns/time", &times) == 0 ? (uint64_t)times.st_ino : FIRST_TIME;
    return (uint64_t)numbers.st_ino | (time == FIRST_TIME ? 0 : time << 32);
}

/* Whether the process has a descriptor of the socket. */
static bool has_socket(pid_t process, int socket)
{
    struct stat status;
    char path[32], wanted[40], link[40];
    if (fstat(socket, &status) != 0)
        return false;
    (void)snprintf(wanted, sizeof wanted, "socket:[%llu]", (unsigned long long)status.st_ino);
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)process);
    np_fds_hold();
    int fd = np_fd_made(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return false;
    DIR *list = fdopendir(fd);
    if (!list) {
        np_fd_close(fd);
        return false;
    }
    bool has = false;
    const struct dirent *entry;
    while (!has && (entry = readdir(list))) {
        ssize_t length = readlinkat(fd, entry->d_name, link, sizeof link - 1);
        if (length > 0) {
            link[length] = 0;
            has = strcmp(link, wanted) == 0;
        }
    }
    np_fd_close_list(list);
    return has;
}

bool np_is_stopped_sibling(pid_t process, pid_t thread, int socket)
{
    char path[64], text[1024];
    if (!has_own_proc())
        return false;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)process, (int)thread);
    const char *state = read_stat(path, text, sizeof text);
    return state && (*state == 'T' || *state == 't') && has_socket(process, socket);
}
