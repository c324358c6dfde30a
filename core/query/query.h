/* core/query/query.h - the query language: SELECT over twins and job records, target conditions, and the
 * conditions of routes. Parsed into memory of the caller, evaluated over any row that can answer for a path.
 * Pure: no heap, no clock; any thread.
 *
 *     SELECT [TOP n] * | item, ... FROM devices | devices.modules | devices.jobs
 *     [WHERE condition] [GROUP BY path]
 *
 * A condition selects a row only when it is exactly true; a path that leads nowhere is undefined, and so is
 * nearly all that is made of it (truth.h has the rules). Spans of a query point into its text or its memory.
 * Source: docs/query.md. */
#ifndef ROOST_CORE_QUERY_QUERY_H
#define ROOST_CORE_QUERY_QUERY_H

#include "base/err.h"
#include "base/span.h"

#define QUERY_TEXT_MAX  8192u /* characters of a query or a target condition */
#define QUERY_ROUTE_MAX 2048u /* bytes of a route condition */
#define QUERY_DEPTH_MAX 64u   /* parentheses, NOT, minus and calls inside each other */
#define QUERY_LIST_MAX  1000u /* elements of a list */
#define QUERY_ARGS_MAX  32u   /* arguments of a call */
#define QUERY_ITEMS_MAX 100u  /* items of a select list */
#define QUERY_STEPS_MAX 64u   /* names and indexes of a path */
/* Enough memory for any text of n characters: one makes at most a node and a step of a path. */
#define QUERY_MEM(n) ((size_t)(n)*96u + 1024u)
/* Enough scratch for what the functions of one condition make of ordinary values; a string that does not fit
 * is undefined. */
#define QUERY_SCRATCH 65536u

enum query_kind {
    QUERY_UNDEFINED,
    QUERY_NULL,
    QUERY_BOOL,
    QUERY_NUMBER,
    QUERY_STRING,
    QUERY_ARRAY, /* s is JSON text, or list is set */
    QUERY_OBJECT /* s is JSON text */
};
struct query_node;
struct query_value {
    uint8_t kind; /* enum query_kind */
    bool b;
    bool nocase; /* a string that compares without case */
    double num;
    struct span s;                 /* of a string: decoded */
    const struct query_node *list; /* an array written in the query */
};

enum query_root {               /* what a path begins at */
                  QUERY_ROW,    /* a twin or a job record */
                  QUERY_APP,    /* route: application property */
                  QUERY_SYSTEM, /* route: $name, with the '$' */
                  QUERY_BODY,   /* route: $body, which is not among the steps */
                  QUERY_TWIN    /* route: $twin, likewise */
};
enum query_field { /* the attribute that a path of QUERY_ROW begins with */
                   QUERY_OTHER,
                   QUERY_DEVICE_ID,
                   QUERY_MODULE_ID,
                   QUERY_ETAG,
                   QUERY_DEVICE_ETAG,
                   QUERY_STATUS, /* of a job record too */
                   QUERY_STATUS_REASON,
                   QUERY_STATUS_UPDATE_TIME,
                   QUERY_CONNECTION_STATE,
                   QUERY_LAST_ACTIVITY_TIME,
                   QUERY_C2D_COUNT,
                   QUERY_AUTHENTICATION_TYPE,
                   QUERY_X509_THUMBPRINT,
                   QUERY_MODEL_ID,
                   QUERY_VERSION,
                   QUERY_TAGS,
                   QUERY_PROPERTIES, /* alone; else one of the two that follow */
                   QUERY_DESIRED,
                   QUERY_REPORTED,
                   QUERY_CAPABILITIES,
                   QUERY_DEVICE_SCOPE,
                   QUERY_PARENT_SCOPES,
                   QUERY_CONFIGURATIONS,
                   QUERY_JOB_ID,
                   QUERY_JOB_TYPE,
                   QUERY_START_TIME,
                   QUERY_END_TIME,
                   QUERY_CREATED_TIME,
                   QUERY_LAST_UPDATED_TIME,
                   QUERY_OUTCOME,
                   QUERY_ERROR
};
struct query_step {
    struct span name; /* p NULL: an index */
    uint32_t index;   /* from zero */
};
struct query_path {
    uint8_t root, field; /* enum query_root, query_field */
    uint8_t field_steps; /* that the field takes: 2 for properties.desired, else 1; 0 for QUERY_OTHER */
    uint16_t nr;
    uint32_t at;                   /* where it begins: offset in the text */
    const struct query_step *step; /* names of attributes in their canonical spelling */
};

enum query_op {
    QUERY_LITERAL,
    QUERY_PATH,
    QUERY_LIST,
    QUERY_CALL,    /* sub: the function */
    QUERY_NEGATE,  /* unary minus */
    QUERY_ARITH,   /* children joined by their `joint`, left to right */
    QUERY_COMPARE, /* sub: enum query_compare */
    QUERY_IN,      /* left side, list; sub 1: NOT IN */
    QUERY_NOT,
    QUERY_AND, /* two or more children */
    QUERY_OR
};
enum query_compare { QUERY_EQ, QUERY_NE, QUERY_LT, QUERY_LE, QUERY_GT, QUERY_GE };
struct query_node {
    uint8_t op, sub;
    uint8_t joint; /* '+' '-' '*' '/' '%': what stands before this child of an QUERY_ARITH */
    uint32_t nr;   /* children */
    struct query_node *first, *next;
    union {
        struct query_value value; /* QUERY_LITERAL */
        struct query_path path;   /* QUERY_PATH */
    } u;
};

enum query_from { QUERY_DEVICES, QUERY_MODULES, QUERY_JOBS };
enum query_aggregate { QUERY_PLAIN, QUERY_COUNT, QUERY_AVG, QUERY_SUM, QUERY_MIN, QUERY_MAX };
struct query_item {
    uint8_t aggregate;             /* enum query_aggregate */
    const struct query_node *path; /* NULL for COUNT */
    struct span name;              /* of the member in the result */
    uint32_t at;                   /* where it begins: offset in the text */
};
struct query {
    uint8_t from; /* enum query_from */
    bool star, has_top, aggregates;
    uint64_t top;
    const struct query_item *items;
    size_t items_nr;
    const struct query_node *where; /* NULL: every row */
    const struct query_node *group; /* a path, or NULL */
    size_t mem_used;
};

struct query_error {
    uint32_t at, line, column; /* byte offset; line and column (in characters) from 1 */
    char message[160];         /* what was expected and what is there */
};

/* Sets at, line and column for a byte of the text. */
void query_error_place(struct query_error *err, struct span text, uint32_t at);

/* Each: ERR_PROTO not of the language, ERR_LIMIT one of the caps above, ERR_NOMEM mem is too small; *err is
 * set with every error. `mem` is aligned as malloc aligns and lives as long as the query, like the text. */
MUST_USE enum err query_parse(struct query *q, struct span text, void *mem, size_t cap,
                              struct query_error *err);
/* What follows WHERE; "*" or nothing: every row of `from`. "FROM devices.modules WHERE ..." says it itself.
 */
MUST_USE enum err query_parse_condition(struct query *q, enum query_from from, struct span text, void *mem,
                                        size_t cap, struct query_error *err);
/* The condition of a route; nothing: every message. */
MUST_USE enum err query_parse_route(struct query *q, struct span text, void *mem, size_t cap,
                                    struct query_error *err);

/* What a condition is evaluated over. get(): the value at p, into *out (all zeros before: undefined); strings
 * live as long as the row or are put into mem. */
struct query_row {
    void (*get)(struct query_row *row, const struct query_path *p, struct wr *mem, struct query_value *out);
};
/* mem: scratch, for one evaluation. */
void query_eval(const struct query_node *n, struct query_row *row, struct wr *mem, struct query_value *out);
/* Is it selected? NULL: yes. */
bool query_match(const struct query_node *n, struct query_row *row, struct wr *mem);

/* Is the node a call that asks whether one string begins with another? */
bool query_is_prefix_test(const struct query_node *n);
/* Calls `each` for every path in a condition, until it says false; false then. */
bool query_each_path(const struct query_node *n, bool (*each)(void *ctx, const struct query_path *p),
                     void *ctx);

/* ---- results ------------------------------------------------------------------------------------------- */

/* The select list of a row as a JSON object; members that are undefined are left out. */
void query_project(const struct query *q, struct query_row *row, struct wr *mem, struct wr *out);

/* What the aggregates have seen: one for each item, zeroed at first. */
struct query_fold {
    uint64_t nr; /* rows for COUNT, else numbers */
    double sum, min, max;
};
void query_fold_row(const struct query *q, struct query_row *row, struct wr *mem, struct query_fold *fold);
/* One row of the result; key: the value that GROUP BY found, ignored without. */
void query_fold_put(const struct query *q, const struct query_value *key, const struct query_fold *fold,
                    struct wr *out);

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* A row that is one JSON document: a twin as it is shown, a job record. */
struct query_document {
    struct query_row row; /* first */
    struct span json;
};
void query_document_init(struct query_document *d, struct span json);

/* A row that is a message, for routes. */
struct query_message {
    struct query_row row; /* first */
    void *ctx;
    /* By name without case, the system property without its '$'; false: there is none. */
    bool (*system)(void *ctx, struct span name, struct span *value);
    bool (*app)(void *ctx, struct span name, struct span *value);
    struct span body; /* JSON, or empty */
    /* Of the device or module that sent it; asked with paths of QUERY_TWIN, whose names match without case.
     * NULL: none. */
    struct query_row *twin;
};
/* body: as sent; of any use only when the content type is JSON and the encoding UTF-8, UTF-16 or UTF-32. mem
 * holds it in UTF-8 when it was not, as long as m is used. The other members are set by the caller before. */
void query_message_init(struct query_message *m, struct span body, struct wr *mem);

/* ---- values as JSON ------------------------------------------------------------------------------------ */

/* The value that the steps lead to in a JSON text; nocase: names match without case where none matches
 * exactly. Text that is not JSON yields some value or none. */
void query_json_get(struct span json, const struct query_step *step, size_t nr, bool nocase, struct wr *mem,
                    struct query_value *out);
/* Next element of a JSON array: *at is the array's text first, then what is left; false at the end. */
bool query_json_each(struct span *at, struct wr *mem, struct query_value *out);
/* As JSON text; undefined writes nothing. */
void query_json_put(struct wr *w, const struct query_value *v);
/* Characters of a text in UTF-8. */
size_t query_characters(struct span s);
/* Is it one JSON value, and nothing else? */
bool query_json_valid(struct span json);
/* A JSON number, whole; false: it is none. */
bool query_number(struct span s, double *out);

#endif
