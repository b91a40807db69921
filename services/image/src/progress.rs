//! How long work tells how far it is. May not: draw anything.

/// Hears of long work. Several tasks may be under way at once, from several threads.
pub trait Progress: Send + Sync {
    /// A task begins: "layer 3f4a…", with its size in bytes where that is known.
    fn begin(&self, name: &str, total: Option<u64>) -> Box<dyn Task>;
    /// A line for a person about the work as a whole ("step 3/10: RUN make").
    fn note(&self, line: &str) {
        let _ = line;
    }
}

/// One task under way; it ended without success where it is dropped unfinished.
pub trait Task: Send {
    /// So many more bytes are done.
    fn advance(&self, bytes: u64);
    /// It is done.
    fn finish(&self);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>) -> Box<dyn Task> {
        Box::new(Self)
    }
}

impl Task for Silent {
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}
