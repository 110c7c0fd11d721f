/*
 * Parser: bytes to one request (RFC 9112, 9110), without sockets, so that it can be tried with any
 * bytes. Strict: what could be read in two ways is refused (dependencies.md, "The HTTP server").
 * Takes memory only while a request is larger than those before. One thread at a time.
 */
#ifndef API_PARSER_IN_H
#define API_PARSER_IN_H

#include "api/http.h"

enum {
    PARSER_LINE_BYTES_MAX = 8 << 10,     /* "GET /a HTTP/1.1" without its line end */
    PARSER_HEADERS_BYTES_MAX = 32 << 10, /* name, ": ", value, CRLF of each */
    PARSER_HEADERS_MAX = 100,
    PARSER_BODY_BYTES_MAX = 64 << 10,
};

typedef struct Parser Parser;

/* Good from PARSER_HEAD on, until parser_begin; of a refused request what had come by then. */
typedef struct {
    const char *method, *target, *path; /* "" before it has come */
    const char *query;                  /* NULL: none */
    const RequestHeader *header;
    size_t headers;
    const char *host;
    const char *body; /* a NUL behind; whole at PARSER_WHOLE */
    size_t body_bytes;
    bool expects_continue; /* and a body is to come */
    bool may_keep_alive;   /* the client does not want the connection closed */
    bool is_http_1_0;
} Parsed;

typedef enum {
    PARSER_MORE,   /* all bytes taken, the request has not ended */
    PARSER_HEAD,   /* the head is whole and good; once; go on with the bytes behind */
    PARSER_WHOLE,  /* so is the body; the bytes behind belong to the next request */
    PARSER_REFUSED /* `e` says why; the rest of the connection is not to be read */
} ParserState;

/* `process` keeps it; parser_free releases its buffers. NULL: MEMORY_LIMIT. */
Parser *parser_new(Arena *process, Err *e) MUST_CHECK;
void parser_free(Parser *p);

/* Ready for the next request. */
void parser_begin(Parser *p);

/* `taken`: how many of the bytes were used. The outcome does not depend on how they are cut. */
ParserState parser_take(Parser *p, const char *bytes, size_t count, size_t *taken, Err *e);

const Parsed *parser_parsed(const Parser *p);

#endif
