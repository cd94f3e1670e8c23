//! JSON to CBOR and back, for the command: what a person types becomes a data item, and an item becomes something
//! that can be read.
//!
//! The way there keeps the shape. The way back must show every item, also those that JSON has no words for:
//!
//! | CBOR | JSON |
//! |---|---|
//! | integers of 64 bits, finite floats, text, booleans, null | themselves |
//! | smaller negative integers, NaN, infinities | a string: `"-18446744073709551616"`, `"NaN"`, `"-Infinity"` |
//! | byte string | `{"$bytes": "<hexadecimal>"}` |
//! | array | array |
//! | map | object; a key that is no text is its diagnostic notation (RFC 8949 §8): `"1"`, `"h'00ff'"` |
//! | map of which two keys would look the same, as `1` and `"1"` do | `{"$map": [[key, value], ...]}` |
//! | tag | `{"$tag": number, "value": ...}` |
//! | undefined | null |
//! | other simple values | `{"$simple": number}` |
//!
//! It is for people and scripts, not for the way back: a text map that looks like one of these forms is not told apart.

use super::cbor::float::{read_float, write_float};
use super::cbor::{self, CborError, Major, Reader, write_head, write_string};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The data item of the same shape, in its deterministic encoding: integers as integers, floats as floats, objects as
/// maps with text keys.
pub fn json_to_cbor(text: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_json(&mut out, text);
    out
}

/// The item as JSON, by the table above. Bytes that are no well-formed item within [`cbor::NESTING_MAX`], which no
/// agent sends, are shown as a byte string is.
pub fn cbor_to_json(item: &[u8]) -> Value {
    match Item::read(item) {
        Ok(item) => json_of(&item),
        Err(_) => json_bytes(item),
    }
}

/// What a person gets on standard output, without a newline: a text as its text, a byte string as its bytes,
/// anything else as compact JSON.
pub fn cbor_to_text(item: &[u8]) -> Vec<u8> {
    match Item::read(item) {
        Ok(Item::Text(text)) => text.into_bytes(),
        Ok(Item::Bytes(bytes)) => bytes,
        Ok(other) => json_of(&other).to_string().into_bytes(),
        Err(_) => json_bytes(item).to_string().into_bytes(),
    }
}

fn write_json(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(false) => out.push(0xf4),
        Value::Bool(true) => out.push(0xf5),
        Value::Number(number) => {
            if let Some(unsigned) = number.as_u64() {
                write_head(out, Major::Unsigned, unsigned);
            } else if let Some(negative) = number.as_i64() {
                // -1 - n, which for a negative number in two's complement is its complement.
                write_head(out, Major::Negative, !negative as u64);
            } else if let Some(float) = number.as_f64() {
                write_float(out, float);
            } else {
                // Only numbers of arbitrary precision, which this build of serde_json does not read, come here.
                write_string(out, Major::Text, number.to_string().as_bytes());
            }
        }
        Value::String(string) => write_string(out, Major::Text, string.as_bytes()),
        Value::Array(elements) => {
            write_head(out, Major::Array, elements.len() as u64);
            elements.iter().for_each(|element| write_json(out, element));
        }
        Value::Object(members) => {
            let mut pairs: Vec<_> = members.iter().map(|(key, value)| (cbor::text(key), value)).collect();
            pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            write_head(out, Major::Map, pairs.len() as u64);
            for (key, value) in pairs {
                out.extend_from_slice(&key);
                write_json(out, value);
            }
        }
    }
}

/// A data item, taken apart.
enum Item {
    Integer(i128),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Item>),
    Map(Vec<(Item, Item)>),
    Tag(u64, Box<Item>),
    Simple(u64),
    Float(f64),
}

impl Item {
    fn read(item: &[u8]) -> Result<Item, CborError> {
        // The deterministic form has been checked, and knows no indefinite lengths: only the plain cases remain.
        let item = cbor::to_deterministic(item, cbor::NESTING_MAX)?;
        Item::read_next(&mut Reader::new(&item))
    }

    fn read_next(reader: &mut Reader) -> Result<Item, CborError> {
        let head = reader.head()?;
        Ok(match head.major {
            Major::Unsigned => Item::Integer(i128::from(head.argument)),
            Major::Negative => Item::Integer(-1 - i128::from(head.argument)),
            Major::Bytes => Item::Bytes(reader.string(head)?.to_vec()),
            Major::Text => Item::Text(String::from_utf8_lossy(reader.string(head)?).into_owned()),
            Major::Array => Item::Array((0..head.argument).map(|_| Item::read_next(reader)).collect::<Result<_, _>>()?),
            Major::Map => {
                let mut pair = || Ok((Item::read_next(reader)?, Item::read_next(reader)?));
                Item::Map((0..head.argument).map(|_| pair()).collect::<Result<_, _>>()?)
            }
            Major::Tag => Item::Tag(head.argument, Box::new(Item::read_next(reader)?)),
            Major::Other => match read_float(head.info, head.argument) {
                Some(float) => Item::Float(float),
                None => Item::Simple(head.argument),
            },
        })
    }
}

fn json_of(item: &Item) -> Value {
    match item {
        Item::Integer(number) => match (u64::try_from(*number), i64::try_from(*number)) {
            (Ok(unsigned), _) => unsigned.into(),
            (_, Ok(signed)) => signed.into(),
            _ => number.to_string().into(),
        },
        Item::Bytes(bytes) => json_bytes(bytes),
        Item::Text(text) => text.as_str().into(),
        Item::Array(elements) => elements.iter().map(json_of).collect(),
        Item::Map(pairs) => json_map(pairs),
        Item::Tag(number, content) => json!({ "$tag": number, "value": json_of(content) }),
        Item::Simple(20) => false.into(),
        Item::Simple(21) => true.into(),
        Item::Simple(22 | 23) => Value::Null,
        Item::Simple(number) => json!({ "$simple": number }),
        Item::Float(float) if float.is_finite() => (*float).into(),
        Item::Float(_) => diagnostic(item).into(),
    }
}

fn json_bytes(bytes: &[u8]) -> Value {
    json!({ "$bytes": hexadecimal(bytes) })
}

fn json_map(pairs: &[(Item, Item)]) -> Value {
    let name = |(key, _): &(Item, Item)| match key {
        Item::Text(text) => text.clone(),
        other => diagnostic(other),
    };
    let names: Vec<_> = pairs.iter().map(name).collect();
    // Looked at before any value is converted: to convert them twice would double the work with each level.
    if names.iter().collect::<BTreeSet<_>>().len() == names.len() {
        names.into_iter().zip(pairs).map(|(name, (_, value))| (name, json_of(value))).collect()
    } else {
        let pairs: Value = pairs.iter().map(|(key, value)| json!([json_of(key), json_of(value)])).collect();
        json!({ "$map": pairs })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The diagnostic notation of RFC 8949 §8.
fn diagnostic(item: &Item) -> String {
    let list = |items: &[Item]| items.iter().map(diagnostic).collect::<Vec<_>>().join(", ");
    match item {
        Item::Integer(number) => number.to_string(),
        Item::Bytes(bytes) => format!("h'{}'", hexadecimal(bytes)),
        Item::Text(text) => Value::from(text.as_str()).to_string(),
        Item::Array(elements) => format!("[{}]", list(elements)),
        Item::Map(pairs) => {
            let pair = |(key, value): &(Item, Item)| format!("{}: {}", diagnostic(key), diagnostic(value));
            format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        Item::Tag(number, content) => format!("{number}({})", diagnostic(content)),
        Item::Simple(20) => "false".into(),
        Item::Simple(21) => "true".into(),
        Item::Simple(22) => "null".into(),
        Item::Simple(23) => "undefined".into(),
        Item::Simple(number) => format!("simple({number})"),
        Item::Float(float) if float.is_nan() => "NaN".into(),
        Item::Float(float) if float.is_infinite() => if *float > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        // With the point or exponent that tells it from an integer.
        Item::Float(float) => format!("{float:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn json_becomes_the_deterministic_item_of_the_same_shape_and_comes_back() {
        for (json, hex) in [
            ("null", "f6"),
            ("true", "f5"),
            ("0", "00"),
            ("-1", "20"),
            ("18446744073709551615", "1bffffffffffffffff"),
            ("-9223372036854775808", "3b7fffffffffffffff"),
            ("1.0", "f93c00"),
            ("-0.0", "f98000"),
            ("1.1", "fb3ff199999999999a"),
            ("1e+300", "fb7e37e43c8800759c"),
            ("\"ü\"", "62c3bc"),
            ("\"\"", "60"),
            ("[1,[2,3],[],{}]", "840182020380a0"),
            (r#"{"aa":1,"b":[{"c":null}]}"#, "a2616281a16163f662616101"),
        ] {
            let value: Value = serde_json::from_str(json).expect(json);
            let item = json_to_cbor(&value);
            assert_eq!(item, bytes(hex), "{json}");
            assert_eq!(cbor::to_deterministic(&item, 8), Ok(item.clone()), "{json}");
            assert_eq!(cbor_to_json(&item).to_string(), json);
        }
    }

    #[test]
    fn items_without_a_json_form_are_shown_in_one_of_their_own() {
        for (hex, json) in [
            ("4200ff", r#"{"$bytes":"00ff"}"#),
            ("5f4100420102ff", r#"{"$bytes":"000102"}"#),
            ("3bffffffffffffffff", r#""-18446744073709551616""#),
            ("3b8000000000000000", r#""-9223372036854775809""#),
            ("f97e00", r#""NaN""#),
            ("f97c00", r#""Infinity""#),
            ("f9fc00", r#""-Infinity""#),
            ("f7", "null"),
            ("f0", r#"{"$simple":16}"#),
            ("c249010000000000000000", r#"{"$tag":2,"value":{"$bytes":"010000000000000000"}}"#),
            ("a10180", r#"{"1":[]}"#),
            ("a120f4", r#"{"-1":false}"#),
            ("a1f6f5", r#"{"null":true}"#),
            ("a1f7f5", r#"{"undefined":true}"#),
            ("a1f82000", r#"{"simple(32)":0}"#),
            ("a1f93c0000", r#"{"1.0":0}"#),
            ("a14200ff00", r#"{"h'00ff'":0}"#),
            ("a1820161610a", r#"{"[1, \"a\"]":10}"#),
            ("a1a101c1f4f97e00", r#"{"{1: 1(false)}":"NaN"}"#),
            ("a201006131f5", r#"{"$map":[[1,0],["1",true]]}"#),
        ] {
            assert_eq!(cbor_to_json(&bytes(hex)).to_string(), json, "{hex}");
        }
    }

    #[test]
    fn the_deepest_item_is_shown_in_a_time_that_grows_with_its_length() {
        // On each level two keys that look the same, and the next level as a value.
        let levels = cbor::NESTING_MAX - 1;
        let nested = bytes(&format!("{}80", "a261310001".repeat(levels)));
        let shown = cbor_to_json(&nested).to_string();
        assert!(shown.starts_with(r#"{"$map":[[1,{"$map":"#), "{shown}");
    }

    #[test]
    fn standard_output_gets_texts_and_bytes_as_they_are_and_the_rest_as_json() {
        assert_eq!(cbor_to_text(&cbor::text("a \"b\"\n")), b"a \"b\"\n");
        assert_eq!(cbor_to_text(&bytes("7f61616162ff")), b"ab");
        assert_eq!(cbor_to_text(&bytes("4300ff0a")), [0, 255, 10]);
        assert_eq!(cbor_to_text(&bytes("820141ff")), br#"[1,{"$bytes":"ff"}]"#);
        assert_eq!(cbor_to_text(&bytes("")), br#"{"$bytes":""}"#);
    }

    #[test]
    fn bytes_that_are_no_item_are_shown_as_bytes() {
        for hex in ["", "ff", "0000", "61ff", "a201000100"] {
            assert_eq!(cbor_to_json(&bytes(hex)), json!({ "$bytes": hex }));
        }
        let too_deep = "81".repeat(100_000);
        assert_eq!(cbor_to_json(&bytes(&too_deep)), json!({ "$bytes": too_deep }));
    }
}
