# Writes the files named on the command line as C strings: the list `builtin_types` of export/builtin.h.
BEGIN {
    print "#include \"export/builtin.h\"\n\n#include <stddef.h>\n\nconst BuiltinType builtin_types[] = {"
}
FNR == 1 {
    if (NR > 1)
        print "    },"
    name = FILENAME
    sub(/.*\//, "", name)
    printf "    {\"%s\",\n", name
}
{
    gsub(/\\/, "\\\\")
    gsub(/"/, "\\\"")
    gsub(/\?/, "\\?")
    printf "        \"%s\\n\"\n", $0
}
END {
    if (NR > 0)
        print "    },"
    print "    {NULL, NULL},\n};"
}
