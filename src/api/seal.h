/* Seal: SHA-256 of texts, and marks on what is given out and must come back unchanged. */
#ifndef API_SEAL_H
#define API_SEAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { SEAL_BYTES = 32 };

/* 64 lower-case hex digits. */
bool seal_hash(const char *text, size_t bytes, char hex[2 * SEAL_BYTES + 1], Err *e) MUST_CHECK;

/* HMAC-SHA256 (RFC 2104) under a key that is made from `secret` for this `label` alone. */
bool seal_make(const char *secret, const char *label, const char *text, size_t bytes,
    uint8_t seal[SEAL_BYTES], Err *e) MUST_CHECK;

/* In constant time. */
bool seal_equals(const uint8_t *a, const uint8_t *b, size_t bytes);

#endif
