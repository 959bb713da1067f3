/* What ends, ends for all duplicates. The children here are made by the bare system call, which no handler knows of, so
 * they keep every descriptor: only what acts on the connection or the lock itself is seen. Then a real fork, whose
 * child keeps none. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fds.h"
#include "base/platform.h"
#include "base/socket.h"
#include "pair.h"
#include "pipe/owner.h"
#include "pipe/remembered.h"
#include "pipe/sweep.h"

static char root[64];

static struct np_where where_of(const char *name)
{
    return (struct np_where){.root = root, .folder = name, .display = name};
}

static struct np_handle *listen_to(const char *name)
{
    struct np_where where = where_of(name);
    struct np_create_options options = {
        .access = NP_ACCESS_DUPLEX,
        .type = NP_TYPE_MESSAGE,
        .mode = NP_MODE_READ_MESSAGE,
        .max_instances = 1,
        .out_quota = 1000,
        .in_quota = 1000,
        .rule = {.allowed = NP_READ | NP_WRITE},
    };
    struct np_handle *handle;
    CHECK_EQUAL(np_create(&where, &options, &handle, NULL), NP_OK);
    return handle;
}

static const struct np_open_options both_rights = {.access = NP_READ | NP_WRITE | NP_WRITE_ATTRIBUTES, .hold = true};

static uint32_t dial(const char *name, int ms, struct np_handle **handle)
{
    struct np_where where = where_of(name);
    struct np_wait wait = for_ms(ms);
    return np_open(&where, &both_rights, &wait, handle, NULL);
}

/* A duplicate of everything, for as long as it lives. */
static pid_t duplicate_all(void)
{
    pid_t pid = (pid_t)syscall(SYS_clone, (unsigned long)SIGCHLD, 0UL, 0UL, 0UL, 0UL);
    if (pid == 0)
        for (;;)
            syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
    CHECK(pid > 0);
    return pid;
}

static void end_duplicate(pid_t pid)
{
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK(waitpid(pid, NULL, 0) == pid);
}

static bool soon(bool (*so)(const void *), const void *what)
{
    for (int64_t end = np_now() + INT64_C(3000000000); np_now() < end; np_yield())
        if (so(what))
            return true;
    return false;
}

static uint32_t held(void)
{
    pthread_mutex_lock(&np_process.lock);
    uint32_t count = atomic_load(&np_process.pipes->slot->waiters);
    pthread_mutex_unlock(&np_process.lock);
    return count;
}

static bool one_is_held(const void *unused)
{
    (void)unused;
    return held() == 1;
}

static bool none_is_held(const void *unused)
{
    (void)unused;
    return held() == 0;
}

static void end(struct np_handle *handle)
{
    np_close(handle, false);
    np_free(handle);
}

struct request {
    bool open;
    uint32_t code;
};

static void *request_for_a_moment(void *argument)
{
    struct request *request = argument;
    struct np_where where = where_of("FORKED");
    struct np_wait wait = for_ms(500);
    struct np_handle *handle;
    request->code = request->open ? np_open(&where, &both_rights, &wait, &handle, NULL)
                                  : np_wait_named(&where, false, &wait, NULL, NULL);
    return NULL;
}

static void a_request_that_is_withdrawn_is_not_held_any_longer(void)
{
    struct np_handle *server = listen_to("FORKED"), *client;
    CHECK_EQUAL(dial("FORKED", 1000, &client), NP_OK);
    for (int open = 0; open < 2; open++) {
        struct request request = {.open = open};
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, request_for_a_moment, &request) == 0);
        CHECK(soon(one_is_held, NULL));
        pid_t duplicate = duplicate_all();
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK_EQUAL(request.code, NP_SEM_TIMEOUT);
        CHECK(soon(none_is_held, NULL));
        end_duplicate(duplicate);
    }
    struct np_where where = where_of("FORKED");
    struct np_dial *step = np_dial_new(&where, NPW_OPEN, &both_rights, NP_FOREVER, false);
    while (!step->held)
        CHECK_EQUAL(np_dial_poll(step, NULL), NP_IO_PENDING);
    CHECK_EQUAL(held(), 1);
    pid_t duplicate = duplicate_all();
    np_dial_free(step);
    CHECK(soon(none_is_held, NULL));
    end_duplicate(duplicate);
    end(client);
    end(server);
}

static bool hung_up(const void *what)
{
    const struct np_handle *handle = what;
    return np_socket_hung_up(handle->link->socket);
}

static void a_close_is_told_at_once(void)
{
    for (int how = 0; how < 3; how++) {
        struct np_handle *server = listen_to("FORKED"), *client;
        CHECK_EQUAL(dial("FORKED", 1000, &client), NP_OK);
        CHECK_EQUAL(np_connect(server, &for_ever), NP_PIPE_CONNECTED);
        pid_t duplicate = duplicate_all();
        if (how == 0)
            np_close(client, false);
        else if (how == 1)
            np_close(server, false);
        else
            CHECK_EQUAL(np_disconnect(server), NP_OK);
        CHECK(soon(hung_up, how == 0 ? server : client));
        end_duplicate(duplicate);
        end(client);
        end(server);
    }
}

static bool readable(const void *what)
{
    return np_socket_readable(*(const int *)what);
}

static void a_listener_that_is_closed_hangs_up_and_refuses(void)
{
    struct np_handle *server = listen_to("FORKED");
    char path[128], name[NPF_SOCKET_SIZE];
    np_socket_name(np_process.pipes->id, name);
    snprintf(path, sizeof path, "%s/FORKED/%s", root, name);
    pthread_mutex_lock(&np_process.lock); /* so the native thread does not accept: it stays in the backlog */
    int in_backlog = np_socket_connect_path(path, NP_FOREVER);
    CHECK(in_backlog >= 0);
    char other[192];
    snprintf(other, sizeof other, "%s/another-name", root);
    CHECK(link(path, other) == 0); /* a name that stays */
    pid_t duplicate = duplicate_all();
    pthread_mutex_unlock(&np_process.lock);
    end(server);
    CHECK(soon(readable, &in_backlog));
    CHECK_EQUAL(np_socket_connect_path(other, np_now()), -ECONNREFUSED);
    np_hang_up(in_backlog);
    end_duplicate(duplicate);
    CHECK(unlink(other) == 0);
}

static void a_folder_that_is_left_is_not_locked(void)
{
    struct np_folder folder, again;
    CHECK_EQUAL(np_folder_enter(root, "LOCKED", false, &folder, NULL), NP_OK);
    CHECK_EQUAL(np_folder_enter(root, "LOCKED", false, &again, NULL), NP_WOULD_WAIT);
    pid_t duplicate = duplicate_all();
    np_folder_close(&folder);
    CHECK_EQUAL(np_folder_enter(root, "LOCKED", false, &again, NULL), NP_OK);
    CHECK(np_folder_remove(root, "LOCKED", &again));
    np_folder_close(&again);
    end_duplicate(duplicate);
}

/* ---- A real fork */

static int open_descriptors(void)
{
    int count = 0;
    DIR *list = opendir("/proc/self/fd");
    CHECK(list);
    while (readdir(list))
        count++;
    closedir(list);
    return count;
}

static int at_first; /* before anything was done */

static void a_child_has_nothing_that_was_in_somebodys_hands(void)
{
    const struct np_link_shape shape = {
        .type = NP_TYPE_MESSAGE, .direction = NP_ACCESS_DUPLEX, .quota = {1, 1}, .server_pid = 1};
    struct np_handle *server = listen_to("FORKED"), *client;
    CHECK_EQUAL(dial("FORKED", 1000, &client), NP_OK);
    /* As a thread has them for a moment: */
    struct np_link *link;
    struct np_folder folder;
    int segment, rootfd;
    CHECK_EQUAL(np_link_create(&shape, &link, &segment), NP_OK);
    CHECK_EQUAL(np_root_open(root, false, &rootfd, NULL), NP_OK);
    CHECK_EQUAL(np_folder_enter(root, "LOCKED", false, &folder, NULL), NP_OK);
    struct np_where where = where_of("FORKED");
    struct np_dial *step = np_dial_new(&where, NPW_OPEN, &both_rights, NP_FOREVER, false);
    while (!step->held)
        CHECK_EQUAL(np_dial_poll(step, NULL), NP_IO_PENDING);
    struct np_acceptor *acceptor = np_acceptor_new();
    CHECK(acceptor);
    pid_t child = fork();
    if (child == 0) {
        alarm(deadline(20));
        CHECK_EQUAL(np_forks, 1);
        CHECK_EQUAL(open_descriptors(), at_first);
        int mine[8];
        for (int i = 0; i < 8; i++)
            CHECK((mine[i] = open("/dev/null", O_RDONLY)) >= 0); /* which have the numbers of what was closed */
        CHECK_EQUAL(np_link_condition(link), NP_INVALID_HANDLE);
        np_link_unref(link);
        np_dial_free(step);
        np_acceptor_free(acceptor);
        np_free(client);
        np_free(server);
        for (int i = 0; i < 8; i++)
            CHECK(fcntl(mine[i], F_GETFD) >= 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(np_forks, 0);
    np_acceptor_free(acceptor);
    np_dial_free(step);
    CHECK(np_folder_remove(root, "LOCKED", &folder));
    np_folder_close(&folder);
    np_fd_close(rootfd);
    np_fd_close(segment);
    np_link_unref(link);
    end(client);
    end(server);
}

/* ---- Descriptors beyond what the table has room for at first */

static void descriptors_of_any_number_are_remembered(void)
{
    static const int numbers[] = {255, 256, 300, 700};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        np_fds_hold();
        CHECK_EQUAL(np_fd_made(fcntl(0, F_DUPFD_CLOEXEC, numbers[i])), numbers[i]);
    }
    pid_t child = fork();
    if (child == 0) {
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
            CHECK(fcntl(numbers[i], F_GETFD) < 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        np_fd_close(numbers[i]);
        CHECK(fcntl(numbers[i], F_GETFD) < 0);
    }
    np_fds_hold();
    CHECK_EQUAL(np_fd_made(-1), -1);
}

/* ---- A segment that another thread is just mapping */

static atomic_bool maps_on;

static void *map_again_and_again(void *argument)
{
    int fd = *(const int *)argument;
    while (atomic_load(&maps_on)) {
        void *map = np_segment_map(fd, 1 << 16);
        CHECK(map != NULL);
        np_segment_unmap(map, 1 << 16);
    }
    return NULL;
}

static bool has_segment(void)
{
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps))
        found = found || strstr(line, "memfd:npipe-link");
    return !maps || found;
}

static void a_child_has_no_segment_that_is_just_mapped(void)
{
    int fd = np_segment_create(1 << 16);
    CHECK(fd >= 0);
    pthread_t thread;
    atomic_store(&maps_on, true);
    CHECK(pthread_create(&thread, NULL, map_again_and_again, &fd) == 0);
    for (int i = 0; i < 300; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(has_segment());
        int status;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK_EQUAL(status, 0);
    }
    atomic_store(&maps_on, false);
    pthread_join(thread, NULL);
    np_fd_close(fd);
}

int main(void)
{
    snprintf(root, sizeof root, "/tmp/npipe-forks-%d", (int)getpid());
    at_first = open_descriptors();
    RUN(a_request_that_is_withdrawn_is_not_held_any_longer);
    RUN(a_close_is_told_at_once);
    RUN(a_listener_that_is_closed_hangs_up_and_refuses);
    RUN(a_folder_that_is_left_is_not_locked);
    RUN(a_child_has_nothing_that_was_in_somebodys_hands);
    RUN(descriptors_of_any_number_are_remembered);
    RUN(a_child_has_no_segment_that_is_just_mapped);
    CHECK(rmdir(root) == 0);
    return 0;
}
