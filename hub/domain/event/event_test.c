/* hub/domain/event/event_test.c - events: their exact bodies and properties, that they are durable with the
 * change and gone with a change that is undone, and that nothing is written when nobody wants them. */
#include "tests/fake/hub_fixture.h"

#include "hub/domain/event/event.h"
#include "hub/domain/identity/identity_write.h"
#include "hub/domain/identity/presence.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above */
#include <cmocka.h>

static struct fixture fx;
static struct event_out out;
static unsigned woken;
static struct mailbox bus_mail;

static void on_wake(void *ctx)
{
    (void)ctx;
    woken++;
}
static void on_bus(void *ctx, struct bus_addr to, uint32_t what)
{
    (void)ctx, (void)to, (void)what;
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    atomic_init(&out.wanted, 0);
    out.wake = on_wake;
    fx.hub.events = &out;
    woken = 0;
    assert(mailbox_init(&bus_mail) == ERR_OK);
    bus_register(fx.hub.bus, 0, &bus_mail, on_bus, NULL);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    mailbox_fini(&bus_mail);
    return 0;
}

/* ---- what is in the outbox -------------------------------------------------------------------------- */

struct seen {
    unsigned nr;
    uint8_t source;
    char device[140], module[140], schema[64], op[64], type[64], body[4096];
    char hub_name[32], time[32], user[32];
    bool correlated;
};

static void keep(char *to, size_t cap, struct span s)
{
    snprintf(to, cap, "%.*s", (int)s.n, s.n ? (const char *)s.p : "");
}

static enum err see(void *ctx, uint64_t seq, struct span record)
{
    struct seen *s = ctx;
    struct message m;
    struct message_prop p;
    (void)seq;
    assert_int_equal(message_decode(record, &m), ERR_OK);
    memset(s->module, 0, sizeof s->module);
    s->nr++;
    s->source = m.source;
    keep(s->device, sizeof s->device, m.device);
    keep(s->module, sizeof s->module, m.module);
    keep(s->type, sizeof s->type, m.system[BAG_CONTENT_TYPE]);
    keep(s->user, sizeof s->user, m.system[BAG_USER_ID]);
    keep(s->body, sizeof s->body, m.body);
    s->correlated = m.system[BAG_CORRELATION_ID].n == 36;
    assert_true(span_eq(m.system[BAG_CONTENT_ENCODING], SPAN("utf-8")));
    for (struct span at = m.props; message_prop_next(&at, &p);) {
        if (span_eq(p.name, SPAN("opType")))
            keep(s->op, sizeof s->op, p.value);
        else if (span_eq(p.name, SPAN("iothub-message-schema")))
            keep(s->schema, sizeof s->schema, p.value);
        else if (span_eq(p.name, SPAN("hubName")))
            keep(s->hub_name, sizeof s->hub_name, p.value);
        else if (span_eq(p.name, SPAN("operationTimestamp")))
            keep(s->time, sizeof s->time, p.value);
        else if (span_eq(p.name, SPAN("deviceId")))
            assert_true(span_eq(p.value, m.device));
        else
            assert_true(span_eq(p.name, SPAN("moduleId")) && span_eq(p.value, m.module));
    }
    return ERR_OK;
}
static enum err look(struct store_tx *tx, void *ctx)
{
    return tx_outbox_list(tx, 1000, see, ctx);
}
/* The newest event; all of them are counted. */
static struct seen outbox(void)
{
    struct seen s = { 0 };
    assert_int_equal(fixture_tx(&fx, look, &s), ERR_OK);
    return s;
}

/* ---- changes ---------------------------------------------------------------------------------------- */

struct change {
    const char *id, *body;
    enum { PATCH, PUT, REPORT, CREATE, DELETE, CREATE_MODULE, DELETE_MODULE, MODEL } what;
    bool fail; /* after all of it */
};
static enum err change_run(struct store_tx *tx, void *ctx)
{
    const struct change *c = ctx;
    struct arena a;
    struct twin_patch p;
    struct twin_fault f;
    struct twin t;
    struct device_row d;
    struct module_row m;
    enum identity_fault fault;
    struct identity_spec spec = { .id = span_str(c->id) };
    struct module_spec ms = { .device = span_str(c->id), .id = SPAN("m1") };
    const struct twin_if any = { 0 };
    enum err e = ERR_OK;
    arena_init(&a, 1 << 20);
    if (c->what == CREATE)
        e = identity_write(&fx.hub, tx, &a, &spec, IDENTITY_CREATE, 0, &d, &fault);
    else if (c->what == DELETE)
        e = identity_delete(&fx.hub, tx, spec.id, 0, &fault);
    else if (c->what == CREATE_MODULE)
        e = module_write(&fx.hub, tx, &a, &ms, IDENTITY_CREATE, 0, &m, &fault);
    else if (c->what == DELETE_MODULE)
        e = module_delete(&fx.hub, tx, ms.device, ms.id, 0, &fault);
    else if (c->what == MODEL)
        e = twin_set_model(tx, spec.id, span_str(c->body));
    else {
        e = c->what == REPORT ? twin_reported_patch(&a, span_str(c->body), &p, &f)
                              : twin_service_patch(&a, span_str(c->body), c->what == PUT, &p, &f);
        if (!e)
            e = twin_update(&fx.hub, tx, &a, spec.id, &p, &any, &t, &f);
    }
    arena_fini(&a);
    return e ? e : c->fail ? ERR_DENIED : ERR_OK;
}
static void change(struct change c)
{
    assert_int_equal(fixture_tx(&fx, change_run, &c), c.fail ? ERR_DENIED : ERR_OK);
}
static void want(enum message_source s)
{
    atomic_store(&out.wanted, 1u << s);
}
/* Times in a body differ: every one becomes T. */
static const char *timeless(char *body)
{
    char *to = body;
    for (char *at = body; *at;) {
        size_t n =
            at[0] == '"' && at[1] == '2' && at[2] == '0' && at[5] == '-' ? strcspn(at + 1, "\"") + 2 : 0;
        if (n) {
            *to++ = 'T';
            at += n;
        } else {
            *to++ = *at++;
        }
    }
    *to = 0;
    return body;
}

/* ---- tests ------------------------------------------------------------------------------------------ */

static void test_nothing_is_written_when_nobody_wants_it(void **state)
{
    (void)state;
    change((struct change){ .id = "d1", .what = CREATE });
    change((struct change){ .id = "d1", .what = PATCH, .body = "{\"tags\":{\"a\":1}}" });
    fx.hub.events = NULL;
    change((struct change){ .id = "d1", .what = PATCH, .body = "{\"tags\":{\"a\":2}}" });
    assert_int_equal(outbox().nr, 0);
    assert_int_equal(woken, 0);
}

static void test_a_device_comes_and_goes(void **state)
{
    (void)state;
    want(MESSAGE_SOURCE_LIFECYCLE);
    change((struct change){ .id = "d1", .what = CREATE });
    struct seen s = outbox();
    assert_int_equal(s.nr, 1);
    assert_int_equal(s.source, MESSAGE_SOURCE_LIFECYCLE);
    assert_string_equal(s.device, "d1");
    assert_string_equal(s.op, "createDeviceIdentity");
    assert_string_equal(s.schema, "deviceLifecycleNotification");
    assert_string_equal(s.hub_name, "hub");
    assert_string_equal(s.user, "hub");
    assert_string_equal(s.type, "application/json");
    assert_int_equal(strlen(s.time), 28);
    assert_true(s.correlated);
    const char *fresh = "{\"deviceId\":\"d1\",\"etag\":\"AAAAAAAAAAE=\",\"version\":2,\"properties\":"
                        "{\"desired\":{\"$metadata\":{\"$lastUpdated\":\"0001-01-01T00:00:00Z\","
                        "\"$lastUpdatedVersion\":1},\"$version\":1},"
                        "\"reported\":{\"$metadata\":{\"$lastUpdated\":\"0001-01-01T00:00:00Z\"},"
                        "\"$version\":1}}}";
    assert_string_equal(s.body, fresh);
    change((struct change){ .id = "d1", .what = CREATE_MODULE });
    s = outbox();
    assert_int_equal(s.nr, 2);
    assert_string_equal(s.module, "m1");
    assert_memory_equal(s.body, "{\"deviceId\":\"d1\",\"moduleId\":\"m1\",\"etag\"", 38);
    change((struct change){ .id = "d1", .what = DELETE_MODULE });
    s = outbox();
    assert_string_equal(s.op, "deleteDeviceIdentity");
    assert_string_equal(s.module, "m1");
    change((struct change){ .id = "d1", .what = CREATE_MODULE });
    change((struct change){ .id = "d1", .what = DELETE });
    s = outbox();
    assert_int_equal(s.nr, 6); /* of the module, then its own */
    assert_string_equal(s.op, "deleteDeviceIdentity");
    assert_string_equal(s.module, "");
    assert_string_equal(s.body, fresh);
    assert_int_equal(woken, 6);
}

static void test_an_event_is_undone_with_its_change(void **state)
{
    (void)state;
    want(MESSAGE_SOURCE_LIFECYCLE);
    change((struct change){ .id = "d1", .what = CREATE, .fail = true });
    assert_int_equal(outbox().nr, 0);
    assert_int_equal(woken, 0);
}

static void test_what_changed_in_a_twin(void **state)
{
    (void)state;
    change((struct change){ .id = "d1", .what = CREATE });
    want(MESSAGE_SOURCE_TWIN_CHANGE);
    change((struct change){ .id = "d1",
                            .what = PATCH,
                            .body = "{\"tags\":{\"site\":\"x\"},\"properties\":{\"desired\":"
                                    "{\"telemetryConfig\":{\"sendFrequency\":20}}}}" });
    struct seen s = outbox();
    assert_string_equal(s.op, "updateTwin");
    assert_string_equal(s.schema, "twinChangeNotification");
    assert_string_equal(timeless(s.body),
                        "{\"version\":3,\"tags\":{\"site\":\"x\"},\"properties\":{\"desired\":"
                        "{\"telemetryConfig\":{\"sendFrequency\":20},\"$metadata\":{\"$lastUpdated\":T,"
                        "\"$lastUpdatedVersion\":2,\"telemetryConfig\":{\"$lastUpdated\":T,"
                        "\"$lastUpdatedVersion\":2,\"sendFrequency\":{\"$lastUpdated\":T,"
                        "\"$lastUpdatedVersion\":2}}},\"$version\":2}}}");
    change((struct change){ .id = "d1", .what = REPORT, .body = "{\"t\":1.50,\"gone\":null}" });
    s = outbox();
    assert_string_equal(timeless(s.body),
                        "{\"version\":4,\"properties\":{\"reported\":{\"t\":1.50,\"gone\":null,"
                        "\"$metadata\":{\"$lastUpdated\":T,\"t\":{\"$lastUpdated\":T},"
                        "\"gone\":{\"$lastUpdated\":T}},\"$version\":2}}}");
    change((struct change){ .id = "d1", .what = PUT, .body = "{\"tags\":{\"site\":\"y\"}}" });
    s = outbox();
    assert_int_equal(s.nr, 3);
    assert_string_equal(s.op, "replaceTwin");
    assert_memory_equal(
        s.body, "{\"deviceId\":\"d1\",\"etag\":\"AAAAAAAAAAM=\",\"version\":5,\"tags\":{\"site\":\"y\"},",
        71);
}

static void test_a_digital_twin_changes(void **state)
{
    (void)state;
    change((struct change){ .id = "d1", .what = CREATE });
    want(MESSAGE_SOURCE_DIGITAL_TWIN);
    change((struct change){ .id = "d1", .what = REPORT, .body = "{\"t\":1}" });
    assert_int_equal(outbox().nr, 0); /* no model, no digital twin */
    change((struct change){ .id = "d1", .what = MODEL, .body = "dtmi:example:Thermostat;1" });
    change((struct change){ .id = "d1",
                            .what = REPORT,
                            .body =
                                "{\"t\":2,\"c/1\":{\"__t\":\"c\",\"x\":{\"value\":5,\"ac\":200,\"av\":1}},"
                                "\"u\":null}" });
    struct seen s = outbox();
    assert_int_equal(s.nr, 1);
    assert_string_equal(s.type, "application/json-patch+json");
    assert_string_equal(s.body, "[{\"op\":\"replace\",\"path\":\"/t\",\"value\":2},"
                                "{\"op\":\"add\",\"path\":\"/c~11/x\",\"value\":5},"
                                "{\"op\":\"remove\",\"path\":\"/u\"}]");
    change((struct change){ .id = "d1", .what = PATCH, .body = "{\"tags\":{\"a\":1}}" });
    assert_int_equal(outbox().nr, 1);
    change((struct change){ .id = "d1", .what = PATCH, .body = "{\"properties\":{\"desired\":{\"t\":9}}}" });
    assert_string_equal(outbox().body,
                        "[{\"op\":\"add\",\"path\":\"/$metadata/t/desiredValue\",\"value\":9}]");
}

static void test_connections_rise_in_number(void **state)
{
    struct presence p;
    struct bus_addr addr = { 0, 0, 1, 1 };
    char first[4096];
    (void)state;
    change((struct change){ .id = "d1", .what = CREATE });
    want(MESSAGE_SOURCE_CONNECTION);
    presence_init(&p, &fx.hub);
    assert_int_equal(bus_attach(fx.hub.bus, SPAN("d1"), addr), ERR_OK);
    presence_note(&p, SPAN("d1"), fixture_wall_ms());
    (void)presence_flush(&p);
    struct seen s = outbox();
    assert_int_equal(s.nr, 1);
    assert_string_equal(s.op, "deviceConnected");
    assert_string_equal(s.schema, "deviceConnectionStateNotification");
    assert_int_equal(strlen(s.body), strlen("{\"sequenceNumber\":\"\"}") + 64);
    strcpy(first, s.body);
    presence_note(&p, SPAN("d1"), fixture_wall_ms()); /* still there */
    (void)presence_flush(&p);
    assert_int_equal(outbox().nr, 1);
    bus_detach(fx.hub.bus, SPAN("d1"), addr);
    presence_note(&p, SPAN("d1"), fixture_wall_ms());
    (void)presence_flush(&p);
    s = outbox();
    assert_int_equal(s.nr, 2);
    assert_string_equal(s.op, "deviceDisconnected");
    assert_true(strcmp(s.body, first) > 0);
    presence_fini(&p);
}

static enum err begin_run(struct store_tx *tx, void *ctx)
{
    return tx_report_clear_connected(tx, *(const uint64_t *)ctx);
}
/* As when the hub crashed: nobody said goodbye, and it starts again. */
static void crash(uint64_t at_ms)
{
    assert_int_equal(fixture_tx(&fx, begin_run, &at_ms), ERR_OK);
}
static void come(struct presence *p, const char *id, bool here)
{
    struct bus_addr addr = { 0, 0, 1, 1 };
    if (here)
        assert_int_equal(bus_attach(fx.hub.bus, span_str(id), addr), ERR_OK);
    else
        bus_detach(fx.hub.bus, span_str(id), addr);
    presence_note(p, span_str(id), fixture_wall_ms());
    (void)presence_flush(p);
}

static _Atomic int left;
static void tell_left(void)
{
    left = LEFT_UNTOLD;
    presence_tell_left(&fx.hub, &left);
}

static void test_who_was_connected_at_a_crash_is_told_of(void **state)
{
    struct presence p;
    char many[24];
    (void)state;
    change((struct change){ .id = "d1", .what = CREATE });
    change((struct change){ .id = "d2", .what = CREATE });
    want(MESSAGE_SOURCE_CONNECTION);
    crash(fixture_wall_ms()); /* the first start */
    presence_init(&p, &fx.hub);
    come(&p, "d1", true);
    assert_int_equal(outbox().nr, 1);
    bus_detach(fx.hub.bus, SPAN("d1"), (struct bus_addr){ 0, 0, 1, 1 });
    crash(fixture_wall_ms());
    come(&p, "d1", true); /* it comes back first: both, in order */
    struct seen s = outbox();
    assert_int_equal(s.nr, 3);
    assert_string_equal(s.op, "deviceConnected");
    bus_detach(fx.hub.bus, SPAN("d1"), (struct bus_addr){ 0, 0, 1, 1 });
    crash(fixture_wall_ms());
    tell_left();
    s = outbox();
    assert_int_equal(s.nr, 4);
    assert_string_equal(s.op, "deviceDisconnected");
    come(&p, "d1", true);
    assert_int_equal(outbox().nr, 5); /* once is enough */
    come(&p, "d1", false);
    assert_int_equal(outbox().nr, 6);
    crash(fixture_wall_ms());
    tell_left(); /* nobody was there */
    assert_int_equal(outbox().nr, 6);
    for (unsigned i = 0; i < PRESENCE_LEFT_MAX + 10; i++) {
        snprintf(many, sizeof many, "many%u", i);
        change((struct change){ .id = many, .what = CREATE });
        assert_int_equal(bus_attach(fx.hub.bus, span_str(many), (struct bus_addr){ 0, 0, 1, 1 }), ERR_OK);
        (void)presence_note(&p, span_str(many), fixture_wall_ms());
    }
    (void)presence_flush(&p);
    assert_int_equal(outbox().nr, 6 + PRESENCE_LEFT_MAX + 10);
    crash(fixture_wall_ms());
    tell_left();
    for (unsigned i = 0; i < 1000 && outbox().nr < 6 + 2 * (PRESENCE_LEFT_MAX + 10); i++)
        continue; /* in several turns */
    assert_int_equal(outbox().nr, 6 + 2 * (PRESENCE_LEFT_MAX + 10));
    presence_fini(&p);
}

static enum err job_run(struct store_tx *tx, void *ctx)
{
    return event_job(&fx.hub, tx, ctx);
}
static void test_a_job_goes_on(void **state)
{
    (void)state;
    struct event_job j = { .device = SPAN("d1"),
                           .job_id = SPAN("job-1"),
                           .type = "scheduleUpdateTwin",
                           .status = "completed",
                           .started_ms = 1000,
                           .ended_ms = 2000 };
    want(MESSAGE_SOURCE_JOB);
    assert_int_equal(fixture_tx(&fx, job_run, &j), ERR_OK);
    struct seen s = outbox();
    assert_string_equal(s.op, "completed");
    assert_string_equal(s.schema, "deviceJobLifecycleNotification");
    assert_string_equal(s.body, "{\"jobId\":\"job-1\",\"deviceId\":\"d1\",\"jobType\":\"scheduleUpdateTwin\","
                                "\"startTimeUtc\":\"1970-01-01T00:00:01.0000000Z\","
                                "\"endTimeUtc\":\"1970-01-01T00:00:02.0000000Z\",\"status\":\"completed\"}");
}

/* ---- no room ---------------------------------------------------------------------------------------- */

static struct store_stats stats(void)
{
    struct store_stats s;
    store_get_stats(fx.hub.store, &s);
    return s;
}
static enum err drain(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return tx_outbox_delete(tx, UINT64_MAX);
}
static enum err twice_and_undone(struct store_tx *tx, void *ctx)
{
    struct change a = { .id = "t1", .what = CREATE }, b = { .id = "t2", .what = CREATE, .fail = true };
    (void)ctx;
    enum err e = change_run(tx, &a);
    return e ? e : tx_try(tx, change_run, &b) == ERR_DENIED ? ERR_OK : ERR_IO;
}
static enum err find_run(struct store_tx *tx, void *ctx)
{
    struct device_row d;
    return tx_device_get(tx, span_str(ctx), &d);
}

static void test_changes_without_room_for_their_events_are_refused(void **state)
{
    char id[24];
    unsigned made = 0;
    enum err e = ERR_OK;
    (void)state;
    want(MESSAGE_SOURCE_LIFECYCLE);
    change((struct change){ .id = "d1", .what = CREATE });
    change((struct change){ .id = "d1", .what = CREATE_MODULE });
    const uint64_t base = stats().outbox_bytes;
    assert_int_equal(stats().outbox_rows, 2);
    assert_int_equal(stats().outbox_limit, STORE_OUTBOX_BYTES);
    change((struct change){ .id = "d2", .what = CREATE, .fail = true });
    assert_int_equal(stats().outbox_rows, 2); /* what is undone does not count */
    assert_int_equal(stats().outbox_bytes, base);
    assert_int_equal(fixture_tx(&fx, twice_and_undone, NULL), ERR_OK);
    assert_int_equal(stats().outbox_rows, 3);

    store_outbox_limit(fx.hub.store, 16384);
    for (; !e && made < 1000; made += !e) {
        snprintf(id, sizeof id, "n%u", made);
        e = fixture_tx(&fx, change_run, &(struct change){ .id = id, .what = CREATE });
    }
    assert_int_equal(e, ERR_FULL);
    assert_true(made > 10);
    assert_int_equal(stats().outbox_rows, 3 + made);
    assert_true(stats().outbox_bytes >= 16384 && stats().outbox_bytes < 16384 + 2048);
    assert_int_equal(stats().outbox_refused, 1);
    assert_true(event_has_no_room(&fx.hub));
    assert_int_equal(fixture_tx(&fx, find_run, id), ERR_NOTFOUND); /* no change without its event */
    e = fixture_tx(&fx, change_run, &(struct change){ .id = "d1", .what = DELETE });
    assert_int_equal(e, ERR_FULL);
    /* What makes no event goes on. */
    change((struct change){ .id = "d1", .what = PATCH, .body = "{\"tags\":{\"a\":1}}" });

    /* It is there after the next start, and counted. */
    struct store_stats before = stats();
    store_close(fx.hub.store);
    assert_int_equal(store_sqlite_open(&fx.hub.store, fx.dir, 2), ERR_OK);
    assert_int_equal(stats().outbox_rows, before.outbox_rows);
    assert_int_equal(stats().outbox_bytes, before.outbox_bytes);
    store_outbox_limit(fx.hub.store, before.outbox_bytes + 1);
    /* One that begins with room has room for all it makes: of the module, and its own. */
    change((struct change){ .id = "d1", .what = DELETE });
    assert_int_equal(stats().outbox_rows, before.outbox_rows + 2);
    assert_true(event_has_no_room(&fx.hub));
    atomic_store(&out.wanted, 0); /* nobody wants them any more: no room is needed */
    change((struct change){ .id = "quiet", .what = CREATE });
    assert_false(event_has_no_room(&fx.hub));

    want(MESSAGE_SOURCE_LIFECYCLE);
    assert_int_equal(fixture_tx(&fx, drain, NULL), ERR_OK);
    assert_int_equal(stats().outbox_rows, 0);
    assert_int_equal(stats().outbox_bytes, 0);
    assert_false(event_should_wait(&fx.hub, UINT32_MAX));
    change((struct change){ .id = "later", .what = CREATE });
    assert_int_equal(outbox().nr, 1);
}

struct known {
    const char *id;
    bool connected;
};
static enum err known_run(struct store_tx *tx, void *ctx)
{
    struct known *k = ctx;
    struct report_row r = { 0 };
    enum err e = tx_report_get(tx, span_str(k->id), &r);
    k->connected = !e && r.connected;
    return e == ERR_NOTFOUND ? ERR_OK : e;
}
static bool is_known_connected(const char *id)
{
    struct known k = { .id = id };
    assert_int_equal(fixture_tx(&fx, known_run, &k), ERR_OK);
    return k.connected;
}

static void test_states_of_connections_wait_for_room(void **state)
{
    struct presence p;
    (void)state;
    change((struct change){ .id = "d1", .what = CREATE });
    change((struct change){ .id = "d2", .what = CREATE });
    want(MESSAGE_SOURCE_CONNECTION);
    crash(fixture_wall_ms());
    presence_init(&p, &fx.hub);
    come(&p, "d1", true);
    assert_int_equal(outbox().nr, 1);
    store_outbox_limit(fx.hub.store, stats().outbox_bytes); /* it is full */
    come(&p, "d2", true);
    come(&p, "d1", false);
    assert_true(presence_flush(&p)); /* there is something left to do */
    assert_int_equal(outbox().nr, 1);
    assert_false(is_known_connected("d2"));
    assert_int_equal(stats().outbox_refused, 0); /* they do not even ask */

    crash(fixture_wall_ms()); /* and so do those of an earlier start */
    left = LEFT_UNTOLD;
    presence_tell_left(&fx.hub, &left);
    assert_int_equal(left, LEFT_UNTOLD);
    assert_int_equal(fixture_tx(&fx, drain, NULL), ERR_OK);
    presence_tell_left(&fx.hub, &left);
    assert_int_equal(outbox().nr, 1); /* d1 */
    assert_int_equal(left, LEFT_TOLD);
    store_outbox_limit(fx.hub.store, 0);
    (void)presence_flush(&p);
    struct seen s = outbox();
    assert_int_equal(s.nr, 2); /* d1 had gone before: it is told once */
    assert_string_equal(s.device, "d2");
    assert_string_equal(s.op, "deviceConnected");
    assert_true(is_known_connected("d2"));
    presence_fini(&p);
}

/* ---- the rows behind it ----------------------------------------------------------------------------- */

static enum err rows_run(struct store_tx *tx, void *ctx)
{
    struct routing_row r = {
        .kind = ROUTING_ROUTE, .name = SPAN("Hot"), .spec = SPAN("{}"), .updated_ms = 5
    };
    struct seen s = { 0 };
    uint64_t seq = 0;
    (void)ctx;
    assert_int_equal(tx_routing_get(tx, ROUTING_ROUTE, SPAN("hot"), &r), ERR_NOTFOUND);
    assert_int_equal(tx_routing_put(tx, &r), ERR_OK);
    r.updated_ms = 9;
    r.spec = SPAN("{\"a\":1}");
    r.name = SPAN("hot");
    assert_int_equal(tx_routing_put(tx, &r), ERR_OK);
    assert_int_equal(tx_routing_get(tx, ROUTING_ROUTE, SPAN("HOT"), &r), ERR_OK);
    assert_int_equal(r.created_ms, 5);
    assert_int_equal(r.updated_ms, 9);
    assert_true(span_eq(r.spec, SPAN("{\"a\":1}")));
    assert_int_equal(tx_routing_get(tx, ROUTING_ENDPOINT, SPAN("hot"), &r), ERR_NOTFOUND);
    assert_int_equal(tx_routing_delete(tx, ROUTING_ROUTE, SPAN("hOt")), ERR_OK);
    assert_int_equal(tx_routing_delete(tx, ROUTING_ROUTE, SPAN("hot")), ERR_NOTFOUND);
    assert_int_equal(tx_cursor_get(tx, SPAN("x"), &seq), ERR_NOTFOUND);
    assert_int_equal(tx_cursor_put(tx, SPAN("x"), 7), ERR_OK);
    assert_int_equal(tx_cursor_put(tx, SPAN("x"), 8), ERR_OK);
    assert_int_equal(tx_cursor_get(tx, SPAN("x"), &seq), ERR_OK);
    assert_int_equal(seq, 8);
    assert_int_equal(tx_cursor_delete(tx, SPAN("x")), ERR_OK);
    assert_int_equal(tx_cursor_get(tx, SPAN("x"), &seq), ERR_NOTFOUND);
    assert_int_equal(tx_outbox_list(tx, 1, see, &s), ERR_OK);
    assert_int_equal(s.nr, 1);
    assert_int_equal(tx_outbox_delete(tx, UINT64_MAX), ERR_OK);
    assert_int_equal(tx_outbox_list(tx, 10, see, &s), ERR_OK);
    assert_int_equal(s.nr, 1);
    return ERR_OK;
}
static void test_rows_of_routing(void **state)
{
    (void)state;
    want(MESSAGE_SOURCE_LIFECYCLE);
    change((struct change){ .id = "d1", .what = CREATE });
    change((struct change){ .id = "d2", .what = CREATE });
    assert_int_equal(fixture_tx(&fx, rows_run, NULL), ERR_OK);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_nothing_is_written_when_nobody_wants_it),
        T(test_a_device_comes_and_goes),
        T(test_an_event_is_undone_with_its_change),
        T(test_what_changed_in_a_twin),
        T(test_a_digital_twin_changes),
        T(test_connections_rise_in_number),
        T(test_who_was_connected_at_a_crash_is_told_of),
        T(test_a_job_goes_on),
        T(test_changes_without_room_for_their_events_are_refused),
        T(test_states_of_connections_wait_for_room),
        T(test_rows_of_routing),
    };
#undef T
    return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
