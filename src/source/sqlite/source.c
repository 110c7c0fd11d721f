/*
 * SQLite as a source: read only, one statement, one read transaction that is the snapshot.
 *
 * The folder of the file is resolved first, and no link is followed after that. An authorizer lets
 * through what reading needs and nothing else (https://sqlite.org/c3ref/set_authorizer.html). The
 * connection is kept for the next export of this process as long as the path leads to the same
 * file.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "base/time.h"
#include "source/sqlite/sqlite_in.h"

enum {
    BUSY_MS_MAX = 2000,
    BUSY_NAP_MS = 10,
    HANDLER_STEPS = 2000, /* of SQLite's machine between two looks at the watch: some 50 us */
    COLUMNS_MAX = 256,
    CACHE_KIB = 2048,
    FIXED_VALUE_BYTES = 8, /* of a value that is no text, at most */
};

extern const SourceKind source_sqlite;
const char *source_sqlite_library_version(void); /* for main.c */

typedef struct {
    Source base;
    Schema schema;
    Watch *watch;
    sqlite3_stmt *statement;
    /* Two sets, filled in turn: a batch is still read while the next one is made. */
    struct {
        Cells *cells;
        Column *column;
    } set[2];
    unsigned turn;
    size_t fixed_bytes; /* that a row takes of a batch, whatever its texts */
    uint64_t rows;
    bool holds_row; /* the statement stands on a row that did not fit into the last batch */
    bool ended;
    int64_t busy_since_ms, timeout_at_ms;
    const SourceSpec *spec;
} SqliteSource;

/* The one connection that this process keeps. */
static struct {
    sqlite3 *db;
    char path[PATH_MAX];
    dev_t device;
    ino_t inode;
} kept;

/* --- errors --- */

static bool
fail_sqlite(SqliteSource *s, const char *doing, Err *e)
{
    int code = sqlite3_errcode(kept.db);
    Err why = {0};

    switch (code & 0xff) {
    case SQLITE_INTERRUPT:
        if (!s->watch->go_on(s->watch, STAGE_QUERYING, s->rows, 0, &why)) {
            *e = why;
            return false;
        }
        return fail(e, QUERY_TIMEOUT, "the query of source %s took too long", s->spec->name);
    case SQLITE_CANTOPEN:
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
    case SQLITE_IOERR:
    case SQLITE_FULL:
    case SQLITE_PERM:
        return fail(e, SOURCE_UNAVAILABLE, "%s %s: %s", doing, kept.path, sqlite3_errmsg(kept.db));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        /* The lock was given up because we were told to end? */
        if (!s->watch->go_on(s->watch, STAGE_QUERYING, s->rows, 0, &why)) {
            *e = why;
            return false;
        }
        return fail(e, SOURCE_UNAVAILABLE, "%s %s: the database is locked", doing, kept.path);
    case SQLITE_TOOBIG:
        return fail(e, SIZE_LIMIT, "%s %s: a value or row of more than %d bytes", doing, kept.path,
            ROW_BYTES_MAX);
    case SQLITE_NOMEM:
        return fail(e, MEMORY_LIMIT, "%s %s: no memory", doing, kept.path);
    case SQLITE_AUTH:
        return fail(e, SOURCE_QUERY, "%s %s: %s: a query may only read", doing, kept.path,
            sqlite3_errmsg(kept.db));
    default:
        return fail(e, SOURCE_QUERY, "%s %s: %s", doing, kept.path, sqlite3_errmsg(kept.db));
    }
}

/* --- while a query runs --- */

static int
is_to_end(void *with)
{
    SqliteSource *s = with;

    return s->watch->asked_to_end(s->watch) ||
           (s->timeout_at_ms > 0 && time_now_ms() > s->timeout_at_ms);
}

static int
wait_for_lock(void *with, int count)
{
    SqliteSource *s = with;
    const struct timespec nap = {.tv_nsec = BUSY_NAP_MS * 1000000};

    if (count == 0)
        s->busy_since_ms = time_now_ms();
    if (time_now_ms() - s->busy_since_ms > BUSY_MS_MAX || is_to_end(s))
        return 0;
    nanosleep(&nap, NULL);
    return 1;
}

static void
watch_over(SqliteSource *s)
{
    sqlite3_busy_handler(kept.db, s ? wait_for_lock : NULL, s);
    sqlite3_progress_handler(kept.db, s ? HANDLER_STEPS : 0, s ? is_to_end : NULL, s);
}

/* --- the connection --- */

static int
judge(void *with, int action, const char *first, const char *second, const char *database,
    const char *trigger)
{
    (void)with;
    (void)first;
    (void)database;
    (void)trigger;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
    case SQLITE_TRANSACTION:
        return SQLITE_OK;
    case SQLITE_FUNCTION:
        return second && strcasecmp(second, "load_extension") == 0 ? SQLITE_DENY : SQLITE_OK;
    default:
        return SQLITE_DENY;
    }
}

static void
close_kept(void)
{
    sqlite3_close(kept.db);
    kept.db = NULL;
}

/* The folder resolved, the last part as it is: NOFOLLOW refuses a link there. */
static bool
resolve(const char *url, char path[PATH_MAX], struct stat *is, Err *e)
{
    const char *name = text_starts(url, "sqlite:") ? url + 7 : url, *slash = strrchr(name, '/');
    char folder[PATH_MAX], real[PATH_MAX];

    if (!slash) {
        if (!text_copy(folder, sizeof folder, "."))
            return false;
    } else if ((size_t)(slash - name) + 1 >= sizeof folder) {
        return fail(e, SOURCE_UNAVAILABLE, "the path of the database is too long");
    } else {
        size_t bytes = slash == name ? 1 : (size_t)(slash - name);

        memcpy(folder, name, bytes);
        folder[bytes] = '\0';
    }
    if (!realpath(folder, real))
        return fail(e, SOURCE_UNAVAILABLE, "%s: %m", name);
    if (snprintf(path, PATH_MAX, "%s/%s", strcmp(real, "/") == 0 ? "" : real,
            slash ? slash + 1 : name) >= PATH_MAX)
        return fail(e, SOURCE_UNAVAILABLE, "the path of the database is too long");
    if (lstat(path, is) != 0)
        return fail(e, SOURCE_UNAVAILABLE, "%s: %m", path);
    return S_ISREG(is->st_mode) || fail(e, SOURCE_UNAVAILABLE, "%s is not a plain file", path);
}

/* Even these read the file, so they wait for its lock like the query itself. */
static bool
set_up(SqliteSource *s, Err *e)
{
    char cache[64];

    snprintf(cache, sizeof cache, "PRAGMA cache_size = -%d", CACHE_KIB);
    (void)sqlite3_db_config(kept.db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(kept.db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_limit(kept.db, SQLITE_LIMIT_LENGTH, ROW_BYTES_MAX);
    if (sqlite3_exec(kept.db, cache, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(kept.db, "PRAGMA temp_store = FILE", NULL, NULL, NULL) != SQLITE_OK)
        return fail_sqlite(s, "setting up", e);
    sqlite3_set_authorizer(kept.db, judge, NULL);
    return true;
}

/* From here on `s` watches over what the connection does. */
static bool
connect(SqliteSource *s, Err *e)
{
    char path[PATH_MAX];
    struct stat is = {0};

    if (!resolve(s->spec->url, path, &is, e)) {
        close_kept();
        return false;
    }
    if (kept.db && strcmp(kept.path, path) == 0 && kept.device == is.st_dev &&
        kept.inode == is.st_ino) {
        watch_over(s);
        return true;
    }
    close_kept();
    (void)text_copy(kept.path, sizeof kept.path, path);
    kept.device = is.st_dev;
    kept.inode = is.st_ino;
    if (sqlite3_open_v2(path, &kept.db,
            SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL) == SQLITE_OK) {
        watch_over(s);
        if (set_up(s, e))
            return true;
    } else {
        fail_sqlite(s, "opening", e);
    }
    close_kept();
    return false;
}

/* --- the query --- */

/* Times sort as text in the form of the demo database: UTC, no zone. */
static bool
bind_time(sqlite3_stmt *statement, int at, const SourceParam *param)
{
    char text[TIME_TEXT_BYTES + 8];
    int64_t us = param->as.int64;
    TimeParts p;
    int bytes;

    if (param->type == COLUMN_DATE)
        us *= 86400000000;
    p = time_parts(us);
    if (param->type == COLUMN_DATE)
        bytes = snprintf(text, sizeof text, "%04d-%02d-%02d", p.year, p.month, p.day);
    else if (param->type == COLUMN_TIME)
        bytes = snprintf(text, sizeof text, "%02d:%02d:%02d", p.hour, p.minute, p.second);
    else
        bytes = snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d", p.year, p.month, p.day,
            p.hour, p.minute, p.second);
    if (p.microsecond > 0 && param->type != COLUMN_DATE)
        bytes += snprintf(text + bytes, sizeof text - (size_t)bytes, ".%06d", p.microsecond);
    return sqlite3_bind_text(statement, at, text, bytes, SQLITE_TRANSIENT) == SQLITE_OK;
}

static bool
bind_one(sqlite3_stmt *statement, int at, const SourceParam *param)
{
    if (param->is_null)
        return sqlite3_bind_null(statement, at) == SQLITE_OK;
    switch (param->type) {
    case COLUMN_BOOL:
        return sqlite3_bind_int(statement, at, param->as.yes) == SQLITE_OK;
    case COLUMN_INT16:
    case COLUMN_INT32:
    case COLUMN_INT64:
        return sqlite3_bind_int64(statement, at, param->as.int64) == SQLITE_OK;
    case COLUMN_FLOAT:
    case COLUMN_DOUBLE:
        return sqlite3_bind_double(statement, at, param->as.real) == SQLITE_OK;
    case COLUMN_DATE:
    case COLUMN_TIME:
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        return bind_time(statement, at, param);
    case COLUMN_BYTES:
        return sqlite3_bind_blob64(statement, at, param->as.text.bytes, param->as.text.count,
                   SQLITE_STATIC) == SQLITE_OK;
    case COLUMN_DECIMAL:
    case COLUMN_TEXT:
    case COLUMN_INTERVAL:
    case COLUMN_UUID:
    case COLUMN_JSON:
        return sqlite3_bind_text64(statement, at, param->as.text.bytes, param->as.text.count,
                   SQLITE_STATIC, SQLITE_UTF8) == SQLITE_OK;
    case COLUMN_TYPES_COUNT:
        break;
    }
    return false;
}

static bool
bind_params(SqliteSource *s, Err *e)
{
    int count = sqlite3_bind_parameter_count(s->statement);

    for (int at = 1; at <= count; at++) {
        const char *name = sqlite3_bind_parameter_name(s->statement, at);
        const SourceParam *param = NULL;

        for (size_t i = 0; name && i < s->spec->params; i++)
            if (strcmp(s->spec->param[i].name, name + 1) == 0)
                param = &s->spec->param[i];
        if (!param)
            return fail(e, SOURCE_QUERY, "the query has a parameter %s that is not declared",
                name ? name : "?");
        if (!bind_one(s->statement, at, param))
            return fail_sqlite(s, "binding a parameter in", e);
    }
    return true;
}

/* Behind the statement there is nothing but blanks, comments and semicolons. */
static bool
is_all(const char *tail)
{
    sqlite3_stmt *more = NULL;
    bool ok = true;

    while (ok && *tail) {
        ok = sqlite3_prepare_v2(kept.db, tail, -1, &more, &tail) == SQLITE_OK && !more;
        sqlite3_finalize(more);
    }
    return ok;
}

static bool
prepare(SqliteSource *s, Err *e)
{
    const char *tail;

    if (sqlite3_prepare_v2(kept.db, s->spec->query, -1, &s->statement, &tail) != SQLITE_OK)
        return fail_sqlite(s, "preparing the query in", e);
    if (!s->statement || !is_all(tail))
        return fail(e, SOURCE_QUERY, "the query is not exactly one statement");
    if (!sqlite3_stmt_readonly(s->statement))
        return fail(e, SOURCE_QUERY, "the query writes");
    return bind_params(s, e);
}

/* What SQLite says of a column that the definition leaves open
 * (https://sqlite.org/datatype3.html, 3.1). */
static ColumnType
declared_type(sqlite3_stmt *statement, int at)
{
    static const struct {
        const char *word;
        ColumnType type;
    } words[] = {{"BOOL", COLUMN_BOOL}, {"TIMESTAMPTZ", COLUMN_TIMESTAMPTZ},
        {"DATETIME", COLUMN_TIMESTAMP}, {"TIMESTAMP", COLUMN_TIMESTAMP}, {"DATE", COLUMN_DATE},
        {"TIME", COLUMN_TIME}, {"INTERVAL", COLUMN_INTERVAL}, {"UUID", COLUMN_UUID},
        {"JSON", COLUMN_JSON}, {"INT", COLUMN_INT64}, {"CHAR", COLUMN_TEXT}, {"CLOB", COLUMN_TEXT},
        {"TEXT", COLUMN_TEXT}, {"BLOB", COLUMN_BYTES}, {"REAL", COLUMN_DOUBLE},
        {"FLOA", COLUMN_DOUBLE}, {"DOUB", COLUMN_DOUBLE}, {"DEC", COLUMN_DECIMAL},
        {"NUM", COLUMN_DECIMAL}};
    const char *declared = sqlite3_column_decltype(statement, at);

    if (declared)
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
            if (strcasestr(declared, words[i].word))
                return words[i].type;
    /* An expression: the first row tells, if there is one. */
    switch (sqlite3_data_count(statement) > 0 ? sqlite3_column_type(statement, at) : SQLITE_NULL) {
    case SQLITE_INTEGER:
        return COLUMN_INT64;
    case SQLITE_FLOAT:
        return COLUMN_DOUBLE;
    case SQLITE_BLOB:
        return COLUMN_BYTES;
    default:
        return COLUMN_TEXT;
    }
}

static int
find_result(sqlite3_stmt *statement, const char *name)
{
    for (int at = 0; at < sqlite3_column_count(statement); at++)
        if (strcmp(sqlite3_column_name(statement, at), name) == 0)
            return at;
    return -1;
}

static bool
fail_missing(sqlite3_stmt *statement, const char *name, Err *e)
{
    Buf has = buf_new(ERR_TEXT_BYTES);

    for (int at = 0; at < sqlite3_column_count(statement); at++)
        buf_printf(&has, "%s%s", at > 0 ? ", " : "", sqlite3_column_name(statement, at));
    fail(e, SOURCE_QUERY, "the query has no column %s, it has: %s", name, has.data);
    buf_free(&has);
    return false;
}

static bool
make_set(SqliteSource *s, unsigned k, size_t count, Arena *task, Err *e)
{
    s->set[k].column = arena_alloc_array(task, count, sizeof *s->set[k].column, e);
    return s->set[k].column &&
           (s->set[k].cells = arena_alloc_array(task, count, sizeof *s->set[k].cells, e)) != NULL;
}

static bool
make_columns(SqliteSource *s, Arena *task, Err *e)
{
    size_t count = s->spec->columns;
    ColumnSpec *column;

    if (count == 0 || count > COLUMNS_MAX)
        return fail(e, SOURCE_QUERY, "%zu columns are asked for", count);
    if (!(column = arena_alloc_array(task, count, sizeof *column, e)) ||
        !make_set(s, 0, count, task, e) || !make_set(s, 1, count, task, e))
        return false;
    for (size_t i = 0; i < count; i++) {
        int at = find_result(s->statement, s->spec->column[i].name);

        if (at < 0)
            return fail_missing(s->statement, s->spec->column[i].name, e);
        column[i] = s->spec->column[i];
        if (s->spec->type_given && !s->spec->type_given[i])
            column[i].type = declared_type(s->statement, at);
        for (unsigned k = 0; k < 2; k++) {
            if (!cells_init(&s->set[k].cells[i], &column[i], at, task, e))
                return false;
        }
        s->fixed_bytes += s->set[0].cells[i].column.offset ? 0 : FIXED_VALUE_BYTES;
    }
    s->schema = (Schema){count, column};
    s->base.schema = &s->schema;
    return true;
}

/* A query that scans one table without filters has about as many rows as the table's highest rowid.
 */
static int64_t
estimate(SqliteSource *s)
{
    char sql[512], table[128] = "";
    sqlite3_stmt *plan = NULL;
    int64_t rows = -1;
    unsigned steps = 0;

    for (size_t i = 0; i < s->spec->params; i++)
        if (!s->spec->param[i].is_null)
            return -1;
    if (strlen(s->spec->query) > 16384)
        return -1;
    Buf explain = buf_new(20000);
    buf_text(&explain, "EXPLAIN QUERY PLAN ");
    buf_text(&explain, s->spec->query);
    if (!explain.failed && sqlite3_prepare_v2(kept.db, explain.data, -1, &plan, NULL) == SQLITE_OK)
        while (sqlite3_step(plan) == SQLITE_ROW) {
            const char *detail = (const char *)sqlite3_column_text(plan, 3);

            if (detail && sscanf(detail, "SCAN %127[A-Za-z0-9_]", table) == 1)
                steps++;
            else if (!detail || !text_starts(detail, "USE TEMP B-TREE FOR ORDER BY"))
                steps += 2;
        }
    sqlite3_finalize(plan);
    buf_free(&explain);
    if (steps != 1 || !*table)
        return -1;
    snprintf(sql, sizeof sql, "SELECT max(rowid) FROM \"%s\"", table);
    if (sqlite3_prepare_v2(kept.db, sql, -1, &plan, NULL) == SQLITE_OK) {
        if (sqlite3_step(plan) == SQLITE_ROW && sqlite3_column_type(plan, 0) == SQLITE_INTEGER)
            rows = sqlite3_column_int64(plan, 0);
        sqlite3_finalize(plan);
    }
    return rows < 0 ? -1 : rows;
}

static void
sqlite_close(Source *source)
{
    SqliteSource *s = (SqliteSource *)source;

    for (size_t i = 0; i < s->schema.columns; i++)
        for (unsigned k = 0; k < 2; k++)
            builder_free(&s->set[k].cells[i].column);
    s->schema.columns = 0;
    sqlite3_finalize(s->statement);
    s->statement = NULL;
    if (!kept.db)
        return;
    watch_over(NULL);
    if (!sqlite3_get_autocommit(kept.db))
        (void)sqlite3_exec(kept.db, "ROLLBACK", NULL, NULL, NULL);
}

/* The first step belongs to opening: it takes the lock and the snapshot, and says what the columns
 * hold. */
static bool
step(SqliteSource *s, Err *e)
{
    int code = sqlite3_step(s->statement);

    s->holds_row = code == SQLITE_ROW;
    s->ended = code == SQLITE_DONE;
    return s->holds_row || s->ended || fail_sqlite(s, "reading", e);
}

static Source *
sqlite_open(const SourceSpec *spec, Watch *watch, Arena *task, Err *e)
{
    SqliteSource *s = arena_alloc(task, sizeof *s, e);

    if (!s)
        return NULL;
    s->base = (Source){.kind = &source_sqlite, .rows_estimated = -1};
    s->spec = spec;
    s->watch = watch;
    s->timeout_at_ms = spec->timeout_ms > 0 ? time_now_ms() + spec->timeout_ms : 0;
    if (!connect(s, e))
        return NULL;
    if ((sqlite3_exec(kept.db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK ||
            fail_sqlite(s, "opening", e)) &&
        prepare(s, e)) {
        s->base.rows_estimated = estimate(s);
        if (watch->go_on(watch, STAGE_QUERYING, 0, 0, e) && step(s, e) &&
            make_columns(s, task, e)) {
            s->base.snapshot_wall_us = time_wall_us();
            return &s->base;
        }
    }
    sqlite_close(&s->base);
    return NULL;
}

/* Puts the row that the statement stands on into the batch; false in `*fits` leaves it for the next
 * one. */
static bool
put_row(SqliteSource *s, size_t row, size_t *bytes, bool *fits, Err *e)
{
    Cells *cells = s->set[s->turn].cells;
    size_t row_bytes = s->fixed_bytes;

    for (size_t i = 0; i < s->schema.columns; i++)
        if (!cells_put(&cells[i], s->statement, row, s->rows, &row_bytes, e))
            return false;
    *fits = row == 0 || *bytes + row_bytes <= BATCH_BYTES_MAX;
    *bytes += row_bytes;
    for (size_t i = 0; !*fits && i < s->schema.columns; i++)
        builder_take_back(&cells[i].column, row);
    return true;
}

static bool
sqlite_next(Source *source, Batch *batch, Err *e)
{
    SqliteSource *s = (SqliteSource *)source;
    size_t rows = 0, bytes = 0;
    bool fits = true;
    Column *column;
    Cells *cells;

    s->turn ^= 1;
    cells = s->set[s->turn].cells;
    column = s->set[s->turn].column;

    for (size_t i = 0; i < s->schema.columns; i++)
        builder_begin(&cells[i].column);
    while (rows < BATCH_ROWS_MAX && fits && !s->ended) {
        if (!s->holds_row && !step(s, e))
            return false;
        if (s->ended)
            break;
        if (!put_row(s, rows, &bytes, &fits, e))
            return false;
        if (fits) {
            rows++;
            s->holds_row = false;
        }
    }
    for (size_t i = 0; i < s->schema.columns; i++)
        builder_show(&cells[i].column, &column[i]);
    s->rows += rows;
    *batch = (Batch){rows, &s->schema, column};
    return true;
}

static bool
sqlite_check(const SourceSpec *spec, Watch *watch, Err *e)
{
    SqliteSource s = {.spec = spec, .watch = watch};
    bool ok;

    if (!connect(&s, e))
        return false;
    ok = sqlite3_exec(kept.db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL) ==
             SQLITE_OK ||
         fail_sqlite(&s, "reading", e);
    watch_over(NULL);
    return ok;
}

const SourceKind source_sqlite = {
    .name = "sqlite",
    .schemes = (const char *const[]){"sqlite", NULL},
    .open = sqlite_open,
    .next = sqlite_next,
    .close = sqlite_close,
    .check = sqlite_check,
    .let_go = close_kept,
};

const char *
source_sqlite_library_version(void)
{
    return sqlite3_libversion();
}
