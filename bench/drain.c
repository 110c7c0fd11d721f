/*
 * drain: reads the binary COPY of queries and throws it away, each over a connection and in a
 * thread of its own: what connections can give to any program that stands on libpq. Prints rows,
 * bytes and seconds of all as JSON.
 *
 *   drain URL QUERY...
 */
#include <inttypes.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAME_BYTES = 64 /* what stands around the query */, QUERIES_MAX = 16 };

typedef struct {
    pthread_t thread;
    const char *url, *query;
    uint64_t bytes, messages;
} Drain;

static int64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
die(const char *doing, PGconn *connection)
{
    fprintf(stderr, "drain: %s: %s", doing, PQerrorMessage(connection));
    exit(1);
}

static void
begin_copy(PGconn *connection, const char *query)
{
    size_t bytes = strlen(query) + FRAME_BYTES;
    char *copy = malloc(bytes);
    PGresult *result;

    if (!copy) {
        fprintf(stderr, "drain: no memory\n");
        exit(1);
    }
    snprintf(copy, bytes, "COPY (%s) TO STDOUT (FORMAT binary)", query);
    result = PQexec(connection, copy);
    if (PQresultStatus(result) != PGRES_COPY_OUT)
        die("COPY", connection);
    PQclear(result);
    free(copy);
}

static void
end_copy(PGconn *connection)
{
    PGresult *result = PQgetResult(connection);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die("the end of COPY", connection);
    PQclear(result);
}

static void *
drain(void *with)
{
    Drain *d = with;
    PGconn *connection = PQconnectdb(d->url);
    char *row;
    int got;

    if (PQstatus(connection) != CONNECTION_OK)
        die("connecting", connection);
    begin_copy(connection, d->query);
    while ((got = PQgetCopyData(connection, &row, 0)) > 0) {
        d->bytes += (uint64_t)got;
        d->messages++;
        PQfreemem(row);
    }
    if (got != -1)
        die("reading", connection);
    end_copy(connection);
    PQfinish(connection);
    return NULL;
}

int
main(int argc, char **argv)
{
    static Drain drains[QUERIES_MAX];
    int64_t begun_ns = now_ns();
    uint64_t bytes = 0, rows = 0;
    int queries = argc - 2;

    if (queries < 1 || queries > QUERIES_MAX) {
        fprintf(stderr, "usage: drain URL QUERY...\n");
        return 2;
    }
    for (int i = 0; i < queries; i++) {
        drains[i] = (Drain){.url = argv[1], .query = argv[2 + i]};
        if (pthread_create(&drains[i].thread, NULL, drain, &drains[i]) != 0) {
            fprintf(stderr, "drain: no thread\n");
            return 1;
        }
    }
    for (int i = 0; i < queries; i++) {
        pthread_join(drains[i].thread, NULL);
        bytes += drains[i].bytes;
        /* A message each row, with the header before the first one, and one for the end. */
        rows += drains[i].messages > 0 ? drains[i].messages - 1 : 0;
    }
    printf("{\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"seconds\":%.3f}\n", rows, bytes,
        (double)(now_ns() - begun_ns) / 1e9);
    return 0;
}
