/* The file of the embedded queue: its tables, how those of an earlier version come up to them, and
 * how it is opened (security.md 2, the SQLite door). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/embedded/embedded_in.h"

enum { SCHEMA_VERSION = 3, PATH_BYTES = 4096 };

/* Version 2: what comes later stands below, and is added to files that were made before. */
static const char schema[] =
    "CREATE TABLE task ("
    " seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, task TEXT NOT NULL, user_id TEXT NOT NULL,"
    " export_type TEXT NOT NULL, source TEXT NOT NULL, format TEXT NOT NULL, request TEXT NOT NULL,"
    " version TEXT NOT NULL, request_id TEXT NOT NULL, queue TEXT NOT NULL,"
    " priority INTEGER NOT NULL, phase INTEGER NOT NULL DEFAULT 0, ready INTEGER NOT NULL,"
    " stage INTEGER NOT NULL DEFAULT 0, progress INTEGER NOT NULL DEFAULT 0,"
    " rows INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,"
    " rows_estimated INTEGER NOT NULL DEFAULT -1, peak_bytes INTEGER NOT NULL DEFAULT 0,"
    " epoch INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0,"
    " max_attempts INTEGER NOT NULL, give_backs INTEGER NOT NULL DEFAULT 0,"
    " memory_limits INTEGER NOT NULL DEFAULT 0, created_us INTEGER NOT NULL,"
    " available_us INTEGER NOT NULL, started_us INTEGER NOT NULL DEFAULT 0,"
    " attempt_us INTEGER NOT NULL DEFAULT 0, first_row_us INTEGER NOT NULL DEFAULT 0,"
    " last_row_us INTEGER NOT NULL DEFAULT 0, heartbeat_us INTEGER NOT NULL DEFAULT 0,"
    " ended_us INTEGER NOT NULL DEFAULT 0, retain_us INTEGER NOT NULL DEFAULT 0,"
    " lease_until_ms INTEGER NOT NULL DEFAULT 0, lease_scope TEXT, owner TEXT, owner_pid INTEGER,"
    " owner_born INTEGER, key TEXT, upload TEXT, sealed TEXT, sha256 TEXT, result TEXT,"
    " error_code TEXT, error TEXT, error_detail TEXT, attempts TEXT,"
    " cancel_us INTEGER NOT NULL DEFAULT 0, cancel_by TEXT, cancel_reason TEXT) STRICT;"
    "CREATE INDEX task_ready ON task (priority, seq) WHERE phase = 0 AND ready = 1;"
    "CREATE INDEX task_later ON task (available_us) WHERE phase = 0 AND ready = 0;"
    "CREATE INDEX task_again ON task (heartbeat_us)"
    " WHERE phase = 0 AND ready = 0 AND heartbeat_us > 0;"
    "CREATE INDEX task_running ON task (seq) WHERE phase IN (1, 2);"
    "CREATE INDEX task_ended ON task (ended_us) WHERE ended_us > 0;"
    "CREATE UNIQUE INDEX task_key ON task (key) WHERE key IS NOT NULL;"
    "CREATE TABLE counter (name TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT;"
    "INSERT INTO counter VALUES ('waiting', 0);"
    "CREATE TABLE idempotency (scope TEXT NOT NULL, key TEXT NOT NULL, hash TEXT NOT NULL,"
    " answer TEXT NOT NULL, at_us INTEGER NOT NULL, PRIMARY KEY (scope, key)) STRICT;"
    "CREATE INDEX idempotency_at ON idempotency (at_us);"
    "CREATE TABLE total (series TEXT PRIMARY KEY, value REAL NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE schedule (name TEXT PRIMARY KEY, due_us INTEGER NOT NULL) STRICT;"
    "CREATE TABLE worker (name TEXT NOT NULL, pid INTEGER NOT NULL, born INTEGER NOT NULL,"
    " scope TEXT NOT NULL, seen_ms INTEGER NOT NULL, PRIMARY KEY (name, pid, scope)) STRICT;";

static const char added_in_3[] =
    "CREATE TABLE source (name TEXT PRIMARY KEY, code TEXT NOT NULL, took_ms INTEGER NOT NULL,"
    " checked_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

static bool
run(Embedded *q, const char *sql, Err *e)
{
    return sqlite3_exec(q->db, sql, NULL, NULL, NULL) == SQLITE_OK ||
           fail_sqlite(q, "setting up queue.db", e);
}

static bool
read_version(Embedded *q, int *version, Err *e)
{
    sqlite3_stmt *statement = NULL;
    bool ok = sqlite3_prepare_v2(q->db, "PRAGMA user_version", -1, &statement, NULL) == SQLITE_OK &&
              sqlite3_step(statement) == SQLITE_ROW;

    if (ok)
        *version = sqlite3_column_int(statement, 0);
    else
        fail_sqlite(q, "reading queue.db", e);
    sqlite3_finalize(statement);
    return ok;
}

static bool
is_behind(int version)
{
    return version == 0 || version == 2;
}

/* In a transaction. */
static bool
bring_up(Embedded *q, Err *e)
{
    char set_version[64];
    int version;

    snprintf(set_version, sizeof set_version, "PRAGMA user_version = %d", SCHEMA_VERSION);
    return read_version(q, &version, e) &&
           (!is_behind(version) || ((version != 0 || run(q, schema, e)) && run(q, added_in_3, e) &&
                                       run(q, set_version, e)));
}

/*
 * Whoever comes first makes the tables; the others wait for the lock and find them. The journal's
 * mode is kept in the file and changed here only: SQLite does not wait for others who change it at
 * the same time.
 */
static bool
make_tables(Embedded *q, Err *e)
{
    int version = 0;
    bool ok;

    if (!read_version(q, &version, e))
        return false;
    if (is_behind(version) && q->writes) {
        if (!lock_take(q->lock, q->busy_ms))
            return fail(e, QUEUE_UNAVAILABLE, "waiting for %s/queue.lock: %m", q->dir);
        ok = run(q, "PRAGMA journal_mode = WAL", e) && run(q, "BEGIN IMMEDIATE", e) &&
             bring_up(q, e) && run(q, "COMMIT", e) && read_version(q, &version, e);
        lock_give(q->lock);
        if (!ok)
            return false;
    }
    return version == SCHEMA_VERSION ||
           fail(e, QUEUE_UNAVAILABLE, "queue.db has version %d; this program knows %d", version,
               SCHEMA_VERSION);
}

static bool
open_lock(Embedded *q, Err *e)
{
    char path[PATH_BYTES];

    if (!q->writes)
        return true;
    if (snprintf(path, sizeof path, "%s/queue.lock", q->dir) >= (int)sizeof path)
        return fail(e, QUEUE_UNAVAILABLE, "the path of the data folder is too long");
    q->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return q->lock >= 0 || fail(e, QUEUE_UNAVAILABLE, "opening %s: %m", path);
}

/* SQLite would make it readable by everybody, as far as the umask lets it; what it makes beside has
 * the mode of the file. */
static bool
make_file(const char *path, Err *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return errno == EEXIST || fail(e, QUEUE_UNAVAILABLE, "making %s: %m", path);
    close(fd);
    return true;
}

static bool
check_file(const char *path, Err *e)
{
    struct stat is;

    if (lstat(path, &is) != 0)
        return fail(e, QUEUE_UNAVAILABLE, "looking at %s: %m", path);
    if (!S_ISREG(is.st_mode) || (is.st_uid != geteuid() && geteuid() != 0))
        return fail(e, QUEUE_UNAVAILABLE, "%s is not a file of ours", path);
    return !(is.st_mode & (S_IRWXG | S_IRWXO)) ||
           fail(e, QUEUE_UNAVAILABLE, "others may read or write %s: chmod 600", path);
}

bool
schema_open(Embedded *q, Err *e)
{
    char path[PATH_BYTES];
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_READWRITE;

    if (snprintf(path, sizeof path, "%s/queue.db", q->dir) >= (int)sizeof path)
        return fail(e, QUEUE_UNAVAILABLE, "the path of the data folder is too long");
    if ((q->writes && !make_file(path, e)) || !check_file(path, e) || !open_lock(q, e))
        return false;
    if (sqlite3_open_v2(path, &q->db, flags, NULL) != SQLITE_OK)
        return fail_sqlite(q, path, e);
    sqlite3_busy_timeout(q->db, (int)q->busy_ms);
    (void)sqlite3_db_config(q->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(q->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_limit(q->db, SQLITE_LIMIT_LENGTH, 4 << 20);
    if (!run(q, "PRAGMA synchronous = FULL", e) || !run(q, "PRAGMA cache_size = -4096", e) ||
        !run(q, "PRAGMA temp_store = MEMORY", e))
        return false;
    q->durable_now = true;
    return make_tables(q, e) && (q->writes || run(q, "PRAGMA query_only = ON", e));
}
