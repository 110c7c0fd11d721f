/*
 * Cursor: where the next page of a user's files begins: behind this file. Sealed, so that only what
 * this service gave out, for this user, comes back. Pure.
 */
#ifndef API_CURSOR_H
#define API_CURSOR_H

#include "base/buf.h"
#include "config/config.h"
#include "storage/storage.h"

typedef struct {
    int64_t modified_us;
    char key[STORAGE_KEY_BYTES + 1];
} Cursor;

/* Appends its text: lower-case hex digits. Sealed with the newest of the config's link secrets. */
bool cursor_write(
    const Cursor *cursor, const char *user_id, const Config *config, Buf *to, Err *e) MUST_CHECK;

/* INVALID_REQUEST for what was altered, or made for another user, or sealed with a secret that is
 * no longer known. */
bool cursor_read(
    const char *text, const char *user_id, const Config *config, Cursor *cursor, Err *e) MUST_CHECK;

#endif
