/* Credentials that somebody else hands out. */
#include "storage/s3/credentials_in.h"

bool
provider_fetch(const ProviderCall *call, S3Keys *keys, Err *e)
{
    if (call->plan->kind != SOURCE_KEYS)
        return fail(e, STORAGE_DENIED, "%s gives no credentials", call->plan->name);
    *keys = call->plan->keys;
    return true;
}
