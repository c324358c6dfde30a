/* tests/fault/kill_mqtt.c - kill -9 of a hub under load, again and again. A child process is a hub (store,
 * stream, bus, two workers, a plain MQTT listener); this process is eight devices that publish with QoS 1 and
 * take messages down over real sockets. The child is killed at a random point, started again on the same
 * directory, and so on. In the end:
 *   - every telemetry message that got its PUBACK is in the stream, under its own device
 *   - every message down that was reported durable to its sender reached its device
 *   - no device ever got a message of another, nor one that nobody sent
 * Usage: kill_mqtt [ROUNDS [SEED]], default 50 rounds. */
#include "base/log.h"
#include "core/bag/bag.h"
#include "core/mqtt/mqtt_packet.h"
#include "core/sas/sas.h"
#include "hub/conn/listener.h"
#include "hub/domain/access/access.h"
#include "hub/domain/hub.h"
#include "hub/domain/message/c2d.h"
#include "hub/domain/message/message.h"
#include "hub/domain/metrics.h"
#include "hub/front/mqtt/mqtt_front.h"
#include "port/clock.h"
#include "port/crypto.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEVICES = 8, WINDOW = 8, NUMBERS_MAX = 1 << 20, WORKERS = 2 };

static char dir[64];
static const uint8_t key[32] = "the key of every device here...";
static const char *const names[] = { "hub.example.net", NULL };

static void die(const char *what)
{
    fprintf(stderr, "kill_mqtt: %s (%s)\n", what, strerror(errno));
    exit(1);
}
static void device_id(char out[16], unsigned device)
{
    snprintf(out, 16, "dev-%u", device);
}

/* ---- the hub ----------------------------------------------------------------------------------------------
 */

static struct hub hub;
static struct hub_metrics metrics;
static struct mailbox mail;

static void backends_open(void)
{
    char path[80];
    snprintf(path, sizeof path, "%s/stream", dir);
    hub =
        (struct hub){ .crypto = &port_crypto, .names = names, .wall_ms = clock_wall_ms, .metrics = &metrics };
    hub.settings = (struct hub_settings){ .c2d_ttl_s = 3600,
                                          .c2d_ttl_max_s = 172800,
                                          .c2d_depth_max = 50,
                                          .c2d_deliveries_max = 1000000, /* kills count as deliveries here */
                                          .c2d_lock_s = 60,
                                          .sas_skew_s = 300,
                                          .sas_grace_s = 300,
                                          .message_max = 262144 };
    if (store_sqlite_open(&hub.store, dir, 2) ||
        stream_segment_open(&hub.stream, &(struct stream_config){ .dir = path, .partitions = 4 }) ||
        bus_local_new(&hub.bus, WORKERS) || access_new(&hub.access, &port_crypto, 256) || mailbox_init(&mail))
        die("the hub does not open");
}
static void backends_close(void)
{
    store_close(hub.store);
    stream_close(hub.stream);
    bus_free(hub.bus);
    access_free(hub.access);
    mailbox_fini(&mail);
}

static void flag_done(struct op *op)
{
    op->home = NULL;
}
static enum err wait_for(struct op *op)
{
    while (op->home) {
        mailbox_wait(&mail, -1);
        for (struct op *o = mailbox_take(&mail); o;) {
            struct op *next = o->next;
            o->done(o);
            o = next;
        }
    }
    return op->err;
}

struct sent_note { /* through a pipe: what the sender was told is durable */
    uint32_t device, number;
};

/* The child: serves until it is killed, and sends messages down meanwhile, unless first_number is 0. */
static void hub_main(int port_fd, int notes_fd, uint32_t first_number)
{
    struct worker *workers[WORKERS];
    struct conn_net *net;
    struct conn_listener *listener;
    struct mqtt_front *front;
    backends_open();
    for (unsigned i = 0; i < WORKERS; i++)
        if (worker_new(&workers[i], i))
            die("worker");
    if (mqtt_front_new(&front, &hub, WORKERS) ||
        conn_net_new(&net, &(struct conn_limits){ 0 }, workers, WORKERS, 0) ||
        conn_net_listen(net,
                        &(struct conn_listen){
                            .name = "mqtt", .address = "127.0.0.1", .proto = &mqtt_proto, .ctx = front },
                        &listener))
        die("listener");
    for (unsigned i = 0; i < WORKERS; i++) {
        bus_register(hub.bus, i, worker_mailbox(workers[i]), conn_on_bus_wake, workers[i]);
        if (worker_start(workers[i]))
            die("worker thread");
    }
    uint16_t port = conn_listener_port(listener);
    if (write(port_fd, &port, sizeof port) != sizeof port)
        die("pipe");
    while (!first_number)
        pause();
    for (uint32_t number = first_number;; number++) {
        struct sent_note note = { number % DEVICES, number };
        char id[16], body[48];
        device_id(id, note.device);
        snprintf(body, sizeof body, "%s:%u", id, number);
        struct c2d_message m = { .device = span_str(id), .body = span_str(body) };
        struct c2d_send s = { .hub = &hub, .message = &m };
        s.store.op.home = &mail;
        s.store.op.done = flag_done;
        c2d_send_start(&s);
        enum err e = wait_for(&s.store.op);
        if (!e && write(notes_fd, &note, sizeof note) != sizeof note)
            die("pipe");
        if (e && e != ERR_FULL) /* the queue of a device that is slower than we are */
            die(err_name(e));
    }
}

/* ---- the devices ------------------------------------------------------------------------------------------
 */

struct device {
    int fd;
    bool online;
    uint32_t window[WINDOW]; /* numbers on their way; 0: free. The packet identifier is the place + 1 */
    uint8_t in[65536];
    size_t in_len;
};
static struct device devices[DEVICES];
static uint8_t acked[NUMBERS_MAX];    /* telemetry: by number; which device + 1 */
static uint8_t notified[NUMBERS_MAX]; /* down: reported durable */
static uint8_t received[NUMBERS_MAX]; /* down: reached its device */
static uint32_t telemetry_nr = 1, acks, downs;

static void say(struct device *d, const struct wr *w)
{
    assert(wr_ok(w));
    for (size_t at = 0; at < w->len;) {
        ssize_t n = send(d->fd, w->p + at, w->len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) { /* the hub was killed: what is under way stays in the window and goes again */
            d->online = false;
            return;
        }
        at += (size_t)n;
    }
}

static void say_telemetry(struct device *d, unsigned index, unsigned place, bool again)
{
    char id[16], topic[64], body[48];
    uint8_t mem[256];
    struct wr w = { mem, sizeof mem, 0 };
    device_id(id, index);
    snprintf(topic, sizeof topic, "devices/%s/messages/events/n=%u", id, d->window[place]);
    snprintf(body, sizeof body, "%s:%u", id, d->window[place]);
    mqtt_publish_encode(&w, &(struct mqtt_publish){ .topic = span_str(topic),
                                                    .payload = span_str(body),
                                                    .packet_id = (uint16_t)(place + 1),
                                                    .qos = 1,
                                                    .dup = again });
    say(d, &w);
}

static void dial(unsigned index, uint16_t port, bool first)
{
    struct device *d = &devices[index];
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    char id[16], user[64], filter[64], token[SAS_TOKEN_MAX];
    uint8_t mem[2048], resource_mem[128];
    struct wr w = { mem, sizeof mem, 0 }, t = { (uint8_t *)token, sizeof token, 0 };
    struct wr resource = { resource_mem, sizeof resource_mem, 0 };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    d->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    d->in_len = 0;
    if (d->fd < 0 || connect(d->fd, (struct sockaddr *)&to, sizeof to))
        die("connect");
    d->online = true;
    device_id(id, index);
    snprintf(user, sizeof user, "hub.example.net/%s/?api-version=2021-04-12", id);
    sas_resource_encode(&resource, SPAN("hub.example.net"), span_str(id), SPAN_NONE);
    sas_token_encode(&t, &port_crypto, wr_span(&resource), span_of(key, sizeof key),
                     clock_wall_ms() / 1000 + 3600, SPAN_NONE);
    mqtt_connect_encode(&w, &(struct mqtt_connect){ .client_id = span_str(id),
                                                    .username = span_str(user),
                                                    .password = wr_span(&t),
                                                    .has_username = true,
                                                    .has_password = true,
                                                    .keep_alive_s = 60 });
    if (first) { /* later ones rely on the stored subscription */
        snprintf(filter, sizeof filter, "devices/%s/messages/devicebound/#", id);
        mqtt_subscribe_encode(&w, 100, &(struct mqtt_filter){ span_str(filter), 1 }, 1);
    }
    say(d, &w);
    for (unsigned place = 0; place < WINDOW; place++)
        if (d->window[place])
            say_telemetry(d, index, place, true);
}

static void refill(unsigned index)
{
    struct device *d = &devices[index];
    for (unsigned place = 0; place < WINDOW && d->online; place++)
        if (!d->window[place] && telemetry_nr < NUMBERS_MAX) {
            d->window[place] = telemetry_nr++;
            say_telemetry(d, index, place, false);
        }
}

static void on_down(unsigned index, const struct mqtt_publish *m)
{
    char id[16], body[48], topic[64];
    uint8_t mem[8];
    struct wr w = { mem, sizeof mem, 0 };
    unsigned number = 0;
    device_id(id, index);
    snprintf(body, sizeof body, "%.*s", (int)m->payload.n, (const char *)m->payload.p);
    snprintf(topic, sizeof topic, "devices/%s/messages/devicebound/", id);
    const char *colon = strchr(body, ':');
    if (!colon || strncmp(body, id, (size_t)(colon - body)) || strlen(id) != (size_t)(colon - body) ||
        !span_starts(m->topic, span_str(topic)))
        die("a message came to the wrong device");
    number = (unsigned)strtoul(colon + 1, NULL, 10);
    if (number >= NUMBERS_MAX)
        die("a message that nobody sent");
    received[number] = 1;
    downs++;
    mqtt_id_encode(&w, MQTT_PUBACK, m->packet_id);
    say(&devices[index], &w);
}

static void on_packet(unsigned index, const struct mqtt_packet *p)
{
    struct device *d = &devices[index];
    struct mqtt_connack ack;
    struct mqtt_publish m;
    uint16_t id;
    if (p->type == MQTT_CONNACK) {
        if (mqtt_connack_decode(p, &ack) || ack.code)
            die("the hub refuses a device");
    } else if (p->type == MQTT_PUBACK) {
        if (mqtt_id_decode(p, &id) || id > WINDOW || !d->window[id - 1])
            die("a PUBACK for nothing");
        acked[d->window[id - 1]] = (uint8_t)(index + 1);
        d->window[id - 1] = 0;
        acks++;
    } else if (p->type == MQTT_PUBLISH) {
        if (mqtt_publish_decode(p, &m))
            die("a PUBLISH that cannot be read");
        on_down(index, &m);
    }
}

static void listen_to(unsigned index)
{
    struct device *d = &devices[index];
    ssize_t n = recv(d->fd, d->in + d->in_len, sizeof d->in - d->in_len, 0);
    if (n <= 0) {
        d->online = false;
        return;
    }
    d->in_len += (size_t)n;
    struct span in = span_of(d->in, d->in_len);
    struct mqtt_packet p;
    size_t used;
    enum err e;
    while (!(e = mqtt_packet_decode(in, MQTT_BODY_LIMIT, &p, &used))) {
        on_packet(index, &p);
        in = span_skip(in, used);
    }
    if (e != ERR_AGAIN)
        die("the hub speaks no MQTT");
    memmove(d->in, in.p, in.n);
    d->in_len = in.n;
}

static void turn(bool publish)
{
    struct pollfd fds[DEVICES];
    for (unsigned i = 0; i < DEVICES; i++) {
        if (publish)
            refill(i);
        fds[i] = (struct pollfd){ .fd = devices[i].online ? devices[i].fd : -1, .events = POLLIN };
    }
    if (poll(fds, DEVICES, 10000) == 0)
        die("nothing happens for 10 s");
    for (unsigned i = 0; i < DEVICES; i++)
        if (fds[i].revents)
            listen_to(i);
}

/* ---- the story --------------------------------------------------------------------------------------------
 */

static uint32_t next_down; /* first number of the next hub */

static void read_notes(int fd)
{
    struct sent_note n;
    while (read(fd, &n, sizeof n) == sizeof n) {
        notified[n.number] = 1;
        if (n.number >= next_down)
            next_down = n.number + 1;
    }
}

static bool is_everything_down(void)
{
    for (uint32_t i = 0; i < NUMBERS_MAX; i++)
        if (notified[i] && !received[i])
            return false;
    return true;
}

/* One life of the hub. The last one ends when all that waited has come down. */
static void life(bool first, bool last)
{
    int port_pipe[2], notes_pipe[2];
    uint16_t port;
    if (pipe(port_pipe) || pipe(notes_pipe))
        die("pipe");
    /* A note may be lost with the child after the commit: its number must not be used again. */
    uint32_t from = last ? 0 : next_down + DEVICES;
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        close(port_pipe[0]);
        close(notes_pipe[0]);
        hub_main(port_pipe[1], notes_pipe[1], from);
        _exit(1);
    }
    close(port_pipe[1]);
    close(notes_pipe[1]);
    if (read(port_pipe[0], &port, sizeof port) != sizeof port)
        die("the hub does not start");
    for (unsigned i = 0; i < DEVICES; i++)
        dial(i, port, first);
    uint32_t until = acks + 20 + (uint32_t)(rand() % 400), downs_until = downs + (uint32_t)(rand() % 40);
    while (acks < until || (downs < downs_until && !last))
        turn(true);
    while (last && !is_everything_down())
        turn(false);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    read_notes(notes_pipe[0]);
    close(port_pipe[0]);
    close(notes_pipe[0]);
    for (unsigned i = 0; i < DEVICES; i++) {
        close(devices[i].fd);
        devices[i].online = false;
    }
}

static uint8_t buf[1 << 20];
static uint8_t stored[NUMBERS_MAX];

/* Every record belongs to the device and the number it names; every acknowledged number is there. */
static void check_stream(void)
{
    size_t records_nr = 0, lost = 0;
    for (uint32_t partition = 0; partition < 4; partition++) {
        struct stream_record records[256];
        struct stream_read r = { .pos = { partition, STREAM_EARLIEST, 0 },
                                 .buf = buf,
                                 .buf_cap = sizeof buf,
                                 .records = records,
                                 .records_cap = 256 };
        uint64_t next = 0;
        for (;;) {
            r.op.home = &mail;
            r.op.done = flag_done;
            stream_read(hub.stream, &r);
            enum err e = wait_for(&r.op);
            if (e == ERR_AGAIN || (!e && !r.records_nr))
                break;
            if (e)
                die("the stream cannot be read");
            for (size_t i = 0; i < r.records_nr; i++) {
                struct message m;
                struct message_prop p;
                char want[48];
                if (records[i].seq != next++ || message_decode(records[i].record, &m) ||
                    !message_prop_next(&m.props, &p))
                    die("a record is broken or missing");
                unsigned number = (unsigned)strtoul((const char *)p.value.p, NULL, 10);
                snprintf(want, sizeof want, "%.*s:%u", (int)m.device.n, (const char *)m.device.p, number);
                if (number >= NUMBERS_MAX || !span_eq(m.body, span_str(want)))
                    die("a record is not what its device sent");
                stored[number] = (uint8_t)(strtoul((const char *)m.device.p + 4, NULL, 10) + 1);
                records_nr++;
            }
            r.pos = (struct stream_pos){ partition, STREAM_SEQ, r.next_seq };
        }
    }
    for (uint32_t i = 1; i < telemetry_nr; i++)
        lost += acked[i] && stored[i] != acked[i];
    printf("telemetry: %u acknowledged, %zu records, %zu lost\n", acks, records_nr, lost);
    if (lost)
        exit(1);
}

static enum err devices_run(struct store_tx *tx, struct store_op *self)
{
    (void)self;
    for (unsigned i = 0; i < DEVICES; i++) {
        char id[16];
        device_id(id, i);
        struct device_row r = { .id = span_str(id),
                                .key1 = span_of(key, sizeof key),
                                .generation = SPAN("1"),
                                .product = SPAN(""),
                                .origin = SPAN("operator") };
        enum err e = tx_device_put(tx, &r, 0, NULL);
        if (e)
            return e;
    }
    return ERR_OK;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 50;
    unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : (unsigned)clock_wall_ms();
    char cmd[96];
    log_init(LOG_LEVEL_ERROR, stderr);
    srand(seed);
    strcpy(dir, "/tmp/roost-kill-XXXXXX");
    if (!mkdtemp(dir))
        die("mkdtemp");
    backends_open();
    struct store_op op = { .run = devices_run, .op = { .home = &mail, .done = flag_done } };
    store_write(hub.store, &op);
    if (wait_for(&op.op))
        die("the devices cannot be made");
    backends_close();
    for (int i = 0; i <= rounds; i++)
        life(i == 0, i == rounds);
    backends_open();
    check_stream();
    backends_close();
    uint32_t sent = 0, lost = 0;
    for (uint32_t i = 0; i < NUMBERS_MAX; i++) {
        sent += notified[i];
        lost += notified[i] && !received[i];
    }
    printf("down: %u reported durable, %u deliveries, %u lost; %d kills, seed %u\n", sent, downs, lost,
           rounds + 1, seed);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return lost || system(cmd);
}
