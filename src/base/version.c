#include "base/version.h"

#ifndef ROWFERRY_COMMIT
#define ROWFERRY_COMMIT "unknown"
#endif

const char *
version_commit(void)
{
    return ROWFERRY_COMMIT;
}
