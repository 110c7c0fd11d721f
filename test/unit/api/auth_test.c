/* security.md 3.1, row by row. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "api/auth.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static struct sockaddr_storage
address(const char *text)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *four = (struct sockaddr_in *)&storage;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&storage;

    if (inet_pton(AF_INET, text, &four->sin_addr) == 1)
        storage.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1)
        storage.ss_family = AF_INET6;
    else
        fail_msg("no address: %s", text);
    return storage;
}

static const Config plain = {.public_url = "", .hosts = "", .trusted_proxies = "", .auth = ""};

static bool
may(const Config *config, const char *peer, const char *host, const char *forwarded_for,
    const char *forwarded, char client[AUTH_PEER_BYTES], Err *e)
{
    struct sockaddr_storage from = address(peer);
    const char *fors[] = {forwarded_for, NULL}, *others[] = {forwarded, NULL};

    return auth_may_ask(config,
        &(AuthRequest){.peer = &from, .host = host, .forwarded_for = fors, .forwarded = others},
        client, e);
}

static void
test_hosts(void **state)
{
    static const struct {
        const char *host;
        bool yes;
    } cases[] = {
        {"127.0.0.1", true},
        {"127.0.0.1:8000", true},
        {"8.8.8.8", true}, /* an address cannot be rebound */
        {"[::1]", true},
        {"[::1]:8000", true},
        {"localhost", true},
        {"LOCALHOST:8000", true},
        {"rowferry", true},
        {"localhost.", true},
        {"a.local", true},
        {"A.LOCAL:80", true},
        {"a.internal", true},
        {"api.team.svc", true},
        {"api.team.svc.cluster.local", true},
        {"nas.lan", true},
        {"exports.example.com", true}, /* the public URL's */
        {"Exports.Example.com:443", true},
        {"one.example", true}, /* ROWFERRY_HOSTS */
        {"two.example:99", true},
        {"TWO.example", true},
        {"evil.example", false},
        {"evil.example.", false},
        {"evil.example:8000", false},
        {".local", false},
        {"notlocal.com", false},
        {"a.local.evil.example", false},
        {"alocal.example", false},
        {"exports.example.com.evil.example", false},
        {"xexports.example.com", false},
        {"one.example.evil.example", false},
        {"one", true},
        {"127.0.0.1.evil.example", false},
        {"127.0.0.1.nip.io", false},
        {"[fe80::1", false},
        {"", false},
    };
    Config config = plain;

    (void)state;
    config.public_url = "https://exports.example.com:8443/x";
    config.hosts = "one.example,two.example:99";
    for (int beyond = 0; beyond < 2; beyond++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            char client[AUTH_PEER_BYTES];
            Err e = {0};

            config.listens_beyond_loopback = beyond;
            if (may(&config, "127.0.0.1", cases[i].host, NULL, NULL, client, &e) != cases[i].yes)
                fail_msg("host %s", cases[i].host);
            if (!cases[i].yes) {
                assert_int_equal(e.code, ERR_FORBIDDEN);
                assert_non_null(strstr(err_root(&e), "ROWFERRY_HOSTS"));
            }
        }
    config.listens_beyond_loopback = config.auth_is_set = true;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char client[AUTH_PEER_BYTES];
        Err e = {0};

        assert_true(may(&config, "8.8.8.8", cases[i].host, NULL, NULL, client, &e));
    }
}

static void
test_modes(void **state)
{
    Config config = plain;

    (void)state;
    assert_int_equal(auth_mode(&config), AUTH_LOCAL);
    config.auth_is_set = true;
    assert_int_equal(auth_mode(&config), AUTH_LOCAL);
    config.listens_beyond_loopback = true;
    assert_int_equal(auth_mode(&config), AUTH_OPEN);
    config.auth_is_set = false;
    assert_int_equal(auth_mode(&config), AUTH_PROTECTED);
}

static void
test_protected(void **state)
{
    static const struct {
        const char *peer, *forwarded_for, *forwarded;
        bool yes;
    } cases[] = {
        {"127.0.0.1", NULL, NULL, true},
        {"127.255.0.1", NULL, NULL, true},
        {"::1", NULL, NULL, true},
        {"::ffff:127.0.0.1", NULL, NULL, true},
        {"10.1.2.3", NULL, NULL, true},
        {"172.16.0.1", NULL, NULL, true},
        {"172.31.255.255", NULL, NULL, true},
        {"192.168.3.4", NULL, NULL, true},
        {"::ffff:192.168.3.4", NULL, NULL, true},
        {"100.64.0.1", NULL, NULL, true},
        {"100.127.255.255", NULL, NULL, true},
        {"fd00::1", NULL, NULL, true},
        {"fc00::1", NULL, NULL, true},
        {"fe80::1", NULL, NULL, true},
        {"febf::1", NULL, NULL, true},
        {"8.8.8.8", NULL, NULL, false},
        {"::ffff:8.8.8.8", NULL, NULL, false},
        {"172.15.255.255", NULL, NULL, false},
        {"172.32.0.0", NULL, NULL, false},
        {"100.63.255.255", NULL, NULL, false},
        {"100.128.0.0", NULL, NULL, false},
        {"11.0.0.0", NULL, NULL, false},
        {"169.254.169.254", NULL, NULL, false},
        {"2001:db8::1", NULL, NULL, false},
        {"fe00::1", NULL, NULL, false},
        {"fec0::1", NULL, NULL, false},
        {"::2", NULL, NULL, false},
        {"10.0.0.1", "10.0.0.2", NULL, true},
        {"10.0.0.1", " 10.0.0.2 ,192.168.1.1", NULL, true},
        {"10.0.0.1", "", NULL, true},
        {"10.0.0.1", "8.8.8.8", NULL, false},
        {"127.0.0.1", "8.8.8.8", NULL, false},
        {"10.0.0.1", "10.0.0.2, 8.8.8.8", NULL, false},
        {"10.0.0.1", "8.8.8.8, 10.0.0.2", NULL, false},
        {"10.0.0.1", "8.8.8.8:4711", NULL, false},
        {"10.0.0.1", "10.0.0.2:4711", NULL, true},
        {"10.0.0.1", "[2001:db8::1]:4711", NULL, false},
        {"10.0.0.1", "[fd00::1]:4711", NULL, true},
        {"10.0.0.1", "unknown", NULL, false},
        {"10.0.0.1", NULL, "for=10.0.0.2", true},
        {"10.0.0.1", NULL, "for=8.8.8.8", false},
        {"10.0.0.1", NULL, "proto=https;For=\"8.8.8.8:80\"", false},
        {"10.0.0.1", NULL, "for=10.0.0.2, for=\"[2001:db8::1]\"", false},
        {"10.0.0.1", NULL, "for=\", for=8.8.8.8", false},
        {"10.0.0.1", NULL, "for=_hidden", false},
        {"10.0.0.1", NULL, "by=8.8.8.8;proto=http", true},
        {"10.0.0.1", "10.0.0.2", "for=8.8.8.8", false},
    };
    Config config = plain;

    (void)state;
    config.listens_beyond_loopback = true;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char client[AUTH_PEER_BYTES];
        Err e = {0};

        if (may(&config, cases[i].peer, "localhost", cases[i].forwarded_for, cases[i].forwarded,
                client, &e) != cases[i].yes)
            fail_msg("%s, %s, %s", cases[i].peer,
                cases[i].forwarded_for ? cases[i].forwarded_for : "-",
                cases[i].forwarded ? cases[i].forwarded : "-");
        if (!cases[i].yes) {
            assert_int_equal(e.code, ERR_FORBIDDEN);
            assert_non_null(strstr(err_root(&e), "ROWFERRY_AUTH"));
        }
    }
}

static void
test_clients(void **state)
{
    static const struct {
        const char *proxies, *peer, *forwarded_for, *client;
    } cases[] = {
        {"", "8.8.8.8", NULL, "8.8.8.8"},
        {"", "::ffff:8.8.8.8", NULL, "8.8.8.8"},
        {"", "2001:db8::1", NULL, "2001:db8::1"},
        {"", "10.0.0.1", "8.8.8.8", "10.0.0.1"}, /* nobody is trusted */
        {"10.0.0.1", "10.0.0.1", "8.8.8.8", "8.8.8.8"},
        {"10.0.0.1", "::ffff:10.0.0.1", "8.8.8.8", "8.8.8.8"},
        {"10.0.0.1", "10.0.0.2", "8.8.8.8", "10.0.0.2"},
        {"10.0.0.1", "10.0.0.1", "1.1.1.1, 8.8.8.8", "8.8.8.8"}, /* the rest is the client's word */
        {"10.0.0.1,10.0.0.2", "10.0.0.1", "1.1.1.1, 8.8.8.8, 10.0.0.2", "8.8.8.8"},
        {"10.0.0.0/8", "10.9.9.9", "8.8.8.8,10.0.0.2", "8.8.8.8"},
        {"10.0.0.0/8", "11.9.9.9", "8.8.8.8", "11.9.9.9"},
        {"fd00::/8", "fd12::1", "8.8.8.8", "8.8.8.8"},
        {"0.0.0.0/0", "8.8.4.4", "8.8.8.8", "8.8.8.8"},
        {"0.0.0.0/0", "2001:db8::1", "8.8.8.8", "2001:db8::1"},
        {"10.0.0.1", "10.0.0.1", "evil", "10.0.0.1"},
        {"10.0.0.1", "10.0.0.1", "8.8.8.8, evil", "10.0.0.1"},
        {"10.0.0.1", "10.0.0.1", "8.8.8.8:99", "8.8.8.8"},
        {"10.0.0.1", "10.0.0.1", " , ,8.8.8.8 , ", "8.8.8.8"},
        {"10.0.0.1", "10.0.0.1", "", "10.0.0.1"},
        {"10.0.0.1/33", "10.0.0.1", "8.8.8.8", "10.0.0.1"}, /* no such network */
        {"proxy.example", "10.0.0.1", "8.8.8.8", "10.0.0.1"},
    };
    Config config = plain;

    (void)state;
    config.listens_beyond_loopback = config.auth_is_set = true;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char client[AUTH_PEER_BYTES];
        Err e = {0};

        config.trusted_proxies = cases[i].proxies;
        assert_true(
            may(&config, cases[i].peer, "a", cases[i].forwarded_for, "for=9.9.9.9", client, &e));
        if (strcmp(client, cases[i].client) != 0)
            fail_msg("%s from %s for %s: %s", cases[i].proxies, cases[i].peer,
                cases[i].forwarded_for ? cases[i].forwarded_for : "-", client);
    }
}

static void
test_addresses(void **state)
{
    static const struct {
        const char *text, *shown; /* NULL: no address */
    } cases[] = {
        {"10.0.0.1", "10.0.0.1"},
        {"10.0.0.1:80", "10.0.0.1"},
        {"::1", "::1"},
        {"[::1]", "::1"},
        {"[::1]:80", "::1"},
        {"::ffff:10.0.0.1", "10.0.0.1"},
        {"10.0.0.1:", "10.0.0.1"},
        {"10.0.0.1:8x", NULL},
        {"10.0.0.1:123456", NULL},
        {"[10.0.0.1]", NULL},
        {"[::1]x", NULL},
        {"[::1", NULL},
        {"::1]", NULL},
        {"10.0.0", NULL},
        {"10.0.0.01", NULL},
        {"010.0.0.1", NULL},
        {"10.0.0.256", NULL},
        {"", NULL},
        {"[]", NULL},
        {":80", NULL},
        {"localhost", NULL},
        {"fe80::1%lo", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sockaddr_storage parsed;
        char shown[AUTH_PEER_BYTES];
        bool is = auth_address(cases[i].text, strlen(cases[i].text), &parsed);

        if (is != (cases[i].shown != NULL))
            fail_msg("%s", cases[i].text);
        if (is)
            assert_string_equal(auth_address_text(&parsed, shown), cases[i].shown);
    }
}

static void
test_unix_sockets_are_local(void **state)
{
    struct sockaddr_storage local = {.ss_family = AF_UNIX};

    (void)state;
    assert_true(auth_is_loopback(&local) && auth_is_private(&local));
    assert_false(auth_is_trusted_proxy(&plain, &local));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_protected),
        cmocka_unit_test(test_clients),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_unix_sockets_are_local),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
