/* What the files of this room share: the process, and one request on its way through it. Belongs to
 * the loop thread, but for what is marked. */
#ifndef API_API_IN_H
#define API_API_IN_H

#include "api/asker.h"
#include "api/hands.h"
#include "api/http.h"
#include "api/negotiate.h"
#include "api/route.h"
#include "api/writer.h"
#include "export/kinds.h"
#include "export/type.h"

/* What SIGHUP replaces. Read-only, so any thread may read it while a call holds it. */
typedef struct {
    const Config *config;
    const TypeSet *types;
    Arena *arena;    /* holds all of it; NULL: main's does */
    unsigned number; /* 1, 2, … */
    unsigned users;  /* calls that hold it, and one for being the current one */
} Setup;

/* Celery's name of the queue, which a worker of either make consumes by default. */
#define EXPORT_QUEUE "celery"

typedef struct Readiness Readiness;

typedef struct {
    const Kinds *kinds;
    const QueueKind *queue_kind;
    const StorageKind *storage_kind;
    Arena *process;
    Server *server;
    Setup *setup;
    Hands hands; /* the loop's own: never waits for anybody */
    Writer *writer;
    Askers *askers;
    Readiness *readiness;
    int64_t started_us;
    size_t waiting; /* calls that wait for news */
} Api;

/* One request. Ends with the request's arena. */
struct Call {
    Api *api;
    Setup *setup;
    Request *req;
    const Route *route;
    const char *name; /* what stands for the path's {…}; NULL */
    Preferences prefer;
    json_t *body; /* NULL: none */
    Problems problems;
    Hands *hands; /* of the thread that runs it */

    /* Where it goes on after it has waited; why it goes on. */
    RouteHandler *next;
    bool pending; /* somebody else will call `next` */
    Resume why;
    AskerJob ask;
    WriterJob write;
    bool ok; /* what the asker found */
    Err e;
    void *own; /* the handler's */
};

/* call.c */

/* ServerSpec.handle: every request comes in here. `with` is the Api. */
void call_handle(Request *req, void *with);

/* Is there still time to wait, and somebody to wait for? */
bool call_may_wait(const Call *call, int64_t until_ms);

/* Go on with `next` at `until_ms`, at news from the queue, or when the client left. */
bool call_wait(Call *call, int64_t until_ms, RouteHandler *next);

/* Go on with `next` when call->write (filled but for its end) is written; `next` looks at its ok.
 */
bool call_write(Call *call, RouteHandler *next, Err *e) MUST_CHECK;

/* Answers with JSON that may hold a link or user data; takes `body` over. */
bool call_answer_json(Call *call, int status, json_t *body, Err *e) MUST_CHECK;

/* Gives up what SIGHUP replaced once nobody holds it. */
void setup_release(Setup *setup);

/* Handlers (route.c). */
bool health_show(Call *call, Err *e);
bool health_ready(Call *call, Err *e);
bool metrics_show(Call *call, Err *e);
bool problem_show(Call *call, Err *e);
bool export_request(Call *call, Err *e);
bool export_status(Call *call, Err *e);
bool export_cancel(Call *call, Err *e);
bool export_list(Call *call, Err *e);   /* on an asker's thread */
bool export_delete(Call *call, Err *e); /* on an asker's thread */
bool file_show(Call *call, Err *e);     /* on an asker's thread */

/* health.c: what /readyz knows. NULL and `e` without memory. */
Readiness *readiness_new(Api *api, Err *e) MUST_CHECK;
void readiness_free(Readiness *r);

/* Has the queue and the storage looked at, unless that is being done already; waits for nothing.
 * The loop's thread. */
void readiness_look(Readiness *r);

/* The eventfd that tells the loop of results; to be watched with readiness_told. */
int readiness_fd(const Readiness *r);
void readiness_told(void *api);

#endif
