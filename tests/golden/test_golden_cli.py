"""Exact texts of the command line: help, option list, the engine's argument file."""

import pytest

from orchestrator import api

COMMANDS = ["plan", "validate", "launch", "show", "schema", "runs", "logs", "stop", "resume"]


def test_help_lists_the_commands(llmorch, golden):
    golden("help.txt", llmorch("--help").out)


@pytest.mark.parametrize("command", ["tokenize", "check", "blend"])
def test_help_of_the_data_commands(llmorch, golden, command):
    golden(f"help-data-{command}.txt", llmorch("data", command, "--help").out)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(llmorch, golden, command):
    golden(f"help-{command}.txt", llmorch(command, "--help").out)


def test_the_argument_file_of_the_tiny_run(golden, root):
    path = root / "parallel_configs" / "tiny-gpt.local-x4.yaml"
    run = api.read_run(path.read_text(), file=path.name)
    bundle = api.engine_named("megatron-core").render(api.plan(run).plans[0])

    golden("tiny-gpt.megatron-core.json", bundle.files[0].text)


def test_the_json_of_a_deepspeed_run(golden, root):
    path = root / "parallel_configs" / "llama-3.1-8b.deepspeed-x32.yaml"
    engine = api.engine_named("deepspeed")
    run = api.read_run(path.read_text(), file=path.name, capabilities=engine.capabilities())
    config, environment = engine.render(api.plan(run).plans[0]).files

    golden("llama-3.1-8b.deepspeed.json", config.text)
    golden("llama-3.1-8b.deepspeed_env", environment.text)


def test_the_public_names():
    assert sorted(api.__all__) == [
        "Engine",
        "EngineBundle",
        "Layout",
        "Plan",
        "PlanReport",
        "ResolvedRun",
        "RunSpec",
        "default_run",
        "engine_named",
        "plan",
        "price",
        "problems",
        "read_run",
        "run_file_of",
    ]
