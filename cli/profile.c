/* cli/profile.c - profile files and connection strings. */
#include "cli/profile.h"

#include "base/text.h"
#include "cli/cli.h"
#include "cli/file.h"
#include "core/sas/sas.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PROFILE_MAX 65536u

static char *dup_span(struct span s)
{
    char *z = strndup((const char *)s.p, s.n);
    if (!z)
        abort();
    return z;
}

/* "name:8443", "[::1]:8443": takes the port off. A bare IPv6 address has colons of its own. */
static bool port_take(struct span *host, uint16_t *port)
{
    const uint8_t *colon = host->n ? memchr(host->p, ':', host->n) : NULL;
    uint64_t v;
    if (host->n > 2 && host->p[0] == '[') {
        const uint8_t *close = memchr(host->p, ']', host->n);
        if (!close)
            return false;
        colon = close + 1 < host->p + host->n ? close + 1 : NULL;
        if (colon && *colon != ':')
            return false;
    } else if (colon && memchr(colon + 1, ':', host->n - (size_t)(colon + 1 - host->p))) {
        return true;
    }
    if (colon) {
        const struct span digits = span_skip(*host, (size_t)(colon + 1 - host->p));
        if (u64_parse(digits, 65535, &v) || v == 0)
            return false;
        *port = (uint16_t)v;
        host->n = (size_t)(colon - host->p);
    }
    if (host->n > 2 && host->p[0] == '[')
        *host = span_of(host->p + 1, host->n - 2);
    return host->n > 0;
}

enum err profile_connection(struct profile *p, const char *text, char *why, size_t why_cap)
{
    struct sas_connection c;
    uint8_t key[sizeof p->key];
    size_t key_len = 0;

    if (sas_connection_parse(span_str(text), &c)) {
        snprintf(why, why_cap,
                 "the connection string is not of the form HostName=...;SharedAccessKeyName=...;"
                 "SharedAccessKey=...");
        return ERR_PROTO;
    }
    if (c.device.n || !c.policy.n) {
        snprintf(why, why_cap,
                 "this connection string belongs to a device; an operator needs one with a "
                 "SharedAccessKeyName (roostd init prints it)");
        return ERR_PROTO;
    }
    if (base64_decode(c.key, key, sizeof key, &key_len) || key_len == 0) {
        snprintf(why, why_cap, "SharedAccessKey is not base64");
        return ERR_PROTO;
    }
    if (!port_take(&c.host, &p->https_port)) {
        snprintf(why, why_cap,
                 "HostName is not a host name, or one with a port such as hub.example.org:8443");
        return ERR_PROTO;
    }
    free(p->host);
    free(p->policy);
    p->host = dup_span(c.host);
    p->policy = dup_span(c.policy);
    memcpy(p->key, key, key_len);
    p->key_len = key_len;
    return ERR_OK;
}

static enum err line_take(struct profile *p, char *name, char *val, const char *dir, char *why,
                          size_t why_cap)
{
    uint64_t port;
    if (strcmp(name, "connection-string") == 0)
        return profile_connection(p, val, why, why_cap);
    if (strcmp(name, "https-port") == 0) {
        if (arg_u64(val, 1, 65535, &port)) {
            snprintf(why, why_cap, "https-port is not a port: %s", val);
            return ERR_PROTO;
        }
        p->https_port = (uint16_t)port;
        return ERR_OK;
    }
    if (strcmp(name, "ca-file") == 0) {
        free(p->ca_file);
        p->ca_file = val[0] == '/' || !dir ? strdup(val) : path_join(dir, val);
        return ERR_OK;
    }
    if (strcmp(name, "address") == 0) {
        free(p->address);
        p->address = strdup(val);
        return ERR_OK;
    }
    snprintf(why, why_cap, "there is no such setting as %s", name);
    return ERR_PROTO;
}

enum err profile_parse(struct profile *p, const char *text, const char *dir, char *why, size_t why_cap)
{
    char *copy = strdup(text), *rest = copy, *line;
    enum err e = ERR_OK;
    unsigned nr = 0;

    *p = (struct profile){ .https_port = 443 };
    if (!copy)
        return ERR_NOMEM;
    while (!e && (line = strsep(&rest, "\n")) != NULL) {
        char reason[256] = "there is no '='";
        size_t n = strlen(line);
        nr++;
        while (n && (line[n - 1] == '\r' || line[n - 1] == ' '))
            line[--n] = 0;
        if (n == 0 || line[0] == '#')
            continue;
        char *eq = strchr(line, '=');
        e = ERR_PROTO;
        if (eq) {
            *eq = 0;
            e = line_take(p, line, eq + 1, dir, reason, sizeof reason);
        }
        if (e)
            snprintf(why, why_cap, "line %u: %s", nr, reason);
    }
    if (!e && !p->host) {
        snprintf(why, why_cap, "it has no connection-string");
        e = ERR_PROTO;
    }
    free(copy);
    if (e)
        profile_free(p);
    return e;
}

enum err profile_from(struct profile *p, const char *text, char *why, size_t why_cap)
{
    struct file_bytes f;
    char *path, reason[512] = "";
    enum err e;

    *p = (struct profile){ .https_port = 443 };
    if (strncmp(text, "HostName=", 9) == 0)
        return profile_connection(p, text, why, why_cap);
    path = is_dir(text) ? path_join(text, "operator.profile") : strdup(text);
    e = file_read(path, PROFILE_MAX, &f);
    if (e == ERR_OK) {
        char *dir_copy = strdup(path);
        if (f.mode & (S_IROTH | S_IWOTH))
            fprintf(stderr, "roost: %s holds a key, and everybody may read or change it: chmod 600\n", path);
        e = profile_parse(p, (char *)f.p, dirname(dir_copy), reason, sizeof reason);
        if (e)
            snprintf(why, why_cap, "%s: %s", path, reason);
        free(dir_copy);
        explicit_bzero(f.p, f.n);
        free(f.p);
    } else if (e == ERR_NOTFOUND) {
        snprintf(why, why_cap,
                 "there is no %s; give a directory made by `roostd init`, a profile file, or a "
                 "connection string",
                 path);
    } else {
        snprintf(why, why_cap, "%s: %s", path, e == ERR_LIMIT ? "too long for a profile" : strerror(errno));
    }
    free(path);
    return e;
}

void profile_free(struct profile *p)
{
    free(p->host);
    free(p->policy);
    free(p->ca_file);
    free(p->address);
    explicit_bzero(p, sizeof *p);
}
