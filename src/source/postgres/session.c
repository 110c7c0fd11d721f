/*
 * One connection, by libpq without blocking: every wait looks at the watch. Statements go out in
 * pipeline mode (PostgreSQL 15, 34.5), so that setting up costs one round trip; all by the extended
 * protocol, which refuses a second statement behind a semicolon.
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "base/time.h"
#include "source/postgres/postgres_in.h"

enum {
    CONNECT_MS = 10000,
    USER_TIMEOUT_MS = 30000, /* a peer that acknowledges nothing is given up */
    LOOK_MS = 200,           /* between two looks at the watch */
    CANCEL_MS = 2000,        /* for the request to be taken */
    CANCEL_STACK_BYTES = 256 << 10,
    ENDING_MS = 1000,         /* for ROLLBACK */
    DEADLINE_SLACK_MS = 2000, /* the server's limit lies behind ours: ours says why */
    SQLSTATE_BYTES = 6,
    MESSAGE_BYTES = 400,
    CHECKS_ITS_CLIENT = 140000, /* server version from which client_connection_check_interval is */
};

/* The connection that this process keeps between two runs: idle, in no transaction. */
static struct {
    PGconn *conn;
    char id[PG_ID_BYTES]; /* of what it was made with */
} kept;

/* --- errors --- */

/* By class or whole SQLSTATE, the first that fits (reliability.md 5). */
static const struct {
    const char *state;
    ErrCode code;
} states[] = {
    {"25P03", ERR_SOURCE_UNAVAILABLE}, /* idle in a transaction for too long */
    {"28", ERR_SOURCE_AUTH},
    {"3D000", ERR_SOURCE_AUTH}, /* no such database: the door stays shut */
    {"40", ERR_SOURCE_CONFLICT},
    {"55P03", ERR_SOURCE_CONFLICT}, /* a lock was not to be had in time */
    {"57P", ERR_SOURCE_UNAVAILABLE},
    {"57014", ERR_SOURCE_CONFLICT}, /* cancelled, and not by us */
    {"08", ERR_SOURCE_UNAVAILABLE},
    {"53100", ERR_MEMORY_LIMIT}, /* no disk, no memory: the query's own need, or a moment's */
    {"53200", ERR_MEMORY_LIMIT},
    {"53400", ERR_SOURCE_QUERY}, /* more than temp_file_limit, and so every time */
    {"53", ERR_SOURCE_UNAVAILABLE},
    {"58", ERR_SOURCE_UNAVAILABLE},
};

static ErrCode
code_of(const char *state)
{
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        if (text_starts(state, states[i].state))
            return states[i].code;
    return ERR_SOURCE_QUERY;
}

/* One line of it, without what libpq puts in front. */
static void
copy_message(char to[MESSAGE_BYTES], const char *message)
{
    (void)text_copy(to, MESSAGE_BYTES, message);
    to[strcspn(to, "\n")] = '\0';
    text_make_printable(to);
}

bool
pg_session_say_why(PgSession *s, Err *e)
{
    return !s->watch->go_on(s->watch, STAGE_QUERYING, 0, 0, e) ? false
                                                               : fail(e, CANCELLED, "told to end");
}

/* Was it a limit, and whose? True: it was none. The message may be in any language, the time is
 * not.
 */
static bool
was_no_limit(const PgSession *s, const char *doing, const char *message, Err *e)
{
    int64_t took_ms = time_now_ms() - s->asked_ms;
    bool is_ours = s->statement_ms > 0 && took_ms >= s->statement_ms;

    if (!is_ours && !strstr(message, "statement timeout"))
        return true;
    if (is_ours && !s->is_query_limit)
        return fail(
            e, TASK_TIMEOUT, "%s in source %s took until the task's end", doing, s->spec->name);
    return fail(e, QUERY_TIMEOUT, "%s in source %s took longer than it may (%" PRId64 " ms)", doing,
        s->spec->name, took_ms);
}

bool
pg_session_fail(PgSession *s, const PGresult *result, const char *doing, Err *e)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *message = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    char text[MESSAGE_BYTES];

    copy_message(text, message ? message : PQerrorMessage(s->conn));
    if (s->watch->asked_to_end(s->watch))
        return pg_session_say_why(s, e);
    /* libpq keeps each message as a whole, whatever its length. */
    if (!state && strstr(text, "memory"))
        return fail(e, MEMORY_LIMIT, "%s in source %s: %s", doing, s->spec->name, text);
    if (!state)
        return fail(e, SOURCE_UNAVAILABLE, "%s in source %s: %s", doing, s->spec->name,
            *text ? text : "the connection is gone");
    if (strcmp(state, "57014") == 0 && !was_no_limit(s, doing, text, e))
        return false;
    return fail_code(
        e, code_of(state), "%s in source %s: %s (%s)", doing, s->spec->name, text, state);
}

/* --- waiting --- */

bool
pg_wait_any(
    PgSession *const *session, size_t count, bool writes, int64_t wait_ms, bool *ready, Err *e)
{
    PgSession *first = session[0];
    int64_t until_ms = time_now_ms() + wait_ms;
    struct pollfd fds[PG_CONNECTIONS_MAX + 1];

    for (size_t i = 0; i < count; i++)
        fds[i] = (struct pollfd){
            .fd = PQsocket(session[i]->conn), .events = (short)(POLLIN | (writes ? POLLOUT : 0))};
    for (;;) {
        int64_t left_ms = until_ms - time_now_ms();
        int found;

        fds[count] =
            (struct pollfd){.fd = first->deaf ? -1 : first->watch->end_fd, .events = POLLIN};
        found = poll(fds, count + 1,
            (int)(left_ms < 0         ? 0
                  : left_ms > LOOK_MS ? LOOK_MS
                                      : left_ms));
        if (found < 0 && errno != EINTR)
            return fail(e, INTERNAL, "poll: %m");
        if (first->watch->asked_to_end(first->watch))
            return pg_session_say_why(first, e);
        if (found > 0 && fds[count].revents) {
            first->deaf = true; /* whatever it is, it is no reason to end */
            found--;
        }
        for (size_t i = 0; found > 0 && i < count; i++)
            session[i]->readable = session[i]->readable || fds[i].revents;
        *ready = found > 0;
        if (*ready || time_now_ms() >= until_ms)
            return true;
    }
}

static bool
wait_for_one(PgSession *s, bool writes, bool *ready, Err *e)
{
    return pg_wait_any(&s, 1, writes, LOOK_MS, ready, e);
}

bool
pg_session_hides_bytes(const PgSession *s)
{
    return PQsslInUse(s->conn) || PQgssEncInUse(s->conn);
}

/* Longer than the server lets a statement run, nobody waits for one; setting up waits for no lock
 * and takes no longer than connecting may. */
bool
pg_session_is_overdue(const PgSession *s)
{
    int64_t most_ms = s->set_up > 0         ? CONNECT_MS
                      : s->statement_ms > 0 ? s->statement_ms + DEADLINE_SLACK_MS
                                            : INT64_MAX;

    return time_now_ms() - s->asked_ms > most_ms;
}

static bool
flush(PgSession *s, Err *e)
{
    int left;

    while ((left = PQflush(s->conn)) == 1) {
        bool ready;

        if (!wait_for_one(s, true, &ready, e))
            return false;
        if (ready && !PQconsumeInput(s->conn))
            return pg_session_fail(s, NULL, "sending", e);
        if (pg_session_is_overdue(s))
            return fail(e, SOURCE_TIMEOUT, "source %s does not listen", s->spec->name);
    }
    return left == 0 || pg_session_fail(s, NULL, "sending", e);
}

/* --- asking --- */

bool
pg_session_send(PgSession *s, const char *sql, int values, const char *const *value, Err *e)
{
    if (s->synced && !pg_session_settle(s, e))
        return false;
    s->runs = true;
    s->asked_ms = time_now_ms();
    return PQsendQueryParams(s->conn, sql, values, NULL, value, NULL, NULL, 0) == 1 ||
           pg_session_fail(s, NULL, "sending", e);
}

bool
pg_session_send_prepare(PgSession *s, const char *sql, Err *e)
{
    s->runs = true;
    s->asked_ms = time_now_ms();
    return (PQsendPrepare(s->conn, "", sql, 0, NULL) == 1 &&
               PQsendDescribePrepared(s->conn, "") == 1) ||
           pg_session_fail(s, NULL, "sending", e);
}

static bool
wait_for_result(PgSession *s, const char *doing, Err *e)
{
    if (!flush(s, e))
        return false;
    while (PQisBusy(s->conn)) {
        bool ready;

        if (!wait_for_one(s, false, &ready, e))
            return false;
        if ((ready || pg_session_hides_bytes(s)) && !PQconsumeInput(s->conn))
            return pg_session_fail(s, NULL, doing, e);
        if (pg_session_is_overdue(s))
            return fail(e, SOURCE_TIMEOUT, "%s: source %s does not answer", doing, s->spec->name);
    }
    return true;
}

/* The next result, which is a good one, and the NULL behind it. */
static PGresult *
take_result(PgSession *s, const char *doing, Err *e)
{
    PGresult *result, *end = NULL;

    if (!wait_for_result(s, doing, e))
        return NULL;
    result = PQgetResult(s->conn);
    switch (PQresultStatus(result)) {
    case PGRES_COPY_OUT:
        return result; /* the rest comes behind the rows */
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        if (wait_for_result(s, doing, e) && !(end = PQgetResult(s->conn)))
            return result;
        if (end)
            fail(e, SOURCE_QUERY, "%s: more than one result", doing);
        break;
    default:
        pg_session_fail(s, result, doing, e);
    }
    PQclear(end);
    PQclear(result);
    return NULL;
}

/* Ends the group of statements that are on their way, and reads what setting up gave. */
static bool
end_pipeline(PgSession *s, Err *e)
{
    if (!s->synced && PQpipelineSync(s->conn) != 1)
        return pg_session_fail(s, NULL, "sending", e);
    s->synced = true;
    for (; s->set_up > 0; s->set_up--) {
        PGresult *result = take_result(s, "beginning", e);

        if (!result)
            return false;
        PQclear(result);
    }
    return true;
}

bool
pg_session_settle(PgSession *s, Err *e)
{
    PGresult *result;
    bool ok;

    if (PQpipelineStatus(s->conn) == PQ_PIPELINE_OFF)
        return true;
    if (!end_pipeline(s, e) || !wait_for_result(s, "beginning", e))
        return false;
    result = PQgetResult(s->conn);
    ok = PQresultStatus(result) == PGRES_PIPELINE_SYNC && PQexitPipelineMode(s->conn) == 1;
    PQclear(result);
    s->synced = s->runs = false;
    return ok || pg_session_fail(s, NULL, "beginning", e);
}

PGresult *
pg_session_result(PgSession *s, ExecStatusType expected, const char *doing, Err *e)
{
    PGresult *result;

    if (PQpipelineStatus(s->conn) != PQ_PIPELINE_OFF && !end_pipeline(s, e))
        return NULL;
    if (!(result = take_result(s, doing, e)))
        return NULL;
    s->runs = expected == PGRES_COPY_OUT || PQpipelineStatus(s->conn) != PQ_PIPELINE_OFF;
    if (PQresultStatus(result) == expected)
        return result;
    PQclear(result);
    fail(e, SOURCE_QUERY, "%s in source %s: not an answer of that kind", doing, s->spec->name);
    return NULL;
}

PGresult *
pg_session_ask(PgSession *s, const char *sql, int values, const char *const *value, Err *e)
{
    return pg_session_send(s, sql, values, value, e)
               ? pg_session_result(s, PGRES_TUPLES_OK, "asking the catalog", e)
               : NULL;
}

/* --- connecting --- */

static void
ignore_notice(void *with, const PGresult *notice)
{
    (void)with;
    (void)notice;
}

/* "…:  28P01: …": libpq tells the SQLSTATE of a refused connection in its verbose message only. */
static bool
find_state(const char *message, char state[SQLSTATE_BYTES])
{
    for (const char *at = message; (at = strstr(at, ":  ")); at += 3) {
        size_t count = strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");

        if (count == SQLSTATE_BYTES - 1 && at[3 + count] == ':') {
            memcpy(state, at + 3, count);
            state[count] = '\0';
            return true;
        }
    }
    return false;
}

static bool
fail_connect(PgSession *s, Err *e)
{
    const char *message = PQerrorMessage(s->conn);
    char text[MESSAGE_BYTES], state[SQLSTATE_BYTES];
    ErrCode code = ERR_SOURCE_UNAVAILABLE;

    copy_message(text, message);
    if (find_state(message, state))
        code = code_of(state);
    else if (PQconnectionNeedsPassword(s->conn))
        code = ERR_SOURCE_AUTH;
    /* A door that is shut is no fault of the query. */
    if (code == ERR_SOURCE_QUERY || code == ERR_SOURCE_CONFLICT)
        code = ERR_SOURCE_UNAVAILABLE;
    return fail_code(e, code, "connecting to source %s: %s", s->spec->name, text);
}

static bool
await_connection(PgSession *s, Err *e)
{
    const unsigned user_timeout_ms = USER_TIMEOUT_MS;
    int64_t until_ms = time_now_ms() + CONNECT_MS;
    PostgresPollingStatusType turn = PGRES_POLLING_WRITING;

    if (!s->conn)
        return fail(e, MEMORY_LIMIT, "no memory for a connection");
    if (PQstatus(s->conn) == CONNECTION_BAD)
        return fail_connect(s, e);
    PQsetNoticeReceiver(s->conn, ignore_notice, NULL);
    (void)PQsetErrorVerbosity(s->conn, PQERRORS_VERBOSE);
    while (turn != PGRES_POLLING_OK) {
        bool ready = false;

        if (!wait_for_one(s, turn == PGRES_POLLING_WRITING, &ready, e))
            return false;
        if (time_now_ms() > until_ms)
            return fail(e, SOURCE_TIMEOUT, "source %s does not let us in within %d s",
                s->spec->name, CONNECT_MS / 1000);
        if (ready && (turn = PQconnectPoll(s->conn)) == PGRES_POLLING_FAILED)
            return fail_connect(s, e);
    }
    (void)PQsetErrorVerbosity(s->conn, PQERRORS_DEFAULT);
    /* On a Unix socket there is no such thing. */
    (void)setsockopt(
        PQsocket(s->conn), IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
    return PQsetnonblocking(s->conn, 1) == 0 || pg_session_fail(s, NULL, "connecting", e);
}

/* Idle, and the server has nothing to say: what it says unasked is most often that it goes away. */
static bool
is_alive(PGconn *conn)
{
    struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN | POLLRDHUP};

    return PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) == PQTRANS_IDLE &&
           poll(&fd, 1, 0) == 0;
}

static bool
connect_session(PgSession *s, bool may_be_kept, Arena *task, Err *e)
{
    PgParams params;

    if (!pg_params(s->spec, task, &params, e))
        return false;
    memcpy(s->id, params.id, sizeof s->id);
    if (may_be_kept && kept.conn) {
        if (strcmp(kept.id, s->id) == 0 && is_alive(kept.conn)) {
            s->conn = kept.conn;
            s->is_kept = true;
            kept.conn = NULL;
            return true;
        }
        pg_session_let_go();
    }
    s->conn = PQconnectStartParams(params.keyword, params.value, 0);
    return await_connection(s, e);
}

/* --- beginning --- */

/* A snapshot's name has a few letters only, and stands where nothing can be bound. */
static const char *
snapshot_statement(const char *snapshot, Arena *task, Err *e)
{
    if (strspn(snapshot, "0123456789ABCDEF-") != strlen(snapshot)) {
        fail(e, SOURCE_QUERY, "the server names its snapshot in an unknown way");
        return NULL;
    }
    return arena_printf(task, e, "SET TRANSACTION SNAPSHOT '%s'", snapshot);
}

/* Until when the server lets a statement run. The role's own limit holds where it is shorter and
 * nobody wrote another. */
static void
set_statement_limit(PgSession *s)
{
    int64_t left_ms =
        s->spec->deadline_ms > 0 ? s->spec->deadline_ms - time_now_ms() + DEADLINE_SLACK_MS : 0;

    if (s->spec->deadline_ms > 0 && left_ms < 1)
        left_ms = 1;
    s->statement_ms = s->spec->timeout_ms;
    s->is_query_limit = s->statement_ms > 0;
    if (left_ms > 0 && (s->statement_ms == 0 || left_ms < s->statement_ms)) {
        s->statement_ms = left_ms;
        s->is_query_limit = false;
    }
    if (s->statement_ms > INT32_MAX)
        s->statement_ms = INT32_MAX; /* what the setting can hold: 24 days */
}

/* All settings hold for this transaction only, so nothing of a run is left to the next one. */
static bool
send_settings(PgSession *s, Arena *task, Err *e)
{
    static const char sql[] =
        "SELECT pg_catalog.set_config(name, value, true) FROM (VALUES"
        " ('application_name', $1), ('timezone', 'UTC'), ('datestyle', 'ISO, YMD'),"
        " ('intervalstyle', 'iso_8601'), ('bytea_output', 'hex'), ('extra_float_digits', '1'),"
        " ('standard_conforming_strings', 'on'), ('backslash_quote', 'safe_encoding'), "
        "('xmlbinary', "
        "'base64'),"
        " ('client_encoding', 'UTF8'), ('synchronize_seqscans', 'off'),"
        " ('transform_null_equals', 'off'), ('quote_all_identifiers', 'off'),"
        " ('idle_in_transaction_session_timeout', '10min'),"
        " ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'),"
        " ('tcp_keepalives_count', '3'),"
        " ('search_path', pg_catalog.concat('pg_catalog, ',"
        "  CASE WHEN pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.=) '' THEN ''"
        "  ELSE pg_catalog.concat(pg_catalog.current_setting('search_path'), ', ') END,"
        "  'pg_temp')),"
        " ('statement_timeout', CASE WHEN $2::pg_catalog.text::pg_catalog.int8 "
        "OPERATOR(pg_catalog.=) 0"
        "  OR ($3::pg_catalog.text::pg_catalog.bool AND "
        "pg_catalog.current_setting('statement_timeout')"
        "   ::pg_catalog.interval OPERATOR(pg_catalog.>) '0'::pg_catalog.interval"
        "   AND pg_catalog.current_setting('statement_timeout')::pg_catalog.interval"
        "   OPERATOR(pg_catalog.<) pg_catalog.concat($2, ' ms')::pg_catalog.interval)"
        "  THEN pg_catalog.current_setting('statement_timeout') ELSE $2 END),"
        /* Elsewhere a server may refuse it. */
        " (CASE WHEN pg_catalog.strpos(pg_catalog.version(), 'linux') OPERATOR(pg_catalog.>) 0"
        "  THEN $4 END, '1s')) AS settings (name, value) WHERE name IS NOT NULL";
    const char *task_id = s->spec->task_id ? s->spec->task_id : "";
    const char *value[4];

    set_statement_limit(s);
    value[0] = *task_id ? arena_printf(task, e, "rowferry:%s", task_id) : "rowferry";
    value[1] = arena_printf(task, e, "%" PRId64, s->statement_ms);
    value[2] = s->is_query_limit ? "false" : "true";
    value[3] =
        PQserverVersion(s->conn) >= CHECKS_ITS_CLIENT ? "client_connection_check_interval" : NULL;
    return value[0] && value[1] && pg_session_send(s, sql, 4, value, e);
}

static bool
send_params(PgSession *s, const PgBound *bound, Arena *task, Err *e)
{
    const char **value = arena_alloc_array(task, 2 * bound->settings, sizeof *value, e);
    Buf sql = buf_new(64 << 10);
    bool ok = value != NULL;

    buf_text(&sql, "SELECT ");
    for (size_t i = 0; ok && i < bound->settings; i++) {
        value[2 * i] = bound->setting[i].name;
        value[2 * i + 1] = bound->setting[i].value;
        buf_printf(&sql, "%spg_catalog.set_config($%zu, $%zu, true)", i > 0 ? ", " : "", 2 * i + 1,
            2 * i + 2);
    }
    ok = ok && buf_is_good(&sql, e) &&
         pg_session_send(s, sql.data, (int)(2 * bound->settings), value, e);
    buf_free(&sql);
    return ok;
}

static bool
begin(PgSession *s, const PgBound *bound, const char *snapshot, Arena *task, Err *e)
{
    const char *take_snapshot = snapshot ? snapshot_statement(snapshot, task, e) : NULL;

    if (snapshot && !take_snapshot)
        return false;
    if (PQenterPipelineMode(s->conn) != 1)
        return pg_session_fail(s, NULL, "beginning", e);
    if (!pg_session_send(s, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", 0, NULL, e) ||
        (snapshot && !pg_session_send(s, take_snapshot, 0, NULL, e)) ||
        !send_settings(s, task, e) || (bound->settings > 0 && !send_params(s, bound, task, e)))
        return false;
    /* Its answers shall not wait behind what is sent next, which may wait for a lock. */
    if (PQsendFlushRequest(s->conn) != 1)
        return pg_session_fail(s, NULL, "beginning", e);
    s->set_up = 2U + (snapshot != NULL) + (bound->settings > 0);
    return true;
}

bool
pg_session_open(PgSession *s, const SourceSpec *spec, Watch *watch, const PgBound *bound,
    const char *snapshot, bool may_be_kept, Arena *task, Err *e)
{
    *s = (PgSession){.spec = spec, .watch = watch};
    if (connect_session(s, may_be_kept, task, e) && begin(s, bound, snapshot, task, e))
        return true;
    pg_session_close(s, false); /* nothing runs there that would last */
    return false;
}

/* --- ending --- */

static void *
request_cancel(void *with)
{
    PGcancel *cancel = with;
    char why[256];

    (void)PQcancel(cancel, why, sizeof why); /* if it fails, the server sees us leave */
    PQfreeCancel(cancel);
    return NULL;
}

static bool
begin_cancel(PGconn *conn, pthread_t *thread)
{
    PGcancel *with = PQgetCancel(conn);
    pthread_attr_t attributes;
    sigset_t all, before;
    bool runs;

    if (!with)
        return false;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, CANCEL_STACK_BYTES); /* a task's memory has a limit */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    runs = pthread_create(thread, &attributes, request_cancel, with) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!runs)
        PQfreeCancel(with);
    return runs;
}

/* What still comes is thrown away, up to the server's word that the statement has ended. */
static void
await_end(PGconn *conn, int64_t until_ms)
{
    for (;;) {
        struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};
        int64_t left_ms = until_ms - time_now_ms();
        char *data = NULL;
        int bytes;

        while ((bytes = PQgetCopyData(conn, &data, true)) > 0)
            PQfreemem(data);
        if (bytes == -1 || (bytes == -2 && !PQisBusy(conn)) || left_ms <= 0 ||
            poll(&fd, 1, (int)left_ms) <= 0 || !PQconsumeInput(conn))
            return;
    }
}

void
pg_sessions_cancel(PgSession *const *session, size_t count)
{
    pthread_t thread[PG_CONNECTIONS_MAX];
    int64_t until_ms = time_now_ms() + CANCEL_MS;
    struct timespec until;
    size_t threads = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CANCEL_MS / 1000;
    for (size_t i = 0; i < count; i++)
        if (session[i]->conn && session[i]->runs && PQstatus(session[i]->conn) == CONNECTION_OK &&
            begin_cancel(session[i]->conn, &thread[threads]))
            threads++;
    for (size_t i = 0; i < threads; i++)
        if (pthread_clockjoin_np(thread[i], NULL, CLOCK_MONOTONIC, &until) != 0)
            (void)pthread_detach(thread[i]);
    /* Whoever comes next at this source must not find it still running. */
    for (size_t i = 0; i < count && threads > 0; i++)
        if (session[i]->conn && session[i]->runs)
            await_end(session[i]->conn, until_ms);
}

void
pg_session_end(PgSession *s)
{
    if (PQsendQueryParams(s->conn, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 0) == 1)
        s->ends = PQflush(s->conn) == 0;
}

/* Did the transaction end well? */
static bool
has_ended(const PgSession *s)
{
    int64_t until_ms = time_now_ms() + ENDING_MS;
    PGresult *result;
    bool ok = true;

    while (PQisBusy(s->conn)) {
        struct pollfd fd = {.fd = PQsocket(s->conn), .events = POLLIN};
        int64_t left_ms = until_ms - time_now_ms();

        if (left_ms <= 0 || poll(&fd, 1, (int)left_ms) == 0 || !PQconsumeInput(s->conn))
            return false;
    }
    while ((result = PQgetResult(s->conn))) {
        ok = ok && PQresultStatus(result) == PGRES_COMMAND_OK;
        PQclear(result);
    }
    return ok && PQtransactionStatus(s->conn) == PQTRANS_IDLE;
}

void
pg_session_close(PgSession *s, bool keeps)
{
    if (!s->conn)
        return;
    if (keeps && s->ends && !s->runs && has_ended(s)) {
        pg_session_let_go();
        kept.conn = s->conn;
        memcpy(kept.id, s->id, sizeof kept.id);
    } else {
        PQfinish(s->conn);
    }
    s->conn = NULL;
}

void
pg_session_let_go(void)
{
    PQfinish(kept.conn);
    kept.conn = NULL;
}
