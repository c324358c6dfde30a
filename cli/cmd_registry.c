/* cli/cmd_registry.c - roost device import, roost device export: all identities with their twins as a file,
 * and the automatic configurations as another. The file goes through a container of the hub, and a job of the
 * hub does the work: it goes on when this program is gone. */
#include "cli/commands.h"
#include "cli/file.h"
#include "cli/hub_client.h"
#include "cli/out.h"
#include "cli/part.h"
#include "cli/profile.h"

#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#define PIECE      (4u << 20) /* bytes of a file that are sent or fetched at a time */
#define ID_LEN     8u         /* of a block's number */
#define SHOWN_MAX  20u        /* refused lines that a person sees */
#define ERRORS_MAX 1000u      /* of them with --json */
#define POLL_MS    250u

static const char devices_txt[] = "devices.txt", configurations_txt[] = "configurations.txt";

struct transfer {
    struct cli *c;
    const char *container;
    char *sas;     /* "?sv=..." */
    char name[40]; /* the folder of this run: "cli-0123456789abcdef" */
};

/* "/registry/cli-.../devices.txt?sv=...&tail" */
static char *blob_path(const struct transfer *t, const char *blob, const char *tail)
{
    size_t cap = strlen(t->container) + strlen(t->name) + strlen(blob) + strlen(t->sas) + strlen(tail) + 4;
    char *p = cli_alloc(cap);
    snprintf(p, cap, "/%s/%s/%s%s%s", t->container, t->name, blob, t->sas, tail);
    return p;
}

/* The answer's status has to be one of 200 to 299; it is freed. */
static int ask(struct cli *c, const struct hub_request *r, const char *what)
{
    struct hub_answer a = { 0 };
    int rc = hub_ask(c, r, &a);
    if (rc)
        rc = hub_unreachable(c, &a);
    else if (a.status < 200 || a.status > 299)
        rc = hub_complain(&a, what);
    hub_answer_free(&a);
    return rc;
}

static int begin(struct transfer *t, struct cli *c, const struct args *a)
{
    uint8_t random[8];
    json_t *doc = NULL;
    struct wr w = { (uint8_t *)t->name + 4, sizeof t->name - 5, 0 };
    *t = (struct transfer){ .c = c, .container = args_get(a, "container"), .name = "cli-" };
    if (!t->container)
        t->container = "registry";
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return cli_fail(CLI_USAGE, NULL, "no random numbers: %s", strerror(errno));
    hex_encode(&w, span_of(random, sizeof random));
    char *path = hub_path("/roost/v1/containers/", t->container, "/sas");
    int rc = hub_json(c, "POST", path, json_pack("{s:s,s:i}", "permissions", "rwdl", "ttlSeconds", 86400),
                      "asking for access to the container", &doc);
    free(path);
    if (!rc && !json_text(doc, "sasToken"))
        rc = cli_fail(CLI_UNREACHABLE, NULL, "the hub gave no signature");
    if (!rc)
        t->sas = strdup(json_text(doc, "sasToken"));
    json_decref(doc);
    return rc;
}

static void end(struct transfer *t)
{
    if (t->sas)
        explicit_bzero(t->sas, strlen(t->sas));
    free(t->sas);
}

/* What is left over is removed by the hub after some weeks: a failure here is none. */
static void remove_blob(struct transfer *t, const char *blob)
{
    struct hub_answer a = { 0 };
    char *path = blob_path(t, blob, "");
    if (!hub_ask(t->c, &(struct hub_request){ .method = "DELETE", .path = path }, &a))
        hub_answer_free(&a);
    free(path);
}

/* ---- the job --------------------------------------------------------------------------------------------
 */

/* Of both kinds of job: names a file of this run in the container. */
static void name_blob(const struct transfer *t, json_t *body, const char *member, const char *blob)
{
    char name[80];
    snprintf(name, sizeof name, "%s/%s", t->name, blob);
    json_object_set_new(body, member, json_string(name));
}

static void name_configurations(const struct transfer *t, json_t *body, const struct args *a)
{
    if (!args_get(a, "configurations"))
        return;
    json_object_set_new(body, "includeConfigurations", json_true());
    name_blob(t, body, "configurationsBlobName", configurations_txt);
}

/* Starts it and waits for its end. *job is the caller's. */
static int run_job(struct transfer *t, json_t *body, const char *what, uint64_t bytes, json_t **job)
{
    char uri[600];
    struct progress p;
    struct timespec pause = { 0, POLL_MS * 1000000l };
    snprintf(uri, sizeof uri, "https://%s/%s", hub_profile(t->c)->host, t->container);
    json_object_set_new(body, "storageAuthenticationType", json_string("identityBased"));
    json_object_set_new(body, "outputBlobContainerUri", json_string(uri));
    json_object_set_new(body, "inputBlobContainerUri", json_string(uri));
    int rc = hub_json(t->c, "POST", "/jobs/create?api-version=2021-04-12", body, what, job);
    if (rc)
        return rc;
    char *path = hub_path("/jobs/", json_text(*job, "jobId") ? json_text(*job, "jobId") : "",
                          "?api-version=2021-04-12");
    bool begun = false;
    while (!rc) {
        uint64_t total = bytes ? bytes : json_number(*job, "totalCount", 0);
        if (!begun && total) { /* of an export it is known when it has begun */
            bytes ? progress_begin(&p, t->c, what, total, 0) : progress_begin_count(&p, t->c, what, total, 0);
            begun = true;
        }
        if (begun) {
            p.total = total;
            progress_set(&p, bytes ? bytes * json_number(*job, "progress", 0) / 100
                                   : json_number(*job, "succeededCount", 0));
        }
        if (json_text(*job, "endTimeUtc"))
            break;
        nanosleep(&pause, NULL);
        json_decref(*job);
        *job = NULL;
        rc = hub_json(t->c, "GET", path, NULL, what, job);
    }
    if (begun)
        progress_end(&p);
    free(path);
    return rc;
}

/* Any end but "completed". */
static int job_failed(const json_t *job, const char *what)
{
    const char *status = json_text(job, "status"), *reason = json_text(job, "failureReason");
    if (status && strcmp(status, "completed") == 0)
        return CLI_OK;
    return cli_fail(CLI_FAILED, NULL, "the %s is %s%s%s", what, status ? status : "lost", reason ? ": " : "",
                    reason ? reason : "");
}

/* ---- fetching -------------------------------------------------------------------------------------------
 */

static int fetch(struct transfer *t, const char *blob, FILE *to)
{
    char *path = blob_path(t, blob, "");
    int rc = CLI_OK;
    bool last = false;
    for (uint64_t at = 0; !rc && !last;) {
        char range[80];
        struct hub_answer a = { 0 };
        snprintf(range, sizeof range, "Range: bytes=%llu-%llu", (unsigned long long)at,
                 (unsigned long long)(at + PIECE - 1));
        rc = hub_ask(t->c, &(struct hub_request){ .method = "GET", .path = path, .header = range }, &a);
        if (rc)
            rc = hub_unreachable(t->c, &a);
        else if (a.status == 416) /* it ended with the piece before, or it is empty */
            a.body_len = 0;
        else if (a.status != 200 && a.status != 206)
            rc = hub_complain(&a, "fetching the file");
        else if (a.body_len && fwrite(a.body, 1, a.body_len, to) != a.body_len)
            rc = cli_fail(CLI_USAGE, NULL, "cannot write: %s", strerror(errno));
        last = a.status == 200 || a.body_len < PIECE;
        at += a.body_len;
        hub_answer_free(&a);
    }
    free(path);
    return rc;
}

/* ---- export ---------------------------------------------------------------------------------------------
 */

int device_export(struct cli *c, const struct args *a)
{
    struct transfer t = { .c = c };
    struct part to = { 0 }, configurations = { 0 }; /* with keys: their owner's alone */
    const char *second = args_get(a, "configurations");
    json_t *job = NULL;
    if (second && strcmp(second, a->pos[0]) == 0)
        return cli_fail(CLI_REFUSED, NULL, "the two files have to be two");
    int rc = part_open(&to, a->pos[0], 0600);
    if (!rc && second)
        rc = part_open(&configurations, second, 0600);
    if (!rc)
        rc = begin(&t, c, a);
    if (!rc) {
        json_t *body =
            json_pack("{s:s,s:b}", "type", "export", "excludeKeysInExport", args_has(a, "no-keys"));
        name_blob(&t, body, "outputBlobName", devices_txt);
        name_configurations(&t, body, a);
        rc = run_job(&t, body, "export", 0, &job);
    }
    if (!rc)
        rc = job_failed(job, "export");
    if (!rc)
        rc = fetch(&t, devices_txt, to.f);
    if (!rc && second)
        rc = fetch(&t, configurations_txt, configurations.f);
    if (second)
        rc = part_close(&configurations, rc);
    rc = part_close(&to, rc);
    if (job) {
        remove_blob(&t, devices_txt);
        if (second)
            remove_blob(&t, configurations_txt);
    }
    if (!rc && c->json && strcmp(a->pos[0], "-") != 0)
        json_print(json_incref(job));
    else if (!rc && strcmp(a->pos[0], "-") != 0)
        cli_say(c, "%llu identities in %s%s\n", (unsigned long long)json_number(job, "succeededCount", 0),
                a->pos[0], args_has(a, "no-keys") ? "" : ": it has their keys");
    json_decref(job);
    end(&t);
    return rc;
}

/* ---- import ---------------------------------------------------------------------------------------------
 */

static void block_id(uint64_t nr, char out[3 * ID_LEN + 8])
{
    char text[ID_LEN + 1];
    uint8_t base64[2 * ID_LEN];
    struct wr b = { base64, sizeof base64, 0 }, w = { (uint8_t *)out, 3 * ID_LEN + 7, 0 };
    snprintf(text, sizeof text, "%08u", (unsigned)nr);
    base64_encode(&b, span_str(text));
    percent_encode(&w, wr_span(&b));
    out[w.len] = 0;
}

static int send_list(struct transfer *t, const char *blob, uint64_t blocks)
{
    size_t cap = 64 + (size_t)blocks * 64;
    struct wr w = { cli_alloc(cap), cap, 0 };
    wr_str(&w, "<?xml version=\"1.0\"?><BlockList>");
    for (uint64_t i = 0; i < blocks; i++) {
        char text[ID_LEN + 1];
        snprintf(text, sizeof text, "%08u", (unsigned)i);
        wr_str(&w, "<Latest>");
        base64_encode(&w, span_str(text));
        wr_str(&w, "</Latest>");
    }
    wr_str(&w, "</BlockList>");
    char *path = blob_path(t, blob, "&comp=blocklist");
    int rc = ask(t->c,
                 &(struct hub_request){ .method = "PUT",
                                        .path = path,
                                        .content_type = "application/xml",
                                        .body = wr_span(&w),
                                        .silent_s = 600 },
                 "sending the file");
    free(path);
    free(w.p);
    return rc;
}

static int send_file(struct transfer *t, const char *blob, FILE *f, uint64_t size, uint64_t *sent)
{
    uint8_t *piece = cli_alloc(PIECE);
    struct progress p;
    uint64_t blocks = 0, all = 0;
    int rc = CLI_OK;
    progress_begin(&p, t->c, "upload", size, 0);
    for (size_t n; !rc && (n = fread(piece, 1, PIECE, f)) > 0; blocks++) {
        char id[3 * ID_LEN + 8], tail[64];
        block_id(blocks, id);
        snprintf(tail, sizeof tail, "&comp=block&blockid=%s", id);
        char *path = blob_path(t, blob, tail);
        rc = ask(t->c,
                 &(struct hub_request){ .method = "PUT",
                                        .path = path,
                                        .content_type = "application/octet-stream",
                                        .body = span_of(piece, n) },
                 "sending the file");
        free(path);
        all += n;
        p.total = all > size ? all : size; /* of a pipe it is not known */
        if (!rc)
            progress_set(&p, all);
    }
    progress_end(&p);
    *sent += all;
    if (!rc && ferror(f))
        rc = cli_fail(CLI_USAGE, NULL, "cannot read: %s", strerror(errno));
    free(piece);
    return rc ? rc : send_list(t, blob, blocks);
}

/* "-": standard input. NULL: it cannot be read, and that has been said. *size: 0 when it is not known. */
static FILE *open_input(const char *name, uint64_t *size)
{
    *size = 0;
    if (strcmp(name, "-") == 0)
        return stdin;
    FILE *f = fopen(name, "rb");
    if (!f) {
        (void)cli_fail(CLI_USAGE, NULL, "cannot read %s: %s", name, strerror(errno));
        return NULL;
    }
    if (!fseeko(f, 0, SEEK_END)) {
        off_t n = ftello(f);
        *size = n > 0 ? (uint64_t)n : 0;
        rewind(f);
    }
    return f;
}

/* The refused lines: into a file of the caller's, a person's eyes, and the list. */
static int take_errors(struct transfer *t, const char *name, json_t *list)
{
    char *line = NULL;
    size_t cap = 0, nr = 0;
    struct part part = { 0 };
    FILE *f = tmpfile();
    if (!f)
        return cli_fail(CLI_USAGE, NULL, "cannot keep the refused lines: %s", strerror(errno));
    int rc = fetch(t, "importErrors.log", f);
    rewind(f);
    if (!rc && name)
        rc = part_open(&part, name, 0600);
    for (ssize_t n; !rc && (n = getline(&line, &cap, f)) > 0; nr++) {
        if (name)
            fwrite(line, 1, (size_t)n, part.f);
        if (nr < ERRORS_MAX)
            (void)json_array_append_new(list, json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL));
        if (nr < SHOWN_MAX && !t->c->json) {
            line[n - 1] = 0;
            fprintf(stderr, "refused: %s\n", printable(line));
        }
    }
    if (nr > SHOWN_MAX && !t->c->json && !name)
        fprintf(stderr, "and %zu more: --errors FILE keeps them all\n", nr - SHOWN_MAX);
    free(line);
    fclose(f);
    return part_close(&part, rc);
}

static int import_lines(struct transfer *t, const struct args *a, uint64_t bytes, json_t **job)
{
    json_t *list = json_array(), *body = json_pack("{s:s}", "type", "import");
    name_blob(t, body, "inputBlobName", devices_txt);
    name_blob(t, body, "errorsBlobName", "importErrors.log");
    name_configurations(t, body, a);
    if (args_get(a, "mode"))
        json_object_set_new(body, "importMode", json_string(args_get(a, "mode")));
    int rc = run_job(t, body, "import", bytes, job);
    if (!rc && json_number(*job, "failedCount", 0))
        rc = take_errors(t, args_get(a, "errors"), list);
    if (!rc)
        rc = job_failed(*job, "import");
    if (*job)
        json_object_set(*job, "errors", list);
    json_decref(list);
    return rc;
}

/* Asked before the file is sent. */
static bool mode_ok(const char *mode)
{
    static const char *const modes[] = { "create",
                                         "createOrUpdate",
                                         "createOrUpdateIfMatchETag",
                                         "update",
                                         "updateIfMatchETag",
                                         "delete",
                                         "deleteIfMatchETag",
                                         "updateTwin",
                                         "updateTwinIfMatchETag" };
    bool ok = !mode;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0] && !ok; i++)
        ok = strcasecmp(mode, modes[i]) == 0;
    return ok;
}

int device_import(struct cli *c, const struct args *a)
{
    struct transfer t = { .c = c };
    json_t *job = NULL;
    const char *second = args_get(a, "configurations");
    uint64_t size, second_size, sent = 0;
    if (!mode_ok(args_get(a, "mode")))
        return cli_fail(CLI_REFUSED, "docs/registry.md lists them.",
                        "--mode: '%s' is none of create, update, "
                        "createOrUpdate, delete, updateTwin, or one of them with IfMatchETag",
                        args_get(a, "mode"));
    if (second && strcmp(second, a->pos[0]) == 0)
        return cli_fail(CLI_REFUSED, NULL, "the two files have to be two");
    FILE *f = open_input(a->pos[0], &size), *g = f && second ? open_input(second, &second_size) : NULL;
    int rc = f && (g || !second) ? begin(&t, c, a) : CLI_USAGE;
    bool begun = !rc;
    if (!rc)
        rc = send_file(&t, devices_txt, f, size, &sent);
    if (!rc && g)
        rc = send_file(&t, configurations_txt, g, second_size, &sent);
    if (f && f != stdin)
        fclose(f);
    if (g && g != stdin)
        fclose(g);
    if (!rc)
        rc = import_lines(&t, a, sent ? sent : 1, &job);
    if (begun) {
        remove_blob(&t, devices_txt);
        if (second)
            remove_blob(&t, configurations_txt);
    }
    if (job)
        remove_blob(&t, "importErrors.log");
    uint64_t good = json_number(job, "succeededCount", 0), bad = json_number(job, "failedCount", 0);
    if (job && c->json)
        json_print(json_incref(job));
    else if (job)
        cli_say(c, "%llu lines applied, %llu refused\n", (unsigned long long)good, (unsigned long long)bad);
    if (!rc && bad)
        rc = cli_fail(CLI_FAILED, "The others were applied: mend these and import them alone.",
                      "%llu %s refused", (unsigned long long)bad, bad == 1 ? "line was" : "lines were");
    json_decref(job);
    end(&t);
    return rc;
}

const struct opt device_import_opts[] = {
    { "mode", 0, "MODE", "what is done with a line that does not say it: create, update, delete, ..." },
    { "errors", 0, "FILE", "where refused lines go, all of them" },
    { "configurations", 0, "FILE", "automatic configurations, one a line; they follow the identities" },
    { "container", 0, "NAME", "of the hub's files of the registry; \"registry\" unless told" },
    { 0 }
};
const struct opt device_export_opts[] = {
    { "no-keys", 0, NULL, "without symmetric keys" },
    { "configurations", 0, "FILE", "where the automatic configurations go, one a line" },
    { "container", 0, "NAME", "of the hub's files of the registry; \"registry\" unless told" },
    { 0 }
};
