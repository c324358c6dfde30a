/* port/posix/flash_file.c - the flash model over a mapped file. */
#include "port/flash_file.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err file_sync(struct flash_file *f)
{
    f->dirty = false;
    if (msync(f->sim.cells, f->sim.len, MS_SYNC) == 0)
        return ERR_OK;
    log_error("flash.sync", "errno=%d", errno);
    return ERR_IO;
}

/* Only an image's bytes may reach the disk late: whoever reads them checks their hash. */
static bool file_decides(const struct flash_file *f, uint32_t addr)
{
    const struct flash_geometry *g = &f->sim.base.geo;
    for (int i = 0; i < 2; i++)
        if (addr >= g->slot[i] + g->sector_len && addr < g->slot[i] + g->slot_len)
            return false;
    return true;
}

static enum err file_read(struct flash *fl, uint32_t addr, uint8_t *out, size_t n)
{
    struct flash_file *f = (struct flash_file *)(void *)fl;
    return f->model->read(fl, addr, out, n);
}

static enum err file_program(struct flash *fl, uint32_t addr, const uint8_t *p, size_t n)
{
    struct flash_file *f = (struct flash_file *)(void *)fl;
    bool decides = f->durable && file_decides(f, addr);
    enum err e = decides && f->dirty ? file_sync(f) : ERR_OK;
    if (!e)
        e = f->model->program(fl, addr, p, n);
    if (!e && decides)
        e = file_sync(f);
    else
        f->dirty = true;
    return e;
}

static enum err file_erase(struct flash *fl, uint32_t addr)
{
    struct flash_file *f = (struct flash_file *)(void *)fl;
    bool decides = f->durable && file_decides(f, addr);
    enum err e = decides && f->dirty ? file_sync(f) : ERR_OK;
    if (!e)
        e = f->model->erase(fl, addr);
    if (!e && decides)
        e = file_sync(f);
    else
        f->dirty = true;
    return e;
}

static const struct flash_ops file_ops = { file_read, file_program, file_erase };

enum err flash_file_open(struct flash_file *f, const char *path, const struct flash_geometry *geo, size_t len,
                         bool durable)
{
    struct stat st;
    void *map;
    int rc;
    enum err e = ERR_IO;
    memset(f, 0, sizeof *f);
    f->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (f->fd < 0)
        goto fail;
    if (durable && flock(f->fd, LOCK_EX | LOCK_NB) != 0) {
        e = errno == EWOULDBLOCK ? ERR_EXISTS : ERR_IO;
        goto fail;
    }
    if (fstat(f->fd, &st) != 0)
        goto fail;
    if (st.st_size != 0 && (uint64_t)st.st_size != len) {
        e = ERR_LIMIT;
        goto fail;
    }
    /* Every block is reserved, so that writing to the mapping can never find the disk full. */
    rc = posix_fallocate(f->fd, 0, (off_t)len);
    if (rc != 0) {
        errno = rc;
        e = rc == ENOSPC || rc == EDQUOT ? ERR_FULL : ERR_IO;
        if (st.st_size == 0)
            (void)unlink(path); /* a file cut short would look like one of another length */
        goto fail;
    }
    map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
    if (map == MAP_FAILED)
        goto fail;
    flash_sim_init(&f->sim, geo, map, len, (uint32_t)getpid());
    f->model = f->sim.base.ops;
    f->sim.base.ops = &file_ops;
    f->durable = durable;
    if (durable && fsync(f->fd) != 0) {
        flash_file_close(f);
        return ERR_IO;
    }
    if (!durable) {
        (void)close(f->fd);
        f->fd = -1;
    }
    return ERR_OK;
fail:
    log_error("flash.open", "path=%s err=%s errno=%d", path, err_name(e), errno);
    if (f->fd >= 0)
        (void)close(f->fd);
    f->fd = -1;
    return e;
}

void flash_file_close(struct flash_file *f)
{
    if (f->sim.cells) {
        if (f->durable)
            (void)file_sync(f);
        (void)munmap(f->sim.cells, f->sim.len);
    }
    if (f->fd >= 0)
        (void)close(f->fd);
    memset(f, 0, sizeof *f);
    f->fd = -1;
}
