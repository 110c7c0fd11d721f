#include "child/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "child/frame.h"

enum {
    START_MS = 5000,
    GRACE_MS = 5000,      /* between asking, SIGTERM and SIGKILL */
    HEARTBEAT_MS = 30000, /* a run that does not move for so long hangs */
    MEMORY_LOOK_MS = 1000,
    RUNS_MAX = 1000,
    WORN_BYTES = 64 << 20,
    CHAIN_TEXT_BYTES = 512,
    OUT_BYTES_MAX = 2 * FRAME_BYTES_MAX,
};

typedef enum { CHILD_NONE, CHILD_STARTING, CHILD_IDLE, CHILD_RUNNING } ChildState;

struct Slot {
    Arena *arena; /* holds this struct too */
    const Config *config;
    const char *const *environment;
    ChildState state;
    pid_t pid;
    int socket, pid_fd, page_fd, permits_fd;
    FramePage *page;
    Buf in, out;
    json_t *frame;      /* what slot_hear lent */
    json_t *definition; /* that this child got last: it is not sent twice in a row */

    unsigned runs;
    int64_t run; /* number of the run */
    uint64_t rows_prepared;
    bool prepared;
    int64_t started_ms, deadline_ms;
    uint64_t memory_bytes;
    int64_t memory_look_ms;
    uint64_t heartbeat;
    int64_t heartbeat_ms;

    ErrCode ending; /* why it is told to end; ERR_NONE */
    char ending_text[128];
    int64_t asked_ms; /* when it was told; the later steps count from here */
    bool termed, killed;
};

Slot *
slot_new(const Config *config, int permits_fd, Err *e)
{
    Arena *arena = arena_new(64 << 10);
    Slot *s = arena ? arena_alloc(arena, sizeof *s, e) : NULL;

    if (!s) {
        arena_free(arena);
        if (!e->links)
            fail(e, MEMORY_LIMIT, "no memory for a slot");
        return NULL;
    }
    *s = (Slot){
        .arena = arena,
        .config = config,
        .socket = -1,
        .pid_fd = -1,
        .page_fd = -1,
        .permits_fd = permits_fd,
        .in = buf_new(2 * FRAME_BYTES_MAX),
        .out = buf_new(OUT_BYTES_MAX),
    };
    s->page_fd = memfd_create("rowferry-page", MFD_CLOEXEC);
    s->environment = config_child_environment(arena, e);
    if (s->environment && s->page_fd >= 0 && ftruncate(s->page_fd, sizeof *s->page) == 0) {
        s->page = mmap(NULL, sizeof *s->page, PROT_READ | PROT_WRITE, MAP_SHARED, s->page_fd, 0);
        if (s->page != MAP_FAILED)
            return s;
        s->page = NULL;
    }
    if (!e->links)
        fail(e, INTERNAL, "no page to share with a child: %m");
    slot_free(s);
    return NULL;
}

void
slot_set_config(Slot *s, const Config *config)
{
    s->config = config;
}

/* The process is gone or about to: nothing of it is left here. */
static void
forget_child(Slot *s)
{
    if (s->socket >= 0)
        close(s->socket);
    if (s->pid_fd >= 0)
        close(s->pid_fd);
    s->socket = s->pid_fd = -1;
    s->pid = 0;
    s->state = CHILD_NONE;
    buf_clear(&s->in);
    buf_clear(&s->out);
    json_decref(s->frame);
    json_decref(s->definition);
    s->frame = s->definition = NULL;
}

void
slot_kill(Slot *s)
{
    if (s->pid > 0 && !s->killed) {
        (void)kill(s->pid, SIGKILL);
        s->killed = true;
    }
}

void
slot_free(Slot *s)
{
    if (!s)
        return;
    if (s->pid > 0) {
        slot_kill(s);
        (void)waitpid(s->pid, NULL, 0);
    }
    forget_child(s);
    if (s->page)
        munmap(s->page, sizeof *s->page);
    if (s->page_fd >= 0)
        close(s->page_fd);
    buf_free(&s->in);
    buf_free(&s->out);
    arena_free(s->arena);
}

/* Sends what the socket takes; the rest waits for the next look. False: the child does not listen.
 */
static bool
flush(Slot *s, Err *e)
{
    while (s->out.bytes > 0) {
        ssize_t sent = send(s->socket, s->out.data, s->out.bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent > 0)
            buf_drop(&s->out, (size_t)sent);
        else if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        else
            return fail(e, WORKER_LOST, "the child does not listen: %m");
    }
    return true;
}

static bool
say(Slot *s, json_t *object, Err *e)
{
    return frame_put(&s->out, object, e) && flush(s, e);
}

static void
reset_page(Slot *s)
{
    atomic_store(&s->page->stage, 0);
    atomic_store(&s->page->rows, 0);
    atomic_store(&s->page->bytes, 0);
    atomic_store(&s->page->peak_bytes, 0);
    atomic_store(&s->page->rows_estimated, -1);
    atomic_store(&s->page->permit, 0);
    atomic_store(&s->page->asked, ERR_NONE);
}

bool
slot_start(Slot *s, Err *e)
{
    char own_pid[24];
    const char *args[] = {"child", own_pid, NULL};
    int ends[2], fds[3];
    Process process;
    bool ok;

    if (s->state != CHILD_NONE)
        return true;
    snprintf(own_pid, sizeof own_pid, "%ld", (long)getpid());
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return fail(e, INTERNAL, "no socket for a child: %m");
    reset_page(s);
    fds[0] = ends[1];
    fds[1] = s->page_fd;
    fds[2] = s->permits_fd;
    ok = process_start(&(ProcessStart){.args = args,
                           .environment = s->environment,
                           .fds = fds,
                           .fds_count = s->permits_fd >= 0 ? 3 : 2},
        &process, e);
    close(ends[1]);
    if (!ok) {
        close(ends[0]);
        return false;
    }
    s->socket = ends[0];
    s->pid = process.pid;
    s->pid_fd = process.pid_fd;
    s->state = CHILD_STARTING;
    s->runs = 0;
    s->ending = ERR_NONE;
    s->termed = s->killed = false;
    s->started_ms = time_now_ms();
    return say(s, json_pack("{s:s, s:o}", "op", "setup", "config", config_to_json(s->config)), e);
}

bool
slot_is_idle(const Slot *s)
{
    return s->state == CHILD_IDLE;
}

bool
slot_is_running(const Slot *s)
{
    return s->state == CHILD_RUNNING;
}

bool
slot_has_begun(const Slot *s)
{
    return s->permits_fd < 0 || atomic_load(&s->page->stage) > STAGE_STARTING ||
           slot_holds_permit(s);
}

bool
slot_holds_permit(const Slot *s)
{
    return atomic_load(&s->page->permit) != 0;
}

pid_t
slot_pid(const Slot *s)
{
    return s->pid;
}

int
slot_fd(const Slot *s)
{
    return s->socket;
}

int
slot_pid_fd(const Slot *s)
{
    return s->pid_fd;
}

static void
send_definition_once(Slot *s, json_t *frame)
{
    json_t *definition = json_object_get(frame, "definition");

    if (!definition)
        return;
    if (definition == s->definition) {
        json_object_set_new(frame, "definition", json_true());
        return;
    }
    json_decref(s->definition);
    s->definition = json_incref(definition);
}

bool
slot_run(Slot *s, const json_t *run, int64_t deadline_ms, uint64_t memory_bytes, Err *e)
{
    json_t *frame = json_copy((json_t *)(uintptr_t)run);

    if (s->state != CHILD_IDLE) {
        json_decref(frame);
        return fail(e, INTERNAL, "a child that is not idle");
    }
    reset_page(s);
    s->run++;
    s->runs++;
    s->state = CHILD_RUNNING;
    s->prepared = false;
    s->ending = ERR_NONE;
    s->termed = s->killed = false;
    s->deadline_ms = deadline_ms;
    s->memory_bytes = memory_bytes;
    s->started_ms = s->memory_look_ms = s->heartbeat_ms = time_now_ms();
    s->heartbeat = atomic_load(&s->page->heartbeat);
    send_definition_once(s, frame);
    json_object_set_new(frame, "op", json_string("run"));
    json_object_set_new(frame, "run", json_integer(s->run));
    json_object_set_new(frame, "deadline_ms", json_integer(deadline_ms));
    if (say(s, frame, e))
        return true;
    s->state = CHILD_IDLE; /* of a frame that was not sent nothing is known to it */
    slot_kill(s);
    return false;
}

bool
slot_go(Slot *s, Err *e)
{
    return say(s, json_pack("{s:s, s:I}", "op", "go", "run", (json_int_t)s->run), e);
}

static void
ask_to_end(Slot *s, ErrCode reason, const char *why, int64_t now_ms)
{
    Err ignored = {0};

    if (s->state != CHILD_RUNNING || s->ending != ERR_NONE)
        return;
    s->ending = reason;
    (void)text_copy(s->ending_text, sizeof s->ending_text, why);
    s->asked_ms = now_ms;
    atomic_store(&s->page->asked, (uint32_t)reason);
    /* The word on the page is enough; the frame wakes who waits on the socket. */
    (void)say(s, json_pack("{s:s, s:I}", "op", "cancel", "run", (json_int_t)s->run), &ignored);
}

void
slot_cancel(Slot *s, ErrCode reason)
{
    ask_to_end(s, reason, "the worker said so", time_now_ms());
}

void
slot_quit(Slot *s)
{
    Err ignored = {0};

    if (s->state == CHILD_IDLE)
        (void)say(s, json_pack("{s:s}", "op", "quit"), &ignored);
}

/* --- what the child says --- */

static bool
is_printable(const char *text, size_t bytes_max)
{
    size_t bytes = strlen(text);

    return bytes <= bytes_max && !text_has_control(text, bytes, false);
}

/* A frame that no honest child sends ends the child: it has been taken over, or is not in its right
 * mind. */
static SlotEvent
refuse(Slot *s, const char *why, Err *err)
{
    log_event(LOG_ERROR, "child.refused", log_number("child", s->pid), log_text("why", why));
    s->ending = ERR_INTERNAL;
    (void)text_copy(s->ending_text, sizeof s->ending_text, why);
    slot_kill(s);
    (void)err;
    return SLOT_NOTHING;
}

static void
read_failure(const json_t *frame, Err *err)
{
    const json_t *chain = json_object_get(frame, "chain"), *text;
    const char *where = json_text_or(frame, "where", "");
    ErrCode code = err_code_of(json_text_or(frame, "code", ""));
    size_t i;

    err_clear(err);
    json_array_foreach(chain, i, text)
    {
        char line[CHAIN_TEXT_BYTES];

        if (i >= ERR_LINKS_MAX)
            break;
        /* The place that the chain would name is this file: the child's own stands in the text. */
        (void)snprintf(line, sizeof line, "%s%s%s%s",
            json_is_string(text) ? json_string_value(text) : "", *where && i == 0 ? " (at " : "",
            i == 0 ? where : "", *where && i == 0 ? ")" : "");
        text_make_printable(line);
        fail_code(err, code == ERR_NONE ? ERR_INTERNAL : code, "%s", line);
    }
    if (err->links == 0)
        fail_code(err, code == ERR_NONE ? ERR_INTERNAL : code, "the child did not say why");
}

static SlotEvent
judge_frame(Slot *s, const json_t *frame, Err *err)
{
    const char *op = json_text_or(frame, "op", "");
    int64_t rows = json_int_or(frame, "rows", 0), bytes = json_int_or(frame, "bytes", 0);

    if (strcmp(op, "ready") == 0 && s->state == CHILD_STARTING) {
        s->state = CHILD_IDLE;
        return SLOT_READY;
    }
    if (s->state != CHILD_RUNNING || json_int_or(frame, "run", -1) != s->run)
        return refuse(s, "a frame of another run", err);
    if (rows < 0 || bytes < 0)
        return refuse(s, "a count below nothing", err);
    if (strcmp(op, "finishing") == 0)
        return SLOT_FINISHES;
    if (strcmp(op, "upload") == 0)
        return is_printable(json_text_or(frame, "upload", "\n"), 1024)
                   ? SLOT_UPLOAD
                   : refuse(s, "an upload that is no name", err);
    if (strcmp(op, "prepared") == 0) {
        if (s->prepared || !is_printable(json_text_or(frame, "sealed", "\n"), 1 << 20) ||
            strlen(json_text_or(frame, "sha256", "")) != 64 ||
            !is_printable(json_text_or(frame, "sha256", "\n"), 64))
            return refuse(s, "prepared twice, or not in order", err);
        s->prepared = true;
        s->rows_prepared = (uint64_t)rows;
        return SLOT_PREPARED;
    }
    if (strcmp(op, "done") == 0) {
        if (s->prepared && s->rows_prepared != (uint64_t)rows)
            return refuse(s, "other rows than were prepared", err);
        if (!is_printable(json_text_or(frame, "result", "\n"), 1 << 20))
            return refuse(s, "a result that is no text", err);
        s->state = CHILD_IDLE;
        return SLOT_DONE;
    }
    if (strcmp(op, "failed") == 0) {
        read_failure(frame, err);
        s->state = CHILD_IDLE;
        return SLOT_FAILED;
    }
    return refuse(s, "a word that is not known", err);
}

static SlotEvent
bury(Slot *s, Err *err)
{
    siginfo_t how = {0};
    pid_t pid = s->pid;

    if (waitid(P_PIDFD, (id_t)s->pid_fd, &how, WEXITED | WNOHANG) != 0 || how.si_pid == 0)
        return SLOT_NOTHING;
    err_clear(err);
    if (s->ending != ERR_NONE)
        fail_code(err, s->ending, "%s", s->ending_text);
    else if (how.si_code == CLD_EXITED)
        fail(err, WORKER_LOST, "child %ld ended with status %d", (long)pid, how.si_status);
    else
        fail(err, WORKER_LOST, "child %ld was ended by signal %d", (long)pid, how.si_status);
    forget_child(s);
    return SLOT_DIED;
}

static bool
read_socket(Slot *s)
{
    for (;;) {
        char *to = buf_reserve(&s->in, 16 << 10);
        ssize_t got;

        if (!to)
            return false;
        got = recv(s->socket, to, 16 << 10, MSG_DONTWAIT);
        if (got > 0)
            buf_wrote(&s->in, (size_t)got);
        else if (got < 0 && errno == EINTR)
            continue;
        else
            return got < 0 && errno == EAGAIN;
        if (got < 16 << 10)
            return true;
    }
}

SlotEvent
slot_hear(Slot *s, const json_t **frame, Err *err)
{
    Err e = {0};
    SlotEvent event;

    json_decref(s->frame);
    s->frame = NULL;
    if (s->state == CHILD_NONE)
        return SLOT_NOTHING;
    (void)flush(s, &e);
    err_clear(&e);
    if (s->socket >= 0 && !read_socket(s)) {
        /* It has closed its end: it is dying, or not in its right mind. */
        close(s->socket);
        s->socket = -1;
    }
    if (!s->killed) {
        s->frame = frame_take(&s->in, &e);
        if (e.links)
            (void)refuse(s, err_root(&e), err);
        if (s->frame && (event = judge_frame(s, s->frame, err)) != SLOT_NOTHING) {
            if (frame)
                *frame = s->frame;
            return event;
        }
    }
    /* Everything it said has been heard; is it still there? */
    if (s->socket < 0)
        slot_kill(s);
    return bury(s, err);
}

/* --- from outside --- */

static void
press(Slot *s, int64_t now_ms)
{
    int64_t since_ms = now_ms - s->asked_ms;

    if (since_ms > GRACE_MS && !s->termed) {
        (void)kill(s->pid, SIGTERM);
        s->termed = true;
    }
    if (since_ms > 2 * GRACE_MS && !s->killed)
        slot_kill(s);
}

void
slot_tick(Slot *s, int64_t now_ms)
{
    uint64_t heartbeat;
    Err ignored = {0};

    (void)flush(s, &ignored); /* what the socket did not take at once */
    if (s->state == CHILD_STARTING && now_ms - s->started_ms > START_MS && !s->killed) {
        s->ending = ERR_WORKER_LOST;
        (void)text_copy(s->ending_text, sizeof s->ending_text, "the child did not start");
        slot_kill(s);
    }
    if (s->state != CHILD_RUNNING)
        return;
    if (s->ending != ERR_NONE) {
        press(s, now_ms);
        return;
    }
    heartbeat = atomic_load_explicit(&s->page->heartbeat, memory_order_relaxed);
    if (heartbeat != s->heartbeat) {
        s->heartbeat = heartbeat;
        s->heartbeat_ms = now_ms;
    }
    if (s->deadline_ms > 0 && now_ms > s->deadline_ms + GRACE_MS) {
        ask_to_end(
            s, ERR_TASK_TIMEOUT, "the time limit has passed, and the child did not end", now_ms);
        s->asked_ms -= GRACE_MS; /* it had its time to end by itself */
    } else if (now_ms - s->heartbeat_ms > HEARTBEAT_MS) {
        ask_to_end(s, ERR_WORKER_LOST, "the child hangs", now_ms);
    } else if (now_ms - s->memory_look_ms >= MEMORY_LOOK_MS) {
        s->memory_look_ms = now_ms;
        if (s->memory_bytes > 0 && process_resident_bytes(s->pid) > s->memory_bytes) {
            s->ending = ERR_MEMORY_LIMIT;
            snprintf(s->ending_text, sizeof s->ending_text, "more than %" PRIu64 " bytes resident",
                s->memory_bytes);
            slot_kill(s);
        }
    }
}

SlotProgress
slot_progress(const Slot *s)
{
    return (SlotProgress){
        .stage = (Stage)(atomic_load_explicit(&s->page->stage, memory_order_relaxed) & 3),
        .rows = atomic_load_explicit(&s->page->rows, memory_order_relaxed),
        .bytes = atomic_load_explicit(&s->page->bytes, memory_order_relaxed),
        .peak_bytes = atomic_load_explicit(&s->page->peak_bytes, memory_order_relaxed),
        .rows_estimated = atomic_load_explicit(&s->page->rows_estimated, memory_order_relaxed),
    };
}

bool
slot_is_worn(const Slot *s)
{
    return s->state == CHILD_IDLE &&
           (s->runs >= RUNS_MAX ||
               (s->runs % 64 == 63 && process_resident_bytes(s->pid) > WORN_BYTES));
}
