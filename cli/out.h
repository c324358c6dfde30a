/* cli/out.h - what a person sees: tables, progress, ages; and JSON for everything else. */
#ifndef ROOST_CLI_OUT_H
#define ROOST_CLI_OUT_H

#include "cli/cli.h"

#include <jansson.h>

/* A table whose columns are as wide as their widest cell. Cells are copied; NULL is "-". */
#define TABLE_COLS 8u
struct table {
    unsigned cols;
    char **cell; /* rows of cols */
    size_t nr, cap;
};
void table_begin(struct table *t, unsigned cols, const char *const *head);
void table_row(struct table *t, const char *const *cells);
void table_end(struct table *t, const struct cli *c, FILE *to); /* prints and frees */

/* A bar on a terminal, a line each tenth elsewhere, nothing with --json. To stderr. */
struct progress {
    const struct cli *cli;
    const char *what;
    bool counts; /* things, not bytes */
    uint64_t total, done;
    unsigned shown;    /* tenth or column last drawn */
    double started_s;  /* monotonic */
    uint64_t at_start; /* done when it began: resumed bytes are no speed */
};
void progress_begin(struct progress *p, const struct cli *c, const char *what, uint64_t total, uint64_t done);
void progress_begin_count(struct progress *p, const struct cli *c, const char *what, uint64_t total,
                          uint64_t done);
void progress_set(struct progress *p, uint64_t done);
void progress_end(struct progress *p);

/* A document member by member, nested ones indented. */
void members_print(const json_t *obj, int indent);
void json_print(json_t *doc); /* one document, indented on a terminal; takes it over */
/* Its text, in one line. Numbers have as few digits as read back the same: 0.1 stays 0.1. */
void json_write(FILE *to, const json_t *v);
/* JSON text as it came, but for controls that a terminal obeys (DEL, C1): those are written as \u00XX. */
void json_bytes(FILE *to, const char *p, size_t n);
const char *json_text(const json_t *obj, const char *name); /* NULL: absent */
/* A time in UTC without the fractions of its second; NULL: absent. */
const char *moment_text(const json_t *obj, const char *name, char out[24]);
uint64_t json_number(const json_t *obj, const char *name, uint64_t absent);
char *bytes_text(uint64_t n, char out[16]); /* "1.2 MB" */
double monotonic_s(void);
/* Control characters out: what devices say must not drive a terminal. In place. */
char *printable(char *text);

#endif
