/*
 * demo-data: an organisation as a SQLite database. One transaction into a file of another name,
 * which is on the disk before it gets its own. A worker that misses its demo database runs this, so
 * nothing is said, and nothing wrong, when the one in DATA is there already.
 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"
#include "base/time.h"
#include "cli/interrupt.h"
#include "cli/local.h"
#include "cli/newfile.h"
#include "cli/organisation.h"

enum {
    EMPLOYEES = 500,
    INTERACTIONS = 50000,
    SEED = 1,
    LOOK_EVERY = 8192,
    CACHE_KIB = 4096,
    LINE_BYTES_MAX = 8192
};

const CliFlag cli_demo_data_flags[] = {
    {"employees", 0, "N", .help = "People of the organisation, 2 to 1000000 [500]."},
    {"interactions", 0, "N",
        .help = "What they do with each other in a year, up to 1000000000 [50000]."},
    {"seed", 0, "N", .help = "Another number, another organisation; the same, the same [1]."},
    {0},
};

const char cli_demo_data_more[] =
    "Without FILE it is demo.db in the data folder, and nothing is done if that is there already.\n"
    "A file is never replaced. The same numbers give the same rows, on every machine.\n";

static const char tables[] =
    "CREATE TABLE employees (employee_id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL,"
    " team TEXT NOT NULL, role TEXT NOT NULL, manager_id TEXT REFERENCES employees (employee_id),"
    " degree_centrality REAL NOT NULL, betweenness_centrality REAL NOT NULL,"
    " clustering_coeff REAL NOT NULL, burnout_score REAL NOT NULL);"
    "CREATE TABLE edges (source_id TEXT NOT NULL, source_name TEXT NOT NULL,"
    " target_id TEXT NOT NULL, target_name TEXT NOT NULL, weight REAL NOT NULL,"
    " last_updated TEXT NOT NULL, PRIMARY KEY (source_id, target_id));"
    "CREATE TABLE interactions (timestamp TEXT NOT NULL, source TEXT NOT NULL,"
    " target TEXT NOT NULL, type TEXT NOT NULL, weight REAL NOT NULL);";

typedef struct {
    uint64_t employees, interactions, seed;
} Wanted;

typedef struct {
    const Cli *cli;
    const Wanted *wanted;
    Organisation *organisation;
    sqlite3 *db;
    sqlite3_stmt *insert;
    uint64_t interactions, edges;
    int shown; /* percent on the terminal */
} Demo;

/* --- how far it is --- */

static void
show(Demo *demo, const char *doing, uint64_t done, uint64_t all)
{
    int percent = all > 0 ? (int)((double)done / (double)all * 100) : 100;

    if (!demo->cli->err_is_terminal || demo->cli->quiet || percent == demo->shown)
        return;
    demo->shown = percent;
    fprintf(stderr, "\r%s %d%%\033[K", doing, percent);
}

static void
end_show(const Demo *demo)
{
    if (demo->cli->err_is_terminal && !demo->cli->quiet)
        fprintf(stderr, "\r\033[K");
}

static bool
goes_on(Err *e)
{
    return !interrupt_came() || fail(e, INTERRUPTED, "stopped before the database was complete");
}

static bool
measured(void *with, uint32_t done, uint32_t all, Err *e)
{
    Demo *demo = with;

    show(demo, "measuring", done, all);
    return goes_on(e);
}

/* --- rows --- */

static bool
fail_db(const Demo *demo, const char *doing, Err *e)
{
    int code = sqlite3_errcode(demo->db) & 0xff;
    const char *why = sqlite3_errmsg(demo->db);

    if (code == SQLITE_FULL)
        return fail(e, STORAGE_FULL, "%s: %s", doing, why);
    if (code == SQLITE_NOMEM)
        return fail(e, MEMORY_LIMIT, "%s: %s", doing, why);
    return fail(e, STORAGE_UNAVAILABLE, "%s: %s", doing, why);
}

static bool
run(const Demo *demo, const char *sql, Err *e)
{
    return sqlite3_exec(demo->db, sql, NULL, NULL, NULL) == SQLITE_OK ||
           fail_db(demo, "writing the demo database", e);
}

static bool
prepare(Demo *demo, const char *sql, Err *e)
{
    sqlite3_finalize(demo->insert);
    demo->insert = NULL;
    return sqlite3_prepare_v2(demo->db, sql, -1, &demo->insert, NULL) == SQLITE_OK ||
           fail_db(demo, "writing the demo database", e);
}

/* The text stays where it is until the row is written. */
static void
put_text(const Demo *demo, int at, const char *text, int bytes)
{
    (void)sqlite3_bind_text(demo->insert, at, text, bytes, SQLITE_STATIC);
}

/* A failed bind of a text that is too large or of a column that is not there would show here. */
static bool
put_row(const Demo *demo, Err *e)
{
    return (sqlite3_step(demo->insert) == SQLITE_DONE &&
               sqlite3_reset(demo->insert) == SQLITE_OK) ||
           fail_db(demo, "writing the demo database", e);
}

static bool
put_interaction(void *with, const Interaction *interaction, Err *e)
{
    Demo *demo = with;
    const Organisation *o = demo->organisation;

    put_text(demo, 1, interaction->when, WHEN_BYTES);
    put_text(demo, 2, organisation_employee(o, interaction->source)->id, -1);
    put_text(demo, 3, organisation_employee(o, interaction->target)->id, -1);
    put_text(demo, 4, interaction->type, -1);
    (void)sqlite3_bind_double(demo->insert, 5, interaction->weight);
    if (++demo->interactions % LOOK_EVERY == 0) {
        show(demo, "interactions", demo->interactions, demo->wanted->interactions);
        if (!goes_on(e))
            return false;
    }
    return put_row(demo, e);
}

static bool
put_edge(void *with, const Edge *edge, Err *e)
{
    Demo *demo = with;
    const Employee *source = organisation_employee(demo->organisation, edge->source);
    const Employee *target = organisation_employee(demo->organisation, edge->target);

    put_text(demo, 1, source->id, -1);
    put_text(demo, 2, source->name, -1);
    put_text(demo, 3, target->id, -1);
    put_text(demo, 4, target->name, -1);
    (void)sqlite3_bind_double(demo->insert, 5, edge->weight);
    put_text(demo, 6, edge->last_updated, WHEN_BYTES);
    return (++demo->edges % LOOK_EVERY != 0 || goes_on(e)) && put_row(demo, e);
}

static bool
put_employees(Demo *demo, Err *e)
{
    if (!prepare(demo, "INSERT INTO employees VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", e))
        return false;
    for (uint32_t i = 0; i < demo->wanted->employees; i++) {
        const Employee *employee = organisation_employee(demo->organisation, i);

        put_text(demo, 1, employee->id, -1);
        put_text(demo, 2, employee->name, -1);
        put_text(demo, 3, employee->team, -1);
        put_text(demo, 4, employee->role, -1);
        if (employee->manager < 0)
            (void)sqlite3_bind_null(demo->insert, 5);
        else
            put_text(demo, 5,
                organisation_employee(demo->organisation, (uint32_t)employee->manager)->id, -1);
        (void)sqlite3_bind_double(demo->insert, 6, employee->degree_centrality);
        (void)sqlite3_bind_double(demo->insert, 7, employee->betweenness_centrality);
        (void)sqlite3_bind_double(demo->insert, 8, employee->clustering_coeff);
        (void)sqlite3_bind_double(demo->insert, 9, employee->burnout_score);
        if (!put_row(demo, e))
            return false;
    }
    return true;
}

/* --- the database --- */

/* The file is nobody's but ours and has another name until it is complete, so it needs no journal.
 */
static bool
open_db(Demo *demo, const char *path, Err *e)
{
    char cache[64];

    snprintf(cache, sizeof cache, "PRAGMA cache_size = -%d", CACHE_KIB);
    if (sqlite3_open_v2(path, &demo->db,
            SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL) != SQLITE_OK)
        return fail_db(demo, "opening the demo database", e);
    return run(demo, "PRAGMA journal_mode = OFF", e) && run(demo, "PRAGMA synchronous = OFF", e) &&
           run(demo, "PRAGMA locking_mode = EXCLUSIVE", e) && run(demo, cache, e) &&
           run(demo, "BEGIN", e) && run(demo, tables, e);
}

static bool
fill(Demo *demo, const char *path, Arena *arena, Err *e)
{
    const Wanted *wanted = demo->wanted;
    bool ok;

    if (!(demo->organisation =
                organisation_new((uint32_t)wanted->employees, wanted->seed, arena, e)))
        return false;
    ok = open_db(demo, path, e) &&
         prepare(demo, "INSERT INTO interactions VALUES (?, ?, ?, ?, ?)", e) &&
         organisation_live(demo->organisation, wanted->interactions, put_interaction, demo, e) &&
         organisation_measure(demo->organisation, measured, demo, arena, e) &&
         put_employees(demo, e) &&
         prepare(demo, "INSERT INTO edges VALUES (?, ?, ?, ?, ?, ?)", e) &&
         organisation_edges(demo->organisation, put_edge, demo, e) && run(demo, "COMMIT", e);
    sqlite3_finalize(demo->insert);
    if (sqlite3_close(demo->db) != SQLITE_OK && ok)
        ok = fail(e, INTERNAL, "the demo database does not close");
    end_show(demo);
    return ok;
}

/* --- the command --- */

static bool
read_number(const Cli *c, const char *flag, uint64_t least, uint64_t most, uint64_t *number, Err *e)
{
    const char *text = cli_flag(c, flag);

    if (!text)
        return true;
    return (text_to_uint(text, most, number) && *number >= least) ||
           fail(e, USAGE, "--%s %s: a whole number from %" PRIu64 " to %" PRIu64 " was expected",
               flag, text, least, most);
}

static bool
say_done(const Cli *c, const char *path, const Demo *demo, int64_t took_ms, Err *e)
{
    Buf line = buf_new(LINE_BYTES_MAX);
    json_t *result = NULL;
    struct stat s = {0};
    bool ok;

    if (c->quiet && !c->json)
        return true; /* the file is the result */
    (void)stat(path, &s);
    if (c->json) {
        result = json_pack("{ss sI sI sI sI sI sI sb}", "path", path, "employees",
            (json_int_t)demo->wanted->employees, "interactions", (json_int_t)demo->interactions,
            "edges", (json_int_t)demo->edges, "seed", (json_int_t)demo->wanted->seed, "bytes",
            (json_int_t)s.st_size, "duration_ms", (json_int_t)took_ms, "made", true);
        ok = result ? cli_print_json(c, result, true, e) : fail(e, MEMORY_LIMIT, "no memory");
    } else {
        buf_printf(&line,
            "%s: %" PRIu64 " employees, %" PRIu64 " interactions, %" PRIu64 " edges, ", path,
            demo->wanted->employees, demo->interactions, demo->edges);
        print_bytes(&line, (double)s.st_size);
        buf_text(&line, " in ");
        print_span(&line, took_ms);
        ok = cli_line(line.data, e);
    }
    json_decref(result);
    buf_free(&line);
    return ok;
}

/* The database of DATA is there already: just as well. */
static bool
say_there(const Cli *c, const char *path, Err *e)
{
    json_t *result;
    bool ok;

    if (!c->json) {
        cli_note(c, "%s is there already", path);
        return true;
    }
    result = json_pack("{ss sb}", "path", path, "made", false);
    ok = result ? cli_print_json(c, result, true, e) : fail(e, MEMORY_LIMIT, "no memory");
    json_decref(result);
    return ok;
}

static bool
write_database(const char *path, Demo *demo, Err *e)
{
    Arena *arena;
    NewFile file;
    bool ok;

    if (!newfile_create(path, true, &file, e))
        return false;
    if (!(arena = arena_new(SIZE_MAX))) {
        newfile_discard(&file);
        return fail(e, MEMORY_LIMIT, "no memory");
    }
    interrupt_catch();
    ok = fill(demo, file.path, arena, e);
    arena_free(arena);
    if (ok)
        return newfile_publish(&file, e);
    newfile_discard(&file);
    return false;
}

/* The one in DATA; `*made` is false if it was there already, or somebody else was quicker. */
static bool
make_default(const Cli *c, Demo *demo, bool *made, Err *e)
{
    struct stat s;

    *made = false;
    if (!config_prepare_data(c->config, c->arena, e))
        return false;
    if (lstat(c->config->demo_path, &s) == 0)
        return true;
    *made = write_database(c->config->demo_path, demo, e);
    if (e->code != ERR_EXISTS)
        return *made;
    err_clear(e);
    return true;
}

bool
local_demo(Cli *c, const ConfigSource *source, Err *e)
{
    const Wanted wanted = {EMPLOYEES, INTERACTIONS, SEED};
    Demo demo = {.cli = c, .wanted = &wanted, .shown = -1};
    bool made;

    if (!source->is_demo)
        return true;
    cli_note(c, "rowferry: no URL is set for source %s: it is the demo database", source->name);
    return make_default(c, &demo, &made, e);
}

int
cli_demo_data(Cli *c, Err *e)
{
    Wanted wanted = {EMPLOYEES, INTERACTIONS, SEED};
    Demo demo = {.cli = c, .wanted = &wanted, .shown = -1};
    const char *path = c->words > 0 ? c->word[0] : c->config->demo_path;
    int64_t started_ms = time_now_ms();
    bool made = true, ok;

    if (!read_number(c, "employees", 2, ORGANISATION_EMPLOYEES_MAX, &wanted.employees, e) ||
        !read_number(
            c, "interactions", 0, ORGANISATION_INTERACTIONS_MAX, &wanted.interactions, e) ||
        !read_number(c, "seed", 0, INT64_MAX, &wanted.seed, e))
        return EXIT_FAILURE;
    ok = c->words > 0 ? write_database(path, &demo, e) : make_default(c, &demo, &made, e);
    if (ok && made)
        ok = say_done(c, path, &demo, time_now_ms() - started_ms, e);
    else if (ok)
        ok = say_there(c, path, e);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
