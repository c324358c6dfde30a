/* cli/cmd_bootstrap.c - roost bootstrap-string: the one thing a blank device is given. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/hub_trust.h"
#include "cli/profile.h"
#include "cli/spki.h"

#include "core/trust/bootstrap_string.h"
#include "port/crypto.h"

/* The roots of the oldest record the hub has: devices walk from there. */
static int root_pin(struct cli *c, struct bootstrap_string *b)
{
    struct trust_file *t = cli_alloc(sizeof *t);
    int rc = hub_trust_get(c, 1, t, &b->has_root);
    if (!rc && !b->has_root)
        rc = hub_trust_get(c, 0, t, &b->has_root);
    if (!rc && b->has_root)
        trust_record_root_pin(&port_crypto, &t->record, b->root_pin);
    free(t);
    return rc;
}

static int bootstrap_run(struct cli *c, const struct args *a)
{
    char text[BOOTSTRAP_STRING_MAX + 1];
    struct wr w = { (uint8_t *)text, BOOTSTRAP_STRING_MAX, 0 };
    struct bootstrap_string b = { 0 };
    int rc = hub_open(c);
    if (rc)
        return rc;
    const struct profile *p = hub_profile(c);
    if (!p->ca_file)
        return cli_fail(CLI_USAGE, "Give --ca-file FILE, or use the profile that roostd init wrote.",
                        "which authority do devices pin?");
    b.host = span_str(p->host);
    b.port = p->https_port;
    rc = spki_pin_of_file(p->ca_file, b.ca_pin);
    if (!rc && !args_has(a, "no-root"))
        rc = root_pin(c, &b);
    if (rc)
        return rc;
    bootstrap_string_encode(&w, &b);
    if (!wr_ok(&w))
        return cli_fail(CLI_USAGE, NULL, "the host name is too long");
    text[w.len] = 0;
    if (c->json)
        printf("{\"bootstrapString\":\"%s\"}\n", text);
    else
        printf("%s\n", text);
    if (!b.has_root && !args_has(a, "no-root"))
        cli_fail(CLI_OK,
                 "Publish one first (`roost trust publish DIR`), and the string pins its roots as well.",
                 "the hub has no trust record yet: devices would take the first one they see");
    return CLI_OK;
}

static const struct opt opts[] = { { "no-root", 0, NULL, "without the root pin" }, { 0 } };
const struct command bootstrap_commands[] = {
    { "bootstrap-string", "",
      "Prints what a blank device needs: the hub's address and two public fingerprints",
      "https://HOST[:PORT]#ca=PIN&root=PIN holds no secret. ca pins the authority of the hub's certificate, "
      "root the\n"
      "root keys of its first trust record.",
      opts, 0, 0, bootstrap_run },
    { 0 }
};
