-- What results say of a host (services/verdict/src/trust.rs), as JSON.

ALTER TABLE hosts ADD COLUMN trust TEXT NOT NULL DEFAULT '{}';
