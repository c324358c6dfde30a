/* tests/conformance/peers/mapped.c - set before the C library of a client (LD_PRELOAD): the host MAPPED_NAME
 * is 127.0.0.1, and its ports are others, MAPPED_PORTS="443=40001,8883=40002", as a router would have it. For
 * clients that insist on their ports. Built and used by sources.test.mjs. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
            RTLD_NEXT, "getaddrinfo");
    const char *mapped = getenv("MAPPED_NAME");
    return real(name && mapped && !strcmp(name, mapped) ? "127.0.0.1" : name, service, hints, out);
}

static unsigned port_of(unsigned port)
{
    const char *p = getenv("MAPPED_PORTS");
    while (p && *p) {
        char *end;
        unsigned from = (unsigned)strtoul(p, &end, 10), to = (unsigned)strtoul(end + 1, &end, 10);
        if (from == port)
            return to;
        p = *end ? end + 1 : end;
    }
    return port;
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
    int (*real)(int, const struct sockaddr *, socklen_t) =
        (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    struct sockaddr_in in;
    if (to->sa_family != AF_INET || len < sizeof in)
        return real(fd, to, len);
    memcpy(&in, to, sizeof in);
    if (in.sin_addr.s_addr == htonl(INADDR_LOOPBACK))
        in.sin_port = htons((uint16_t)port_of(ntohs(in.sin_port)));
    return real(fd, (const struct sockaddr *)&in, sizeof in);
}
