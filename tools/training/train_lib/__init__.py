"""Modules of tools/train.py: tokenizer, data sets, model, checkpoint folder, metrics."""
