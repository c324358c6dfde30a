/* base/crc32c.h - CRC-32C (Castagnoli, reflected 0x82F63B78), for much data: by the processor's own
 * instruction where it has one. base/crc32.h is the small one. */
#ifndef ROOST_BASE_CRC32C_H
#define ROOST_BASE_CRC32C_H

#include "base/span.h"

/* `crc` is 0 at the start, or an earlier result to go on from. Any thread. */
uint32_t crc32c_update(uint32_t crc, struct span s);
/* The same by tables alone; for the test that compares both. */
uint32_t crc32c_update_tables(uint32_t crc, struct span s);

#endif
