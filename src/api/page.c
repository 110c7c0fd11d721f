/* Pages for people. */
#include "api/api_in.h"
#include "api/problem.h"

enum { PAGE_BYTES_MAX = 16 << 10 };

bool
problem_show(Call *call, Err *e)
{
    Response *answer = &call->req->answer;
    Buf page = buf_new(PAGE_BYTES_MAX);

    if (!problem_page(call->name, &page)) {
        buf_free(&page);
        return fail(e, NOT_FOUND, "no such code of a problem");
    }
    buf_free(&answer->body);
    answer->body = page;
    answer->status = 200;
    answer->content_type = "text/html; charset=utf-8";
    response_header(answer, "Content-Security-Policy",
        "default-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'");
    return true;
}
