/* What this program calls itself. ROWFERRY_COMMIT comes from the build. */
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#define ROWFERRY_VERSION "0.1.0"
#ifndef ROWFERRY_COMMIT
#define ROWFERRY_COMMIT "unknown"
#endif

#endif
