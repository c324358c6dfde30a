/* port/flash_file.h - simulated NOR flash that lives in a file: the agent's state and slots, and the
 * simulator's when it is to survive its own end. The content survives kill -9 always; with `durable` also a
 * power loss: what decides (journal, configuration, slot headers) is on the disk before and after each of
 * its operations, while the bytes of an image are only flushed before the next deciding operation. */
#ifndef ROOST_PORT_FLASH_FILE_H
#define ROOST_PORT_FLASH_FILE_H

#include "port/flash_sim.h"

struct flash_file {
    struct flash_sim sim; /* &file.sim.base is the flash */
    const struct flash_ops *model;
    int fd; /* open and locked while durable, else -1 */
    bool durable, dirty;
};

/* Opens, or makes (mode 0600, all of its room reserved), the image file. len: as flash_geometry_layout says.
 *   ERR_EXISTS  another process has it open (durable only)      ERR_LIMIT  the file has another length
 *   ERR_FULL    no room on the disk                             ERR_IO     anything else, logged */
MUST_USE enum err flash_file_open(struct flash_file *f, const char *path, const struct flash_geometry *geo,
                                  size_t len, bool durable);
void flash_file_close(struct flash_file *f);

#endif
