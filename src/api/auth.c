/* X-Forwarded-For as proxies write it; Forwarded: RFC 7239. */
#include "api/auth.h"

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"
#include "net/address.h"

/* ":80", or nothing. */
static bool
is_port(const char *text, size_t bytes)
{
    if (bytes == 0)
        return true;
    for (size_t i = 1; i < bytes; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    return text[0] == ':' && bytes <= 6;
}

static bool
parse_address(const char *text, size_t bytes, Address *address)
{
    const char *end;

    if (address_parse(text, bytes, address))
        return true;
    if (bytes > 0 && text[0] == '[')
        return (end = memchr(text, ']', bytes)) &&
               address_parse(text + 1, (size_t)(end - text) - 1, address) &&
               !address_is_ipv4(address) && is_port(end + 1, bytes - (size_t)(end + 1 - text));
    return (end = memchr(text, ':', bytes)) &&
           address_parse(text, (size_t)(end - text), address) && /* so it is IPv4 */
           is_port(end, bytes - (size_t)(end - text));
}

bool
auth_address(const char *text, size_t bytes, struct sockaddr_storage *address)
{
    struct sockaddr_in6 *to = (struct sockaddr_in6 *)(void *)address;
    Address parsed;

    memset(address, 0, sizeof *address);
    if (!parse_address(text, bytes, &parsed))
        return false;
    to->sin6_family = AF_INET6;
    memcpy(&to->sin6_addr, parsed.byte, sizeof parsed.byte);
    return true;
}

char *
auth_address_text(const struct sockaddr_storage *address, char to[AUTH_PEER_BYTES])
{
    Address plain;

    if (address_of_socket(address, &plain))
        return address_text(&plain, to);
    (void)text_copy(to, AUTH_PEER_BYTES, address->ss_family == AF_UNIX ? "unix" : "unknown");
    return to;
}

bool
auth_is_loopback(const struct sockaddr_storage *address)
{
    Address plain;

    if (!address_of_socket(address, &plain))
        return address->ss_family == AF_UNIX;
    return address_is_loopback(&plain);
}

bool
auth_is_private(const struct sockaddr_storage *address)
{
    Address plain;

    return address_of_socket(address, &plain) ? address_is_private(&plain)
                                              : address->ss_family == AF_UNIX;
}

static bool
is_trusted(const Config *config, const Address *address)
{
    for (const char *at = config->trusted_proxies; *at;) {
        size_t bytes = strcspn(at, ",");
        Network network;

        if (network_parse(at, bytes, &network) && network_has(&network, address))
            return true;
        at += bytes + (at[bytes] == ',');
    }
    return false;
}

bool
auth_is_trusted_proxy(const Config *config, const struct sockaddr_storage *address)
{
    Address plain;

    return *config->trusted_proxies && address_of_socket(address, &plain) &&
           is_trusted(config, &plain);
}

AuthMode
auth_mode(const Config *config)
{
    if (!config->listens_beyond_loopback)
        return AUTH_LOCAL;
    return config->auth_is_set ? AUTH_OPEN : AUTH_PROTECTED;
}

/* Is `host` (no port) the URL's host? */
static bool
is_host_of(const char *url, const char *host, size_t bytes)
{
    const char *at = strstr(url, "://");
    size_t url_bytes;

    if (!at)
        return false;
    at += 3;
    url_bytes = *at == '[' ? strcspn(at, "]") + 1 : strcspn(at, ":/?");
    return url_bytes == bytes && strncasecmp(at, host, bytes) == 0;
}

/* Is `host` (no port) in the list, whatever ports that names? */
static bool
is_listed(const char *list, const char *host, size_t bytes)
{
    while (*list) {
        size_t item = strcspn(list, ","), name = strcspn(list, ",:");

        if ((item == bytes || name == bytes) && strncasecmp(list, host, bytes) == 0)
            return true;
        list += item + (list[item] == ',');
    }
    return false;
}

static bool
may_be_called(const Config *config, const char *host)
{
    Address address;
    size_t bytes = strcspn(host, ":");

    if (parse_address(host, strlen(host), &address))
        return true;
    if (bytes > 1 && host[bytes - 1] == '.')
        bytes--;
    return bytes > 0 && *host != '[' &&
           /* no page from outside can stand under a local name */
           (name_is_local(host, bytes) || is_host_of(config->public_url, host, bytes) ||
               is_listed(config->hosts, host, bytes));
}

/* The element behind the comma before `end`, without blanks around it. */
static size_t
last_element(const char *value, size_t end, size_t *start)
{
    *start = end;
    while (*start > 0 && value[*start - 1] != ',')
        (*start)--;
    return *start;
}

static void
trim(const char **text, size_t *bytes)
{
    while (*bytes > 0 && (**text == ' ' || **text == '\t')) {
        (*text)++;
        (*bytes)--;
    }
    while (*bytes > 0 && ((*text)[*bytes - 1] == ' ' || (*text)[*bytes - 1] == '\t'))
        (*bytes)--;
}

/* From the nearest hop outwards, as long as a proxy of ours speaks. */
static void
find_client(const Config *config, const char *const *forwarded_for, Address *client)
{
    size_t values = 0;

    while (forwarded_for[values])
        values++;
    while (values-- > 0) {
        const char *value = forwarded_for[values];
        size_t end = strlen(value), start;

        for (;; end = start - 1) {
            const char *text = value + last_element(value, end, &start);
            size_t bytes = end - start;
            Address named;

            trim(&text, &bytes);
            if (bytes > 0) {
                if (!is_trusted(config, client) || !parse_address(text, bytes, &named))
                    return;
                *client = named;
            }
            if (start == 0)
                break;
        }
    }
}

/* The next element of `*at`, up to `end_char`; false at the end. */
static bool
next_element(const char **at, char separator, const char **text, size_t *bytes)
{
    const char *end;

    if (!*at)
        return false;
    end = strchr(*at, separator);
    *text = *at;
    *bytes = end ? (size_t)(end - *at) : strlen(*at);
    *at = end ? end + 1 : NULL;
    trim(text, bytes);
    return true;
}

/* Does an X-Forwarded-For name anybody who is not private? What is no address counts so. */
static bool
names_public(const char *const *forwarded_for)
{
    for (; *forwarded_for; forwarded_for++) {
        const char *at = *forwarded_for, *text;
        size_t bytes;
        Address named;

        while (next_element(&at, ',', &text, &bytes))
            if (bytes > 0 && (!parse_address(text, bytes, &named) || !address_is_private(&named)))
                return true;
    }
    return false;
}

/* The same of Forwarded. Quotes do not hide a comma or semicolon: so nothing can be hidden. */
static bool
names_public_for(const char *const *forwarded)
{
    for (; *forwarded; forwarded++) {
        const char *at = *forwarded;

        while (at) {
            const char *end = strpbrk(at, ",;"), *text = at;
            size_t bytes = end ? (size_t)(end - at) : strlen(at);
            Address named;

            at = end ? end + 1 : NULL;
            trim(&text, &bytes);
            if (bytes < 4 || strncasecmp(text, "for=", 4) != 0)
                continue;
            text += 4;
            bytes -= 4;
            if (bytes >= 2 && text[0] == '"' && text[bytes - 1] == '"') {
                text++;
                bytes -= 2;
            }
            if (!parse_address(text, bytes, &named) || !address_is_private(&named))
                return true;
        }
    }
    return false;
}

static bool
names_anybody_public(const AuthRequest *ask)
{
    return names_public(ask->forwarded_for) || names_public_for(ask->forwarded);
}

bool
auth_comes_from_private(const AuthRequest *ask, const char *client)
{
    struct sockaddr_storage address;
    bool is_ip = auth_address(client, strlen(client), &address);

    return auth_is_private(is_ip ? &address : ask->peer) && !names_anybody_public(ask);
}

bool
auth_may_ask(const Config *config, const AuthRequest *ask, char client[AUTH_PEER_BYTES], Err *e)
{
    AuthMode mode = auth_mode(config);
    Address address;

    auth_address_text(ask->peer, client);
    if (*config->trusted_proxies && address_of_socket(ask->peer, &address)) {
        find_client(config, ask->forwarded_for, &address);
        address_text(&address, client);
    }
    if (mode == AUTH_OPEN)
        return true;
    if (mode == AUTH_PROTECTED && (!auth_is_private(ask->peer) || names_anybody_public(ask)))
        return fail(e, FORBIDDEN,
            "without authentication only private networks are answered; ROWFERRY_AUTH=none opens "
            "this service to everyone who can connect");
    if (!may_be_called(config, ask->host))
        return fail(e, FORBIDDEN,
            "this Host is not answered without authentication; name it in ROWFERRY_HOSTS, or in "
            "ROWFERRY_PUBLIC_URL");
    return true;
}
