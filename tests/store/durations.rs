//! How long cases took, for the newest runs that tell.

use std::sync::Arc;

use regatta_model::run::RunState;
use regatta_store::{Batch, CaseSet, DURATION_RUNS_KEPT, DurationsRow};

use super::{databases, head, id, lead, new_run};

fn said(run: &str, shard: u32, cells: &str, name: &str, byte: u8) -> DurationsRow {
    DurationsRow {
        matrix: "name".into(),
        cells: cells.into(),
        run: id(run),
        shard,
        set: Arc::new(CaseSet::from(vec![name.to_owned()])),
        durations: vec![byte],
    }
}

#[tokio::test]
async fn durations_are_kept_of_the_newest_runs_and_go_with_their_run() {
    for database in databases().await {
        let store = &*database.store;
        let runs = ["r1", "r2", "r3", "r4", "r5"];
        let batch = Batch {
            runs: runs.iter().map(|run| new_run(run)).collect(),
            durations: vec![said("r1", 1, "{}", "a", 7), said("r1", 0, "other", "a", 7)],
            ..Batch::default()
        };
        database.commit(&batch).await.unwrap();
        // The first word of a shard counts.
        let batch = Batch {
            durations: vec![said("r1", 1, "{}", "b", 8), said("r1", 0, "{}", "b", 9)],
            ..Batch::default()
        };
        database.commit(&batch).await.unwrap();
        let both = [said("r1", 0, "{}", "b", 9), said("r1", 1, "{}", "a", 7)];
        assert_eq!(store.durations("name", "{}").await.unwrap(), both);
        assert_eq!(store.durations("another", "{}").await.unwrap(), []);
        for run in &runs[1..] {
            let batch = Batch {
                durations: vec![said(run, 0, "{}", "a", 1)],
                ..Batch::default()
            };
            database.commit(&batch).await.unwrap();
        }
        let kept = store.durations("name", "{}").await.unwrap();
        let kept: Vec<&str> = kept.iter().map(|row| row.run.as_str()).collect();
        assert_eq!(kept, ["r5", "r4", "r3"]);
        assert_eq!(kept.len(), usize::try_from(DURATION_RUNS_KEPT).unwrap());
        // Other cells keep theirs, though newer runs said nothing of them.
        let other = store.durations("name", "other").await.unwrap();
        assert_eq!(other, [said("r1", 0, "other", "a", 7)]);
        // A pruned run says nothing any more, and leaves nothing.
        let batch = Batch {
            pruned: vec![id("r5"), id("r1")],
            heads: vec![
                head("r5", RunState::Finished, 2),
                head("r1", RunState::Finished, 2),
            ],
            ..Batch::default()
        };
        let over = Batch {
            heads: batch.heads.clone(),
            ..Batch::default()
        };
        database.commit(&over).await.unwrap();
        database.commit(&batch).await.unwrap();
        let epoch = lead(store, "one").await;
        assert_eq!(store.durations("name", "other").await.unwrap(), []);
        for run in ["r5", "r1"] {
            assert!(store.sweep(epoch, &id(run)).await.unwrap());
        }
        let kept = store.durations("name", "{}").await.unwrap();
        let kept: Vec<&str> = kept.iter().map(|row| row.run.as_str()).collect();
        assert_eq!(kept, ["r4", "r3"]);
    }
}
