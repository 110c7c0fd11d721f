# Checks every #include "…" of the files named on the command line against docs/layers.txt (the first file).
# A room may include its own headers and those of the rooms on its line; folders inside rooms of drivers are
# named by main.c alone. Prints each breach as file:line, and exits 1 if there was one.
FNR == NR {
    if ($0 ~ /^#/ || NF == 0)
        next
    if ($1 == "drivers-of") {
        for (i = 2; i <= NF; i++)
            drivers[$i] = 1
        next
    }
    known[$1] = 1
    for (i = 2; i <= NF; i++)
        may[$1, $i] = 1
    next
}
FNR == 1 {
    path = FILENAME
    sub(/^.*src\//, "", path)
    n = split(path, part, "/")
    room = n == 1 ? "main" : part[1]
    driver = n > 2 ? part[2] : ""
    if (!(room in known)) {
        printf "%s: the room %s is not in docs/layers.txt\n", FILENAME, room
        bad = 1
    }
}
/^#include "/ {
    target = $2
    gsub(/"/, "", target)
    m = split(target, to, "/")
    if (m < 2 || ((room, "*") in may))
        next
    if (to[1] != room && !((room, to[1]) in may)) {
        printf "%s:%d: %s may not include %s\n", FILENAME, FNR, room, target
        bad = 1
    } else if (m > 2 && (to[1] in drivers) && !(to[1] == room && to[2] == driver)) {
        printf "%s:%d: %s names a driver, which only main.c may: %s\n", FILENAME, FNR, room, target
        bad = 1
    }
}
END { exit bad }
