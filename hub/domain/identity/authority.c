/* hub/domain/identity/authority.c - see authority.h. */
#include "hub/domain/identity/authority.h"

#include "base/log.h"
#include "hub/domain/access/access.h"
#include "hub/domain/identity/identity.h"

bool authority_name_ok(struct span name)
{
    return name.n <= AUTHORITY_NAME_MAX && identity_id_ok(name);
}

static enum err count(void *ctx, const struct ca_row *r)
{
    (void)r;
    return ++*(size_t *)ctx < AUTHORITIES_MAX ? ERR_OK : ERR_LIMIT;
}

enum err authority_put(struct hub *h, struct store_tx *tx, struct arena *a, struct span name, struct span pem,
                       struct authority *out, bool *fresh)
{
    struct authority r = { .name = arena_copy(a, name), .created_ms = h->wall_ms() };
    uint8_t *der = arena_alloc(a, CERTIFICATE_DER_MAX);
    struct ca_row row;
    size_t len = 0, nr = 0;
    enum err e = arena_err(a);
    if (!e)
        e = certificate_from_pem(pem, der, CERTIFICATE_DER_MAX, &len);
    if (!e)
        e = certificate_facts(span_of(der, len), &r.facts);
    if (!e && !r.facts.is_ca)
        e = ERR_DENIED;
    if (!e && r.facts.is_weak)
        e = ERR_VERIFY;
    if (e)
        return e;
    e = tx_ca_get(tx, name, &row);
    *fresh = e == ERR_NOTFOUND;
    if (*fresh)
        e = tx_ca_list(tx, count, &nr);
    if (e)
        return e;
    row = (struct ca_row){ .name = name, .der = span_of(der, len), .created_ms = r.created_ms };
    e = tx_ca_put(tx, &row, 0, &r.etag);
    if (!e)
        *out = r;
    return e;
}

struct listing {
    struct arena *a;
    struct authority *rows;
    size_t nr;
};

static enum err keep(void *ctx, const struct ca_row *r)
{
    struct listing *l = ctx;
    if (l->nr == AUTHORITIES_MAX)
        return ERR_LIMIT;
    struct authority *to = &l->rows[l->nr++];
    *to =
        (struct authority){ .name = arena_copy(l->a, r->name), .created_ms = r->created_ms, .etag = r->etag };
    if (certificate_facts(r->der, &to->facts))
        log_error("authority.list", "name=%.*s: cannot be parsed", (int)r->name.n, (const char *)r->name.p);
    return arena_err(l->a);
}

enum err authority_list(struct store_tx *tx, struct arena *a, struct authority **out, size_t *nr)
{
    struct listing l = { .a = a, .rows = arena_alloc(a, AUTHORITIES_MAX * sizeof *l.rows) };
    enum err e = arena_err(a);
    if (!e)
        e = tx_ca_list(tx, keep, &l);
    if (!e) {
        *out = l.rows;
        *nr = l.nr;
    }
    return e;
}

enum err authority_delete(struct store_tx *tx, struct span name)
{
    return tx_ca_delete(tx, name);
}

void authority_announce(struct hub *h)
{
    access_forget_authorities(h->access);
    bus_wake_all(h->bus, BUS_WAKE_AUTHORITY);
}
