/*
 * drain: reads the binary COPY of a query and throws it away: what one connection can give to any
 * program that stands on libpq. Prints rows, bytes and seconds as JSON.
 *
 *   drain URL QUERY
 */
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAME_BYTES = 64 }; /* what stands around the query */

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

int
main(int argc, char **argv)
{
    int64_t begun_ns = now_ns();
    uint64_t bytes = 0, messages = 0, rows;
    PGconn *connection;
    char *row;
    int got;

    if (argc != 3) {
        fprintf(stderr, "usage: drain URL QUERY\n");
        return 2;
    }
    connection = PQconnectdb(argv[1]);
    if (PQstatus(connection) != CONNECTION_OK)
        die("connecting", connection);
    begin_copy(connection, argv[2]);
    while ((got = PQgetCopyData(connection, &row, 0)) > 0) {
        bytes += (uint64_t)got;
        messages++;
        PQfreemem(row);
    }
    if (got != -1)
        die("reading", connection);
    end_copy(connection);
    PQfinish(connection);

    /* A message each row, with the header before the first one, and one for the end. */
    rows = messages > 0 ? messages - 1 : 0;
    printf("{\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"seconds\":%.3f}\n", rows, bytes,
        (double)(now_ns() - begun_ns) / 1e9);
    return 0;
}
