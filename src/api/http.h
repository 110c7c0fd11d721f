/*
 * Server: HTTP/1.1 (RFC 9112) in one loop thread. Of its files only parser.c includes llhttp.
 *
 * The loop accepts, reads, parses, keeps the limits and deadlines of api-surface.md 12.3 and writes
 * answers; it never waits. By itself it refuses, with problem_answer(), and closes:
 *
 *   400 invalid-request         framing (dependencies.md's list), Host, target, percent-encoding
 *   414 431 408 413 417         line, headers, time, body over 64 KiB, Expect
 *   415 unsupported-media-type  any Content-Encoding: nothing a client sends is inflated
 *   403 forbidden               auth_may_ask() says no
 *   503 shutting-down           arrived after server_stop
 *
 * Any other whole request goes to `handle`, on the loop thread: paths, methods, queries, Accept,
 * Content-Type and the body's content are the handler's to check. The handler fills req->answer and
 * calls server_answer(), at once or later; between the two the request is alive whatever its client
 * does. Requests of one connection are handled one after the other.
 *
 * All functions belong to the loop thread but server_post and server_stop.
 */
#ifndef API_HTTP_H
#define API_HTTP_H

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

/*
 * What becomes of a request. As the handler gets it: status 0 (not an answer: the handler sets it),
 * both buffers empty, fd -1. Content-Length, Connection, Date, X-Request-Id, X-Content-Type-Options
 * and Referrer-Policy are the server's to write.
 */
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

/* No text is NULL unless it says so. In a refusal of the server's own, what was not read is "". */
typedef struct {
    Server *server;
    Arena *arena; /* ends after the answer is sent */
    const char *method;
    const char *target; /* as it came: "/files/a%20b?x=1" */
    const char *path;   /* decoded once, no NUL or control in it */
    const char *query;  /* as it came, without '?'; its escapes are good; NULL: none */
    const RequestHeader *header;
    size_t headers;
    const char *body; /* a NUL behind */
    size_t body_bytes;
    const char *peer; /* whom the request is from, an address: behind a trusted proxy the one that
                         it names */
    bool peer_is_private;   /* and that is loopback or a private network, and no header names
                             * another one: auth_comes_from_private */
    const char *request_id; /* the client's X-Request-Id, or ours */
    const char *base_url;   /* ROWFERRY_PUBLIC_URL, else http:// and Host; no slash at the end */
    bool has_public_url;    /* base_url is ROWFERRY_PUBLIC_URL */
    int64_t arrived_ms;     /* time_now_ms() when its first byte came */
    const char *route;      /* the handler's: for metrics, static; NULL counts as "other" */
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

/* Answers with server_answer, hands the request to another thread, or waits again with server_wait.
 * After CLIENT_LEFT the answer goes nowhere, but is still owed. */
typedef void RequestResume(Request *req, Resume why);

typedef struct {
    const Config *config;
    int listen_fd; /* -1: bind config->host and port */
    RequestHandler *handle;
    void *with;
} ServerSpec;

/* Binds and listens; nothing is accepted before server_run. INTERNAL, CONFIG_INVALID. */
Server *server_new(const ServerSpec *spec, Err *e) MUST_CHECK;

/* Closes what is open. Threads that may still call server_post have ended before. NULL is fine. */
void server_free(Server *s);

/* "http://127.0.0.1:8000": where it listens. */
const char *server_url(const Server *s);

/* Until server_stop has been called and every request in progress is answered, at most 10 s; true
 * then. False when the loop itself fails. SIGPIPE is ignored (process_begin). */
bool server_run(Server *s, Err *e) MUST_CHECK;

/* Any thread, also a signal handler. Closes the listener and idle connections; those in progress
 * end with their answer; waiting requests are resumed with RESUME_STOPPING. `now`: does not wait
 * for anybody. */
void server_stop(Server *s, bool now);
bool server_is_stopping(const Server *s);

/* Another Config from the next request on (SIGHUP). What answers in progress hold of the old one
 * (base_url) must stay alive until they are sent: process arenas do. */
void server_set_config(Server *s, const Config *config);

/* Calls `readable` on the loop thread whenever `fd` has something; before server_run or from the
 * loop. */
enum { SERVER_WATCHES_MAX = 8 };
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
void server_wake(Server *s); /* resumes all that wait, in the loop's next turn */

/* First header of this name (lower case); NULL: none. server_headers counts them. */
const char *server_header(const Request *req, const char *name);
size_t server_headers(const Request *req, const char *name);

/* Adds "Name: value". Both must be ours or checked: a control character in either is INTERNAL
 * (asserted). */
void response_header(Response *r, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
