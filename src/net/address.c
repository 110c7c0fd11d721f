#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

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

bool
network_has(const Network *network, const Address *address)
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
        if (network_has(network + i, address))
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

bool
address_is_ipv4(const Address *address)
{
    return network_has(&(Network){V4(0, 0), IPV4_BITS}, address);
}

bool
address_of_socket(const struct sockaddr_storage *from, Address *address)
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

bool
address_parse(const char *text, size_t bytes, Address *address)
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

char *
address_text(const Address *address, char to[ADDRESS_TEXT_BYTES])
{
    if (address_is_ipv4(address))
        inet_ntop(AF_INET, address->byte + 12, to, ADDRESS_TEXT_BYTES);
    else
        inet_ntop(AF_INET6, address->byte, to, ADDRESS_TEXT_BYTES);
    return to;
}

bool
address_is_loopback(const Address *address)
{
    return is_within_any(address, loopback, sizeof loopback / sizeof loopback[0]);
}

bool
address_is_private(const Address *address)
{
    return address_is_loopback(address) ||
           is_within_any(
               address, private_networks, sizeof private_networks / sizeof private_networks[0]);
}

bool
network_parse(const char *text, size_t bytes, Network *network)
{
    const char *slash = memchr(text, '/', bytes);
    size_t address_bytes = slash ? (size_t)(slash - text) : bytes;
    char bits_text[4] = "";
    uint64_t bits;

    if (!address_parse(text, address_bytes, &network->of))
        return false;
    network->bits = 128;
    if (!slash)
        return true;
    if (bytes - address_bytes - 1 >= sizeof bits_text)
        return false;
    memcpy(bits_text, slash + 1, bytes - address_bytes - 1);
    if (!text_to_uint(bits_text, address_is_ipv4(&network->of) ? 32 : 128, &bits))
        return false;
    network->bits = (unsigned)bits + (address_is_ipv4(&network->of) ? IPV4_BITS : 0);
    return true;
}

bool
name_is_local(const char *host, size_t bytes)
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
