/* device/agent/fetch.c - see fetch.h. An FTP transfer has no status line: success is told as 206 (a range) or
 * 200, a missing file as 404, a refused login as 401, so that the engine knows one language. */
#include "device/agent/fetch.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum err fetch_init(struct fetch *f, struct tls_client *tls, const char *address)
{
    *f = (struct fetch){ .tls = tls, .address = address };
    f->pin.client = tls;
    f->multi = curl_multi_init();
    return f->multi ? ERR_OK : ERR_NOMEM;
}

void fetch_cancel(struct fetch *f)
{
    if (!f->easy)
        return;
    curl_multi_remove_handle(f->multi, f->easy);
    curl_easy_cleanup(f->easy);
    f->easy = NULL;
    curl_slist_free_all(f->fields);
    curl_slist_free_all(f->connect_to);
    f->fields = f->connect_to = NULL;
    free(f->body);
    f->body = NULL;
}

void fetch_fini(struct fetch *f)
{
    fetch_cancel(f);
    if (f->multi)
        curl_multi_cleanup(f->multi);
    f->multi = NULL;
}

static CURLcode on_ssl_ctx(CURL *easy, void *ssl_ctx, void *ctx)
{
    (void)easy;
    tls_pin_apply(&((struct fetch *)ctx)->pin, ssl_ctx);
    return CURLE_OK;
}

static bool is_http(CURL *easy)
{
    const char *scheme = NULL;
    curl_easy_getinfo(easy, CURLINFO_SCHEME, &scheme);
    return scheme && strncasecmp(scheme, "http", 4) == 0;
}

/* Tells the status once, before the first byte of the body. */
static void announce(struct fetch *f, unsigned status)
{
    curl_off_t retry = 0;
    if (f->announced)
        return;
    f->announced = true;
    if (is_http(f->easy)) {
        long code = 0;
        curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &code);
        curl_easy_getinfo(f->easy, CURLINFO_RETRY_AFTER, &retry);
        status = (unsigned)code;
    }
    roost_dev_exchange_status(f->dev, f->id, status,
                              retry > 0 ? (uint32_t)(retry > 86400 ? 86400 : retry) : 0);
}

static size_t on_body(char *p, size_t one, size_t n, void *ctx)
{
    struct fetch *f = (struct fetch *)ctx;
    struct span piece = span_of(p, n);
    (void)one;
    announce(f, f->ranged ? 206 : 200);
    f->bytes += n;
    if (f->ranged && !is_http(f->easy)) { /* FTP can only be told where to begin */
        if (piece.n > f->len - f->got)
            piece.n = f->len - f->got;
        f->got += (uint32_t)piece.n;
        f->complete = f->got == f->len;
    }
    if (piece.n)
        roost_dev_exchange_body(f->dev, f->id, piece);
    return n;
}

static enum roost_dev_result result_of(const struct fetch *f, CURLcode code)
{
    long os = 0;
    switch (code) {
    case CURLE_OK:
        return ROOST_DEV_DONE;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CERTPROBLEM:
        return ROOST_DEV_TLS_REFUSED;
    case CURLE_OPERATION_TIMEDOUT:
        return ROOST_DEV_TIMED_OUT;
    case CURLE_COULDNT_CONNECT:
        curl_easy_getinfo(f->easy, CURLINFO_OS_ERRNO, &os);
        return os == ECONNREFUSED ? ROOST_DEV_REFUSED : ROOST_DEV_UNREACHABLE;
    default:
        return ROOST_DEV_UNREACHABLE;
    }
}

static void complain(const struct fetch *f, CURLcode code)
{
    const char *url = NULL;
    curl_easy_getinfo(f->easy, CURLINFO_EFFECTIVE_URL, &url);
    log_warn("fetch.failed", "url=%s error=\"%s\"", url ? url : "?",
             f->error[0] ? f->error : curl_easy_strerror(code));
}

static void end(struct fetch *f, CURLcode code, uint64_t now_ms)
{
    enum roost_dev_result result;
    if (f->complete && code != CURLE_OK)
        code = CURLE_OK; /* we hung up: all that was asked for is there */
    if (code != CURLE_OK)
        complain(f, code);
    if (code == CURLE_REMOTE_FILE_NOT_FOUND || code == CURLE_REMOTE_ACCESS_DENIED) {
        announce(f, 404);
        code = CURLE_OK;
    } else if (code == CURLE_LOGIN_DENIED) {
        announce(f, 401);
        code = CURLE_OK;
    } else if (code == CURLE_RANGE_ERROR || code == CURLE_BAD_DOWNLOAD_RESUME) {
        announce(f, 416);
        code = CURLE_OK;
    } else if (code == CURLE_OK) {
        announce(f, f->ranged ? 206 : 200);
    }
    result = result_of(f, code);
    struct roost_dev *dev = f->dev;
    uint32_t id = f->id;
    fetch_cancel(f);
    roost_dev_exchange_end(dev, id, result, now_ms);
}

static bool add_field(struct fetch *f, const char *name, struct span value)
{
    char line[1200];
    if (!value.n)
        return true;
    if (value.n > sizeof line - strlen(name) - 3)
        return false;
    snprintf(line, sizeof line, "%s: %.*s", name, (int)value.n, (const char *)value.p);
    struct curl_slist *more = curl_slist_append(f->fields, line);
    if (more)
        f->fields = more;
    return more != NULL;
}

/* Kept connections were verified for one pin only: another pin begins with none. */
static bool adopt_pin(struct fetch *f, const uint8_t *pin)
{
    bool same = f->has_pin == (pin != NULL) && (!pin || memcmp(f->pin.pin, pin, TLS_PIN_LEN) == 0);
    if (!same) {
        curl_multi_cleanup(f->multi);
        if (!(f->multi = curl_multi_init()))
            return false;
        f->has_pin = pin != NULL;
        if (pin)
            memcpy(f->pin.pin, pin, TLS_PIN_LEN);
    }
    return true;
}

static bool set_up(struct fetch *f, const struct roost_dev_exchange *x)
{
    CURL *c = f->easy;
    char url[1024], range[64];
    if (x->url.n >= sizeof url)
        return false;
    memcpy(url, x->url.p, x->url.n);
    url[x->url.n] = 0;
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https,ftp,ftps");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "roost-agent/" ROOST_VERSION);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 20000L);
    curl_easy_setopt(c, CURLOPT_SERVER_RESPONSE_TIMEOUT, 60L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 16L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, f->error);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* A resumed session skips the verdict on the chain, and curl keeps sessions by host alone. */
    curl_easy_setopt(c, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    if (f->has_pin) {
        curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
        curl_easy_setopt(c, CURLOPT_SSL_CTX_DATA, f);
    }
    if (f->address) {
        char to[128];
        snprintf(to, sizeof to, strchr(f->address, ':') ? "::[%s]:" : "::%s:", f->address);
        f->connect_to = curl_slist_append(NULL, to);
        curl_easy_setopt(c, CURLOPT_CONNECT_TO, f->connect_to);
    }
    if (x->ranged) {
        snprintf(range, sizeof range, "%u-%u", (unsigned)x->offset, (unsigned)(x->offset + x->len - 1));
        curl_easy_setopt(c, CURLOPT_RANGE, range);
    }
    if (x->method == ROOST_DEV_POST) {
        if (!(f->body = malloc(x->body.n + 1)))
            return false;
        if (x->body.n)
            memcpy(f->body, x->body.p, x->body.n);
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)x->body.n);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, f->body);
    }
    bool ok = add_field(f, "Content-Type", x->content_type) &&
              add_field(f, "Authorization", x->authorization) &&
              add_field(f, "Roost-Signature", x->signature);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, f->fields);
    return ok;
}

void fetch_start(struct fetch *f, struct roost_dev *dev, const struct roost_dev_exchange *x, uint64_t now_ms)
{
    fetch_cancel(f);
    f->dev = dev;
    f->id = x->id;
    f->ranged = x->ranged;
    f->offset = x->offset;
    f->len = x->len;
    f->got = 0;
    f->announced = f->complete = false;
    f->error[0] = 0;
    if (adopt_pin(f, x->ca_pin) && (f->easy = curl_easy_init()) != NULL && set_up(f, x) &&
        curl_multi_add_handle(f->multi, f->easy) == CURLM_OK)
        return;
    log_error("fetch.start", "error=\"%s\"", "the request cannot be made");
    fetch_cancel(f);
    roost_dev_exchange_end(dev, x->id, ROOST_DEV_UNREACHABLE, now_ms);
}

void fetch_move(struct fetch *f, uint64_t now_ms)
{
    int running = 0, left = 0;
    if (!f->easy)
        return;
    (void)curl_multi_perform(f->multi, &running);
    for (CURLMsg *m; (m = curl_multi_info_read(f->multi, &left)) != NULL;)
        if (m->msg == CURLMSG_DONE && m->easy_handle == f->easy) {
            end(f, m->data.result, now_ms);
            return; /* the handle and its messages are gone */
        }
}
