"""Taking a checkpoint away: a folder that ordinary libraries open."""
