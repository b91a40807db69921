-- Runs of which somebody asked to go on until nothing is unresolved.

ALTER TABLE runs ADD COLUMN deep INTEGER NOT NULL DEFAULT 0;
