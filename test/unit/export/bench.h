/* What the tests of export/ share: the drivers there are, a configuration, a scratch folder. */
#ifndef TEST_EXPORT_BENCH_H
#define TEST_EXPORT_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "export/kinds.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

extern const SourceKind source_sqlite;
extern const EncoderKind format_csv;
extern const CodecKind codec_none;
extern const StorageKind storage_file;
extern const QueueKind queue_embedded;

static const SourceKind *const bench_sources[] = {&source_sqlite, NULL};
static const EncoderKind *const bench_formats[] = {&format_csv, NULL};
static const CodecKind *const bench_codecs[] = {&codec_none, NULL};
static const StorageKind *const bench_storages[] = {&storage_file, NULL};
static const QueueKind *const bench_queues[] = {&queue_embedded, NULL};
static const Kinds bench_kinds = {
    bench_sources, bench_formats, bench_codecs, bench_storages, bench_queues};

/* Options as on a command line; NULL ends them. Exits when they are wrong: the test is. */
static inline const Config *
bench_config(Arena *arena, char *options[])
{
    char *argv[32] = {(char *)(uintptr_t) "api"};
    ConfigArgs args = {.argc = 1, .argv = argv};
    const Config *config;
    Err e = {0};

    for (; options && *options && args.argc < 31; options++)
        argv[args.argc++] = *options;
    if (!(config = config_load(&args, arena, &e))) {
        fprintf(stderr, "configuration: %s\n", err_root(&e));
        exit(1);
    }
    return config;
}

enum { BENCH_PATH_BYTES = 512 };

static inline char *
bench_folder(char path[BENCH_PATH_BYTES])
{
    snprintf(path, BENCH_PATH_BYTES, "/tmp/rowferry-export.XXXXXX");
    if (!mkdtemp(path))
        exit(1);
    return path;
}

static inline void
bench_write(const char *folder, const char *name, const char *text, mode_t mode)
{
    char path[2 * BENCH_PATH_BYTES];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0 || chmod(path, mode) != 0)
        exit(1);
}

#endif
