-- Runs that nobody sees any more; their rows go a few at a time, the run's own at last.

ALTER TABLE runs ADD COLUMN pruned BIGINT NOT NULL DEFAULT 0;
CREATE INDEX runs_pruned ON runs (key) WHERE pruned = 1;
