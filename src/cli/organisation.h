/*
 * Organisation: the people of the demo database, what they do with each other over one year, and
 * what that says about them (docs/decisions/0007-demo-data.md).
 *
 * The same employees, interactions and seed give the same rows, everywhere. Memory grows with the
 * employees (some 700 bytes each), not with the interactions.
 */
#ifndef CLI_ORGANISATION_H
#define CLI_ORGANISATION_H

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum {
    ORGANISATION_EMPLOYEES_MAX = 1000000,
    ORGANISATION_INTERACTIONS_MAX = 1000000000,
    EMPLOYEE_ID_BYTES = 12,
    EMPLOYEE_NAME_BYTES = 48,
    WHEN_BYTES = 19, /* "2025-03-04T14:05:06", UTC */
};

typedef struct {
    char id[EMPLOYEE_ID_BYTES]; /* "E00042" */
    char name[EMPLOYEE_NAME_BYTES];
    const char *team, *role;
    int64_t manager; /* index; -1: none */
    double degree_centrality, betweenness_centrality, clustering_coeff, burnout_score;
} Employee;

typedef struct {
    const char *when; /* WHEN_BYTES, without NUL */
    uint32_t source, target;
    const char *type;
    double weight;
} Interaction;

/* All interactions from one person to another. */
typedef struct {
    uint32_t source, target;
    uint64_t interactions;
    double weight;
    char last_updated[WHEN_BYTES + 1];
} Edge;

typedef struct Organisation Organisation;

/* Hires everybody. At least two employees. */
Organisation *organisation_new(uint32_t employees, uint64_t seed, Arena *arena, Err *e) MUST_CHECK;

/* Lets a year pass: `found` hears each interaction in the order of time, and counts in the edges.
 */
typedef bool InteractionFound(void *with, const Interaction *interaction, Err *e);
bool organisation_live(
    Organisation *o, uint64_t interactions, InteractionFound *found, void *with, Err *e) MUST_CHECK;

/* What the interactions so far make of everybody: fills in the measures of all employees. */
typedef bool MeasureGoOn(void *with, uint32_t done, uint32_t all, Err *e);
bool organisation_measure(
    Organisation *o, MeasureGoOn *go_on, void *with, Arena *scratch, Err *e) MUST_CHECK;

const Employee *organisation_employee(const Organisation *o, uint32_t index);

/* Every edge, by source, then by target. */
typedef bool EdgeFound(void *with, const Edge *edge, Err *e);
bool organisation_edges(const Organisation *o, EdgeFound *found, void *with, Err *e) MUST_CHECK;

#endif
