#include "cli/graph.h"

#include <string.h>

static uint32_t
degree_of(const Graph *g, uint32_t node)
{
    return (uint32_t)(g->first[node + 1] - g->first[node]);
}

void
graph_degree(const Graph *g, double *degree)
{
    for (uint32_t i = 0; i < g->nodes; i++)
        degree[i] = g->nodes > 1 ? (double)degree_of(g, i) / (double)(g->nodes - 1) : 0;
}

/* --- clustering --- */

/* Every edge gets a direction, from the end with fewer neighbours; so no node has many ways out,
 * and each triangle is met once. */
static bool
goes_out(const Graph *g, uint32_t from, uint32_t to)
{
    uint32_t a = degree_of(g, from), b = degree_of(g, to);

    return a < b || (a == b && from < to);
}

static void
count_triangles(const Graph *g, uint64_t *triangles, uint32_t *mark)
{
    for (uint32_t u = 0; u < g->nodes; u++) {
        for (uint64_t i = g->first[u]; i < g->first[u + 1]; i++)
            if (goes_out(g, u, g->neighbour[i]))
                mark[g->neighbour[i]] = u + 1;
        for (uint64_t i = g->first[u]; i < g->first[u + 1]; i++) {
            uint32_t v = g->neighbour[i];

            if (!goes_out(g, u, v))
                continue;
            for (uint64_t j = g->first[v]; j < g->first[v + 1]; j++) {
                uint32_t w = g->neighbour[j];

                if (mark[w] == u + 1 && goes_out(g, v, w)) {
                    triangles[u]++;
                    triangles[v]++;
                    triangles[w]++;
                }
            }
        }
    }
}

bool
graph_clustering(const Graph *g, double *clustering, Arena *scratch, Err *e)
{
    ArenaMark mark = arena_mark(scratch);
    uint64_t *triangles = arena_alloc_array(scratch, g->nodes, sizeof *triangles, e);
    uint32_t *seen = triangles ? arena_alloc_array(scratch, g->nodes, sizeof *seen, e) : NULL;

    if (!seen)
        return false;
    count_triangles(g, triangles, seen);
    for (uint32_t i = 0; i < g->nodes; i++) {
        double pairs = (double)degree_of(g, i) * ((double)degree_of(g, i) - 1) / 2;

        clustering[i] = pairs > 0 ? (double)triangles[i] / pairs : 0;
    }
    arena_rewind(scratch, mark);
    return true;
}

/* --- betweenness --- */

typedef struct {
    int32_t *distance;  /* from the source; -1: not reached */
    double *paths;      /* shortest ones from the source */
    double *dependency; /* of the source on this node */
    uint32_t *order;    /* as they were reached */
} Search;

static uint32_t
search_from(const Graph *g, uint32_t source, Search *s)
{
    uint32_t reached = 1;

    s->distance[source] = 0;
    s->paths[source] = 1;
    s->order[0] = source;
    for (uint32_t at = 0; at < reached; at++) {
        uint32_t v = s->order[at];

        for (uint64_t i = g->first[v]; i < g->first[v + 1]; i++) {
            uint32_t w = g->neighbour[i];

            if (s->distance[w] < 0) {
                s->distance[w] = s->distance[v] + 1;
                s->order[reached++] = w;
            }
            if (s->distance[w] == s->distance[v] + 1)
                s->paths[w] += s->paths[v];
        }
    }
    return reached;
}

/* From the farthest node back: whoever is one step nearer to the source gets its share. */
static void
gather(const Graph *g, uint32_t source, uint32_t reached, const Search *s, double *betweenness)
{
    for (uint32_t at = reached; at-- > 0;) {
        uint32_t w = s->order[at];
        double share = (1 + s->dependency[w]) / s->paths[w];

        for (uint64_t i = g->first[w]; i < g->first[w + 1]; i++) {
            uint32_t v = g->neighbour[i];

            if (s->distance[v] + 1 == s->distance[w])
                s->dependency[v] += s->paths[v] * share;
        }
        if (w != source)
            betweenness[w] += s->dependency[w];
    }
}

static void
forget(const Search *s, uint32_t reached)
{
    for (uint32_t at = 0; at < reached; at++) {
        s->distance[s->order[at]] = -1;
        s->paths[s->order[at]] = 0;
        s->dependency[s->order[at]] = 0;
    }
}

/* All nodes in an order by chance, of which the first ones are taken. */
static uint32_t *
shuffled(uint32_t nodes, uint64_t seed, Arena *scratch, Err *e)
{
    uint32_t *node = arena_alloc_array(scratch, nodes, sizeof *node, e);

    for (uint32_t i = 0; node && i < nodes; i++)
        node[i] = i;
    for (uint32_t i = 0; node && i + 1 < nodes; i++) {
        uint32_t other = i + random_below(&seed, nodes - i), kept = node[i];

        node[i] = node[other];
        node[other] = kept;
    }
    return node;
}

bool
graph_betweenness(const Graph *g, uint32_t sources, uint64_t seed, double *betweenness,
    GraphGoOn *go_on, void *with, Arena *scratch, Err *e)
{
    ArenaMark mark = arena_mark(scratch);
    uint32_t n = g->nodes, *source;
    double scale;
    Search s;

    if (sources > n)
        sources = n;
    if (!(source = shuffled(n, seed, scratch, e)) ||
        !(s.distance = arena_alloc_array(scratch, n, sizeof *s.distance, e)) ||
        !(s.paths = arena_alloc_array(scratch, n, sizeof *s.paths, e)) ||
        !(s.dependency = arena_alloc_array(scratch, n, sizeof *s.dependency, e)) ||
        !(s.order = arena_alloc_array(scratch, n, sizeof *s.order, e)))
        return false;
    memset(s.distance, 0xff, n * sizeof *s.distance);
    memset(betweenness, 0, n * sizeof *betweenness);
    for (uint32_t i = 0; i < sources; i++) {
        uint32_t reached = search_from(g, source[i], &s);

        gather(g, source[i], reached, &s, betweenness);
        forget(&s, reached);
        if (!go_on(with, i + 1, sources, e))
            return false;
    }
    /* Each pair was met from both of its ends; there are (n - 1)(n - 2) such pairs of others. */
    scale = n > 2 && sources > 0 ? (double)n / (double)sources / ((double)(n - 1) * (double)(n - 2))
                                 : 0;
    for (uint32_t i = 0; i < n; i++)
        betweenness[i] *= scale;
    arena_rewind(scratch, mark);
    return true;
}
