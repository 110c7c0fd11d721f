/* -p: filters of an export, from what people type to what the server reads (it takes no text for
 * a number). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "cli/cli_in.h"

enum { PARAMS_BYTES_MAX = 64 << 10, DEPTH_MAX = 32, READ_BYTES = 16 << 10 };

bool
cli_read_file(const char *path, size_t bytes_max, Buf *to, Err *e)
{
    bool is_input = strcmp(path, "-") == 0;
    int fd = is_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    const char *name = is_input ? "standard input" : path;
    bool ok = false;

    *to = buf_new(bytes_max + READ_BYTES);
    if (fd < 0)
        return fail(e, USAGE, "cannot read %s: %m", path);
    for (;;) {
        char *room = buf_reserve(to, READ_BYTES);
        ssize_t got = room ? read(fd, room, READ_BYTES) : 0;

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            fail(e, USAGE, "cannot read %s: %m", name);
        else if (!room || to->bytes + (size_t)got > bytes_max)
            fail(e, USAGE, "%s is longer than %zu bytes", name, bytes_max);
        else if (got > 0) {
            buf_wrote(to, (size_t)got);
            continue;
        } else
            ok = true;
        break;
    }
    if (!is_input)
        close(fd);
    return ok;
}

/* A number or a truth value that stands alone; NULL: the text is none. */
static json_t *
parse_scalar(const char *text)
{
    Err ignored = {0};
    json_t *value = json_parse(text, strlen(text), 1, &ignored);

    if (json_is_number(value) || json_is_boolean(value))
        return value;
    json_decref(value);
    return NULL;
}

/* What the type declares; a text that does not fit stays one, for the checker to complain about. */
static json_t *
typed_value(const ExportType *type, const char *name, const char *text)
{
    const TypeParam *param = NULL;
    json_t *value = NULL;
    Err ignored = {0};

    for (size_t i = 0; type && i < type->params; i++)
        if (strcmp(type->param[i].name, name) == 0)
            param = &type->param[i];
    if (!param)
        return json_string(text);
    switch (param->type) {
    case COLUMN_BOOL:
        if ((value = parse_scalar(text)) && !json_is_boolean(value)) {
            json_decref(value);
            value = NULL;
        }
        break;
    case COLUMN_INT16:
    case COLUMN_INT32:
    case COLUMN_INT64:
    case COLUMN_FLOAT:
    case COLUMN_DOUBLE:
        if ((value = parse_scalar(text)) && !json_is_number(value)) {
            json_decref(value);
            value = NULL;
        }
        break;
    case COLUMN_JSON:
        value = json_parse(text, strlen(text), DEPTH_MAX, &ignored);
        break;
    case COLUMN_DECIMAL:
    case COLUMN_TEXT:
    case COLUMN_BYTES:
    case COLUMN_DATE:
    case COLUMN_TIME:
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
    case COLUMN_INTERVAL:
    case COLUMN_UUID:
    case COLUMN_TYPES_COUNT:
        break;
    }
    return value ? value : json_string(text);
}

/* NAME=VALUE and NAME:=JSON; false if it is neither. `value` is what stands behind. */
static bool
split(const char *text, char name[PARAM_NAME_BYTES], const char **value, bool *is_json)
{
    const char *equals = strchr(text, '=');
    size_t bytes;

    if (!equals)
        return false;
    bytes = (size_t)(equals - text);
    *value = equals + 1;
    *is_json = bytes > 0 && text[bytes - 1] == ':';
    bytes -= *is_json;
    if (bytes == 0 || bytes >= PARAM_NAME_BYTES)
        return false;
    memcpy(name, text, bytes);
    name[bytes] = '\0';
    return true;
}

bool
param_parse(const char *text, const ExportType *type, json_t *params, Err *e)
{
    char name[PARAM_NAME_BYTES];
    const char *given;
    bool is_json;
    Err why = {0};
    json_t *value;

    if (!split(text, name, &given, &is_json))
        return fail(e, USAGE, "-p: expected NAME=VALUE or NAME:=JSON, not \"%.64s\"", text);
    if (json_object_get(params, name))
        return fail(e, USAGE, "-p: %s is given twice", name);
    if (!text_is_utf8(text, strlen(text)))
        return fail(e, USAGE, "-p: %s is not UTF-8", name);
    value = is_json ? json_parse(given, strlen(given), DEPTH_MAX, &why)
                    : typed_value(type, name, given);
    if (is_json && !value)
        return fail(e, USAGE, "-p: %s is not JSON: %s", name, err_root(&why));
    if (json_object_set_new(params, name, value) != 0)
        return fail(e, MEMORY_LIMIT, "no memory for the parameters");
    return true;
}

const char *
param_text(const Cli *c, const char *wanted)
{
    const char *const *list = cli_flags(c, "param");
    char name[PARAM_NAME_BYTES];
    const char *value;
    bool is_json;

    for (; list && *list; list++)
        if (split(*list, name, &value, &is_json) && !is_json && strcmp(name, wanted) == 0)
            return value;
    return NULL;
}

json_t *
param_other_reading(const json_t *value, const char *text)
{
    return json_is_string(value) ? parse_scalar(text) : json_string(text);
}

bool
cli_read_object(const char *path, json_t **object, Err *e)
{
    const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
    Err why = {0};
    Buf text;
    bool ok = cli_read_file(path, PARAMS_BYTES_MAX, &text, e);

    *object = ok ? json_parse(text.data, text.bytes, DEPTH_MAX, &why) : NULL;
    if (ok && !*object)
        ok = fail(e, USAGE, "%s: %s", name, err_root(&why));
    if (ok && !json_is_object(*object))
        ok = fail(e, USAGE, "%s: expected a JSON object", name);
    if (!ok) {
        json_decref(*object);
        *object = NULL;
    }
    buf_free(&text);
    return ok;
}

bool
cli_params(const Cli *c, const ExportType *type, json_t **params, Err *e)
{
    const char *const *given = cli_flags(c, "param");
    const char *path = cli_flag(c, "params-file");
    json_t *typed = json_object();
    bool ok = given && typed;

    *params = NULL;
    if (!ok)
        fail(e, MEMORY_LIMIT, "no memory for the parameters");
    for (; ok && *given; given++)
        ok = param_parse(*given, type, typed, e);
    if (ok && path && (ok = cli_read_object(path, params, e)))
        ok = json_object_update(*params, typed) == 0 ||
             fail(e, MEMORY_LIMIT, "no memory for the parameters");
    else if (ok)
        *params = json_incref(typed);
    json_decref(typed);
    if (!ok) {
        json_decref(*params);
        *params = NULL;
    }
    return ok;
}
