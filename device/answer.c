/* device/answer.c - a JSON object of known members, read a byte at a time. C99. */
#include "device/answer.h"

enum answer_state {
    AT_START,
    AT_KEY,
    IN_KEY,
    AT_COLON,
    AT_VALUE,
    IN_STRING,
    IN_WORD,
    IN_NESTED,
    AT_COMMA,
    AT_END
};

static const struct {
    const char *name;
    uint8_t member;
} members[] = {
    { "status", ANSWER_STATUS },
    { "id", ANSWER_ID },
    { "host", ANSWER_HOST },
    { "key", ANSWER_KEY },
    { "checkin", ANSWER_CHECKIN },
    { "mqttPort", ANSWER_MQTT_PORT },
    { "httpsPort", ANSWER_HTTPS_PORT },
    { "checkinSeconds", ANSWER_CHECKIN_S },
    { "time", ANSWER_TIME },
    { "retryAfterSeconds", ANSWER_RETRY_S },
    { "trust", ANSWER_TRUST },
};

void answer_init(struct answer *a, struct wr text, struct wr trust)
{
    memset(a, 0, sizeof *a);
    a->text = text;
    a->trust = trust;
    a->text.len = a->trust.len = 0;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int base64_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static void value_byte(struct answer *a, uint8_t c)
{
    if (a->member == ANSWER_TRUST) {
        int v = base64_of(c);
        if (v < 0) {
            a->bad |= c != '=';
            return;
        }
        a->bits = a->bits << 6 | (uint32_t)v;
        a->bits_nr = (uint8_t)(a->bits_nr + 6);
        if (a->bits_nr >= 8) {
            a->bits_nr = (uint8_t)(a->bits_nr - 8);
            if (a->trust.len < a->trust.cap)
                wr_u8(&a->trust, (uint8_t)(a->bits >> a->bits_nr));
        }
    } else if (a->member < ANSWER_MEMBERS) {
        if (a->text.len >= a->text.cap || a->text.len >= 0xffff) {
            a->too_long = true;
            return;
        }
        wr_u8(&a->text, c);
        a->value[a->member].len++;
    }
}

static void value_begin(struct answer *a)
{
    a->member = ANSWER_UNKNOWN;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (span_eq(span_of(a->key, a->key_len), span_str(members[i].name)))
            a->member = members[i].member;
    if (a->member < ANSWER_MEMBERS) { /* said twice: the last one counts */
        a->value[a->member].at = (uint16_t)a->text.len;
        a->value[a->member].len = 0;
    } else if (a->member == ANSWER_TRUST) {
        a->trust.len = 0;
        a->bits_nr = 0;
    }
}

/* A byte of a string, unescaped. Nothing we keep has characters beyond ASCII; such an escape becomes '?'. */
static void string_byte(struct answer *a, uint8_t c)
{
    if (a->state == IN_STRING) {
        value_byte(a, c);
    } else if (a->key_len < sizeof a->key) {
        a->key[a->key_len++] = c;
    } else {
        a->key[0] = 0; /* too long to be one of ours */
    }
}

static void in_string(struct answer *a, uint8_t c)
{
    if (a->hex_left) {
        uint8_t low = (uint8_t)(c | 0x20);
        uint8_t v = c >= '0' && c <= '9' ? (uint8_t)(c - '0') : (uint8_t)(low - 'a' + 10);
        if (v > 15)
            a->bad = true;
        a->hex = (uint16_t)(a->hex << 4 | (v & 15));
        if (--a->hex_left == 0)
            string_byte(a, a->hex < 0x80 ? (uint8_t)a->hex : '?');
    } else if (a->is_escaped) {
        a->is_escaped = false;
        if (c == 'u') {
            a->hex_left = 4;
            a->hex = 0;
        } else if (c == 'n' || c == 't' || c == 'r' || c == 'b' || c == 'f') {
            string_byte(a, ' ');
        } else if (c == '"' || c == '\\' || c == '/') {
            string_byte(a, c);
        } else {
            a->bad = true;
        }
    } else if (c == '\\') {
        a->is_escaped = true;
    } else if (c == '"') {
        a->state = a->state == IN_STRING ? AT_COMMA : AT_COLON;
    } else if (c < 0x20) {
        a->bad = true;
    } else {
        string_byte(a, c);
    }
}

/* Arrays and objects inside: only their end matters. */
static void in_nested(struct answer *a, uint8_t c)
{
    if (a->in_string) {
        if (a->is_escaped)
            a->is_escaped = false;
        else if (c == '\\')
            a->is_escaped = true;
        else if (c == '"')
            a->in_string = false;
    } else if (c == '"') {
        a->in_string = true;
    } else if (c == '{' || c == '[') {
        if (++a->depth > 32)
            a->bad = true;
    } else if ((c == '}' || c == ']') && --a->depth == 0) {
        a->state = AT_COMMA;
    }
}

static void at_comma(struct answer *a, uint8_t c)
{
    if (c == ',')
        a->state = AT_KEY;
    else if (c == '}')
        a->state = AT_END;
    else
        a->bad |= !is_space(c);
}

static void feed_byte(struct answer *a, uint8_t c)
{
    switch ((enum answer_state)a->state) {
    case AT_START:
        if (c == '{')
            a->state = AT_KEY;
        else
            a->bad |= !is_space(c);
        break;
    case AT_KEY:
        if (c == '"') {
            a->state = IN_KEY;
            a->key_len = 0;
        } else if (c == '}') {
            a->state = AT_END;
        } else {
            a->bad |= !is_space(c);
        }
        break;
    case IN_KEY:
    case IN_STRING:
        in_string(a, c);
        break;
    case AT_COLON:
        if (c == ':')
            a->state = AT_VALUE;
        else
            a->bad |= !is_space(c);
        break;
    case AT_VALUE:
        if (is_space(c))
            break;
        value_begin(a);
        if (c == '"') {
            a->state = IN_STRING;
        } else if (c == '{' || c == '[') {
            a->state = IN_NESTED;
            a->depth = 1;
        } else if (c == ',' || c == '}' || c == ']' || c == ':') {
            a->bad = true;
        } else {
            a->state = IN_WORD;
            if (a->member < ANSWER_MQTT_PORT || a->member == ANSWER_TRUST)
                a->member = ANSWER_UNKNOWN; /* null where a string belongs: absent */
            value_byte(a, c);
        }
        break;
    case IN_WORD: /* a number, true, false, null: ends with what follows it */
        if (c == ',' || c == '}' || is_space(c)) {
            a->state = AT_COMMA;
            at_comma(a, c);
        } else {
            value_byte(a, c);
        }
        break;
    case IN_NESTED:
        in_nested(a, c);
        break;
    case AT_COMMA:
        at_comma(a, c);
        break;
    case AT_END:
        a->bad |= !is_space(c);
        break;
    }
}

void answer_feed(struct answer *a, struct span piece)
{
    for (size_t i = 0; i < piece.n && !a->bad; i++)
        feed_byte(a, piece.p[i]);
}

enum err answer_finish(const struct answer *a)
{
    if (a->bad || a->state != AT_END)
        return ERR_PROTO;
    return a->too_long ? ERR_LIMIT : ERR_OK;
}

struct span answer_text(const struct answer *a, enum answer_member m)
{
    return span_of(a->text.p + a->value[m].at, a->value[m].len);
}

uint32_t answer_u32(const struct answer *a, enum answer_member m, uint32_t max)
{
    struct span s = answer_text(a, m);
    uint32_t v = 0;
    if (s.n > 10)
        return 0;
    for (size_t i = 0; i < s.n; i++) {
        uint32_t digit = (uint32_t)(s.p[i] - '0');
        if (digit > 9 || v > 429496728u)
            return 0;
        v = v * 10 + digit;
    }
    return v <= max ? v : 0;
}
