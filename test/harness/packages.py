"""Data that nobody here made: packages of the npm registry, fetched once into the cache outside the checkout."""

import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path


def cache():
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME", "/tmp"), ".cache")
    return Path(root) / "rowferry" / "data"


def member(package, version, path):
    """One file of a package, as bytes. Nothing of the package is run."""
    folder = cache()
    archive = folder / f"{package}-{version}.tgz"
    if not archive.exists():
        print(f"data: fetching {package} {version} from npm")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            subprocess.run(["npm", "pack", "--silent", f"{package}@{version}"], cwd=scratch, check=True, timeout=110,
                           stdout=subprocess.DEVNULL)
            os.rename(Path(scratch) / archive.name, archive)
    with tarfile.open(archive) as tar:
        return tar.extractfile(f"package/{path}").read()


def miserables():
    """{"nodes": [{"name", "group"}], "links": [{"source", "target", "value"}]}: who meets whom in Hugo's novel."""
    text = member("miserables", "3.0.0", "data.js").decode()
    return json.loads(text[text.index("{"):text.rindex("}") + 1])


def flights():
    """[{"date": "2001/01/01 00:47", "delay", "distance", "origin", "destination"}]: 20,000 flights of 2001."""
    return json.loads(member("vega-datasets", "3.2.1", "data/flights-20k.json"))
