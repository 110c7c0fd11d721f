#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
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
