/* Follow: exports watched to their end (S2's long polls), and what their end means. */
#ifndef CLI_FOLLOW_H
#define CLI_FOLLOW_H

#include "cli/remote.h"

typedef struct {
    const char *id;
    const char *name; /* what the bar calls it */
    json_t *status;   /* S2's last object, with task_id; NULL: not asked yet */
    unsigned retry_after_s;
    bool ended;
} Followed;

typedef enum {
    FOLLOW_SILENTLY, /* --wait */
    FOLLOW_SHOWN,    /* a bar; with --json each change on standard output */
} FollowHow;

/* Asks once; the server may hold the answer for `wait_s` seconds (0-30) while it is not the end. */
bool follow_ask(Remote *r, Followed *f, unsigned wait_s, Err *e) MUST_CHECK;

/* Until all have ended. INTERRUPTED: Ctrl-C, the exports go on and the user knows how to resume;
 * twice in a second cancels them and goes on to their end. */
bool follow_all(Remote *r, Followed *list, size_t count, FollowHow how, Err *e) MUST_CHECK;

/* True if it completed; else the reason in `e`: its error_code, CANCELLED, EXPORT_FAILED. */
bool follow_completed(const Followed *f, Err *e) MUST_CHECK;

/* E3. The new state's object, which the caller owns. */
bool follow_cancel(Remote *r, const char *id, json_t **answer, Err *e) MUST_CHECK;

void follow_free(Followed *list, size_t count);

#endif
