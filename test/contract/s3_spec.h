/* Settings of an S3 storage for tests: no text is NULL, and what a test needs it sets. */
#ifndef TEST_CONTRACT_S3_SPEC_H
#define TEST_CONTRACT_S3_SPEC_H

#include "storage/storage.h"

/* Of nobody: no bucket, no store, no keys and no files with any; requests are signed and tried
 * once. */
S3Spec s3_spec_new(void);

#endif
