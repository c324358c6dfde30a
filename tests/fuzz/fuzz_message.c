/* tests/fuzz/fuzz_message.c - telemetry records as a reader finds them: any bytes are refused or decode to
 * spans inside them, and encoding what was decoded gives the same message again. */
#include "hub/domain/message/message.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct span s, const uint8_t *data, size_t size)
{
    assert(!s.n || (s.p >= data && s.p + s.n <= data + size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t mem[1 << 20];
    struct message m, again;
    struct message_prop p, q;
    if (size > sizeof mem / 2 || message_decode(span_of(data, size), &m))
        return 0;
    inside(m.device, data, size);
    inside(m.module, data, size);
    inside(m.generation, data, size);
    inside(m.model, data, size);
    inside(m.body, data, size);
    struct wr w = { mem, sizeof mem, 0 };
    message_put_head(&w,
                     &(struct message_head){ m.auth, m.source, m.device, m.module, m.generation, m.model });
    for (int i = 0; i < BAG_SYSTEM_NAMES; i++) {
        inside(m.system[i], data, size);
        if (m.system[i].p)
            message_put_system(&w, (enum bag_system)i, m.system[i]);
    }
    for (struct span at = m.props; message_prop_next(&at, &p);) {
        inside(p.name, data, size);
        inside(p.value, data, size);
        message_put_prop(&w, &p);
    }
    message_put_body(&w, m.body);
    assert(wr_ok(&w));
    assert(message_decode(wr_span(&w), &again) == ERR_OK);
    assert(span_eq(m.device, again.device) && span_eq(m.body, again.body));
    struct span a = m.props, b = again.props;
    while (message_prop_next(&a, &p)) {
        assert(message_prop_next(&b, &q));
        assert(span_eq(p.name, q.name) && span_eq(p.value, q.value) && p.null == q.null);
    }
    assert(!message_prop_next(&b, &q));
    (void)message_auth_method(m.auth);
    (void)message_source_name(m.source);
    return 0;
}
