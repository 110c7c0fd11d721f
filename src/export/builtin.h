/* The definitions that ship (types/), built into the program by tools/embed.awk. */
#ifndef EXPORT_BUILTIN_H
#define EXPORT_BUILTIN_H

typedef struct {
    const char *name; /* "employee_metrics.yaml"; NULL ends the list */
    const char *text;
} BuiltinType;

extern const BuiltinType builtin_types[];

#endif
