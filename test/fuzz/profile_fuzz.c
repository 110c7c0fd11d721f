/* Any text is a file of profiles or CONFIG_INVALID, and a command or CONFIG_INVALID; what is wrong
 * is said without a byte of it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "storage/s3/credentials_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { WORDS_MAX = 64 };

/* A text that stands in no sentence of ours. */
static const char secret[] = "7SECRET7";

static void
check_failure(bool ok, const Err *e)
{
    char said[2048];

    if (ok)
        return;
    if (e->code != ERR_CONFIG_INVALID || strstr(err_chain(e, said, sizeof said), secret))
        abort();
}

static void
check_text(const char *field, size_t room)
{
    if (!memchr(field, '\0', room))
        abort();
}

static void
try_file(const ProfileText *text, SectionForm form, Profile *p)
{
    Err e = {0};
    bool ok;

    memset(p, 0, sizeof *p);
    ok = profile_parse(text, form, "default", p, &e);
    check_failure(ok, &e);
    check_text(p->access_key, sizeof p->access_key);
    check_text(p->token, sizeof p->token);
    check_text(p->region, sizeof p->region);
    check_text(p->command, sizeof p->command);
    if (!p->is_there && (*p->access_key || *p->region || *p->command || p->has_sso))
        abort();
    if (*p->region == ' ' || (*p->region && p->region[strlen(p->region) - 1] == ' '))
        abort();
}

static void
try_command(const char *command)
{
    const char *word[WORDS_MAX];
    char room[COMMAND_BYTES];
    size_t words = 0, bytes = 0;
    Err e = {0};
    bool ok = provider_split(command, room, word, WORDS_MAX, &e);

    check_failure(ok, &e);
    if (!ok)
        return;
    for (; word[words]; words++)
        bytes += strlen(word[words]) + 1;
    if (words == 0 || words >= WORDS_MAX || bytes > strlen(command) + 1)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    ProfileText text = {.bytes = (const char *)data, .count = bytes, .name = "credentials"};
    char command[COMMAND_BYTES];
    Err e = {0};
    Profile *p = secret_new(sizeof *p, &e);

    if (!p)
        abort();
    try_file(&text, SECTIONS_BARE, p);
    try_file(&text, SECTIONS_PROFILE, p);
    if (bytes < sizeof command) {
        memcpy(command, data, bytes);
        command[bytes] = '\0';
        try_command(command);
    }
    secret_free(p, sizeof *p);
    return 0;
}
