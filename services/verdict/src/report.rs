//! The report of a run. (to be written)
