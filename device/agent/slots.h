/* device/agent/slots.h - the application slots as folders: {state}/slots/a and b, each made from the verified
 * image in flash. A raw image becomes the executable `app`; a package (tar or zip, also compressed) is
 * unpacked there and has an executable `app` at its top, or the configured command knows better. */
#ifndef ROOST_DEVICE_AGENT_SLOTS_H
#define ROOST_DEVICE_AGENT_SLOTS_H

#include "device/boot.h"

#define SLOT_UNPACKED_MAX (4ull << 30) /* bytes a package may become */
#define SLOT_ENTRIES_MAX  20000u

/* Makes sure the folder of `slot` holds exactly that image; *dir (the caller frees) is where. What is there
 * already and whole is kept. ERR_VERIFY: flash does not hold what the header says; ERR_PROTO: not a package,
 * or one that reaches outside its folder; ERR_FULL, ERR_IO: logged. */
MUST_USE enum err slots_make(const char *state, struct flash *f, const struct crypto_ops *c, uint8_t slot,
                             const struct slot_header *h, bool package, char **dir);
/* What the manifest in the slot says: its version (24 bytes and a zero) and whether the component is a
 * package. False: no manifest. */
bool slots_manifest(struct flash *f, uint8_t slot, char version[RELEASE_TEXT_MAX + 1], bool *package);

#endif
