#include "base/fds.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

uint32_t np_forks;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* A bit for each number. Guarded by the lock. */
static uint64_t *entered;
static size_t n_words;

void np_fds_hold(void)
{
    pthread_mutex_lock(&lock);
}

void np_fds_release(void)
{
    pthread_mutex_unlock(&lock);
}

bool np_fd_enter(int fd)
{
    size_t word = (size_t)fd / 64;
    if (word >= n_words) {
        size_t more = n_words ? n_words : 4;
        while (more <= word)
            more *= 2;
        uint64_t *larger = realloc(entered, more * sizeof *larger);
        if (!larger) {
            close(fd);
            return false;
        }
        memset(larger + n_words, 0, (more - n_words) * sizeof *larger);
        entered = larger;
        n_words = more;
    }
    entered[word] |= UINT64_C(1) << (fd % 64);
    return true;
}

int np_fd_made(int fd)
{
    int error = errno;
    if (fd >= 0 && !np_fd_enter(fd)) {
        fd = -1;
        error = ENOMEM;
    }
    np_fds_release();
    errno = error;
    return fd;
}

/* With the lock held: closing and forgetting are one step for a fork, and for whoever gets the number next. */
static void forget(int fd)
{
    size_t word = (size_t)fd / 64;
    if (word < n_words)
        entered[word] &= ~(UINT64_C(1) << (fd % 64));
}

void np_fd_close(int fd)
{
    if (fd < 0)
        return;
    np_fds_hold();
    forget(fd);
    close(fd);
    np_fds_release();
}

void np_fd_close_list(DIR *list)
{
    np_fds_hold();
    forget(dirfd(list));
    closedir(list);
    np_fds_release();
}

void np_hang_up(int fd)
{
    if (fd < 0)
        return;
    shutdown(fd, SHUT_RDWR);
    np_fd_close(fd);
}

void np_stop_listening(int fd)
{
    shutdown(fd, SHUT_RDWR);
    for (;;) {
        np_fds_hold();
        int visitor = np_fd_made(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (visitor < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (visitor < 0)
            return; /* no one is left; or no descriptors are: then they are told when the socket is closed */
        np_hang_up(visitor);
    }
}

void np_fds_after_fork(void)
{
    for (size_t word = 0; word < n_words; word++)
        while (entered[word]) {
            close((int)(word * 64) + __builtin_ctzll(entered[word]));
            entered[word] &= entered[word] - 1;
        }
    np_forks++;
    pthread_mutex_init(&lock, NULL); /* the thread that holds it is this one, under another number */
}
