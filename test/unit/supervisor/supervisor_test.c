/* The supervisor with roles that are this very program: main() plays them when it is asked to. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "supervisor/supervisor.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

/* A role: one line about itself to the pipe that the test listens to, and one when it stops. */
static volatile sig_atomic_t heard;

static void
hear(int number)
{
    /* Of two that wait, the handler of the lower number runs last: a stop is not to be unheard. */
    if (number != SIGHUP || heard == 0)
        heard = number;
}

static void
say(const char *role, const char *word)
{
    const char *path = getenv("ROWFERRY_TEST_PIPE");
    int fd = path ? open(path, O_WRONLY | O_APPEND) : -1;
    char line[64];

    snprintf(line, sizeof line, "%s %s %ld\n", role, word, (long)getpid());
    if (fd >= 0 && write(fd, line, strlen(line)) > 0)
        close(fd);
}

static int
play(const char *role)
{
    ConfigArgs args = {.argc = 1, .argv = (char *[]){(char *)(uintptr_t)role, NULL}};
    Arena *arena = arena_new(4 << 20);
    const struct sigaction act = {.sa_handler = hear};
    sigset_t none, all;
    Err e = {0};
    const Config *config = config_load(&args, arena, &e);
    int is_listening = 0;
    socklen_t bytes = sizeof is_listening;

    if (!config || config->supervisor != getppid())
        return 70;
    process_begin(true, (pid_t)config->supervisor);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL); /* heard in ppoll() alone */
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGQUIT, &act, NULL);
    sigaction(SIGHUP, &act, NULL);
    if (strcmp(role, "beat") == 0 && getenv("ROWFERRY_TEST_WRONG"))
        return 2;
    if (strcmp(role, "api") == 0)
        (void)getsockopt(config->listen_fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &bytes);
    say(role, is_listening ? "listens" : "starts");
    sigemptyset(&none);
    for (;;) {
        struct pollfd nothing = {.fd = -1};

        (void)ppoll(&nothing, 0, NULL, &none);
        if (heard == SIGHUP)
            say(role, "reloads");
        else if (heard)
            break;
        heard = 0;
    }
    say(role, heard == SIGTERM ? "stops" : "quits");
    arena_free(arena);
    return 0;
}

static char pipe_path[64];
static int pipe_fd;
static pid_t supervisor;
static char text[4096]; /* read from the pipe, not yet looked at */
static size_t have;

static int
set_up(void **state)
{
    char dir[] = "/tmp/supervisor-test-XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(pipe_path, sizeof pipe_path, "%s/pipe", dir);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    pipe_fd = open(pipe_path, O_RDWR | O_NONBLOCK);
    setenv("ROWFERRY_TEST_PIPE", pipe_path, 1);
    have = 0;
    setenv("ROWFERRY_PORT", "0", 1);
    setenv("ROWFERRY_LOGLEVEL", "info", 1);
    unsetenv("ROWFERRY_TEST_WRONG");
    return pipe_fd >= 0 ? 0 : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    close(pipe_fd);
    unlink(pipe_path);
    *strrchr(pipe_path, '/') = '\0';
    return rmdir(pipe_path);
}

static void
begin(void)
{
    pid_t parent = getpid();

    if ((supervisor = fork()) == 0) {
        ConfigArgs args = {.argc = 1, .argv = (char *[]){(char *)(uintptr_t) "serve", NULL}};
        Arena *arena = arena_new(4 << 20);
        Err e = {0};
        const Config *config = config_load(&args, arena, &e);

        process_begin(true, parent); /* a test that fails leaves nothing behind */
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        _exit(config ? supervisor_run(config, &args) : 2);
    }
    assert_true(supervisor > 0);
}

/* Waits for a line that begins so; returns the pid in it. Lines of others go by. */
static pid_t
expect(const char *wanted)
{
    int64_t until = time_now_ms() + 10000;

    for (;;) {
        struct pollfd p = {.fd = pipe_fd, .events = POLLIN};
        char *end = memchr(text, '\n', have);
        ssize_t got;

        if (end) {
            bool is_it = strncmp(text, wanted, strlen(wanted)) == 0;
            pid_t pid = (pid_t)strtol(strrchr((*end = '\0', text), ' '), NULL, 10);

            have -= (size_t)(end + 1 - text);
            memmove(text, end + 1, have);
            if (is_it)
                return pid;
            continue;
        }
        if (time_now_ms() > until)
            fail_msg("no \"%s\" in time", wanted);
        (void)poll(&p, 1, 100);
        if ((got = read(pipe_fd, text + have, sizeof text - have)) > 0)
            have += (size_t)got;
    }
}

static int
end_status(void)
{
    int status;

    assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool
is_gone(pid_t pid)
{
    for (int64_t until = time_now_ms() + 5000; time_now_ms() < until; usleep(10000))
        if (process_born(pid) == 0)
            return true;
    return false;
}

static void
test_clean_stop(void **state)
{
    (void)state;
    begin();
    expect("api listens");
    kill(supervisor, SIGHUP);
    expect("api reloads");
    kill(supervisor, SIGTERM);
    expect("api stops"); /* with what went by before it: see the order below */
    assert_int_equal(end_status(), 0);
}

static void
test_api_stops_last(void **state)
{
    (void)state;
    begin();
    expect("api listens");
    usleep(300000); /* all three are up; were they not, "worker stops" would not come */
    kill(supervisor, SIGTERM);
    expect("worker stops");
    expect("api stops");
    assert_int_equal(end_status(), 0);
}

static void
test_restart_keeps_the_socket(void **state)
{
    pid_t first, second;

    (void)state;
    begin();
    first = expect("api listens");
    kill(first, SIGKILL);
    second = expect("api listens");
    assert_int_not_equal(first, second);
    kill(supervisor, SIGTERM);
    assert_int_equal(end_status(), 0);
}

static void
test_wrong_configuration_of_a_role(void **state)
{
    (void)state;
    setenv("ROWFERRY_TEST_WRONG", "1", 1);
    begin();
    assert_int_equal(end_status(), 2);
}

/* reliability.md, A7 */
static void
test_nothing_outlives_it(void **state)
{
    pid_t api;
    int status;

    (void)state;
    begin();
    api = expect("api listens");
    kill(supervisor, SIGKILL);
    assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
    assert_true(is_gone(api));
}

int
main(int argc, char **argv)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(test_clean_stop),
        EACH(test_api_stops_last),
        EACH(test_restart_keeps_the_socket),
        EACH(test_wrong_configuration_of_a_role),
        EACH(test_nothing_outlives_it),
    };

    if (argc > 1)
        _exit(play(argv[1])); /* its status is what is tested, not what it leaves to the system */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
