#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16 << 10, ALIGNMENT = alignof(max_align_t) };

typedef struct Block Block;

struct Block {
    Block *next; /* the one taken after this; kept by a rewind for the next round */
    size_t room_bytes;
    size_t used_bytes;
    alignas(max_align_t) char bytes[];
};

struct Arena {
    Block *first, *now;
    size_t limit_bytes;
    size_t held_bytes; /* of all blocks */
    size_t peak_bytes;
};

static _Thread_local unsigned long fail_countdown;

static Block *
block_new(size_t room_bytes)
{
    Block *block = malloc(sizeof *block + room_bytes);

    if (block) {
        block->next = NULL;
        block->room_bytes = room_bytes;
        block->used_bytes = 0;
    }
    return block;
}

Arena *
arena_new(size_t limit_bytes)
{
    Arena *a = calloc(1, sizeof *a);

    if (a)
        a->limit_bytes = limit_bytes;
    return a;
}

void
arena_free(Arena *a)
{
    if (!a)
        return;
    for (Block *block = a->first, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(a);
}

static bool
must_fail(void)
{
    return fail_countdown > 0 && --fail_countdown == 0;
}

/* What a rewind has kept, and nothing needs now. */
static void
drop_kept(Arena *a)
{
    Block **from = a->now ? &a->now->next : &a->first;

    for (Block *block = *from, *next; block; block = next) {
        next = block->next;
        a->held_bytes -= block->room_bytes;
        free(block);
    }
    *from = NULL;
}

/* A block with room for `bytes` becomes the current one: a kept one behind it, else a new one. */
static bool
find_block(Arena *a, size_t bytes)
{
    Block *behind = a->now ? a->now->next : a->first;
    size_t room = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    Block *block;

    if (behind && behind->room_bytes >= bytes) {
        behind->used_bytes = 0;
        a->now = behind;
        return true;
    }
    if (room > a->limit_bytes - a->held_bytes) {
        drop_kept(a);
        behind = NULL;
        if (room > a->limit_bytes - a->held_bytes)
            room = bytes;
    }
    if (room > a->limit_bytes - a->held_bytes || !(block = block_new(room)))
        return false;
    block->next = behind;
    if (a->now)
        a->now->next = block;
    else
        a->first = block;
    a->now = block;
    a->held_bytes += room;
    if (a->held_bytes > a->peak_bytes)
        a->peak_bytes = a->held_bytes;
    return true;
}

static void *
take(Arena *a, size_t bytes, bool zeroed, Err *e)
{
    size_t rounded;
    void *memory;

    if (!size_add(bytes, ALIGNMENT - 1, &rounded) || must_fail()) {
        fail(e, MEMORY_LIMIT, "no %zu bytes", bytes);
        return NULL;
    }
    rounded &= ~(size_t)(ALIGNMENT - 1);
    if (rounded == 0)
        rounded = ALIGNMENT;
    if ((!a->now || a->now->room_bytes - a->now->used_bytes < rounded) && !find_block(a, rounded)) {
        fail(e, MEMORY_LIMIT, "no %zu bytes within the limit of %zu", bytes, a->limit_bytes);
        return NULL;
    }
    memory = a->now->bytes + a->now->used_bytes;
    a->now->used_bytes += rounded;
    if (zeroed)
        memset(memory, 0, rounded);
    return memory;
}

void *
arena_alloc(Arena *a, size_t bytes, Err *e)
{
    return take(a, bytes, true, e);
}

void *
arena_alloc_bare(Arena *a, size_t bytes, Err *e)
{
    return take(a, bytes, false, e);
}

void *
arena_alloc_array(Arena *a, size_t count, size_t bytes, Err *e)
{
    size_t product;

    if (!size_mul(count, bytes, &product)) {
        fail(e, MEMORY_LIMIT, "no %zu times %zu bytes", count, bytes);
        return NULL;
    }
    return arena_alloc(a, product, e);
}

char *
arena_bytes(Arena *a, const void *bytes, size_t count, Err *e)
{
    size_t room;
    char *copy;

    if (!size_add(count, 1, &room)) {
        fail(e, MEMORY_LIMIT, "no %zu bytes", count);
        return NULL;
    }
    if ((copy = arena_alloc(a, room, e)) && count > 0)
        memcpy(copy, bytes, count);
    return copy;
}

char *
arena_text(Arena *a, const char *text, Err *e)
{
    return arena_bytes(a, text, strlen(text), e);
}

char *
arena_printf(Arena *a, Err *e, const char *fmt, ...)
{
    va_list args;
    char *text;
    int bytes;

    va_start(args, fmt);
    bytes = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (bytes < 0) {
        fail(e, INTERNAL, "a text that cannot be formatted");
        return NULL;
    }
    if (!(text = arena_alloc(a, (size_t)bytes + 1, e)))
        return NULL;
    va_start(args, fmt);
    vsnprintf(text, (size_t)bytes + 1, fmt, args);
    va_end(args);
    return text;
}

ArenaMark
arena_mark(const Arena *a)
{
    return (ArenaMark){a->now, a->now ? a->now->used_bytes : 0};
}

void
arena_rewind(Arena *a, ArenaMark mark)
{
    a->now = mark.block;
    if (a->now)
        a->now->used_bytes = mark.used_bytes;
}

size_t
arena_peak_bytes(const Arena *a)
{
    return a->peak_bytes;
}

void
arena_fail_at(unsigned long nth)
{
    fail_countdown = nth;
}
