//! What machines read: raw bytes, RFC 3339, full ids, field names that never change meaning.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use volume_vault::clock::Time;
use volume_vault::entry::escape;

use super::super::error::CliError;

/// Version of every document's form; fields may be added within it.
pub(crate) const SCHEMA: u64 = 1;

/// A verb's document: `schema` and the fields of `body`, which must be an object.
pub(crate) fn document(body: Value) -> Value {
    let mut fields = Map::from_iter([("schema".to_owned(), json!(SCHEMA))]);
    match body {
        Value::Object(body) => fields.extend(body),
        other => drop(fields.insert("result".to_owned(), other)),
    }
    Value::Object(fields)
}

/// The document of a failure, and of what was done before it.
pub(crate) fn error_document(error: &CliError) -> Value {
    let mut body = error.done().cloned().unwrap_or_else(|| json!({}));
    body["error"] = error_value(error);
    document(body)
}

/// What a document says of a failure, in its field `error`.
pub(crate) fn error_value(error: &CliError) -> Value {
    json!({
        "kind": error.kind().name(),
        "exit_code": error.code(),
        "object": error.object_name(),
        "message": error.one_line(),
        "hint": error.advice(),
    })
}

/// A document as it is printed. What could steer a terminal is escaped in it, which serde_json
/// does for some of it only; it can only stand within strings.
pub(crate) fn to_text(value: &Value, pretty: bool) -> String {
    let text = if pretty { format!("{value:#}") } else { value.to_string() };
    if text.bytes().all(|byte| byte < 0x7f) {
        return text;
    }
    let mut safe = String::with_capacity(text.len());
    let mut utf8 = [0; 4];
    for c in text.chars() {
        let bytes: &str = c.encode_utf8(&mut utf8);
        match c < '\x7f' || escape(bytes.as_bytes()) == bytes {
            true => safe.push(c),
            false => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    safe.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    safe
}

/// A time in UTC with as many digits as it needs; null for one no calendar holds.
pub(crate) fn rfc3339(time: Time) -> Option<String> {
    let nanos = i32::try_from(time.nanos).ok()?;
    Some(Timestamp::new(time.seconds, nanos).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::error::Kind;

    #[test]
    fn a_failure_is_one_document_of_stable_fields() {
        let error = CliError::new(Kind::NotFound, "no volume `x`").object("x").hint("look again");
        assert_eq!(
            error_document(&error),
            json!({"schema": 1, "error": {"kind": "not_found", "exit_code": 15, "object": "x",
                "message": "no volume `x`", "hint": "look again"}})
        );
    }

    #[test]
    fn documents_carry_their_schema() {
        assert_eq!(document(json!({"a": 1})), json!({"schema": 1, "a": 1}));
        assert_eq!(document(json!([1])), json!({"schema": 1, "result": [1]}));
    }

    #[test]
    fn no_document_can_steer_a_terminal() {
        let hostile = json!({"a\u{9b}": "\u{1b}[2J\u{7f}\u{202e}grün\\\u{e0041}"});
        for pretty in [false, true] {
            let text = to_text(&hostile, pretty);
            let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}' || c > '\u{ffff}';
            assert!(!text.contains(steers), "{text:?}");
            assert!(text.contains("grün"), "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).expect("valid"), hostile);
        }
    }

    #[test]
    fn times_are_rfc3339_in_utc() {
        let text = rfc3339(Time::new(1_795_176_309, 5));
        assert_eq!(text.as_deref(), Some("2026-11-20T12:05:09.000000005Z"));
        assert_eq!(rfc3339(Time::new(i64::MAX, 0)), None);
    }
}
