//! What the suites share (to be written).
