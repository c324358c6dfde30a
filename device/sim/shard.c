/* device/sim/shard.c - see shard.h. */
#include "device/sim/shard.h"

#include "base/log.h"
#include "port/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define TURN_EVENTS 256
#define TAG_MAILBOX UINT64_MAX

const char *const sim_counter_names[SIM_COUNTERS] = {
    [SIM_N_SAMPLES] = "telemetrySent",   [SIM_N_ACKED] = "telemetryAcknowledged",
    [SIM_N_CONFIRMED] = "confirmed",     [SIM_N_REVERTED] = "reverted",
    [SIM_N_REFUSED] = "refused",         [SIM_N_HOMELESS] = "homeless",
    [SIM_N_DROPS] = "linkDrops",         [SIM_N_BOOTS] = "boots",
    [SIM_N_CRASHES] = "crashes",         [SIM_N_TLS_REFUSED] = "tlsRefused",
    [SIM_N_UNREACHABLE] = "unreachable", [SIM_N_CONNECTS] = "connects",
    [SIM_N_RESUMED] = "resumed",
};

/* ---- deadlines: a binary heap over the devices ---- */

static void heap_put(struct shard *s, size_t i, struct sim_dev *d)
{
    s->heap[i] = d;
    d->heap_at = i;
}

static void heap_up(struct shard *s, size_t i, struct sim_dev *d)
{
    for (; i && s->heap[(i - 1) / 2]->deadline > d->deadline; i = (i - 1) / 2)
        heap_put(s, i, s->heap[(i - 1) / 2]);
    heap_put(s, i, d);
}

static void heap_down(struct shard *s, size_t i, struct sim_dev *d)
{
    for (size_t child; (child = 2 * i + 1) < s->heap_nr; i = child) {
        if (child + 1 < s->heap_nr && s->heap[child + 1]->deadline < s->heap[child]->deadline)
            child++;
        if (s->heap[child]->deadline >= d->deadline)
            break;
        heap_put(s, i, s->heap[child]);
    }
    heap_put(s, i, d);
}

/* Every device is always in the heap; "never" sinks to the bottom. */
void shard_arm(struct sim_dev *d, uint64_t at_ms)
{
    uint64_t before = d->deadline;
    d->deadline = at_ms;
    if (at_ms < before)
        heap_up(d->shard, d->heap_at, d);
    else if (at_ms > before)
        heap_down(d->shard, d->heap_at, d);
}

/* ---- what devices ask of the shard ---- */

void shard_count(struct shard *s, enum sim_counter c)
{
    atomic_fetch_add_explicit(&s->count[c], 1, memory_order_relaxed);
}

void shard_view(struct sim_dev *d, unsigned view)
{
    if (view == d->view)
        return;
    atomic_fetch_sub_explicit(&d->shard->view[d->view], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&d->shard->view[view], 1, memory_order_relaxed);
    d->view = (uint8_t)view;
}

bool shard_dial_begin(struct sim_dev *d)
{
    struct shard *s = d->shard;
    if (s->dialing < s->dial_cap) {
        s->dialing++;
        return true;
    }
    list_move(&d->waiting, &s->waiting);
    return false;
}

void shard_dial_end(struct shard *s)
{
    s->dialing--;
}

void shard_watch(struct sim_dev *d, enum sim_wire wire, const struct tls_conn *c)
{
    struct epoll_event ev = { .events = tls_conn_events(c),
                              .data.u64 = (uint64_t)(size_t)(d - d->shard->devs) * SIM_WIRES + wire };
    /* The descriptor may be a new one of an old number: the kernel knows best which are registered. */
    if (epoll_ctl(d->shard->epoll_fd, EPOLL_CTL_MOD, tls_conn_fd(c), &ev) < 0 && errno == ENOENT &&
        epoll_ctl(d->shard->epoll_fd, EPOLL_CTL_ADD, tls_conn_fd(c), &ev) < 0)
        log_error("sim.epoll", "errno=%d", errno);
}

/* ---- commands ---- */

void shard_post(struct shard_op *op)
{
    mailbox_post(&op->shard->box, &op->op);
}

static void obey(struct shard *s, struct shard_op *op)
{
    switch (op->cmd) {
    case SIM_CMD_UNPLUG:
        sim_dev_unplug(op->dev);
        break;
    case SIM_CMD_PLUG:
        sim_dev_plug(op->dev);
        break;
    case SIM_CMD_DROP:
        sim_dev_drop(op->dev);
        break;
    case SIM_CMD_FAIL_BOOT:
        op->dev->doomed_next = true;
        break;
    case SIM_CMD_STATUS:
        for (unsigned i = 0; i < s->dev_nr; i++)
            if (!op->dev || op->dev == &s->devs[i])
                op->show(op->ctx, &s->devs[i]);
        break;
    default:
        s->stopping = true;
        break;
    }
}

static void take_commands(struct shard *s)
{
    for (struct op *op = mailbox_take(&s->box), *next; op; op = next) {
        next = op->next;
        obey(s, CONTAINER_OF(op, struct shard_op, op));
        op_complete(op, ERR_OK);
    }
}

/* ---- the loop ---- */

static void census(struct shard *s)
{
    unsigned there = 0;
    for (unsigned i = 0; i < s->dev_nr; i++)
        there += sim_dev_is(&s->devs[i], s->opt);
    atomic_store_explicit(&s->there, there, memory_order_relaxed);
}

static int patience(const struct shard *s, uint64_t census_at)
{
    uint64_t at = s->heap_nr ? s->heap[0]->deadline : UINT64_MAX;
    if (s->opt->until != SIM_UNTIL_NONE && census_at < at)
        at = census_at;
    if (!list_is_empty(&s->waiting) && s->dialing < s->dial_cap)
        return 0;
    if (at <= s->now_ms)
        return 0;
    return at - s->now_ms > 60000 ? 60000 : (int)(at - s->now_ms);
}

static void *run(void *arg)
{
    struct shard *s = (struct shard *)arg;
    struct epoll_event ev[TURN_EVENTS];
    uint64_t census_at = 0;
    while (!s->stopping) {
        int n = epoll_wait(s->epoll_fd, ev, TURN_EVENTS, patience(s, census_at));
        s->now_ms = clock_mono_ms();
        for (int i = 0; i < n; i++) {
            if (ev[i].data.u64 == TAG_MAILBOX)
                take_commands(s);
            else
                sim_dev_ready(&s->devs[ev[i].data.u64 / SIM_WIRES],
                              (enum sim_wire)(ev[i].data.u64 % SIM_WIRES));
        }
        /* Bounded, so that sockets and commands get their turn in a storm of deadlines. */
        for (unsigned i = 0; i < 512 && s->heap_nr && s->heap[0]->deadline <= s->now_ms; i++)
            sim_dev_run(s->heap[0]);
        for (struct list *w; s->dialing < s->dial_cap && (w = list_pop(&s->waiting)) != NULL;) {
            s->dialing++;
            sim_dev_dial(CONTAINER_OF(w, struct sim_dev, waiting));
        }
        if (s->opt->until != SIM_UNTIL_NONE && s->now_ms >= census_at) {
            census(s);
            census_at = s->now_ms + 100;
        }
    }
    return NULL;
}

enum err shard_start(struct shard *s)
{
    if (pthread_create(&s->thread, NULL, run, s) == 0)
        return ERR_OK;
    log_error("sim.thread", "errno=%d", errno);
    return ERR_IO;
}

/* How many descriptors this shard may use beside one link for each device. */
static unsigned http_room(const struct sim_options *o)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
        return 16;
    uint64_t taken = (uint64_t)o->count + 128;
    uint64_t left = lim.rlim_cur > taken ? (lim.rlim_cur - taken) / o->threads : 0;
    return left > 100000 ? 100000 : left < 16 ? 16 : (unsigned)left;
}

enum err shard_new(struct shard **out, const struct sim_options *opt, unsigned index)
{
    struct shard *s = calloc(1, sizeof *s);
    enum err e = ERR_NOMEM;
    struct flash_geometry geo;
    size_t len = flash_geometry_layout(&geo, 4096, 256, opt->slot_len);
    if (!s)
        return ERR_NOMEM;
    s->index = index;
    s->opt = opt;
    s->epoll_fd = s->box.wake_fd = -1;
    list_init(&s->waiting);
    s->now_ms = clock_mono_ms();
    s->dev_nr = (opt->count - index + opt->threads - 1) / opt->threads;
    s->http_cap = http_room(opt);
    s->dial_cap = opt->dials / opt->threads ? opt->dials / opt->threads : 1;
    if (s->dial_cap > s->http_cap / 2)
        s->dial_cap = s->http_cap / 2;
    if ((e = mailbox_init(&s->box)) != ERR_OK || (e = tls_client_new(&s->tls)) != ERR_OK)
        goto fail;
    if (opt->address && (e = tls_client_set_address(s->tls, opt->address)) != ERR_OK) {
        log_error("sim.address", "address=%s error=\"not an address\"", opt->address);
        goto fail;
    }
    e = ERR_NOMEM;
    s->devs = calloc(s->dev_nr, sizeof *s->devs);
    s->heap = calloc(s->dev_nr, sizeof *s->heap); /* of pointers: NOLINT(bugprone-sizeof-expression) */
    if (!s->devs || !s->heap)
        goto fail;
    if (!opt->flash_dir) {
        s->cells_len = len * s->dev_nr;
        s->cells = mmap(NULL, s->cells_len, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (s->cells == MAP_FAILED) {
            s->cells = NULL;
            goto fail;
        }
    }
    struct epoll_event ev = { .events = EPOLLIN, .data.u64 = TAG_MAILBOX };
    e = ERR_IO;
    if ((s->epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->box.wake_fd, &ev) < 0) {
        log_error("sim.epoll", "errno=%d", errno);
        goto fail;
    }
    for (unsigned i = 0; i < s->dev_nr; i++) {
        unsigned id = index + i * opt->threads;
        struct sim_dev *d = &s->devs[i];
        e = sim_dev_init(d, s, id, s->cells ? s->cells + i * len : NULL, len);
        if (e)
            goto fail;
        /* Switched on one after the other, as a street comes back after a power cut. */
        d->power = SIM_BOOTING;
        d->cause = RESET_POWER;
        d->boot_at = s->now_ms + (uint64_t)id * 1000u / opt->start_rate;
        d->view = SIM_VIEW_BOOTING;
        s->view[SIM_VIEW_BOOTING]++;
        d->deadline = d->boot_at;
        s->heap_nr++;
        heap_up(s, i, d);
    }
    *out = s;
    return ERR_OK;
fail:
    shard_free(s);
    return e;
}

void shard_free(struct shard *s)
{
    if (!s)
        return;
    for (unsigned i = 0; s->devs && i < s->dev_nr; i++)
        sim_dev_fini(&s->devs[i]);
    tls_client_free(s->tls);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    if (s->box.wake_fd >= 0)
        mailbox_fini(&s->box);
    if (s->cells)
        munmap(s->cells, s->cells_len);
    free(s->devs);
    free(s->heap);
    free(s);
}
