/* cli/cmd_device.c - roost device: who is known, who may come in. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include <string.h>

static const char *running_text(const json_t *d, char out[64])
{
    const json_t *report = json_object_get(d, "report");
    const char *version = json_text(report, "version"), *id = json_text(report, "running");
    if (version)
        snprintf(out, 64, "%s", version);
    else if (id)
        snprintf(out, 64, "%.8s", id);
    else
        return NULL;
    return out;
}

static const char *update_text(const json_t *d, char out[96])
{
    const json_t *deployment = json_object_get(d, "deployment");
    const char *state = json_text(deployment, "state"), *reason = json_text(deployment, "reason");
    if (!state)
        return NULL;
    if (reason && strcmp(reason, "none") != 0)
        snprintf(out, 96, "%s (%s)", state, reason);
    else
        snprintf(out, 96, "%s", state);
    return out;
}

static void device_row(struct table *t, const json_t *d)
{
    char running[64], update[96];
    bool connected = json_is_true(json_object_get(d, "connected"));
    table_row(t, (const char *const[]){ json_text(d, "id"), json_text(d, "status"), connected ? "yes" : "no",
                                        json_text(d, "hardware"), running_text(d, running),
                                        update_text(d, update),
                                        moment_text(d, "lastActivity", (char[24]){ 0 }) });
}

/* One page of the listing after the id `after` (NULL: the first). */
static int page(struct cli *c, const char *status, const char *after, json_t **out)
{
    char tail[256] = "";
    if (status)
        snprintf(tail, sizeof tail, "&status=%s", status);
    char *path = after ? hub_path("/roost/v1/devices?limit=500&after=", after, tail)
                       : hub_path("/roost/v1/devices?limit=500", "", tail);
    int rc = hub_json(c, "GET", path, NULL, "listing devices", out);
    free(path);
    return rc;
}

/* The rows of a page: with --json they are printed at once, so that a large fleet needs no memory here. */
static void list_page(struct cli *c, struct table *t, const json_t *devices, uint64_t *shown)
{
    size_t i;
    json_t *d;
    json_array_foreach(devices, i, d)
    {
        if (c->json) {
            fputs(*shown ? ",\n" : "", stdout);
            json_write(stdout, d);
        } else {
            device_row(t, d);
        }
        ++*shown;
    }
}

static int device_list(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "DEVICE",  "STATUS", "CONNECTED", "HARDWARE",
                                        "RUNNING", "UPDATE", "LAST SEEN" };
    const char *status = args_get(a, "status");
    struct table t = { 0 };
    char *after = NULL;
    bool begun = false;
    uint64_t shown = 0;
    int rc = CLI_OK;

    if (status && strcmp(status, "enabled") != 0 && strcmp(status, "disabled") != 0 &&
        strcmp(status, "pending") != 0)
        return cli_fail(CLI_USAGE, NULL, "--status is enabled, disabled or pending");
    do {
        json_t *doc = NULL;
        rc = page(c, status, after, &doc);
        if (rc)
            break;
        if (!begun && c->json)
            fputs("{\"devices\":[", stdout);
        else if (!begun)
            table_begin(&t, 7, head);
        begun = true;
        list_page(c, &t, json_object_get(doc, "devices"), &shown);
        const char *next = json_text(doc, "next");
        free(after);
        after = next ? strdup(next) : NULL;
        json_decref(doc);
    } while (after && !ferror(stdout)); /* whoever read it may have gone */
    free(after);
    if (!rc && c->json)
        puts("]}");
    if (t.cols)
        table_end(&t, c, stdout);
    if (!rc && !c->json && !shown && c->tty_out && status)
        printf("None is %s.\n", status);
    else if (!rc && !c->json && !shown && c->tty_out)
        printf("None yet. `roost device create ID` makes one; `roost bootstrap-string` is what blank "
               "devices need.\n");
    return rc;
}

static int device_show(struct cli *c, const struct args *a)
{
    json_t *doc = NULL;
    char *path = hub_path("/roost/v1/devices/", a->pos[0], "");
    int rc = hub_json(c, "GET", path, NULL, "showing the device", &doc);
    free(path);
    if (!rc && c->json)
        json_print(doc);
    else if (!rc) {
        members_print(doc, 0);
        json_decref(doc);
    }
    return rc;
}

json_t *proof_arguments(const struct args *a)
{
    const char *one = args_get(a, "thumbprint"), *two = args_get(a, "thumbprint2");
    bool ca = args_has(a, "ca");
    json_t *body = json_object();
    if (ca && (one || two))
        cli_fail(CLI_USAGE, NULL, "--ca or --thumbprint, not both");
    else if (two && !one)
        cli_fail(CLI_USAGE, NULL, "--thumbprint2 comes after --thumbprint");
    else if ((ca && json_object_set_new(body, "authentication", json_string("certificateAuthority"))) ||
             (one && (json_object_set_new(body, "authentication", json_string("selfSigned")) ||
                      json_object_set_new(body, "thumbprint", json_string(one)))) ||
             (two && json_object_set_new(body, "thumbprint2", json_string(two))))
        cli_fail(CLI_USAGE, NULL, "the thumbprint is not UTF-8");
    else
        return body;
    json_decref(body);
    return NULL;
}

static int device_create(struct cli *c, const struct args *a)
{
    json_t *made = json_array();
    int rc = CLI_OK;
    for (size_t i = 0; !rc && i < a->pos_nr; i++) {
        json_t *body = proof_arguments(a), *doc = NULL;
        if (!body) {
            rc = CLI_USAGE;
            break;
        }
        if (args_has(a, "disabled"))
            json_object_set_new(body, "status", json_string("disabled"));
        char *path = hub_path("/roost/v1/devices/", a->pos[i], "");
        rc = hub_create(c, path, body, a->pos[i], &doc);
        free(path);
        if (!rc) {
            const char *connection = json_text(doc, "connectionString");
            cli_say(c, "%s\n", connection ? connection : a->pos[i]);
            json_array_append(made, doc);
        }
        json_decref(doc);
    }
    if (c->json && json_array_size(made)) /* with what was made before an error: the keys are shown here */
        json_print(a->pos_nr == 1 ? json_incref(json_array_get(made, 0)) : json_incref(made));
    json_decref(made);
    return rc;
}

/* Of "DEVICE" or "DEVICE/MODULE": no id has a '/'. */
static char *identity_path(const char *id)
{
    const char *slash = strchr(id, '/');
    char *device = slash ? strdup(id) : NULL;
    if (!device)
        return hub_path("/roost/v1/devices/", id, "");
    device[slash - id] = 0;
    char *head = hub_path("/roost/v1/devices/", device, "/modules/"), *path = hub_path(head, slash + 1, "");
    free(head);
    free(device);
    return path;
}

static int device_connection_string(struct cli *c, const struct args *a)
{
    json_t *doc = NULL;
    char *path = identity_path(a->pos[0]);
    int rc = hub_json(c, "GET", path, NULL, "asking for the device", &doc);
    free(path);
    if (rc)
        return rc;
    const char *text = json_text(doc, "connectionString");
    if (!text)
        rc = cli_fail(CLI_REFUSED,
                      "A device that waits for approval has none yet; a policy without the right to "
                      "write the registry is not shown any.",
                      "the hub shows no connection string of %s", a->pos[0]);
    else if (c->json)
        json_print(json_pack("{s:s,s:s}", "id", a->pos[0], "connectionString", text));
    else
        printf("%s\n", text);
    json_decref(doc);
    return rc;
}

static int each(struct cli *c, const struct args *a, const char *method, const char *after, const char *what,
                const char *done)
{
    json_t *ids = json_array();
    int rc = CLI_OK;
    for (size_t i = 0; !rc && i < a->pos_nr; i++) {
        char *path = hub_path("/roost/v1/devices/", a->pos[i], after), doing[256];
        snprintf(doing, sizeof doing, "%s %s", what, a->pos[i]);
        rc = hub_json(c, method, path, NULL, doing, NULL);
        free(path);
        if (!rc) {
            cli_say(c, "%s %s\n", a->pos[i], done);
            json_array_append_new(ids, json_string(a->pos[i]));
        }
    }
    if (!rc && c->json)
        json_print(json_pack("{s:O}", "devices", ids));
    json_decref(ids);
    return rc;
}

static int device_delete(struct cli *c, const struct args *a)
{
    return each(c, a, "DELETE", "", "deleting", "deleted");
}

static int device_approve(struct cli *c, const struct args *a)
{
    struct args ids = *a;
    json_t *doc = NULL, *d;
    size_t i;
    int rc = CLI_OK;

    if (a->pos_nr == 0 && !args_has(a, "all"))
        return cli_fail(CLI_USAGE, "`roost device list --status pending` shows who waits.",
                        "name devices, or say --all");
    if (!args_has(a, "all"))
        return each(c, a, "POST", "/approve", "approving", "may come in");
    rc = page(c, "pending", NULL, &doc);
    if (rc)
        return rc;
    const char **names = calloc(json_array_size(json_object_get(doc, "devices")) + 1, sizeof *names);
    ids.pos = names;
    ids.pos_nr = 0;
    json_array_foreach(json_object_get(doc, "devices"), i, d)
    {
        if (json_text(d, "id"))
            names[ids.pos_nr++] = json_text(d, "id");
    }
    rc = each(c, &ids, "POST", "/approve", "approving", "may come in");
    if (!rc && ids.pos_nr == 0)
        cli_say(c, "nobody waits\n");
    free(names);
    json_decref(doc);
    return rc;
}

static const struct opt list_opts[] = { { "status", 0, "STATUS", "only enabled, disabled or pending ones" },
                                        { 0 } };
static const struct opt create_opts[] = { { "disabled", 0, NULL, "it may not connect yet" },
                                          { "thumbprint", 0, "HEX", "SHA-1 or SHA-256 of its certificate" },
                                          { "thumbprint2", 0, "HEX", "of the one that follows it" },
                                          { "ca", 0, NULL, "a registered authority signs its certificate" },
                                          { 0 } };
static const struct opt approve_opts[] = { { "all", 0, NULL, "everyone who waits now (500 at a time)" },
                                           { 0 } };

const struct command device_commands[] = {
    { "device list", "", "Lists devices: what they run, and how their update stands", NULL, list_opts, 0, 0,
      device_list },
    { "device show", "DEVICE", "Shows all that is known of a device", NULL, NULL, 1, 1, device_show },
    { "device create", "DEVICE...", "Makes identities with fresh keys, and prints their connection strings",
      NULL, create_opts, 1, 1000, device_create },
    { "device connection-string", "DEVICE[/MODULE]", "Prints what its SDK needs to connect", NULL, NULL, 1, 1,
      device_connection_string },
    { "device delete", "DEVICE...", "Deletes identities; their sessions end", NULL, NULL, 1, 1000,
      device_delete },
    { "device approve", "DEVICE... | --all", "Lets devices in that bootstrapped without a token", NULL,
      approve_opts, 0, 1000, device_approve },
    { "device import", "FILE", "Makes, changes or deletes the identities of a file, with their twins",
      "FILE has one JSON object a line (docs/registry.md), as `roost device export` writes it; - is "
      "standard\n"
      "input. A line that is refused does not stop the others. The hub does it by itself: it goes on when "
      "this\n"
      "command ends or the hub is restarted.",
      device_import_opts, 1, 1, device_import },
    { "device export", "FILE", "Writes all identities with their twins to a file",
      "One JSON object a line; - is standard output. The file has the symmetric keys, unless --no-keys.",
      device_export_opts, 1, 1, device_export },
    { 0 }
};
