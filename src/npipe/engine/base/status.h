/* NTSTATUS: how an OVERLAPPED says what became of its operation. */
#ifndef NPIPE_STATUS_H
#define NPIPE_STATUS_H

#include <stdatomic.h>
#include <stdint.h>

/* The first two fields of an OVERLAPPED in the program's own memory (IO_STATUS_BLOCK). */
struct np_status_block {
    _Atomic uint64_t status; /* STATUS_PENDING until it is over; stored last, with release */
    _Atomic uint64_t count;  /* bytes moved */
};

#define NP_STATUS_PENDING UINT32_C(0x103)

/* The status that stands for a Win32 code; STATUS_UNSUCCESSFUL for one that pipes do not give. */
uint32_t np_status_of(uint32_t code);
/* The Win32 code for such a status; 317 (ERROR_MR_MID_NOT_FOUND) for another one, as RtlNtStatusToDosError has it. */
uint32_t np_code_of_status(uint64_t status);

#endif
