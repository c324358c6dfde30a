/* core/sas/connection.c - connection strings: "HostName=...;DeviceId=...;SharedAccessKey=..." */
#include "core/sas/sas.h"

#include <stddef.h>

static const struct field {
    const char *name;
    size_t offset; /* of its span in struct sas_connection */
} fields[] = {
    { "HostName", offsetof(struct sas_connection, host) },
    { "DeviceId", offsetof(struct sas_connection, device) },
    { "ModuleId", offsetof(struct sas_connection, module) },
    { "SharedAccessKeyName", offsetof(struct sas_connection, policy) },
    { "SharedAccessKey", offsetof(struct sas_connection, key) },
    { "SharedAccessSignature", offsetof(struct sas_connection, signature) },
    { "GatewayHostName", offsetof(struct sas_connection, gateway) },
};
#define FIELDS (sizeof fields / sizeof fields[0])

static struct span *field_at(struct sas_connection *c, size_t i)
{
    return (struct span *)(void *)((uint8_t *)c + fields[i].offset);
}

enum err sas_connection_parse(struct span text, struct sas_connection *out)
{
    struct sas_connection c = { 0 };
    unsigned seen = 0;
    while (text.n) {
        const uint8_t *end = memchr(text.p, ';', text.n);
        struct span pair = span_of(text.p, end ? (size_t)(end - text.p) : text.n);
        text = span_skip(text, end ? pair.n + 1 : pair.n);
        if (!pair.n && !text.n)
            break; /* one ';' at the end does no harm */
        const uint8_t *eq = pair.n ? memchr(pair.p, '=', pair.n) : NULL;
        if (!eq || eq + 1 == pair.p + pair.n)
            return ERR_PROTO;
        struct span name = span_of(pair.p, (size_t)(eq - pair.p)), value = span_skip(pair, name.n + 1);
        size_t i = 0;
        while (i < FIELDS && !span_ieq(name, span_str(fields[i].name)))
            i++;
        if (i == FIELDS && !span_ieq(name, SPAN("x509")))
            return ERR_PROTO;
        if (seen & 1u << i)
            return ERR_PROTO;
        seen |= 1u << i;
        if (i < FIELDS)
            *field_at(&c, i) = value;
        else if (span_ieq(value, SPAN("true")) || span_ieq(value, SPAN("false")))
            c.x509 = value.n == 4;
        else
            return ERR_PROTO;
    }
    if (!c.host.n)
        return ERR_PROTO;
    *out = c;
    return ERR_OK;
}

void sas_connection_encode(struct wr *w, const struct sas_connection *c)
{
    struct sas_connection copy = *c;
    size_t start = w->len;
    for (size_t i = 0; i < FIELDS; i++) {
        struct span value = *field_at(&copy, i);
        if (!value.n)
            continue;
        if (w->len > start)
            wr_u8(w, ';');
        wr_str(w, fields[i].name);
        wr_u8(w, '=');
        wr_put(w, value);
    }
    if (c->x509)
        wr_str(w, ";x509=true");
}
