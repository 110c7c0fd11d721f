/* What the files of the embedded queue share. */
#ifndef QUEUE_EMBEDDED_EMBEDDED_IN_H
#define QUEUE_EMBEDDED_EMBEDDED_IN_H

#include <sqlite3.h>

#include "base/buf.h"
#include "queue/queue.h"

/* RECORD: the columns of a QueueRecord, in the order of read_record(). C(kind, name): TEXT (may be
 * NULL), INT, WIDE. */
/* clang-format off */
#define EMBEDDED_COLUMNS(C) \
    C(TEXT, id) C(TEXT, task) C(TEXT, user_id) C(TEXT, export_type) C(TEXT, source) \
    C(TEXT, format) C(TEXT, request) C(TEXT, version) C(TEXT, request_id) C(TEXT, queue) \
    C(INT, progress) C(WIDE, rows) C(WIDE, bytes) C(WIDE, rows_estimated) \
    C(WIDE, peak_bytes) C(WIDE, epoch) C(INT, attempt) C(INT, max_attempts) \
    C(INT, give_backs) C(INT, memory_limits) C(WIDE, created_us) C(WIDE, available_us) \
    C(WIDE, started_us) C(WIDE, attempt_us) C(WIDE, first_row_us) C(WIDE, last_row_us) \
    C(WIDE, heartbeat_us) C(WIDE, ended_us) C(WIDE, retain_us) C(TEXT, owner) C(TEXT, key) \
    C(TEXT, upload) C(TEXT, sealed) C(TEXT, sha256) C(TEXT, result) C(TEXT, error_code) \
    C(TEXT, error) C(TEXT, error_detail) C(TEXT, attempts) C(WIDE, cancel_us) \
    C(TEXT, cancel_by) C(TEXT, cancel_reason)
/* clang-format on */

#define RECORD_COLUMN(kind, name) #name ", "
#define RECORD                                                                                     \
    EMBEDDED_COLUMNS(RECORD_COLUMN)                                                                \
    "phase, stage, lease_until_ms, lease_scope, owner_pid, owner_born"

/* What was uploaded under a key may still be there when the task has none any more: then the key
 * tells whose it was. */
#define KEY_OF_UPLOAD "CASE WHEN upload IS NOT NULL THEN key END"

/* X(id, sql): every statement, prepared when it is first needed. */
#define EMBEDDED_STATEMENTS(X)                                                                     \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                    \
    X(COMMIT, "COMMIT")                                                                            \
    X(ROLLBACK, "ROLLBACK")                                                                        \
    X(FIND, "SELECT " RECORD " FROM task WHERE id = ?1")                                           \
    X(FIND_SEQ, "SELECT " RECORD " FROM task WHERE seq = ?1")                                      \
    X(FIND_KEY, "SELECT " RECORD " FROM task WHERE key = ?1")                                      \
    X(POSITION,                                                                                    \
        "SELECT count(*) FROM (SELECT 1 FROM task WHERE phase = 0 AND ready = 1"                   \
        " AND (priority, seq) <= (SELECT priority, seq FROM task WHERE id = ?1 AND ready = 1)"     \
        " LIMIT 1001)")                                                                            \
    X(WAITING, "SELECT n FROM counter WHERE name = 'waiting'")                                     \
    X(WAITING_ADD, "UPDATE counter SET n = n + ?1 WHERE name = 'waiting'")                         \
    X(PUT, "INSERT INTO task (id, task, user_id, export_type, source, format, request,"            \
           " version, request_id, queue, priority, max_attempts, available_us, created_us, ready)" \
           " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"            \
           " ON CONFLICT (id) DO NOTHING")                                                         \
    X(REMEMBERED,                                                                                  \
        "SELECT hash, answer FROM idempotency WHERE scope = ?1 AND key = ?2 AND at_us >= ?3")      \
    X(REMEMBER, "INSERT OR REPLACE INTO idempotency (scope, key, hash, answer, at_us)"             \
                " VALUES (?1, ?2, ?3, ?4, ?5)")                                                    \
    X(TOTAL_ADD, "INSERT INTO total (series, value) VALUES (?1, ?2)"                               \
                 " ON CONFLICT (series) DO UPDATE SET value = value + excluded.value")             \
    X(TOTAL_SET, "INSERT INTO total (series, value) VALUES (?1, ?2)"                               \
                 " ON CONFLICT (series) DO UPDATE SET value = excluded.value")                     \
    X(TOTALS, "SELECT series, value FROM total")                                                   \
    X(LOOK,                                                                                        \
        "SELECT seq, phase, epoch, cancel_us, lease_until_ms, lease_scope, owner_pid, owner_born"  \
        " FROM task WHERE id = ?1")                                                                \
    X(CANCEL_NOW,                                                                                  \
        "UPDATE task SET phase = 6, ready = 0, ended_us = ?2, cancel_us = ?2, cancel_by = ?3,"     \
        " cancel_reason = ?4, error_code = 'cancelled', error = 'Cancelled' WHERE seq = ?1")       \
    X(CANCEL_NOTE,                                                                                 \
        "UPDATE task SET cancel_us = ?2, cancel_by = ?3, cancel_reason = ?4 WHERE seq = ?1")       \
    X(PROMOTE, "UPDATE task SET ready = 1 WHERE phase = 0 AND ready = 0 AND available_us <= ?1")   \
    X(PROMOTE_AGAIN,                                                                               \
        "UPDATE task SET ready = 1 WHERE phase = 0 AND ready = 0 AND heartbeat_us > 0"             \
        " AND heartbeat_us > ?1")                                                                  \
    X(LAST_AGAIN, "SELECT max(heartbeat_us) FROM task WHERE phase = 0 AND ready = 0"               \
                  " AND heartbeat_us > 0")                                                         \
    X(NEXT_DUE, "SELECT min(available_us) FROM task WHERE phase = 0 AND ready = 0")                \
    X(ANY_READY, "SELECT EXISTS (SELECT 1 FROM task WHERE phase = 0 AND ready = 1)")               \
    X(READY, "SELECT seq, queue, source, export_type FROM task WHERE phase = 0 AND ready = 1"      \
             " ORDER BY priority, seq")                                                            \
    X(RUNNING,                                                                                     \
        "SELECT seq, phase, source, export_type, lease_until_ms, lease_scope, owner_pid,"          \
        " owner_born, available_us, heartbeat_us FROM task WHERE phase IN (1, 2) ORDER BY seq")    \
    X(TAKE, "UPDATE task SET phase = CASE phase WHEN 2 THEN 2 ELSE 1 END,"                         \
            " attempt = attempt + (phase = 0), ready = 0, epoch = epoch + 1,"                      \
            " stage = CASE phase WHEN 2 THEN stage ELSE 0 END, progress = max(progress, 10),"      \
            " started_us = CASE started_us WHEN 0 THEN ?2 ELSE started_us END,"                    \
            " attempt_us = CASE phase WHEN 2 THEN attempt_us ELSE ?2 END, heartbeat_us = ?2,"      \
            " owner = ?3, owner_pid = ?4, owner_born = ?5, lease_until_ms = ?6, lease_scope = ?7"  \
            " WHERE seq = ?1")                                                                     \
    X(RENEW,                                                                                       \
        "UPDATE task SET lease_until_ms = ?2, lease_scope = ?3, heartbeat_us = ?4 WHERE seq = ?1") \
    X(PROGRESS,                                                                                    \
        "UPDATE task SET lease_until_ms = ?2, lease_scope = ?3, heartbeat_us = ?4,"                \
        " stage = max(stage, ?5), progress = max(progress, ?6), rows = ?7, bytes = ?8,"            \
        " rows_estimated = ?9, peak_bytes = max(peak_bytes, ?10),"                                 \
        " first_row_us = CASE WHEN first_row_us = 0 AND ?5 >= 2 THEN ?4 ELSE first_row_us END,"    \
        " last_row_us = CASE WHEN last_row_us = 0 AND ?5 >= 3 THEN ?4 ELSE last_row_us END"        \
        " WHERE seq = ?1")                                                                         \
    X(UPLOAD,                                                                                      \
        "UPDATE task SET lease_until_ms = ?2, lease_scope = ?3, heartbeat_us = ?4, upload = ?5,"   \
        " key = ?6 WHERE seq = ?1")                                                                \
    X(PREPARE,                                                                                     \
        "UPDATE task SET phase = 2, stage = 3, progress = max(progress, 70), key = ?5,"            \
        " sealed = ?6, rows = ?7, bytes = ?8, sha256 = ?9, peak_bytes = max(peak_bytes, ?10),"     \
        " first_row_us = CASE first_row_us WHEN 0 THEN ?4 ELSE first_row_us END,"                  \
        " last_row_us = CASE last_row_us WHEN 0 THEN ?4 ELSE last_row_us END,"                     \
        " lease_until_ms = ?2, lease_scope = ?3, heartbeat_us = ?4 WHERE seq = ?1")                \
    X(UNPREPARE, "UPDATE task SET phase = 1, sealed = NULL, sha256 = NULL,"                        \
                 " key = " KEY_OF_UPLOAD ","                                                       \
                 " lease_until_ms = ?2, lease_scope = ?3, heartbeat_us = ?4 WHERE seq = ?1")       \
    X(COMPLETE,                                                                                    \
        "UPDATE task SET phase = 3, progress = 100, ended_us = ?2, result = ?3, retain_us = ?4,"   \
        " owner = NULL, upload = NULL, error_code = NULL, error = NULL, error_detail = NULL,"      \
        " peak_bytes = max(peak_bytes, ?5) WHERE seq = ?1")                                        \
    X(REQUEUE,                                                                                     \
        "UPDATE task SET phase = 0, ready = ?2, available_us = ?3, attempt = attempt - ?4,"        \
        " give_backs = give_backs + ?4, memory_limits = memory_limits + ?5,"                       \
        " error_code = coalesce(?6, error_code), error_detail = coalesce(?7, error_detail),"       \
        " owner = NULL, sealed = NULL, key = " KEY_OF_UPLOAD ", sha256 = NULL, first_row_us = 0,"  \
        " last_row_us = 0, rows = 0, bytes = 0, heartbeat_us = ?8 WHERE seq = ?1")                 \
    X(RELEASE, "UPDATE task SET lease_scope = NULL, owner = NULL, available_us = ?2, attempt = "   \
               "attempt + ?3,"                                                                     \
               " give_backs = give_backs + ?4, error_code = coalesce(?5, error_code),"             \
               " error_detail = coalesce(?6, error_detail) WHERE seq = ?1")                        \
    X(END,                                                                                         \
        "UPDATE task SET phase = ?2, ended_us = ?3, error_code = ?4, error = ?5,"                  \
        " error_detail = ?6, stage = ?7, rows = ?8, owner = NULL, upload = NULL, sealed = NULL,"   \
        " key = " KEY_OF_UPLOAD                                                                    \
        ", sha256 = NULL, peak_bytes = max(peak_bytes, ?9) WHERE seq = ?1")                        \
    X(ATTEMPT, "UPDATE task SET attempts = CASE WHEN attempts IS NULL THEN '[' || ?2 || ']'"       \
               " ELSE substr(attempts, 1, length(attempts) - 1) || ',' || ?2 || ']' END"           \
               " WHERE seq = ?1")                                                                  \
    X(EXPIRE, "UPDATE task SET phase = 4 WHERE key = ?1 AND phase = 3")                            \
    X(PURGE, "DELETE FROM task WHERE seq IN (SELECT seq FROM task"                                 \
             " WHERE ended_us > 0 AND ended_us < ?1 AND (phase <> 3 OR retain_us < ?1) LIMIT ?2)") \
    X(PURGE_IDEMPOTENCY, "DELETE FROM idempotency WHERE at_us < ?1")                               \
    X(PURGE_SOURCES, "DELETE FROM source WHERE checked_us < ?1")                                   \
    X(NOTE_SOURCE, "INSERT INTO source (name, code, took_ms, checked_us) VALUES (?1, ?2, ?3, ?4)"  \
                   " ON CONFLICT (name) DO UPDATE SET code = excluded.code,"                       \
                   " took_ms = excluded.took_ms, checked_us = excluded.checked_us")                \
    X(SOURCES, "SELECT name, code, took_ms, checked_us FROM source")                               \
    X(LAST_DUE, "SELECT due_us FROM schedule WHERE name = ?1")                                     \
    X(SET_DUE, "INSERT INTO schedule (name, due_us) VALUES (?1, ?2)"                               \
               " ON CONFLICT (name) DO UPDATE SET due_us = excluded.due_us")                       \
    X(OLDEST, "SELECT created_us FROM task WHERE phase = 0 AND ready = 1 AND priority = ?1"        \
              " ORDER BY seq LIMIT 1")                                                             \
    X(RUNNING_COUNT, "SELECT count(*) FROM task WHERE phase IN (1, 2)")                            \
    X(HEARTBEAT,                                                                                   \
        "INSERT INTO worker (name, pid, born, scope, seen_ms) VALUES (?1, ?2, ?3, ?4, ?5)"         \
        " ON CONFLICT (name, pid, scope) DO UPDATE SET born = excluded.born,"                      \
        " seen_ms = excluded.seen_ms")                                                             \
    X(LEAVE, "DELETE FROM worker WHERE (name = ?1 AND pid = ?2 AND scope = ?3) OR seen_ms < ?4"    \
             " OR substr(scope, 1, 36) <> substr(?3, 1, 36)")                                      \
    X(WORKERS, "SELECT seen_ms + ?1, scope, pid, born FROM worker")                                \
    X(VISIT_RUNNING,                                                                               \
        "SELECT " RECORD " FROM task WHERE phase IN (1, 2) AND (?1 IS NULL OR owner = ?1)"         \
        " AND (?2 = 0 OR (phase = 1 AND cancel_us > 0)) AND (?3 IS NULL OR user_id = ?3)")         \
    X(VISIT_ALL, "SELECT " RECORD " FROM task WHERE (?1 IS NULL OR owner = ?1)"                    \
                 " AND (?3 IS NULL OR user_id = ?3) AND ?2 = 0 ORDER BY seq DESC")

typedef enum {
#define X(id, sql) STATEMENT_##id,
    EMBEDDED_STATEMENTS(X)
#undef X
        STATEMENTS
} StatementId;

typedef struct Wake Wake;

typedef struct {
    Queue base;
    Arena *arena; /* holds this struct too; ends with the handle */
    sqlite3 *db;
    sqlite3_stmt *statement[STATEMENTS];
    const char *dir;
    int lock; /* queue.lock; -1 in handles that only read */
    bool writes;
    bool durable_now; /* what PRAGMA synchronous says */
    uint64_t limit;
    int64_t busy_ms;
    int64_t waiting_delta; /* of the open transaction */
    Buf totals;            /* QueueTotal of the open transaction */
    int wal_pages;         /* after our last commit */
    Wake *wake;
} Embedded;

/* schema.c */
bool schema_open(Embedded *q, Err *e) MUST_CHECK;

/* wake.c: who waits for news, by a FIFO in DATA/run (reliability.md 3.2). */
Wake *wake_new(const char *dir, bool wants, Arena *arena, Err *e) MUST_CHECK;
void wake_free(Wake *wake);
int wake_own_fd(const Wake *wake); /* -1 if it does not want any */
void wake_drain(Wake *wake);
void wake_all(Wake *wake); /* everybody else */

/* lock.c: flock with a deadline. False, and errno ETIMEDOUT, when it passes. */
bool lock_take(int fd, int64_t wait_ms) MUST_CHECK;
void lock_give(int fd);

/* QUEUE_UNAVAILABLE or STORAGE_FULL with SQLite's own words. Always false. */
bool fail_sqlite(Embedded *q, const char *doing, Err *e);

#endif
