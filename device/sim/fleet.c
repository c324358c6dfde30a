/* device/sim/fleet.c - see fleet.h. To add a command: a line in `commands`, one in shard.c's obey. */
#include "device/sim/fleet.h"

#include "base/text.h"
#include "port/clock.h"

#include <stdlib.h>

enum err fleet_start(struct fleet *f, const struct sim_options *opt)
{
    *f = (struct fleet){ .opt = opt, .box.wake_fd = -1, .started_ms = clock_mono_ms() };
    enum err e = mailbox_init(&f->box);
    for (unsigned i = 0; i < opt->threads && !e; i++)
        if ((e = shard_new(&f->shards[i], opt, i)) == ERR_OK)
            f->shard_nr++;
    unsigned started = 0;
    while (!e && started < f->shard_nr)
        if ((e = shard_start(f->shards[started])) == ERR_OK)
            started++;
    f->running = !e;
    if (!e)
        return e;
    for (unsigned i = started; i < f->shard_nr; i++) {
        shard_free(f->shards[i]);
        f->shards[i] = NULL;
    }
    f->shard_nr = started;
    f->running = started > 0;
    fleet_stop(f);
    fleet_fini(f);
    return e;
}

static void no_op(struct op *op)
{
    (void)op;
}

/* Hands the command over and waits: the shard never waits for us, so this ends soon. */
static void ask(struct fleet *f, struct shard *s, enum sim_cmd cmd, struct sim_dev *dev,
                void (*show)(void *ctx, const struct sim_dev *d), void *ctx)
{
    struct shard_op op = {
        .op = { .home = &f->box, .done = no_op }, .shard = s, .cmd = cmd, .dev = dev, .show = show, .ctx = ctx
    };
    shard_post(&op);
    while (!mailbox_take(&f->box))
        mailbox_wait(&f->box, -1);
}

void fleet_stop(struct fleet *f)
{
    for (unsigned i = 0; i < f->shard_nr && f->running; i++) {
        ask(f, f->shards[i], SIM_CMD_STOP, NULL, NULL, NULL);
        pthread_join(f->shards[i]->thread, NULL);
    }
    f->running = false;
    f->ended_ms = clock_mono_ms();
}

void fleet_fini(struct fleet *f)
{
    for (unsigned i = 0; i < f->shard_nr; i++)
        shard_free(f->shards[i]);
    f->shard_nr = 0;
    mailbox_fini(&f->box);
}

void fleet_counts(const struct fleet *f, struct fleet_counts *out)
{
    *out = (struct fleet_counts){ .there = 0 };
    for (unsigned i = 0; i < f->shard_nr; i++) {
        struct shard *s = f->shards[i];
        for (unsigned v = 0; v < SIM_VIEWS; v++)
            out->view[v] += atomic_load_explicit(&s->view[v], memory_order_relaxed);
        for (unsigned c = 0; c < SIM_COUNTERS; c++)
            out->count[c] += atomic_load_explicit(&s->count[c], memory_order_relaxed);
        out->there += atomic_load_explicit(&s->there, memory_order_relaxed);
    }
}

bool fleet_is_there(const struct fleet *f, const struct fleet_counts *c)
{
    return f->opt->until != SIM_UNTIL_NONE && c->there == f->opt->count;
}

static struct sim_dev *find(const struct fleet *f, const char *id)
{
    for (unsigned i = 0; i < f->shard_nr; i++)
        for (unsigned k = 0; k < f->shards[i]->dev_nr; k++)
            if (strcmp(f->shards[i]->devs[k].id, id) == 0) /* set at start, never changed */
                return &f->shards[i]->devs[k];
    return NULL;
}

static json_t *hex_json(const uint8_t *p, size_t n)
{
    uint8_t text[2 * OBJECT_ID_LEN];
    struct wr w = { text, sizeof text, 0 };
    hex_encode(&w, span_of(p, n));
    return json_stringn((const char *)text, w.len);
}

static json_t *dev_json(const struct sim_dev *d)
{
    struct span id = d->engine_up ? roost_dev_id(&d->engine) : SPAN_NONE;
    json_t *o = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:I}", "id", d->id, "phase",
                          sim_view_names[d->view], "version", d->version, "confirmed", (int)d->confirmed,
                          "reverted", (int)d->reverted, "telemetrySent", (int)d->samples,
                          "telemetryAcknowledged", (int)d->acked, "boots", (int)d->boots, "crashes",
                          (int)d->crashes, "erases", (json_int_t)sim_dev_erases(d));
    if (id.n)
        json_object_set_new(o, "deviceId", json_stringn((const char *)id.p, id.n));
    if (d->version[0])
        json_object_set_new(o, "release", hex_json(d->running, sizeof d->running));
    if (d->boot.trial && d->power != SIM_OFF)
        json_object_set_new(o, "trial", json_true());
    if (d->last_reason)
        json_object_set_new(o, "reason", json_string(reason_name(d->last_reason)));
    return o;
}

static void show_dev(void *ctx, const struct sim_dev *d)
{
    json_array_append_new((json_t *)ctx, dev_json(d));
}

static json_t *counts_json(const struct fleet_counts *c)
{
    json_t *phases = json_object(), *counts = json_object();
    for (unsigned v = 0; v < SIM_VIEWS; v++)
        json_object_set_new(phases, sim_view_names[v], json_integer(c->view[v]));
    for (unsigned i = 0; i < SIM_COUNTERS; i++)
        json_object_set_new(counts, sim_counter_names[i], json_integer((json_int_t)c->count[i]));
    return json_pack("{s:o, s:o}", "phases", phases, "counts", counts);
}

static json_t *refuse(const char *why)
{
    return json_pack("{s:b, s:s}", "ok", 0, "error", why);
}

json_t *fleet_command(struct fleet *f, const char *line, bool *stop)
{
    static const struct {
        const char *name;
        enum sim_cmd cmd;
        bool needs_id;
    } commands[] = {
        { "unplug", SIM_CMD_UNPLUG, true },  { "plug", SIM_CMD_PLUG, true },
        { "drop", SIM_CMD_DROP, true },      { "fail-boot", SIM_CMD_FAIL_BOOT, true },
        { "status", SIM_CMD_STATUS, false }, { "stop", SIM_CMD_STOP, false },
    };
    char name[16] = "", id[SIM_ID_CAP] = "", more[2] = "";
    int words = sscanf(line, "%15s %127s %1s", name, id, more);
    for (size_t i = 0; words > 0 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, name) != 0)
            continue;
        struct sim_dev *d = words > 1 ? find(f, id) : NULL;
        if (words > 2)
            return refuse("one device id, please");
        if (words > 1 && !d)
            return refuse("no such device");
        if (commands[i].needs_id && !d)
            return refuse("which device?");
        if (commands[i].cmd == SIM_CMD_STOP) {
            *stop = true;
            return json_pack("{s:b}", "ok", 1);
        }
        if (commands[i].cmd != SIM_CMD_STATUS) {
            ask(f, d->shard, commands[i].cmd, d, NULL, NULL);
            return json_pack("{s:b}", "ok", 1);
        }
        struct fleet_counts c;
        json_t *list = json_array();
        for (unsigned k = 0; k < f->shard_nr; k++)
            if (!d || d->shard == f->shards[k])
                ask(f, f->shards[k], SIM_CMD_STATUS, d, show_dev, list);
        fleet_counts(f, &c);
        json_t *o = counts_json(&c);
        json_object_set_new(o, "ok", json_true());
        json_object_set_new(o, "devices", list);
        return o;
    }
    return refuse("commands: unplug ID, plug ID, drop ID, fail-boot ID, status [ID], stop");
}

json_t *fleet_summary(const struct fleet *f, bool list)
{
    struct fleet_counts c;
    json_int_t erases = 0, worst = 0;
    json_t *devices = json_array(), *versions = json_object();
    fleet_counts(f, &c);
    for (unsigned i = 0; i < f->shard_nr; i++)
        for (unsigned k = 0; k < f->shards[i]->dev_nr; k++) {
            const struct sim_dev *d = &f->shards[i]->devs[k];
            erases += sim_dev_erases(d);
            for (uint32_t n = 0; n < (d->flash->geo.slot[1] + d->flash->geo.slot_len) / 4096u; n++)
                worst = d->wear[n] > worst ? d->wear[n] : worst;
            const char *v = d->version[0] ? d->version : "blank";
            json_object_set_new(versions, v,
                                json_integer(json_integer_value(json_object_get(versions, v)) + 1));
            if (list)
                show_dev(devices, d);
        }
    json_t *o = counts_json(&c);
    json_object_set_new(o, "devices", json_integer(f->opt->count));
    json_object_set_new(o, "seconds", json_real((double)(f->ended_ms - f->started_ms) / 1000.0));
    json_object_set_new(o, "reached",
                        f->opt->until == SIM_UNTIL_NONE ? json_null() : json_boolean(f->reached));
    json_object_set_new(o, "versions", versions);
    json_object_set_new(o, "flashErases", json_integer(erases));
    json_object_set_new(o, "worstSectorErases", json_integer(worst));
    if (list)
        json_object_set(o, "list", devices);
    json_decref(devices);
    return o;
}

void fleet_print(const struct fleet *f, FILE *to)
{
    json_t *o = fleet_summary(f, false), *v;
    const char *name;
    fprintf(to, "%u devices, %.1f s\n", f->opt->count, json_real_value(json_object_get(o, "seconds")));
    static const char *const parts[] = { "phases", "versions", "counts" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        fprintf(to, "%-9s", parts[i]);
        json_object_foreach(json_object_get(o, parts[i]), name, v) if (json_integer_value(v))
            fprintf(to, "  %s %lld", name, (long long)json_integer_value(v));
        fputc('\n', to);
    }
    fprintf(to, "flash      erases %lld, most worn sector %lld\n",
            (long long)json_integer_value(json_object_get(o, "flashErases")),
            (long long)json_integer_value(json_object_get(o, "worstSectorErases")));
    json_decref(o);
}

void fleet_progress(const struct fleet *f, const struct fleet_counts *c, FILE *to, bool terminal)
{
    fprintf(to, "%s%5.1fs", terminal ? "\r\033[K" : "", (double)(clock_mono_ms() - f->started_ms) / 1000.0);
    for (unsigned v = 0; v < SIM_VIEWS; v++)
        if (c->view[v])
            fprintf(to, "  %s %u", sim_view_names[v], c->view[v]);
    fprintf(to, "  | confirmed %llu reverted %llu  telemetry %llu/%llu%s",
            (unsigned long long)c->count[SIM_N_CONFIRMED], (unsigned long long)c->count[SIM_N_REVERTED],
            (unsigned long long)c->count[SIM_N_ACKED], (unsigned long long)c->count[SIM_N_SAMPLES],
            terminal ? "" : "\n");
    fflush(to);
}
