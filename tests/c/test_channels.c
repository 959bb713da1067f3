/* Channels: content from threads that share an end, and an end whose memory somebody else scribbles into. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine.h"
#include "channel/holder.h"

#include "check.h"

struct ends {
    struct np_channel first, second;
    int fds[5];
};

static void make(struct ends *ends)
{
    int sockets[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) == 0);
    int segment = np_segment_create(NPC_SIZE);
    int events[2] = {eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK)};
    CHECK(segment >= 0 && events[0] >= 0 && events[1] >= 0);
    CHECK_EQUAL(np_channel_attach(&ends->first, segment, sockets[0], events[0], events[1], 0), NP_OK);
    CHECK_EQUAL(np_channel_attach(&ends->second, segment, sockets[1], events[0], events[1], 1), NP_OK);
    memcpy(ends->fds, (int[]){sockets[0], sockets[1], events[0], events[1], segment}, sizeof ends->fds);
}

static void end(struct ends *ends)
{
    np_channel_detach(&ends->first);
    np_channel_detach(&ends->second);
    for (int i = 0; i < 4; i++)
        if (ends->fds[i] >= 0)
            close(ends->fds[i]);
    np_fd_close(ends->fds[4]);
}

static const struct np_wait for_ever = {.deadline = NP_FOREVER};

#define MESSAGES 300
#define LONGEST 700000

static size_t size_of(unsigned number)
{
    return number % 16 == 15 ? LONGEST - number : number % 16 * 1201;
}

static void *write_all(void *argument)
{
    struct np_channel *channel = argument;
    unsigned char *data = malloc(LONGEST);
    for (unsigned i = 0; i < MESSAGES; i++) {
        size_t size = size_of(i);
        fill_pattern(data, size, i);
        struct np_part parts[3] = {{&i, sizeof i}, {data, size / 3}, {data + size / 3, size - size / 3}};
        CHECK_EQUAL(np_channel_send(channel, i & 1 ? NPC_BUFFERS : 0, parts, 3, &for_ever, NULL), NP_OK);
    }
    free(data);
    return NULL;
}

static _Atomic unsigned left;

static void *read_all(void *argument)
{
    struct np_channel *channel = argument;
    unsigned char *data = malloc(LONGEST), *expected = malloc(LONGEST);
    uint64_t size, flags, taken;
    while (atomic_fetch_sub(&left, 1) > 0) {
        unsigned number;
        CHECK_EQUAL(np_channel_begin(channel, &for_ever, &size, &flags), NP_OK);
        CHECK_EQUAL(np_channel_take(channel, &number, sizeof number, &taken, &for_ever), NP_OK);
        CHECK(number < MESSAGES);
        CHECK_EQUAL(size, sizeof number + size_of(number));
        CHECK_EQUAL(flags, number & 1 ? NPC_BUFFERS : 0);
        CHECK_EQUAL(np_channel_take(channel, data, size_of(number), &taken, &for_ever), NP_OK);
        CHECK_EQUAL(np_channel_end(channel, false, NULL), NP_OK);
        fill_pattern(expected, size_of(number), number);
        CHECK(memcmp(data, expected, size_of(number)) == 0);
        if (atomic_load(&left) > 4 * MESSAGES)
            break;
    }
    free(data);
    free(expected);
    return NULL;
}

static void messages_of_two_writers_reach_one_reader_whole(void)
{
    struct ends ends;
    make(&ends);
    left = 2 * MESSAGES;
    pthread_t threads[3];
    pthread_create(&threads[0], NULL, write_all, &ends.first);
    pthread_create(&threads[1], NULL, write_all, &ends.first);
    pthread_create(&threads[2], NULL, read_all, &ends.second);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    const struct np_wait none = {.deadline = NP_TRY};
    CHECK_EQUAL(np_channel_poll(&ends.second, &none), NP_SEM_TIMEOUT);
    end(&ends);
}

static void what_does_not_fit_is_not_begun(void)
{
    struct ends ends;
    make(&ends);
    const struct np_wait none = {.deadline = NP_TRY};
    unsigned char data[10000] = {1};
    struct np_part part = {data, sizeof data};
    unsigned sent = 0;
    while (np_channel_send(&ends.first, 0, &part, 1, &none, NULL) == NP_OK)
        sent++;
    CHECK_EQUAL(sent, NPC_RING / 10008);
    uint64_t size, flags, taken;
    for (unsigned i = 0; i < sent; i++) {
        CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_OK);
        CHECK_EQUAL(size, sizeof data);
        CHECK_EQUAL(np_channel_take(&ends.second, data, size, &taken, &none), NP_OK);
        CHECK_EQUAL(np_channel_end(&ends.second, false, NULL), NP_OK);
    }
    CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_WOULD_WAIT);
    close(ends.fds[0]);
    ends.fds[0] = -1;
    CHECK_EQUAL(np_channel_begin(&ends.second, &for_ever, &size, &flags), NP_NO_DATA);
    np_channel_going(&ends.first);
    CHECK_EQUAL(np_channel_send(&ends.second, 0, &part, 1, &for_ever, NULL), NP_NO_DATA);
    end(&ends);
}

/* A writer, step by step: so much more of a message is published. */
static void publish(struct np_channel *channel, const void *data, uint64_t size)
{
    uint64_t tail = atomic_load(&channel->out->tail);
    CHECK((tail & (NPC_RING - 1)) + size <= NPC_RING);
    memcpy(channel->out_ring + (tail & (NPC_RING - 1)), data, size);
    atomic_store(&channel->out->tail, tail + size);
}

/* ---- A call in a thread of its own, of which the test knows when it sleeps. */

struct caller {
    struct np_channel *channel;
    pthread_t thread;
    _Atomic pid_t number;
    _Atomic bool asked; /* it is about to sleep */
    uint32_t code;
    uint64_t size; /* of the message that it sends, or reads */
    unsigned char *data;
};

static int note_asked(void *context)
{
    struct caller *caller = context;
    atomic_store(&caller->asked, true);
    return 0;
}

static struct np_wait wait_of(struct caller *caller)
{
    return (struct np_wait){.deadline = NP_FOREVER, .interrupted = note_asked, .context = caller};
}

static void *call_send(void *argument)
{
    struct caller *caller = argument;
    struct np_wait wait = wait_of(caller);
    struct np_part part = {caller->data, caller->size};
    atomic_store(&caller->number, (pid_t)np_thread_number());
    caller->code = np_channel_send(caller->channel, 0, &part, 1, &wait, NULL);
    return NULL;
}

static void *call_read(void *argument)
{
    struct caller *caller = argument;
    struct np_wait wait = wait_of(caller);
    uint64_t flags, taken;
    atomic_store(&caller->number, (pid_t)np_thread_number());
    caller->code = np_channel_begin(caller->channel, &wait, &caller->size, &flags);
    if (caller->code == NP_OK) {
        caller->data = malloc(caller->size + 1);
        caller->code = np_channel_take(caller->channel, caller->data, caller->size, &taken, &wait);
        uint32_t ended = np_channel_end(caller->channel, false, NULL);
        caller->code = caller->code ? caller->code : ended;
    }
    return NULL;
}

static void start(struct caller *caller, void *(*call)(void *))
{
    CHECK(pthread_create(&caller->thread, NULL, call, caller) == 0);
    while (!atomic_load(&caller->asked) || !sleeps(atomic_load(&caller->number)))
        sched_yield();
}

/* Messages of so many bytes until no more goes in. How many. */
static unsigned fill(struct np_channel *channel, unsigned size)
{
    const struct np_wait none = {.deadline = NP_TRY};
    unsigned char *data = malloc(size);
    unsigned number = 0;
    struct np_part part = {data, size};
    for (fill_pattern(data, size, number); np_channel_send(channel, 0, &part, 1, &none, NULL) == NP_OK;
         fill_pattern(data, size, number))
        number++;
    free(data);
    return number;
}

/* The next message is this one, and there at once. */
static void expect(struct np_channel *channel, unsigned size, unsigned seed)
{
    const struct np_wait none = {.deadline = NP_TRY};
    unsigned char *data = malloc(size), *expected = malloc(size);
    uint64_t got, flags, taken;
    CHECK_EQUAL(np_channel_begin(channel, &none, &got, &flags), NP_OK);
    CHECK_EQUAL(got, size);
    CHECK_EQUAL(np_channel_take(channel, data, size, &taken, &none), NP_OK);
    CHECK_EQUAL(np_channel_end(channel, false, NULL), NP_OK);
    fill_pattern(expected, size, seed);
    CHECK(memcmp(data, expected, size) == 0);
    free(data);
    free(expected);
}

/* The lock's word of a process that has ended. */
static uint64_t somebody_dead(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    CHECK(waitpid(child, NULL, 0) == child);
    return (uint64_t)child << 32 | (uint32_t)child;
}

/* The reader may be waiting for what the writer does after this message: it reads one and no more. */
static void a_writer_goes_on_as_soon_as_its_message_fits(void)
{
    struct ends ends;
    make(&ends);
    unsigned count = fill(&ends.first, 8000);
    unsigned char data[8000];
    fill_pattern(data, sizeof data, count);
    struct caller writer = {.channel = &ends.first, .data = data, .size = sizeof data};
    start(&writer, call_send);
    expect(&ends.second, 8000, 0);
    pthread_join(writer.thread, NULL);
    CHECK_EQUAL(writer.code, NP_OK);
    for (unsigned i = 1; i <= 200; i++) {
        fill_pattern(data, sizeof data, count + i);
        atomic_store(&writer.asked, false);
        start(&writer, call_send);
        expect(&ends.second, 8000, i);
        pthread_join(writer.thread, NULL);
        CHECK_EQUAL(writer.code, NP_OK);
    }
    for (unsigned i = 201; i <= count + 200; i++)
        expect(&ends.second, 8000, i);
    end(&ends);
}

/* Who changes a position may be killed before it tells anybody. */
static void a_sleeper_that_nobody_tells_looks_again(void)
{
    struct ends ends;
    make(&ends);
    struct caller reader = {.channel = &ends.second};
    start(&reader, call_read);
    uint64_t message[2] = {8, UINT64_C(0x0123456789abcdef)};
    publish(&ends.first, message, sizeof message);
    pthread_join(reader.thread, NULL);
    CHECK_EQUAL(reader.code, NP_OK);
    CHECK_EQUAL(reader.size, 8);
    CHECK(memcmp(reader.data, &message[1], 8) == 0);
    free(reader.data);
    (void)fill(&ends.first, 8000);
    unsigned char data[16000] = {1};
    struct caller writer = {.channel = &ends.first, .data = data, .size = sizeof data};
    start(&writer, call_send);
    atomic_fetch_add(&ends.second.in->head, 3 * 8008);
    pthread_join(writer.thread, NULL);
    CHECK_EQUAL(writer.code, NP_OK);
    end(&ends);
}

/* Killed between the last store of a message and the note that it is over. */
static void a_death_at_the_end_of_a_message_takes_no_other_along(void)
{
    struct ends ends;
    make(&ends);
    uint64_t dead = somebody_dead(), size, flags;
    unsigned char data[3000];
    struct np_part part = {data, sizeof data};
    for (unsigned i = 0; i < 3; i++) {
        fill_pattern(data, sizeof data, i);
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    }
    atomic_store(&ends.first.out->mid, ends.first.out->tail);
    atomic_store(&ends.first.out->writer, dead);
    fill_pattern(data, sizeof data, 3);
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    CHECK_EQUAL(ends.first.out->mid, 0);
    expect(&ends.second, sizeof data, 0);
    atomic_store(&ends.second.in->part, ends.second.in->head);
    atomic_store(&ends.second.in->reader, dead);
    CHECK_EQUAL(np_channel_begin(&ends.second, &for_ever, &size, &flags), NP_OK);
    CHECK_EQUAL(np_channel_end(&ends.second, true, NULL), NP_OK);
    for (unsigned i = 1; i < 4; i++)
        expect(&ends.second, sizeof data, i);
    /* But within one it does. */
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    atomic_store(&ends.second.in->part, ends.second.in->tail);
    atomic_store(&ends.second.in->reader, dead);
    CHECK_EQUAL(np_channel_begin(&ends.second, &for_ever, &size, &flags), NP_BROKEN_PIPE);
    end(&ends);
}

/* The reader has no descriptor to watch the writer by when it goes to sleep, and later it has one. */
static void a_death_is_noticed_that_could_not_be_watched_for_at_first(void)
{
    struct ends ends;
    make(&ends);
    pid_t writer = fork();
    if (writer == 0) {
        alarm(deadline(60));
        pause();
        _exit(0);
    }
    uint64_t message[2] = {100, 1};
    atomic_store(&ends.first.out->writer, (uint64_t)writer << 32 | (uint32_t)writer);
    publish(&ends.first, message, sizeof message);
    struct rlimit before, none;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    none.rlim_cur = 3; /* as many may be polled */
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    struct caller reader = {.channel = &ends.second};
    CHECK(pthread_create(&reader.thread, NULL, call_read, &reader) == 0);
    while (!atomic_load(&reader.asked))
        sched_yield();
    CHECK(kill(writer, SIGKILL) == 0);
    CHECK(waitpid(writer, NULL, 0) == writer);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    pthread_join(reader.thread, NULL);
    CHECK_EQUAL(reader.code, NP_BROKEN_PIPE);
    free(reader.data);
    end(&ends);
}

/* ---- Somebody at the other end who means no good */

/* The event's description is shared: O_NONBLOCK of it is what the other end wants it to be, as is its counter. */
static void an_event_that_somebody_made_blocking_holds_nobody(void)
{
    struct ends ends;
    make(&ends);
    int event = ends.fds[2]; /* of what the second one reads */
    unsigned char data[100];
    struct np_part part = {data, sizeof data};
    (void)np_channel_arm(&ends.second, false);
    CHECK(fcntl(event, F_SETFL, 0) == 0);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t count;
        fill_pattern(data, sizeof data, i);
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
        CHECK(read(event, &count, sizeof count) == sizeof count);
        expect(&ends.second, sizeof data, i); /* takes the event back, which is not set any more */
        count = UINT64_MAX - 1;
        CHECK(write(event, &count, sizeof count) == sizeof count);
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK); /* sets it, which is full */
        expect(&ends.second, sizeof data, i);
        struct pollfd item = {.fd = event, .events = POLLIN};
        CHECK_EQUAL(poll(&item, 1, 0), 0);
    }
    end(&ends);
}

struct pest {
    struct ends *ends;
    _Atomic bool over;
    _Atomic uint64_t *word;
};

static void *ring_all_the_time(void *argument)
{
    struct pest *pest = argument;
    uint64_t count = 1;
    while (!atomic_load(&pest->over)) {
        (void)!write(pest->ends->fds[2], &count, sizeof count);
        (void)!send(pest->ends->fds[0], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)!send(pest->ends->fds[1], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        atomic_store(&pest->ends->second.in->unsettled, 1);
    }
    return NULL;
}

static int ask_until(void *context)
{
    return np_now() >= *(int64_t *)context;
}

/* No signal wakes the calls: they ask on their own. */
static void one_that_is_woken_all_the_time_asks_for_signals(void)
{
    struct ends ends;
    make(&ends);
    struct pest pest = {.ends = &ends};
    pthread_t thread;
    pthread_create(&thread, NULL, ring_all_the_time, &pest);
    int64_t until = np_now() + 50000000;
    struct np_wait wait = {.deadline = NP_FOREVER, .interrupted = ask_until, .context = &until};
    uint64_t size, flags;
    CHECK_EQUAL(np_channel_begin(&ends.second, &wait, &size, &flags), NP_INTERRUPTED);
    (void)fill(&ends.first, 8000);
    unsigned char data[8000] = {1};
    struct np_part part = {data, sizeof data};
    until = np_now() + 50000000;
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &wait, NULL), NP_INTERRUPTED);
    wait = (struct np_wait){.deadline = np_now() + 50000000};
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &wait, NULL), NP_SEM_TIMEOUT);
    atomic_store(&pest.over, true);
    pthread_join(thread, NULL);
    end(&ends);
}

static void *change_the_lock_all_the_time(void *argument)
{
    struct pest *pest = argument;
    for (uint64_t number = 1; !atomic_load(&pest->over); number++)
        atomic_store(pest->word, (uint64_t)getpid() << 32 | (number & 0xffff) | 0x300000);
    return NULL;
}

static void a_lock_whose_holder_changes_all_the_time_is_waited_for_no_longer(void)
{
    struct ends ends;
    make(&ends);
    struct pest pest = {.word = &ends.first.out->writer};
    atomic_store(&ends.first.out->writer, UINT64_C(1) << 32 | 1);
    pthread_t thread;
    pthread_create(&thread, NULL, change_the_lock_all_the_time, &pest);
    unsigned char data[8] = {1};
    struct np_part part = {data, sizeof data};
    for (int i = 0; i < 10; i++) {
        struct np_wait wait = {.deadline = np_now() + 20000000};
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &wait, NULL), NP_SEM_TIMEOUT);
    }
    atomic_store(&pest.over, true);
    pthread_join(thread, NULL);
    end(&ends);
}

/* Killed between the write to the event and the note of it: the event is set, and nothing is there. */
static void a_look_takes_back_an_event_that_says_too_much(void)
{
    struct ends ends;
    make(&ends);
    (void)np_channel_arm(&ends.second, false);
    const struct np_wait none = {.deadline = NP_TRY};
    uint64_t count = 1;
    CHECK(write(ends.fds[2], &count, sizeof count) == sizeof count);
    CHECK_EQUAL(np_channel_poll(&ends.second, &none), NP_SEM_TIMEOUT);
    struct pollfd item = {.fd = ends.fds[2], .events = POLLIN};
    CHECK_EQUAL(poll(&item, 1, 0), 0);
    end(&ends);
}

/* The holder of the bell does not go on: a message is told of all the same. */
static void a_bell_that_is_held_delays_no_message(void)
{
    struct ends ends;
    make(&ends);
    pid_t holder = fork();
    if (holder == 0) {
        alarm(deadline(60));
        pause();
        _exit(0);
    }
    (void)np_channel_arm(&ends.second, false);
    atomic_store(&ends.second.in->bell, (uint64_t)holder << 32 | (uint32_t)holder);
    unsigned char data[100];
    fill_pattern(data, sizeof data, 0);
    struct np_part part = {data, sizeof data};
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    struct pollfd item = {.fd = ends.fds[2], .events = POLLIN};
    CHECK_EQUAL(poll(&item, 1, 0), 1);
    expect(&ends.second, sizeof data, 0);
    CHECK(kill(holder, SIGKILL) == 0);
    CHECK(waitpid(holder, NULL, 0) == holder);
    const struct np_wait none = {.deadline = NP_TRY};
    CHECK_EQUAL(np_channel_poll(&ends.second, &none), NP_SEM_TIMEOUT);
    CHECK_EQUAL(poll(&item, 1, 0), 0);
    end(&ends);
}

/* Who gives one lock back says nothing of those that wait for the other. */
static void those_that_wait_for_one_lock_are_not_forgotten_for_the_other(void)
{
    struct ends ends;
    make(&ends);
    uint64_t size, flags, taken, data = 0;
    struct np_part part = {&data, sizeof data};
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    CHECK_EQUAL(np_channel_begin(&ends.second, &for_ever, &size, &flags), NP_OK);
    struct caller reader = {.channel = &ends.second};
    start(&reader, call_read);
    atomic_store(&ends.first.out->writers_queued, 1);
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    CHECK_EQUAL(atomic_load(&ends.first.out->writers_queued), 0);
    CHECK_EQUAL(atomic_load(&ends.first.out->readers_queued), 1);
    CHECK_EQUAL(np_channel_take(&ends.second, &data, size, &taken, &for_ever), NP_OK);
    CHECK_EQUAL(np_channel_end(&ends.second, false, NULL), NP_OK);
    pthread_join(reader.thread, NULL);
    CHECK_EQUAL(reader.code, NP_OK);
    CHECK_EQUAL(atomic_load(&ends.first.out->readers_queued), 0);
    free(reader.data);
    end(&ends);
}

/* Two sleep for the lock, and the first one that gets it has another one behind it still. */
static void who_gets_a_lock_forgets_nobody_behind_it(void)
{
    struct ends ends;
    make(&ends);
    uint64_t size, flags, taken, data = 0, first[2] = {100, 1};
    struct np_part part = {&data, sizeof data};
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    CHECK_EQUAL(np_channel_begin(&ends.second, &for_ever, &size, &flags), NP_OK);
    struct caller readers[2] = {{.channel = &ends.second}, {.channel = &ends.second}};
    start(&readers[0], call_read);
    start(&readers[1], call_read);
    publish(&ends.first, first, sizeof first); /* of a message that is longer */
    CHECK_EQUAL(np_channel_take(&ends.second, &data, size, &taken, &for_ever), NP_OK);
    CHECK_EQUAL(np_channel_end(&ends.second, false, NULL), NP_OK);
    while (atomic_load(&ends.second.in->sleepers) == 0) /* for the rest, with the lock */
        sched_yield();
    CHECK_EQUAL(atomic_load(&ends.second.in->readers_queued), 1);
    unsigned char rest[96] = {2};
    publish(&ends.first, rest, sizeof rest);
    uint64_t last[2] = {8, 3};
    publish(&ends.first, last, sizeof last);
    for (int i = 0; i < 2; i++) {
        pthread_join(readers[i].thread, NULL);
        CHECK_EQUAL(readers[i].code, NP_OK);
        CHECK(readers[i].size == 100 ? readers[i].data[0] == 1 && readers[i].data[8] == 2
                                     : readers[i].size == 8 && readers[i].data[0] == 3);
        free(readers[i].data);
    }
    CHECK(readers[0].size != readers[1].size);
    CHECK_EQUAL(atomic_load(&ends.second.in->readers_queued), 0);
    end(&ends);
}

/* ---- Numbers of several namespaces */

/* What a lock's word says of one that was born at that time. */
static uint64_t born(uint32_t birth)
{
    return (birth & NPC_BIRTH_LOW) << NPC_BIRTH_SHIFT | (uint64_t)(birth >> 10) << NPC_BIRTH_REST_SHIFT;
}

static void a_number_that_another_process_has_got_is_not_its_first_owners(void)
{
    struct ends ends;
    make(&ends);
    unsigned char data[8] = {1};
    struct np_part part = {data, sizeof data};
    uint32_t birth = np_birth(getpid());
    CHECK(birth > 0 && birth <= NPC_MOST_BIRTH);
    CHECK_EQUAL(np_birth(getpid()), birth);
    uint64_t living = (uint64_t)(uint32_t)getpid() << 32 | ((uint32_t)np_thread_number() + 1);
    struct np_wait wait = {.deadline = np_now() + 120000000};
    /* A thread of this process has it; and one of a process that cannot tell when it was born. */
    for (int i = 0; i < 2; i++) {
        atomic_store(&ends.first.out->writer, living | born(i ? birth : 0));
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &wait, NULL), NP_SEM_TIMEOUT);
        CHECK_EQUAL(ends.first.out->writer, living | born(i ? birth : 0));
        wait.deadline = np_now() + 120000000;
    }
    /* Each bit of it tells: these processes have gone. */
    for (uint32_t bit = 1; bit <= NPC_MOST_BIRTH; bit <<= 1) {
        if ((birth ^ bit) == 0)
            continue;
        atomic_store(&ends.first.out->writer, living | born(birth ^ bit));
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    }
    end(&ends);
}

struct staying {
    _Atomic uint32_t number, over;
};

static void *stay(void *argument)
{
    struct staying *staying = argument;
    atomic_store(&staying->number, (uint32_t)np_thread_number());
    while (!atomic_load(&staying->over))
        np_futex_wait(&staying->over, 0, UINT32_MAX, NP_FOREVER);
    return NULL;
}

/* There are more threads than processes, and they have their numbers from the same store. */
static void a_number_that_a_thread_has_got_is_no_process(void)
{
    struct ends ends;
    make(&ends);
    unsigned char data[8] = {1};
    struct np_part part = {data, sizeof data};
    struct staying staying = {0};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, stay, &staying) == 0);
    while (!atomic_load(&staying.number))
        sched_yield();
    uint64_t number = atomic_load(&staying.number);
    for (int known = 0; known < 2; known++) {
        struct np_wait wait = {.deadline = np_now() + INT64_C(10000000000)};
        uint64_t birth = known ? born(np_birth(getpid()) % NPC_MOST_BIRTH + 1) : 0;
        atomic_store(&ends.first.out->writer, number << 32 | number | birth);
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &wait, NULL), NP_OK);
    }
    atomic_store(&staying.over, 1);
    np_futex_wake(&staying.over, UINT32_MAX);
    pthread_join(thread, NULL);
    end(&ends);
}

#define ELSEWHERE (UINT64_C(1) << NPC_SPACE_SHIFT)

static void a_number_of_another_namespace_is_nobody_here(void)
{
    struct ends ends;
    make(&ends);
    unsigned char data[8] = {1};
    struct np_part part = {data, sizeof data};
    uint64_t own = (uint64_t)(uint32_t)getpid() << 32 | (uint32_t)np_thread_number() | born(np_birth(getpid()));
    uint64_t dead = somebody_dead();
    for (int i = 0; i < 2; i++) {
        /* Who holds it has this thread's numbers, or a dead one's, but is somebody else: it is waited for. */
        struct np_wait wait = {.deadline = np_now() + 120000000};
        atomic_store(&ends.first.out->writer, (i ? dead : own) | ELSEWHERE);
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &wait, NULL), NP_SEM_TIMEOUT);
        CHECK_EQUAL(ends.first.out->writer, (i ? dead : own) | ELSEWHERE);
    }
    atomic_store(&ends.first.out->writer, own);
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_PIPE_BUSY);
    atomic_store(&ends.first.out->writer, dead);
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    end(&ends);
}

static void a_namespace_without_a_place_in_the_list_concludes_nothing(void)
{
    struct ends ends;
    make(&ends);
    for (unsigned i = 0; i < NPC_NOWHERE; i++)
        atomic_store(&ends.first.header->numbers[i], i + 1);
    struct np_channel other;
    CHECK_EQUAL(np_channel_attach(&other, ends.fds[4], ends.fds[0], ends.fds[2], ends.fds[3], 0), NP_OK);
    unsigned char data[8] = {1};
    struct np_part part = {data, sizeof data};
    struct np_wait wait = {.deadline = np_now() + 120000000};
    atomic_store(&other.out->writer, somebody_dead() | (uint64_t)NPC_NOWHERE << NPC_SPACE_SHIFT);
    CHECK_EQUAL(np_channel_send(&other, 0, &part, 1, &wait, NULL), NP_SEM_TIMEOUT);
    atomic_store(&other.out->writer, 0);
    CHECK_EQUAL(np_channel_send(&other, 0, &part, 1, &for_ever, NULL), NP_OK);
    np_channel_detach(&other);
    end(&ends);
}

/* What the other end has left there when it went is nobody's, whoever's number it is; and may change still. */
static void a_lock_that_nobody_gives_free_is_not_waited_for_after_the_end(void)
{
    unsigned char data[8] = {1};
    struct np_part part = {data, sizeof data};
    uint64_t living = (uint64_t)(uint32_t)getpid() << 32 | ((uint32_t)np_thread_number() + 1);
    for (int changes = 0; changes < 2; changes++) {
        struct ends ends;
        make(&ends);
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
        _Atomic uint64_t *words[2] = {&ends.second.out->writer, &ends.second.in->reader};
        close(ends.fds[0]);
        ends.fds[0] = -1;
        for (int i = 0; i < 2; i++) {
            struct pest pest = {.word = words[i]};
            pthread_t thread;
            atomic_store(words[i], living);
            if (changes)
                CHECK(pthread_create(&thread, NULL, change_the_lock_all_the_time, &pest) == 0);
            uint64_t size, flags;
            if (i == 0)
                CHECK_EQUAL(np_channel_send(&ends.second, 0, &part, 1, &for_ever, NULL), NP_NO_DATA);
            else
                CHECK_EQUAL(np_channel_begin(&ends.second, &for_ever, &size, &flags), NP_BROKEN_PIPE);
            atomic_store(&pest.over, true);
            if (changes)
                pthread_join(thread, NULL);
        }
        /* The message is there still, for whoever gets the lock. */
        atomic_store(words[1], 0);
        uint64_t size, flags, taken;
        unsigned char got[8] = {0};
        CHECK_EQUAL(np_channel_begin(&ends.second, &for_ever, &size, &flags), NP_OK);
        CHECK_EQUAL(np_channel_take(&ends.second, got, size, &taken, &for_ever), NP_OK);
        CHECK_EQUAL(np_channel_end(&ends.second, false, NULL), NP_OK);
        CHECK(size == sizeof got && memcmp(got, data, sizeof got) == 0);
        end(&ends);
    }
}

/* A child without /proc does not know which numbers are its namespace's. */
static void a_holder_that_cannot_ask_for_its_namespace_is_in_none(void)
{
    struct ends ends;
    make(&ends);
    unsigned char data[100];
    struct np_part part = {data, sizeof data};
    fill_pattern(data, sizeof data, 1);
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    pid_t child = fork();
    if (child == 0) {
        if (chroot("/dev") != 0)
            _exit(77);
        alarm(deadline(60));
        uint64_t size, flags, word = 0;
        if (np_channel_begin(&ends.second, &for_ever, &size, &flags) == NP_OK)
            word = atomic_load(&ends.second.in->reader);
        _exit(word >> NPC_SPACE_SHIFT == NPC_NOWHERE ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        puts("  not here: this user may change no root");
    } else {
        CHECK_EQUAL(WEXITSTATUS(status), 0);
        CHECK_EQUAL(atomic_load(&ends.first.header->numbers[1]), 0);
        /* So nobody takes the lock over for its death's sake. */
        struct np_wait wait = {.deadline = np_now() + 120000000};
        uint64_t size, flags;
        CHECK_EQUAL(np_channel_begin(&ends.second, &wait, &size, &flags), NP_SEM_TIMEOUT);
    }
    end(&ends);
}

/* A child that begins a namespace of its own inherits an end. */
static void a_fork_into_another_namespace_is_noticed(void)
{
    struct ends ends;
    make(&ends);
    unsigned char data[100];
    struct np_part part = {data, sizeof data};
    fill_pattern(data, sizeof data, 1);
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0)
            _exit(77);
        pid_t first = fork();
        uint64_t size, flags, word = 0;
        if (first == 0) {
            alarm(deadline(60));
            if (np_channel_begin(&ends.second, &for_ever, &size, &flags) == NP_OK)
                word = atomic_load(&ends.second.in->reader);
            _exit(word >> NPC_SPACE_SHIFT == 1 && (word >> 32 & NPC_MOST_PROCESS) == 1 ? 0 : 1);
        }
        int status;
        _exit(waitpid(first, &status, 0) == first && WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        puts("  not here: this user may make no namespace");
    } else {
        CHECK_EQUAL(WEXITSTATUS(status), 0);
        CHECK(ends.first.header->numbers[1] != 0 && ends.first.header->numbers[1] != ends.first.header->numbers[0]);
        /* What is left by it is nobody's here. */
        struct np_wait wait = {.deadline = np_now() + 120000000};
        uint64_t size, flags;
        CHECK_EQUAL(np_channel_begin(&ends.second, &wait, &size, &flags), NP_SEM_TIMEOUT);
    }
    end(&ends);
}

/* ---- Telling apart from the rest */

static uint64_t count_of(int event)
{
    uint64_t count;
    return read(event, &count, sizeof count) == sizeof count ? count : 0;
}

/* The other side changes the words between two looks at them: none of these calls touches the event, whatever they
 * say. */
static void what_must_not_wait_sets_no_event(void)
{
    struct ends ends;
    make(&ends);
    const struct np_wait none = {.deadline = NP_TRY};
    int event = ends.fds[2];
    unsigned char data[100];
    struct np_part part = {data, sizeof data};
    uint64_t size, flags, taken;
    bool untold = true;
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &none, &untold), NP_OK);
    CHECK(!untold); /* nobody sleeps */
    CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_OK);
    CHECK_EQUAL(np_channel_end(&ends.second, true, &untold), NP_OK);
    CHECK(!untold);
    atomic_store(&ends.first.out->sleepers, 1);
    fill_pattern(data, sizeof data, 1);
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &none, &untold), NP_OK);
    CHECK(untold);
    CHECK_EQUAL(count_of(event), 0);
    np_channel_tell(&ends.first, true);
    CHECK_EQUAL(count_of(event), 1);
    /* What is read takes it back: not at once. */
    uint64_t one = 1;
    CHECK(write(event, &one, sizeof one) == sizeof one);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_OK);
        CHECK_EQUAL(np_channel_take(&ends.second, data, size, &taken, &none), NP_OK);
        CHECK_EQUAL(np_channel_end(&ends.second, false, &untold), NP_OK);
        CHECK(untold);
    }
    CHECK_EQUAL(count_of(event), 1);
    CHECK(write(event, &one, sizeof one) == sizeof one);
    np_channel_tell(&ends.second, false);
    CHECK_EQUAL(count_of(event), 0);
    /* Nor what is given up, or breaks the rules. */
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &none, &untold), NP_OK);
    CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_OK);
    CHECK_EQUAL(np_channel_end(&ends.second, false, &untold), NP_INVALID_DATA);
    CHECK(untold);
    CHECK_EQUAL(count_of(event), 0);
    np_channel_tell(&ends.second, false);
    CHECK_EQUAL(count_of(event), 1);
    end(&ends);
    make(&ends);
    uint64_t nonsense = NPC_LONGEST;
    publish(&ends.first, &nonsense, sizeof nonsense);
    CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_WOULD_WAIT);
    CHECK_EQUAL(count_of(ends.fds[2]), 0);
    CHECK_EQUAL(ends.second.in->reader, 0);
    CHECK_EQUAL(np_channel_begin(&ends.second, &for_ever, &size, &flags), NP_INVALID_DATA);
    end(&ends);
}

/* ---- Killed in between */

#ifdef SYS_preadv2
static int cleared; /* the event */

static void clear_and_die(int number)
{
    uint64_t count;
    (void)number;
    (void)!read(cleared, &count, sizeof count);
    (void)kill(getpid(), SIGKILL);
}

/* Has this process killed as soon as it has taken an event back. */
static void die_when_it_is_cleared(int event)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_preadv2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    struct sigaction action = {.sa_handler = clear_and_die};
    cleared = event;
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void one_that_is_killed_while_it_takes_the_event_back_leaves_no_selector_asleep(void)
{
    const struct np_wait none = {.deadline = NP_TRY};
    for (int way = 0; way < 2; way++) {
        struct ends ends;
        make(&ends);
        int event = ends.fds[2];
        unsigned char data[100];
        struct np_part part = {data, sizeof data};
        fill_pattern(data, sizeof data, 7);
        (void)np_channel_arm(&ends.second, false);
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
        struct pollfd item = {.fd = event, .events = POLLIN};
        CHECK_EQUAL(poll(&item, 1, 0), 1);
        if (way == 1) { /* it finds the event set, and nothing there */
            atomic_store(&ends.second.in->polled, 0);
            atomic_store(&ends.second.in->head, atomic_load(&ends.second.in->tail));
        }
        pid_t child = fork();
        if (child == 0) {
            die_when_it_is_cleared(event);
            if (way == 0)
                expect(&ends.second, sizeof data, 7);
            else
                (void)np_channel_poll(&ends.second, &none);
            _exit(1);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        CHECK_EQUAL(poll(&item, 1, 0), 0);
        atomic_store(&ends.second.in->polled, 1);
        /* What the dead one holds of the readers' lock is not in question. */
        atomic_store(&ends.second.in->reader, 0);
        atomic_store(&ends.second.in->head, atomic_load(&ends.second.in->tail));
        fill_pattern(data, sizeof data, 8);
        CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_OK);
        CHECK_EQUAL(poll(&item, 1, 0), 1);
        expect(&ends.second, sizeof data, 8);
        CHECK_EQUAL(poll(&item, 1, 0), 0);
        end(&ends);
    }
}
#endif

/* Its reader gives the message up, and the writer, which has not noticed, goes on with what looks like messages. */
static void nothing_of_a_message_that_was_dropped_is_taken_for_one(void)
{
    struct ends ends;
    make(&ends);
    struct np_channel other; /* somebody else's hold of the reading end */
    CHECK_EQUAL(np_channel_attach(&other, ends.fds[4], ends.fds[1], ends.fds[2], ends.fds[3], 1), NP_OK);
    uint64_t body[4096], size, flags, taken, whole = 3 * sizeof body;
    for (unsigned i = 0; i < 4096; i += 2)
        body[i] = 5, body[i + 1] = UINT64_C(0x212121214c495645);
    const struct np_wait none = {.deadline = NP_TRY};
    unsigned char data[20000];
    publish(&ends.first, &whole, sizeof whole);
    publish(&ends.first, body, sizeof body);
    CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_OK);
    CHECK_EQUAL(size, whole);
    CHECK_EQUAL(np_channel_take(&ends.second, data, sizeof data, &taken, &none), NP_OK);
    CHECK(memcmp(data, body, sizeof data) == 0);
    CHECK_EQUAL(np_channel_end(&ends.second, false, NULL), NP_INVALID_DATA);
    for (unsigned i = 0; i < 2; i++) {
        publish(&ends.first, body, sizeof body);
        CHECK_EQUAL(np_channel_begin(&other, &none, &size, &flags), NP_BROKEN_PIPE);
        CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_BROKEN_PIPE);
        CHECK_EQUAL(np_channel_poll(&other, &none), NP_OK);
    }
    /* Nor when a writer finds out that one before it has died, and breaks off on its part. */
    atomic_store(&ends.first.out->mid, 1);
    atomic_store(&ends.first.out->writer, somebody_dead());
    struct np_part part = {data, 8};
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever, NULL), NP_BROKEN_PIPE);
    CHECK_EQUAL(np_channel_begin(&other, &none, &size, &flags), NP_BROKEN_PIPE);
    np_channel_detach(&other);
    end(&ends);
}

/* Whatever stands in the segment: every call ends by its deadline, and touches nothing else. */
static void nonsense_in_the_segment_does_no_harm(void)
{
    uint64_t random = 88172645463325252u;
    for (int turn = 0; turn < 300; turn++) {
        struct ends ends;
        make(&ends);
        unsigned char *data = calloc(1, 40000);
        struct np_part part = {data, 40000};
        for (int step = 0; step < 40; step++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            struct npc_direction *direction = random & 1 ? ends.first.out : ends.first.in;
            uint64_t value = random >> 20;
            switch (random >> 8 & 15) {
            case 0:
                direction->tail = value & 4 ? direction->tail + (value & 0xfff8) : value;
                break;
            case 1:
                direction->head = value & 4 ? direction->head + (value & 0xfff8) : value;
                break;
            case 2:
                direction->wants_room = value;
                break;
            case 3:
                direction->sleepers = (uint32_t)value;
                break;
            case 4:
                direction->polled = (uint32_t)value;
                break;
            case 5:
                direction->broken = (uint32_t)value & 3;
                break;
            case 6:
                memcpy((unsigned char *)direction + NPC_PAGE + (value & 0x3fff8), &random, 8);
                break;
            case 7:
                direction->mid = value & 4 ? direction->tail + (value & 0xfff8) : value;
                break;
            case 8:
                direction->part = value & 4 ? direction->head + (value & 0xfff8) : value;
                break;
            case 9:
                direction->readers_queued = direction->writers_queued = (uint32_t)value;
                break;
            case 10:
                if (value % 8 == 0) /* each takes its time */
                    direction->bell = value;
                break;
            case 11:
                *(value & 8 ? &direction->reader : &direction->writer) = value & 16 ? value << 20 : value & 0xffff;
                break;
            default:
                direction->rung = (uint32_t)value & 1;
                break;
            }
            const struct np_wait soon = {.deadline = np_now() + 200000};
            uint64_t size, flags, taken;
            (void)np_channel_send(&ends.second, 0, &part, 1, &soon, NULL);
            if (np_channel_begin(&ends.second, &soon, &size, &flags) == NP_OK) {
                (void)np_channel_take(&ends.second, data, size < 40000 ? size : 40000, &taken, &soon);
                (void)np_channel_end(&ends.second, (random >> 30) & 1, NULL);
            }
            (void)np_channel_poll(&ends.second, &soon);
        }
        free(data);
        end(&ends);
    }
}

static void only_a_channel_is_taken_for_one(void)
{
    struct np_channel channel;
    int small = np_segment_create(NPC_SIZE - 4096);
    CHECK_EQUAL(np_channel_attach(&channel, small, -1, -1, -1, 0), NP_INVALID_DATA);
    np_fd_close(small);
    int open = memfd_create("unsealed", MFD_ALLOW_SEALING);
    CHECK(ftruncate(open, NPC_SIZE) == 0);
    CHECK_EQUAL(np_channel_attach(&channel, open, -1, -1, -1, 0), NP_INVALID_DATA);
    close(open);
}

int main(void)
{
    RUN(messages_of_two_writers_reach_one_reader_whole);
    RUN(what_does_not_fit_is_not_begun);
    RUN(nothing_of_a_message_that_was_dropped_is_taken_for_one);
    RUN(a_writer_goes_on_as_soon_as_its_message_fits);
    RUN(a_sleeper_that_nobody_tells_looks_again);
    RUN(a_death_at_the_end_of_a_message_takes_no_other_along);
    RUN(a_death_is_noticed_that_could_not_be_watched_for_at_first);
    RUN(an_event_that_somebody_made_blocking_holds_nobody);
    RUN(one_that_is_woken_all_the_time_asks_for_signals);
    RUN(a_lock_whose_holder_changes_all_the_time_is_waited_for_no_longer);
    RUN(a_look_takes_back_an_event_that_says_too_much);
    RUN(a_bell_that_is_held_delays_no_message);
    RUN(those_that_wait_for_one_lock_are_not_forgotten_for_the_other);
    RUN(who_gets_a_lock_forgets_nobody_behind_it);
    RUN(a_number_that_another_process_has_got_is_not_its_first_owners);
    RUN(a_number_that_a_thread_has_got_is_no_process);
    RUN(a_number_of_another_namespace_is_nobody_here);
    RUN(a_lock_that_nobody_gives_free_is_not_waited_for_after_the_end);
    RUN(a_namespace_without_a_place_in_the_list_concludes_nothing);
    RUN(a_holder_that_cannot_ask_for_its_namespace_is_in_none);
    RUN(a_fork_into_another_namespace_is_noticed);
    RUN(what_must_not_wait_sets_no_event);
#ifdef SYS_preadv2
    if (prctl(PR_GET_SECCOMP) == 0)
        RUN(one_that_is_killed_while_it_takes_the_event_back_leaves_no_selector_asleep);
    else
        puts("one_that_is_killed_while_it_takes_the_event_back: left out, the emulator has no seccomp to kill with");
#endif
    RUN(nonsense_in_the_segment_does_no_harm);
    RUN(only_a_channel_is_taken_for_one);
    return 0;
}
