/* Auth: whom the service answers (security.md 3.1): Host rule, protected mode beyond loopback,
 * proxies. Pure. */
#ifndef API_AUTH_H
#define API_AUTH_H

#include <sys/socket.h>

#include "config/config.h"

enum { AUTH_PEER_BYTES = 64 };

typedef struct {
    const struct sockaddr_storage *peer; /* of the connection */
    const char *host;                    /* the Host header */
    const char *const *forwarded_for;    /* every X-Forwarded-For and Forwarded value, NULL-ended */
} AuthRequest;

/* FORBIDDEN and why (with the setting's name). `client`: the address it is from, behind a trusted
 * proxy the one that the proxy names. */
bool auth_may_ask(
    const Config *config, const AuthRequest *ask, char client[AUTH_PEER_BYTES], Err *e) MUST_CHECK;

bool auth_is_loopback(const struct sockaddr_storage *address);
bool auth_is_private(const struct sockaddr_storage
        *address); /* loopback, RFC 1918, 100.64/10, fc00::/7, fe80::/10 */
bool auth_is_trusted_proxy(const Config *config, const struct sockaddr_storage *address);

#endif
