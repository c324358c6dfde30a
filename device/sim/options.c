/* device/sim/options.c - the command line of roost-sim. To add an option: a line in `table`, one in the
 * switch, one in the help, one in docs/man/roost-sim.1.scd. */
#include "device/sim/options.h"

#include "base/text.h"

#include <getopt.h>
#include <math.h>
#include <stdlib.h>

enum {
    OPT_HUB = 256,
    OPT_ADDRESS,
    OPT_COUNT,
    OPT_BLANK,
    OPT_CLASS,
    OPT_PREFIX,
    OPT_TOKEN,
    OPT_TELEMETRY,
    OPT_CHECKIN,
    OPT_BACKOFF,
    OPT_FAIL_BOOT,
    OPT_DROP_LINK,
    OPT_CONTROL,
    OPT_SEED,
    OPT_DURATION,
    OPT_UNTIL,
    OPT_JSON,
    OPT_LIST,
    OPT_SPREAD,
    OPT_FLASH_DIR,
    OPT_SLOT,
    OPT_THREADS,
    OPT_START_RATE,
    OPT_DIALS,
    OPT_KEEP_LINK,
    OPT_PLAIN,
    OPT_BOOT_TIME,
    OPT_QUIET,
    OPT_HELP,
    OPT_VERSION
};

static const struct option table[] = {
    { "hub", required_argument, NULL, OPT_HUB },
    { "address", required_argument, NULL, OPT_ADDRESS },
    { "count", required_argument, NULL, OPT_COUNT },
    { "blank", no_argument, NULL, OPT_BLANK },
    { "hardware-class", required_argument, NULL, OPT_CLASS },
    { "id-prefix", required_argument, NULL, OPT_PREFIX },
    { "token", required_argument, NULL, OPT_TOKEN },
    { "telemetry-every", required_argument, NULL, OPT_TELEMETRY },
    { "checkin-every", required_argument, NULL, OPT_CHECKIN },
    { "backoff", required_argument, NULL, OPT_BACKOFF },
    { "fail-boot", required_argument, NULL, OPT_FAIL_BOOT },
    { "drop-link", required_argument, NULL, OPT_DROP_LINK },
    { "control", required_argument, NULL, OPT_CONTROL },
    { "seed", required_argument, NULL, OPT_SEED },
    { "duration", required_argument, NULL, OPT_DURATION },
    { "until", required_argument, NULL, OPT_UNTIL },
    { "json", no_argument, NULL, OPT_JSON },
    { "list", no_argument, NULL, OPT_LIST },
    { "source-spread", no_argument, NULL, OPT_SPREAD },
    { "flash-dir", required_argument, NULL, OPT_FLASH_DIR },
    { "slot-kib", required_argument, NULL, OPT_SLOT },
    { "threads", required_argument, NULL, OPT_THREADS },
    { "start-rate", required_argument, NULL, OPT_START_RATE },
    { "dials", required_argument, NULL, OPT_DIALS },
    { "keep-link", no_argument, NULL, OPT_KEEP_LINK },
    { "plain-http", no_argument, NULL, OPT_PLAIN },
    { "boot-time", required_argument, NULL, OPT_BOOT_TIME },
    { "quiet", no_argument, NULL, OPT_QUIET },
    { "help", no_argument, NULL, OPT_HELP },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

static const char help[] =
    "usage: roost-sim --hub BOOTSTRAP_STRING [options]\n"
    "\n"
    "Many devices in one process: the real device engine on simulated flash and real TLS connections.\n"
    "\n"
    "  --hub STRING            bootstrap string of the hub: https://HOST[:PORT]#ca=HEX[&root=HEX]\n"
    "  --address ADDRESS       every host name is at this address\n"
    "  --count N               devices (1; at most 100000, within the limit of descriptors)\n"
    "  --hardware-class P:C[:R] product, hardware class, revision; repeatable, dealt in turn (sim:1:0)\n"
    "  --id-prefix TEXT        proposed ids are TEXT and a number (sim-)\n"
    "  --token TEXT            fleet token; without one the devices wait for approval\n"
    "  --blank                 begin blank even where --flash-dir holds a device's state\n"
    "  --flash-dir DIR         keep each device's flash in a file there; otherwise in memory\n"
    "  --slot-kib N            size of an application slot (960)\n"
    "  --telemetry-every T     period of telemetry (60s; 0: none)\n"
    "  --checkin-every T       period of check-ins (6h)\n"
    "  --backoff MIN,MAX       waiting times after failures (1s,5m)\n"
    "  --fail-boot P%          so many trial images crash at every boot until the loader gives them up\n"
    "  --drop-link P%          so many standing connections break every minute\n"
    "  --keep-link             stay connected while updating\n"
    "  --plain-http            take artifacts over plain HTTP where a ticket offers it\n"
    "  --boot-time T           how long a boot takes (200ms)\n"
    "  --start-rate N          devices switched on a second (400)\n"
    "  --dials N               connections being opened at once (256)\n"
    "  --source-spread         every device has its own address of 127.0.0.0/8\n"
    "  --threads N             threads (1, or 2 from 2000 devices on)\n"
    "  --control PATH          commands on this unix socket; -: on standard input\n"
    "  --seed N                same seed, same choices\n"
    "  --until online | confirmed=VERSION | settled=VERSION\n"
    "                          end when all devices with power are there (settled: confirmed or reverted)\n"
    "  --duration T            end after this time; exit code 6 when --until was not reached\n"
    "  --json [--list]         summary as JSON on standard output, with a line for every device\n"
    "  --quiet                 no progress\n"
    "  --help, --version\n"
    "\n"
    "Times: 500ms, 10s, 5m, 6h. Commands: unplug ID, plug ID, drop ID, fail-boot ID, status [ID], stop.\n";

static bool parse_time(const char *text, uint64_t max_ms, uint64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits;
    uint64_t v, scale = strcmp(unit, "ms") == 0                ? 1
                        : strcmp(unit, "s") == 0 || *unit == 0 ? 1000
                        : strcmp(unit, "m") == 0               ? 60000
                        : strcmp(unit, "h") == 0               ? 3600000
                                                               : 0;
    if (!scale || u64_parse(span_of(text, digits), max_ms / scale, &v) != ERR_OK)
        return false;
    *out = v * scale;
    return true;
}

static bool parse_time32(const char *text, uint32_t *out)
{
    uint64_t v;
    if (!parse_time(text, UINT32_MAX, &v))
        return false;
    *out = (uint32_t)v;
    return true;
}

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t v;
    if (u64_parse(span_str(text), max, &v) != ERR_OK || v < min)
        return false;
    *out = v;
    return true;
}

static bool parse_unsigned(const char *text, unsigned min, unsigned max, unsigned *out)
{
    uint64_t v;
    if (!parse_number(text, min, max, &v))
        return false;
    *out = (unsigned)v;
    return true;
}

static bool parse_percent(const char *text, double *out)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || (*end && strcmp(end, "%") != 0) || !isfinite(v) || v < 0 || v > 100)
        return false;
    *out = v / 100;
    return true;
}

/* PRODUCT:CLASS[:REV]; a product may contain colons no more than the bootstrap request allows: none. */
static bool parse_class(const char *text, struct sim_class *out)
{
    const char *first = strchr(text, ':');
    uint64_t hw_class, rev = 0;
    if (!first || first == text || (size_t)(first - text) > SIM_PRODUCT_MAX)
        return false;
    const char *second = strchr(first + 1, ':');
    size_t n = second ? (size_t)(second - first - 1) : strlen(first + 1);
    if (u64_parse(span_of(first + 1, n), UINT16_MAX, &hw_class) != ERR_OK ||
        (second && u64_parse(span_str(second + 1), UINT8_MAX, &rev) != ERR_OK))
        return false;
    *out = (struct sim_class){ span_of(text, (size_t)(first - text)), (uint16_t)hw_class, (uint8_t)rev };
    return true;
}

static bool parse_until(const char *text, struct sim_options *o)
{
    static const char confirmed[] = "confirmed=", settled[] = "settled=";
    if (strcmp(text, "online") == 0) {
        o->until = SIM_UNTIL_ONLINE;
        return true;
    }
    if (strncmp(text, confirmed, sizeof confirmed - 1) == 0) {
        o->until = SIM_UNTIL_CONFIRMED;
        o->until_version = text + sizeof confirmed - 1;
    } else if (strncmp(text, settled, sizeof settled - 1) == 0) {
        o->until = SIM_UNTIL_SETTLED;
        o->until_version = text + sizeof settled - 1;
    }
    return o->until_version && *o->until_version;
}

static bool parse_backoff(const char *text, struct sim_options *o)
{
    char min[32];
    const char *comma = strchr(text, ',');
    if (!comma || (size_t)(comma - text) >= sizeof min)
        return false;
    memcpy(min, text, (size_t)(comma - text));
    min[comma - text] = 0;
    return parse_time32(min, &o->backoff_min_ms) && parse_time32(comma + 1, &o->backoff_max_ms) &&
           o->backoff_min_ms > 0 && o->backoff_min_ms <= o->backoff_max_ms;
}

static bool take(int opt, const char *arg, struct sim_options *o, bool *has_hub)
{
    uint64_t v;
    switch (opt) {
    case OPT_HUB:
        return *has_hub = bootstrap_string_decode(span_str(arg), &o->hub) == ERR_OK;
    case OPT_ADDRESS:
        o->address = arg;
        return true;
    case OPT_COUNT:
        return parse_unsigned(arg, 1, SIM_COUNT_MAX, &o->count);
    case OPT_BLANK:
        return o->blank = true;
    case OPT_CLASS:
        return o->class_nr < SIM_CLASS_MAX && parse_class(arg, &o->classes[o->class_nr++]);
    case OPT_PREFIX:
        o->id_prefix = arg;
        return strlen(arg) <= 100;
    case OPT_TOKEN:
        o->token = arg;
        return true;
    case OPT_TELEMETRY:
        return parse_time32(arg, &o->telemetry_every_ms);
    case OPT_CHECKIN:
        return parse_time32(arg, &o->checkin_every_ms);
    case OPT_BACKOFF:
        return parse_backoff(arg, o);
    case OPT_FAIL_BOOT:
        return parse_percent(arg, &o->fail_boot);
    case OPT_DROP_LINK:
        return parse_percent(arg, &o->drop_link);
    case OPT_CONTROL:
        o->control = arg;
        return *arg != 0;
    case OPT_SEED:
        return parse_number(arg, 0, UINT64_MAX, &o->seed);
    case OPT_DURATION:
        return parse_time(arg, UINT64_MAX, &o->duration_ms);
    case OPT_UNTIL:
        return parse_until(arg, o);
    case OPT_JSON:
        return o->json = true;
    case OPT_LIST:
        return o->list = true;
    case OPT_SPREAD:
        return o->source_spread = true;
    case OPT_FLASH_DIR:
        o->flash_dir = arg;
        return *arg != 0;
    case OPT_SLOT:
        if (!parse_number(arg, 4, 65536, &v) || v % 4)
            return false;
        o->slot_len = (uint32_t)v * 1024;
        return true;
    case OPT_THREADS:
        return parse_unsigned(arg, 1, SIM_THREAD_MAX, &o->threads);
    case OPT_START_RATE:
        return parse_unsigned(arg, 1, SIM_COUNT_MAX, &o->start_rate);
    case OPT_DIALS:
        return parse_unsigned(arg, 1, SIM_COUNT_MAX, &o->dials);
    case OPT_KEEP_LINK:
        return o->keep_link = true;
    case OPT_PLAIN:
        return o->plain_http = true;
    case OPT_BOOT_TIME:
        return parse_time32(arg, &o->boot_ms);
    default:
        return o->quiet = opt == OPT_QUIET;
    }
}

int sim_options_parse(int argc, char **argv, struct sim_options *out, FILE *to, FILE *err)
{
    struct sim_options o = { .count = 1,
                             .id_prefix = "sim-",
                             .telemetry_every_ms = 60000,
                             .slot_len = 960 * 1024,
                             .boot_ms = 200,
                             .start_rate = 400,
                             .dials = 256,
                             .seed = 1 };
    bool has_hub = false;
    int index = 0;
    optind = 0; /* glibc: begin anew, also in a test that parses twice */
    opterr = 0;
    for (int opt; (opt = getopt_long(argc, argv, ":", table, &index)) != -1;) {
        if (opt == OPT_HELP || opt == OPT_VERSION) {
            fputs(opt == OPT_HELP ? help : "roost-sim " ROOST_VERSION "\n", to);
            return SIM_HELP;
        }
        if (opt == ':' || opt == '?') {
            fprintf(err, "roost-sim: %s: %s; see roost-sim --help\n", argv[optind - 1],
                    opt == ':' ? "needs a value" : "unknown option");
            return SIM_USAGE;
        }
        if (!take(opt, optarg, &o, &has_hub)) {
            fprintf(err, "roost-sim: --%s: \"%s\" is not a value for it; see roost-sim --help\n",
                    table[index].name, optarg ? optarg : "");
            return SIM_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(err, "roost-sim: %s: unexpected; see roost-sim --help\n", argv[optind]);
        return SIM_USAGE;
    }
    if (!has_hub) {
        fputs("roost-sim: --hub is missing: the bootstrap string that `roostd init` printed\n", err);
        return SIM_USAGE;
    }
    if (!o.class_nr)
        o.classes[o.class_nr++] = (struct sim_class){ SPAN("sim"), 1, 0 };
    if (!o.threads)
        o.threads = o.count >= 2000 ? 2 : 1;
    if (o.threads > o.count)
        o.threads = o.count;
    *out = o;
    return SIM_DONE;
}
