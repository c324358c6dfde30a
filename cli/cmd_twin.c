/* cli/cmd_twin.c - roost twin: what a device is to be, and what it says it is. Documents are handed through
 * as the hub and the caller wrote them: 1.0 stays 1.0. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define FILE_MAX (1u << 20)

/* Of "DEVICE" or "DEVICE/MODULE": no id has a '/'. */
static char *twin_path(const struct args *a, const char *tail)
{
    const char *module = strchr(a->pos[0], '/');
    if (!module)
        return hub_path("/roost/v1/devices/", a->pos[0], tail);
    char *id = strdup(a->pos[0]);
    id[module - a->pos[0]] = 0;
    char *device = hub_path("/roost/v1/devices/", id, "/modules/"),
         *path = hub_path(device, module + 1, tail);
    free(id);
    free(device);
    return path;
}

/* A document as it came, broken into lines on a terminal. */
static void document(const struct cli *c, const char *p, size_t n)
{
    int depth = 0;
    if (!c->tty_out) {
        json_bytes(stdout, p, n);
        putchar('\n');
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '"') { /* the string as a whole */
            size_t end = i + 1;
            while (end < n && p[end] != '"')
                end += p[end] == '\\' ? 2 : 1;
            end = end < n ? end + 1 : n;
            json_bytes(stdout, p + i, end - i);
            i = end - 1;
            continue;
        }
        bool open = p[i] == '{' || p[i] == '[', close = p[i] == '}' || p[i] == ']';
        bool empty = open && i + 1 < n && (p[i + 1] == '}' || p[i + 1] == ']');
        if (close)
            printf("\n%*s", --depth * 2, "");
        putchar((unsigned char)p[i] < 0x20 ? '?' : p[i]);
        if (empty)
            putchar(p[++i]);
        else if (open)
            printf("\n%*s", ++depth * 2, "");
        else if (p[i] == ',')
            printf("\n%*s", depth * 2, "");
        else if (p[i] == ':')
            putchar(' ');
    }
    putchar('\n');
}

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

static int twin_show(struct cli *c, const struct args *a)
{
    struct hub_answer answer = { 0 };
    char *path = twin_path(a, args_has(a, "metadata") ? "/twin?metadata=true" : "/twin");
    int rc = ask(c, &(struct hub_request){ .method = "GET", .path = path }, "showing the twin", &answer);
    free(path);
    if (!rc)
        document(c, (const char *)answer.body, answer.body_len);
    hub_answer_free(&answer);
    return rc;
}

/* ---- set -------------------------------------------------------------------------------------------- */

struct node { /* of what "a.b=1" says */
    char *name;
    char *value; /* JSON text; NULL: it has members */
    struct node *members, *next;
};

static struct node *member(struct node *of, const char *name, size_t n)
{
    struct node **at = &of->members;
    while (*at && (strlen((*at)->name) != n || memcmp((*at)->name, name, n) != 0))
        at = &(*at)->next;
    if (!*at) {
        *at = cli_alloc(sizeof **at);
        (*at)->name = cli_alloc(n + 1);
        memcpy((*at)->name, name, n);
    }
    return *at;
}

/* In quotes; the caller's memory. NULL: not UTF-8. */
static char *quoted(const char *text)
{
    json_t *j = json_string(text);
    char *out = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    json_decref(j);
    return out;
}

/* As it is when it is JSON, else as a text. NULL: not UTF-8. */
static char *value_text(const char *v)
{
    json_t *j = json_loads(v, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
    char *out = j ? strdup(v) : quoted(v);
    json_decref(j);
    return out;
}

/* "a.b.c=VALUE" */
static int assign(struct node *root, const char *text)
{
    const char *eq = strchr(text, '='), *p = text;
    struct node *at = root;
    if (!eq || eq == text)
        return cli_fail(CLI_USAGE, "For example: roost twin set lamp-1 fan.speed=3 mode=auto old=null",
                        "\"%s\" is no PATH=VALUE", text);
    while (p < eq) {
        size_t n = strcspn(p, ".=");
        if (at->value)
            return cli_fail(CLI_USAGE, NULL, "\"%s\": a part of that path has a value already", text);
        at = member(at, p, n);
        p += n + (p[n] == '.');
    }
    if (at->members || at->value)
        return cli_fail(CLI_USAGE, NULL, "\"%s\": that path is there already", text);
    at->value = value_text(eq + 1);
    return at->value ? CLI_OK : cli_fail(CLI_USAGE, NULL, "\"%s\" is not UTF-8", text);
}

static void node_write(struct wr *w, const struct node *n)
{
    if (n->value) {
        wr_str(w, n->value);
        return;
    }
    wr_u8(w, '{');
    for (const struct node *m = n->members; m; m = m->next) {
        char *name = quoted(m->name);
        wr_str(w, name ? name : "\"?\"");
        free(name);
        wr_u8(w, ':');
        node_write(w, m);
        if (m->next)
            wr_u8(w, ',');
    }
    wr_u8(w, '}');
}

static void node_free(struct node *n)
{
    while (n) {
        struct node *next = n->next;
        node_free(n->members);
        free(n->name);
        free(n->value);
        free(n);
        n = next;
    }
}

/* {"SECTION":CONTENT}, or CONTENT when section is NULL; the caller's memory. */
static char *body_text(const char *section, struct span content)
{
    size_t n = content.n + (section ? strlen(section) + 8 : 1);
    char *body = cli_alloc(n);
    if (section)
        snprintf(body, n, "{\"%s\":%.*s}", section, (int)content.n, (const char *)content.p);
    else
        memcpy(body, content.p, content.n);
    return body;
}

/* A whole file; "-" is standard input. */
static int file_take(const char *path, uint8_t **mem, struct span *out)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!f)
        return cli_fail(CLI_USAGE, NULL, "%s: %s", path, strerror(errno));
    *mem = cli_alloc(FILE_MAX + 1);
    *out = span_of(*mem, fread(*mem, 1, FILE_MAX + 1, f));
    bool bad = ferror(f) != 0;
    if (f != stdin)
        fclose(f);
    if (bad)
        return cli_fail(CLI_USAGE, NULL, "%s: cannot be read", path);
    if (out->n > FILE_MAX)
        return cli_fail(CLI_USAGE, NULL, "%s is longer than a megabyte", path);
    return CLI_OK;
}

static int content_of(const struct args *a, struct node *root, uint8_t **mem, struct span *out)
{
    const char *file = args_get(a, "file");
    struct wr w = { 0 };
    int rc = CLI_OK;
    if (file && a->pos_nr > 1)
        return cli_fail(CLI_USAGE, NULL, "name paths, or a file: not both");
    if (file)
        return file_take(file, mem, out);
    if (a->pos_nr < 2)
        return cli_fail(CLI_USAGE, "roost twin set DEVICE fan.speed=3, or --file FILE (- is standard input).",
                        "nothing to set");
    for (size_t i = 1; !rc && i < a->pos_nr; i++)
        rc = assign(root, a->pos[i]);
    if (rc)
        return rc;
    node_write(&w, root);
    *mem = cli_alloc(w.len + 1);
    w = (struct wr){ *mem, w.len, 0 };
    node_write(&w, root);
    *out = wr_span(&w);
    return CLI_OK;
}

static int twin_set(struct cli *c, const struct args *a)
{
    bool tags = args_has(a, "tags"), whole = args_has(a, "file") && !tags && !args_has(a, "desired");
    struct node *root = cli_alloc(sizeof *root);
    struct hub_answer answer = { 0 };
    struct span content = SPAN_NONE;
    uint8_t *mem = NULL;
    char match[128], *path = twin_path(a, "/twin");
    int rc = CLI_OK;
    if (tags && args_has(a, "desired"))
        rc = cli_fail(CLI_USAGE, "A file without both holds {\"tags\":{...},\"desired\":{...}}.",
                      "--tags, or --desired: not both");
    else if (args_has(a, "replace") && !whole)
        rc = cli_fail(CLI_USAGE, NULL,
                      "--replace takes a whole twin: --file, and neither --tags nor --desired");
    if (!rc)
        rc = content_of(a, root, &mem, &content);
    char *body = rc ? NULL : body_text(whole ? NULL : tags ? "tags" : "desired", content);
    if (!rc) {
        snprintf(match, sizeof match, "If-Match: %s",
                 args_has(a, "if-match") ? args_get(a, "if-match") : "*");
        rc = ask(c,
                 &(struct hub_request){ .method = args_has(a, "replace") ? "PUT" : "PATCH",
                                        .path = path,
                                        .content_type = "application/json",
                                        .body = whole ? content : span_str(body),
                                        .header = match },
                 "setting the twin", &answer);
    }
    if (!rc && c->json)
        document(c, (const char *)answer.body, answer.body_len);
    else if (!rc) {
        json_t *doc = json_loadb((const char *)answer.body, answer.body_len, JSON_ALLOW_NUL, NULL);
        cli_say(c, "%s: version %llu, desired version %llu\n", a->pos[0],
                (unsigned long long)json_number(doc, "version", 0),
                (unsigned long long)json_number(json_object_get(doc, "desired"), "$version", 0));
        json_decref(doc);
    }
    hub_answer_free(&answer);
    node_free(root);
    free(body);
    free(mem);
    free(path);
    return rc;
}

/* ---- watch ------------------------------------------------------------------------------------------ */

static int twin_watch(struct cli *c, const struct args *a)
{
    uint64_t every_s = 1, limit = 0, shown = 0, version = 0;
    char *path = twin_path(a, "/twin");
    unsigned fails = 0;
    int rc = CLI_OK;
    if (args_has(a, "every") && (arg_duration_s(args_get(a, "every"), &every_s) || !every_s))
        rc = cli_fail(CLI_USAGE, NULL, "--every: a time like 2s or 1m");
    if (!rc && args_has(a, "count") && arg_u64(args_get(a, "count"), 1, UINT64_MAX, &limit))
        rc = cli_fail(CLI_USAGE, NULL, "--count: a number from 1 on");
    while (!rc) {
        struct hub_answer answer = { 0 };
        rc = hub_open(c);
        int one = rc ? rc : hub_ask(c, &(struct hub_request){ .method = "GET", .path = path }, &answer);
        fails = one ? fails + 1 : 0;
        if (!rc && one && fails > 5)
            rc = hub_unreachable(c, &answer);
        else if (!one && (answer.status < 200 || answer.status > 299))
            rc = hub_complain(&answer, "watching the twin");
        json_t *doc =
            !rc && !one ? json_loadb((const char *)answer.body, answer.body_len, JSON_ALLOW_NUL, NULL) : NULL;
        if (doc && json_number(doc, "version", 0) != version) {
            version = json_number(doc, "version", 0);
            document(c, (const char *)answer.body, answer.body_len);
            shown++;
        }
        json_decref(doc);
        hub_answer_free(&answer);
        if (fflush(stdout) || ferror(stdout) || rc || (limit && shown == limit))
            break; /* whoever read it may have gone */
        struct timespec pause = { .tv_sec = (time_t)every_s };
        nanosleep(&pause, NULL);
    }
    free(path);
    return rc;
}

static const struct opt show_opts[] = { { "metadata", 0, NULL, "with the time of every property" }, { 0 } };
static const struct opt set_opts[] = { { "tags", 0, NULL, "set tags" },
                                       { "desired", 0, NULL, "set desired properties (as without)" },
                                       { "file", 'f', "FILE", "JSON from a file; - is standard input" },
                                       { "replace", 0, NULL,
                                         "what the file does not have is gone: tags and desired properties" },
                                       { "if-match", 0, "ETAG", "only if the twin still has this etag" },
                                       { 0 } };
static const struct opt watch_opts[] = { { "every", 0, "TIME", "how often to look (1s)" },
                                         { "count", 'n', "N", "end after N documents" },
                                         { 0 } };
const struct command twin_commands[] = {
    { "twin show", "DEVICE[/MODULE]", "Shows a twin: tags, desired and reported properties", NULL, show_opts,
      1, 1, twin_show },
    { "twin set", "DEVICE[/MODULE] [PATH=VALUE]...", "Changes desired properties, or tags",
      "PATH is fan.speed; VALUE is JSON, or else a text; null removes. With --file and neither --tags nor\n"
      "--desired the file holds {\"tags\":{...},\"desired\":{...}}. What is not named stays.",
      set_opts, 1, SIZE_MAX, twin_set },
    { "twin watch", "DEVICE[/MODULE]", "Shows a twin now, and again whenever it changed",
      "Off a terminal one JSON document a line.", watch_opts, 1, 1, twin_watch },
    { 0 }
};
