/* Finding: what looking at something from close by brought to light, for people: a line of doctor.
 */
#ifndef BASE_FINDING_H
#define BASE_FINDING_H

typedef enum { VERDICT_GOOD, VERDICT_UNWISE, VERDICT_BAD } Verdict;

typedef struct {
    Verdict verdict;
    const char *about; /* "right to list"; NULL: the whole */
    const char *text;  /* "the role is a superuser"; without a secret */
    const char *fix;   /* what to do; NULL: nothing */
} Finding;

enum { FINDINGS_MAX = 32 };

#endif
