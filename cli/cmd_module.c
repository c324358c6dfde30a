/* cli/cmd_module.c - roost module: identities inside a device. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include <string.h>

/* "/roost/v1/devices/DEVICE/modules[/MODULE]", to be freed. */
static char *module_path(const char *device, const char *module)
{
    char *head = hub_path("/roost/v1/devices/", device, module ? "/modules/" : "/modules");
    char *path = head && module ? hub_path(head, module, "") : NULL;
    if (!module)
        return head;
    free(head);
    return path;
}

static int module_list(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "MODULE", "CONNECTED", "AUTHENTICATION", "MANAGED BY", "LAST SEEN" };
    json_t *doc = NULL, *m;
    struct table t;
    size_t i;
    char *path = module_path(a->pos[0], NULL);
    int rc = hub_json(c, "GET", path, NULL, "listing modules", &doc);
    free(path);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
        return CLI_OK;
    }
    table_begin(&t, 5, head);
    json_array_foreach(json_object_get(doc, "modules"), i, m)
    {
        bool connected = json_is_true(json_object_get(m, "connected"));
        table_row(&t, (const char *const[]){ json_text(m, "id"), connected ? "yes" : "no",
                                             json_text(m, "authentication"), json_text(m, "managedBy"),
                                             moment_text(m, "lastActivity", (char[24]){ 0 }) });
    }
    table_end(&t, c, stdout);
    json_decref(doc);
    return CLI_OK;
}

static int module_show(struct cli *c, const struct args *a)
{
    json_t *doc = NULL;
    char *path = module_path(a->pos[0], a->pos[1]);
    int rc = hub_json(c, "GET", path, NULL, "showing the module", &doc);
    free(path);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
    } else {
        members_print(doc, 0);
        json_decref(doc);
    }
    return CLI_OK;
}

static int module_create(struct cli *c, const struct args *a)
{
    json_t *body = proof_arguments(a), *doc = NULL;
    const char *by = args_get(a, "managed-by");
    if (!body)
        return CLI_USAGE;
    if (by)
        json_object_set_new(body, "managedBy", json_string(by));
    char *path = module_path(a->pos[0], a->pos[1]);
    int rc = hub_create(c, path, body, "making the module", &doc);
    free(path);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
        return CLI_OK;
    }
    printf("%s\n", json_text(doc, "connectionString") ? json_text(doc, "connectionString") : a->pos[1]);
    json_decref(doc);
    return CLI_OK;
}

static int module_delete(struct cli *c, const struct args *a)
{
    int rc = CLI_OK;
    for (size_t i = 1; !rc && i < a->pos_nr; i++) {
        char *path = module_path(a->pos[0], a->pos[i]);
        rc = hub_json(c, "DELETE", path, NULL, "deleting the module", NULL);
        free(path);
        if (!rc)
            cli_say(c, "%s/%s deleted\n", a->pos[0], a->pos[i]);
    }
    if (!rc && c->json)
        printf("{\"deleted\":%zu}\n", a->pos_nr - 1);
    return rc;
}

static const struct opt create_opts[] = { { "thumbprint", 0, "HEX", "SHA-1 or SHA-256 of its certificate" },
                                          { "thumbprint2", 0, "HEX", "of the one that follows it" },
                                          { "ca", 0, NULL, "a registered authority signs its certificate" },
                                          { "managed-by", 0, "TEXT", "who looks after it" },
                                          { 0 } };

const struct command module_commands[] = {
    { "module list", "DEVICE", "Lists the modules of a device", NULL, NULL, 1, 1, module_list },
    { "module show", "DEVICE MODULE", "Shows all that is known of a module", NULL, NULL, 2, 2, module_show },
    { "module create", "DEVICE MODULE", "Makes a module of a device, and prints its connection string", NULL,
      create_opts, 2, 2, module_create },
    { "module delete", "DEVICE MODULE...", "Deletes modules; their sessions end", NULL, NULL, 2, 51,
      module_delete },
    { 0 }
};
