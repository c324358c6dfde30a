/* hub/front/roost_http/groups.c - GET, PUT, DELETE /roost/v1/telemetry/groups[/{name}]: how far named groups
 * of telemetry readers are. */
#include "hub/domain/hub.h"
#include "hub/domain/message/reader_group.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

static bool in_path_group(struct job *j, struct span *name)
{
    *name = j->r->params[0];
    return reader_group_name_ok(*name) ||
           job_fail(j, 400, "bad-group-name", "the name of a group has 1 to %u letters, digits and - . _ $",
                    READER_GROUP_NAME_MAX);
}

static enum err group_json(struct job *j, struct store_tx *tx, struct span name, json_t **out)
{
    struct reader_place places[READER_PARTITIONS_MAX];
    enum err e = reader_group_get(j->h, tx, name, places);
    if (e)
        return e;
    json_t *o = json_object(), *arr = json_array();
    if (!o || !arr) {
        json_decref(o);
        json_decref(arr);
        return ERR_NOMEM;
    }
    json_put(o, "name", json_span(name));
    for (unsigned p = 0; p < READER_PARTITIONS_MAX; p++) {
        struct stream_info info;
        if (!places[p].known)
            continue;
        stream_get_info(j->h->stream, p, &info);
        uint64_t from = places[p].next > info.first_seq ? places[p].next : info.first_seq;
        if (json_array_append_new(arr, json_pack("{s:i,s:I,s:I}", "partition", (int)p, "next",
                                                 (json_int_t)places[p].next, "behind",
                                                 (json_int_t)(info.next_seq - from))))
            e = ERR_NOMEM;
    }
    json_put(o, "positions", arr);
    if (e)
        json_decref(o);
    else
        *out = o;
    return e;
}

static enum err not_found(struct job *j, enum err e)
{
    if (e == ERR_NOTFOUND)
        (void)job_fail(j, 404, "group-not-found",
                       "there is no group of this name: its first commit makes it");
    return e;
}

struct listing {
    struct job *j;
    struct store_tx *tx;
    json_t *arr;
};
static enum err add_group(void *ctx, struct span name)
{
    struct listing *l = ctx;
    json_t *o;
    enum err e = group_json(l->j, l->tx, name, &o);
    return e ? e : json_array_append_new(l->arr, o) ? ERR_NOMEM : ERR_OK;
}
static enum err list(struct job *j, struct store_tx *tx)
{
    struct listing l = { j, tx, job_out_list(j, "groups") };
    return l.arr ? reader_group_list(tx, add_group, &l) : ERR_NOMEM;
}

static enum err show(struct job *j, struct store_tx *tx)
{
    return not_found(j, group_json(j, tx, j->r->params[0], &j->out));
}
static void start_show(struct job *j)
{
    struct span name;
    (void)in_path_group(j, &name);
    job_read(j, show, NULL);
}

static enum err forget(struct job *j, struct store_tx *tx)
{
    j->status = 204;
    return not_found(j, reader_group_delete(j->h, tx, j->r->params[0]));
}
static void start_delete(struct job *j)
{
    struct span name;
    (void)in_path_group(j, &name);
    job_write(j, forget, NULL);
}

static bool read_positions(struct job *j, struct reader_place places[READER_PARTITIONS_MAX])
{
    static const char *const outer[] = { "positions", NULL }, *const inner[] = { "partition", "next", NULL };
    json_t *arr = json_object_get(j->in, "positions"), *v;
    size_t i;
    if (!in_only(j, j->in, outer))
        return false;
    if (!json_is_array(arr) || json_array_size(arr) == 0 || json_array_size(arr) > READER_PARTITIONS_MAX)
        return job_fail(j, 400, "bad-member", "member \"positions\" has to be a list of 1 to %u positions",
                        READER_PARTITIONS_MAX);
    json_array_foreach(arr, i, v)
    {
        uint64_t partition = 0, next = 0;
        if (!json_is_object(v))
            return job_fail(j, 400, "bad-member", "positions[%zu] has to be {\"partition\",\"next\"}", i);
        if (!in_only(j, v, inner) ||
            !in_u64(j, v, "partition", IN_REQUIRED, stream_partitions(j->h->stream) - 1, &partition) ||
            !in_u64(j, v, "next", IN_REQUIRED, INT64_MAX, &next))
            return false;
        if (partition >= READER_PARTITIONS_MAX || places[partition].known)
            return job_fail(j, 400, "bad-member", "positions[%zu] names a partition once more", i);
        places[partition] = (struct reader_place){ true, next };
    }
    return true;
}

static enum err commit(struct job *j, struct store_tx *tx)
{
    enum err e = reader_group_commit(j->h, tx, j->r->params[0], j->state);
    if (e == ERR_PROTO)
        (void)job_fail(j, 409, "position-ahead", "a position lies beyond the newest record");
    else if (e == ERR_LIMIT)
        (void)job_fail(j, 409, "too-many-groups", "there are %u groups already: delete one first",
                       READER_GROUPS_MAX);
    return e ? e : group_json(j, tx, j->r->params[0], &j->out);
}
static void start_commit(struct job *j)
{
    struct span name;
    struct reader_place *places = job_state(j, READER_PARTITIONS_MAX * sizeof *places);
    if (!places)
        return;
    (void)(in_path_group(j, &name) && read_positions(j, places));
    job_write(j, commit, NULL);
}

JOB_STEP_HANDLER(groups_list, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_read, list, NULL);
JOB_HANDLER(group_get, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_show);
JOB_HANDLER(group_put, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_OBJECT, start_commit);
JOB_HANDLER(group_delete, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_delete);
