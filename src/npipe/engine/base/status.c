#include "base/status.h"

#include <stddef.h>

#include "base/codes.h"

#define STATUS_UNSUCCESSFUL UINT32_C(0xC0000001)
#define MESSAGE_NOT_FOUND 317

/* SEMANTICS 0.1 */
static const struct {
    uint32_t code, status;
} statuses[] = {
    {NP_OK, 0},
    {NP_IO_PENDING, NP_STATUS_PENDING},
    {NP_MORE_DATA, 0x80000005},
    {NP_INVALID_FUNCTION, 0xC00000AF},
    {NP_FILE_NOT_FOUND, 0xC0000034},
    {NP_ACCESS_DENIED, 0xC0000022},
    {NP_INVALID_HANDLE, 0xC0000008},
    {NP_NOT_ENOUGH_MEMORY, 0xC0000017},
    {38 /* ERROR_HANDLE_EOF */, 0xC0000011},
    {NP_INVALID_PARAMETER, 0xC000000D},
    {NP_BROKEN_PIPE, 0xC000014B},
    {NP_SEM_TIMEOUT, 0xC00000B5},
    {NP_BAD_PIPE, 0xC00000AD},
    {NP_PIPE_BUSY, 0xC00000AE},
    {NP_NO_DATA, 0xC00000B1},
    {NP_PIPE_NOT_CONNECTED, 0xC00000B0},
    {NP_PIPE_CONNECTED, 0xC00000B2},
    {NP_PIPE_LISTENING, 0xC00000B3},
    {NP_OPERATION_ABORTED, 0xC0000120},
    {NP_NOT_FOUND, 0xC0000225},
    {NP_NO_SYSTEM_RESOURCES, 0xC000009A},
};

uint32_t np_status_of(uint32_t code)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].code == code)
            return statuses[i].status;
    return STATUS_UNSUCCESSFUL;
}

uint32_t np_code_of_status(uint64_t status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status)
            return statuses[i].code;
    return MESSAGE_NOT_FOUND;
}
