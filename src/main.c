/*
 * rowferry: the only file that knows every driver and role by name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/process.h"
#include "beat/beat.h"
#include "child/child.h"
#include "cli/cli.h"
#include "export/kinds.h"
#include "supervisor/supervisor.h"
#include "worker/worker.h"

extern const SourceKind source_sqlite;
extern const EncoderKind format_csv;
extern const CodecKind codec_none;
extern const StorageKind storage_file;
extern const QueueKind queue_embedded;

static const SourceKind *const sources[] = {&source_sqlite, NULL};
static const EncoderKind *const formats[] = {&format_csv, NULL};
static const CodecKind *const codecs[] = {&codec_none, NULL};
static const StorageKind *const storages[] = {&storage_file, NULL};
static const QueueKind *const queues[] = {&queue_embedded, NULL};
static const Kinds kinds = {sources, formats, codecs, storages, queues};

int
main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    (void)kinds;
    return 2;
}
