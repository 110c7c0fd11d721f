/*
 * Auth: whom the service answers (security.md 3.1): the Host rule against DNS rebinding, protected
 * mode beyond loopback, proxies. Pure.
 */
#ifndef API_AUTH_H
#define API_AUTH_H

#include <sys/socket.h>

#include "config/config.h"
#include "net/address.h"

typedef enum {
    AUTH_LOCAL,     /* listens on loopback: open, with the Host rule */
    AUTH_PROTECTED, /* beyond, ROWFERRY_AUTH not set: private peers only, with the Host rule */
    AUTH_OPEN       /* beyond, `none` written out: whoever can connect */
} AuthMode;

AuthMode auth_mode(const Config *config);

enum { AUTH_PEER_BYTES = ADDRESS_TEXT_BYTES };

typedef struct {
    const struct sockaddr_storage *peer; /* of the connection */
    const char *host;                    /* the Host header, its port too */
    const char *const *forwarded_for;    /* every X-Forwarded-For value in order, NULL-ended */
    const char *const *forwarded;        /* every Forwarded value (RFC 7239), NULL-ended */
} AuthRequest;

/*
 * FORBIDDEN and why (with the setting's name). `client`: the address it is from: the connection's,
 * or behind a trusted proxy the last one of X-Forwarded-For that is no trusted proxy itself. Filled
 * in either case.
 */
bool auth_may_ask(
    const Config *config, const AuthRequest *ask, char client[AUTH_PEER_BYTES], Err *e) MUST_CHECK;

/* IPv4 within IPv6 (::ffff:0:0/96) counts as what it is; a Unix socket as loopback. */
bool auth_is_loopback(const struct sockaddr_storage *address);

/* As address_is_private() has it. */
bool auth_is_private(const struct sockaddr_storage *address);

/* Is `client`, as auth_may_ask() found it, loopback or private, and nobody in X-Forwarded-For or
 * Forwarded public? A proxy that nobody told us of is private itself; whom it speaks for is not. */
bool auth_comes_from_private(const AuthRequest *ask, const char *client);

/* In ROWFERRY_TRUSTED_PROXIES: addresses, or networks ("10.0.0.0/8"). */
bool auth_is_trusted_proxy(const Config *config, const struct sockaddr_storage *address);

/* "10.0.0.1", "[::1]", "[::1]:80", "10.0.0.1:80": an address, its port aside. False: none. */
bool auth_address(const char *text, size_t bytes, struct sockaddr_storage *address);

/* Returns `to`: "10.0.0.1"; IPv4 within IPv6 as IPv4. */
char *auth_address_text(const struct sockaddr_storage *address, char to[AUTH_PEER_BYTES]);

#endif
