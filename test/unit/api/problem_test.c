#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "api/problem.h"
#include "base/json.h"
#include "base/log.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

typedef struct {
    Request req;
    Arena *arena;
    json_t *body;
} Answered;

/* The request every test begins with. */
static Answered
ask(void)
{
    Answered a = {.arena = arena_new(1 << 20)};

    log_open(LOG_ERROR, LOG_FORMAT_TEXT, "api"); /* refusals are not news here */
    a.req = (Request){.arena = a.arena,
        .method = "GET",
        .target = "/api/exports/user/x?limit=<b>",
        .path = "/api/exports/user/x",
        .base_url = "http://127.0.0.1:8000",
        .request_id = "rid-1"};
    a.req.answer = (Response){.headers = buf_new(1 << 16), .body = buf_new(1 << 16), .fd = -1};
    return a;
}

static void
read_answer(Answered *a)
{
    Err e = {0};

    a->body = json_parse(a->req.answer.body.data, a->req.answer.body.bytes, 8, &e);
    if (!a->body)
        fail_msg("%s: %s", err_root(&e), a->req.answer.body.data);
}

static void
finish(Answered *a)
{
    json_decref(a->body);
    buf_free(&a->req.answer.headers);
    buf_free(&a->req.answer.body);
    arena_free(a->arena);
}

static const char *
text(const Answered *a, const char *member)
{
    return json_text_or(a->body, member, "(none)");
}

static void
test_form(void **state)
{
    Answered a = ask();
    Problems problems = {.arena = a.arena};
    json_t *value = json_integer(160), *first;
    Err e = {0};

    (void)state;
    problem_add(&problems, "/params/n", "out-of-range", value, "must be between %d and %d", 0, 100);
    problem_add(&problems, "/format", "not-allowed", NULL, "is not \"known\"");
    problems.problem[1].allowed = "[\"csv\"]";
    fail_code(&e, ERR_VALIDATION_FAILED, "2 members are not valid");
    problem_answer(&a.req, &e, &problems);
    read_answer(&a);
    assert_int_equal(a.req.answer.status, 422);
    assert_string_equal(a.req.answer.content_type, "application/problem+json");
    assert_string_equal(text(&a, "type"), "/problems/validation-failed");
    assert_string_equal(text(&a, "title"), "The request is not valid");
    assert_int_equal(json_int_or(a.body, "status", 0), 422);
    assert_string_equal(text(&a, "detail"), "2 members are not valid");
    assert_string_equal(text(&a, "instance"), "/api/exports/user/x");
    assert_string_equal(text(&a, "code"), "validation-failed");
    assert_string_equal(text(&a, "request_id"), "rid-1");
    assert_int_equal(json_array_size(json_object_get(a.body, "errors")), 2);
    first = json_array_get(json_object_get(a.body, "errors"), 0);
    assert_string_equal(json_text_or(first, "pointer", ""), "/params/n");
    assert_string_equal(json_text_or(first, "detail", ""), "must be between 0 and 100");
    assert_int_equal(json_int_or(first, "value", 0), 160);
    json_decref(value);
    finish(&a);
}

static void
test_what_is_ours_is_not_told(void **state)
{
    Answered a = ask();
    Err e = {0};

    (void)state;
    a.req.has_public_url = true;
    a.req.base_url = "https://exports.example.com";
    fail_code(&e, ERR_STORAGE_UNAVAILABLE, "no answer from s3.internal");
    wrap(&e, "listing for password=x");
    problem_answer(&a.req, &e, NULL);
    read_answer(&a);
    assert_int_equal(a.req.answer.status, 503);
    assert_string_equal(text(&a, "detail"), "The storage cannot be reached");
    assert_string_equal(
        text(&a, "type"), "https://exports.example.com/problems/storage-unavailable");
    assert_null(json_object_get(a.body, "errors"));
    assert_null(strstr(a.req.answer.body.data, "internal"));
    assert_null(strstr(a.req.answer.body.data, "password"));
    assert_non_null(strstr(a.req.answer.headers.data, "Retry-After: 5\r\n"));
    assert_non_null(strstr(a.req.answer.headers.data,
        "Link: <https://exports.example.com/problems/storage-unavailable>; "
        "rel=\"describedby\"\r\n"));
    finish(&a);
}

static void
test_codes_that_bring_headers(void **state)
{
    static const struct {
        ErrCode code;
        const char *header;
        bool closes;
    } cases[] = {
        {ERR_UNSUPPORTED_MEDIA_TYPE, "Accept-Post: application/json", false},
        {ERR_QUEUE_FULL, "Retry-After: 5", false},
        {ERR_SHUTTING_DOWN, "Retry-After: 1", true},
        {ERR_BODY_TOO_LARGE, "", true},
        {ERR_NOT_FOUND, "", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Answered a = ask();
        Err e = {0};

        fail_code(&e, cases[i].code, "why");
        problem_answer(&a.req, &e, NULL);
        read_answer(&a);
        assert_non_null(strstr(a.req.answer.headers.data, cases[i].header));
        assert_non_null(strstr(a.req.answer.headers.data, "Cache-Control: no-store\r\n"));
        assert_non_null(strstr(a.req.answer.headers.data, "Link: </problems/"));
        assert_int_equal(a.req.answer.close, cases[i].closes);
        finish(&a);
    }
}

/* Bytes that are no request: nothing is known of it. */
static void
test_without_a_request(void **state)
{
    Answered a = ask();
    Err e = {0};

    (void)state;
    a.req = (Request){.arena = a.arena, .target = "", .answer = a.req.answer};
    fail_code(&e, ERR_INVALID_REQUEST, "two lengths");
    problem_answer(&a.req, &e, NULL);
    read_answer(&a);
    assert_int_equal(a.req.answer.status, 400);
    assert_string_equal(text(&a, "code"), "invalid-request");
    assert_null(json_object_get(a.body, "instance"));
    finish(&a);
}

/* A code that is never an answer is a mistake of ours. */
static void
test_a_code_without_status(void **state)
{
    Answered a = ask();
    Err e = {0};

    (void)state;
    fail_code(&e, ERR_LEASE_LOST, "somebody else has it");
    problem_answer(&a.req, &e, NULL);
    read_answer(&a);
    assert_int_equal(a.req.answer.status, 500);
    assert_string_equal(text(&a, "code"), "internal");
    finish(&a);
}

static void
test_pages(void **state)
{
    Buf page = buf_new(16 << 10);

    (void)state;
    for (int code = ERR_NONE + 1; code < ERR_CODES; code++) {
        buf_clear(&page);
        assert_true(problem_page(err_name((ErrCode)code), &page));
        assert_non_null(strstr(page.data, err_name((ErrCode)code)));
        assert_null(strchr(err_sentence((ErrCode)code), '<'));
        assert_null(strchr(err_sentence((ErrCode)code), '&'));
    }
    buf_clear(&page);
    assert_false(problem_page("none", &page));
    assert_false(problem_page("<script>", &page));
    assert_int_equal(page.bytes, 0);
    buf_free(&page);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_what_is_ours_is_not_told),
        cmocka_unit_test(test_codes_that_bring_headers),
        cmocka_unit_test(test_without_a_request),
        cmocka_unit_test(test_a_code_without_status),
        cmocka_unit_test(test_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
