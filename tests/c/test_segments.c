/* A segment from somebody who is not to be trusted: refused when it is mapped, harmless afterwards. */
#include <sys/mman.h>

#include "pair.h"

static struct npl_segment *new_segment(uint32_t quota, int *fd, struct np_link **server)
{
    struct np_link_shape shape = {.type = NP_TYPE_MESSAGE, .direction = 3, .quota = {quota, quota}, .server_pid = 1};
    CHECK_EQUAL(np_link_create(&shape, server, fd), NP_OK);
    return (*server)->segment;
}

static void a_segment_that_is_not_sealed_is_refused(void)
{
    int fd = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, 1 << 18) == 0);
    CHECK_EQUAL(np_segment_check(fd), 0);
    struct np_link *link;
    CHECK_EQUAL(np_link_accept(fd, -1, &link), NP_INVALID_DATA);
    close(fd);
}

static void a_header_with_any_word_wrong_is_refused(void)
{
    int fd;
    struct np_link *server, *link;
    struct npl_segment *segment = new_segment(4096, &fd, &server);
    struct npl_header good = segment->header;
    for (size_t byte = 0; byte < offsetof(struct npl_header, server_pid); byte++) {
        for (int bit = 0; bit < 8; bit++) {
            ((uint8_t *)segment)[byte] ^= (uint8_t)(1 << bit);
            uint32_t code = np_link_accept(fd, -1, &link);
            if (code == NP_OK) {
                /* Only what is harmless: another quota with the same ring, or another direction. */
                CHECK(byte >= offsetof(struct npl_header, quota));
                np_link_unref(link);
            }
            segment->header = good;
        }
    }
    CHECK_EQUAL(np_link_accept(fd, -1, &link), NP_OK);
    np_link_unref(link);
    np_fd_close(fd);
    np_link_unref(server);
}

/* Random words at random places of the shared part, while the victim does everything it can. */
static void no_word_in_the_segment_can_hurt(void)
{
    unsigned long long random = 88172645463325252ull;
    static const uint64_t chosen[] = {0, 1, 2, 127, 4096, 65535, 65536, 131072, UINT32_MAX, UINT64_MAX, UINT64_MAX / 2};
    long violations = 0;
    for (int round = 0; round < 3000; round++) {
        struct pair pair;
        open_pair(&pair, round & 1 ? NP_TYPE_MESSAGE : 0, round % 3 ? 4096 : 10);
        struct np_handle *victim = round & 2 ? &pair.server : &pair.client;
        struct np_handle *attacker = round & 2 ? &pair.client : &pair.server;
        char data[20000];
        memset(data, 'a', sizeof data);
        for (int step = 0; step < 30; step++) {
            uint32_t count, available, left, size = next_random(&random) % sizeof data;
            struct np_wait wait = for_ms(0);
            switch (next_random(&random) % 8) {
            case 0:
            case 1: {
                size_t place = 128 + next_random(&random) % (sizeof(struct npl_segment) - 128 - 8);
                uint64_t value = next_random(&random) & 1 ? chosen[next_random(&random) % 11] : next_random(&random);
                memcpy((uint8_t *)attacker->link->segment + place / 4 * 4, &value, next_random(&random) & 1 ? 4 : 8);
                break;
            }
            case 2: {
                size_t place = NPL_HEADER_SIZE + next_random(&random) % 70000;
                *((volatile uint8_t *)attacker->link->segment + place) = (uint8_t)next_random(&random);
                break;
            }
            case 3:
                np_write(attacker, data, size % 300, &count, &only_try);
                break;
            case 4:
                np_write(victim, data, size, &count, &wait);
                break;
            case 5:
                np_read(victim, data, size, &count, &wait);
                break;
            case 6:
                np_peek(victim, data, size % 5000, &count, &available, &left);
                break;
            default:
                np_flush(victim, &wait);
            }
        }
        violations += (victim->link->alert & NP_ALERT_BROKEN) != 0;
        close_pair(&pair);
    }
    CHECK(violations > 100); /* it did something */
}

int main(void)
{
    RUN(a_segment_that_is_not_sealed_is_refused);
    RUN(a_header_with_any_word_wrong_is_refused);
    RUN(no_word_in_the_segment_can_hurt);
    return 0;
}
