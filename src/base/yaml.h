/*
 * YAML: a file becomes a json_t and a list of lines. Seam of libyaml (its events: there an alias
 * can be refused before anything follows it).
 *
 * Refused, with file and line: aliases, anchors, tags, a second document, a key twice, a key that
 * is no text, depth over 16, files over 256 KiB, bytes that are not UTF-8. Plain scalars follow the
 * core schema of YAML 1.2 (null, true, false, integers, reals); quoted ones are text.
 */
#ifndef BASE_YAML_H
#define BASE_YAML_H

#include <jansson.h>

#include "base/arena.h"
#include "base/err.h"

typedef struct Yaml Yaml;

/* Reads a file, or `text` under that name (built-in definitions). CONFIG_INVALID with file and
 * line. */
Yaml *yaml_read(const char *path, Arena *arena, Err *e) MUST_CHECK;
Yaml *yaml_parse(const char *text, size_t bytes, const char *name, Arena *arena, Err *e) MUST_CHECK;

const json_t *yaml_value(const Yaml *y); /* lives until yaml_close */
const char *yaml_name(const Yaml *y);
void yaml_close(Yaml *y); /* NULL is fine */

const char *yaml_library_version(void);

/* The line of the node at this JSON pointer (of its key, for a member); of the nearest parent if
 * unknown. */
unsigned yaml_line(const Yaml *y, const char *pointer);

#endif
