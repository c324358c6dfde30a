/* core/amqp/amqp_value.h - the AMQP 1.0 type system: values read as views into the bytes they came in, and
 * written compactly. Pure: any thread, hub or tool. Spans point into the input and live as long.
 * Source: OASIS AMQP 1.0 part 1, "Types"; sections in [brackets]. */
#ifndef ROOST_CORE_AMQP_AMQP_VALUE_H
#define ROOST_CORE_AMQP_AMQP_VALUE_H

#include "base/err.h"
#include "base/span.h"

enum amqp_type { /* [1.6] */
                 AMQP_NULL = 0,
                 AMQP_BOOL,
                 AMQP_UBYTE,
                 AMQP_USHORT,
                 AMQP_UINT,
                 AMQP_ULONG,
                 AMQP_BYTE,
                 AMQP_SHORT,
                 AMQP_INT,
                 AMQP_LONG,
                 AMQP_FLOAT,
                 AMQP_DOUBLE,
                 AMQP_DECIMAL32,
                 AMQP_DECIMAL64,
                 AMQP_DECIMAL128,
                 AMQP_CHAR,
                 AMQP_TIMESTAMP,
                 AMQP_UUID,
                 AMQP_BINARY,
                 AMQP_STRING,
                 AMQP_SYMBOL,
                 AMQP_LIST,
                 AMQP_MAP,
                 AMQP_ARRAY,
                 AMQP_DESCRIBED,
                 AMQP_TYPES
};
#define AMQP_DEPTH_MAX 16u /* compounds and descriptors inside each other */

struct amqp_value {
    uint8_t type;      /* enum amqp_type */
    uint8_t item;      /* array: the constructor of its elements; 0: described elements */
    uint32_t count;    /* list, array: elements; map: keys and values together */
    uint64_t u;        /* bool; unsigned numbers; char; signed numbers and timestamp (ms since 1970) as two's
                        * complement; bits of a float, double, decimal32 or decimal64 */
    struct span bytes; /* binary, string, symbol; uuid and decimal128: 16 bytes; list, map, array: what is
                        * inside; described: the descriptor, then the value */
    struct span raw;   /* the encoding, constructor included; an array's element: without it */
};

/* Takes one value off the front of r. A broken one sets r->bad and yields null. What is inside a list, map or
 * array is looked at when it is walked. */
void amqp_read(struct rd *r, struct amqp_value *out);
/* One value and nothing behind it. ERR_PROTO. */
MUST_USE enum err amqp_read_one(struct span s, struct amqp_value *out);
/* Is it a well-formed value all the way down, at most AMQP_DEPTH_MAX deep? */
bool amqp_is_valid(const struct amqp_value *v);

/* Walks a list, map (key, value, key, ...) or array; anything else has no elements. */
struct amqp_walk {
    struct rd r; /* r.bad after the end: it was broken */
    uint32_t left;
    uint8_t type, item;
    struct span descriptor; /* of each element of an array of described values */
};
struct amqp_walk amqp_walk_of(const struct amqp_value *v);
bool amqp_walk_next(struct amqp_walk *w, struct amqp_value *out); /* false: no more, or broken */
/* The value of a map under a key, a string or symbol of this text; false: not there, or not a map. */
bool amqp_map_get(const struct amqp_value *map, struct span key, struct amqp_value *out);
/* Takes a described value apart. False: not one, or broken. */
bool amqp_described(const struct amqp_value *v, struct amqp_value *descriptor, struct amqp_value *inner);

static inline bool amqp_is_text(const struct amqp_value *v)
{
    return v->type == AMQP_STRING || v->type == AMQP_SYMBOL;
}
/* Any integer type whose value lies in the range. */
bool amqp_get_u64(const struct amqp_value *v, uint64_t max, uint64_t *out);
bool amqp_get_i64(const struct amqp_value *v, int64_t *out);

/* ---- writing; the shortest form of each type -------------------------------------------------------- */

void amqp_put_null(struct wr *w);
void amqp_put_bool(struct wr *w, bool v);
void amqp_put_ubyte(struct wr *w, uint8_t v);
void amqp_put_ushort(struct wr *w, uint16_t v);
void amqp_put_uint(struct wr *w, uint32_t v);
void amqp_put_ulong(struct wr *w, uint64_t v);
void amqp_put_int(struct wr *w, int32_t v);
void amqp_put_long(struct wr *w, int64_t v);
void amqp_put_timestamp(struct wr *w, uint64_t wall_ms);
void amqp_put_uuid(struct wr *w, const uint8_t v[16]);
void amqp_put_binary(struct wr *w, struct span v);
void amqp_put_string(struct wr *w, struct span v);
void amqp_put_symbol(struct wr *w, struct span v);
/* The head of a binary of n bytes; the bytes follow from elsewhere. */
void amqp_put_binary_head(struct wr *w, size_t n);
/* A value of any type, as it was read; scalars in their shortest form, compounds as they stand. */
void amqp_put_value(struct wr *w, const struct amqp_value *v);
/* 0x00 and the descriptor; the value follows. */
void amqp_put_descriptor(struct wr *w, uint64_t code);

/* begin returns what end wants; between them the elements are written. Between begin and end the bytes may
 * move by a few places, so nobody keeps offsets behind `at`. */
size_t amqp_list_begin(struct wr *w);
void amqp_list_end(struct wr *w, size_t at, uint32_t count);
size_t amqp_map_begin(struct wr *w);
void amqp_map_end(struct wr *w, size_t at, uint32_t count); /* keys and values together */
/* Elements are written without a constructor: amqp_array_string_put, or wr_*. */
size_t amqp_array_begin(struct wr *w, uint8_t constructor);
void amqp_array_end(struct wr *w, size_t at, uint32_t count);
#define AMQP_SYM32 0xb3u
#define AMQP_STR32 0xb1u
void amqp_array_text_put(struct wr *w,
                         struct span v); /* an element of an array of AMQP_SYM32 or AMQP_STR32 */

/* Numbers in network order. */
static inline void wr_be32(struct wr *w, uint32_t v)
{
    wr_be16(w, (uint16_t)(v >> 16));
    wr_be16(w, (uint16_t)v);
}
static inline void wr_be64(struct wr *w, uint64_t v)
{
    wr_be32(w, (uint32_t)(v >> 32));
    wr_be32(w, (uint32_t)v);
}
static inline uint32_t rd_be32(struct rd *r)
{
    uint32_t hi = rd_be16(r);
    return hi << 16 | rd_be16(r);
}

#endif
