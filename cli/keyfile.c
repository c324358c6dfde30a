/* cli/keyfile.c - key files, paper backups and trust records on disk. */
#include "cli/keyfile.h"

#include "base/crc32.h"
#include "base/text.h"
#include "cli/file.h"
#include "port/crypto.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEYFILE_MAX 4096u

void keyfile_make(struct keyfile *k, const char *role, const uint8_t seed[ED25519_KEY_LEN])
{
    *k = (struct keyfile){ 0 };
    snprintf(k->role, sizeof k->role, "%s", role);
    memcpy(k->seed, seed, ED25519_KEY_LEN);
    port_crypto.ed25519_public(k->seed, k->pub);
    key_id_of(&port_crypto, k->pub, k->id);
}

static enum err keyfile_parse(struct keyfile *k, char *text, char *why, size_t cap)
{
    uint8_t seed[ED25519_KEY_LEN], pub[ED25519_KEY_LEN];
    char role[16] = "", *line;
    bool has_seed = false, has_pub = false, has_head = false;

    while ((line = strsep(&text, "\n")) != NULL) {
        if (strcmp(line, "roost-key-v1") == 0)
            has_head = true;
        else if (strncmp(line, "role=", 5) == 0)
            snprintf(role, sizeof role, "%s", line + 5);
        else if (strncmp(line, "seed=", 5) == 0)
            has_seed = hex_decode(span_str(line + 5), seed, sizeof seed) == ERR_OK;
        else if (strncmp(line, "public=", 7) == 0)
            has_pub = hex_decode(span_str(line + 7), pub, sizeof pub) == ERR_OK;
    }
    if (!has_head || !has_seed || !has_pub || !role[0]) {
        snprintf(why, cap, "it is not a key file of roost");
        return ERR_PROTO;
    }
    keyfile_make(k, role, seed);
    explicit_bzero(seed, sizeof seed);
    if (memcmp(k->pub, pub, sizeof pub) != 0) {
        snprintf(why, cap, "its public key does not belong to its seed: the file is damaged");
        return ERR_VERIFY;
    }
    return ERR_OK;
}

int keyfile_read(struct keyfile *k, const char *path)
{
    struct file_bytes f;
    char why[128];
    enum err e = file_read(path, KEYFILE_MAX, &f);
    if (e)
        return cli_fail(CLI_USAGE, NULL, "%s: %s", path,
                        e == ERR_NOTFOUND ? "there is no such key file"
                        : e == ERR_LIMIT  ? "it is not a key file of roost"
                                          : strerror(errno));
    int rc = CLI_OK;
    if (f.mode & 077)
        rc = cli_fail(CLI_USAGE, "chmod 600 it, and consider whether someone has read it.",
                      "%s: a private key that others may read (mode %03o)", path, (unsigned)f.mode);
    else if (keyfile_parse(k, (char *)f.p, why, sizeof why))
        rc = cli_fail(CLI_USAGE, NULL, "%s: %s", path, why);
    explicit_bzero(f.p, f.n);
    free(f.p);
    return rc;
}

int keyfile_write(const struct keyfile *k, const char *path)
{
    uint8_t text[512];
    struct wr w = { text, sizeof text, 0 };
    wr_str(&w, "roost-key-v1\nrole=");
    wr_str(&w, k->role);
    wr_str(&w, "\nkey-id=");
    hex_encode(&w, span_of(k->id, KEY_ID_LEN));
    wr_str(&w, "\npublic=");
    hex_encode(&w, span_of(k->pub, ED25519_KEY_LEN));
    wr_str(&w, "\nseed=");
    hex_encode(&w, span_of(k->seed, ED25519_KEY_LEN));
    wr_str(&w, "\n");
    enum err e = file_save(path, wr_span(&w), 0600, true);
    explicit_bzero(text, sizeof text);
    if (e == ERR_EXISTS)
        return cli_fail(CLI_USAGE, "Keys are never overwritten; choose another directory.",
                        "%s is there already", path);
    return e ? cli_fail(CLI_USAGE, NULL, "%s: %s", path, strerror(errno)) : CLI_OK;
}

void keyfile_paper(const struct keyfile *k, char out[96])
{
    uint8_t bytes[ED25519_KEY_LEN + 4], hex[72];
    uint32_t crc = crc32_update(0, span_of(k->seed, ED25519_KEY_LEN));
    struct wr b = { bytes, sizeof bytes, 0 }, h = { hex, sizeof hex, 0 };
    wr_put(&b, span_of(k->seed, ED25519_KEY_LEN));
    wr_le32(&b, crc);
    hex_encode(&h, wr_span(&b));
    size_t n = 0;
    for (unsigned i = 0; i < 72; i++) {
        if (i && i % 8 == 0)
            out[n++] = ' ';
        out[n++] = (char)hex[i];
    }
    out[n] = 0;
    explicit_bzero(bytes, sizeof bytes);
    explicit_bzero(hex, sizeof hex);
}

enum err keyfile_from_paper(const char *text, uint8_t seed[ED25519_KEY_LEN])
{
    uint8_t digits[72], bytes[ED25519_KEY_LEN + 4];
    size_t n = 0;
    for (; *text; text++) {
        if (isspace((unsigned char)*text) || *text == '-')
            continue;
        if (n == sizeof digits)
            return ERR_PROTO;
        digits[n++] = (uint8_t)*text;
    }
    if (n != sizeof digits || hex_decode(span_of(digits, n), bytes, sizeof bytes))
        return ERR_PROTO;
    struct rd r = rd_of(span_of(bytes + ED25519_KEY_LEN, 4));
    if (crc32_update(0, span_of(bytes, ED25519_KEY_LEN)) != rd_le32(&r))
        return ERR_VERIFY;
    memcpy(seed, bytes, ED25519_KEY_LEN);
    return ERR_OK;
}

int trust_file_parse(struct trust_file *t, struct span raw, const char *from)
{
    size_t used;
    if (raw.n > sizeof t->raw)
        return cli_fail(CLI_REFUSED, NULL, "%s: too long for a trust record", from);
    memcpy(t->raw, raw.p, raw.n);
    t->raw_len = raw.n;
    if (envelope_decode(span_of(t->raw, raw.n), ENVELOPE_BODY_MAX, &t->env, &used) || used != raw.n ||
        t->env.kind != ENVELOPE_TRUST_RECORD || trust_record_decode(t->env.body, &port_crypto, &t->record))
        return cli_fail(CLI_REFUSED, NULL, "%s is not a trust record", from);
    if (trust_record_accept(&port_crypto, NULL, &t->record, &t->env))
        return cli_fail(CLI_REFUSED, NULL, "%s is not signed by enough of its own root keys", from);
    return CLI_OK;
}

int trust_file_read(struct trust_file *t, const char *path)
{
    struct file_bytes f;
    enum err e = file_read(path, ENVELOPE_MAX, &f);
    if (e)
        return cli_fail(CLI_USAGE, NULL, "%s: %s", path,
                        e == ERR_NOTFOUND ? "there is no such trust record"
                        : e == ERR_LIMIT  ? "it is not a trust record"
                                          : strerror(errno));
    int rc = trust_file_parse(t, file_span(&f), path);
    free(f.p);
    return rc;
}

static uint32_t version_of(const char *name)
{
    const char *num = name + 6;
    size_t n = strlen(name);
    uint64_t v;
    if (n <= 10 || strncmp(name, "trust.", 6) != 0 || strcmp(name + n - 4, ".htr") != 0 ||
        u64_parse(span_of(num, n - 10), UINT32_MAX, &v))
        return 0;
    return (uint32_t)v;
}

uint32_t trust_dir_newest(const char *dir)
{
    uint32_t newest = 0;
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)) != NULL)
        if (version_of(e->d_name) > newest)
            newest = version_of(e->d_name);
    if (d)
        closedir(d);
    return newest;
}

char *trust_dir_path(const char *dir, uint32_t version)
{
    char name[32];
    snprintf(name, sizeof name, "trust.%u.htr", version);
    return path_join(dir, name);
}

int trust_dir_read(struct trust_file *t, const char *dir, uint32_t version)
{
    char *path = trust_dir_path(dir, version);
    int rc = trust_file_read(t, path);
    free(path);
    return rc;
}
