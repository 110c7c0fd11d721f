/*
 * What the files of the PostgreSQL source share. libpq: PostgreSQL 15, chapter 34; the protocol:
 * chapter 55; SQLSTATEs: appendix A.
 */
#ifndef SOURCE_POSTGRES_POSTGRES_IN_H
#define SOURCE_POSTGRES_POSTGRES_IN_H

#include <libpq-fe.h>

#include "flow/builder.h"
#include "source/source.h"

enum { PG_COLUMNS_MAX = 256, PG_CONNECTIONS_MAX = 16, PG_ID_BYTES = 65 };

/* --- bind.c: parameters of a query become text that no value can change --- */

typedef struct {
    const char *name; /* "rowferry.p_team" */
    const char *value;
} PgSetting;

/*
 * A query with every `$name` replaced. Values of text, json and bytes stand in `setting`: they are
 * bound by set_config() before, and the query reads them by current_setting(). All other values
 * were parsed by us and stand as '…'::type, whose letters are checked; NULL is NULL::type.
 */
typedef struct {
    const char *sql; /* without the semicolon at its end */
    const PgSetting *setting;
    size_t settings;
} PgBound;

/* Memory from `task`. SOURCE_QUERY: a parameter that is not declared, a value that no setting can
 * hold (U+0000). Pure. */
bool pg_bind(const SourceSpec *spec, Arena *task, PgBound *bound, Err *e) MUST_CHECK;

/* A value of a type that stands as a literal, with its cast, in parentheses. SOURCE_QUERY. */
bool pg_literal(const SourceParam *param, Buf *sql, Err *e) MUST_CHECK;

/* --- text.c: binary values that we keep as text --- */

/*
 * Each writes the text of one value in the binary form of PostgreSQL's send functions
 * (src/backend/utils/adt) behind what is in `to`. False: not that form. Whether `to` had room is
 * its owner's to ask (buf_is_good); a numeric may take 150 KB. Pure.
 * numeric: digits as numeric_out shows them; NaN, Infinity, -Infinity. interval: ISO 8601 as
 * IntervalStyle iso_8601 shows it. uuid: 36 lower-case characters.
 */
bool pg_numeric_text(const uint8_t *data, size_t bytes, Buf *to) MUST_CHECK;
bool pg_interval_text(const uint8_t *data, size_t bytes, Buf *to) MUST_CHECK;
bool pg_uuid_text(const uint8_t *data, size_t bytes, Buf *to) MUST_CHECK;

/* --- url.c: what a URL means for libpq --- */

typedef struct {
    const char *const *keyword; /* NULL-ended, for PQconnectStartParams, without expand_dbname */
    const char *const *value;
    char id[PG_ID_BYTES]; /* the same for the same words, and for no others */
} PgParams;

/* Of several hosts one that swallows everything is passed over after so long; session.c gives an
 * open connection more. */
#define PG_CONNECTING_USER_TIMEOUT_MS "4000"

/*
 * libpq's keywords from a URL, with user and password of the source in front of the URL's, and what
 * is ours to say (keep-alive, client_encoding, application_name). TLS by default (security.md 8):
 * verify-full, but libpq's own `prefer` where all hosts are Unix sockets, loopback, private
 * addresses or local names, and what a service, PGSERVICE or PGSSLMODE say where there is one. The
 * system's certificates are trusted where nobody names others and ~/.postgresql/root.crt is not
 * there. Memory from `task`. CONFIG_INVALID, without a secret of the URL: as pg_judge_url.
 */
bool pg_params(const SourceSpec *spec, Arena *task, PgParams *params, Err *e) MUST_CHECK;

/* SourceKind.judge. CONFIG_INVALID: not a URL of libpq's, or one that sets what it may not. */
bool pg_judge_url(const char *url, Err *e) MUST_CHECK;

/* --- session.c: one connection, inside one transaction that only reads --- */

typedef struct {
    PGconn *conn;         /* NULL: closed */
    char id[PG_ID_BYTES]; /* of the words that it was made with */
    const SourceSpec *spec;
    Watch *watch;
    int64_t statement_ms; /* limit that the server keeps for each statement; 0: none */
    int64_t asked_ms;     /* when the last statement was sent */
    bool is_query_limit;  /* that is the source's limit, not the task's end */
    bool is_kept;         /* the connection was there before this run */
    unsigned set_up;      /* results of setting up that are still to be read */
    bool synced;          /* the pipeline's end was sent */
    bool runs;            /* a statement may be running on the server */
    bool ends;            /* ROLLBACK is on its way */
    bool readable;        /* its socket has bytes, by pg_wait_any */
    bool deaf;            /* the watch's end_fd said nothing new: it is not asked any more */
} PgSession;

/*
 * Connects (the first of an export takes up what this process kept, if `may_be_kept`) and begins:
 * REPEATABLE READ READ ONLY on `snapshot` (NULL: its own), settings pinned, the query's parameters
 * set. False: `s` is closed.
 */
bool pg_session_open(PgSession *s, const SourceSpec *spec, Watch *watch, const PgBound *bound,
    const char *snapshot, bool may_be_kept, Arena *task, Err *e) MUST_CHECK;

/* ROLLBACK is sent; nobody waits for it. The snapshot is given up, and whatever a function of the
 * query may have set or made in spite of READ ONLY. */
void pg_session_end(PgSession *s);

/* libpq's request for it blocks, on a connection of its own: a thread waits for each, and this for
 * the threads, but not for ever. Sessions where nothing runs are left alone. */
void pg_sessions_cancel(PgSession *const *session, size_t count);

/* Closes, also what runs (pg_sessions_cancel first); after pg_session_end and `keeps` the
 * connection is kept for the next run if its transaction ended well. */
void pg_session_close(PgSession *s, bool keeps);

/* Closes what is kept. */
void pg_session_let_go(void);

/* Sends a statement with bound text values; its result by pg_session_result. `sql` outlives it. */
bool pg_session_send(
    PgSession *s, const char *sql, int values, const char *const *value, Err *e) MUST_CHECK;

/* The same for the unnamed prepared statement and its description: two results. */
bool pg_session_send_prepare(PgSession *s, const char *sql, Err *e) MUST_CHECK;

/* Out of the pipeline, as COPY wants it: everything that was sent has been answered. */
bool pg_session_settle(PgSession *s, Err *e) MUST_CHECK;

/* Sends what is left to send, and waits for the next result. NULL: failed; what was being done is
 * told by `doing`. The caller clears it. */
PGresult *pg_session_result(PgSession *s, ExecStatusType expected, const char *doing, Err *e);

/* One statement from sending to the end of its result. */
PGresult *
pg_session_ask(PgSession *s, const char *sql, int values, const char *const *value, Err *e);

/* Until one of them can be read (or, with `writes`, written) and says so in `readable`, at most
 * `wait_ms` (false in `*ready` then). False: told to end. */
bool pg_wait_any(PgSession *const *session, size_t count, bool writes, int64_t wait_ms, bool *ready,
    Err *e) MUST_CHECK;

/* May bytes be there that no poll() sees? TLS and GSSAPI decrypt more than libpq takes at once. */
bool pg_session_hides_bytes(const PgSession *s);

/* Has the server kept a statement for longer than it was let? */
bool pg_session_is_overdue(const PgSession *s);

/* What went wrong, by SQLSTATE (reliability.md 5); `result` NULL: the connection's own. */
bool pg_session_fail(PgSession *s, const PGresult *result, const char *doing, Err *e);

/* Why the watch ends this. Always false. */
bool pg_session_say_why(PgSession *s, Err *e);

/* --- review.c: SourceKind.review --- */

bool pg_review(const SourceSpec *spec, Watch *watch, Arena *arena, Finding *found, size_t *count,
    Err *e) MUST_CHECK;

/* --- types.c: which of a query's columns become which of ours, and how --- */

/* How a value's bytes are read. */
typedef enum {
    PG_BOOL,
    PG_INT16,
    PG_INT16_AS_INT32,
    PG_INT16_AS_INT64,
    PG_INT32,
    PG_INT32_AS_INT64,
    PG_UINT32_AS_INT64,
    PG_INT64,
    PG_FLOAT,
    PG_FLOAT_AS_DOUBLE,
    PG_DOUBLE,
    PG_DATE,
    PG_TIME,
    PG_TIMESTAMP,
    PG_BYTES,        /* as they are: text, json, bytea … */
    PG_TEXT_CHECKED, /* text of a database that does not know its encoding: must be UTF-8 */
    PG_JSONB,
    PG_NUMERIC,
    PG_INTERVAL,
    PG_UUID,
} PgForm;

typedef struct {
    const char *sql; /* for COPY: yields exactly our columns */
    size_t columns;
    const ColumnSpec *column;
    const PgForm *form;
    const bool *is_cast;    /* to the definition's type, by the server */
    const bool *never_null; /* a table's NOT NULL column, and nothing makes NULL of it */
} PgColumns;

/* What the planner thinks of it; of what it does not tell, -1 or 0. */
typedef struct {
    int64_t rows;
    uint64_t width; /* bytes of a row */
    double cost;
    bool makes_nulls; /* in columns that have none, or may */
} PgPlan;

/* Asks the server what the query yields, and decides. `s` has begun. SOURCE_QUERY names a column
 * that is missing. Memory from `task`. */
bool pg_columns(PgSession *s, const PgBound *bound, Arena *task, PgColumns *columns, PgPlan *plan,
    Err *e) MUST_CHECK;

/* What EXPLAIN (FORMAT JSON) says of a query as a whole. Pure. */
PgPlan pg_read_plan(const PGresult *explained);

/* What a cast to one of our types is called in the schema pg_catalog; static. */
const char *pg_cast_name(ColumnType type);

/* --- copy.c: rows in the binary form of COPY (its page in chapter SQL Commands) --- */

typedef struct {
    const PgColumns *columns;
    size_t fixed_bytes; /* that a row takes of a batch, whatever its texts */
    bool has_begun;     /* the header was read */
    bool has_ended;     /* so was the trailer */
} PgCopy;

typedef struct {
    ColumnBuilder *builder;
    size_t rows, bytes;
    uint64_t rows_before; /* of the whole export, for messages */
    bool full;            /* the next row does not fit any more */
} PgBatch;

PgCopy pg_copy_new(const PgColumns *columns);

/*
 * Takes the whole rows at the front of `data` into the batch, as many as fit; `*used` bytes are
 * done with. What is left may be the beginning of a row. SOURCE_QUERY: these are no such rows, or a
 * value that no column of ours can hold; SIZE_LIMIT. Pure.
 */
bool pg_copy_take(PgCopy *copy, const uint8_t *data, size_t bytes, PgBatch *batch, size_t *used,
    Err *e) MUST_CHECK;

/* --- ranges.c: the ranges of an export --- */

enum { PG_AHEAD_BYTES = 12 << 20 }; /* of all connections that read ahead, together */

/* Statements that are asked one after the other, and together yield every row once, in order. */
typedef struct {
    const char *before,
        *after; /* of a range's predicate; a whole statement if there is one range */
    size_t count;
    uint64_t blocks; /* of places (ctid): blocks of a range; 0: by a column */
    /* Of a column: below bound[0], from each to the next, from the last on, and perhaps NULL. */
    size_t column;
    ColumnType type;
    const int64_t *bound;
    size_t bounds;
} PgRanges;

/* One range: everything. */
void pg_ranges_whole(const PgColumns *columns, PgRanges *ranges);

/*
 * As the definition's `parallel` says. `*ranges` stays as it is where that would not be quicker (a
 * small table; bounds that nobody knows): the log tells. SOURCE_QUERY: it cannot be done with this
 * query or table. The query was planned in this transaction, so that nothing it reads can be
 * dropped before the others have read it. Memory from `task`.
 */
bool pg_ranges_split(PgSession *s, const PgColumns *columns, const PgPlan *plan, Arena *task,
    PgRanges *ranges, Err *e) MUST_CHECK;

/* The SELECT of one range, from 0 on. Pure; any thread. */
void pg_ranges_statement(const PgRanges *ranges, size_t range, Buf *to);

#endif
