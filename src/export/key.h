/* Key: names of objects (product.md). Pure. */
#ifndef EXPORT_KEY_H
#define EXPORT_KEY_H

#include "storage/storage.h"

/* exports/{user_id}/{export_type}_{YYYYMMDD}_{HHMMSS}_{short id}{extension}; always the same for
 * one task. */
bool key_make(const char *user_id, const char *export_type, int64_t started_us, const char *task_id,
    const char *extension, char key[STORAGE_KEY_BYTES + 1], Err *e) MUST_CHECK;

/* First 8 hex digits of a UUID; of the SHA-256 of any other id. */
void key_short_id(const char *task_id, char to[9]);

/* Whose file: points into `key`, `count` bytes; false if the key is not of the form
 * exports/{user}/{file}. */
bool key_user(const char *key, const char **user, size_t *count);
const char *key_file(const char *key); /* the last part */

#endif
