/* cli/broadcast.c - see broadcast.h. The hub counts; this asks every half second. */
#include "cli/broadcast.h"

#include "cli/hub_client.h"
#include "cli/out.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GIVE_UP_S 120 /* without a timeout: how long a hub may be away */

void broadcast_counts_of(const json_t *doc, struct broadcast_counts *out)
{
    *out = (struct broadcast_counts){
        .devices = json_number(doc, "devices", 0),
        .pending = json_number(doc, "pending", 0),
        .delivered = json_number(doc, "delivered", 0),
        .expired = json_number(doc, "expired", 0),
        .refused = json_number(doc, "rejected", 0) + json_number(doc, "deliveryCountExceeded", 0),
        .gone = json_number(doc, "purged", 0),
    };
}

static void add(char *out, size_t cap, uint64_t nr, const char *what)
{
    size_t n = strlen(out);
    if (nr && n < cap)
        snprintf(out + n, cap - n, ", %llu %s", (unsigned long long)nr, what);
}

void broadcast_line(const struct broadcast_counts *c, char *out, size_t cap)
{
    snprintf(out, cap, "%llu of %llu delivered", (unsigned long long)c->delivered,
             (unsigned long long)c->devices);
    add(out, cap, c->pending, "pending");
    add(out, cap, c->refused, "refused");
    add(out, cap, c->expired, "expired");
    add(out, cap, c->gone, "purged");
}

int broadcast_verdict(const struct broadcast_counts *c)
{
    return c->pending ? -1 : c->refused || c->expired ? CLI_FAILED : CLI_OK;
}

static void show(struct cli *c, const char *text, char *shown, size_t cap)
{
    if (c->json || strcmp(text, shown) == 0)
        return;
    snprintf(shown, cap, "%s", text);
    fprintf(stderr, c->tty_err ? "\r%s\033[K" : "%s\n", text);
    fflush(stderr);
}

static int finish(struct cli *c, const json_t *doc, const char *text, int code)
{
    if (c->tty_err && !c->json)
        fputc('\n', stderr);
    if (c->json) {
        json_t *out = json_deep_copy(doc);
        json_object_set_new(out, "exitCode", json_integer(code));
        json_print(out);
    } else if (code == CLI_TIMEOUT) {
        cli_fail(code, "The message goes on waiting for the devices that are away.", "not known in time: %s",
                 text);
    } else {
        printf("%s\n", text);
    }
    return code;
}

int broadcast_follow(struct cli *c, uint64_t number, uint64_t timeout_s)
{
    char at[24], text[256] = "", shown[256] = "";
    double ends_s = timeout_s ? monotonic_s() + (double)timeout_s : 0, lost_s = 0;
    int rc = -1;
    snprintf(at, sizeof at, "%llu", (unsigned long long)number);
    char *path = hub_path("/roost/v1/broadcasts/", at, "");
    while (rc < 0) {
        struct hub_answer a = { 0 };
        int one = hub_ask(c, &(struct hub_request){ .method = "GET", .path = path }, &a);
        double now = monotonic_s();
        if (one || a.status == 429 || a.status >= 500) { /* the message goes on without us: be patient */
            if (!lost_s)
                lost_s = now;
            if ((ends_s && now >= ends_s) || (!ends_s && now - lost_s > GIVE_UP_S))
                rc = one ? hub_unreachable(c, &a) : hub_complain(&a, "following the message");
        } else if (a.status != 200) {
            rc = hub_complain(&a, "following the message");
        } else {
            json_t *doc = json_loadb((char *)a.body, a.body_len, JSON_ALLOW_NUL, NULL);
            struct broadcast_counts counts;
            lost_s = 0;
            broadcast_counts_of(doc, &counts);
            broadcast_line(&counts, text, sizeof text);
            show(c, text, shown, sizeof shown);
            rc = broadcast_verdict(&counts);
            if (rc < 0 && ends_s && now >= ends_s)
                rc = CLI_TIMEOUT;
            if (rc >= 0)
                rc = finish(c, doc, text, rc);
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
