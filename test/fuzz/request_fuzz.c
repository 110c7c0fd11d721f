/*
 * Any bytes become requests or a refusal, the same however they are cut. What is let through has
 * nothing that could be read in two ways: one Host, one length, no folding, a path without
 * controls.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/parser_in.h"
#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What became of one request, to be compared. */
typedef struct {
    ParserState end;
    size_t taken;
    Buf seen;
} Outcome;

#define insist(yes)                                                                                \
    do {                                                                                           \
        if (!(yes))                                                                                \
            abort();                                                                               \
    } while (0)

static void
see(Buf *to, const char *text)
{
    buf_text(to, text ? text : "(none)");
    buf_char(to, '\n');
}

static void
check_head(const Parsed *parsed)
{
    size_t hosts = 0, lengths = 0, codings = 0;

    insist(parsed->target[0] == '/' && parsed->path[0] == '/' && parsed->headers > 0);
    insist(parsed->headers <= PARSER_HEADERS_MAX);
    insist(strlen(parsed->target) <= PARSER_LINE_BYTES_MAX);
    insist(text_is_utf8(parsed->path, strlen(parsed->path)));
    insist(!text_has_control(parsed->path, strlen(parsed->path), false));
    insist(!strpbrk(parsed->target, "# \r\n") && !strpbrk(parsed->host, "/@\\ \"<>"));
    for (size_t i = 0; i < parsed->headers; i++) {
        const char *name = parsed->header[i].name, *value = parsed->header[i].value;

        insist(*name && !strpbrk(name, " \t\r\n:ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
        insist(!strpbrk(value, "\r\n") && *value != ' ' && *value != '\t');
        hosts += strcmp(name, "host") == 0;
        lengths += strcmp(name, "content-length") == 0;
        codings += strcmp(name, "transfer-encoding") == 0;
        insist(strcmp(name, "content-encoding") != 0);
        insist(strcmp(name, "transfer-encoding") != 0 ||
               (text_same_case_blind(value, "chunked") && !parsed->is_http_1_0));
    }
    insist(hosts == 1 && lengths + codings <= 1);
}

/* One request from the front of `bytes`, `piece` at a time (0: all at once). */
static Outcome
parse(Parser *p, const char *bytes, size_t count, size_t piece)
{
    Outcome outcome = {.seen = buf_new(1 << 20)};
    const Parsed *parsed = parser_parsed(p);
    bool had_head = false;
    Err e = {0};

    parser_begin(p);
    do {
        size_t left = count - outcome.taken, taken, give = piece && piece < left ? piece : left;

        outcome.end = parser_take(p, bytes + outcome.taken, give, &taken, &e);
        insist(taken <= give && (outcome.end != PARSER_MORE || taken == give));
        outcome.taken += taken;
        if (outcome.end == PARSER_HEAD) {
            insist(!had_head);
            had_head = true;
            check_head(parsed);
            see(&outcome.seen, parsed->method);
            see(&outcome.seen, parsed->target);
            see(&outcome.seen, parsed->path);
            see(&outcome.seen, parsed->query);
            for (size_t i = 0; i < parsed->headers; i++) {
                see(&outcome.seen, parsed->header[i].name);
                see(&outcome.seen, parsed->header[i].value);
            }
        }
    } while (outcome.end == PARSER_HEAD || (outcome.end == PARSER_MORE && outcome.taken < count));
    insist((outcome.end == PARSER_REFUSED) == (e.code != ERR_NONE));
    if (outcome.end == PARSER_REFUSED) {
        int status = err_http_status(e.code);

        insist(status == 400 || status == 413 || status == 414 || status == 415 || status == 417 ||
               status == 431);
    }
    if (outcome.end == PARSER_WHOLE) {
        insist(had_head && parsed->body_bytes <= PARSER_BODY_BYTES_MAX);
        buf_put(&outcome.seen, parsed->body, parsed->body_bytes);
    }
    return outcome;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static Arena *arena;
    static Parser *p;
    Err e = {0};
    size_t piece, at = 0;

    if (!p && (!(arena = arena_new(1 << 20)) || !(p = parser_new(arena, &e))))
        abort();
    if (bytes == 0)
        return 0;
    piece = 1 + data[0] % 16;
    data++;
    bytes--;
    for (unsigned requests = 0; at < bytes && requests < 8; requests++) {
        const char *from = (const char *)data + at;
        Outcome whole = parse(p, from, bytes - at, 0);
        Outcome cut = parse(p, from, bytes - at, piece);

        insist(whole.end == cut.end);
        if (whole.end != PARSER_REFUSED) {
            insist(whole.taken == cut.taken && whole.seen.bytes == cut.seen.bytes);
            insist(memcmp(whole.seen.data, cut.seen.data, whole.seen.bytes) == 0);
        }
        at += whole.taken;
        buf_free(&whole.seen);
        buf_free(&cut.seen);
        if (whole.end != PARSER_WHOLE)
            break;
    }
    return 0;
}
