/* core/query/query_impl.h - what the files of the language share: tokens, names, functions. */
#ifndef ROOST_CORE_QUERY_QUERY_IMPL_H
#define ROOST_CORE_QUERY_QUERY_IMPL_H

#include "core/query/query.h"

#include <assert.h>

enum query_dialect { QUERY_OF_TWINS = 1, QUERY_OF_ROUTES = 2 };

/* ---- lex.c --------------------------------------------------------------------------------------------- */

enum token_kind {
    TOKEN_END,
    TOKEN_NAME,   /* text: the name */
    TOKEN_QUOTED, /* [[ ]]; text: what is inside */
    TOKEN_NUMBER, /* num */
    TOKEN_STRING, /* text: between the quotes, still escaped */
    TOKEN_SIGN,   /* sign: one of the marks below */
    TOKEN_BAD     /* why: what is wrong with it */
};
enum token_sign { SIGN_NE = 256, SIGN_LE, SIGN_GE }; /* the others are their character */
struct token {
    enum token_kind kind;
    int sign;
    uint32_t at, end; /* offsets of its bytes */
    struct span text;
    double num;
    const char *why;
};
/* The token at offset `at`, which white space and comments may precede. */
void query_token(struct span text, uint32_t at, enum query_dialect dialect, struct token *out);
/* ---- parse.c: conditions; select.c: the rest of a query ------------------------------------------------ */

struct parser {
    struct span text;
    enum query_dialect dialect;
    struct query_error *err;
    enum err e;
    struct token t; /* the one at hand */
    unsigned depth;
    uint32_t items_at, group_at; /* where the select list and GROUP BY begin */
    uint8_t *mem;
    size_t cap, used;
};
void query_begin(struct parser *p, struct span text, enum query_dialect dialect, void *mem, size_t cap,
                 struct query_error *err);
void query_next(struct parser *p);
bool query_sign_is(const struct parser *p, int sign);
bool query_word_is(const struct parser *p, const char *word);
/* Zeroed; NULL: p->e is set. */
void *query_alloc(struct parser *p, size_t n);
/* Sets the error, unless there is one; "expected WHAT, found TOKEN" for query_expected. Always NULL. */
void *query_fail(struct parser *p, enum err e, uint32_t at, const char *a, struct span b, const char *c);
void *query_expected(struct parser *p, const char *what);
/* NULL: p->e is set. */
struct query_node *query_condition(struct parser *p);
struct query_node *query_path(struct parser *p); /* the token at hand begins it */
/* Paths of rows get their fields; to be called once the collection is known. */
void query_bind_path(struct query_path *path, enum query_from from);
bool query_bind(struct parser *p, struct query_node *n, enum query_from from);

/* ---- name.c -------------------------------------------------------------------------------------------- */

/* The spelling and the field of an attribute's name; NULL: it is none of that collection. */
const char *query_field_name(struct span name, enum query_from from, enum query_field *field);
/* A key word that cannot begin a path. */
bool query_is_reserved(struct span name, enum query_dialect dialect);

/* ---- func.c -------------------------------------------------------------------------------------------- */

struct query_func {
    const char *name;
    uint8_t dialects; /* enum query_dialect bits */
    uint8_t args_min, args_max;
    void (*run)(const struct query_value *arg, size_t nr, struct wr *mem, struct query_value *out);
};
/* By name, without case; -1: there is none of that name in this dialect. *other: the name it has there, or
 * NULL. */
int query_func_find(struct span name, enum query_dialect dialect, const char **other);
const struct query_func *query_func_at(unsigned sub);

/* ---- value.c ------------------------------------------------------------------------------------------- */

/* Decodes \' \" \\ \/ \b \f \n \r \t \uXXXX; what is no escape stays as it is and makes it false. */
bool query_unescape(struct wr *w, struct span raw);
/* -1, 0, 1 for primitives of one type; false: they do not compare. */
bool query_compare(const struct query_value *a, const struct query_value *b, int *order);

#endif
