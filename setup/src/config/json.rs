//! The file as JSON, as written but without secrets, for `/config.json`.
//!
//! For: `load`. Not for: resolved parameters.

use super::reader::SECRETS;
use super::scalar::{plain_bool, plain_int};
use super::tree::{Node, Value};
use serde_json::{Map, Number, Value as Json};

const REDACTED: &str = "<redacted>";

/// A node as JSON.
pub fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null | Value::Probe => Json::Null,
        Value::Scalar { text, quoted: true } => Json::String(text.clone()),
        Value::Scalar { text, quoted: false } => plain(text),
        Value::List(nodes) => Json::Array(nodes.iter().map(json).collect()),
        Value::Map(entries) => {
            let mut map = Map::new();
            for (key, node) in entries {
                let value = match SECRETS.contains(&key.text.as_str()) {
                    true => Json::String(REDACTED.to_owned()),
                    false => json(node),
                };
                map.insert(key.text.clone(), value);
            }
            Json::Object(map)
        }
    }
}

fn plain(text: &str) -> Json {
    if let Some(value) = plain_bool(text) {
        return Json::Bool(value);
    }
    if let Some(value) = plain_int(text) {
        return Json::Number(value.into());
    }
    let float = || text.starts_with(|c: char| c.is_ascii_digit() || c == '-').then(|| text.parse().ok()).flatten();
    float().and_then(Number::from_f64).map_or_else(|| Json::String(text.to_owned()), Json::Number)
}
