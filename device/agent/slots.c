/* device/agent/slots.c - see slots.h. A folder is made beside its place, flushed, then renamed, so that a
 * power cut leaves the old one or the new one; the marker file inside says for which image it was made. */
#include "device/agent/slots.h"

#include "base/log.h"
#include "base/text.h"
#include "device/slot.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARKER ".roost-image"
#define PIECE  65536u

static enum err failed(const char *what, const char *path)
{
    enum err e = errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO;
    log_error("slot.make", "op=%s path=%s error=\"%s\"", what, path, strerror(errno));
    return e;
}

bool slots_manifest(struct flash *f, uint8_t slot, char version[RELEASE_TEXT_MAX + 1], bool *package)
{
    uint8_t raw[DEVICE_OBJECT_MAX];
    size_t n = 0, used = 0;
    struct envelope env;
    struct release r;
    if (slot_manifest_read(f, slot, raw, &n) != ERR_OK ||
        envelope_decode(span_of(raw, n), ENVELOPE_BODY_MAX_MCU, &env, &used) != ERR_OK ||
        release_decode(env.body, &r) != ERR_OK)
        return false;
    memcpy(version, r.version.p, r.version.n);
    version[r.version.n] = 0;
    *package = r.component_nr && r.component[0].type == COMPONENT_PACKAGE;
    return true;
}

/* ---- folders ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static bool sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool sync_file_system(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && syncfs(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* ---- the marker: hex of the image's hash, and a word for how it was unpacked ---- */

static void marker_text(const struct slot_header *h, bool package, char out[2 * SHA256_LEN + 10])
{
    struct wr w = { (uint8_t *)out, 2 * SHA256_LEN + 10, 0 };
    hex_encode(&w, span_of(h->image_sha256, SHA256_LEN));
    wr_str(&w, package ? " package" : " raw");
    wr_u8(&w, 0);
}

static bool is_made(const char *dir, const struct slot_header *h, bool package)
{
    char path[4300], want[2 * SHA256_LEN + 10], have[sizeof want] = "";
    struct stat st;
    snprintf(path, sizeof path, "%s/" MARKER, dir);
    marker_text(h, package, want);
    FILE *f = fopen(path, "re");
    bool same = f && fgets(have, sizeof have, f) && strcmp(have, want) == 0;
    if (f)
        fclose(f);
    if (!same || package)
        return same;
    snprintf(path, sizeof path, "%s/app", dir);
    return stat(path, &st) == 0 && st.st_size == (off_t)h->image_len;
}

static enum err write_marker(const char *dir, const struct slot_header *h, bool package)
{
    char path[4300], text[2 * SHA256_LEN + 10];
    snprintf(path, sizeof path, "%s/" MARKER, dir);
    marker_text(h, package, text);
    FILE *f = fopen(path, "we");
    bool ok = f && fputs(text, f) >= 0 && fflush(f) == 0;
    if (f && fclose(f) != 0)
        ok = false;
    return ok ? ERR_OK : failed("marker", path);
}

/* ---- the image out of flash, hashed on the way ---- */

struct source {
    struct flash *flash;
    const struct crypto_ops *c;
    struct sha256 hash;
    uint32_t at, left;
    enum err err;
    uint8_t buf[PIECE];
};

static struct span next_piece(struct source *s)
{
    uint32_t n = s->left < PIECE ? s->left : PIECE;
    if (n && !s->err)
        s->err = s->flash->ops->read(s->flash, s->at, s->buf, n);
    if (!n || s->err)
        return SPAN_NONE;
    s->c->sha256_update(&s->hash, span_of(s->buf, n));
    s->at += n;
    s->left -= n;
    return span_of(s->buf, n);
}

static enum err verify_rest(struct source *s, const struct slot_header *h)
{
    uint8_t hash[SHA256_LEN];
    while (next_piece(s).n)
        continue;
    s->c->sha256_final(&s->hash, hash);
    if (s->err)
        return s->err;
    return memcmp(hash, h->image_sha256, SHA256_LEN) == 0 ? ERR_OK : ERR_VERIFY;
}

static enum err write_raw(struct source *s, const char *dir)
{
    char path[4300];
    snprintf(path, sizeof path, "%s/app", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0755);
    if (fd < 0)
        return failed("create", path);
    enum err e = ERR_OK;
    for (struct span p; !e && (p = next_piece(s)).n;)
        while (p.n && !e) {
            ssize_t n = write(fd, p.p, p.n);
            if (n < 0 && errno != EINTR)
                e = failed("write", path);
            else if (n > 0)
                p = span_skip(p, (size_t)n);
        }
    (void)fchmod(fd, 0755); /* whatever the umask was */
    if (close(fd) < 0 && !e)
        e = failed("close", path);
    return e;
}

static la_ssize_t on_archive_read(struct archive *a, void *ctx, const void **out)
{
    struct source *s = (struct source *)ctx;
    struct span p = next_piece(s);
    if (s->err)
        archive_set_error(a, EIO, "flash");
    *out = p.p;
    return s->err ? -1 : (la_ssize_t)p.n;
}

/* Places an entry below dir. False: it is of a kind, or has a name, that a package must not have. */
static bool place_entry(struct archive_entry *entry, const char *dir)
{
    char path[8192];
    const char *name = archive_entry_pathname(entry);
    unsigned type = archive_entry_filetype(entry);
    if (!name || name[0] == '/' || archive_entry_hardlink(entry) ||
        (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK))
        return false;
    if (type == AE_IFLNK) { /* links stay inside: no absolute ones, none that climb */
        const char *target = archive_entry_symlink(entry);
        if (!target || target[0] == '/' || strstr(target, ".."))
            return false;
    }
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return false;
    archive_entry_set_pathname(entry, path);
    archive_entry_set_perm(entry, (archive_entry_perm(entry) & 0755) | 0600 | (type == AE_IFDIR ? 0700 : 0));
    return true;
}

static enum err copy_entry(struct archive *in, struct archive *out, uint64_t *total)
{
    const void *p;
    size_t n;
    la_int64_t at;
    int r;
    while ((r = archive_read_data_block(in, &p, &n, &at)) == ARCHIVE_OK) {
        if ((*total += n) > SLOT_UNPACKED_MAX)
            return ERR_LIMIT;
        if (archive_write_data_block(out, p, n, at) != ARCHIVE_OK) {
            errno = archive_errno(out);
            return failed("write", "package");
        }
    }
    return r == ARCHIVE_EOF ? ERR_OK : ERR_PROTO;
}

static enum err unpack(struct source *s, const char *dir)
{
    struct archive *in = archive_read_new(), *out = archive_write_disk_new();
    struct archive_entry *entry;
    uint64_t total = 0;
    unsigned entries = 0;
    int r = ARCHIVE_FATAL;
    enum err e = in && out ? ERR_OK : ERR_NOMEM;
    if (!e) {
        archive_read_support_filter_all(in);
        archive_read_support_format_tar(in);
        archive_read_support_format_zip(in);
        archive_write_disk_set_options(out, ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                                                ARCHIVE_EXTRACT_SECURE_NODOTDOT);
        if (archive_read_open(in, s, NULL, on_archive_read, NULL) != ARCHIVE_OK)
            e = ERR_PROTO;
    }
    while (!e && (r = archive_read_next_header(in, &entry)) == ARCHIVE_OK) {
        if (++entries > SLOT_ENTRIES_MAX)
            e = ERR_LIMIT;
        else if (!place_entry(entry, dir))
            e = ERR_PROTO;
        else if ((r = archive_write_header(out, entry)) != ARCHIVE_OK) {
            errno = archive_errno(out);
            e = errno == ENOSPC ? ERR_FULL : ERR_PROTO;
        } else {
            e = copy_entry(in, out, &total);
        }
    }
    if (!e && (r != ARCHIVE_EOF || !entries))
        e = ERR_PROTO;
    if (!e && archive_write_close(out) != ARCHIVE_OK) {
        errno = archive_errno(out);
        e = failed("close", "package");
    }
    if (e)
        log_warn("slot.package", "err=%s entries=%u error=\"%s\"", err_name(e), entries,
                 in && archive_error_string(in) ? archive_error_string(in) : "");
    archive_read_free(in);
    archive_write_free(out);
    return e;
}

static enum err make(struct source *s, const char *tmp, const char *dir, const struct slot_header *h,
                     bool package)
{
    enum err e = package ? unpack(s, tmp) : write_raw(s, tmp);
    enum err hash = e == ERR_FULL || e == ERR_IO ? e : verify_rest(s, h);
    if (hash) /* a damaged image is told as such, whatever unpacking it said */
        return hash;
    if (e)
        return e;
    if ((e = write_marker(tmp, h, package)) != ERR_OK)
        return e;
    if (!sync_file_system(tmp))
        return failed("sync", tmp);
    remove_tree(dir);
    return rename(tmp, dir) == 0 ? ERR_OK : failed("rename", dir);
}

enum err slots_make(const char *state, struct flash *f, const struct crypto_ops *c, uint8_t slot,
                    const struct slot_header *h, bool package, char **out)
{
    char parent[4000], dir[4100], tmp[4200];
    if ((size_t)snprintf(parent, sizeof parent, "%s/slots", state) >= sizeof parent)
        return ERR_LIMIT;
    snprintf(dir, sizeof dir, "%s/%c", parent, slot ? 'b' : 'a');
    snprintf(tmp, sizeof tmp, "%s.new", dir);
    if (!is_made(dir, h, package)) {
        struct source *s = malloc(sizeof *s);
        if (!s)
            return ERR_NOMEM;
        *s =
            (struct source){ .flash = f, .c = c, .at = slot_image_addr(&f->geo, slot), .left = h->image_len };
        c->sha256_init(&s->hash);
        if (mkdir(parent, 0755) == 0)
            (void)sync_path(state);
        remove_tree(tmp);
        enum err e = mkdir(tmp, 0755) == 0 ? make(s, tmp, dir, h, package) : failed("mkdir", tmp);
        free(s);
        if (e) {
            remove_tree(tmp);
            return e;
        }
        (void)sync_path(parent);
    }
    return (*out = strdup(dir)) ? ERR_OK : ERR_NOMEM;
}
