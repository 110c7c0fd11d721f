/*
 * Config: what the operator wrote, as typed fields. Made once at the start of a role (and again at
 * SIGHUP), read-only afterwards, so any thread may read it. Lives in the process arena it was
 * loaded with.
 *
 * Precedence: flag, environment, file, default. The only room that reads the environment.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

typedef struct {
    const char *const *item; /* NULL-ended */
    size_t items;
} ConfigList;

/* A named source (configuration.md 3). */
typedef struct {
    const char *name;
    const char *url;
    const char *user;             /* NULL: from the URL */
    const char *password;         /* NULL: from the URL; a secret */
    unsigned concurrency;         /* exports at once over all workers; 0: no limit */
    int64_t statement_timeout_ms; /* 0: the task's limit */
    bool is_demo;                 /* nobody named it: the demo database */
    const char *place; /* where its URL stands: "GRAPH_DB_URL", "FILE:3: sources.shop.url" */
} ConfigSource;

#define OPT_FIELD_TEXT(name) name
#define OPT_FIELD_COUNT(name) name
#define OPT_FIELD_BYTES(name) name##_bytes
#define OPT_FIELD_MILLIS(name) name##_ms
#define OPT_FIELD_SWITCH(name) name
#define OPT_FIELD_LIST(name) name
#define OPT_C_TEXT const char * /* never NULL; "" when not set */
#define OPT_C_COUNT uint64_t
#define OPT_C_BYTES uint64_t
#define OPT_C_MILLIS int64_t
#define OPT_C_SWITCH bool
#define OPT_C_LIST ConfigList

typedef struct {
#define OPT(name, letter, origin, type, preset, roles, secrecy, argument, help)                    \
    OPT_C_##type OPT_FIELD_##type(name);
#include "config/option.def"
#undef OPT
    const ConfigSource *source;
    size_t sources;

    /* Derived once everything is known. */
    const char *files_dir; /* DATA/files */
    const char *demo_path; /* DATA/demo.db */
    const char *const
        *url_secret_key; /* the ring, newest first; from url_secret or DATA/url.secret */
    unsigned url_secret_keys;
    int64_t retry_delay_ms[16];
    unsigned retry_delay_count;
    bool listens_beyond_loopback;
    bool auth_is_set;    /* ROWFERRY_AUTH was written out */
    int listen_fd;       /* a listening socket that the supervisor opened (ROWFERRY_LISTEN_FD): the
                            api takes this one and binds none, so its port and its line outlive it;
                            -1: none */
    int supervisor;      /* pid of the supervisor that started this role; 0: none */
    const char *path;    /* of the configuration file; "" for none */
    const void *origins; /* where each value came from: config_show() */
} Config;

/* What a command line is, besides options: subcommand words are cut off before config_load sees it.
 */
typedef struct {
    int argc;
    char **argv;    /* argv[0] is the role or command and is skipped */
    bool is_client; /* the caller has flags of its own: unknown ones stay in `rest` */
    char **rest;    /* out: what was not an option of ours, NULL-ended, in order */
    int rest_count;
} ConfigArgs;

/*
 * Reads flags, environment and file. CONFIG_INVALID tells file, line, key, what was expected and
 * the nearest known name. Does not touch DATA: see config_prepare_data. NULL on failure.
 */
const Config *config_load(ConfigArgs *args, Arena *process, Err *e) MUST_CHECK;

/* Makes DATA (0700), DATA/files, DATA/run, and the secrets that are missing (0600, O_EXCL); checks
 * the owner. Reads the secrets. */
bool config_prepare_data(const Config *config, Arena *process, Err *e) MUST_CHECK;

/* Puts where an option was written in front of each link of `e` that begins with its key: what is
 * found to be wrong only after everything was read is named with file and line, too. */
void config_say_where(const Config *config, Err *e);

/* Was it written anywhere (not a default)? `key`: "connections_per_address". */
bool config_is_set(const Config *config, const char *key);

/* Logs, as config.warning, what is allowed and unwise: root, secrets others can read, an open
 * address, a demo database. Once, at the start of a role, after log_open. */
void config_warn(const Config *config);

/* What was noticed while the configuration was read, from index 0 on; NULL ends. */
const char *config_warning(const Config *config, size_t index);

/* Takes the secrets out of this process's environment block (/proc/PID/environ); config_load still
 * knows them. For roles, after the first config_load. */
void config_hide_secrets(void);

/* Wipes URLs, but for their scheme, and passwords of all sources, here and in what
 * config_hide_secrets() remembers. For roles that ask no source, behind each config_load. */
void config_forget_sources(const Config *config);

/* Wipes the keys that open the storage, likewise. */
void config_forget_storage(const Config *config);

/* A variable that is no option: NO_COLOR, ROWFERRY_URL. NULL: not set, or empty. */
const char *config_variable(const char *name);

const ConfigSource *
config_find_source(const Config *config, const char *name); /* NULL: there is none */

/* Every option with its value and where it came from; secrets as ***. Text, or a JSON object.
 * `storage`: what its driver says of them all (NULL: nothing). */
void config_show(const Config *config, const char *storage, bool as_json, Buf *to);

/* --help's list of options for a role ("api", "worker", …; NULL: all). */
void config_help(const char *role, Buf *to);

/* The i-th flag of a role ("--data-dir") and its letter (0: none); false behind the last. For
 * completion; `takes` is NULL of a switch. */
bool config_flag(const char *role, size_t i, char flag[64], char *letter, const char **takes);

/* docs/reference/options.md. */
void config_reference(Buf *to);

/* The options without secrets, and the keys of the storage, for a child: over its socket, never in
 * its arguments. No sources: a run brings its own. */
json_t *config_to_json(const Config *config);
const Config *config_from_json(const json_t *value, Arena *process, Err *e) MUST_CHECK;

/* NAME=value list for a role that we start, NULL-ended: what flags and variables said (what the
 * file says the role reads there itself, so that SIGHUP reaches it), PATH, TZ, LANG, HOME, proxy,
 * OpenSSL and some of libpq's variables, nothing else. */
const char *const *config_environment(const Config *config, Arena *process, Err *e) MUST_CHECK;

/* The part of that list which is no option: for a child, which gets everything else over its
 * socket. */
const char *const *config_child_environment(Arena *process, Err *e) MUST_CHECK;

#endif
