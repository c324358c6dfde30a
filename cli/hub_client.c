/* cli/hub_client.c - libcurl towards one hub: verified TLS, a fresh token each request, errors in words. */
#include "cli/hub_client.h"

#include "base/text.h"
#include "cli/file.h"
#include "cli/profile.h"
#include "core/sas/sas.h"
#include "port/crypto.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX   (64u << 20)
#define LINE_MAX_LEN (4u << 20)
#define TOKEN_TTL_S  3600

struct hub_client {
    struct profile profile;
    CURL *curl; /* kept between requests: one connection */
    struct curl_slist *connect_to;
};

static const char *default_profile(char *buf, size_t cap)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (config && config[0] == '/')
        snprintf(buf, cap, "%s/roost/profile", config);
    else if (home)
        snprintf(buf, cap, "%s/.config/roost/profile", home);
    else
        return NULL;
    return buf;
}

static bool exists(const char *path)
{
    FILE *f = path ? fopen(path, "r") : NULL;
    if (f)
        fclose(f);
    return f != NULL;
}

/* NULL: none; an empty one is none. */
static const char *connection_in_environment(void)
{
    const char *text = getenv("ROOST_CONNECTION_STRING");
    return text && *text ? text : NULL;
}

bool hub_is_given(const struct cli *c)
{
    char buf[4096];
    return c->hub || connection_in_environment() || exists(default_profile(buf, sizeof buf));
}

static int overrides(const struct cli *c, struct profile *p)
{
    const char *ca = c->ca_file ? c->ca_file : p->ca_file ? NULL : getenv("ROOST_CA_FILE");
    uint64_t port;
    if (ca) {
        free(p->ca_file);
        p->ca_file = strdup(ca);
    }
    if (c->address) {
        free(p->address);
        p->address = strdup(c->address);
    }
    if (c->https_port) {
        if (arg_u64(c->https_port, 1, 65535, &port))
            return cli_fail(CLI_USAGE, NULL, "--https-port %s is not a port", c->https_port);
        p->https_port = (uint16_t)port;
    }
    if (p->ca_file && access(p->ca_file, R_OK) < 0)
        return cli_fail(CLI_USAGE,
                        "It is the certificate of the authority that the hub's certificate comes from: "
                        "DIR/ca/ca.crt of a hub that `roostd init DIR` made.",
                        "cannot read the CA file %s: %s", p->ca_file, strerror(errno));
    return CLI_OK;
}

int hub_open(struct cli *c)
{
    char buf[4096], why[1024] = "";
    const char *from = c->hub;
    if (c->client)
        return CLI_OK;
    if (!from)
        from = connection_in_environment();
    if (!from)
        from = default_profile(buf, sizeof buf);
    if (!c->hub && from == buf && !exists(from))
        return cli_fail(CLI_USAGE,
                        "Give --hub DIR (made by `roostd init DIR`), set ROOST_CONNECTION_STRING, or copy "
                        "DIR/operator.profile to ~/.config/roost/profile.",
                        "which hub?");
    struct hub_client *k = calloc(1, sizeof *k);
    if (!k || profile_from(&k->profile, from ? from : "", why, sizeof why)) {
        free(k);
        return cli_fail(CLI_USAGE, NULL, "%s", why);
    }
    c->client = k;
    int rc = overrides(c, &k->profile);
    if (rc)
        return rc;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    k->curl = curl_easy_init();
    if (!k->curl)
        return cli_fail(CLI_USAGE, NULL, "out of memory");
    if (k->profile.address) {
        char to[512];
        bool v6 = strchr(k->profile.address, ':') != NULL && k->profile.address[0] != '[';
        snprintf(to, sizeof to, "::%s%s%s:", v6 ? "[" : "", k->profile.address, v6 ? "]" : "");
        k->connect_to = curl_slist_append(NULL, to);
    }
    return CLI_OK;
}

void hub_close(struct cli *c)
{
    struct hub_client *k = c->client;
    if (!k)
        return;
    curl_slist_free_all(k->connect_to);
    if (k->curl) {
        curl_easy_cleanup(k->curl);
        curl_global_cleanup();
    }
    profile_free(&k->profile);
    free(k);
    c->client = NULL;
}

const struct profile *hub_profile(const struct cli *c)
{
    return &c->client->profile;
}

struct receiver {
    struct hub_answer *a;
    CURL *curl;
    hub_line_fn *on_line; /* NULL: the body is gathered */
    hub_tick_fn *tick;
    void *ctx;
    bool *any, stopped, too_long;
};

static size_t on_body(char *p, size_t size, size_t nr, void *ctx)
{
    struct receiver *r = ctx;
    struct hub_answer *a = r->a;
    size_t n = size * nr;
    long status = 0;
    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &status);
    bool lines = r->on_line && status == 200;
    if (a->body_len + n > (lines ? LINE_MAX_LEN : ANSWER_MAX)) {
        r->too_long = true;
        return 0;
    }
    uint8_t *grown = realloc(a->body, a->body_len + n + 1);
    if (!grown)
        return 0;
    a->body = grown;
    memcpy(a->body + a->body_len, p, n);
    a->body_len += n;
    a->body[a->body_len] = 0;
    if (!lines)
        return n;
    uint8_t *at = a->body, *end;
    while ((end = memchr(at, '\n', a->body_len - (size_t)(at - a->body))) != NULL) {
        size_t len = (size_t)(end - at);
        *end = 0;
        if (len && at[len - 1] == '\r')
            at[--len] = 0;
        if (len)
            *r->any = true;
        if (len && !r->on_line(r->ctx, (char *)at, len)) {
            r->stopped = true;
            return 0;
        }
        at = end + 1;
    }
    a->body_len -= (size_t)(at - a->body);
    memmove(a->body, at, a->body_len);
    return n;
}

static int on_tick(void *ctx, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total, curl_off_t ul)
{
    struct receiver *r = ctx;
    (void)dl_total, (void)dl, (void)ul_total, (void)ul;
    if (!r->tick(r->ctx))
        r->stopped = true;
    return r->stopped; /* not 0: curl gives up */
}

static size_t on_header(char *p, size_t size, size_t nr, void *ctx)
{
    struct receiver *r = ctx;
    static const char name[] = "Upload-Offset:";
    size_t n = size * nr;
    if (n > sizeof name && strncasecmp(p, name, sizeof name - 1) == 0) {
        char num[32];
        snprintf(num, sizeof num, "%.*s", (int)(n - sizeof name + 1), p + sizeof name - 1);
        r->a->upload_offset = strtoll(num, NULL, 10);
    }
    return n;
}

static char *authorization(const struct profile *p)
{
    enum { ROOM = SAS_TOKEN_MAX + 32 };
    char *text = calloc(1, ROOM + 1);
    if (!text)
        abort();
    struct wr w = { (uint8_t *)text, ROOM, 0 };
    wr_str(&w, "Authorization: ");
    sas_token_encode(&w, &port_crypto, span_str(p->host), span_of(p->key, p->key_len),
                     (uint64_t)time(NULL) + TOKEN_TTL_S, span_str(p->policy));
    text[wr_ok(&w) ? w.len : 0] = 0;
    return text;
}

/* What the error means for the person in front of the screen. */
static void explain(const struct profile *p, CURLcode code, const char *detail, struct hub_answer *a)
{
    char *const why = a->why;
    const size_t cap = sizeof a->why;
    a->not_the_hub = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
                     code == CURLE_COULDNT_RESOLVE_HOST;
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
        snprintf(why, cap,
                 "the hub's certificate is not the expected one (%s); name its authority with --ca-file, and "
                 "use the host name that the certificate was made for",
                 detail);
        break;
    case CURLE_SSL_CACERT_BADFILE:
        snprintf(why, cap, "there is no certificate in the CA file %s",
                 p->ca_file ? p->ca_file : "of this system");
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
        snprintf(why, cap, "the name %s does not resolve; --address IP goes round that", p->host);
        break;
    default:
        snprintf(why, cap, "%s", detail[0] ? detail : curl_easy_strerror(code));
    }
}

static int perform(struct cli *c, const struct hub_request *r, struct receiver *to, struct hub_answer *a)
{
    const struct profile *p = &c->client->profile;
    CURL *h = c->client->curl;
    char url[8192], type[128], error[CURL_ERROR_SIZE] = "";
    struct curl_slist *fields = NULL;
    bool v6 = strchr(p->host, ':') != NULL;

    *a = (struct hub_answer){ .upload_offset = -1 };
    *to = (struct receiver){
        .a = a, .curl = h, .on_line = to->on_line, .tick = to->tick, .ctx = to->ctx, .any = to->any
    };
    snprintf(url, sizeof url, "https://%s%s%s:%u%s", v6 ? "[" : "", p->host, v6 ? "]" : "", p->https_port,
             r->path);
    char *auth = authorization(p);
    fields = curl_slist_append(fields, auth);
    fields = curl_slist_append(fields, "Expect:"); /* no pause before a body */
    if (r->content_type) {
        snprintf(type, sizeof type, "Content-Type: %s", r->content_type);
        fields = curl_slist_append(fields, type);
    }
    if (r->header)
        fields = curl_slist_append(fields, r->header);
    curl_easy_reset(h);
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L); /* ".." is an id like others, not the way up */
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "roost/" ROOST_VERSION);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 15L);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, fields);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, to);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, to);
    curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
    if (p->ca_file) {
        curl_easy_setopt(h, CURLOPT_CAINFO, p->ca_file);
        curl_easy_setopt(h, CURLOPT_CAPATH, NULL); /* this authority and no other */
    }
    if (c->client->connect_to)
        curl_easy_setopt(h, CURLOPT_CONNECT_TO, c->client->connect_to);
    if (to->tick) {
        curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_tick);
        curl_easy_setopt(h, CURLOPT_XFERINFODATA, to);
    }
    if (!to->on_line) { /* a stream may well be silent for hours */
        curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, r->silent_s ? (long)r->silent_s : 60L);
    }
    if (strcmp(r->method, "HEAD") == 0) {
        curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
    } else if (r->content_type) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, r->body.n ? (const char *)r->body.p : "");
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, r->method);
    } else if (strcmp(r->method, "POST") == 0 || strcmp(r->method, "PUT") == 0) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE, 0L);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, "");
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, r->method);
    } else {
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, r->method);
    }
    CURLcode code = curl_easy_perform(h);
    if (code == CURLE_OK || to->stopped)
        curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &a->status);
    else if (to->too_long)
        snprintf(a->why, sizeof a->why, "its answer is too long");
    else
        explain(p, code, error, a);
    curl_slist_free_all(fields);
    explicit_bzero(auth, strlen(auth));
    free(auth);
    return a->status ? CLI_OK : CLI_UNREACHABLE;
}

int hub_ask(struct cli *c, const struct hub_request *r, struct hub_answer *answer)
{
    struct receiver to = { .on_line = NULL };
    return perform(c, r, &to, answer);
}

int hub_lines(struct cli *c, const char *path, hub_line_fn *on_line, hub_tick_fn *tick, void *ctx, bool *any,
              struct hub_answer *answer)
{
    struct hub_request r = { .method = "GET", .path = path };
    struct receiver to = { .on_line = on_line, .tick = tick, .ctx = ctx, .any = any };
    return perform(c, &r, &to, answer);
}

void hub_answer_free(struct hub_answer *a)
{
    free(a->body);
    a->body = NULL;
}

int hub_unreachable(const struct cli *c, const struct hub_answer *a)
{
    const struct profile *p = &c->client->profile;
    return cli_fail(CLI_UNREACHABLE,
                    a->not_the_hub ? "Nothing was sent."
                                   : "Is roostd running? What is under way goes on without this command.",
                    "no answer from %s:%u: %s", p->address ? p->address : p->host, p->https_port, a->why);
}

int hub_complain(const struct hub_answer *a, const char *what)
{
    json_t *doc = a->body ? json_loadb((char *)a->body, a->body_len, JSON_ALLOW_NUL, NULL) : NULL;
    json_t *error = json_object_get(doc, "error");
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *next = NULL;
    char name[64] = "";
    int rc = CLI_REFUSED;

    /* The Azure-compatible interface: {"Message":"ErrorCode:Name;text"} */
    const char *text = json_string_value(json_object_get(doc, "Message"));
    const char *semicolon = text ? strchr(text, ';') : NULL;
    if (!error && semicolon && strncmp(text, "ErrorCode:", 10) == 0) {
        snprintf(name, sizeof name, "%.*s", (int)(semicolon - text - 10), text + 10);
        code = name;
        message = semicolon + 1;
    }
    if (strcmp(name, "JobQuotaExceeded") == 0) {
        rc = CLI_CONFLICT;
    } else if (a->status == 401) {
        rc = CLI_AUTH;
        next =
            message && strstr(message, "(expired)")
                ? "Signatures are good for an hour: the clock of this machine is behind the hub's by more."
            : message && strstr(message, "(audience)")
                ? "HostName has to be one of the names in the hub's roost.yaml."
                : "The key of this profile is not one of this hub's. After `roostd init` was run anew, use "
                  "its new profile.";
    } else if (a->status == 403 && !(code && strcmp(code, "queue-full") == 0)) {
        rc = CLI_AUTH;
        next = "Use a policy that has it: iothubowner has all.";
    } else if (a->status == 404) {
        rc = CLI_USAGE;
    } else if (a->status == 429 || a->status >= 500) {
        rc = CLI_UNREACHABLE;
        next = "Nothing was changed; try again later.";
    }
    cli_fail(rc, next, "%s: %s%s%s%s", what, message ? message : "the hub refused", code ? " (" : "",
             code ? code : "", code ? ")" : "");
    if (!message)
        fprintf(stderr, "  HTTP status %ld\n", a->status);
    json_decref(doc);
    return rc;
}

static int json_ask(struct cli *c, const char *method, const char *header, const char *path, json_t *body,
                    const char *what, json_t **out)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct hub_request r = { .method = method,
                             .path = path,
                             .header = header,
                             .content_type = body ? "application/json" : NULL,
                             .body = span_str(text) };
    struct hub_answer a = { 0 };
    json_t *doc = NULL;
    int rc = hub_open(c);

    json_decref(body);
    if (!rc) {
        rc = hub_ask(c, &r, &a);
        if (rc)
            rc = hub_unreachable(c, &a);
    }
    if (!rc && (a.status < 200 || a.status > 299))
        rc = hub_complain(&a, what);
    if (!rc && a.body_len) {
        doc = json_loadb((char *)a.body, a.body_len, JSON_ALLOW_NUL, NULL);
        if (!doc && out)
            rc = cli_fail(CLI_UNREACHABLE, "Is this a Roost hub, of the same version?",
                          "%s: the answer is not JSON", what);
    }
    if (!rc && out)
        *out = doc;
    else
        json_decref(doc);
    hub_answer_free(&a);
    free(text);
    return rc;
}

int hub_json(struct cli *c, const char *method, const char *path, json_t *body, const char *what,
             json_t **out)
{
    return json_ask(c, method, NULL, path, body, what, out);
}

int hub_create(struct cli *c, const char *path, json_t *body, const char *what, json_t **out)
{
    return json_ask(c, "PUT", "If-None-Match: *", path, body, what, out);
}

char *hub_path(const char *before, const char *id, const char *after)
{
    size_t cap = strlen(before) + 3 * strlen(id) + strlen(after) + 1;
    char *p = calloc(1, cap);
    if (!p)
        abort();
    struct wr w = { (uint8_t *)p, cap, 0 };
    wr_str(&w, before);
    percent_encode(&w, span_str(id));
    wr_str(&w, after);
    return p;
}
