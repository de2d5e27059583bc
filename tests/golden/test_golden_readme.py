"""The README tells the truth: its transcripts are what commands print, its run file is valid."""

import re
import shutil

import pytest

from orchestrator.cli import app


@pytest.fixture
def readme(root):
    return (root / "README.md").read_text()


def block_after(readme: str, command: str) -> list[str]:
    match = re.search(rf"```\n\$ {re.escape(command)}\n(.*?)\n```", readme, re.DOTALL)
    assert match, f"no transcript of '{command}' in the README"
    return match[1].splitlines()


def told(text: str) -> list[str]:
    """Lines without trailing blanks and without what differs from machine to machine."""
    return [re.sub(r"in [0-9.]+ s\.$", "in T s.", line.rstrip()) for line in text.splitlines()]


def test_the_transcript_of_plan_is_what_plan_prints(llmorch, readme, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    answer = llmorch("plan", "--gpus", 1024)

    printed = told(answer.out + answer.err)
    assert told("\n".join(block_after(readme, "llmorch plan --gpus 1024"))) == printed


def test_the_transcript_of_a_bad_file_is_what_validate_prints(
    llmorch, readme, root, tmp_path, monkeypatch
):
    shutil.copy(root / "tests" / "golden" / "bad.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)

    answer = llmorch("validate", "bad.yaml")

    assert answer.code == 3
    assert told("\n".join(block_after(readme, "llmorch validate bad.yaml"))) == told(answer.err)


def test_the_run_file_of_the_readme_is_valid(llmorch, readme, tmp_path):
    (tmp_path / "run.yaml").write_text(re.search(r"```yaml\n(.*?)```", readme, re.DOTALL)[1])

    answer = llmorch("validate", tmp_path / "run.yaml")

    assert answer.code == 0, answer.err


def test_every_command_is_in_the_readme(readme):
    names = {command.name for command in app.app.registered_commands}
    names |= {group.name for group in app.app.registered_groups}

    for name in sorted(filter(None, names)):
        assert re.search(rf"`(llmorch )?{name}\b", readme), f"{name} is not in the README"


def test_every_link_of_the_readme_leads_somewhere(readme, root):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", readme):
        assert (root / target).exists(), target
