/* hub/domain/access/access_read.c - identities and policies of the store as what a check needs of them. */
#include "hub/domain/access/access_impl.h"

#include "base/text.h"

static bool thumb_set(struct cred *out, enum cred_field f, struct span hex)
{
    uint8_t bytes[CRED_THUMB_MAX];
    return hex.n <= 2 * CRED_THUMB_MAX && !hex_decode(hex, bytes, hex.n / 2) &&
           cred_set(out, f, span_of(bytes, hex.n / 2));
}

enum err access_read_device(struct store_tx *tx, struct span id, struct cred *out)
{
    struct device_row r;
    enum err e = tx_device_get(tx, id, &r);
    if (e)
        return e;
    *out = (struct cred){ .head = { .status = r.status, .auth = r.auth }, .unused = r.issued_unused };
    return cred_set(out, CRED_KEY1, r.key1) && cred_set(out, CRED_KEY2, r.key2) &&
                   thumb_set(out, CRED_THUMB1, r.thumb1) && thumb_set(out, CRED_THUMB2, r.thumb2) &&
                   cred_set(out, CRED_GENERATION, r.generation)
               ? ERR_OK
               : ERR_LIMIT;
}

enum err access_read_module(struct store_tx *tx, struct span device, struct span id, struct cred *out)
{
    struct module_row r;
    enum err e = tx_module_get(tx, device, id, &r);
    if (e)
        return e;
    *out = (struct cred){ .head = { .status = DEVICE_ENABLED, .auth = r.auth } };
    return cred_set(out, CRED_KEY1, r.key1) && cred_set(out, CRED_KEY2, r.key2) &&
                   thumb_set(out, CRED_THUMB1, r.thumb1) && thumb_set(out, CRED_THUMB2, r.thumb2) &&
                   cred_set(out, CRED_GENERATION, r.generation)
               ? ERR_OK
               : ERR_LIMIT;
}

enum err access_read_policy(struct store_tx *tx, struct span name, struct cred *out)
{
    struct policy_row r;
    enum err e = tx_policy_get(tx, name, &r);
    if (e)
        return e;
    *out = (struct cred){ .head.rights = r.rights };
    return cred_set(out, CRED_KEY1, r.key1) && cred_set(out, CRED_KEY2, r.key2) ? ERR_OK : ERR_LIMIT;
}
