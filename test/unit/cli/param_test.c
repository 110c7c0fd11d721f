/* -p: what people type becomes what the server reads. */
#include "base/json.h"
#include "cli/cli_in.h"
#include "test/test.h"

static const TypeParam params[] = {
    {.name = "team", .type = COLUMN_TEXT},
    {.name = "score", .type = COLUMN_DOUBLE},
    {.name = "count", .type = COLUMN_INT32},
    {.name = "active", .type = COLUMN_BOOL},
    {.name = "start", .type = COLUMN_TIMESTAMPTZ},
    {.name = "amount", .type = COLUMN_DECIMAL},
    {.name = "more", .type = COLUMN_JSON},
};

static const ExportType type = {.name = "t", .param = params, .params = count_of(params)};

static void
test_parse(void **state)
{
    static const struct {
        const char *text;
        bool typed;
        const char *want;
    } cases[] = {
        {"team=Engineering", true, "{\"team\":\"Engineering\"}"},
        {"team=60", true, "{\"team\":\"60\"}"},
        {"team=", true, "{\"team\":\"\"}"},
        {"team=a=b", true, "{\"team\":\"a=b\"}"},
        {"score=60", true, "{\"score\":60}"},
        {"score=60.5", true, "{\"score\":60.5}"},
        {"score=-1e3", true, "{\"score\":-1000.0}"},
        {"score=many", true, "{\"score\":\"many\"}"},
        {"score=true", true, "{\"score\":\"true\"}"},
        {"score=", true, "{\"score\":\"\"}"},
        {"score=60", false, "{\"score\":\"60\"}"},
        {"other=60", true, "{\"other\":\"60\"}"},
        {"count=9223372036854775807", true, "{\"count\":9223372036854775807}"},
        {"count=99999999999999999999", true, "{\"count\":\"99999999999999999999\"}"},
        {"active=true", true, "{\"active\":true}"},
        {"active=false", true, "{\"active\":false}"},
        {"active=1", true, "{\"active\":\"1\"}"},
        {"start=2024-01-01", true, "{\"start\":\"2024-01-01\"}"},
        {"amount=12.50", true, "{\"amount\":\"12.50\"}"},
        {"more=[1,{\"a\":2}]", true, "{\"more\":[1,{\"a\":2}]}"},
        {"more=[1", true, "{\"more\":\"[1\"}"},
        {"team:=null", true, "{\"team\":null}"},
        {"score:=\"60\"", true, "{\"score\":\"60\"}"},
        {"x:={\"a\":[true]}", false, "{\"x\":{\"a\":[true]}}"},
        {"a:b=c", false, "{\"a:b\":\"c\"}"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        json_t *object = json_object();
        Buf text = buf_new(4096);
        Err e = {0};

        trying(cases[i].text);
        assert_ok(param_parse(cases[i].text, cases[i].typed ? &type : NULL, object, &e), &e);
        assert_ok(json_write(object, &text, &e), &e);
        assert_string_equal(text.data, cases[i].want);
        buf_free(&text);
        json_decref(object);
    }
}

static void
test_refuse(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"team", "expected NAME=VALUE"},
        {"", "expected NAME=VALUE"},
        {"=x", "expected NAME=VALUE"},
        {":=1", "expected NAME=VALUE"},
        {"x:=", "x is not JSON"},
        {"x:=[1", "x is not JSON"},
        {"x:={\"a\":1,\"a\":2}", "x is not JSON"},
        {"there=2", "there is given twice"},
        {"x=\xff", "x is not UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        json_t *object = json_pack("{s:i}", "there", 1);
        Err e = {0};

        trying(cases[i].text);
        assert_fails(param_parse(cases[i].text, &type, object, &e), ERR_USAGE, &e);
        assert_says(&e, cases[i].says);
        assert_int_equal(json_object_size(object), 1);
        json_decref(object);
    }
}

/* What the server wanted read the other way. */
static void
test_other_reading(void **state)
{
    json_t *text = json_string("60"), *number = json_integer(60), *other;

    (void)state;
    other = param_other_reading(text, "60");
    assert_int_equal(json_integer_value(other), 60);
    json_decref(other);
    other = param_other_reading(number, "60");
    assert_string_equal(json_string_value(other), "60");
    json_decref(other);
    other = param_other_reading(text, "true");
    assert_true(json_is_true(other));
    assert_null(param_other_reading(text, "sixty"));
    assert_null(param_other_reading(text, "null"));
    assert_null(param_other_reading(text, "[1]"));
    json_decref(text);
    json_decref(number);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_refuse),
        cmocka_unit_test(test_other_reading),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
