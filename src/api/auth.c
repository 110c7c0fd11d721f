/* X-Forwarded-For as proxies write it; Forwarded: RFC 7239. */
#include "api/auth.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"
#include "net/url.h"

/* All addresses are looked at as IPv6, IPv4 within ::ffff:0:0/96. */
typedef struct {
    uint8_t byte[16];
} Address;

typedef struct {
    Address of;
    unsigned bits;
} Network;

enum { IPV4_BITS = 96 };

#define V4(a, b)                                                                                   \
    {                                                                                              \
        {                                                                                          \
            [10] = 0xff, [11] = 0xff, [12] = (a), [13] = (b)                                       \
        }                                                                                          \
    }

static const Network loopback[] = {{V4(127, 0), IPV4_BITS + 8}, {{{[15] = 1}}, 128}};

static const Network private_networks[] = {
    {V4(10, 0), IPV4_BITS + 8},
    {V4(172, 16), IPV4_BITS + 12},
    {V4(192, 168), IPV4_BITS + 16},
    {V4(100, 64), IPV4_BITS + 10},
    {{{0xfc}}, 7},
    {{{0xfe, 0x80}}, 10},
};

static bool
is_within(const Address *address, const Network *network)
{
    unsigned whole = network->bits / 8, rest = network->bits % 8;
    uint8_t mask = (uint8_t)(0xff << (8 - rest));

    return memcmp(address->byte, network->of.byte, whole) == 0 &&
           (rest == 0 || ((address->byte[whole] ^ network->of.byte[whole]) & mask) == 0);
}

static bool
is_within_any(const Address *address, const Network *network, size_t networks)
{
    for (size_t i = 0; i < networks; i++)
        if (is_within(address, network + i))
            return true;
    return false;
}

static Address
from_ipv4(const void *four_bytes)
{
    Address address = V4(0, 0);

    memcpy(address.byte + 12, four_bytes, 4);
    return address;
}

static bool
is_ipv4(const Address *address)
{
    return is_within(address, &(Network){V4(0, 0), IPV4_BITS});
}

/* False: not an address of IP. */
static bool
from_socket(const struct sockaddr_storage *from, Address *address)
{
    if (from->ss_family == AF_INET) {
        *address = from_ipv4(&((const struct sockaddr_in *)(const void *)from)->sin_addr);
        return true;
    }
    if (from->ss_family == AF_INET6) {
        memcpy(address->byte, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
        return true;
    }
    return false;
}

/* Without brackets or port. */
static bool
parse_bare(const char *text, size_t bytes, Address *address)
{
    char copy[INET6_ADDRSTRLEN];
    struct in_addr four;

    if (bytes == 0 || bytes >= sizeof copy || memchr(text, '\0', bytes))
        return false;
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    if (inet_pton(AF_INET, copy, &four) == 1) {
        *address = from_ipv4(&four);
        return true;
    }
    return inet_pton(AF_INET6, copy, address->byte) == 1;
}

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

    if (parse_bare(text, bytes, address))
        return true;
    if (bytes > 0 && text[0] == '[')
        return (end = memchr(text, ']', bytes)) &&
               parse_bare(text + 1, (size_t)(end - text) - 1, address) && !is_ipv4(address) &&
               is_port(end + 1, bytes - (size_t)(end + 1 - text));
    return (end = memchr(text, ':', bytes)) &&
           parse_bare(text, (size_t)(end - text), address) && /* so it is IPv4 */
           is_port(end, bytes - (size_t)(end - text));
}

static char *
write_address(const Address *address, char to[AUTH_PEER_BYTES])
{
    if (is_ipv4(address))
        inet_ntop(AF_INET, address->byte + 12, to, AUTH_PEER_BYTES);
    else
        inet_ntop(AF_INET6, address->byte, to, AUTH_PEER_BYTES);
    return to;
}

static bool
is_private(const Address *address)
{
    return is_within_any(address, loopback, sizeof loopback / sizeof loopback[0]) ||
           is_within_any(
               address, private_networks, sizeof private_networks / sizeof private_networks[0]);
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

    if (from_socket(address, &plain))
        return write_address(&plain, to);
    (void)text_copy(to, AUTH_PEER_BYTES, address->ss_family == AF_UNIX ? "unix" : "unknown");
    return to;
}

bool
auth_is_loopback(const struct sockaddr_storage *address)
{
    Address plain;

    if (!from_socket(address, &plain))
        return address->ss_family == AF_UNIX;
    return is_within_any(&plain, loopback, sizeof loopback / sizeof loopback[0]);
}

bool
auth_is_private(const struct sockaddr_storage *address)
{
    Address plain;

    return from_socket(address, &plain) ? is_private(&plain) : address->ss_family == AF_UNIX;
}

/* "10.0.0.1", "10.0.0.0/8", "fd00::/8". */
static bool
parse_network(const char *text, size_t bytes, Network *network)
{
    const char *slash = memchr(text, '/', bytes);
    size_t address_bytes = slash ? (size_t)(slash - text) : bytes;
    char bits_text[4] = "";
    uint64_t bits;

    if (!parse_bare(text, address_bytes, &network->of))
        return false;
    network->bits = 128;
    if (!slash)
        return true;
    if (bytes - address_bytes - 1 >= sizeof bits_text)
        return false;
    memcpy(bits_text, slash + 1, bytes - address_bytes - 1);
    if (!text_to_uint(bits_text, is_ipv4(&network->of) ? 32 : 128, &bits))
        return false;
    network->bits = (unsigned)bits + (is_ipv4(&network->of) ? IPV4_BITS : 0);
    return true;
}

static bool
is_trusted(const Config *config, const Address *address)
{
    for (const char *at = config->trusted_proxies; *at;) {
        size_t bytes = strcspn(at, ",");
        Network network;

        if (parse_network(at, bytes, &network) && is_within(address, &network))
            return true;
        at += bytes + (at[bytes] == ',');
    }
    return false;
}

bool
auth_is_trusted_proxy(const Config *config, const struct sockaddr_storage *address)
{
    Address plain;

    return *config->trusted_proxies && from_socket(address, &plain) && is_trusted(config, &plain);
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

/* A name that no public DNS can hand out, so no page from outside can stand under it. */
static bool
is_local_name(const char *host, size_t bytes)
{
    static const char *const suffixes[] = {
        ".local", ".internal", ".svc", ".lan", ".cluster.local", NULL};

    if (!memchr(host, '.', bytes))
        return true;
    for (const char *const *suffix = suffixes; *suffix; suffix++) {
        size_t tail = strlen(*suffix);

        if (bytes > tail && strncasecmp(host + bytes - tail, *suffix, tail) == 0)
            return true;
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
           (is_local_name(host, bytes) || is_host_of(config->public_url, host, bytes) ||
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
            if (bytes > 0 && (!parse_address(text, bytes, &named) || !is_private(&named)))
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
            if (!parse_address(text, bytes, &named) || !is_private(&named))
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
    if (*config->trusted_proxies && from_socket(ask->peer, &address)) {
        find_client(config, ask->forwarded_for, &address);
        write_address(&address, client);
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
