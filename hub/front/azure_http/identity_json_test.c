/* hub/front/azure_http/identity_json_test.c - documents of identities, byte by byte as jansson writes the
 * same members, with every character and with members absent. */
#include "hub/front/azure_http/identity_json.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static char odd[256]; /* every ASCII character but 0, and characters of two, three and four bytes */

static struct span odd_text(void)
{
    size_t n = 0;
    for (int c = 1; c < 0x80; c++)
        odd[n++] = (char)c;
    strcpy(odd + n, "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80");
    return span_str(odd);
}

static json_t *or_null(json_t *v, bool there)
{
    if (there)
        return v;
    json_decref(v);
    return json_null();
}
static json_t *text(struct span s)
{
    return or_null(json_span(s), s.n);
}
static json_t *key(struct span s)
{
    return or_null(json_base64(s), s.n);
}
static json_t *time_of(uint64_t ms)
{
    return ms ? json_time(ms) : json_string("0001-01-01T00:00:00Z");
}
static json_t *etag(uint64_t counter)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)counter);
    return json_base64(span_str(digits));
}
static json_t *auth(unsigned kind, struct span k1, struct span k2, struct span t1, struct span t2)
{
    static const char *const names[] = { "sas", "selfSigned", "certificateAuthority", "none" };
    return json_pack("{s:{s:o,s:o},s:{s:o,s:o},s:s}", "symmetricKey", "primaryKey", key(k1), "secondaryKey",
                     key(k2), "x509Thumbprint", "primaryThumbprint", text(t1), "secondaryThumbprint",
                     text(t2), "type", names[kind]);
}

static json_t *device(const struct device_row *d, const struct identity_seen *s)
{
    json_t *o =
        json_pack("{s:o,s:o,s:o,s:s,s:s,s:o,s:o,s:o,s:o,s:I,s:o,s:{s:b}}", "deviceId", json_span(d->id),
                  "generationId", json_span(d->generation), "etag", etag(d->etag), "connectionState",
                  s->connected ? "Connected" : "Disconnected", "status",
                  d->status == DEVICE_ENABLED ? "enabled" : "disabled", "statusReason",
                  d->status == DEVICE_PENDING ? json_string("waits for approval") : text(d->status_reason),
                  "connectionStateUpdatedTime", time_of(s->connected_changed_ms), "statusUpdatedTime",
                  time_of(d->status_updated_ms), "lastActivityTime", time_of(s->activity_ms),
                  "cloudToDeviceMessageCount", (json_int_t)s->waiting, "authentication",
                  auth(d->auth, d->key1, d->key2, d->thumb1, d->thumb2), "capabilities", "iotEdge", d->edge);
    assert_non_null(o);
    if (d->scope.n)
        json_put(o, "deviceScope", json_span(d->scope));
    if (d->parent_scope.n)
        json_put(o, "parentScopes", json_pack("[o]", json_span(d->parent_scope)));
    return o;
}

static json_t *module(const struct module_row *m, const struct identity_seen *s)
{
    json_t *o = json_pack("{s:o,s:o,s:o,s:o,s:o,s:s,s:o,s:o,s:I,s:o}", "moduleId", json_span(m->id),
                          "managedBy", text(m->managed_by), "deviceId", json_span(m->device), "generationId",
                          json_span(m->generation), "etag", etag(m->etag), "connectionState",
                          s->connected ? "Connected" : "Disconnected", "connectionStateUpdatedTime",
                          time_of(s->connected_changed_ms), "lastActivityTime", time_of(s->activity_ms),
                          "cloudToDeviceMessageCount", (json_int_t)s->waiting, "authentication",
                          auth(m->auth, m->key1, m->key2, m->thumb1, m->thumb2));
    assert_non_null(o);
    return o;
}

/* Takes want, an array. */
static void same(struct fleet_array *list, json_t *want)
{
    struct span have = fleet_array_end(list);
    char *dump = json_dumps(want, JSON_COMPACT);
    assert_non_null(dump);
    assert_int_equal(have.n, strlen(dump));
    assert_memory_equal(have.p, dump, have.n);
    free(dump);
    json_decref(want);
}

static const struct identity_seen unseen, there = { true, 1790000000123, 1790000001000, 53 };

static void devices_as_jansson_writes_them(void **state)
{
    const struct span s = odd_text();
    const struct device_row rows[] = {
        { .id = SPAN("d1"), .generation = SPAN("637"), .etag = 1 },
        { .id = s,
          .generation = s,
          .etag = UINT64_MAX,
          .status = DEVICE_DISABLED,
          .status_reason = s,
          .status_updated_ms = 1,
          .auth = AUTH_SELF_SIGNED,
          .key1 = SPAN("\x00\xff"),
          .key2 = SPAN("k"),
          .thumb1 = SPAN("AB"),
          .thumb2 = s,
          .edge = true,
          .scope = s,
          .parent_scope = s },
        { .id = SPAN("p"), .status = DEVICE_PENDING, .status_reason = SPAN("unseen"), .auth = AUTH_CA },
        { .id = SPAN("g"),
          .auth = AUTH_NONE,
          .key1 = SPAN("abc"),
          .parent_scope = SPAN("ms-azure-iot-edge://x") },
    };
    const size_t nr = sizeof rows / sizeof rows[0];
    struct arena a;
    (void)state;
    for (size_t first = 0; first <= nr; first++) { /* lists of every length */
        arena_init(&a, JOB_ARENA_MAX);
        struct fleet_array list = { .a = &a };
        json_t *want = json_array();
        for (size_t i = first; i < nr; i++) {
            const struct identity_seen *seen = i % 2 ? &there : &unseen;
            assert_int_equal(azure_device_add(&list, &rows[i], seen), ERR_OK);
            json_array_append_new(want, device(&rows[i], seen));
        }
        same(&list, want);
        arena_fini(&a);
    }
}

static void modules_as_jansson_writes_them(void **state)
{
    const struct span s = odd_text();
    const struct module_row rows[] = {
        { .device = SPAN("d1"), .id = SPAN("m"), .generation = SPAN("637"), .etag = 7 },
        { .device = s,
          .id = s,
          .generation = s,
          .managed_by = s,
          .etag = UINT64_MAX,
          .auth = AUTH_SELF_SIGNED,
          .key1 = SPAN("\x00\xff\x10"),
          .thumb2 = s },
        { .device = SPAN("d1"), .id = SPAN("$edgeHub"), .managed_by = SPAN("iotEdge"), .auth = AUTH_NONE },
    };
    struct arena a;
    (void)state;
    arena_init(&a, JOB_ARENA_MAX);
    struct fleet_array list = { .a = &a };
    json_t *want = json_array();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct identity_seen *seen = i % 2 ? &there : &unseen;
        assert_int_equal(azure_module_add(&list, &rows[i], seen), ERR_OK);
        json_array_append_new(want, module(&rows[i], seen));
    }
    same(&list, want);
    arena_fini(&a);
}

/* Wherever the room ends, what is there stays whole, and the end has its place. */
static void a_list_that_grows_at_every_length(void **state)
{
    struct device_row d = { .generation = SPAN("g"), .etag = 1 };
    struct arena a;
    (void)state;
    (void)odd_text();
    for (size_t n = 1; n < 128; n++) {
        arena_init(&a, JOB_ARENA_MAX);
        struct fleet_array list = { .a = &a };
        json_t *want = json_array();
        for (size_t i = 0; i < 16; i++) {
            d.id = span_of(odd, i ? n : 127 - n);
            assert_int_equal(azure_device_add(&list, &d, &unseen), ERR_OK);
            json_array_append_new(want, device(&d, &unseen));
        }
        same(&list, want);
        arena_fini(&a);
    }
    arena_init(&a, 6000); /* 4096 fit, 8192 do not */
    struct fleet_array list = { .a = &a };
    enum err e = ERR_OK;
    while (!e)
        e = azure_device_add(&list, &d, &unseen);
    assert_int_equal(e, ERR_NOMEM);
    assert_true(list.nr > 4);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_as_jansson_writes_them),
        cmocka_unit_test(modules_as_jansson_writes_them),
        cmocka_unit_test(a_list_that_grows_at_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
