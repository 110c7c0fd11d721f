/*
 * The embedded queue: one SQLite file in WAL mode (https://sqlite.org/wal.html), one writer at a
 * time.
 *
 * Each call that writes is one transaction under flock on queue.lock. What must survive a power
 * loss is committed with synchronous=FULL; takes, renewals and progress with NORMAL: with a take
 * that a power loss forgets went everybody who could have held its epoch (reliability.md 4). Leases
 * are read on CLOCK_BOOTTIME with the boot's id, and the scope of the owner's pid, beside.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "queue/embedded/embedded_in.h"

enum {
    TOTALS_BYTES_MAX = 1 << 20,
    CHECKPOINT_PAGES = 1000,
    LONELY_PAGES = 16384,
    TRUNCATE_PAGES = 32768,
    WORKER_SEEN_MS = 15000,
    WORKER_FORGOTTEN_MS = 3600000,
    READY_LOOKED_AT_MAX = 20000,
    POSITION_MAX = 1000,
};

static const int64_t idempotency_us = 24 * 3600000000LL, source_us = 24 * 3600000000LL;

/* What was written in the future was written by a clock that was ahead; so much may be a step. */
static const int64_t ahead_us = 60000000LL, schedule_ahead_us = 24 * 3600000000LL;

extern const QueueKind queue_embedded;

static const char *const statements[STATEMENTS] = {
#define X(id, sql) [STATEMENT_##id] = sql,
    EMBEDDED_STATEMENTS(X)
#undef X
};

/* What the system said when the database or its log could not be written. SQLite itself calls only
 * ENOSPC full; a quota and a file's size limit are as much. */
static bool
has_no_room(sqlite3 *db)
{
    static const int files[] = {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER};

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        sqlite3_file *file = NULL;
        int error = 0;

        if (sqlite3_file_control(db, "main", files[i], &file) == SQLITE_OK && file &&
            file->pMethods &&
            file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error) == SQLITE_OK &&
            (error == ENOSPC || error == EDQUOT || error == EFBIG))
            return true;
    }
    return false;
}

bool
fail_sqlite(Embedded *q, const char *doing, Err *e)
{
    int code = q->db ? sqlite3_extended_errcode(q->db) : SQLITE_NOMEM;
    bool full =
        (code & 0xff) == SQLITE_FULL || ((code & 0xff) == SQLITE_IOERR && has_no_room(q->db));

    return fail_code(e, full ? ERR_STORAGE_FULL : ERR_QUEUE_UNAVAILABLE, "%s in %s: %s (%d)", doing,
        q->dir, q->db ? sqlite3_errmsg(q->db) : "no memory", code);
}

/* The statement, ready to be bound; NULL and `e`. */
static sqlite3_stmt *
use(Embedded *q, StatementId id, Err *e)
{
    sqlite3_stmt *statement = q->statement[id];

    if (statement)
        return statement;
    if (sqlite3_prepare_v3(
            q->db, statements[id], -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK) {
        fail_sqlite(q, "preparing a statement", e);
        return NULL;
    }
    return q->statement[id] = statement;
}

/* What is bound: `t` text (NULL is NULL), `i` int64. One letter for each value. */
static void
bind(sqlite3_stmt *statement, const char *types, va_list values)
{
    for (int at = 1; *types; types++, at++) {
        if (*types == 't')
            sqlite3_bind_text(statement, at, va_arg(values, const char *), -1, SQLITE_STATIC);
        else
            sqlite3_bind_int64(statement, at, va_arg(values, int64_t));
    }
}

/* Runs a statement that yields nothing. */
static bool
run(Embedded *q, StatementId id, Err *e, const char *types, ...)
{
    sqlite3_stmt *statement = use(q, id, e);
    va_list values;
    int code;

    if (!statement)
        return false;
    va_start(values, types);
    bind(statement, types, values);
    va_end(values);
    code = sqlite3_step(statement);
    if (code != SQLITE_DONE && code != SQLITE_ROW)
        fail_sqlite(q, "writing", e);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return code == SQLITE_DONE || code == SQLITE_ROW;
}

/* Starts a query; NULL and `e`. Step it with next_row(). */
static sqlite3_stmt *
ask(Embedded *q, StatementId id, Err *e, const char *types, ...)
{
    sqlite3_stmt *statement = use(q, id, e);
    va_list values;

    if (!statement)
        return NULL;
    va_start(values, types);
    bind(statement, types, values);
    va_end(values);
    return statement;
}

typedef enum { ROW, NO_ROW, ROW_ERROR } Row;

static void
done(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

/* The statement is done with after NO_ROW and ROW_ERROR. */
static Row
next_row(Embedded *q, sqlite3_stmt *statement, Err *e)
{
    int code = sqlite3_step(statement);

    if (code == SQLITE_ROW)
        return ROW;
    if (code != SQLITE_DONE)
        fail_sqlite(q, "reading", e);
    done(statement);
    return code == SQLITE_DONE ? NO_ROW : ROW_ERROR;
}

/* A query's single number; `preset` without a row or for NULL. */
static bool
ask_number(Embedded *q, StatementId id, int64_t preset, int64_t *number, Err *e)
{
    sqlite3_stmt *statement = ask(q, id, e, "");
    Row row;

    *number = preset;
    if (!statement || (row = next_row(q, statement, e)) == ROW_ERROR)
        return false;
    if (row == ROW) {
        if (sqlite3_column_type(statement, 0) != SQLITE_NULL)
            *number = sqlite3_column_int64(statement, 0);
        done(statement);
    }
    return true;
}

static bool
begin(Embedded *q, bool durable, Err *e)
{
    int64_t from_ms = time_now_ms(), left_ms;

    q->waiting_delta = 0;
    buf_clear(&q->totals);
    if (!q->writes)
        return fail(e, QUEUE_UNAVAILABLE, "this handle only reads");
    if (!lock_take(q->lock, q->busy_ms))
        return fail(e, QUEUE_UNAVAILABLE, "waiting for %s/queue.lock: %m", q->dir);
    /* Other programs lock the file without asking ours first: for them what is left must do. */
    left_ms = from_ms + q->busy_ms - time_now_ms();
    sqlite3_busy_timeout(q->db, left_ms > 0 ? (int)left_ms : 0);
    if (durable != q->durable_now) {
        if (sqlite3_exec(q->db,
                durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL, NULL,
                NULL) != SQLITE_OK) {
            lock_give(q->lock);
            return fail_sqlite(q, "setting synchronous", e);
        }
        q->durable_now = durable;
    }
    if (run(q, STATEMENT_BEGIN, e, ""))
        return true;
    lock_give(q->lock);
    return false;
}

static int
compare_totals(const void *a, const void *b)
{
    return strcmp(((const QueueTotal *)a)->series, ((const QueueTotal *)b)->series);
}

/* One statement for each series, however often it was added to. */
static bool
write_totals(Embedded *q, Err *e)
{
    QueueTotal *total = (QueueTotal *)(void *)q->totals.data;
    size_t count = q->totals.bytes / sizeof *total;

    if (!buf_is_good(&q->totals, e))
        return false;
    if (count > 1)
        qsort(total, count, sizeof *total, compare_totals);
    for (size_t i = 0; i < count;) {
        size_t end = i;
        sqlite3_stmt *statement;
        double sum = 0;

        for (; end < count && strcmp(total[end].series, total[i].series) == 0; end++)
            sum = total[end].set ? total[end].add : sum + total[end].add;
        statement = use(q, total[i].set ? STATEMENT_TOTAL_SET : STATEMENT_TOTAL_ADD, e);
        if (!statement)
            return false;
        sqlite3_bind_text(statement, 1, total[i].series, -1, SQLITE_STATIC);
        sqlite3_bind_double(statement, 2, sum);
        if (sqlite3_step(statement) != SQLITE_DONE) {
            done(statement);
            return fail_sqlite(q, "counting", e);
        }
        done(statement);
        i = end;
    }
    return true;
}

/* Ends the transaction, well or not; `wakes`: others look again. */
static bool
end(Embedded *q, bool ok, bool wakes, Err *e)
{
    ok = ok && write_totals(q, e) &&
         (q->waiting_delta == 0 || run(q, STATEMENT_WAITING_ADD, e, "i", q->waiting_delta)) &&
         run(q, STATEMENT_COMMIT, e, "");
    if (!ok && !sqlite3_get_autocommit(q->db)) {
        Err ignored = {0};

        (void)run(q, STATEMENT_ROLLBACK, &ignored, "");
    }
    /* What is moved from the log to the file leaves room in the log: the next write needs none on
     * the disk, and those that make room (ends of exports, deletes) are possible again. */
    if (!ok && e->code == ERR_STORAGE_FULL)
        (void)sqlite3_wal_checkpoint_v2(q->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    lock_give(q->lock);
    if (ok && wakes)
        wake_all(q->wake);
    return ok;
}

static void
add_totals(Embedded *q, const QueueTotal *total, size_t totals)
{
    buf_put(&q->totals, total, totals * sizeof *total);
}

/* --- records --- */

static const char *
copy_text(sqlite3_stmt *row, int at, Arena *arena, Err *e)
{
    const unsigned char *text = sqlite3_column_text(row, at);

    return text ? arena_bytes(arena, text, (size_t)sqlite3_column_bytes(row, at), e) : NULL;
}

typedef struct {
    int64_t until_ms;
    const char *scope; /* process_scope() of the owner; NULL: none */
    pid_t pid;
    uint64_t born;
} Lease;

/* Whether it is this very process: that need not be asked of the system each time. */
static bool
is_own(const Lease *lease)
{
    static _Thread_local pid_t own;
    static _Thread_local uint64_t born;

    if (lease->pid != getpid())
        return false;
    if (own != lease->pid) {
        born = process_born(lease->pid);
        own = lease->pid;
    }
    return lease->born == born;
}

/* A process of another container cannot be seen from here: only its lease tells. */
static bool
owner_is_gone(const Lease *lease)
{
    if (!lease->scope || !process_scope_is_this_boot(lease->scope))
        return true;
    return strcmp(lease->scope, process_scope()) == 0 && !is_own(lease) &&
           !process_may_live(lease->pid, lease->born);
}

static bool
lease_is_over(const Lease *lease)
{
    return lease->until_ms < time_now_ms() || owner_is_gone(lease);
}

/* The four lease columns, which stand together from `at` on. */
static Lease
read_lease(sqlite3_stmt *row, int at)
{
    return (Lease){
        .until_ms = sqlite3_column_int64(row, at),
        .scope = (const char *)sqlite3_column_text(row, at + 1),
        .pid = (pid_t)sqlite3_column_int64(row, at + 2),
        .born = (uint64_t)sqlite3_column_int64(row, at + 3),
    };
}

static bool
read_record(sqlite3_stmt *row, Arena *arena, QueueRecord *r, Err *e)
{
    int at = 0;
    Lease lease;

    *r = (QueueRecord){0};
#define READ_TEXT(name) r->name = copy_text(row, at++, arena, e);
#define READ_INT(name) r->name = sqlite3_column_int(row, at++);
#define READ_WIDE(name) r->name = (__typeof__(r->name))sqlite3_column_int64(row, at++);
#define READ(kind, name) READ_##kind(name)
    EMBEDDED_COLUMNS(READ)
#undef READ
    r->phase = (QueuePhase)sqlite3_column_int(row, at++);
    r->stage = (Stage)sqlite3_column_int(row, at++);
    if (r->phase == QUEUE_RUNNING || r->phase == QUEUE_PREPARED) {
        lease = read_lease(row, at);
        r->owner_is_gone = owner_is_gone(&lease);
        r->lease_is_over = lease_is_over(&lease);
    }
    /* copy_text fails only without memory; whatever else is in the columns is passed on as it is.
     */
    return e->code != ERR_MEMORY_LIMIT;
}

static bool
find_with(Embedded *q, sqlite3_stmt *statement, const char *what, Arena *arena, QueueRecord *record,
    Err *e)
{
    Row row;
    bool ok;

    if (!statement || (row = next_row(q, statement, e)) == ROW_ERROR)
        return false;
    if (row == NO_ROW)
        return fail(e, EXPORT_NOT_FOUND, "no task %.64s", what);
    ok = read_record(statement, arena, record, e);
    done(statement);
    return ok;
}

static bool
add_position(Embedded *q, QueueRecord *record, Err *e)
{
    sqlite3_stmt *statement = ask(q, STATEMENT_POSITION, e, "t", record->id);
    int64_t position;

    if (!statement || next_row(q, statement, e) != ROW)
        return false;
    position = sqlite3_column_int64(statement, 0);
    done(statement);
    record->position = position > POSITION_MAX ? 0 : position;
    return true;
}

static bool
embedded_find(Queue *queue, const char *id, Arena *arena, QueueRecord *record, Err *e)
{
    Embedded *q = (Embedded *)queue;

    return find_with(q, ask(q, STATEMENT_FIND, e, "t", id), id, arena, record, e) &&
           (record->phase != QUEUE_QUEUED || add_position(q, record, e));
}

static bool
embedded_find_key(Queue *queue, const char *key, Arena *arena, QueueRecord *record, Err *e)
{
    Embedded *q = (Embedded *)queue;

    return find_with(q, ask(q, STATEMENT_FIND_KEY, e, "t", key), key, arena, record, e);
}

/* --- putting --- */

/* True: the key was used before, and the verdict says how. False with an empty `e`: it was not. */
static bool
is_remembered(Embedded *q, QueuePut *put, Arena *arena, Err *e)
{
    sqlite3_stmt *statement = ask(q, STATEMENT_REMEMBERED, e, "tti", put->idempotency_scope,
        put->idempotency_key, time_wall_us() - idempotency_us);
    const char *hash;

    if (!statement || next_row(q, statement, e) != ROW)
        return false;
    hash = (const char *)sqlite3_column_text(statement, 0);
    if (hash && strcmp(hash, put->idempotency_hash) == 0) {
        put->verdict = QUEUE_PUT_REPLAYED;
        put->replay = (char *)(uintptr_t)copy_text(statement, 1, arena, e);
    } else {
        put->verdict = QUEUE_PUT_MISMATCH;
    }
    done(statement);
    return e->links == 0;
}

/* `limit`: of those that wait; 0: none. */
static bool
put_one(Embedded *q, QueuePut *put, uint64_t waiting, uint64_t limit, Arena *arena, Err *e)
{
    bool ready = put->available_us <= time_wall_us();

    if (put->idempotency_key) {
        if (is_remembered(q, put, arena, e))
            return true;
        if (e->links)
            return false;
    }
    if (limit > 0 && waiting + (uint64_t)q->waiting_delta >= limit) {
        put->verdict = QUEUE_PUT_FULL;
        return true;
    }
    if (!run(q, STATEMENT_PUT, e, "ttttttttttiiiii", put->id, put->task, put->user_id,
            put->export_type, put->source, put->format, put->request, put->version, put->request_id,
            put->queue, (int64_t)put->priority, (int64_t)put->max_attempts, put->available_us,
            put->created_us, (int64_t)ready))
        return false;
    if (sqlite3_changes(q->db) == 0) {
        put->verdict = QUEUE_PUT_EXISTS;
        return true;
    }
    put->verdict = QUEUE_PUT_NEW;
    q->waiting_delta++;
    add_totals(q, put->total, put->totals);
    return !put->idempotency_key ||
           run(q, STATEMENT_REMEMBER, e, "tttti", put->idempotency_scope, put->idempotency_key,
               put->idempotency_hash, put->answer, put->created_us);
}

static bool
put_all(Embedded *q, QueuePut *put, size_t puts, Arena *arena, Err *e)
{
    int64_t waiting;

    if (!ask_number(q, STATEMENT_WAITING, 0, &waiting, e))
        return false;
    for (size_t i = 0; i < puts; i++)
        if (!put_one(q, &put[i], (uint64_t)waiting, q->limit, arena, e))
            return false;
    return true;
}

static bool
embedded_put(Queue *queue, QueuePut *put, size_t puts, Arena *arena, Err *e)
{
    Embedded *q = (Embedded *)queue;

    return begin(q, true, e) && end(q, put_all(q, put, puts, arena, e), true, e);
}

/* --- cancelling --- */

/* Where a task stands, for those who want to write it. */
typedef struct {
    int64_t seq;
    QueuePhase phase;
    int64_t epoch, cancel_us;
    bool lease_over;
} Look;

static Row
look(Embedded *q, const char *id, bool at_lease, Look *is, Err *e)
{
    sqlite3_stmt *statement = ask(q, STATEMENT_LOOK, e, "t", id);
    Row row = statement ? next_row(q, statement, e) : ROW_ERROR;
    Lease lease;

    if (row != ROW)
        return row;
    *is = (Look){
        .seq = sqlite3_column_int64(statement, 0),
        .phase = (QueuePhase)sqlite3_column_int(statement, 1),
        .epoch = sqlite3_column_int64(statement, 2),
        .cancel_us = sqlite3_column_int64(statement, 3),
    };
    if (at_lease) {
        lease = read_lease(statement, 4);
        is->lease_over = lease_is_over(&lease);
    }
    done(statement);
    return ROW;
}

static bool
cancel_one(Embedded *q, QueueCancel *cancel, Err *e)
{
    Look is;

    switch (look(q, cancel->id, false, &is, e)) {
    case ROW_ERROR:
        return false;
    case NO_ROW:
        cancel->outcome = QUEUE_CANCEL_UNKNOWN;
        return true;
    case ROW:
        break;
    }
    if (is.phase == QUEUE_CANCELLED || (is.phase == QUEUE_RUNNING && is.cancel_us > 0)) {
        cancel->outcome = QUEUE_CANCEL_ALREADY;
        return true;
    }
    if (is.phase == QUEUE_QUEUED) {
        cancel->outcome = QUEUE_CANCEL_DONE;
        q->waiting_delta--;
        add_totals(q, cancel->total, cancel->totals);
        return run(
            q, STATEMENT_CANCEL_NOW, e, "iitt", is.seq, cancel->now_us, cancel->by, cancel->reason);
    }
    if (is.phase == QUEUE_RUNNING) {
        cancel->outcome = QUEUE_CANCEL_NOTED;
        return run(q, STATEMENT_CANCEL_NOTE, e, "iitt", is.seq, cancel->now_us, cancel->by,
            cancel->reason);
    }
    cancel->outcome = QUEUE_CANCEL_TOO_LATE;
    return true;
}

static bool
embedded_cancel(Queue *queue, QueueCancel *cancel, size_t cancels, Err *e)
{
    Embedded *q = (Embedded *)queue;
    bool ok = begin(q, true, e);

    if (!ok)
        return false;
    for (size_t i = 0; ok && i < cancels; i++)
        ok = cancel_one(q, &cancel[i], e);
    return end(q, ok, true, e);
}

/* --- writing what happened --- */

static bool
is_durable(QueueWriteOp op)
{
    return op == QUEUE_PREPARE || op == QUEUE_COMPLETE || op == QUEUE_FAIL ||
           op == QUEUE_CANCELLED_NOW || op == QUEUE_UPLOAD;
}

static bool
may_write(const QueueWrite *w, const Look *is)
{
    bool running = is->phase == QUEUE_RUNNING, prepared = is->phase == QUEUE_PREPARED;

    if (w->epoch != is->epoch || (w->if_lease_over && !is->lease_over))
        return false;
    switch (w->op) {
    case QUEUE_RENEW:
    case QUEUE_RETRY:
    case QUEUE_FAIL:
    case QUEUE_GIVE_BACK:
        return running || prepared;
    case QUEUE_PROGRESS:
    case QUEUE_UPLOAD:
    case QUEUE_PREPARE:
    case QUEUE_CANCELLED_NOW:
        return running;
    case QUEUE_UNPREPARE:
    case QUEUE_COMPLETE:
        return prepared;
    }
    return false;
}

/* RETRY and GIVE_BACK. What is sealed may have been published already, so it never runs again: only
 * its lease ends. Its next take is no new attempt, so a RETRY counts itself. */
static bool
requeue(Embedded *q, const QueueWrite *w, const Look *is, int64_t now_us, Err *e)
{
    bool gives_back = w->op == QUEUE_GIVE_BACK;
    int64_t available_us = gives_back ? now_us : w->available_us;
    bool memory = w->error_code && strcmp(w->error_code, err_name(ERR_MEMORY_LIMIT)) == 0;

    if (is->phase == QUEUE_PREPARED)
        return run(q, STATEMENT_RELEASE, e, "iiiitt", is->seq, available_us, (int64_t)!gives_back,
            (int64_t)gives_back, w->error_code, w->error_detail);
    q->waiting_delta++;
    return run(q, STATEMENT_REQUEUE, e, "iiiiitti", is->seq, (int64_t)(available_us <= now_us),
        available_us, (int64_t)gives_back, (int64_t)memory, w->error_code, w->error_detail, now_us);
}

static bool
write_op(Embedded *q, const QueueWrite *w, const Look *is, Err *e)
{
    int64_t now_us = time_wall_us(), until_ms = time_now_ms() + w->lease_ms, seq = is->seq;
    const char *scope = process_scope();

    switch (w->op) {
    case QUEUE_RENEW:
        return run(q, STATEMENT_RENEW, e, "iiti", seq, until_ms, scope, now_us);
    case QUEUE_PROGRESS:
        return run(q, STATEMENT_PROGRESS, e, "iitiiiiiii", seq, until_ms, scope, now_us,
            (int64_t)w->stage, (int64_t)w->progress, (int64_t)w->rows, (int64_t)w->bytes,
            w->rows_estimated, (int64_t)w->peak_bytes);
    case QUEUE_UPLOAD:
        return run(
            q, STATEMENT_UPLOAD, e, "iititt", seq, until_ms, scope, now_us, w->upload, w->key);
    case QUEUE_PREPARE:
        return run(q, STATEMENT_PREPARE, e, "iitittiiti", seq, until_ms, scope, now_us, w->key,
            w->sealed, (int64_t)w->rows, (int64_t)w->bytes, w->sha256, (int64_t)w->peak_bytes);
    case QUEUE_UNPREPARE:
        return run(q, STATEMENT_UNPREPARE, e, "iiti", seq, until_ms, scope, now_us);
    case QUEUE_COMPLETE:
        return run(q, STATEMENT_COMPLETE, e, "iitii", seq, now_us, w->result, w->retain_us,
            (int64_t)w->peak_bytes);
    case QUEUE_RETRY:
    case QUEUE_GIVE_BACK:
        return requeue(q, w, is, now_us, e);
    case QUEUE_FAIL:
    case QUEUE_CANCELLED_NOW:
        return run(q, STATEMENT_END, e, "iiitttiii", seq,
            (int64_t)(w->op == QUEUE_FAIL ? QUEUE_FAILED : QUEUE_CANCELLED), now_us, w->error_code,
            w->error, w->error_detail, (int64_t)w->stage, (int64_t)w->rows, (int64_t)w->peak_bytes);
    }
    return fail(e, INTERNAL, "no such write");
}

static bool
write_one(Embedded *q, QueueWrite *w, Err *e)
{
    Look is;
    Row row = look(q, w->id, w->if_lease_over, &is, e);

    w->verdict = QUEUE_NOT_MINE;
    w->cancel_asked = false;
    if (row != ROW)
        return row == NO_ROW;
    if (!may_write(w, &is))
        return true;
    w->cancel_asked = is.cancel_us > 0;
    if (w->cancel_asked &&
        (w->op == QUEUE_PREPARE || w->op == QUEUE_RETRY || w->op == QUEUE_GIVE_BACK)) {
        w->verdict = QUEUE_CANCEL_ASKED;
        return true;
    }
    if (!write_op(q, w, &is, e)) {
        /* The one constraint there is to break; what the statement did is undone. */
        if ((w->op != QUEUE_PREPARE && w->op != QUEUE_UPLOAD) ||
            sqlite3_errcode(q->db) != SQLITE_CONSTRAINT)
            return false;
        err_clear(e);
        w->verdict = QUEUE_KEY_TAKEN;
        return true;
    }
    w->verdict = QUEUE_WRITTEN;
    add_totals(q, w->total, w->totals);
    return !w->attempt_entry || run(q, STATEMENT_ATTEMPT, e, "it", is.seq, w->attempt_entry);
}

static bool
embedded_write(Queue *queue, QueueWrite *write, size_t writes, Err *e)
{
    Embedded *q = (Embedded *)queue;
    bool durable = false, ok;

    for (size_t i = 0; i < writes; i++)
        durable |= is_durable(write[i].op);
    if (!(ok = begin(q, durable, e)))
        return false;
    for (size_t i = 0; ok && i < writes; i++)
        ok = write_one(q, &write[i], e);
    return end(q, ok, true, e);
}

/* --- taking --- */

enum { TAKE_MAX = 256 };

typedef struct {
    int64_t seq[TAKE_MAX];
    size_t count;
    unsigned running[QUEUE_LIMITS_MAX]; /* of each limit */
} Choice;

static bool
limit_fits(const QueueLimit *limit, const char *source, const char *export_type)
{
    return (!limit->source || (source && strcmp(limit->source, source) == 0)) &&
           (!limit->export_type || (export_type && strcmp(limit->export_type, export_type) == 0));
}

/* As how many it counts; a limit of none stays one. */
static unsigned
weight_under(const QueueTake *take, const QueueLimit *limit, const char *type)
{
    unsigned weight = 1;

    for (size_t i = 0; limit->source && type && i < take->weights; i++)
        if (strcmp(take->weight[i].export_type, type) == 0)
            weight = take->weight[i].weight;
    return weight <= limit->most ? weight : limit->most > 0 ? limit->most : 1;
}

static void
count_running(const QueueTake *take, Choice *choice, const char *source, const char *type)
{
    for (size_t i = 0; i < take->limits; i++)
        if (limit_fits(&take->limit[i], source, type))
            choice->running[i] += weight_under(take, &take->limit[i], type);
}

/* Where it is the source that has no room, what comes behind must not take the little there is. */
static bool
is_below_limits(const QueueTake *take, Choice *choice, const char *source, const char *type)
{
    const QueueLimit *full = NULL;

    for (size_t i = 0; i < take->limits; i++)
        if (limit_fits(&take->limit[i], source, type) &&
            choice->running[i] + weight_under(take, &take->limit[i], type) > take->limit[i].most) {
            if (!take->limit[i].source)
                return false;
            full = &take->limit[i];
        }
    if (full && choice->running[full - take->limit] < full->most)
        choice->running[full - take->limit] = full->most;
    return !full;
}

/* What runs counts against the limits; what is prepared and left behind is taken first. */
static bool
choose_prepared(Embedded *q, const QueueTake *take, Choice *choice, Err *e)
{
    sqlite3_stmt *statement = ask(q, STATEMENT_RUNNING, e, "");
    int64_t now_us = time_wall_us();
    Row row = ROW_ERROR;

    while (statement && (row = next_row(q, statement, e)) == ROW) {
        Lease lease = read_lease(statement, 4);

        count_running(take, choice, (const char *)sqlite3_column_text(statement, 2),
            (const char *)sqlite3_column_text(statement, 3));
        if (choice->count < take->wanted && sqlite3_column_int(statement, 1) == QUEUE_PREPARED &&
            (sqlite3_column_int64(statement, 8) <= now_us ||
                sqlite3_column_int64(statement, 9) > now_us + ahead_us) &&
            lease_is_over(&lease))
            choice->seq[choice->count++] = sqlite3_column_int64(statement, 0);
    }
    return statement && row == NO_ROW;
}

static bool
is_named(const char *const *names, const char *name)
{
    for (; names && *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return !names;
}

static bool
choose_ready(Embedded *q, const QueueTake *take, Choice *choice, Err *e)
{
    sqlite3_stmt *statement = ask(q, STATEMENT_READY, e, "");
    size_t looked_at = 0;
    Row row = NO_ROW;

    if (!statement)
        return false;
    while (choice->count < take->wanted && looked_at++ < READY_LOOKED_AT_MAX &&
           (row = next_row(q, statement, e)) == ROW) {
        const char *source = (const char *)sqlite3_column_text(statement, 2);
        const char *type = (const char *)sqlite3_column_text(statement, 3);

        if (!is_named(take->queues, (const char *)sqlite3_column_text(statement, 1)) ||
            !is_below_limits(take, choice, source, type))
            continue;
        count_running(take, choice, source, type);
        choice->seq[choice->count++] = sqlite3_column_int64(statement, 0);
    }
    done(statement);
    return row != ROW_ERROR;
}

static bool
take_chosen(Embedded *q, const QueueTake *take, const Choice *choice, QueueRecord *record,
    Arena *arena, Err *e)
{
    int64_t now_us = time_wall_us(), until_ms = time_now_ms() + take->lease_ms;

    for (size_t i = 0; i < choice->count; i++) {
        if (!run(q, STATEMENT_TAKE, e, "iitiiit", choice->seq[i], now_us, take->owner.name,
                (int64_t)take->owner.pid, (int64_t)take->owner.born, until_ms, process_scope()) ||
            !find_with(q, ask(q, STATEMENT_FIND_SEQ, e, "i", choice->seq[i]), "taken", arena,
                &record[i], e))
            return false;
        if (record[i].phase == QUEUE_RUNNING)
            q->waiting_delta--;
    }
    return true;
}

/* A look without the lock: most wake-ups find nothing. */
static bool
is_worth_taking(Embedded *q, bool *worth, Err *e)
{
    int64_t any, due, running, again, now_us = time_wall_us();

    if (!ask_number(q, STATEMENT_ANY_READY, 0, &any, e) ||
        !ask_number(q, STATEMENT_NEXT_DUE, INT64_MAX, &due, e) ||
        !ask_number(q, STATEMENT_LAST_AGAIN, 0, &again, e) ||
        !ask_number(q, STATEMENT_RUNNING_COUNT, 0, &running, e))
        return false;
    *worth = any || due <= now_us || again > now_us + ahead_us || running > 0;
    return true;
}

static bool
embedded_take(
    Queue *queue, const QueueTake *asked, QueueRecord *record, size_t *taken, Arena *arena, Err *e)
{
    Embedded *q = (Embedded *)queue;
    QueueTake take = *asked;
    Choice choice = {.count = 0};
    bool worth, ok;

    *taken = 0;
    if (take.wanted > TAKE_MAX)
        take.wanted = TAKE_MAX;
    if (take.limits > QUEUE_LIMITS_MAX)
        return fail(e, INTERNAL, "more than %d limits", QUEUE_LIMITS_MAX);
    if (!is_worth_taking(q, &worth, e))
        return false;
    if (!worth || take.wanted == 0)
        return true;
    if (!begin(q, false, e))
        return false;
    /* Who waits for another attempt since a time that has not come waits for nothing. */
    ok = run(q, STATEMENT_PROMOTE, e, "i", time_wall_us()) &&
         run(q, STATEMENT_PROMOTE_AGAIN, e, "i", time_wall_us() + ahead_us) &&
         choose_prepared(q, &take, &choice, e) && choose_ready(q, &take, &choice, e) &&
         take_chosen(q, &take, &choice, record, arena, e);
    ok = end(q, ok, choice.count > 0, e);
    *taken = ok ? choice.count : 0;
    return ok;
}

/* --- looking --- */

static bool
embedded_visit(Queue *queue, const QueueFilter *filter, QueueVisit *visit, void *with, Err *e)
{
    Embedded *q = (Embedded *)queue;
    bool running = filter->running || filter->owner || filter->cancel_asked || filter->lease_over;
    sqlite3_stmt *statement = ask(q, running ? STATEMENT_VISIT_RUNNING : STATEMENT_VISIT_ALL, e,
        "tit", filter->owner, (int64_t)filter->cancel_asked, filter->user_id);
    Arena *arena = arena_new(16 << 20);
    size_t visited = 0;
    bool ok = true;
    Row row = NO_ROW;

    if (!statement || !arena) {
        arena_free(arena);
        return e->links ? false : fail(e, MEMORY_LIMIT, "no memory for a record");
    }
    while (ok && (filter->limit == 0 || visited < filter->limit) &&
           (row = next_row(q, statement, e)) == ROW) {
        ArenaMark mark = arena_mark(arena);
        QueueRecord record;

        ok = read_record(statement, arena, &record, e);
        if (ok && (!filter->lease_over || record.lease_is_over)) {
            visited++;
            ok = visit(&record, with, e);
        }
        arena_rewind(arena, mark);
    }
    done(statement);
    arena_free(arena);
    return ok && row != ROW_ERROR;
}

static bool
count_workers(Embedded *q, unsigned *workers, Err *e)
{
    sqlite3_stmt *statement = ask(q, STATEMENT_WORKERS, e, "i", (int64_t)WORKER_SEEN_MS);
    Row row = ROW_ERROR;

    *workers = 0;
    while (statement && (row = next_row(q, statement, e)) == ROW) {
        Lease lease = read_lease(statement, 0);

        *workers += !lease_is_over(&lease);
    }
    return statement && row == NO_ROW;
}

static bool
embedded_count(Queue *queue, QueueCounts *counts, Err *e)
{
    Embedded *q = (Embedded *)queue;
    int64_t depth, running;

    *counts = (QueueCounts){0};
    if (!ask_number(q, STATEMENT_WAITING, 0, &depth, e) ||
        !ask_number(q, STATEMENT_RUNNING_COUNT, 0, &running, e))
        return false;
    counts->depth = (uint64_t)depth;
    counts->running = (uint64_t)running;
    for (int64_t priority = 0; priority <= 9; priority++) {
        sqlite3_stmt *statement = ask(q, STATEMENT_OLDEST, e, "i", priority);
        Row row = statement ? next_row(q, statement, e) : ROW_ERROR;

        if (row == ROW_ERROR)
            return false;
        if (row == ROW) {
            int64_t created_us = sqlite3_column_int64(statement, 0);

            if (counts->oldest_us == 0 || created_us < counts->oldest_us)
                counts->oldest_us = created_us;
            done(statement);
        }
    }
    return count_workers(q, &counts->workers, e);
}

static bool
embedded_visit_totals(Queue *queue, QueueTotalVisit *visit, void *with, Err *e)
{
    Embedded *q = (Embedded *)queue;
    sqlite3_stmt *statement = ask(q, STATEMENT_TOTALS, e, "");
    Row row = ROW_ERROR;

    while (statement && (row = next_row(q, statement, e)) == ROW)
        if (!visit((const char *)sqlite3_column_text(statement, 0),
                sqlite3_column_double(statement, 1), with)) {
            done(statement);
            return true;
        }
    return statement && row == NO_ROW;
}

/* --- sources --- */

static bool
embedded_note_source(Queue *queue, const QueueSource *source, Err *e)
{
    Embedded *q = (Embedded *)queue;

    return begin(q, false, e) && end(q,
                                     run(q, STATEMENT_NOTE_SOURCE, e, "ttii", source->name,
                                         source->code, source->took_ms, source->checked_us),
                                     false, e);
}

static bool
embedded_visit_sources(Queue *queue, QueueSourceVisit *visit, void *with, Err *e)
{
    Embedded *q = (Embedded *)queue;
    sqlite3_stmt *statement = ask(q, STATEMENT_SOURCES, e, "");
    Row row = ROW_ERROR;

    while (statement && (row = next_row(q, statement, e)) == ROW) {
        const QueueSource source = {
            .name = (const char *)sqlite3_column_text(statement, 0),
            .code = (const char *)sqlite3_column_text(statement, 1),
            .took_ms = sqlite3_column_int64(statement, 2),
            .checked_us = sqlite3_column_int64(statement, 3),
        };

        if (!source.name || !source.code) {
            done(statement);
            return fail(e, MEMORY_LIMIT, "no memory for a source's name");
        }
        if (!visit(&source, with)) {
            done(statement);
            return true;
        }
    }
    return statement && row == NO_ROW;
}

/* --- the rest --- */

static bool
embedded_expire(Queue *queue, const char *const *key, size_t keys, Err *e)
{
    Embedded *q = (Embedded *)queue;
    bool ok = begin(q, true, e);

    if (!ok)
        return false;
    for (size_t i = 0; ok && i < keys; i++)
        ok = run(q, STATEMENT_EXPIRE, e, "t", key[i]);
    return end(q, ok, true, e);
}

static bool
embedded_add(Queue *queue, const QueueTotal *total, size_t totals, Err *e)
{
    Embedded *q = (Embedded *)queue;

    if (!begin(q, false, e))
        return false;
    add_totals(q, total, totals);
    return end(q, true, false, e);
}

static bool
embedded_purge(Queue *queue, int64_t before_us, size_t most, size_t *purged, Err *e)
{
    Embedded *q = (Embedded *)queue;
    bool ok;

    *purged = 0;
    if (!begin(q, false, e))
        return false;
    ok = run(q, STATEMENT_PURGE, e, "ii", before_us, (int64_t)most);
    if (ok)
        *purged = (size_t)sqlite3_changes(q->db);
    ok = ok && run(q, STATEMENT_PURGE_IDEMPOTENCY, e, "i", time_wall_us() - idempotency_us) &&
         run(q, STATEMENT_PURGE_SOURCES, e, "i", time_wall_us() - source_us);
    return end(q, ok, false, e);
}

static bool
read_due(Embedded *q, const char *schedule, int64_t *due_us, Err *e)
{
    sqlite3_stmt *statement = ask(q, STATEMENT_LAST_DUE, e, "t", schedule);
    Row row = statement ? next_row(q, statement, e) : ROW_ERROR;

    *due_us = 0;
    if (row == ROW) {
        *due_us = sqlite3_column_int64(statement, 0);
        done(statement);
    }
    return row != ROW_ERROR;
}

static bool
embedded_last_due(Queue *queue, const char *schedule, int64_t *due_us, Err *e)
{
    return read_due((Embedded *)queue, schedule, due_us, e);
}

static bool
fire_once(Embedded *q, QueueFire *fire, Arena *arena, Err *e)
{
    int64_t last_us;

    if (!read_due(q, fire->schedule, &last_us, e))
        return false;
    if (last_us >= fire->due_us && last_us <= time_wall_us() + schedule_ahead_us)
        return true;
    fire->fired = true;
    /* The limit is for those outside: a full queue would forget what is due. */
    return run(q, STATEMENT_SET_DUE, e, "ti", fire->schedule, fire->due_us) &&
           (!fire->put || put_one(q, fire->put, 0, 0, arena, e));
}

static bool
embedded_fire(Queue *queue, QueueFire *fire, Err *e)
{
    Embedded *q = (Embedded *)queue;
    bool ok;

    fire->fired = false;
    if (!begin(q, true, e))
        return false;
    ok = end(q, fire_once(q, fire, q->arena, e), true, e);
    fire->fired = fire->fired && ok;
    return ok;
}

static bool
embedded_heartbeat(Queue *queue, const QueueOwner *owner, Err *e)
{
    Embedded *q = (Embedded *)queue;

    return begin(q, false, e) &&
           end(q,
               run(q, STATEMENT_HEARTBEAT, e, "tiiti", owner->name, (int64_t)owner->pid,
                   (int64_t)owner->born, process_scope(), time_now_ms()),
               false, e);
}

static bool
embedded_leave(Queue *queue, const QueueOwner *owner, Err *e)
{
    Embedded *q = (Embedded *)queue;

    return begin(q, false, e) &&
           end(q,
               run(q, STATEMENT_LEAVE, e, "titi", owner->name, (int64_t)owner->pid, process_scope(),
                   time_now_ms() - WORKER_FORGOTTEN_MS),
               false, e);
}

static int
embedded_wake_fd(Queue *queue)
{
    return wake_own_fd(((Embedded *)queue)->wake);
}

static void
embedded_wake_clear(Queue *queue)
{
    wake_drain(((Embedded *)queue)->wake);
}

static bool
embedded_next_due(Queue *queue, int64_t *due_us, Err *e)
{
    return ask_number((Embedded *)queue, STATEMENT_NEXT_DUE, 0, due_us, e);
}

static int
note_wal(void *with, sqlite3 *db, const char *name, int pages)
{
    ((Embedded *)with)->wal_pages = pages;
    /* The net for an API that is alone: it does not call maintain(). */
    if (pages > LONELY_PAGES)
        (void)sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    return SQLITE_OK;
}

/* A passive checkpoint waits for nobody; only a file that has grown far makes the others wait a
 * moment. */
static bool
embedded_maintain(Queue *queue, Err *e)
{
    Embedded *q = (Embedded *)queue;
    int mode =
        q->wal_pages > TRUNCATE_PAGES ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
    int code;

    if (q->wal_pages < CHECKPOINT_PAGES)
        return true;
    q->wal_pages = 0;
    code = sqlite3_wal_checkpoint_v2(q->db, NULL, mode, NULL, NULL);
    return code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED ||
           fail_sqlite(q, "a checkpoint", e);
}

static bool
embedded_check(Queue *queue, const char **promise, Err *e)
{
    Embedded *q = (Embedded *)queue;
    int64_t waiting;

    *promise = "accepted tasks survive a power loss";
    if (!q->writes)
        return ask_number(q, STATEMENT_WAITING, 0, &waiting, e);
    return begin(q, false, e) &&
           end(q, run(q, STATEMENT_WAITING_ADD, e, "i", (int64_t)0), false, e);
}

static void
embedded_close(Queue *queue)
{
    Embedded *q = (Embedded *)queue;

    for (size_t i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(q->statement[i]);
    sqlite3_close(q->db);
    if (q->lock >= 0)
        close(q->lock);
    wake_free(q->wake);
    buf_free(&q->totals);
    arena_free(q->arena);
}

static Queue *
embedded_open(const QueueSpec *spec, Err *e)
{
    Arena *arena = arena_new(1 << 20);
    Embedded *q = arena ? arena_alloc(arena, sizeof *q, e) : NULL;

    if (!q) {
        arena_free(arena);
        if (!e->links)
            fail(e, MEMORY_LIMIT, "no memory for the queue");
        return NULL;
    }
    *q = (Embedded){
        .base.kind = &queue_embedded,
        .arena = arena,
        .lock = -1,
        .writes = spec->writes,
        .limit = spec->limit,
        .busy_ms = spec->busy_ms > 0 ? spec->busy_ms : 2000,
        .totals = buf_new(TOTALS_BYTES_MAX),
    };
    if ((q->dir = arena_text(arena, spec->dir, e)) && schema_open(q, e) &&
        (q->wake = wake_new(spec->dir, spec->wakes, arena, e))) {
        if (q->writes) /* It also ends SQLite's own checkpoints: maintain() makes them. */
            sqlite3_wal_hook(q->db, note_wal, q);
        return &q->base;
    }
    embedded_close(&q->base);
    return NULL;
}

const QueueKind queue_embedded = {
    .name = "embedded",
    .open = embedded_open,
    .close = embedded_close,
    .put = embedded_put,
    .cancel = embedded_cancel,
    .write = embedded_write,
    .take = embedded_take,
    .find = embedded_find,
    .find_key = embedded_find_key,
    .visit = embedded_visit,
    .count = embedded_count,
    .visit_totals = embedded_visit_totals,
    .note_source = embedded_note_source,
    .visit_sources = embedded_visit_sources,
    .expire = embedded_expire,
    .add = embedded_add,
    .purge = embedded_purge,
    .fire = embedded_fire,
    .last_due = embedded_last_due,
    .heartbeat = embedded_heartbeat,
    .leave = embedded_leave,
    .wake_fd = embedded_wake_fd,
    .wake_clear = embedded_wake_clear,
    .next_due = embedded_next_due,
    .maintain = embedded_maintain,
    .check = embedded_check,
};
