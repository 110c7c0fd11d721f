/*
 * Graph: who stands where in a network of people. An undirected simple graph and its three
 * measures, normalised as networkx does.
 */
#ifndef CLI_GRAPH_H
#define CLI_GRAPH_H

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

/* Neighbours of node i are neighbour[first[i]] … neighbour[first[i + 1] - 1], ascending; an edge
 * stands with both of its ends. No loops. */
typedef struct {
    uint32_t nodes;
    const uint64_t *first; /* nodes + 1 */
    const uint32_t *neighbour;
} Graph;

/* Share of the others that a node is tied to: degree / (nodes - 1). */
void graph_degree(const Graph *g, double *degree);

/* How many of the pairs of its neighbours are tied: 0 with fewer than two neighbours (Watts and
 * Strogatz, Nature 393, 1998). */
bool graph_clustering(const Graph *g, double *clustering, Arena *scratch, Err *e) MUST_CHECK;

/*
 * Share of the shortest paths between two others that lead over a node (Brandes, Journal of
 * Mathematical Sociology 25, 2001). Counted from `sources` nodes, which `seed` chooses, and scaled
 * up; from all nodes, and exact, when `sources` is at least their number. Asks `go_on` after each
 * source.
 */
typedef bool GraphGoOn(void *with, uint32_t done, uint32_t sources, Err *e);
bool graph_betweenness(const Graph *g, uint32_t sources, uint64_t seed, double *betweenness,
    GraphGoOn *go_on, void *with, Arena *scratch, Err *e) MUST_CHECK;

/* A stream of 64 random bits a call; the same for the same seed, everywhere (Steele, Lea, Flood:
 * Fast splittable pseudorandom number generators, 2014). */
static inline uint64_t
random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* 0 … below - 1; `below` is not 0. */
static inline uint32_t
random_below(uint64_t *state, uint32_t below)
{
    return (uint32_t)((random_next(state) >> 32) * below >> 32);
}

#endif
