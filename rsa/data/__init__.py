"""From raw image collections to augmented views: sources, shards, per-sample randomness, the DALI loader."""
