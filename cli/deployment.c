/* cli/deployment.c - states of devices in a campaign, and what they mean for an exit code. */
#include "cli/deployment.h"

#include "base/text.h"
#include "cli/out.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum outcome { OPEN, GOOD, FAILED, WENT_BACK, TAKEN_OVER };
static const struct {
    const char *name;
    enum outcome outcome;
} states[DEPLOYMENT_NAMES] = {
    { "CONFIRMED", GOOD },   { "SKIPPED", GOOD },          { "ELIGIBLE", OPEN },
    { "OFFERED", OPEN },     { "ACCEPTED", OPEN },         { "DOWNLOADING", OPEN },
    { "STAGED", OPEN },      { "WAITING", OPEN },          { "ACTIVATING", OPEN },
    { "REBOOTING", OPEN },   { "PROBATION", OPEN },        { "REJECTED", FAILED },
    { "FAILED", FAILED },    { "LOST", FAILED },           { "EXPIRED", FAILED },
    { "CANCELLED", FAILED }, { "ROLLED_BACK", WENT_BACK }, { "SUPERSEDED", TAKEN_OVER },
};

void deployment_counts_of(const json_t *counts, struct deployment_counts *out)
{
    const char *name;
    json_t *v;
    *out = (struct deployment_counts){ 0 };
    json_object_foreach((json_t *)(uintptr_t)counts, name, v)
    {
        uint64_t nr = json_is_integer(v) && json_integer_value(v) > 0 ? (uint64_t)json_integer_value(v) : 0;
        unsigned i = 0;
        while (i < DEPLOYMENT_NAMES && strcmp(states[i].name, name) != 0)
            i++;
        if (i < DEPLOYMENT_NAMES)
            out->nr[i] = nr;
        else
            out->other += nr;
    }
}

static uint64_t sum(const struct deployment_counts *c, enum outcome o)
{
    uint64_t nr = 0;
    for (unsigned i = 0; i < DEPLOYMENT_NAMES; i++)
        nr += states[i].outcome == o ? c->nr[i] : 0;
    return nr;
}

uint64_t deployment_good(const struct deployment_counts *c)
{
    return sum(c, GOOD);
}

bool deployment_is_good(const char *state)
{
    for (unsigned i = 0; state && i < DEPLOYMENT_NAMES; i++)
        if (strcmp(states[i].name, state) == 0)
            return states[i].outcome == GOOD;
    return false;
}

void deployment_line(const struct deployment_counts *c, uint64_t total, char *out, size_t cap)
{
    size_t n = (size_t)snprintf(out, cap, "%llu of %llu confirmed", (unsigned long long)deployment_good(c),
                                (unsigned long long)total);
    for (unsigned i = 0; i < DEPLOYMENT_NAMES; i++) {
        char name[24];
        if (!c->nr[i] || states[i].outcome == GOOD)
            continue;
        snprintf(name, sizeof name, "%s", states[i].name);
        for (char *p = name; *p; p++)
            *p = *p == '_' ? ' ' : (char)tolower((unsigned char)*p);
        if (n < cap)
            n += (size_t)snprintf(out + n, cap - n, ", %llu %s", (unsigned long long)c->nr[i], name);
    }
}

json_t *deployment_json(const struct deployment_counts *c)
{
    json_t *o = json_object();
    for (unsigned i = 0; i < DEPLOYMENT_NAMES; i++)
        if (c->nr[i])
            json_object_set_new(o, states[i].name, json_integer((json_int_t)c->nr[i]));
    return o;
}

int deployment_verdict(const struct deployment_counts *c, uint64_t total, const char *campaign_state)
{
    uint64_t failed = sum(c, FAILED), back = sum(c, WENT_BACK), taken = sum(c, TAKEN_OVER);
    uint64_t ended = sum(c, GOOD) + failed + back + taken;
    bool over = campaign_state && strcmp(campaign_state, "running") != 0;
    bool open = c->other || sum(c, OPEN) || ended < total;

    if (open && !over)
        return -1;
    if (campaign_state && strcmp(campaign_state, "superseded") == 0)
        return CLI_CONFLICT;
    if (back)
        return CLI_ROLLED_BACK;
    if (failed || (campaign_state && strcmp(campaign_state, "aborted") == 0))
        return CLI_FAILED;
    if (taken)
        return CLI_CONFLICT;
    return open ? CLI_FAILED : CLI_OK; /* over, and not everyone runs it */
}

bool deployment_may_heal(const char *state, uint64_t attempts)
{
    return state && strcmp(state, "FAILED") == 0 && attempts < 2;
}

bool release_fits(const json_t *listing, const json_t *ids, const char *hardware)
{
    const char *class_text = hardware ? strchr(hardware, ':') : NULL, *rev_text;
    uint64_t class, rev = 0;
    json_t *r, *id;
    size_t i, k;
    if (!class_text)
        return false;
    struct span product = span_of(hardware, (size_t)(class_text - hardware));
    rev_text = strchr(++class_text, ':');
    size_t class_len = rev_text ? (size_t)(rev_text - class_text) : strlen(class_text);
    if (u64_parse(span_of(class_text, class_len), 65535, &class) ||
        (rev_text && u64_parse(span_str(rev_text + 1), 255, &rev)))
        return false;
    json_array_foreach(json_object_get(listing, "releases"), i, r)
    {
        bool fits = span_eq(span_str(json_text(r, "product")), product) &&
                    json_number(r, "hardwareClass", 65536) == class &&
                    rev >= json_number(r, "hardwareRevMin", 0) &&
                    rev <= json_number(r, "hardwareRevMax", 255);
        json_array_foreach(ids, k, id)
        {
            if (fits && json_equal(json_object_get(r, "id"), id))
                return true;
        }
    }
    return false;
}
