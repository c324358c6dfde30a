/* device/journal.c - reads and appends the boot journal. C99. */
#include "device/journal.h"

#include "base/crc32.h"
#include "device/flash_io.h"

#define CELL_BODY 28u
#define TRIES_MAX 4u
#define SEQ_NEVER 0xffffffffu

void journal_cell_encode(const struct journal_state *s, uint8_t out[JOURNAL_CELL_LEN])
{
    struct wr w = { out, JOURNAL_CELL_LEN, 0 };
    wr_le32(&w, s->seq);
    wr_u8(&w, s->kind);
    wr_u8(&w, s->confirmed);
    wr_u8(&w, s->pending);
    wr_u8(&w, s->attempts);
    wr_le32(&w, s->security_counter);
    wr_put(&w, span_of(s->digest, sizeof s->digest));
    wr_u8(&w, s->cause);
    wr_u8(&w, s->reason);
    wr_le16(&w, s->reject_nr);
    wr_le32(&w, 0xffffffffu);
    wr_le32(&w, crc32_update(0, span_of(out, CELL_BODY)));
}

static bool is_slot(uint8_t slot)
{
    return slot < 2 || slot == BOOT_NO_SLOT;
}

enum err journal_cell_decode(const uint8_t in[JOURNAL_CELL_LEN], struct journal_state *out)
{
    struct rd r = rd_of(span_of(in, JOURNAL_CELL_LEN));
    struct journal_state s;
    s.seq = rd_le32(&r);
    s.kind = rd_u8(&r);
    s.confirmed = rd_u8(&r);
    s.pending = rd_u8(&r);
    s.attempts = rd_u8(&r);
    s.security_counter = rd_le32(&r);
    memcpy(s.digest, rd_take(&r, sizeof s.digest).p, sizeof s.digest);
    s.cause = rd_u8(&r);
    s.reason = rd_u8(&r);
    s.reject_nr = rd_le16(&r);
    (void)rd_le32(&r);
    if (rd_le32(&r) != crc32_update(0, span_of(in, CELL_BODY)))
        return ERR_VERIFY;
    if (s.seq == 0 || s.seq == SEQ_NEVER || s.kind < JOURNAL_CONFIRM || s.kind > JOURNAL_SNAPSHOT ||
        !is_slot(s.confirmed) || !is_slot(s.pending) || s.attempts > BOOT_ATTEMPTS_MAX ||
        (s.pending != BOOT_NO_SLOT && s.pending == s.confirmed))
        return ERR_VERIFY;
    *out = s;
    return ERR_OK;
}

static bool is_blank(const uint8_t cell[JOURNAL_CELL_LEN])
{
    for (size_t i = 0; i < JOURNAL_CELL_LEN; i++)
        if (cell[i] != 0xff)
            return false;
    return true;
}

/* One cell: twice, since a bit that was half written may read either way. */
static enum err cell_read(struct flash *f, uint32_t addr, struct journal *j, bool *is_used, bool *is_valid,
                          struct journal_state *out)
{
    uint8_t a[JOURNAL_CELL_LEN], b[JOURNAL_CELL_LEN];
    enum err e = flash_read(f, addr, a, sizeof a);
    if (!e)
        e = flash_read(f, addr, b, sizeof b);
    if (e)
        return e;
    if (memcmp(a, b, sizeof a) != 0)
        j->unsettled = true;
    *is_used = !is_blank(a) || !is_blank(b);
    *is_valid = *is_used && journal_cell_decode(a, out) == ERR_OK;
    return ERR_OK;
}

enum err journal_open(struct flash *f, struct journal *j)
{
    uint32_t cells = f->geo.sector_len / JOURNAL_CELL_LEN, torn[2] = { 0, 0 }, torn_behind = 0;
    memset(j, 0, sizeof *j);
    j->state.confirmed = j->state.pending = BOOT_NO_SLOT;
    for (uint8_t s = 0; s < 2; s++) {
        uint32_t last_used = 0; /* one behind it */
        bool has_winner = false;
        for (uint32_t i = 0; i < cells; i++) {
            struct journal_state st;
            bool is_used, is_valid;
            enum err e = cell_read(f, f->geo.journal[s] + i * JOURNAL_CELL_LEN, j, &is_used, &is_valid, &st);
            if (e)
                return e;
            if (!is_used)
                continue;
            last_used = i + 1;
            if (!is_valid) {
                torn[s]++;
                torn_behind += has_winner;
            } else if (!j->found || st.seq > j->state.seq) {
                j->state = st;
                j->found = true;
                j->sector = s;
                has_winner = true;
                torn_behind = 0;
            }
        }
        if (has_winner)
            j->next_cell = last_used;
    }
    j->torn_nr = torn[0] + torn[1];
    /* What was torn after the winner may come to life again: it lies behind it, or, where the winner's
     * sector is full, in the other one. */
    if (j->found && (torn_behind || (j->next_cell == cells && torn[!j->sector])))
        j->unsettled = true;
    return ERR_OK;
}

/* Body, then the CRC as its own command, then what is really there. */
static enum err cell_write(struct flash *f, uint32_t addr, const uint8_t cell[JOURNAL_CELL_LEN])
{
    enum err e = flash_program(f, addr, cell, CELL_BODY);
    if (!e)
        e = flash_program(f, addr + CELL_BODY, cell + CELL_BODY, JOURNAL_CELL_LEN - CELL_BODY);
    if (!e)
        e = flash_compare(f, addr, cell, JOURNAL_CELL_LEN);
    return e;
}

enum err journal_append(struct flash *f, struct journal *j, const struct journal_state *next)
{
    uint32_t cells = f->geo.sector_len / JOURNAL_CELL_LEN, at = j->next_cell;
    uint8_t sector = j->sector, cell[JOURNAL_CELL_LEN];
    struct journal_state s = *next;
    bool fresh = !j->found; /* a journal without a record: what lies there is not to be trusted */
    for (uint32_t tries = 0; tries < TRIES_MAX; tries++) {
        enum err e = ERR_OK;
        if (fresh || at >= cells) {
            sector = fresh ? sector : (uint8_t)!j->sector;
            at = 0;
            fresh = false;
            e = f->ops->erase(f, f->geo.journal[sector]);
            if (e)
                return e;
        }
        /* Above every torn cell as well: one of them may read as valid some day. */
        s.seq = j->state.seq + 1 + j->torn_nr;
        journal_cell_encode(&s, cell);
        e = cell_write(f, f->geo.journal[sector] + at * JOURNAL_CELL_LEN, cell);
        at++;
        if (!e) {
            j->state = s;
            j->found = true;
            j->unsettled = false;
            j->sector = sector;
            j->next_cell = at;
            return ERR_OK;
        }
        if (e != ERR_VERIFY)
            return e;
        j->torn_nr++;
    }
    return ERR_IO;
}
