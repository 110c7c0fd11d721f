/* Kinds: the drivers this program was built with, as main.c lists them. The rest of the tree looks
 * them up here. */
#ifndef EXPORT_KINDS_H
#define EXPORT_KINDS_H

#include "base/buf.h"
#include "codec/codec.h"
#include "config/config.h"
#include "format/encoder.h"
#include "queue/queue.h"
#include "source/source.h"
#include "storage/storage.h"

typedef struct {
    const SourceKind *const *source; /* each list ends with NULL */
    const EncoderKind *const *format;
    const CodecKind *const *codec;
    const StorageKind *const *storage;
    const QueueKind *const *queue;
} Kinds;

/* NULL if there is none. The scheme is what stands before the first ':' of the URL. */
const SourceKind *kinds_source(const Kinds *kinds, const char *url);
const EncoderKind *kinds_format(const Kinds *kinds, const char *name);
const CodecKind *kinds_codec(const Kinds *kinds, const char *name);

/* Is there a driver for the URL of each source, and can it work with it? CONFIG_INVALID: where the
 * URL stands and what is wrong, without a secret of it. Before config_forget_sources(). */
bool kinds_judge_sources(const Kinds *kinds, const Config *config, Err *e) MUST_CHECK;

/* Can the selected storage work with what is configured? CONFIG_INVALID. Appends to `to` (NULL: to
 * nothing) where it is and whose keys it has, for people. */
bool kinds_judge_storage(const Kinds *kinds, const Config *config, Buf *to, Err *e) MUST_CHECK;

/* Sources close what this process has kept for the next export. */
void kinds_let_go(const Kinds *kinds);

/* What the configuration selects: REDIS_URL and S3_BUCKET. CONFIG_INVALID if this build does not
 * have it. */
const StorageKind *kinds_storage(const Kinds *kinds, const Config *config, Err *e) MUST_CHECK;
const QueueKind *kinds_queue(const Kinds *kinds, const Config *config, Err *e) MUST_CHECK;

/* The specs made from options. A source's: where it is and who asks; what is asked is the caller's
 * to add. `signs`: with the secrets of links. */
SourceSpec kinds_source_spec(const ConfigSource *source);
StorageSpec kinds_storage_spec(const Config *config, bool signs);
QueueSpec kinds_queue_spec(const Config *config, bool writes, bool wakes);

#endif
