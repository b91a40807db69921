//! Columns as the values that they stand for. May not: run a query.

use regatta_model::Digest;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite as Database};

use crate::Error;
use crate::codes::from_sql;

pub(super) fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Corrupt(format!("{what} that cannot be read ({error})")))
}

pub(super) fn column<'r, T>(row: &'r SqliteRow, name: &str) -> Result<T, Error>
where
    T: sqlx::Decode<'r, Database> + sqlx::Type<Database>,
{
    row.try_get(name)
        .map_err(Error::while_doing("give a column"))
}

pub(super) fn number(row: &SqliteRow, name: &str) -> Result<u64, Error> {
    column::<i64>(row, name).map(from_sql)
}

pub(super) fn name<T: std::str::FromStr>(row: &SqliteRow, column_name: &str) -> Result<T, Error>
where
    T::Err: std::fmt::Display,
{
    let text: String = column(row, column_name)?;
    text.parse()
        .map_err(|error| Error::Corrupt(format!("a name that is none ({error})")))
}

pub(super) fn digest(bytes: &[u8]) -> Result<Digest, Error> {
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| Error::Corrupt(format!("a digest of {} bytes", bytes.len())))?;
    Ok(Digest::from_bytes(bytes))
}
