//! The JSON Schema of matrix files. May not: say anything that the written matrix does not.

use super::written::Written;

/// The JSON Schema of matrix files.
pub(super) fn schema() -> serde_json::Value {
    let schema = schemars::schema_for!(Written);
    let mut schema = serde_json::to_value(schema).unwrap_or_default();
    if let Some(top) = schema.as_object_mut() {
        top.insert("title".to_owned(), "Regatta matrix".into());
    }
    without_null(&mut schema);
    schema
}

/// A key that may be left away may still not be null.
fn without_null(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::Array(types)) = map.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(serde_json::Value::Array(any)) = map.get_mut("anyOf") {
                any.retain(|schema| schema.get("type").is_none_or(|kind| kind != "null"));
                if let [serde_json::Value::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    map.extend(only);
                }
            }
            map.values_mut().for_each(without_null);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(without_null),
        _ => {}
    }
}
