/* tests/fault/layer/faults.h - makes calls of the system fail on demand: the k-th write, flush, rename, open
 * or allocation of the whole process, SQLite's included. Only regular files other than stdout and stderr
 * count. Any thread. */
#ifndef ROOST_TESTS_FAULT_FAULTS_H
#define ROOST_TESTS_FAULT_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

enum fault_kind {
    FAULT_WRITE = 1,    /* write, pwrite; with ENOSPC half of the bytes get through first */
    FAULT_SYNC = 2,     /* fsync, fdatasync */
    FAULT_RENAME = 4,   /* rename, renameat, unlink, unlinkat, mkdir, mkdirat */
    FAULT_OPEN = 8,     /* open, openat below a relative path or /tmp, /dev/shm */
    FAULT_ALLOC = 16,   /* malloc, calloc, realloc; not under a sanitizer */
    FAULT_TRUNCATE = 32 /* ftruncate */
};
#define FAULT_KILL (-1) /* as err: the process is killed with SIGKILL instead, before the call */
/* The k-th call (from 1) of these kinds from now on fails with err, and `times` - 1 after it. */
void faults_arm(unsigned kinds, uint64_t k, uint64_t times, int err);
void faults_disarm(void);
uint64_t faults_seen(void); /* calls of these kinds since faults_arm */
bool faults_has_alloc(void);

#endif
