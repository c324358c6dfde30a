/* core/json/json.h - a thin JSON reader for the device, over jsmn: no heap, tokens in the caller's array.
 * And the few writers a device needs. Pure; C99. The hub and the tools use jansson instead: both are linked
 * into one program, so no name here may be one of jansson's (hence json_str). */
#ifndef ROOST_CORE_JSON_JSON_H
#define ROOST_CORE_JSON_JSON_H

#include "base/err.h"
#include "base/span.h"

#define JSMN_PARENT_LINKS
#define JSMN_STRICT
#ifndef ROOST_JSON_C /* json.c alone holds the code */
#define JSMN_HEADER
#endif
#include <jsmn.h>

struct json {
    struct span text;
    const jsmntok_t *tok;
    int nr;
};
#define JSON_ROOT 0

/* text: one JSON value, objects and arrays inside it; at most 1 MB.
 *   ERR_PROTO  not JSON      ERR_LIMIT  more than cap tokens */
MUST_USE enum err json_parse(struct json *j, struct span text, jsmntok_t *tok, size_t cap);

/* Values are named by their token's index; all getters return ERR_PROTO for a value of another type and
 * ERR_NOTFOUND where something is missing. */
MUST_USE enum err json_member(const struct json *j, int object, const char *name, int *value);
/* Children of an array or object in order: start with *it = 0. Objects yield the key in *key (else NULL). */
bool json_each(const struct json *j, int parent, int *it, int *key, int *value);
bool json_is_null(const struct json *j, int value);
bool json_is_object(const struct json *j, int value);
/* Unescaped; points into the text when nothing was escaped, else into mem (ERR_LIMIT: no room). */
MUST_USE enum err json_str(const struct json *j, int value, struct wr *mem, struct span *out);
MUST_USE enum err json_u64(const struct json *j, int value, uint64_t max, uint64_t *out);
MUST_USE enum err json_bool(const struct json *j, int value, bool *out);
struct span json_raw(const struct json *j, int value); /* its text; strings without their quotes */

/* Member and getter in one step, by far the most common use. */
MUST_USE enum err json_get_string(const struct json *j, int object, const char *name, struct wr *mem,
                                  struct span *out);
MUST_USE enum err json_get_u64(const struct json *j, int object, const char *name, uint64_t max,
                               uint64_t *out);

/* Writers. A string gets its quotes; bytes that are not UTF-8 become U+FFFD. */
void json_put_string(struct wr *w, struct span s);
/* Thousandths: -1250 is written -1.25. */
void json_put_milli(struct wr *w, int32_t v);

#endif
