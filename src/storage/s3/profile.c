/*
 * The files that AWS's own tools share: ~/.aws/config and ~/.aws/credentials.
 *
 * INI with rules of its own: [default] and [profile name] in config, [name] in credentials; '#' and
 * ';' begin a comment at the start of a line or after a blank; an indented line goes on with the
 * value before it, or belongs to a nested table if that value is empty; sections that come again
 * are one. What a file says is secret: messages name the line and never quote it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/process.h"
#include "base/secret.h"
#include "base/text.h"
#include "storage/s3/credentials_in.h"

enum {
    FILE_BYTES_MAX = 1 << 20,
    DURATION_S_MIN = 900, /* what STS takes */
    DURATION_S_MAX = 43200,
};

#define DEFAULT "default"

/* clang-format off */
static const struct {
    const char *key;
    size_t at, bytes;
} fields[] = {
#define FIELD(key, member) {key, offsetof(Profile, member), sizeof((Profile *)NULL)->member}
    FIELD("aws_access_key_id",       access_key),
    FIELD("aws_secret_access_key",   secret_key),
    FIELD("aws_session_token",       token),
    FIELD("region",                  region),
    FIELD("endpoint_url",            endpoint),
    FIELD("role_arn",                role_arn),
    FIELD("role_session_name",       role_session_name),
    FIELD("external_id",             external_id),
    FIELD("duration_seconds",        duration_s),
    FIELD("source_profile",          source_profile),
    FIELD("credential_source",       credential_source),
    FIELD("web_identity_token_file", token_file),
    FIELD("credential_process",      command),
#undef FIELD
};
/* clang-format on */

enum { FIELDS = sizeof fields / sizeof fields[0], KEY_FIELDS = 3, NO_FIELD = FIELDS };

static char *
field_of(Profile *p, size_t i)
{
    return (char *)p + fields[i].at;
}

/* --- the text --- */

typedef struct {
    const ProfileText *text;
    SectionForm form;
    const char *name;
    Profile *profile;
    Err *e;
    unsigned line;
    bool in_section; /* any has begun */
    bool is_ours;    /* … which is about the profile */
    bool has_key;    /* a key of this section has come: what is indented belongs to it */
    bool has_value;  /* … and its value is not empty */
    size_t field;    /* where it goes; NO_FIELD: nowhere */
} Parser;

/* A part of a line. */
typedef struct {
    const char *at;
    size_t bytes;
} Span;

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static Span
trim(Span s)
{
    while (s.bytes > 0 && is_blank(s.at[0]))
        s.at++, s.bytes--;
    while (s.bytes > 0 && is_blank(s.at[s.bytes - 1]))
        s.bytes--;
    return s;
}

/* Up to a '#' or ';' that stands after a blank. */
static Span
cut_comment(Span s)
{
    for (size_t i = 0; i < s.bytes; i++)
        if ((s.at[i] == '#' || s.at[i] == ';') && i > 0 && is_blank(s.at[i - 1]))
            return (Span){s.at, i};
    return s;
}

static bool
is_comment(Span s)
{
    return s.bytes > 0 && (s.at[0] == '#' || s.at[0] == ';');
}

static bool
span_is(Span s, const char *text)
{
    return s.bytes == strlen(text) && memcmp(s.at, text, s.bytes) == 0;
}

static bool
fail_line(Parser *p, const char *why)
{
    return fail(p->e, CONFIG_INVALID, "%s:%u: %s", p->text->name, p->line, why);
}

/* [name], [profile name], [profile "name"]. */
static bool
begin_section(Parser *p, Span line)
{
    const char *end = memchr(line.at, ']', line.bytes);
    Span name, rest;

    if (!end)
        return fail_line(p, "a section without its ]");
    name = trim((Span){line.at + 1, (size_t)(end - line.at) - 1});
    rest = trim((Span){end + 1, line.bytes - (size_t)(end + 1 - line.at)});
    if (rest.bytes > 0 && !is_comment(rest))
        return fail_line(p, "more than a section");
    if (p->form == SECTIONS_PROFILE) {
        size_t word = strlen("profile");

        if (name.bytes > word && memcmp(name.at, "profile", word) == 0 && is_blank(name.at[word]))
            name = trim((Span){name.at + word, name.bytes - word});
        else
            name.bytes = 0;
        if (name.bytes >= 2 && (name.at[0] == '"' || name.at[0] == '\'') &&
            name.at[name.bytes - 1] == name.at[0])
            name = (Span){name.at + 1, name.bytes - 2};
    }
    p->in_section = true;
    p->is_ours = span_is(name, p->name);
    p->has_key = false;
    p->profile->is_there |= p->is_ours;
    return true;
}

static size_t
find_field(Span key)
{
    for (size_t i = 0; i < FIELDS; i++)
        if (key.bytes == strlen(fields[i].key) &&
            strncasecmp(key.at, fields[i].key, key.bytes) == 0)
            return i;
    return NO_FIELD;
}

static bool
append(Parser *p, Span value)
{
    char *to = field_of(p->profile, p->field);
    size_t held = strlen(to);

    if (value.bytes >= fields[p->field].bytes - held)
        return fail(p->e, CONFIG_INVALID, "%s:%u: %s is longer than %zu bytes", p->text->name,
            p->line, fields[p->field].key, fields[p->field].bytes - 1);
    memcpy(to + held, value.at, value.bytes);
    to[held + value.bytes] = '\0';
    return true;
}

static bool
take_key(Parser *p, Span line)
{
    const char *equals = memchr(line.at, '=', line.bytes);
    Span key, value;

    if (!p->in_section)
        return fail_line(p, "a key before the first [section]");
    if (!equals)
        return fail_line(p, "neither [section] nor key = value");
    key = trim((Span){line.at, (size_t)(equals - line.at)});
    value = (Span){equals + 1, line.bytes - (size_t)(equals + 1 - line.at)};
    /* With what stands before it, so that "= # why" is seen as a comment. */
    value = trim(cut_comment(value));
    if (key.bytes == 0)
        return fail_line(p, "a value without a key");
    p->has_key = true;
    p->has_value = value.bytes > 0;
    p->field = p->is_ours ? find_field(key) : NO_FIELD;
    if (p->is_ours && key.bytes > 4 && strncasecmp(key.at, "sso_", 4) == 0)
        p->profile->has_sso = true;
    if (p->field == NO_FIELD)
        return true;
    *field_of(p->profile, p->field) = '\0';
    return append(p, value);
}

static bool
take_line(Parser *p, Span line)
{
    bool is_indented = line.bytes > 0 && is_blank(line.at[0]);

    if (memchr(line.at, '\0', line.bytes))
        return fail_line(p, "a NUL byte: this is no text");
    line = trim(line);
    if (line.bytes == 0 || is_comment(line))
        return true;
    if (is_indented && p->has_key) {
        if (!p->has_value || p->field == NO_FIELD)
            return true;
        return append(p, (Span){"\n", 1}) && append(p, trim(cut_comment(line)));
    }
    return line.at[0] == '[' ? begin_section(p, line) : take_key(p, line);
}

bool
profile_parse(const ProfileText *text, SectionForm form, const char *name, Profile *profile, Err *e)
{
    Parser p = {
        .text = text, .form = form, .name = name, .profile = profile, .e = e, .field = NO_FIELD};
    const char *at = text->bytes, *end = at + text->count;

    if (text->count >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
        at += 3;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *line_end = newline ? newline : end;

        p.line++;
        if (!take_line(&p, (Span){at, (size_t)(line_end - at)}))
            return false;
        at = newline ? newline + 1 : end;
    }
    return true;
}

/* --- the files --- */

/* All there is, into memory of FILE_BYTES_MAX. A pipe without a writer is empty, so nothing waits.
 */
static bool
read_all(int fd, const char *path, char *to, size_t *count, Err *e)
{
    *count = 0;
    for (;;) {
        ssize_t got = read(fd, to + *count, FILE_BYTES_MAX - *count);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(e, CONFIG_INVALID, "cannot read %s: %m", path);
        *count += (size_t)got;
        if (got == 0)
            return true;
        if (*count == FILE_BYTES_MAX)
            return fail(e, CONFIG_INVALID, "%s is larger than %d bytes", path, FILE_BYTES_MAX);
    }
}

typedef struct {
    char path[FILE_PATH_BYTES];
    bool is_named; /* by the settings */
} ProfileFile;

/* `given`, or `usual` in the folder .aws of the user; path "" if there is neither. */
static bool
find_file(const char *given, const char *usual, ProfileFile *file, Err *e)
{
    const char *home = process_home();

    file->is_named = *given;
    file->path[0] = '\0';
    if (*given)
        return text_copy(file->path, sizeof file->path, given) ||
               fail(e, CONFIG_INVALID, "the path of a profiles' file is longer than %d bytes",
                   FILE_PATH_BYTES - 1);
    if (home && (size_t)snprintf(file->path, sizeof file->path, "%s/.aws/%s", home, usual) >=
                    sizeof file->path)
        file->path[0] = '\0';
    return true;
}

/* By errno of the attempt to open it. */
static bool
is_absent(const ProfileFile *file)
{
    return errno == ENOENT || errno == ENOTDIR || (errno == EACCES && !file->is_named);
}

static bool
take_text(const ProfileText *text, bool is_config, const char *name, Profile *p, Err *e)
{
    if (!is_config)
        return profile_parse(text, SECTIONS_BARE, name, p, e);
    /* Of [default] and [profile default] the second is the one that counts. */
    return (strcmp(name, DEFAULT) != 0 || profile_parse(text, SECTIONS_BARE, name, p, e)) &&
           profile_parse(text, SECTIONS_PROFILE, name, p, e);
}

static bool
take_file(const ProfileFile *file, bool is_config, const char *name, Profile *p, Err *e)
{
    ProfileText text = {.name = file->path};
    char *memory;
    bool ok;
    int fd;

    if (!*file->path)
        return true;
    if ((fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) < 0)
        return is_absent(file) || fail(e, CONFIG_INVALID, "cannot open %s: %m", file->path);
    memory = secret_new(FILE_BYTES_MAX, e);
    text.bytes = memory;
    ok = memory && read_all(fd, file->path, memory, &text.count, e) &&
         take_text(&text, is_config, name, p, e);
    secret_free(memory, FILE_BYTES_MAX);
    close(fd);
    return ok;
}

/* What the credentials file says wins; keys come from one file. */
static void
merge(Profile *to, Profile *from)
{
    bool has_keys = *from->access_key || *from->secret_key;

    to->is_there |= from->is_there;
    to->has_sso |= from->has_sso;
    for (size_t i = 0; i < FIELDS; i++)
        if (i < KEY_FIELDS ? has_keys : *field_of(from, i) != '\0')
            memcpy(field_of(to, i), field_of(from, i), fields[i].bytes);
}

bool
profile_read(const S3Spec *spec, const char *name, Profile *profile, Err *e)
{
    struct {
        ProfileFile config, credentials;
        Profile profile;
    } *memory = secret_new(sizeof *memory, e);
    bool ok = memory && find_file(spec->config_file, "config", &memory->config, e) &&
              find_file(spec->credentials_file, "credentials", &memory->credentials, e) &&
              take_file(&memory->config, true, name, profile, e) &&
              take_file(&memory->credentials, false, name, &memory->profile, e);

    if (ok)
        merge(profile, &memory->profile);
    secret_free(memory, sizeof *memory);
    return ok;
}

/* --- from a profile to a plan --- */

static bool
write_role(const Profile *p, const char *name, Role *role, Err *e)
{
    uint64_t duration_s = 0;

    if (*p->duration_s &&
        (!text_to_uint(p->duration_s, DURATION_S_MAX, &duration_s) || duration_s < DURATION_S_MIN))
        return fail(e, CONFIG_INVALID, "profile %s: duration_seconds must be from %d to %d", name,
            DURATION_S_MIN, DURATION_S_MAX);
    role->duration_s = (int64_t)duration_s;
    (void)text_copy(role->arn, sizeof role->arn, p->role_arn);
    (void)text_copy(role->session, sizeof role->session, p->role_session_name);
    (void)text_copy(role->external_id, sizeof role->external_id, p->external_id);
    return true;
}

static bool
take_keys(const Profile *p, const char *name, Plan *plan, Err *e)
{
    if (!*p->access_key || !*p->secret_key)
        return fail(e, CONFIG_INVALID,
            "profile %s: aws_access_key_id and aws_secret_access_key go together: %s is missing",
            name, *p->access_key ? "aws_secret_access_key" : "aws_access_key_id");
    plan->kind = SOURCE_KEYS;
    (void)text_copy(plan->keys.access_key, sizeof plan->keys.access_key, p->access_key);
    (void)text_copy(plan->keys.secret_key, sizeof plan->keys.secret_key, p->secret_key);
    (void)text_copy(plan->keys.token, sizeof plan->keys.token, p->token);
    return keys_are_sound(&plan->keys) ||
           fail(e, CONFIG_INVALID, "profile %s: what it has as keys cannot be keys", name);
}

/* credential_source: who vouches for a role without a source_profile. */
static bool
take_named_source(const S3Spec *spec, const Profile *p, const char *name, Plan *plan, Err *e)
{
    if (strcmp(p->credential_source, "Ec2InstanceMetadata") == 0) {
        plan->kind = SOURCE_INSTANCE;
        return true;
    }
    if (strcmp(p->credential_source, "EcsContainer") == 0) {
        plan->kind = SOURCE_CONTAINER;
        return provider_check_container(spec, e) || wrap(e, "profile %s", name);
    }
    if (strcmp(p->credential_source, "Environment") == 0)
        return fail(e, CONFIG_INVALID,
            "profile %s: credential_source is Environment, but AWS_ACCESS_KEY_ID is not set", name);
    return fail(e, CONFIG_INVALID,
        "profile %s: credential_source must be Environment, Ec2InstanceMetadata or EcsContainer",
        name);
}

/* What a profile has without a role; SOURCE_NONE: nothing. */
static bool
take_own(const Profile *p, const char *name, Plan *plan, Err *e)
{
    if (p->has_sso)
        return fail(e, CONFIG_INVALID,
            "profile %s signs in by SSO: use credential_process with the AWS CLI (aws configure "
            "export-credentials --profile %s)",
            name, name);
    if (*p->access_key || *p->secret_key)
        return take_keys(p, name, plan, e);
    if (*p->command) {
        plan->kind = SOURCE_PROCESS;
        (void)text_copy(plan->command, sizeof plan->command, p->command);
    }
    return true;
}

/* One profile of a chain; `next` is whose credentials its role is assumed with, "" at the end. */
static bool
take_profile(const S3Spec *spec, const Profile *p, const char *name, Plan *plan,
    char next[PROFILE_NAME_BYTES], Err *e)
{
    next[0] = '\0';
    if (!*p->role_arn)
        return take_own(p, name, plan, e);
    if (*p->token_file) {
        plan->kind = SOURCE_WEB_IDENTITY;
        (void)text_copy(plan->token_file, sizeof plan->token_file, p->token_file);
        return write_role(p, name, &plan->web, e);
    }
    if (!*p->source_profile == !*p->credential_source)
        return fail(e, CONFIG_INVALID,
            "profile %s: role_arn needs one of source_profile, credential_source and "
            "web_identity_token_file",
            name);
    if (plan->roles == ROLES_MAX)
        return fail(e, CONFIG_INVALID, "a chain of more than %d source profiles ends at profile %s",
            ROLES_MAX, name);
    if (!write_role(p, name, &plan->role[plan->roles++], e))
        return false;
    if (*p->credential_source)
        return take_named_source(spec, p, name, plan, e);
    /* A profile may vouch for its own role. */
    if (strcmp(p->source_profile, name) == 0)
        return take_keys(p, name, plan, e);
    return text_copy(next, PROFILE_NAME_BYTES, p->source_profile);
}

static void
take_place(const Profile *p, Plan *plan)
{
    (void)text_copy(plan->region, sizeof plan->region, p->region);
    (void)text_copy(plan->endpoint, sizeof plan->endpoint, p->endpoint);
}

typedef struct {
    Profile profile;
    char name[ROLES_MAX + 2][PROFILE_NAME_BYTES]; /* of the chain, in order */
} Chain;

static bool
follow(const S3Spec *spec, Chain *chain, Plan *plan, Err *e)
{
    for (unsigned i = 0;; i++) {
        const char *name = chain->name[i];
        char *next = chain->name[i + 1];

        explicit_bzero(&chain->profile, sizeof chain->profile);
        if (!profile_read(spec, name, &chain->profile, e))
            return false;
        if (i == 0)
            take_place(&chain->profile, plan);
        if (!chain->profile.is_there && i > 0)
            return fail(e, CONFIG_INVALID, "there is no profile %s, the source_profile of %s", name,
                chain->name[i - 1]);
        if (!chain->profile.is_there && *spec->profile)
            return fail(e, CONFIG_INVALID,
                "there is no profile %s in the shared config and "
                "credentials files of AWS",
                name);
        if (!take_profile(spec, &chain->profile, name, plan, next, e))
            return false;
        if (!*next)
            return plan->kind != SOURCE_NONE || i == 0 ||
                   fail(e, CONFIG_INVALID, "profile %s, the source_profile of %s, has no keys",
                       name, chain->name[i - 1]);
        for (unsigned earlier = 0; earlier <= i; earlier++)
            if (strcmp(chain->name[earlier], next) == 0)
                return fail(e, CONFIG_INVALID, "the source profiles go in a circle: %s leads to %s",
                    name, next);
    }
}

bool
profile_plan(const S3Spec *spec, Plan *plan, Err *e)
{
    Chain *chain = secret_new(sizeof *chain, e);
    bool ok = chain != NULL;

    if (ok &&
        !text_copy(chain->name[0], PROFILE_NAME_BYTES, *spec->profile ? spec->profile : DEFAULT))
        ok = fail(e, CONFIG_INVALID, "AWS_PROFILE is longer than %d bytes", PROFILE_NAME_BYTES - 1);
    ok = ok && follow(spec, chain, plan, e);
    if (ok && plan->kind != SOURCE_NONE)
        (void)snprintf(plan->name, sizeof plan->name, "profile %s", chain->name[0]);
    secret_free(chain, sizeof *chain);
    return ok;
}

bool
profile_place(const S3Spec *spec, Plan *plan, Err *e)
{
    const char *name = *spec->profile ? spec->profile : DEFAULT;
    Profile *p = secret_new(sizeof *p, e);
    Err ignored = {0};
    bool ok;

    if (!p)
        return false;
    ok = profile_read(spec, name, p, *spec->profile ? e : &ignored) || !*spec->profile;
    if (ok && *spec->profile && !p->is_there)
        ok = fail(e, CONFIG_INVALID,
            "there is no profile %s in the shared config and credentials files of AWS", name);
    if (ok)
        take_place(p, plan);
    secret_free(p, sizeof *p);
    return ok;
}
