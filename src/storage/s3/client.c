/*
 * Requests on their way to the store. One thread signs, sends, reads and tries again; whoever
 * called waits with his Watch, so that a cancel does not depend on the store.
 *
 * What a call goes through: NEW -> (FLIES -> WAITS ->)* FLIES -> ENDED. A try that is repeated is
 * signed anew: date, keys, region and host may be others by then (s3.md 3.3, 7).
 */
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "base/version.h"
#include "storage/s3/s3_in.h"

enum {
    CLIENT_BYTES_MAX = 256 << 10,
    STACK_BYTES = 512 << 10,
    URL_BYTES = 32 << 10,
    HEADERS_BYTES = 32 << 10,
    CONNECTIONS_MAX = 64,
    TIMEOUT_MS = 60000,
    UNWATCHED_MS = 20000,  /* of a call that nobody can end */
    SLOWEST_BYTES_MS = 64, /* a body may take one millisecond for so many bytes */
    ANSWER_BYTES = 64 << 10,
    KEYS_WAIT_MS = 10000,
    KEYS_LOOK_MS = 20, /* while they are on their way */
    IDLE_WAIT_MS = 60000,
    LOOK_MS = 100,
    TRANSIENT_MS = 50,
    THROTTLED_MS = 1000,
    DELAY_MS_MAX = 20000,
    LATER_MS_MAX = 5000, /* Retry-After adds so much at most */
    DAMAGES_MAX = 2,
    BUDGET_MAX = 500,
    BUDGET_RETRY = 5,
    BUDGET_TIMEOUT = 10,
    CLOCK_TOOK_MS = 2000,
};

struct Client {
    Arena *arena; /* holds this */
    S3Spec spec;  /* with what the profile says */
    Credentials *credentials;
    Learnt *learnt;
    int ended_fd; /* eventfd: some call has ended */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* a cancelled call is off the thread */
    pthread_t thread;
    bool runs, stops; /* the thread */
    ClientCall *call; /* all that have not ended */
    HttpPool *pool;

    /* The thread's own. */
    SigningKey kept;
    int budget;
};

/* What the answer says of the time, against ours. */
static bool
clock_of(const S3Answer *answer, int64_t *offset_s)
{
    char date[64];
    int64_t wall_us;

    if (answer->error.server_wall_s > 0)
        wall_us = answer->error.server_wall_s * 1000000;
    else if (!http_header(&answer->http, "Date", date, sizeof date) ||
             !time_parse_http(date, &wall_us))
        return false;
    *offset_s = (wall_us - time_wall_us()) / 1000000;
    return true;
}

/* --- one try --- */

static bool
hash_payload(const Site *site, ClientCall *call, Err *e)
{
    const S3Request *r = call->request;
    uint8_t sum[32];

    if (call->payload[0])
        return true;
    if (r->is_unsigned && (site->is_secure || site->is_loopback) && r->body_bytes > 0) {
        (void)text_copy(call->payload, sizeof call->payload, "UNSIGNED-PAYLOAD");
        return true;
    }
    if (EVP_Digest(r->body, r->body_bytes, sum, NULL, EVP_sha256(), NULL) != 1)
        return fail(e, INTERNAL, "the digest of a part fails");
    text_hex(sum, sizeof sum, call->payload);
    return true;
}

/* A HEAD that was refused without a word is asked again as a GET of one byte: that has a body, and
 * in it the region. */
static const S3Pair first_byte = {"range", "bytes=0-0"};

/* False and call->keyless_ms: they are on their way, and meanwhile nothing else is held up. */
static bool
take_keys(Client *c, ClientCall *call, S3Keys *keys, Err *e)
{
    int64_t since_ms = call->keyless_ms ? call->keyless_ms : call->begun_ms;
    int64_t total_ms = call->request->total_ms;
    int64_t wait_ms = total_ms > 0 && total_ms < KEYS_WAIT_MS ? total_ms : KEYS_WAIT_MS;
    KeysState state = credentials_look(c->credentials, since_ms, wait_ms, keys, e);

    call->keyless_ms = state == KEYS_AWAITED ? since_ms : 0;
    return state == KEYS_HERE;
}

static bool
write_headers(Client *c, const Site *site, ClientCall *call, const char *path, Err *e)
{
    const S3Request *r = call->request;
    S3Pair header[S3_PAIRS_MAX + 2];
    SignRequest sign = {
        .method = call->asks_region ? "GET" : r->method,
        .host = site->host,
        .path = path,
        .query = r->query,
        .queries = r->queries,
        .header = header,
        .payload = call->payload,
        .region = site->region,
        .service = "s3",
        .now_wall_s = client_now_wall_s(c),
    };
    S3Keys keys = {0};
    bool ok;

    if (r->headers > S3_PAIRS_MAX)
        return fail(e, INTERNAL, "too many headers for %s", r->operation);
    for (size_t i = 0; i < r->headers; i++)
        if (r->header[i].value)
            header[sign.headers++] = r->header[i];
    if (*c->spec.bucket_owner)
        header[sign.headers++] = (S3Pair){"x-amz-expected-bucket-owner", c->spec.bucket_owner};
    if (call->asks_region)
        header[sign.headers++] = first_byte;
    if (c->spec.anonymous) {
        for (size_t i = 0; i < sign.headers; i++) {
            buf_printf(&call->headers, "%s: %s", header[i].name, header[i].value);
            buf_char(&call->headers, '\0');
        }
        return buf_is_good(&call->headers, e);
    }
    ok = take_keys(c, call, &keys, e) && sign_request(&sign, &keys, &c->kept, &call->headers, e);
    (void)text_copy(call->access_key, sizeof call->access_key, keys.access_key);
    call->keys_end_wall_s = keys.ends_wall_s;
    explicit_bzero(&keys, sizeof keys);
    return ok;
}

/* The headers stand one behind the other, each with a NUL. */
static bool
point_at_headers(ClientCall *call, Err *e)
{
    const char *at = call->headers.data, *end = at + call->headers.bytes;
    size_t count = 0;

    for (; at < end; at += strlen(at) + 1) {
        if (count + 1 >= sizeof call->header / sizeof call->header[0])
            return fail(e, INTERNAL, "too many headers");
        call->header[count++] = at;
    }
    call->header[count] = NULL;
    return true;
}

/* Of one try: enough for its body, and no more than there is left for all. */
static int64_t
try_ms(const ClientCall *call)
{
    const S3Request *r = call->request;
    int64_t slowest_ms = (int64_t)(r->body_bytes / SLOWEST_BYTES_MS), left_ms;
    int64_t timeout_ms = r->timeout_ms > 0 ? r->timeout_ms : TIMEOUT_MS;

    timeout_ms = timeout_ms > slowest_ms ? timeout_ms : slowest_ms;
    left_ms = r->total_ms - (time_now_ms() - call->started_ms);
    if (r->total_ms > 0 && left_ms < timeout_ms)
        return left_ms > 1 ? left_ms : 1;
    return timeout_ms;
}

static bool
write_try(Client *c, ClientCall *call, Err *e)
{
    const S3Request *r = call->request;
    Site site = learnt_site(c->learnt);
    Buf path = buf_new(URL_BYTES);
    bool ok;

    buf_clear(&call->url);
    if (call->headers.bytes > 0)
        explicit_bzero(call->headers.data, call->headers.bytes);
    buf_clear(&call->headers);
    (void)text_copy(call->region, sizeof call->region, site.region);
    site_path(&site, r->key, &path);
    buf_printf(&call->url, "%s://%s%s", site.is_secure ? "https" : "http", site.host, path.data);
    if (r->queries > 0)
        buf_char(&call->url, '?');
    ok = buf_is_good(&path, e) && sign_query(&call->url, r->query, r->queries, e) &&
         buf_is_good(&call->url, e) && hash_payload(&site, call, e) &&
         write_headers(c, &site, call, path.data, e) && point_at_headers(call, e);
    buf_free(&path);
    call->http = (HttpCall){
        .method = call->asks_region ? "GET" : r->method,
        .url = call->url.data,
        .header = call->header,
        .body = r->body,
        .body_bytes = r->body_bytes,
        .timeout_ms = try_ms(call),
        .connect_timeout_ms = c->spec.connect_timeout_ms,
        .idle_timeout_ms = r->is_slow ? 0 : c->spec.idle_timeout_ms,
        .answer_bytes_max = r->answer_bytes_max > 0 ? r->answer_bytes_max : ANSWER_BYTES,
    };
    return ok;
}

/* --- how a call ends --- */

static void
end_call(Client *c, ClientCall *call, bool ok)
{
    uint64_t one = 1;
    ssize_t wrote;

    buf_free(&call->url);
    if (call->headers.bytes > 0)
        explicit_bzero(call->headers.data, call->headers.bytes);
    buf_free(&call->headers);
    pthread_mutex_lock(&c->lock);
    call->ok = ok;
    call->stands = CALL_ENDED;
    for (ClientCall **at = &c->call; *at; at = &(*at)->next)
        if (*at == call) {
            *at = call->next;
            break;
        }
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    wrote = write(c->ended_fd, &one, sizeof one);
    (void)wrote; /* it is full only if it is readable */
}

/* True: it waits for keys until it is due. False: it flies, or has ended and is its owner's again.
 */
static bool
start_try(Client *c, ClientCall *call)
{
    err_clear(&call->why);
    call->begun_ms = time_now_ms();
    client_answer_free(call->answer);
    if (!write_try(c, call, &call->why)) {
        if (call->keyless_ms) {
            call->due_ms = call->begun_ms + KEYS_LOOK_MS;
            call->stands = CALL_WAITS;
            return true;
        }
        wrap(&call->why, "%s", call->request->operation);
        end_call(c, call, false);
        return false;
    }
    call->answer->tries++;
    if (!(call->job =
                http_pool_begin(c->pool, &call->http, &call->answer->http, call, &call->why))) {
        end_call(c, call, false);
        return false;
    }
    call->stands = CALL_FLIES;
    return false;
}

/* Between nothing and the bound, so that many who were refused at once do not come back at once. */
static int64_t
delay_ms(const ClientCall *call, bool was_throttled)
{
    unsigned try = call->answer->tries < 16 ? call->answer->tries : 16;
    int64_t most = (int64_t)(was_throttled ? THROTTLED_MS : TRANSIENT_MS) << try, asked_ms = 0;
    char text[32];
    uint64_t number;
    uint32_t random = 0;

    most = most < DELAY_MS_MAX ? most : DELAY_MS_MAX;
    (void)!getrandom(&random, sizeof random, 0);
    most = (int64_t)((uint64_t)most * random >> 32);
    if (http_header(&call->answer->http, "x-amz-retry-after", text, sizeof text) &&
        text_to_uint(text, 3600 * 1000, &number))
        asked_ms = (int64_t)number;
    else if (http_header(&call->answer->http, "Retry-After", text, sizeof text) &&
             text_to_uint(text, 3600, &number))
        asked_ms = (int64_t)number * 1000;
    if (asked_ms > most)
        return asked_ms < most + LATER_MS_MAX ? asked_ms : most + LATER_MS_MAX;
    return most;
}

/* The bound of tries and time, and the process's own: a sick store is not hammered. */
static bool
may_try_again(const Client *c, const ClientCall *call, int64_t wait_ms, int64_t started_ms)
{
    const S3Request *r = call->request;
    unsigned tries = r->tries > 0 ? r->tries : c->spec.tries;

    return call->answer->tries < tries && c->budget > 0 &&
           (r->total_ms == 0 || time_now_ms() + wait_ms - started_ms < r->total_ms);
}

static void
wait_then_try(ClientCall *call, int64_t wait_ms)
{
    const S3Error *error = &call->answer->error;

    log_event(LOG_INFO, "storage.retry", log_text("operation", call->request->operation),
        log_number("try", call->answer->tries), log_number("status", call->answer->status),
        log_text("code", *error->code ? error->code : NULL),
        log_text("store_request_id", *error->request_id ? error->request_id : NULL),
        log_text("reason", call->answer->error.code[0] ? NULL : err_root(&call->why)),
        log_number("wait_ms", wait_ms));
    call->due_ms = time_now_ms() + wait_ms;
    call->stands = CALL_WAITS;
}

/* The region that the answer names, by s3.md 7.4. */
static bool
move(Client *c, ClientCall *call)
{
    char region[S3_REGION_BYTES];
    const S3Error *error = &call->answer->error;
    bool moved;

    if (!http_header(&call->answer->http, "x-amz-bucket-region", region, sizeof region))
        (void)text_copy(region, sizeof region, error->region);
    if (!region[0] && strcmp(call->request->method, "HEAD") == 0 && !call->asks_region) {
        call->asks_region = true;
        return true;
    }
    moved = learnt_move(c->learnt, call->region, region);
    call->asks_region = false;
    call->has_moved = true;
    return moved;
}

/* What can be mended at once, and once. */
static bool
mend(Client *c, ClientCall *call)
{
    int64_t offset_s;

    switch (call->answer->class) {
    case S3_DAMAGED:
        return call->request->tries != 1 && call->damages++ < DAMAGES_MAX;
    case S3_STALE:
        if (call->has_refreshed || c->spec.anonymous)
            return false;
        credentials_ended(c->credentials, call->access_key);
        return call->has_refreshed = true;
    case S3_CLOCK:
        if (call->has_set_clock || !clock_of(call->answer, &offset_s))
            return false;
        learnt_note_clock(c->learnt, offset_s, true);
        return call->has_set_clock = true;
    case S3_ELSEWHERE:
        return !call->has_moved && move(c, call);
    default:
        return false;
    }
}

static bool
is_success(int status)
{
    return status >= 200 && status < 300;
}

/* Reads what came, as far as the answer tells by itself what it means. */
static void
read_answer(ClientCall *call, bool ok)
{
    S3Answer *a = call->answer;
    bool conditional = false;
    S3Outcome outcome;
    Err why = {0};

    for (size_t i = 0; i < call->request->headers; i++)
        conditional = conditional ||
                      (call->request->header[i].value &&
                          text_same_case_blind(call->request->header[i].name, "if-none-match"));
    a->error = (S3Error){0};
    a->status = ok ? a->http.status : 0;
    if (ok && (!is_success(a->status) || call->request->reads_error))
        (void)answer_error(a->http.body.data, a->http.body.bytes, &a->error);
    if (ok && !a->error.request_id[0])
        (void)http_header(
            &a->http, "x-amz-request-id", a->error.request_id, sizeof a->error.request_id);
    outcome = (S3Outcome){
        .status = a->status,
        .error = &a->error,
        .is_head = strcmp(call->request->method, "HEAD") == 0 && !call->asks_region,
        .is_conditional = conditional,
    };
    a->class = fault_class(&outcome);
    /* Some stores say no more than that of keys that have just ended. */
    if (a->class == S3_REFUSED && call->keys_end_wall_s > 0 &&
        call->keys_end_wall_s <= time_wall_us() / 1000000 + 1)
        a->class = S3_STALE;
    if (a->class == S3_GOOD && call->request->is_whole && !call->asks_region &&
        !call->request->is_whole(&a->http, &why)) {
        a->class = S3_TRANSIENT;
        err_clear(&call->why);
        fail_code(&call->why, ERR_STORAGE_UNAVAILABLE, "%s: %s", call->request->operation,
            err_root(&why));
    } else if (a->status != 0 && a->class != S3_GOOD) {
        err_clear(&call->why);
        fault_fail(a->class, &outcome, call->request->operation, &call->why);
    } else if (a->status == 0) {
        /* The transport's own words; for the queue it is one thing. */
        why = call->why;
        a->cause = why.code;
        err_clear(&call->why);
        fail_code(&call->why,
            why.code == ERR_MEMORY_LIMIT || why.code == ERR_INTERNAL ? why.code
                                                                     : ERR_STORAGE_UNAVAILABLE,
            "%s: %s", call->request->operation, err_root(&why));
    }
}

/* A try has ended: is that the end of the call? */
static void
judge(Client *c, ClientCall *call, bool ok)
{
    S3Answer *a = call->answer;
    bool was_timeout = !ok && call->why.code == ERR_WAITED_TOO_LONG, was_throttled;
    int64_t offset_s, wait_ms, took_ms = time_now_ms() - call->begun_ms;

    call->job = NULL;
    read_answer(call, ok);
    if (a->status != 0 && a->class != S3_CLOCK && took_ms < CLOCK_TOOK_MS && clock_of(a, &offset_s))
        learnt_note_clock(c->learnt, offset_s, false);
    if (call->asks_region) {
        /* Whatever it was: the next try is the one that was asked for. */
        (void)move(c, call);
        call->asks_region = false;
        call->has_moved = true;
        wait_then_try(call, 0);
        return;
    }
    if (a->class == S3_GOOD) {
        c->budget += c->budget < BUDGET_MAX;
        end_call(c, call, true);
        return;
    }
    if (mend(c, call)) {
        wait_then_try(call, 0);
        return;
    }
    was_throttled = a->class == S3_THROTTLED;
    call->was_throttled = call->was_throttled || was_throttled;
    wait_ms = delay_ms(call, was_throttled);
    if ((was_throttled || a->class == S3_TRANSIENT) &&
        may_try_again(c, call, wait_ms, call->started_ms)) {
        /* It may have been done, and only the word of it was lost. */
        a->may_have_done =
            a->may_have_done || a->status == 0 || a->status >= 500 || is_success(a->status);
        c->budget -= was_timeout ? BUDGET_TIMEOUT : BUDGET_RETRY;
        wait_then_try(call, wait_ms);
        return;
    }
    if (a->status == 0 || a->class == S3_TRANSIENT)
        a->may_have_done = true;
    end_call(c, call, false);
}

/* --- the thread --- */

/* Starts what is due, drops what was cancelled; milliseconds until something is due. */
static int
look_at_calls(Client *c)
{
    int64_t now_ms = time_now_ms(), wait_ms = IDLE_WAIT_MS;
    ClientCall *call, *next;

    pthread_mutex_lock(&c->lock);
    call = c->call;
    pthread_mutex_unlock(&c->lock);
    /* Only this thread takes calls off the list, and new ones come to its front. */
    for (; call; call = next) {
        bool is_cancelled;

        pthread_mutex_lock(&c->lock);
        next = call->next;
        is_cancelled = call->is_cancelled;
        pthread_mutex_unlock(&c->lock);
        if (is_cancelled) {
            if (call->job)
                http_pool_cancel(c->pool, call->job);
            call->job = NULL;
            end_call(c, call, false);
        } else if (call->stands != CALL_FLIES) {
            if ((call->due_ms > now_ms || start_try(c, call)) && call->due_ms - now_ms < wait_ms)
                wait_ms = call->due_ms - now_ms;
        }
    }
    return (int)wait_ms;
}

static void *
run(void *with)
{
    Client *c = with;
    bool stops = false;

    while (!stops) {
        int wait_ms = look_at_calls(c);
        Err why = {0};
        ClientCall *call;
        bool ok;

        if (!http_pool_turn(c->pool, wait_ms, &why)) {
            log_event(LOG_ERROR, "storage.failed", log_err(&why));
            (void)poll(NULL, 0, LOOK_MS); /* not at full speed */
        }
        err_clear(&why);
        while ((call = http_pool_ended(c->pool, &ok, &why))) {
            call->why = why;
            judge(c, call, ok);
            err_clear(&why);
        }
        pthread_mutex_lock(&c->lock);
        stops = c->stops && !c->call;
        pthread_mutex_unlock(&c->lock);
    }
    return NULL;
}

static bool
start_thread(Client *c, Err *e)
{
    const HttpPoolSpec spec = {
        .user_agent = "rowferry/" ROWFERRY_VERSION,
        .ca_file = *c->spec.ca_file ? c->spec.ca_file : NULL,
        .connections = CONNECTIONS_MAX,
    };
    pthread_attr_t attr;
    int error;

    if (c->runs)
        return true;
    if (!c->pool && !(c->pool = http_pool_new(&spec, e)))
        return false;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    error = pthread_create(&c->thread, &attr, run, c);
    pthread_attr_destroy(&attr);
    errno = error;
    if (error != 0)
        return fail(e, MEMORY_LIMIT, "no thread for the storage: %m");
    return c->runs = true;
}

/* --- its life --- */

Client *
client_open(const S3Spec *spec, Err *e)
{
    Arena *arena = arena_new(CLIENT_BYTES_MAX);
    Client *c = arena ? arena_alloc(arena, sizeof *c, e) : NULL;
    Site site;

    if (!c) {
        arena_free(arena);
        fail(e, MEMORY_LIMIT, "no memory for the storage");
        return NULL;
    }
    *c = (Client){.arena = arena, .spec = *spec, .budget = BUDGET_MAX, .ended_fd = -1};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    if (!spec->anonymous && !(c->credentials = credentials_open(spec, e)))
        goto bad;
    c->spec = credentials_complete(c->credentials, spec);
    if (!site_make(&c->spec, c->spec.region, false, &site, e) ||
        !(c->learnt = learnt_open(&site, e)))
        goto bad;
    if ((c->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0)
        return c;
    fail(e, MEMORY_LIMIT, "no descriptor for the storage: %m");
bad:
    client_close(c);
    return NULL;
}

void
client_close(Client *c)
{
    if (!c)
        return;
    if (c->runs) {
        pthread_mutex_lock(&c->lock);
        c->stops = true;
        for (ClientCall *call = c->call; call; call = call->next)
            call->is_cancelled = true;
        pthread_mutex_unlock(&c->lock);
        http_pool_wake(c->pool);
        pthread_join(c->thread, NULL);
    }
    http_pool_free(c->pool);
    credentials_close(c->credentials);
    learnt_close(c->learnt);
    if (c->ended_fd >= 0)
        close(c->ended_fd);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
    explicit_bzero(&c->kept, sizeof c->kept);
    arena_free(c->arena);
}

const S3Spec *
client_spec(const Client *c)
{
    return &c->spec;
}

Credentials *
client_credentials(Client *c)
{
    return c->credentials;
}

Site
client_site(Client *c)
{
    return learnt_site(c->learnt);
}

int64_t
client_now_wall_s(Client *c)
{
    return time_wall_us() / 1000000 + learnt_clock_off_s(c->learnt);
}

/* --- its calls --- */

void
client_begin(Client *c, ClientCall *call, const S3Request *r, S3Answer *answer)
{
    *answer = (S3Answer){0};
    *call = (ClientCall){
        .request = r,
        .answer = answer,
        .stands = CALL_NEW,
        .started_ms = time_now_ms(),
        .url = buf_new(URL_BYTES),
        .headers = buf_new(HEADERS_BYTES),
    };
    if (!start_thread(c, &call->why)) {
        call->stands = CALL_ENDED;
        return;
    }
    pthread_mutex_lock(&c->lock);
    call->next = c->call;
    c->call = call;
    pthread_mutex_unlock(&c->lock);
    http_pool_wake(c->pool);
}

bool
client_has_ended(Client *c, const ClientCall *call)
{
    bool ended;

    pthread_mutex_lock(&c->lock);
    ended = call->stands == CALL_ENDED || call->stands == CALL_NONE;
    pthread_mutex_unlock(&c->lock);
    return ended;
}

bool
client_wait(Client *c, Watch *watch, Err *e)
{
    struct pollfd wait[2] = {
        {.fd = c->ended_fd, .events = POLLIN},
        {.fd = watch ? watch->end_fd : -1, .events = POLLIN},
    };

    for (;;) {
        uint64_t count;

        if (poll(wait, 2, LOOK_MS) < 0 && errno != EINTR)
            return fail(e, INTERNAL, "waiting for the storage: %m");
        if (watch && watch->asked_to_end(watch))
            return fail(e, CANCELLED, "told to end");
        if (wait[1].revents)
            wait[1].fd = -1; /* it was no order to end: look now and then instead */
        if (read(c->ended_fd, &count, sizeof count) == sizeof count)
            return true;
    }
}

bool
client_pause(Client *c, int64_t wait_ms, Watch *watch, Err *e)
{
    int64_t until_ms = time_now_ms() + wait_ms;
    struct pollfd end = {.fd = watch ? watch->end_fd : -1, .events = POLLIN};

    (void)c;
    for (int64_t left_ms; (left_ms = until_ms - time_now_ms()) > 0;) {
        (void)poll(&end, 1, (int)(left_ms < LOOK_MS ? left_ms : LOOK_MS));
        if (watch && watch->asked_to_end(watch))
            return fail(e, CANCELLED, "told to end");
        if (end.revents)
            end.fd = -1;
    }
    return true;
}

void
client_cancel(Client *c, ClientCall *call)
{
    if (call->stands == CALL_NONE)
        return;
    pthread_mutex_lock(&c->lock);
    if (call->stands != CALL_ENDED) {
        call->is_cancelled = true;
        http_pool_wake(c->pool);
        while (call->stands != CALL_ENDED)
            pthread_cond_wait(&c->changed, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    client_answer_free(call->answer);
    call->stands = CALL_NONE;
}

bool
client_call(Client *c, const S3Request *r, S3Answer *answer, Watch *watch, Err *e)
{
    S3Request bounded = *r;
    ClientCall call;

    if (!watch && bounded.total_ms == 0)
        bounded.total_ms = UNWATCHED_MS;
    client_begin(c, &call, &bounded, answer);
    while (!client_has_ended(c, &call))
        if (!client_wait(c, watch, e)) {
            client_cancel(c, &call);
            return false;
        }
    if (!call.ok)
        *e = call.why;
    return call.ok;
}

void
client_answer_free(S3Answer *answer)
{
    http_answer_free(&answer->http);
}
