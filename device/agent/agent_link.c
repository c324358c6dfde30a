/* device/agent/agent_link.c - the standing connection: opens and closes it as the engine asks, moves bytes,
 * and keeps the CA the hub proved with. */
#include "device/agent/agent.h"

#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void agent_link_close(struct agent *a)
{
    tls_conn_close(a->link);
    a->link = NULL;
    a->link_open = false;
    a->link_out_len = a->link_out_at = 0;
}

static void ended(struct agent *a, enum err e)
{
    enum roost_dev_result r = e == ERR_OK       ? ROOST_DEV_DONE
                              : e == ERR_VERIFY ? ROOST_DEV_TLS_REFUSED
                              : e == ERR_DENIED ? ROOST_DEV_REFUSED
                                                : ROOST_DEV_UNREACHABLE;
    if (e)
        log_warn("link.closed", "err=%s why=\"%s\"", err_name(e), a->link ? tls_conn_why(a->link) : "");
    agent_link_close(a);
    roost_dev_link_closed(&a->dev, r, a->now_ms);
}

/* {state}/ca.pem: the next start then also trusts a hub that sends only its own certificate. */
static void keep_ca(struct agent *a)
{
    char path[4200], tmp[4300];
    uint8_t pem[8192], old[8192];
    struct wr w = { pem, sizeof pem, 0 };
    if (tls_client_stored_ca(a->tls, a->link_pin, &w) != ERR_OK)
        return;
    snprintf(path, sizeof path, "%s/ca.pem", a->cfg.state);
    snprintf(tmp, sizeof tmp, "%s.new", path);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(old, 1, sizeof old, f) : 0;
    if (f)
        fclose(f);
    if (span_eq(span_of(old, n), wr_span(&w)))
        return;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, pem, w.len) == (ssize_t)w.len && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    if (!ok || rename(tmp, path) < 0)
        log_warn("link.ca", "path=%s error=\"not written\"", path);
}

static enum err flush(struct agent *a)
{
    for (;;) {
        size_t n = 0;
        if (a->link_out_at == a->link_out_len) {
            a->link_out_at = 0;
            a->link_out_len = roost_dev_link_take(&a->dev, a->link_out, sizeof a->link_out);
            if (!a->link_out_len)
                return ERR_OK;
        }
        enum err e = tls_conn_write(
            a->link, span_of(a->link_out + a->link_out_at, a->link_out_len - a->link_out_at), &n);
        if (e)
            return e;
        a->link_out_at += n;
    }
}

static enum err exchange(struct agent *a)
{
    uint8_t buf[16384];
    enum err e;
    size_t n = 0;
    if (!a->link_open) {
        if ((e = tls_conn_step(a->link)) != ERR_OK)
            return e;
        a->link_open = true;
        log_info("link.open", "resumed=%d", tls_conn_resumed(a->link));
        keep_ca(a);
        roost_dev_link_opened(&a->dev, a->now_ms);
    }
    while ((e = tls_conn_read(a->link, buf, sizeof buf, &n)) == ERR_OK) {
        if (n == 0)
            return ERR_IO;
        roost_dev_link_bytes(&a->dev, span_of(buf, n), a->now_ms);
    }
    return e == ERR_AGAIN ? flush(a) : e;
}

void agent_link_move(struct agent *a)
{
    struct roost_dev_link want;
    bool wanted = roost_dev_link(&a->dev, &want);
    if (!wanted && a->link) {
        if (a->link_open)
            (void)!flush(a); /* its goodbye */
        agent_link_close(a);
        roost_dev_link_closed(&a->dev, ROOST_DEV_DONE, a->now_ms);
        return;
    }
    if (wanted && !a->link) {
        struct tls_target to = {
            .host = want.host, .port = want.port, .pin = want.ca_pin, .session = &a->session
        };
        if (want.ca_pin)
            memcpy(a->link_pin, want.ca_pin, TLS_PIN_LEN);
        enum err e = tls_conn_open(a->tls, &to, &a->link);
        if (e) {
            ended(a, e);
            return;
        }
    }
    if (a->link) {
        enum err e = exchange(a);
        if (e && e != ERR_AGAIN)
            ended(a, e);
    }
}
