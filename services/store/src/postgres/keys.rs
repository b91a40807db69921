//! Keys of rows that other rows refer to, so that a batch need not look them up one by one. May not: remember what is
//! not committed; whoever learns in a transaction sees to it.

use std::collections::{BTreeSet, HashMap};

use regatta_model::{Digest, HostName, RunId};
use sqlx::PgConnection;

use crate::rows::to_json;
use crate::{CaseSet, Error, KEYS_MOST};

/// Keys of rows, and partitions that are there.
#[derive(Default)]
pub(super) struct Keys {
    hosts: HashMap<HostName, i64>,
    sets: HashMap<Digest, i64>,
    runs: HashMap<RunId, i64>,
    partitions: BTreeSet<i64>,
}

impl Keys {
    /// Forgets where too many are remembered.
    pub(super) fn bound(&mut self) {
        if self.hosts.len() + self.sets.len() + self.runs.len() > KEYS_MOST {
            *self = Self::default();
        }
    }

    pub(super) fn learn_run(&mut self, run: RunId, key: i64) {
        self.runs.insert(run, key);
    }

    pub(super) fn forget_run(&mut self, run: &RunId) {
        self.runs.remove(run);
    }

    /// Whether this partition was not known before.
    pub(super) fn learn_partition(&mut self, first: i64) -> bool {
        self.partitions.insert(first)
    }

    /// The key of a run that was made known.
    pub(super) fn run(&self, run: &RunId) -> Result<i64, Error> {
        let key = self.runs.get(run).copied();
        key.ok_or_else(|| Error::while_doing("find a run")(sqlx::Error::RowNotFound))
    }

    /// The key of a host that was made known.
    pub(super) fn host(&self, host: &HostName) -> Result<i64, Error> {
        let key = self.hosts.get(host).copied();
        key.ok_or_else(|| Error::while_doing("find a host")(sqlx::Error::RowNotFound))
    }

    /// Brings to mind the keys of these runs.
    pub(super) async fn know_runs<'r>(
        &mut self,
        db: &mut PgConnection,
        runs: impl Iterator<Item = &'r RunId>,
    ) -> Result<(), Error> {
        let missing: BTreeSet<&str> = runs
            .filter(|run| !self.runs.contains_key(*run))
            .map(RunId::as_str)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<&str> = missing.into_iter().collect();
        let found: Vec<(i64, String)> =
            sqlx::query_as("SELECT key, id FROM runs WHERE id = ANY($1::text[])")
                .bind(&missing)
                .fetch_all(db)
                .await
                .map_err(Error::while_doing("find runs"))?;
        for (key, id) in found {
            if let Ok(id) = id.parse() {
                self.runs.insert(id, key);
            }
        }
        Ok(())
    }

    /// Brings to mind the keys of these hosts; makes a row for each that has none.
    pub(super) async fn know_hosts<'h>(
        &mut self,
        db: &mut PgConnection,
        hosts: impl Iterator<Item = &'h HostName>,
    ) -> Result<(), Error> {
        let missing: BTreeSet<&str> = hosts
            .filter(|host| !self.hosts.contains_key(*host))
            .map(HostName::as_str)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<&str> = missing.into_iter().collect();
        let doing = || Error::while_doing("record hosts' names");
        sqlx::query(
            "INSERT INTO hosts (name) SELECT unnest($1::text[]) ON CONFLICT (name) DO NOTHING",
        )
        .bind(&missing)
        .execute(&mut *db)
        .await
        .map_err(doing())?;
        let found: Vec<(i64, String)> =
            sqlx::query_as("SELECT key, name FROM hosts WHERE name = ANY($1::text[])")
                .bind(&missing)
                .fetch_all(db)
                .await
                .map_err(doing())?;
        for (key, name) in found {
            if let Ok(name) = name.parse() {
                self.hosts.insert(name, key);
            }
        }
        Ok(())
    }

    /// The key of a set of cases; makes its row where there is none.
    pub(super) async fn set(&mut self, db: &mut PgConnection, set: &CaseSet) -> Result<i64, Error> {
        let digest: &Digest = &set.digest;
        if let Some(key) = self.sets.get(digest) {
            return Ok(*key);
        }
        let doing = || Error::while_doing("record a set of cases");
        sqlx::query(
            "INSERT INTO case_sets (digest, names) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING",
        )
        .bind(digest.as_bytes().to_vec())
        .bind(to_json(&set.names)?)
        .execute(&mut *db)
        .await
        .map_err(doing())?;
        let key: i64 = sqlx::query_scalar("SELECT key FROM case_sets WHERE digest = $1")
            .bind(digest.as_bytes().to_vec())
            .fetch_one(db)
            .await
            .map_err(doing())?;
        self.sets.insert(*digest, key);
        Ok(key)
    }
}
