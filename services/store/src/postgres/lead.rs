//! The leader's lease: one row, and times of the database's clock alone. May not: look at this machine's clock.

use sqlx::Row as _;

use super::Postgres;
use crate::codes::{from_sql, to_sql};
use crate::{Candidate, Error, Leadership};

impl Postgres {
    pub(super) async fn take_or_renew(
        &self,
        candidate: &Candidate,
        lease_ms: u64,
    ) -> Result<Leadership, Error> {
        let doing = || Error::while_doing("give the leader's lease");
        let epoch: Option<i64> = sqlx::query_scalar(
            "INSERT INTO leader AS held (one, epoch, id, address, until) \
             VALUES (1, 1, $1, $2, clock_timestamp() + $3 * interval '1 millisecond') \
             ON CONFLICT (one) DO UPDATE SET \
             epoch = held.epoch + CASE WHEN held.id = excluded.id THEN 0 ELSE 1 END, \
             id = excluded.id, address = excluded.address, until = excluded.until \
             WHERE held.id = excluded.id OR held.until <= clock_timestamp() RETURNING epoch",
        )
        .bind(&candidate.id)
        .bind(&candidate.address)
        .bind(to_sql(lease_ms))
        .fetch_optional(&self.lease)
        .await
        .map_err(doing())?;
        if let Some(epoch) = epoch {
            return Ok(Leadership {
                epoch: from_sql(epoch),
                leader: candidate.clone(),
                left_ms: lease_ms,
            });
        }
        let row = sqlx::query(
            "SELECT epoch, id, address, \
             CAST(greatest(0, extract(epoch FROM until - clock_timestamp()) * 1000) AS BIGINT) AS left_ms FROM leader",
        )
        .fetch_one(&self.lease)
        .await
        .map_err(doing())?;
        let read = || -> Result<Leadership, sqlx::Error> {
            Ok(Leadership {
                epoch: from_sql(row.try_get("epoch")?),
                leader: Candidate {
                    id: row.try_get("id")?,
                    address: row.try_get("address")?,
                },
                left_ms: from_sql(row.try_get("left_ms")?),
            })
        };
        read().map_err(doing())
    }

    pub(super) async fn let_go(&self, candidate: &Candidate) -> Result<(), Error> {
        sqlx::query("UPDATE leader SET until = '-infinity' WHERE id = $1")
            .bind(&candidate.id)
            .execute(&self.lease)
            .await
            .map(drop)
            .map_err(Error::while_doing("take the leader's lease back"))
    }
}
