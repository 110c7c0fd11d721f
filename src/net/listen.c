#include "net/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

static int
open_one(const struct addrinfo *at)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, error;

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

int
listen_open(const char *host, unsigned port, Err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found = NULL;
    int fd = -1, error;
    char port_text[8];

    snprintf(port_text, sizeof port_text, "%u", port);
    if ((error = getaddrinfo(host, port_text, &hints, &found)) != 0) {
        fail(e, CONFIG_INVALID, "host: %s: %s", host, gai_strerror(error));
        return -1;
    }
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next)
        fd = open_one(at);
    if (fd < 0)
        fail(e, INTERNAL, "cannot listen on %s port %s: %m%s", host, port_text,
            errno == EADDRINUSE      ? ": another program has it; --port takes another"
            : errno == EADDRNOTAVAIL ? ": --host must be an address of this machine"
            : errno == EACCES        ? ": ports below 1024 need CAP_NET_BIND_SERVICE"
                                     : "");
    freeaddrinfo(found);
    return fd;
}
