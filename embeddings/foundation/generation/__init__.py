"""Titles by their semantic ids, digit by digit: `trie` (which ids exist), `id_head` (how likely), `beam_search`."""
