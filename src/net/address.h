/*
 * Address: of IP, as a number; which of them lead to this machine or this network, and which names
 * do. Pure.
 */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* All addresses are looked at as IPv6, IPv4 within ::ffff:0:0/96. */
typedef struct {
    uint8_t byte[16];
} Address;

typedef struct {
    Address of;
    unsigned bits;
} Network;

enum { ADDRESS_TEXT_BYTES = 64 };

/* "10.0.0.1", "::1"; no brackets, no port. False: no address. */
bool address_parse(const char *text, size_t bytes, Address *address);

/* False: not of IP. */
bool address_of_socket(const struct sockaddr_storage *from, Address *address);

/* IPv4 within IPv6 as IPv4. Returns `to`. */
char *address_text(const Address *address, char to[ADDRESS_TEXT_BYTES]);

bool address_is_ipv4(const Address *address);
bool address_is_loopback(const Address *address);

/* Loopback, RFC 1918, 100.64/10, fc00::/7, fe80::/10. */
bool address_is_private(const Address *address);

/* "10.0.0.1", "10.0.0.0/8", "fd00::/8". False: no network. */
bool network_parse(const char *text, size_t bytes, Network *network);
bool network_has(const Network *network, const Address *address);

/* A name that no public DNS hands out: one label, or under .local .internal .svc .lan
 * .cluster.local. */
bool name_is_local(const char *host, size_t bytes);

#endif
