/* cli/spki.h - the pin of a certificate authority: SHA-256 of its SubjectPublicKeyInfo. */
#ifndef ROOST_CLI_SPKI_H
#define ROOST_CLI_SPKI_H

#include "core/crypto/crypto.h"

/* Of the first certificate in a PEM file. 0, or an exit code and a message. */
int spki_pin_of_file(const char *path, uint8_t pin[SHA256_LEN]);

#endif
