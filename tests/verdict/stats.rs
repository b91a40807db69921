//! The statistics against what other programs make of the same formulas (`tests/fixtures/stats`). May not: compute the expected
//! values here.

mod bisect;
mod fdr;
mod metrics;

use serde_json::Value;

/// The reference of that name.
fn reference(name: &str) -> Value {
    let path = format!("{}/fixtures/stats/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

/// Its rows; a reference without any proves nothing.
fn rows(reference: &Value) -> &Vec<Value> {
    let rows = reference["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    rows
}

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap().iter();
    list.map(|number| number.as_f64().unwrap()).collect()
}

/// Equal but for rounding, or but for `most` where a method approximates.
fn close(is: f64, wanted: f64, most: f64, of: &dyn std::fmt::Display) {
    assert!(
        (is - wanted).abs() <= most * wanted.abs().max(1.0),
        "{is} is not {wanted}: {of}"
    );
}
