//! Logs and artifacts: the same stories over a directory and over an S3 server, and what only a bucket can do wrong.

mod bucket;
mod direct;
#[expect(dead_code, reason = "the suite api uses the rest of it")]
#[path = "../api/kit.rs"]
mod kit;
mod place;
mod s3;
mod server;
mod stories;

use place::Place;

/// Each story is a test of its own for each kind of place.
macro_rules! told {
    ($($story:ident,)*) => {
        mod directory {
            $(#[tokio::test]
            async fn $story() {
                crate::stories::$story(&crate::Place::directory()).await;
            })*
        }
        mod in_a_bucket {
            $(#[tokio::test]
            async fn $story() {
                crate::stories::$story(&crate::Place::bucket().await).await;
            })*
        }
    };
}

told! {
    a_blob_comes_back_and_is_replaced_and_dropped,
    what_is_not_there_is_none,
    a_long_blob_comes_back_byte_for_byte,
    a_blob_that_is_cut_off_leaves_nothing,
    a_blob_beyond_its_limit_leaves_nothing,
    a_blob_that_nobody_waits_for_leaves_nothing,
    names_stay_within_their_attempt,
    a_run_is_dropped_and_no_other,
}
