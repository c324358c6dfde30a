/* hub/front/routing/webhook.c - an endpoint that is an HTTPS address: batches as a JSON array, signed. The
 * server's certificate and name are always checked, redirects are not followed, no proxy is asked.
 *
 *   Roost-Signature: v1=HEX    HMAC-SHA-256, keyed with the secret, of Roost-Timestamp, a '.', and the body
 *   Roost-Timestamp: seconds since 1970: a receiver refuses what is old, so nobody can play it again */
#include "hub/front/routing/routing_impl.h"

#include "base/text.h"
#include "hub/front/http/message_json.h"

#include <curl/curl.h>
#include <stdlib.h>

#define TIMEOUT_S         30L
#define CONNECT_TIMEOUT_S 10L
#define BODY_MAX          (4u * 1024u * 1024u) /* of a batch that has more than one message */

struct webhook {
    CURL *curl;
    char *url;
    char error[CURL_ERROR_SIZE];
};

static enum err open_(struct deliver *d)
{
    struct webhook *k = calloc(1, sizeof *k);
    if (!k)
        return ERR_NOMEM;
    d->state = k;
    k->url = strndup((const char *)d->spec->url.p, d->spec->url.n);
    k->curl = curl_easy_init();
    return k->url && k->curl ? ERR_OK : ERR_NOMEM;
}

static void close_(struct deliver *d)
{
    struct webhook *k = d->state;
    if (!k)
        return;
    if (k->curl)
        curl_easy_cleanup(k->curl);
    free(k->url);
    free(k);
    d->state = NULL;
}

static size_t ignore(char *p, size_t size, size_t nr, void *ctx)
{
    (void)p;
    (void)ctx;
    return size * nr;
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t e)
{
    (void)a, (void)b, (void)c, (void)e;
    return bell_stopped(&((struct deliver *)ctx)->bell);
}

/* "[line,line]"; *took: how many records are in it. NULL: out of memory. */
static char *array(const struct stream_record *r, size_t nr, size_t *took, size_t *len)
{
    size_t cap = 0, n = 0, i;
    char *text = NULL;
    for (i = 0; i < nr; i++) {
        char *line = message_line(&r[i]);
        size_t add = line ? strlen(line) : 0; /* ends with a line feed: room for ',' */
        if (i && n + add > BODY_MAX) {
            free(line);
            break;
        }
        if (n + add + 3 > cap) {
            cap = 2 * (n + add) + 4096;
            char *more = realloc(text, cap);
            if (!more) {
                free(text);
                free(line);
                return NULL;
            }
            text = more;
        }
        if (add) {
            text[n] = n ? ',' : '[';
            memcpy(text + n + 1, line, add - 1);
            n += add;
        }
        free(line);
    }
    *took = i;
    if (!text)
        return NULL;
    if (!n)
        text[n++] = '[';
    text[n++] = ']';
    *len = n;
    return text;
}

static struct curl_slist *field(struct curl_slist *list, bool *good, const char *text)
{
    struct curl_slist *more = *good ? curl_slist_append(list, text) : NULL;
    *good = more != NULL;
    return more ? more : list;
}

static struct curl_slist *fields(struct deliver *d, struct span body)
{
    char line[256], time[24];
    uint8_t mac[SHA256_LEN], hex[2 * SHA256_LEN];
    struct wr w = { hex, sizeof hex, 0 };
    bool good = true;
    snprintf(time, sizeof time, "%llu", (unsigned long long)(d->hub->wall_ms() / 1000));
    struct curl_slist *list = field(NULL, &good, "Content-Type: application/json");
    list = field(list, &good, "Expect:");
    snprintf(line, sizeof line, "Roost-Endpoint: %s", d->out->name);
    list = field(list, &good, line);
    snprintf(line, sizeof line, "Roost-Timestamp: %s", time);
    list = field(list, &good, line);
    if (d->spec->secret.n) {
        const struct span parts[] = { span_str(time), SPAN("."), body };
        d->hub->crypto->hmac_sha256(d->spec->secret, parts, 3, mac);
        hex_encode(&w, span_of(mac, sizeof mac));
        snprintf(line, sizeof line, "Roost-Signature: v1=%.*s", (int)w.len, (const char *)hex);
        list = field(list, &good, line);
    }
    if (!good) {
        curl_slist_free_all(list);
        return NULL;
    }
    return list;
}

/* A refusal of these messages, not of the address, the credentials or the moment [RFC 9110 15.5, RFC 6585].
 */
static bool is_of_the_body(long status)
{
    static const uint16_t others[] = { 401, 402, 403, 404, 405, 407, 408, 410, 421, 423, 425, 426, 429, 451 };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (status == others[i])
            return false;
    return status >= 400 && status < 500;
}

static enum err send_(struct deliver *d, const struct stream_record *r, size_t nr, size_t *done)
{
    struct webhook *k = d->state;
    size_t took = 0, len = 0;
    long status = 0;
    char *body = array(r, nr, &took, &len);
    struct curl_slist *list = body ? fields(d, span_of(body, len)) : NULL;
    if (!list) {
        free(body);
        snprintf(d->why, sizeof d->why, "out of memory");
        return ERR_NOMEM;
    }
    curl_easy_reset(k->curl); /* the connection stays */
    k->error[0] = 0;
    curl_easy_setopt(k->curl, CURLOPT_URL, k->url);
    curl_easy_setopt(k->curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(k->curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(k->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(k->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(k->curl, CURLOPT_USERAGENT, "roost/" ROOST_VERSION);
    curl_easy_setopt(k->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(k->curl, CURLOPT_TIMEOUT, TIMEOUT_S);
    curl_easy_setopt(k->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(k->curl, CURLOPT_ERRORBUFFER, k->error);
    curl_easy_setopt(k->curl, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(k->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    curl_easy_setopt(k->curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(k->curl, CURLOPT_WRITEFUNCTION, ignore);
    curl_easy_setopt(k->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(k->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(k->curl, CURLOPT_XFERINFODATA, d);
    if (d->spec->ca.n) {
        struct curl_blob ca = { (void *)(uintptr_t)d->spec->ca.p, d->spec->ca.n, CURL_BLOB_COPY };
        curl_easy_setopt(k->curl, CURLOPT_CAINFO_BLOB, &ca);
        curl_easy_setopt(k->curl, CURLOPT_CAPATH, NULL);
    }
    CURLcode code = curl_easy_perform(k->curl);
    curl_easy_getinfo(k->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(list);
    free(body);
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return ERR_STOPPED;
    if (code) {
        snprintf(d->why, sizeof d->why, "%.180s", k->error[0] ? k->error : curl_easy_strerror(code));
        return ERR_IO;
    }
    if (status < 200 || status > 299) {
        snprintf(d->why, sizeof d->why, "the server answered %ld", status);
        return is_of_the_body(status) ? ERR_DENIED : ERR_IO;
    }
    *done = took;
    return ERR_OK;
}

const struct deliver_ops webhook_ops = { open_, send_, NULL, close_ };
