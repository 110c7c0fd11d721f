/* Definitions for the tests and the fuzz target of requests. */
#ifndef TEST_EXPORT_DEFINITION_H
#define TEST_EXPORT_DEFINITION_H

/* A type with a parameter of each kind, and one that must have its parameter. */
static const char definition_all[] =
    "{\"name\":\"all\",\"source\":\"graph\",\"columns\":[{\"name\":\"a\",\"type\":\"text\"}],"
    "\"max_rows\":1000,\"time_limit\":60,\"params\":{"
    "\"team\":{\"type\":\"text\",\"max_length\":5},"
    "\"code\":{\"type\":\"text\",\"pattern\":\"[A-Z]{2}|[0-9]+\"},"
    "\"level\":{\"type\":\"text\",\"enum\":[\"low\",\"high\"]},"
    "\"step\":{\"type\":\"int64\",\"enum\":[1,9007199254740993]},"
    "\"small\":{\"type\":\"int16\"},\"middle\":{\"type\":\"int32\",\"min\":1,\"max\":10},"
    "\"big\":{\"type\":\"int64\"},\"least\":{\"type\":\"int32\",\"min\":5},"
    "\"ratio\":{\"type\":\"double\",\"min\":0,\"max\":100},\"single\":{\"type\":\"float\"},"
    "\"price\":{\"type\":\"decimal\",\"max\":99.5},\"flag\":{\"type\":\"bool\"},"
    "\"raw\":{\"type\":\"bytes\"},\"day\":{\"type\":\"date\",\"min\":\"2020-01-01\"},"
    "\"clock\":{\"type\":\"time\"},\"start\":{\"type\":\"timestamptz\"},"
    "\"end\":{\"type\":\"timestamptz\"},"
    "\"at\":{\"type\":\"timestamp\",\"max\":\"2030-01-01T00:00:00\"},"
    "\"span\":{\"type\":\"interval\"},\"id\":{\"type\":\"uuid\"},\"doc\":{\"type\":\"json\"},"
    "\"page\":{\"type\":\"int32\",\"default\":7}},"
    "\"query\":\"SELECT $team,$code,$level,$step,$small,$middle,$big,$least,$ratio,$single,$price,"
    "$flag,$raw,$day,$clock,$start,$end,$at,$span,$id,$doc,$page\"}";
static const char definition_strict[] =
    "{\"name\":\"strict\",\"source\":\"graph\",\"columns\":[{\"name\":\"a\"}],"
    "\"params\":{\"who\":{\"type\":\"text\",\"required\":true}},\"query\":\"SELECT $who AS a\"}";

#endif
