/* cli/cmd_trust.c - roost trust: brings trust records to the hub, and shows what it has. */
#include "cli/commands.h"
#include "cli/file.h"
#include "cli/hub_client.h"
#include "cli/hub_trust.h"
#include "cli/keyfile.h"

#include "port/crypto.h"

#include <string.h>
#include <unistd.h>

int hub_trust_get(struct cli *c, uint32_t version, struct trust_file *t, bool *found)
{
    char path[64];
    struct hub_answer a = { 0 };
    int rc = hub_open(c);
    snprintf(path, sizeof path, version ? "/roost/v1/trust?version=%u" : "/roost/v1/trust", version);
    *found = false;
    if (rc)
        return rc;
    rc = hub_ask(c, &(struct hub_request){ .method = "GET", .path = path }, &a);
    if (rc)
        rc = hub_unreachable(c, &a);
    else if (a.status == 200)
        rc = trust_file_parse(t, span_of(a.body, a.body_len), "what the hub answers"), *found = rc == CLI_OK;
    else if (a.status != 404 && a.status != 204)
        rc = hub_complain(&a, "getting the trust record");
    hub_answer_free(&a);
    return rc;
}

static int publish_one(struct cli *c, const struct trust_file *t)
{
    struct hub_answer a = { 0 };
    struct hub_request r = { .method = "POST",
                             .path = "/roost/v1/trust",
                             .content_type = "application/octet-stream",
                             .body = span_of(t->raw, t->raw_len) };
    int rc = hub_ask(c, &r, &a);
    if (rc)
        rc = hub_unreachable(c, &a);
    else if (a.status < 200 || a.status > 299)
        rc = hub_complain(&a, "publishing the trust record");
    hub_answer_free(&a);
    if (!rc)
        cli_say(c, "published trust record %u\n", t->record.version);
    return rc;
}

static int trust_publish(struct cli *c, const struct args *a)
{
    const char *from = a->pos[0];
    struct trust_file *t = cli_alloc(sizeof *t), *hub = cli_alloc(sizeof *hub);
    bool dir = is_dir(from), found = false;
    uint32_t newest = dir ? trust_dir_newest(from) : 0, have = 0, first = 0, published = 0;
    int rc = CLI_OK;

    if (dir && !newest)
        rc = cli_fail(CLI_USAGE, "`roost keys init` makes one.", "%s holds no trust record", from);
    if (!rc && !dir)
        rc = trust_file_read(t, from);
    if (!rc)
        rc = hub_trust_get(c, 0, hub, &found);
    if (!rc && found)
        have = hub->record.version;
    if (!rc && !dir) {
        rc = publish_one(c, t);
        published = 1;
    }
    for (uint32_t v = have + 1; !rc && dir && v <= newest;
         v++) { /* each one in its turn: devices walk them too */
        char *path = trust_dir_path(from, v);
        bool there = access(path, F_OK) == 0;
        free(path);
        if (!there && !first && !have)
            continue; /* a hub set up anew may begin with a later one */
        first = first ? first : v;
        rc = trust_dir_read(t, from, v);
        if (!rc)
            rc = publish_one(c, t);
        published += !rc;
    }
    if (!rc && !published)
        cli_say(c, "the hub has trust record %u already: nothing to do\n", have);
    if (!rc && c->json)
        printf("{\"version\":%u,\"published\":%u}\n", dir ? newest : t->record.version, published);
    free(t);
    free(hub);
    return rc;
}

static int trust_show(struct cli *c, const struct args *a)
{
    struct trust_file *t = cli_alloc(sizeof *t);
    const char *v = args_get(a, "version");
    uint64_t version = 0;
    bool found = true;
    int rc = CLI_OK;
    if (v && arg_u64(v, 1, UINT32_MAX, &version))
        rc = cli_fail(CLI_USAGE, NULL, "--version %s is not a number", v);
    if (!rc && a->pos_nr)
        rc = is_dir(a->pos[0])
                 ? trust_dir_read(t, a->pos[0], version ? (uint32_t)version : trust_dir_newest(a->pos[0]))
                 : trust_file_read(t, a->pos[0]);
    else if (!rc)
        rc = hub_trust_get(c, (uint32_t)version, t, &found);
    if (!rc && !found)
        rc = cli_fail(CLI_USAGE, "`roost trust publish DIR` brings one there.",
                      "the hub has no %strust record", version ? "such " : "");
    if (!rc)
        keys_record_print(c, &t->record);
    free(t);
    return rc;
}

static const struct opt show_opts[] = { { "version", 0, "N", "that version, not the newest" }, { 0 } };

const struct command trust_commands[] = {
    { "trust publish", "DIR | FILE", "Brings the trust records of DIR that the hub lacks to it",
      "The hub takes a record only as the successor of its newest one, signed by enough old and new root "
      "keys.",
      NULL, 1, 1, trust_publish },
    { "trust show", "[DIR | FILE]", "Shows the hub's trust record, or one on disk", NULL, show_opts, 0, 1,
      trust_show },
    { 0 }
};
