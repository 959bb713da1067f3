#include <errno.h>
#include <string.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/codes.h"
#include "base/fds.h"
#include "base/platform.h"

_Thread_local int64_t np_slept;

int64_t np_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NP_SECOND_NS + now.tv_nsec;
}

int64_t np_wall_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * NP_SECOND_NS + now.tv_nsec;
}

uint32_t np_futex_wait(_Atomic uint32_t *word, uint32_t value, uint32_t bits, int64_t deadline)
{
    struct timespec until, *limit = NULL;
    if (deadline != NP_FOREVER) {
        if (deadline < 0)
            deadline = 0;
        until = (struct timespec){.tv_sec = deadline / NP_SECOND_NS, .tv_nsec = deadline % NP_SECOND_NS};
        limit = &until;
    }
    int64_t began = np_now();
    /* FUTEX_WAIT_BITSET takes an absolute monotonic time. Not FUTEX_PRIVATE: the word may be shared. The kernel reads
     * the word behind a full barrier, and a wake has one before it looks for sleepers. */
    int error = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, limit, NULL, bits) == 0 ? 0 : errno;
    np_slept += np_now() - began;
    if (error == 0 || error == EAGAIN)
        return NP_OK;
    return error == ETIMEDOUT ? NP_SEM_TIMEOUT : NP_INTERRUPTED;
}

int64_t np_thread_number(void)
{
    return syscall(SYS_gettid);
}

struct np_usage np_thread_usage(void)
{
    struct rusage usage;
    struct timespec cpu; /* rusage has the times too, but counts them in ticks */
    if (getrusage(RUSAGE_THREAD, &usage) != 0 || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu) != 0)
        return (struct np_usage){0};
    return (struct np_usage){.cpu = cpu.tv_sec * NP_SECOND_NS + cpu.tv_nsec, .involuntary = usage.ru_nivcsw};
}

/* ---- Who is who */

/* Asked before each sleep, of which two system calls would be a good part. In a child the thread that forked is the
 * first one. */
static _Thread_local enum { NOT_ASKED, FIRST_THREAD, ANOTHER_THREAD } which_thread;

static void ask_again(void)
{
    which_thread = NOT_ASKED;
}

static void ask_again_after_fork(void)
{
    pthread_atfork(NULL, NULL, ask_again);
}

bool np_on_first_thread(void)
{
    static pthread_once_t hook = PTHREAD_ONCE_INIT;
    if (which_thread == NOT_ASKED) {
        pthread_once(&hook, ask_again_after_fork);
        which_thread = np_thread_number() == getpid() ? FIRST_THREAD : ANOTHER_THREAD;
    }
    return which_thread == FIRST_THREAD;
}

void np_yield(void)
{
    sched_yield();
}

uint32_t np_processors(void)
{
    static _Atomic uint32_t known; /* relaxed: every thread that asks finds the same */
    uint32_t count = atomic_load_explicit(&known, memory_order_relaxed);
    if (!count) {
        cpu_set_t set;
        count = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : CPU_SETSIZE;
        atomic_store_explicit(&known, count, memory_order_relaxed);
    }
    return count;
}

void np_futex_wake(_Atomic uint32_t *word, uint32_t bits)
{
    syscall(SYS_futex, word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, bits);
}

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int np_file_resize(int fd, uint64_t size)
{
    /* The signal goes to this thread only: kept back, and taken away again if it came now. */
    sigset_t beyond, before, pending;
    sigemptyset(&beyond);
    sigaddset(&beyond, SIGXFSZ);
    bool kept = pthread_sigmask(SIG_BLOCK, &beyond, &before) == 0;
    bool was_pending = kept && sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ);
    int error = ftruncate(fd, (off_t)size) != 0 ? errno : 0;
    if (error == EFBIG && kept && !was_pending) {
        const struct timespec at_once = {0};
        while (sigtimedwait(&beyond, NULL, &at_once) < 0 && errno == EINTR)
            ;
    }
    if (kept)
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

uint64_t np_descriptor_limit(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}

/* memfd_create and getrandom by their numbers: the C library may be older than the kernel (glibc before 2.27). */
int np_memory_create(const char *name)
{
    np_fds_hold();
    return np_fd_made((int)syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
}

int np_segment_create(uint64_t size)
{
    int fd = np_memory_create("npipe-link");
    if (fd < 0)
        return -1;
    int error = np_file_resize(fd, size);
    if (error == 0 && fcntl(fd, F_ADD_SEALS, SEALS) != 0)
        error = errno;
    if (error) {
        np_fd_close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

uint64_t np_segment_check(int fd)
{
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
        return 0; /* a segment that could be cut short under us would be a SIGBUS at the peer's will */
    if (seals & F_SEAL_WRITE || fstat(fd, &status) != 0 || status.st_size <= 0)
        return 0;
    return (uint64_t)status.st_size;
}

void *np_segment_map(int fd, uint64_t size)
{
    np_fds_hold(); /* a fork comes before both steps, or after them */
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    /* A forked child does not get it: two processes must never act as one side. So nothing is unmapped there, not even
     * what a thread had in its hands that is not there. */
    if (map != MAP_FAILED)
        (void)madvise(map, size, MADV_DONTFORK);
    np_fds_release();
    return map == MAP_FAILED ? NULL : map;
}

void *np_segment_map_twice(void *part, uint64_t size)
{
    uint8_t *map = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    /* An old size of 0: the shared pages are mapped once more, and stay where they are (mremap(2)). Emulators may not
     * know that. */
    for (int i = 0; i < 2; i++)
        if (mremap(part, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, map + i * size) == MAP_FAILED) {
            munmap(map, 2 * size);
            return NULL;
        }
    if (madvise(map, 2 * size, MADV_DOFORK) != 0) {
        munmap(map, 2 * size);
        return NULL;
    }
    return map;
}

struct np_pages np_pages_copy(const void *place, uint64_t size)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)place & ~(page - 1), end = ((uintptr_t)place + size + page - 1) & ~(page - 1);
    void *copy = mmap(NULL, end - begin, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return (struct np_pages){0};
    memcpy(copy, (const void *)begin, end - begin);
    return (struct np_pages){copy, (void *)begin, end - begin};
}

bool np_pages_put(struct np_pages *pages)
{
    /* In one step: who looks meanwhile sees the one or the other. */
    if (mremap(pages->copy, pages->size, pages->size, MREMAP_MAYMOVE | MREMAP_FIXED, pages->place) == MAP_FAILED)
        return false;
    pages->copy = NULL;
    return true;
}

void np_pages_drop(struct np_pages *pages)
{
    if (pages->copy)
        munmap(pages->copy, pages->size);
    pages->copy = NULL;
}

void np_segment_unmap(void *map, uint64_t size)
{
    munmap(map, size);
}

void np_segment_discard(void *place, uint64_t size)
{
    (void)madvise(place, size, MADV_REMOVE);
}

uint64_t np_random(void)
{
    uint64_t value = 0;
    if (syscall(SYS_getrandom, &value, sizeof value, 0) != (long)sizeof value)
        value = (uint64_t)np_now() * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)getpid();
    return value;
}
