"""From a Hugging Face `config.json` to a model card, saying what has no place in one."""
