/* The log as it comes out of standard error: one line, valid JSON, nothing from outside unescaped.
 */
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <unistd.h>

#include "base/log.h"
#include "test/test.h"

static char got[32768];

/* Runs the call with standard error in a pipe; `got` is what came. */
#define capture(call)                                                                              \
    do {                                                                                           \
        int ends_[2], saved_ = dup(STDERR_FILENO);                                                 \
        ssize_t bytes_;                                                                            \
        assert_int_equal(pipe(ends_), 0);                                                          \
        assert_true(dup2(ends_[1], STDERR_FILENO) >= 0);                                           \
        close(ends_[1]);                                                                           \
        call;                                                                                      \
        assert_true(dup2(saved_, STDERR_FILENO) >= 0);                                             \
        close(saved_);                                                                             \
        bytes_ = read(ends_[0], got, sizeof got - 1);                                              \
        got[bytes_ > 0 ? bytes_ : 0] = '\0';                                                       \
        close(ends_[0]);                                                                           \
    } while (0)

/* Exactly one line, which is a JSON object. The caller owns it. */
static json_t *
line(void)
{
    json_t *value;
    size_t bytes = strlen(got);

    assert_true(bytes > 0 && got[bytes - 1] == '\n');
    assert_ptr_equal(strchr(got, '\n'), got + bytes - 1);
    value = json_loads(got, JSON_REJECT_DUPLICATES, NULL);
    if (!value)
        fail_msg("no JSON: %s", got);
    return value;
}

static const char *
text_of(const json_t *value, const char *name)
{
    const char *text = json_string_value(json_object_get(value, name));

    assert_non_null(text);
    return text;
}

static void
test_json(void **state)
{
    json_t *value;
    Err e = {0};

    (void)state;
    err_push(&e, ERR_SOURCE_TIMEOUT, "x.c:1", "no answer from \"db\"\n");
    log_open(LOG_INFO, LOG_FORMAT_JSON, "worker");
    capture(log_event(LOG_WARNING, "export.failed", log_text("task_id", "7f3c"),
        log_text("none", NULL), log_number("rows", INT64_MIN), log_real("ratio", 0.25),
        log_bool("yes", true), log_err(&e)));
    value = line();
    assert_int_equal(strlen(text_of(value, "ts")), 24);
    assert_string_equal(text_of(value, "level"), "warning");
    assert_string_equal(text_of(value, "event"), "export.failed");
    assert_string_equal(text_of(value, "role"), "worker");
    assert_int_equal(json_integer_value(json_object_get(value, "pid")), getpid());
    assert_string_equal(text_of(value, "task_id"), "7f3c");
    assert_null(json_object_get(value, "none"));
    assert_int_equal(json_integer_value(json_object_get(value, "rows")), INT64_MIN);
    assert_true(json_real_value(json_object_get(value, "ratio")) == 0.25);
    assert_true(json_is_true(json_object_get(value, "yes")));
    assert_string_equal(text_of(value, "error_code"), "source-timeout");
    assert_string_equal(text_of(value, "error"), "no answer from \"db\"? (source-timeout, x.c:1)");
    json_decref(value);
    capture(log_event(LOG_INFO, "no.fields"));
    json_decref(line());
}

/* Row 72 of the table of bad input, and its kin. */
static void
test_bad_text(void **state)
{
    static const char *const texts[] = {"\n{\"level\":\"error\"}", "\r\n", "\x1b[31m", "\"", "\\",
        "\xff\xfe", "\xe2\x82", "\u2028", "<script>", "\u202e", "a b=c", "", "\x7f\xc2\x85"};

    (void)state;
    for (size_t i = 0; i < count_of(texts); i++)
        for (int format = 0; format < 2; format++) {
            trying(texts[i]);
            log_open(LOG_INFO, format ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT, "api");
            capture(log_event(LOG_INFO, "http.refused", log_text("value", texts[i])));
            assert_ptr_equal(strchr(got, '\n'), got + strlen(got) - 1);
            for (const char *c = got; c[1]; c++)
                assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
            assert_null(strstr(got, "\xff"));
            assert_null(strstr(got, "\xc2\x85"));
            if (format)
                json_decref(line());
        }
}

static void
test_cuts(void **state)
{
    static char big[10000];
    json_t *value;

    (void)state;
    memset(big, 'x', sizeof big - 1);
    log_open(LOG_INFO, LOG_FORMAT_JSON, "api");
    capture(log_event(LOG_INFO, "a.b", log_text("value", big)));
    value = line();
    assert_int_equal(strlen(text_of(value, "value")), 256 + strlen("…"));
    json_decref(value);
    /* Escapes make it long: 40 values of 256 controls. */
    memset(big, 1, sizeof big - 1);
    capture(log_event(LOG_INFO, "a.b", log_text("a", big), log_text("b", big), log_text("c", big),
        log_text("d", big)));
    assert_true(strlen(got) <= 4096);
    value = line();
    assert_string_equal(text_of(value, "event"), "a.b");
    assert_true(json_is_true(json_object_get(value, "cut")));
    json_decref(value);
    log_open(LOG_INFO, LOG_FORMAT_TEXT, "api");
    capture(log_event(LOG_INFO, "a.b", log_text("a", big), log_text("b", big), log_text("c", big)));
    assert_non_null(strstr(got, "a.b cut=true\n"));
}

static void
test_numbers_json_does_not_know(void **state)
{
    json_t *value;

    (void)state;
    log_open(LOG_INFO, LOG_FORMAT_JSON, "api");
    capture(log_event(LOG_INFO, "a.b", log_real("nan", NAN), log_real("inf", -INFINITY)));
    value = line();
    assert_true(json_is_null(json_object_get(value, "nan")));
    assert_true(json_is_null(json_object_get(value, "inf")));
    json_decref(value);
}

static void
test_text(void **state)
{
    Err e = {0};

    (void)state;
    err_push(&e, ERR_CANCELLED, "x.c:1", "enough");
    log_open(LOG_DEBUG, LOG_FORMAT_TEXT, "beat");
    capture(log_event(LOG_DEBUG, "a.b", log_text("plain", "x/y"), log_text("odd", "x y"),
        log_text("none", NULL), log_number("n", 7), log_bool("b", false), log_err(&e)));
    assert_string_equal(got + 8, " debug   beat       a.b plain=x/y odd=\"x y\" n=7 b=false "
                                 "error=\"enough (cancelled, x.c:1)\"\n");
}

static void
test_levels(void **state)
{
    static const struct {
        const char *text;
        bool good;
        LogLevel level;
    } cases[] = {{"debug", true, LOG_DEBUG}, {"INFO", true, LOG_INFO},
        {"Warning", true, LOG_WARNING}, {"WARN", true, LOG_WARNING}, {"error", true, LOG_ERROR},
        {"CRITICAL", true, LOG_ERROR}, {"FATAL", true, LOG_ERROR}, {"", false, 0},
        {"verbose", false, 0}, {"info ", false, 0}};

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        LogLevel level;

        trying(cases[i].text);
        assert_int_equal(log_level_of(cases[i].text, &level), cases[i].good);
        if (cases[i].good)
            assert_int_equal(level, cases[i].level);
    }
    log_open(LOG_WARNING, LOG_FORMAT_JSON, "api");
    capture(log_event(LOG_INFO, "not.this"));
    assert_string_equal(got, "");
    assert_false(log_is_on(LOG_INFO));
    assert_true(log_is_on(LOG_ERROR));
    log_set_level(LOG_INFO);
    capture(log_event(LOG_INFO, "but.this"));
    json_decref(line());
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_numbers_json_does_not_know),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_levels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
