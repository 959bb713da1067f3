#include "ring/back.h"

#include <stdlib.h>
#include <string.h>

#include "base/codes.h"
#include "ring/link.h"
#include "ring/op.h"

struct np_back {
    struct np_back *next;
    uint64_t entry;
    uint32_t size, begin; /* bytes left, and where they begin */
    uint8_t data[];
};

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* `begin`: so many bytes of it were read already. */
static bool put(struct np_rx *rx, const void *data, uint32_t size, uint32_t begin)
{
    struct np_back *piece = malloc(sizeof *piece + begin + size);
    if (!piece)
        return false;
    piece->next = rx->back;
    piece->entry = NP_ENTRY_BACK | rx->backs++;
    piece->size = size;
    piece->begin = begin;
    if (size)
        memcpy(piece->data + begin, data, size);
    rx->back = piece;
    return true;
}

bool np_back_put(struct np_rx *rx, const void *data, uint32_t size)
{
    return put(rx, data, size, 0);
}

bool np_back_put_rest(struct np_rx *rx, const void *data, uint32_t size)
{
    return put(rx, data, size, 1); /* how many does not matter to anybody */
}

uint64_t np_back_entry(const struct np_rx *rx)
{
    return rx->back->entry;
}

uint32_t np_back_rest(const struct np_rx *rx)
{
    return rx->back->size;
}

bool np_back_begun(const struct np_rx *rx)
{
    return rx->back->begin > 0;
}

void np_back_copy(const struct np_rx *rx, uint32_t begin, void *target, uint32_t size)
{
    if (size)
        memcpy(target, rx->back->data + rx->back->begin + begin, size);
}

void np_back_consume(struct np_rx *rx, uint32_t size)
{
    struct np_back *piece = rx->back;
    piece->begin += size;
    piece->size -= size;
    if (piece->size)
        return;
    rx->back = piece->next;
    free(piece);
}

void np_back_read(struct np_rx *rx, struct np_op *op, bool message_mode)
{
    op->count = 0;
    op->done = true;
    op->code = NP_OK;
    do {
        uint32_t rest = rx->back->size, piece = smaller(op->size - op->count, rest);
        if (rest == 0 && op->count)
            return; /* the next read's */
        if (piece)
            np_back_copy(rx, 0, op->out + op->count, piece);
        op->count += piece;
        if (piece || rest == 0)
            np_back_consume(rx, piece);
        if (message_mode && piece < rest)
            op->code = NP_MORE_DATA;
        if (message_mode || rest == 0)
            return;
    } while (rx->back && op->count < op->size);
}

uint32_t np_back_peek(const struct np_rx *rx, void *target, uint32_t size, uint64_t *available)
{
    uint32_t count = 0;
    *available = 0;
    for (const struct np_back *piece = rx->back; piece; piece = piece->next) {
        uint32_t part = smaller(size - count, piece->size);
        if (part)
            memcpy((uint8_t *)target + count, piece->data + piece->begin, part);
        count += part;
        *available += piece->size;
    }
    return count;
}

void np_back_free(struct np_rx *rx)
{
    while (rx->back) {
        struct np_back *piece = rx->back;
        rx->back = piece->next;
        free(piece);
    }
}

const struct np_back *np_back_next(const struct np_back *piece)
{
    return piece->next;
}

uint32_t np_back_size(const struct np_back *piece)
{
    return piece->size;
}

bool np_back_was_longer(const struct np_back *piece)
{
    return piece->begin > 0;
}

const void *np_back_bytes(const struct np_back *piece)
{
    return piece->data + piece->begin;
}
