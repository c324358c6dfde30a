/* cli/cmd_release.c - roost release build, sign, verify: what needs no hub. Push and list: release_push.c. */
#include "cli/bundle.h"
#include "cli/commands.h"
#include "cli/file.h"
#include "cli/hub_trust.h"
#include "cli/keyfile.h"
#include "cli/out.h"
#include "cli/release_push.h"

#include "base/text.h"
#include "core/trust/chunk_tree.h"
#include "core/trust/report.h"

#include <errno.h>
#include <string.h>

struct word {
    const char *name;
    unsigned value;
};
static const struct word types[] = { { "app", COMPONENT_APP },
                                     { "fs", COMPONENT_FS },
                                     { "bootloader", COMPONENT_BOOTLOADER },
                                     { "modem", COMPONENT_MODEM },
                                     { "container", COMPONENT_CONTAINER },
                                     { "package", COMPONENT_PACKAGE },
                                     { NULL, 0 } };
static const struct word checks[] = { { "net", CONFIRM_NET },
                                      { "hub", CONFIRM_HUB },
                                      { "app", CONFIRM_APP },
                                      { "watchdog", CONFIRM_WATCHDOG },
                                      { NULL, 0 } };

static unsigned word_value(const struct word *w, const char *text, size_t n) /* 0: none */
{
    for (; w->name; w++)
        if (strlen(w->name) == n && strncmp(w->name, text, n) == 0)
            return w->value;
    return 0;
}

static int numbers_take(const struct args *a, struct release *r)
{
    uint64_t v;
    struct {
        const char *name;
        uint16_t *to;
        uint64_t max;
    } const fields[] = { { "security-counter", &r->security_counter, 65535 },
                         { "min-agent", &r->min_agent, 65535 },
                         { "min-bootloader", &r->min_bootloader, 65535 },
                         { "min-free-flash", &r->min_free_flash_kib, 65535 },
                         { "min-heap-block", &r->min_heap_block_b, 65535 },
                         { "min-battery", &r->min_battery_pct, 100 },
                         { "probation", &r->probation_s, 65535 } };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *text = args_get(a, fields[i].name);
        if (!text)
            continue;
        if (arg_u64(text, 0, fields[i].max, &v))
            return cli_fail(CLI_USAGE, NULL, "--%s: a number from 0 to %u", fields[i].name,
                            (unsigned)fields[i].max);
        *fields[i].to = (uint16_t)v;
    }
    return CLI_OK;
}

static int hardware_take(const struct args *a, struct release *r)
{
    const char *rev = args_get(a, "hw-rev"), *class = args_get(a, "hardware-class");
    uint64_t v, min, max;
    if (!class || arg_u64(class, 0, 65535, &v))
        return cli_fail(CLI_USAGE, NULL, "--hardware-class: a number from 0 to 65535");
    r->hw_class = (uint16_t)v;
    r->hw_rev_max = 255;
    if (rev) {
        const char *dash = strchr(rev, '-');
        size_t n = dash ? (size_t)(dash - rev) : strlen(rev);
        if (u64_parse(span_of(rev, n), 255, &min) || u64_parse(span_str(dash ? dash + 1 : rev), 255, &max) ||
            min > max)
            return cli_fail(CLI_USAGE, NULL, "--hw-rev: one revision, or FIRST-LAST, from 0 to 255");
        r->hw_rev_min = (uint8_t)min;
        r->hw_rev_max = (uint8_t)max;
    }
    return CLI_OK;
}

static int policy_take(const struct args *a, struct release *r)
{
    const char *confirm = args_get(a, "confirm"), *provenance = args_get(a, "provenance");
    if (args_has(a, "allow-downgrade"))
        r->flags |= RELEASE_ALLOW_DOWNGRADE;
    if (args_has(a, "single-slot-ok"))
        r->flags |= RELEASE_SINGLE_SLOT_OK;
    if (args_has(a, "factory-image"))
        r->flags |= RELEASE_FACTORY_IMAGE;
    for (const char *at = confirm; at && *at;) {
        size_t n = strcspn(at, ",");
        unsigned bit = word_value(checks, at, n);
        if (!bit)
            return cli_fail(CLI_USAGE, NULL, "--confirm: a list of net, hub, app, watchdog");
        r->confirm_checks = (uint16_t)(r->confirm_checks | bit);
        at += n + (at[n] == ',');
    }
    if (!confirm)
        r->confirm_checks = CONFIRM_NET | CONFIRM_HUB;
    if (provenance) {
        r->has_provenance = true;
        if (hex_decode(span_str(provenance), r->provenance, sizeof r->provenance))
            return cli_fail(CLI_USAGE, NULL, "--provenance: a SHA-256 of 64 hexadecimal digits");
    }
    return CLI_OK;
}

static int seq_take(const struct args *a, const char *version, struct release *r)
{
    const char *text = args_get(a, "seq");
    uint64_t v;
    if (text) {
        if (arg_u64(text, 1, UINT32_MAX, &v))
            return cli_fail(CLI_USAGE, NULL, "--seq: a number from 1 to 4294967295");
        r->release_seq = (uint32_t)v;
        return CLI_OK;
    }
    if (bundle_seq_of(version, &r->release_seq))
        return cli_fail(
            CLI_USAGE, "Give --seq N: one more than the release before it (`roost release list` shows it).",
            "no release sequence follows from version %s (only from a plain MAJOR.MINOR.PATCH)", version);
    return CLI_OK;
}

/* Said to a person at once, else put behind `all`. */
static void summary(const struct cli *c, const struct bundle *b, const char *dir, json_t *all)
{
    char id[2 * OBJECT_ID_LEN + 1], size[16];
    const struct release *r = &b->release;
    bundle_name(b->id, id);
    if (c->json) {
        json_t *o = json_object();
        json_object_set_new(o, "id", json_string(id));
        json_object_set_new(o, "directory", json_string(dir));
        json_object_set_new(o, "product", json_stringn((const char *)r->product.p, r->product.n));
        json_object_set_new(o, "version", json_stringn((const char *)r->version.p, r->version.n));
        json_object_set_new(o, "hardwareClass", json_integer(r->hw_class));
        json_object_set_new(o, "sequence", json_integer(r->release_seq));
        json_object_set_new(o, "size", json_integer(r->encoding[0].payload_len));
        json_object_set_new(o, "signatures", json_integer(b->env.sig_nr));
        json_array_append_new(all, o);
        return;
    }
    printf("%s: %.*s %.*s for hardware class %u, sequence %u, %s, %u signature%s\n  id %s\n", dir,
           (int)r->product.n, (const char *)r->product.p, (int)r->version.n, (const char *)r->version.p,
           r->hw_class, r->release_seq, bytes_text(r->encoding[0].payload_len, size), b->env.sig_nr,
           b->env.sig_nr == 1 ? "" : "s", id);
}

/* One document, whatever came of it: of one directory its own, of several a list. Takes `all` over. */
static void print_all(const struct cli *c, json_t *all, size_t asked)
{
    if (c->json && json_array_size(all))
        json_print(asked == 1 ? json_incref(json_array_get(all, 0)) : json_incref(all));
    json_decref(all);
}

static int release_build(struct cli *c, const struct args *a)
{
    const char *product = args_get(a, "product"), *version = args_get(a, "release-version"),
               *file = args_get(a, "file"), *out = args_get(a, "out"), *type = args_get(a, "type");
    struct release r = { .chunk_code = CHUNK_CODE_DEFAULT,
                         .fan_out = CHUNK_FAN_OUT_DEFAULT,
                         .flags = RELEASE_NEEDS_REBOOT };
    struct file_bytes image = { 0 };
    char name[128];
    unsigned kind = type ? word_value(types, type, strlen(type)) : COMPONENT_APP;
    int rc;

    if (!product || !version || !file || !args_has(a, "hardware-class"))
        return cli_fail(CLI_USAGE, "roost release build -p PRODUCT -v VERSION --hardware-class N --file FILE",
                        "product, version, hardware class and file are needed");
    if (!kind)
        return cli_fail(CLI_USAGE, NULL, "--type: app, fs, bootloader, modem, container or package");
    r.product = span_str(product);
    r.version = span_str(version);
    if (!product[0] || !version[0] || !trust_text_is_ok(r.product, RELEASE_TEXT_MAX) ||
        !trust_text_is_ok(r.version, RELEASE_TEXT_MAX))
        return cli_fail(CLI_USAGE, NULL, "product and version: 1 to %u characters of A-Z a-z 0-9 . _ - + ~",
                        RELEASE_TEXT_MAX);
    if ((rc = hardware_take(a, &r)) || (rc = numbers_take(a, &r)) || (rc = policy_take(a, &r)) ||
        (rc = seq_take(a, version, &r)))
        return rc;
    enum err e = file_read(file, BUNDLE_PAYLOAD_MAX, &image);
    if (e)
        return cli_fail(CLI_USAGE, NULL, "%s: %s", file,
                        e == ERR_NOTFOUND ? "there is no such file"
                        : e == ERR_LIMIT  ? "longer than 1 GiB"
                                          : strerror(errno));
    if (!out) {
        snprintf(name, sizeof name, "%s-%s-hw%u.roost", product, version, r.hw_class);
        out = name;
    }
    rc = bundle_build(out, &r, kind, file_span(&image));
    free(image.p);
    struct bundle *b = cli_alloc(sizeof *b);
    if (!rc && (rc = bundle_open(b, out)) == CLI_OK) {
        json_t *all = json_array();
        summary(c, b, out, all);
        print_all(c, all, 1);
        cli_say(c, "Next: roost release sign %s --key-file KEYS/release-1.key\n", out);
    }
    free(b);
    return rc;
}

static int release_sign(struct cli *c, const struct args *a)
{
    const char *v;
    struct bundle *b = cli_alloc(sizeof *b);
    json_t *all = json_array();
    int rc = CLI_OK;
    if (!args_has(a, "key-file"))
        rc = cli_fail(CLI_USAGE, "`roost keys init` makes release-1.key.",
                      "whose signature? Give --key-file FILE");
    for (size_t d = 0; !rc && d < a->pos_nr; d++) {
        rc = bundle_open(b, a->pos[d]);
        for (size_t i = 0; !rc && (v = args_nth(a, "key-file", i)) != NULL; i++) {
            struct keyfile k;
            rc = keyfile_read(&k, v);
            if (!rc && strcmp(k.role, "release") != 0)
                rc = cli_fail(CLI_USAGE,
                              "Releases are signed by a release key; root keys sign trust records only.",
                              "%s is a %s key", v, k.role);
            if (!rc)
                rc = bundle_sign(b, a->pos[d], k.seed);
            explicit_bzero(&k, sizeof k);
        }
        if (!rc && (rc = bundle_open(b, a->pos[d])) == CLI_OK)
            summary(c, b, a->pos[d], all);
    }
    print_all(c, all, a->pos_nr);
    free(b);
    return rc;
}

static int target_take(const char *text, struct bundle_target *t)
{
    const char *class = strchr(text, ':'), *rev = class ? strchr(class + 1, ':') : NULL;
    uint64_t v = 0, w = 0;
    if (!class ||
        u64_parse(span_of(class + 1, rev ? (size_t)(rev - class - 1) : strlen(class + 1)), 65535, &v) ||
        (rev && u64_parse(span_str(rev + 1), 255, &w)))
        return cli_fail(CLI_USAGE, NULL, "--device: PRODUCT:CLASS[:REVISION]");
    *t = (struct bundle_target){ span_of(text, (size_t)(class - text)), (uint16_t)v, (uint8_t)w };
    return CLI_OK;
}

static int trust_take(struct cli *c, const char *from, struct trust_file *t)
{
    bool found = true;
    int rc;
    if (!from) {
        rc = hub_trust_get(c, 0, t, &found);
        return rc || found ? rc
                           : cli_fail(CLI_USAGE, "`roost trust publish DIR`, or give --trust DIR.",
                                      "the hub has no trust record to verify against");
    }
    if (!is_dir(from))
        return trust_file_read(t, from);
    if (!trust_dir_newest(from))
        return cli_fail(CLI_USAGE, NULL, "%s holds no trust record", from);
    return trust_dir_read(t, from, trust_dir_newest(from));
}

static int release_verify_cmd(struct cli *c, const struct args *a)
{
    struct bundle *b = cli_alloc(sizeof *b);
    struct trust_file *t = cli_alloc(sizeof *t);
    struct bundle_target target = { .product = SPAN_NONE };
    json_t *verdicts = json_array();
    int rc = trust_take(c, args_get(a, "trust"), t), worst = CLI_OK;
    if (!rc && args_has(a, "device"))
        rc = target_take(args_get(a, "device"), &target);
    for (size_t d = 0; !rc && d < a->pos_nr; d++) {
        struct bundle_verdict v;
        if ((rc = bundle_open(b, a->pos[d])) != CLI_OK)
            break;
        bundle_verify(b, a->pos[d], &t->record, &target, &v);
        if (c->json) {
            char id[2 * OBJECT_ID_LEN + 1];
            bundle_name(b->id, id);
            json_array_append_new(verdicts, json_pack("{s:s,s:s,s:b,s:s,s:s}", "id", id, "directory",
                                                      a->pos[d], "valid", v.reason == REASON_NONE, "reason",
                                                      reason_name(v.reason), "detail", v.detail));
        }
        if (v.reason != REASON_NONE)
            worst = cli_fail(
                CLI_REFUSED,
                v.reason == REASON_SIGNATURE_RELEASE ? "roost release sign DIR --key-file FILE" : NULL,
                "%s: a device would refuse it: %s (%s)", a->pos[d], v.detail, reason_name(v.reason));
        else
            cli_say(c, "%s: a device would accept it under trust record %u\n", a->pos[d], t->record.version);
    }
    print_all(c, verdicts, a->pos_nr);
    free(b);
    free(t);
    return rc ? rc : worst;
}

static const struct opt build_opts[] = {
    { "product", 'p', "NAME", "product id, as devices have it" },
    { "release-version", 'v', "VERSION", "version for people, such as 1.4.2" },
    { "hardware-class", 0, "N", "hardware class it is for" },
    { "hw-rev", 0, "FIRST-LAST", "hardware revisions it is for (0-255)" },
    { "file", 0, "FILE", "the image" },
    { "type", 0, "TYPE", "app (as it is), fs, bootloader, modem, container, package" },
    { "seq", 0, "N", "release sequence; from MAJOR.MINOR.PATCH when left out" },
    { "security-counter", 0, "N", "devices that confirmed N refuse everything lower (0)" },
    { "probation", 0, "S", "seconds on trial before the device confirms (0: as it likes)" },
    { "confirm", 0, "LIST", "what confirms: net,hub,app,watchdog (net,hub)" },
    { "allow-downgrade", 0, NULL, "devices may go back to it from a higher sequence" },
    { "single-slot-ok", 0, NULL, "devices without a second slot may take it" },
    { "factory-image", 0, NULL, "for blank devices" },
    { "min-agent", 0, "N", "agent version needed" },
    { "min-bootloader", 0, "N", "boot loader version needed" },
    { "min-free-flash", 0, "KIB", "free flash needed" },
    { "min-heap-block", 0, "B", "largest heap block needed" },
    { "min-battery", 0, "PCT", "battery level needed" },
    { "provenance", 0, "HEX", "SHA-256 of what tells where it came from" },
    { "out", 'o', "DIR", "where to (PRODUCT-VERSION-hwN.roost)" },
    { 0 }
};
static const struct opt sign_opts[] = { { "key-file", 0, "FILE", "a release key; may repeat" }, { 0 } };
static const struct opt verify_opts[] = {
    { "trust", 0, "DIR|FILE", "trust record to verify against; the hub's when left out" },
    { "device", 0, "PRODUCT:CLASS[:REV]", "verify as this device would" },
    { 0 }
};

const struct command release_commands[] = {
    { "release build", "-p PRODUCT -v VERSION --hardware-class N --file FILE", "Makes a release of an image",
      "The result is a directory: manifest.hrm and, under the names that devices ask for, the payload and "
      "its chunk\n"
      "tree. The same inputs make the same bytes, so anyone can check a build. It is not signed yet.",
      build_opts, 0, 0, release_build },
    { "release sign", "DIR... --key-file FILE", "Signs releases with a release key", NULL, sign_opts, 1, 1000,
      release_sign },
    { "release verify", "DIR... [--trust DIR]", "Checks releases as a device does", NULL, verify_opts, 1,
      1000, release_verify_cmd },
    { "release push", "DIR...", "Brings releases and their artifacts to the hub",
      "Goes on where a broken upload stopped; what the hub has is not sent again. The hub hashes everything "
      "anew.",
      NULL, 1, 1000, release_push },
    { "release list", "", "Lists the hub's releases, newest first", NULL, NULL, 0, 0, release_list },
    { 0 }
};
