"""The command line, as people and scripts use it: what it prints, what it saves, and how it ends."""

import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest

import database
import processes

pytestmark = pytest.mark.asan


@pytest.fixture
def cli(shared, tmp_path):
    """`rowferry …` against the shared service, in a folder of its own."""
    return command_for(shared, tmp_path)


def command_for(service, folder, url=None):
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8",
                   "ROWFERRY_URL": url or service.url, "ROWFERRY_USER": "cli_user",
                   "ROWFERRY_DATA_DIR": str(folder / "client-data"),
                   "GRAPH_DB_URL": f"sqlite:{service.source}", "TIMESCALE_URL": f"sqlite:{service.source}",
                   "ROWFERRY_TYPES": str(service.folder / "types")}

    def run(*words, seconds=40, **more):
        done = subprocess.run([service.program, *words], capture_output=True, timeout=seconds, cwd=folder,
                              env=environment, **{"stdin": subprocess.DEVNULL, **more})
        done.out, done.err = done.stdout.decode(), done.stderr.decode()
        assert "Sanitizer" not in done.err and "runtime error" not in done.err, done.err
        assert "\x1b" not in done.out + done.err, "colour off a terminal"
        return done

    run.environment, run.folder, run.program = environment, folder, service.program
    return run


ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def asked(cli, *words):
    """The task id of a request."""
    done = cli("request", *words)
    assert done.returncode == 0, done.err
    return done.out.strip()


# --- 0: done ---

def test_request_prints_the_id_alone(cli):
    done = cli("request", "numbers", "-p", "rows=3")
    assert done.returncode == 0
    assert ID.fullmatch(done.out.strip()) and done.out.count("\n") == 1


def test_request_follow_download(cli):
    done = cli("request", "numbers", "-p", "rows=1000", "--follow", "--download")
    assert done.returncode == 0, done.err
    files = list(cli.folder.glob("*.csv"))
    assert len(files) == 1 and re.fullmatch(r"numbers_\d{8}_\d{6}_[0-9a-f]{8}\.csv", files[0].name)
    assert files[0].read_bytes() == database.numbers_csv(1000)
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert "1" in done.err, "the way there is told on standard error"


def test_download_where_told(cli):
    (cli.folder / "folder").mkdir()
    assert cli("request", "numbers", "-p", "rows=5", "--follow", "--download", "folder").returncode == 0
    assert [path.read_bytes() for path in (cli.folder / "folder").iterdir()] == [database.numbers_csv(5)]
    assert cli("request", "numbers", "-p", "rows=6", "--follow", "--download", "named.csv").returncode == 0
    assert (cli.folder / "named.csv").read_bytes() == database.numbers_csv(6)


def test_download_to_standard_output(cli):
    task = asked(cli, "numbers", "-p", "rows=7")
    assert cli("watch", task).returncode == 0
    done = cli("download", task, "-o", "-")
    assert (done.returncode, done.stdout) == (0, database.numbers_csv(7))


def test_download_does_not_overwrite(cli):
    task = asked(cli, "numbers", "-p", "rows=8")
    cli("watch", task)
    (cli.folder / "mine.csv").write_text("mine")
    done = cli("download", task, "-o", "mine.csv")
    assert done.returncode == 1 and (cli.folder / "mine.csv").read_text() == "mine"
    assert "mine.csv" in done.err


def test_a_download_goes_on_where_it_was_cut(cli):
    whole = database.numbers_csv(50000)
    task = asked(cli, "numbers", "-p", "rows=50000")
    cli("watch", task)
    (cli.folder / "part.csv").write_bytes(whole[:100000])
    done = cli("download", task, "-o", "part.csv", "--resume")
    assert done.returncode == 0, done.err
    assert (cli.folder / "part.csv").read_bytes() == whole


def test_status_and_watch(cli):
    task = asked(cli, "numbers", "-p", "rows=9")
    assert cli("watch", task).returncode == 0
    done = cli("status", task)
    assert done.returncode == 0 and "completed" in done.out
    as_json = cli("status", task, "--json")
    body = json.loads(as_json.out)
    assert (body["status"], body["row_count"]) == ("completed", 9)


def test_watch_as_json_is_one_object_a_line(cli):
    task = asked(cli, "slow", "-p", "rows=20000", "-p", "work=300")
    done = cli("watch", task, "--json")
    seen = [json.loads(line) for line in done.out.splitlines()]
    assert done.returncode == 0 and seen[-1]["status"] == "completed"
    progress = [one["progress"] for one in seen]
    assert progress == sorted(progress) and len(seen) > 1


def test_params_are_typed_by_the_type(cli):
    assert cli("request", "employee_metrics", "-p", "team=Sales", "-p", "min_burnout_score=60", "--follow",
               "--download", "a.csv").returncode == 0
    rows = (cli.folder / "a.csv").read_text().splitlines()[1:]
    assert rows and all(",Sales," in row for row in rows)
    assert cli("request", "any_text", "-p", "value=60", "--follow", "--download", "b.csv").returncode == 0
    assert (cli.folder / "b.csv").read_text().splitlines() == ["value", "60"]
    assert cli("request", "numbers", "-p", "rows:=4", "--follow", "--download", "c.csv").returncode == 0
    (cli.folder / "params.json").write_text('{"rows": 11}')
    assert cli("request", "numbers", "--params-file", "params.json", "--follow", "--download", "d.csv").returncode == 0
    assert (cli.folder / "d.csv").read_bytes() == database.numbers_csv(11)


def test_list_and_delete(cli):
    task = asked(cli, "numbers", "-p", "rows=12", "--user", "lister")
    cli("watch", task)
    listed = cli("list", "--user", "lister")
    assert listed.returncode == 0 and "numbers_" in listed.out
    files = json.loads(cli("list", "--user", "lister", "--json").out)
    assert [one["task_id"] for one in files] == [task]
    key = files[0]["key"]
    assert cli("delete", key, "--yes").returncode == 0
    assert json.loads(cli("list", "--user", "lister", "--json").out) == []
    assert cli("download", task).returncode in (1, 3)


def test_delete_asks_unless_told(cli):
    done = cli("delete", "exports/nobody/nothing_20240101_000000_00000000.csv", "--no-input")
    assert done.returncode in (1, 2) and "--yes" in done.err


def test_dump_is_the_same_file(cli, shared):
    dumped = cli("dump", "numbers", "-p", "rows=5000", "-o", "-")
    assert (dumped.returncode, dumped.stdout) == (0, shared.file_of("numbers", params={"rows": 5000}))
    assert cli("dump", "employee_metrics", "-p", "team=Sales", "-o", "sales.csv").returncode == 0
    assert (cli.folder / "sales.csv").read_bytes() == shared.file_of("employee_metrics", params={"team": "Sales"})
    assert cli("dump", "wrong_column", "-o", "wrong.csv").returncode == 1
    assert not (cli.folder / "wrong.csv").exists(), "half a file"


def test_dump_into_a_closed_pipe_ends_quietly(cli):
    done = subprocess.run(["sh", "-c", f"'{cli.program}' dump numbers -p rows=3000000 -o - | head -n 1"],
                          capture_output=True, env=cli.environment, cwd=cli.folder, timeout=40)
    assert done.stdout == b"n,square,label\r\n" and done.stderr == b""


def test_version_and_help(cli):
    assert re.search(r"rowferry \d+\.\d+", cli("version").out) and cli("--version").returncode == 0
    overview = cli("help")
    assert overview.returncode == 0
    for word in ("serve", "worker", "beat", "request", "status", "watch", "list", "download", "delete", "cancel",
                 "types", "dump", "completion", "doctor", "demo-data", "config"):
        assert word in overview.out
    for command in ("request", "download", "serve"):
        one = cli(command, "--help")
        assert one.returncode == 0 and "usage" in one.out.lower()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(cli, shell):
    done = cli("completion", shell)
    assert done.returncode == 0
    for word in ("request", "download", "serve", "data-dir"):
        assert word in done.out
    if shell == "bash":
        checked = subprocess.run(["bash", "-n"], input=done.stdout, capture_output=True, timeout=10)
        assert checked.returncode == 0, checked.stderr


def test_bash_completes_commands(cli):
    (cli.folder / "completion").write_bytes(cli("completion", "bash").stdout)
    script = """source ./completion; COMP_WORDS=(rowferry req); COMP_CWORD=1; COMP_LINE='rowferry req'; COMP_POINT=12
    $(complete -p rowferry | sed -n 's/.*-F \\([^ ]*\\).*/\\1/p') rowferry req rowferry; echo "${COMPREPLY[@]}" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=cli.folder, timeout=10)
    assert done.stdout.split() == ["request"], done


def test_demo_data_is_the_same_for_the_same_seed(cli):
    for name, seed in (("a.db", "7"), ("b.db", "7"), ("c.db", "8")):
        done = cli("demo-data", name, "--employees", "40", "--interactions", "500", "--seed", seed)
        assert done.returncode == 0, done.err

    def rows(name):
        return subprocess.run(["sqlite3", name, ".dump"], capture_output=True, cwd=cli.folder, check=True,
                              timeout=20).stdout

    assert rows("a.db") == rows("b.db") != rows("c.db")
    before = (cli.folder / "a.db").read_bytes()
    assert cli("demo-data", "a.db").returncode != 0, "it never overwrites"
    assert (cli.folder / "a.db").read_bytes() == before


# --- how it ends ---

def test_1_the_export_failed(cli):
    done = cli("request", "wrong_column", "--follow")
    assert done.returncode == 1 and "source-query" in done.err and "salary" not in done.err
    assert "hint: the log of the service has the cause" in done.err


WRONG_USE = [["request"], ["status"], ["request", "numbers", "--colour"], ["download"], ["request", "numbers", "-p", "x"],
             ["cancel"], ["completion", "tcsh"], ["list", "--limit", "many"]]


@pytest.mark.parametrize("words", WRONG_USE, ids=" ".join)
def test_2_wrong_use(cli, words):
    done = cli(*words)
    assert done.returncode == 2 and done.err.startswith("rowferry"), (done.returncode, done.err)
    assert done.out == ""


@pytest.mark.parametrize("url", ["foo", "ftp://127.0.0.1", "http://", "http://127.0.0.1/?a=b"])
def test_2_a_url_that_is_none(cli, url):
    done = cli("list", "--url", url)
    assert done.returncode == 2 and "--url: expected a URL like http://127.0.0.1:8000" in done.err


def test_what_to_do_next(cli):
    """Not only what is wrong."""
    assert "nobody has no files; --user" in cli("list", "--user", "nobody").err
    assert "`rowferry help` lists the commands" in cli("help", "nonsense").err
    lost = cli("request", "numbers", "-p", "rows=3", "--download", str(cli.folder / "no" / "such" / "folder") + "/")
    assert lost.returncode == 1
    again = re.search(r"`rowferry download ([0-9a-f-]{36})`", lost.err)
    assert cli("download", again[1], "-o", "-").stdout == database.numbers_csv(3)


def test_3_not_found(cli):
    unknown = "00000000-0000-4000-8000-000000000000"
    for command in ("status", "watch", "cancel", "download"):
        done = cli(command, unknown)
        assert done.returncode == 3, (command, done.err)
        assert "export-not-found" in done.err


def test_4_not_allowed(shared, tmp_path):
    port = shared.url.rsplit(":", 1)[1]
    done = command_for(shared, tmp_path, url=f"http://localhost.localdomain:{port}")("status", "x")
    # A name that resolves to loopback and is none of ours: the Host rule. Where it does not resolve: unreachable.
    assert done.returncode in (4, 69), done.err


def test_5_refused(cli):
    for words in (["numbers", "-p", "rows=-1"], ["numbers"], ["payroll"], ["numbers", "-p", "rows=1", "--format", "docx"]):
        done = cli("request", *words)
        assert done.returncode == 5, (words, done.returncode, done.err)
        assert re.match(r"rowferry: .+\(([a-z-]+)\)", done.err), done.err
    problem = json.loads(cli("request", "numbers", "-p", "rows=-1", "--json").err)
    assert problem["code"] == "validation-failed" and problem["errors"][0]["pointer"] == "/params/rows"


def test_6_busy(make_service, tmp_path):
    service = make_service("--queue-limit", "1", types=["numbers"])
    service.request("numbers", params={"rows": 1}, not_before=time.strftime("%Y-%m-%dT%H:%M:%SZ",
                                                                           time.gmtime(time.time() + 3600)))
    done = command_for(service, tmp_path)("request", "numbers", "-p", "rows=1", "--timeout", "3s")
    assert done.returncode in (6, 124) and ("queue-full" in done.err or done.returncode == 124), done.err


def test_7_the_file_is_not_the_one_that_was_promised(make_service, tmp_path):
    service = make_service(types=["numbers"])
    task = service.request("numbers", params={"rows": 100})
    path = service.data / "files" / service.wait(task)["key"]
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    cli = command_for(service, tmp_path)
    done = cli("download", task, "-o", "x.csv")
    assert done.returncode == 7, done.err
    assert not (tmp_path / "x.csv").exists(), "a file that is not right must not look so"
    assert cli("download", task, "-o", "y.csv", "--no-verify").returncode == 0


def test_8_cancelled(cli, shared):
    task = asked(cli, "endless")
    shared.wait(task, state="querying")
    watcher = subprocess.Popen([cli.program, "watch", task], env=cli.environment, cwd=cli.folder,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert cli("cancel", task).returncode == 0
    assert watcher.wait(20) == 8
    assert shared.status(task)["state"] == "cancelled"


def test_69_nobody_there(shared, tmp_path):
    done = command_for(shared, tmp_path, url="http://127.0.0.1:1")("status", "x", "--timeout", "5s")
    assert done.returncode == 69 and "127.0.0.1:1" in done.err, done.err


def test_124_longer_than_it_may_wait(cli, shared):
    task = asked(cli, "endless")
    start = time.monotonic()
    done = cli("watch", task, "--timeout", "1s")
    assert done.returncode == 124 and time.monotonic() - start < 10
    shared.cancel(task)
    shared.wait(task, state="cancelled", seconds=5)


def test_130_interrupted(cli, shared):
    task = asked(cli, "endless")
    watcher = subprocess.Popen([cli.program, "watch", task], env=cli.environment, cwd=cli.folder,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    shared.wait(task, state="querying")
    time.sleep(0.3)  # until it watches
    watcher.send_signal(signal.SIGINT)
    out, err = watcher.communicate(timeout=20)
    assert watcher.returncode == 130
    assert task.encode() in err and b"cancel" in err, "how to go on, and how to cancel"
    assert shared.status(task)["status"] == "processing", "it only looks away"
    shared.cancel(task)
    shared.wait(task, state="cancelled", seconds=5)


# --- safe to look at ---

def test_names_from_the_server_stay_in_the_folder(cli, shared):
    """The name that is offered is a name: the last part, nothing else."""
    done = shared.export("numbers", "cli_user", params={"rows": 2}, filename="report")
    task = shared.sql("SELECT id FROM task WHERE key = ?", done["key"])[0][0]
    assert cli("download", task).returncode == 0
    assert [path.name for path in cli.folder.glob("*.csv")] in (["report.csv"], [done["key"].rsplit("/", 1)[1]])


def test_a_request_is_never_two_exports(make_service, tmp_path):
    """The API dies while the client asks: it asks again with the same key."""
    service = make_service(types=["numbers"])
    cli = command_for(service, tmp_path)
    api = service.pids("api")[0]
    os.kill(api, signal.SIGSTOP)
    client = subprocess.Popen([cli.program, "request", "numbers", "-p", "rows=2"], env=cli.environment,
                              cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    processes.until(lambda: processes.is_alive(client.pid), 5, "no client")
    time.sleep(0.3)
    service.kills += 1
    os.kill(api, signal.SIGKILL)
    out, err = client.communicate(timeout=40)
    assert client.returncode == 0, err
    assert service.tasks() == 1
    service.wait(out.decode().strip(), patient=True)


def test_a_bar_on_a_terminal(cli):
    """On a terminal it draws; nothing but the bar goes there."""
    primary, secondary = pty.openpty()
    client = subprocess.Popen([cli.program, "request", "slow", "-p", "rows=20000", "-p", "work=300", "--follow"],
                              env={**cli.environment, "TERM": "xterm"}, cwd=cli.folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=secondary)
    os.close(secondary)
    seen = b""
    try:
        while piece := os.read(primary, 4096):
            seen += piece
    except OSError:
        pass  # the other end closed
    os.close(primary)
    assert client.wait(40) == 0
    assert b"slow" in seen and b"\r" in seen and b"%" in seen
