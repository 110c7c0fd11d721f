/*
 * The demo database (configuration.md 3): sources that nobody named are DATA/demo.db. A worker that
 * finds it missing has it written, by `rowferry demo-data`, and takes no task of such a source
 * until that is done. It is written under another name and renamed, so two workers that both start
 * it do no harm.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "worker/worker_in.h"

enum { DEMO_MS_MAX = 600000 };

static bool
is_needed(const Config *config)
{
    for (size_t i = 0; i < config->sources; i++)
        if (config->source[i].is_demo)
            return access(config->demo_path, F_OK) != 0;
    return false;
}

void
demo_look(Worker *w)
{
    const char *const args[] = {"demo-data", "--quiet", "--data-dir", w->config->data_dir, NULL};
    ArenaMark mark = arena_mark(w->scratch);
    ProcessStart start = {.args = args};
    Err e = {0};

    if (w->demo.pid || !is_needed(w->config))
        return;
    log_event(LOG_WARNING, "demo.missing", log_text("path", w->config->demo_path),
        log_text("msg", "sources without a URL use the demo database, which is written now; tasks "
                        "of such sources wait"));
    if (!(start.environment = config_child_environment(w->scratch, &e)) ||
        !process_start(&start, &w->demo, &e) || !worker_watch(w, w->demo.pid_fd, FD_DEMO, 0, &e)) {
        log_event(LOG_ERROR, "demo.failed", log_err(&e));
        demo_end(w);
    }
    w->demo_until_ms = time_now_ms() + DEMO_MS_MAX;
    arena_rewind(w->scratch, mark);
}

/* Whatever came of it: tasks are taken again, and fail with a reason if there is no database. */
static void
note_end(Worker *w, const siginfo_t *how)
{
    bool good = how->si_code == CLD_EXITED && how->si_status == 0;

    log_event(good ? LOG_INFO : LOG_ERROR, good ? "demo.written" : "demo.failed",
        log_text("path", w->config->demo_path), log_number("status", good ? 0 : how->si_status));
    close(w->demo.pid_fd);
    w->demo = (Process){0};
    w->may_take = true;
}

void
demo_hear(Worker *w, int64_t now_ms)
{
    siginfo_t how = {0};

    if (!w->demo.pid)
        return;
    if (now_ms > w->demo_until_ms)
        (void)kill(w->demo.pid, SIGKILL);
    if (waitid(P_PIDFD, (id_t)w->demo.pid_fd, &how, WEXITED | WNOHANG) == 0 && how.si_pid != 0)
        note_end(w, &how);
}

void
demo_end(Worker *w)
{
    if (!w->demo.pid)
        return;
    (void)kill(w->demo.pid, SIGKILL); /* what it wrote has no name yet */
    (void)waitpid(w->demo.pid, NULL, 0);
    close(w->demo.pid_fd);
    w->demo = (Process){0};
}
