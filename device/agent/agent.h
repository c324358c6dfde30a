/* device/agent/agent.h - the agent: the device engine over this machine's files, sockets and processes.
 * agent.c is the loop, agent_boot.c what happens at a "reboot", which here is a change of application. */
#ifndef ROOST_DEVICE_AGENT_AGENT_H
#define ROOST_DEVICE_AGENT_AGENT_H

#include "device/agent/appsock.h"
#include "device/agent/fetch.h"
#include "device/agent/sensors.h"
#include "device/agent/supervisor.h"
#include "device/dev.h"
#include "port/flash_file.h"

struct agent {
    const char *config_path;
    struct agent_config cfg;
    struct flash_file flash;
    struct tls_client *tls;
    struct fetch fetch;
    struct supervisor app;
    struct appsock sock;
    struct roost_dev dev;
    struct roost_dev_config dev_cfg;
    struct roost_dev_mem mem; /* owned: one piece, at chunk */
    struct roost_dev_port port;
    struct boot_result boot;
    struct sensors sensors;

    struct tls_conn *link;
    struct tls_session *session;
    bool link_open;
    uint8_t link_pin[TLS_PIN_LEN];
    size_t link_out_len, link_out_at;
    uint8_t link_out[4096];

    uint64_t now_ms;
    uint64_t boot_at;   /* not before */
    uint64_t make_at;   /* try again to make the slot's folder; 0: no need */
    uint64_t notify_at; /* watchdog */
    uint64_t notify_every;
    uint8_t boot_cause; /* enum reset_cause */
    bool dev_up, boot_due, stopping, reload_due, told_well, told_ill, package, status_due;
    char id[129];
    char version[RELEASE_TEXT_MAX + 1]; /* of the slot that runs; empty: none */
    int signal_fd;
};

/* Everything that needs no network. ERR_*: said where it happened. cfg is taken over. */
MUST_USE enum err agent_init(struct agent *a, const char *config_path, struct agent_config *cfg);
void agent_fini(struct agent *a);
int agent_run(struct agent *a); /* until SIGTERM; the exit code */

/* agent_boot.c */
void agent_ask_boot(struct agent *a, enum reset_cause cause, uint32_t delay_ms);
void agent_boot_tick(struct agent *a); /* stops the application, runs the loader, starts what it chose */
void agent_app_tick(struct agent *a);  /* what the application's life means for the trial */
uint64_t agent_boot_deadline(const struct agent *a);
/* {state}/status.json, for people and tests. */
void agent_write_status(struct agent *a);

/* agent_link.c: the standing connection */
void agent_link_move(struct agent *a);
void agent_link_close(struct agent *a);

#endif
