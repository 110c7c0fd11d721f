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
    S3Keys keys;                      /* of SOURCE_KEYS */
    char token_file[FILE_PATH_BYTES]; /* of SOURCE_WEB_IDENTITY */
    Role web;                         /* the same: the role that the token is for */
    char command[COMMAND_BYTES];      /* of SOURCE_PROCESS */
    Role role[ROLES_MAX];             /* assumed with what the source gave, the last one first */
    unsigned roles;
} Plan;

/* --- provider.c --- */

typedef struct {
    const Plan *plan;
    const S3Spec *spec;
    bool (*go_on)(void *with); /* asked once a second at least; false gives it up */
    void *with;
} ProviderCall;

/* Asks the source and assumes the roles; takes a minute and a half at worst. STORAGE_DENIED (it
 * says no, or what it gave is of no use), STORAGE_UNAVAILABLE. */
bool provider_fetch(const ProviderCall *call, S3Keys *keys, Err *e) MUST_CHECK;

#endif
