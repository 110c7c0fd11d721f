/*
 * Negotiate: what a request's headers say about the answer it wants. Pure readers of header values:
 * Prefer (RFC 7240), Accept and Content-Type (RFC 9110), Idempotency-Key.
 */
#ifndef API_NEGOTIATE_H
#define API_NEGOTIATE_H

#include <stdbool.h>

#include "base/buf.h"

enum { PREFER_WAIT_S_MAX = 30, IDEMPOTENCY_KEY_BYTES = 255 };

/* What of Prefer this service knows; the rest is ignored, as RFC 7240 says. */
typedef struct {
    bool respond_async;
    bool strict;                   /* handling=strict */
    bool minimal;                  /* return=minimal */
    bool waits;                    /* wait=N: */
    int wait_s;                    /* at most PREFER_WAIT_S_MAX */
    bool has_handling, has_return; /* the first one counts */
} Preferences;

/* Reads one Prefer header; several add up. */
void prefer_read(const char *value, Preferences *to);

/* "respond-async, wait=5": for Preference-Applied. Empty for none. */
void prefer_write(const Preferences *preferences, Buf *to);

/* Does Accept let JSON through? The most exact of its ranges decides; an empty header lets all. */
bool accept_takes_json(const char *accept);

/* application/json or application/…+json, whatever its parameters. */
bool media_is_json(const char *content_type);

/* A structured-field string ("…") or bare: 1 to 255 visible ASCII characters. False if not. */
bool idempotency_key_read(const char *value, char key[IDEMPOTENCY_KEY_BYTES + 1]);

#endif
