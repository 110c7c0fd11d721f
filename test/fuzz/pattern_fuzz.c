/* Any pattern and text (a NUL between): in time, and what is refused fits nothing. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "export/pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *pattern = malloc(bytes + 2), *text;
    const char *why = NULL;

    memcpy(pattern, data, bytes);
    pattern[bytes] = pattern[bytes + 1] = '\0';
    text = pattern + strlen(pattern) + 1;
    if (text > pattern + bytes)
        text = pattern + bytes;
    if (!pattern_check(pattern, &why)) {
        if (!why || !*why)
            abort();
    } else {
        (void)pattern_fits(pattern, text);
        if (strlen(pattern) > 512)
            abort();
    }
    free(pattern);
    return 0;
}
