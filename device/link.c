/* device/link.c - the standing connection: MQTT with the topics, user name and tokens of an Azure IoT Hub.
 * Nothing is queued here: what is due is written when the driver asks for bytes. C99. */
#include "device/dev_internal.h"

#include "core/json/json.h"
#include "core/sas/sas.h"
#include "core/topic/username.h"

#define KEEP_ALIVE_S 240u
#define TOKENS_MAX   16 /* of a JSON command */

/* mem->packet: the lower half takes what arrives, the upper half keeps one message until it is
 * acknowledged. */
static size_t half(const struct roost_dev *d)
{
    return d->mem->packet_cap / 2;
}

static uint8_t *message_buf(const struct roost_dev *d)
{
    return d->mem->packet + half(d);
}

static size_t message_cap(const struct roost_dev *d)
{
    return d->mem->packet_cap - half(d);
}

void link_start(struct roost_dev *d)
{
    if (d->link.state != LINK_OFF || d->reboot)
        return;
    d->link.state = LINK_WANTED;
}

void link_stop(struct roost_dev *d, bool again)
{
    struct dev_link *l = &d->link;
    switch ((enum dev_link_state)l->state) {
    case LINK_OFF:
        break;
    case LINK_WANTED:
        l->state = LINK_OFF; /* if it is being opened already, link_opened will find it unwanted */
        break;
    case LINK_UP:
        l->state = LINK_CLOSING; /* DISCONNECT first, if the peer still takes anything */
        l->drop_ms = d->now_ms + DEV_LINK_CLOSING_MS;
        l->again = again;
        break;
    default:
        l->state = LINK_DROP;
        l->again = again;
        break;
    }
}

static bool is_wanted(const struct roost_dev *d)
{
    return d->link.state != LINK_OFF && d->link.state != LINK_DROP && !d->reboot;
}

bool roost_dev_link(struct roost_dev *d, struct roost_dev_link *out)
{
    struct dev_link *l = &d->link;
    l->told = is_wanted(d);
    if (!l->told)
        return false;
    out->host = span_of(d->conf.host, d->conf.host_len);
    out->port = d->conf.mqtt_port;
    out->ca_pin = dev_pin_of(d, out->host, l->pin);
    return true;
}

void roost_dev_link_opened(struct roost_dev *d, uint64_t now_ms)
{
    struct dev_link *l = &d->link;
    struct mqtt_client_config cfg = { 0 };
    if (now_ms > d->now_ms)
        d->now_ms = now_ms;
    d->trial_net = true;
    if (l->state != LINK_WANTED) {
        l->state = l->state == LINK_OFF ? LINK_DROP : l->state;
        return;
    }
    cfg.packet_max = half(d) - MQTT_HEAD_MAX;
    cfg.inflight_max = 2;
    mqtt_client_init(&l->mqtt, &cfg);
    l->state = LINK_CONNECTING;
    l->connect_due = true;
    l->subscribe_due = true;
    l->rx_len = 0;
    l->ack_nr = 0;
    l->publish_id = 0;
    l->retry_is_dup = l->has_message && l->retry_is_dup;
    l->renew_ms = DEV_NEVER;
}

void roost_dev_link_closed(struct roost_dev *d, enum roost_dev_result result, uint64_t now_ms)
{
    struct dev_link *l = &d->link;
    bool was_ours = l->state == LINK_CLOSING || l->state == LINK_DROP;
    bool again = l->again;
    if (now_ms > d->now_ms)
        d->now_ms = now_ms;
    if (result == ROOST_DEV_REFUSED)
        d->trial_net = true;
    l->publish_id = 0;
    l->rx_len = 0;
    l->ack_nr = 0;
    l->again = false;
    if (l->state == LINK_OFF)
        return;
    l->state = LINK_OFF;
    if (was_ours) {
        if (again && d->phase == ROOST_DEV_ONLINE)
            link_start(d);
        return;
    }
    /* It went away by itself. An exchange that is under way will tell how the hub is. */
    if (d->phase == ROOST_DEV_ONLINE) {
        if (d->failures < UINT16_MAX)
            d->failures++;
        d->after = ROOST_DEV_ONLINE;
        if (d->failures >= DEV_HOMELESS_AFTER) {
            d->failures--; /* dev_failed counts it */
            dev_failed(d, 0);
        } else {
            dev_backoff(d, ROOST_DEV_ONLINE, d->failures, 0);
        }
    }
}

/* ---- out --------------------------------------------------------------------------------------------------
 */

static enum err put_connect(struct roost_dev *d, struct wr *out)
{
    uint8_t name[CONFIG_HOST_MAX + CONFIG_ID_MAX + 3 * 64 + 64], token[SAS_TOKEN_MAX];
    struct wr n = { name, sizeof name, 0 }, t = { token, sizeof token, 0 };
    struct topic_identity who = { roost_dev_id(d), SPAN_NONE };
    struct mqtt_connect hello;
    enum err e;
    memset(&hello, 0, sizeof hello);
    username_encode(&n, span_of(d->conf.host, d->conf.host_len), &who, d->cfg->client_info);
    dev_token(d, &t, DEV_SAS_TTL_S);
    if (!wr_ok(&n) || !wr_ok(&t))
        return ERR_LIMIT;
    hello.client_id = who.device;
    hello.has_username = hello.has_password = true;
    hello.username = wr_span(&n);
    hello.password = wr_span(&t);
    hello.keep_alive_s = KEEP_ALIVE_S;
    e = mqtt_client_connect(&d->link.mqtt, &hello, d->now_ms, out);
    if (!e)
        d->link.renew_ms = d->now_ms + DEV_SAS_RENEW_MS;
    return e;
}

static enum err put_subscribe(struct roost_dev *d, struct wr *out)
{
    uint8_t text[CONFIG_ID_MAX + 40];
    struct wr w = { text, sizeof text, 0 };
    struct topic_identity who = { roost_dev_id(d), SPAN_NONE };
    struct mqtt_filter f;
    topic_c2d_filter_encode(&w, &who);
    f.filter = wr_span(&w);
    f.qos = 1;
    return mqtt_client_subscribe(&d->link.mqtt, &f, 1, d->now_ms, out, NULL);
}

static enum err put_message(struct roost_dev *d, struct wr *out)
{
    struct dev_link *l = &d->link;
    uint8_t text[CONFIG_ID_MAX + 40 + 512];
    struct wr w = { text, sizeof text, 0 };
    struct topic_identity who = { roost_dev_id(d), SPAN_NONE };
    struct mqtt_publish m;
    enum err e;
    memset(&m, 0, sizeof m);
    topic_telemetry_encode(&w, &who);
    wr_put(&w, span_of(message_buf(d), l->props_len));
    if (!wr_ok(&w))
        return ERR_LIMIT;
    m.topic = wr_span(&w);
    m.payload = span_of(message_buf(d) + l->props_len, l->body_len);
    m.qos = 1;
    m.dup = l->retry_is_dup;
    e = mqtt_client_publish(&l->mqtt, &m, d->now_ms, out, &l->publish_id);
    if (!e)
        l->retry_is_dup = true; /* should this connection break, it goes again as a duplicate */
    return e;
}

/* The telemetry of this moment becomes the message, when its time has come and none is waiting. */
static void sample_take(struct roost_dev *d)
{
    static const char json[] = "$.ct=application%2Fjson&$.ce=utf-8";
    struct dev_link *l = &d->link;
    struct wr w;
    if (l->has_message || !d->cfg->telemetry_every_ms || !d->port->sample || d->now_ms < l->telemetry_ms)
        return;
    l->telemetry_ms = d->now_ms + d->cfg->telemetry_every_ms;
    memcpy(message_buf(d), json, sizeof json - 1);
    w.p = message_buf(d) + sizeof json - 1;
    w.cap = message_cap(d) - (sizeof json - 1);
    w.len = 0;
    if (!d->port->sample(d->port->ctx, &w) || !wr_ok(&w))
        return;
    l->props_len = sizeof json - 1;
    l->body_len = (uint32_t)w.len;
    l->has_message = true;
    l->retry_is_dup = false;
}

static enum err put_what_is_due(struct roost_dev *d, struct wr *out)
{
    struct dev_link *l = &d->link;
    enum err e = ERR_OK;
    if (l->connect_due) {
        e = put_connect(d, out);
        if (e)
            return e;
        l->connect_due = false;
    }
    while (l->ack_nr && l->state != LINK_CONNECTING) {
        e = mqtt_client_ack(&l->mqtt, l->ack[0], d->now_ms, out);
        if (e)
            return e;
        l->ack_nr--;
        memmove(l->ack, l->ack + 1, l->ack_nr * sizeof *l->ack);
    }
    if (l->state == LINK_CLOSING) {
        e = mqtt_client_disconnect(&l->mqtt, out);
        if (!e)
            l->state = LINK_DROP;
        return e;
    }
    if (l->state != LINK_UP)
        return ERR_OK;
    if (l->subscribe_due && mqtt_client_is_ready(&l->mqtt)) {
        e = put_subscribe(d, out);
        if (e)
            return e;
        l->subscribe_due = false;
    }
    sample_take(d);
    if (l->has_message && !l->publish_id && !l->subscribe_due && mqtt_client_is_ready(&l->mqtt)) {
        e = put_message(d, out);
        if (e)
            return e;
    }
    return mqtt_client_tick(&l->mqtt, d->now_ms, out);
}

size_t roost_dev_link_take(struct roost_dev *d, uint8_t *buf, size_t cap)
{
    struct dev_link *l = &d->link;
    struct wr out = { buf, cap, 0 };
    enum err e;
    if (l->state != LINK_CONNECTING && l->state != LINK_UP && l->state != LINK_CLOSING)
        return 0;
    e = put_what_is_due(d, &out);
    if (e && e != ERR_AGAIN)
        l->state = LINK_DROP; /* an answer is overdue, or a packet can never fit */
    return wr_ok(&out) ? out.len : 0;
}

/* ---- in ---------------------------------------------------------------------------------------------------
 */

/* "update" as it stands, {"update":true}, {"command":"update"}. */
static bool is_update_command(struct span body)
{
    jsmntok_t tok[TOKENS_MAX];
    struct json j;
    uint8_t mem[16];
    struct wr w = { mem, sizeof mem, 0 };
    struct span text;
    bool yes = false;
    int value;
    while (body.n && (body.p[0] == ' ' || body.p[0] == '\n' || body.p[0] == '\r' || body.p[0] == '\t'))
        body = span_skip(body, 1);
    while (body.n && (body.p[body.n - 1] <= ' '))
        body.n--;
    if (span_eq(body, SPAN("update")))
        return true;
    if (json_parse(&j, body, tok, TOKENS_MAX) != ERR_OK || !json_is_object(&j, JSON_ROOT))
        return false;
    if (json_member(&j, JSON_ROOT, "update", &value) == ERR_OK && json_bool(&j, value, &yes) == ERR_OK && yes)
        return true;
    return json_get_string(&j, JSON_ROOT, "command", &w, &text) == ERR_OK && span_eq(text, SPAN("update"));
}

static void on_message(struct roost_dev *d, const struct mqtt_publish *m)
{
    struct topic_identity who = { roost_dev_id(d), SPAN_NONE };
    struct topic t;
    if (topic_server_parse(m->topic, &who, &t) != ERR_OK || t.kind != TOPIC_C2D)
        return;
    if (is_update_command(m->payload))
        d->checkin_due = true;
    else if (d->port->on_message)
        d->port->on_message(d->port->ctx, t.bag, m->payload);
}

static void on_connected(struct roost_dev *d)
{
    struct dev_link *l = &d->link;
    l->state = LINK_UP;
    d->failures = 0;
    d->boot_failures = 0;
    if (l->telemetry_ms < d->now_ms)
        l->telemetry_ms = d->now_ms;
}

static void on_published(struct roost_dev *d, uint16_t packet_id)
{
    struct dev_link *l = &d->link;
    if (packet_id != l->publish_id)
        return;
    l->publish_id = 0;
    l->has_message = false;
    l->retry_is_dup = false;
    l->sent_nr++;
    dev_event(d, ROOST_DEV_EV_SENT, l->sent_nr);
}

static void on_event(struct roost_dev *d, const struct mqtt_client_event *ev)
{
    struct dev_link *l = &d->link;
    switch ((enum mqtt_client_event_kind)ev->kind) {
    case MQTT_EV_CONNECTED:
        on_connected(d);
        break;
    case MQTT_EV_REFUSED:
        l->state = LINK_DROP;
        if (ev->code == MQTT_CONNACK_UNAVAILABLE) {
            dev_failed(d, 0);
        } else { /* our name or our word is not good there any more */
            d->trial_refused = true;
            dev_refused_by_hub(d);
        }
        break;
    case MQTT_EV_MESSAGE:
        on_message(d, &ev->message);
        if (ev->message.qos == 0)
            break;
        if (l->ack_nr == DEV_ACK_MAX) {
            l->state = LINK_DROP; /* more at once than a hub may send unacknowledged: they come again */
            break;
        }
        l->ack[l->ack_nr++] = ev->message.packet_id;
        break;
    case MQTT_EV_PUBLISHED:
        on_published(d, ev->packet_id);
        break;
    case MQTT_EV_SUBSCRIBED:
        if (ev->codes.n && ev->codes.p[0] == MQTT_SUBACK_FAILURE)
            l->state = LINK_DROP;
        break;
    default:
        break;
    }
}

void roost_dev_link_bytes(struct roost_dev *d, struct span in, uint64_t now_ms)
{
    struct dev_link *l = &d->link;
    if (now_ms > d->now_ms)
        d->now_ms = now_ms;
    while (in.n && (l->state == LINK_CONNECTING || l->state == LINK_UP || l->state == LINK_CLOSING)) {
        size_t room = half(d) - l->rx_len, part = in.n < room ? in.n : room;
        struct mqtt_client_event ev;
        struct span rest;
        enum err e = ERR_OK;
        memcpy(d->mem->packet + l->rx_len, in.p, part);
        l->rx_len += (uint32_t)part;
        in = span_skip(in, part);
        rest = span_of(d->mem->packet, l->rx_len);
        while (!e && (l->state == LINK_CONNECTING || l->state == LINK_UP || l->state == LINK_CLOSING)) {
            e = mqtt_client_next(&l->mqtt, &rest, &ev);
            if (!e)
                on_event(d, &ev);
        }
        if (e && e != ERR_AGAIN)
            l->state = LINK_DROP;
        memmove(d->mem->packet, rest.p, rest.n);
        l->rx_len = (uint32_t)rest.n;
        if (part == 0 && l->rx_len == half(d))
            l->state = LINK_DROP; /* cannot be: packet_max is less than the room */
    }
}

/* ---- time -------------------------------------------------------------------------------------------------
 */

void link_tick(struct roost_dev *d)
{
    struct dev_link *l = &d->link;
    if (l->state == LINK_UP && d->now_ms >= l->renew_ms)
        link_stop(d, true); /* a fresh token before the hub ends the old one's time */
    if (l->state == LINK_CLOSING && d->now_ms >= l->drop_ms)
        l->state = LINK_DROP;
}

uint64_t link_deadline(const struct roost_dev *d)
{
    const struct dev_link *l = &d->link;
    uint64_t at = DEV_NEVER;
    if (l->told != is_wanted(d))
        return d->now_ms; /* the driver has not heard yet */
    switch ((enum dev_link_state)l->state) {
    case LINK_OFF:
    case LINK_WANTED:
    case LINK_DROP:
        return DEV_NEVER; /* the driver's move */
    case LINK_CONNECTING:
        return l->connect_due ? d->now_ms : mqtt_client_deadline(&l->mqtt);
    case LINK_CLOSING:
        return l->drop_ms;
    case LINK_UP:
        break;
    }
    at = mqtt_client_deadline(&l->mqtt);
    if (l->ack_nr ||
        ((l->subscribe_due || (l->has_message && !l->publish_id)) && mqtt_client_is_ready(&l->mqtt)))
        return d->now_ms;
    if (!l->has_message && d->cfg->telemetry_every_ms && d->port->sample && l->telemetry_ms < at)
        at = l->telemetry_ms;
    return l->renew_ms < at ? l->renew_ms : at;
}

enum err roost_dev_publish(struct roost_dev *d, struct span props, struct span body)
{
    struct dev_link *l = &d->link;
    if (l->state != LINK_UP || l->has_message)
        return ERR_AGAIN;
    if (props.n > 512 || props.n + body.n > message_cap(d))
        return ERR_LIMIT;
    if (props.n)
        memcpy(message_buf(d), props.p, props.n);
    if (body.n)
        memcpy(message_buf(d) + props.n, body.p, body.n);
    l->props_len = (uint16_t)props.n;
    l->body_len = (uint32_t)body.n;
    l->has_message = true;
    l->retry_is_dup = false;
    return ERR_OK;
}
