/* core/trust/release.h - HRM1: the immutable description of one software set. Pure.
 * Source: the format of docs/trust.md. Tags in the comments. */
#ifndef ROOST_CORE_TRUST_RELEASE_H
#define ROOST_CORE_TRUST_RELEASE_H

#include "core/trust/trust_record.h"

#define RELEASE_TEXT_MAX      24u /* product id, versions */
#define RELEASE_COMPONENT_MAX 4u
#define RELEASE_ENCODING_MAX  6u

enum release_flag {
    RELEASE_SINGLE_SLOT_OK = 1,
    RELEASE_ALLOW_DOWNGRADE = 2,
    RELEASE_NEEDS_REBOOT = 4,
    RELEASE_ENCRYPTED = 8,
    RELEASE_FACTORY_IMAGE = 16,
};
enum component_type {
    COMPONENT_APP = 1,
    COMPONENT_FS,
    COMPONENT_BOOTLOADER,
    COMPONENT_MODEM,
    COMPONENT_CONTAINER,
    COMPONENT_PACKAGE
};
enum encoding_method {
    ENCODING_RAW = 0,
    ENCODING_GZIP,
    ENCODING_LZMA,
    ENCODING_HEATSHRINK,
    ENCODING_BLOCK_INDEX,
    ENCODING_PATCH
};
enum confirm_check { CONFIRM_NET = 1, CONFIRM_HUB = 2, CONFIRM_APP = 4, CONFIRM_WATCHDOG = 8 };

struct release_component { /* tag 10 */
    uint8_t id, type;
    struct span version;
    uint32_t image_len;
    uint8_t image_sha256[SHA256_LEN];
    uint8_t target, order;
};
struct release_encoding { /* tag 11: how to get a component's bytes */
    uint8_t component;    /* id of the component it encodes */
    uint8_t method;       /* enum encoding_method */
    uint32_t payload_len;
    uint8_t tree_root[SHA256_LEN]; /* SHA-256 of the root list; also the artifact's name */
    bool has_base;
    uint8_t base_sha256[SHA256_LEN];
};
struct release {
    struct span product;            /* 01 */
    uint16_t hw_class;              /* 02 */
    uint8_t hw_rev_min, hw_rev_max; /* 02 */
    struct span version;            /* 03, display only */
    uint32_t release_seq;           /* 04 */
    uint16_t security_counter;      /* 05 */
    uint8_t flags;                  /* 06, enum release_flag */
    uint16_t min_agent, min_bootloader, min_free_flash_kib, min_heap_block_b,
        min_battery_pct; /* 07; 0: none */
    uint8_t component_nr, encoding_nr;
    struct release_component component[RELEASE_COMPONENT_MAX];
    struct release_encoding encoding[RELEASE_ENCODING_MAX];
    uint8_t chunk_code, fan_out; /* 20: chunk is 1 << chunk_code bytes (12), hashes a page (32) */
    uint16_t probation_s;        /* 30 */
    uint16_t confirm_checks;     /* 30, enum confirm_check bits */
    bool has_dependency;         /* 31 */
    uint8_t dependency_component;
    uint8_t dependency_product[3];
    uint32_t dependency_seq;
    bool has_provenance; /* 40 */
    uint8_t provenance[SHA256_LEN];
};

MUST_USE enum err release_decode(struct span body, struct release *out); /* errors as trust_record_decode */
void release_encode(struct wr *w, const struct release *r);
/* Enough valid release signatures of t's keys that may sign this product and are not revoked? ERR_VERIFY. */
MUST_USE enum err release_verify(const struct crypto_ops *c, const struct trust_record *t,
                                 const struct release *r, const struct envelope *env);

#endif
