/* Download: the file of an export, verified while it comes. */
#ifndef CLI_DOWNLOAD_H
#define CLI_DOWNLOAD_H

#include "cli/remote.h"

/*
 * `status`: S2's object of a completed export. `to`: NULL or "" for the last part of its key in the
 * current folder, a folder, a file, or "-". Never overwrites; mode 0600. A cut connection is taken
 * up again; what did not become whole is removed (with --resume it is kept, and one that is there
 * is continued). Says where it is on standard output, unless the file itself goes there.
 *
 * NOT_READY, EXPORT_FAILED, FILE_GONE, EXISTS, VERIFY_FAILED (size or SHA-256, unless --no-verify),
 * STORAGE_FULL, STORAGE_DENIED, SERVER_UNREACHABLE, WAITED_TOO_LONG, INTERRUPTED.
 */
bool download_save(Remote *r, const json_t *status, const char *to, Err *e) MUST_CHECK;

/* The last part of a key, as the name of a file; NULL if it cannot be one. Pure. */
const char *download_name(const char *key);

#endif
