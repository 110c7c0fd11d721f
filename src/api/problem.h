/* Problem: every error leaves here, as application/problem+json (RFC 9457; api-surface.md 12). */
#ifndef API_PROBLEM_H
#define API_PROBLEM_H

#include "api/http.h"
#include "base/shape.h"

/*
 * Fills req->answer from `e` (code, status and title from err.def; `detail` is safe to show: the
 * root's text for codes that tell of the client's own mistake, else the sentence) and, if given,
 * all `problems`. Adds the headers that belong to the code (Retry-After, Accept-Post) and sets
 * answer.close where the connection is to end. Logs http.refused (4xx) or http.failed (5xx, with
 * the chain).
 */
void problem_answer(Request *req, const Err *e, const Problems *problems);

/* "/problems/{code}" as a page: what the code means. False: no such code. */
bool problem_page(const char *code, Buf *to);

#endif
