/*
 * HTTP client: one request with a deadline (HttpClient), or many at once (HttpPool). Seam of
 * libcurl: no other file includes it. Each belongs to one thread and keeps connections.
 */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

typedef struct HttpClient HttpClient;

typedef struct {
    const char *method; /* NULL: GET */
    const char *url;
    const char *const *header; /* "Name: value", NULL-ended; NULL: none */
    const char *body;
    size_t body_bytes;
    const char *ca_file; /* of http_call: authorities besides the system's (PEM); NULL: none */
    int64_t timeout_ms;  /* of the whole call */
    int64_t connect_timeout_ms; /* 0: the same */
    int64_t idle_timeout_ms;    /* without a byte in either direction; 0: no limit */
    size_t answer_bytes_max;    /* of the answer when it goes into `answer->body` */
    /* Where the body of a 2xx answer goes, if not into `answer->body`; answer->status is known by
     * then. False ends the call. */
    bool (*sink)(const void *data, size_t bytes, void *with);
    /* Asked once a second at least, and after each signal; false gives the call up. NULL: never. */
    bool (*go_on)(void *with);
    void *with; /* of both */
} HttpCall;

typedef struct {
    int status;
    Buf body;    /* limited by answer_bytes_max */
    Buf headers; /* as they came, lines ended by \n, the last answer's only */
} HttpAnswer;

HttpClient *http_client_new(const char *user_agent, Err *e) MUST_CHECK;
void http_client_free(HttpClient *client);

/* SERVER_UNREACHABLE (cannot connect, cut), SERVER_UNTRUSTED (no TLS, or not its certificate),
 * WAITED_TOO_LONG (deadline), SIZE_LIMIT (more than answer_bytes_max), CANCELLED (the sink said
 * no), INTERRUPTED (go_on did), USAGE (no http URL). An answer with any status is success. No
 * redirects; a proxy only as the environment says, and never for loopback. After a failure there is
 * nothing to free.
 */
bool http_call(HttpClient *client, const HttpCall *call, HttpAnswer *answer, Err *e) MUST_CHECK;

/* First header of this name (case-blind), copied; false if there is none. */
bool http_header(const HttpAnswer *answer, const char *name, char *to, size_t to_bytes);
void http_answer_free(HttpAnswer *answer);

/* --- many calls at once --- */

typedef struct HttpPool HttpPool;
typedef struct HttpJob HttpJob;

typedef struct {
    const char *user_agent;
    const char *ca_file;  /* PEM; NULL: the system's */
    unsigned connections; /* kept open for later calls, at most */
} HttpPoolSpec;

/* The texts are copied. HTTP/1.1, TLS 1.2 or newer. A pooled connection that dies before the first
 * byte of an answer is replaced and the call sent again, unseen (RFC 9112 9.3.1). */
HttpPool *http_pool_new(const HttpPoolSpec *spec, Err *e) MUST_CHECK;
void http_pool_free(HttpPool *pool); /* once all its calls have ended or were cancelled */

/* Puts a call on its way. `call` with all it points to, and `answer`, stay until it has ended; sink
 * and go_on of a call are not for here. `owner` is what http_pool_ended tells it by. */
HttpJob *http_pool_begin(
    HttpPool *pool, const HttpCall *call, HttpAnswer *answer, void *owner, Err *e) MUST_CHECK;

/* Ends it unheard; nothing of the call is touched afterwards. */
void http_pool_cancel(HttpPool *pool, HttpJob *job);

/* Moves bytes; waits at most `wait_ms` for something to move, or for http_pool_wake. */
bool http_pool_turn(HttpPool *pool, int wait_ms, Err *e) MUST_CHECK;

/* The owner of a call that has ended, in any order; NULL: none has. `ok`, `why`: as http_call's
 * answer; after a failure there is nothing of the answer to free. */
void *http_pool_ended(HttpPool *pool, bool *ok, Err *why);

/* Ends the wait of http_pool_turn. The only function that any thread may call. */
void http_pool_wake(HttpPool *pool);

const char *http_library_version(void); /* libcurl's */

#endif
