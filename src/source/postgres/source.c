/*
 * PostgreSQL as a source: the rows of a query by binary COPY, inside one transaction that only
 * reads and is the snapshot.
 *
 * The columns are made here, so that the server does less than it would for a text. An export has
 * one connection, or several that share the snapshot and each read one range of the rows after the
 * other; their rows leave in the order of the ranges. Who is ahead of its turn is read into a
 * buffer of limited size and then waits, as does the server behind it.
 */
#include <stdio.h>
#include <time.h>

#include "base/time.h"
#include "source/postgres/postgres_in.h"

enum {
    WAIT_MS = 200, /* a batch that has rows does not wait longer for more */
    /* While rows flow, this long for more of them to gather. A server sends 8 KiB at a time, and
     * to wake a reader for each costs it a quarter of its time; meanwhile it fills some 50 KiB of
     * the 200 that a socket holds. */
    GATHER_US = 100,
    READ_BYTES = 32 << 10, /* what libpq receives at once is less */
    STATEMENT_BYTES_MAX = 16 << 20,
    CHECK_BYTES_MAX = 1 << 20,
    CHECK_MS = 10000,
    ASKED_MAX = 8, /* ranges that a connection has asked for and are not written yet */
};

extern const SourceKind source_postgres;
const char *source_postgres_library_version(void); /* for main.c */

typedef enum { STREAM_IDLE, STREAM_ASKED, STREAM_COPYING } StreamState;

/* A connection, and the rows that came over it before their turn. */
typedef struct {
    PgSession session;
    StreamState state;
    PgCopy copy; /* of the range that is first in `range` */
    Buf in;
    size_t at; /* of `in`: what lies before is done with */
    size_t range[ASKED_MAX];
    unsigned first, ranges; /* a ring */
} PgStream;

typedef struct {
    Source base;
    Schema schema;
    PgColumns columns;
    PgRanges ranges;
    size_t asked, written; /* ranges */
    PgStream *stream;
    size_t streams;
    Buf statement;
    /* Two sets, filled in turn: a batch is still read while the next one is made. */
    struct {
        ColumnBuilder *builder;
        Column *column;
    } set[2];
    unsigned turn;
    bool flows; /* something came since it was last waited for */
    uint64_t rows;
} PgSource;

/* --- streams --- */

static bool
ask_range(PgSource *s, PgStream *stream, Err *e)
{
    size_t range = s->asked;

    buf_clear(&s->statement);
    /* A newline behind the query: a comment in its last line must not swallow what follows. */
    buf_text(&s->statement, "COPY (\n");
    pg_ranges_statement(&s->ranges, range, &s->statement);
    buf_text(&s->statement, "\n) TO STDOUT (FORMAT binary)");
    if (!buf_is_good(&s->statement, e) || !pg_session_settle(&stream->session, e) ||
        !pg_session_send(&stream->session, s->statement.data, 0, NULL, e))
        return false;
    stream->range[(stream->first + stream->ranges) % ASKED_MAX] = range;
    stream->ranges++;
    stream->state = STREAM_ASKED;
    s->asked++;
    return PQflush(stream->session.conn) >= 0 ||
           pg_session_fail(&stream->session, NULL, "sending", e);
}

static bool
has_room(const PgSource *s, const PgStream *stream)
{
    return stream->in.bytes - stream->at < PG_AHEAD_BYTES / s->streams &&
           stream->ranges < ASKED_MAX;
}

/* Whoever has nothing to do gets the next range; behind the last one its transaction ends. */
static bool
give_ranges(PgSource *s, Err *e)
{
    for (size_t i = 0; i < s->streams; i++) {
        PgStream *stream = &s->stream[i];

        if (stream->state != STREAM_IDLE || stream->session.ends)
            continue;
        if (s->asked == s->ranges.count)
            pg_session_end(&stream->session);
        else if (has_room(s, stream) && !ask_range(s, stream, e))
            return false;
    }
    return true;
}

static bool
is_its_turn(const PgSource *s, const PgStream *stream)
{
    return stream->ranges > 0 && stream->range[stream->first] == s->written;
}

static PgStream *
find_turn(PgSource *s)
{
    for (size_t i = 0; i < s->streams; i++)
        if (is_its_turn(s, &s->stream[i]))
            return &s->stream[i];
    return NULL;
}

/* What was read goes into the batch; a range that ends passes the turn on. */
static bool
take_rows(PgSource *s, PgStream *stream, PgBatch *batch, Err *e)
{
    Buf *in = &stream->in;
    size_t used = 1;

    while (used > 0 && !batch->full && is_its_turn(s, stream) && stream->at < in->bytes) {
        if (!pg_copy_take(&stream->copy, (const uint8_t *)in->data + stream->at,
                in->bytes - stream->at, batch, &used, e))
            return false;
        stream->at += used;
        if (stream->copy.has_ended) {
            stream->copy = pg_copy_new(&s->columns);
            stream->first = (stream->first + 1) % ASKED_MAX;
            stream->ranges--;
            s->written++;
        }
    }
    if (stream->at == in->bytes) {
        buf_reset(in, 2 * PG_AHEAD_BYTES / s->streams); /* it grows by doubling */
        stream->at = 0;
    } else if (stream->at > in->bytes / 2) {
        buf_drop(in, stream->at);
        stream->at = 0;
    }
    return true;
}

/*
 * Whole rows that libpq has received, some READ_BYTES of them, behind those in `in`. Not by
 * PQgetCopyData(), which allocates and frees each row: that takes longer than to read it. `*got`:
 * bytes; 0: none are there; -1: they have ended.
 */
static bool
get_rows(PgStream *stream, int *got, Err *e)
{
    Buf *in = &stream->in;
    size_t before = in->bytes;

    *got = 0;
    if (in->room_bytes - in->bytes <= READ_BYTES) { /* before it grows */
        buf_drop(in, stream->at);
        before -= stream->at;
        stream->at = 0;
    }
    for (bool whole = false; !whole || in->bytes - before < READ_BYTES;) {
        char *to = buf_reserve(in, READ_BYTES);
        size_t room = to ? in->room_bytes - in->bytes - 1 : 0;

        if (!to && in->bytes - before > ROW_BYTES_MAX)
            return fail(e, SIZE_LIMIT, "a row of more than %d MiB", ROW_BYTES_MAX >> 20);
        if (!to)
            return buf_is_good(in, e);
        if ((*got = PQgetlineAsync(stream->session.conn, to, (int)room)) <= 0)
            break;
        buf_wrote(in, (size_t)*got);
        whole = (size_t)*got < room; /* else the rest of it comes next */
    }
    if (in->bytes > before)
        *got = (int)(in->bytes - before);
    return true;
}

/* The server has sent all of a range: only its word that the statement succeeded makes that true.
 */
static bool
end_copy(PgStream *stream, Err *e)
{
    PGresult *result = pg_session_result(&stream->session, PGRES_COMMAND_OK, "reading the rows", e);

    PQclear(result);
    stream->state = STREAM_IDLE;
    return result != NULL;
}

/* What has arrived, as far as there is room for it. */
static bool
read_stream(PgSource *s, PgStream *stream, PgBatch *batch, Err *e)
{
    PgSession *session = &stream->session;
    bool dry = false; /* nothing whole came since the socket was read */

    session->readable = session->readable || pg_session_hides_bytes(session);
    while (stream->state == STREAM_COPYING &&
           (is_its_turn(s, stream) ? !batch->full : has_room(s, stream))) {
        int got;

        if (!get_rows(stream, &got, e))
            return false;
        if (got < 0)
            return end_copy(stream, e);
        if (got == 0) {
            if (!session->readable)
                break;
            session->readable = !dry; /* there may be more than one read takes */
            dry = true;
            if (!PQconsumeInput(session->conn))
                return pg_session_fail(session, NULL, "reading the rows", e);
            continue;
        }
        dry = false;
        s->flows = true;
        if (!take_rows(s, stream, batch, e))
            return false;
    }
    return true;
}

/* Its statement was sent: has it begun to answer? */
static bool
look_for_answer(PgStream *stream, Err *e)
{
    PgSession *session = &stream->session;
    PGresult *result;

    if (PQflush(session->conn) < 0)
        return pg_session_fail(session, NULL, "sending", e);
    if (session->readable || pg_session_hides_bytes(session)) {
        session->readable = false;
        if (!PQconsumeInput(session->conn))
            return pg_session_fail(session, NULL, "asking for the rows", e);
    }
    if (PQisBusy(session->conn))
        return true;
    if (!(result = pg_session_result(session, PGRES_COPY_OUT, "asking for the rows", e)))
        return false;
    PQclear(result);
    stream->state = STREAM_COPYING;
    return true;
}

static bool
is_waited_for(const PgSource *s, const PgStream *stream)
{
    return stream->state == STREAM_ASKED ||
           (stream->state == STREAM_COPYING && (is_its_turn(s, stream) || has_room(s, stream)));
}

/* Until something arrives; `*waited` in vain. */
static bool
wait_for_rows(PgSource *s, bool *waited, Err *e)
{
    PgSession *session[PG_CONNECTIONS_MAX];
    size_t count = 0;
    bool ready = false;

    for (size_t i = 0; i < s->streams; i++) {
        if (!is_waited_for(s, &s->stream[i]))
            continue;
        session[count++] = &s->stream[i].session;
        if (pg_session_is_overdue(&s->stream[i].session))
            return fail(e, SOURCE_TIMEOUT, "source %s does not go on sending",
                s->stream[i].session.spec->name);
    }
    if (count == 0)
        return fail(e, SOURCE_QUERY, "the rows ended without their end");
    if (s->flows)
        (void)nanosleep(&(struct timespec){.tv_nsec = GATHER_US * 1000}, NULL);
    s->flows = false;
    if (!pg_wait_any(session, count, false, WAIT_MS, &ready, e))
        return false;
    *waited = !ready;
    return true;
}

/* One turn over all connections. */
static bool
read_all(PgSource *s, PgBatch *batch, Err *e)
{
    for (size_t i = 0; i < s->streams; i++) {
        PgStream *stream = &s->stream[i];

        if ((stream->state == STREAM_ASKED && !look_for_answer(stream, e)) ||
            !read_stream(s, stream, batch, e))
            return false;
    }
    return give_ranges(s, e);
}

/* What was read ahead, as long as it is there and there is room. */
static bool
take_all_buffered(PgSource *s, PgBatch *batch, Err *e)
{
    PgStream *stream;
    size_t before;

    do {
        before = s->written;
        if ((stream = find_turn(s)) && !take_rows(s, stream, batch, e))
            return false;
    } while (!batch->full && s->written > before);
    return true;
}

/* All rows are written: does every statement say that it went well? */
static bool
finish(PgSource *s, PgBatch *batch, Err *e)
{
    for (size_t i = 0; i < s->streams; i++) {
        PgStream *stream = &s->stream[i];

        while (stream->state != STREAM_IDLE) {
            bool waited;

            if (!read_all(s, batch, e) ||
                (stream->state != STREAM_IDLE && !wait_for_rows(s, &waited, e)))
                return false;
        }
        if (stream->in.bytes > stream->at)
            return fail(e, SOURCE_QUERY, "the server sent something behind the last row");
    }
    return give_ranges(s, e);
}

/* --- the source --- */

static bool
pg_next(Source *source, Batch *batch, Err *e)
{
    PgSource *s = (PgSource *)source;
    PgBatch made;

    s->turn ^= 1;
    made = (PgBatch){.builder = s->set[s->turn].builder, .rows_before = s->rows};
    for (size_t i = 0; i < s->columns.columns; i++)
        builder_begin(&made.builder[i]);
    while (!made.full && s->written < s->ranges.count) {
        size_t rows = made.rows, written = s->written;
        bool waited = false;

        if (!take_all_buffered(s, &made, e) || !read_all(s, &made, e))
            return false;
        if (made.full || made.rows > rows || s->written > written)
            continue;
        if (!wait_for_rows(s, &waited, e))
            return false;
        if (waited && made.rows > 0)
            break;
    }
    if (made.rows == 0 && !finish(s, &made, e))
        return false;
    for (size_t i = 0; i < s->columns.columns; i++)
        builder_show(&made.builder[i], &s->set[s->turn].column[i]);
    s->rows += made.rows;
    *batch = (Batch){made.rows, &s->schema, s->set[s->turn].column};
    return true;
}

static void
pg_close(Source *source)
{
    PgSource *s = (PgSource *)source;
    /* An export that was read to its end leaves a connection that can be used again. */
    bool is_done = s->written == s->ranges.count;
    PgSession *session[PG_CONNECTIONS_MAX];

    for (size_t i = 0; i < s->streams; i++)
        session[i] = &s->stream[i].session;
    pg_sessions_cancel(session, s->streams);
    for (size_t i = 0; i < s->streams; i++) {
        pg_session_close(session[i], is_done && i == 0);
        buf_free(&s->stream[i].in);
    }
    s->streams = 0;
    for (unsigned k = 0; k < 2; k++)
        for (size_t i = 0; s->set[k].builder && i < s->columns.columns; i++)
            builder_free(&s->set[k].builder[i]);
    s->set[0].builder = s->set[1].builder = NULL;
    buf_free(&s->statement);
}

static bool
make_sets(PgSource *s, Arena *task, Err *e)
{
    size_t count = s->columns.columns;

    for (unsigned k = 0; k < 2; k++) {
        ColumnBuilder *builder = arena_alloc_array(task, count, sizeof *builder, e);

        if (!builder || !(s->set[k].column = arena_alloc_array(task, count, sizeof(Column), e)))
            return false;
        memset(builder, 0, count * sizeof *builder); /* so that each can be freed */
        s->set[k].builder = builder;
        for (size_t i = 0; i < count; i++)
            builder[i].text = buf_new(1);
        for (size_t i = 0; i < count; i++)
            if (!builder_init(&builder[i], &s->columns.column[i], task, e))
                return false;
    }
    return true;
}

/* The others read what the first one sees. */
static bool
open_others(PgSource *s, const PgBound *bound, Arena *task, Err *e)
{
    PgSession *first = &s->stream[0].session;
    PGresult *answer;
    const char *snapshot;

    if (s->ranges.count == 1 || first->spec->parallel->connections == 1)
        return true;
    if (!(answer = pg_session_ask(first, "SELECT pg_catalog.pg_export_snapshot()", 0, NULL, e)))
        return false;
    snapshot = arena_text(task, PQntuples(answer) == 1 ? PQgetvalue(answer, 0, 0) : "?", e);
    PQclear(answer);
    while (snapshot && s->streams < first->spec->parallel->connections) {
        PgSession *session = &s->stream[s->streams].session;

        if (!pg_session_open(session, first->spec, first->watch, bound, snapshot, false, task, e))
            return false;
        s->streams++;
        if (!pg_session_settle(session, e))
            return false;
    }
    return snapshot != NULL;
}

static bool
ask(PgSource *s, const SourceSpec *spec, Watch *watch, const PgBound *bound, bool may_be_kept,
    Arena *task, PgPlan *plan, Err *e)
{
    PgSession *first = &s->stream[0].session;

    s->streams = 0;
    if (!pg_session_open(first, spec, watch, bound, NULL, may_be_kept, task, e))
        return false;
    s->streams = 1;
    return pg_columns(first, bound, task, &s->columns, plan, e);
}

/* Connects, and decides what is asked. */
static bool
prepare(PgSource *s, const SourceSpec *spec, Watch *watch, Arena *task, Err *e)
{
    PgSession *first = &s->stream[0].session;
    PgBound bound;
    PgPlan plan;

    if (!pg_bind(spec, task, &bound, e))
        return false;
    s->base.snapshot_wall_us = time_wall_us();
    if (!ask(s, spec, watch, &bound, true, task, &plan, e)) {
        /* A connection that was kept may have died without a word. */
        if (!first->is_kept || e->code != ERR_SOURCE_UNAVAILABLE)
            return false;
        err_clear(e);
        pg_session_close(first, false);
        if (!ask(s, spec, watch, &bound, false, task, &plan, e))
            return false;
    }
    s->base.rows_estimated = plan.rows;
    pg_ranges_whole(&s->columns, &s->ranges);
    return (!spec->parallel || pg_ranges_split(first, &s->columns, &plan, task, &s->ranges, e)) &&
           open_others(s, &bound, task, e);
}

static Source *
pg_open(const SourceSpec *spec, Watch *watch, Arena *task, Err *e)
{
    size_t streams = spec->parallel ? spec->parallel->connections : 1;
    PgSource *s = arena_alloc(task, sizeof *s, e);

    if (!s || !(s->stream = arena_alloc_array(task, streams, sizeof *s->stream, e)))
        return NULL;
    if (streams > PG_CONNECTIONS_MAX) {
        fail(e, SOURCE_QUERY, "more than %d connections", PG_CONNECTIONS_MAX);
        return NULL;
    }
    s->base = (Source){.kind = &source_postgres, .rows_estimated = -1};
    s->statement = buf_new(STATEMENT_BYTES_MAX);
    for (size_t i = 0; i < streams; i++)
        s->stream[i] = (PgStream){.in = buf_new(PG_AHEAD_BYTES + 2 * ROW_BYTES_MAX)};
    if (prepare(s, spec, watch, task, e) && make_sets(s, task, e) &&
        watch->go_on(watch, STAGE_QUERYING, 0, 0, e)) {
        for (size_t i = 0; i < s->streams; i++)
            s->stream[i].copy = pg_copy_new(&s->columns);
        s->schema = (Schema){s->columns.columns, s->columns.column};
        s->base.schema = &s->schema;
        if (give_ranges(s, e))
            return &s->base;
    }
    s->written = SIZE_MAX; /* nothing of it is kept */
    pg_close(&s->base);
    return NULL;
}

static bool
pg_check(const SourceSpec *spec, Watch *watch, Err *e)
{
    SourceSpec alone = *spec;
    const PgBound none = {0};
    Arena *arena = arena_new(CHECK_BYTES_MAX);
    PGresult *answer = NULL;
    PgSession session;
    bool ok = false;

    if (!arena)
        return fail(e, MEMORY_LIMIT, "no memory for a check");
    if (alone.timeout_ms == 0)
        alone.timeout_ms = CHECK_MS;
    if (pg_session_open(&session, &alone, watch, &none, NULL, false, arena, e)) {
        answer = pg_session_ask(&session, "SELECT 1", 0, NULL, e);
        ok = answer && pg_session_settle(&session, e);
        pg_session_close(&session, false);
    }
    PQclear(answer);
    arena_free(arena);
    return ok;
}

const SourceKind source_postgres = {
    .name = "postgres",
    .schemes = (const char *const[]){"postgresql", "postgres", NULL},
    .splits = true,
    .judge = pg_judge_url,
    .open = pg_open,
    .next = pg_next,
    .close = pg_close,
    .check = pg_check,
    .review = pg_review,
    .let_go = pg_session_let_go,
};

const char *
source_postgres_library_version(void)
{
    static char text[16];
    int version = PQlibVersion();

    (void)snprintf(text, sizeof text, "%d.%d", version / 10000, version % 10000);
    return text;
}
