"""Export types written on the spot over the sources of one configuration file, and run by `rowferry dump`."""

import json
import os
import subprocess

DUMP_SECONDS = 100


class Definitions:
    def __init__(self, folder, program, **urls):
        """`urls`: sources by name; the first one is what a definition reads unless it says so."""
        self.folder, self.program, self.urls = folder, program, urls
        self.types = folder / "definitions"
        self.types.mkdir(mode=0o700)
        self.config = folder / "rowferry.yaml"
        self.config.write_text(json.dumps({"sources": {name: {"url": url} for name, url in urls.items()}}))
        self.config.chmod(0o600)

    def write(self, name, query, columns, source=None, **more):
        """`columns`: names, or names with types; JSON is YAML, too."""
        path = self.types / f"{name}.yaml"
        path.write_text(json.dumps({
            "name": name, "source": source or next(iter(self.urls)),
            "columns": [{"name": column} for column in columns] if not isinstance(columns, dict) else
                       [{"name": column, **({"type": of} if of else {})} for column, of in columns.items()],
            "query": {"postgres": query}, **more}, ensure_ascii=False), encoding="utf-8")
        path.chmod(0o600)
        return path

    def run(self, command, *words, **more):
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"}
        done = subprocess.run([self.program, command, "--config", self.config, "--data-dir", self.folder / "data",
                               *words],
                              capture_output=True, timeout=DUMP_SECONDS, env=environment, **more)
        for word in (b"Sanitizer", b"runtime error:", b"Assertion"):
            assert word not in done.stderr, done.stderr.decode(errors="replace")
        return done

    def dump(self, definition, params=None, expect=0, **options):
        """The finished process of one export; its file is standard output."""
        body = {"export_type": definition.stem, "user_id": "u", "params": params or {}, "options": options}
        done = self.run("dump", "--types", definition, "--from-file", "-", "--json",
                        input=json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if expect is not None:
            assert done.returncode == expect, done.stderr.decode(errors="replace")[:4000]
        return done

    def file(self, definition, params=None, **options):
        return self.dump(definition, params, **options).stdout

    def query(self, query, columns, params=None, **more):
        """The file of a definition that nobody needs twice."""
        return self.file(self.write("once", query, columns, **more), params)

    def problem(self, query, columns, params=None, **more):
        """How an export fails: its problem (RFC 9457)."""
        done = self.dump(self.write("once", query, columns, **more), params, expect=None)
        assert done.returncode != 0, f"it went through: {done.stdout[:300]}"
        lines = [line for line in done.stderr.splitlines() if line.startswith(b"{")]
        assert len(lines) == 1, done.stderr
        return json.loads(lines[0])
