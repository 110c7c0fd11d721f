/*
 * What the files of the server share: http.c (the loop), connection.c (one connection's life),
 * response.c (bytes of an answer), deadline.c (who is due). Loop thread only.
 */
#ifndef API_HTTP_IN_H
#define API_HTTP_IN_H

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "api/auth.h"
#include "api/http.h"
#include "api/parser_in.h"

typedef struct Connection Connection;
typedef struct Exchange Exchange;
typedef struct Pollable Pollable;

/* What an epoll event points to. */
struct Pollable {
    void (*ready)(Pollable *p, uint32_t events);
};

typedef enum {
    STATE_FREE,
    STATE_IDLE,         /* nothing of a request has come */
    STATE_READING_HEAD, /* its first byte has */
    STATE_READING_BODY, /* its head is whole */
    STATE_HANDLED,      /* the handler owes an answer */
    STATE_WAITING,      /* until server_wake, a time, … */
    STATE_ANSWERED,     /* the answer is complete, nothing of it sent */
    STATE_WRITING,
    STATE_LINGERING, /* answered for the last time; what still comes is thrown away */
    STATES
} State;

enum { SERVER_READ_BYTES = 64 << 10, REQUEST_ID_BYTES = 65 };

/* A request on its way: borrowed by a connection from the first byte to the end of the answer. */
struct Exchange {
    Request req; /* first, so that a Request * is also an Exchange * */
    Connection *connection;
    Parser *parser;
    Buf head; /* of the answer */
    size_t sent_bytes;
    RequestResume *resume;
    int64_t wait_until_ms;
    int64_t whole_us; /* its last byte was here */
    bool told_left, told_stopping, is_refusal, keep_alive;
    Exchange *next; /* free, or posted */
    char request_id[REQUEST_ID_BYTES];
    char client[AUTH_PEER_BYTES];
};

struct Connection {
    Pollable poll; /* first */
    Server *server;
    int fd;
    State state;
    bool is_readable, is_writable; /* edges seen and not used up */
    bool has_left;                 /* sent its FIN, or is gone altogether */
    bool is_running, is_queued;    /* in connection_run; for the loop's next turn */
    int64_t since_ms;              /* in this state, or since it moved on within it */
    int64_t deadline_ms;
    size_t deadline_at; /* place in the heap, 0: has none */
    size_t linger_bytes;
    Exchange *exchange; /* NULL: idle */
    Buf rest;           /* came behind the request in progress */
    size_t rest_used;
    Connection *next; /* closed, or free */
    Connection *next_queued;
    Connection *wait_before, *wait_next; /* those that wait: a ring */
    struct sockaddr_storage peer;
};

/* Deadlines by kind; tests shorten them. */
typedef struct {
    int64_t head_ms, body_ms, idle_ms, write_ms, linger_ms, stop_ms;
    int64_t silence_ms; /* then another may have the place, if all are taken */
} Patience;

typedef struct {
    Pollable poll; /* first */
    void (*readable)(void *with);
    void *with;
} ServerWatch;

/* For counting by address: IPv4 within IPv6, IPv6 without its last 64 bits; all zero: not counted.
 */
typedef struct {
    uint8_t byte[16];
} PeerKey;

struct Server {
    const Config *config;
    RequestHandler *handle;
    void *with;
    Arena *memory;
    char url[128];
    Patience patience;
    int epoll, listener, wake, spare;
    Pollable listener_poll, wake_poll;
    ServerWatch watch[SERVER_WATCHES_MAX];
    size_t watches;

    Connection *connection;
    PeerKey *key; /* by connection, beside each other because each accept looks at all */
    size_t connections_max, open, in_progress;
    Connection *free, *closed;
    Connection *queue, **queue_end;
    Connection waiting; /* the ring's head, no connection itself */
    Connection **heap;  /* by deadline, from 1 */
    size_t due;
    Exchange *exchange;
    size_t exchanges_free;

    int64_t now_ms;            /* of this turn */
    int64_t accept_again_ms;   /* 0: accepting */
    int64_t limited_logged_ms; /* http.limited is one line a second */
    uint64_t limited;
    bool must_wake;
    atomic_int asked_to_stop; /* 1: gracefully, 2: now */
    bool is_stopping;
    int64_t stop_at_ms;
    _Atomic(Exchange *) posted;

    int64_t date_second;
    char date[40];
    uint8_t random[480];
    size_t random_left;
    char buffer[SERVER_READ_BYTES];
};

/* deadline.c: a heap, so that nobody is looked at who is not due. 0 takes it away. */
void deadline_set(Server *s, Connection *c, int64_t at_ms);
Connection *deadline_next(const Server *s); /* the earliest; NULL: none */

/* connection.c */
void connection_open(Server *s, int fd, const struct sockaddr_storage *peer, const PeerKey *key);
void connection_close(Connection *c);
void connection_run(Connection *c); /* as far as it goes without waiting */
void connection_is_due(Connection *c);
void connection_resume(Connection *c, Resume why);
void connection_queue(Connection *c);

/* response.c */
void response_begin(Response *r); /* as a handler gets it */
void response_end(Response *r);   /* closes what is open, gives large memory back */
void response_write_head(Exchange *x, bool keep_alive);
bool response_has_body(const Response *r);
int64_t response_bytes(const Response *r);
void request_id_make(Server *s, char to[REQUEST_ID_BYTES]);

#endif
