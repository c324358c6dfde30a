/* cli/cmd_status.c - roost status: how the hub is. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

static const char *uptime_text(uint64_t s, char out[48])
{
    if (s >= 86400)
        snprintf(out, 48, "%llu d %llu h", (unsigned long long)(s / 86400),
                 (unsigned long long)(s / 3600 % 24));
    else if (s >= 3600)
        snprintf(out, 48, "%llu h %llu min", (unsigned long long)(s / 3600),
                 (unsigned long long)(s / 60 % 60));
    else
        snprintf(out, 48, "%llu min %llu s", (unsigned long long)(s / 60), (unsigned long long)(s % 60));
    return out;
}

static int status_run(struct cli *c, const struct args *a)
{
    json_t *doc = NULL, *v;
    char up[48];
    size_t i;
    (void)a;
    int rc = hub_json(c, "GET", "/roost/v1/status", NULL, "asking how the hub is", &doc);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
        return CLI_OK;
    }
    const json_t *d = json_object_get(doc, "devices");
    uint64_t pending = json_number(d, "pending", 0);
    printf("hub         %s, roostd %s, up %s\n", json_text(doc, "name") ? json_text(doc, "name") : "-",
           json_text(doc, "version") ? json_text(doc, "version") : "-",
           uptime_text(json_number(doc, "uptimeSeconds", 0), up));
    printf("devices     %llu enabled, %llu disabled, %llu waiting for approval\n",
           (unsigned long long)json_number(d, "enabled", 0),
           (unsigned long long)json_number(d, "disabled", 0), (unsigned long long)pending);
    printf("connected   %llu\n", (unsigned long long)json_number(doc, "connected", 0));
    printf("ports       https %u, mqtts %u, amqps %u\n", (unsigned)json_number(doc, "httpsPort", 0),
           (unsigned)json_number(doc, "mqttPort", 0), (unsigned)json_number(doc, "amqpPort", 0));
    const json_t *tls = json_object_get(doc, "tlsConnections");
    if (tls)
        printf("tls         %llu compact, %llu openssl, %llu kernel\n",
               (unsigned long long)json_number(tls, "compact", 0),
               (unsigned long long)json_number(tls, "openssl", 0),
               (unsigned long long)json_number(tls, "kernel", 0));
    const json_t *events = json_object_get(doc, "events");
    if (json_number(events, "waiting", 0) || json_number(events, "refused", 0))
        printf("events      %llu wait for the router; %llu changes were refused for want of room\n",
               (unsigned long long)json_number(events, "waiting", 0),
               (unsigned long long)json_number(events, "refused", 0));
    json_array_foreach(json_object_get(doc, "queryIndexes"), i, v)
    {
        if (!json_is_true(json_object_get(v, "ready")))
            printf("index       %s is being made: %llu %%\n", json_text(v, "path"),
                   (unsigned long long)json_number(v, "percent", 0));
    }
    uint64_t trust = json_number(doc, "trustVersion", 0);
    if (trust)
        printf("trust       version %llu\n", (unsigned long long)trust);
    else
        printf("trust       none: `roost keys init DIR`, `roost trust publish DIR`\n");
    printf("director    %s\n", json_text(doc, "directorKey") ? json_text(doc, "directorKey") : "-");
    if (pending)
        printf("next        `roost device list --status pending`, `roost device approve DEVICE`\n");
    json_array_foreach(json_object_get(doc, "warnings"), i, v)
    {
        if (json_is_string(v))
            printf("%swarning%s     %s\n", c->colour ? "\033[33m" : "", c->colour ? "\033[0m" : "",
                   json_string_value(v));
    }
    json_decref(doc);
    return CLI_OK;
}

const struct command status_commands[] = { { "status", "",
                                             "Shows how the hub is: devices, connections, trust, warnings",
                                             NULL, NULL, 0, 0, status_run },
                                           { 0 } };
