/*
 * What the files of the PostgreSQL source share. libpq: PostgreSQL 15, chapter 34; the protocol:
 * chapter 55; SQLSTATEs: appendix A.
 */
#ifndef SOURCE_POSTGRES_POSTGRES_IN_H
#define SOURCE_POSTGRES_POSTGRES_IN_H

#include <libpq-fe.h>

#include "flow/builder.h"
#include "source/source.h"

enum { PG_COLUMNS_MAX = 256 };

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
    const char *const *keyword; /* NULL-ended, for PQconnectStartParams */
    const char *const *value;
} PgParams;

/*
 * libpq's keywords from a URL, with user and password of the source in front of the URL's, our own
 * limits (keep-alive, tcp_user_timeout), client_encoding, and TLS by default: verify-full with the
 * system's certificates, but `prefer` on loopback, private addresses and Unix sockets
 * (security.md 8). Memory from `task`. CONFIG_INVALID without a secret of it: not a libpq URL, a
 * key that is not allowed. Reads the environment as libpq does (PGSERVICE …).
 */
bool pg_params(const SourceSpec *spec, Arena *task, PgParams *params, Err *e) MUST_CHECK;

/* SourceKind.judge */
bool pg_judge_url(const char *url, Err *e) MUST_CHECK;

#endif
