/* hub/front/mqtt/identities_test.c - who else signs in: modules beside their device, and devices with a
 * certificate. */
#include "hub/domain/identity/authority.h"
#include "hub/domain/identity/identity.h"
#include "tests/fake/certificate_fixture.h"
#include "tests/fake/mqtt_fixture.h"

static enum err put_module(struct store_tx *tx, void *ctx)
{
    return tx_module_put(tx, ctx, 0, NULL);
}
static struct module_row module_m(void)
{
    return (struct module_row){ .device = SPAN("d1"),
                                .id = SPAN("m"),
                                .key1 = FIXTURE_KEY(fixture_key1),
                                .key2 = FIXTURE_KEY(fixture_key2),
                                .generation = SPAN("77") };
}
static struct hello hello_of_module(void)
{
    struct hello h = hello_of("d1/m");
    h.resource = "hub.example.net/devices/d1/modules/m";
    return h;
}

static void test_a_module_beside_its_device(void **state)
{
    struct module_row m = module_m();
    (void)state;
    assert_int_equal(fixture_tx(&fx, put_module, &m), ERR_OK);
    struct conn *d = online("d1");
    struct hello h = hello_of_module();
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    publish(c, "devices/d1/modules/m/messages/events/$.on=out1&a=b", SPAN("x"), 1, 1);
    expect_id(c, MQTT_PUBACK, 1);
    assert_int_equal(stored("d1"), 1);
    assert_true(span_eq(last.module, SPAN("m")));
    assert_true(span_eq(last.generation, SPAN("77")));
    assert_int_equal(last.auth, MESSAGE_AUTH_MODULE_SAS);
    publish(d, "devices/d1/messages/events/", SPAN("y"), 1, 2);
    expect_id(d, MQTT_PUBACK, 2);
    assert_int_equal(stored("d1"), 2);
    assert_int_equal(last.module.n, 0);
    /* a newer connection of the module takes over from the older one, not from the device */
    struct conn *again = dial(&h);
    expect_connack(again, true, 0);
    expect_closed(c, CONN_CLOSE_TAKEOVER);
    assert_false(d->closed);
    publish(again, "devices/d1/messages/events/", SPAN("not mine"), 1, 3);
    expect_closed(again, CONN_CLOSE_PROTO);
    assert_false(d->closed);
    fake_drop(c);
    fake_drop(again);
    fake_drop(d);
}

static void test_messages_for_a_module(void **state)
{
    struct module_row row = module_m();
    (void)state;
    assert_int_equal(fixture_tx(&fx, put_module, &row), ERR_OK);
    assert_int_equal(send_down("d1/none", "x"), ERR_NOTFOUND);
    assert_int_equal(send_down("d1/m", "before"), ERR_OK);
    assert_int_equal(send_down("d1", "for the device"), ERR_OK);
    struct hello h = hello_of_module();
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    subscribe(c, "devices/d1/modules/m/#", 1, 1);
    struct mqtt_publish m = expect_message(c, "before");
    assert_true(span_starts(m.topic, SPAN("devices/d1/modules/m/messages/devicebound/%24.mid=mid")));
    uint8_t mem[256];
    struct wr w = { mem, sizeof mem, 0 };
    struct bag_item item;
    assert_int_equal(bag_find(span_skip(m.topic, strlen("devices/d1/modules/m/messages/devicebound/")),
                              SPAN("$.to"), &w, &item),
                     ERR_OK);
    assert_true(span_eq(item.value, SPAN("/devices/d1/modules/m/messages/devicebound")));
    puback(c, m.packet_id);
    assert_int_equal(send_down("d1/m", "while connected"), ERR_OK);
    m = expect_message(c, "while connected");
    puback(c, m.packet_id);
    settle();
    assert_int_equal(queued("d1/m"), 0);
    assert_int_equal(queued("d1"), 1);
    fake_drop(c);
}

/* Its queue, not that of its device. */
static void test_a_clean_session_of_a_module_drops_its_own(void **state)
{
    struct module_row row = module_m();
    (void)state;
    assert_int_equal(fixture_tx(&fx, put_module, &row), ERR_OK);
    assert_int_equal(send_down("d1/m", "of the module"), ERR_OK);
    assert_int_equal(send_down("d1", "of the device"), ERR_OK);
    fx.hub.settings.c2d_clean_discards = true;
    struct hello h = hello_of_module();
    h.clean = true;
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    subscribe(c, "devices/d1/modules/m/#", 1, 1);
    settle();
    assert_int_equal(c->out_len, 0);
    assert_int_equal(queued("d1/m"), 0);
    assert_int_equal(queued("d1"), 1);
    fake_drop(c);
}

static void test_a_module_leaves_with_its_device(void **state)
{
    struct module_row m = module_m();
    (void)state;
    assert_int_equal(fixture_tx(&fx, put_module, &m), ERR_OK);
    struct hello h = hello_of_module();
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    fixture_device(&fx, "d1", DEVICE_DISABLED);
    assert_true(bus_wake(fx.hub.bus, SPAN("d1/m"), BUS_WAKE_IDENTITY));
    expect_closed(c, CONN_CLOSE_AUTH);
    fake_drop(c);
    c = dial(&h);
    expect_connack(c, false, MQTT_CONNACK_REFUSED);
    fake_drop(c);
}

/* ---- certificates ------------------------------------------------------------------------------------ */

static void put_self_signed(const char *id, const char *cert)
{
    uint8_t hash[SHA256_LEN], hex[65];
    struct wr w = { hex, sizeof hex, 0 };
    struct device_row r = fixture_row(id);
    struct sha256 h;
    port_crypto.sha256_init(&h);
    port_crypto.sha256_update(&h, span_str(cert));
    port_crypto.sha256_final(&h, hash);
    hex_encode(&w, span_of(hash, sizeof hash));
    r.auth = AUTH_SELF_SIGNED;
    r.key1 = r.key2 = SPAN_NONE;
    r.thumb2 = wr_span(&w);
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &r), ERR_OK);
}

static void test_a_certificate_signs_in(void **state)
{
    (void)state;
    put_self_signed("x1", "what x1 sends in the handshake");
    fake_peer_leaf = SPAN("what x1 sends in the handshake");
    struct hello h = hello_of("x1");
    h.no_password = true;
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    publish(c, "devices/x1/messages/events/", SPAN("x"), 1, 1);
    expect_id(c, MQTT_PUBACK, 1);
    assert_int_equal(stored("x1"), 1);
    assert_int_equal(last.auth, MESSAGE_AUTH_DEVICE_X509);
    fake_drop(c);

    h.no_password = false; /* a token is what counts, and it is not for this device */
    c = dial(&h);
    expect_connack(c, false, MQTT_CONNACK_REFUSED);
    expect_closed(c, CONN_CLOSE_AUTH);
    fake_drop(c);
    h = hello_of("d1"); /* has keys */
    h.no_password = true;
    c = dial(&h);
    expect_connack(c, false, MQTT_CONNACK_REFUSED);
    fake_drop(c);
    h = hello_of("x1");
    h.no_password = true;
    fake_peer_leaf = SPAN("another certificate");
    c = dial(&h);
    expect_connack(c, false, MQTT_CONNACK_REFUSED);
    fake_drop(c);
    fake_peer_leaf = SPAN_NONE;
    c = dial(&h);
    expect_connack(c, false, MQTT_CONNACK_REFUSED);
    fake_drop(c);
}

/* ---- what proved it is taken away --------------------------------------------------------------------- */

static void put_device(const struct device_row *r)
{
    struct device_row copy = *r;
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &copy), ERR_OK);
    identity_announce(&fx.hub, r->id);
}

static void test_another_key_ends_the_session(void **state)
{
    static const uint8_t fresh[32] = "another-key-another-key-another-";
    (void)state;
    struct device_row r = fixture_row("d1");
    struct hello with_second = hello_of("d2");
    with_second.key = fixture_key2;
    struct conn *c = online("d1"), *d = dial(&with_second);
    expect_connack(d, false, 0);
    r.key2 = FIXTURE_KEY(fresh); /* not the one it used */
    put_device(&r);
    r.id = SPAN("d2");
    put_device(&r);
    expect_closed(d, CONN_CLOSE_AUTH);
    publish(c, "devices/d1/messages/events/", SPAN("x"), 1, 1);
    expect_id(c, MQTT_PUBACK, 1);
    r.id = SPAN("d1");
    r.key1 = FIXTURE_KEY(fresh);
    put_device(&r);
    expect_closed(c, CONN_CLOSE_AUTH);
    fake_drop(c);
    fake_drop(d);
    c = online("d2"); /* with the key that stayed */
    fake_drop(c);
}

static void test_another_thumbprint_ends_the_session(void **state)
{
    (void)state;
    put_self_signed("x1", "first");
    fake_peer_leaf = SPAN("first");
    struct hello h = hello_of("x1");
    h.no_password = true;
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    put_self_signed("x1", "second");
    identity_announce(&fx.hub, SPAN("x1"));
    expect_closed(c, CONN_CLOSE_AUTH);
    fake_drop(c);
    fake_peer_leaf = SPAN_NONE;
}

struct authority_step {
    const char *name;
    const struct made *made; /* NULL: removed */
};
static enum err authority_run(struct store_tx *tx, void *ctx)
{
    const struct authority_step *s = ctx;
    struct ca_row r = { .name = span_str(s->name) };
    if (!s->made)
        return tx_ca_delete(tx, r.name);
    r.der = der(s->made);
    return tx_ca_put(tx, &r, 0, NULL);
}
static void authority(const char *name, const struct made *made)
{
    struct authority_step s = { name, made };
    assert_int_equal(fixture_tx(&fx, authority_run, &s), ERR_OK);
    authority_announce(&fx.hub);
}

static void test_an_authority_that_goes_ends_its_sessions(void **state)
{
    struct made root, other, leaf, far;
    (void)state;
    make(&root, "plant", NULL, true);
    make(&other, "works", NULL, true);
    make(&leaf, "c1", &root, false);
    make(&far, "c2", &other, false);
    authority("plant", &root);
    authority("works", &other);
    struct device_row r = fixture_row("c1");
    r.auth = AUTH_CA;
    r.key1 = r.key2 = SPAN_NONE;
    put_device(&r);
    r.id = SPAN("c2");
    put_device(&r);
    struct hello h1 = hello_of("c1"), h2 = hello_of("c2");
    h1.no_password = h2.no_password = true;
    fake_peer_leaf = der(&leaf);
    struct conn *c = dial(&h1);
    expect_connack(c, false, 0);
    fake_peer_leaf = der(&far);
    struct conn *d = dial(&h2), *e = online("d1");
    expect_connack(d, false, 0);
    authority("plant", NULL);
    expect_closed(c, CONN_CLOSE_AUTH);
    publish(d, "devices/c2/messages/events/", SPAN("x"), 1, 1);
    expect_id(d, MQTT_PUBACK, 1);
    publish(e, "devices/d1/messages/events/", SPAN("x"), 1, 1);
    expect_id(e, MQTT_PUBACK, 1);
    authority("works", &root); /* replaced under its name: that of c1 counts again */
    expect_closed(d, CONN_CLOSE_AUTH);
    fake_drop(c);
    fake_drop(d);
    fake_drop(e);
    fake_peer_leaf = der(&leaf);
    c = dial(&h1);
    expect_connack(c, true, 0);
    fake_drop(c);
    fake_peer_leaf = SPAN_NONE;
    made_free(&root);
    made_free(&other);
    made_free(&leaf);
    made_free(&far);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_module_beside_its_device),
        T(test_messages_for_a_module),
        T(test_a_clean_session_of_a_module_drops_its_own),
        T(test_a_module_leaves_with_its_device),
        T(test_a_certificate_signs_in),
        T(test_another_key_ends_the_session),
        T(test_another_thumbprint_ends_the_session),
        T(test_an_authority_that_goes_ends_its_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
