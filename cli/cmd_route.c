/* cli/cmd_route.c - roost route, roost endpoint, roost enrichment: where messages go. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include <string.h>

#define VALUE_MAX 65536u

/* ---- lists -------------------------------------------------------------------------------------------- */

static char *joined(const json_t *names) /* the caller frees it */
{
    size_t i, n = 1;
    json_t *v;
    json_array_foreach(names, i, v) n += json_string_length(v) + 2;
    char *text = cli_alloc(n);
    json_array_foreach(names, i, v)
    {
        strcat(text, i ? ", " : "");
        strcat(text, json_string_value(v) ? json_string_value(v) : "?");
    }
    return text;
}

/* What the hub lists under `family`; the caller frees it. NULL: rc says why. */
static json_t *fetch(struct cli *c, const char *family, int *rc)
{
    char path[64];
    json_t *doc = NULL;
    snprintf(path, sizeof path, "/roost/v1/%s", family);
    *rc = hub_open(c);
    if (!*rc)
        *rc = hub_json(c, "GET", path, NULL, "listing", &doc);
    return doc;
}

static int route_list(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "NAME", "SOURCE", "CONDITION", "ENDPOINTS", "STATE" };
    struct table t;
    size_t i;
    json_t *o;
    int rc;
    (void)a;
    json_t *doc = fetch(c, "routes", &rc);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
        return CLI_OK;
    }
    table_begin(&t, 5, head);
    json_array_foreach(json_object_get(doc, "routes"), i, o)
    {
        char *to = joined(json_object_get(o, "endpoints"));
        const char *source = json_text(o, "source"), *condition = json_text(o, "condition");
        const char *cells[] = { json_text(o, "name"), source ? source : "DeviceMessages",
                                condition ? condition : "true", to,
                                json_is_false(json_object_get(o, "enabled")) ? "off" : "on" };
        table_row(&t, cells);
        free(to);
    }
    table_end(&t, c, stdout);
    cli_say(c, "fallback %s: telemetry that no route takes %s\n",
            json_is_false(json_object_get(doc, "fallback")) ? "off" : "on",
            json_is_false(json_object_get(doc, "fallback")) ? "is dropped" : "goes to events");
    json_decref(doc);
    return CLI_OK;
}

static const char *number(const json_t *o, const char *name, char out[24])
{
    if (!json_object_get(o, name))
        return NULL;
    snprintf(out, 24, "%llu", (unsigned long long)json_number(o, name, 0));
    return out;
}

static int endpoint_list(struct cli *c, const struct args *a)
{
    static const char *const head[] = {
        "NAME", "KIND", "DELIVERED", "BEHIND", "FAILED", "DEAD", "LAST ERROR"
    };
    struct table t;
    size_t i;
    json_t *o;
    int rc;
    (void)a;
    json_t *doc = fetch(c, "endpoints", &rc);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
        return CLI_OK;
    }
    table_begin(&t, 7, head);
    json_array_foreach(json_object_get(doc, "endpoints"), i, o)
    {
        char n[4][24];
        char *why = strdup(json_text(o, "lastError") ? json_text(o, "lastError") : "");
        const char *cells[] = { json_text(o, "name"),         json_text(o, "kind"),
                                number(o, "delivered", n[0]), number(o, "behind", n[1]),
                                number(o, "failed", n[2]),    number(o, "deadLettered", n[3]),
                                why ? printable(why) : NULL };
        table_row(&t, cells);
        free(why);
    }
    table_end(&t, c, stdout);
    json_decref(doc);
    return CLI_OK;
}

static int enrichment_list(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "NAME", "VALUE", "ENDPOINTS" };
    struct table t;
    size_t i;
    json_t *o;
    int rc;
    (void)a;
    json_t *doc = fetch(c, "enrichments", &rc);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
        return CLI_OK;
    }
    table_begin(&t, 3, head);
    json_array_foreach(json_object_get(doc, "enrichments"), i, o)
    {
        char *to = joined(json_object_get(o, "endpoints"));
        const char *cells[] = { json_text(o, "name"), json_text(o, "value"), to };
        table_row(&t, cells);
        free(to);
    }
    table_end(&t, c, stdout);
    json_decref(doc);
    return CLI_OK;
}

/* ---- saving and deleting ------------------------------------------------------------------------------ */

static int save(struct cli *c, const char *before, const char *name, json_t *body)
{
    json_t *out = NULL;
    char *path = hub_path(before, name, ""), what[160];
    int rc = hub_open(c);
    snprintf(what, sizeof what, "saving %s", name);
    if (rc)
        json_decref(body);
    else
        rc = hub_json(c, "PUT", path, body, what, &out);
    free(path);
    if (!rc && c->json)
        json_print(out);
    else
        json_decref(out);
    if (!rc)
        cli_say(c, "%s is in force\n", name);
    return rc;
}

static int drop(struct cli *c, const struct args *a, const char *before)
{
    int rc = hub_open(c);
    for (size_t i = 0; !rc && i < a->pos_nr; i++) {
        char *path = hub_path(before, a->pos[i], ""), what[160];
        snprintf(what, sizeof what, "deleting %s", a->pos[i]);
        rc = hub_json(c, "DELETE", path, NULL, what, NULL);
        free(path);
        if (!rc)
            cli_say(c, "%s is gone\n", a->pos[i]);
    }
    if (!rc && c->json)
        printf("{\"deleted\":%zu}\n", a->pos_nr);
    return rc;
}
static int route_delete(struct cli *c, const struct args *a)
{
    return drop(c, a, "/roost/v1/routes/");
}
static int endpoint_delete(struct cli *c, const struct args *a)
{
    return drop(c, a, "/roost/v1/endpoints/");
}
static int enrichment_delete(struct cli *c, const struct args *a)
{
    return drop(c, a, "/roost/v1/enrichments/");
}

static json_t *endpoints_of(const struct args *a)
{
    json_t *names = json_array();
    for (size_t i = 0; args_nth(a, "endpoint", i); i++)
        json_array_append_new(names, json_string(args_nth(a, "endpoint", i)));
    return names;
}

static int route_set(struct cli *c, const struct args *a)
{
    json_t *body = json_object();
    if (args_has(a, "source"))
        json_object_set_new(body, "source", json_string(args_get(a, "source")));
    if (args_has(a, "condition"))
        json_object_set_new(body, "condition", json_string(args_get(a, "condition")));
    json_object_set_new(body, "endpoints", endpoints_of(a));
    json_object_set_new(body, "enabled", json_boolean(!args_has(a, "off")));
    return save(c, "/roost/v1/routes/", a->pos[0], body);
}

static int route_fallback(struct cli *c, const struct args *a)
{
    bool on = strcmp(a->pos[0], "on") == 0;
    if (!on && strcmp(a->pos[0], "off") != 0)
        return cli_fail(CLI_USAGE, NULL, "the fallback is switched on or off");
    return save(c, "/roost/v1/routes/", "$fallback", json_pack("{s:b}", "enabled", on));
}

static int enrichment_set(struct cli *c, const struct args *a)
{
    json_t *body = json_pack("{s:s,s:o}", "value", a->pos[1], "endpoints", endpoints_of(a));
    if (!body)
        return cli_fail(CLI_USAGE, NULL, "the value is not text in UTF-8");
    return save(c, "/roost/v1/enrichments/", a->pos[0], body);
}

/* "key=value"; the value @FILE is what is in the file. 0, or an exit code. */
static int member_add(json_t *body, const char *text)
{
    static const char *const numbers[] = { "port",        "batch",         "retainSeconds",     "retainBytes",
                                           "rotateBytes", "rotateSeconds", "deadLetterSeconds", "keep" };
    const char *eq = strchr(text, '=');
    char name[64];
    uint64_t n;
    if (!eq || eq == text || (size_t)(eq - text) >= sizeof name)
        return cli_fail(CLI_USAGE, NULL, "'%s' is not NAME=VALUE", text);
    snprintf(name, sizeof name, "%.*s", (int)(eq - text), text);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(name, numbers[i]) == 0) {
            if (arg_u64(eq + 1, 0, INT64_MAX, &n))
                return cli_fail(CLI_USAGE, NULL, "%s: '%s' is not a number", name, eq + 1);
            json_object_set_new(body, name, json_integer((json_int_t)n));
            return CLI_OK;
        }
    json_t *v = NULL;
    if (eq[1] == '@') {
        FILE *f = fopen(eq + 2, "rb");
        char *bytes = cli_alloc(VALUE_MAX + 1);
        size_t len = f ? fread(bytes, 1, VALUE_MAX, f) : 0;
        if (f)
            fclose(f);
        /* A key in a file usually ends with its line. */
        while (strcmp(name, "ca") != 0 && len && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r'))
            len--;
        v = f ? json_stringn(bytes, len) : NULL;
        memset(bytes, 0, VALUE_MAX);
        free(bytes);
        if (!v)
            return cli_fail(CLI_USAGE, NULL, "%s: the file '%s' cannot be read as text", name, eq + 2);
    } else if (!(v = json_string(eq + 1))) {
        return cli_fail(CLI_USAGE, NULL, "%s: the value is not text in UTF-8", name);
    }
    json_object_set_new(body, name, v);
    return CLI_OK;
}

static int endpoint_set(struct cli *c, const struct args *a)
{
    json_t *body = json_object();
    int rc = CLI_OK;
    for (size_t i = 1; !rc && i < a->pos_nr; i++)
        rc = member_add(body, a->pos[i]);
    if (!rc)
        return save(c, "/roost/v1/endpoints/", a->pos[0], body);
    json_decref(body);
    return rc;
}

/* ---- trying out --------------------------------------------------------------------------------------- */

static int pairs(const struct args *a, const char *name, json_t *to)
{
    for (size_t i = 0; args_nth(a, name, i); i++) {
        const char *text = args_nth(a, name, i), *eq = strchr(text, '=');
        if (!eq || eq == text)
            return cli_fail(CLI_USAGE, NULL, "--%s: '%s' is not NAME=VALUE", name, text);
        json_object_setn_new(to, text, (size_t)(eq - text), json_string(eq + 1));
    }
    return CLI_OK;
}

static int route_test(struct cli *c, const struct args *a)
{
    json_t *message = json_object(), *props = json_object(), *system = json_object(), *out = NULL;
    const char *body = args_get(a, "body");
    int rc = pairs(a, "property", props);
    if (!rc)
        rc = pairs(a, "system", system);
    if (!rc && !a->pos_nr == !args_has(a, "condition"))
        rc = cli_fail(CLI_USAGE, NULL, "either the NAME of a route or --condition is needed");
    json_object_set_new(message, "deviceId",
                        json_string(args_has(a, "device") ? args_get(a, "device") : "test"));
    if (args_has(a, "module"))
        json_object_set_new(message, "moduleId", json_string(args_get(a, "module")));
    if (body) { /* what is JSON is sent as such, as a device would that says so */
        json_t *v = json_loads(body, JSON_DECODE_ANY, NULL);
        if (v && !json_object_get(system, "contentType")) {
            json_object_set_new(system, "contentType", json_string("application/json"));
            json_object_set_new(system, "contentEncoding", json_string("utf-8"));
        }
        json_decref(v);
        json_object_set_new(message, "bodyText", json_string(body));
    }
    json_object_set_new(message, "properties", props);
    json_object_set_new(message, "systemProperties", system);
    json_t *ask = json_pack("{s:o}", "message", message);
    if (a->pos_nr)
        json_object_set_new(ask, "route", json_string(a->pos[0]));
    if (args_has(a, "condition"))
        json_object_set_new(ask, "condition", json_string(args_get(a, "condition")));
    if (args_has(a, "source"))
        json_object_set_new(ask, "source", json_string(args_get(a, "source")));
    if (!rc)
        rc = hub_open(c);
    if (rc) {
        json_decref(ask);
        return rc;
    }
    rc = hub_json(c, "POST", "/roost/v1/routes/test", ask, "trying the condition", &out);
    if (rc)
        return rc;
    bool matches = json_is_true(json_object_get(out, "matches"));
    cli_say(c, "%s\n", json_text(out, "result") ? json_text(out, "result") : "?");
    if (c->json)
        json_print(out);
    else
        json_decref(out);
    return matches ? CLI_OK : CLI_REFUSED;
}

/* ---- the tables --------------------------------------------------------------------------------------- */

static const struct opt set_opts[] = {
    { "source", 's', "SOURCE", "DeviceMessages (default), TwinChangeEvents, DeviceLifecycleEvents, ..." },
    { "condition", 'c', "TEXT", "which messages; default: all of the source" },
    { "endpoint", 'e', "NAME", "where they go; may be repeated; \"events\" is the built-in stream" },
    { "off", 0, NULL, "defined, but not used" },
    { 0 }
};
static const struct opt test_opts[] = { { "condition", 'c', "TEXT", "instead of a route's" },
                                        { "source", 's', "SOURCE", "of the message" },
                                        { "device", 'd', "ID", "who sent it; its twin is looked at" },
                                        { "module", 0, "ID", "of that device" },
                                        { "property", 'p', "NAME=VALUE", "application property" },
                                        { "system", 0, "NAME=VALUE", "system property, as contentType" },
                                        { "body", 'b', "TEXT", "of the message" },
                                        { 0 } };
static const struct opt endpoint_opts[] = { { "endpoint", 'e', "NAME", "whose messages; may be repeated" },
                                            { 0 } };
static const struct opt no_opts[] = { { 0 } };

const struct command route_commands[] = {
    { "route list", "", "Lists routes and the fallback", NULL, no_opts, 0, 0, route_list },
    { "route set", "NAME", "Defines a route, or changes it",
      "  roost route set hot --condition \"level = 'critical' AND \\$body.t > 60\" --endpoint alarms\n"
      "Conditions and sources: docs/routing.md",
      set_opts, 1, 1, route_set },
    { "route delete", "NAME...", "Deletes routes", NULL, no_opts, 1, 1000, route_delete },
    { "route fallback", "on|off", "What becomes of telemetry that no route takes", NULL, no_opts, 1, 1,
      route_fallback },
    { "route test", "[NAME]", "Tries a condition on a message that is not sent",
      "Exit code 0: it matches; 3: it does not.", test_opts, 0, 1, route_test },
    { 0 }
};
const struct command endpoint_commands[] = {
    { "endpoint list", "", "Lists endpoints, how far they are, and what is wrong", NULL, no_opts, 0, 0,
      endpoint_list },
    { "endpoint set", "NAME kind=KIND [MEMBER=VALUE]...", "Defines an endpoint, or changes it",
      "  roost endpoint set hot kind=stream\n"
      "  roost endpoint set alarms kind=webhook url=https://ops.example.org/in secret=@hook.key\n"
      "  roost endpoint set bridge kind=mqtt host=broker.example.org topic=roost/{device} ca=@ca.pem\n"
      "  roost endpoint set archive kind=file rotateBytes=100000000 keep=10\n"
      "The value @FILE is what is in the file. Members: docs/routing.md",
      no_opts, 2, 32, endpoint_set },
    { "endpoint delete", "NAME...", "Deletes endpoints, with what waits there", NULL, no_opts, 1, 1000,
      endpoint_delete },
    { 0 }
};
const struct command enrichment_commands[] = {
    { "enrichment list", "", "Lists what is added to messages", NULL, no_opts, 0, 0, enrichment_list },
    { "enrichment set", "NAME VALUE", "Adds a property to the messages of endpoints",
      "VALUE is a text, $iothubname, or a path such as $twin.tags.site", endpoint_opts, 2, 2,
      enrichment_set },
    { "enrichment delete", "NAME...", "Deletes enrichments", NULL, no_opts, 1, 1000, enrichment_delete },
    { 0 }
};
