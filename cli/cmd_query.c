/* cli/cmd_query.c - roost query: asks the fleet; a table for a person, JSON or CSV for everything else. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"
#include "core/query/query.h"

#include <string.h>

#define CELL_MAX 60u /* characters of a cell in a table */

struct output {
    struct cli *c;
    bool csv;
    char **col; /* NULL: not known yet */
    size_t cols;
    struct table
        table; /* its cells; CSV and JSON are printed row by row, so that a large fleet needs no memory */
    uint64_t left;
    uint64_t shown;
};

/* ---- columns ------------------------------------------------------------------------------------------- */

static void add_column(struct output *o, struct span name)
{
    for (size_t i = 0; i < o->cols; i++)
        if (span_eq(span_str(o->col[i]), name))
            return;
    char **more = cli_alloc((o->cols + 1) * sizeof *more), *kept = cli_alloc(name.n + 1);
    if (o->cols)
        memcpy(more, o->col, o->cols * sizeof *more);
    free(o->col);
    o->col = more;
    memcpy(kept, name.p, name.n);
    o->col[o->cols++] = kept;
}

/* Of whole documents what matters most. */
static void document_columns(struct output *o, enum query_from from)
{
    static const char *const names[][7] = {
        [QUERY_DEVICES] = { "deviceId", "status", "connectionState", "version", "tags" },
        [QUERY_MODULES] = { "deviceId", "moduleId", "status", "connectionState", "version", "tags" },
        [QUERY_JOBS] = { "jobId", "deviceId", "jobType", "status", "lastUpdatedDateTimeUtc" },
    };
    for (size_t i = 0; names[from][i]; i++)
        add_column(o, span_str(names[from][i]));
}

/* As the query lists them, whatever the rows have. The hub took it; one that this program does not understand
 * shows what the first page has. */
static void find_columns(struct output *o, const char *text, const json_t *rows)
{
    const size_t cap = QUERY_MEM(strlen(text));
    void *mem = cli_alloc(cap);
    struct query q;
    struct query_error err;
    size_t i;
    json_t *row, *v;
    const char *name;
    if (!query_parse(&q, span_str(text), mem, cap, &err)) {
        if (q.star)
            document_columns(o, (enum query_from)q.from);
        for (i = 0; i < q.items_nr; i++)
            add_column(o, q.items[i].name);
    } else {
        json_array_foreach(rows, i, row) json_object_foreach(row, name, v) add_column(o, span_str(name));
    }
    free(mem);
}

/* The text of a cell; the caller frees it. NULL: there is no value. */
static char *cell_text(const json_t *v)
{
    char *text = NULL;
    size_t n = 0;
    if (!v)
        return NULL;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        abort();
    if (json_is_string(v))
        fwrite(json_string_value(v), 1, json_string_length(v), f);
    else
        json_write(f, v);
    if (fclose(f))
        abort();
    for (size_t i = 0; i < n; i++)
        if (!text[i])
            text[i] = '?';
    return text;
}

/* ---- forms --------------------------------------------------------------------------------------------- */

static unsigned table_cols(const struct output *o)
{
    return o->cols < TABLE_COLS ? (unsigned)o->cols : TABLE_COLS;
}

/* In place: as many characters as a cell has, the last three of them dots when there are more. */
static void shorten(char *text)
{
    size_t nr = 0, end = 0;
    for (size_t i = 0; text[i]; i++)
        if (((unsigned char)text[i] & 0xc0) != 0x80 && nr++ == CELL_MAX - 3)
            end = i;
    if (nr > CELL_MAX)
        strcpy(text + end, "...");
}

static void add_to_table(struct output *o, const json_t *rows)
{
    size_t i;
    json_t *row;
    if (o->cols && !o->shown && json_array_size(rows))
        table_begin(&o->table, table_cols(o), (const char *const *)o->col);
    json_array_foreach(rows, i, row)
    {
        char *cells[TABLE_COLS] = { NULL };
        o->shown++;
        for (unsigned k = 0; k < table_cols(o); k++) {
            cells[k] = cell_text(json_object_get(row, o->col[k]));
            if (cells[k])
                shorten(printable(cells[k]));
        }
        if (o->cols)
            table_row(&o->table, (const char *const *)cells);
        for (unsigned k = 0; k < table_cols(o); k++)
            free(cells[k]);
    }
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

static void print_csv_head(struct output *o)
{
    for (size_t k = 0; k < o->cols; k++) {
        if (k)
            putchar(',');
        csv_cell(o->col[k]);
    }
    fputs("\r\n", stdout);
}

static void print_csv_rows(struct output *o, const json_t *rows)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        o->shown++;
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

static void print_json_rows(struct output *o, const json_t *rows)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        fputs(o->shown++ ? ",\n" : "[\n", stdout);
        json_write(stdout, row);
    }
}

static void put_rows(struct output *o, const char *text, const json_t *rows)
{
    if (!o->c->json && !o->col) {
        find_columns(o, text, rows);
        if (o->csv)
            print_csv_head(o);
    }
    if (o->c->json)
        print_json_rows(o, rows);
    else if (o->csv)
        print_csv_rows(o, rows);
    else
        add_to_table(o, rows);
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
    json_t *doc = json_loadb((const char *)answer->body, answer->body_len, JSON_ALLOW_NUL, NULL);
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
    doc = json_loadb((const char *)answer.body, answer.body_len, JSON_ALLOW_NUL, NULL);
    hub_answer_free(&answer);
    json_t *rows = json_object_get(doc, "rows");
    if (!json_is_array(rows)) {
        json_decref(doc);
        return cli_fail(CLI_UNREACHABLE, NULL, "the hub's answer is not a page of rows");
    }
    size_t nr = json_array_size(rows);
    o->left -= nr < o->left ? nr : o->left;
    put_rows(o, text, rows);
    if (json_text(doc, "next") && o->left && !ferror(stdout)) { /* whoever read it may have gone */
        *next = cli_alloc(strlen(json_text(doc, "next")) + 1);
        strcpy(*next, json_text(doc, "next"));
    }
    json_decref(doc);
    return CLI_OK;
}

static int query_run_(struct cli *c, const struct args *a)
{
    struct output o = { .c = c, .csv = args_has(a, "csv"), .left = UINT64_MAX };
    const char *text = a->pos[0];
    char *next = NULL;
    int rc;
    if (args_has(a, "limit") && arg_u64(args_get(a, "limit"), 1, UINT32_MAX, &o.left))
        return cli_fail(CLI_USAGE, NULL, "--limit: '%s' is not a number from 1 on", args_get(a, "limit"));
    if (o.csv && c->json)
        return cli_fail(CLI_USAGE, NULL, "--csv and --json exclude each other");
    rc = hub_open(c);
    do
        rc = rc ? rc : fetch(&o, text, &next);
    while (!rc && next);
    if (!rc && c->json)
        fputs(o.shown ? "\n]\n" : "[]\n", stdout);
    else if (!rc && !o.csv && !o.shown)
        cli_say(c, "no rows\n");
    if (o.table.cols)
        table_end(&o.table, c, stdout); /* what came before an error too */
    if (!rc && !o.csv && o.cols > table_cols(&o))
        cli_say(c, "%zu more columns: --json or --csv shows them\n", o.cols - table_cols(&o));
    free(next);
    for (size_t i = 0; i < o.cols; i++)
        free(o.col[i]);
    free(o.col);
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
      "Of whole documents (SELECT *) a table and --csv show the members that matter most; --json has all.\n"
      "The language: docs/query.md",
      query_opts, 1, 1, query_run_ },
    { 0 }
};
