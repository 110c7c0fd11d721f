#include "net/http.h"

#include <curl/curl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/text.h"
#include "net/url.h"

enum {
    HEADERS_BYTES_MAX = 64 << 10,
    BODY_BYTES_MAX = 8 << 20, /* when the caller names no limit */
    TIMEOUT_MS = 30000,       /* the same of time */
    CLIENT_BYTES_MAX = 64 << 10,
    POOL_BYTES_MAX = 1 << 20,
    SEND_BYTES = 256 << 10, /* handed to the kernel at once */
    UNACKNOWLEDGED_MS = 30000,
    KEEP_ALIVE_S = 15,
    KEEP_ALIVE_EVERY_S = 5,
    CONNECTION_AGE_S = 20, /* servers close idle ones after some 30 s and more */
};

struct HttpClient {
    Arena *arena; /* holds this */
    CURL *curl;
    const char *user_agent;
};

/* One call on its way through libcurl's callbacks. */
typedef struct {
    CURL *curl;
    const HttpCall *call;
    HttpAnswer *answer;
    bool sink_refused, gave_up;
    bool head_is_whole; /* libcurl takes a head that the end of the connection cut for an answer */
} Exchange;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool library_is_ready;

static void
begin_library(void)
{
    library_is_ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

HttpClient *
http_client_new(const char *user_agent, Err *e)
{
    Arena *arena = arena_new(CLIENT_BYTES_MAX);
    HttpClient *client = arena ? arena_alloc(arena, sizeof *client, e) : NULL;

    pthread_once(&once, begin_library);
    if (!client || !(client->user_agent = arena_text(arena, user_agent, e)) || !library_is_ready ||
        !(client->curl = curl_easy_init())) {
        fail(e, MEMORY_LIMIT, "cannot begin an HTTP client");
        arena_free(arena);
        return NULL;
    }
    client->arena = arena;
    return client;
}

void
http_client_free(HttpClient *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->curl);
    arena_free(client->arena);
}

static size_t
take_header(char *data, size_t size, size_t count, void *with)
{
    Exchange *x = with;
    Buf *headers = &x->answer->headers;
    size_t bytes = size * count, line = bytes;

    /* A new status line: what came before belonged to a 1xx. */
    if (bytes >= 5 && memcmp(data, "HTTP/", 5) == 0)
        buf_clear(headers);
    x->head_is_whole = bytes > 0 && (data[0] == '\r' || data[0] == '\n');
    while (line > 0 && (data[line - 1] == '\n' || data[line - 1] == '\r'))
        line--;
    buf_put(headers, data, line);
    if (line > 0)
        buf_char(headers, '\n');
    return headers->failed ? 0 : bytes;
}

static size_t
take_body(char *data, size_t size, size_t count, void *with)
{
    Exchange *x = with;
    size_t bytes = size * count;
    long status = 0;

    (void)curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    x->answer->status = (int)status;
    if (x->call->sink && status >= 200 && status < 300) {
        x->sink_refused = !x->call->sink(data, bytes, x->call->with);
        return x->sink_refused ? 0 : bytes;
    }
    buf_put(&x->answer->body, data, bytes);
    return x->answer->body.failed ? 0 : bytes;
}

static int
ask_go_on(void *with, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    Exchange *x = with;

    (void)a, (void)b, (void)c, (void)d;
    x->gave_up = !x->call->go_on(x->call->with);
    return x->gave_up;
}

/* What this machine serves itself, or its host (metadata services are link-local), is not asked
 * for through a proxy. */
static bool
goes_direct(const char *text)
{
    Arena *arena = arena_new(4 * URL_BYTES_MAX);
    Err ignored = {0};
    Url url;
    bool yes = arena && url_parse(text, arena, &url, &ignored) &&
               (strcmp(url.host, "localhost") == 0 || strcmp(url.host, "::1") == 0 ||
                   text_starts(url.host, "127.") || text_starts(url.host, "169.254.") ||
                   text_starts(url.host, "fe80:") || text_starts(url.host, "fd00:ec2:"));

    arena_free(arena);
    return yes;
}

/* Ours first, so that the caller's may not be doubled: no Expect, no Content-Type nobody asked for.
 */
static bool
add_headers(const HttpCall *call, struct curl_slist **list)
{
    bool has_type = false;
    struct curl_slist *longer = curl_slist_append(NULL, "Expect:");

    *list = longer;
    for (size_t i = 0; longer && call->header && call->header[i]; i++) {
        has_type = has_type || strncasecmp(call->header[i], "Content-Type:", 13) == 0;
        if ((longer = curl_slist_append(*list, call->header[i])))
            *list = longer;
    }
    if (longer && !has_type && (longer = curl_slist_append(*list, "Content-Type:")))
        *list = longer;
    return longer != NULL;
}

static long
as_long(int64_t ms)
{
    return ms > INT_MAX ? INT_MAX : (long)ms;
}

/* Rounded up: libcurl counts idle time in seconds. */
static long
idle_s(int64_t ms)
{
    return as_long((ms + 999) / 1000);
}

static void
set_options(Exchange *x, struct curl_slist *headers, const char *user_agent, char *why)
{
    const HttpCall *call = x->call;
    const char *method = call->method ? call->method : "GET";
    int64_t timeout_ms = call->timeout_ms > 0 ? call->timeout_ms : TIMEOUT_MS;
    CURL *c = x->curl;

    curl_easy_setopt(c, CURLOPT_URL, call->url);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L); /* what "/../" means is the server's to say */
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_USERAGENT, user_agent);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, as_long(timeout_ms));
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS,
        as_long(call->connect_timeout_ms > 0 ? call->connect_timeout_ms : timeout_ms));
    if (call->idle_timeout_ms > 0) {
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, idle_s(call->idle_timeout_ms));
    }
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    if (call->go_on) {
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, ask_go_on);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, x);
    }
    if (call->ca_file)
        curl_easy_setopt(c, CURLOPT_CAINFO, call->ca_file);
    if (goes_direct(call->url))
        curl_easy_setopt(c, CURLOPT_PROXY, "");
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
        return;
    }
    if (call->body || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_bytes);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, call->body ? call->body : "");
    }
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
}

/* A deadline that passed before there was a connection says that nobody is there. */
static bool
was_connected(CURL *curl)
{
    curl_off_t us = 0;

    (void)curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &us);
    return us > 0;
}

/* What OpenSSL objects to has its number ("error:0A00010B:…"); a connection that is cut in the
 * middle of the handshake has none. */
static bool
fail_call(const Exchange *x, CURLcode code, const char *why, Err *e)
{
    const char *text = *why ? why : curl_easy_strerror(code);
    Buf shown = buf_new(2 * URL_BYTES_MAX);

    url_show(x->call->url, &shown);
    if (x->sink_refused)
        fail(e, CANCELLED, "the receiver of %s ended the call", shown.data);
    else if (x->gave_up)
        fail(e, INTERRUPTED, "the call of %s was given up", shown.data);
    else if (x->answer->body.failed || x->answer->headers.failed)
        fail(e, SIZE_LIMIT, "the answer of %s is larger than it may be", shown.data);
    else if (code == CURLE_URL_MALFORMAT ||
             (code == CURLE_UNSUPPORTED_PROTOCOL && !was_connected(x->curl)))
        fail(e, USAGE, "%s is not an http or https URL", shown.data);
    else if (code == CURLE_OUT_OF_MEMORY)
        fail(e, MEMORY_LIMIT, "no memory for a call");
    else if (code == CURLE_OPERATION_TIMEDOUT && was_connected(x->curl))
        fail(e, WAITED_TOO_LONG, "no whole answer from %s in time: %s", shown.data, text);
    else if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
             code == CURLE_SSL_ISSUER_ERROR ||
             (code == CURLE_SSL_CONNECT_ERROR && strstr(text, "error:")))
        fail(e, SERVER_UNTRUSTED, "%s: %s", shown.data, text);
    else
        fail(e, SERVER_UNREACHABLE, "%s: %s", shown.data, text);
    buf_free(&shown);
    return false;
}

/* Makes `answer` empty and sets everything of the call but the pool's own. */
static bool
prepare(Exchange *x, const char *user_agent, struct curl_slist **headers, char *why)
{
    const HttpCall *call = x->call;

    *x->answer = (HttpAnswer){
        .body = buf_new(call->answer_bytes_max ? call->answer_bytes_max : BODY_BYTES_MAX),
        .headers = buf_new(HEADERS_BYTES_MAX),
    };
    if (!add_headers(call, headers))
        return false;
    set_options(x, *headers, user_agent, why);
    return true;
}

/* What became of it. After a failure there is no answer. */
static bool
conclude(Exchange *x, CURLcode code, const char *why, Err *e)
{
    long status = 0;

    (void)curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    x->answer->status = (int)status;
    if (code == CURLE_OK && x->head_is_whole)
        return true;
    fail_call(x, code == CURLE_OK ? CURLE_RECV_ERROR : code,
        code == CURLE_OK ? "the connection ended in the head of the answer" : why, e);
    http_answer_free(x->answer);
    return false;
}

bool
http_call(HttpClient *client, const HttpCall *call, HttpAnswer *answer, Err *e)
{
    Exchange x = {.curl = client->curl, .call = call, .answer = answer};
    char why[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    bool ok;

    if (prepare(&x, client->user_agent, &headers, why))
        code = curl_easy_perform(client->curl);
    ok = conclude(&x, code, why, e);
    /* Forgets this call's pointers; connections stay. */
    curl_easy_reset(client->curl);
    curl_slist_free_all(headers);
    return ok;
}

bool
http_header(const HttpAnswer *answer, const char *name, char *to, size_t to_bytes)
{
    size_t name_bytes = strlen(name);

    for (const char *line = answer->headers.data; line && *line;) {
        size_t bytes = strcspn(line, "\n");

        if (bytes > name_bytes && line[name_bytes] == ':' &&
            strncasecmp(line, name, name_bytes) == 0) {
            const char *value = line + name_bytes + 1, *end = line + bytes;

            while (value < end && (*value == ' ' || *value == '\t'))
                value++;
            while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
                end--;
            if ((size_t)(end - value) >= to_bytes)
                return false;
            memcpy(to, value, (size_t)(end - value));
            to[end - value] = '\0';
            return true;
        }
        line += bytes + (line[bytes] == '\n');
    }
    return false;
}

void
http_answer_free(HttpAnswer *answer)
{
    buf_free(&answer->body);
    buf_free(&answer->headers);
}

/* --- many calls at once --- */

struct HttpJob {
    Exchange exchange; /* its handle is kept for the next call */
    struct curl_slist *headers;
    char why[CURL_ERROR_SIZE];
    void *owner;
    HttpJob *next; /* of those without a call */
};

struct HttpPool {
    Arena *arena; /* holds this and the jobs, which are used again and again */
    CURLM *multi;
    HttpJob *free;
    const char *user_agent, *ca_file;
};

HttpPool *
http_pool_new(const HttpPoolSpec *spec, Err *e)
{
    Arena *arena = arena_new(POOL_BYTES_MAX);
    HttpPool *pool = arena ? arena_alloc(arena, sizeof *pool, e) : NULL;

    pthread_once(&once, begin_library);
    if (!pool || !(pool->user_agent = arena_text(arena, spec->user_agent, e)) ||
        (spec->ca_file && !(pool->ca_file = arena_text(arena, spec->ca_file, e))) ||
        !library_is_ready || !(pool->multi = curl_multi_init())) {
        fail(e, MEMORY_LIMIT, "cannot begin an HTTP client");
        arena_free(arena);
        return NULL;
    }
    pool->arena = arena;
    curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, (long)spec->connections);
    return pool;
}

/* Takes a call off its handle, which is ready for the next one. */
static void
retire(HttpPool *pool, HttpJob *job)
{
    curl_multi_remove_handle(pool->multi, job->exchange.curl);
    curl_easy_reset(job->exchange.curl);
    curl_slist_free_all(job->headers);
    job->headers = NULL;
    job->owner = NULL;
    job->next = pool->free;
    pool->free = job;
}

void
http_pool_free(HttpPool *pool)
{
    if (!pool)
        return;
    for (HttpJob *job = pool->free; job; job = job->next)
        curl_easy_cleanup(job->exchange.curl);
    curl_multi_cleanup(pool->multi);
    arena_free(pool->arena);
}

/* A peer that is gone without a word is noticed (tcp(7)). */
static int
set_socket(void *with, curl_socket_t fd, curlsocktype purpose)
{
    unsigned ms = UNACKNOWLEDGED_MS;

    (void)with;
    (void)purpose;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
    return CURL_SOCKOPT_OK;
}

static void
set_pool_options(const HttpPool *pool, CURL *c)
{
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (pool->ca_file)
        curl_easy_setopt(c, CURLOPT_CAINFO, pool->ca_file);
    curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BYTES);
    curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, (long)CONNECTION_AGE_S);
    curl_easy_setopt(c, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPIDLE, (long)KEEP_ALIVE_S);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPINTVL, (long)KEEP_ALIVE_EVERY_S);
    curl_easy_setopt(c, CURLOPT_SOCKOPTFUNCTION, set_socket);
}

static HttpJob *
take_job(HttpPool *pool, Err *e)
{
    HttpJob *job = pool->free;

    if (job) {
        pool->free = job->next;
        return job;
    }
    if (!(job = arena_alloc(pool->arena, sizeof *job, e)))
        return NULL;
    if (!(job->exchange.curl = curl_easy_init())) {
        fail(e, MEMORY_LIMIT, "no memory for a call");
        return NULL;
    }
    return job;
}

HttpJob *
http_pool_begin(HttpPool *pool, const HttpCall *call, HttpAnswer *answer, void *owner, Err *e)
{
    HttpJob *job = take_job(pool, e);
    CURL *curl;

    if (!job)
        return NULL;
    curl = job->exchange.curl;
    job->exchange = (Exchange){.curl = curl, .call = call, .answer = answer};
    job->owner = owner;
    job->why[0] = '\0';
    if (!prepare(&job->exchange, pool->user_agent, &job->headers, job->why)) {
        fail(e, MEMORY_LIMIT, "no memory for a call");
    } else {
        set_pool_options(pool, curl);
        curl_easy_setopt(curl, CURLOPT_PRIVATE, job);
        if (curl_multi_add_handle(pool->multi, curl) == CURLM_OK)
            return job;
        fail(e, INTERNAL, "libcurl takes no further call");
    }
    http_answer_free(answer);
    retire(pool, job);
    return NULL;
}

void
http_pool_cancel(HttpPool *pool, HttpJob *job)
{
    HttpAnswer *answer = job->exchange.answer;

    retire(pool, job);
    http_answer_free(answer);
}

bool
http_pool_turn(HttpPool *pool, int wait_ms, Err *e)
{
    int running;

    /* In this order: what ends while bytes move is told before the next wait. A call that was just
     * begun makes the wait end at once. */
    if (curl_multi_poll(pool->multi, NULL, 0, wait_ms, NULL) == CURLM_OK &&
        curl_multi_perform(pool->multi, &running) == CURLM_OK)
        return true;
    return fail(e, INTERNAL, "libcurl does not move its calls");
}

void *
http_pool_ended(HttpPool *pool, bool *ok, Err *why)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(pool->multi, &left))) {
        CURLcode code = message->data.result;
        char *at = NULL;
        HttpJob *job;
        void *owner;

        if (message->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &at);
        job = (HttpJob *)(void *)at;
        owner = job->owner;
        *ok = conclude(&job->exchange, code, job->why, why);
        retire(pool, job);
        return owner;
    }
    return NULL;
}

void
http_pool_wake(HttpPool *pool)
{
    (void)curl_multi_wakeup(pool->multi);
}

const char *
http_library_version(void)
{
    return curl_version_info(CURLVERSION_NOW)->version;
}
