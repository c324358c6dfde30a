/* hub/config/pki.h - the keys and certificates a hub makes for itself. Blocking; used by init and at start.
 * Files are made new (never written over) and private ones are 0600. Errors are logged with the file's name.
 */
#ifndef ROOST_HUB_CONFIG_PKI_H
#define ROOST_HUB_CONFIG_PKI_H

#include "core/crypto/crypto.h"

enum pki_kind { PKI_EC, PKI_RSA };

/* A self-signed authority, P-256, for twenty years. */
MUST_USE enum err pki_ca_new(const char *cert_file, const char *key_file);
/* ERR_VERIFY: not an authority, or not its key. */
MUST_USE enum err pki_ca_check(const char *cert_file, const char *key_file);
/* A server certificate under it, for 825 days, the authority's behind it in the file; names are DNS names or
 * addresses. */
MUST_USE enum err pki_server_new(enum pki_kind kind, const char *const *names, size_t name_nr,
                                 const char *ca_cert_file, const char *ca_key_file, const char *cert_file,
                                 const char *key_file);
/* SHA-256 of the SubjectPublicKeyInfo of a certificate: what devices pin. */
MUST_USE enum err pki_pin(const char *cert_file, uint8_t pin[SHA256_LEN]);
/* Whole days until it ends; negative: it has ended. */
MUST_USE enum err pki_days_left(const char *cert_file, long *days);
/* Ed25519, PKCS #8 PEM. */
MUST_USE enum err pki_ed25519_new(const char *key_file);
MUST_USE enum err pki_ed25519_load(const char *key_file, uint8_t seed[ED25519_KEY_LEN],
                                   uint8_t pub[ED25519_KEY_LEN]);

/* Makes a file with these bytes, on the disk when it returns. ERR_EXISTS. */
MUST_USE enum err file_make(const char *path, unsigned mode, struct span bytes);

#endif
