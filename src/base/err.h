/*
 * Err: what went wrong, and where, from the root cause outwards.
 *
 * A function that can fail takes `Err *e` last, returns bool (or a pointer, NULL on failure) and is
 * MUST_CHECK. It either succeeds or fills `e`; it does not also log. Nothing here allocates. An Err
 * belongs to one thread; start it with `Err e = {0};`.
 *
 * Two readers: the operator gets the chain (err_chain), once, in the log; the user gets the code
 * and its sentence (err_name, err_sentence), nothing else. Secrets go into neither.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(text_at, values_at) __attribute__((format(printf, text_at, values_at)))

typedef enum {
    ERR_NONE,
#define ERR(code, http, retry, exit, sentence) ERR_##code,
#include "base/err.def"
#undef ERR
    ERR_CODES
} ErrCode;

typedef enum { ERR_RETRY_NEVER, ERR_RETRY_ONCE, ERR_RETRY_ALWAYS } ErrRetry;

enum { ERR_TEXT_BYTES = 400, ERR_LINKS_MAX = 8 };

typedef struct {
    const char *where; /* "net/http.c:88" */
    char text[ERR_TEXT_BYTES];
} ErrLink;

typedef struct {
    ErrCode code;   /* of the root cause; wrapping never changes it */
    unsigned links; /* link[0] is the root cause, the last one the outermost view */
    ErrLink link[ERR_LINKS_MAX];
} Err;

#define ERR_STRING_OF(x) #x
#define ERR_STRING(x) ERR_STRING_OF(x)
#define ERR_HERE __FILE__ ":" ERR_STRING(__LINE__)

/* `return fail(e, SOURCE_TIMEOUT, "no answer from %s in %d ms", host, wait_ms);` Always false. */
#define fail(e, code, ...) err_push((e), ERR_##code, ERR_HERE, __VA_ARGS__)

/* The same with a code known only at run time. */
#define fail_code(e, code, ...) err_push((e), (code), ERR_HERE, __VA_ARGS__)

/* `return wrap(e, "uploading part %u", part_number);` keeps the code of the cause. Always false. */
#define wrap(e, ...) err_push((e), ERR_NONE, ERR_HERE, __VA_ARGS__)

bool err_push(Err *e, ErrCode code, const char *where, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Forget what happened, so that `e` can be used again. */
void err_clear(Err *e);

/* "source-timeout"; "none" for ERR_NONE. Static. */
const char *err_name(ErrCode code);

/* The code with this name; ERR_NONE if there is none. */
ErrCode err_code_of(const char *name);

/* For people, fixed for the code. Static. */
const char *err_sentence(ErrCode code);

int err_http_status(ErrCode code); /* 0: never an answer itself */
int err_exit_status(ErrCode code);
ErrRetry err_retry(ErrCode code);

/*
 * The chain for the log, outermost first, one line:
 *   uploading part 3: no answer in 5000 ms (storage-unavailable, storage/s3/s3.c:88)
 * Control characters are replaced. Always ends with NUL; returns `text`.
 */
const char *err_chain(const Err *e, char *text, size_t text_bytes);

/* The root cause's text alone, for a person at a terminal (CLI, doctor). "" when there is none. */
const char *err_root(const Err *e);

#endif
