//! Named steps at which a test has the agent end as a lost machine would: `REGATTA_CRASH_AT=NAME`, or `NAME:N` for the
//! N-th passing. A release build holds nothing of it. May not: do anything unless told to.

/// An assignment is made ready, before it is ordered from the executor.
pub(crate) const ASSIGNED: &str = "assigned";
/// An outcome is put together, before it is written down.
pub(crate) const ENDED: &str = "ended";
/// It is written down, before the server is told.
pub(crate) const WRITTEN: &str = "written";
/// The server acknowledged outcomes, before the outbox forgets them.
pub(crate) const ACKNOWLEDGED: &str = "acknowledged";
/// The outbox forgot them, before their attempts' directories are cleared away.
pub(crate) const FORGOTTEN: &str = "forgotten";

/// Passes a step: ends this process at once where that was asked for.
#[cfg(debug_assertions)]
pub(crate) fn point(step: &'static str) {
    use std::io::Write as _;
    use std::num::NonZeroU64;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    const STEPS: [&str; 5] = [ASSIGNED, ENDED, WRITTEN, ACKNOWLEDGED, FORGOTTEN];
    static ASKED: OnceLock<Option<(&str, AtomicU64)>> = OnceLock::new();

    let asked = ASKED.get_or_init(|| {
        let asked = std::env::var("REGATTA_CRASH_AT").ok()?;
        let (name, times) = asked.split_once(':').unwrap_or((&asked, "1"));
        let step = STEPS.into_iter().find(|step| *step == name);
        let times = times.parse::<NonZeroU64>().ok();
        let found = step.zip(times);
        if found.is_none() {
            let error = format!("REGATTA_CRASH_AT={asked} is no step of the agent: {STEPS:?}");
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
