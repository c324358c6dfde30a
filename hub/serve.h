/* hub/serve.h - the life of a serving hub, from its directory to the exit code. */
#ifndef ROOST_HUB_SERVE_H
#define ROOST_HUB_SERVE_H

enum exit_code { /* docs/operations.md and roostd(8) list them */
                 EXIT_OK = 0,
                 EXIT_FAILED = 1,
                 EXIT_USAGE = 2,
                 EXIT_CONFIG = 3,
                 EXIT_DIR = 4,
                 EXIT_IN_USE = 5,
                 EXIT_NO_LISTENER = 6
};

/* Until SIGTERM or SIGINT; SIGHUP reloads. Logs to stderr. Call it before any thread is made. */
enum exit_code serve(const char *dir);

#endif
