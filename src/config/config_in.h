/* What the files of config/ share: the table of options, and where each value came from. */
#ifndef CONFIG_CONFIG_IN_H
#define CONFIG_CONFIG_IN_H

#include "config/config.h"

typedef enum { OPT_TEXT, OPT_COUNT, OPT_BYTES, OPT_MILLIS, OPT_SWITCH, OPT_LIST } OptionType;
typedef enum { ORIGIN_OURS, ORIGIN_SEED, ORIGIN_VARIABLE, ORIGIN_FOREIGN } OptionOrigin;

enum {
    FOR_API = 1,
    FOR_WORKER = 2,
    FOR_BEAT = 4,
    FOR_CLIENT = 8,
    FOR_ALL = 15,
    OPTION_NAME_BYTES = 64,
    OPTION_TEXT_BYTES_MAX = 8192,
    SECRET_FILE_BYTES_MAX = 16 << 10,
    SOURCES_MAX = 64,
    WARNINGS_MAX = 16,
};

/* As long as anybody needs; what "forever" means. */
#define CONFIG_FOREVER_MS (3650LL * 86400000)

typedef struct {
    const char *name;
    char letter;
    OptionOrigin origin;
    size_t at; /* of its field in Config */
    OptionType type;
    const char *preset;
    unsigned roles;
    bool is_secret;
    const char *argument, *help;
} Option;

typedef enum {
    FROM_DEFAULT,
    FROM_FILE,
    FROM_VARIABLE,
    FROM_SECRET_FILE, /* NAME_FILE */
    FROM_CREDENTIAL,  /* ${CREDENTIALS_DIRECTORY} */
    FROM_FLAG,
} From;

typedef struct {
    From from;
    const char *name; /* of the variable or flag; path of the file */
    unsigned line;
} Origin;

#define OPT(...) +1
enum {
    OPTIONS = 0
#include "config/option.def"
};
#undef OPT

/* Config.origins */
typedef struct {
    Origin option[OPTIONS];
    const char *warning[WARNINGS_MAX];
    size_t warnings;
} Origins;

extern const Option options[OPTIONS];

/* option.c */
const Option *option_find(const char *key); /* NULL: there is none */
const Option *option_of_letter(char letter);
const char *option_nearest(const char *key);
bool option_has_flag(const Option *o);
bool option_has_file(const Option *o);      /* NAME_FILE: a secret may stand in a file */
bool option_opens_storage(const Option *o); /* a secret of who reads and writes there */
void option_variable(const Option *o, char to[OPTION_NAME_BYTES]); /* ROWFERRY_DATA_DIR */
void option_flag(const Option *o, char to[OPTION_NAME_BYTES]);     /* --data-dir */

/* What the value may be, for people: "a whole number from 0 to 65535". */
void option_expected(const Option *o, Buf *to);

/* Parses, checks and stores. `place` ("/etc/x.yaml:3: port", "--port") begins the message. A list
 * gets all of its `text`, ':' between; `add` appends instead of replacing. */
bool option_set(const Option *o, Config *config, const char *text, bool add, const char *place,
    Arena *arena, Err *e) MUST_CHECK;

/* The value as it would be written; a list with ':' between. */
void option_print(const Option *o, const Config *config, Buf *to);

/* What stands under `sources: NAME:` in the file. */
enum { SOURCE_KEYS = 6 };
typedef struct {
    const char *key, *value, *meaning; /* for documents */
} SourceKey;
extern const SourceKey source_keys[SOURCE_KEYS];

/* file.c: the configuration file. Adds every problem it finds to `e`, as far as that has room. */
bool file_load(const char *path, Config *config, Origins *origins, Arena *arena, Err *e) MUST_CHECK;

/* variable.c: the environment. */
const char *variable(const char *name); /* NULL: not set, or empty */
bool variables_load(Config *config, Origins *origins, Arena *arena, Err *e) MUST_CHECK;

/* The first line of a secret's file, without its end; a warning if others can read it. */
char *
secret_read(const char *path, const char *place, Origins *origins, Arena *arena, Err *e) MUST_CHECK;

/* data.c: a ring of link secrets from its text. */
bool
ring_parse(Config *config, const char *text, const char *place, Arena *arena, Err *e) MUST_CHECK;

/* derive.c: what follows from the options, once they are all known. */
bool config_derive(Config *config, Origins *origins, Arena *arena, Err *e) MUST_CHECK;
bool host_is_loopback(const char *host); /* by its name: nothing is resolved */

/* A URL of http or https that paths are put behind: a host, no user, no query; the '/' at its end
 * is taken off. `like`: one as an example. "" is fine. */
bool
check_web_url(const char *key, const char *like, const char **url, Arena *arena, Err *e) MUST_CHECK;

/* s3.c: what must hold among the options of the S3 storage. */
bool config_derive_s3(Config *config, Origins *origins, Arena *arena, Err *e) MUST_CHECK;

void warning_add(Origins *origins, Arena *arena, const char *fmt, ...) PRINTF_LIKE(3, 4);

static inline const Origin *
origin_of(const Origins *origins, const char *key)
{
    return &origins->option[option_find(key) - options];
}

#endif
