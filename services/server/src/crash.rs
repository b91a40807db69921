//! Named steps at which a test has the server end as a lost machine would: `REGATTA_CRASH_AT=NAME`, or `NAME:N` for the
//! N-th passing. A release build holds nothing of it. May not: do anything unless told to.

/// The lead is had, nothing is loaded yet.
pub(crate) const CHOSEN: &str = "chosen";
/// All that is recorded is loaded, before the first turn.
pub(crate) const TAKEN_UP: &str = "taken-up";
/// A turn that has something to record is complete, before the commit.
pub(crate) const DECIDED: &str = "decided";
/// It is recorded, before anybody hears of it.
pub(crate) const COMMITTED: &str = "committed";
/// It is said; what was said may still be on its way.
pub(crate) const PUBLISHED: &str = "published";
/// A host was distrusted and cells are open again, before the commit.
pub(crate) const REOPENED: &str = "reopened";

/// Passes a step: ends this process at once where that was asked for.
#[cfg(debug_assertions)]
pub(crate) fn point(step: &'static str) {
    use std::io::Write as _;
    use std::num::NonZeroU64;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    const STEPS: [&str; 6] = [CHOSEN, TAKEN_UP, DECIDED, COMMITTED, PUBLISHED, REOPENED];
    static ASKED: OnceLock<Option<(&str, AtomicU64)>> = OnceLock::new();

    let asked = ASKED.get_or_init(|| {
        let asked = std::env::var("REGATTA_CRASH_AT").ok()?;
        let (name, times) = asked.split_once(':').unwrap_or((&asked, "1"));
        let step = STEPS.into_iter().find(|step| *step == name);
        let times = times.parse::<NonZeroU64>().ok();
        let found = step.zip(times);
        if found.is_none() {
            let error = format!("REGATTA_CRASH_AT={asked} is no step of the server: {STEPS:?}");
            drop(writeln!(std::io::stderr(), "{error}"));
        }
        found.map(|(step, times)| (step, AtomicU64::new(times.get())))
    });
    if let Some((name, left)) = asked
        && *name == step
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// Passes a step.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) const fn point(_: &'static str) {}
