/*
 * What the three files about credentials say to each other: credentials.c decides whom to ask and
 * when, profile.c reads what the shared files say, provider.c asks.
 */
#ifndef STORAGE_S3_CREDENTIALS_IN_H
#define STORAGE_S3_CREDENTIALS_IN_H

#include "storage/s3/s3_in.h"

enum {
    ROLES_MAX = 5, /* of a chain of profiles */
    ROLE_ARN_BYTES = 2049,
    ROLE_SESSION_BYTES = 65,
    ROLE_EXTERNAL_BYTES = 1225,
    PROFILE_NAME_BYTES = 256,
    SOURCE_NAME_BYTES = PROFILE_NAME_BYTES + 32,
    COMMAND_BYTES = 4096,
    FILE_PATH_BYTES = 4096,
    ENDPOINT_BYTES = 2048,
    CONTAINER_TOKEN_BYTES = 16 << 10,
};

/* One call of STS AssumeRole. */
typedef struct {
    char arn[ROLE_ARN_BYTES];
    char session[ROLE_SESSION_BYTES];      /* "": ours */
    char external_id[ROLE_EXTERNAL_BYTES]; /* "": none */
    int64_t duration_s;                    /* 0: as long as STS gives by itself */
} Role;

typedef enum {
    SOURCE_NONE, /* nothing is configured */
    SOURCE_ANONYMOUS,
    SOURCE_KEYS,
    SOURCE_WEB_IDENTITY,
    SOURCE_PROCESS,
    SOURCE_CONTAINER,
    SOURCE_INSTANCE,
} SourceKind;

/* Whom to ask, and how. Holds secrets: lives in secret memory. */
typedef struct {
    SourceKind kind;
    char name[SOURCE_NAME_BYTES];     /* for people */
    char region[S3_REGION_BYTES];     /* that the profile names, or "" */
    char endpoint[ENDPOINT_BYTES];    /* the same */
    S3Keys keys;                      /* of SOURCE_KEYS */
    char token_file[FILE_PATH_BYTES]; /* of SOURCE_WEB_IDENTITY … */
    Role web;                         /* … and the role that the token is for */
    char command[COMMAND_BYTES];      /* of SOURCE_PROCESS */
    Role role[ROLES_MAX];             /* assumed with what the source gave, the last one first */
    unsigned roles;
} Plan;

/* --- profile.c: the shared config and credentials files ("Shared config and credentials files" of
 * the AWS SDKs and Tools Reference Guide; s3.md 12.2) --- */

/* Of one profile; "" is not set. Holds secrets. */
typedef struct {
    bool is_there;
    bool has_sso; /* some sso_… key */
    char access_key[S3_KEY_BYTES], secret_key[S3_KEY_BYTES * 2], token[S3_TOKEN_BYTES];
    char region[S3_REGION_BYTES], endpoint[ENDPOINT_BYTES];
    char role_arn[ROLE_ARN_BYTES], role_session_name[ROLE_SESSION_BYTES];
    char external_id[ROLE_EXTERNAL_BYTES], duration_s[16];
    char source_profile[PROFILE_NAME_BYTES], credential_source[32];
    char token_file[FILE_PATH_BYTES];
    char command[COMMAND_BYTES];
} Profile;

typedef enum { SECTIONS_BARE /* [name] */, SECTIONS_PROFILE /* [profile name] */ } SectionForm;

typedef struct {
    const char *bytes;
    size_t count;
    const char *name; /* of the file, for messages */
} ProfileText;

/* Takes in what a text says of one profile; later keys win. CONFIG_INVALID names file and line,
 * never a value. Pure. */
bool profile_parse(const ProfileText *text, SectionForm form, const char *name, Profile *profile,
    Err *e) MUST_CHECK;

/* From both files; a file that is not there is empty, and so is one at its usual place that may not
 * be read. Keys are of one file: those of the credentials file first. Other values of that file win
 * as well. */
bool profile_read(const S3Spec *spec, const char *name, Profile *profile, Err *e) MUST_CHECK;

/* What the profile of the settings says, with its chain of source profiles; SOURCE_NONE if it says
 * nothing about credentials. */
bool profile_plan(const S3Spec *spec, Plan *plan, Err *e) MUST_CHECK;

/* Only its region and endpoint. A profile that nobody has named may be as it likes. */
bool profile_place(const S3Spec *spec, Plan *plan, Err *e) MUST_CHECK;

/* --- provider.c: whoever hands them out --- */

typedef struct {
    const Plan *plan;
    const S3Spec *spec;
    bool (*go_on)(void *with); /* asked once a second at least; false gives it up */
    void *with;
} ProviderCall;

/* Asks the source, then assumes the roles. Every step has its end: a process 60 s, the rest 30 s
 * each at most. STORAGE_DENIED (it says no, or what it gave is of no use), STORAGE_UNAVAILABLE. */
bool provider_fetch(const ProviderCall *call, S3Keys *keys, Err *e) MUST_CHECK;

/* May these be asked? CONFIG_INVALID: no URL, or credentials in plain text over a network. */
bool provider_check_container(const S3Spec *spec, Err *e) MUST_CHECK;

bool provider_check_instance(const S3Spec *spec, Err *e) MUST_CHECK;

/* Words of a command as a POSIX shell would split them: blanks, '…', "…", \; nothing is expanded.
 * They are in `room` (as many bytes as the command with its NUL); NULL ends them. CONFIG_INVALID.
 * Pure. */
bool provider_split(
    const char *command, char *room, const char **word, size_t words_max, Err *e) MUST_CHECK;

/* --- credentials.c --- */

/* Can these be what they claim to be: both parts, printable ASCII without blanks? */
bool keys_are_sound(const S3Keys *keys);

/* The order of sources (s3.md 12.1). CONFIG_INVALID. Reads files, asks nobody. */
bool credentials_plan(const S3Spec *spec, Plan *plan, Err *e) MUST_CHECK;

#endif
