#include "flow/batch.h"

#include <string.h>

static const char *const names[COLUMN_TYPES_COUNT] = {
#define X(id, name, as) [COLUMN_##id] = name,
    COLUMN_TYPES(X)
#undef X
};

const char *
column_type_name(ColumnType type)
{
    return type < COLUMN_TYPES_COUNT ? names[type] : "unknown";
}

bool
column_type_of(const char *name, ColumnType *type)
{
    for (size_t i = 0; i < COLUMN_TYPES_COUNT; i++)
        if (strcmp(names[i], name) == 0) {
            *type = (ColumnType)i;
            return true;
        }
    return false;
}
