"""`llmorch schema`: the run file's JSON Schema, for editors and scripts."""


def schema() -> None:
    """Print the JSON Schema of the run file."""
    from orchestrator.cli.screen import print_json
    from orchestrator.specs.run import RunSpec

    document = RunSpec.model_json_schema(by_alias=True)
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **document})
