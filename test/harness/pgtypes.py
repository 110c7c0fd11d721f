"""PostgreSQL's types with the values that are hard to export, and how a file of ours writes what others read.

What our CSV writes differently from `\\copy … csv` is its contract (docs/reference/types.md): truth values as words,
times with T and Z, years as ISO 8601 has them, real numbers as Python's repr, bytes in base64. All else is the same text.
"""

import base64
import json
import re
import struct
from dataclasses import dataclass
from datetime import timezone

SCHEMA = r"""
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube;
CREATE TYPE mood AS ENUM ('sad', 'o''k, "so"', 'überglücklich', ' \ ');
CREATE TYPE pair AS (a int, b text);
CREATE TYPE nest AS (p pair, q pair[], t timestamptz);
CREATE TYPE textrange AS RANGE (subtype = text);
CREATE DOMAIN short_text AS text CHECK (length(VALUE) < 10);
CREATE DOMAIN shorter_text AS short_text CHECK (VALUE <> 'x');
CREATE DOMAIN amount AS numeric(12,3);
CREATE DOMAIN tags AS text[];
CREATE DOMAIN my_mood AS mood;
CREATE DOMAIN my_pair AS pair;
CREATE DOMAIN when_utc AS timestamptz;
CREATE DOMAIN small_code AS char(4);
CREATE TYPE likewise;
CREATE FUNCTION likewise_in(cstring) RETURNS likewise LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION likewise_out(likewise) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE likewise (INPUT = likewise_in, OUTPUT = likewise_out, LIKE = text);
"""


@dataclass(frozen=True)
class Kind:
    """One column of the table `every`."""

    name: str
    sql: str  # its type in PostgreSQL
    ours: str  # what rowferry makes of it
    values: tuple  # as text literals; NULL follows in every column
    unread: tuple = ()  # more of them, which Python's types cannot hold


def _kind(name, sql, ours, *values, unread=()):
    return Kind(name, sql, ours, values, unread)


_LONG = "9" * 500 + "." + "123456789" * 55 + "12345"
_TEXTS = ("", " ", "plain", 'a,"b"', "line\r\nend", "\ttab\x01\x7f", "é€😀", "NULL", "\\N", "\\.",
          "'; DROP TABLE every; --",
          "=1+1", "true", "x" * 70000, '"', "ends in \\")
_POINTS = ("-infinity", "0001-01-01 00:00:00", "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00",
           "1999-12-31 23:59:59.9",
           "2000-01-01 00:00:00", "2000-01-01 00:00:00.000001", "2024-02-29 12:00:00.5", "9999-12-31 23:59:59.999999",
           "infinity")
_FAR = ("4714-11-24 00:00:00 BC", "0044-03-15 10:00:00 BC", "0001-12-31 23:59:59.999999 BC", "10000-01-01 00:00:00",
        "12024-07-01 01:02:03.004", "294246-12-31 23:59:59.999999", "-infinity", "infinity")

KINDS = (
    _kind("c_bool", "bool", "bool", "t", "f"),
    _kind("c_int2", "smallint", "int16", "-32768", "-1", "0", "9", "10", "32767"),
    _kind("c_int4", "integer", "int32", "-2147483648", "-99", "0", "100", "2147483647"),
    _kind("c_int8", "bigint", "int64", "-9223372036854775808", "-1000000000000", "0", "9007199254740993",
          "9223372036854775807"),
    _kind("c_oid", "oid", "int64", "0", "4294967295"),
    _kind("c_numeric", "numeric", "decimal", "0", "-0.0", "1", "-1", "0.1", "10000", "9999.9999", "10000.0000",
          "0.00001", "0.000000000000",
          "12345678901234567890123456789.123456789", "1e40", "-1e-40", "1.50", "100", "0.00010000", "1e131071",
          _LONG, "-" + _LONG, "NaN", "Infinity", "-Infinity", "0." + "0" * 999 + "1", "1e-16383"),
    _kind("c_numeric_12_3", "numeric(12,3)", "decimal", "0", "1", "-123456789.999", "0.0005", "NaN"),
    _kind("c_numeric_5_m2", "numeric(5,-2)", "decimal", "0", "149", "-1234567", "9999949"),
    _kind("c_numeric_2_6", "numeric(2,6)", "decimal", "0.000099", "-0.000012", "0"),
    _kind("c_numeric_1000", "numeric(1000,500)", "decimal", "0", "1", "-" + "9" * 500 + "." + "1" * 500),
    _kind("c_float4", "real", "float", "0", "-0", "1", "-1.5", "0.1", "16777216", "1e10", "3.4028235e38",
          "1.17549435e-38", "1e-45",
          "-1e-40", "123456.79", "0.0001", "0.00001", "NaN", "Infinity", "-Infinity"),
    _kind("c_float8", "double precision", "double", "0", "-0", "1", "0.1", "0.30000000000000004", "1e15",
          "9999999999999998", "1e16",
          "1e17", "1.7976931348623157e308", "2.2250738585072014e-308", "5e-324", "-4.9e-322", "123456789012345.67",
          "0.0001", "0.00001",
          "1e22", "1e23", "NaN", "Infinity", "-Infinity"),
    _kind("c_text", "text", "text", *_TEXTS),
    _kind("c_varchar", "varchar(5)", "text", "", "abc  ", "é€😀ab", " "),
    _kind("c_char", "char(5)", "text", "", "ab", "ab   ", "é€😀ab", ' "x" '),
    _kind("c_char1", "char", "text", "x", "", "é"),
    _kind("c_name", "name", "text", "", "a_name", 'ü"b", c'),
    _kind("c_onechar", '"char"', "text", "a", "", ",", '"'),
    _kind("c_citext", "citext", "text", "Abc", ""),
    _kind("c_bytea", "bytea", "bytes", "", "\\x00", "\\x0001ff00", "\\x27225c0a", "\\x" + "00ff27" * 5000),
    _kind("c_date", "date", "date", "0001-01-01", "1969-12-31", "1970-01-01", "2000-02-29", "2024-12-31", "9999-12-31",
          unread=("4714-11-24 BC", "0044-03-15 BC", "0001-12-31 BC", "10000-01-01", "5874897-12-31", "-infinity",
                  "infinity")),
    _kind("c_time", "time", "time", "00:00:00", "12:34:56", "12:34:56.1", "23:59:59.999999", unread=("24:00:00",)),
    _kind("c_timetz", "timetz", "text", "00:00:00+00", "12:34:56.1+02", "23:59:59.999999-15:59:59",
          unread=("24:00:00+05:30",)),
    _kind("c_timestamp", "timestamp", "timestamp", *(point for point in _POINTS if "inf" not in point), unread=_FAR),
    _kind("c_timestamptz", "timestamptz", "timestamptz",
          *(point if "inf" in point else point + "+00" for point in _POINTS if "inf" not in point),
          "2024-06-01 10:00:00+02",
          "2024-01-01 00:00:00 Asia/Kathmandu", unread=tuple(point.replace(" BC", "+00 BC") for point in _FAR)),
    _kind("c_timestamp_0", "timestamp(0)", "timestamp", "2024-01-01 00:00:00.5", "2024-01-01 23:59:59.9"),
    _kind("c_interval", "interval", "interval", "0", "1 day", "-1 day", "1 year 2 months 3 days 04:05:06.789",
          "-1 year -2 months +3 days",
          "1 month -1 day", "-00:00:00.000001", "00:00:01.5", "-00:00:01.5", "100 hours", "-178000000 years",
          "178000000 years",
          "1 day -00:00:01", "-1 day 1 hour", "11 months", "-13 months", "2562047788:00:54.775807",
          "-2562047788:00:54.775807",
          "1 mon 1 us", "0.5 seconds", "-0.5 seconds", "1 week"),
    _kind("c_interval_ym", "interval year to month", "interval", "1-2", "-1-2"),
    _kind("c_uuid", "uuid", "uuid", "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11", "00000000-0000-0000-0000-000000000000",
          "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "{a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11}"),
    _kind("c_json", "json", "json", "null", '{"a" :  1, "a": [1,2, {"b":"é\\u20ac"}]}', "[]", '"x"', "1.50",
          ' [1,\n2] ', "12345678901234567890"),
    _kind("c_jsonb", "jsonb", "json", "null", '{"b" :  1, "a": [1,2, {"b":"é\\u20ac\\n\\""}]}', "[]", '""', "1.50",
          "1e400", "true"),
    _kind("c_enum", "mood", "text", "sad", 'o\'k, "so"', "überglücklich", " \\ "),
    _kind("c_xml", "xml", "text", "<a>1</a>", "", '<?xml version="1.0" encoding="UTF-8"?><a b="é">€</a>',
          '<?xml version="1.0" standalone="yes"?><a/>', "text, <b/> \"q\""),
    # Arrays, rows and ranges: as their output functions write them.
    _kind("c_int4s", "int[]", "text", "{}", "{1,-2,NULL}", "{{1,2},{3,4}}", "[0:1]={5,6}", "{{{1}},{{NULL}}}"),
    _kind("c_texts", "text[]", "text", "{}", '{a,"b,c","d\\"e","f\\\\g",NULL,"NULL","",é,"{x}"," "}',
          '{{a,b},{"c\nd",NULL}}'),
    _kind("c_float8s", "float8[]", "text", "{NaN,Infinity,-0,0.1,1e-320}"),
    _kind("c_numerics", "numeric[]", "text", "{NaN,1.50,-0.000,Infinity}"),
    _kind("c_times", "timestamptz[]", "text", '{"2024-06-01 10:00:00+02","-infinity","0044-03-15 00:00:00+00 BC",NULL}'),
    _kind("c_intervals", "interval[]", "text", '{"1 day","-1:00",NULL}'),
    _kind("c_byteas", "bytea[]", "text", '{"\\\\x00ff",""}'),
    _kind("c_jsons", "jsonb[]", "text", '{"{\\"a\\": 1}",null}'),
    _kind("c_moods", "mood[]", "text", '{sad,"o\'k, \\"so\\""}'),
    _kind("c_pairs", "pair[]", "text", '{"(1,\\"a b\\")",NULL,"(,)"}'),
    _kind("c_pair", "pair", "text", '(1,"a ""q"", b")', "(,)", '(-5,"")', '(2,"\\\\")'),
    _kind("c_nest", "nest", "text", r'("(1,x)","{""(2,\\""y,\\"")"",NULL}","2023-12-31 23:00:00+00")', "(,,)"),
    _kind("c_int4range", "int4range", "text", "empty", "[1,5)", "[1,5]", "(,)", "[3,)"),
    _kind("c_numrange", "numrange", "text", "[1.50,2.5]", "(-Infinity,NaN)"),
    _kind("c_tstzrange", "tstzrange", "text", "[2024-01-01 00:00+01,2024-02-01)", "[-infinity,infinity]", "(,)"),
    _kind("c_daterange", "daterange", "text", "[2024-01-01,2024-02-01]"),
    _kind("c_textrange", "textrange", "text", '["a,b","c""d"]', "empty"),
    _kind("c_int8multirange", "int8multirange", "text", "{}", "{[1,3),[5,9)}", "{(,)}"),
    _kind("c_datemultirange", "datemultirange", "text", "{[2024-01-01,2024-01-05),[2025-01-01,)}"),
    # Networks, money, bits, search, shapes, and what else the server has.
    _kind("c_inet", "inet", "text", "10.1.2.3", "10.1.2.3/8", "::1", "2001:db8::1/64", "0.0.0.0/0"),
    _kind("c_cidr", "cidr", "text", "10.0.0.0/8", "2001:db8::/32", "192.168.0.0/16"),
    _kind("c_macaddr", "macaddr", "text", "08:00:2b:01:02:03", "08-00-2B-01-02-03"),
    _kind("c_macaddr8", "macaddr8", "text", "08:00:2b:ff:fe:01:02:03"),
    _kind("c_money", "money", "text", "0", "-1234567.89", "92233720368547758.07", "-92233720368547758.08"),
    _kind("c_bit", "bit(5)", "text", "10101", "00000"),
    _kind("c_varbit", "bit varying", "text", "", "1", "0" * 100 + "1"),
    _kind("c_tsvector", "tsvector", "text", "", "'fat':2A 'cat':3B,5 'o''k':1"),
    _kind("c_tsquery", "tsquery", "text", "", "fat & (rat | !'o''k') <-> cat:*A"),
    _kind("c_point", "point", "text", "(1,2)", "(-0,1e-320)", "(NaN,Infinity)", "(0.1,0.30000000000000004)"),
    _kind("c_line", "line", "text", "{1,-1,0.5}"),
    _kind("c_lseg", "lseg", "text", "[(0,0),(1,1)]"),
    _kind("c_box", "box", "text", "(1,1),(0,0)"),
    _kind("c_path", "path", "text", "[(0,0),(1,1)]", "((0,0),(1,1))"),
    _kind("c_polygon", "polygon", "text", "((0,0),(1,1),(1,0))"),
    _kind("c_circle", "circle", "text", "<(1,2),3.5>"),
    _kind("c_pg_lsn", "pg_lsn", "text", "0/0", "16/B374D848"),
    _kind("c_xid", "xid", "text", "4294967295"),
    _kind("c_xid8", "xid8", "text", "18446744073709551615"),
    _kind("c_tid", "tid", "text", "(5,7)"),
    _kind("c_refcursor", "refcursor", "text", "a cursor", ""),
    _kind("c_likewise", "likewise", "text", "a base type of one's own", ""),
    _kind("c_regclass", "regclass", "text", "pg_class", "pg_statistic"),
    _kind("c_jsonpath", "jsonpath", "text", '$.a[*]?(@ > 1)'),
    _kind("c_int2vector", "int2vector", "text", "1 -2 3"),
    _kind("c_aclitem", "aclitem", "text", "exporter=arw*/postgres"),
    _kind("c_snapshot", "pg_snapshot", "text", "10:20:10,14,15"),
    _kind("c_hstore", "hstore", "text", '"a"=>"1", "b,c"=>NULL, "q\\"q"=>""', ""),
    _kind("c_ltree", "ltree", "text", "Top.Science", ""),
    _kind("c_cube", "cube", "text", "(1,2),(3,4)"),
    # Domains: as what they are over.
    _kind("d_text", "short_text", "text", "", "abc"),
    _kind("d_text_2", "shorter_text", "text", "ab,c"),
    _kind("d_numeric", "amount", "decimal", "1.5", "-0.001"),
    _kind("d_tags", "tags", "text", "{a,NULL}"),
    _kind("d_mood", "my_mood", "text", "sad"),
    _kind("d_pair", "my_pair", "text", "(1,a)"),
    _kind("d_when", "when_utc", "timestamptz", "2024-01-01 00:00:00.25+01"),
    _kind("d_char", "small_code", "text", "ab"),
)
BY_NAME = {kind.name: kind for kind in KINDS}
ROWS = max(len(kind.values) + len(kind.unread) for kind in KINDS) + 1


def literal(text):
    """As a constant that means the same whatever standard_conforming_strings says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def fill():
    """SQL that makes and fills `every`: row n holds the n-th value of each column, the last ones NULL."""
    columns = ",\n  ".join(f"{kind.name} {kind.sql}" for kind in KINDS)
    values = []
    for n in range(ROWS):
        cells = [(*kind.values, *kind.unread)[n:n + 1] for kind in KINDS]
        values.append(f"({n + 1}, " + ", ".join(literal(cell[0]) if cell else "NULL" for cell in cells) + ")")
    return f"CREATE TABLE every (n int PRIMARY KEY, {columns});\nINSERT INTO every VALUES\n" + ",\n".join(values) + ";\n"


# --- what a file of ours shows for what others read ---

_TIME = re.compile(r"(?P<year>\d{4,})(?P<days>-\d\d-\d\d)(?: "
                   r"(?P<clock>\d\d:\d\d:\d\d)(?P<parts>\.\d+)?(?P<zone>\+00)?)?(?P<bc> BC)?")


def _real(text):
    return repr(float(text))


def _point(text):
    """2024-01-02 03:04:05.6+00 and 0044-03-15 BC as ISO 8601 has them."""
    if "infinity" in text:
        return text
    found = _TIME.fullmatch(text)
    year = 1 - int(found["year"]) if found["bc"] else int(found["year"])
    written = f"{year:04}" if 0 <= year <= 9999 else f"{'-' if year < 0 else '+'}{abs(year):04}"
    clock = f"T{_clock(found['clock'] + (found['parts'] or ''))}" if found["clock"] else ""
    return written + found["days"] + clock + ("Z" if found["zone"] else "")


def _clock(text):
    """A fraction of a second has six digits or is not there."""
    whole, _, parts = text.partition(".")
    return whole + ("." + parts.ljust(6, "0") if parts else "")


_OF_COPY = {
    "bool": {"t": "true", "f": "false"}.__getitem__,
    "float": _real, "double": _real,
    "bytes": lambda text: base64.b64encode(bytes.fromhex(text.removeprefix("\\x"))).decode(),
    "date": _point, "timestamp": _point, "timestamptz": _point, "time": _clock,
}


def of_copy(ours, text):
    """What our file shows where `\\copy … csv` shows `text` (None: NULL)."""
    return text if text is None else _OF_COPY.get(ours, str)(text)


_OF_PYTHON = {
    "bool": lambda value: "true" if value else "false",
    "int16": str, "int32": str, "int64": str,
    "float": repr, "double": repr,
    "decimal": lambda value: format(value, "f") if value.is_finite() else str(value),
    "bytes": lambda value: base64.b64encode(value).decode(),
    "date": lambda value: value.isoformat(), "time": lambda value: value.isoformat(),
    "timestamp": lambda value: value.isoformat(),
    "timestamptz": lambda value: value.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z",
    "uuid": str,
}


def same(ours, cell, text):
    """Does a cell of ours mean what `\\copy` showed? Of real numbers ours has the fewest digits that read back the same;
    PostgreSQL takes one more where those would lie exactly half-way between two numbers."""
    want = of_copy(ours, text)
    if ours in ("float", "double") and cell != want and None not in (cell, text):
        form = "<f" if ours == "float" else "<d"
        return struct.pack(form, float(cell)) == struct.pack(form, float(text)) and _digits(cell) < _digits(want)
    return cell == want


def _digits(text):
    return len(re.sub(r"e.*|\D", "", text).strip("0"))


def of_python(ours, value):
    """What our file shows for a value that psycopg read; json is compared as Python reads it: parsed()."""
    return value if value is None else _OF_PYTHON.get(ours, str)(value)


def parsed(ours, cell):
    return json.loads(cell) if ours == "json" and cell is not None else cell


def random_double(random):
    """Any bits at all."""
    return struct.unpack("<d", random.randbytes(8))[0]
