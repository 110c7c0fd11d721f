"""Makes services below one folder, and looks after all of them."""

from pathlib import Path

import database
from service import Service

# A story's exports are small: two children, retries without long waits.
QUICK = ["--concurrency", "2", "--retry-delays", "50ms"]


class Maker:
    """Makes services below one folder, and ends them all."""

    def __init__(self, folder, program):
        self.folder, self.program, self.made = folder, program, []
        # What AddressSanitizer keeps aside of freed memory would count as the export's.
        self.extra = ["--task-memory-limit", "4GiB"] if b"__asan_init" in Path(program).read_bytes() else []

    def __call__(self, *options, environment=None, name=None, types=(), start=True, sources=True, **more):
        """A service over a small database of its own, with these types besides the three that ship."""
        folder = self.folder / (name or f"service-{len(self.made)}")
        folder.mkdir(mode=0o700, exist_ok=True)
        variables = {}
        if sources:
            source = folder / "source.db"
            if not source.exists():
                database.make(source)
            variables = {"GRAPH_DB_URL": f"sqlite:{source}", "TIMESCALE_URL": f"sqlite:{source}"}
        if types:
            options = ["--types", str(database.write_types(folder / "types", *types)), *options]
        service = Service(folder, self.program, [*QUICK, *self.extra, *options], {**variables, **(environment or {})}, **more)
        service.source = folder / "source.db"
        self.made.append(service)
        return service.start() if start else service

    def finish(self):
        problems = []
        for service in self.made:
            try:
                service.finish()
            except AssertionError as problem:
                problems.append(str(problem))
        assert not problems, "\n".join(problems)
