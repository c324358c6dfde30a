/* hub/front/http/fleet_json.h - what the fronts share about many devices and jobs over them: reading a
 * request with its numbers as they are spelled, and lists of documents as one JSON array. */
#ifndef ROOST_HUB_FRONT_HTTP_FLEET_JSON_H
#define ROOST_HUB_FRONT_HTTP_FLEET_JSON_H

#include "hub/domain/job/fleet_job.h"
#include "hub/domain/json_members.h"
#include "hub/domain/json_tree.h"
#include "hub/front/http/job.h"

/* The body as a tree; an object. False: the error is set ("bad-json"). */
bool fleet_body(struct job *j, struct jnode **out);
/* The same; a member that is there twice is refused. */
bool fleet_body_once(struct job *j, struct jnode **out);
/* Are all members among these? `names` ends with NULL. A name that is misspelled must not be left out
 * silently. False: the error is set and names it. */
bool fleet_only(struct job *j, const struct jnode *o, const char *const *names);
/* The text of an optional member; null is as good as absent. False: it is no text, and the error is set. */
bool fleet_text(struct job *j, const struct jnode *o, const char *name, struct span *out);
/* A whole number. */
bool fleet_number(struct job *j, const struct jnode *o, const char *name, uint64_t max, uint64_t *out);
/* A time, ISO 8601; one without a zone is UTC. Absent, null and "" leave *out as it is. */
bool fleet_time(struct job *j, const struct jnode *o, const char *name, uint64_t *wall_ms);

/* A JSON array that grows; pages end early at FLEET_PAGE_BYTES. */
#define FLEET_PAGE_BYTES (2u * 1024 * 1024)
struct fleet_array {
    struct arena *a;
    struct wr out;
    size_t nr;
};
/* write is called again where the room was too small. ERR_NOMEM. */
MUST_USE enum err fleet_array_add(struct fleet_array *l, void (*write)(struct wr *w, const void *item),
                                  const void *item);
struct span fleet_array_end(struct fleet_array *l); /* whole; "[]" when nothing was added */
/* One document, into the arena. */
struct span fleet_document(struct arena *a, void (*write)(struct wr *w, const void *item), const void *item);
/* The document, or the array, is the answer, of the front's type of JSON. ERR_NOMEM. */
MUST_USE enum err fleet_answer(struct job *j, void (*write)(struct wr *w, const void *item),
                               const void *item);
void fleet_answer_array(struct job *j, struct fleet_array *l);

/* A page of jobs, the newest first. */
struct fleet_job_page {
    struct fleet_job_filter filter; /* by the caller, all but its limit */
    uint64_t max;                   /* by the caller: jobs of the page */
    void (*write)(struct wr *w, const void *job_row);
    struct fleet_array list;
    bool more;     /* there is another page: */
    uint64_t last; /* its filter.before */
};
/* Becomes j->state; its filter lets every job through. NULL: the job has ended. */
struct fleet_job_page *fleet_job_page_new(struct job *j, void (*write)(struct wr *w, const void *job_row));
/* In a run(), with j->state. */
MUST_USE enum err fleet_job_page_read(struct job *j, struct store_tx *tx);

#endif
