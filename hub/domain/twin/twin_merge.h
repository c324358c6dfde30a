/* hub/domain/twin/twin_merge.h - the rules of a twin's sections, without a store: what may be in them, how a
 * patch is merged, what is remembered of each leaf. Pure; trees live in the arena.
 *
 * A section is a JSON object. In a stored one every member and object carries a stamp (jnode.mark): when it
 * was last written, and with which version of its section. An array is one leaf. */
#ifndef ROOST_HUB_DOMAIN_TWIN_TWIN_MERGE_H
#define ROOST_HUB_DOMAIN_TWIN_TWIN_MERGE_H

#include "hub/domain/json_tree.h"

#define TWIN_KEY_MAX     1024u /* bytes */
#define TWIN_STRING_MAX  4096u /* bytes */
#define TWIN_NUMBER_MAX  64u   /* characters of one number */
#define TWIN_DEPTH_MAX   10u   /* objects below the section */
#define TWIN_INTEGER_MIN (-4503599627370496ll)
#define TWIN_INTEGER_MAX 4503599627370495ll
#define TWIN_TAGS_MAX    8192u
#define TWIN_SECTION_MAX 32768u
/* The size counts neither punctuation nor empty containers, so the text of a section has a cap as well. */
#define TWIN_TEXT_FACTOR 4u

enum twin_section { TWIN_TAGS, TWIN_DESIRED, TWIN_REPORTED };
const char *twin_section_name(enum twin_section s); /* "tags", "properties.desired", "properties.reported" */

enum twin_wrong { /* each with a message of its own */
                  TWIN_FINE = 0,
                  TWIN_NOT_JSON,
                  TWIN_NOT_OBJECT,
                  TWIN_BAD_KEY,
                  TWIN_TOO_DEEP,
                  TWIN_LONG_STRING,
                  TWIN_BAD_NUMBER,
                  TWIN_NULL_IN_ARRAY,
                  TWIN_TOO_LARGE,
                  TWIN_STALE
};
struct twin_fault {
    enum twin_wrong wrong;
    char text[320]; /* names the path and what is allowed; UTF-8, no control characters */
};
/* Sets the fault; always ERR_PROTO, so that checks can say `return twin_fail(...)`. */
enum err twin_fail(struct twin_fault *f, enum twin_wrong wrong, const char *text, ...)
    __attribute__((format(printf, 3, 4)));

/* May this patch be merged into the section? With `dollar`, "$version" and "$metadata" at its top are left
 * out of *out: tools send back what they read. ERR_PROTO: the fault says why; ERR_NOMEM. */
MUST_USE enum err twin_check(struct arena *a, enum twin_section s, const struct jnode *patch, bool dollar,
                             struct jnode **out, struct twin_fault *f);
/* Bytes of keys, bytes of strings that are no control characters, 8 a number, 4 a boolean. */
size_t twin_size(const struct jnode *section);
/* Is the merged section within its limits? ERR_PROTO. */
MUST_USE enum err twin_check_size(enum twin_section s, const struct jnode *section, struct twin_fault *f);

/* ---- merging ---------------------------------------------------------------------------------------- */

struct twin_stamp {
    uint64_t ms;      /* wall; 0: never */
    uint64_t version; /* of the section */
};
extern const struct twin_stamp twin_stamp_none; /* never, version 1: of what has no stamp yet */

/* `base` with the patch: null removes, an object is merged into an object, everything else replaces. What the
 * patch wrote, and the objects it is in, get the stamp `now`; so does the section itself, always.
 * base NULL: an empty one. NULL when memory is short. The result shares nodes with both. */
struct jnode *twin_merge(struct arena *a, const struct jnode *base, const struct jnode *patch,
                         const struct twin_stamp *now);
/* One patch that does what `below` does and then `above`: as a merge, but nulls stay. below NULL: nothing. */
struct jnode *twin_patch_over(struct arena *a, const struct jnode *below, const struct jnode *above);
/* A patch that makes `to` of `from`, with every member of `to` in it: what is gone is null. */
struct jnode *twin_replacement(struct arena *a, const struct jnode *from, const struct jnode *to);

/* ---- stamps as bytes -------------------------------------------------------------------------------- */

/* Runs of equal stamps in the order of the text: count, version, milliseconds since the run before (LEB128,
 * the last one zigzag). What a short form does not cover has twin_stamp_none. */
void twin_meta_encode(struct wr *w, const struct jnode *section);
/* Marks every node. ERR_PROTO: not such bytes, or more stamps than nodes; ERR_NOMEM. */
MUST_USE enum err twin_meta_decode(struct arena *a, struct span meta, struct jnode *section);

/* The section with "$metadata" (unless meta is false) and "$version". lastUpdatedVersion belongs to desired
 * alone. */
void twin_section_write(struct wr *w, enum twin_section s, const struct jnode *section, uint64_t version,
                        bool meta);
void twin_time_write(struct wr *w, uint64_t wall_ms); /* quoted; 0 is "0001-01-01T00:00:00Z" */

#endif
