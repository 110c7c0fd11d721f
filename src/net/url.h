/*
 * URL: a text taken apart (RFC 3986), for those who connect and those who check what they were
 * given. Pure.
 */
#ifndef NET_URL_H
#define NET_URL_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum { URL_BYTES_MAX = 8192 };

/* All texts are in the arena; percent-decoded but path and query, which stay as they came. */
typedef struct {
    const char *scheme;   /* in lower case */
    const char *user;     /* NULL: none */
    const char *password; /* NULL: none */
    const char *host;     /* in lower case, without brackets; "" if there is none */
    bool host_is_ipv6;    /* it stood in brackets */
    unsigned port;        /* 0: none */
    const char *path;     /* "" or from the '/' on; of sqlite: all there is */
    const char *query;    /* NULL: none; without the '?' */
} Url;

/* CONFIG_INVALID says what is wrong, without the text (it may hold a password). `sqlite:` has only
 * a path ("sqlite:/srv/a.db", "sqlite:///srv/a.db"); no other scheme does without "//". A fragment
 * is refused. */
bool url_parse(const char *text, Arena *arena, Url *url, Err *e) MUST_CHECK;

/* Writes a URL for people and logs: without user, password, query; of what is no URL only "?". */
void url_show(const char *text, Buf *to);

#endif
