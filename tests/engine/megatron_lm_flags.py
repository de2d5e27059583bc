"""Run by another Python with a megatron-core wheel that has `megatron.training`: its options.

stdout: JSON, each option's spelling with what it takes, in the form of `flags.json`. With a path of
`flags.json` and a release as arguments that file is written anew, with the parser's options as the
release's; other releases stay as they are:

    PYTHONPATH=WHEEL python3.12 tests/engine/megatron_lm_flags.py flags.json 0.19.2
"""

import argparse
import json
import sys
from enum import Enum
from pathlib import Path
from signal import Signals

KINDS = {
    "_StoreTrueAction": "store_true",
    "_StoreFalseAction": "store_false",
    "_StoreConstAction": "store_const",
    "BooleanOptionalAction": "boolean_optional",
}
ORDER = ("0.16.1", "0.17.1", "0.18.2", "0.19.2")


def main() -> None:
    """Print the options, or write them into a table."""
    found = options()
    if len(sys.argv) == 1:
        json.dump(found, sys.stdout)
        return
    path, release = Path(sys.argv[1]), sys.argv[2]
    table = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(text_of(merged(table, found, release)), encoding="utf-8")


def options() -> dict[str, dict]:
    """Return every option of the parser; argparse's own help is none of Megatron's."""
    from megatron.training.arguments import add_megatron_arguments

    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_megatron_arguments(parser)
    return {
        name: form(action)
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--") and name != "--help"
    }


def form(action: argparse.Action) -> dict:
    """Return what an option takes: kind, and number, type and choices of its words."""
    kind = KINDS.get(type(action).__name__, "value")
    found = {"kind": kind}
    if kind == "value":
        read = getattr(action.type, "__name__", None)
        found |= {"nargs": action.nargs} if action.nargs is not None else {}
        found |= {"type": read} if read in {"int", "float"} else {}
        found |= {"choices": choices} if (choices := choices_of(action)) else {}
    return found


def choices_of(action: argparse.Action) -> list[str]:
    """Return the words that are allowed; signals are those of a machine, hence of no table."""
    choices = [*(action.choices or ())]
    if any(isinstance(choice, Signals) for choice in choices):
        return []
    return [choice.name if isinstance(choice, Enum) else str(choice) for choice in choices]


def merged(table: dict, found: dict, release: str) -> dict:
    """Return the table with other options for one release."""
    names = sorted({*table, *found})
    return {name: forms for name in names if (forms := _forms(table, found, release, name))}


def _forms(table: dict, found: dict, release: str, name: str) -> list[dict]:
    forms = [dict(one) for one in table.get(name, [])]
    for one in forms:
        one["in"] = [known for known in one["in"] if known != release]
    if name in found:
        same = [one for one in forms if {k: v for k, v in one.items() if k != "in"} == found[name]]
        into = same[0] if same else {"in": [], **found[name]}
        into["in"] = sorted({*into["in"], release}, key=ORDER.index)
        forms = forms if same else [*forms, into]
    return [one for one in forms if one["in"]]


def text_of(table: dict) -> str:
    """Return the table as it is committed, an option a line."""
    lines = (f"{json.dumps(name)}: {json.dumps(forms)}" for name, forms in table.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
