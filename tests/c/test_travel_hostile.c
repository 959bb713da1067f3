/* Ends that go from one process to another, and what others send: forged states, questions and answers that are none,
 * descriptors of other kinds, other users. */
#include "travel.h"

static void a_forged_state_is_refused(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    struct np_passport passport;
    CHECK_EQUAL(np_depart(ends.client, true, &passport), NP_OK);
    off_t size = lseek(passport.state, 0, SEEK_END);
    uint8_t *good = malloc((size_t)size);
    CHECK(pread(passport.state, good, (size_t)size, 0) == size);
    unsigned refused = 0;
    for (int turn = 0; turn < 3000; turn++) {
        np_fds_hold();
        int fd = np_fd_made(memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING));
        uint8_t *bad = malloc((size_t)size);
        memcpy(bad, good, (size_t)size);
        for (int i = 0; i < 4; i++)
            bad[np_random() % (uint64_t)size] = (uint8_t)np_random();
        size_t length = turn % 7 == 0 ? np_random() % (uint64_t)size : (size_t)size;
        CHECK(write(fd, bad, length) == (ssize_t)length);
        free(bad);
        if (turn % 11 != 0)
            CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0);
        struct np_passport forged = {-1, -1, fd};
        np_fds_hold();
        forged.socket = np_fd_made(dup(passport.socket));
        np_fds_hold();
        forged.segment = np_fd_made(dup(passport.segment));
        struct np_handle *handle;
        /* A file that was shut down by a refusal would end the pair: a socket of its own. */
        np_fd_close(forged.socket);
        int sockets[2];
        np_fds_hold();
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
        np_fd_enter(sockets[0]);
        np_fds_release();
        close(sockets[1]);
        forged.socket = sockets[0];
        uint32_t code = np_arrive(&forged, &handle);
        if (code != NP_OK) {
            refused++;
            continue;
        }
        char buffer[64];
        uint32_t count;
        (void)np_read(handle, buffer, sizeof buffer, &count, &at_once);
        (void)np_write(handle, buffer, 10, &count, &at_once);
        end(handle);
    }
    CHECK(refused > 500);
    free(good);
    np_passport_drop(&passport);
    end(ends.client);
    end(ends.server);
}

/* A passport that somebody has written, with a socket whose other end is *peer. */
static struct np_passport forge(const uint8_t *state, size_t size, int segment, int *peer)
{
    int sockets[2];
    make_pair(sockets);
    *peer = sockets[1];
    np_fds_hold();
    int fd = np_fd_made(memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    CHECK(write(fd, state, size) == (ssize_t)size);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0);
    np_fds_hold();
    return (struct np_passport){sockets[0], np_fd_made(dup(segment)), fd};
}

/* All that is done with an end; whatever comes of it, it comes soon and touches no memory but its own. */
static void try_all(struct np_handle *handle)
{
    static uint8_t buffer[LONG_MESSAGE];
    uint32_t count, available, left;
    (void)np_rest_of_message(handle);
    (void)np_peek(handle, buffer, sizeof buffer, &count, &available, &left);
    (void)np_read(handle, buffer, 3, &count, &at_once);
    (void)np_read(handle, buffer, sizeof buffer, &count, &at_once);
    (void)np_put_back(handle, buffer, 5);
    (void)np_read(handle, buffer, 2, &count, &at_once);
    (void)np_write(handle, buffer, 10, &count, &at_once);
    (void)np_write(handle, buffer, LONG_MESSAGE, &count, &at_once);
    (void)np_write(handle, buffer, 1, &count, &at_once);
    (void)np_flush(handle, &at_once);
    (void)np_read(handle, buffer, sizeof buffer, &count, &at_once);
}

#define BASES 4

/* Ends with something of everything that a state tells of. */
static struct np_handle *end_with_a_past(int which, struct ends *ends)
{
    static uint8_t buffer[LONG_MESSAGE];
    uint32_t count, available, left;
    *ends = open_ends(which == 3 ? 0 : NP_TYPE_MESSAGE);
    write_all(ends->server, "abcdef");
    write_all(ends->server, "ghi");
    write_all(ends->client, "up");
    if (which == 0)
        return ends->client;
    CHECK_EQUAL(np_read(ends->client, buffer, 2, &count, &at_once), which == 3 ? NP_OK : NP_MORE_DATA);
    CHECK_EQUAL(np_put_back(ends->client, "xy", 2), NP_OK);
    if (which == 1 || which == 3)
        return ends->client;
    struct np_wait wait = {.deadline = np_now() + 10000000};
    CHECK_EQUAL(np_write(ends->client, buffer, LONG_MESSAGE, &count, &wait), NP_SEM_TIMEOUT);
    (void)np_peek(ends->client, buffer, 100, &count, &available, &left);
    return ends->client;
}

static void each_word_of_a_state_may_be_a_lie(void)
{
    const uint64_t lies[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0x10000, 0x10001, UINT64_MAX, UINT64_MAX / 2};
    unsigned refused = 0, taken = 0;
    for (int base = 0; base < BASES; base++) {
        struct ends ends;
        struct np_passport passport;
        struct np_handle *from = end_with_a_past(base, &ends);
        CHECK_EQUAL(np_depart(from, true, &passport), NP_OK);
        size_t size = (size_t)lseek(passport.state, 0, SEEK_END);
        size_t shared = (size_t)lseek(passport.segment, 0, SEEK_END);
        uint8_t *good = malloc(size), *bad = malloc(size), *segment = malloc(shared);
        CHECK(pread(passport.state, good, size, 0) == (ssize_t)size);
        CHECK(pread(passport.segment, segment, shared, 0) == (ssize_t)shared);
        for (size_t at = 0; at + 4 <= size; at += 4)
            for (size_t lie = 0; lie < sizeof lies / sizeof *lies; lie++) {
                size_t width = lie >= 8 ? 8 : 4; /* of the last ones: both halves of a long word */
                if (at + width > size)
                    continue;
                memcpy(bad, good, size);
                memcpy(bad + at, &lies[lie], width);
                int peer;
                struct np_handle *there;
                struct np_passport forged = forge(bad, size, passport.segment, &peer);
                if (np_arrive(&forged, &there) == NP_OK) {
                    taken++;
                    alarm(deadline(20));
                    try_all(there);
                    end(there);
                    CHECK(pwrite(passport.segment, segment, shared, 0) == (ssize_t)shared);
                } else {
                    refused++;
                }
                np_fd_close(peer);
            }
        free(good);
        free(bad);
        free(segment);
        np_passport_drop(&passport);
        end(ends.client);
        end(ends.server);
    }
    CHECK(refused > 500);
    CHECK(taken > 500);
}

/* ---- What else may come through these sockets */

struct question {
    uint32_t magic, version;
    uint64_t number;
};

struct reply {
    uint32_t magic, version, code, reserved;
};

static const struct question no_question = {0x5450504e, 1, 0};

#define MOST_RIGHTS 253 /* the kernel's, for a message */

/* A message as nobody who keeps to the rules sends it. */
static void ask_with(int socket, const void *data, size_t size, const int *fds, size_t n_fds)
{
    union {
        char bytes[CMSG_SPACE(MOST_RIGHTS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    memset(&control, 0, sizeof control);
    if (n_fds) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, n_fds * sizeof(int));
    }
    CHECK(sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)size);
}

static bool hangs_up(int socket)
{
    struct pollfd item = {.fd = socket, .events = POLLRDHUP};
    return poll(&item, 1, 5000) == 1 && item.revents & (POLLRDHUP | POLLHUP);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void what_is_no_question_ends_the_connection_and_takes_nothing(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 92, false), NP_OK);
    static uint8_t large[5000];
    const struct question wrong[] = {{0x5450504f, 1, 92}, {0x5450504e, 2, 92}, {0x5450504e, 0, 92}, {0, 0, 92}};
    const size_t sizes[] = {1, 4, 15, 17, 24, sizeof large};
    unsigned before = open_descriptors();
    memcpy(large, &(struct question){0x5450504e, 1, 92}, sizeof(struct question));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong + sizeof sizes / sizeof *sizes; i++) {
        bool is_wrong = i < sizeof wrong / sizeof *wrong;
        int visitor = visit();
        if (is_wrong)
            ask_with(visitor, &wrong[i], sizeof *wrong, NULL, 0);
        else
            ask_with(visitor, large, sizes[i - sizeof wrong / sizeof *wrong], NULL, 0);
        CHECK(hangs_up(visitor));
        np_fd_close(visitor);
    }
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim_from(getpid(), 92, &wait, &there), NP_OK);
    write_all(there, "untouched");
    read_all(ends.server, "untouched");
    np_free(ends.client);
    end(there);
    end(ends.server);
    CHECK(open_descriptors() <= before + 1); /* who was answered last is let go just now */
}

static void a_child_that_talks_nonsense_leaves_the_handle_where_it_is(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    ask_with(sockets[1], "nonsense", 8, NULL, 0);
    CHECK(hangs_up(sockets[1]));
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_INVALID_HANDLE);
    write_all(ends.client, "here");
    read_all(ends.server, "here");
    np_fd_close(sockets[1]);
    end(ends.client);
    end(ends.server);
}

static void descriptors_that_nobody_has_asked_for_are_closed(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 91, false), NP_OK);
    const struct question question = {0x5450504e, 1, 90};
    int fds[MOST_RIGHTS];
    for (size_t i = 0; i < MOST_RIGHTS; i++)
        fds[i] = 1;
    unsigned before = 0;
    for (size_t turn = 0; turn < 60; turn++) {
        int visitor = visit();
        ask_with(visitor, &question, turn % 2 ? sizeof question : 1, fds, turn % 3 == 0 ? MOST_RIGHTS : turn % 3);
        CHECK(hangs_up(visitor));
        np_fd_close(visitor);
        if (turn == 5)
            before = open_descriptors();
    }
    CHECK(is_emulated() || open_descriptors() <= before + 1); /* who was answered last is let go just now */
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim_from(getpid(), 91, &wait, &there), NP_OK);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

static void an_answer_that_is_none_brings_no_handle(void)
{
    const struct reply wrong[] = {
        {0x5450504f, 1, 0, 0}, {0x5450504e, 2, 0, 0}, {0x5450504e, 1, 99999, 0}, {0x5450504e, 1, UINT32_MAX, 0}};
    const struct reply good = {0x5450504e, 1, 0, 0};
    int files[2];
    CHECK(pipe2(files, O_CLOEXEC) == 0);
    unsigned before = open_descriptors();
    for (size_t i = 0; i < 11; i++) {
        int sockets[2];
        make_pair(sockets);
        /* Of kinds that are in no passport. */
        const int fds[5] = {files[0], files[1], sockets[0], 0, 1};
        if (i < 4)
            ask_with(sockets[0], &wrong[i], sizeof *wrong, fds, 3);
        else if (i < 9)
            ask_with(sockets[0], &good, sizeof good, fds, i - 4);
        else
            ask_with(sockets[0], &good, i == 9 ? 3 : 16, fds, 3);
        struct np_handle *there = NULL;
        struct np_wait wait = seconds(5);
        CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_INVALID_DATA);
        CHECK(!there);
        np_fd_close(sockets[0]);
        np_fd_close(sockets[1]);
    }
    CHECK_EQUAL(open_descriptors(), before);
    close(files[0]);
    close(files[1]);
}

static void a_passport_whose_descriptors_are_of_other_kinds_is_refused(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    struct np_passport passport;
    CHECK_EQUAL(np_depart(ends.client, true, &passport), NP_OK);
    int stream[2], datagrams[2], tube[2], network = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagrams) == 0);
    CHECK(pipe2(tube, O_CLOEXEC) == 0);
    int unsealed = memfd_create("unsealed", MFD_CLOEXEC);
    CHECK(unsealed >= 0 && ftruncate(unsealed, 1 << 20) == 0);
    const int strange[] = {stream[0], datagrams[0], tube[0], network, unsealed, passport.state, passport.segment};
    unsigned before = open_descriptors();
    for (size_t which = 0; which < 3; which++)
        for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
            int fds[3] = {passport.socket, passport.segment, passport.state};
            if (strange[i] == fds[which])
                continue;
            fds[which] = strange[i];
            int sockets[2];
            make_pair(sockets);
            if (which != 0) { /* what is refused is hung up: a pair of its own */
                np_fd_close(sockets[1]);
                fds[0] = sockets[0];
            }
            struct np_passport forged;
            int *const places[3] = {&forged.socket, &forged.segment, &forged.state};
            for (size_t place = 0; place < 3; place++) {
                np_fds_hold();
                CHECK((*places[place] = np_fd_made(dup(fds[place]))) >= 0);
            }
            struct np_handle *there;
            CHECK_EQUAL(np_arrive(&forged, &there), NP_INVALID_DATA);
            np_fd_close(sockets[0]);
            if (which == 0)
                np_fd_close(sockets[1]);
        }
    CHECK_EQUAL(open_descriptors(), before);
    close(network);
    close(unsealed);
    for (int i = 0; i < 2; i++) {
        close(stream[i]);
        close(datagrams[i]);
        close(tube[i]);
    }
    np_passport_drop(&passport);
    end(ends.client);
    end(ends.server);
}

/* The kernel says that the connection was reset, once, and then gives what had been sent. */
static void what_was_sent_before_the_question_was_read_is_there(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    struct np_passport passport;
    CHECK_EQUAL(np_depart(ends.client, true, &passport), NP_OK);
    int sockets[2];
    make_pair(sockets);
    const struct reply reply = {0x5450504e, 1, 0, 0};
    const int fds[3] = {passport.socket, passport.segment, passport.state};
    ask_with(sockets[1], &no_question, sizeof no_question, NULL, 0);
    ask_with(sockets[0], &reply, sizeof reply, fds, 3);
    np_passport_sent(&passport);
    np_hang_up(sockets[0]);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_OK);
    write_all(there, "not lost");
    read_all(ends.server, "not lost");
    np_fd_close(sockets[1]);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

static void one_who_lends_and_goes_without_a_word_has_lent_nothing(void)
{
    for (int asked = 0; asked < 2; asked++) {
        int sockets[2];
        make_pair(sockets);
        if (asked)
            ask_with(sockets[1], &no_question, sizeof no_question, NULL, 0);
        np_hang_up(sockets[0]);
        struct np_handle *there;
        struct np_wait wait = seconds(5);
        CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_INVALID_HANDLE);
        np_fd_close(sockets[1]);
    }
}

static void one_who_lends_and_has_no_descriptors_left_keeps_the_handle(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    int sockets[2];
    make_pair(sockets);
    CHECK_EQUAL(np_lend(ends.client, sockets[0]), NP_OK);
    struct rlimit before = use_up_descriptors();
    ask_with(sockets[1], &no_question, sizeof no_question, NULL, 0);
    struct pollfd item = {.fd = sockets[1], .events = POLLIN};
    CHECK_EQUAL(poll(&item, 1, 5000), 1);
    struct reply reply;
    CHECK(recv(sockets[1], &reply, sizeof reply, 0) == sizeof reply);
    CHECK_EQUAL(reply.code, NP_TOO_MANY_OPEN_FILES);
    CHECK(np_may_claim_again(reply.code));
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    write_all(ends.client, "here");
    read_all(ends.server, "here");
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim(sockets[1], &wait, &there), NP_OK);
    write_all(there, "there");
    read_all(ends.server, "there");
    np_fd_close(sockets[1]);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

#define PATIENCE_NS INT64_C(10000000000)

static void who_says_nothing_has_ten_seconds(void)
{
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 89, false), NP_OK);
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    int64_t began = np_now();
    int first = visit(), second = visit();
    CHECK_EQUAL(np_claim_from(getpid(), 1, &wait, &there), NP_INVALID_HANDLE); /* so both have been let in */
    int64_t let_in = np_now();
    /* By a clock that runs ahead. */
    pthread_mutex_lock(&np_process.lock);
    np_offers_due(began + PATIENCE_NS - 1);
    pthread_mutex_unlock(&np_process.lock);
    CHECK(!np_socket_hung_up(first) && !np_socket_hung_up(second));
    pthread_mutex_lock(&np_process.lock);
    np_offers_due(let_in + PATIENCE_NS);
    pthread_mutex_unlock(&np_process.lock);
    CHECK(np_socket_hung_up(first) && np_socket_hung_up(second));
    /* And by the true one. */
    began = np_now();
    int third = visit();
    struct pollfd item = {.fd = third, .events = POLLRDHUP};
    CHECK_EQUAL(poll(&item, 1, 20000), 1);
    CHECK(np_now() - began >= PATIENCE_NS);
    CHECK_EQUAL(np_claim_from(getpid(), 89, &wait, &there), NP_OK);
    np_fd_close(first);
    np_fd_close(second);
    np_fd_close(third);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

/* ---- Other users */

static void another_user_who_visits_is_sent_away(void)
{
    if (geteuid() != 0)
        return; /* only root acts as others */
    struct ends ends = open_ends(NP_TYPE_MESSAGE);
    CHECK_EQUAL(np_offer(ends.client, 88, false), NP_OK);
    char name[64];
    snprintf(name, sizeof name, "npipe/handles/%u/%d", (unsigned)geteuid(), (int)getpid());
    const struct np_credentials who = {.pid = getpid(), .uid = SOMEBODY, .gid = SOMEBODY};
    const struct question question = {0x5450504e, 1, 88};
    for (int i = 0; i < 200; i++) {
        CHECK(np_become(&who));
        int visitor = np_socket_connect_abstract(name, np_now() + INT64_C(5000000000));
        CHECK(np_revert());
        CHECK(visitor >= 0);
        (void)np_send_message(visitor, &question, sizeof question, -1);
        CHECK(hangs_up(visitor));
        struct reply reply;
        CHECK(recv(visitor, &reply, sizeof reply, MSG_DONTWAIT) <= 0);
        np_fd_close(visitor);
    }
    struct np_handle *there;
    struct np_wait wait = seconds(5);
    CHECK_EQUAL(np_claim_from(getpid(), 88, &wait, &there), NP_OK);
    np_free(ends.client);
    end(there);
    end(ends.server);
}

int main(void)
{
    RUN(a_forged_state_is_refused);
    RUN(each_word_of_a_state_may_be_a_lie);
    RUN(what_is_no_question_ends_the_connection_and_takes_nothing);
    RUN(a_child_that_talks_nonsense_leaves_the_handle_where_it_is);
    RUN(descriptors_that_nobody_has_asked_for_are_closed);
    RUN(an_answer_that_is_none_brings_no_handle);
    RUN(a_passport_whose_descriptors_are_of_other_kinds_is_refused);
    RUN(what_was_sent_before_the_question_was_read_is_there);
    RUN(one_who_lends_and_goes_without_a_word_has_lent_nothing);
    RUN(one_who_lends_and_has_no_descriptors_left_keeps_the_handle);
    RUN(who_says_nothing_has_ten_seconds);
    RUN(another_user_who_visits_is_sent_away);
    return 0;
}
