/* cli/hub_client.h - asks the hub: HTTPS with a policy's token, JSON in and out, and streams. */
#ifndef ROOST_CLI_HUB_CLIENT_H
#define ROOST_CLI_HUB_CLIENT_H

#include "cli/cli.h"

#include <jansson.h>

/* Finds the hub (--hub, ROOST_CONNECTION_STRING, ~/.config/roost/profile). 0, or an exit code and a message.
 */
int hub_open(struct cli *c);
/* The same without a message, for commands that can do without a hub. */
bool hub_is_given(const struct cli *c);
void hub_close(struct cli *c);
const struct profile *hub_profile(const struct cli *c); /* after hub_open */

struct hub_request {
    const char *method, *path; /* the path with its query */
    const char *content_type;  /* NULL: no body */
    struct span body;
    const char *header; /* one more field, or NULL */
    unsigned silent_s;  /* the hub may say nothing for this long; 0: a minute */
};
struct hub_answer {
    long status; /* 0: none came */
    uint8_t *body;
    size_t body_len;
    int64_t upload_offset; /* of the Upload-Offset field; -1: none */
    char why[640];         /* when status is 0 */
    bool not_the_hub;      /* then: its name or the trust in its certificate is what is wrong */
};
/* One request. 0 whenever an answer came, whatever its status; CLI_UNREACHABLE with answer->why otherwise
 * (nothing is printed). Free with hub_answer_free. */
int hub_ask(struct cli *c, const struct hub_request *r, struct hub_answer *answer);
void hub_answer_free(struct hub_answer *a);
/* Prints what the hub said and what to do; the exit code that goes with it. `what` was being done. */
int hub_complain(const struct hub_answer *a, const char *what);
int hub_unreachable(const struct cli *c, const struct hub_answer *a);

/* JSON in (taken over; NULL: no body), JSON out (NULL: not wanted; *out is NULL when there was no body).
 * Any status from 200 to 299 is success; otherwise it complains. */
int hub_json(struct cli *c, const char *method, const char *path, json_t *body, const char *what,
             json_t **out);

/* PUT of something new: what is there already is refused. As hub_json. */
int hub_create(struct cli *c, const char *path, json_t *body, const char *what, json_t **out);

/* GET whose body is lines: each is handed over without its end; false ends it. 0 at the hub's end of the
 * stream or when on_line said so; *any is set as soon as one line came. */
typedef bool hub_line_fn(void *ctx, const char *line, size_t n);
typedef bool
hub_tick_fn(void *ctx); /* about once a second, also when nothing comes; false ends it. Or NULL */
int hub_lines(struct cli *c, const char *path, hub_line_fn *on_line, hub_tick_fn *tick, void *ctx, bool *any,
              struct hub_answer *answer);

/* "/roost/v1/devices/" + percent-encoded id + tail, in memory of the caller's. */
char *hub_path(const char *before, const char *id, const char *after);

#endif
