/*
 * Remote: the service behind --url, asked with patience. A call is repeated after network errors
 * and where the server says "later", within a bound and never past --timeout; what is repeated is
 * harmless twice (a request carries the same Idempotency-Key each time).
 */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include "cli/cli_in.h"
#include "net/http.h"

typedef struct {
    Cli *c;
    HttpClient *client;
    const char *authorization; /* "Authorization: Bearer …"; NULL: no token */
    int64_t patience_ms; /* how long errors of the network and "later" are borne, in one call */
} Remote;

enum { REMOTE_PATIENCE_MS = 3000, REMOTE_FOLLOW_PATIENCE_MS = 60000 };

typedef struct {
    const char *method;
    const char *path;            /* "/api/exports/request", encoded, with its query */
    const json_t *body;          /* NULL: none */
    const char *idempotency_key; /* NULL: none */
    int64_t held_ms;             /* how long the server may hold the answer (wait=N) */
} RemoteCall;

typedef struct {
    int status;
    json_t *body;           /* an object; the caller owns it */
    unsigned retry_after_s; /* 0: not said */
} RemoteAnswer;

/* USAGE for a token that is none; a file with it that others can read is warned about. */
bool remote_open(Cli *c, Remote *r, Err *e) MUST_CHECK;
void remote_close(Remote *r);

/*
 * An answer below 400 is success. SERVER_UNREACHABLE, WAITED_TOO_LONG (--timeout), INTERRUPTED
 * (Ctrl-C, only after interrupt_catch); the server's own code where it refused, whose problem is
 * then c->problem; INTERNAL for an answer that is no JSON object.
 */
bool remote_call(Remote *r, const RemoteCall *call, RemoteAnswer *answer, Err *e) MUST_CHECK;

/* An answer of 300 or more to a call of one's own, as an error; always false. */
bool remote_refused(Cli *c, const HttpAnswer *http, Err *e);

/* Milliseconds until --timeout, at most `ms`; 0 when it is over. */
int64_t remote_left_ms(const Cli *c, int64_t ms);

/* Waits; false (INTERRUPTED, WAITED_TOO_LONG) if it must not go on. */
bool remote_pause(const Cli *c, int64_t ms, Err *e) MUST_CHECK;

/*
 * Each word of the command line in its turn, what comes of it added to `rows`, and those shown at
 * the end. What goes wrong with one of several is said and does not keep the others from their
 * turn; the first decides the exit status, which is returned.
 */
typedef bool RemoteAct(Remote *r, const char *word, json_t *rows, Err *e);
typedef bool RemoteShow(const Cli *c, const json_t *rows, Err *e);
int remote_each(Cli *c, RemoteAct *act, RemoteShow *show, Err *e);

#endif
