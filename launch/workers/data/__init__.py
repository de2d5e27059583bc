"""Prepares token corpora in Megatron's indexed format."""
