#include "base/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "base/buf.h"
#include "base/text.h"

enum { FILE_BYTES_MAX = 256 << 10, DEPTH_MAX = 16 };

/* Where each node of the value stands; a tree of its own, because a json_t has no room for a line.
 */
typedef struct Place Place;

struct Place {
    const char *key; /* of a member; NULL: an element */
    unsigned line;
    Place *child, *last_child, *next;
};

struct Yaml {
    json_t *value;
    const char *name;
    Place top;
};

typedef struct {
    yaml_parser_t parser;
    const char *name;
    Arena *arena;
    Err *e;
} Reader;

static unsigned
line_of(const yaml_event_t *event)
{
    return (unsigned)event->start_mark.line + 1;
}

/* Of a tab in the indentation libyaml says only "cannot start any token"; the character is still in
 * its buffer. */
static bool
is_at_tab(const yaml_parser_t *parser)
{
    return parser->error == YAML_SCANNER_ERROR && parser->unread > 0 &&
           *parser->buffer.pointer == '\t';
}

/* libyaml reads ahead by one token, so its problem has a mark of its own. */
static bool
next_event(Reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return true;
    if (r->parser.error == YAML_MEMORY_ERROR)
        return fail(r->e, MEMORY_LIMIT, "no memory to read %s", r->name);
    return fail(r->e, CONFIG_INVALID, "%s:%zu: %s", r->name, r->parser.problem_mark.line + 1,
        is_at_tab(&r->parser) ? "a tab: YAML is indented with spaces"
        : r->parser.problem   ? r->parser.problem
                              : "this is not YAML");
}

/* Whole numbers of the core schema: decimal with sign, 0o17, 0x1f. 0: no number, -1: too large. */
static int
read_integer(const char *text, int64_t *number)
{
    const char *digits = text + (*text == '-' || *text == '+');
    int base = 10;
    char *end;

    if (digits == text && digits[0] == '0' && (digits[1] == 'o' || digits[1] == 'x')) {
        base = digits[1] == 'o' ? 8 : 16;
        digits += 2;
    }
    if (!*digits || digits[strspn(digits, base == 16  ? "0123456789abcdefABCDEF"
                                          : base == 8 ? "01234567"
                                                      : "0123456789")])
        return 0;
    errno = 0;
    *number = strtoll(base == 10 ? text : digits, &end, base);
    return errno == ERANGE ? -1 : 1;
}

/* [-+]? ( .5 | 1 | 1. | 1.5 ) ( e[-+]?9 )? */
static bool
looks_real(const char *text)
{
    size_t whole, fraction = 0, exponent;

    text += *text == '-' || *text == '+';
    whole = strspn(text, "0123456789");
    text += whole;
    if (*text == '.') {
        fraction = strspn(++text, "0123456789");
        text += fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '-' || *text == '+';
        if ((exponent = strspn(text, "0123456789")) == 0)
            return false;
        text += exponent;
    }
    return !*text;
}

static bool
is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

static bool
is_infinite_word(const char *text)
{
    static const char *const words[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};

    return is_one_of(text + (*text == '-' || *text == '+'), words);
}

/* A plain scalar by the core schema of YAML 1.2; NULL without memory or for what JSON cannot hold.
 */
static json_t *
plain_value(Reader *r, const char *text, unsigned line)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    int64_t number;
    double real;
    int whole;

    if (is_one_of(text, nulls))
        return json_null();
    if (is_one_of(text, trues))
        return json_true();
    if (is_one_of(text, falses))
        return json_false();
    whole = read_integer(text, &number);
    if (whole > 0)
        return json_integer(number);
    if (whole < 0) {
        fail(r->e, CONFIG_INVALID, "%s:%u: the number %.64s has more than 64 bits", r->name, line,
            text);
        return NULL;
    }
    if (!looks_real(text) && !is_infinite_word(text))
        return json_string(text);
    real = looks_real(text) ? strtod(text, NULL) : INFINITY;
    if (!isfinite(real)) {
        fail(r->e, CONFIG_INVALID, "%s:%u: %.64s is not a finite number", r->name, line, text);
        return NULL;
    }
    return json_real(real);
}

static bool
refuse_marks(Reader *r, const yaml_char_t *anchor, const yaml_char_t *tag, unsigned line)
{
    if (anchor)
        return fail(
            r->e, CONFIG_INVALID, "%s:%u: anchors (&%.64s) are not taken", r->name, line, anchor);
    if (tag)
        return fail(r->e, CONFIG_INVALID, "%s:%u: tags (%.64s) are not taken", r->name, line, tag);
    return true;
}

static json_t *
scalar_value(Reader *r, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    unsigned line = line_of(event), before = r->e->links;
    json_t *value;

    if (!refuse_marks(r, event->data.scalar.anchor, event->data.scalar.tag, line))
        return NULL;
    if (strlen(text) != event->data.scalar.length) {
        fail(r->e, CONFIG_INVALID, "%s:%u: a text holds a NUL", r->name, line);
        return NULL;
    }
    value = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? plain_value(r, text, line)
                                                                : json_string(text);
    if (!value && r->e->links == before)
        fail(r->e, CONFIG_INVALID, "%s:%u: this text is not UTF-8", r->name, line);
    return value;
}

static Place *
place_add(Reader *r, Place *parent, const char *key, unsigned line)
{
    Place *place = arena_alloc(r->arena, sizeof *place, r->e);

    if (!place)
        return NULL;
    place->line = line;
    if (key && !(place->key = arena_text(r->arena, key, r->e)))
        return NULL;
    if (parent->last_child)
        parent->last_child->next = place;
    else
        parent->child = place;
    parent->last_child = place;
    return place;
}

static json_t *read_node(Reader *r, yaml_event_t *event, Place *place, unsigned depth);

static bool
read_sequence(Reader *r, json_t *array, Place *place, unsigned depth)
{
    for (;;) {
        yaml_event_t event;
        Place *element;
        json_t *value;

        if (!next_event(r, &event))
            return false;
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return true;
        }
        element = place_add(r, place, NULL, line_of(&event));
        value = element ? read_node(r, &event, element, depth) : NULL;
        yaml_event_delete(&event);
        if (!value || json_array_append_new(array, value) != 0)
            return value && fail(r->e, MEMORY_LIMIT, "no memory to read %s", r->name);
    }
}

/* The key in `event`; NULL if it is not one. */
static const char *
read_key(Reader *r, const yaml_event_t *event, const json_t *object)
{
    const char *key = NULL;
    json_t *value;

    if (event->type != YAML_SCALAR_EVENT) {
        fail(r->e, CONFIG_INVALID, "%s:%u: a key must be text", r->name, line_of(event));
        return NULL;
    }
    if (!(value = scalar_value(r, event)))
        return NULL;
    if (!json_is_string(value))
        fail(r->e, CONFIG_INVALID, "%s:%u: a key must be text; put %.64s in quotes", r->name,
            line_of(event), (const char *)event->data.scalar.value);
    else if (json_object_get(object, json_string_value(value)))
        fail(r->e, CONFIG_INVALID, "%s:%u: the key %.64s stands here twice", r->name,
            line_of(event), json_string_value(value));
    else
        key = (const char *)event->data.scalar.value;
    json_decref(value);
    return key;
}

static bool
read_mapping(Reader *r, json_t *object, Place *place, unsigned depth)
{
    for (;;) {
        yaml_event_t key_event, event;
        const char *key;
        Place *member;
        json_t *value = NULL;

        if (!next_event(r, &key_event))
            return false;
        if (key_event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&key_event);
            return true;
        }
        if ((key = read_key(r, &key_event, object)) &&
            (member = place_add(r, place, key, line_of(&key_event))) && next_event(r, &event)) {
            value = read_node(r, &event, member, depth);
            yaml_event_delete(&event);
        }
        if (value && json_object_set_new(object, key, value) != 0) {
            value = NULL;
            fail(r->e, MEMORY_LIMIT, "no memory to read %s", r->name);
        }
        yaml_event_delete(&key_event);
        if (!value)
            return false;
    }
}

static json_t *
read_node(Reader *r, yaml_event_t *event, Place *place, unsigned depth)
{
    bool is_mapping = event->type == YAML_MAPPING_START_EVENT;
    unsigned line = line_of(event);
    json_t *value;

    if (event->type == YAML_SCALAR_EVENT)
        return scalar_value(r, event);
    if (event->type == YAML_ALIAS_EVENT) {
        fail(r->e, CONFIG_INVALID, "%s:%u: aliases (*%.64s) are not taken", r->name, line,
            event->data.alias.anchor);
        return NULL;
    }
    if (!is_mapping && event->type != YAML_SEQUENCE_START_EVENT) {
        fail(r->e, CONFIG_INVALID, "%s:%u: a value is missing", r->name, line);
        return NULL;
    }
    if (is_mapping ? !refuse_marks(
                         r, event->data.mapping_start.anchor, event->data.mapping_start.tag, line)
                   : !refuse_marks(r, event->data.sequence_start.anchor,
                         event->data.sequence_start.tag, line))
        return NULL;
    if (depth == DEPTH_MAX) {
        fail(r->e, CONFIG_INVALID, "%s:%u: deeper than %d levels", r->name, line, DEPTH_MAX);
        return NULL;
    }
    if (!(value = is_mapping ? json_object() : json_array())) {
        fail(r->e, MEMORY_LIMIT, "no memory to read %s", r->name);
        return NULL;
    }
    if (is_mapping ? read_mapping(r, value, place, depth + 1)
                   : read_sequence(r, value, place, depth + 1))
        return value;
    json_decref(value);
    return NULL;
}

/* Goes on to the next event of this type. */
static bool
expect_event(Reader *r, yaml_event_type_t type, const char *what)
{
    yaml_event_t event;
    unsigned line;
    bool ok;

    if (!next_event(r, &event))
        return false;
    ok = event.type == type;
    line = line_of(&event);
    yaml_event_delete(&event);
    return ok || fail(r->e, CONFIG_INVALID, "%s:%u: %s", r->name, line, what);
}

static bool
read_document(Reader *r, Yaml *y)
{
    yaml_event_t event;

    if (!expect_event(r, YAML_STREAM_START_EVENT, "this is not YAML") || !next_event(r, &event))
        return false;
    if (event.type == YAML_STREAM_END_EVENT) { /* only comments, or nothing: an empty document */
        yaml_event_delete(&event);
        y->value = json_null();
        return true;
    }
    yaml_event_delete(&event);
    if (!next_event(r, &event))
        return false;
    y->top.line = line_of(&event);
    y->value = read_node(r, &event, &y->top, 0);
    yaml_event_delete(&event);
    return y->value && expect_event(r, YAML_DOCUMENT_END_EVENT, "more than one value") &&
           expect_event(r, YAML_STREAM_END_EVENT, "only one document is taken");
}

Yaml *
yaml_parse(const char *text, size_t bytes, const char *name, Arena *arena, Err *e)
{
    Reader r = {.arena = arena, .e = e};
    Yaml *y = arena_alloc(arena, sizeof *y, e);
    bool ok;

    if (!y || !(y->name = arena_text(arena, name, e)))
        return NULL;
    r.name = y->name;
    y->top.line = 1;
    if (bytes > FILE_BYTES_MAX) {
        fail(e, CONFIG_INVALID, "%s: larger than %d KiB", name, FILE_BYTES_MAX >> 10);
        return NULL;
    }
    if (!text_is_utf8(text, bytes)) {
        fail(e, CONFIG_INVALID, "%s: not UTF-8", name);
        return NULL;
    }
    if (!yaml_parser_initialize(&r.parser)) {
        fail(e, MEMORY_LIMIT, "no memory to read %s", name);
        return NULL;
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    ok = read_document(&r, y);
    yaml_parser_delete(&r.parser);
    if (ok)
        return y;
    yaml_close(y);
    return NULL;
}

/* What the operator writes is trusted; so nobody else may have a hand in it. */
static bool
check_owner(int fd, const char *path, Err *e)
{
    struct stat s;

    if (fstat(fd, &s) != 0)
        return fail(e, CONFIG_INVALID, "%s: %m", path);
    if (!S_ISREG(s.st_mode))
        return fail(e, CONFIG_INVALID, "%s: not a regular file", path);
    if (s.st_uid != 0 && s.st_uid != geteuid())
        return fail(e, CONFIG_INVALID, "%s: belongs to user %ju; it must be root's or ours", path,
            (uintmax_t)s.st_uid);
    if (s.st_mode & S_IWOTH)
        return fail(e, CONFIG_INVALID, "%s: writable by everybody; chmod o-w it", path);
    return true;
}

Yaml *
yaml_read(const char *path, Arena *arena, Err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    Buf text = buf_new(FILE_BYTES_MAX + 1);
    Yaml *y = NULL;
    ssize_t got = -1;

    if (fd < 0) {
        fail(e, CONFIG_INVALID, "%s: %m", path);
        return NULL;
    }
    if (!check_owner(fd, path, e))
        goto out;
    while (text.bytes <= FILE_BYTES_MAX) {
        char *to = buf_reserve(&text, FILE_BYTES_MAX + 1 - text.bytes);

        if (!to)
            break;
        got = read(fd, to, FILE_BYTES_MAX + 1 - text.bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        buf_wrote(&text, (size_t)got);
    }
    if (got < 0 && !text.failed)
        fail(e, CONFIG_INVALID, "%s: %m", path);
    else if (buf_is_good(&text, e))
        y = yaml_parse(text.data, text.bytes, path, arena, e);
out:
    close(fd);
    buf_free(&text);
    return y;
}

const json_t *
yaml_value(const Yaml *y)
{
    return y->value;
}

const char *
yaml_name(const Yaml *y)
{
    return y->name;
}

void
yaml_close(Yaml *y)
{
    if (!y)
        return;
    json_decref(y->value);
    y->value = NULL;
}

/* Does this reference token (RFC 6901: ~1 is '/', ~0 is '~') name the key? */
static bool
token_is(const char *token, size_t bytes, const char *key)
{
    for (size_t i = 0; i < bytes; i++, key++) {
        char c = token[i];

        if (c == '~' && i + 1 < bytes && (token[i + 1] == '0' || token[i + 1] == '1'))
            c = token[++i] == '0' ? '~' : '/';
        if (*key != c || !c)
            return false;
    }
    return !*key;
}

static const Place *
find_child(const Place *place, const char *token, size_t bytes)
{
    char number[16];
    uint64_t index = 0, wanted = UINT64_MAX;

    if (bytes < sizeof number) {
        memcpy(number, token, bytes);
        number[bytes] = '\0';
        if (!text_to_uint(number, UINT32_MAX, &wanted))
            wanted = UINT64_MAX;
    }
    for (const Place *child = place->child; child; child = child->next, index++)
        if (child->key ? token_is(token, bytes, child->key) : index == wanted)
            return child;
    return NULL;
}

unsigned
yaml_line(const Yaml *y, const char *pointer)
{
    const Place *place = &y->top;

    while (*pointer == '/') {
        size_t bytes = strcspn(++pointer, "/");
        const Place *child = find_child(place, pointer, bytes);

        if (!child)
            break;
        place = child;
        pointer += bytes;
    }
    return place->line;
}

const char *
yaml_library_version(void)
{
    return yaml_get_version_string();
}
