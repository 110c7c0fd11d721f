/*
 * Whose keys, and when new ones are asked for.
 *
 * What has an end is asked for anew on a thread of its own while the old keys are still good, so
 * that nobody waits. That begins when AWS's own clients do, 15 minutes before the end, and is worth
 * a warning in the last 10; of keys with a short life in their last third and fifth: else a session
 * of 15 minutes would be renewed with every request.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "base/time.h"
#include "storage/s3/credentials_in.h"

enum {
    RENEW_S = 15 * 60,
    WORRY_S = 10 * 60,
    JITTER_S = 60,
    STALE_MIN_S = 5 * 60, /* keys that came with an end in the past are used so long */
    STALE_MAX_S = 10 * 60,
    APART_MS = 1000,              /* between two questions, whatever happens */
    APART_NONE_MAX_MS = 5 * 1000, /* while there are no good ones */
    TRIES_LEFT = 30,              /* to their end, of keys that could not be renewed */
    KEEP_MS = 60 * 1000,          /* the wall clock is looked at so often: it may jump */
    STACK_BYTES = 512 << 10,
};

/* All in secret memory, the texts of its spec behind it. */
struct Credentials {
    Credentials *next; /* next, users: under the lock of all */
    unsigned users;
    size_t bytes; /* of this */
    S3Spec spec;  /* a copy of what is about credentials */
    char source[SOURCE_NAME_BYTES], region[S3_REGION_BYTES], endpoint[ENDPOINT_BYTES];
    bool is_fixed; /* there is nobody to ask */
    atomic_bool ends;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t news;
    pthread_t thread;
    bool has_thread, is_asking;
    bool is_kept;                           /* the thread stays, and asks when it is time */
    unsigned failures;                      /* since the last good one */
    Err error;                              /* of the last one, if it was bad */
    int64_t asked_ms, answered_ms, next_ms; /* monotonic: the last question, the last answer, good
                                               or bad; no question before the third */
    S3Keys keys;
    bool has_keys, is_refused;          /* the store says that they have ended */
    int64_t renew_wall_s, worry_wall_s; /* 0: never */
};

/* What of a spec is about credentials: who says the same has the same. */
static const size_t spec_texts[] = {
    offsetof(S3Spec, region),
    offsetof(S3Spec, endpoint),
    offsetof(S3Spec, access_key),
    offsetof(S3Spec, secret_key),
    offsetof(S3Spec, session_token),
    offsetof(S3Spec, access_key_name),
    offsetof(S3Spec, profile),
    offsetof(S3Spec, config_file),
    offsetof(S3Spec, credentials_file),
    offsetof(S3Spec, role_arn),
    offsetof(S3Spec, role_session_name),
    offsetof(S3Spec, web_identity_token_file),
    offsetof(S3Spec, sts_endpoint),
    offsetof(S3Spec, container_relative_uri),
    offsetof(S3Spec, container_full_uri),
    offsetof(S3Spec, container_token),
    offsetof(S3Spec, container_token_file),
    offsetof(S3Spec, metadata_endpoint),
    offsetof(S3Spec, metadata_mode),
    offsetof(S3Spec, ca_file),
};

enum { SPEC_TEXTS = sizeof spec_texts / sizeof spec_texts[0] };

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static Credentials *all;

static const char *
spec_text(const S3Spec *spec, size_t i)
{
    const char *text;

    memcpy(&text, (const char *)spec + spec_texts[i], sizeof text);
    return text;
}

static bool
is_same(const S3Spec *a, const S3Spec *b)
{
    for (size_t i = 0; i < SPEC_TEXTS; i++)
        if (strcmp(spec_text(a, i), spec_text(b, i)) != 0)
            return false;
    return a->anonymous == b->anonymous && a->metadata_disabled == b->metadata_disabled &&
           a->fips == b->fips;
}

/* --- the order of sources (s3.md 12.1) --- */

static bool
is_sound(const char *text, size_t bytes_min)
{
    size_t bytes = 0;

    while (text[bytes] > ' ' && text[bytes] < 0x7f)
        bytes++;
    return bytes >= bytes_min && text[bytes] == '\0';
}

bool
keys_are_sound(const S3Keys *keys)
{
    return is_sound(keys->access_key, 1) && is_sound(keys->secret_key, 1) &&
           is_sound(keys->token, 0);
}

/* SOURCE_NONE: the settings have no keys. */
static bool
plan_keys(const S3Spec *spec, Plan *plan, Err *e)
{
    S3Keys *keys = &plan->keys;

    if (!*spec->access_key && !*spec->secret_key)
        return true;
    if (!*spec->access_key || !*spec->secret_key)
        return fail(e, CONFIG_INVALID,
            "an access key and its secret key go together: the %s is "
            "missing",
            *spec->access_key ? "secret key" : "access key");
    plan->kind = SOURCE_KEYS;
    if (!text_copy(keys->access_key, sizeof keys->access_key, spec->access_key) ||
        !text_copy(keys->secret_key, sizeof keys->secret_key, spec->secret_key) ||
        !text_copy(keys->token, sizeof keys->token, spec->session_token) || !keys_are_sound(keys))
        return fail(e, CONFIG_INVALID,
            "what %s, its secret key or its session token hold cannot be keys: too long, a blank, "
            "or not ASCII",
            spec->access_key_name);
    return text_copy(plan->name, sizeof plan->name, spec->access_key_name);
}

static bool
plan_web_identity(const S3Spec *spec, Plan *plan, Err *e)
{
    if (!*spec->web_identity_token_file && !*spec->role_arn)
        return true;
    if (!*spec->web_identity_token_file || !*spec->role_arn)
        return fail(e, CONFIG_INVALID,
            "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN go together: %s is missing",
            *spec->role_arn ? "AWS_WEB_IDENTITY_TOKEN_FILE" : "AWS_ROLE_ARN");
    plan->kind = SOURCE_WEB_IDENTITY;
    if (!text_copy(plan->token_file, sizeof plan->token_file, spec->web_identity_token_file) ||
        !text_copy(plan->web.arn, sizeof plan->web.arn, spec->role_arn) ||
        !text_copy(plan->web.session, sizeof plan->web.session, spec->role_session_name))
        return fail(e, CONFIG_INVALID,
            "AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN or AWS_ROLE_SESSION_NAME is too long");
    return text_copy(plan->name, sizeof plan->name, "web identity");
}

static bool
plan_container(const S3Spec *spec, Plan *plan, Err *e)
{
    if (!*spec->container_relative_uri && !*spec->container_full_uri)
        return true;
    plan->kind = SOURCE_CONTAINER;
    return text_copy(plan->name, sizeof plan->name, "container") &&
           provider_check_container(spec, e);
}

/* A store of somebody else's has no business with the instance's role, unless it is asked for. */
static bool
plan_instance(const S3Spec *spec, Plan *plan, Err *e)
{
    bool is_aws = !*spec->endpoint && !*plan->endpoint;

    if (spec->metadata_disabled || (!is_aws && !*spec->metadata_endpoint))
        return true;
    plan->kind = SOURCE_INSTANCE;
    return text_copy(plan->name, sizeof plan->name, "instance metadata") &&
           provider_check_instance(spec, e);
}

/* The first that is configured, and no other after it: another one may be another account. */
bool
credentials_plan(const S3Spec *spec, Plan *plan, Err *e)
{
    static bool (*const order[])(const S3Spec *, Plan *, Err *) = {
        plan_keys, plan_web_identity, profile_plan, plan_container, plan_instance};
    bool has_profile = false; /* it has been read */

    if (spec->anonymous) {
        plan->kind = SOURCE_ANONYMOUS;
        return text_copy(plan->name, sizeof plan->name, "anonymous");
    }
    for (size_t i = 0; plan->kind == SOURCE_NONE && i < sizeof order / sizeof order[0]; i++) {
        if (!order[i](spec, plan, e))
            return false;
        has_profile |= order[i] == profile_plan;
    }
    if (plan->kind == SOURCE_NONE)
        return fail(e, CONFIG_INVALID,
            "no credentials for the storage: set S3_ACCESS_KEY and S3_SECRET_KEY, or AWS_PROFILE");
    return (*spec->region && *spec->endpoint) || has_profile || profile_place(spec, plan, e);
}

/* --- keys come and go --- */

/* From `from` up to, not including, `to`. */
static int64_t
random_between(int64_t from, int64_t to)
{
    uint64_t number = 0;

    (void)!getrandom(&number, sizeof number, 0);
    return to > from ? from + (int64_t)(number % (uint64_t)(to - from)) : from;
}

static int64_t
at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t
wall_s(void)
{
    return time_wall_us() / 1000000;
}

/* When to ask again for what has just come. */
static void
set_times(Credentials *c)
{
    int64_t now = wall_s(), life = c->keys.ends_wall_s - now;

    c->renew_wall_s = c->worry_wall_s = 0;
    if (c->keys.ends_wall_s == 0)
        return;
    if (life <= 0) {
        /* The source itself is in trouble, or our clock is wrong: these are the best there are. */
        log_event(LOG_WARNING, "credentials.stale", log_text("source", c->source),
            log_number("ended_s_ago", -life));
        c->renew_wall_s = c->worry_wall_s = now + random_between(STALE_MIN_S, STALE_MAX_S);
        c->keys.ends_wall_s = c->renew_wall_s + STALE_MIN_S;
        return;
    }
    c->worry_wall_s = c->keys.ends_wall_s - at_most(WORRY_S, life / 5);
    c->renew_wall_s = c->keys.ends_wall_s - at_most(RENEW_S, life / 3) -
                      random_between(0, at_most(JITTER_S, life / 30) + 1);
}

static bool
are_good(const Credentials *c)
{
    return c->has_keys && !c->is_refused &&
           (c->keys.ends_wall_s == 0 || wall_s() < c->keys.ends_wall_s);
}

static bool
are_due(const Credentials *c)
{
    return !c->is_fixed && (!are_good(c) || (c->renew_wall_s && wall_s() >= c->renew_wall_s));
}

/* How long the source is left alone after an answer. The nearer the end, the more insistence. */
static int64_t
pause_ms(const Credentials *c)
{
    int64_t left_ms = (c->keys.ends_wall_s - wall_s()) * 1000;

    if (c->failures == 0)
        return APART_MS;
    if (are_good(c))
        return left_ms / TRIES_LEFT > APART_MS ? left_ms / TRIES_LEFT : APART_MS;
    return random_between(
        APART_MS, at_most(APART_NONE_MAX_MS, (int64_t)APART_MS << at_most(c->failures, 8)) + 1);
}

/* With the lock. */
static void
settle(Credentials *c, const S3Keys *keys, const Err *error)
{
    c->is_asking = false;
    c->answered_ms = time_now_ms();
    if (keys) {
        c->keys = *keys;
        c->has_keys = true;
        c->is_refused = false;
        c->failures = 0;
        set_times(c);
        log_event(LOG_DEBUG, "credentials.renewed", log_text("source", c->source),
            log_number("ends_s", c->keys.ends_wall_s));
    } else {
        c->error = *error;
        c->failures++;
        log_event(are_good(c) && wall_s() < c->worry_wall_s ? LOG_INFO : LOG_WARNING,
            "credentials.not_renewed", log_text("source", c->source), log_err(error));
    }
    c->next_ms = c->asked_ms + pause_ms(c);
    pthread_cond_broadcast(&c->news);
}

/* With the lock: it is as good as asked. */
static void
note_question(Credentials *c)
{
    c->is_asking = true;
    c->asked_ms = time_now_ms();
}

static bool
goes_on(void *with)
{
    return !atomic_load(&((Credentials *)with)->ends);
}

/* With the lock: until there is news, or this time (time_now_ms). */
static void
wait_for_news(Credentials *c, int64_t until_ms)
{
    int64_t wait_ms = until_ms - time_now_ms();
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    if (wait_ms > 0) {
        until.tv_sec += (time_t)(wait_ms / 1000);
        until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
    }
    (void)pthread_cond_timedwait(&c->news, &c->lock, &until);
}

/* With the lock. False: nobody wants to be kept in keys any more, or these have no end. */
static bool
waits_until_due(Credentials *c)
{
    while (c->is_kept && !c->is_asking && goes_on(c)) {
        int64_t now_ms = time_now_ms(), wait_ms = c->next_ms - now_ms;

        if (are_good(c) && c->renew_wall_s == 0)
            return c->is_kept = false;
        if (!are_due(c) && wait_ms < (c->renew_wall_s - wall_s()) * 1000)
            wait_ms = (c->renew_wall_s - wall_s()) * 1000;
        if (wait_ms > 0)
            wait_for_news(c, now_ms + at_most(wait_ms, KEEP_MS));
        else
            note_question(c);
    }
    return c->is_asking && goes_on(c);
}

/* The settings are looked at anew, because files may say something else by now. Comes back with the
 * lock. */
static void
ask_once(Credentials *c)
{
    Err e = {0};
    struct {
        Plan plan;
        S3Keys keys;
    } *memory = secret_new(sizeof *memory, &e);
    bool ok =
        memory && credentials_plan(&c->spec, &memory->plan, &e) &&
        provider_fetch(&(ProviderCall){&memory->plan, &c->spec, goes_on, c}, &memory->keys, &e);

    pthread_mutex_lock(&c->lock);
    settle(c, ok ? &memory->keys : NULL, &e);
    secret_free(memory, sizeof *memory);
}

static void *
ask(void *with)
{
    Credentials *c = with;
    bool again;

    do {
        ask_once(c);
        again = waits_until_due(c);
        pthread_mutex_unlock(&c->lock);
    } while (again);
    return NULL;
}

/* With the lock. Signals are the first thread's. */
static void
start_asking(Credentials *c)
{
    pthread_attr_t attributes;
    sigset_t every, before;
    int error;

    note_question(c);
    if (c->has_thread && c->is_kept) {
        pthread_cond_broadcast(&c->news);
        return;
    }
    /* The last one has said its word, and ends without another look at the lock. */
    if (c->has_thread)
        pthread_join(c->thread, NULL);
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    error = pthread_create(&c->thread, &attributes, ask, c);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    c->has_thread = error == 0;
    if (error) {
        Err e = {0};

        errno = error;
        fail(&e, STORAGE_UNAVAILABLE, "cannot start a thread that asks for credentials: %m");
        settle(c, NULL, &e);
    }
}

/* --- for those who need them --- */

static size_t
texts_bytes(const S3Spec *spec)
{
    size_t bytes = 0;

    for (size_t i = 0; i < SPEC_TEXTS; i++)
        bytes += strlen(spec_text(spec, i)) + 1;
    return bytes;
}

/* Only what is about credentials; the rest stays NULL. */
static void
copy_spec(S3Spec *to, const S3Spec *from, char *room)
{
    to->anonymous = from->anonymous;
    to->metadata_disabled = from->metadata_disabled;
    to->fips = from->fips;
    for (size_t i = 0; i < SPEC_TEXTS; i++) {
        const char *text = spec_text(from, i);
        size_t bytes = strlen(text) + 1;

        memcpy(room, text, bytes);
        memcpy((char *)to + spec_texts[i], &room, sizeof room);
        room += bytes;
    }
}

/* Decides on the source; keys that are at hand are taken at once. */
static bool
decide(Credentials *c, Err *e)
{
    Plan *plan = secret_new(sizeof *plan, e);
    bool ok = plan && credentials_plan(&c->spec, plan, e);

    if (ok) {
        (void)text_copy(c->source, sizeof c->source, plan->name);
        (void)text_copy(c->region, sizeof c->region, plan->region);
        (void)text_copy(c->endpoint, sizeof c->endpoint, plan->endpoint);
        c->is_fixed = c->spec.anonymous || *c->spec.access_key;
        if (c->is_fixed || (plan->kind == SOURCE_KEYS && plan->roles == 0)) {
            c->keys = plan->keys;
            c->has_keys = true;
        }
    }
    secret_free(plan, sizeof *plan);
    return ok;
}

static Credentials *
make(const S3Spec *spec, Err *e)
{
    size_t bytes = sizeof(Credentials) + texts_bytes(spec);
    Credentials *c = secret_new(bytes, e);
    pthread_condattr_t attributes;

    if (!c)
        return NULL;
    c->bytes = bytes;
    copy_spec(&c->spec, spec, (char *)(c + 1));
    if (!decide(c, e)) {
        secret_free(c, bytes);
        return NULL;
    }
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&c->news, &attributes);
    pthread_condattr_destroy(&attributes);
    return c;
}

Credentials *
credentials_open(const S3Spec *spec, Err *e)
{
    Credentials *c;

    pthread_mutex_lock(&all_lock);
    for (c = all; c && !is_same(&c->spec, spec); c = c->next)
        ;
    if (!c && (c = make(spec, e))) {
        c->next = all;
        all = c;
    }
    if (c)
        c->users++;
    pthread_mutex_unlock(&all_lock);
    return c;
}

void
credentials_close(Credentials *c)
{
    bool is_last;

    if (!c)
        return;
    pthread_mutex_lock(&all_lock);
    if ((is_last = --c->users == 0)) {
        Credentials **at = &all;

        while (*at != c)
            at = &(*at)->next;
        *at = c->next;
    }
    pthread_mutex_unlock(&all_lock);
    if (!is_last)
        return;
    pthread_mutex_lock(&c->lock);
    atomic_store(&c->ends, true);
    pthread_cond_broadcast(&c->news);
    pthread_mutex_unlock(&c->lock);
    if (c->has_thread)
        pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->news);
    pthread_mutex_destroy(&c->lock);
    secret_free(c, c->bytes);
}

/* With the lock. Who says no is believed; who cannot be reached is asked again while there is time.
 */
static KeysState
look(Credentials *c, int64_t since_ms, int64_t wait_ms, Err *e)
{
    int64_t now_ms = time_now_ms();
    bool is_over = now_ms - since_ms >= wait_ms, is_no;

    if (are_due(c) && !c->is_asking && now_ms >= c->next_ms)
        start_asking(c);
    if (are_good(c))
        return KEYS_HERE;
    is_no = c->answered_ms >= since_ms && c->error.code != ERR_STORAGE_UNAVAILABLE;
    if (c->failures > 0 && (is_over || is_no)) {
        *e = c->error;
        wrap(e, "asking %s for credentials", c->source);
        return KEYS_FAILED;
    }
    if (!is_over)
        return KEYS_AWAITED;
    fail(
        e, STORAGE_UNAVAILABLE, "no credentials from %s within %" PRId64 " ms", c->source, wait_ms);
    return KEYS_FAILED;
}

KeysState
credentials_look(Credentials *c, int64_t since_ms, int64_t wait_ms, S3Keys *keys, Err *e)
{
    KeysState state;

    pthread_mutex_lock(&c->lock);
    if ((state = look(c, since_ms, wait_ms, e)) == KEYS_HERE)
        *keys = c->keys;
    pthread_mutex_unlock(&c->lock);
    return state;
}

bool
credentials_get(Credentials *c, int64_t wait_ms, S3Keys *keys, Err *e)
{
    const int64_t since_ms = time_now_ms();
    KeysState state;

    pthread_mutex_lock(&c->lock);
    while ((state = look(c, since_ms, wait_ms, e)) == KEYS_AWAITED)
        wait_for_news(
            c, c->is_asking ? since_ms + wait_ms : at_most(since_ms + wait_ms, c->next_ms));
    if (state == KEYS_HERE)
        *keys = c->keys;
    pthread_mutex_unlock(&c->lock);
    return state == KEYS_HERE;
}

void
credentials_keep(Credentials *c)
{
    pthread_mutex_lock(&c->lock);
    if (!c->is_kept && !c->is_fixed && !(are_good(c) && c->renew_wall_s == 0)) {
        if (!c->is_asking)
            start_asking(c);
        c->is_kept = true;
    }
    pthread_mutex_unlock(&c->lock);
}

void
credentials_ended(Credentials *c, const char *access_key)
{
    pthread_mutex_lock(&c->lock);
    if (!c->is_fixed && c->has_keys && strcmp(c->keys.access_key, access_key) == 0) {
        c->is_refused = true;
        c->next_ms = c->asked_ms ? c->asked_ms + APART_MS : 0;
    }
    pthread_mutex_unlock(&c->lock);
}

const char *
credentials_source(const Credentials *c)
{
    return c->source;
}

S3Spec
credentials_complete(const Credentials *c, const S3Spec *spec)
{
    S3Spec whole = *spec;

    if (c && !*whole.endpoint)
        whole.endpoint = c->endpoint;
    if (c && !*whole.region)
        whole.region = c->region;
    if (!*whole.region)
        whole.region = "us-east-1";
    return whole;
}
