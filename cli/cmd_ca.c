/* cli/cmd_ca.c - roost ca: certificate authorities that vouch for devices. */
#include "cli/commands.h"
#include "cli/file.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include <errno.h>
#include <string.h>

#define PEM_MAX 65536u

static int ca_add(struct cli *c, const struct args *a)
{
    struct hub_answer answer = { 0 };
    struct file_bytes pem;
    enum err e = file_read(a->pos[1], PEM_MAX, &pem);
    if (e)
        return cli_fail(CLI_USAGE, NULL, "%s: %s", a->pos[1],
                        e == ERR_LIMIT   ? "too long for a certificate"
                        : e == ERR_NOMEM ? "out of memory"
                                         : strerror(errno));
    char *path = hub_path("/roost/v1/ca/", a->pos[0], "");
    struct hub_request r = {
        .method = "PUT", .path = path, .content_type = "application/x-pem-file", .body = file_span(&pem)
    };
    int rc = hub_open(c);
    if (!rc && (rc = hub_ask(c, &r, &answer)) != CLI_OK)
        rc = hub_unreachable(c, &answer);
    else if (!rc && (answer.status < 200 || answer.status > 299))
        rc = hub_complain(&answer, a->pos[0]);
    json_t *doc =
        !rc && answer.body ? json_loadb((char *)answer.body, answer.body_len, JSON_ALLOW_NUL, NULL) : NULL;
    if (!rc && c->json)
        json_print(json_incref(doc));
    else if (!rc)
        cli_say(c, "%s registered: %s, until %s\n", a->pos[0], json_text(doc, "subject"),
                moment_text(doc, "notAfter", (char[24]){ 0 }));
    json_decref(doc);
    hub_answer_free(&answer);
    free(pem.p);
    free(path);
    return rc;
}

static int ca_list(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "AUTHORITY", "SUBJECT", "VALID UNTIL", "SHA-256" };
    json_t *doc = NULL, *k;
    struct table t;
    size_t i;
    (void)a;
    int rc = hub_json(c, "GET", "/roost/v1/ca", NULL, "listing authorities", &doc);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
        return CLI_OK;
    }
    table_begin(&t, 4, head);
    json_array_foreach(json_object_get(doc, "authorities"), i, k)
    {
        table_row(&t, (const char *const[]){ json_text(k, "name"), json_text(k, "subject"),
                                             moment_text(k, "notAfter", (char[24]){ 0 }),
                                             json_text(k, "sha256") });
    }
    table_end(&t, c, stdout);
    json_decref(doc);
    return CLI_OK;
}

static int ca_delete(struct cli *c, const struct args *a)
{
    int rc = CLI_OK;
    for (size_t i = 0; !rc && i < a->pos_nr; i++) {
        char *path = hub_path("/roost/v1/ca/", a->pos[i], "");
        rc = hub_json(c, "DELETE", path, NULL, "removing the authority", NULL);
        free(path);
        if (!rc)
            cli_say(c, "%s removed; devices it vouched for are refused when they connect next\n", a->pos[i]);
    }
    if (!rc && c->json)
        printf("{\"deleted\":%zu}\n", a->pos_nr);
    return rc;
}

const struct command ca_commands[] = {
    { "ca add", "NAME FILE", "Registers a certificate authority (PEM) that vouches for devices", NULL, NULL,
      2, 2, ca_add },
    { "ca list", "", "Lists certificate authorities that vouch for devices", NULL, NULL, 0, 0, ca_list },
    { "ca delete", "NAME...", "Removes certificate authorities; who they vouched for stays out", NULL, NULL,
      1, 100, ca_delete },
    { 0 }
};
