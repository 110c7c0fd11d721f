/* The measures of a graph against what their definitions say, by brute force. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#undef fail /* err.h has its own */

#include "cli/graph.h"

enum { NODES_MAX = 24, EDGES_MAX = NODES_MAX * NODES_MAX };

typedef struct {
    uint32_t nodes;
    bool edge[NODES_MAX][NODES_MAX];
    uint64_t first[NODES_MAX + 1];
    uint32_t neighbour[EDGES_MAX];
    Graph graph;
} Net;

static void
join(Net *net, uint32_t a, uint32_t b)
{
    if (a != b)
        net->edge[a][b] = net->edge[b][a] = true;
}

static const Graph *
graph_of(Net *net)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < net->nodes; i++) {
        for (uint32_t j = 0; j < net->nodes; j++)
            if (net->edge[i][j])
                net->neighbour[count++] = j;
        net->first[i + 1] = count;
    }
    net->graph = (Graph){net->nodes, net->first, net->neighbour};
    return &net->graph;
}

/* Distances by Floyd and Warshall; then walks of exactly that length, counted one step at a time.
 */
static void
shortest(const Net *net, int distance[NODES_MAX][NODES_MAX], double paths[NODES_MAX][NODES_MAX])
{
    uint32_t n = net->nodes;

    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            distance[i][j] = i == j ? 0 : net->edge[i][j] ? 1 : 1000;
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < n; j++)
                if (distance[i][k] + distance[k][j] < distance[i][j])
                    distance[i][j] = distance[i][k] + distance[k][j];
    for (uint32_t i = 0; i < n; i++) {
        memset(paths[i], 0, sizeof paths[i]);
        paths[i][i] = 1;
        for (int length = 1; length < (int)n; length++)
            for (uint32_t j = 0; j < n; j++)
                for (uint32_t k = 0; k < n && distance[i][j] == length; k++)
                    if (net->edge[k][j] && distance[i][k] == length - 1)
                        paths[i][j] += paths[i][k];
    }
}

static void
betweenness_by_definition(const Net *net, double *value)
{
    static int distance[NODES_MAX][NODES_MAX];
    static double paths[NODES_MAX][NODES_MAX];
    uint32_t n = net->nodes;

    shortest(net, distance, paths);
    for (uint32_t v = 0; v < n; v++) {
        value[v] = 0;
        for (uint32_t s = 0; s < n; s++)
            for (uint32_t t = s + 1; t < n; t++)
                if (s != v && t != v && distance[s][t] < 1000 &&
                    distance[s][v] + distance[v][t] == distance[s][t])
                    value[v] += paths[s][v] * paths[v][t] / paths[s][t];
        value[v] = n > 2 ? value[v] * 2 / ((n - 1.0) * (n - 2.0)) : 0;
    }
}

static double
clustering_by_definition(const Net *net, uint32_t v)
{
    unsigned pairs = 0, tied = 0;

    for (uint32_t a = 0; a < net->nodes; a++)
        for (uint32_t b = a + 1; b < net->nodes; b++)
            if (net->edge[v][a] && net->edge[v][b]) {
                pairs++;
                tied += net->edge[a][b];
            }
    return pairs ? (double)tied / pairs : 0;
}

static bool
go_on(void *with, uint32_t done, uint32_t sources, Err *e)
{
    unsigned *asked = with;

    (void)e;
    assert_true(done <= sources);
    ++*asked;
    return true;
}

static void
check(Net *net, Arena *scratch)
{
    double degree[NODES_MAX], clustering[NODES_MAX], between[NODES_MAX], want[NODES_MAX];
    const Graph *g = graph_of(net);
    unsigned asked = 0;
    Err e = {0};

    graph_degree(g, degree);
    assert_true(graph_clustering(g, clustering, scratch, &e));
    assert_true(graph_betweenness(g, UINT32_MAX, 7, between, go_on, &asked, scratch, &e));
    assert_int_equal(asked, net->nodes);
    betweenness_by_definition(net, want);
    for (uint32_t v = 0; v < net->nodes; v++) {
        unsigned neighbours = 0;

        for (uint32_t w = 0; w < net->nodes; w++)
            neighbours += net->edge[v][w];
        assert_true(fabs(degree[v] - neighbours / (net->nodes - 1.0)) < 1e-12);
        assert_true(fabs(clustering[v] - clustering_by_definition(net, v)) < 1e-12);
        assert_true(fabs(between[v] - want[v]) < 1e-12);
    }
}

static void
test_random_graphs(void **state)
{
    Arena *scratch = arena_new(1 << 20);
    uint64_t chance = 42;

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        static Net net;

        memset(&net, 0, sizeof net);
        net.nodes = 2 + random_below(&chance, NODES_MAX - 1);
        for (uint32_t i = random_below(&chance, net.nodes * 3); i > 0; i--)
            join(&net, random_below(&chance, net.nodes), random_below(&chance, net.nodes));
        check(&net, scratch);
    }
    arena_free(scratch);
}

/* What everybody can see: the middle of a star, a ring, a clique. */
static void
test_known_graphs(void **state)
{
    double degree[5], clustering[5], between[5];
    Arena *scratch = arena_new(1 << 20);
    static Net star, clique;
    unsigned asked = 0;
    Err e = {0};

    (void)state;
    star.nodes = clique.nodes = 5;
    for (uint32_t i = 1; i < 5; i++)
        join(&star, 0, i);
    for (uint32_t i = 0; i < 25; i++)
        join(&clique, i / 5, i % 5);

    graph_degree(graph_of(&star), degree);
    assert_true(graph_clustering(&star.graph, clustering, scratch, &e));
    assert_true(graph_betweenness(&star.graph, 5, 1, between, go_on, &asked, scratch, &e));
    assert_true(degree[0] == 1 && degree[1] == 0.25);
    assert_true(clustering[0] == 0 && clustering[1] == 0);
    assert_true(between[0] == 1 && between[1] == 0);

    assert_true(graph_clustering(graph_of(&clique), clustering, scratch, &e));
    assert_true(graph_betweenness(&clique.graph, 5, 1, between, go_on, &asked, scratch, &e));
    assert_true(clustering[0] == 1 && between[0] == 0);
    arena_free(scratch);
}

/* In a ring all nodes are alike: any sample, scaled up, has the true sum. */
static void
test_samples(void **state)
{
    static Net ring;
    Arena *scratch = arena_new(1 << 20);
    double all[NODES_MAX], some[NODES_MAX], again[NODES_MAX], sum_all = 0, sum_some = 0;
    unsigned asked = 0;
    Err e = {0};

    (void)state;
    ring.nodes = NODES_MAX;
    for (uint32_t i = 0; i < ring.nodes; i++)
        join(&ring, i, (i + 1) % ring.nodes);
    graph_of(&ring);
    assert_true(graph_betweenness(&ring.graph, NODES_MAX, 1, all, go_on, &asked, scratch, &e));
    asked = 0;
    assert_true(graph_betweenness(&ring.graph, 6, 1, some, go_on, &asked, scratch, &e));
    assert_int_equal(asked, 6);
    assert_true(graph_betweenness(&ring.graph, 6, 1, again, go_on, &asked, scratch, &e));
    assert_memory_equal(some, again, sizeof some);
    assert_true(graph_betweenness(&ring.graph, 6, 2, again, go_on, &asked, scratch, &e));
    assert_memory_not_equal(some, again, sizeof some);
    for (uint32_t i = 0; i < ring.nodes; i++) {
        sum_all += all[i];
        sum_some += some[i];
    }
    assert_true(fabs(sum_all - sum_some) < 1e-12);
    arena_free(scratch);
}

static bool
stop(void *with, uint32_t done, uint32_t sources, Err *e)
{
    (void)with;
    (void)sources;
    return done < 3 || fail(e, INTERRUPTED, "enough");
}

static void
test_stops_when_told(void **state)
{
    static Net ring;
    Arena *scratch = arena_new(1 << 20);
    double between[NODES_MAX];
    Err e = {0};

    (void)state;
    ring.nodes = NODES_MAX;
    for (uint32_t i = 0; i < ring.nodes; i++)
        join(&ring, i, (i + 1) % ring.nodes);
    assert_false(
        graph_betweenness(graph_of(&ring), NODES_MAX, 1, between, stop, NULL, scratch, &e));
    assert_int_equal(e.code, ERR_INTERRUPTED);
    arena_free(scratch);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_graphs),
        cmocka_unit_test(test_known_graphs),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_stops_when_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
