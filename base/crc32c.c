/* base/crc32c.c - eight bytes a step, by the SSE 4.2 instruction or by eight tables. */
#include "base/crc32c.h"

#include <pthread.h>

static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void tables_make(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
        tables[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 0xff];
}

uint32_t crc32c_update_tables(uint32_t crc, struct span s)
{
    pthread_once(&tables_once, tables_make);
    crc = ~crc;
    for (; s.n >= 8; s = span_skip(s, 8)) {
        uint32_t lo =
            (uint32_t)s.p[0] | (uint32_t)s.p[1] << 8 | (uint32_t)s.p[2] << 16 | (uint32_t)s.p[3] << 24;
        lo ^= crc;
        crc = tables[7][lo & 0xff] ^ tables[6][lo >> 8 & 0xff] ^ tables[5][lo >> 16 & 0xff] ^
              tables[4][lo >> 24] ^ tables[3][s.p[4]] ^ tables[2][s.p[5]] ^ tables[1][s.p[6]] ^
              tables[0][s.p[7]];
    }
    for (size_t i = 0; i < s.n; i++)
        crc = crc >> 8 ^ tables[0][(crc ^ s.p[i]) & 0xff];
    return ~crc;
}

#if defined(__GNUC__) && defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t update_sse42(uint32_t crc, struct span s)
{
    uint64_t c = ~crc;
    for (; s.n >= 8; s = span_skip(s, 8)) {
        uint64_t v;
        memcpy(&v, s.p, 8);
        c = __builtin_ia32_crc32di(c, v);
    }
    for (size_t i = 0; i < s.n; i++)
        c = __builtin_ia32_crc32qi((uint32_t)c, s.p[i]);
    return ~(uint32_t)c;
}

uint32_t crc32c_update(uint32_t crc, struct span s)
{
    return __builtin_cpu_supports("sse4.2") ? update_sse42(crc, s) : crc32c_update_tables(crc, s);
}
#else
uint32_t crc32c_update(uint32_t crc, struct span s)
{
    return crc32c_update_tables(crc, s);
}
#endif
