/* cli/cmd_update.c - roost update: tells devices to run a release, and waits until it is known what became of
 * it. The hub derives every state from what devices run; this only adds up. */
#include "cli/commands.h"
#include "cli/deployment.h"
#include "cli/hub_client.h"
#include "cli/out.h"
#include "cli/release_push.h"

#include <string.h>
#include <time.h>

#define GIVE_UP_S 120 /* without --timeout: how long a hub may be away */

struct wait {
    struct cli *cli;
    char id[64];
    uint64_t total; /* devices it is meant for */
    double ends_s;  /* monotonic; 0: no --timeout */
    struct deployment_counts counts;
    char shown[512];
};

static void show(struct wait *w)
{
    char text[512];
    deployment_line(&w->counts, w->total, text, sizeof text);
    if (w->cli->json || strcmp(text, w->shown) == 0)
        return;
    snprintf(w->shown, sizeof w->shown, "%s", text);
    if (w->cli->tty_err) {
        enum { WIDTH = 24 };
        unsigned full = w->total ? (unsigned)(deployment_good(&w->counts) * WIDTH / w->total) : 0;
        fputc('\r', stderr);
        for (unsigned i = 0; i < WIDTH; i++)
            fputs(i < full ? "█" : "░", stderr);
        fprintf(stderr, " %s\033[K", text);
        fflush(stderr);
    } else {
        fprintf(stderr, "%s\n", text);
    }
}

/* Devices that the campaign means: those that are let in and whose hardware one of its releases fits. */
static int count_targets(struct cli *c, const json_t *listing, const json_t *ids, uint64_t *total)
{
    char *after = NULL;
    int rc = CLI_OK;
    *total = 0;
    do {
        json_t *doc = NULL, *d;
        size_t i;
        char *path = after ? hub_path("/roost/v1/devices?limit=500&status=enabled&after=", after, "")
                           : strdup("/roost/v1/devices?limit=500&status=enabled");
        rc = hub_json(c, "GET", path, NULL, "counting devices", &doc);
        free(path);
        free(after);
        after = NULL;
        if (rc)
            break;
        json_array_foreach(json_object_get(doc, "devices"), i, d)
        {
            *total += release_fits(listing, ids, json_text(d, "hardware"));
        }
        if (json_text(doc, "next"))
            after = strdup(json_text(doc, "next"));
        json_decref(doc);
    } while (after);
    return rc;
}

/* Rows that did not end well, and why. */
static int failures_print(struct wait *w, json_t *failed)
{
    static const char *const head[] = { "DEVICE", "STATE", "REASON", "RUNNING" };
    struct table t;
    char *after = NULL;
    int rc = CLI_OK;
    table_begin(&t, 4, head);
    do {
        json_t *doc = NULL, *r;
        size_t i;
        char base[128], *path;
        snprintf(base, sizeof base, "/roost/v1/campaigns/%s?rows=true%s", w->id, after ? "&after=" : "");
        path = hub_path(base, after ? after : "", "");
        rc = hub_json(w->cli, "GET", path, NULL, "asking what became of it", &doc);
        free(path);
        free(after);
        after = NULL;
        if (rc)
            break;
        json_array_foreach(json_object_get(doc, "rows"), i, r)
        {
            char running[16] = "";
            if (deployment_is_good(json_text(r, "state")))
                continue;
            snprintf(running, sizeof running, "%.12s",
                     json_text(r, "running") ? json_text(r, "running") : "");
            table_row(&t, (const char *const[]){ json_text(r, "device"), json_text(r, "state"),
                                                 json_text(r, "reason"), running });
            json_array_append(failed, r);
        }
        if (json_text(doc, "next"))
            after = strdup(json_text(doc, "next"));
        json_decref(doc);
    } while (after);
    bool any = json_array_size(failed) > 0 && !w->cli->json;
    FILE *nowhere = any ? NULL : fopen("/dev/null", "w");
    table_end(&t, w->cli, any ? stdout : nowhere);
    if (nowhere)
        fclose(nowhere);
    return rc;
}

static int finish(struct wait *w, int code)
{
    json_t *failed = json_array();
    int rc = CLI_OK;
    if (!w->cli->json && w->cli->tty_err)
        fputc('\n', stderr);
    if (code != CLI_UNREACHABLE)
        rc = failures_print(w, failed);
    if (w->cli->json)
        json_print(json_pack("{s:s,s:I,s:o,s:O,s:i}", "id", w->id, "devices", (json_int_t)w->total, "counts",
                             deployment_json(&w->counts), "failed", failed, "exitCode", code));
    else if (code == CLI_OK && w->total == 0)
        printf("No device fits it yet; those that come later get it.\n");
    else if (code == CLI_OK)
        printf("%llu of %llu run it, as their own reports after the trial boot say.\n",
               (unsigned long long)deployment_good(&w->counts), (unsigned long long)w->total);
    else if (code == CLI_TIMEOUT)
        cli_fail(code,
                 "It goes on: `roost update` again with the same devices, or look at `roost device list`.",
                 "not done in time");
    else if (code == CLI_CONFLICT)
        cli_fail(code, NULL, "another campaign took over");
    json_decref(failed);
    return code ? code : rc;
}

/* A failure that the hub tries again by itself (docs/trust.md, "Reasons") is not the end. A device that went
 * back is: it shows what the release is worth, and the next try is an hour away. */
static bool may_heal(struct wait *w)
{
    char *after = NULL;
    bool heals = false;
    do {
        struct hub_answer a = { 0 };
        char base[128], *path;
        json_t *r;
        size_t i;
        snprintf(base, sizeof base, "/roost/v1/campaigns/%s?rows=true%s", w->id, after ? "&after=" : "");
        path = hub_path(base, after ? after : "", "");
        free(after);
        after = NULL;
        if (hub_ask(w->cli, &(struct hub_request){ .method = "GET", .path = path }, &a) == CLI_OK &&
            a.status == 200) {
            json_t *doc = json_loadb((char *)a.body, a.body_len, JSON_ALLOW_NUL, NULL);
            json_array_foreach(json_object_get(doc, "rows"), i, r)
            {
                heals |= deployment_may_heal(json_text(r, "state"), json_number(r, "attempts", 0));
            }
            if (!heals && json_text(doc, "next"))
                after = strdup(json_text(doc, "next"));
            json_decref(doc);
        } else {
            heals = true; /* ask again with the next turn */
        }
        hub_answer_free(&a);
        free(path);
    } while (after);
    return heals;
}

static int follow(struct wait *w)
{
    struct cli *c = w->cli;
    double lost_s = 0;
    char *path = hub_path("/roost/v1/campaigns/", w->id, "");
    int rc = -1;
    while (rc < 0) {
        struct hub_answer a = { 0 };
        int one = hub_ask(c, &(struct hub_request){ .method = "GET", .path = path }, &a);
        double now = monotonic_s();
        if (one || a.status == 429 || a.status >= 500) { /* the campaign goes on without us: be patient */
            if (!a.status && !a.why[0])
                snprintf(a.why, sizeof a.why, "nothing came");
            if (!lost_s)
                lost_s = now;
            if ((w->ends_s && now >= w->ends_s) || (!w->ends_s && now - lost_s > GIVE_UP_S))
                rc = one ? hub_unreachable(c, &a) : hub_complain(&a, "following the campaign");
        } else if (a.status != 200) {
            rc = hub_complain(&a, "following the campaign");
        } else {
            json_t *doc = json_loadb((char *)a.body, a.body_len, JSON_ALLOW_NUL, NULL);
            const char *state = json_text(doc, "state");
            lost_s = 0;
            deployment_counts_of(json_object_get(doc, "counts"), &w->counts);
            show(w);
            rc = deployment_verdict(&w->counts, w->total, state);
            if (rc == CLI_FAILED && state && strcmp(state, "running") == 0 && may_heal(w))
                rc = -1;
            if (rc >= 0)
                rc = finish(w, rc);
            else if (w->ends_s && now >= w->ends_s)
                rc = finish(w, CLI_TIMEOUT);
            json_decref(doc);
        }
        hub_answer_free(&a);
        if (rc < 0) {
            struct timespec pause = { .tv_nsec = 500000000 };
            nanosleep(&pause, NULL);
        }
    }
    free(path);
    return rc;
}

static int start(struct cli *c, const struct args *a, json_t *ids, struct wait *w)
{
    json_t *body = json_pack("{s:O}", "releases", ids), *doc = NULL;
    struct hub_answer answer = { 0 };
    if (args_has(a, "all")) {
        json_object_set_new(body, "all", json_true());
    } else {
        json_t *devices = json_array();
        for (size_t i = 0; i < a->pos_nr; i++)
            json_array_append_new(devices, json_string(a->pos[i]));
        json_object_set_new(body, "devices", devices);
    }
    char *text = json_dumps(body, JSON_COMPACT);
    struct hub_request r = { .method = "POST",
                             .path = "/roost/v1/campaigns",
                             .content_type = "application/json",
                             .body = span_str(text) };
    int rc = hub_ask(c, &r, &answer);
    if (rc)
        rc = hub_unreachable(c, &answer);
    else if (answer.status < 200 || answer.status > 299)
        rc = hub_complain(&answer, "starting the update"), rc = answer.status == 409 ? CLI_CONFLICT : rc;
    if (!rc)
        doc = json_loadb((char *)answer.body, answer.body_len, JSON_ALLOW_NUL, NULL);
    if (!rc && !json_text(doc, "id"))
        rc = cli_fail(CLI_UNREACHABLE, NULL, "the hub's answer names no campaign");
    if (!rc)
        snprintf(w->id, sizeof w->id, "%s", json_text(doc, "id"));
    json_decref(doc);
    json_decref(body);
    free(text);
    hub_answer_free(&answer);
    return rc;
}

static int update_run(struct cli *c, const struct args *a)
{
    const char *release = args_get(a, "release"), *timeout = args_get(a, "timeout");
    struct wait w = { .cli = c };
    json_t *listing = NULL, *ids = NULL;
    uint64_t s = 0;
    bool all = args_has(a, "all");
    int rc;

    if (!release)
        return cli_fail(CLI_USAGE, "roost update DEVICE... --release 1.1.0", "which release?");
    if (all == (a->pos_nr > 0))
        return cli_fail(CLI_USAGE, NULL,
                        all ? "name devices or say --all, not both" : "name devices, or say --all");
    if (timeout && (arg_duration_s(timeout, &s) || s == 0))
        return cli_fail(CLI_USAGE, NULL, "--timeout: a time such as 90s, 30m or 2h");
    rc = hub_json(c, "GET", "/roost/v1/releases", NULL, "listing releases", &listing);
    if (rc)
        return rc;
    ids = release_choose(listing, release);
    if (json_array_size(ids) == 0)
        rc =
            cli_fail(CLI_USAGE, "`roost release list` shows what there is, `roost release push` brings more.",
                     "the hub has no release %s", release);
    if (!rc && !all)
        w.total = a->pos_nr;
    else if (!rc && args_has(a, "wait"))
        rc = count_targets(c, listing, ids, &w.total);
    if (!rc)
        rc = start(c, a, ids, &w);
    json_decref(listing);
    if (!rc && !args_has(a, "wait")) {
        if (c->json)
            json_print(json_pack("{s:s,s:O}", "id", w.id, "releases", ids));
        else
            printf("campaign %s: the devices have been told. `roost device list` shows how far they are.\n",
                   w.id);
    } else if (!rc) {
        cli_say(c, "campaign %s\n", w.id);
        fflush(stdout);
        w.ends_s = s ? monotonic_s() + (double)s : 0;
        rc = follow(&w);
    }
    json_decref(ids);
    return rc;
}

static const struct opt opts[] = {
    { "all", 0, NULL, "every device that a release fits, also those that come later" },
    { "release", 'r', "R", "a version, product@version, or the beginning of a release id" },
    { "wait", 0, NULL, "follow until it is known for every device; the exit code tells" },
    { "timeout", 0, "TIME", "wait at most so long, such as 90s, 30m or 2h" },
    { 0 }
};
const struct command update_commands[] = {
    { "update", "DEVICE... | --all --release R [--wait]", "Has devices run a release",
      "With --wait the exit code is the truth: 0 every device runs it and confirmed it after its trial "
      "boot,\n"
      "5 some failed, 10 some went back to what they ran before, 6 not known in time (the update goes on),\n"
      "7 the hub cannot be reached, 8 another update took over.",
      opts, 0, 1000, update_run },
    { 0 }
};
