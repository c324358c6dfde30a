/* hub/front/roost_http/rows.c - rows as JSON. The members are in docs/api.md, "What the answers look like".
 */
#include "base/text.h"
#include "core/trust/report.h"
#include "hub/domain/identity/identity.h"
#include "hub/domain/update/campaign.h"
#include "hub/domain/update/deployment.h"
#include "hub/domain/update/release.h"
#include "hub/front/roost_http/roost_impl.h"

#include <stdlib.h>

static bool is_id(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i])
            return true;
    return false;
}

static enum err put_version(struct store_tx *tx, json_t *o, struct span release)
{
    struct release_row r;
    if (!is_id(release))
        return ERR_OK;
    enum err e = tx_release_get(tx, release, &r);
    if (!e)
        json_put(o, "version", json_span(r.version));
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

static enum err put_report(struct store_tx *tx, json_t *dev, const struct report_row *row)
{
    struct report r;
    json_put(dev, "connected", json_boolean(row->connected));
    if (row->activity_ms)
        json_put(dev, "lastActivity", json_time(row->activity_ms));
    if (!row->report.n || report_decode(row->report, &r))
        return ERR_OK;
    json_t *o = json_object();
    if (!o)
        return ERR_NOMEM;
    json_put(o, "reported", json_time(row->reported_ms));
    json_put_str(o, "state", device_state_name(r.state));
    json_put_str(o, "reason", reason_name(r.reason));
    struct span running = span_of(r.running, sizeof r.running);
    if (is_id(running))
        json_put(o, "running", json_hex(running));
    json_put_u64(o, "releaseSequence", r.release_seq);
    json_put_u64(o, "trustVersion", r.trust_version);
    json_put_u64(o, "ticketSequence", r.ticket_seq);
    json_put_u64(o, "bytesDone", r.bytes_done);
    json_put_u64(o, "bytesTotal", r.bytes_total);
    if (r.battery_pct != 255)
        json_put_u64(o, "battery", r.battery_pct);
    if (r.rssi_dbm)
        json_put(o, "rssi", json_integer(r.rssi_dbm));
    enum err e = put_version(tx, o, running);
    json_put(dev, "report", o);
    return e;
}

enum err deployment_json(struct job *j, struct store_tx *tx, const struct deployment_row *d, json_t **out)
{
    json_t *o = json_object();
    struct report_row rep;
    (void)j;
    if (!o)
        return ERR_NOMEM;
    json_put(o, "device", json_span(d->device));
    if (is_id(d->campaign))
        json_put(o, "campaign", json_hex(d->campaign));
    if (is_id(d->release))
        json_put(o, "release", json_hex(d->release));
    json_put_str(o, "state", deployment_state_name(d->state));
    json_put_str(o, "reason", reason_name(d->reason));
    json_put_u64(o, "attempts", d->attempts);
    json_put(o, "updated", json_time(d->updated_ms));
    if (d->deadline_ms)
        json_put(o, "deadline", json_time(d->deadline_ms));
    json_put_u64(o, "bytesDone", d->bytes_done);
    json_put_u64(o, "bytesTotal", d->bytes_total);
    enum err e = put_version(tx, o, d->release);
    if (!e) {
        e = tx_report_get(tx, d->device, &rep);
        if (!e && rep.running.n)
            json_put(o, "running", json_hex(rep.running));
        if (e == ERR_NOTFOUND)
            e = ERR_OK;
    }
    if (e)
        json_decref(o);
    else
        *out = o;
    return e;
}

struct newest {
    struct arena *a;
    struct deployment_row row;
    bool found;
};
static enum err keep_newest(void *ctx, const struct deployment_row *r)
{
    struct newest *n = ctx;
    n->found = true;
    return deployment_copy(n->a, r, &n->row);
}

static void put_keys(struct job *j, json_t *o, const struct device_row *d)
{
    uint8_t text[512];
    struct wr w = { text, sizeof text, 0 };
    if (d->key1.n)
        json_put(o, "primaryKey", json_base64(d->key1));
    if (d->key2.n)
        json_put(o, "secondaryKey", json_base64(d->key2));
    identity_connection_string(j->h, d, &w);
    if ((d->key1.n || d->auth != AUTH_SAS) && wr_ok(&w))
        json_put(o, "connectionString", json_span(wr_span(&w)));
}

enum err device_json(struct job *j, struct store_tx *tx, const struct device_row *d, bool one, bool keys,
                     json_t **out)
{
    uint8_t text[64];
    struct wr w = { text, sizeof text, 0 };
    struct report_row rep;
    json_t *o = json_object(), *dep = NULL;
    if (!o)
        return ERR_NOMEM;
    json_put(o, "id", json_span(d->id));
    json_put_str(o, "status", device_status_name(d->status));
    json_put(o, "connected", json_false());
    if (d->product.n) {
        wr_put(&w, d->product);
        wr_u8(&w, ':');
        wr_u32(&w, d->hw_class);
        wr_u8(&w, ':');
        wr_u32(&w, d->hw_rev);
        json_put(o, "hardware", json_span(wr_span(&w)));
    }
    if (d->auth != AUTH_SAS)
        proof_json(o, d->auth, d->thumb1, d->thumb2);
    if (d->status_reason.n)
        json_put(o, "statusReason", json_span(d->status_reason));
    if (d->edge)
        json_put(o, "edge", json_true());
    json_put(o, "origin", json_span(d->origin));
    json_put(o, "created", json_time(d->created_ms));
    json_put_u64(o, "etag", d->etag);
    if (one && d->public_key.n)
        json_put(o, "publicKey", json_base64(d->public_key));
    if (one && keys)
        put_keys(j, o, d);
    enum err e = tx_report_get(tx, d->id, &rep);
    e = e == ERR_NOTFOUND ? ERR_OK : e ? e : put_report(tx, o, &rep);
    struct newest n = { .a = &j->a };
    if (!e)
        e = tx_deployment_list(tx, d->id, SPAN_NONE, SPAN_NONE, 1, keep_newest, &n);
    if (!e && n.found)
        e = deployment_json(j, tx, &n.row, &dep);
    json_put(o, "deployment", dep);
    if (e)
        json_decref(o);
    else
        *out = o;
    return e;
}

json_t *release_json(const struct release_row *r)
{
    json_t *o = json_object();
    if (!o)
        return NULL;
    json_put(o, "id", json_hex(r->id));
    json_put(o, "product", json_span(r->product));
    json_put(o, "version", json_span(r->version));
    json_put_u64(o, "hardwareClass", r->hw_class);
    json_put_u64(o, "hardwareRevMin", r->hw_rev_min);
    json_put_u64(o, "hardwareRevMax", r->hw_rev_max);
    json_put_u64(o, "sequence", r->release_seq);
    json_put(o, "created", json_time(r->created_ms));
    return o;
}
