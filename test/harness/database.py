"""SQLite files with the demo database's tables, and the export types that only tests have."""

import hashlib
import sqlite3

SCHEMA = """
CREATE TABLE employees (employee_id TEXT PRIMARY KEY, name TEXT, team TEXT, role TEXT, degree_centrality REAL,
                        betweenness_centrality REAL, clustering_coeff REAL, burnout_score REAL);
CREATE TABLE edges (source_id TEXT, source_name TEXT, target_id TEXT, target_name TEXT, weight REAL, last_updated TEXT,
                    PRIMARY KEY (source_id, target_id));
CREATE TABLE interactions (timestamp TEXT, source TEXT, target TEXT, type TEXT, weight REAL);
"""

EMPLOYEE_COLUMNS = ["employee_id", "name", "team", "role", "degree_centrality", "betweenness_centrality",
                    "clustering_coeff", "burnout_score"]
EDGE_COLUMNS = ["source_id", "source_name", "target_id", "target_name", "weight", "last_updated"]
INTERACTION_COLUMNS = ["timestamp", "source", "target", "type", "weight"]
TEAMS = ["Engineering", "Sales", "Support"]
KINDS = ["mail", "chat", "meeting"]


def create(path):
    database = sqlite3.connect(path)
    database.executescript(SCHEMA)
    return database


def make(path, employees=12, interactions=200):
    """A small organisation; every value is a function of its number."""
    with create(path) as database:
        database.executemany("INSERT INTO employees VALUES (?,?,?,?,?,?,?,?)", [
            (f"e-{i:04}", f"Person {i}", TEAMS[i % 3], "engineer" if i % 2 else "lead", i / 7, i / 11, i / 13,
             float(i * 100 // max(employees - 1, 1))) for i in range(employees)])
        database.executemany("INSERT INTO edges VALUES (?,?,?,?,?,?)", [
            (f"e-{i:04}", f"Person {i}", f"e-{(i + 1) % employees:04}", f"Person {(i + 1) % employees}", i / 3,
             f"2024-01-{1 + i % 28:02}T08:{i % 60:02}:00") for i in range(employees)])
        database.executemany("INSERT INTO interactions VALUES (?,?,?,?,?)", [
            (f"2024-03-{1 + i % 31:02}T{i % 24:02}:{i % 60:02}:{i % 60:02}", f"e-{i % employees:04}",
             f"e-{(i + 3) % employees:04}", KINDS[i % 3], i / 4) for i in range(interactions)])
    database.close()
    return path


# Rows that are functions of their number, so that a whole file is known without the database.
TYPES = {
    "numbers": """
name: numbers
title: The first numbers
source: graph
params:
  rows: { type: int64, min: 0, max: 100000000, required: true }
columns:
  - { name: n, type: int64 }
  - { name: square, type: int64 }
  - { name: label, type: text }
query:
  sqlite: |
    WITH RECURSIVE c(n) AS (SELECT 1 WHERE $rows > 0 UNION ALL SELECT n + 1 FROM c WHERE n < $rows)
    SELECT n, n * n AS square, 'number ' || n AS label FROM c
""",
    # `work` steps of SQLite's machine go into each row: a file that takes its time.
    "slow": """
name: slow
title: Numbers that take their time
source: graph
params:
  rows: { type: int64, min: 0, max: 100000000, required: true }
  work: { type: int64, min: 0, max: 1000000000, required: true }
columns:
  - { name: n, type: int64 }
  - { name: worked, type: int64 }
query:
  sqlite: |
    WITH RECURSIVE c(n) AS (SELECT 1 WHERE $rows > 0 UNION ALL SELECT n + 1 FROM c WHERE n < $rows)
    SELECT n, (WITH RECURSIVE d(k) AS (SELECT n UNION ALL SELECT k + 1 FROM d WHERE k < n + $work)
               SELECT max(k) - n FROM d) AS worked FROM c
""",
    # Rows of `width` bytes and a number: a large file from few rows, in its own time.
    "wide": """
name: wide
title: Wide rows
source: graph
params:
  rows: { type: int64, min: 0, max: 100000000, required: true }
  width: { type: int64, min: 1, max: 1000000, default: 1000 }
  work: { type: int64, min: 0, max: 1000000000, default: 0 }
columns:
  - { name: n, type: int64 }
  - { name: filler, type: text }
query:
  sqlite: |
    WITH RECURSIVE c(n) AS (SELECT 1 WHERE $rows > 0 UNION ALL SELECT n + 1 FROM c WHERE n < $rows)
    SELECT n, CASE WHEN $work = 0 OR (WITH RECURSIVE d(k) AS (SELECT n UNION ALL SELECT k + 1 FROM d
                                                              WHERE k < n + $work) SELECT max(k) FROM d) > 0
                   THEN printf('%.*c', $width, char(97 + n % 26)) END AS filler FROM c
""",
    # Minutes, and not one row before the end.
    "endless": """
name: endless
title: A query that runs for minutes
source: graph
columns:
  - { name: n, type: int64 }
query:
  sqlite: |
    WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000000000)
    SELECT count(*) AS n FROM c
""",
    # One row that needs more memory than the export may have.
    "hungry": """
name: hungry
title: A row that is too large
source: graph
columns:
  - { name: a, type: text }
  - { name: b, type: text }
query:
  sqlite: SELECT printf('%.*c', 30000000, 'a') AS a, printf('%.*c', 30000000, 'b') AS b
""",
    "wrong_column": """
name: wrong_column
title: Names a column that is not there
source: graph
columns:
  - { name: employee_id, type: text }
  - { name: salary, type: double }
query:
  sqlite: SELECT employee_id, name FROM employees
""",
    "any_text": """
name: any_text
title: Whatever the parameter says
source: graph
params:
  value: { type: text, max_length: 4000 }
columns:
  - { name: value, type: text }
query:
  sqlite: SELECT $value AS value
""",
}


def write_types(folder, *names, **more):
    """A folder of definitions: these of TYPES, and others by name and text."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, text in {**{name: TYPES[name] for name in names}, **more}.items():
        path = folder / f"{name}.yaml"
        path.write_text(text)
        path.chmod(0o600)
    return folder


def numbers_csv(rows):
    """The whole file of `numbers`."""
    lines = ["n,square,label"] + [f"{n},{n * n},number {n}" for n in range(1, rows + 1)]
    return ("\r\n".join(lines) + "\r\n").encode()


def slow_csv(rows, work):
    return ("n,worked\r\n" + "".join(f"{n},{work}\r\n" for n in range(1, rows + 1))).encode()


def wide_csv(rows, width=1000):
    fillers = [chr(97 + n) * width for n in range(26)]
    return ("n,filler\r\n" + "".join(f"{n},{fillers[n % 26]}\r\n" for n in range(1, rows + 1))).encode()


def sha256(content):
    return hashlib.sha256(content).hexdigest()
