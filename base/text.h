/* base/text.h - text forms of bytes and times: base64, hex, percent, decimal, ISO 8601. C99.
 * Writers follow struct wr; readers return an error and write nothing on bad input. */
#ifndef ROOST_BASE_TEXT_H
#define ROOST_BASE_TEXT_H

#include "base/err.h"
#include "base/span.h"

void hex_encode(struct wr *w, struct span bytes);                             /* lower case */
MUST_USE enum err hex_decode(struct span text, uint8_t *out, size_t out_len); /* exactly out_len bytes */
void base64_encode(struct wr *w, struct span bytes);                          /* RFC 4648 section 4, padded */
/* Padding may be missing; anything else out of the alphabet is ERR_PROTO; ERR_LIMIT when out_cap is short. */
MUST_USE enum err base64_decode(struct span text, uint8_t *out, size_t out_cap, size_t *out_len);
/* Everything but A-Z a-z 0-9 - _ . ~ becomes %XX, upper case (RFC 3986 section 2.3). */
void percent_encode(struct wr *w, struct span bytes);
/* %XX of either case is decoded, a malformed sequence is kept as it stands, '+' stays '+'. */
void percent_decode(struct wr *w, struct span text);
/* Decimal digits only. ERR_PROTO: empty or another character; ERR_LIMIT: over max. */
MUST_USE enum err u64_parse(struct span text, uint64_t max, uint64_t *out);
void u64_encode(struct wr *w, uint64_t v); /* decimal */
/* A Unicode scalar value as UTF-8 (RFC 3629): at most 0x10ffff, and no half of a surrogate pair. */
void utf8_encode(struct wr *w, uint32_t c);
/* wall_ms since 1970 as YYYY-MM-DDTHH:MM:SS.fffffffZ (27 bytes), seven digits as .NET writes them. */
void iso8601_encode(struct wr *w, uint64_t wall_ms);
/* YYYY-MM-DDTHH:MM:SS[.f{1,9}](Z|+hh:mm|-hh:mm); ERR_PROTO otherwise. */
MUST_USE enum err iso8601_decode(struct span text, uint64_t *wall_ms);
/* Sixteen random bytes as the text of a version 4 UUID, with a zero behind it (RFC 9562 section 5.4). */
void uuid_encode(const uint8_t random[16], char out[37]);
/* Without the spaces and tabs at either end (OWS, RFC 9110 section 5.6.3). */
struct span span_trim(struct span text);
/* Same bytes? Takes a time that depends on the lengths only. */
bool span_eq_ct(struct span a, struct span b);

#endif
