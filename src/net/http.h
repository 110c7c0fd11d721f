/*
 * HTTP client: one request with a deadline. Seam of libcurl: no other file includes it. One
 * HttpClient per thread; it keeps connections.
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
    int64_t timeout_ms;         /* of the whole call */
    int64_t connect_timeout_ms; /* 0: the same */
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

/* SERVER_UNREACHABLE (cannot connect, cut), WAITED_TOO_LONG (deadline), SIZE_LIMIT (more than
 * answer_bytes_max), CANCELLED (the sink said no), INTERRUPTED (go_on did), USAGE (no http URL). An
 * answer with any status is success. No redirects; a proxy only as the environment says, and never
 * for loopback. After a failure there is nothing to free. */
bool http_call(HttpClient *client, const HttpCall *call, HttpAnswer *answer, Err *e) MUST_CHECK;

/* First header of this name (case-blind), copied; false if there is none. */
bool http_header(const HttpAnswer *answer, const char *name, char *to, size_t to_bytes);
void http_answer_free(HttpAnswer *answer);

const char *http_library_version(void); /* libcurl's */

#endif
