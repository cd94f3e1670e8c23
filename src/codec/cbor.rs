//! CBOR data items as bytes: which byte strings are one, and the single form in which keys are compared.
//!
//! The form is RFC 8949 §4.2.1, core deterministic encoding: integers, lengths and tag numbers as short as possible,
//! floats in the shortest width that keeps the value (every NaN becomes `f97e00`), definite lengths only, and map
//! keys in the bytewise order of their own encodings. A map that names a key twice is refused: it has no meaning on
//! which two readers must agree (§5.6).
//!
//! What stays as it came, and why:
//!
//! - **Integers and floats are different values**, as in the generic data model (§2): `1` and `1.0` are two keys, and
//!   so are `0.0` and `-0.0`.
//! - **The content of a tag is only encoded, never interpreted.** §4.2.2 leaves it to each protocol whether a bignum
//!   (tags 2 and 3) that would fit into a plain integer is written as one. Here it is not: `1` and `2(h'01')` are two
//!   keys, so that no tag needs to be understood in order to compare keys, and an agent that knows fewer tags
//!   compares the same way.
//!
//! Everything here is total: each byte string gives a value or an error, the walk recurses no deeper than its limit,
//! and nothing is allocated for what a head merely claims.

pub(super) mod float;

/// The deepest nesting that can be asked for: the walk recurses once for each level, and must fit on a small stack.
pub const NESTING_MAX: usize = 256;

/// The additional information of an indefinite length, and of the break that ends it.
const INDEFINITE: u8 = 31;

/// Why a byte string is not one acceptable data item. Positions are bytes from the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The input ends inside an item.
    #[error("truncated: the input ends after {at} bytes, inside a CBOR item")]
    Truncated {
        /// The length of the input.
        at: usize,
    },
    /// There is a whole item, and something behind it.
    #[error("{count} trailing bytes after the CBOR item")]
    Trailing {
        /// How many bytes are behind the item.
        count: usize,
    },
    /// Arrays, maps and tags are nested deeper than allowed.
    #[error("CBOR arrays, maps and tags may be nested {limit} deep, and byte {at} opens one more")]
    TooDeep {
        /// Where the level too many begins.
        at: usize,
        /// How many levels are allowed.
        limit: usize,
    },
    /// A head claims more bytes or elements than there are bytes left.
    #[error("the CBOR head at byte {at} claims a length of {claimed}, and only {left} bytes follow")]
    LengthBeyondInput {
        /// Where the head begins.
        at: usize,
        /// The bytes (strings), elements (arrays) or pairs (maps) that it claims.
        claimed: u64,
        /// The bytes that follow it.
        left: usize,
    },
    /// A text string, or one chunk of it, is not UTF-8.
    #[error("the CBOR text string at byte {at} is not valid UTF-8")]
    BadUtf8 {
        /// Where its head begins.
        at: usize,
    },
    /// A head that RFC 8949 reserves or forbids: additional information 28 to 30, an indefinite length where there
    /// is none, or a two-byte simple value below 32.
    #[error("the CBOR head at byte {at} is reserved")]
    ReservedHead {
        /// Where it begins.
        at: usize,
    },
    /// A string of indefinite length holds something other than definite strings of its own kind.
    #[error("the item at byte {at} is not a chunk of the CBOR string of indefinite length around it")]
    BadChunk {
        /// Where the item begins.
        at: usize,
    },
    /// A map holds the same key twice, perhaps in two encodings.
    #[error("the CBOR map at byte {at} holds the same key twice")]
    DuplicateKey {
        /// Where the map begins.
        at: usize,
    },
    /// A break where an item is needed.
    #[error("a CBOR break at byte {at}, where an item is needed")]
    StrayBreak {
        /// Where the break is.
        at: usize,
    },
}

/// The core deterministic encoding (RFC 8949 §4.2.1) of exactly one data item.
///
/// `max_nesting` is how many arrays, maps and tags may be open around one another: 0 allows plain values only, `[]`
/// needs 1. More than [`NESTING_MAX`] counts as that. The output is the deterministic form of itself.
pub fn to_deterministic(item: &[u8], max_nesting: usize) -> Result<Vec<u8>, CborError> {
    let mut out = Vec::new();
    walk(item, max_nesting, Some(&mut out))?;
    Ok(out)
}

/// Whether [`to_deterministic`] accepts the item, with the same error if not. Allocates only for the keys of maps.
pub fn check(item: &[u8], max_nesting: usize) -> Result<(), CborError> {
    walk(item, max_nesting, None)
}

/// The deterministic encoding of a text string.
pub fn text(s: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(s.len() + 9);
    write_string(&mut out, Major::Text, s.as_bytes());
    out
}

/// The major types of RFC 8949 §3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Major {
    Unsigned = 0,
    Negative = 1,
    Bytes = 2,
    Text = 3,
    Array = 4,
    Map = 5,
    Tag = 6,
    Other = 7,
}

/// The first bytes of an item, as they are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Where it begins.
    at: usize,
    pub(super) major: Major,
    /// The additional information: it tells the width, which matters for floats.
    pub(super) info: u8,
    /// The argument; 0 for an indefinite length.
    pub(super) argument: u64,
}

impl Head {
    /// Of indefinite length, or (major type 7) the break.
    fn is_open(&self) -> bool {
        self.info == INDEFINITE
    }

    fn is_break(&self) -> bool {
        self.major == Major::Other && self.is_open()
    }
}

/// Reads heads and the bytes behind them.
pub(super) struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Reader { input, at: 0 }
    }

    fn left(&self) -> usize {
        self.input.len() - self.at
    }

    pub(super) fn head(&mut self) -> Result<Head, CborError> {
        let at = self.at;
        let first = self.take(1)?[0];
        let major = match first >> 5 {
            0 => Major::Unsigned,
            1 => Major::Negative,
            2 => Major::Bytes,
            3 => Major::Text,
            4 => Major::Array,
            5 => Major::Map,
            6 => Major::Tag,
            _ => Major::Other,
        };
        let info = first & 0x1f;
        let argument = match info {
            0..=23 => u64::from(info),
            24..=27 => self.take(1 << (info - 24))?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            INDEFINITE if !matches!(major, Major::Unsigned | Major::Negative | Major::Tag) => 0,
            _ => return Err(CborError::ReservedHead { at }),
        };
        // §3.3: simple values below 32 have one form only, without the second byte; it is not merely the longer one.
        if major == Major::Other && info == 24 && argument < 32 {
            return Err(CborError::ReservedHead { at });
        }
        Ok(Head { at, major, info, argument })
    }

    /// The content of a string of definite length.
    pub(super) fn string(&mut self, head: Head) -> Result<&'a [u8], CborError> {
        let length = self.claim(head, 1)?;
        let bytes = self.take(length)?;
        if head.major == Major::Text && std::str::from_utf8(bytes).is_err() {
            return Err(CborError::BadUtf8 { at: head.at });
        }
        Ok(bytes)
    }

    /// The length that a head claims, if there can be so many things of at least `unit_bytes` each.
    fn claim(&self, head: Head, unit_bytes: usize) -> Result<usize, CborError> {
        let left = self.left();
        match usize::try_from(head.argument) {
            Ok(claimed) if claimed <= left / unit_bytes => Ok(claimed),
            _ => Err(CborError::LengthBeyondInput { at: head.at, claimed: head.argument, left }),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CborError> {
        let bytes = self.input[self.at..].get(..count).ok_or(CborError::Truncated { at: self.input.len() })?;
        self.at += count;
        Ok(bytes)
    }
}

/// Where the deterministic form goes: nowhere, if the item is only checked.
type Out<'o> = Option<&'o mut Vec<u8>>;

fn walk(item: &[u8], max_nesting: usize, out: Out) -> Result<(), CborError> {
    let mut walk = Walk { reader: Reader::new(item), limit: max_nesting.min(NESTING_MAX) };
    let head = walk.reader.head()?;
    walk.item(head, 0, out)?;
    match walk.reader.left() {
        0 => Ok(()),
        count => Err(CborError::Trailing { count }),
    }
}

/// One pass over an item. `level` is the number of arrays, maps and tags that are open around the current one.
struct Walk<'a> {
    reader: Reader<'a>,
    limit: usize,
}

impl Walk<'_> {
    fn item(&mut self, head: Head, level: usize, mut out: Out) -> Result<(), CborError> {
        if matches!(head.major, Major::Array | Major::Map | Major::Tag) && level >= self.limit {
            return Err(CborError::TooDeep { at: head.at, limit: self.limit });
        }
        match head.major {
            Major::Unsigned | Major::Negative => emit_head(&mut out, head.major, head.argument),
            Major::Bytes | Major::Text if head.is_open() => self.chunks(head, out)?,
            Major::Bytes | Major::Text => {
                let bytes = self.reader.string(head)?;
                if let Some(out) = out {
                    write_string(out, head.major, bytes);
                }
            }
            Major::Array => self.array(head, level + 1, out)?,
            Major::Map => self.map(head, level + 1, out)?,
            Major::Tag => {
                emit_head(&mut out, Major::Tag, head.argument);
                let content = self.reader.head()?;
                self.item(content, level + 1, out)?;
            }
            Major::Other if head.is_break() => return Err(CborError::StrayBreak { at: head.at }),
            Major::Other => match (float::read_float(head.info, head.argument), out) {
                (Some(value), Some(out)) => float::write_float(out, value),
                (_, mut out) => emit_head(&mut out, Major::Other, head.argument),
            },
        }
        Ok(())
    }

    /// A string of indefinite length. Each chunk of a text must be UTF-8 by itself (§3.2.3).
    fn chunks(&mut self, open: Head, mut out: Out) -> Result<(), CborError> {
        let start = length_of(&out);
        loop {
            let head = self.reader.head()?;
            if head.is_break() {
                break;
            }
            if head.major != open.major || head.is_open() {
                return Err(CborError::BadChunk { at: head.at });
            }
            let bytes = self.reader.string(head)?;
            if let Some(out) = &mut out {
                out.extend_from_slice(bytes);
            }
        }
        let length = length_of(&out) - start;
        insert_head(&mut out, start, open.major, length);
        Ok(())
    }

    fn array(&mut self, open: Head, level: usize, mut out: Out) -> Result<(), CborError> {
        let start = length_of(&out);
        let mut rest = Rest::of(open, self.reader.claim(open, 1)?);
        let mut count = 0;
        while let Some(head) = rest.next_head(&mut self.reader)? {
            self.item(head, level, out.as_deref_mut())?;
            count += 1;
        }
        insert_head(&mut out, start, Major::Array, count);
        Ok(())
    }

    fn map(&mut self, open: Head, level: usize, mut out: Out) -> Result<(), CborError> {
        let mut rest = Rest::of(open, self.reader.claim(open, 2)?);
        // The pairs as they come, encoded; of a map that is only checked, the keys alone.
        let mut pairs = Vec::new();
        let mut spans = Vec::new();
        while let Some(key) = rest.next_head(&mut self.reader)? {
            let start = pairs.len();
            self.item(key, level, Some(&mut pairs))?;
            let key_end = pairs.len();
            let value = self.reader.head()?;
            self.item(value, level, out.is_some().then_some(&mut pairs))?;
            spans.push(Span { start, key_end, end: pairs.len() });
        }
        let key = |span: &Span| &pairs[span.start..span.key_end];
        if !spans.is_sorted_by(|a, b| key(a) < key(b)) {
            spans.sort_unstable_by(|a, b| key(a).cmp(key(b)));
            if spans.windows(2).any(|two| key(&two[0]) == key(&two[1])) {
                return Err(CborError::DuplicateKey { at: open.at });
            }
        }
        emit_head(&mut out, Major::Map, spans.len() as u64);
        if let Some(out) = out {
            spans.iter().for_each(|span| out.extend_from_slice(&pairs[span.start..span.end]));
        }
        Ok(())
    }
}

/// Where one pair of a map lies among the encoded pairs.
struct Span {
    start: usize,
    key_end: usize,
    end: usize,
}

/// What of an array or map is still to come.
enum Rest {
    Counted(usize),
    UntilBreak,
}

impl Rest {
    fn of(open: Head, claimed: usize) -> Self {
        if open.is_open() { Rest::UntilBreak } else { Rest::Counted(claimed) }
    }

    /// The head of the next element or key; `None` at the end. A break that ends nothing is left to the caller.
    fn next_head(&mut self, reader: &mut Reader) -> Result<Option<Head>, CborError> {
        match self {
            Rest::Counted(0) => Ok(None),
            Rest::Counted(left) => {
                *left -= 1;
                reader.head().map(Some)
            }
            Rest::UntilBreak => reader.head().map(|head| (!head.is_break()).then_some(head)),
        }
    }
}

fn length_of(out: &Out) -> usize {
    out.as_ref().map_or(0, |out| out.len())
}

/// The shortest head for an argument, in a buffer with its length (§4.2.1).
fn head_bytes(major: Major, argument: u64) -> ([u8; 9], usize) {
    let mut bytes = [0; 9];
    let (info, width) = match argument {
        0..=23 => (argument as u8, 0),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    bytes[0] = (major as u8) << 5 | info;
    bytes[1..=width].copy_from_slice(&argument.to_be_bytes()[8 - width..]);
    (bytes, 1 + width)
}

fn emit_head(out: &mut Out, major: Major, argument: u64) {
    if let Some(out) = out {
        write_head(out, major, argument);
    }
}

/// Puts the head before what has been written since `start`: how much that is, is known only now.
fn insert_head(out: &mut Out, start: usize, major: Major, length: usize) {
    if let Some(out) = out {
        let (bytes, head_length) = head_bytes(major, length as u64);
        out.splice(start..start, bytes[..head_length].iter().copied());
    }
}

/// Writes a head in its shortest form.
pub(super) fn write_head(out: &mut Vec<u8>, major: Major, argument: u64) {
    let (bytes, length) = head_bytes(major, argument);
    out.extend_from_slice(&bytes[..length]);
}

/// Writes a string with its head.
pub(super) fn write_string(out: &mut Vec<u8>, major: Major, bytes: &[u8]) {
    write_head(out, major, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
