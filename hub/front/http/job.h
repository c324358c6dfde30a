/* hub/front/http/job.h - the life of one request of any HTTP front: who asks, what it says, steps on the
 * store and the pool, one answer. A job begins and ends on its worker; a step runs elsewhere and comes back.
 * Its arena is given back with it. What a front does in its own way (envelope of errors, wording of a
 * refusal) is its table, struct http_front_ops.
 *
 *     handler -> job_start(call) -> credentials -> body -> call->start(j) -> job_write(j, run, then) -> ...
 *                                                                       -> job_end(j)
 * A step that fails, or calls job_fail, ends the job: `then` is called after success only. A job whose error
 * is set takes no further step, it ends: what reads a request need not ask whether there is an error already.
 */
#ifndef ROOST_HUB_FRONT_HTTP_JOB_H
#define ROOST_HUB_FRONT_HTTP_JOB_H

#include "base/arena.h"
#include "base/log.h"
#include "hub/conn/http_conn.h"
#include "hub/domain/access/access.h"
#include "hub/domain/hub.h"
#include "hub/front/http/json_out.h"
#include "hub/loop/pool.h"

#include <jansson.h>

#define JOB_ARENA_MAX (16u * 1024u * 1024u)

struct job;
typedef void job_fn(struct job *j);
typedef enum err job_tx(struct job *j, struct store_tx *tx);

enum job_who {
    JOB_PUBLIC,
    JOB_POLICY,          /* a policy with one of any_of */
    JOB_DEVICE,          /* the device that the token names: its own key, or a policy with DeviceConnect */
    JOB_PATH,            /* the device of params 0: its own credential, or a policy with DeviceConnect */
    JOB_PATH_MODULE,     /* the module of params 0 and 1, likewise */
    JOB_POLICY_OR_OWNER, /* JOB_POLICY, or the device of params 0 with its own credential */
    JOB_POLICY_OR_EDGE /* JOB_POLICY, or the module that the field x-ms-edge-moduleId names ("device/module")
                          with its own credential: job_edge_module; the route checks whom it may ask for */
};
enum job_body {
    JOB_RAW,     /* as it came: j->r->body */
    JOB_ENTRIES, /* the same; start() finds out how many operations it asks for, and calls job_throttle */
    JOB_OBJECT,  /* a JSON object, to j->in */
    JOB_METHOD,  /* the same; of its member "payload" only the text counts, whatever JSON that is */
    JOB_JSON     /* any JSON object or array, to j->in */
};
struct job_call {
    enum job_who who;
    uint32_t any_of; /* one of these rights (enum access_right) is needed */
    enum job_body body;
    job_fn *start; /* on the worker, when all that is checked */
};

/* What the jobs of a front share; r->ctx of its routes points to it. The front's own struct begins with it.
 */
struct http_front {
    struct hub *hub;
    struct pool *pool;
    const struct http_front_ops *ops;
};
struct http_front_ops {
    /* First of all, before credentials: sets fields of the answer, checks; job_fail ends the job. Or NULL. */
    void (*begin)(struct job *j);
    /* The credentials are refused, j->wait_s or j->check.why says why: sets the error. */
    void (*refuse)(struct job *j);
    /* Over a rate for `operation`; it may come again after j->wait_s: sets the error. */
    void (*throttled)(struct job *j, const char *operation);
    const struct http_throttle *throttles; /* throttled.h */
    const char *json_type;                 /* Content-Type of fleet_answer */
    /* Answers j->r with the error in j: status, code, message, fields. */
    void (*answer_error)(struct job *j);
};

struct job {
    struct store_op store; /* first */
    struct pool_op pool;
    struct access_check check;
    struct http_req *r;
    struct hub *h;
    struct http_front *front;
    const struct job_call *call;
    struct arena a;
    struct span who;  /* policy or identity that is proven; empty on public routes */
    uint32_t wait_s;  /* refused unseen: its source failed too often, it may come again after this */
    uint32_t granted; /* rights of the policy; 0: the identity's own credential */
    json_t *in;       /* owned */
    void *state;      /* the route's, in the arena */
    job_tx *run;      /* of the step */
    enum err (*run_pool)(struct job *j);
    job_fn *then;
    job_fn *on_release; /* gives back what the job holds beside its memory; or NULL */
    /* the answer */
    unsigned status;        /* 200 unless set */
    unsigned refused;       /* of the error; a status that a route sets afterwards does not hide it */
    const char *code;       /* an error */
    char message[512];      /* of the error */
    uint8_t envelope;       /* of the error: the front's */
    struct span info;       /* of the error: the front's */
    json_t *out;            /* owned */
    struct span bytes;      /* instead of out */
    const char *bytes_type; /* NULL: out, or an empty body */
    char request_id[40];    /* the front's; empty: none */
    struct wr fields;       /* "Name: value" lines, in the arena */
    size_t fields_before;   /* their length when the step began: it may run again */
};

void job_start(struct http_req *r, const struct job_call *call);
/* The handler of a route that is a job, with what its struct job_call says:
 *     JOB_HANDLER(twin_show, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_get); */
#define JOB_HANDLER(name, ...)                                                                               \
    static const struct job_call name##_call;                                                                \
    void name(struct http_req *r)                                                                            \
    {                                                                                                        \
        job_start(r, &name##_call);                                                                          \
    }                                                                                                        \
    static const struct job_call name##_call = { __VA_ARGS__ }
/* The same where nothing has to be read before the step, job_read, job_write or job_scan:
 *     JOB_STEP_HANDLER(tokens_list, JOB_POLICY, ACCESS_REGISTRY_READ, job_read, list, NULL); */
#define JOB_STEP_HANDLER(name, who, any_of, step, run, then)                                                 \
    static void name##_start(struct job *j)                                                                  \
    {                                                                                                        \
        step(j, run, then);                                                                                  \
    }                                                                                                        \
    JOB_HANDLER(name, who, any_of, JOB_RAW, name##_start)
/* What becomes j->state: zeroed, in the arena. NULL: memory is short, and the job has ended: j is gone, so
 * nothing of it may be read before this is looked at. */
void *job_state(struct job *j, size_t len);
/* From a start(): goes on as another call, with its body check (and no second look at credentials and rates).
 */
void job_go_on(struct job *j, const struct job_call *call);
/* One step; the last thing its caller does. then NULL: the job ends. */
void job_write(struct job *j, job_tx *run, job_fn *then);
void job_read(struct job *j, job_tx *run, job_fn *then);
void job_scan(struct job *j, job_tx *run, job_fn *then); /* store_scan */
void job_pool(struct job *j, enum err (*run)(struct job *j), job_fn *then);
/* Ends the job with the answer that is in it. */
void job_end(struct job *j);
/* Ends the job whose request was answered by other means. */
void job_release(struct job *j);
/* Ends the job for an outcome of a store, stream or blob, as job_fail_err. */
void job_end_err(struct job *j, enum err e);

/* Sets the error that job_end answers; the first one stays. code: fixed, "device-not-found"; the message says
 * what to do next. Always false, so that checks can say `return job_fail(...)`. */
bool job_fail(struct job *j, unsigned status, const char *code, const char *message, ...) LOG_PRINTF(4, 5);
/* The same for an outcome of a store, stream or blob: the status that fits e. True: ERR_OK, which is none. */
bool job_fail_err(struct job *j, enum err e);
/* In a run(): sets the error and undoes what the transaction has written. */
#define JOB_REFUSE(j, ...) ((void)job_fail((j), __VA_ARGS__), ERR_DENIED)
/* j->out becomes {"name":[]}; its list, borrowed. NULL: memory is short. */
json_t *job_out_list(struct job *j, const char *name);
/* Adds "Name: value" to the answer, of any length; control characters become '?'. */
void job_field(struct job *j, const char *name, const char *value, ...) LOG_PRINTF(3, 4);
const char *job_fields(struct job *j); /* as http_answer takes them; NULL: none */
/* Of JOB_POLICY_OR_EDGE: was it the module's credential? */
bool job_edge_module(const struct job *j);
/* For http_front_ops.refuse: without a good signature nobody learns which devices and policies there are. */
const char *job_refused_why(const struct job *j);

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

#endif
