/* hub/domain/audit.c - one row a decision. */
#include "hub/domain/audit.h"

#include <stdarg.h>

enum err audit_push(struct hub *h, struct store_tx *tx, struct span who, const char *what,
                    struct span subject, const char *detail, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, detail);
    int n = vsnprintf(text, sizeof text, detail, ap);
    va_end(ap);
    if (n < 0)
        n = 0;
    if ((size_t)n >= sizeof text)
        n = sizeof text - 1;
    for (int i = 0; i < n; i++) /* a peer's text must not forge a line of a listing */
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    struct audit_row r = { .at_ms = h->wall_ms(),
                           .who = who,
                           .what = span_str(what),
                           .subject = subject,
                           .detail = span_of(text, (size_t)n) };
    return tx_audit_push(tx, &r);
}
