/* Processes: this very program is what is started; main() plays the roles below. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "test/test.h"

extern char **environ;

static void
say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* Which descriptors are open, "0 1 2 3". */
static void
list_fds(char *to, size_t to_bytes)
{
    size_t at = 0;

    to[0] = '\0';
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            at += (size_t)snprintf(to + at, to_bytes - at, "%s%d", at ? " " : "", fd);
}

static int
play(int argc, char **argv)
{
    char text[8192];

    if (strcmp(argv[1], "fds") == 0) {
        list_fds(text, sizeof text);
        say(3, text);
    } else if (strcmp(argv[1], "order") == 0) {
        for (int i = 2; i < argc; i++)
            say(i + 1, argv[i]);
    } else if (strcmp(argv[1], "environment") == 0) {
        for (char **at = environ; *at; at++) {
            say(3, *at);
            say(3, ";");
        }
    } else if (strcmp(argv[1], "signals") == 0) {
        sigset_t blocked;
        struct sigaction action;

        sigprocmask(SIG_SETMASK, NULL, &blocked);
        sigaction(SIGUSR1, NULL, &action);
        say(3, sigismember(&blocked, SIGTERM) ? "blocked" : "open");
        say(3, action.sa_handler == SIG_DFL ? " default" : " ignored");
    } else if (strcmp(argv[1], "begin") == 0) {
        struct rlimit core;
        struct sigaction pipe_action, size_action;
        int death = 0;

        process_begin(true, getppid());
        getrlimit(RLIMIT_CORE, &core);
        sigaction(SIGPIPE, NULL, &pipe_action);
        sigaction(SIGXFSZ, NULL, &size_action);
        prctl(PR_GET_PDEATHSIG, &death);
        snprintf(text, sizeof text, "umask %03o core %d pipe %d xfsz %d death %d privileges %d",
            (unsigned)umask(0), (int)core.rlim_cur, pipe_action.sa_handler == SIG_IGN,
            size_action.sa_handler == SIG_IGN, death, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
        say(3, text);
    } else if (strcmp(argv[1], "orphan") == 0) {
        process_begin(true, getppid() + 1);
        say(3, "went on");
    } else if (strcmp(argv[1], "limits") == 0) {
        struct rlimit files, data, size;

        process_limit(0, 77, 4096);
        process_limit(0, 0, 8192);
        process_limit(0, 0, 0);
        getrlimit(RLIMIT_NOFILE, &files);
        getrlimit(RLIMIT_DATA, &data);
        getrlimit(RLIMIT_FSIZE, &size);
        snprintf(text, sizeof text, "%d %d %d", (int)files.rlim_cur, data.rlim_cur == RLIM_INFINITY,
            (int)size.rlim_cur);
        say(3, text);
    } else if (strcmp(argv[1], "sleep") == 0) {
        pause();
    }
    return 7;
}

/* Starts a role with a pipe as descriptor 3; what it wrote there, and that it ended with 7. */
static const char *
ask(const char *const *args, const char *const *environment, int want_status)
{
    static char text[65536];
    int ends[2], status;
    const int fds[1] = {0};
    ProcessStart start = {.args = args, .environment = environment, .fds_count = 1};
    Process process;
    size_t at = 0;
    ssize_t got;
    Err e = {0};

    (void)fds;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    start.fds = &ends[1];
    assert_ok(process_start(&start, &process, &e), &e);
    close(ends[1]);
    while ((got = read(ends[0], text + at, sizeof text - 1 - at)) > 0)
        at += (size_t)got;
    text[at] = '\0';
    close(ends[0]);
    assert_int_equal(poll(&(struct pollfd){.fd = process.pid_fd, .events = POLLIN}, 1, 10000), 1);
    assert_true(fcntl(process.pid_fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), want_status);
    close(process.pid_fd);
    return text;
}

static void
test_only_what_is_named(void **state)
{
    int more[20];

    (void)state;
    for (size_t i = 0; i < count_of(more); i++) /* not even close-on-exec */
        more[i] = open("/dev/null", O_RDONLY);
    assert_string_equal(ask((const char *const[]){"fds", NULL}, NULL, 7), "0 1 2 3");
    for (size_t i = 0; i < count_of(more); i++)
        close(more[i]);
}

/* Whatever numbers they have here, each arrives in its place. */
static void
test_order_of_descriptors(void **state)
{
    static const int places[][3] = {
        {10, 11, 12},
        {12, 11, 10},
        {3, 4, 5},
        {5, 4, 3},
        {4, 5, 3},
        {63, 64, 65},
        {64, 63, 65},
        {65, 64, 63},
        {64, 65, 66},
        {66, 65, 64},
        {6, 7, 8},
        {8, 6, 7},
        {7, 3, 6},
        {200, 3, 100},
    };

    (void)state;
    for (size_t i = 0; i < count_of(places); i++) {
        static const char *const args[] = {"order", "one", "two", "three", NULL};
        int readers[3], fds[3], spare[64], spares = 0, status;
        char name[64], text[16] = "";
        Process process;
        Err e = {0};

        snprintf(name, sizeof name, "%d %d %d", places[i][0], places[i][1], places[i][2]);
        trying(name);
        /* The pipes' own numbers must not lie where they are to be put: make them high first. */
        for (int n = 0; n < 3; n++) {
            int ends[2];

            assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
            readers[n] = fcntl(ends[0], F_DUPFD_CLOEXEC, 300);
            spare[spares] = fcntl(ends[1], F_DUPFD_CLOEXEC, 300);
            close(ends[0]);
            close(ends[1]);
            assert_true(readers[n] >= 300 && spare[spares] >= 300);
            spares++;
        }
        for (int n = 0; n < 3; n++) {
            fds[n] = places[i][n];
            assert_true(fcntl(fds[n], F_GETFD) < 0); /* free */
            assert_int_equal(dup3(spare[n], fds[n], O_CLOEXEC), fds[n]);
            close(spare[n]);
        }
        assert_ok(
            process_start(&(ProcessStart){.args = args, .fds = fds, .fds_count = 3}, &process, &e),
            &e);
        for (int n = 0; n < 3; n++)
            close(fds[n]);
        for (int n = 0; n < 3; n++) {
            memset(text, 0, sizeof text);
            assert_true(read(readers[n], text, sizeof text - 1) > 0);
            assert_string_equal(text, args[n + 1]);
            close(readers[n]);
        }
        assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
        close(process.pid_fd);
    }
}

static void
test_environment(void **state)
{
    static const char *const environment[] = {"A=1", "B=two words", NULL};
    const char *text;

    (void)state;
    assert_string_equal(
        ask((const char *const[]){"environment", NULL}, environment, 7), "A=1;B=two words;");
    setenv("ROWFERRY_TEST_HERE", "yes", 1);
    text = ask((const char *const[]){"environment", NULL}, NULL, 7);
    assert_non_null(strstr(text, "ROWFERRY_TEST_HERE=yes;"));
    unsetenv("ROWFERRY_TEST_HERE");
}

static void
test_signals_are_as_new(void **state)
{
    sigset_t term, before;

    (void)state;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    (void)signal(SIGUSR1, SIG_IGN);
    assert_string_equal(ask((const char *const[]){"signals", NULL}, NULL, 7), "open default");
    (void)signal(SIGUSR1, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void
test_first_acts(void **state)
{
    (void)state;
    assert_string_equal(ask((const char *const[]){"begin", NULL}, NULL, 7),
        "umask 077 core 0 pipe 1 xfsz 1 death 9 privileges 1");
    assert_string_equal(ask((const char *const[]){"orphan", NULL}, NULL, 1), "");
    assert_string_equal(ask((const char *const[]){"limits", NULL}, NULL, 7), "77 1 4096");
}

static void
test_too_much(void **state)
{
    const char *args[80];
    int fds[9] = {0};
    Process process;
    Err e = {0};

    (void)state;
    for (size_t i = 0; i < 79; i++)
        args[i] = "x";
    args[79] = NULL;
    assert_fails(process_start(&(ProcessStart){.args = args}, &process, &e), ERR_INTERNAL, &e);
    err_clear(&e);
    args[1] = NULL;
    assert_fails(
        process_start(&(ProcessStart){.args = args, .fds = fds, .fds_count = 9}, &process, &e),
        ERR_INTERNAL, &e);
    err_clear(&e);
    fds[0] = 999; /* not open */
    assert_fails(
        process_start(&(ProcessStart){.args = args, .fds = fds, .fds_count = 1}, &process, &e),
        ERR_INTERNAL, &e);
}

static void
test_what_is_known_of_a_process(void **state)
{
    static const char *const args[] = {"sleep", NULL};
    Process process;
    uint64_t born;
    int status;
    Err e = {0};

    (void)state;
    assert_true(process_resident_bytes(getpid()) > 1 << 20);
    assert_true(process_peak_bytes() >= 1 << 20);
    assert_true(process_cores() >= 1);
    assert_ok(process_start(&(ProcessStart){.args = args}, &process, &e), &e);
    born = process_born(process.pid);
    assert_true(born > 0);
    assert_int_equal(process_born(process.pid), born);
    assert_true(born >= process_born(getpid()));
    assert_int_equal(kill(process.pid, SIGKILL), 0);
    assert_int_equal(poll(&(struct pollfd){.fd = process.pid_fd, .events = POLLIN}, 1, 10000), 1);
    assert_int_equal(process_born(process.pid), 0); /* a zombie */
    assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
    assert_int_equal(process_born(process.pid), 0);
    assert_int_equal(process_resident_bytes(process.pid), 0);
    close(process.pid_fd);
}

/* Who has no descriptor left to look with must not take the living for dead. */
static void
test_whether_a_process_is_gone(void **state)
{
    uint64_t born = process_born(getpid());
    struct rlimit before, none;

    (void)state;
    assert_true(process_may_live(getpid(), born));
    assert_false(process_may_live(getpid(), born + 1)); /* its pid was given to another */
    assert_false(process_may_live(999999999, born));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){0, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_true(process_may_live(getpid(), born));
    assert_true(process_may_live(getppid(), born));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* --- another program --- */

static char heard[64], complained[16];

static bool
ask_shell(const char *script, int64_t timeout_ms, bool (*go_on)(void *with), int *status, Err *e)
{
    return process_ask(&(ProcessAsk){.args = (const char *const[]){"sh", "-c", script, NULL},
                           .timeout_ms = timeout_ms,
                           .go_on = go_on,
                           .out = heard,
                           .out_bytes = sizeof heard,
                           .said = complained,
                           .said_bytes = sizeof complained},
        status, e);
}

static void
test_asking(void **state)
{
    static const struct {
        const char *name, *script;
        int status;
        const char *out, *said;
    } cases[] = {
        {"both outputs", "echo a; echo b >&2; echo c", 0, "a\nc\n", "b\n"},
        {"nothing", "exit 7", 7, "", ""},
        {"a signal", "echo a; kill -9 $$", 137, "a\n", ""},
        {"nothing to read", "read a; echo $?", 0, "1\n", ""},
        {"only its own descriptors", "exec 9>&1; ls /proc/self/fd/ | tr '\\n' ' '", 0, "0 1 2 3 9 ",
            ""},
        {"complains a lot", "head -c 100000 /dev/zero | tr '\\0' x >&2", 0, "", "xxxxxxxxxxxxxxx"},
        {"leaves somebody with its output", "sleep 30 & echo a", 0, "a\n", ""},
        {"as much as there is room for", "printf %63s x", 0, NULL, ""},
        {"dies of a pipe as a shell would", "yes | head -n 1", 0, "y\n", ""},
    };
    int more = open("/dev/null", O_RDONLY); /* not even close-on-exec */

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < count_of(cases); i++) {
        int status = -1;
        Err e = {0};
        int64_t begun_ms = time_now_ms();

        trying(cases[i].name);
        assert_ok(ask_shell(cases[i].script, 20000, NULL, &status, &e), &e);
        assert_int_equal(status, cases[i].status);
        if (cases[i].out)
            assert_string_equal(heard, cases[i].out);
        else
            assert_int_equal(strlen(heard), sizeof heard - 1);
        assert_string_equal(complained, cases[i].said);
        assert_true(time_now_ms() - begun_ms < 10000);
    }
    (void)signal(SIGPIPE, SIG_DFL);
    close(more);
}

static bool
never(void *with)
{
    (void)with;
    return false;
}

/* Whoever is given up is gone with all that it started. */
static void
test_asking_too_much(void **state)
{
    static const struct {
        const char *name, *script;
        bool (*go_on)(void *with);
        int64_t timeout_ms;
        ErrCode want;
    } cases[] = {
        {"too slow", "sleep 60 & echo $!; wait", NULL, 300, ERR_WAITED_TOO_LONG},
        {"given up", "sleep 60", never, 20000, ERR_INTERRUPTED},
        {"too much", "yes", NULL, 20000, ERR_SIZE_LIMIT},
        {"too much by a byte", "printf %64s x; sleep 60", NULL, 20000, ERR_SIZE_LIMIT},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        int64_t begun_ms = time_now_ms();
        int status;
        Err e = {0};

        trying(cases[i].name);
        assert_fails(ask_shell(cases[i].script, cases[i].timeout_ms, cases[i].go_on, &status, &e),
            cases[i].want, &e);
        assert_true(time_now_ms() - begun_ms < 10000);
        if (i == 0) {
            pid_t grandchild = (pid_t)strtol(heard, NULL, 10);

            assert_true(grandchild > 1);
            for (int n = 0; n < 200 && process_born(grandchild) > 0; n++)
                usleep(10000);
            assert_int_equal(process_born(grandchild), 0);
        }
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left to be buried */
    assert_int_equal(errno, ECHILD);
}

static void
test_asking_nobody(void **state)
{
    int status;
    Err e = {0};

    (void)state;
    assert_fails(process_ask(&(ProcessAsk){.args = (const char *const[]){"/no/such", NULL},
                                 .timeout_ms = 1000,
                                 .out = heard,
                                 .out_bytes = sizeof heard,
                                 .said = complained,
                                 .said_bytes = sizeof complained},
                     &status, &e),
        ERR_NOT_FOUND, &e);
    assert_says(&e, "/no/such");
}

static void
test_forgetting(void **state)
{
    static char entry[] = "ROWFERRY_TEST_SECRET=very secret";

    (void)state;
    assert_int_equal(putenv(entry), 0);
    setenv("ROWFERRY_TEST_SECRET_2", "stays", 1);
    process_forget_variable("ROWFERRY_TEST_SECRET");
    assert_null(getenv("ROWFERRY_TEST_SECRET"));
    assert_string_equal(entry, "ROWFERRY_TEST_SECRET=");
    assert_memory_equal(strchr(entry, '=') + 1, "\0\0\0\0\0\0\0\0\0\0\0", 11);
    assert_string_equal(getenv("ROWFERRY_TEST_SECRET_2"), "stays");
    process_forget_variable("ROWFERRY_TEST_NEVER_SET");
    unsetenv("ROWFERRY_TEST_SECRET_2");
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_is_named),
        cmocka_unit_test(test_order_of_descriptors),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_signals_are_as_new),
        cmocka_unit_test(test_first_acts),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_what_is_known_of_a_process),
        cmocka_unit_test(test_whether_a_process_is_gone),
        cmocka_unit_test(test_asking),
        cmocka_unit_test(test_asking_too_much),
        cmocka_unit_test(test_asking_nobody),
        cmocka_unit_test(test_forgetting),
    };

    if (argc > 1)
        return play(argc, argv);
    close_range(3, ~0u, 0); /* whatever the caller left open */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
