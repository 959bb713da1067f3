/* What byte-mode reads took and could not deliver: the next reads get it, before the head entry. It counts as consumed.
 * A list, the next to be read first, of pieces as they were put back: an empty one is an empty message (an end, for
 * streams). Guarded by the handle's rx_lock. */
#ifndef NPIPE_BACK_H
#define NPIPE_BACK_H

#include <stdbool.h>
#include <stdint.h>

struct np_back;
struct np_op;
struct np_rx;

/* Where calls name the entry that they copy (np_rx_head), a piece is named by this bit and its number. */
#define NP_ENTRY_BACK (UINT64_C(1) << 63)

/* False: no memory. */
bool np_back_put(struct np_rx *rx, const void *data, uint32_t size);
/* The same of what is left of one that was longer. */
bool np_back_put_rest(struct np_rx *rx, const void *data, uint32_t size);
/* The name of the first piece. */
uint64_t np_back_entry(const struct np_rx *rx);
/* Reads from a list that is not empty. Byte mode: of one piece after the other, up to an empty one; message mode: of
 * the first, NP_MORE_DATA if it is longer. */
void np_back_read(struct np_rx *rx, struct np_op *op, bool message_mode);
/* Bytes of the first piece; copies up to `size` of them from `begin` on; consumes the first `size`, the whole piece
 * with its last. */
uint32_t np_back_rest(const struct np_rx *rx);
bool np_back_begun(const struct np_rx *rx); /* whether it was longer */
void np_back_copy(const struct np_rx *rx, uint32_t begin, void *target, uint32_t size);
void np_back_consume(struct np_rx *rx, uint32_t size);
/* Copies up to `size` bytes of all pieces without consuming. Returns the number, *available all there are. */
uint32_t np_back_peek(const struct np_rx *rx, void *target, uint32_t size, uint64_t *available);
void np_back_free(struct np_rx *rx);

/* The pieces, for whoever hands the end to another process. */
const struct np_back *np_back_next(const struct np_back *piece);
uint32_t np_back_size(const struct np_back *piece);
bool np_back_was_longer(const struct np_back *piece);
const void *np_back_bytes(const struct np_back *piece);

#endif
