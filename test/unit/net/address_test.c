/* Addresses and names that lead to this machine or this network. */
#include <netinet/in.h>

#include "net/address.h"
#include "test/test.h"

static void
test_addresses(void **state)
{
    static const struct {
        const char *text, *shown; /* shown NULL: no address */
        bool loopback, private;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1", true, true},
        {"127.255.0.9", "127.255.0.9", true, true},
        {"128.0.0.1", "128.0.0.1", false, false},
        {"::1", "::1", true, true},
        {"0:0:0:0:0:0:0:1", "::1", true, true},
        {"::ffff:127.0.0.1", "127.0.0.1", true, true},
        {"::ffff:8.8.8.8", "8.8.8.8", false, false},
        {"::2", "::2", false, false},
        {"9.255.255.255", "9.255.255.255", false, false},
        {"10.0.0.0", "10.0.0.0", false, true},
        {"10.255.255.255", "10.255.255.255", false, true},
        {"172.15.0.1", "172.15.0.1", false, false},
        {"172.16.0.1", "172.16.0.1", false, true},
        {"172.31.255.255", "172.31.255.255", false, true},
        {"172.32.0.1", "172.32.0.1", false, false},
        {"192.168.1.1", "192.168.1.1", false, true},
        {"192.169.1.1", "192.169.1.1", false, false},
        {"100.63.0.1", "100.63.0.1", false, false},
        {"100.64.0.1", "100.64.0.1", false, true},
        {"100.127.0.1", "100.127.0.1", false, true},
        {"100.128.0.1", "100.128.0.1", false, false},
        {"fc00::1", "fc00::1", false, true},
        {"FDFF::1", "fdff::1", false, true},
        {"fe00::1", "fe00::1", false, false},
        {"fe80::1", "fe80::1", false, true},
        {"febf::1", "febf::1", false, true},
        {"fec0::1", "fec0::1", false, false},
        {"2001:db8::1", "2001:db8::1", false, false},
        {"", NULL, false, false},
        {"127.1", NULL, false, false},
        {"127.0.0.1:80", NULL, false, false},
        {"[::1]", NULL, false, false},
        {"fe80::1%eth0", NULL, false, false},
        {"localhost", NULL, false, false},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa", NULL, false, false},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        char text[ADDRESS_TEXT_BYTES];
        Address address;

        trying(cases[i].text);
        assert_int_equal(
            address_parse(cases[i].text, strlen(cases[i].text), &address), cases[i].shown != NULL);
        if (!cases[i].shown)
            continue;
        assert_string_equal(address_text(&address, text), cases[i].shown);
        assert_int_equal(address_is_loopback(&address), cases[i].loopback);
        assert_int_equal(address_is_private(&address), cases[i].private);
    }
}

static void
test_networks(void **state)
{
    static const struct {
        const char *network, *address;
        bool has;
    } cases[] = {
        {"10.0.0.0/8", "10.1.2.3", true},
        {"10.0.0.0/8", "11.1.2.3", false},
        {"10.0.0.0/9", "10.128.0.0", false},
        {"0.0.0.0/0", "8.8.8.8", true},
        {"0.0.0.0/0", "::1", false},
        {"::/0", "8.8.8.8", true},
        {"fd00::/8", "fd12::1", true},
        {"10.1.2.3", "10.1.2.3", true},
        {"10.1.2.3", "10.1.2.4", false},
        {"::1", "::1", true},
    };
    static const char *const bad[] = {
        "", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/08", "10/8", "10.0.0.0/8/8"};
    Network network;

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Address address;

        trying(cases[i].network);
        assert_true(address_parse(cases[i].address, strlen(cases[i].address), &address));
        assert_true(network_parse(cases[i].network, strlen(cases[i].network), &network));
        assert_int_equal(network_has(&network, &address), cases[i].has);
    }
    for (size_t i = 0; i < count_of(bad); i++) {
        trying(bad[i]);
        assert_false(network_parse(bad[i], strlen(bad[i]), &network));
    }
}

static void
test_names(void **state)
{
    static const struct {
        const char *name;
        bool local;
    } cases[] = {
        {"localhost", true},
        {"db", true},
        {"db.local", true},
        {"DB.Internal", true},
        {"db.ns.svc", true},
        {"db.lan", true},
        {"db.ns.svc.cluster.local", true},
        {".local", false},
        {"db.example.com", false},
        {"db.notlocal", false},
        {"local.example", false},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].name);
        assert_int_equal(name_is_local(cases[i].name, strlen(cases[i].name)), cases[i].local);
    }
}

static void
test_sockets(void **state)
{
    struct sockaddr_storage storage = {.ss_family = AF_UNIX};
    struct sockaddr_in *four = (struct sockaddr_in *)(void *)&storage;
    char text[ADDRESS_TEXT_BYTES];
    Address address;

    (void)state;
    assert_false(address_of_socket(&storage, &address));
    four->sin_family = AF_INET;
    four->sin_addr.s_addr = htonl(0x0a000001);
    assert_true(address_of_socket(&storage, &address));
    assert_true(address_is_ipv4(&address));
    assert_string_equal(address_text(&address, text), "10.0.0.1");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_sockets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
