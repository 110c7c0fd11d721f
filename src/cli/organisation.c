#include "cli/organisation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/text.h"
#include "base/time.h"
#include "cli/graph.h"

enum {
    FIRST_YEAR = 2025, /* the year that passes; a fixed one, or equal seeds would not be equal */
    DAYS = 365,
    HOUR_S = 3600,
    FIRST_OFFICE_HOUR = 8,
    LAST_OFFICE_HOUR = 17,
    SQUAD_MIN = 5,
    SQUAD_MAX = 10,
    REPORTS = 8, /* leads who report to one lead */
    CONNECTORS_PERCENT = 3,
    /* Betweenness looks at each edge twice for each source; more than this, and it takes samples.
     */
    BETWEENNESS_LOOKS_MAX = 400000000,
    BETWEENNESS_SOURCES_MIN = 32,
};

/* --- what people are called and do --- */

static const char *const first_names[] = {"Ada", "Aisha", "Alejandro", "Amara", "Anna", "Arjun",
    "Aylin", "Ben", "Björn", "Camille", "Carlos", "Chen", "Chiara", "Daniel", "Deepa", "Dmitri",
    "Elena", "Emeka", "Emma", "Fatima", "Felix", "Finn", "Giulia", "Grace", "Hana", "Hassan",
    "Hiroshi", "Ines", "Ingrid", "Isaac", "Ivan", "Jamal", "Jana", "José", "Jun", "Kaja", "Karim",
    "Kofi", "Laila", "Lena", "Liam", "Łukasz", "Maria", "Marek", "Mei", "Miguel", "Nadia", "Noah",
    "Olga", "Omar", "Priya", "Rosa", "Samir", "Sofia", "Søren", "Tariq", "Tomás", "Uma", "Viktor",
    "Wei", "Yara", "Yusuf", "Zeynep", "Zoë"};

static const char *const last_names[] = {"Abebe", "Ahmed", "Almeida", "Andersen", "Bakker",
    "Banerjee", "Bianchi", "Castillo", "Chowdhury", "Costa", "Dubois", "Eriksson", "Fernández",
    "Fischer", "Gonçalves", "Grant", "Haddad", "Hansen", "Horvat", "Ibrahim", "Ivanova", "Jansen",
    "Jovanović", "Kaur", "Keller", "Kim", "Kowalski", "Kumar", "Lee", "Lindqvist", "MacLeod",
    "Martin", "Mbeki", "Mensah", "Moreau", "Müller", "Nakamura", "Nguyen", "Novak", "O'Brien",
    "O'Neill", "Okafor", "Ortiz", "Papadopoulos", "Park", "Patel", "Petrov", "Popescu", "Rahman",
    "Reyes", "Rossi", "Sato", "Schmidt", "Silva", "Singh", "Smith", "Tanaka", "Torres", "Varga",
    "Virtanen", "Wang", "Weber", "Yilmaz", "Zhang"};

enum { KINDS = 4, ROLES = 4 };

/* What people do with each other; weights in hundredths, so that sums are exact. */
static const struct {
    const char *name;
    uint32_t least, most;
} kinds[KINDS] = {{"chat", 5, 60}, {"email", 20, 150}, {"meeting", 50, 400}, {"review", 50, 250}};

enum { KIND_MEETING = 2 };

typedef struct {
    const char *name;
    uint32_t percent; /* of all employees */
    const char *head;
    const char *role[ROLES];
    uint32_t kind_percent[KINDS]; /* how its people work together */
} Team;

static const Team teams[] = {
    {"Engineering", 30, "VP, Engineering",
        {"Software Engineer", "Senior Software Engineer", "Staff Engineer",
            "Site Reliability Engineer"},
        {45, 15, 15, 25}},
    {"Sales", 15, "VP, Sales",
        {"Account Executive", "Sales Development Representative", "Account Manager",
            "Sales Engineer"},
        {25, 45, 28, 2}},
    {"Support", 12, "VP, Support",
        {"Support Agent", "Senior Support Agent", "Support Engineer", "Knowledge Manager"},
        {55, 33, 10, 2}},
    {"Product", 8, "VP, Product",
        {"Product Manager", "Senior Product Manager", "Product Analyst", "Program Manager"},
        {35, 25, 32, 8}},
    {"Marketing", 8, "VP, Marketing",
        {"Content Strategist", "Campaign Manager", "Growth Analyst", "Brand Designer"},
        {35, 35, 25, 5}},
    {"Operations", 8, "VP, Operations",
        {"Operations Analyst", "Logistics Coordinator", "Facilities Manager", "Buyer"},
        {40, 40, 18, 2}},
    {"Finance", 6, "Chief Financial Officer",
        {"Accountant", "Financial Analyst", "Controller", "Payroll Specialist"}, {25, 50, 20, 5}},
    {"Data", 5, "VP, Data",
        {"Data Engineer", "Data Analyst", "Data Scientist", "Analytics Engineer"},
        {45, 15, 18, 22}},
    {"Design", 4, "VP, Design",
        {"Product Designer", "Researcher", "Design Systems Designer", "Writer"}, {45, 15, 25, 15}},
    {"People", 4, "Chief People Officer",
        {"Recruiter", "People Partner", "Learning Specialist", "Benefits Specialist"},
        {35, 38, 25, 2}},
};

static const Team top = {"Leadership", 0, "Chief Executive Officer", {NULL}, {20, 40, 38, 2}};

enum { TEAMS = sizeof teams / sizeof teams[0] };

/* --- what is kept of them --- */

/* One person as another one knows them: how much they have to do with each other, and what they had
 * so far. */
typedef struct {
    uint32_t other;
    uint32_t strength_to_here; /* of this contact and those before it */
    uint32_t interactions;
    uint32_t last_s; /* of the year */
    uint64_t weight; /* hundredths */
} Contact;

typedef struct {
    const Team *team;
    uint32_t first_of_squad, squad_size; /* whom one sits with */
    uint32_t busy, busy_late; /* chance to begin something, in office hours and outside */
    bool is_connector;
    uint64_t all, late, meetings; /* interactions of this person so far, begun or not */
} Person;

/* Picks an index by weight in two looks (Walker, Electronics Letters 10, 1974). */
typedef struct {
    uint32_t *own; /* of 2^32: below it the slot's own index, else its alias */
    uint32_t *alias;
    uint32_t count;
} Lots;

struct Organisation {
    uint32_t people;
    uint64_t seed, chance; /* as given; as it goes on */
    Employee *employee;
    Person *person;
    uint64_t *first; /* contacts of person i: contact[first[i]] … contact[first[i + 1] - 1] */
    Contact *contact;
    Lots by_day, by_night;
};

/* --- lots --- */

/*
 * Slots whose weight is below the average are filled up by one that is above it. In whole numbers,
 * so that every machine draws the same.
 */
static bool
lots_make(Lots *lots, const uint32_t *weight, uint32_t count, Arena *arena, Err *e)
{
    uint64_t sum = 0, *scaled;
    uint32_t *stack, small = 0, large = count;

    lots->count = count;
    if (!(lots->own = arena_alloc_array(arena, count, sizeof *lots->own, e)) ||
        !(lots->alias = arena_alloc_array(arena, count, sizeof *lots->alias, e)) ||
        !(scaled = arena_alloc_array(arena, count, sizeof *scaled, e)) ||
        !(stack = arena_alloc_array(arena, count, sizeof *stack, e)))
        return false;
    for (uint32_t i = 0; i < count; i++)
        sum += weight[i];
    for (uint32_t i = 0; i < count; i++) {
        scaled[i] = (uint64_t)weight[i] * count; /* the average is `sum` */
        if (scaled[i] < sum)
            stack[small++] = i;
        else
            stack[--large] = i;
    }
    /* Small ones at the front of the stack, large ones at its back. */
    while (small > 0 && large < count) {
        uint32_t few = stack[--small], many = stack[large];

        lots->own[few] = (uint32_t)(((unsigned __int128)scaled[few] << 32) / sum);
        lots->alias[few] = many;
        scaled[many] -= sum - scaled[few];
        if (scaled[many] < sum) {
            large++;
            stack[small++] = many;
        }
    }
    for (; small > 0; small--) {
        lots->own[stack[small - 1]] = UINT32_MAX;
        lots->alias[stack[small - 1]] = stack[small - 1];
    }
    for (; large < count; large++) {
        lots->own[stack[large]] = UINT32_MAX;
        lots->alias[stack[large]] = stack[large];
    }
    return true;
}

static uint32_t
lots_draw(const Lots *lots, uint64_t *chance)
{
    uint64_t bits = random_next(chance);
    uint32_t slot = (uint32_t)((bits >> 32) * lots->count >> 32);

    return (uint32_t)bits < lots->own[slot] ? slot : lots->alias[slot];
}

/* --- hiring --- */

static void
give_name(Organisation *o, uint32_t i)
{
    Employee *employee = &o->employee[i];
    unsigned digits = 5;

    for (uint32_t n = o->people; n >= 100000; n /= 10)
        digits++;
    snprintf(employee->id, sizeof employee->id, "E%0*u", (int)digits, i + 1);
    snprintf(employee->name, sizeof employee->name, "%s %s",
        first_names[random_below(&o->chance, sizeof first_names / sizeof first_names[0])],
        last_names[random_below(&o->chance, sizeof last_names / sizeof last_names[0])]);
}

static void
give_habits(Organisation *o, uint32_t i, bool leads)
{
    Person *person = &o->person[i];
    uint32_t kind = random_below(&o->chance, 100);

    person->is_connector = random_below(&o->chance, 100) < CONNECTORS_PERCENT;
    person->busy = 20 + random_below(&o->chance, 60);
    if (leads)
        person->busy *= 2;
    if (person->is_connector)
        person->busy += person->busy / 2;
    /* Most work late seldom, some often, a few all the time. */
    person->busy_late = person->busy * (kind < 70 ? 1 : kind < 95 ? 4 : 16);
}

/*
 * One team, from `from` to `to`: squads one after the other, the first of each is its lead. Lead k
 * reports to lead (k - 1) / REPORTS, the team's head to person 0.
 */
static void
hire_team(Organisation *o, const Team *team, uint32_t from, uint32_t to, uint32_t *lead)
{
    uint32_t leads = 0;

    for (uint32_t at = from, size; at < to; at += size) {
        size = SQUAD_MIN + random_below(&o->chance, SQUAD_MAX - SQUAD_MIN + 1);
        if (size > to - at || to - at - size < SQUAD_MIN / 2)
            size = to - at;
        for (uint32_t i = at; i < at + size; i++) {
            o->person[i].team = team;
            o->person[i].first_of_squad = at;
            o->person[i].squad_size = size;
            o->employee[i].team = team->name;
            o->employee[i].role = team->role[random_below(&o->chance, ROLES)];
            o->employee[i].manager = at;
            give_name(o, i);
            give_habits(o, i, i == at);
        }
        o->employee[at].manager = leads > 0 ? lead[(leads - 1) / REPORTS] : 0;
        o->employee[at].role = leads == 0 ? team->head : "Team Lead";
        if (leads > 0 && lead[(leads - 1) / REPORTS] != from)
            o->employee[lead[(leads - 1) / REPORTS]].role = "Director";
        lead[leads++] = at;
    }
}

static bool
hire(Organisation *o, Arena *arena, Err *e)
{
    uint32_t others = o->people - 1, percent = 0;
    ArenaMark mark = arena_mark(arena);
    uint32_t *lead = arena_alloc_array(arena, o->people, sizeof *lead, e);

    if (!lead)
        return false;
    o->person[0] = (Person){.team = &top, .squad_size = 1};
    o->employee[0].team = top.name;
    o->employee[0].role = top.head;
    o->employee[0].manager = -1;
    give_name(o, 0);
    give_habits(o, 0, true);
    for (const Team *team = teams; team < teams + TEAMS; team++) {
        uint32_t from = 1 + (uint32_t)((uint64_t)others * percent / 100), to;

        percent += team->percent;
        to = 1 + (uint32_t)((uint64_t)others * percent / 100);
        hire_team(o, team, from, to, lead);
    }
    arena_rewind(arena, mark);
    return true;
}

/* --- who knows whom --- */

typedef struct {
    uint32_t a, b; /* a < b */
    uint32_t strength;
} Tie;

/* Counts only, as long as there is no memory yet. */
typedef struct {
    Tie *tie;
    uint64_t ties;
} Ties;

static void
tie(Ties *ties, uint32_t a, uint32_t b, uint32_t strength)
{
    if (a == b)
        return;
    if (ties->tie)
        ties->tie[ties->ties] = (Tie){a < b ? a : b, a < b ? b : a, strength};
    ties->ties++;
}

/* Somebody of another squad: mostly of the own team, which are the neighbours in the list. */
static uint32_t
pick_outsider(const Organisation *o, uint32_t i, uint64_t *chance)
{
    const Person *person = &o->person[i];
    uint32_t reach = 25 * SQUAD_MAX, near = person->first_of_squad;

    if (person->is_connector || random_below(chance, 100) >= 60)
        return random_below(chance, o->people);
    near = near > reach / 2 ? near - reach / 2 : 0;
    if (reach > o->people - near)
        reach = o->people - near;
    return near + random_below(chance, reach);
}

static void
tie_person(const Organisation *o, uint32_t i, uint64_t *chance, Ties *ties)
{
    const Person *person = &o->person[i];
    uint32_t outsiders = 1 + random_below(chance, 3);

    for (uint32_t mate = i + 1; mate < person->first_of_squad + person->squad_size; mate++)
        tie(ties, i, mate, 40 + random_below(chance, 60));
    if (o->employee[i].manager >= 0)
        tie(ties, i, (uint32_t)o->employee[i].manager, 30 + random_below(chance, 30));
    if (person->is_connector)
        outsiders += 8 + random_below(chance, 16);
    for (uint32_t k = 0; k < outsiders; k++) {
        uint32_t other = pick_outsider(o, i, chance);

        /* Nobody is alone: who picked themselves takes the next one. */
        tie(ties, i, other != i ? other : (i + 1) % o->people, 3 + random_below(chance, 20));
    }
}

static void
tie_everybody(const Organisation *o, uint64_t chance, Ties *ties)
{
    ties->ties = 0;
    for (uint32_t i = 0; i < o->people; i++)
        tie_person(o, i, &chance, ties);
}

static int
compare_ties(const void *left, const void *right)
{
    const Tie *x = left, *y = right;

    if (x->a != y->a)
        return x->a < y->a ? -1 : 1;
    if (x->b != y->b)
        return x->b < y->b ? -1 : 1;
    return x->strength > y->strength ? -1 : x->strength < y->strength;
}

/* In order, and each pair once: its strongest tie. */
static void
tidy_ties(Ties *ties)
{
    uint64_t kept = 0;

    qsort(ties->tie, ties->ties, sizeof *ties->tie, compare_ties);
    for (uint64_t i = 0; i < ties->ties; i++)
        if (kept == 0 || ties->tie[kept - 1].a != ties->tie[i].a ||
            ties->tie[kept - 1].b != ties->tie[i].b)
            ties->tie[kept++] = ties->tie[i];
    ties->ties = kept;
}

/* Both ends of every tie; since the ties are in order, so is everybody's list. */
static bool
make_contacts(Organisation *o, const Ties *ties, Arena *arena, Err *e)
{
    uint64_t *end = o->first + 1; /* counts, then ends */

    if (!(o->contact = arena_alloc_array(arena, 2 * ties->ties, sizeof *o->contact, e)))
        return false;
    for (uint64_t i = 0; i < ties->ties; i++) {
        end[ties->tie[i].a]++;
        end[ties->tie[i].b]++;
    }
    for (uint32_t i = 1; i <= o->people; i++)
        o->first[i] += o->first[i - 1];
    memmove(end, o->first, o->people * sizeof *end); /* where each list begins; filling moves it */
    for (uint64_t i = 0; i < ties->ties; i++) {
        const Tie *t = &ties->tie[i];

        o->contact[end[t->a]++] = (Contact){.other = t->b, .strength_to_here = t->strength};
        o->contact[end[t->b]++] = (Contact){.other = t->a, .strength_to_here = t->strength};
    }
    for (uint32_t i = 0; i < o->people; i++)
        for (uint64_t k = o->first[i] + 1; k < o->first[i + 1]; k++)
            o->contact[k].strength_to_here += o->contact[k - 1].strength_to_here;
    return true;
}

/* The ties are many and are not needed afterwards: they have memory of their own. */
static bool
introduce(Organisation *o, Arena *arena, Err *e)
{
    uint64_t chance = random_next(&o->chance);
    Arena *scratch = arena_new(SIZE_MAX);
    Ties ties = {0};
    bool ok = false;

    if (!scratch)
        return fail(e, MEMORY_LIMIT, "no memory for the ties");
    tie_everybody(o, chance, &ties);
    if ((ties.tie = arena_alloc_array(scratch, ties.ties, sizeof *ties.tie, e))) {
        tie_everybody(o, chance, &ties);
        tidy_ties(&ties);
        ok = make_contacts(o, &ties, arena, e);
    }
    arena_free(scratch);
    return ok;
}

static bool
make_lots(Organisation *o, Arena *arena, Err *e)
{
    uint32_t *weight = arena_alloc_array(arena, o->people, sizeof *weight, e);

    if (!weight)
        return false;
    for (uint32_t i = 0; i < o->people; i++)
        weight[i] = o->person[i].busy;
    if (!lots_make(&o->by_day, weight, o->people, arena, e))
        return false;
    for (uint32_t i = 0; i < o->people; i++)
        weight[i] = o->person[i].busy_late;
    return lots_make(&o->by_night, weight, o->people, arena, e);
}

Organisation *
organisation_new(uint32_t employees, uint64_t seed, Arena *arena, Err *e)
{
    Organisation *o = arena_alloc(arena, sizeof *o, e);

    if (!o)
        return NULL;
    o->people = employees;
    o->seed = o->chance = seed;
    if (!(o->employee = arena_alloc_array(arena, employees, sizeof *o->employee, e)) ||
        !(o->person = arena_alloc_array(arena, employees, sizeof *o->person, e)) ||
        !(o->first = arena_alloc_array(arena, (size_t)employees + 1, sizeof *o->first, e)) ||
        !hire(o, arena, e) || !introduce(o, arena, e) || !make_lots(o, arena, e))
        return NULL;
    return o;
}

/* --- a year --- */

typedef struct {
    int64_t day; /* of the year */
    int hour;
    bool is_office;
    uint64_t share; /* of all that happens; relative */
} Slot;

static Slot
slot_of(uint32_t index)
{
    static const uint8_t by_hour[24] = {
        1, 0, 0, 0, 0, 1, 3, 12, 45, 85, 100, 90, 60, 70, 95, 100, 85, 60, 22, 9, 7, 6, 4, 2};
    Slot slot = {.day = index / 24, .hour = (int)(index % 24)};
    int64_t days = time_days_from_civil(FIRST_YEAR, 1, 1) + slot.day;
    TimeParts p = time_parts(days * 86400000000);
    bool is_weekend = p.weekday == 0 || p.weekday == 6;

    slot.is_office = !is_weekend && slot.hour >= FIRST_OFFICE_HOUR && slot.hour <= LAST_OFFICE_HOUR;
    slot.share = by_hour[slot.hour] * (is_weekend ? 4u : 100u);
    if ((p.month == 1 && p.day <= 5) || (p.month == 12 && p.day >= 24))
        slot.share /= 5;
    else if (p.month == 8)
        slot.share = slot.share * 7 / 10;
    return slot;
}

static void
write_date(int64_t day, int hour, char when[WHEN_BYTES + 1])
{
    TimeParts p = time_parts(
        (time_days_from_civil(FIRST_YEAR, 1, 1) + day) * 86400000000 + hour * 3600000000LL);

    number_four((unsigned)p.year, when);
    number_two((unsigned)p.month, when + 5);
    number_two((unsigned)p.day, when + 8);
    number_two((unsigned)p.hour, when + 11);
    when[4] = when[7] = '-';
    when[10] = 'T';
    when[13] = when[16] = ':';
    when[WHEN_BYTES] = '\0';
}

static void
write_clock(uint32_t second_of_hour, char when[WHEN_BYTES + 1])
{
    number_two(second_of_hour / 60, when + 14);
    number_two(second_of_hour % 60, when + 17);
}

/* By strength, among the people somebody knows. */
static Contact *
pick_contact(Organisation *o, uint32_t person)
{
    Contact *low = &o->contact[o->first[person]], *high = &o->contact[o->first[person + 1]] - 1;
    uint32_t at = random_below(&o->chance, high->strength_to_here);

    while (low < high) {
        Contact *middle = low + (high - low) / 2;

        if (at < middle->strength_to_here)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static unsigned
pick_kind(const Team *team, uint64_t *chance)
{
    uint32_t at = random_below(chance, 100);
    unsigned kind = 0;

    while (kind + 1 < KINDS && at >= team->kind_percent[kind])
        at -= team->kind_percent[kind++];
    return kind;
}

static void
count_in(Person *person, bool late, bool meeting)
{
    person->all++;
    person->late += late;
    person->meetings += meeting;
}

static bool
interact(Organisation *o, const Slot *slot, uint32_t second, const char *when,
    InteractionFound *found, void *with, Err *e)
{
    uint32_t source = lots_draw(slot->is_office ? &o->by_day : &o->by_night, &o->chance);
    Contact *contact = pick_contact(o, source);
    unsigned kind = pick_kind(o->person[source].team, &o->chance);
    uint32_t weight =
        kinds[kind].least + random_below(&o->chance, kinds[kind].most - kinds[kind].least + 1);

    contact->interactions++;
    contact->weight += weight;
    contact->last_s = ((uint32_t)slot->day * 24 + (uint32_t)slot->hour) * HOUR_S + second;
    count_in(&o->person[source], !slot->is_office, kind == KIND_MEETING);
    count_in(&o->person[contact->other], !slot->is_office, kind == KIND_MEETING);
    return found(with,
        &(Interaction){when, source, contact->other, kinds[kind].name, (double)weight / 100}, e);
}

bool
organisation_live(
    Organisation *o, uint64_t interactions, InteractionFound *found, void *with, Err *e)
{
    uint64_t all = 0, so_far = 0, done = 0;
    char when[WHEN_BYTES + 1];

    for (uint32_t i = 0; i < DAYS * 24; i++)
        all += slot_of(i).share;
    for (uint32_t i = 0; i < DAYS * 24; i++) {
        Slot slot = slot_of(i);
        uint64_t until, count;

        /* Rounded so that the sum comes out right. */
        so_far += slot.share;
        until = (uint64_t)((unsigned __int128)interactions * so_far / all);
        count = until - done;
        done = until;
        write_date(slot.day, slot.hour, when);
        for (uint64_t k = 0; k < count; k++) {
            uint32_t second = (uint32_t)((k * HOUR_S + random_below(&o->chance, HOUR_S)) / count);

            write_clock(second, when);
            if (!interact(o, &slot, second, when, found, with, e))
                return false;
        }
    }
    return true;
}

/* --- what it made of them --- */

static const Contact *
find_contact(const Organisation *o, uint32_t person, uint32_t other)
{
    uint64_t low = o->first[person], high = o->first[person + 1];

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (o->contact[middle].other == other)
            return &o->contact[middle];
        if (o->contact[middle].other < other)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL; /* never: contacts are mutual */
}

/* Two people are neighbours if one of them ever turned to the other. */
static bool
make_graph(const Organisation *o, Graph *g, Arena *arena, Err *e)
{
    uint64_t *first = arena_alloc_array(arena, (size_t)o->people + 1, sizeof *first, e), count = 0;
    uint32_t *neighbour =
        first ? arena_alloc_array(arena, o->first[o->people], sizeof *neighbour, e) : NULL;

    if (!neighbour)
        return false;
    for (uint32_t i = 0; i < o->people; i++) {
        for (uint64_t k = o->first[i]; k < o->first[i + 1]; k++) {
            const Contact *c = &o->contact[k];

            if (c->interactions > 0 || find_contact(o, c->other, i)->interactions > 0)
                neighbour[count++] = c->other;
        }
        first[i + 1] = count;
    }
    *g = (Graph){o->people, first, neighbour};
    return true;
}

static double
at_most_one(double x)
{
    return x < 1 ? x : 1;
}

/* 0 to 100; docs/decisions/0007-demo-data.md says why so. */
static double
burnout(const Person *p, double between, double all_mean, double between_max)
{
    double all = (double)p->all, load, late, meetings, bridge, score;

    if (p->all == 0)
        return 0;
    load = all / (all + all_mean);
    late = at_most_one(3 * (double)p->late / all);
    meetings = at_most_one(2.5 * (double)p->meetings / all);
    bridge = between_max > 0 ? between / between_max : 0;
    score = 40 * load + 30 * late + 15 * meetings + 15 * bridge;
    return (double)(int64_t)(score * 10 + 0.5) / 10; /* more digits would say more than it knows */
}

static void
rate_burnout(Organisation *o)
{
    double all_mean = 0, between_max = 0;

    for (uint32_t i = 0; i < o->people; i++) {
        all_mean += (double)o->person[i].all;
        if (o->employee[i].betweenness_centrality > between_max)
            between_max = o->employee[i].betweenness_centrality;
    }
    all_mean /= (double)o->people;
    for (uint32_t i = 0; i < o->people; i++)
        o->employee[i].burnout_score =
            burnout(&o->person[i], o->employee[i].betweenness_centrality, all_mean, between_max);
}

static uint32_t
sources_for(const Graph *g)
{
    uint64_t looks = 2 * g->first[g->nodes] + 1, sources = BETWEENNESS_LOOKS_MAX / looks;

    if (sources < BETWEENNESS_SOURCES_MIN)
        sources = BETWEENNESS_SOURCES_MIN;
    return sources < g->nodes ? (uint32_t)sources : g->nodes;
}

bool
organisation_measure(Organisation *o, MeasureGoOn *go_on, void *with, Arena *scratch, Err *e)
{
    double *value = arena_alloc_array(scratch, o->people, sizeof *value, e);
    Graph g;

    if (!value || !make_graph(o, &g, scratch, e))
        return false;
    graph_degree(&g, value);
    for (uint32_t i = 0; i < o->people; i++)
        o->employee[i].degree_centrality = value[i];
    if (!graph_clustering(&g, value, scratch, e))
        return false;
    for (uint32_t i = 0; i < o->people; i++)
        o->employee[i].clustering_coeff = value[i];
    if (!graph_betweenness(&g, sources_for(&g), o->seed, value, go_on, with, scratch, e))
        return false;
    for (uint32_t i = 0; i < o->people; i++)
        o->employee[i].betweenness_centrality = value[i];
    rate_burnout(o);
    return true;
}

const Employee *
organisation_employee(const Organisation *o, uint32_t index)
{
    return &o->employee[index];
}

bool
organisation_edges(const Organisation *o, EdgeFound *found, void *with, Err *e)
{
    for (uint32_t i = 0; i < o->people; i++) {
        for (uint64_t k = o->first[i]; k < o->first[i + 1]; k++) {
            const Contact *c = &o->contact[k];
            Edge edge = {i, c->other, c->interactions, (double)c->weight / 100, {0}};

            if (c->interactions == 0)
                continue;
            write_date(
                c->last_s / (24 * HOUR_S), (int)(c->last_s / HOUR_S % 24), edge.last_updated);
            write_clock(c->last_s % HOUR_S, edge.last_updated);
            if (!found(with, &edge, e))
                return false;
        }
    }
    return true;
}
