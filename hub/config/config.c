/* hub/config/config.c - the table of config.h at work: libcyaml loads; a pass over the YAML events before it
 * finds where each value stands, so that every complaint has a line and a column. */
#include "hub/config/config.h"

#include "base/text.h"
#include "hub/domain/message/upload.h"
#include "hub/domain/query/query.h"
#include "hub/domain/throttle.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <cyaml/cyaml.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#define OPTIONS_MAX 160
enum { FILE_MAX = 1 << 20 };

/* ---- the table, as data ---------------------------------------------------------------------------- */

enum value_type { VALUE_SECTION, VALUE_NUMBER, VALUE_TRUTH, VALUE_WORD };
struct option {
    const char *section, *name, *def, *text;
    uint64_t min, max;
    size_t offset;
    uint8_t type; /* enum value_type; a VALUE_SECTION stands before its values */
};

#define NONE(...)
#define SECTION_(s, text) { #s, NULL, NULL, text, 0, 0, 0, VALUE_SECTION },
#define NUMBER_(s, n, def, lo, hi, tx)                                                                       \
    { #s, #n, #def, tx, lo, hi, offsetof(struct config, s.n), VALUE_NUMBER },
#define TRUTH_(s, n, def, tx) { #s, #n, #def, tx, 0, 1, offsetof(struct config, s.n), VALUE_TRUTH },
#define WORD_(s, n, def, tx)  { #s, #n, def, tx, 0, 0, offsetof(struct config, s.n), VALUE_WORD },
static const struct option options[] = { CONFIG_TABLE(SECTION_, NUMBER_, TRUTH_, WORD_, NONE) };
enum { OPTION_NR = sizeof options / sizeof options[0] };
_Static_assert(OPTION_NR <= OPTIONS_MAX, "seen[] has a place for each");

/* libcyaml's form: a field list a section, and one of the sections. */
#define C_SECTION(s, text)              static const cyaml_schema_field_t schema_##s[] = {
#define C_NUMBER(s, n, def, lo, hi, tx) CYAML_FIELD_UINT(#n, CYAML_FLAG_OPTIONAL, struct config_##s, n),
#define C_TRUTH(s, n, def, tx)          CYAML_FIELD_BOOL(#n, CYAML_FLAG_OPTIONAL, struct config_##s, n),
#define C_WORD(s, n, def, tx)                                                                                \
    CYAML_FIELD_STRING_PTR(#n, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config_##s, n, 0, 4096),
#define C_END(s)                                                                                             \
    CYAML_FIELD_END                                                                                          \
    }                                                                                                        \
    ;
#define C_TOP(s, text) CYAML_FIELD_MAPPING(#s, CYAML_FLAG_OPTIONAL, struct config, s, schema_##s),
CONFIG_TABLE(C_SECTION, C_NUMBER, C_TRUTH, C_WORD, C_END)
static const cyaml_schema_value_t schema_name = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 253) };
static const cyaml_schema_field_t schema_top[] = {
    CYAML_FIELD_SEQUENCE("names", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config, names,
                         &schema_name, 0, CONFIG_NAMES_MAX),
    CONFIG_TABLE(C_TOP, NONE, NONE, NONE, NONE) CYAML_FIELD_END
};
static const cyaml_schema_value_t schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct config,
                                                                 schema_top) };

/* ---- complaints ------------------------------------------------------------------------------------- */

struct reading {
    const char *file;
    struct config_error *error;
    bool seen[OPTIONS_MAX];
    yaml_mark_t at[OPTIONS_MAX];
    bool cyaml_said; /* its first error is the one to show */
};

__attribute__((format(printf, 3, 4))) static enum err complain(struct reading *r, yaml_mark_t at,
                                                               const char *form, ...)
{
    va_list ap;
    int n =
        snprintf(r->error->text, sizeof r->error->text, "%s:%zu:%zu: ", r->file, at.line + 1, at.column + 1);
    if (n < 0 || (size_t)n >= sizeof r->error->text)
        return ERR_PROTO;
    va_start(ap, form);
    vsnprintf(r->error->text + n, sizeof r->error->text - (size_t)n, form, ap);
    va_end(ap);
    for (char *p = r->error->text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return ERR_PROTO;
}

static bool truth_of(const char *z, bool *out)
{
    static const char *const yes[] = { "true", "yes", "on" }, *const no[] = { "false", "no", "off" };
    for (int i = 0; i < 3; i++) {
        if (strcmp(z, yes[i]) == 0 || strcmp(z, no[i]) == 0) {
            *out = strcmp(z, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

/* One line of printable text: no control characters, no line ends of Unicode either. */
static bool is_printable(const unsigned char *z)
{
    for (; *z; z++)
        if (*z < 0x20 || *z == 0x7f || (z[0] == 0xc2 && z[1] < 0xa0) ||
            (z[0] == 0xe2 && z[1] == 0x80 && (z[2] == 0xa8 || z[2] == 0xa9)) ||
            (z[0] == 0xef && z[1] == 0xbb && z[2] == 0xbf))
            return false;
    return true;
}

static enum err check_scalar(struct reading *r, const struct option *o, yaml_mark_t at, const char *z,
                             size_t n)
{
    uint64_t v;
    bool b;
    if (strlen(z) != n)
        return complain(r, at, "%s.%s: a zero byte in a value", o->section, o->name);
    if (o->type == VALUE_NUMBER &&
        (u64_parse(span_of(z, n), UINT64_MAX, &v) != ERR_OK || v < o->min || v > o->max))
        return complain(r, at, "%s.%s: '%.40s' is not a whole number from %llu to %llu", o->section, o->name,
                        z, (unsigned long long)o->min, (unsigned long long)o->max);
    if (o->type == VALUE_WORD && (n > 4096 || !is_printable((const unsigned char *)z)))
        return complain(r, at, "%s.%s: not one line of text, or longer than 4096 bytes", o->section, o->name);
    if (o->type == VALUE_TRUTH && !truth_of(z, &b))
        return complain(r, at, "%s.%s: '%.40s' is neither true nor false", o->section, o->name, z);
    return ERR_OK;
}

static int find(const char *section, const char *name)
{
    for (int i = 0; i < OPTION_NR; i++)
        if (strcmp(options[i].section, section) == 0 &&
            (name ? options[i].name && strcmp(options[i].name, name) == 0 : !options[i].name))
            return i;
    return -1;
}

/* ---- the pass over the events ----------------------------------------------------------------------- */

/* Next event into *e; false: complained. */
static bool next_event(struct reading *r, yaml_parser_t *y, yaml_event_t *e)
{
    if (yaml_parser_parse(y, e))
        return true;
    /* The scanner's own mark is where it stood; the problem's is where it hurts. */
    complain(r, y->problem_mark.line || y->problem_mark.column ? y->problem_mark : y->mark, "%s",
             y->problem ? y->problem : "not YAML");
    return false;
}

static enum err unexpected(struct reading *r, const yaml_event_t *e, const char *wanted)
{
    if (e->type == YAML_ALIAS_EVENT)
        return complain(r, e->start_mark, "aliases (*name) are not supported here");
    return complain(r, e->start_mark, "%s is expected here", wanted);
}

static enum err scan_names(struct reading *r, yaml_parser_t *y)
{
    yaml_event_t e;
    enum err err = ERR_OK;
    unsigned nr = 0;
    if (!next_event(r, y, &e))
        return ERR_PROTO;
    if (e.type != YAML_SEQUENCE_START_EVENT)
        err = unexpected(r, &e, "a list of host names, like [hub.example.org]");
    yaml_event_delete(&e);
    while (!err) {
        if (!next_event(r, y, &e))
            return ERR_PROTO;
        bool end = e.type == YAML_SEQUENCE_END_EVENT;
        if (!end && e.type != YAML_SCALAR_EVENT)
            err = unexpected(r, &e, "a host name");
        else if (!end && ++nr > CONFIG_NAMES_MAX)
            err = complain(r, e.start_mark, "names: more than %u", CONFIG_NAMES_MAX);
        else if (!end && (!e.data.scalar.length || e.data.scalar.length > 253))
            err = complain(r, e.start_mark, "names: a host name has 1 to 253 characters");
        for (size_t i = 0; !err && !end && i < e.data.scalar.length; i++) {
            char c = (char)e.data.scalar.value[i];
            if (c <= 0x20 || (unsigned char)c >= 0x7f || c == '\\' || c == '/' || c == '"' || c == ';' ||
                c == '=' || c == '#')
                err = complain(r, e.start_mark, "names: '%.60s' is not a host name", e.data.scalar.value);
        }
        yaml_event_delete(&e);
        if (end)
            break;
    }
    return err;
}

static enum err scan_section(struct reading *r, yaml_parser_t *y, const char *section)
{
    yaml_event_t key, val;
    enum err err = ERR_OK;
    if (!next_event(r, y, &val))
        return ERR_PROTO;
    if (val.type != YAML_MAPPING_START_EVENT)
        err = unexpected(r, &val, "a section (indented lines of \"name: value\")");
    yaml_event_delete(&val);
    while (!err) {
        if (!next_event(r, y, &key))
            return ERR_PROTO;
        if (key.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&key);
            break;
        }
        const char *name = key.type == YAML_SCALAR_EVENT ? (const char *)key.data.scalar.value : NULL;
        int i = name ? find(section, name) : -1;
        if (!name)
            err = unexpected(r, &key, "the name of a value");
        else if (i < 0)
            err = complain(r, key.start_mark, "%s has no value '%.60s'", section, name);
        else if (r->seen[i])
            err = complain(r, key.start_mark, "%s.%s stands here twice", section, name);
        if (!err && !next_event(r, y, &val)) {
            yaml_event_delete(&key);
            return ERR_PROTO;
        }
        if (!err) {
            if (val.type != YAML_SCALAR_EVENT)
                err = unexpected(r, &val, "a single value");
            else
                err = check_scalar(r, &options[i], val.start_mark, (const char *)val.data.scalar.value,
                                   val.data.scalar.length);
            r->seen[i] = true;
            r->at[i] = val.start_mark;
            yaml_event_delete(&val);
        }
        yaml_event_delete(&key);
    }
    return err;
}

static enum err scan_top(struct reading *r, yaml_parser_t *y)
{
    yaml_event_t e;
    enum err err = ERR_OK;
    bool names = false;
    while (!err) {
        if (!next_event(r, y, &e))
            return ERR_PROTO;
        if (e.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&e);
            break;
        }
        const char *name = e.type == YAML_SCALAR_EVENT ? (const char *)e.data.scalar.value : NULL;
        int i = name ? find(name, NULL) : -1;
        if (!name) {
            err = unexpected(r, &e, "the name of a section");
        } else if (strcmp(name, "names") == 0) {
            err = names ? complain(r, e.start_mark, "names stands here twice") : scan_names(r, y);
            names = true;
        } else if (i < 0) {
            err = complain(r, e.start_mark, "there is no section '%.60s'", name);
        } else if (r->seen[i]) {
            err = complain(r, e.start_mark, "section %s stands here twice", name);
        } else {
            r->seen[i] = true;
            err = scan_section(r, y, options[i].section);
        }
        yaml_event_delete(&e);
    }
    return err;
}

/* *empty: there is nothing in the document. */
static enum err scan(struct reading *r, struct span yaml, bool *empty)
{
    yaml_parser_t y;
    yaml_event_t e;
    enum err err = ERR_OK;
    bool in_document = false, done = false;
    *empty = true;
    if (!yaml_parser_initialize(&y))
        return ERR_NOMEM;
    yaml_parser_set_input_string(&y, yaml.p ? yaml.p : (const unsigned char *)"", yaml.n);
    while (!err && !done) {
        if (!next_event(r, &y, &e)) {
            err = ERR_PROTO;
            break;
        }
        switch (e.type) {
        case YAML_STREAM_END_EVENT:
            done = true;
            break;
        case YAML_DOCUMENT_START_EVENT:
            if (in_document)
                err = complain(r, e.start_mark, "a second document; one is enough");
            in_document = true;
            break;
        case YAML_MAPPING_START_EVENT:
            *empty = false;
            err = scan_top(r, &y);
            break;
        case YAML_SCALAR_EVENT:
            if (e.data.scalar.length)
                err = unexpected(r, &e, "a section (\"name:\", and indented lines)");
            break;
        case YAML_SEQUENCE_START_EVENT:
        case YAML_ALIAS_EVENT:
            err = unexpected(r, &e, "a section (\"name:\", and indented lines)");
            break;
        default:
            break;
        }
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&y);
    return err;
}

/* ---- values ----------------------------------------------------------------------------------------- */

static char **word_at(struct config *c, const struct option *o)
{
    return (char **)(void *)((char *)c + o->offset);
}
static uint64_t *number_at(const struct config *c, const struct option *o)
{
    return (uint64_t *)(void *)((char *)(uintptr_t)c + o->offset);
}
static bool *truth_at(const struct config *c, const struct option *o)
{
    return (bool *)((char *)(uintptr_t)c + o->offset);
}

static enum err set_defaults(struct config *c, const bool *seen)
{
    for (int i = 0; i < OPTION_NR; i++) {
        const struct option *o = &options[i];
        if (seen[i] || o->type == VALUE_SECTION)
            continue;
        if (o->type == VALUE_NUMBER) {
            if (u64_parse(span_str(o->def), UINT64_MAX, number_at(c, o)) != ERR_OK)
                abort();
        } else if (o->type == VALUE_TRUTH) {
            *truth_at(c, o) = strcmp(o->def, "yes") == 0;
        } else if (!*word_at(c, o) && !(*word_at(c, o) = strdup(o->def))) {
            return ERR_NOMEM;
        }
    }
    return ERR_OK;
}

bool config_address_is_loopback(const char *address)
{
    struct in6_addr six;
    struct in_addr four;
    if (inet_pton(AF_INET, address, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

static yaml_mark_t mark_of(const struct reading *r, const char *section, const char *name)
{
    int i = find(section, name);
    return r->at[i];
}

static enum err check_listener(struct reading *r, const char *section, const char *address, bool tls,
                               bool artifacts)
{
    unsigned char any[16];
    if (strcmp(address, "*") != 0 && inet_pton(AF_INET, address, any) != 1 &&
        inet_pton(AF_INET6, address, any) != 1)
        return complain(r, mark_of(r, section, "address"),
                        "%s.address: '%.60s' is not an IP address, nor \"*\"", section, address);
    if (tls && artifacts)
        return complain(r, mark_of(r, section, "tls"),
                        "%s.tls: this listener is the plain one; artifacts are also at the https listener",
                        section);
    if (!tls && !artifacts && !config_address_is_loopback(address))
        return complain(
            r,
            mark_of(r, section,
                    find(section, "tls") >= 0 && r->seen[find(section, "tls")] ? "tls" : "address"),
            "%s: without TLS only a loopback address may be listened on (127.0.0.1 or ::1)", section);
    return ERR_OK;
}

/* A directory in which the hub keeps what is its own, and removes what it does not know. */
static bool is_own_directory(const char *path)
{
    static const char *const own[] = { ".", "ca", "tls", "store", "stream", "blob", "files", "routing" };
    while (path[0] == '.' && path[1] == '/')
        path += 2 + strspn(path + 2, "/");
    const size_t n = strcspn(path, "/");
    bool is = !path[0];
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        is = is || (strlen(own[i]) == n && strncmp(path, own[i], n) == 0);
    return is;
}

/* Devices keep a base of 160 bytes. */
static bool is_mirror(const char *url)
{
    static const char *const schemes[] = { "https://", "http://", "ftp://", "ftps://" };
    bool known = !url[0];
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        known = known || (strncmp(url, schemes[i], strlen(schemes[i])) == 0 && url[strlen(schemes[i])]);
    return known && strlen(url) <= 150;
}

static bool are_groups(const char *text)
{
    size_t len = 0, nr = 0;
    for (const char *p = text; *text; p++) {
        if (*p == ',' || !*p) {
            if (!len || len > 50 || ++nr > 19)
                return false;
            len = 0;
            if (!*p)
                break;
        } else if (*p != ' ') {
            if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
                return false;
            len++;
        } else if (len) { /* blanks come after commas only */
            return false;
        }
    }
    return true;
}

static enum err check_whole(struct reading *r, const struct config *c)
{
    enum err e = check_listener(r, "https", c->https.address, c->https.tls, false);
    if (!e)
        e = check_listener(r, "mqtts", c->mqtts.address, c->mqtts.tls, false);
    if (!e)
        e = check_listener(r, "amqps", c->amqps.address, c->amqps.tls, false);
    if (!e)
        e = check_listener(r, "ops", c->ops.address, c->ops.tls, false);
    if (!e)
        e = check_listener(r, "http", c->http.address, c->http.tls, true);
    if (!e && strcmp(c->hub.log, "error") && strcmp(c->hub.log, "warn") && strcmp(c->hub.log, "info") &&
        strcmp(c->hub.log, "debug"))
        e = complain(r, mark_of(r, "hub", "log"), "hub.log: '%.40s' is none of error, warn, info, debug",
                     c->hub.log);
    if (!e && strcmp(c->tls.record_layer, "auto") && strcmp(c->tls.record_layer, "compact") &&
        strcmp(c->tls.record_layer, "openssl") && strcmp(c->tls.record_layer, "kernel"))
        e = complain(r, mark_of(r, "tls", "record_layer"),
                     "tls.record_layer: '%.40s' is none of auto, compact, openssl, kernel",
                     c->tls.record_layer);
    if (!e && c->messages.c2d_ttl_s > c->messages.c2d_ttl_max_s)
        e = complain(r,
                     mark_of(r, "messages",
                             r->seen[find("messages", "c2d_ttl_max_s")] ? "c2d_ttl_max_s" : "c2d_ttl_s"),
                     "messages.c2d_ttl_s is larger than messages.c2d_ttl_max_s");
    if (!e && !are_groups(c->stream.consumer_groups))
        e = complain(
            r, mark_of(r, "stream", "consumer_groups"),
            "stream.consumer_groups: names of 1 to 50 letters, digits and . _ - with commas between, at "
            "most 19");
    struct query_sources indexes;
    struct span bad = SPAN_NONE;
    if (!e && query_indexes_parse(&indexes, span_str(c->query.indexed_paths), &bad))
        e = complain(
            r, mark_of(r, "query", "indexed_paths"),
            "query.indexed_paths: '%.*s' is not a path such as tags.site or properties.reported.fw, or "
            "there are more than %u",
            bad.n < 60 ? (int)bad.n : 60, (const char *)bad.p, TWIN_INDEX_MAX);
    struct throttle_config rates = { .burst_s = 1, .policies = span_str(c->rates.policies) };
    struct throttle *t = NULL;
    if (!e && throttle_new(&t, &rates, &bad))
        e = complain(r, mark_of(r, "rates", "policies"),
                     "rates.policies: '%.*s' is not POLICY.OPERATION=NUMBER such as service.methods=600, is "
                     "there already, or there are more than %u policies",
                     bad.n < 60 ? (int)bad.n : 60, (const char *)bad.p, THROTTLE_POLICIES_MAX);
    throttle_free(t);
    const char *const containers[2] = { c->uploads.container, c->uploads.registry_container };
    for (unsigned i = 0; i < 2 && !e; i++)
        if (!upload_container_ok(containers[i]))
            e = complain(r, mark_of(r, "uploads", i ? "registry_container" : "container"),
                         "uploads.%s: '%.63s' is not 3 to 63 of a-z, 0-9 and -, or is a path of the hub",
                         i ? "registry_container" : "container", containers[i]);
    if (!e && containers[0][0] && strcmp(containers[0], containers[1]) == 0) /* exports have keys */
        e = complain(
            r,
            mark_of(r, "uploads", r->seen[find("uploads", "container")] ? "container" : "registry_container"),
            "uploads.container: '%.63s' is the container of the registry, too; they need two names",
            containers[0]);
    if (!e && is_own_directory(c->routing.files))
        e = complain(r, mark_of(r, "routing", "files"),
                     "routing.files: '%.60s' is a directory of the hub's own; choose another one",
                     c->routing.files);
    if (!e && !is_mirror(c->updates.mirror))
        e = complain(r, mark_of(r, "updates", "mirror"),
                     "updates.mirror: '%.40s' is not an http, https, ftp or ftps URL of at most 150 bytes",
                     c->updates.mirror);
    if (!e && !c->tls.ec_certificate[0] && !c->tls.rsa_certificate[0])
        e = complain(r, mark_of(r, "tls", "ec_certificate"),
                     "tls: neither ec_certificate nor rsa_certificate is set; one is needed");
    return e;
}

/* ---- loading ---------------------------------------------------------------------------------------- */

static void on_cyaml(cyaml_log_t level, void *ctx, const char *form, va_list ap)
{
    struct reading *r = ctx;
    if (level < CYAML_LOG_ERROR || r->cyaml_said)
        return;
    r->cyaml_said = true; /* what the first pass let through and libcyaml does not: it names the value */
    int n = snprintf(r->error->text, sizeof r->error->text, "%s: ", r->file);
    vsnprintf(r->error->text + n, sizeof r->error->text - (size_t)n, form, ap);
    r->error->text[strcspn(r->error->text, "\n")] = 0;
}

enum err config_parse(struct config **out, struct span yaml, const char *name, struct config_error *error)
{
    struct reading r = { .file = name, .error = error };
    cyaml_config_t how = {
        .log_fn = on_cyaml, .log_ctx = &r, .mem_fn = cyaml_mem, .log_level = CYAML_LOG_ERROR
    };
    struct config *c = NULL;
    bool empty;
    error->text[0] = 0;
    if (yaml.n > FILE_MAX)
        return complain(&r, (yaml_mark_t){ 0 }, "larger than 1 MiB");
    enum err e = scan(&r, yaml, &empty);
    if (!e && empty && !(c = calloc(1, sizeof *c)))
        e = ERR_NOMEM;
    if (!e && !empty) {
        cyaml_err_t y = cyaml_load_data(yaml.p, yaml.n, &how, &schema, (cyaml_data_t **)(void *)&c, NULL);
        if (y != CYAML_OK) {
            e = y == CYAML_ERR_OOM ? ERR_NOMEM : ERR_PROTO;
            if (!error->text[0])
                complain(&r, (yaml_mark_t){ 0 }, "%s", cyaml_strerror(y));
        }
    }
    if (!e)
        e = set_defaults(c, r.seen);
    if (!e)
        e = check_whole(&r, c);
    if (e) {
        config_free(c);
        return e;
    }
    *out = c;
    return ERR_OK;
}

enum err config_load(struct config **out, const char *file, struct config_error *error)
{
    uint8_t *buf = malloc(FILE_MAX + 1);
    FILE *f = fopen(file, "re");
    enum err e = ERR_IO;
    error->text[0] = 0;
    if (!buf) {
        e = ERR_NOMEM;
    } else if (f) {
        size_t n = fread(buf, 1, FILE_MAX + 1, f);
        if (!ferror(f))
            e = config_parse(out, span_of(buf, n), file, error);
    }
    if (e && !error->text[0])
        snprintf(error->text, sizeof error->text, "%s: %s", file,
                 e == ERR_NOMEM ? "out of memory" : strerror(errno));
    if (f)
        fclose(f);
    free(buf);
    return e;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (int i = 0; i < OPTION_NR; i++)
        if (options[i].type == VALUE_WORD)
            free(*word_at(c, &options[i]));
    for (unsigned i = 0; i < c->names_count; i++)
        free(c->names[i]);
    free(c->names);
    free(c);
}

/* ---- printing --------------------------------------------------------------------------------------- */

static void put_value(struct wr *w, const struct config *c, const struct option *o)
{
    char text[32];
    if (o->type == VALUE_NUMBER) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)*number_at(c, o));
        wr_str(w, text);
    } else if (o->type == VALUE_TRUTH) {
        wr_str(w, *truth_at(c, o) ? "true" : "false");
    } else {
        wr_u8(w, '"');
        for (const char *z = *word_at((struct config *)(uintptr_t)c, o); *z; z++) {
            if (*z == '"' || *z == '\\')
                wr_u8(w, '\\');
            wr_u8(w, (uint8_t)*z);
        }
        wr_u8(w, '"');
    }
}

void config_print(const struct config *c, struct wr *w)
{
    char line[400];
    wr_str(w, "names: [");
    for (unsigned i = 0; i < c->names_count; i++) {
        wr_str(w, i ? ", \"" : "\"");
        wr_str(w, c->names[i]);
        wr_str(w, "\"");
    }
    wr_str(w, "]\n");
    for (int i = 0; i < OPTION_NR; i++) {
        const struct option *o = &options[i];
        if (o->type == VALUE_SECTION) {
            snprintf(line, sizeof line, "\n# %s\n%s:\n", o->text, o->section);
            wr_str(w, line);
            continue;
        }
        size_t start = w->len;
        wr_str(w, "  ");
        wr_str(w, o->name);
        wr_str(w, ": ");
        put_value(w, c, o);
        while (w->len - start < 36)
            wr_u8(w, ' ');
        snprintf(line, sizeof line, " # %s\n", o->text);
        wr_str(w, line);
    }
}

void config_print_markdown(const struct config *c, struct wr *w)
{
    char line[400];
    for (int i = 0; i < OPTION_NR; i++) {
        const struct option *o = &options[i];
        if (o->type == VALUE_SECTION) {
            snprintf(line, sizeof line, "%s### %s\n\n%s\n\n| value | default | what it is |\n|---|---|---|\n",
                     i ? "\n" : "", o->section, o->text);
            wr_str(w, line);
            continue;
        }
        snprintf(line, sizeof line, "| `%s` | `", o->name);
        wr_str(w, line);
        put_value(w, c, o);
        snprintf(line, sizeof line, "` | %s", o->text);
        wr_str(w, line);
        if (o->type == VALUE_NUMBER) {
            snprintf(line, sizeof line, " (%llu to %llu)", (unsigned long long)o->min,
                     (unsigned long long)o->max);
            wr_str(w, line);
        }
        wr_str(w, " |\n");
    }
}

/* ---- reloading -------------------------------------------------------------------------------------- */

/* What SIGHUP can change while the hub runs: the certificates (the files are read again in any case), and the
 * level of the log. */
static bool changes_live(const struct option *o)
{
    return (strcmp(o->section, "tls") == 0 && strcmp(o->name, "ca_certificate") != 0) ||
           (strcmp(o->section, "hub") == 0 && strcmp(o->name, "log") == 0);
}

const char *config_restart_needed(const struct config *before, const struct config *after, size_t *at)
{
    static _Thread_local char name[80];
    for (; *at < OPTION_NR; ++*at) {
        const struct option *o = &options[*at];
        if (o->type == VALUE_SECTION || changes_live(o))
            continue;
        bool same = o->type == VALUE_NUMBER  ? *number_at(before, o) == *number_at(after, o)
                    : o->type == VALUE_TRUTH ? *truth_at(before, o) == *truth_at(after, o)
                                             : strcmp(*word_at((struct config *)(uintptr_t)before, o),
                                                      *word_at((struct config *)(uintptr_t)after, o)) == 0;
        if (!same) {
            snprintf(name, sizeof name, "%s.%s", o->section, o->name);
            ++*at;
            return name;
        }
    }
    if (*at == OPTION_NR) {
        ++*at;
        bool same = before->names_count == after->names_count;
        for (unsigned i = 0; same && i < before->names_count; i++)
            same = strcmp(before->names[i], after->names[i]) == 0;
        if (!same)
            return "names";
    }
    return NULL;
}
