/* tests/fake/fleet_fixture.h - the sample fleet of the query language (tests/vectors/query-fleet.json) in a
 * store, as it stands: versions, connections, configurations. After tests/fake/hub_fixture.h, once in a
 * program. */
#ifndef ROOST_TESTS_FAKE_FLEET_FIXTURE_H
#define ROOST_TESTS_FAKE_FLEET_FIXTURE_H

#include "tests/fake/hub_fixture.h"

#include <jansson.h>

static json_t *fleet_json; /* whole */

static inline json_t *fleet_load(const char *name)
{
    char path[96];
    json_error_t err;
    snprintf(path, sizeof path, "tests/vectors/query-%s.json", name);
    json_t *v = json_load_file(path, 0, &err);
    assert(v);
    return v;
}

static inline struct span fleet_text(const json_t *o, const char *name)
{
    const char *z = json_string_value(json_object_get(o, name));
    return span_str(z ? z : "");
}

static inline uint64_t fleet_time(const json_t *o, const char *name)
{
    uint64_t ms = 0;
    struct span s = fleet_text(o, name);
    if (span_starts(s, SPAN("0001")) || iso8601_decode(s, &ms))
        return 0;
    return ms;
}

/* A section's text without its $version, which is returned beside it. The caller frees *text. */
static inline uint64_t fleet_section(const json_t *o, const char *name, char **text)
{
    json_t *s = json_deep_copy(json_object_get(o, name));
    uint64_t version = (uint64_t)json_integer_value(json_object_get(s, "$version"));
    json_object_del(s, "$version");
    *text = json_dumps(s, JSON_COMPACT);
    json_decref(s);
    return version;
}

static inline uint64_t fleet_etag(const json_t *o) /* of a twin: base64 of eight bytes */
{
    uint8_t raw[8];
    size_t n;
    uint64_t v = 0;
    assert(base64_decode(fleet_text(o, "etag"), raw, sizeof raw, &n) == ERR_OK && n == 8);
    for (size_t i = 0; i < n; i++)
        v = v << 8 | raw[i];
    return v;
}

static inline enum err fleet_put_twin(struct store_tx *tx, const json_t *o, struct span id)
{
    struct twin_row r;
    char *tags, *desired, *reported, *conf;
    const json_t *props = json_object_get(o, "properties");
    enum err e = tx_twin_get(tx, id, &r);
    if (e)
        return e;
    (void)fleet_section(o, "tags", &tags);
    (void)fleet_section(o, "configurations", &conf);
    r.desired_version = fleet_section(props, "desired", &desired);
    r.reported_version = fleet_section(props, "reported", &reported);
    r.version = (uint64_t)json_integer_value(json_object_get(o, "version"));
    r.etag = fleet_etag(o);
    r.tags = span_str(tags);
    r.desired = span_str(desired);
    r.reported = span_str(reported);
    r.configurations = span_str(conf);
    e = tx_twin_put(tx, &r);
    if (!e)
        e = tx_twin_set_model(tx, id, fleet_text(o, "modelId"));
    free(tags);
    free(desired);
    free(reported);
    free(conf);
    struct report_row report = { .device = id,
                                 .connected = span_eq(fleet_text(o, "connectionState"), SPAN("Connected")),
                                 .activity_ms = fleet_time(o, "lastActivityTime") };
    return e ? e : tx_report_put(tx, &report);
}

static inline uint8_t fleet_auth(const json_t *o)
{
    struct span s = fleet_text(o, "authenticationType");
    return span_eq(s, SPAN("sas")) ? AUTH_SAS : span_eq(s, SPAN("none")) ? AUTH_NONE : AUTH_SELF_SIGNED;
}

static inline enum err fleet_put_device(struct store_tx *tx, const json_t *o)
{
    const json_t *scopes = json_object_get(o, "parentScopes");
    struct device_row d = {
        .id = fleet_text(o, "deviceId"),
        .status = span_eq(fleet_text(o, "status"), SPAN("disabled")) ? DEVICE_DISABLED : DEVICE_ENABLED,
        .generation = SPAN("g"),
        .origin = SPAN("operator"),
        .product = SPAN(""),
        .auth = fleet_auth(o),
        .thumb1 = fleet_text(json_object_get(o, "x509Thumbprint"), "primaryThumbprint"),
        .status_reason = fleet_text(o, "statusReason"),
        .status_updated_ms = fleet_time(o, "statusUpdateTime"),
        .edge = json_is_true(json_object_get(json_object_get(o, "capabilities"), "iotEdge")),
        .scope = fleet_text(o, "deviceScope"),
        .parent_scope = span_str(scopes ? json_string_value(json_array_get(scopes, 0)) : "")
    };
    enum err e = tx_device_put(tx, &d, UINT64_MAX, NULL);
    return e ? e : fleet_put_twin(tx, o, d.id);
}

static inline enum err fleet_put_module(struct store_tx *tx, const json_t *o)
{
    char id[300];
    struct module_row m = { .device = fleet_text(o, "deviceId"),
                            .id = fleet_text(o, "moduleId"),
                            .managed_by = SPAN(""),
                            .generation = SPAN("g"),
                            .auth = fleet_auth(o) };
    enum err e = tx_module_put(tx, &m, UINT64_MAX, NULL);
    snprintf(id, sizeof id, "%.*s/%.*s", (int)m.device.n, (const char *)m.device.p, (int)m.id.n,
             (const char *)m.id.p);
    return e ? e : fleet_put_twin(tx, o, span_str(id));
}

/* For fixture_tx. */
static inline enum err fleet_put(struct store_tx *tx, void *ctx)
{
    size_t i;
    json_t *o;
    enum err e = ERR_OK;
    (void)ctx;
    json_array_foreach(json_object_get(fleet_json, "devices"), i, o) if (!e) e = fleet_put_device(tx, o);
    json_array_foreach(json_object_get(fleet_json, "modules"), i, o) if (!e) e = fleet_put_module(tx, o);
    return e;
}

#endif
