/* What the demo database promises about its organisation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#undef fail /* err.h has its own */

#include "cli/organisation.h"

typedef struct {
    Organisation *o;
    uint32_t people;
    uint64_t interactions, mark; /* mark: of everything that was heard, in order */
    char last[WHEN_BYTES + 1];
    uint64_t *count; /* people x people */
    double *weight;  /* the same */
    char (*latest)[WHEN_BYTES + 1];
} Heard;

static void
mix(Heard *heard, const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        heard->mark = (heard->mark ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
}

static bool
hear(void *with, const Interaction *i, Err *e)
{
    Heard *heard = with;
    size_t at = (size_t)i->source * heard->people + i->target;

    (void)e;
    assert_true(i->source < heard->people && i->target < heard->people);
    assert_int_not_equal(i->source, i->target);
    assert_true(memcmp(heard->last, i->when, WHEN_BYTES) <= 0);
    assert_true(i->weight > 0);
    memcpy(heard->last, i->when, WHEN_BYTES);
    heard->interactions++;
    heard->count[at]++;
    heard->weight[at] += i->weight;
    memcpy(heard->latest[at], i->when, WHEN_BYTES);
    mix(heard, i->when, WHEN_BYTES);
    mix(heard, i->type, strlen(i->type));
    mix(heard, &i->source, sizeof i->source);
    mix(heard, &i->target, sizeof i->target);
    mix(heard, &i->weight, sizeof i->weight);
    return true;
}

static bool
hear_edge(void *with, const Edge *edge, Err *e)
{
    Heard *heard = with;
    size_t at = (size_t)edge->source * heard->people + edge->target;

    (void)e;
    assert_int_equal(edge->interactions, heard->count[at]);
    assert_true(fabs(edge->weight - heard->weight[at]) < 1e-6);
    assert_string_equal(edge->last_updated, heard->latest[at]);
    heard->count[at] = 0; /* once only */
    return true;
}

static bool
go_on(void *with, uint32_t done, uint32_t all, Err *e)
{
    (void)with;
    (void)e;
    return done <= all;
}

static void
live(Heard *heard, uint32_t people, uint64_t interactions, uint64_t seed, Arena *arena)
{
    Err e = {0};

    *heard = (Heard){.people = people, .mark = 0xcbf29ce484222325u};
    heard->o = organisation_new(people, seed, arena, &e);
    assert_non_null(heard->o);
    heard->count = arena_alloc_array(arena, (size_t)people * people, sizeof *heard->count, &e);
    heard->weight = arena_alloc_array(arena, (size_t)people * people, sizeof *heard->weight, &e);
    heard->latest = arena_alloc_array(arena, (size_t)people * people, sizeof *heard->latest, &e);
    assert_true(heard->count && heard->weight && heard->latest);
    assert_true(organisation_live(heard->o, interactions, hear, heard, &e));
    assert_true(organisation_measure(heard->o, go_on, NULL, arena, &e));
    assert_int_equal(heard->interactions, interactions);
}

static void
test_any_size(void **state)
{
    static const struct {
        uint32_t people;
        uint64_t interactions;
    } cases[] = {{2, 0}, {2, 1}, {3, 10}, {5, 1000}, {11, 5}, {40, 0}, {41, 3000}, {300, 20000}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Arena *arena = arena_new(256 << 20);
        uint32_t n = cases[i].people;
        Heard heard;
        Err e = {0};

        print_message("%u people, %u interactions\n", n, (unsigned)cases[i].interactions);
        live(&heard, n, cases[i].interactions, 3, arena);
        assert_true(organisation_edges(heard.o, hear_edge, &heard, &e));
        for (size_t k = 0; k < (size_t)n * n; k++)
            assert_int_equal(heard.count[k], 0); /* every interaction is in an edge */
        for (uint32_t k = 0; k < n; k++) {
            const Employee *who = organisation_employee(heard.o, k);

            assert_true(who->burnout_score >= 0 && who->burnout_score <= 100);
            assert_true(who->degree_centrality >= 0 && who->degree_centrality <= 1);
            assert_true(who->betweenness_centrality >= 0 && who->betweenness_centrality <= 1);
            assert_true(who->clustering_coeff >= 0 && who->clustering_coeff <= 1);
            assert_true(who->name[0] && who->team[0] && who->role[0]);
            assert_true(k == 0 ? who->manager == -1 : who->manager >= 0 && who->manager < k);
            assert_true(k == 0 || strcmp(who->id, organisation_employee(heard.o, k - 1)->id) > 0);
        }
        arena_free(arena);
    }
}

static void
test_same_seed_same_rows(void **state)
{
    Arena *arena = arena_new(64 << 20);
    Heard one, two, other;

    (void)state;
    live(&one, 100, 5000, 9, arena);
    live(&two, 100, 5000, 9, arena);
    live(&other, 100, 5000, 10, arena);
    assert_true(one.mark == two.mark);
    assert_true(one.mark != other.mark);
    for (uint32_t i = 0; i < 100; i++)
        assert_true(organisation_employee(one.o, i)->burnout_score ==
                    organisation_employee(two.o, i)->burnout_score);
    /* Equal on every machine and in every version: who changes the rows says so in CHANGELOG.md. */
    assert_string_equal(organisation_employee(one.o, 0)->id, "E00001");
    assert_true(one.mark == 0xb5fa6b50d1b976e7u);
    arena_free(arena);
}

/* Most of it in office hours, and with people of the own team. */
static void
test_is_like_life(void **state)
{
    Arena *arena = arena_new(256 << 20);
    uint64_t inside = 0, all = 0;
    Heard heard;

    (void)state;
    live(&heard, 400, 40000, 1, arena);
    for (uint32_t a = 0; a < 400; a++)
        for (uint32_t b = 0; b < 400; b++) {
            uint64_t count = heard.count[(size_t)a * 400 + b];

            all += count;
            if (organisation_employee(heard.o, a)->team == organisation_employee(heard.o, b)->team)
                inside += count;
        }
    assert_int_equal(all, 40000);
    assert_true(inside > all * 7 / 10 && inside < all);
    arena_free(arena);
}

static void
test_without_memory(void **state)
{
    (void)state;
    for (unsigned long nth = 1;; nth++) {
        Arena *arena = arena_new(64 << 20);
        Organisation *o;
        Err e = {0};
        bool ok;

        arena_fail_at(nth);
        o = organisation_new(30, 1, arena, &e);
        ok = o && organisation_measure(o, go_on, NULL, arena, &e);
        arena_fail_at(0);
        arena_free(arena);
        assert_true(ok || e.code == ERR_MEMORY_LIMIT);
        if (ok)
            break;
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_size),
        cmocka_unit_test(test_same_seed_same_rows),
        cmocka_unit_test(test_is_like_life),
        cmocka_unit_test(test_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
