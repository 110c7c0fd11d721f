/*
 * Signs what others sign as well: reads requests from standard input, a JSON object a line, and
 * writes for each the headers or the link that we would send, a JSON value a line.
 *
 * {"endpoint", "bucket", "region", "key", "query": [[name, value], …], "headers": [[…], …],
 *  "method", "payload", "access_key", "secret_key", "token", "now_wall_s", "expires_s"}; a link is
 * wanted if "expires_s" is over 0.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "storage/s3/s3_in.h"

static _Noreturn void
give_up(const char *what)
{
    fprintf(stderr, "sign_requests: %s\n", what);
    exit(1);
}

static const char *
text_of(json_t *request, const char *name)
{
    const char *text = json_string_value(json_object_get(request, name));

    if (!text)
        give_up(name);
    return text;
}

static size_t
pairs_of(json_t *request, const char *name, S3Pair pairs[S3_PAIRS_MAX])
{
    json_t *list = json_object_get(request, name), *pair;
    size_t i;

    if (json_array_size(list) > S3_PAIRS_MAX)
        give_up(name);
    json_array_foreach(list, i, pair) pairs[i] = (S3Pair){
        json_string_value(json_array_get(pair, 0)), json_string_value(json_array_get(pair, 1))};
    return json_array_size(list);
}

/* What we send: the link, or an object of headers. */
static json_t *
sign(json_t *request, SigningKey *kept)
{
    const S3Spec spec = {.bucket = text_of(request, "bucket"),
        .endpoint = text_of(request, "endpoint"),
        .public_endpoint = "",
        .style = "auto"};
    int64_t expires_s = json_integer_value(json_object_get(request, "expires_s"));
    S3Pair query[S3_PAIRS_MAX], header[S3_PAIRS_MAX];
    Buf path = buf_new(1 << 20), to = buf_new(1 << 20);
    SignRequest r = {.method = text_of(request, "method"),
        .query = query,
        .header = header,
        .payload = text_of(request, "payload"),
        .region = text_of(request, "region"),
        .service = "s3",
        .now_wall_s = json_integer_value(json_object_get(request, "now_wall_s"))};
    json_t *answer = NULL;
    char said[1024];
    S3Keys keys = {0};
    Err e = {0};
    Site site;

    if (!site_make(&spec, r.region, false, &site, &e))
        give_up(err_chain(&e, said, sizeof said));
    site_path(&site, text_of(request, "key"), &path);
    r.host = site.host;
    r.path = path.data;
    r.queries = pairs_of(request, "query", query);
    r.headers = pairs_of(request, "headers", header);
    snprintf(keys.access_key, sizeof keys.access_key, "%s", text_of(request, "access_key"));
    snprintf(keys.secret_key, sizeof keys.secret_key, "%s", text_of(request, "secret_key"));
    snprintf(keys.token, sizeof keys.token, "%s", text_of(request, "token"));
    if (expires_s > 0 ? !sign_link(&r, &keys, expires_s, kept, &to, &e)
                      : !sign_request(&r, &keys, kept, &to, &e))
        give_up(err_chain(&e, said, sizeof said));
    if (expires_s > 0) {
        answer = json_sprintf("%s://%s%s", site.is_secure ? "https" : "http", site.host, to.data);
    } else {
        answer = json_object();
        for (const char *at = to.data; at < to.data + to.bytes; at += strlen(at) + 1) {
            const char *colon = strstr(at, ": ");

            json_object_setn_new(answer, at, (size_t)(colon - at), json_string(colon + 2));
        }
    }
    buf_free(&path);
    buf_free(&to);
    return answer;
}

int
main(void)
{
    char *line = NULL;
    size_t room = 0;
    SigningKey kept = {0};

    while (getline(&line, &room, stdin) > 0) {
        json_t *request = json_loads(line, 0, NULL), *answer;

        if (!request)
            give_up("a line that is no JSON");
        answer = sign(request, &kept);
        if (json_dumpf(answer, stdout, JSON_ENCODE_ANY | JSON_COMPACT) != 0)
            give_up("cannot write");
        putchar('\n');
        json_decref(answer);
        json_decref(request);
    }
    free(line);
    return fflush(stdout) == 0 ? 0 : 1;
}
