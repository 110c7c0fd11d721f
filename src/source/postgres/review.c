/*
 * What a login may do that an export does not need (security.md 5.1). The transaction that only
 * reads keeps a query from writing; the role is the wall behind it, and what no transaction holds
 * (files and programs of the server) only the role can refuse.
 */
#include <string.h>

#include "source/postgres/postgres_in.h"

enum {
    REVIEW_MS = 10000,
    NAMES_SHOWN = 3,
    NAMES_BYTES_MAX = 1024,
    ENDS_ORPHANS = 140000, /* server version from which a query ends with its client */
};

typedef struct {
    PgSession *session;
    Arena *arena;
    Finding *found;
    size_t *count;
    Err *e;
} Review;

static void
add(const Review *r, Verdict verdict, const char *text, const char *fix)
{
    if (*r->count < FINDINGS_MAX && text)
        r->found[(*r->count)++] = (Finding){verdict, NULL, text, fix};
}

/* --- what it is connected to --- */

static bool
is_here(PGconn *conn)
{
    const char *host = PQhost(conn), *address = PQhostaddr(conn);

    return *host == '/' || *host == '@' || text_starts(address, "127.") ||
           strcmp(address, "::1") == 0;
}

static void
review_server(const Review *r, const char *standby, const char *timescaledb)
{
    PGconn *conn = r->session->conn;
    const char *tls = PQsslInUse(conn) ? PQsslAttribute(conn, "protocol") : NULL;
    const char *version = PQparameterStatus(conn, "server_version");

    add(r, VERDICT_GOOD,
        arena_printf(r->arena, r->e, "PostgreSQL %s, %s%s%s%s", version ? version : "?",
            tls ? tls : "no TLS", strcmp(standby, "t") == 0 ? ", a standby" : "",
            *timescaledb ? ", TimescaleDB " : "", timescaledb),
        NULL);
    if (!tls && !is_here(conn))
        add(r, VERDICT_UNWISE, "the connection is not encrypted",
            "let the server offer TLS, and add sslmode=verify-full to the URL");
    if (PQserverVersion(conn) < ENDS_ORPHANS)
        add(r, VERDICT_UNWISE,
            "this version does not end the query of a client that died: it runs on until its limit",
            "PostgreSQL 14 or later; until then a statement_timeout of the source");
}

/* --- what the role may --- */

/* Columns of review_role's answer. */
enum { IS_SUPERUSER, MAKES_SCHEMAS, MAKES_TEMP, MAKES_ROLES, IS_STANDBY, TIMESCALEDB };

static void
review_rights(const Review *r, const PGresult *answer)
{
    static const struct {
        int column;
        Verdict verdict;
        const char *text, *fix;
    } rights[] = {
        {IS_SUPERUSER, VERDICT_BAD, "the role is a superuser",
            "make a role that may only read: CREATE ROLE … LOGIN, and GRANT SELECT"},
        {MAKES_SCHEMAS, VERDICT_UNWISE, "the role may make schemas in the database",
            "REVOKE CREATE ON DATABASE … from it"},
        {MAKES_TEMP, VERDICT_UNWISE,
            "the role may make temporary tables, as everybody until that is revoked",
            "REVOKE TEMPORARY ON DATABASE … FROM PUBLIC, and from the role"},
        {MAKES_ROLES, VERDICT_UNWISE, "the role may make roles or databases, or replicate",
            "ALTER ROLE … NOCREATEROLE NOCREATEDB NOREPLICATION"},
    };

    for (size_t i = 0; i < sizeof rights / sizeof rights[0]; i++)
        if (strcmp(PQgetvalue(answer, 0, rights[i].column), "t") == 0)
            add(r, rights[i].verdict, rights[i].text, rights[i].fix);
}

/* `*may_all`: a superuser, of whom there is no more to say. */
static bool
review_role(const Review *r, bool *may_all)
{
    static const char sql[] =
        "SELECT rolsuper, NOT rolsuper AND pg_catalog.has_database_privilege("
        "  pg_catalog.current_database(), 'CREATE'),"
        " NOT rolsuper AND pg_catalog.has_database_privilege("
        "  pg_catalog.current_database(), 'TEMPORARY'),"
        " NOT rolsuper AND (rolcreaterole OR rolcreatedb OR rolreplication),"
        " pg_catalog.pg_is_in_recovery(), (SELECT extversion FROM pg_catalog.pg_extension"
        "  WHERE extname OPERATOR(pg_catalog.=) 'timescaledb')"
        " FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) CURRENT_USER";
    PGresult *answer = pg_session_ask(r->session, sql, 0, NULL, r->e);
    bool ok = answer && PQntuples(answer) == 1;

    if (ok) {
        review_server(r, PQgetvalue(answer, 0, IS_STANDBY), PQgetvalue(answer, 0, TIMESCALEDB));
        review_rights(r, answer);
        *may_all = strcmp(PQgetvalue(answer, 0, IS_SUPERUSER), "t") == 0;
    } else if (answer) {
        fail(r->e, SOURCE_QUERY, "the server does not know the role");
    }
    PQclear(answer);
    return ok;
}

/* The names that a query yields: at most one more than is shown tells that there are others. */
static bool
review_names(const Review *r, const char *sql, Verdict verdict, const char *what, const char *fix)
{
    PGresult *answer = pg_session_ask(r->session, sql, 0, NULL, r->e);
    Buf names = buf_new(NAMES_BYTES_MAX);
    int count;

    if (!answer)
        return false;
    count = PQntuples(answer);
    buf_printf(&names, "%s ", what);
    for (int i = 0; i < count && i < NAMES_SHOWN; i++)
        buf_printf(&names, "%s%s", i > 0 ? ", " : "", PQgetvalue(answer, i, 0));
    if (count > NAMES_SHOWN)
        buf_text(&names, " …");
    if (count > 0 && buf_is_good(&names, r->e))
        add(r, verdict, arena_text(r->arena, names.data, r->e), fix);
    buf_free(&names);
    PQclear(answer);
    return r->e->links == 0;
}

/* Also what it may take on by SET ROLE. */
static bool
review_memberships(const Review *r)
{
    return review_names(r,
        "SELECT rolname FROM pg_catalog.pg_roles"
        " WHERE rolname OPERATOR(pg_catalog.<>) CURRENT_USER AND (rolsuper OR rolname"
        "  OPERATOR(pg_catalog.=) ANY (ARRAY['pg_read_server_files', 'pg_write_server_files',"
        "  'pg_execute_server_program']::pg_catalog.name[]))"
        " AND pg_catalog.pg_has_role(oid, 'MEMBER') ORDER BY rolname LIMIT 4",
        VERDICT_BAD, "the role is a member of", "REVOKE these roles from it");
}

#define NOT_OF_THE_SERVER                                                                          \
    " AND nspname OPERATOR(pg_catalog.<>) ALL"                                                     \
    "  (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[])"                             \
    " AND NOT pg_catalog.starts_with(nspname::pg_catalog.text, 'pg_toast')"                        \
    " AND NOT pg_catalog.starts_with(nspname::pg_catalog.text, 'pg_temp')"

static bool
review_grants(const Review *r)
{
    return review_names(r,
               "SELECT pg_catalog.format('%I.%I', nspname, relname) FROM pg_catalog.pg_class AS c"
               " JOIN pg_catalog.pg_namespace AS n"
               "  ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
               " WHERE relkind OPERATOR(pg_catalog.=) ANY"
               "  (ARRAY['r', 'p', 'v', 'f']::pg_catalog.\"char\"[])" NOT_OF_THE_SERVER
               " AND (pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')"
               "  OR pg_catalog.has_any_column_privilege(c.oid, 'INSERT, UPDATE'))"
               " ORDER BY 1 LIMIT 4",
               VERDICT_BAD, "the role may write to",
               "REVOKE INSERT, UPDATE, DELETE, TRUNCATE from it; let another role own the "
               "tables") &&
           review_names(r,
               "SELECT pg_catalog.quote_ident(nspname) FROM pg_catalog.pg_namespace AS n WHERE"
               " pg_catalog.has_schema_privilege(n.oid, 'CREATE')" NOT_OF_THE_SERVER
               " ORDER BY 1 LIMIT 4",
               VERDICT_UNWISE, "the role may make tables in the schema",
               "REVOKE CREATE ON SCHEMA … FROM PUBLIC, and from the role");
}

bool
pg_review(const SourceSpec *spec, Watch *watch, Arena *arena, Finding *found, size_t *count, Err *e)
{
    SourceSpec alone = *spec;
    const PgBound none = {0};
    PgSession session;
    Review r = {&session, arena, found, count, e};
    bool may_all = false, ok;

    *count = 0;
    if (alone.timeout_ms == 0)
        alone.timeout_ms = REVIEW_MS;
    if (!pg_session_open(&session, &alone, watch, &none, NULL, false, arena, e))
        return false;
    ok = review_role(&r, &may_all) && (may_all || (review_memberships(&r) && review_grants(&r))) &&
         pg_session_settle(&session, e);
    pg_session_close(&session, false);
    return ok && e->links == 0;
}
