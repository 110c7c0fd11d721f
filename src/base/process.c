#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "base/time.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { ARGS_MAX = 64, FDS_MAX = 8, FIRST_FD = 3 };

static bool
is_among(int fd, const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (fds[i] == fd)
            return true;
    return false;
}

/* Descriptors first go out of each other's way, to numbers that none of them has, then to 3, 4, …;
 * all others are closed. (In the new process: what has these numbers here does not mind.) */
static int
place_fds(posix_spawn_file_actions_t *actions, const int *fds, unsigned count)
{
    int aside[FDS_MAX], next = FIRST_FD + (int)count, error = 0;

    for (unsigned i = 0; !error && i < count; i++) {
        while (is_among(next, fds, count))
            next++;
        aside[i] = next++;
        error = posix_spawn_file_actions_adddup2(actions, fds[i], aside[i]);
    }
    for (unsigned i = 0; !error && i < count; i++)
        error = posix_spawn_file_actions_adddup2(actions, aside[i], FIRST_FD + (int)i);
    if (!error)
        error = posix_spawn_file_actions_addclosefrom_np(actions, FIRST_FD + (int)count);
    return error;
}

bool
process_start(const ProcessStart *start, Process *process, Err *e)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char *args[ARGS_MAX + 2] = {(char *)(uintptr_t) "rowferry"};
    sigset_t held, all;
    size_t count = 0;
    int error;

    while (start->args[count] && count < ARGS_MAX) {
        args[count + 1] = (char *)(uintptr_t)start->args[count];
        count++;
    }
    if (start->args[count] || start->fds_count > FDS_MAX)
        return fail(e, INTERNAL, "too many arguments for a process");
    /* SIGHUP asks to read something anew: it waits until the role can hear it. */
    sigemptyset(&held);
    sigaddset(&held, SIGHUP);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    error = place_fds(&actions, start->fds, start->fds_count);
    if (!error)
        error = posix_spawnattr_setsigmask(&attributes, &held);
    if (!error)
        error = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!error)
        error =
            posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (!error)
        error = posix_spawn(&process->pid, "/proc/self/exe", &actions, &attributes, args,
            start->environment ? (char *const *)(uintptr_t)start->environment : environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (error) {
        errno = error;
        return fail(e, INTERNAL, "cannot start a %s process: %m", start->args[0]);
    }
    process->pid_fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (process->pid_fd < 0) {
        fail(e, INTERNAL, "cannot watch a %s process: %m", start->args[0]);
        kill(process->pid, SIGKILL);
        (void)waitpid(process->pid, NULL, 0);
        return false;
    }
    (void)fcntl(process->pid_fd, F_SETFD, FD_CLOEXEC);
    return true;
}

/* --- another program --- */

typedef struct {
    int fd; /* -1: at its end */
    char *to;
    size_t room, bytes; /* room without the NUL */
    bool is_full;       /* there was more */
} Heard;

typedef struct {
    const ProcessAsk *ask;
    Process process;
    Heard out, said;
    int64_t deadline_ms;
} Asked;

static int
place_output(posix_spawn_file_actions_t *actions, int out, int said)
{
    int error = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

    if (!error)
        error = posix_spawn_file_actions_adddup2(actions, out, STDOUT_FILENO);
    if (!error)
        error = posix_spawn_file_actions_adddup2(actions, said, STDERR_FILENO);
    return error ? error : posix_spawn_file_actions_addclosefrom_np(actions, FIRST_FD);
}

static int
spawn_other(const char *const *args, int out, int said, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int error;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    error = place_output(&actions, out, said);
    if (!error)
        error = posix_spawnattr_setsigmask(&attributes, &none);
    if (!error)
        error = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!error) /* group 0: one of its own */
        error = posix_spawnattr_setflags(
            &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    if (!error)
        error = posix_spawnp(
            pid, args[0], &actions, &attributes, (char *const *)(uintptr_t)args, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* Both pipes are O_NONBLOCK at our end alone: at the other they would surprise. */
static bool
start_other(Asked *a, Err *e)
{
    int out[2] = {-1, -1}, said[2] = {-1, -1}, error = 0;

    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(said, O_CLOEXEC) != 0 ||
        fcntl(out[0], F_SETFL, O_NONBLOCK) != 0 || fcntl(said[0], F_SETFL, O_NONBLOCK) != 0)
        error = errno;
    if (!error)
        error = spawn_other(a->ask->args, out[1], said[1], &a->process.pid);
    a->out.fd = out[0];
    a->said.fd = said[0];
    if (out[1] >= 0)
        close(out[1]);
    if (said[1] >= 0)
        close(said[1]);
    if (!error) {
        a->process.pid_fd = (int)syscall(SYS_pidfd_open, a->process.pid, 0);
        return true;
    }
    errno = error;
    return fail(e, NOT_FOUND, "cannot start %s: %m", a->ask->args[0]);
}

/* What there is now; closes at the end. */
static void
hear(Heard *h)
{
    char beyond[256];

    while (h->fd >= 0) {
        size_t left = h->room - h->bytes;
        ssize_t got = read(h->fd, left ? h->to + h->bytes : beyond, left ? left : sizeof beyond);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            close(h->fd);
            h->fd = -1;
        } else if (left) {
            h->bytes += (size_t)got;
        } else {
            h->is_full = true;
            explicit_bzero(beyond, sizeof beyond);
        }
    }
}

/* Until it has ended, whoever still has its pipes. */
static bool
hear_out(Asked *a, Err *e)
{
    struct pollfd fds[3] = {{.fd = a->process.pid_fd, .events = POLLIN}};
    const char *name = a->ask->args[0];

    do {
        int64_t left_ms = a->deadline_ms - time_now_ms();

        if (a->ask->go_on && !a->ask->go_on(a->ask->with))
            return fail(e, INTERRUPTED, "%s was given up", name);
        if (left_ms <= 0)
            return fail(e, WAITED_TOO_LONG, "%s did not end within %" PRId64 " ms", name,
                a->ask->timeout_ms);
        fds[1] = (struct pollfd){.fd = a->out.fd, .events = POLLIN};
        fds[2] = (struct pollfd){.fd = a->said.fd, .events = POLLIN};
        (void)poll(fds, 3, left_ms < 1000 ? (int)left_ms : 1000);
        hear(&a->out);
        hear(&a->said);
        if (a->out.is_full)
            return fail(e, SIZE_LIMIT, "%s writes more than %zu bytes", name, a->out.room);
    } while (!(fds[0].revents & POLLIN));
    return true;
}

bool
process_ask(const ProcessAsk *ask, int *status, Err *e)
{
    Asked a = {.ask = ask,
        .process = {.pid_fd = -1},
        .out = {.to = ask->out, .room = ask->out_bytes - 1},
        .said = {.to = ask->said, .room = ask->said_bytes - 1},
        .deadline_ms = time_now_ms() + ask->timeout_ms};
    siginfo_t how = {0};
    bool started = start_other(&a, e), ok = started;

    if (started && a.process.pid_fd < 0)
        ok = fail(e, INTERNAL, "cannot watch %s: %m", ask->args[0]);
    ok = ok && hear_out(&a, e);
    if (started && !ok)
        (void)kill(-a.process.pid, SIGKILL);
    if (started)
        (void)waitid(P_PID, (id_t)a.process.pid, &how, WEXITED);
    *status = how.si_code == CLD_EXITED ? how.si_status : 128 + how.si_status;
    a.out.to[a.out.bytes] = '\0';
    a.said.to[a.said.bytes] = '\0';
    if (a.out.fd >= 0)
        close(a.out.fd);
    if (a.said.fd >= 0)
        close(a.said.fd);
    if (a.process.pid_fd >= 0)
        close(a.process.pid_fd);
    return ok;
}

/* --- what every role does first --- */

/* Else the next socket or file would be taken for standard output. Who writes to one that was
 * closed learns it (EBADF); what was for standard error is lost. */
static void
open_standard_fds(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

void
process_begin(bool dies_with_parent, pid_t parent)
{
    const struct rlimit no_core = {0, 0};

    open_standard_fds();
    umask(0077);
    (void)prctl(PR_SET_NAME, "rowferry", 0, 0, 0); /* else it is called after /proc/self/exe */
    (void)setrlimit(RLIMIT_CORE, &no_core);
    if (!SANITIZED) /* LeakSanitizer traces its own process. */
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file over its limit is EFBIG */
    if (dies_with_parent) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        /* It may have died before the line above. */
        if (getppid() != parent)
            _exit(1);
    }
}

int
process_signals(Err *e)
{
    sigset_t set;
    int fd = -1;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 ||
        (fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)) < 0)
        fail(e, INTERNAL, "cannot wait for signals: %m");
    return fd;
}

void
process_limit(uint64_t data_bytes, uint64_t files, uint64_t file_bytes)
{
    struct rlimit limit;

    if (data_bytes > 0 && !SANITIZED) {
        limit = (struct rlimit){data_bytes, data_bytes};
        (void)setrlimit(RLIMIT_DATA, &limit);
    }
    if (files > 0) {
        limit = (struct rlimit){files, files};
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (file_bytes > 0 && getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur > file_bytes) {
        limit = (struct rlimit){file_bytes, file_bytes};
        (void)setrlimit(RLIMIT_FSIZE, &limit);
    }
}

/* Reads a small file of /proc as text; false if it is not there. */
static bool
read_proc(const char *path, char *to, size_t to_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, to, to_bytes - 1);

    if (fd >= 0)
        close(fd);
    to[got > 0 ? got : 0] = '\0';
    return got > 0;
}

uint64_t
process_resident_bytes(pid_t pid)
{
    char path[64], text[256];
    const char *second;
    uint64_t pages;

    snprintf(path, sizeof path, "/proc/%ld/statm", (long)pid);
    if (!read_proc(path, text, sizeof text) || !(second = strchr(text, ' ')))
        return 0;
    pages = strtoull(second, NULL, 10);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t
process_peak_bytes(void)
{
    char text[4096];
    const char *at;

    if (!read_proc("/proc/self/status", text, sizeof text) || !(at = strstr(text, "VmHWM:")))
        return 0;
    return strtoull(at + 6, NULL, 10) * 1024;
}

uint64_t
process_born(pid_t pid)
{
    char path[64], text[1024], *at;
    unsigned field = 2;

    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    /* The program's name may hold blanks and parentheses: count from the last one. */
    if (!read_proc(path, text, sizeof text) || !(at = strrchr(text, ')')))
        return 0;
    /* A zombie has ended: it holds nothing any more. */
    if (at[1] == ' ' && (at[2] == 'Z' || at[2] == 'X'))
        return 0;
    while (field < 22 && (at = strchr(at + 1, ' ')))
        field++;
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static char scope[96];

static void
read_scope(void)
{
    char name[48];
    ssize_t bytes = readlink("/proc/self/ns/pid", name, sizeof name - 1);

    name[bytes > 0 ? bytes : 0] = '\0';
    (void)snprintf(scope, sizeof scope, "%s %s", time_boot_id(), name);
}

const char *
process_home(void)
{
    const char *home = getenv("HOME");
    const struct passwd *user;

    if (home && *home)
        return home;
    return (user = getpwuid(geteuid())) ? user->pw_dir : NULL;
}

const char *
process_scope(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, read_scope);
    return scope;
}

bool
process_scope_is_this_boot(const char *other)
{
    const char *boot = time_boot_id();
    size_t bytes = strlen(boot);

    return strncmp(other, boot, bytes) == 0 && (other[bytes] == ' ' || other[bytes] == '\0');
}

bool
process_may_live(pid_t pid, uint64_t born)
{
    uint64_t found;

    errno = 0;
    found = process_born(pid);
    if (found == 0 && errno != 0 && errno != ENOENT && errno != ESRCH)
        return true;
    return found == born;
}

unsigned
process_cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (unsigned)CPU_COUNT(&set);
    return 1;
}

void
process_forget_variable(const char *name)
{
    size_t bytes = strlen(name);

    for (char **at = environ; at && *at; at++)
        if (strncmp(*at, name, bytes) == 0 && (*at)[bytes] == '=') {
            explicit_bzero(*at + bytes + 1, strlen(*at + bytes + 1));
            unsetenv(name);
            return;
        }
}
