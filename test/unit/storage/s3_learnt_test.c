/* What a process has learnt of a store. */
#include "storage/s3/s3_in.h"
#include "test/test.h"

static Site
site_at(const char *bucket)
{
    Site site = {.is_path_style = true, .host = "127.0.0.1:9000", .region = "us-east-1"};

    snprintf(site.bucket, sizeof site.bucket, "%s", bucket);
    return site;
}

static Learnt *
open_at(const char *bucket)
{
    Site site = site_at(bucket);
    Learnt *learnt;
    Err e = {0};

    assert_ok(learnt = learnt_open(&site, &e), &e);
    return learnt;
}

static void
test_what_one_learns_all_know(void **state)
{
    Learnt *one = open_at("exports"), *two = open_at("exports"), *other = open_at("others");

    (void)state;
    assert_true(learnt_move(one, "us-east-1", "eu-west-3"));
    learnt_note_clock(one, 1200, true);
    assert_string_equal(learnt_site(two).region, "eu-west-3");
    assert_int_equal(learnt_clock_off_s(two), 1200);
    assert_string_equal(learnt_site(other).region, "us-east-1");
    assert_int_equal(learnt_clock_off_s(other), 0);
    learnt_close(one);
    assert_string_equal(learnt_site(two).region, "eu-west-3");
    learnt_close(two);
    learnt_close(other);
    learnt_close(NULL);

    one = open_at("exports");
    assert_string_equal(learnt_site(one).region, "us-east-1"); /* nobody had it any more */
    learnt_close(one);
}

static void
test_regions(void **state)
{
    Learnt *learnt = open_at("exports");

    (void)state;
    assert_false(learnt_move(learnt, "us-east-1", ""));
    assert_false(learnt_move(learnt, "us-east-1", "us-east-1"));
    assert_false(learnt_move(learnt, "us-east-1", "evil/../x"));
    assert_string_equal(learnt_site(learnt).region, "us-east-1");
    /* Two calls were on their way when the first of them heard. */
    assert_true(learnt_move(learnt, "us-east-1", "eu-west-3"));
    assert_true(learnt_move(learnt, "us-east-1", "eu-west-3"));
    assert_false(learnt_move(learnt, "eu-west-3", "eu-west-3"));
    assert_string_equal(learnt_site(learnt).region, "eu-west-3");
    learnt_close(learnt);
}

static void
test_the_clock_is_a_median(void **state)
{
    static const struct {
        int64_t said[8];
        size_t count;
        int64_t want;
    } cases[] = {
        {{0}, 0, 0},
        {{30}, 1, 0}, /* the network's */
        {{31}, 1, 31},
        {{-1200, -1201, -1199}, 3, -1200},
        {{2, 1, 0, 1800, 1}, 5, 0}, /* one liar */
        {{0, 0, 0, 600, 600, 600, 600, 600}, 8, 600},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Learnt *learnt = open_at("exports");

        for (size_t k = 0; k < cases[i].count; k++)
            learnt_note_clock(learnt, cases[i].said[k], false);
        assert_int_equal(learnt_clock_off_s(learnt), cases[i].want);
        learnt_close(learnt);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_one_learns_all_know),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_the_clock_is_a_median),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
