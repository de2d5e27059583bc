"""`llmorch launch` itself, with toy ranks in the place of an engine's.

Arguments: the run file, the run directory, the request's changes as JSON, the toy rank's arguments.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from orchestrator.cli import app, launching
from tests.e2e.toy_run import toy_request

EXAMPLE = Path(__file__).parents[2] / "parallel_configs" / "tiny-gpt.local-x4.yaml"


def main() -> None:
    run_directory, changes, *toy_arguments = sys.argv[1:]
    made = replace(
        launching.prepared(EXAMPLE), request=toy_request(json.loads(changes), toy_arguments)
    )
    launching.prepared = lambda *_, **__: made
    sys.argv = ["llmorch", "launch", str(EXAMPLE), "--run-dir", run_directory]
    app.main()


if __name__ == "__main__":
    main()
