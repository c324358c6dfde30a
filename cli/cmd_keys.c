/* cli/cmd_keys.c - roost keys: the operator's own keys. Nothing here needs a network. */
#include "cli/commands.h"
#include "cli/file.h"
#include "cli/hub_client.h"
#include "cli/keyfile.h"
#include "cli/out.h"
#include "cli/profile.h"
#include "cli/spki.h"

#include "base/text.h"
#include "port/crypto.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void hex_text(char *out, const uint8_t *p, size_t n)
{
    struct wr w = { (uint8_t *)out, 2 * n, 0 };
    hex_encode(&w, span_of(p, n));
    out[2 * n] = 0;
}

/* ---- the parts of a record that come from options or from the hub ----------------------------------- */

/* 64 hexadecimal digits, or base64 as the hub writes keys. */
static bool public_key_take(struct span text, uint8_t pub[ED25519_KEY_LEN])
{
    size_t n = 0;
    if (text.n == 2 * ED25519_KEY_LEN)
        return hex_decode(text, pub, ED25519_KEY_LEN) == ERR_OK;
    return base64_decode(text, pub, ED25519_KEY_LEN, &n) == ERR_OK && n == ED25519_KEY_LEN;
}

static int director_add(struct trust_record *t, const char *hex)
{
    struct trust_key k = { .alg = SIG_ED25519 };
    if (!public_key_take(span_str(hex), k.pub))
        return cli_fail(CLI_USAGE, "`roost status` shows the director key of a hub.",
                        "--director %s is not a public key (64 hexadecimal digits, or base64)", hex);
    if (t->director_nr == TRUST_DIRECTOR_MAX)
        return cli_fail(CLI_USAGE, NULL, "at most %u director keys", TRUST_DIRECTOR_MAX);
    t->director[t->director_nr++] = k;
    return CLI_OK;
}

/* "host:port" or "host:port#ca=HEX" */
static int home_add(struct trust_record *t, const char *text)
{
    struct trust_home h = { .has_pin = false };
    const char *pin = strstr(text, "#ca=");
    h.address = span_of(text, pin ? (size_t)(pin - text) : strlen(text));
    if (pin) {
        h.has_pin = true;
        if (hex_decode(span_str(pin + 4), h.ca_pin, sizeof h.ca_pin))
            return cli_fail(CLI_USAGE, NULL, "--home: what follows #ca= is not 64 hexadecimal digits");
    }
    if (!memchr(h.address.p, ':', h.address.n))
        return cli_fail(CLI_USAGE, NULL, "--home %s: HOST:PORT is wanted", text);
    if (t->home_nr == TRUST_HOME_MAX)
        return cli_fail(CLI_USAGE, NULL, "at most %u homes", TRUST_HOME_MAX);
    t->home[t->home_nr++] = h;
    return CLI_OK;
}

/* Director key and home as the hub says them; `text` keeps the home's address. */
static int from_hub(struct cli *c, struct trust_record *t, bool director, bool home, char text[512])
{
    json_t *status = NULL;
    int rc = hub_json(c, "GET", "/roost/v1/status", NULL, "asking the hub for its director key", &status);
    if (!rc && director) {
        const char *hex = json_text(status, "directorKey");
        rc = hex ? director_add(t, hex)
                 : cli_fail(CLI_REFUSED, "Give --director KEY.", "the hub does not tell its director key");
    }
    if (!rc && home) {
        const struct profile *p = hub_profile(c);
        char pin[2 * SHA256_LEN + 1] = "";
        uint8_t bytes[SHA256_LEN];
        if (p->ca_file && (rc = spki_pin_of_file(p->ca_file, bytes)) == CLI_OK)
            hex_text(pin, bytes, SHA256_LEN);
        snprintf(text, 512, "%s:%u%s%s", p->host, p->https_port, pin[0] ? "#ca=" : "", pin);
        if (!rc)
            rc = home_add(t, text);
    }
    json_decref(status);
    return rc;
}

static int directors_and_homes(struct cli *c, const struct args *a, struct trust_record *t,
                               char home_text[512])
{
    const char *v;
    int rc = CLI_OK;
    bool directors = args_has(a, "director"), homes = args_has(a, "home");
    bool ask = c->hub || (!directors && t->director_nr == 0 && hub_is_given(c));

    if (directors || (ask && c->hub))
        t->director_nr = 0;
    if (homes || (ask && c->hub))
        t->home_nr = 0;
    for (size_t i = 0; !rc && (v = args_nth(a, "director", i)) != NULL; i++)
        rc = director_add(t, v);
    for (size_t i = 0; !rc && (v = args_nth(a, "home", i)) != NULL; i++)
        rc = home_add(t, v);
    if (!rc && ask && (!directors || !homes))
        rc = from_hub(c, t, !directors, !homes, home_text);
    if (!rc && t->director_nr == 0)
        rc = cli_fail(
            CLI_USAGE,
            "Give --director KEY (offline; `roost status` shows it where the hub can be reached), or --hub.",
            "a trust record needs the hub's director key");
    return rc;
}

/* ---- signing ---------------------------------------------------------------------------------------- */

/* Signs with root keys of dir (root-*.key) until both the old record's and the new one's thresholds are met.
 */
static int record_sign(const char *dir, const struct trust_record *old, const struct trust_record *t,
                       struct wr *raw)
{
    uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    struct trust_record check;
    struct envelope env;
    size_t used;
    DIR *d = opendir(dir);
    struct dirent *e;
    bool enough = false;
    int rc = CLI_OK;

    trust_record_encode(&w, t);
    if (!wr_ok(&w) || trust_record_decode(wr_span(&w), &port_crypto, &check))
        rc = cli_fail(CLI_REFUSED,
                      "Thresholds must be reachable with the keys listed, and no key may stand twice.",
                      "these keys do not make a trust record");
    if (!rc && w.len > ENVELOPE_BODY_MAX_MCU)
        rc = cli_fail(CLI_REFUSED, "Fewer keys or homes, or shorter host names.",
                      "the record has %zu bytes, small devices take %u", w.len, ENVELOPE_BODY_MAX_MCU);
    if (!rc)
        envelope_begin(raw, ENVELOPE_TRUST_RECORD, wr_span(&w));
    while (!rc && !enough && d && (e = readdir(d)) != NULL) {
        struct keyfile k;
        size_t n = strlen(e->d_name);
        if (strncmp(e->d_name, "root-", 5) != 0 || n < 5 || strcmp(e->d_name + n - 4, ".key") != 0)
            continue;
        char *path = path_join(dir, e->d_name);
        rc = keyfile_read(&k, path);
        free(path);
        bool listed = false;
        for (unsigned i = 0; !rc && i < t->root_nr; i++)
            listed |= memcmp(t->root[i].pub, k.pub, sizeof k.pub) == 0;
        for (unsigned i = 0; !rc && old && i < old->root_nr; i++)
            listed |= memcmp(old->root[i].pub, k.pub, sizeof k.pub) == 0;
        if (!rc && listed && envelope_sign(raw, &port_crypto, k.seed) == ERR_LIMIT)
            rc = cli_fail(CLI_REFUSED, "Change fewer root keys at a time.",
                          "old and new roots together need more than %u signatures", ENVELOPE_SIG_MAX);
        explicit_bzero(&k, sizeof k);
        if (!rc && listed && envelope_decode(wr_span(raw), ENVELOPE_BODY_MAX, &env, &used) == ERR_OK)
            enough = trust_record_accept(&port_crypto, old, t, &env) == ERR_OK;
    }
    if (d)
        closedir(d);
    if (!rc && !enough)
        rc = cli_fail(CLI_USAGE, "Bring the missing root key files (root-N.key) into the directory for this.",
                      "%s does not hold enough root keys: %u are needed", dir, t->root_threshold);
    return rc;
}

static int record_save(const char *dir, const struct trust_record *t, const struct wr *raw)
{
    char *path = trust_dir_path(dir, t->version);
    enum err e = file_save(path, wr_span(raw), 0644, true);
    int rc =
        e ? cli_fail(CLI_USAGE, NULL, "%s: %s", path, e == ERR_EXISTS ? "is there already" : strerror(errno))
          : CLI_OK;
    free(path);
    return rc;
}

/* ---- keys init -------------------------------------------------------------------------------------- */

static int key_new(const char *dir, const char *role, unsigned nr, struct keyfile *k)
{
    uint8_t seed[ED25519_KEY_LEN];
    char name[48];
    port_crypto.random(seed, sizeof seed);
    keyfile_make(k, role, seed);
    explicit_bzero(seed, sizeof seed);
    snprintf(name, sizeof name, "%s-%u.key", role, nr);
    char *path = path_join(dir, name);
    int rc = keyfile_write(k, path);
    free(path);
    return rc;
}

static void paper_print(const struct keyfile *k, unsigned nr)
{
    char paper[96], id[2 * KEY_ID_LEN + 1];
    keyfile_paper(k, paper);
    hex_text(id, k->id, KEY_ID_LEN);
    printf("  %s-%u (key id %s)\n    %.44s\n    %s\n", k->role, nr, id, paper, paper + 45);
    explicit_bzero(paper, sizeof paper);
}

static json_t *record_json(const struct trust_record *t)
{
    char hex[2 * SHA256_LEN + 1];
    uint8_t pin[SHA256_LEN];
    json_t *lists[3] = { json_array(), json_array(), json_array() }, *revoked = json_array(),
           *homes = json_array();
    const struct trust_key *keys[3] = { t->root, t->release, t->director };
    const unsigned nr[3] = { t->root_nr, t->release_nr, t->director_nr };
    for (unsigned l = 0; l < 3; l++)
        for (unsigned i = 0; i < nr[l]; i++) {
            const struct trust_key *k = &keys[l][i];
            char id[2 * KEY_ID_LEN + 1], pub[2 * ED25519_KEY_LEN + 1];
            uint8_t raw_id[KEY_ID_LEN];
            key_id_of(&port_crypto, k->pub, raw_id);
            hex_text(id, raw_id, KEY_ID_LEN);
            hex_text(pub, k->pub, sizeof k->pub);
            json_t *o = json_pack("{s:s,s:s}", "id", id, "public", pub);
            if (k->product_prefix.n)
                json_object_set_new(o, "productPrefix",
                                    json_stringn((const char *)k->product_prefix.p, k->product_prefix.n));
            json_array_append_new(lists[l], o);
        }
    for (unsigned i = 0; i < t->revoked_nr; i++) {
        hex_text(hex, t->revoked[i], KEY_ID_LEN);
        json_array_append_new(revoked, json_string(hex));
    }
    for (unsigned i = 0; i < t->home_nr; i++) {
        json_t *o = json_object();
        json_object_set_new(o, "address",
                            json_stringn((const char *)t->home[i].address.p, t->home[i].address.n));
        hex_text(hex, t->home[i].ca_pin, SHA256_LEN);
        if (t->home[i].has_pin)
            json_object_set_new(o, "caPin", json_string(hex));
        json_array_append_new(homes, o);
    }
    trust_record_root_pin(&port_crypto, t, pin);
    hex_text(hex, pin, SHA256_LEN);
    char fleet[2 * FLEET_ID_LEN + 1];
    hex_text(fleet, t->fleet_id, FLEET_ID_LEN);
    return json_pack("{s:i,s:i,s:s,s:I,s:i,s:i,s:s,s:o,s:o,s:o,s:o,s:o}", "version", (int)t->version, "epoch",
                     t->epoch, "fleet", fleet, "created", (json_int_t)t->created_s, "rootThreshold",
                     t->root_threshold, "releaseThreshold", t->release_threshold, "rootPin", hex, "roots",
                     lists[0], "releaseKeys", lists[1], "directors", lists[2], "revoked", revoked, "homes",
                     homes);
}

void keys_record_print(const struct cli *c, const struct trust_record *t)
{
    json_t *doc = record_json(t);
    if (c->json) {
        json_print(doc);
        return;
    }
    static const char *const lists[] = { "roots", "releaseKeys", "directors" };
    static const char *const roles[] = { "root", "release", "director" };
    printf("trust record %u of fleet %s, epoch %u\nroot pin %s\n", t->version, json_text(doc, "fleet"),
           t->epoch, json_text(doc, "rootPin"));
    printf("signatures needed: %u of %u roots, %u of %u release keys\n", t->root_threshold, t->root_nr,
           t->release_threshold, t->release_nr);
    for (unsigned l = 0; l < 3; l++) {
        size_t i;
        json_t *k;
        json_array_foreach(json_object_get(doc, lists[l]), i, k)
        {
            printf("  %-9s %s  %s%s%s\n", roles[l], json_text(k, "id"), json_text(k, "public"),
                   json_text(k, "productPrefix") ? "  products " : "",
                   json_text(k, "productPrefix") ? json_text(k, "productPrefix") : "");
        }
    }
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(doc, "revoked"), i, v)
    {
        printf("  revoked   %s\n", json_string_value(v));
    }
    json_array_foreach(json_object_get(doc, "homes"), i, v)
    {
        printf("  home      %s%s%s\n", json_text(v, "address"), json_text(v, "caPin") ? "  ca " : "",
               json_text(v, "caPin") ? json_text(v, "caPin") : "");
    }
    json_decref(doc);
}

static int number_option(const struct args *a, const char *name, uint64_t min, uint64_t max, uint64_t absent,
                         uint64_t *out)
{
    const char *v = args_get(a, name);
    *out = absent;
    if (v && arg_u64(v, min, max, out))
        return cli_fail(CLI_USAGE, NULL, "--%s: a number from %u to %u", name, (unsigned)min, (unsigned)max);
    return CLI_OK;
}

static int keys_init(struct cli *c, const struct args *a)
{
    const char *dir = a->pos[0];
    struct trust_record t = { .version = 1, .created_s = (uint32_t)time(NULL) };
    struct keyfile made[TRUST_ROOT_MAX + TRUST_RELEASE_MAX];
    uint64_t roots, threshold, releases, release_threshold;
    uint8_t buf[ENVELOPE_MAX];
    struct wr raw = { buf, sizeof buf, 0 };
    char home_text[512];
    int rc;

    if ((rc = number_option(a, "roots", 1, TRUST_ROOT_MAX, 3, &roots)) ||
        (rc = number_option(a, "threshold", 1, roots, roots < 2 ? 1 : 2, &threshold)) ||
        (rc = number_option(a, "release-keys", 1, TRUST_RELEASE_MAX, 1, &releases)) ||
        (rc = number_option(a, "release-threshold", 1, releases, 1, &release_threshold)))
        return rc;
    if (threshold > ENVELOPE_SIG_MAX)
        return cli_fail(CLI_USAGE, NULL, "--threshold: an object carries at most %u signatures",
                        ENVELOPE_SIG_MAX);
    if ((rc = directors_and_homes(c, a, &t, home_text)))
        return rc;
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return cli_fail(CLI_USAGE, NULL, "%s: %s", dir, strerror(errno));
    if (trust_dir_newest(dir))
        return cli_fail(
            CLI_USAGE, "`roost keys trust` makes the next version; choose another directory for a new fleet.",
            "%s holds a fleet's keys already", dir);
    port_crypto.random(t.fleet_id, sizeof t.fleet_id);
    t.root_threshold = (uint8_t)threshold;
    t.release_threshold = (uint8_t)release_threshold;
    for (unsigned i = 0; !rc && i < roots + releases; i++) {
        bool root = i < roots;
        rc = key_new(dir, root ? "root" : "release", root ? i + 1 : i + 1 - (unsigned)roots, &made[i]);
        struct trust_key *k = root ? &t.root[t.root_nr++] : &t.release[t.release_nr++];
        k->alg = SIG_ED25519;
        memcpy(k->pub, made[i].pub, sizeof k->pub);
        memcpy(k->id, made[i].id, sizeof k->id);
    }
    if (!rc)
        rc = record_sign(dir, NULL, &t, &raw);
    if (!rc)
        rc = record_save(dir, &t, &raw);
    if (!rc && !c->json) {
        printf("%s: %u root keys (any %u sign), %u release key%s, trust record 1.\n\n", dir, (unsigned)roots,
               (unsigned)threshold, (unsigned)releases, releases > 1 ? "s" : "");
        if (!args_has(a, "no-paper")) {
            printf("Paper backup. Write these down or print them, and keep them apart; `roost keys restore` "
                   "reads them back.\n");
            for (unsigned i = 0; i < roots + releases; i++)
                paper_print(&made[i], i < roots ? i + 1 : i + 1 - (unsigned)roots);
            printf("\n");
        }
        printf("Next: roost trust publish %s\nThen move the root keys to where no network reaches; the "
               "release key signs"
               " software.\n",
               dir);
    } else if (!rc) {
        keys_record_print(c, &t);
    }
    explicit_bzero(made, sizeof made);
    return rc;
}

/* ---- keys trust: the next version ------------------------------------------------------------------- */

static int release_key_add(struct trust_record *t, const char *text)
{
    struct trust_key k = { .alg = SIG_ED25519 };
    const char *prefix = strchr(text, ':');
    size_t n = prefix ? (size_t)(prefix - text) : strlen(text);
    if (!public_key_take(span_of(text, n), k.pub))
        return cli_fail(CLI_USAGE, NULL, "--add-release %s: KEY or KEY:PREFIX, KEY being a public key", text);
    if (prefix)
        k.product_prefix = span_str(prefix + 1);
    if (t->release_nr == TRUST_RELEASE_MAX)
        return cli_fail(CLI_USAGE, NULL, "at most %u release keys", TRUST_RELEASE_MAX);
    key_id_of(&port_crypto, k.pub, k.id);
    t->release[t->release_nr++] = k;
    return CLI_OK;
}

static void key_drop(struct trust_key *list, uint8_t *nr, const uint8_t id[KEY_ID_LEN])
{
    for (uint8_t i = 0; i < *nr; i++)
        if (memcmp(list[i].id, id, KEY_ID_LEN) == 0) {
            memmove(list + i, list + i + 1, (size_t)(*nr - i - 1) * sizeof *list);
            (*nr)--;
            return;
        }
}

static int key_revoke(struct trust_record *t, const char *hex)
{
    uint8_t id[KEY_ID_LEN];
    if (hex_decode(span_str(hex), id, sizeof id))
        return cli_fail(CLI_USAGE, "`roost keys show` lists key ids.", "--revoke %s is not a key id", hex);
    key_drop(t->root, &t->root_nr, id);
    key_drop(t->release, &t->release_nr, id);
    key_drop(t->director, &t->director_nr, id);
    if (trust_key_revoked(t, id))
        return CLI_OK;
    if (t->revoked_nr == TRUST_REVOKED_MAX) { /* the oldest makes room: its key is listed nowhere any more */
        memmove(t->revoked[0], t->revoked[1], sizeof t->revoked[0] * (TRUST_REVOKED_MAX - 1));
        t->revoked_nr--;
    }
    memcpy(t->revoked[t->revoked_nr++], id, KEY_ID_LEN);
    return CLI_OK;
}

static unsigned free_root_number(const char *dir)
{
    for (unsigned i = 1;; i++) {
        char name[32];
        snprintf(name, sizeof name, "root-%u.key", i);
        char *path = path_join(dir, name);
        bool taken = access(path, F_OK) == 0;
        free(path);
        if (!taken)
            return i;
    }
}

static int keys_trust(struct cli *c, const struct args *a)
{
    const char *dir = a->pos[0], *v;
    struct trust_file old;
    struct trust_record t;
    uint8_t buf[ENVELOPE_MAX];
    struct wr raw = { buf, sizeof buf, 0 };
    char home_text[512];
    uint64_t n;
    uint32_t newest = trust_dir_newest(dir);
    int rc;

    if (!newest)
        return cli_fail(CLI_USAGE, "`roost keys init` makes the first one.", "%s holds no trust record", dir);
    if ((rc = trust_dir_read(&old, dir, newest)))
        return rc;
    t = old.record;
    t.version++;
    t.created_s = (uint32_t)time(NULL);
    for (size_t i = 0; !rc && (v = args_nth(a, "revoke", i)) != NULL; i++)
        rc = key_revoke(&t, v);
    if (!rc)
        rc = directors_and_homes(c, a, &t, home_text);
    for (size_t i = 0; !rc && (v = args_nth(a, "add-release", i)) != NULL; i++)
        rc = release_key_add(&t, v);
    if (!rc && !(rc = number_option(a, "release-threshold", 1, TRUST_RELEASE_MAX, t.release_threshold, &n)))
        t.release_threshold = (uint8_t)n;
    if (!rc && !(rc = number_option(a, "threshold", 1, ENVELOPE_SIG_MAX, t.root_threshold, &n)))
        t.root_threshold = (uint8_t)n;
    if (!rc && args_has(a, "new-epoch"))
        t.epoch++;
    if (!rc && args_has(a, "new-root")) {
        struct keyfile k;
        unsigned nr = free_root_number(dir);
        if (t.root_nr == TRUST_ROOT_MAX)
            return cli_fail(CLI_USAGE, "Revoke one with --revoke KEYID in the same command.",
                            "at most %u root keys", TRUST_ROOT_MAX);
        rc = key_new(dir, "root", nr, &k);
        if (!rc) {
            struct trust_key *to = &t.root[t.root_nr++];
            *to = (struct trust_key){ .alg = SIG_ED25519 };
            memcpy(to->pub, k.pub, sizeof to->pub);
            memcpy(to->id, k.id, sizeof to->id);
            if (!c->json && !args_has(a, "no-paper"))
                paper_print(&k, nr);
        }
        explicit_bzero(&k, sizeof k);
    }
    if (!rc)
        rc = record_sign(dir, &old.record, &t, &raw);
    if (!rc)
        rc = record_save(dir, &t, &raw);
    if (!rc) {
        keys_record_print(c, &t);
        cli_say(c, "\nNext: roost trust publish %s\n", dir);
    }
    return rc;
}

static int keys_show(struct cli *c, const struct args *a)
{
    struct trust_file t;
    uint32_t newest = trust_dir_newest(a->pos[0]);
    if (!newest)
        return cli_fail(CLI_USAGE, "`roost keys init` makes one.", "%s holds no trust record", a->pos[0]);
    int rc = trust_dir_read(&t, a->pos[0], newest);
    if (!rc)
        keys_record_print(c, &t.record);
    return rc;
}

static int keys_restore(struct cli *c, const struct args *a)
{
    const char *role = args_has(a, "role") ? args_get(a, "role") : "root";
    char line[512] = "", text[512] = "";
    uint8_t seed[ED25519_KEY_LEN];
    struct keyfile k;

    if (strcmp(role, "root") != 0 && strcmp(role, "release") != 0)
        return cli_fail(CLI_USAGE, NULL, "--role is root or release");
    if (c->tty_err)
        fprintf(stderr, "Type the nine groups from the paper, then an empty line:\n");
    struct wr w = { (uint8_t *)text, sizeof text - 1, 0 };
    while (fgets(line, sizeof line, stdin) && line[0] != '\n')
        wr_str(&w, line);
    text[wr_ok(&w) ? w.len : 0] = 0;
    explicit_bzero(line, sizeof line);
    enum err e = keyfile_from_paper(text, seed);
    explicit_bzero(text, sizeof text);
    if (e)
        return cli_fail(CLI_USAGE, NULL, "%s",
                        e == ERR_VERIFY ? "a digit is wrong: the last group does not fit the others"
                                        : "nine groups of eight hexadecimal digits are wanted");
    keyfile_make(&k, role, seed);
    explicit_bzero(seed, sizeof seed);
    int rc = keyfile_write(&k, a->pos[0]);
    if (!rc) {
        char id[2 * KEY_ID_LEN + 1];
        hex_text(id, k.id, KEY_ID_LEN);
        if (c->json)
            json_print(json_pack("{s:s,s:s,s:s}", "file", a->pos[0], "role", role, "id", id));
        cli_say(c, "%s: %s key %s\n", a->pos[0], role, id);
    }
    explicit_bzero(&k, sizeof k);
    return rc;
}

static const struct opt init_opts[] = {
    { "roots", 0, "N", "how many root keys (3)" },
    { "threshold", 0, "M", "how many of them must sign (2)" },
    { "release-keys", 0, "N", "how many release keys (1)" },
    { "release-threshold", 0, "M", "how many of them must sign (1)" },
    { "director", 0, "KEY", "the hub's director key; without it the hub is asked; may repeat" },
    { "home", 0, "HOST:PORT[#ca=HEX]", "where devices look for the hub; may repeat" },
    { "no-paper", 0, NULL, "do not print the paper backup" },
    { 0 }
};
static const struct opt trust_opts[] = {
    { "director", 0, "KEY", "director keys from now on; may repeat" },
    { "home", 0, "HOST:PORT[#ca=HEX]", "homes from now on; may repeat" },
    { "add-release", 0, "KEY[:PREFIX]", "one more release key, for products that begin with PREFIX" },
    { "revoke", 0, "KEYID", "never accept this key again; may repeat" },
    { "new-root", 0, NULL, "make and list one more root key" },
    { "threshold", 0, "M", "how many root keys must sign" },
    { "release-threshold", 0, "M", "how many release keys must sign" },
    { "new-epoch", 0, NULL, "devices forget ticket and release sequences: after a counter went astray" },
    { "no-paper", 0, NULL, "do not print the new root's paper backup" },
    { 0 }
};
static const struct opt restore_opts[] = { { "role", 0, "ROLE", "root (as it is) or release" }, { 0 } };

const struct command keys_commands[] = {
    { "keys init", "DIR [--director KEY | --hub HUB]",
      "Makes the root and release keys, and the first trust record",
      "The files are yours: mode 0600, offline, never sent anywhere. Only the trust record (public keys) is\n"
      "published, with `roost trust publish DIR`. The director key is the hub's: given by --director, or "
      "asked from it.",
      init_opts, 1, 1, keys_init },
    { "keys trust", "DIR", "Makes the next trust record, signed by the root keys in DIR",
      "Roots, release keys and everything not named stay as they are. With --hub, director key and home "
      "become\n"
      "those of that hub: this is how devices follow to a new one.",
      trust_opts, 1, 1, keys_trust },
    { "keys show", "DIR", "Shows the newest trust record in DIR", NULL, NULL, 1, 1, keys_show },
    { "keys restore", "FILE", "Makes a key file from its paper backup, read from standard input", NULL,
      restore_opts, 1, 1, keys_restore },
    { 0 }
};
