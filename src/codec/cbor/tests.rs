use super::float::{NAN_HALF, double_from_half, write_float};
use super::*;

/// RFC 8949 appendix A: the examples that are in deterministic form.
const DETERMINISTIC: &str = "
    00 01 0a 17 1818 1819 1864 1903e8 1a000f4240 1b000000e8d4a51000 1bffffffffffffffff c249010000000000000000
    3bffffffffffffffff c349010000000000000000 20 29 3863 3903e7 f90000 f98000 f93c00 fb3ff199999999999a f93e00 f97bff
    fa47c35000 fa7f7fffff fb7e37e43c8800759c f90001 f90400 f9c400 fbc010666666666666 f97c00 f97e00 f9fc00 f4 f5 f6 f7
    f0 f8ff c074323031332d30332d32315432303a30343a30305a c11a514b67b0 c1fb41d452d9ec200000 d74401020304
    d818456449455446 d82076687474703a2f2f7777772e6578616d706c652e636f6d 40 4401020304 60 6161 6449455446 62225c 62c3bc
    63e6b0b4 64f0908591 80 83010203 8301820203820405 98190102030405060708090a0b0c0d0e0f101112131415161718181819 a0
    a201020304 a26161016162820203 826161a161626163 a56161614161626142616361436164614461656145";

/// What is not in deterministic form, and what it becomes. First the remaining examples of appendix A.
const CONVERGING: &str = "
    fa7f800000 f97c00              fa7fc00000 f97e00              faff800000 f9fc00
    fb7ff0000000000000 f97c00      fb7ff8000000000000 f97e00      fbfff0000000000000 f9fc00
    5f42010243030405ff 450102030405                    7f657374726561646d696e67ff 6973747265616d696e67
    9fff 80                                            9f018202039f0405ffff 8301820203820405
    9f01820203820405ff 8301820203820405                83018202039f0405ff 8301820203820405
    83019f0203ff820405 8301820203820405                bf61610161629f0203ffff a26161016162820203
    826161bf61626163ff 826161a161626163                bf6346756ef563416d7421ff a263416d74216346756ef5
    9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff
    98190102030405060708090a0b0c0d0e0f101112131415161718181819

    1800 00                        190017 17                      1a00000018 1818
    1b0000000000000100 190100      3b00000000ffffffff 3affffffff  5803010203 43010203
    7b000000000000000161 6161      9800 80                        b90000 a0
    d9000102 c102                  5fff 40                        7f6060ff 60

    fb0000000000000000 f90000      fa80000000 f98000              fa33800000 f90001
    fb3e70000000000000 f90001      fa38800000 f90400              fa387fc000 f903ff
    fa477fe000 f97bff              fb36a0000000000000 fa00000001  fbc010000000000000 f9c400
    f97c01 f97e00                  faffc00001 f97e00              fbfff0000000000001 f97e00

    a3617a00811000186401 a3186401617a00811000
    ";

/// Floats that have no shorter form: half a unit below the smallest half, between two halves, above the largest.
const SHORTEST: &str = "fa33000000 fa33c00000 fa47800000 fa00000001 fb36a8000000000000 fb47f0000000000000";

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn samples() -> Vec<Vec<u8>> {
    [DETERMINISTIC, CONVERGING, SHORTEST].iter().flat_map(|list| list.split_whitespace()).map(bytes).collect()
}

/// The error of both entry points, which must be the same.
fn refusal(hex: &str, max_nesting: usize) -> CborError {
    let item = bytes(hex);
    let error = to_deterministic(&item, max_nesting).expect_err(hex);
    assert_eq!(check(&item, max_nesting), Err(error), "{hex}");
    error
}

#[test]
fn deterministic_items_stay_as_they_are() {
    for hex in DETERMINISTIC.split_whitespace().chain(SHORTEST.split_whitespace()) {
        assert_eq!(to_deterministic(&bytes(hex), 8), Ok(bytes(hex)), "{hex}");
        assert_eq!(check(&bytes(hex), 8), Ok(()), "{hex}");
    }
}

#[test]
fn other_forms_of_a_value_converge_on_the_deterministic_one() {
    let words: Vec<_> = CONVERGING.split_whitespace().collect();
    for pair in words.chunks(2) {
        assert_eq!(to_deterministic(&bytes(pair[0]), 8), Ok(bytes(pair[1])), "{}", pair[0]);
    }
}

#[test]
fn map_keys_are_sorted_by_the_bytes_of_their_encodings() {
    // The order that RFC 8949 §4.2.1 lists: 10, 100, -1, "z", "aa", [100], [-1], false.
    let keys = ["0a", "1864", "20", "617a", "626161", "811864", "8120", "f4"];
    let map = |keys: &mut dyn Iterator<Item = &&str>| {
        bytes(&format!("a8{}", keys.map(|k| format!("{k}00")).collect::<String>()))
    };
    let sorted = map(&mut keys.iter());
    assert_eq!(to_deterministic(&map(&mut keys.iter().rev()), 2), Ok(sorted.clone()));
    assert_eq!(to_deterministic(&sorted, 2), Ok(sorted));
    // A key that is a map of indefinite length, out of order itself.
    assert_eq!(to_deterministic(&bytes("a1bf02000100ff00"), 2), Ok(bytes("a1a20100020000")));
}

#[test]
fn a_key_twice_is_refused_in_whatever_encodings() {
    for hex in ["a201000100", "a20100180100", "bf6161006161f6ff", "a27f6161ff00616100", "a2f97e0000fa7fc0000100"] {
        assert_eq!(refusal(hex, 8), CborError::DuplicateKey { at: 0 }, "{hex}");
    }
    assert_eq!(refusal("8200a1a20100010000", 8), CborError::DuplicateKey { at: 3 });
    // Equal in number, and different values all the same.
    for hex in ["a20100f93c0000", "a20100c2410100", "a2f9000000f9800000"] {
        assert_eq!(check(&bytes(hex), 8), Ok(()), "{hex}");
    }
}

#[test]
fn each_kind_of_malformed_item_is_named() {
    use CborError::*;
    let cases = [
        ("", Truncated { at: 0 }),
        ("19ff", Truncated { at: 2 }),
        ("c1", Truncated { at: 1 }),
        ("9f01", Truncated { at: 2 }),
        ("0000ff", Trailing { count: 2 }),
        ("4401", LengthBeyondInput { at: 0, claimed: 4, left: 1 }),
        ("9bffffffffffffffff00", LengthBeyondInput { at: 0, claimed: u64::MAX, left: 1 }),
        ("bb100000000000000000", LengthBeyondInput { at: 0, claimed: 1 << 60, left: 1 }),
        ("a2000000", LengthBeyondInput { at: 0, claimed: 2, left: 3 }),
        ("62c328", BadUtf8 { at: 0 }),
        ("7f61c361bcff", BadUtf8 { at: 1 }),
        ("1c", ReservedHead { at: 0 }),
        ("1f", ReservedHead { at: 0 }),
        ("3f", ReservedHead { at: 0 }),
        ("df00", ReservedHead { at: 0 }),
        ("fe", ReservedHead { at: 0 }),
        ("f818", ReservedHead { at: 0 }),
        ("f81f", ReservedHead { at: 0 }),
        ("5f00ff", BadChunk { at: 1 }),
        ("5f6161ff", BadChunk { at: 1 }),
        ("5f5fffff", BadChunk { at: 1 }),
        ("ff", StrayBreak { at: 0 }),
        ("81ff", StrayBreak { at: 1 }),
        ("c1ff", StrayBreak { at: 1 }),
        ("a100ff", StrayBreak { at: 2 }),
        ("bf00ff", StrayBreak { at: 2 }),
    ];
    for (hex, error) in cases {
        assert_eq!(refusal(hex, 8), error, "{hex}");
    }
}

#[test]
fn nesting_is_counted_in_arrays_maps_and_tags() {
    for (hex, levels) in [("00", 0), ("5f4100ff", 0), ("80", 1), ("c100", 1), ("a10000", 1), ("81c1a10081f6", 4)] {
        assert_eq!(check(&bytes(hex), levels), Ok(()), "{hex}");
        if let Some(fewer) = levels.checked_sub(1) {
            assert!(matches!(refusal(hex, fewer), CborError::TooDeep { limit, .. } if limit == fewer), "{hex}");
        }
    }
}

#[test]
fn endless_nesting_ends_at_the_limit_whatever_was_asked_for() {
    for head in ["81", "9f", "a100", "bf00", "a1", "c1"] {
        let hex = head.repeat(200_000);
        assert!(matches!(refusal(&hex, usize::MAX), CborError::TooDeep { limit: NESTING_MAX, .. }), "{head}");
    }
    let deepest = format!("{}00", "81".repeat(NESTING_MAX));
    assert_eq!(to_deterministic(&bytes(&deepest), NESTING_MAX), Ok(bytes(&deepest)));
}

#[test]
fn every_proper_prefix_of_an_item_is_refused() {
    for item in samples() {
        for end in 0..item.len() {
            assert!(to_deterministic(&item[..end], 8).is_err(), "{:02x?}", &item[..end]);
            assert!(check(&item[..end], 8).is_err());
        }
    }
}

#[test]
fn heads_are_as_short_as_their_argument_allows() {
    for (argument, hex) in [
        (23, "17"),
        (24, "1818"),
        (0xff, "18ff"),
        (0x100, "190100"),
        (0xffff, "19ffff"),
        (0x1_0000, "1a00010000"),
        (0xffff_ffff, "1affffffff"),
        (0x1_0000_0000, "1b0000000100000000"),
    ] {
        let mut out = Vec::new();
        write_head(&mut out, Major::Unsigned, argument);
        assert_eq!(out, bytes(hex));
    }
    assert_eq!(text(""), bytes("60"));
    assert_eq!(text("ü"), bytes("62c3bc"));
    assert_eq!(text(&"a".repeat(24))[..3], bytes("781861"));
}

#[test]
fn every_half_float_keeps_its_value_through_the_wider_widths() {
    for half in 0..=u16::MAX {
        let value = double_from_half(half);
        let mut out = Vec::new();
        write_float(&mut out, value);
        let expected = if value.is_nan() { NAN_HALF } else { half };
        assert_eq!(out, [&[0xf9], &expected.to_be_bytes()[..]].concat());
    }
}

/// Sebastiano Vigna's SplitMix64.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// What must hold for each byte string. Returns its deterministic form, if it has one.
fn encode_checked(item: &[u8]) -> Result<Vec<u8>, CborError> {
    let encoded = to_deterministic(item, 4);
    assert_eq!(check(item, 4), encoded.as_ref().map(|_| ()).map_err(|e| *e), "{item:02x?}");
    if let Ok(out) = &encoded {
        assert!(out.len() <= item.len() + 8, "{item:02x?}");
        assert_eq!(to_deterministic(out, 4).as_ref(), Ok(out), "{item:02x?}");
    }
    encoded
}

#[test]
fn a_million_random_byte_strings_give_a_value_or_an_error() {
    // Small containers, strings, breaks and long heads, so that many of the strings are items and some are maps.
    let likely = bytes("0001182041606180818283a0a1a2bfbf9f5f7fffffffc1c2f4f618f97c00fa1900");
    let opening = bytes("8283a2a2a2a3bfbfbf9f5f7fc1a1");
    let mut random = SplitMix(8949);
    let (mut accepted, mut changed, mut duplicates) = (0, 0, 0);
    let mut item = Vec::new();
    for _ in 0..1_000_000 {
        item.clear();
        item.push(opening[random.next() as usize % opening.len()]);
        let length = random.next() % 16;
        item.extend((0..length).map(|_| {
            let draw = random.next();
            let any = (draw >> 8) as u8;
            if draw.is_multiple_of(8) { any } else { likely[usize::from(any) % likely.len()] }
        }));
        let mut encoded = encode_checked(&item);
        if let Err(CborError::Trailing { count }) = encoded {
            item.truncate(item.len() - count);
            encoded = encode_checked(&item);
            assert!(encoded.is_ok(), "{item:02x?}");
        }
        accepted += usize::from(encoded.is_ok());
        changed += usize::from(encoded.as_ref().is_ok_and(|out| *out != item));
        duplicates += usize::from(matches!(encoded, Err(CborError::DuplicateKey { .. })));
    }
    // A generator whose strings are hardly ever items would test little.
    assert!(accepted > 100_000 && changed > 30_000 && duplicates > 500, "{accepted}, {changed}, {duplicates}");
}
