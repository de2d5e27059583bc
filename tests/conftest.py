"""What every test shares: golden texts, the command line in-process, and no skips in CI."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent


# A measured speed is a benchmark: on a machine under load a law must not fail by the clock.
settings.register_profile("llmorch", deadline=None)
settings.load_profile("llmorch")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden texts")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-golden") and os.environ.get("CI"):
        raise pytest.UsageError("--update-golden rewrites what CI is to check; run it by hand")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a CI run in which a test was skipped: what it needed should have been installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if os.environ.get("CI") and skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command did: its exit code and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def root() -> Path:
    """Return the checkout's folder."""
    return ROOT


@pytest.fixture
def llmorch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Return a function that runs the command line in this process."""
    from orchestrator.cli import app

    def run(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["llmorch", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "100")  # what help is wrapped to, whatever runs the tests
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        captured = capsys.readouterr()
        return Answer(code=int(ended.value.code or 0), out=captured.out, err=captured.err)

    return run


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return a function that compares a text with `tests/golden/NAME`, or rewrites it."""

    def compare(name: str, text: str) -> None:
        path = ROOT / "tests" / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{name}: make it with ./test.sh tests/golden --update-golden"
        assert text == path.read_text(encoding="utf-8"), (
            f"{name} changed; if that is meant: ./test.sh tests/golden --update-golden"
        )

    return compare
