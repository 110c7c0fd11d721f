/*
 * New file: written under another name in the same folder, and there under its own, whole, when it
 * is published. Never replaces anything. What a killed process left behind the next one removes.
 */
#ifndef CLI_NEWFILE_H
#define CLI_NEWFILE_H

#include <limits.h>

#include "base/err.h"

typedef struct {
    int folder, fd;          /* fd: for writing; the caller may use it, not close it */
    char path[PATH_MAX];     /* of the unfinished file */
    char name[NAME_MAX + 1]; /* as it will be called */
    const char *unfinished;  /* the last part of `path` */
} NewFile;

/*
 * Mode 0600. With `folders` the folders on the way are made where they are missing (0700). EXISTS
 * if there is such a file already; USAGE if the path cannot be one; STORAGE_FULL, STORAGE_DENIED,
 * STORAGE_UNAVAILABLE.
 */
bool newfile_create(const char *path, bool folders, NewFile *f, Err *e) MUST_CHECK;

/* On the disk, then visible. EXISTS if somebody else was first. Either way `f` is done with. */
bool newfile_publish(NewFile *f, Err *e) MUST_CHECK;

void newfile_discard(NewFile *f);

/* The error that errno says, about a file: "writing FILE: …". Always false. */
bool newfile_fail(const char *doing, const char *path, int error, Err *e);

#endif
