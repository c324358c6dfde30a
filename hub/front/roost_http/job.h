/* hub/front/roost_http/job.h - the life of one request: who asks, what it says, steps on the store and the
 * pool, one answer. A job begins and ends on its worker; a step runs elsewhere and comes back. Its arena is
 * given back with it.
 *
 *     handler -> job_start(call) -> credentials -> body -> call->start(j) -> job_write(j, run, then) -> ...
 *                                                                       -> job_end(j)
 * A step that fails, or calls job_fail, ends the job: `then` is called after success only. */
#ifndef ROOST_HUB_FRONT_ROOST_HTTP_JOB_H
#define ROOST_HUB_FRONT_ROOST_HTTP_JOB_H

#include "base/arena.h"
#include "base/log.h"
#include "hub/conn/http_conn.h"
#include "hub/domain/access.h"
#include "hub/domain/hub.h"
#include "hub/front/roost_http/roost_http.h"
#include "hub/loop/pool.h"

#include <jansson.h>

#define JOB_ARENA_MAX  (16u * 1024u * 1024u)
#define JOB_JSON_MAX   (512u * 1024u) /* longest JSON body of any route */
#define JOB_FIELDS_MAX 512u

struct job;
typedef void job_fn(struct job *j);
typedef enum err job_tx(struct job *j, struct store_tx *tx);

enum job_who { JOB_PUBLIC, JOB_POLICY, JOB_DEVICE };
struct job_call {
    enum job_who who;
    uint32_t any_of; /* JOB_POLICY: one of these rights (enum access_right) is needed */
    bool json;       /* the body is a JSON object, to j->in */
    job_fn *start;   /* on the worker, when all that is checked */
};

struct job {
    struct store_op store; /* first */
    struct pool_op pool;
    struct access_check check;
    struct http_req *r;
    struct hub *h;
    struct roost_http *f;
    const struct job_call *call;
    struct arena a;
    struct span who;  /* policy or device that is proven; empty on public routes */
    uint32_t granted; /* rights of the policy */
    json_t *in;       /* owned */
    void *state;      /* the route's, in the arena */
    job_tx *run;      /* of the step */
    enum err (*run_pool)(struct job *j);
    job_fn *then;
    /* the answer */
    unsigned status;        /* 200 unless set */
    const char *code;       /* an error */
    char message[320];      /* of the error */
    json_t *out;            /* owned */
    struct span bytes;      /* instead of out */
    const char *bytes_type; /* NULL: out, or an empty body */
    char fields[JOB_FIELDS_MAX];
};

struct roost_http { /* one a hub; shared by the workers, so everything in it is fixed or locks for itself */
    struct hub *hub;
    struct pool *pool;
    struct conn_net *net;
    struct rate *rate;                /* of /bootstrap */
    struct artifact_cache *artifacts; /* artifact.c */
    _Atomic unsigned telemetry_nr;    /* open streams */
    struct http_routes routes, plain, ops;
    struct housekeeper *housekeeper; /* roost_http.c */
};

void job_start(struct http_req *r, const struct job_call *call);
/* From a start(): goes on as another call, with its body check (and no second look at credentials). */
void job_go_on(struct job *j, const struct job_call *call);
/* One step; the last thing its caller does. then NULL: the job ends. */
void job_write(struct job *j, job_tx *run, job_fn *then);
void job_read(struct job *j, job_tx *run, job_fn *then);
void job_pool(struct job *j, enum err (*run)(struct job *j), job_fn *then);
/* Ends the job with the answer that is in it. */
void job_end(struct job *j);
/* Ends the job whose request was answered by other means. */
void job_release(struct job *j);
/* Ends the job for an outcome of a store, stream or blob: the status that fits e. */
void job_end_err(struct job *j, enum err e);

/* Sets the error that job_end answers; the first one stays. code: fixed, "device-not-found"; the message says
 * what to do next. Always false, so that checks can say `return job_fail(...)`. */
bool job_fail(struct job *j, unsigned status, const char *code, const char *message, ...) LOG_PRINTF(4, 5);
/* In a run(): sets the error and undoes what the transaction has written. */
#define JOB_REFUSE(j, ...) ((void)job_fail((j), __VA_ARGS__), ERR_DENIED)
/* Adds "Name: value" to the answer. */
void job_field(struct job *j, const char *name, const char *value, ...) LOG_PRINTF(3, 4);

/* ---- input.c: what a request says, strictly; false: the error is set and names the member ------------- */

/* Are all members of `o` among these? `names` ends with NULL. */
bool in_only(struct job *j, const json_t *o, const char *const *names);
/* Absent ones leave *out as it is, unless required. */
enum in_need { IN_OPTIONAL, IN_REQUIRED };
bool in_text(struct job *j, const json_t *o, const char *name, enum in_need need, size_t max,
             struct span *out);
bool in_u64(struct job *j, const json_t *o, const char *name, enum in_need need, uint64_t max, uint64_t *out);
bool in_bool(struct job *j, const json_t *o, const char *name, enum in_need need, bool *out);
bool in_hex(struct job *j, const json_t *o, const char *name, uint8_t *out, size_t len); /* required */
bool in_base64(struct job *j, const json_t *o, const char *name, enum in_need need, size_t max,
               struct span *out); /* into the arena */
bool in_device_id(struct job *j, struct span id);
/* The device id in the path. */
bool in_path_device(struct job *j, struct span *id);
/* Query parameters. */
bool in_query_u64(struct job *j, const char *name, uint64_t max, uint64_t *out);
bool in_query_bool(struct job *j, const char *name, bool *out);

/* ---- rows.c: rows as JSON; NULL only when memory is short --------------------------------------------- */

json_t *json_span(struct span s);
json_t *json_hex(struct span s);
json_t *json_base64(struct span s);
json_t *json_time(uint64_t wall_ms);
/* Sets it unless v is NULL; takes the reference. */
void json_put(json_t *o, const char *name, json_t *v);
struct device_row;
/* With its report and newest deployment; keys: its secrets too. In run(). */
MUST_USE enum err device_json(struct job *j, struct store_tx *tx, const struct device_row *d, bool one,
                              bool keys, json_t **out);
MUST_USE enum err deployment_json(struct job *j, struct store_tx *tx, const struct deployment_row *d,
                                  json_t **out);
json_t *release_json(const struct release_row *r);

#endif
