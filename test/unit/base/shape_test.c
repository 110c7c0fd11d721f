/* Shapes: all that is wrong is found, each with its place, and nothing that is right. */
#include <float.h>

#include "base/json.h"
#include "base/shape.h"
#include "base/text.h"
#include "test/test.h"

static bool
is_even(const json_t *value, const char **detail)
{
    *detail = "must be even";
    return json_integer_value(value) % 2 == 0;
}

static const char *const colours[] = {"red", "green", "blue", NULL};
static const Shape point[] = {
    {.name = "x", .type = SHAPE_REAL, .required = true},
    {.name = "y", .type = SHAPE_REAL},
    {0},
};
static const Shape label = {.name = "label", .type = SHAPE_TEXT, .min = 1, .max = 5};
static const Shape a_point = {.name = "point", .type = SHAPE_OBJECT, .members = point};
static const Shape members[] = {
    {.name = "name",
        .type = SHAPE_TEXT,
        .required = true,
        .min = 1,
        .max = 8,
        .meaning = "A name."},
    {.name = "count", .type = SHAPE_INT, .min = 0, .max = 100},
    {.name = "even", .type = SHAPE_INT, .check = is_even},
    {.name = "least", .type = SHAPE_REAL, .min = 5, .max = DBL_MAX},
    {.name = "most", .type = SHAPE_REAL, .min = -DBL_MAX, .max = 5},
    {.name = "flag", .type = SHAPE_BOOL},
    {.name = "colour", .type = SHAPE_TEXT, .allowed = colours},
    {.name = "point", .type = SHAPE_OBJECT, .members = point, .null_is_missing = true},
    {.name = "labels", .type = SHAPE_OBJECT, .element = &label, .max = 2},
    {.name = "points", .type = SHAPE_ARRAY, .element = &a_point, .min = 1, .max = 2},
    {.name = "any", .type = SHAPE_ANY},
    {.name = "later", .type = SHAPE_TEXT, .not_available = true},
    {0},
};

/* Problems as text: "pointer word; …", in order. */
static const char *
check(const char *text, ShapeUnknown rule, Problems *problems, Problems *unknown, Arena *arena)
{
    static char said[4096];
    json_t *value;
    size_t at = 0;
    bool ok;
    Err e = {0};

    *problems = (Problems){.arena = arena};
    if (unknown)
        *unknown = (Problems){.arena = arena};
    assert_ok(value = json_parse(text, strlen(text), 32, &e), &e);
    ok = shape_check(members, value, "", rule, problems, unknown);
    assert_int_equal(ok, problems->count == 0);
    json_decref(value);
    said[0] = '\0';
    for (size_t i = 0; i < problems->count && i < PROBLEMS_MAX; i++)
        at += (size_t)snprintf(said + at, sizeof said - at, "%s%s %s", i ? "; " : "",
            problems->problem[i].pointer, problems->problem[i].word);
    return said;
}

static void
test_cases(void **state)
{
    static const struct {
        const char *json, *want;
    } cases[] = {
        {"{\"name\":\"x\"}", ""},
        {"{}", "/name required"},
        {"[]", " wrong-type"},
        {"7", " wrong-type"},
        {"null", " wrong-type"},
        {"{\"name\":null}", "/name wrong-type"},
        {"{\"name\":7}", "/name wrong-type"},
        {"{\"name\":\"\"}", "/name too-short"},
        {"{\"name\":\"12345678\"}", ""},
        {"{\"name\":\"123456789\"}", "/name too-long"},
        {"{\"name\":\"éééééééé\"}", ""}, /* characters, not bytes */
        {"{\"name\":\"ééééééééé\"}", "/name too-long"},
        {"{\"name\":\"x\",\"count\":0}", ""},
        {"{\"name\":\"x\",\"count\":100}", ""},
        {"{\"name\":\"x\",\"count\":101}", "/count out-of-range"},
        {"{\"name\":\"x\",\"count\":-1}", "/count out-of-range"},
        {"{\"name\":\"x\",\"count\":10.0}", ""},
        {"{\"name\":\"x\",\"count\":10.5}", "/count wrong-type"},
        {"{\"name\":\"x\",\"count\":\"10\"}", "/count wrong-type"},
        {"{\"name\":\"x\",\"count\":true}", "/count wrong-type"},
        {"{\"name\":\"x\",\"count\":1e300}", "/count wrong-type"},
        {"{\"name\":\"x\",\"even\":4}", ""},
        {"{\"name\":\"x\",\"even\":5}", "/even not-valid"},
        {"{\"name\":\"x\",\"least\":5,\"most\":5}", ""},
        {"{\"name\":\"x\",\"least\":4.9,\"most\":5.1}", "/least out-of-range; /most out-of-range"},
        {"{\"name\":\"x\",\"least\":1e300,\"most\":-1e300}", ""},
        {"{\"name\":\"x\",\"flag\":false}", ""},
        {"{\"name\":\"x\",\"flag\":0}", "/flag wrong-type"},
        {"{\"name\":\"x\",\"flag\":null}", "/flag wrong-type"},
        {"{\"name\":\"x\",\"colour\":\"red\"}", ""},
        {"{\"name\":\"x\",\"colour\":\"Red\"}", "/colour not-allowed"},
        {"{\"name\":\"x\",\"point\":{\"x\":1}}", ""},
        {"{\"name\":\"x\",\"point\":null}", ""},
        {"{\"name\":\"x\",\"point\":{\"y\":\"a\",\"z\":1}}",
            "/point/x required; /point/y wrong-type; /point/z unknown-member"},
        {"{\"name\":\"x\",\"labels\":{}}", ""},
        {"{\"name\":\"x\",\"labels\":{\"a\":\"b\",\"c/d~e\":\"\"}}", "/labels/c~1d~0e too-short"},
        {"{\"name\":\"x\",\"labels\":{\"a\":\"b\",\"b\":\"b\",\"c\":\"b\"}}", "/labels too-many"},
        {"{\"name\":\"x\",\"labels\":{\"a\":7}}", "/labels/a wrong-type"},
        {"{\"name\":\"x\",\"points\":[]}", "/points too-few"},
        {"{\"name\":\"x\",\"points\":[{\"x\":1},{\"x\":2}]}", ""},
        {"{\"name\":\"x\",\"points\":[{\"x\":1},{\"y\":2}]}", "/points/1/x required"},
        {"{\"name\":\"x\",\"points\":[{\"x\":1},null]}", "/points/1 wrong-type"},
        {"{\"name\":\"x\",\"points\":{\"x\":1}}", "/points wrong-type"},
        {"{\"name\":\"x\",\"any\":[[[[1]]]]}", ""},
        {"{\"name\":\"x\",\"any\":null}", ""},
        {"{\"name\":\"x\",\"later\":\"x\"}", "/later not-available"},
        {"{\"name\":\"x\",\"nmae\":1}", "/nmae unknown-member"},
        {"{\"nmae\":\"x\",\"count\":\"a\",\"flag\":1}",
            "/name required; /count wrong-type; /flag wrong-type; /nmae unknown-member"},
    };
    Arena *arena = arena_new(1 << 20);
    Problems problems;

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].json);
        assert_string_equal(
            check(cases[i].json, SHAPE_UNKNOWN_REFUSED, &problems, NULL, arena), cases[i].want);
    }
    arena_free(arena);
}

static void
test_details(void **state)
{
    Arena *arena = arena_new(1 << 20);
    Problems p;

    (void)state;
    check("{\"name\":\"123456789\",\"count\":101,\"least\":1,\"most\":9,\"colour\":\"gren\","
          "\"even\":3,\"nme\":1,\"points\":[]}",
        SHAPE_UNKNOWN_REFUSED, &p, NULL, arena);
    assert_int_equal(p.count, 8);
    assert_string_equal(p.problem[0].detail, "must be between 1 and 8 characters");
    assert_string_equal(p.problem[0].value, "\"123456789\"");
    assert_string_equal(p.problem[1].detail, "must be between 0 and 100");
    assert_string_equal(p.problem[1].value, "101");
    assert_null(p.problem[1].allowed);
    assert_string_equal(p.problem[2].detail, "must be even");
    assert_string_equal(p.problem[3].detail, "must be at least 5");
    assert_string_equal(p.problem[4].detail, "must be at most 5");
    assert_non_null(strstr(p.problem[5].detail, "did you mean \"green\"?"));
    assert_string_equal(p.problem[5].allowed, "[\"red\",\"green\",\"blue\"]");
    assert_string_equal(p.problem[6].detail, "must be between 1 and 2 entries");
    assert_null(p.problem[6].value); /* lists are not echoed */
    assert_non_null(strstr(p.problem[7].detail, "did you mean \"name\"?"));
    assert_null(p.problem[7].value);
    arena_free(arena);
}

static void
test_unknown_noted(void **state)
{
    Arena *arena = arena_new(1 << 20);
    Problems p, unknown;

    (void)state;
    assert_string_equal(check("{\"name\":\"x\",\"new\":1,\"point\":{\"x\":1,\"z\":1}}",
                            SHAPE_UNKNOWN_NOTED, &p, &unknown, arena),
        "/point/z unknown-member"); /* deeper ones are problems all the same */
    assert_int_equal(unknown.count, 1);
    assert_string_equal(unknown.problem[0].pointer, "/new");
    assert_string_equal(
        check("{\"name\":\"x\",\"new\":1}", SHAPE_UNKNOWN_NOTED, &p, NULL, arena), "");
    arena_free(arena);
}

static void
test_many_problems(void **state)
{
    Arena *arena = arena_new(1 << 20);
    Buf text = buf_new(1 << 16);
    Problems p;

    (void)state;
    buf_text(&text, "{\"name\":\"x\"");
    for (int i = 0; i < 50; i++)
        buf_printf(&text, ",\"unknown%d\":1", i);
    buf_char(&text, '}');
    check(text.data, SHAPE_UNKNOWN_REFUSED, &p, NULL, arena);
    assert_int_equal(p.count, 50);
    assert_string_equal(p.problem[PROBLEMS_MAX - 1].pointer, "/unknown19");
    buf_free(&text);
    arena_free(arena);
}

/* A place is text that an answer can carry, whatever the name was. */
static void
test_long_names(void **state)
{
    Arena *arena = arena_new(1 << 20);

    (void)state;
    for (size_t plain = 120; plain < 130; plain++) {
        Buf text = buf_new(1 << 16);
        Problems p;

        buf_text(&text, "{\"name\":\"x\",\"");
        for (size_t i = 0; i < plain; i++)
            buf_char(&text, 'p');
        for (int i = 0; i < 20; i++)
            buf_text(&text, "€");
        buf_text(&text, "\":1}");
        check(text.data, SHAPE_UNKNOWN_REFUSED, &p, NULL, arena);
        assert_int_equal(p.count, 1);
        assert_true(text_is_utf8(p.problem[0].pointer, strlen(p.problem[0].pointer)));
        assert_true(strlen(p.problem[0].pointer) <= 129);
        assert_true(strlen(p.problem[0].pointer) >= 121);
        buf_free(&text);
    }
    arena_free(arena);
}

/* Values are echoed up to 64 characters of JSON, no further. */
static void
test_echo(void **state)
{
    Arena *arena = arena_new(1 << 20);
    Problems p = {.arena = arena};
    json_t *fits =
               json_stringn("0123456789012345678901234567890123456789012345678901234567890123", 62),
           *over =
               json_stringn("0123456789012345678901234567890123456789012345678901234567890123", 63);

    (void)state;
    problem_add(&p, "/a", "word", fits, "detail %d", 1);
    problem_add(&p, "/b", "word", over, "detail");
    problem_add(&p, "/c", "word", json_null(), "detail");
    assert_int_equal(strlen(p.problem[0].value), 64);
    assert_string_equal(p.problem[0].detail, "detail 1");
    assert_null(p.problem[1].value);
    assert_string_equal(p.problem[2].value, "null");
    json_decref(fits);
    json_decref(over);
    arena_free(arena);
}

static void
test_without_memory(void **state)
{
    Arena *arena = arena_new(0);
    Problems p;

    (void)state;
    assert_string_equal(check("{\"colour\":\"x\"}", SHAPE_UNKNOWN_REFUSED, &p, NULL, arena),
        " required;  not-allowed");
    assert_int_equal(p.count, 2);
    arena_free(arena);
}

static void
test_schema(void **state)
{
    json_t *schema = shape_schema(members), *properties, *want;

    (void)state;
    assert_string_equal(json_text_or(schema, "type", ""), "object");
    assert_int_equal(json_array_size(json_object_get(schema, "required")), 1);
    properties = json_object_get(schema, "properties");
    assert_int_equal(json_object_size(properties), 11); /* without what is not there yet */
#define assert_schema(name, text)                                                                  \
    do {                                                                                           \
        want = json_loads(text, 0, NULL);                                                          \
        assert_non_null(want);                                                                     \
        if (!json_equal(json_object_get(properties, name), want))                                  \
            fail_msg("%s: %s", name, json_dumps(json_object_get(properties, name), 0));            \
        json_decref(want);                                                                         \
    } while (0)
    assert_schema("name",
        "{\"type\":\"string\",\"minLength\":1,\"maxLength\":8,\"description\":\"A name.\"}");
    assert_schema("count", "{\"type\":\"integer\",\"minimum\":0.0,\"maximum\":100.0}");
    assert_schema("least", "{\"type\":\"number\",\"minimum\":5.0}");
    assert_schema("most", "{\"type\":\"number\",\"maximum\":5.0}");
    assert_schema("colour", "{\"type\":\"string\",\"enum\":[\"red\",\"green\",\"blue\"]}");
    assert_schema("any", "{}");
    assert_schema("labels",
        "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\",\"minLength\":1,"
        "\"maxLength\":5},\"minProperties\":0,\"maxProperties\":2}");
    assert_schema("points",
        "{\"type\":\"array\",\"minItems\":1,\"maxItems\":2,\"items\":{\"type\":\"object\","
        "\"properties\":{\"x\":{\"type\":\"number\"},\"y\":{\"type\":\"number\"}},"
        "\"required\":[\"x\"]}}");
    json_decref(schema);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_details),
        cmocka_unit_test(test_unknown_noted),
        cmocka_unit_test(test_many_problems),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_schema),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
