"""One role that runs beside a service, over its folder."""

from service import Service


class Role(Service):
    """One role alone, over the folder of another service."""

    def __init__(self, owner, role, name):
        super().__init__(owner.folder / name, owner.program, ["--retry-delays", "50ms"], owner.environment, role)
        self.data = owner.data
        self.types = owner.types

    inside = ()  # what the command runs in

    def command(self):
        more = ["-n", self.folder.name] if self.role == "worker" else []
        return [*self.inside, self.program, self.role, "--data-dir", str(self.data), "--log-format", "json", "--types",
                str(self.types), *more, *self.options]

    def start(self, seconds=30):
        self.launch()
        self.await_line("role.started", seconds)
        return self
