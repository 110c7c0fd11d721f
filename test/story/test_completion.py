"""Completion in bash: what the Tab key would offer."""

import os
import subprocess

import pytest

PROGRAM = os.environ["ROWFERRY_PROGRAM"]

# The words as bash splits them ('=' is one of its own), the last one being completed.
CASES = [
    (["re"], {"request"}),
    ([""], {"request", "status", "watch", "list", "download", "cancel", "delete", "serve", "api", "worker", "beat"}),
    (["--outp"], {"--output"}),
    (["--output", ""], {"table", "json", "jsonl", "csv"}),
    (["--output", "="], {"table", "json", "jsonl", "csv"}),
    (["--output", "=", "j"], {"json", "jsonl"}),
    (["--url", "http://a", "sta"], {"status"}),
    (["--url", "=", "http://a", "sta"], {"status"}),
    (["request", "--fo"], {"--format", "--follow"}),
    (["request", "empl"], {"employee_metrics"}),
    (["dump", "graph"], {"graph_data"}),
    (["request", "graph_data", "--params-file", "only"], {"only a file.json"}),
    (["request", "graph_data", "--download", "only"], {"only a file.json"}),
    (["request", "graph_data", "--download", "=", "only"], {"only a file.json"}),
    (["download", "id", "-o", "only"], {"only a file.json"}),
    (["request", "graph_data", "-p", "only"], set()),
    (["completion", ""], {"bash", "zsh", "fish"}),
    (["help", "dow"], {"download"}),
    (["serve", "--data-d"], {"--data-dir"}),
    (["serve", "--data-dir", "only"], {"only a file.json"}),
    (["nonsense", "--fo"], set()),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    (folder / "only a file.json").write_text("{}")
    (folder / "bin").mkdir()
    (folder / "bin" / "rowferry").symlink_to(PROGRAM)
    return folder


@pytest.mark.parametrize("words,want", CASES, ids=[" ".join(words) for words, _ in CASES])
def test_offers(folder, words, want):
    script = """
        source <(rowferry completion bash) || exit 9
        complete -p rowferry >/dev/null || exit 8
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _rowferry 2>/dev/null
        for reply in "${COMPREPLY[@]}"; do printf '%s\\n' "$reply"; done
    """
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(["bash", "-c", script, "bash", "rowferry", *words], capture_output=True, text=True, cwd=folder,
                          env=environment, timeout=30)
    assert done.returncode == 0, done.stderr
    offered = set(done.stdout.splitlines())
    assert offered == want if words != [""] else offered >= want
