-- Runs of which the search for where their regressions began goes on, and what it came to.

ALTER TABLE runs ADD COLUMN bisecting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN bisection TEXT;

CREATE INDEX runs_bisecting ON runs (key) WHERE bisecting = 1;
