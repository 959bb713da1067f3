/* The rendezvous within one process: creating, opening, waiting, listing, closing. */
#include <dirent.h>
#include <sched.h>

#include "pair.h"
#include "pipe/owner.h"
#include "pipe/remembered.h"
#include "pipe/sweep.h"

static char root[64];

static struct np_where where_of(const char *name)
{
    return (struct np_where){.root = root, .folder = name, .display = name};
}

static uint32_t create(const char *name, uint32_t max, bool first, struct np_handle **handle)
{
    struct np_where where = where_of(name);
    struct np_create_options options = {
        .access = NP_ACCESS_DUPLEX,
        .first_instance = first,
        .type = NP_TYPE_MESSAGE,
        .mode = NP_MODE_READ_MESSAGE,
        .max_instances = max,
        .out_quota = 1000,
        .in_quota = 1000,
        .rule = {.allowed = NP_READ | NP_WRITE},
    };
    char why[NP_WHY_SIZE] = "";
    return np_create(&where, &options, handle, why);
}

static uint32_t open_pipe(const char *name, int ms, struct np_handle **handle)
{
    struct np_where where = where_of(name);
    struct np_open_options options = {
        .access = NP_READ | NP_WRITE | NP_WRITE_ATTRIBUTES, .hold = ms > 0, .verify_owner = true};
    struct np_wait wait = ms > 0 ? for_ms(ms) : for_ever;
    return np_open(&where, &options, &wait, handle, NULL);
}

static uint32_t wait_pipe(const char *name, int ms)
{
    struct np_where where = where_of(name);
    struct np_wait wait = for_ms(ms);
    return np_wait_named(&where, false, &wait, NULL, NULL);
}

static int entries_in_root(void)
{
    DIR *list = opendir(root);
    int count = 0;
    CHECK(list);
    while (readdir(list))
        count++;
    closedir(list);
    return count - 2;
}

static void end(struct np_handle *handle)
{
    np_close(handle, false);
    np_free(handle);
}

static void a_name_lives_as_long_as_its_instances(void)
{
    struct np_handle *server, *client, *second;
    CHECK_EQUAL(open_pipe("LIFE", 10, &client), NP_FILE_NOT_FOUND);
    CHECK_EQUAL(create("LIFE", 255, true, &server), NP_OK);
    CHECK_EQUAL(create("LIFE", 255, true, &second), NP_ACCESS_DENIED);
    CHECK_EQUAL(open_pipe("LIFE", 1000, &client), NP_OK);
    CHECK_EQUAL(open_pipe("LIFE", 0, &second), NP_PIPE_BUSY);
    CHECK_EQUAL(open_pipe("LIFE", 5, &second), NP_SEM_TIMEOUT);
    CHECK_EQUAL(np_connect(server, &for_ever), NP_PIPE_CONNECTED);
    end(server);
    CHECK_EQUAL(open_pipe("LIFE", 10, &second), NP_FILE_NOT_FOUND);
    CHECK_EQUAL(entries_in_root(), 0);
    end(client);
}

static void the_limit_comes_before_everything_else(void)
{
    struct np_handle *one, *two, *three;
    CHECK_EQUAL(create("LIMIT", 2, true, &one), NP_OK);
    CHECK_EQUAL(create("LIMIT", 7, false, &two), NP_OK);
    CHECK_EQUAL(create("LIMIT", 7, true, &three), NP_PIPE_BUSY);
    end(two);
    CHECK_EQUAL(create("LIMIT", 7, false, &two), NP_OK);
    end(one);
    end(two);
}

static void a_disconnected_client_stays_so(void)
{
    struct np_handle *server, *client, *next;
    CHECK_EQUAL(create("GONE", 255, true, &server), NP_OK);
    CHECK_EQUAL(open_pipe("GONE", 1000, &client), NP_OK);
    CHECK_EQUAL(try_write(client, "lost", 4), NP_OK);
    CHECK_EQUAL(np_disconnect(server), NP_OK);
    CHECK_EQUAL(np_disconnect(server), NP_PIPE_NOT_CONNECTED);
    expect_read(client, 10, NP_PIPE_NOT_CONNECTED, "");
    struct np_wait soon = for_ms(1);
    CHECK_EQUAL(np_connect(server, &soon), NP_SEM_TIMEOUT); /* it listens again */
    CHECK_EQUAL(wait_pipe("GONE", 10), NP_OK);
    CHECK_EQUAL(open_pipe("GONE", 1000, &next), NP_OK);
    CHECK_EQUAL(try_write(next, "new", 3), NP_OK);
    expect_read(server, 10, NP_OK, "new");
    CHECK_EQUAL(try_write(client, "x", 1), NP_PIPE_NOT_CONNECTED);
    end(client);
    CHECK_EQUAL(try_write(server, "still", 5), NP_OK);
    end(next);
    CHECK_EQUAL(np_connect(server, &for_ever), NP_NO_DATA);
    end(server);
}

static void *hold_open(void *result)
{
    struct np_handle *handle = NULL;
    CHECK_EQUAL(open_pipe("HOLD", 20000, &handle), NP_OK);
    *(struct np_handle **)result = handle;
    return NULL;
}

static void a_held_open_gets_the_next_instance(void)
{
    struct np_handle *server, *first, *held = NULL, *second;
    CHECK_EQUAL(create("HOLD", 255, true, &server), NP_OK);
    CHECK_EQUAL(open_pipe("HOLD", 1000, &first), NP_OK);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, hold_open, &held) == 0);
    CHECK_EQUAL(wait_pipe("HOLD", 20), NP_SEM_TIMEOUT);
    CHECK_EQUAL(create("HOLD", 255, false, &second), NP_OK);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(held != NULL);
    end(held);
    end(first);
    end(server);
    end(second);
    CHECK_EQUAL(entries_in_root(), 0);
}

static void a_replaced_instance_leaves_no_gap(void)
{
    struct np_handle *server, *client, *fresh, *next;
    CHECK_EQUAL(create("SWAP", 1, true, &server), NP_OK);
    CHECK_EQUAL(open_pipe("SWAP", 1000, &client), NP_OK);
    CHECK_EQUAL(np_replace(server, false, &fresh), NP_OK);
    CHECK_EQUAL(open_pipe("SWAP", 1000, &next), NP_OK);
    expect_read(client, 1, NP_BROKEN_PIPE, "");
    CHECK_EQUAL(np_connect(fresh, &for_ever), NP_PIPE_CONNECTED);
    np_free(server);
    end(client);
    end(next);
    end(fresh);
}

/* What a signal's handler has raised while the thread was awake, so that no sleep was ended by it. */
static _Atomic int raised;

static int has_raised(void *context)
{
    (void)context;
    return atomic_load(&raised);
}

struct listening {
    struct np_handle *server;
    _Atomic pid_t thread;
    uint32_t code;
};

static void *listen_for_seconds(void *argument)
{
    struct listening *listening = argument;
    struct np_wait wait = for_ms(20000);
    wait.interrupted = has_raised;
    atomic_store(&listening->thread, gettid());
    listening->code = np_connect(listening->server, &wait);
    return NULL;
}

static void a_handler_that_raises_while_a_visitor_is_answered_ends_a_connect(void)
{
    struct listening listening = {.code = NP_OK};
    CHECK_EQUAL(create("VISIT", 255, true, &listening.server), NP_OK);
    pthread_t thread;
    pid_t id;
    CHECK(pthread_create(&thread, NULL, listen_for_seconds, &listening) == 0);
    while (!(id = atomic_load(&listening.thread)) || !sleeps(id))
        sched_yield();
    atomic_store(&raised, 1);
    CHECK_EQUAL(wait_pipe("VISIT", 10000), NP_OK); /* which that thread answers */
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(listening.code, NP_INTERRUPTED);
    end(listening.server);
}

struct race {
    struct np_handle *server;
    _Atomic int ready;
};

static void *blocked_connect(void *argument)
{
    struct race *race = argument;
    race->ready = 1;
    uint32_t code = np_connect(race->server, &for_ever);
    CHECK(code == NP_BROKEN_PIPE || code == NP_INVALID_HANDLE);
    return NULL;
}

static void a_close_ends_a_connect_that_waits(void)
{
    for (int i = 0; i < 500; i++) {
        struct race race = {0};
        CHECK_EQUAL(create("ABORT", 255, true, &race.server), NP_OK);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, blocked_connect, &race) == 0);
        while (!race.ready)
            np_pause();
        np_close(race.server, false);
        CHECK(pthread_join(thread, NULL) == 0);
        np_free(race.server);
    }
}

static int count_listing(void *context, const struct np_listing *pipe)
{
    CHECK(strcmp(pipe->name, "LISTED") == 0);
    CHECK_EQUAL(pipe->answer.instances, 2);
    (*(int *)context)++;
    return 1;
}

static void a_listing_tells_of_every_pipe(void)
{
    struct np_handle *one, *two;
    int count = 0;
    CHECK_EQUAL(create("LISTED", 255, true, &one), NP_OK);
    CHECK_EQUAL(create("LISTED", 255, false, &two), NP_OK);
    CHECK_EQUAL(np_list(root, count_listing, &count, &(struct np_wait){.deadline = NP_FOREVER}, NULL), NP_OK);
    CHECK_EQUAL(count, 1);
    end(one);
    end(two);
}

static uint32_t wait_for(struct np_object *object, int64_t deadline)
{
    struct np_wait wait = {.deadline = deadline};
    uint32_t index;
    bool abandoned;
    return np_wait_objects(&object, 1, false, false, &wait, &index, &abandoned);
}

static void an_object_that_follows_a_descriptor_is_signalled_for_good(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct np_follow follow = {.object = np_object_new(NP_OBJECT_FILE, true, false), .fd = ends[0]};
    CHECK_EQUAL(np_follow_begin(&follow), NP_OK);
    np_follow_look(&follow);
    CHECK_EQUAL(wait_for(follow.object, NP_TRY), NP_SEM_TIMEOUT);
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK_EQUAL(wait_for(follow.object, np_now() + INT64_C(20000000000)), NP_OK); /* the native thread's doing */
    CHECK_EQUAL(wait_for(follow.object, NP_TRY), NP_OK);
    np_follow_end(&follow);
    np_follow_end(&follow);
    np_object_unref(follow.object);
    /* Whoever looks need not wait for the native thread. */
    struct np_follow late = {.object = np_object_new(NP_OBJECT_FILE, true, false), .fd = ends[0]};
    np_follow_look(&late);
    CHECK_EQUAL(wait_for(late.object, NP_TRY), NP_OK);
    np_follow_end(&late);
    np_object_unref(late.object);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    strcpy(root, "/tmp/npipe-handles-XXXXXX");
    CHECK(mkdtemp(root));
    RUN(a_name_lives_as_long_as_its_instances);
    RUN(the_limit_comes_before_everything_else);
    RUN(a_disconnected_client_stays_so);
    RUN(a_held_open_gets_the_next_instance);
    RUN(a_replaced_instance_leaves_no_gap);
    RUN(a_close_ends_a_connect_that_waits);
    RUN(a_handler_that_raises_while_a_visitor_is_answered_ends_a_connect);
    RUN(a_listing_tells_of_every_pipe);
    RUN(an_object_that_follows_a_descriptor_is_signalled_for_good);
    CHECK(rmdir(root) == 0);
    return 0;
}
