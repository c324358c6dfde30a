/* port/crypto.h - the cryptography of this machine, as the table of core/crypto/crypto.h. */
#ifndef ROOST_PORT_CRYPTO_H
#define ROOST_PORT_CRYPTO_H

#include "core/crypto/crypto.h"

extern const struct crypto_ops port_crypto;

#endif
