/* cli/cmd_query.c - roost query: asks the fleet; a table for a person, JSON or CSV for everything else. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include <string.h>

#define CELL_MAX 60u /* characters of a cell in a table */

struct output {
    struct cli *c;
    bool csv;
    bool twins; /* of documents a table shows what matters, not all */
    char **col;
    size_t cols, cols_cap;
    json_t *rows; /* what came so far: a table needs all, JSON is printed row by row */
    uint64_t left;
    uint64_t shown;
};

/* ---- columns ------------------------------------------------------------------------------------------- */

static void add_column(struct output *o, const char *name)
{
    for (size_t i = 0; i < o->cols; i++)
        if (strcmp(o->col[i], name) == 0)
            return;
    if (o->cols == o->cols_cap) {
        o->cols_cap = o->cols_cap ? 2 * o->cols_cap : 8;
        char **more = cli_alloc(o->cols_cap * sizeof *more);
        if (o->cols)
            memcpy(more, o->col, o->cols * sizeof *more);
        free(o->col);
        o->col = more;
    }
    char *kept = cli_alloc(strlen(name) + 1);
    strcpy(kept, name);
    o->col[o->cols++] = kept;
}

static void find_columns(struct output *o)
{
    static const char *const of_twins[] = { "deviceId",        "moduleId", "status",
                                            "connectionState", "version",  "tags" };
    static const char *const of_jobs[] = { "jobId", "deviceId", "jobType", "status",
                                           "lastUpdatedDateTimeUtc" };
    size_t i;
    json_t *row, *v;
    const char *name;
    json_array_foreach(o->rows, i, row)
    {
        if (json_object_get(row, "jobId") && o->twins) {
            for (size_t k = 0; k < sizeof of_jobs / sizeof of_jobs[0]; k++)
                add_column(o, of_jobs[k]);
        } else if (o->twins) {
            for (size_t k = 0; k < sizeof of_twins / sizeof of_twins[0]; k++)
                if (json_object_get(row, of_twins[k]))
                    add_column(o, of_twins[k]);
        } else {
            json_object_foreach(row, name, v) add_column(o, name);
        }
    }
}

/* The text of a cell; the caller frees it. NULL: there is no value. */
static char *cell_text(const json_t *v)
{
    if (!v)
        return NULL;
    if (!json_is_string(v))
        return json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    char *copy = cli_alloc(json_string_length(v) + 1);
    memcpy(copy, json_string_value(v), json_string_length(v));
    return copy;
}

/* ---- forms --------------------------------------------------------------------------------------------- */

static void print_table(struct output *o)
{
    struct table t;
    size_t i;
    json_t *row;
    find_columns(o);
    unsigned cols = o->cols < TABLE_COLS ? (unsigned)o->cols : TABLE_COLS;
    if (!cols)
        return;
    table_begin(&t, cols, (const char *const *)o->col);
    json_array_foreach(o->rows, i, row)
    {
        char *cells[TABLE_COLS] = { NULL };
        for (unsigned k = 0; k < cols; k++) {
            cells[k] = cell_text(json_object_get(row, o->col[k]));
            if (cells[k] && strlen(cells[k]) > CELL_MAX) {
                size_t end = CELL_MAX - 3;
                while (end && ((unsigned char)cells[k][end] & 0xc0) == 0x80)
                    end--;
                strcpy(cells[k] + end, "...");
            }
            if (cells[k])
                printable(cells[k]);
        }
        table_row(&t, (const char *const *)cells);
        for (unsigned k = 0; k < cols; k++)
            free(cells[k]);
    }
    table_end(&t, o->c, stdout);
    if (o->cols > cols)
        cli_say(o->c, "%zu more columns: --json or --csv shows them\n", o->cols - cols);
}

/* RFC 4180; a text that a spreadsheet would take for a formula stays what it is. */
static void csv_cell(const char *text)
{
    if (text && !strpbrk(text, ",\"\r\n")) {
        fputs(text, stdout);
        return;
    }
    if (!text)
        return;
    putchar('"');
    for (; *text; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    putchar('"');
}

static void print_csv(struct output *o)
{
    size_t i;
    json_t *row;
    find_columns(o);
    for (size_t k = 0; k < o->cols; k++) {
        if (k)
            putchar(',');
        csv_cell(o->col[k]);
    }
    if (o->cols)
        fputs("\r\n", stdout);
    json_array_foreach(o->rows, i, row)
    {
        for (size_t k = 0; k < o->cols; k++) {
            char *text = cell_text(json_object_get(row, o->col[k]));
            if (k)
                putchar(',');
            csv_cell(text);
            free(text);
        }
        fputs("\r\n", stdout);
    }
}

/* One array, written as the pages come, so that a large fleet needs no memory here. */
static void print_json_rows(struct output *o, const json_t *rows)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        fputs(o->shown++ ? ",\n" : "[\n", stdout);
        json_dumpf(row, stdout, JSON_COMPACT);
    }
}

/* ---- errors -------------------------------------------------------------------------------------------- */

/* "line 2, column 7: ...": shows the line of the query and a caret under the column. */
static void show_place(const char *text, const char *message)
{
    char *end;
    const char *at = message ? strstr(message, "line ") : NULL;
    if (!at)
        return;
    unsigned long line = strtoul(at + 5, &end, 10);
    if (strncmp(end, ", column ", 9) != 0)
        return;
    unsigned long column = strtoul(end + 9, NULL, 10);
    for (; line > 1 && (text = strchr(text, '\n')); line--)
        text++;
    if (!text || !column)
        return;
    size_t n = strcspn(text, "\n");
    char *copy = cli_alloc(n + 1);
    memcpy(copy, text, n);
    for (char *p = copy; *p; p++)
        if (*p == '\t')
            *p = ' ';
    fprintf(stderr, "  %s\n  %*s^\n", printable(copy), (int)(column - 1), "");
    free(copy);
}

static int complain(const struct hub_answer *answer, const char *text)
{
    int rc = hub_complain(answer, "asking the fleet");
    json_t *doc = json_loadb((const char *)answer->body, answer->body_len, 0, NULL);
    const json_t *e = json_object_get(doc, "error");
    if (json_text(e, "code") && strcmp(json_text(e, "code"), "bad-query-text") == 0)
        show_place(text, json_text(e, "message"));
    json_decref(doc);
    return rc;
}

/* ---- pages --------------------------------------------------------------------------------------------- */

/* One page; *next is the continuation, freed by the caller, NULL at the end. */
static int fetch(struct output *o, const char *text, char **next)
{
    struct hub_answer answer = { 0 };
    json_t *body = json_pack("{s:s}", "query", text), *doc;
    if (!body)
        return cli_fail(CLI_USAGE, NULL, "the query is not text in UTF-8");
    if (*next)
        json_object_set_new(body, "next", json_string(*next));
    if (o->left < 1000)
        json_object_set_new(body, "limit", json_integer((json_int_t)o->left));
    char *bytes = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    struct hub_request r = { .method = "POST",
                             .path = "/roost/v1/query",
                             .content_type = "application/json",
                             .body = span_str(bytes) };
    int rc = hub_ask(o->c, &r, &answer);
    free(bytes);
    free(*next);
    *next = NULL;
    if (rc || answer.status != 200) {
        rc = rc ? hub_unreachable(o->c, &answer) : complain(&answer, text);
        hub_answer_free(&answer);
        return rc;
    }
    doc = json_loadb((const char *)answer.body, answer.body_len, 0, NULL);
    hub_answer_free(&answer);
    json_t *rows = json_object_get(doc, "rows");
    if (!json_is_array(rows)) {
        json_decref(doc);
        return cli_fail(CLI_UNREACHABLE, NULL, "the hub's answer is not a page of rows");
    }
    size_t nr = json_array_size(rows);
    o->twins = json_text(doc, "type") && strcmp(json_text(doc, "type"), "Raw") != 0;
    o->left -= nr < o->left ? nr : o->left;
    if (o->c->json)
        print_json_rows(o, rows);
    else
        json_array_extend(o->rows, rows);
    if (json_text(doc, "next") && o->left) {
        *next = cli_alloc(strlen(json_text(doc, "next")) + 1);
        strcpy(*next, json_text(doc, "next"));
    }
    json_decref(doc);
    return CLI_OK;
}

static int query_run_(struct cli *c, const struct args *a)
{
    struct output o = { .c = c, .csv = args_has(a, "csv"), .left = UINT64_MAX, .rows = json_array() };
    const char *text = a->pos[0];
    char *next = NULL;
    int rc;
    if (args_has(a, "limit") && arg_u64(args_get(a, "limit"), 1, UINT32_MAX, &o.left)) {
        json_decref(o.rows);
        return cli_fail(CLI_USAGE, NULL, "--limit: '%s' is not a number from 1 on", args_get(a, "limit"));
    }
    if (o.csv && c->json) {
        json_decref(o.rows);
        return cli_fail(CLI_USAGE, NULL, "--csv and --json exclude each other");
    }
    rc = hub_open(c);
    do
        rc = rc ? rc : fetch(&o, text, &next);
    while (!rc && next);
    if (!rc && c->json)
        fputs(o.shown ? "\n]\n" : "[]\n", stdout);
    else if (!rc && o.csv)
        print_csv(&o);
    else if (!rc && json_array_size(o.rows))
        print_table(&o);
    else if (!rc)
        cli_say(c, "no rows\n");
    free(next);
    for (size_t i = 0; i < o.cols; i++)
        free(o.col[i]);
    free(o.col);
    json_decref(o.rows);
    return rc;
}

static const struct opt query_opts[] = { { "csv", 0, NULL, "comma-separated values, a heading first" },
                                         { "limit", 'n', "N", "at most N rows" },
                                         { 0 } };

const struct command query_commands[] = {
    { "query", "TEXT", "Asks the fleet: SELECT ... FROM devices WHERE ...",
      "TEXT is one argument, so it stands in quotes:\n"
      "  roost query \"SELECT deviceId, tags.site FROM devices WHERE connectionState = 'Connected'\"\n"
      "  roost query \"SELECT tags.site, COUNT() AS n FROM devices GROUP BY tags.site\"\n"
      "Of whole documents (SELECT *) a table shows the members that matter most; --json has all of them.\n"
      "The language: docs/query.md",
      query_opts, 1, 1, query_run_ },
    { 0 }
};
