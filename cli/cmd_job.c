/* cli/cmd_job.c - roost job: patches twins or calls methods of every device that a condition selects, and
 * waits for the end. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include <string.h>
#include <time.h>

static uint64_t device_count(const json_t *job, const char *name)
{
    return json_number(json_object_get(job, "devices"), name, 0);
}

static void summary(const json_t *job)
{
    printf("%s: %s, %llu devices, %llu succeeded, %llu failed", json_text(job, "id"),
           json_text(job, "status"), (unsigned long long)device_count(job, "total"),
           (unsigned long long)device_count(job, "succeeded"),
           (unsigned long long)device_count(job, "failed"));
    uint64_t canceled = device_count(job, "canceled");
    if (canceled)
        printf(", %llu canceled", (unsigned long long)canceled);
    putchar('\n');
    if (json_text(job, "reason")) {
        char *reason = strdup(json_text(job, "reason"));
        printf("reason: %s\n", reason ? printable(reason) : "");
        free(reason);
    }
}

static bool has_ended(const json_t *job)
{
    const char *s = json_text(job, "status");
    return !s || strcmp(s, "completed") == 0 || strcmp(s, "failed") == 0 || strcmp(s, "cancelled") == 0;
}

/* Takes job over. 0, or 5 when a device or the whole of it failed. */
static int end(const struct cli *c, json_t *job)
{
    const char *s = json_text(job, "status"), *id = json_text(job, "id");
    char next[256];
    const bool of_devices = device_count(job, "failed") > 0;
    bool good = s && strcmp(s, "completed") == 0 && !device_count(job, "failed");
    if (c->json)
        json_print(json_incref(job));
    else
        summary(job);
    snprintf(
        next, sizeof next,
        "`roost query --json \"SELECT * FROM devices.jobs WHERE jobId = '%s' AND status = 'failed'\"` says "
        "why.",
        id ? id : "");
    json_decref(job);
    return good ? CLI_OK
                : cli_fail(CLI_FAILED, of_devices ? next : NULL, "the job did not succeed everywhere");
}

static int wait_for(struct cli *c, const char *id, double ends_s)
{
    struct progress p;
    bool begun = false;
    char *path = hub_path("/roost/v1/jobs/", id, "");
    json_t *job = NULL;
    int rc;
    while ((rc = hub_json(c, "GET", path, NULL, "asking how far the job is", &job)) == CLI_OK) {
        uint64_t total = device_count(job, "total");
        uint64_t done =
            device_count(job, "succeeded") + device_count(job, "failed") + device_count(job, "canceled");
        if (!begun && total && json_is_true(json_object_get(job, "allFound"))) {
            progress_begin_count(&p, c, id, total, 0);
            begun = true;
        }
        if (begun)
            progress_set(&p, done);
        if (has_ended(job) || (ends_s > 0 && monotonic_s() > ends_s))
            break;
        json_decref(job);
        job = NULL;
        nanosleep(&(struct timespec){ 0, 300000000 }, NULL);
    }
    if (begun)
        progress_end(&p);
    free(path);
    if (rc)
        return rc;
    if (has_ended(job))
        return end(c, job);
    if (c->json)
        json_print(job);
    else
        json_decref(job);
    return cli_fail(CLI_TIMEOUT, "It goes on: `roost job wait` waits again.",
                    "the job has not ended in time");
}

static int deadline(const struct args *a, double *ends_s)
{
    const char *v = args_get(a, "timeout");
    uint64_t s = 0;
    if (v && arg_duration_s(v, &s))
        return cli_fail(CLI_USAGE, NULL, "--timeout: a time such as 30s, 10m or 2h");
    *ends_s = v ? monotonic_s() + (double)s : 0;
    return CLI_OK;
}

static int wait_run(struct cli *c, const struct args *a)
{
    double ends_s = 0;
    int rc = deadline(a, &ends_s);
    if (!rc)
        rc = hub_open(c);
    return rc ? rc : wait_for(c, a->pos[0], ends_s);
}

/* ---- create ---------------------------------------------------------------------------------------------
 */

/* The option's value as JSON, put into o. */
static int put_json(json_t *o, const char *member, const struct args *a, const char *option, bool object)
{
    const char *text = args_get(a, option);
    json_error_t where;
    if (!text)
        return CLI_OK;
    json_t *v = json_loads(text, JSON_DECODE_ANY, &where);
    if (!v || (object && !json_is_object(v))) {
        json_decref(v);
        return cli_fail(CLI_USAGE, "Quote it for the shell, as in '{\"ring\":2}'.",
                        "--%s: not JSON that fits here: %s", option, v ? "an object is wanted" : where.text);
    }
    json_object_set_new(o, member, v);
    return CLI_OK;
}

static int put_seconds(json_t *o, const char *member, const struct args *a, const char *option)
{
    const char *text = args_get(a, option);
    uint64_t s;
    if (!text)
        return CLI_OK;
    if (arg_duration_s(text, &s))
        return cli_fail(CLI_USAGE, NULL, "--%s: a time such as 30s, 10m or 2h", option);
    json_object_set_new(o, member, json_integer((json_int_t)s));
    return CLI_OK;
}

static int put_method(json_t *body, const struct args *a)
{
    json_t *m = json_object();
    json_object_set_new(m, "name", json_string(args_get(a, "method")));
    json_object_set_new(body, "method", m);
    int rc = put_json(m, "payload", a, "payload", false);
    if (!rc)
        rc = put_seconds(m, "responseTimeoutSeconds", a, "response-timeout");
    return rc ? rc : put_seconds(m, "connectTimeoutSeconds", a, "connect-timeout");
}

static int put_twin(json_t *body, const struct args *a)
{
    json_t *t = json_object();
    json_object_set_new(body, "twin", t);
    int rc = put_json(t, "tags", a, "tags", true);
    return rc ? rc : put_json(t, "desired", a, "desired", true);
}

static int create_run(struct cli *c, const struct args *a)
{
    bool method = args_has(a, "method"), twin = args_has(a, "tags") || args_has(a, "desired");
    const char *where = args_get(a, "where"), *at = args_get(a, "at");
    double ends_s = 0;
    if (method == twin)
        return cli_fail(CLI_USAGE, NULL, "either --tags and --desired, or --method is wanted");
    if (!where)
        return cli_fail(CLI_USAGE, "--where '*' means every device.", "--where is missing");
    int rc = deadline(a, &ends_s);
    if (rc)
        return rc;
    json_t *body = json_object(), *job = NULL;
    json_object_set_new(body, "where", json_string(where));
    if (at)
        json_object_set_new(body, "start", json_string(at));
    rc = put_seconds(body, "maxSeconds", a, "max-time");
    if (!rc)
        rc = method ? put_method(body, a) : put_twin(body, a);
    if (!rc)
        rc = hub_open(c);
    if (rc) {
        json_decref(body);
        return rc;
    }
    char *path = hub_path("/roost/v1/jobs/", a->pos[0], "");
    rc = hub_json(c, "PUT", path, body, "creating the job", &job);
    free(path);
    if (rc)
        return rc;
    if (args_has(a, "wait")) {
        json_decref(job);
        return wait_for(c, a->pos[0], ends_s);
    }
    if (c->json) {
        json_print(job);
        return CLI_OK;
    }
    printf("%s: %s\n", a->pos[0], json_text(job, "status"));
    json_decref(job);
    return CLI_OK;
}

/* ---- show, cancel, list ---------------------------------------------------------------------------------
 */

static int show_run(struct cli *c, const struct args *a)
{
    json_t *job = NULL;
    int rc = hub_open(c);
    if (rc)
        return rc;
    char *path = hub_path("/roost/v1/jobs/", a->pos[0], "");
    rc = hub_json(c, "GET", path, NULL, "asking for the job", &job);
    free(path);
    if (rc)
        return rc;
    if (c->json) {
        json_print(job);
    } else {
        members_print(job, 0);
        json_decref(job);
    }
    return CLI_OK;
}

static int cancel_run(struct cli *c, const struct args *a)
{
    json_t *job = NULL;
    int rc = hub_open(c);
    if (rc)
        return rc;
    char *path = hub_path("/roost/v1/jobs/", a->pos[0], "/cancel");
    rc = hub_json(c, "POST", path, NULL, "cancelling the job", &job);
    free(path);
    if (rc)
        return rc;
    if (c->json)
        json_print(job);
    else
        summary(job), json_decref(job);
    return CLI_OK;
}

static void list_row(struct table *t, const json_t *job)
{
    char total[24], good[24], bad[24];
    snprintf(total, sizeof total, "%llu", (unsigned long long)device_count(job, "total"));
    snprintf(good, sizeof good, "%llu", (unsigned long long)device_count(job, "succeeded"));
    snprintf(bad, sizeof bad, "%llu", (unsigned long long)device_count(job, "failed"));
    table_row(t,
              (const char *const[]){ json_text(job, "id"), json_text(job, "type"), json_text(job, "status"),
                                     total, good, bad, moment_text(job, "start", (char[24]){ 0 }) });
}

static int list_run(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "JOB", "TYPE", "STATUS", "DEVICES", "SUCCEEDED", "FAILED", "START" };
    struct table t;
    uint64_t before = 0;
    json_t *all = json_array();
    int rc = hub_open(c);
    table_begin(&t, 7, head);
    do {
        char base[96];
        json_t *doc = NULL, *job;
        size_t i;
        snprintf(base, sizeof base, "/roost/v1/jobs?before=%llu%s",
                 before ? (unsigned long long)before : 9223372036854775807ull,
                 args_has(a, "status") ? "&status=" : "");
        char *path = hub_path(base, args_has(a, "status") ? args_get(a, "status") : "", "");
        if (!rc)
            rc = hub_json(c, "GET", path, NULL, "listing jobs", &doc);
        free(path);
        if (rc)
            break;
        json_array_foreach(json_object_get(doc, "jobs"), i, job)
        {
            if (c->json)
                json_array_append(all, job);
            else
                list_row(&t, job);
        }
        before = json_number(doc, "next", 0);
        json_decref(doc);
    } while (before);
    if (rc || c->json) {
        FILE *nowhere = fopen("/dev/null", "w");
        table_end(&t, c, nowhere ? nowhere : stderr);
        if (nowhere)
            fclose(nowhere);
    } else {
        table_end(&t, c, stdout);
    }
    if (!rc && c->json)
        json_print(all);
    else
        json_decref(all);
    return rc;
}

static const struct opt create_opts[] = {
    { "where", 0, "CONDITION", "the devices, as behind WHERE of a query; '*' for all" },
    { "tags", 0, "JSON", "merge this into the tags of their twins" },
    { "desired", 0, "JSON", "merge this into their desired properties" },
    { "method", 0, "NAME", "call this method" },
    { "payload", 0, "JSON", "of the method [null]" },
    { "response-timeout", 0, "TIME", "how long a device may take to answer, 5s to 300s [30s]" },
    { "connect-timeout", 0, "TIME", "how long to wait for a device that is away, up to 300s [0s]" },
    { "at", 0, "TIME", "begin then, such as 2026-08-10T09:15:00Z; a week ahead at most [now]" },
    { "max-time", 0, "TIME", "how long the job may run, up to 30d [1h]" },
    { "wait", 0, NULL, "until it has ended; exit code 5 when it failed for a device" },
    { "timeout", 0, "TIME", "with --wait: give up waiting then, exit code 6" },
    { 0 }
};
static const struct opt list_opts[] = {
    { "status", 0, "STATUS",
      "only those that are queued, scheduled, running, completed, failed or cancelled" },
    { 0 }
};
static const struct opt wait_opts[] = { { "timeout", 0, "TIME", "give up waiting then, exit code 6" },
                                        { 0 } };

const struct command job_commands[] = {
    { "job list", "", "Lists jobs, the newest first", NULL, list_opts, 0, 0, list_run },
    { "job show", "JOB", "Shows a job and how far it is", NULL, NULL, 1, 1, show_run },
    { "job create", "JOB", "Patches twins or calls a method of many devices",
      "JOB is an id of your choice: a to z, 0 to 9 and -. What came of each device: roost query \"SELECT * "
      "FROM "
      "devices.jobs WHERE jobId = 'JOB'\".",
      create_opts, 1, 1, create_run },
    { "job wait", "JOB", "Waits until a job has ended",
      "The exit code is 5 when it failed for a device, 6 when --timeout was over.", wait_opts, 1, 1,
      wait_run },
    { "job cancel", "JOB", "Cancels a job; what it did until now stays", NULL, NULL, 1, 1, cancel_run },
    { 0 }
};
