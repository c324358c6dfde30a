/* hub/front/http/input.c - members of a JSON body, parts of the path and the query, each checked where
 * it is read; a message always names what is wrong. */
#include "base/text.h"
#include "hub/domain/identity/identity.h"
#include "hub/front/http/job.h"

bool in_only(struct job *j, const json_t *o, const char *const *names)
{
    const char *key;
    json_t *val;
    json_object_foreach((json_t *)(uintptr_t)o, key, val)
    {
        const char *const *n = names;
        while (*n && strcmp(*n, key) != 0)
            n++;
        if (!*n)
            return job_fail(j, 400, "unknown-member", "member \"%.64s\" is not known here", key);
    }
    return true;
}

/* The member, or NULL when it is absent (or null); *ok false: it is required. */
static json_t *member(struct job *j, const json_t *o, const char *name, enum in_need need, bool *ok)
{
    json_t *v = json_object_get(o, name);
    *ok = true;
    if (json_is_null(v))
        v = NULL;
    if (!v && need == IN_REQUIRED)
        *ok = job_fail(j, 400, "missing-member", "member \"%s\" is missing", name);
    return v;
}

bool in_text(struct job *j, const json_t *o, const char *name, enum in_need need, size_t max,
             struct span *out)
{
    bool ok;
    json_t *v = member(j, o, name, need, &ok);
    if (!v)
        return ok;
    if (!json_is_string(v))
        return job_fail(j, 400, "bad-member", "member \"%s\" has to be a string", name);
    struct span s = span_of(json_string_value(v), json_string_length(v));
    if (s.n > max)
        return job_fail(j, 400, "bad-member", "member \"%s\" is longer than %zu bytes", name, max);
    if (need == IN_REQUIRED && !s.n)
        return job_fail(j, 400, "bad-member", "member \"%s\" is empty", name);
    *out = s;
    return true;
}

bool in_u64(struct job *j, const json_t *o, const char *name, enum in_need need, uint64_t max, uint64_t *out)
{
    bool ok;
    json_t *v = member(j, o, name, need, &ok);
    if (!v)
        return ok;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max)
        return job_fail(j, 400, "bad-member", "member \"%s\" has to be a whole number from 0 to %llu", name,
                        (unsigned long long)max);
    *out = (uint64_t)json_integer_value(v);
    return true;
}

bool in_bool(struct job *j, const json_t *o, const char *name, enum in_need need, bool *out)
{
    bool ok;
    json_t *v = member(j, o, name, need, &ok);
    if (!v)
        return ok;
    if (!json_is_boolean(v))
        return job_fail(j, 400, "bad-member", "member \"%s\" has to be true or false", name);
    *out = json_is_true(v);
    return true;
}

bool in_hex(struct job *j, const json_t *o, const char *name, uint8_t *out, size_t len)
{
    struct span s = SPAN_NONE;
    if (!in_text(j, o, name, IN_REQUIRED, 2 * len, &s))
        return false;
    if (hex_decode(s, out, len))
        return job_fail(j, 400, "bad-member", "member \"%s\" has to be %zu hexadecimal digits", name,
                        2 * len);
    return true;
}

bool in_base64(struct job *j, const json_t *o, const char *name, enum in_need need, size_t max,
               struct span *out)
{
    struct span s = SPAN_NONE;
    size_t n;
    if (!in_text(j, o, name, need, max / 3 * 4 + 4, &s))
        return false;
    if (!json_object_get(o, name) || json_is_null(json_object_get(o, name)))
        return true;
    uint8_t *mem = arena_alloc(&j->a, max + 1);
    if (!mem)
        return job_fail_err(j, ERR_NOMEM);
    if (base64_decode(s, mem, max, &n))
        return job_fail(j, 400, "bad-member", "member \"%s\" has to be base64 of at most %zu bytes", name,
                        max);
    *out = span_of(mem, n);
    return true;
}

bool in_device_id(struct job *j, struct span id)
{
    if (identity_id_ok(id))
        return true;
    return job_fail(
        j, 400, "bad-device-id",
        "a device id has 1 to 128 ASCII letters, digits and any of - . + %% _ # * ? ! ( ) , : = @ $ '");
}

bool in_path_device(struct job *j, struct span *id)
{
    *id = j->r->params[0];
    return in_device_id(j, *id);
}

bool in_query_u64(struct job *j, const char *name, uint64_t max, uint64_t *out)
{
    struct span s;
    if (!http_query(j->r, name, &s))
        return true;
    if (u64_parse(s, max, out))
        return job_fail(j, 400, "bad-query", "query \"%s\" has to be a whole number from 0 to %llu", name,
                        (unsigned long long)max);
    return true;
}

bool in_query_bool(struct job *j, const char *name, bool *out)
{
    struct span s;
    if (!http_query(j->r, name, &s))
        return true;
    if (span_eq(s, SPAN("true")))
        *out = true;
    else if (span_eq(s, SPAN("false")))
        *out = false;
    else
        return job_fail(j, 400, "bad-query", "query \"%s\" has to be true or false", name);
    return true;
}
