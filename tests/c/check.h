/* A test is a function; a failed check says where and ends the program. */
#ifndef NPIPE_CHECK_H
#define NPIPE_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

#define CHECK_EQUAL(got, expected)                                                                                 \
    do {                                                                                                           \
        unsigned long long got_value = (unsigned long long)(got);                                                  \
        unsigned long long expected_value = (unsigned long long)(expected);                                        \
        if (got_value != expected_value) {                                                                         \
            fprintf(stderr, "%s:%d: %s is %llu, not %llu\n", __FILE__, __LINE__, #got, got_value, expected_value); \
            abort();                                                                                               \
        }                                                                                                          \
    } while (0)

#define RUN(test)              \
    do {                       \
        printf("%s\n", #test); \
        fflush(stdout);        \
        alarm(deadline(60));   \
        test();                \
    } while (0)

/* Seconds after which a test counts as hung. Where every instruction takes many times as long (memcheck, an emulated
 * processor), NPIPE_TEST_PATIENCE says how many times. */
static inline unsigned deadline(unsigned seconds)
{
    const char *patience = getenv("NPIPE_TEST_PATIENCE");
    return patience ? seconds * (unsigned)atoi(patience) : seconds;
}

/* Whether an emulator makes the system calls. qemu's makes room for twice the descriptors that a recvmsg has room for,
 * and leaves open those that it does not hand on. */
static inline bool is_emulated(void)
{
    return getenv("NPIPE_TEST_EMULATED") != NULL;
}

static inline void fill_pattern(unsigned char *data, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)((seed * 31 + i * 7 + (i >> 8)) % 251);
}

/* Whether the kernel has put the thread to sleep. */
static inline bool sleeps(pid_t thread)
{
    char path[64], text[256] = {0};
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    const char *name_end = strrchr(text, ')');
    return size && name_end && name_end[2] == 'S';
}

/* xorshift: the same numbers on every machine. */
static inline unsigned next_random(unsigned long long *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (unsigned)(*state >> 32);
}

#endif
