//! The matrix language: what people write, checked and turned into cells.
