/* base/log.h - one line an event: level, fixed name, pairs. `warn conn.proto device=d42 err=proto`.
 * error: a person must act; warn: refused; info: a state changed; debug: for whoever looks closely.
 * Never a payload, token or key. Any thread. */
#ifndef ROOST_BASE_LOG_H
#define ROOST_BASE_LOG_H

#include <stdio.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

#if defined(__GNUC__)
#define LOG_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define LOG_PRINTF(a, b)
#endif

/* Lines go to stderr; with a journal behind it, each begins with its <priority>. */
void log_init(enum log_level max, FILE *to);
void log_set_level(enum log_level max);
/* `event` is a fixed dotted name, `pairs` a printf format of key=value words ("" for none).
 * Control characters in the formatted text are replaced, so a peer cannot forge a line. */
void log_event(enum log_level level, const char *event, const char *pairs, ...) LOG_PRINTF(3, 4);

#define log_error(event, ...) log_event(LOG_LEVEL_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...)  log_event(LOG_LEVEL_WARN, event, __VA_ARGS__)
#define log_info(event, ...)  log_event(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_event(LOG_LEVEL_DEBUG, event, __VA_ARGS__)

#endif
