/* cli/cmd_config.c - roost config: automatic configurations, how many twins they are meant for, and what
 * their metrics say. Documents are handed through as they were written: 1.0 stays 1.0. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define FILE_MAX (512u << 10)
#define BASE     "/roost/v1/configurations/"

/* ---- input ----------------------------------------------------------------------------------------------
 */

/* A whole file, ended by a zero; "-" is standard input. The caller's memory. */
static int take_file(const char *path, char **out)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!f)
        return cli_fail(CLI_USAGE, NULL, "%s: %s", path, strerror(errno));
    char *p = cli_alloc(FILE_MAX + 1);
    size_t n = fread(p, 1, FILE_MAX + 1, f);
    bool bad = ferror(f) != 0;
    if (f != stdin)
        fclose(f);
    if (bad || n > FILE_MAX) {
        free(p);
        return bad ? cli_fail(CLI_USAGE, NULL, "%s: cannot be read", path)
                   : cli_fail(CLI_USAGE, NULL, "%s is longer than half a megabyte", path);
    }
    p[n] = 0;
    *out = p;
    return CLI_OK;
}

/* Members of an object that is put together as text. */
struct body {
    char *text;
    size_t len;
};
static void put_raw(struct body *b, const char *name, const char *json)
{
    size_t n = strlen(name) + strlen(json) + 8;
    char *p = realloc(b->text, b->len + n);
    if (!p)
        abort();
    b->text = p;
    b->len += (size_t)snprintf(p + b->len, n, "%c\"%s\":%s", b->len ? ',' : '{', name, json);
}
static int put_text(struct body *b, const char *name, const char *value)
{
    json_t *j = json_string(value);
    char *text = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    json_decref(j);
    if (!text)
        return cli_fail(CLI_USAGE, NULL, "--%s: not UTF-8", name);
    put_raw(b, name, text);
    free(text);
    return CLI_OK;
}
static int put_file(struct body *b, const char *name, const char *path)
{
    char *text = NULL;
    json_error_t where;
    int rc = take_file(path, &text);
    if (rc)
        return rc;
    json_t *j = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &where);
    if (!j)
        rc = cli_fail(CLI_USAGE, NULL, "%s: line %d, column %d: %s", path, where.line, where.column,
                      where.text);
    else
        put_raw(b, name, text);
    json_decref(j);
    free(text);
    return rc;
}

/* --where, --priority, --content, --labels, --metrics; b->text stays NULL when there is none. */
static int put_options(struct body *b, const struct args *a)
{
    static const char *const files[] = { "content", "labels", "metrics" };
    const char *where = args_get(a, "where"), *priority = args_get(a, "priority");
    uint64_t n;
    int rc = where ? put_text(b, "where", where) : CLI_OK;
    if (!rc && priority && arg_u64(priority, 0, INT32_MAX, &n))
        rc = cli_fail(CLI_USAGE, NULL, "--priority: a number from 0 on");
    else if (!rc && priority)
        put_raw(b, "priority", priority);
    for (size_t i = 0; !rc && i < 3; i++)
        if (args_get(a, files[i]))
            rc = put_file(b, files[i], args_get(a, files[i]));
    return rc;
}

static int body_of(const struct args *a, struct body *b)
{
    const char *file = args_get(a, "file");
    int rc = put_options(b, a);
    if (rc)
        return rc;
    if (file && b->text)
        return cli_fail(CLI_USAGE, NULL, "--file is the whole configuration: no other option goes with it");
    if (!file && !b->text)
        return cli_fail(CLI_USAGE, "--file FILE (- is standard input), or --where, --content and so on.",
                        "nothing to write");
    if (file)
        return take_file(file, &b->text);
    b->text = realloc(b->text, b->len + 2);
    if (!b->text)
        abort();
    memcpy(b->text + b->len, "}", 2);
    return CLI_OK;
}

/* ---- asking ---------------------------------------------------------------------------------------------
 */

static int ask(struct cli *c, const struct hub_request *r, const char *what, struct hub_answer *answer)
{
    int rc = hub_open(c);
    if (rc)
        return rc;
    rc = hub_ask(c, r, answer);
    if (rc)
        return hub_unreachable(c, answer);
    return answer->status < 200 || answer->status > 299 ? hub_complain(answer, what) : CLI_OK;
}

static void print_raw(const struct hub_answer *answer)
{
    json_bytes(stdout, (const char *)answer->body, answer->body_len);
    putchar('\n');
}

static void summary(const struct cli *c, const char *id, const struct hub_answer *answer, const char *what)
{
    json_t *doc = json_loadb((const char *)answer->body, answer->body_len, JSON_ALLOW_NUL, NULL);
    cli_say(c, "%s: %s, priority %llu, etag %llu\n", id, what,
            (unsigned long long)json_number(doc, "priority", 0),
            (unsigned long long)json_number(doc, "etag", 0));
    json_decref(doc);
}

static int write_run(struct cli *c, const struct args *a, bool fresh)
{
    struct body b = { 0 };
    struct hub_answer answer = { 0 };
    char match[160], *path = hub_path(BASE, a->pos[0], "");
    int rc = body_of(a, &b);
    snprintf(match, sizeof match, "If-Match: %s", args_has(a, "if-match") ? args_get(a, "if-match") : "*");
    if (!rc)
        rc = ask(c,
                 &(struct hub_request){ .method = fresh || args_has(a, "file") ? "PUT" : "PATCH",
                                        .path = path,
                                        .content_type = "application/json",
                                        .body = span_str(b.text),
                                        .header = fresh ? "If-None-Match: *" : match },
                 fresh ? "making the configuration" : "changing the configuration", &answer);
    if (!rc && c->json)
        print_raw(&answer);
    else if (!rc)
        summary(c, a->pos[0], &answer, fresh ? "made" : "changed");
    hub_answer_free(&answer);
    free(b.text);
    free(path);
    return rc;
}
static int create_run(struct cli *c, const struct args *a)
{
    return write_run(c, a, true);
}
static int set_run(struct cli *c, const struct args *a)
{
    return write_run(c, a, false);
}

static int delete_run(struct cli *c, const struct args *a)
{
    int rc = hub_open(c);
    for (size_t i = 0; !rc && i < a->pos_nr; i++) {
        char *path = hub_path(BASE, a->pos[i], "");
        rc = hub_json(c, "DELETE", path, NULL, "deleting the configuration", NULL);
        free(path);
        if (!rc)
            cli_say(c, "%s: deleted\n", a->pos[i]);
    }
    if (!rc && c->json)
        printf("{\"deleted\":%zu}\n", a->pos_nr);
    return rc;
}

static int show_run(struct cli *c, const struct args *a)
{
    struct hub_answer answer = { 0 };
    char *path = hub_path(BASE, a->pos[0], "");
    int rc = ask(c, &(struct hub_request){ .method = "GET", .path = path }, "asking for the configuration",
                 &answer);
    if (!rc && c->json) {
        print_raw(&answer);
    } else if (!rc) {
        json_t *doc = json_loadb((const char *)answer.body, answer.body_len, JSON_ALLOW_NUL, NULL);
        members_print(doc, 0);
        json_decref(doc);
    }
    hub_answer_free(&answer);
    free(path);
    return rc;
}

static void list_row(struct table *t, const json_t *o)
{
    char priority[24], targeted[24], applied[24];
    snprintf(priority, sizeof priority, "%llu", (unsigned long long)json_number(o, "priority", 0));
    snprintf(targeted, sizeof targeted, "%llu", (unsigned long long)json_number(o, "targeted", 0));
    snprintf(applied, sizeof applied, "%llu", (unsigned long long)json_number(o, "applied", 0));
    table_row(
        t, (const char *const[]){ json_text(o, "id"), priority, targeted, applied, json_text(o, "where") });
}

static int list_run(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "CONFIGURATION", "PRIORITY", "TARGETED", "APPLIED", "WHERE" };
    struct table t;
    json_t *doc = NULL, *o;
    size_t i;
    (void)a;
    int rc = hub_open(c);
    if (!rc)
        rc = hub_json(c, "GET", "/roost/v1/configurations", NULL, "listing configurations", &doc);
    if (rc)
        return rc;
    if (c->json) {
        json_print(json_incref(json_object_get(doc, "configurations")));
    } else {
        table_begin(&t, 5, head);
        json_array_foreach(json_object_get(doc, "configurations"), i, o) list_row(&t, o);
        table_end(&t, c, stdout);
    }
    json_decref(doc);
    return CLI_OK;
}

/* ---- metrics --------------------------------------------------------------------------------------------
 */

/* {"targeted":3,"applied":3,"results":{...}} of a configuration, without what does not change. */
static json_t *metrics_of(const json_t *doc)
{
    static const char *const names[] = { "targeted", "applied", "reported", "results" };
    json_t *o = json_object();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (json_object_get(doc, names[i]))
            json_object_set(o, names[i], json_object_get(doc, names[i]));
    return o;
}

static int metrics_run(struct cli *c, const struct args *a)
{
    uint64_t every_s = 2, limit = 0, shown = 0;
    bool watch = args_has(a, "watch");
    char *path = hub_path(BASE, a->pos[0], "");
    json_t *last = NULL;
    int rc = CLI_OK;
    if (args_has(a, "every") && (arg_duration_s(args_get(a, "every"), &every_s) || !every_s))
        rc = cli_fail(CLI_USAGE, NULL, "--every: a time like 2s or 1m");
    if (!rc && args_has(a, "count") && arg_u64(args_get(a, "count"), 1, UINT64_MAX, &limit))
        rc = cli_fail(CLI_USAGE, NULL, "--count: a number from 1 on");
    if (!rc)
        rc = hub_open(c);
    while (!rc) {
        json_t *doc = NULL;
        rc = hub_json(c, "GET", path, NULL, "asking for the metrics", &doc);
        if (rc)
            break;
        json_t *now = metrics_of(doc);
        json_decref(doc);
        if (!last || !json_equal(now, last)) {
            if (c->json || watch) {
                json_write(stdout, now);
                putchar('\n');
            } else {
                members_print(now, 0);
            }
            shown++;
        }
        json_decref(last);
        last = now;
        if (fflush(stdout) || ferror(stdout) || !watch || (limit && shown == limit))
            break; /* whoever read it may have gone */
        nanosleep(&(struct timespec){ .tv_sec = (time_t)every_s }, NULL);
    }
    json_decref(last);
    free(path);
    return rc;
}

static int apply_run(struct cli *c, const struct args *a)
{
    char *text = NULL, *path = hub_path("/roost/v1/devices/", a->pos[0], "/content");
    struct hub_answer answer = { 0 };
    int rc = take_file(args_has(a, "file") ? args_get(a, "file") : "-", &text);
    if (!rc)
        rc = ask(
            c,
            &(struct hub_request){
                .method = "POST", .path = path, .content_type = "application/json", .body = span_str(text) },
            "applying the content", &answer);
    if (!rc && c->json)
        json_print(json_pack("{s:s}", "device", a->pos[0]));
    else if (!rc)
        cli_say(c, "%s: written to its modules\n", a->pos[0]);
    hub_answer_free(&answer);
    free(text);
    free(path);
    return rc;
}

#define WRITE_OPTS                                                                                           \
    { "file", 'f', "FILE", "the whole configuration as JSON; - is standard input" },                         \
        { "where", 0, "CONDITION", "its targets, as behind WHERE of a query; '*' for every device" },        \
        { "priority", 0, "N", "the highest that is meant for a twin is written [0]" },                       \
        { "labels", 0, "FILE", "an object of texts, as JSON" },                                              \
    {                                                                                                        \
        "metrics", 0, "FILE", "an object of queries by their names, five at most, as JSON"                   \
    }
static const struct opt create_opts[] = {
    WRITE_OPTS, { "content", 0, "FILE", "as JSON: {\"deviceContent\":{\"properties.desired\":{...}}}" }, { 0 }
};
static const struct opt set_opts[] = { WRITE_OPTS,
                                       { "if-match", 0, "ETAG", "only if it still has this etag" },
                                       { 0 } };
static const struct opt metrics_opts[] = { { "watch", 'w', NULL, "again whenever they changed, one a line" },
                                           { "every", 0, "TIME", "with --watch: how often to look (2s)" },
                                           { "count", 'n', "N", "with --watch: end after N lines" },
                                           { 0 } };
static const struct opt apply_opts[] = { { "file", 'f', "FILE", "the content as JSON [standard input]" },
                                         { 0 } };

const struct command config_commands[] = {
    { "config list", "", "Lists configurations and how many twins they are meant for", NULL, NULL, 0, 0,
      list_run },
    { "config show", "CONFIG", "Shows a configuration", NULL, NULL, 1, 1, show_run },
    { "config create", "CONFIG", "Makes a configuration: desired properties of all twins that it selects",
      "CONFIG is an id of your choice: a to z, 0 to 9 and -+%_*!'. A file is {\"where\":...,\"priority\":0,\n"
      "\"content\":{\"deviceContent\":{\"properties.desired\":{...}}},\"labels\":{},\"metrics\":{\"name\":"
      "\"SELECT "
      "...\"}}.",
      create_opts, 1, 1, create_run },
    { "config set", "CONFIG", "Changes what was named: condition, priority, labels, metrics",
      "With --file what the file does not have is gone. The content never changes.", set_opts, 1, 1,
      set_run },
    { "config delete", "CONFIG...", "Deletes configurations; what they wrote stays", NULL, NULL, 1, SIZE_MAX,
      delete_run },
    { "config metrics", "CONFIG", "How many twins it is meant for, written to, and what its queries count",
      NULL, metrics_opts, 1, 1, metrics_run },
    { "config apply", "DEVICE", "Writes {\"modulesContent\":{...}} to the modules of one edge device", NULL,
      apply_opts, 1, 1, apply_run },
    { 0 }
};
