/* device/life_test.c - the engine through everything that can happen between a blank chip and a fleet that
 * comes home, against a scripted hub. */
#include "device/world_test.h"

static struct world w;

static void begin(void)
{
    world_init(&w, 4096, 256, WORLD_SLOT_LEN);
}

/* A device that already runs 1.0.0, confirmed. */
static int begin_with(uint32_t len)
{
    begin();
    int r = world_release(&w, 10, 1, len, false);
    w.target = r;
    world_boot(&w, RESET_POWER);
    assert_true(world_settle(&w, r, 120000));
    return r;
}

static void a_blank_device_comes_alive(void **state)
{
    (void)state;
    int r = begin_with(70000);
    assert_int_equal(w.boot.slot, 0);
    assert_int_equal(w.bootstraps, 1);
    assert_int_equal(w.d.boot.security_counter, 1);
    assert_int_equal(w.events[ROOST_DEV_EV_STAGED], 1);
    assert_int_equal(w.events[ROOST_DEV_EV_CONFIRMED], 1);
    assert_int_equal(w.artifact_bytes, w.rel[r].payload_len);
    world_run(&w, 200000);
    assert_true(w.telemetry >= 3 && w.telemetry <= 5);
    assert_int_equal(w.report.state, DEVICE_IDLE);
    assert_memory_equal(w.report.running, w.rel[r].id, OBJECT_ID_LEN);
    world_fini(&w);
}

static void a_second_release_goes_to_the_other_slot(void **state)
{
    (void)state;
    (void)begin_with(20000);
    int r2 = world_release(&w, 11, 2, 150 * 512, false);
    w.target = r2;
    world_c2d(&w, "update"); /* told at once, not at the next period */
    uint64_t before = w.now_ms;
    assert_true(world_settle(&w, r2, 60000));
    assert_true(w.now_ms - before < 60000);
    assert_int_equal(w.boot.slot, 1);
    assert_int_equal(w.acks, 1);
    assert_int_equal(w.messages, 0);
    world_run(&w, 5000); /* the confirmed state is reported right away */
    assert_int_equal(w.report.state, DEVICE_IDLE);
    assert_int_equal(w.report.security_counter, 2);
    assert_int_equal(w.report.other_valid, 1);
    assert_memory_equal(w.report.running, w.rel[r2].id, OBJECT_ID_LEN);
    world_fini(&w);
}

static void every_spelling_of_the_update_command(void **state)
{
    static const char *const yes[] = { "update", " update\n", "{\"update\":true}",
                                       "{\"command\":\"update\"}" };
    static const char *const no[] = { "updates", "{\"update\":false}", "{\"command\":\"reboot\"}", "[1]",
                                      "" };
    (void)state;
    (void)begin_with(5000);
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        uint32_t before = w.checkins;
        world_c2d(&w, yes[i]);
        world_run(&w, 3000);
        assert_int_equal(w.checkins, before + 1);
        assert_int_equal(w.messages, 0);
        assert_true(world_settle(&w, 0, 30000));
    }
    for (size_t i = 0; i + 1 < sizeof no / sizeof *no; i++) {
        uint32_t before = w.checkins;
        world_c2d(&w, no[i]);
        world_run(&w, 3000);
        assert_int_equal(w.checkins, before);
        assert_int_equal(w.messages, i + 1);
        assert_string_equal(w.message, no[i]);
    }
    world_fini(&w);
}

static void the_period_has_jitter(void **state)
{
    uint64_t low = UINT64_MAX, high = 0;
    (void)state;
    (void)begin_with(5000);
    for (int i = 0; i < 40; i++) {
        uint32_t seen = w.checkins;
        uint64_t before = w.now_ms, took;
        while (w.checkins == seen)
            world_run(&w, 1000);
        took = w.now_ms - before;
        if (i == 0)
            continue;
        low = took < low ? took : low;
        high = took > high ? took : high;
    }
    assert_true(low >= 470000 && high <= 730000 && high - low > 60000);
    world_fini(&w);
}

static void a_crashing_release_is_reverted_and_quarantined(void **state)
{
    (void)state;
    int r1 = begin_with(20000), bad = world_release(&w, 11, 2, 20000, true);
    w.target = bad;
    world_c2d(&w, "update");
    world_run(&w, 3000000);
    assert_true(world_settled(&w, r1));
    assert_int_equal(w.crashes, 6); /* two installs, three starts each, then never again */
    assert_int_equal(w.boot.reject_nr, 2);
    assert_int_equal(w.last_refused, REASON_QUARANTINE);
    assert_int_equal(w.report.reason, REASON_QUARANTINE);
    assert_int_equal(w.last_reverted, REASON_WATCHDOG);
    assert_int_equal(w.d.boot.security_counter, 1); /* raised by confirmation only */
    /* A new release clears it. */
    int good = world_release(&w, 12, 2, 20000, false);
    w.target = good;
    world_c2d(&w, "update");
    assert_true(world_settle(&w, good, 120000));
    world_fini(&w);
}

static void a_reverted_release_is_reported_as_such(void **state)
{
    (void)state;
    int r1 = begin_with(20000), bad = world_release(&w, 11, 2, 20000, true);
    struct rd id = rd_of(span_of(w.rel[bad].id, 4));
    uint32_t first = rd_le32(&id);
    w.target = bad;
    world_c2d(&w, "update");
    while (w.events[ROOST_DEV_EV_STAGED] < 2)
        world_run(&w, 1);
    w.target = -1;
    assert_true(world_settle(&w, r1, 120000));
    assert_int_equal(w.crashes, 3);
    assert_int_equal(w.report.state, DEVICE_IDLE);
    assert_int_equal(w.report.reason, REASON_WATCHDOG);
    assert_int_equal(w.report.trial_release, first);
    assert_memory_equal(w.report.running, w.rel[r1].id, OBJECT_ID_LEN);
    world_fini(&w);
}

static void bend_wants_app(struct release *r)
{
    r->confirm_checks |= CONFIRM_APP;
}

static void an_application_that_is_ill_goes_back(void **state)
{
    (void)state;
    int r1 = begin_with(20000);
    int r2 = world_release_bent(&w, 11, 1, 20000, false, bend_wants_app);
    w.target = r2;
    w.app_ill = true;
    world_c2d(&w, "update");
    while (!w.events[ROOST_DEV_EV_REVERTED])
        world_run(&w, 1000);
    assert_int_equal(w.last_reverted, REASON_PROBATION_APP);
    assert_ptr_equal(world_running(&w), &w.rel[r1]);
    world_fini(&w);
}

static void an_application_that_says_nothing_goes_back(void **state)
{
    (void)state;
    int r1 = begin_with(20000);
    int r2 = world_release_bent(&w, 11, 1, 20000, false, bend_wants_app);
    w.target = r2;
    w.app_silent = true;
    world_c2d(&w, "update");
    world_run(&w, 300000);
    assert_ptr_equal(world_running(&w), &w.rel[r2]);
    assert_true(w.d.trial);
    w.target = -1;
    while (!w.events[ROOST_DEV_EV_REVERTED])
        world_run(&w, 1000);
    assert_int_equal(w.last_reverted, REASON_PROBATION_APP);
    assert_ptr_equal(world_running(&w), &w.rel[r1]);
    world_fini(&w);
}

/* The engine on trial, with the network as the test wants it. */
static int begin_trial(void)
{
    (void)begin_with(20000);
    int r2 = world_release(&w, 11, 2, 20000, false);
    uint32_t before = w.reboots;
    w.target = r2;
    world_c2d(&w, "update");
    while (w.reboots == before)
        world_run(&w, 1);
    assert_true(w.d.trial);
    return r2;
}

static void an_image_that_reaches_nothing_goes_back(void **state)
{
    (void)state;
    (void)begin_trial();
    w.unreachable = true;
    while (!w.events[ROOST_DEV_EV_REVERTED])
        world_run(&w, 1000);
    assert_int_equal(w.last_reverted, REASON_PROBATION_NET);
    assert_ptr_equal(world_running(&w), &w.rel[0]);
    world_fini(&w);
}

static void a_hub_outage_rolls_nothing_back(void **state)
{
    (void)state;
    int r2 = begin_trial();
    w.down = true;
    world_run(&w, 6 * 3600000u); /* six hours */
    assert_int_equal(w.events[ROOST_DEV_EV_REVERTED], 0);
    assert_true(w.d.trial);
    w.down = false;
    assert_true(world_settle(&w, r2, 120000));
    world_fini(&w);
}

static void a_hub_that_refuses_the_new_image_gets_the_old_one_back(void **state)
{
    (void)state;
    (void)begin_trial();
    w.forgets = w.refuses_bootstrap = true;
    while (!w.events[ROOST_DEV_EV_REVERTED])
        world_run(&w, 1000);
    assert_int_equal(w.last_reverted, REASON_PROBATION_HUB);
    world_fini(&w);
}

static void probation_is_waited_for(void **state)
{
    (void)state;
    (void)begin_trial();
    world_run(&w, 4000);
    assert_true(w.d.trial && w.d.trial_hub);
    world_run(&w, 2500);
    assert_false(w.d.trial);
    world_fini(&w);
}

/* ---- the download
 * ------------------------------------------------------------------------------------------ */

static void a_damaged_chunk_or_page_is_fetched_again(void **state)
{
    (void)state;
    begin();
    w.target = world_release(&w, 10, 1, 100000, false);
    w.spoil_tree = 2;
    w.spoil_chunk = 2;
    world_boot(&w, RESET_POWER);
    assert_true(world_settle(&w, w.target, 120000));
    assert_int_equal(w.spoil_tree + w.spoil_chunk, 0);
    world_fini(&w);
}

static void a_server_that_only_lies_is_given_up(void **state)
{
    (void)state;
    (void)begin_with(20000);
    w.target = world_release(&w, 11, 1, 40000, false);
    w.spoil_chunk = 1000000;
    world_c2d(&w, "update");
    world_run(&w, 300000);
    assert_int_equal(w.last_refused, REASON_HASH);
    assert_int_equal(w.report.reason, REASON_HASH);
    w.spoil_chunk = 0;
    world_c2d(&w, "update");
    assert_true(world_settle(&w, w.target, 60000));
    world_fini(&w);
}

static void a_server_without_ranges_will_do(void **state)
{
    (void)state;
    begin();
    w.target = world_release(&w, 10, 1, 90000, false);
    w.no_ranges = true;
    world_boot(&w, RESET_POWER);
    assert_true(world_settle(&w, w.target, 120000));
    world_fini(&w);
}

static void missing_artifacts_are_asked_for_later(void **state)
{
    (void)state;
    (void)begin_with(20000);
    w.target = world_release(&w, 11, 1, 40000, false);
    w.no_artifacts = true;
    world_c2d(&w, "update");
    world_run(&w, 400000);
    assert_ptr_equal(world_running(&w), &w.rel[0]);
    assert_int_equal(w.events[ROOST_DEV_EV_REVERTED], 0);
    w.no_artifacts = false;
    assert_true(world_settle(&w, w.target, 900000));
    world_fini(&w);
}

static void a_power_cut_costs_one_chunk_not_the_download(void **state)
{
    (void)state;
    begin();
    w.target = world_release(&w, 10, 1, 120000, false);
    world_boot(&w, RESET_POWER);
    while (w.events[ROOST_DEV_EV_PROGRESS] < 20)
        world_run(&w, 1);
    flash_sim_cut_arm(&w.sim, 1, FLASH_CUT_PREFIX, UINT32_MAX);
    /* The page's request was for all of it; what was served before the cut is not asked for again. */
    w.artifact_bytes = 0;
    world_boot(&w, RESET_POWER);
    assert_true(world_settle(&w, w.target, 120000));
    assert_true(w.artifact_bytes <= 120000 - 19 * 4096);
    world_fini(&w);
}

static void geometries(void **state)
{
    static const uint32_t shape[][3] = { { 4096, 256, 131072 },
                                         { 65536, 512, 524288 },
                                         { 1024, 64, 65536 },
                                         { 4096, 4096, 131072 },
                                         { 512, 4, 65536 } };
    (void)state;
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        if (shape[i][0] < 4096)
            continue; /* the configuration pair needs a sector of 4 KB */
        world_init(&w, shape[i][0], shape[i][1], shape[i][2]);
        w.target = world_release(&w, 10, 1, 61111, false);
        world_boot(&w, RESET_POWER);
        assert_true(world_settle(&w, w.target, 120000));
        w.target = world_release(&w, 11, 1, 61114, false);
        world_c2d(&w, "update");
        assert_true(world_settle(&w, w.target, 120000));
        w.target = world_release(&w, 12, 1, 50001, false); /* over the remains of the first */
        world_c2d(&w, "update");
        assert_true(world_settle(&w, w.target, 120000));
        world_fini(&w);
    }
}

static void bend_small_chunks(struct release *r)
{
    r->chunk_code = 9;
    r->fan_out = 4;
}

static void chunks_smaller_than_a_sector(void **state)
{
    (void)state;
    begin();
    w.target = world_release_bent(&w, 10, 1, 21000, false, bend_small_chunks);
    world_boot(&w, RESET_POWER);
    assert_true(world_settle(&w, w.target, 120000));
    int second = world_release_bent(&w, 11, 1, 21500, false, bend_small_chunks);
    w.target = second;
    world_c2d(&w, "update");
    assert_true(world_settle(&w, second, 120000));
    int third = world_release_bent(&w, 12, 1, 20500, false, bend_small_chunks);
    w.target = third;
    world_c2d(&w, "update");
    while (w.events[ROOST_DEV_EV_PROGRESS] < 41 + 42 + 20)
        world_run(&w, 1);
    world_boot(&w, RESET_POWER); /* in the middle of a sector */
    assert_true(world_settle(&w, third, 120000));
    world_fini(&w);
}

/* ---- actions
 * ----------------------------------------------------------------------------------------------- */

static void stage_then_activate_then_go_back(void **state)
{
    (void)state;
    int r1 = begin_with(5000), r2 = world_release(&w, 11, 1, 9000, false);
    w.target = r2;
    w.action = TICKET_STAGE_ONLY;
    world_c2d(&w, "update");
    world_run(&w, 20000);
    assert_true(world_settled(&w, r1));
    world_c2d(&w, "update");
    world_run(&w, 2000);
    assert_int_equal(w.report.other_valid, 1);
    assert_memory_equal(w.report.other, w.rel[r2].id, OBJECT_ID_LEN);
    uint32_t bytes = w.artifact_bytes;
    w.action = TICKET_ACTIVATE_STAGED;
    world_c2d(&w, "update");
    assert_true(world_settle(&w, r2, 60000));
    w.target = r1;
    w.action = TICKET_BOOT_PREVIOUS;
    world_c2d(&w, "update");
    assert_true(world_settle(&w, r1, 60000));
    assert_int_equal(w.artifact_bytes, bytes); /* without a download */
    world_fini(&w);
}

static void bend_window(struct world *v, struct ticket *t)
{
    (void)v;
    t->window_start_s = 600;
    t->window_len_s = 60;
}

static void activation_waits_for_its_window(void **state)
{
    (void)state;
    int r1 = begin_with(5000), r2 = world_release(&w, 11, 1, 9000, false);
    w.target = r2;
    w.bend_ticket = bend_window;
    world_c2d(&w, "update");
    world_run(&w, 590000);
    assert_ptr_equal(world_running(&w), &w.rel[r1]);
    assert_int_equal(w.report.state, DEVICE_DEFERRED);
    assert_true(world_settle(&w, r2, 60000));
    world_fini(&w);
}

/* ---- coming home
 * ------------------------------------------------------------------------------------------- */

static void pending_devices_ask_again(void **state)
{
    (void)state;
    begin();
    w.pending = true;
    world_boot(&w, RESET_POWER);
    world_run(&w, 100000);
    assert_int_equal(roost_dev_phase(&w.d), ROOST_DEV_PENDING);
    assert_true(w.bootstraps >= 3 && w.bootstraps <= 5);
    w.pending = false;
    assert_true(world_settle(&w, -1, 60000));
    world_fini(&w);
}

static void a_new_hub_under_another_name_gets_its_device_back(void **state)
{
    (void)state;
    int r1 = begin_with(20000);
    uint32_t bytes = w.artifact_bytes, booted = w.boots;
    w.down = true;
    world_run(&w, 300000);
    assert_true(w.events[ROOST_DEV_EV_HOMELESS] > 0);
    /* Deleted and made anew: another name, another key for the device, no memory of it; the trust goes on. */
    w.down = false;
    strcpy(w.host, "reborn.example");
    strcpy(w.id, "dev-one");
    memset(w.sas, 0x77, sizeof w.sas);
    w.director = KEY_DIRECTOR + 1;
    w.ticket_seq = 0;
    struct trust_record t = world_trust_body(&w, 2);
    world_trust_publish(&w, &t, KEY_ROOT);
    assert_true(world_settle(&w, r1, 120000));
    assert_int_equal(w.artifact_bytes, bytes); /* not flashed again */
    assert_int_equal(w.boots, booted);
    assert_int_equal(w.report.trust_version, 2);
    world_fini(&w);
}

static void a_refusal_sends_it_to_bootstrap(void **state)
{
    (void)state;
    int r1 = begin_with(5000);
    uint32_t asked = w.bootstraps;
    w.forgets = true; /* the registry lost this device; CONNACK 5, 401 */
    w.link_down = true;
    world_run(&w, 60);
    w.link_down = false;
    assert_true(world_settle(&w, r1, 60000));
    assert_int_equal(w.bootstraps, asked + 1);
    world_fini(&w);
}

static void a_token_that_is_unknown_now_is_left_out(void **state)
{
    (void)state;
    begin();
    w.cfg.fleet_token = SPAN("of-another-hub");
    w.refuses_token = true;
    world_boot(&w, RESET_POWER);
    assert_true(world_settle(&w, -1, 60000));
    assert_int_equal(w.bootstraps, 2);
    world_fini(&w);
}

static void another_fleet_cannot_take_it(void **state)
{
    (void)state;
    (void)begin_with(5000);
    w.down = true;
    world_run(&w, 300000);
    w.down = false;
    strcpy(w.host, "thief.example");
    w.trust_nr = 0;
    struct trust_record t = world_trust_body(&w, 2);
    memcpy(t.fleet_id, "fleet-of-a-thief", FLEET_ID_LEN);
    t.root[0] = world_public(KEY_ROOT + 1);
    world_trust_publish(&w, &t, KEY_ROOT + 1);
    world_run(&w, 300000);
    assert_int_equal(w.last_refused, REASON_TRUST);
    assert_memory_equal(w.d.conf.host, "hub.example", 11);
    assert_int_equal(w.d.conf.trust_version, 1);
    world_fini(&w);
}

static void the_first_trust_record_must_match_the_pin(void **state)
{
    (void)state;
    begin();
    w.cfg.has_root_pin = true;
    memset(w.cfg.root_pin, 0xab, sizeof w.cfg.root_pin);
    world_boot(&w, RESET_POWER);
    world_run(&w, 60000);
    assert_int_equal(w.last_refused, REASON_TRUST);
    assert_false(w.d.conf.id_len);
    struct trust_record t = world_trust_body(&w, 1);
    trust_record_root_pin(&port_crypto, &t, w.cfg.root_pin);
    assert_true(world_settle(&w, -1, 60000));
    world_fini(&w);
}

static void a_long_trust_chain_is_walked(void **state)
{
    (void)state;
    begin();
    for (uint32_t v = 2; v <= WORLD_TRUSTS; v++) {
        struct trust_record t = world_trust_body(&w, v);
        t.root_nr = 3;
        for (uint8_t i = 1; i < 3; i++)
            t.root[i] = world_public((uint8_t)(0x60 + v + i * 16));
        t.release_nr = 3;
        for (uint8_t i = 1; i < 3; i++)
            t.release[i] = world_public((uint8_t)(0x90 + v + i * 16));
        world_trust_publish(&w, &t, KEY_ROOT);
    }
    w.target = world_release(&w, 10, 1, 5000, false);
    world_boot(&w, RESET_POWER);
    assert_true(world_settle(&w, w.target, 120000));
    assert_int_equal(w.d.conf.trust_version, WORLD_TRUSTS);
    world_fini(&w);
}

static void a_withdrawn_release_key_does_not_stop_what_runs(void **state)
{
    (void)state;
    int r1 = begin_with(5000);
    w.release_signer = KEY_RELEASE + 1;
    struct trust_record t = world_trust_body(&w, 2);
    t.revoked_nr = 1;
    key_id_of(&port_crypto, world_public(KEY_RELEASE).pub, t.revoked[0]);
    world_trust_publish(&w, &t, KEY_ROOT);
    world_c2d(&w, "update");
    world_run(&w, 10000);
    assert_int_equal(w.d.conf.trust_version, 2);
    for (int i = 0; i < 3; i++) { /* a watchdog reset checks everything */
        world_boot(&w, RESET_WATCHDOG);
        assert_true(world_settle(&w, r1, 60000));
    }
    /* And what the new key signs is taken. */
    w.target = world_release(&w, 11, 1, 6000, false);
    world_c2d(&w, "update");
    assert_true(world_settle(&w, w.target, 60000));
    world_fini(&w);
}

static void without_a_clock_it_asks_for_the_time(void **state)
{
    (void)state;
    int r1 = begin_with(5000);
    w.clock_known = false;
    uint32_t asked = w.bootstraps;
    world_boot(&w, RESET_POWER);
    assert_true(world_settle(&w, r1, 60000));
    assert_int_equal(w.bootstraps, asked + 1);
    world_fini(&w);
}

static void a_token_is_renewed_before_it_ends(void **state)
{
    (void)state;
    (void)begin_with(5000);
    uint32_t connects = w.connects;
    w.cfg.checkin_every_ms = 36000000;
    w.cfg.keep_link = true;
    world_run(&w, 3 * 3600000u);
    assert_true(w.connects - connects >= 3);
    assert_true(world_settled(&w, 0));
    world_fini(&w);
}

static void telemetry_waits_out_an_outage(void **state)
{
    (void)state;
    (void)begin_with(5000);
    world_run(&w, 130000);
    uint32_t sent = w.telemetry;
    w.link_down = true;
    world_run(&w, 1000);
    assert_int_equal(roost_dev_publish(&w.d, SPAN_NONE, SPAN("x")), ERR_AGAIN);
    w.link_down = false;
    assert_true(world_settle(&w, 0, 60000));
    while (w.d.link.has_message)
        world_run(&w, 10);
    assert_int_equal(roost_dev_publish(&w.d, SPAN("a=1"), SPAN("mine")), ERR_OK);
    assert_int_equal(roost_dev_publish(&w.d, SPAN_NONE, SPAN("second")), ERR_AGAIN);
    world_run(&w, 1000);
    assert_true(w.telemetry > sent);
    assert_int_equal(w.telemetry, w.d.link.sent_nr + (w.telemetry - w.d.link.sent_nr));
    assert_int_equal(roost_dev_publish(&w.d, SPAN_NONE, span_of(w.packet, sizeof w.packet)), ERR_LIMIT);
    world_fini(&w);
}

static void identity_and_numbers_outlive_power(void **state)
{
    (void)state;
    int r1 = begin_with(5000);
    uint8_t seed[ED25519_KEY_LEN];
    memcpy(seed, w.d.conf.seed, sizeof seed);
    for (int i = 0; i < 100; i++) { /* report numbers never repeat: hub_checkin asserts it */
        world_boot(&w, RESET_POWER);
        assert_true(world_settle(&w, r1, 60000));
    }
    assert_memory_equal(seed, w.d.conf.seed, sizeof seed);
    assert_int_equal(w.bootstraps, 1);
    world_fini(&w);
}

static void bounds_are_checked_at_init(void **state)
{
    (void)state;
    begin();
    w.mem.page_cap = 1023;
    assert_int_equal(boot_run(&w.sim.base, world_crypto(), RESET_POWER, &w.boot), ERR_OK);
    assert_int_equal(roost_dev_init(&w.d, &w.cfg, &w.sim.base, &w.mem, &w.port, &w.boot, 0, 0), ERR_LIMIT);
    w.mem.page_cap = sizeof w.page;
    w.cfg.product = SPAN("a product whose name is too long");
    assert_int_equal(roost_dev_init(&w.d, &w.cfg, &w.sim.base, &w.mem, &w.port, &w.boot, 0, 0), ERR_LIMIT);
    world_fini(&w);
}

static void the_engine_fits_its_budget(void **state)
{
    (void)state;
    /* The figures of docs/device.md; a 32-bit chip needs less. */
    assert_true(sizeof(struct roost_dev) <= 7 * 1024);
    assert_true(sizeof(struct config) <= 2304);
    assert_true(sizeof(struct boot_scratch) <= 6 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_blank_device_comes_alive),
        cmocka_unit_test(a_second_release_goes_to_the_other_slot),
        cmocka_unit_test(every_spelling_of_the_update_command),
        cmocka_unit_test(the_period_has_jitter),
        cmocka_unit_test(a_crashing_release_is_reverted_and_quarantined),
        cmocka_unit_test(a_reverted_release_is_reported_as_such),
        cmocka_unit_test(an_application_that_is_ill_goes_back),
        cmocka_unit_test(an_application_that_says_nothing_goes_back),
        cmocka_unit_test(an_image_that_reaches_nothing_goes_back),
        cmocka_unit_test(a_hub_outage_rolls_nothing_back),
        cmocka_unit_test(a_hub_that_refuses_the_new_image_gets_the_old_one_back),
        cmocka_unit_test(probation_is_waited_for),
        cmocka_unit_test(a_damaged_chunk_or_page_is_fetched_again),
        cmocka_unit_test(a_server_that_only_lies_is_given_up),
        cmocka_unit_test(a_server_without_ranges_will_do),
        cmocka_unit_test(missing_artifacts_are_asked_for_later),
        cmocka_unit_test(a_power_cut_costs_one_chunk_not_the_download),
        cmocka_unit_test(geometries),
        cmocka_unit_test(chunks_smaller_than_a_sector),
        cmocka_unit_test(stage_then_activate_then_go_back),
        cmocka_unit_test(activation_waits_for_its_window),
        cmocka_unit_test(pending_devices_ask_again),
        cmocka_unit_test(a_new_hub_under_another_name_gets_its_device_back),
        cmocka_unit_test(a_refusal_sends_it_to_bootstrap),
        cmocka_unit_test(a_token_that_is_unknown_now_is_left_out),
        cmocka_unit_test(another_fleet_cannot_take_it),
        cmocka_unit_test(the_first_trust_record_must_match_the_pin),
        cmocka_unit_test(a_long_trust_chain_is_walked),
        cmocka_unit_test(a_withdrawn_release_key_does_not_stop_what_runs),
        cmocka_unit_test(without_a_clock_it_asks_for_the_time),
        cmocka_unit_test(a_token_is_renewed_before_it_ends),
        cmocka_unit_test(telemetry_waits_out_an_outage),
        cmocka_unit_test(identity_and_numbers_outlive_power),
        cmocka_unit_test(bounds_are_checked_at_init),
        cmocka_unit_test(the_engine_fits_its_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
