/* hub/config/init.c - makes a data directory: everything in a folder beside it first, then one rename. */
#include "hub/config/init.h"

#include "base/text.h"
#include "core/trust/bootstrap_string.h"
#include "hub/config/pki.h"
#include "hub/domain/access/access.h"
#include "hub/store/store.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_LEN = 32, PATH_CAP = PATH_MAX + 64 };

static const struct {
    const char *name;
    uint32_t rights;
} policies[] = {
    { "iothubowner",
      ACCESS_REGISTRY_READ | ACCESS_REGISTRY_WRITE | ACCESS_SERVICE_CONNECT | ACCESS_DEVICE_CONNECT },
    { "service", ACCESS_SERVICE_CONNECT },
    { "device", ACCESS_DEVICE_CONNECT },
    { "registryRead", ACCESS_REGISTRY_READ },
    { "registryReadWrite", ACCESS_REGISTRY_READ | ACCESS_REGISTRY_WRITE },
};
enum { POLICY_NR = sizeof policies / sizeof policies[0] };

struct making {
    const struct init_options *o;
    FILE *err;
    const char *names[CONFIG_NAMES_MAX];
    size_t name_nr;
    char tmp[PATH_CAP];   /* where it is made */
    char final[PATH_CAP]; /* where it will be, absolute */
    uint8_t keys[POLICY_NR][2][KEY_LEN];
};

__attribute__((format(printf, 2, 3))) static enum err say(const struct making *m, const char *form, ...)
{
    va_list ap;
    fputs("roostd init: ", m->err);
    va_start(ap, form);
    vfprintf(m->err, form, ap);
    va_end(ap);
    fputc('\n', m->err);
    return ERR_IO;
}

/* a, b and c in a row, into room for PATH_CAP; a path that does not fit becomes one that does not exist. */
static void concat(char *to, const char *a, const char *b, const char *c)
{
    struct wr w = { (uint8_t *)to, PATH_CAP - 1, 0 };
    wr_str(&w, a);
    wr_str(&w, b);
    wr_str(&w, c);
    to[wr_span(&w).n] = 0;
}

/* dir "/" rest, good until eight others were made. */
static const char *join(const char *dir, const char *rest)
{
    static char buf[8][PATH_CAP];
    static unsigned at;
    char *p = buf[at++ % 8];
    concat(p, dir, "/", rest);
    return p;
}

/* ---- options --------------------------------------------------------------------------------------- */

static bool is_host_name(const char *z)
{
    unsigned char ip[16];
    size_t label = 0, n = strlen(z);
    if (inet_pton(AF_INET, z, ip) == 1 || inet_pton(AF_INET6, z, ip) == 1)
        return true;
    if (!n || n > 253)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = z[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == '.') {
            if (!label || z[i - 1] == '-')
                return false;
            label = 0;
        } else if ((!alnum && c != '-') || (c == '-' && !label) || ++label > 63) {
            return false;
        }
    }
    return label && z[n - 1] != '-';
}

static enum err add_name(struct making *m, const char *name)
{
    for (size_t i = 0; i < m->name_nr; i++)
        if (span_ieq(span_str(m->names[i]), span_str(name)))
            return ERR_OK;
    if (m->name_nr == CONFIG_NAMES_MAX) {
        say(m, "at most %u names, the loopback ones included", CONFIG_NAMES_MAX);
        return ERR_PROTO;
    }
    m->names[m->name_nr++] = name;
    return ERR_OK;
}

static enum err check_options(struct making *m)
{
    static const char *const always[] = { "hub.localhost", "localhost", "127.0.0.1", "::1" };
    const long ports[] = { m->o->https_port, m->o->mqtt_port, m->o->amqp_port, m->o->http_port,
                           m->o->ops_port };
    unsigned char ip[16];
    enum err e = ERR_OK;
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++)
        if (ports[i] < -1 || ports[i] > 65535) {
            say(m, "%ld is not a port", ports[i]);
            return ERR_PROTO;
        }
    for (size_t i = 0; !e && i < m->o->name_nr; i++) {
        if (!is_host_name(m->o->names[i])) {
            say(m, "'%s' is not a host name", m->o->names[i]);
            return ERR_PROTO;
        }
        e = add_name(m, m->o->names[i]);
    }
    for (size_t i = 0; !e && i < sizeof always / sizeof always[0]; i++)
        e = add_name(m, always[i]);
    const char *l = m->o->listen;
    if (!e && l && strcmp(l, "*") != 0 && inet_pton(AF_INET, l, ip) != 1 && inet_pton(AF_INET6, l, ip) != 1) {
        say(m, "--listen: '%s' is not an IP address, nor \"*\"", l);
        return ERR_PROTO;
    }
    return e;
}

/* ERR_NOTFOUND: not there; ERR_EXISTS: something in it; ERR_OK: there, and empty. */
static enum err look_at_target(const struct making *m, struct stat *st)
{
    enum err e = ERR_OK;
    if (stat(m->o->dir, st) < 0)
        return errno == ENOENT ? ERR_NOTFOUND : say(m, "%s: %s", m->o->dir, strerror(errno));
    DIR *d = S_ISDIR(st->st_mode) ? opendir(m->o->dir) : NULL;
    if (!d) {
        say(m, "%s: %s", m->o->dir, S_ISDIR(st->st_mode) ? strerror(errno) : "is not a directory");
        return S_ISDIR(st->st_mode) ? ERR_IO : ERR_EXISTS;
    }
    for (struct dirent *f; (f = readdir(d));)
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0)
            e = ERR_EXISTS;
    closedir(d);
    if (e)
        say(m,
            "%s is not empty. Nothing was changed: choose another directory, or remove this one if the hub "
            "in it "
            "is not needed any more",
            m->o->dir);
    return e;
}

/* ---- parts ------------------------------------------------------------------------------------------ */

static enum err copy_file(const struct making *m, const char *from, const char *to, unsigned mode)
{
    uint8_t buf[16384];
    FILE *f = fopen(from, "re");
    if (!f)
        return say(m, "%s: %s", from, strerror(errno));
    size_t n = fread(buf, 1, sizeof buf, f);
    fclose(f);
    enum err e = n == sizeof buf ? ERR_LIMIT : file_make(to, mode, span_of(buf, n));
    memset(buf, 0, sizeof buf);
    return e ? say(m, "%s: cannot be copied", from) : ERR_OK;
}

static enum err make_ca(const struct making *m)
{
    const char *cert = join(m->tmp, DIR_CA_CERT), *key = join(m->tmp, DIR_CA_KEY);
    if (!m->o->ca_from)
        return pki_ca_new(cert, key) ? say(m, "the authority could not be made") : ERR_OK;
    bool whole = access(join(m->o->ca_from, DIR_CA_CERT), R_OK) == 0;
    enum err e = copy_file(m, join(m->o->ca_from, whole ? DIR_CA_CERT : "ca.crt"), cert, 0644);
    if (!e)
        e = copy_file(m, join(m->o->ca_from, whole ? DIR_CA_KEY : "ca.key"), key, 0600);
    if (!e && pki_ca_check(cert, key))
        e = say(m, "%s: its certificate is not an authority, or the key does not belong to it",
                m->o->ca_from);
    return e;
}

static enum err make_servers(const char *dir, const char *const *names, size_t nr)
{
    enum err e = pki_server_new(PKI_EC, names, nr, join(dir, DIR_CA_CERT), join(dir, DIR_CA_KEY),
                                join(dir, "tls/server-ec.crt"), join(dir, "tls/server-ec.key"));
    if (!e)
        e = pki_server_new(PKI_RSA, names, nr, join(dir, DIR_CA_CERT), join(dir, DIR_CA_KEY),
                           join(dir, "tls/server-rsa.crt"), join(dir, "tls/server-rsa.key"));
    return e;
}

static void put_listener(struct wr *w, const char *section, const char *listen, long port, bool enabled)
{
    char line[160];
    if (!listen && port < 0)
        return;
    wr_str(w, section);
    wr_str(w, ":\n");
    if (enabled)
        wr_str(w, "  enabled: true\n");
    if (listen) {
        snprintf(line, sizeof line, "  address: \"%s\"\n", listen);
        wr_str(w, line);
    }
    if (port >= 0) {
        snprintf(line, sizeof line, "  port: %ld\n", port);
        wr_str(w, line);
    }
}

static enum err make_config(const struct making *m)
{
    uint8_t buf[8192];
    struct wr w = { buf, sizeof buf, 0 };
    struct config *c = NULL;
    struct config_error error;
    wr_str(&w, "# The hub's configuration; what is not here has its default.\n"
               "# All values, with what they mean: roostd --print-config DIR, or docs/configuration.md\n"
               "# Check a change: roostd --check-config DIR; then SIGHUP or a restart.\n\n"
               "# Host names it answers to; the first one is what devices are told.\nnames:\n");
    for (size_t i = 0; i < m->name_nr; i++) {
        wr_str(&w, "  - \"");
        wr_str(&w, m->names[i]);
        wr_str(&w, "\"\n");
    }
    put_listener(&w, "https", m->o->listen, m->o->https_port, false);
    put_listener(&w, "mqtts", m->o->listen, m->o->mqtt_port, false);
    put_listener(&w, "amqps", m->o->listen, m->o->amqp_port, false);
    if (m->o->http_port >= 0)
        put_listener(&w, "http", m->o->listen, m->o->http_port, true);
    put_listener(&w, "ops", NULL, m->o->ops_port, false);
    if (!wr_ok(&w) || config_parse(&c, wr_span(&w), DIR_CONFIG, &error) != ERR_OK)
        return say(m, "the configuration would be wrong: %s", wr_ok(&w) ? error.text : "too long");
    config_free(c);
    return file_make(join(m->tmp, DIR_CONFIG), 0600, wr_span(&w))
               ? say(m, "%s: %s", DIR_CONFIG, strerror(errno))
               : ERR_OK;
}

struct policy_op {
    struct store_op op; /* first */
    const struct making *m;
    bool done;
};

static enum err put_policies(struct store_tx *tx, struct store_op *self)
{
    const struct making *m = ((struct policy_op *)(void *)self)->m;
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < POLICY_NR; i++) {
        struct policy_row r = { .name = span_str(policies[i].name),
                                .key1 = span_of(m->keys[i][0], KEY_LEN),
                                .key2 = span_of(m->keys[i][1], KEY_LEN),
                                .rights = policies[i].rights };
        e = tx_policy_put(tx, &r);
    }
    return e;
}

static void policies_done(struct op *op)
{
    ((struct policy_op *)(void *)op)->done = true;
}

static enum err make_store(struct making *m)
{
    struct store *s = NULL;
    struct mailbox home;
    struct policy_op op = { .op = { .op = { .home = &home, .done = policies_done }, .run = put_policies },
                            .m = m };
    if (RAND_bytes(&m->keys[0][0][0], sizeof m->keys) != 1 || mailbox_init(&home) != ERR_OK)
        return say(m, "no randomness or no descriptors");
    enum err e = store_sqlite_open(&s, join(m->tmp, DIR_STORE), 1);
    if (!e) {
        store_write(s, &op.op);
        while (!op.done) {
            mailbox_wait(&home, -1);
            for (struct op *o = mailbox_take(&home), *next; o; o = next) {
                next = o->next;
                o->done(o);
            }
        }
        e = op.op.op.err;
    }
    store_close(s);
    mailbox_fini(&home);
    return e ? say(m, "the store could not be made: %s", err_name(e)) : ERR_OK;
}

static void put_connection(const struct making *m, struct wr *w, size_t policy)
{
    wr_str(w, "HostName=");
    wr_str(w, m->names[0]);
    wr_str(w, ";SharedAccessKeyName=");
    wr_str(w, policies[policy].name);
    wr_str(w, ";SharedAccessKey=");
    base64_encode(w, span_of(m->keys[policy][0], KEY_LEN));
}

/* One connection string a line: for programs that should not be the owner. */
static enum err make_policies(const struct making *m)
{
    uint8_t buf[POLICY_NR * 512];
    struct wr w = { buf, sizeof buf, 0 };
    for (size_t i = 0; i < POLICY_NR; i++) {
        put_connection(m, &w, i);
        wr_str(&w, "\n");
    }
    enum err e = wr_ok(&w) ? file_make(join(m->tmp, DIR_POLICIES), 0600, wr_span(&w)) : ERR_LIMIT;
    memset(buf, 0, sizeof buf);
    return e ? say(m, "%s: %s", DIR_POLICIES, strerror(errno)) : ERR_OK;
}

static enum err make_profile(const struct making *m)
{
    uint8_t buf[2 * PATH_CAP];
    struct wr w = { buf, sizeof buf, 0 };
    const char *l = m->o->listen;
    bool any = !l || strcmp(l, "*") == 0 || strcmp(l, "0.0.0.0") == 0 || strcmp(l, "::") == 0;
    wr_str(&w, "connection-string=");
    put_connection(m, &w, 0);
    wr_str(&w, "\nhttps-port=");
    wr_u32(&w, (uint32_t)(m->o->https_port < 0 ? 443 : m->o->https_port));
    wr_str(&w, "\nca-file=");
    wr_str(&w, m->final);
    wr_str(&w, "/" DIR_CA_CERT "\naddress=");
    wr_str(&w, any ? "127.0.0.1" : l);
    wr_str(&w, "\n");
    enum err e = wr_ok(&w) ? file_make(join(m->tmp, DIR_PROFILE), 0600, wr_span(&w)) : ERR_LIMIT;
    memset(buf, 0, sizeof buf);
    return e ? say(m, "%s: %s", DIR_PROFILE, strerror(errno)) : ERR_OK;
}

/* ---- whole or not at all ---------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static struct stat owner;
static int own_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return lchown(path, owner.st_uid, owner.st_gid);
}

static enum err sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return good ? ERR_OK : ERR_IO;
}

static enum err make_all(struct making *m)
{
    static const char *const dirs[] = { "ca", "tls", DIR_STORE, DIR_STREAM, DIR_BLOB, DIR_FILES };
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < sizeof dirs / sizeof dirs[0]; i++)
        if (mkdir(join(m->tmp, dirs[i]), 0700) < 0)
            e = say(m, "%s: %s", join(m->tmp, dirs[i]), strerror(errno));
    if (!e)
        e = make_ca(m);
    if (!e && make_servers(m->tmp, m->names, m->name_nr))
        e = say(m, "the server certificates could not be made");
    if (!e && pki_ed25519_new(join(m->tmp, DIR_DIRECTOR)))
        e = say(m, "the director key could not be made");
    if (!e)
        e = make_store(m);
    if (!e)
        e = make_profile(m);
    if (!e)
        e = make_policies(m);
    if (!e)
        e = make_config(m);
    for (size_t i = 0; !e && i < sizeof dirs / sizeof dirs[0]; i++)
        e = sync_dir(join(m->tmp, dirs[i]));
    return e ? e : sync_dir(m->tmp);
}

static enum err report(const struct making *m, FILE *out)
{
    uint8_t buf[2048];
    struct wr w = { buf, sizeof buf, 0 };
    struct bootstrap_string b = { .host = span_str(m->names[0]),
                                  .port = (uint16_t)(m->o->https_port < 0 ? 443 : m->o->https_port) };
    if (pki_pin(join(m->final, DIR_CA_CERT), b.ca_pin))
        return ERR_IO;
    wr_str(&w, "connection string: ");
    put_connection(m, &w, 0);
    wr_str(&w, "\nbootstrap string: ");
    bootstrap_string_encode(&w, &b);
    wr_str(&w, "\n");
    fprintf(out, "A hub was made in %s\n\n%.*s\n", m->final, (int)wr_span(&w).n, (const char *)buf);
    fprintf(out,
            "The connection string holds a key: it is the operator's, and is also in %s/%s.\n"
            "Those of the other policies (service, device, ...) are in %s/%s.\n"
            "The bootstrap string is public: it is what a blank device is given.\n"
            "Keep %s/ca somewhere safe: with it (--ca-from) a hub made anew gets its devices back.\n"
            "Serve it: roostd %s\n",
            m->final, DIR_PROFILE, m->final, DIR_POLICIES, m->final, m->o->dir);
    if (!strchr(m->names[0], '.'))
        fprintf(out, "Note: some device SDKs refuse a host name without a dot ('%s').\n", m->names[0]);
    memset(buf, 0, sizeof buf);
    return fflush(out) == 0 ? ERR_OK : ERR_IO;
}

/* The absolute path of a directory whose parent exists. */
static enum err absolute(struct making *m, char *parent)
{
    char copy[PATH_CAP], *real;
    concat(copy, m->o->dir, "", "");
    size_t n = strlen(copy);
    while (n > 1 && copy[n - 1] == '/')
        copy[--n] = 0;
    if ((real = realpath(copy, NULL))) { /* it exists */
        concat(m->final, real, "", "");
    } else {
        char *slash = strrchr(copy, '/');
        const char *base = slash ? slash + 1 : copy, *up = slash ? (slash == copy ? "/" : copy) : ".";
        if (slash && slash != copy)
            *slash = 0;
        if (!(real = realpath(up, NULL)))
            return say(m, "%s: %s", up, strerror(errno));
        concat(m->final, real, real[1] ? "/" : "", base);
    }
    free(real);
    concat(parent, m->final, "", "");
    char *slash = strrchr(parent, '/');
    if (!slash)
        return say(m, "%s: not a path", m->o->dir);
    slash[slash == parent] = 0;
    return strlen(m->final) < PATH_MAX - 64 ? ERR_OK : say(m, "%s: too long a path", m->o->dir);
}

enum err init_run(const struct init_options *o, FILE *out, FILE *err)
{
    struct making *m = calloc(1, sizeof *m);
    char parent[PATH_CAP];
    if (!m)
        return ERR_NOMEM;
    m->o = o;
    m->err = err;
    bool made = false;
    enum err e = check_options(m);
    if (e)
        goto done;
    enum err target = look_at_target(m, &owner);
    if (target != ERR_OK && target != ERR_NOTFOUND) {
        e = target;
        goto done;
    }
    if ((e = absolute(m, parent)))
        goto done;
    concat(m->tmp, m->final, ".making-XXXXXX", "");
    if (!mkdtemp(m->tmp)) { /* 0700 */
        e = say(m, "%s: %s (the directory is made beside its final place, so %s must be writable)", m->tmp,
                strerror(errno), parent);
        goto done;
    }
    made = true;
    e = make_all(m);
    if (!e && target == ERR_OK && owner.st_uid != geteuid() &&
        nftw(m->tmp, own_one, 16, FTW_PHYS) != 0) /* made by root for the service's user */
        e = say(m, "%s: cannot be given to the owner of %s", m->tmp, o->dir);
    if (!e && rename(m->tmp, m->final) < 0)
        e = errno == ENOTEMPTY || errno == EEXIST ? say(m, "%s is not empty any more", o->dir)
                                                  : say(m, "%s: %s", m->final, strerror(errno));
    if (!e) {
        made = false;
        e = sync_dir(parent);
    }
    if (!e)
        e = report(m, out);
done:
    if (made)
        nftw(m->tmp, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    memset(m->keys, 0, sizeof m->keys);
    free(m);
    return e;
}

enum err init_renew(const char *dir, const struct config *c, FILE *out, FILE *err)
{
    static const char *const files[] = { "tls/server-ec.crt", "tls/server-ec.key", "tls/server-rsa.crt",
                                         "tls/server-rsa.key" };
    char tmp[PATH_CAP];
    if (!c->names_count) {
        fprintf(err, "roostd renew: the configuration has no names\n");
        return ERR_PROTO;
    }
    concat(tmp, dir, "/tls/new-XXXXXX", "");
    if (!mkdtemp(tmp)) {
        fprintf(err, "roostd renew: %s: %s\n", tmp, strerror(errno));
        return ERR_IO;
    }
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < 4; i += 2)
        e = pki_server_new(i ? PKI_RSA : PKI_EC, (const char *const *)c->names, c->names_count,
                           join(dir, DIR_CA_CERT), join(dir, DIR_CA_KEY),
                           join(tmp, strrchr(files[i], '/') + 1), join(tmp, strrchr(files[i + 1], '/') + 1));
    /* Key and certificate change one after the other: a hub that reads them meanwhile refuses the pair and
     * keeps what it has. */
    for (size_t i = 0; !e && i < 4; i++) {
        char old[PATH_CAP];
        concat(old, join(dir, files[i]), ".old", "");
        unlink(old);
        if ((link(join(dir, files[i]), old) < 0 && errno != ENOENT) ||
            rename(join(tmp, strrchr(files[i], '/') + 1), join(dir, files[i])) < 0) {
            fprintf(err, "roostd renew: %s: %s\n", files[i], strerror(errno));
            e = ERR_IO;
        }
    }
    nftw(tmp, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (!e)
        fprintf(out, "New server certificates are in %s/tls; tell a running hub with SIGHUP.\n", dir);
    return e;
}
