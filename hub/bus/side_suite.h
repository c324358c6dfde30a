/* hub/bus/side_suite.h - what the files of the suite share: a bus under test, and workers that are plain
 * mailboxes which the test empties by hand. */
#ifndef ROOST_HUB_BUS_SIDE_SUITE_H
#define ROOST_HUB_BUS_SIDE_SUITE_H

#include "hub/bus/bus_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define WORKERS 3
#define B       bus_suite_bus
#define sides   bus_suite_sides
#define side    bus_suite_side

struct side {
    struct mailbox mail;
    size_t nr; /* wake-ups that came */
    struct bus_addr to[64];
    uint32_t what[64];
    size_t messages_nr;
    struct bus_addr message_to;
    uint32_t kind;
    char identity[32], text[64];
    struct bus_reply reply; /* of the last call */
    bool deaf, in_order;
    uint32_t last[8]; /* of each sender */
};
extern struct bus *bus_suite_bus;
extern struct bus_suite_side bus_suite_sides[WORKERS];

bool bus_suite_turn(struct side *s); /* one turn of a worker; false: there was nothing */
void bus_suite_turn_all(void);       /* until nothing is left */
#define turn     bus_suite_turn
#define turn_all bus_suite_turn_all

/* Threads that run the workers, until bus_suite_stop. */
extern _Atomic bool bus_suite_stop;
void *bus_suite_worker_thread(void *arg); /* arg: a side */

static inline struct bus_addr addr(uint16_t worker, uint32_t slot)
{
    return (struct bus_addr){ 0, worker, slot, slot + 100 };
}
#define ATTACH(id, a) assert_int_equal(bus_attach(B, SPAN(id), a), ERR_OK)

#define SUITE_TEST(name) void bus_suite_##name(void **state);
/* calls_suite.c */
#define SUITE_CALL_TESTS(X)                                                                                  \
    X(test_a_message_finds_its_session)                                                                      \
    X(test_a_worker_that_does_not_keep_up)                                                                   \
    X(test_a_call_is_answered)                                                                               \
    X(test_a_call_that_finds_nobody)                                                                         \
    X(test_an_answer_too_long)                                                                               \
    X(test_calls_have_a_cap)                                                                                 \
    X(test_who_waits_is_told)                                                                                \
    X(test_waits_have_a_cap)                                                                                 \
    X(test_messages_and_calls_at_once)
SUITE_CALL_TESTS(SUITE_TEST)

#endif
