/* What this program calls itself. */
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#define ROWFERRY_VERSION "0.1.0"

/* The commit it was built from, 12 digits; "unknown" outside of a repository. Static. */
const char *version_commit(void);

#endif
