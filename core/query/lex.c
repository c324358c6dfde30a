/* core/query/lex.c - the words of the language: names, numbers, strings, marks. */
#include "core/query/query_impl.h"

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}
static bool is_letter(uint8_t c) /* of any script: bytes of UTF-8 beyond ASCII count as letters */
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || c >= 0x80;
}
static int hex_of(uint8_t c)
{
    uint8_t low = c | 0x20;
    return is_digit(c) ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

static uint8_t byte_at(struct span s, size_t i)
{
    return i < s.n ? s.p[i] : 0;
}

/* Behind white space and comments; *why is set when a comment does not end. */
static size_t skip_space(struct span s, size_t i, const char **why)
{
    for (;;) {
        while (i < s.n && (s.p[i] == ' ' || s.p[i] == '\t' || s.p[i] == '\n' || s.p[i] == '\r'))
            i++;
        if (byte_at(s, i) != '/' || byte_at(s, i + 1) != '*')
            return i;
        size_t from = i;
        for (i += 2; i + 1 < s.n && !(s.p[i] == '*' && s.p[i + 1] == '/'); i++)
            ;
        if (i + 1 >= s.n) {
            *why = "the comment that begins here has no */";
            return from;
        }
        i += 2;
    }
}

static size_t number(struct span s, size_t i, struct token *t)
{
    size_t from = i;
    if (s.p[i] == '0' && (byte_at(s, i + 1) | 0x20) == 'x') {
        t->num = 0;
        for (i += 2; i < s.n && hex_of(s.p[i]) >= 0; i++)
            t->num = t->num * 16 + hex_of(s.p[i]);
        if (i == from + 2)
            t->why = "0x needs hexadecimal digits";
    } else {
        while (i < s.n && is_digit(s.p[i]))
            i++;
        if (byte_at(s, i) == '.' && is_digit(byte_at(s, i + 1)))
            for (i++; i < s.n && is_digit(s.p[i]); i++)
                ;
        if ((byte_at(s, i) | 0x20) == 'e') {
            size_t e = i + 1;
            if (byte_at(s, e) == '+' || byte_at(s, e) == '-')
                e++;
            if (is_digit(byte_at(s, e)))
                for (i = e; i < s.n && is_digit(s.p[i]); i++)
                    ;
        }
        size_t zeros = from; /* 007 is seven */
        while (zeros + 1 < i && s.p[zeros] == '0' && is_digit(s.p[zeros + 1]))
            zeros++;
        if (!query_number(span_of(s.p + zeros, i - zeros), &t->num))
            t->why = "this number is too large or too long";
    }
    if (i < s.n && (is_letter(s.p[i]) || is_digit(s.p[i])))
        t->why = "a number ends where a name begins";
    return i;
}

static size_t string(struct span s, size_t i, struct token *t)
{
    uint8_t quote = s.p[i++];
    size_t from = i;
    while (i < s.n && s.p[i] != quote)
        i += s.p[i] == '\\' ? 2 : 1;
    if (i >= s.n) {
        t->why = "the string that begins here does not end";
        return s.n;
    }
    t->text = span_of(s.p + from, i - from);
    return i + 1;
}

static size_t quoted(struct span s, size_t i, struct token *t)
{
    size_t from = i + 2;
    for (i = from; i + 1 < s.n && !(s.p[i] == ']' && s.p[i + 1] == ']'); i++)
        ;
    if (i + 1 >= s.n || i == from) {
        t->why = i == from ? "[[ ]] needs a name inside" : "the name that begins here has no ]]";
        return s.n;
    }
    t->text = span_of(s.p + from, i - from);
    return i + 2;
}

static size_t name(struct span s, size_t i, enum query_dialect dialect, struct token *t)
{
    size_t from = i;
    while (i < s.n &&
           (is_letter(s.p[i]) || is_digit(s.p[i]) || (dialect == QUERY_OF_ROUTES && s.p[i] == '-')))
        i++;
    t->text = span_of(s.p + from, i - from);
    return i;
}

static size_t sign(struct span s, size_t i, struct token *t)
{
    uint8_t c = s.p[i], next = byte_at(s, i + 1);
    t->sign = c;
    if ((c == '!' && next == '=') || (c == '<' && next == '>'))
        t->sign = SIGN_NE;
    else if (c == '<' && next == '=')
        t->sign = SIGN_LE;
    else if (c == '>' && next == '=')
        t->sign = SIGN_GE;
    else if (c == 0 || !strchr("=<>+-*/%()[],.", c))
        t->why = "this character has no meaning here";
    return i + (t->sign >= SIGN_NE ? 2 : 1);
}

void query_token(struct span text, uint32_t at, enum query_dialect dialect, struct token *out)
{
    struct token t = { .kind = TOKEN_END };
    size_t i = skip_space(text, at, &t.why);
    t.at = (uint32_t)i;
    if (!t.why && i < text.n) {
        uint8_t c = text.p[i];
        if (is_digit(c)) {
            t.kind = TOKEN_NUMBER;
            i = number(text, i, &t);
        } else if (c == '\'' || c == '"') {
            t.kind = TOKEN_STRING;
            i = string(text, i, &t);
        } else if (is_letter(c)) {
            t.kind = TOKEN_NAME;
            i = name(text, i, dialect, &t);
        } else if (c == '[' && byte_at(text, i + 1) == '[') {
            t.kind = TOKEN_QUOTED;
            i = quoted(text, i, &t);
        } else {
            t.kind = TOKEN_SIGN;
            i = sign(text, i, &t);
        }
    }
    if (t.why)
        t.kind = TOKEN_BAD;
    t.end = (uint32_t)i;
    *out = t;
}
