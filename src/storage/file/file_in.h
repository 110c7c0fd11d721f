/* What the files of the local store share. */
#ifndef STORAGE_FILE_FILE_IN_H
#define STORAGE_FILE_FILE_IN_H

#include "storage/storage.h"

enum { LINK_KEY_BYTES = 32 };

extern const StorageKind storage_file;

typedef struct {
    Storage base;
    Arena *arena; /* holds this struct too; ends with the handle */
    const char *dir;
    int root;    /* DATA/files */
    int uploads; /* DATA/files/.uploads */
    int64_t bytes_max;
    unsigned link_keys;
    uint8_t link_key[STORAGE_URL_KEYS_MAX][LINK_KEY_BYTES];
} FileStorage;

/* link.c: the key of the links from a secret, by HKDF-SHA256 (RFC 5869) under the label
 * rowferry/files/v1. */
bool link_key_make(const char *secret, uint8_t key[LINK_KEY_BYTES], Err *e) MUST_CHECK;

/* link.c: StorageKind.sign, and the part of fetch that comes before any look at the disk. */
bool link_sign(Storage *s, const char *key, const SignSpec *spec, char *url, size_t url_bytes,
    int64_t *expires_wall_s, Err *e);
bool link_check(const FileStorage *f, const char *target, int64_t now_wall_s,
    char key[STORAGE_KEY_BYTES + 1], char name[256], Err *e) MUST_CHECK;

#endif
