/*
 * Process: starts the program itself in a role, and what every role does first. The only file that
 * starts processes (posix_spawn, never fork: nothing is inherited but what is named).
 */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

typedef struct {
    const char *const *args; /* NULL-ended; args[0] is the role: "child" */
    const char *const
        *environment; /* NULL-ended NAME=value list; NULL: what process_environment() says */
    const int *fds;   /* these become descriptors 3, 4, … of the new process */
    unsigned fds_count;
} ProcessStart;

typedef struct {
    pid_t pid;
    int pid_fd; /* pidfd: readable when the process has ended; O_CLOEXEC; the caller closes it */
} Process;

/* Starts /proc/self/exe. All other descriptors are closed in it but 0, 1, 2. */
bool process_start(const ProcessStart *start, Process *process, Err *e) MUST_CHECK;

/* Another program that is asked something: its own process group, this process's environment,
 * nothing to read, no descriptors but its output. */
typedef struct {
    const char *const *args; /* NULL-ended; args[0] is looked for along PATH if it has no slash */
    int64_t timeout_ms;
    bool (*go_on)(void *with); /* asked once a second at least; false gives it up. NULL: never */
    void *with;
    char *out, *said; /* what it writes to standard output and error; each gets a NUL behind */
    size_t out_bytes, said_bytes; /* room; what it says beyond that is dropped */
} ProcessAsk;

/* Runs it to its end. `status`: what it exited with, or 128 and the signal. NOT_FOUND (there is no
 * such program, or it cannot be started), WAITED_TOO_LONG, INTERRUPTED (go_on), SIZE_LIMIT (more
 * output than room); with the last three it has been killed with all of its group. */
bool process_ask(const ProcessAsk *ask, int *status, Err *e) MUST_CHECK;

/*
 * First acts of a role: descriptors 0, 1 and 2 that were closed are /dev/null, so that nothing
 * opened later is taken for them; umask 0077, no core files, not dumpable (not in sanitizer
 * builds), no new privileges, SIGPIPE and SIGXFSZ ignored. `dies_with_parent`: PR_SET_PDEATHSIG
 * SIGKILL, and exits at once if the parent is gone already (`parent`: the pid it must have).
 */
void process_begin(bool dies_with_parent, pid_t parent);

/*
 * A descriptor (signalfd(2), O_NONBLOCK, O_CLOEXEC; the caller closes it) that tells of SIGTERM,
 * SIGINT, SIGQUIT and SIGHUP, which are blocked from now on in this thread and those that it
 * starts. -1 and INTERNAL.
 */
int process_signals(Err *e) MUST_CHECK;

/* RLIMIT_DATA (not in sanitizer builds), RLIMIT_NOFILE, and RLIMIT_FSIZE, which is never raised; 0
 * leaves a limit alone. */
void process_limit(uint64_t data_bytes, uint64_t files, uint64_t file_bytes);

/* Resident bytes of a process (/proc/PID/statm), and the peak of the own one (VmHWM); 0 if it is
 * gone. */
uint64_t process_resident_bytes(pid_t pid);
uint64_t process_peak_bytes(void);

/* Start time of a process in clock ticks since boot (/proc/PID/stat 22): with the pid it names a
 * process for ever within one boot. 0 if there is none. */
uint64_t process_born(pid_t pid);

/* The user's folder: $HOME, else what the user database says; NULL: neither. Static. */
const char *process_home(void);

/* Where a pid means what it means to us: the boot's id (time.h), a blank, and the pid namespace
 * (pid_namespaces(7)). Containers have one each. Static. */
const char *process_scope(void);
bool process_scope_is_this_boot(const char *scope);

/* False: the process that had this pid and was born then is gone for certain. What cannot be told
 * (no descriptor left, no /proc) is true. */
bool process_may_live(pid_t pid, uint64_t born) MUST_CHECK;

/* Number of processors this process may use. */
unsigned process_cores(void);

/* Overwrites a variable's value in the process's own environment block, and removes it. */
void process_forget_variable(const char *name);

#endif
