/* cli/cmd_token.c - roost token: fleet tokens, what blank devices may prove themselves with. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include <string.h>

static int token_create(struct cli *c, const struct args *a)
{
    json_t *body = json_pack("{s:s}", "name", a->pos[0]), *doc = NULL;
    const char *hardware = args_get(a, "hardware"), *uses = args_get(a, "uses"), *ttl = args_get(a, "ttl");
    uint64_t n;
    int rc = CLI_OK;
    if (!body)
        return cli_fail(CLI_USAGE, NULL, "the name is not UTF-8");
    if (hardware)
        json_object_set_new(body, "hardware", json_string(hardware));
    if (uses && arg_u64(uses, 1, 1000000000, &n))
        rc = cli_fail(CLI_USAGE, NULL, "--uses: a number from 1 on");
    else if (uses)
        json_object_set_new(body, "uses", json_integer((json_int_t)n));
    if (!rc && ttl && (arg_duration_s(ttl, &n) || n == 0))
        rc = cli_fail(CLI_USAGE, NULL, "--ttl: a time such as 12h or 30d");
    else if (!rc && ttl)
        json_object_set_new(body, "ttlSeconds", json_integer((json_int_t)n));
    if (rc) {
        json_decref(body);
        return rc;
    }
    rc = hub_json(c, "POST", "/roost/v1/tokens", body, "making the token", &doc);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
        return CLI_OK;
    }
    printf("%s\n", json_text(doc, "token") ? json_text(doc, "token") : "");
    if (c->tty_err)
        fprintf(stderr, "This is the only time it is shown. Devices give it at their first contact.\n");
    json_decref(doc);
    return CLI_OK;
}

static int token_list(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "TOKEN", "HARDWARE", "USES LEFT", "CREATED", "EXPIRES" };
    json_t *doc = NULL, *k;
    struct table t;
    size_t i;
    (void)a;
    int rc = hub_json(c, "GET", "/roost/v1/tokens", NULL, "listing tokens", &doc);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
        return CLI_OK;
    }
    table_begin(&t, 5, head);
    json_array_foreach(json_object_get(doc, "tokens"), i, k)
    {
        char uses[24] = "any";
        if (json_is_integer(json_object_get(k, "usesLeft")))
            snprintf(uses, sizeof uses, "%llu", (unsigned long long)json_number(k, "usesLeft", 0));
        table_row(&t, (const char *const[]){ json_text(k, "name"), json_text(k, "hardware"), uses,
                                             moment_text(k, "created", (char[24]){ 0 }),
                                             moment_text(k, "expires", (char[24]){ 0 }) });
    }
    table_end(&t, c, stdout);
    json_decref(doc);
    return CLI_OK;
}

static int token_delete(struct cli *c, const struct args *a)
{
    int rc = CLI_OK;
    for (size_t i = 0; !rc && i < a->pos_nr; i++) {
        char *path = hub_path("/roost/v1/tokens/", a->pos[i], "");
        rc = hub_json(c, "DELETE", path, NULL, "deleting the token", NULL);
        free(path);
        if (!rc)
            cli_say(c, "%s deleted; devices that came with it stay\n", a->pos[i]);
    }
    if (!rc && c->json)
        printf("{\"deleted\":%zu}\n", a->pos_nr);
    return rc;
}

static const struct opt create_opts[] = { { "hardware", 0, "PRODUCT:CLASS", "only for these devices" },
                                          { "uses", 0, "N", "so many devices" },
                                          { "ttl", 0, "TIME", "so long, such as 12h or 30d" },
                                          { 0 } };

const struct command token_commands[] = {
    { "token create", "NAME", "Makes a fleet token for a batch of blank devices, and prints it once", NULL,
      create_opts, 1, 1, token_create },
    { "token list", "", "Lists fleet tokens", NULL, NULL, 0, 0, token_list },
    { "token delete", "NAME...", "Deletes fleet tokens; no more devices come in by them", NULL, NULL, 1, 1000,
      token_delete },
    { 0 }
};
