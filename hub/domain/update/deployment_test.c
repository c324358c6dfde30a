/* hub/domain/update/deployment_test.c - the state machine, as a table: where the row stands, what the device
 * says, where the row stands then. */
#include "hub/domain/update/deployment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NOW       1000000000ull
#define CHECKIN_S 100u
#define TARGET    0xaa
#define OLD       0x11
#define BLANK     0x00
#define TRIAL_ID  0xaaaaaaaau

static uint8_t target[OBJECT_ID_LEN], campaign[CAMPAIGN_ID_LEN];

struct step {
    const char *what;
    /* the row before */
    uint8_t state, attempts;
    uint32_t ticket_seq;
    /* the report */
    uint8_t running, dev_state;
    uint16_t reason;
    uint8_t attempt; /* 0: about no campaign of ours */
    uint32_t trial;
    /* the row after */
    uint8_t to;
    uint16_t to_reason;
    uint8_t to_attempts;
};

static const struct step steps[] = {
    /* success is what runs, wherever the row stood */
    { "trial boot", DEPLOYMENT_ACTIVATING, 0, 5, TARGET, DEVICE_TRIAL, 0, 1, TRIAL_ID, DEPLOYMENT_PROBATION,
      0, 0 },
    { "confirmed", DEPLOYMENT_PROBATION, 0, 5, TARGET, DEVICE_IDLE, 0, 1, 0, DEPLOYMENT_CONFIRMED, 0, 0 },
    { "never confirmed while on trial", DEPLOYMENT_PROBATION, 0, 5, TARGET, DEVICE_TRIAL, 0, 1, TRIAL_ID,
      DEPLOYMENT_PROBATION, 0, 0 },
    { "all between two reports", DEPLOYMENT_OFFERED, 0, 5, TARGET, DEVICE_IDLE, 0, 1, 0, DEPLOYMENT_CONFIRMED,
      0, 0 },
    { "trial seen first", DEPLOYMENT_OFFERED, 0, 5, TARGET, DEVICE_TRIAL, 0, 1, TRIAL_ID,
      DEPLOYMENT_PROBATION, 0, 0 },
    { "runs it already", DEPLOYMENT_ELIGIBLE, 0, 0, TARGET, DEVICE_IDLE, 0, 0, 0, DEPLOYMENT_SKIPPED, 0, 0 },
    { "lost, but runs it", DEPLOYMENT_LOST, 0, 5, TARGET, DEVICE_IDLE, 0, 1, 0, DEPLOYMENT_CONFIRMED, 0, 0 },
    { "lost, on trial", DEPLOYMENT_LOST, 0, 5, TARGET, DEVICE_TRIAL, 0, 1, TRIAL_ID, DEPLOYMENT_PROBATION, 0,
      0 },
    { "rejected, but runs it", DEPLOYMENT_REJECTED, 0, 5, TARGET, DEVICE_IDLE, 0, 1, 0, DEPLOYMENT_CONFIRMED,
      0, 0 },
    { "confirmed stays on another trial report", DEPLOYMENT_CONFIRMED, 0, 5, TARGET, DEVICE_TRIAL, 0, 1,
      TRIAL_ID, DEPLOYMENT_CONFIRMED, 0, 0 },
    /* progress */
    { "downloading", DEPLOYMENT_OFFERED, 0, 5, OLD, DEVICE_DOWNLOADING, 0, 1, 0, DEPLOYMENT_DOWNLOADING, 0,
      0 },
    { "verifying", DEPLOYMENT_OFFERED, 0, 5, OLD, DEVICE_VERIFYING, 0, 1, 0, DEPLOYMENT_DOWNLOADING, 0, 0 },
    { "staged", DEPLOYMENT_DOWNLOADING, 0, 5, OLD, DEVICE_STAGED, 0, 1, 0, DEPLOYMENT_STAGED, 0, 0 },
    { "deferred by a person", DEPLOYMENT_STAGED, 0, 5, OLD, DEVICE_DEFERRED, REASON_USER, 1, 0,
      DEPLOYMENT_WAITING, REASON_USER, 0 },
    { "armed", DEPLOYMENT_WAITING, 0, 5, OLD, DEVICE_ARMED, 0, 1, 0, DEPLOYMENT_ACTIVATING, 0, 0 },
    { "never backwards", DEPLOYMENT_STAGED, 0, 5, OLD, DEVICE_DOWNLOADING, 0, 1, 0, DEPLOYMENT_STAGED, 0, 0 },
    { "offer not taken up yet", DEPLOYMENT_OFFERED, 0, 5, OLD, DEVICE_IDLE, 0, 0, 0, DEPLOYMENT_OFFERED, 0,
      0 },
    { "blank, offer not taken up", DEPLOYMENT_OFFERED, 0, 5, BLANK, DEVICE_IDLE, 0, 0, 0, DEPLOYMENT_OFFERED,
      0, 0 },
    { "lost its work", DEPLOYMENT_DOWNLOADING, 0, 5, OLD, DEVICE_IDLE, 0, 1, 0, DEPLOYMENT_ELIGIBLE, 0, 0 },
    { "made blank meanwhile", DEPLOYMENT_STAGED, 0, 5, BLANK, DEVICE_IDLE, 0, 0, 0, DEPLOYMENT_ELIGIBLE, 0,
      0 },
    { "offer ran out, it goes on", DEPLOYMENT_ELIGIBLE, 0, 5, OLD, DEVICE_DOWNLOADING, 0, 1, 0,
      DEPLOYMENT_DOWNLOADING, 0, 0 },
    { "given up as stalled, it goes on", DEPLOYMENT_FAILED, 0, 5, OLD, DEVICE_STAGED, 0, 1, 0,
      DEPLOYMENT_STAGED, 0, 0 },
    { "lost while armed, still armed", DEPLOYMENT_LOST, 0, 5, OLD, DEVICE_ARMED, 0, 1, 0,
      DEPLOYMENT_ACTIVATING, 0, 0 },
    { "still armed", DEPLOYMENT_ACTIVATING, 0, 5, OLD, DEVICE_ARMED, 0, 1, 0, DEPLOYMENT_ACTIVATING, 0, 0 },
    /* who pays */
    { "network: free", DEPLOYMENT_DOWNLOADING, 0, 5, OLD, DEVICE_IDLE, REASON_NETWORK, 1, 0,
      DEPLOYMENT_FAILED, REASON_NETWORK, 0 },
    { "battery: free", DEPLOYMENT_OFFERED, 1, 5, OLD, DEVICE_IDLE, REASON_BATTERY, 2, 0, DEPLOYMENT_FAILED,
      REASON_BATTERY, 1 },
    { "hash: an attempt", DEPLOYMENT_DOWNLOADING, 0, 5, OLD, DEVICE_IDLE, REASON_HASH, 1, 0,
      DEPLOYMENT_FAILED, REASON_HASH, 1 },
    { "flash: an attempt", DEPLOYMENT_DOWNLOADING, 0, 5, OLD, DEVICE_IDLE, REASON_FLASH_VERIFY, 1, 0,
      DEPLOYMENT_FAILED, REASON_FLASH_VERIFY, 1 },
    { "the second attempt: quarantine", DEPLOYMENT_DOWNLOADING, 1, 5, OLD, DEVICE_IDLE, REASON_HASH, 2, 0,
      DEPLOYMENT_FAILED, REASON_QUARANTINE, 2 },
    { "an old failure told again", DEPLOYMENT_OFFERED, 1, 6, OLD, DEVICE_IDLE, REASON_HASH, 1, 0,
      DEPLOYMENT_OFFERED, 0, 1 },
    { "refusal before the attempt is stored", DEPLOYMENT_OFFERED, 0, 5, OLD, DEVICE_IDLE, REASON_HW_MISMATCH,
      0, 0, DEPLOYMENT_REJECTED, REASON_HW_MISMATCH, 0 },
    { "signature refused: the keys may come", DEPLOYMENT_OFFERED, 0, 5, OLD, DEVICE_IDLE,
      REASON_SIGNATURE_DIRECTOR, 0, 0, DEPLOYMENT_FAILED, REASON_SIGNATURE_DIRECTOR, 0 },
    { "refusal of this attempt", DEPLOYMENT_OFFERED, 0, 5, OLD, DEVICE_IDLE, REASON_SPACE, 1, 0,
      DEPLOYMENT_REJECTED, REASON_SPACE, 0 },
    /* rolled back */
    { "back after the boot", DEPLOYMENT_ACTIVATING, 0, 5, OLD, DEVICE_IDLE, REASON_BOOT, 1, TRIAL_ID,
      DEPLOYMENT_ROLLED_BACK, REASON_BOOT, 1 },
    { "back without a word", DEPLOYMENT_REBOOTING, 0, 5, OLD, DEVICE_IDLE, 0, 1, 0, DEPLOYMENT_ROLLED_BACK,
      REASON_BOOT, 1 },
    { "back from probation", DEPLOYMENT_PROBATION, 0, 5, OLD, DEVICE_IDLE, REASON_PROBATION_APP, 1, TRIAL_ID,
      DEPLOYMENT_ROLLED_BACK, REASON_PROBATION_APP, 1 },
    { "a whole trial unseen", DEPLOYMENT_OFFERED, 0, 5, OLD, DEVICE_IDLE, REASON_WATCHDOG, 1, TRIAL_ID,
      DEPLOYMENT_ROLLED_BACK, REASON_WATCHDOG, 1 },
    { "the second time: quarantine", DEPLOYMENT_PROBATION, 1, 5, OLD, DEVICE_IDLE, REASON_BOOT, 2, TRIAL_ID,
      DEPLOYMENT_ROLLED_BACK, REASON_QUARANTINE, 2 },
    { "a revert told again while offered anew", DEPLOYMENT_OFFERED, 1, 6, OLD, DEVICE_IDLE, REASON_BOOT, 1,
      TRIAL_ID, DEPLOYMENT_OFFERED, 0, 1 },
    { "told again while rolled back", DEPLOYMENT_ROLLED_BACK, 1, 6, OLD, DEVICE_IDLE, REASON_BOOT, 1,
      TRIAL_ID, DEPLOYMENT_ROLLED_BACK, 0, 1 },
    { "late", DEPLOYMENT_CONFIRMED, 0, 5, OLD, DEVICE_IDLE, REASON_WATCHDOG, 1, 0, DEPLOYMENT_ROLLED_BACK,
      REASON_WATCHDOG, 1 },
    { "late, made blank", DEPLOYMENT_CONFIRMED, 0, 5, BLANK, DEVICE_IDLE, 0, 0, 0, DEPLOYMENT_ROLLED_BACK,
      REASON_BOOT, 1 },
    { "rolled back, then runs it after all", DEPLOYMENT_ROLLED_BACK, 1, 5, TARGET, DEVICE_IDLE, 0, 1, 0,
      DEPLOYMENT_CONFIRMED, 0, 1 },
    { "lost, and back on the old one", DEPLOYMENT_LOST, 0, 5, OLD, DEVICE_IDLE, 0, 1, TRIAL_ID,
      DEPLOYMENT_ROLLED_BACK, REASON_BOOT, 1 },
    { "skipped, then runs another", DEPLOYMENT_SKIPPED, 0, 0, OLD, DEVICE_IDLE, 0, 0, 0, DEPLOYMENT_ELIGIBLE,
      0, 0 },
};

static void setup(struct deployment_row *row, struct report *r, const struct step *s)
{
    memset(target, TARGET, sizeof target);
    memset(campaign, 7, sizeof campaign);
    *row = (struct deployment_row){ .device = SPAN("d1"),
                                    .campaign = span_of(campaign, sizeof campaign),
                                    .release = span_of(target, sizeof target),
                                    .state = s->state,
                                    .attempts = s->attempts,
                                    .ticket_seq = s->ticket_seq,
                                    .bytes_total = 4096 };
    *r = (struct report){
        .state = s->dev_state, .reason = s->reason, .attempt = s->attempt, .trial_release = s->trial
    };
    memset(r->running, s->running, sizeof r->running);
    if (s->attempt)
        memcpy(r->campaign, campaign, sizeof campaign);
}

static void test_every_step(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct deployment_row row;
        struct report r;
        setup(&row, &r, &steps[i]);
        struct deployment_facts f = { &r, NOW, CHECKIN_S, 60, 0 };
        (void)deployment_derive(&row, &f);
        if (row.state != steps[i].to || row.reason != steps[i].to_reason ||
            row.attempts != steps[i].to_attempts)
            fail_msg("%s: got %s reason %s attempts %u", steps[i].what, deployment_state_name(row.state),
                     reason_name(row.reason), row.attempts);
        /* the same report a second time changes nothing more than it did */
        struct deployment_row again = row;
        if (deployment_derive(&again, &f) && again.state != row.state)
            fail_msg("%s: told twice it moves on to %s", steps[i].what, deployment_state_name(again.state));
    }
}

static void test_deadlines(void **state)
{
    static const struct {
        uint8_t from, dev_state, to;
        uint64_t in_ms;
        uint8_t expired;
    } rows[] = {
        { DEPLOYMENT_OFFERED, DEVICE_DOWNLOADING, DEPLOYMENT_DOWNLOADING, DEPLOYMENT_STALL_MS + 2048,
          DEPLOYMENT_FAILED },
        { DEPLOYMENT_OFFERED, DEVICE_STAGED, DEPLOYMENT_STAGED, 300000, DEPLOYMENT_ELIGIBLE },
        { DEPLOYMENT_OFFERED, DEVICE_DEFERRED, DEPLOYMENT_WAITING, 300000, DEPLOYMENT_ELIGIBLE },
        { DEPLOYMENT_OFFERED, DEVICE_ARMED, DEPLOYMENT_ACTIVATING, DEPLOYMENT_REBOOT_MS, DEPLOYMENT_LOST },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct deployment_row row;
        struct report r;
        struct step s = { .state = rows[i].from,
                          .ticket_seq = 1,
                          .running = OLD,
                          .dev_state = rows[i].dev_state,
                          .attempt = 1 };
        setup(&row, &r, &s);
        struct deployment_facts f = { &r, NOW, CHECKIN_S, 60, 0 };
        assert_true(deployment_derive(&row, &f));
        assert_int_equal(row.state, rows[i].to);
        assert_int_equal(row.deadline_ms, NOW + rows[i].in_ms);
        deployment_expire(&row, NOW + rows[i].in_ms);
        assert_int_equal(row.state, rows[i].expired);
        assert_int_equal(row.attempts, 0); /* silence costs the device nothing */
    }
}

static void test_progress_moves_the_deadline(void **state)
{
    struct deployment_row row;
    struct report r;
    struct step s = { .state = DEPLOYMENT_OFFERED,
                      .ticket_seq = 1,
                      .running = OLD,
                      .dev_state = DEVICE_DOWNLOADING,
                      .attempt = 1 };
    (void)state;
    setup(&row, &r, &s);
    struct deployment_facts f = { &r, NOW, CHECKIN_S, 60, 0 };
    assert_true(deployment_derive(&row, &f));
    uint64_t first = row.deadline_ms;
    f.now_ms += 5000;
    assert_false(deployment_derive(&row, &f)); /* alive, but not further: the clock runs on */
    assert_int_equal(row.deadline_ms, first);
    r.bytes_done = 100;
    assert_true(deployment_derive(&row, &f));
    assert_int_equal(row.deadline_ms, first + 5000);
    assert_int_equal(row.bytes_done, 100);
}

static void test_probation_deadline_is_not_moved_by_reports(void **state)
{
    struct deployment_row row;
    struct report r;
    struct step s = { .state = DEPLOYMENT_ACTIVATING,
                      .ticket_seq = 1,
                      .running = TARGET,
                      .dev_state = DEVICE_TRIAL,
                      .attempt = 1 };
    (void)state;
    setup(&row, &r, &s);
    struct deployment_facts f = { &r, NOW, CHECKIN_S, 60, 0 };
    assert_true(deployment_derive(&row, &f));
    assert_int_equal(row.deadline_ms, NOW + 60000 + 200000);
    f.now_ms += 1000;
    (void)deployment_derive(&row, &f);
    assert_int_equal(row.deadline_ms, NOW + 60000 + 200000);
    deployment_expire(&row, row.deadline_ms);
    assert_int_equal(row.state, DEPLOYMENT_LOST);
}

static void test_who_may_be_offered(void **state)
{
    struct deployment_row row = { .state = DEPLOYMENT_ELIGIBLE };
    struct report r = { .state = DEVICE_IDLE };
    (void)state;
    assert_true(deployment_may_offer(&row, &r, NOW));
    for (unsigned s = 0; s < DEPLOYMENT_STATES; s++) {
        row = (struct deployment_row){ .state = (uint8_t)s, .deadline_ms = NOW + 1 };
        bool open = s <= DEPLOYMENT_WAITING;
        assert_int_equal(deployment_may_offer(&row, &r, NOW), open);
        bool later = open || s == DEPLOYMENT_FAILED || s == DEPLOYMENT_ROLLED_BACK;
        assert_int_equal(deployment_may_offer(&row, &r, NOW + 1), later);
        row.attempts = DEPLOYMENT_ATTEMPTS_MAX;
        assert_false(deployment_may_offer(&row, &r, NOW + 1)); /* the loop guard */
    }
    row = (struct deployment_row){ .state = DEPLOYMENT_OFFERED };
    static const uint8_t busy[] = { DEVICE_ARMED, DEVICE_TRIAL, DEVICE_REVERTING };
    for (size_t i = 0; i < sizeof busy; i++) {
        r.state = busy[i];
        assert_false(deployment_may_offer(&row, &r, NOW));
    }
}

static void test_offering_keeps_progress(void **state)
{
    struct report r = { .state = DEVICE_DOWNLOADING };
    struct deployment_facts f = { &r, NOW, CHECKIN_S, 60, 0 };
    struct deployment_row row = { .state = DEPLOYMENT_DOWNLOADING, .deadline_ms = NOW + 7, .bytes_done = 9 };
    (void)state;
    deployment_offer(&row, &f, 12, 100);
    assert_int_equal(row.state, DEPLOYMENT_DOWNLOADING);
    assert_int_equal(row.deadline_ms, NOW + 7);
    assert_int_equal(row.bytes_done, 9);
    assert_int_equal(row.ticket_seq, 12);
    row = (struct deployment_row){ .state = DEPLOYMENT_FAILED, .reason = REASON_NETWORK, .bytes_done = 9 };
    deployment_offer(&row, &f, 13, 100);
    assert_int_equal(row.state, DEPLOYMENT_OFFERED);
    assert_int_equal(row.reason, REASON_NONE);
    assert_int_equal(row.deadline_ms, NOW + 300000);
    assert_int_equal(row.bytes_total, 100);
}

static void test_names_and_classes_are_complete(void **state)
{
    (void)state;
    for (unsigned s = 0; s < DEPLOYMENT_STATES; s++)
        assert_string_not_equal(deployment_state_name(s), "UNKNOWN");
    assert_string_equal(deployment_state_name(DEPLOYMENT_STATES), "UNKNOWN");
    assert_int_equal(reason_class_of(REASON_NETWORK), REASON_IS_FREE);
    assert_int_equal(reason_class_of(REASON_BOOT), REASON_IS_CHARGED);
    assert_int_equal(reason_class_of(REASON_SPACE), REASON_IS_REFUSAL);
    assert_int_equal(reason_class_of(REASONS + 5), REASON_IS_CHARGED); /* a newer device's */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_progress_moves_the_deadline),
        cmocka_unit_test(test_probation_deadline_is_not_moved_by_reports),
        cmocka_unit_test(test_who_may_be_offered),
        cmocka_unit_test(test_offering_keeps_progress),
        cmocka_unit_test(test_names_and_classes_are_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
