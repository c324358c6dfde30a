/* base/crc32.h - CRC-32 (reflected 0xEDB88320, as in IEEE 802.3 and zlib). C99. */
#ifndef ROOST_BASE_CRC32_H
#define ROOST_BASE_CRC32_H

#include "base/span.h"

/* `crc` is 0 at the start, or an earlier result to go on from. */
uint32_t crc32_update(uint32_t crc, struct span s);

#endif
