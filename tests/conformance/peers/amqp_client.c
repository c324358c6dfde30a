/* tests/conformance/peers/amqp_client.c - the AMQP engine in the role of a client, over plain TCP on the
 * loopback: does what its arguments say, one after the other, and prints a line for every event. For
 * amqp_client.test.mjs, which has servers of other makers listen.
 *   amqp_client PORT none|anonymous|plain:USER:PASSWORD COMMAND...
 * Commands; each waits until it is done, or until what it works on has ended:
 *   sender:ADDRESS receiver:ADDRESS   attach; a sender waits for credit
 *   data:N value settled:N            send, with every section; wait for the peer's word unless pre-settled
 *   credit:N:OUTCOME drain:N:OUTCOME  take so many deliveries (or give the rest back) and settle them
 *   detach end close                  of the last link, the session, the connection
 *   await:detach await:end await:close */
#include "core/amqp/amqp_conn.h"
#include "core/amqp/amqp_message.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { BUF = 1 << 18, FRAME_MAX = 1024, SILENCE_S = 60 };

struct client {
    int fd;
    struct amqp_conn c;
    struct amqp_session *session;
    struct amqp_link *link;
    uint8_t outcome; /* for what comes */
    bool over;       /* the connection, or the transport */
    unsigned seen[AMQP_EV_CLOSE + 1];
    size_t in_len;
    uint8_t in[BUF], out[BUF];
    struct wr w;
};
static struct client me;
static uint8_t body[BUF], head[2048];

static void die(const char *why)
{
    fprintf(stderr, "amqp_client: %s\n", why);
    exit(1);
}
static void *mem_get(void *ctx, size_t n)
{
    (void)ctx;
    return malloc(n);
}
static void mem_put(void *ctx, void *p, size_t n)
{
    (void)ctx;
    (void)n;
    free(p);
}

/* ---- lines ------------------------------------------------------------------------------------------ */

static void say_span(const char *before, struct span s)
{
    printf("%s%.*s", before, (int)s.n, s.n ? (const char *)s.p : "");
}
static void say_scalar(const char *before, const struct amqp_value *v)
{
    uint8_t text[256];
    struct wr w = { text, sizeof text, 0 };
    if (v->type == AMQP_NULL)
        return;
    if (!amqp_scalar_text(&w, v))
        wr_str(&w, "?");
    say_span(before, wr_span(&w));
}
static void say_map(const char *before, const struct amqp_value *map)
{
    struct amqp_walk w = amqp_walk_of(map);
    struct amqp_value key, value;
    while (amqp_walk_next(&w, &key) && amqp_walk_next(&w, &value)) {
        say_scalar(before, &key);
        say_scalar("=", &value);
    }
}
static void say_error(const char *what, const struct amqp_error *e)
{
    printf("%s", what);
    if (e->condition.n) {
        say_span(" ", e->condition);
        say_span(": ", e->description);
    }
    printf("\n");
}
static const char *outcome_name(uint8_t outcome)
{
    switch (outcome) {
    case AMQP_ACCEPTED:
        return "accepted";
    case AMQP_REJECTED:
        return "rejected";
    case AMQP_RELEASED:
        return "released";
    case AMQP_MODIFIED:
        return "modified";
    default:
        return "no outcome";
    }
}

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 7 + (i >> 8));
}
static void say_message(struct span payload)
{
    struct amqp_message m;
    struct span at, data;
    size_t n = 0, wrong = 0;
    if (amqp_message_decode(payload, &m)) {
        printf(" unreadable");
        return;
    }
    say_scalar(" id=", &m.properties.message_id);
    say_scalar(" correlation=", &m.properties.correlation_id);
    if (m.properties.subject.p)
        say_span(" subject=", m.properties.subject);
    say_map(" ", &m.message_annotations);
    say_map(" ", &m.application_properties);
    if (m.body == AMQP_VALUE)
        say_scalar(" value=", &m.value);
    for (at = m.sections; amqp_data_next(&at, &data); n += data.n)
        for (size_t i = 0; i < data.n; i++)
            wrong += data.p[i] != pattern(n + i);
    if (m.body == AMQP_DATA)
        printf(" data=%zu%s", n, wrong ? " damaged" : "");
}

/* ---- events ----------------------------------------------------------------------------------------- */

static void on_delivery(const struct amqp_event *ev)
{
    struct amqp_state st = { .outcome = me.outcome };
    printf("delivery%s", ev->delivery.settled ? " settled" : "");
    say_message(ev->delivery.payload);
    printf("\n");
    if (st.outcome == AMQP_REJECTED)
        st.error = (struct amqp_error){ SPAN("amqp:not-allowed"), SPAN("not this one"), SPAN_NONE };
    if (!ev->delivery.settled)
        amqp_settle(ev->link, ev->delivery.id, ev->delivery.id, 1, &st, &me.w);
}

static void on_event(const struct amqp_event *ev)
{
    me.seen[ev->kind]++;
    switch (ev->kind) {
    case AMQP_EV_SASL_OUTCOME:
        printf("sasl %u\n", ev->sasl_code);
        me.over = ev->sasl_code != 0;
        break;
    case AMQP_EV_OPEN:
        say_span("open ", ev->open.container_id);
        printf(" frames of %u\n", ev->open.frame_max);
        break;
    case AMQP_EV_BEGIN:
        printf("begin\n");
        break;
    case AMQP_EV_ATTACHED:
        say_span("attached ", ev->attach.name);
        say_span(" source=", ev->attach.source.address);
        say_span(" target=", ev->attach.target.address);
        printf("\n");
        break;
    case AMQP_EV_FLOW:
        if (ev->link)
            printf("%s %u\n", ev->link->receiver ? "drained" : "credit", ev->link->credit);
        break;
    case AMQP_EV_DELIVERY:
        on_delivery(ev);
        break;
    case AMQP_EV_SETTLED:
        printf("%s %llu", outcome_name(ev->sent.state.outcome), (unsigned long long)ev->sent.user);
        say_error("", &ev->sent.state.error);
        break;
    case AMQP_EV_DETACH:
        say_span("detach ", amqp_link_name(ev->link));
        say_error("", &ev->error);
        if (me.link == ev->link)
            me.link = NULL;
        break;
    case AMQP_EV_END:
        say_error("end", &ev->error);
        me.session = NULL;
        break;
    case AMQP_EV_CLOSE:
        say_error("close", &ev->error);
        me.over = true;
        break;
    default:
        printf("event %u of a server\n", ev->kind);
    }
}

static void flush(void)
{
    if (!wr_ok(&me.w))
        die("wrote more than there is room for");
    for (size_t at = 0; at < me.w.len;) {
        ssize_t n = send(me.fd, me.out + at, me.w.len - at, MSG_NOSIGNAL);
        if (n <= 0)
            break; /* what has come is still read */
        at += (size_t)n;
    }
    me.w.len = 0;
}

/* Tells what there is. */
static void run(void)
{
    struct span in = span_of(me.in, me.in_len);
    struct amqp_event ev;
    enum err e = ERR_OK;
    while (!me.over && (e = amqp_next(&me.c, &in, &ev, &me.w)) == ERR_OK)
        on_event(&ev);
    memmove(me.in, in.p, in.n);
    me.in_len = in.n;
    flush();
    if (e && e != ERR_AGAIN) {
        printf("failed: %s\n", me.c.error ? me.c.error : "no reason");
        me.over = true;
    }
}

/* Until more has come. */
static void step(void)
{
    flush();
    ssize_t n = recv(me.fd, me.in + me.in_len, sizeof me.in - me.in_len, 0);
    if (n < 0)
        die("the server is silent");
    if (n == 0) {
        printf("the transport ended\n");
        amqp_lost(&me.c);
    }
    me.in_len += (size_t)n;
    amqp_seen(&me.c, 0);
    run();
}

/* ---- commands --------------------------------------------------------------------------------------- */

static void attach(const char *address, bool receiver)
{
    struct amqp_attach a = { .name = span_str(address),
                             .receiver = receiver,
                             .snd_mode = AMQP_SND_MIXED,
                             .source = { .present = true, .address = span_str(receiver ? address : "here") },
                             .target = { .present = true,
                                         .address = span_str(receiver ? "here" : address) } };
    if (!me.session || amqp_attach(me.session, &a, NULL, &me.w, &me.link))
        die("no link");
    while (!me.over && me.link && (!me.link->attach_seen || (!receiver && !me.link->credit)))
        step();
}

static void put_pair(struct wr *w, const char *key, const char *value, bool symbol)
{
    if (symbol)
        amqp_put_symbol(w, span_str(key));
    else
        amqp_put_string(w, span_str(key));
    amqp_put_string(w, span_str(value));
}
static void put_annotation(struct wr *w, enum amqp_section section, const char *key)
{
    amqp_section_begin(w, section);
    size_t at = amqp_map_begin(w);
    put_pair(w, key, "yes", true);
    amqp_map_end(w, at, 2);
}
/* Every section that stands before the body. */
static void put_head(struct wr *w, uint64_t nr)
{
    struct amqp_properties p = { .message_id = { .type = AMQP_STRING, .bytes = SPAN("first") },
                                 .correlation_id = { .type = AMQP_ULONG, .u = nr },
                                 .user_id = SPAN("me"),
                                 .to = SPAN("there"),
                                 .subject = SPAN("interop"),
                                 .reply_to = SPAN("back"),
                                 .content_type = SPAN("text/plain"),
                                 .content_encoding = SPAN("utf-8"),
                                 .has_creation = true,
                                 .creation_ms = 1700000000000u,
                                 .group_id = SPAN("group") };
    amqp_section_begin(w, AMQP_HEADER);
    size_t at = amqp_list_begin(w);
    amqp_put_bool(w, true); /* durable */
    amqp_put_ubyte(w, 6);
    amqp_put_uint(w, 60000); /* ttl */
    amqp_put_bool(w, false);
    amqp_put_uint(w, 2); /* delivery-count */
    amqp_list_end(w, at, 5);
    put_annotation(w, AMQP_DELIVERY_ANNOTATIONS, "x-opt-delivery");
    put_annotation(w, AMQP_MESSAGE_ANNOTATIONS, "x-opt-message");
    amqp_properties_encode(w, &p);
    amqp_section_begin(w, AMQP_APPLICATION_PROPERTIES);
    at = amqp_map_begin(w);
    put_pair(w, "text", "\xc3\xa4", false);
    amqp_put_string(w, SPAN("number"));
    amqp_put_int(w, -5);
    amqp_put_string(w, SPAN("flag"));
    amqp_put_bool(w, true);
    amqp_map_end(w, at, 6);
}

static void transfer(bool value, size_t n, bool settled)
{
    static uint64_t nr;
    uint8_t tag[1] = { (uint8_t)++nr };
    struct wr h = { head, sizeof head, 0 }, b = { body, sizeof body, 0 };
    put_head(&h, nr);
    if (value) {
        amqp_section_begin(&b, AMQP_VALUE);
        amqp_put_string(&b, SPAN("a value"));
    } else {
        amqp_data_head(&b, n);
        for (size_t i = 0; i < n; i++)
            wr_u8(&b, pattern(i));
    }
    put_annotation(&b, AMQP_FOOTER, "x-opt-footer");
    if (!wr_ok(&h) || !wr_ok(&b))
        die("too large");
    struct amqp_send m = {
        .tag = span_of(tag, 1), .settled = settled, .user = nr, .head = wr_span(&h), .body = wr_span(&b)
    };
    enum err e = ERR_AGAIN;
    while (me.link && !me.over && (e = amqp_send(me.link, &m, &me.w)) == ERR_AGAIN)
        step();
    if (e && e != ERR_AGAIN)
        die("cannot send");
    unsigned seen = me.seen[AMQP_EV_SETTLED];
    while (!settled && me.link && !me.over && me.seen[AMQP_EV_SETTLED] == seen)
        step();
}

static void take(const char *arg, bool drain)
{
    char *rest;
    uint32_t n = (uint32_t)strtoul(arg, &rest, 10);
    for (unsigned o = AMQP_ACCEPTED; o <= AMQP_MODIFIED; o++)
        if (*rest == ':' && !strcmp(rest + 1, outcome_name((uint8_t)o)))
            me.outcome = (uint8_t)o;
    if (!me.link || !me.outcome)
        die("nothing to take from, or no such outcome");
    if (drain)
        amqp_drain(me.link, n, &me.w);
    else
        amqp_credit(me.link, n, &me.w);
    /* The credit goes with the first frame of a delivery. */
    while (!me.over && me.link && (me.link->credit || me.link->in_partial))
        step();
}

static void await_event(unsigned kind, unsigned seen)
{
    run(); /* what ends here is told at once */
    while (!me.over && me.seen[kind] == seen)
        step();
}
static unsigned ending(const char *name)
{
    if (!strcmp(name, "detach"))
        return AMQP_EV_DETACH;
    return strcmp(name, "end") ? AMQP_EV_CLOSE : AMQP_EV_END;
}

static void command(const char *verb)
{
    const char *colon = strchr(verb, ':'), *arg = colon ? colon + 1 : "";
    size_t n = colon ? (size_t)(colon - verb) : strlen(verb);
    struct span v = span_of(verb, n);
    unsigned seen = me.seen[ending(verb)];
    if (span_eq(v, SPAN("sender")) || span_eq(v, SPAN("receiver"))) {
        attach(arg, v.p[0] == 'r');
    } else if (span_eq(v, SPAN("data")) || span_eq(v, SPAN("settled"))) {
        transfer(false, strtoul(arg, NULL, 10), v.p[0] == 's');
    } else if (span_eq(v, SPAN("value"))) {
        transfer(true, 0, false);
    } else if (span_eq(v, SPAN("credit")) || span_eq(v, SPAN("drain"))) {
        take(arg, v.p[0] == 'd');
    } else if (span_eq(v, SPAN("await"))) {
        /* it may have come with what the command before waited for */
        await_event(ending(arg), 0);
    } else {
        if (span_eq(v, SPAN("detach")) && me.link)
            amqp_detach(me.link, NULL, &me.w);
        else if (span_eq(v, SPAN("end")) && me.session)
            amqp_end(me.session, NULL, &me.w);
        else if (span_eq(v, SPAN("close")))
            amqp_close(&me.c, NULL, &me.w);
        else
            die("no such command, or nothing to do it to");
        await_event(ending(verb), seen);
    }
}

static void dial(const char *port)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct timeval silence = { .tv_sec = SILENCE_S };
    me.fd = socket(AF_INET, SOCK_STREAM, 0);
    if (me.fd < 0 || setsockopt(me.fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence) ||
        connect(me.fd, (struct sockaddr *)&to, sizeof to))
        die("cannot connect");
    me.w = (struct wr){ me.out, sizeof me.out, 0 };
}

int main(int argc, char **argv)
{
    uint8_t response[256];
    struct wr plain = { response, sizeof response, 0 };
    struct amqp_mem mem = { mem_get, mem_put, NULL };
    /* Small frames and windows, so that messages take many and the windows open again and again. */
    struct amqp_config cfg = { .container_id = SPAN("client"),
                               .hostname = SPAN("localhost"),
                               .properties = SPAN("\xc1\x01\x00"),
                               .frame_max = FRAME_MAX,
                               .channel_max = 9,
                               .handle_max = 9,
                               .incoming_window = 8,
                               .sessions_max = 2,
                               .links_max = 4,
                               .unsettled_max = 10,
                               .delivery_max = BUF,
                               .memory_max = 1 << 20 };
    if (argc < 3)
        die("PORT none|anonymous|plain:USER:PASSWORD COMMAND...");
    if (!strcmp(argv[2], "anonymous")) {
        cfg.mechanism = SPAN("ANONYMOUS");
        cfg.response = SPAN("trace");
    } else if (!strncmp(argv[2], "plain:", 6)) {
        for (const char *p = argv[2] + 5; *p; p++)
            wr_u8(&plain, *p == ':' ? 0 : (uint8_t)*p);
        cfg.mechanism = SPAN("PLAIN");
        cfg.response = wr_span(&plain);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    dial(argv[1]);
    amqp_conn_init(&me.c, &cfg, &mem, 0);
    if (amqp_start(&me.c, &me.w))
        die("cannot start");
    while (!me.over && !me.seen[AMQP_EV_OPEN])
        step();
    if (!me.over && amqp_begin(&me.c, &me.w, &me.session))
        die("no session");
    while (!me.over && !me.seen[AMQP_EV_BEGIN])
        step();
    for (int i = 3; i < argc && !me.over; i++)
        command(argv[i]);
    flush();
    amqp_conn_fini(&me.c);
    close(me.fd);
    return 0;
}
