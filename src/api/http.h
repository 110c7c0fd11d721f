/*
 * Server: HTTP/1.1 (RFC 9112) in one loop thread. Seam of llhttp: no other file includes it.
 *
 * The loop accepts, reads, parses, refuses what is badly framed (dependencies.md's list), keeps the
 * limits and deadlines of api-surface.md 12.3, and writes answers; it never waits. A whole request
 * whose `Host` and peer may be served (auth.h) goes to `handle`, on the loop thread. The handler
 * fills req->answer and calls server_answer(), at once or later; between the two the request is
 * alive whatever its client does. Requests of one connection are handled one after the other.
 *
 * All functions belong to the loop thread but server_post and server_stop.
 */
#ifndef API_HTTP_H
#define API_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "config/config.h"

typedef struct Server Server;

typedef struct {
    const char *name; /* in lower case */
    const char *value;
} RequestHeader;

/* What becomes of a request. Zero is not an answer: the handler sets status. */
typedef struct {
    int status;
    const char *content_type; /* NULL with a body: application/json */
    Buf headers;              /* further ones, with response_header */
    Buf body;
    int fd; /* >= 0: `count` bytes from `offset` of this file instead of `body`; closed by the loop
             */
    int64_t offset, count;
    bool close; /* and then close the connection */
} Response;

typedef struct {
    Server *server;
    Arena *arena; /* ends after the answer is sent */
    const char *method;
    const char *target; /* as it came: "/files/a%20b?x=1" */
    const char *path;   /* decoded once, no NUL or control in it */
    const char *query;  /* as it came, without '?'; NULL: none */
    const RequestHeader *header;
    size_t headers;
    const char *body;
    size_t body_bytes;
    const char *peer; /* whom the request is from, an address: behind a trusted proxy the one that
                         it names */
    const char *request_id; /* the client's X-Request-Id, or ours */
    const char *base_url;   /* ROWFERRY_PUBLIC_URL, else http:// and Host; no slash at the end */
    bool has_public_url;    /* base_url is ROWFERRY_PUBLIC_URL */
    int64_t arrived_ms;     /* time_now_ms() when its first byte came */
    const char *route;      /* the handler's: for metrics; NULL counts as "other" */
    Response answer;
    void *own; /* the handler's */
} Request;

/* A whole request; see above. */
typedef void RequestHandler(Request *req, void *with);

/* Why a request that waited, or was posted, is looked at again. */
typedef enum {
    RESUME_POSTED,
    RESUME_WOKEN,
    RESUME_TIME,
    RESUME_CLIENT_LEFT,
    RESUME_STOPPING
} Resume;

/* Answers with server_answer, or waits again with server_wait. After CLIENT_LEFT the answer goes
 * nowhere, but is still owed. */
typedef void RequestResume(Request *req, Resume why);

typedef struct {
    const Config *config;
    int listen_fd; /* -1: bind config->host and port */
    RequestHandler *handle;
    void *with;
} ServerSpec;

/* Binds and listens; nothing is accepted before server_run. INTERNAL, CONFIG_INVALID. */
Server *server_new(const ServerSpec *spec, Err *e) MUST_CHECK;
void server_free(Server *s);

/* "http://127.0.0.1:8000": where it listens. */
const char *server_url(const Server *s);

/* Until server_stop has been called and every request in progress is answered, at most 10 s. */
bool server_run(Server *s, Err *e) MUST_CHECK;

/* Any thread. Closes the listener; keep-alive connections end with their next answer; waiting
 * requests are resumed with RESUME_STOPPING. `now`: does not wait for anybody. */
void server_stop(Server *s, bool now);
bool server_is_stopping(const Server *s);

/* Another Config from the next request on (SIGHUP); the old one must stay alive until this returns.
 */
void server_set_config(Server *s, const Config *config);

/* Calls `readable` on the loop thread whenever `fd` has something; before server_run or from the
 * loop. */
bool server_watch(Server *s, int fd, void (*readable)(void *with), void *with, Err *e) MUST_CHECK;

/* req->answer is complete: send it. HEAD sends no body. The loop adds what every answer has:
 * Content-Type, Content-Length, Connection, X-Request-Id, X-Content-Type-Options: nosniff,
 * Referrer-Policy: no-referrer. */
void server_answer(Request *req);

/* From any other thread: hands the request back to the loop thread, which calls
 * resume(req, RESUME_POSTED), once, soon, whatever its client or server_stop did. */
void server_post(Request *req, RequestResume *resume);

/* `resume` is called when server_wake was, at `until_ms` (time_now_ms clock), or for another reason
 * of Resume; once. */
void server_wait(Request *req, int64_t until_ms, RequestResume *resume);
void server_wake(Server *s); /* resumes all that wait */

/* First header of this name (lower case); NULL: none. server_headers counts them. */
const char *server_header(const Request *req, const char *name);
size_t server_headers(const Request *req, const char *name);

/* Adds "Name: value". Both must be ours or checked: a control character in either is INTERNAL
 * (asserted). */
void response_header(Response *r, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Status and a JSON body; takes `body` over. */
void response_json(Response *r, int status, json_t *body);

#endif
