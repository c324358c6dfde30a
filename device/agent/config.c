/* device/agent/config.c - see config.h. libcyaml checks the shape and says where it is wrong; ranges and
 * units are checked here, and the line is looked up by the key. */
#include "device/agent/config.h"

#include "base/text.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct raw_app {
    char **command, **health;
    unsigned command_count, health_count;
    char *health_every, *health_timeout, *settle, *stop_timeout;
    unsigned *health_tries;
};
struct raw {
    char *bootstrap, *address, *state, *hardware, *id, *token, *socket, *socket_mode, *sys, *log;
    char *telemetry_every, *checkin_every, *backoff_min, *backoff_max;
    char *slot_size;
    char *plain_http, *supervise;
    struct raw_app *application;
};

static const cyaml_schema_value_t word = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 4096) };
#define TEXT(key, member)                                                                                    \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw, member, 1, 4096)
#define APP_TEXT(key, member)                                                                                \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_app, member, 1, 64)

static const cyaml_schema_field_t app_fields[] = {
    CYAML_FIELD_SEQUENCE("command", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_app, command, &word,
                         1, 64),
    CYAML_FIELD_SEQUENCE("health", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_app, health, &word, 1,
                         64),
    APP_TEXT("health-every", health_every),
    APP_TEXT("health-timeout", health_timeout),
    CYAML_FIELD_UINT_PTR("health-tries", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_app,
                         health_tries),
    APP_TEXT("settle", settle),
    APP_TEXT("stop-timeout", stop_timeout),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t fields[] = {
    CYAML_FIELD_STRING_PTR("bootstrap", CYAML_FLAG_POINTER, struct raw, bootstrap, 1, 1024),
    TEXT("state", state),
    TEXT("hardware", hardware),
    TEXT("id", id),
    TEXT("address", address),
    TEXT("token", token),
    TEXT("telemetry-every", telemetry_every),
    TEXT("checkin-every", checkin_every),
    TEXT("backoff-min", backoff_min),
    TEXT("backoff-max", backoff_max),
    TEXT("slot-size", slot_size),
    TEXT("plain-http", plain_http),
    TEXT("supervise", supervise),
    TEXT("socket", socket),
    TEXT("socket-mode", socket_mode),
    TEXT("sensors", sys),
    TEXT("log", log),
    CYAML_FIELD_MAPPING_PTR("application", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw, application,
                            app_fields),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, fields) };

struct report_ctx { /* what libcyaml says is gathered in */
    FILE *err;
    const char *path;
    char what[200], key[64]; /* its first complaint, and the key that it is about; empty: none */
    unsigned line, column;   /* 0: not known */
};

/* "Load: WHAT", then "  in mapping field 'KEY' (line: L, column: C)", innermost first. */
static void on_log(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    struct report_ctx *r = (struct report_ctx *)ctx;
    char line[512];
    (void)level;
    vsnprintf(line, sizeof line, fmt, args);
    line[strcspn(line, "\n")] = 0;
    static const char place[] = "(line: ", behind[] = ", column: ", field[] = "in mapping field '";
    char *at = strstr(line, place), *end = NULL;
    if (strncmp(line, "Load: ", 6) == 0 && !r->what[0])
        snprintf(r->what, sizeof r->what, "%.*s", (int)sizeof r->what - 1, line + 6);
    if (!at || r->line)
        return;
    unsigned long l = strtoul(at + sizeof place - 1, &end, 10);
    if (strncmp(end, behind, sizeof behind - 1) != 0)
        return;
    r->line = (unsigned)l;
    r->column = (unsigned)strtoul(end + sizeof behind - 1, NULL, 10);
    at = strstr(line, field);
    if (at)
        snprintf(r->key, sizeof r->key, "%.*s", (int)strcspn(at + sizeof field - 1, "'"),
                 at + sizeof field - 1);
}

static cyaml_config_t cyaml_setup(struct report_ctx *r)
{
    return (cyaml_config_t){ .log_fn = on_log,
                             .log_ctx = r,
                             .mem_fn = cyaml_mem,
                             .log_level = CYAML_LOG_ERROR,
                             .flags = CYAML_CFG_DEFAULT };
}

/* "path:line: key: why" for a value that libcyaml found well formed. */
static enum err wrong(const struct report_ctx *r, const char *key, const char *why)
{
    char line[1024];
    unsigned at = 0, found = 0;
    size_t n = strlen(key), column = 1;
    FILE *f = fopen(r->path, "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        size_t indent = strspn(line, " ");
        at++;
        if (strncmp(line + indent, key, n) == 0 && line[indent + n] == ':') {
            found = at;
            column = indent + 1;
        }
    }
    if (f)
        fclose(f);
    if (found)
        fprintf(r->err, "%s:%u:%zu: %s: %s\n", r->path, found, column, key, why);
    else if (r->line) /* { within: braces } */
        fprintf(r->err, "%s:%u:%u: %s: %s\n", r->path, r->line, r->column, key, why);
    else
        fprintf(r->err, "%s: %s: %s\n", r->path, key, why);
    return ERR_PROTO;
}

/* What libcyaml refused, in the same form. */
static void complain(const struct report_ctx *r, cyaml_err_t y)
{
    static const struct {
        const char *said, *means;
    } shapes[] = { { "Expecting STRING", "a text is expected" },
                   { "Expecting MAPPING", "keys with values below them are expected" },
                   { "Expecting SEQUENCE", "a list is expected" },
                   { "Invalid uint64_t value", "a whole number is expected" } };
    static const char unknown[] = "Unexpected key: ", missing[] = "Missing required mapping field: ",
                      again[] = "Mapping field already seen: ";
    const char *what = r->what[0] ? r->what : cyaml_strerror(y);
    if (strncmp(what, unknown, sizeof unknown - 1) == 0) {
        (void)wrong(r, what + sizeof unknown - 1, "there is no such key; docs/agent.md lists them");
        return;
    }
    if (strncmp(what, missing, sizeof missing - 1) == 0) {
        fprintf(r->err, "%s: %s is missing\n", r->path, what + sizeof missing - 1);
        return;
    }
    if (strncmp(what, again, sizeof again - 1) == 0)
        what = "stands here twice";
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (strncmp(what, shapes[i].said, strlen(shapes[i].said)) == 0)
            what = shapes[i].means;
    fprintf(r->err, "%s", r->path);
    if (r->line)
        fprintf(r->err, ":%u:%u", r->line, r->column);
    fprintf(r->err, ": %s%s%s\n", r->key, r->key[0] ? ": " : "", what);
}

static bool parse_time(const char *text, uint32_t preset, uint32_t min_ms, uint32_t *out)
{
    if (!text) {
        *out = preset;
        return true;
    }
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits;
    uint64_t v, scale = strcmp(unit, "ms") == 0                ? 1
                        : strcmp(unit, "s") == 0 || *unit == 0 ? 1000
                        : strcmp(unit, "m") == 0               ? 60000
                        : strcmp(unit, "h") == 0               ? 3600000
                                                               : 0;
    if (!scale || u64_parse(span_of(text, digits), UINT32_MAX / scale, &v) != ERR_OK || v * scale < min_ms)
        return false;
    *out = (uint32_t)(v * scale);
    return true;
}

/* libcyaml's own takes every word it does not know for true. */
static bool parse_bool(const char *text, bool preset, bool *out)
{
    *out = text ? strcmp(text, "true") == 0 : preset;
    return !text || *out || strcmp(text, "false") == 0;
}

/* Bytes, or K or M of them. */
static bool parse_size(const char *text, uint32_t *out)
{
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits;
    uint64_t v, scale = *unit == 0 ? 1 : strcmp(unit, "K") == 0 ? 1024 : strcmp(unit, "M") == 0 ? 1 << 20 : 0;
    if (!scale || u64_parse(span_of(text, digits), (1u << 30) / scale, &v) != ERR_OK || v * scale < 65536 ||
        v * scale % 4096)
        return false;
    *out = (uint32_t)(v * scale);
    return true;
}

static bool parse_hardware(const char *text, struct agent_config *c)
{
    const char *first = strchr(text, ':');
    uint64_t hw_class, rev = 0;
    if (!first || first == text || first - text > 24)
        return false;
    const char *second = strchr(first + 1, ':');
    size_t n = second ? (size_t)(second - first - 1) : strlen(first + 1);
    if (u64_parse(span_of(first + 1, n), UINT16_MAX, &hw_class) != ERR_OK ||
        (second && u64_parse(span_str(second + 1), UINT8_MAX, &rev) != ERR_OK))
        return false;
    c->product = span_of(text, (size_t)(first - text));
    c->hw_class = (uint16_t)hw_class;
    c->hw_rev = (uint8_t)rev;
    return true;
}

#define TIME(where, member, key, preset, min)                                                                \
    if (!parse_time((where).member, preset, min, &c->member##_ms))                                           \
    return wrong(r, key, "a time such as 500ms, 10s, 5m or 6h is expected")

static enum err check_app(struct agent_config *c, const struct raw_app *a, const struct report_ctx *r)
{
    static const struct { /* preset and least value of each time */
        const char *key;
        uint32_t preset, min;
    } times[] = { { "health-every", 5000, 100 },
                  { "health-timeout", 10000, 100 },
                  { "settle", 2000, 0 },
                  { "stop-timeout", 10000, 0 } };
    const char *texts[] = { a->health_every, a->health_timeout, a->settle, a->stop_timeout };
    uint32_t *outs[] = { &c->app.health_every_ms, &c->app.health_timeout_ms, &c->app.settle_ms,
                         &c->app.stop_timeout_ms };
    for (unsigned i = 0; i < 4; i++)
        if (!parse_time(texts[i], times[i].preset, times[i].min, outs[i]))
            return wrong(r, times[i].key, "a time such as 500ms, 10s, 5m or 6h is expected");
    c->app.health_tries = a->health_tries ? *a->health_tries : 3;
    if (c->app.health_tries < 1 || c->app.health_tries > 1000)
        return wrong(r, "health-tries", "1 to 1000 is expected");
    c->app.command = a->command;
    c->app.command_nr = a->command_count;
    c->app.health = a->health;
    c->app.health_nr = a->health_count;
    return ERR_OK;
}

static enum err check(struct agent_config *c, const struct raw *w, const struct report_ctx *r)
{
    static const struct raw_app no_app;
    uint64_t mode;
    enum err e = bootstrap_string_decode(span_str(w->bootstrap), &c->hub);
    if (e)
        return wrong(r, "bootstrap",
                     "https://HOST[:PORT]#ca=HEX[&root=HEX] is expected, as `roostd init` prints it");
    c->state = w->state ? w->state : "/var/lib/roost-agent";
    if (c->state[0] != '/')
        return wrong(r, "state", "an absolute path is expected");
    if (!parse_hardware(w->hardware ? w->hardware : "linux:0", c))
        return wrong(r, "hardware",
                     "PRODUCT:CLASS[:REVISION] is expected: at most 24 bytes, 0..65535, 0..255");
    c->id = w->id;
    if (c->id && strlen(c->id) > 128)
        return wrong(r, "id", "at most 128 bytes are expected");
    c->address = w->address;
    c->token = w->token;
    c->socket = w->socket ? w->socket : "/run/roost-agent/app.sock";
    c->sys = w->sys ? w->sys : "/sys";
    c->log = w->log ? w->log : "info";
    if (strcmp(c->log, "error") != 0 && strcmp(c->log, "warn") != 0 && strcmp(c->log, "info") != 0 &&
        strcmp(c->log, "debug") != 0)
        return wrong(r, "log", "error, warn, info or debug is expected");
    if (!parse_bool(w->plain_http, false, &c->plain_http))
        return wrong(r, "plain-http", "true or false is expected");
    if (!parse_bool(w->supervise, true, &c->supervise))
        return wrong(r, "supervise", "true or false is expected");
    mode = 0660;
    if (w->socket_mode) {
        char *end;
        mode = strtoul(w->socket_mode, &end, 8);
        if (*end || (mode != 0600 && mode != 0660 && mode != 0666))
            return wrong(r, "socket-mode", "0600, 0660 or 0666 is expected");
    }
    c->socket_mode = (unsigned)mode;
    TIME(*w, telemetry_every, "telemetry-every", 60000, 0);
    TIME(*w, checkin_every, "checkin-every", 6 * 3600000u, 1000);
    TIME(*w, backoff_min, "backoff-min", 1000, 10);
    TIME(*w, backoff_max, "backoff-max", 300000, 10);
    if (c->backoff_max_ms < c->backoff_min_ms)
        return wrong(r, "backoff-max", "must not be below backoff-min");
    if (!parse_size(w->slot_size ? w->slot_size : "64M", &c->slot_len))
        return wrong(r, "slot-size", "64K to 1024M in steps of 4K is expected");
    return check_app(c, w->application ? w->application : &no_app, r);
}

enum err agent_config_load(struct agent_config *c, const char *path, FILE *err)
{
    struct report_ctx r = { .err = err, .path = path };
    cyaml_config_t setup = cyaml_setup(&r);
    struct raw *w = NULL;
    memset(c, 0, sizeof *c);
    FILE *f = fopen(path, "r"); /* libcyaml does not say why it cannot open one */
    if (!f) {
        fprintf(err, "%s: %s\n", path, strerror(errno));
        return ERR_NOTFOUND;
    }
    fclose(f);
    cyaml_err_t y = cyaml_load_file(path, &setup, &schema, (cyaml_data_t **)&w, NULL);
    if (y != CYAML_OK || !w) {
        if (y == CYAML_OK)
            fprintf(err, "%s: it is empty; one line is needed: bootstrap: \"...\"\n", path);
        else
            complain(&r, y);
        return ERR_PROTO;
    }
    c->raw = w;
    enum err e = check(c, w, &r);
    if (e)
        agent_config_free(c);
    return e;
}

void agent_config_free(struct agent_config *c)
{
    struct report_ctx r = { .err = stderr, .path = "" };
    cyaml_config_t setup = cyaml_setup(&r);
    if (c->raw)
        cyaml_free(&setup, &schema, c->raw, 0);
    memset(c, 0, sizeof *c);
}
