/* device/world_test.h - a device and its hub in one process, for the engine's tests: flash that can lose
 * power, an engine, the scripted hub of hub_test.h, and MQTT between them. Time moves from deadline to
 * deadline. */
#ifndef ROOST_DEVICE_WORLD_TEST_H
#define ROOST_DEVICE_WORLD_TEST_H

#include "device/hub_test.h"

/* ---- the hub: MQTT ---------------------------------------------------------------------------------------
 */

static inline void hub_send(struct world *w, struct wr *o)
{
    for (size_t i = 0; i < o->len && !w->sim.dead; i++) /* a byte at a time */
        roost_dev_link_bytes(&w->d, span_of(o->p + i, 1), w->now_ms);
}

static inline void hub_packet(struct world *w, const struct mqtt_packet *p)
{
    uint8_t buf[512];
    struct wr o = { buf, sizeof buf, 0 };
    struct mqtt_connect c;
    struct mqtt_filters f;
    struct mqtt_publish m;
    struct topic_identity who = { span_str(w->id), SPAN_NONE };
    struct username u;
    struct topic t;
    uint8_t granted = 1;
    switch (p->type) {
    case MQTT_CONNECT:
        assert_int_equal(mqtt_connect_decode(p, &c), ERR_OK);
        w->connects++;
        if (w->forgets || w->connack) {
            mqtt_connack_encode(&o, false, w->connack ? w->connack : MQTT_CONNACK_REFUSED);
            break;
        }
        assert_int_equal(username_parse(c.client_id, c.username, &u), ERR_OK);
        assert_true(span_eq(u.host, span_str(w->host)));
        assert_true(span_eq(u.who.device, who.device));
        mqtt_connack_encode(&o, false, hub_token_ok(w, c.password) ? MQTT_CONNACK_OK : MQTT_CONNACK_REFUSED);
        w->link_up = hub_token_ok(w, c.password);
        break;
    case MQTT_SUBSCRIBE:
        assert_true(w->link_up);
        assert_int_equal(mqtt_subscribe_decode(p, &f), ERR_OK);
        mqtt_suback_encode(&o, f.packet_id, span_of(&granted, 1));
        w->subscribed = true;
        break;
    case MQTT_PUBLISH:
        assert_true(w->link_up);
        assert_int_equal(mqtt_publish_decode(p, &m), ERR_OK);
        assert_int_equal(topic_parse(m.topic, &who, &t), ERR_OK);
        assert_int_equal(t.kind, TOPIC_TELEMETRY);
        assert_int_equal(m.qos, 1);
        w->telemetry++;
        mqtt_id_encode(&o, MQTT_PUBACK, m.packet_id);
        break;
    case MQTT_PUBACK:
        w->acks++;
        w->c2d_len = 0;
        break;
    case MQTT_PINGREQ:
        mqtt_empty_encode(&o, MQTT_PINGRESP);
        break;
    case MQTT_DISCONNECT:
        w->link_up = false;
        break;
    default:
        fail();
    }
    hub_send(w, &o);
}

static inline void world_link_gone(struct world *w, enum roost_dev_result why)
{
    w->link_open = w->link_up = w->subscribed = w->c2d_sent = false;
    w->link_in_len = 0;
    roost_dev_link_closed(&w->d, why, w->now_ms);
}

static inline void world_link(struct world *w)
{
    struct roost_dev_link l;
    for (;;) {
        bool wanted = roost_dev_link(&w->d, &l);
        size_t n;
        struct mqtt_packet p;
        size_t used;
        if (!wanted) {
            if (w->link_open)
                world_link_gone(w, ROOST_DEV_DONE);
            return;
        }
        if (!w->link_open) {
            bool is_ours = span_eq(l.host, span_str(w->host));
            if (w->down || w->unreachable || w->link_down || !is_ours) {
                roost_dev_link_closed(&w->d, w->unreachable ? ROOST_DEV_UNREACHABLE : ROOST_DEV_REFUSED,
                                      w->now_ms);
                return;
            }
            assert_int_equal(l.port, 8883);
            w->link_open = true;
            roost_dev_link_opened(&w->d, w->now_ms);
        }
        if (w->down || w->unreachable || w->link_down) {
            world_link_gone(w, ROOST_DEV_UNREACHABLE);
            return;
        }
        n = roost_dev_link_take(&w->d, w->link_in + w->link_in_len, sizeof w->link_in - w->link_in_len);
        w->link_in_len += n;
        while (!w->sim.dead && w->link_in_len &&
               mqtt_packet_decode(span_of(w->link_in, w->link_in_len), 4096, &p, &used) == ERR_OK) {
            hub_packet(w, &p);
            w->link_in_len -= used;
            memmove(w->link_in, w->link_in + used, w->link_in_len);
        }
        if (w->subscribed && w->c2d_len && !w->c2d_sent) {
            uint8_t topic[256], buf[1024];
            struct wr t = { topic, sizeof topic, 0 }, o = { buf, sizeof buf, 0 };
            struct topic_identity who = { span_str(w->id), SPAN_NONE };
            struct mqtt_publish m = { .qos = 1, .packet_id = 9 };
            topic_c2d_encode(&t, &who, SPAN("a=b"));
            m.topic = wr_span(&t);
            m.payload = span_of(w->c2d, w->c2d_len);
            mqtt_publish_encode(&o, &m);
            w->c2d_sent = true;
            hub_send(w, &o);
            continue;
        }
        if (n == 0 || w->sim.dead)
            return;
    }
}

static inline void world_c2d(struct world *w, const char *text)
{
    w->c2d_len = strlen(text);
    w->c2d_sent = false;
    memcpy(w->c2d, text, w->c2d_len);
}

/* ---- the machine -----------------------------------------------------------------------------------------
 */

static inline const struct world_release *world_running(struct world *w)
{
    for (int i = 0; i < w->rel_nr; i++)
        if (w->boot.slot != BOOT_NO_SLOT &&
            memcmp(w->rel[i].id, w->boot.header.release_id, OBJECT_ID_LEN) == 0)
            return &w->rel[i];
    return NULL;
}

/* Whatever boots must be, byte for byte, an image that a release describes. */
static inline void world_check_image(struct world *w)
{
    const struct world_release *r = world_running(w);
    uint32_t addr;
    if (w->boot.slot == BOOT_NO_SLOT)
        return;
    assert_non_null(r);
    addr = slot_image_addr(&w->sim.base.geo, w->boot.slot);
    for (uint32_t i = 0; i < r->payload_len; i++)
        if (w->cells[addr + i] + r->payload[i] != 0xff) /* cells hold the complement */
            fail_msg("byte %u of the image that boots is not the release's", i);
}

/* Runs the loader, and again whenever the image it starts dies at once. May lose power meanwhile. */
static inline void world_boot(struct world *w, enum reset_cause cause)
{
    for (;;) {
        const struct world_release *r;
        enum err e;
        if (w->sim.dead) {
            flash_sim_power_on(&w->sim);
            w->flash_resets++;
            cause = RESET_POWER;
        }
        w->link_open = w->link_up = w->subscribed = w->c2d_sent = false;
        w->link_in_len = 0;
        w->boots++;
        assert_true(w->boots < 1000);
        e = boot_run(&w->sim.base, world_crypto(), cause, &w->boot);
        if (w->sim.dead)
            continue;
        assert_int_equal(e, ERR_OK);
        world_check_image(w);
        r = world_running(w);
        if (r && r->crashes) {
            w->crashes++;
            cause = RESET_WATCHDOG;
            continue;
        }
        e = roost_dev_init(&w->d, &w->cfg, &w->sim.base, &w->mem, &w->port, &w->boot, w->now_ms,
                           w->clock_known ? WORLD_WALL + (uint32_t)(w->now_ms / 1000) : 0);
        if (w->sim.dead)
            continue;
        assert_int_equal(e, ERR_OK);
        if (w->app_ill)
            roost_dev_app_health(&w->d, false);
        else if (!w->app_silent)
            roost_dev_app_health(&w->d, true);
        return;
    }
}

/* Does everything that is due now, then moves time to the next deadline, for at most span_ms. */
static inline void world_run(struct world *w, uint64_t span_ms)
{
    uint64_t until = w->now_ms + span_ms;
    for (int turns = 0; w->now_ms < until; turns++) {
        struct roost_dev_exchange x;
        uint64_t next;
        assert_true(turns < 200000); /* it never spins */
        roost_dev_tick(&w->d, w->now_ms);
        if (!w->sim.dead)
            world_link(w);
        while (!w->sim.dead && roost_dev_exchange(&w->d, &x)) {
            world_serve(w, &x);
            if (!w->sim.dead)
                roost_dev_tick(&w->d, w->now_ms);
            if (!w->sim.dead)
                world_link(w);
        }
        if (w->sim.dead) {
            world_boot(w, RESET_POWER);
            continue;
        }
        if (roost_dev_wants_reboot(&w->d)) {
            w->reboots++;
            world_boot(w, RESET_SOFT);
            continue;
        }
        next = roost_dev_deadline(&w->d);
        if (next > until)
            next = until;
        w->now_ms = next > w->now_ms ? next : w->now_ms + 1;
    }
}

/* Until the device runs the release confirmed and connected, or the time is over. */
static inline bool world_settled(struct world *w, int rel)
{
    const struct world_release *r = world_running(w);
    return r == (rel < 0 ? NULL : &w->rel[rel]) && !w->d.trial && w->d.link.state == LINK_UP;
}

static inline bool world_settle(struct world *w, int rel, uint64_t span_ms)
{
    uint64_t until = w->now_ms + span_ms;
    while (w->now_ms < until) {
        world_run(w, 250);
        if (world_settled(w, rel))
            return true;
    }
    return false;
}

static inline void world_init(struct world *w, uint32_t sector_len, uint32_t program_len, uint32_t slot_len)
{
    struct flash_geometry geo;
    uint32_t len = flash_geometry_layout(&geo, sector_len, program_len, slot_len);
    memset(w, 0, sizeof *w);
    world_seed = 1;
    w->cells = calloc(1, len);
    flash_sim_init(&w->sim, &geo, w->cells, len, 1);
    w->cfg = (struct roost_dev_config){ .bootstrap_url = SPAN("https://home.example"),
                                        .product = SPAN("sensor"),
                                        .hw_class = 7,
                                        .hw_rev = 2,
                                        .proposed_id = SPAN("aa-bb"),
                                        .client_info = SPAN("test/1"),
                                        .checkin_every_ms = 600000,
                                        .backoff_max_ms = 20000,
                                        .telemetry_every_ms = 60000,
                                        .allow_plain_http = true };
    w->mem = (struct roost_dev_mem){ w->chunk,        w->page,        w->packet,
                                     sizeof w->chunk, sizeof w->page, sizeof w->packet };
    w->port =
        (struct roost_dev_port){ world_crypto(), w, world_sample, world_on_message, world_on_event, NULL };
    w->clock_known = true;
    w->now_ms = 1000;
    w->target = -1;
    w->action = TICKET_INSTALL;
    w->director = KEY_DIRECTOR;
    w->release_signer = KEY_RELEASE;
    strcpy(w->id, "dev-1");
    strcpy(w->host, "hub.example");
    memset(w->sas, 0x5a, sizeof w->sas);
    struct trust_record t = world_trust_body(w, 1);
    world_trust_publish(w, &t, KEY_ROOT);
}

static inline void world_fini(struct world *w)
{
    assert_int_equal(w->sim.refused_nr, 0); /* nobody ever broke the rules of the flash */
    for (int i = 0; i < w->rel_nr; i++) {
        free(w->rel[i].payload);
        free(w->rel[i].tree);
    }
    free(w->cells);
}

#endif
