/* tests/fault/layer/faults.c - stands between the program (and the libraries it loads) and the C library, by
 * having the same names. */
#include "tests/fault/layer/faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic unsigned armed;
static _Atomic uint64_t seen, first, last;
static _Atomic int error;

void faults_arm(unsigned kinds, uint64_t k, uint64_t times, int err)
{
    atomic_store(&armed, 0);
    atomic_store(&seen, 0);
    atomic_store(&first, k);
    atomic_store(&last, times > UINT64_MAX - k ? UINT64_MAX : k + times - 1);
    atomic_store(&error, err);
    atomic_store(&armed, kinds);
}

void faults_disarm(void)
{
    atomic_store(&armed, 0);
}

uint64_t faults_seen(void)
{
    return atomic_load(&seen);
}

/* Counts a call; true when it is to fail. */
static bool hit(unsigned kind)
{
    if (!(atomic_load(&armed) & kind))
        return false;
    uint64_t n = atomic_fetch_add(&seen, 1) + 1;
    if (n < atomic_load(&first) || n > atomic_load(&last))
        return false;
    errno = atomic_load(&error);
    if (errno == FAULT_KILL)
        raise(SIGKILL);
    return true;
}

static bool is_file(int fd)
{
    struct stat st;
    int keep = errno;
    bool yes = fd > 2 && (atomic_load(&armed) & (FAULT_WRITE | FAULT_SYNC | FAULT_TRUNCATE)) &&
               fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
    errno = keep;
    return yes;
}

static bool is_ours(const char *path)
{
    return path[0] != '/' || !strncmp(path, "/tmp/", 5) || !strncmp(path, "/dev/shm/", 9);
}

/* The function of the C library (or of the sanitizer before it). */
#define REAL(name)                                                                                           \
    if (!real)                                                                                               \
    *(void **)(&real) = real_of(#name)

static void *real_of(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (!p)
        abort();
    return p;
}

#define WRITE_FN(name, args, call, half)                                                                     \
    ssize_t name args                                                                                        \
    {                                                                                                        \
        static __typeof__(&name) real;                                                                       \
        REAL(name);                                                                                          \
        if (is_file(fd) && hit(FAULT_WRITE)) {                                                               \
            if (errno == ENOSPC && n > 1)                                                                    \
                return half;                                                                                 \
            return -1;                                                                                       \
        }                                                                                                    \
        return call;                                                                                         \
    }
WRITE_FN(write, (int fd, const void *p, size_t n), real(fd, p, n), real(fd, p, n / 2))
WRITE_FN(pwrite, (int fd, const void *p, size_t n, off_t at), real(fd, p, n, at), real(fd, p, n / 2, at))
WRITE_FN(pwrite64, (int fd, const void *p, size_t n, off_t at), real(fd, p, n, at), real(fd, p, n / 2, at))

#define INT_FN(name, args, call, cond, kind)                                                                 \
    int name args                                                                                            \
    {                                                                                                        \
        static __typeof__(&name) real;                                                                       \
        REAL(name);                                                                                          \
        return (cond) && hit(kind) ? -1 : call;                                                              \
    }
INT_FN(fsync, (int fd), real(fd), is_file(fd), FAULT_SYNC)
INT_FN(fdatasync, (int fd), real(fd), is_file(fd), FAULT_SYNC)
INT_FN(ftruncate, (int fd, off_t n), real(fd, n), is_file(fd), FAULT_TRUNCATE)
INT_FN(ftruncate64, (int fd, off_t n), real(fd, n), is_file(fd), FAULT_TRUNCATE)
INT_FN(rename, (const char *a, const char *b), real(a, b), is_ours(b), FAULT_RENAME)
INT_FN(renameat, (int da, const char *a, int db, const char *b), real(da, a, db, b), is_ours(b), FAULT_RENAME)
INT_FN(unlink, (const char *a), real(a), is_ours(a), FAULT_RENAME)
INT_FN(unlinkat, (int d, const char *a, int f), real(d, a, f), is_ours(a), FAULT_RENAME)
INT_FN(mkdir, (const char *a, mode_t m), real(a, m), is_ours(a), FAULT_RENAME)
INT_FN(mkdirat, (int d, const char *a, mode_t m), real(d, a, m), is_ours(a), FAULT_RENAME)

static mode_t mode_of(int flags, va_list ap)
{
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(ap, unsigned) : 0;
}

#define OPEN_FN(name, args, call)                                                                            \
    int name args                                                                                            \
    {                                                                                                        \
        static __typeof__(&name) real;                                                                       \
        va_list ap;                                                                                          \
        REAL(name);                                                                                          \
        va_start(ap, flags);                                                                                 \
        mode_t mode = mode_of(flags, ap);                                                                    \
        va_end(ap);                                                                                          \
        return is_ours(path) && hit(FAULT_OPEN) ? -1 : call;                                                 \
    }
OPEN_FN(open, (const char *path, int flags, ...), real(path, flags, mode))
OPEN_FN(open64, (const char *path, int flags, ...), real(path, flags, mode))
OPEN_FN(openat, (int d, const char *path, int flags, ...), real(d, path, flags, mode))
OPEN_FN(openat64, (int d, const char *path, int flags, ...), real(d, path, flags, mode))

/* A sanitizer has an allocator of its own, which must not be replaced. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
bool faults_has_alloc(void)
{
    return false;
}
#else
bool faults_has_alloc(void)
{
    return true;
}

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t a, size_t b);
extern void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n)
{
    return hit(FAULT_ALLOC) ? NULL : __libc_malloc(n);
}

void *calloc(size_t a, size_t b)
{
    return hit(FAULT_ALLOC) ? NULL : __libc_calloc(a, b);
}

void *realloc(void *p, size_t n)
{
    return hit(FAULT_ALLOC) ? NULL : __libc_realloc(p, n);
}
#endif
