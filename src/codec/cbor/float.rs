//! Floats of three widths: the shortest that keeps a value, by arithmetic on bits alone.

/// The deterministic form of NaN.
pub(super) const NAN_HALF: u16 = 0x7e00;

/// Writes a float in the shortest width that keeps its value.
pub(in crate::codec) fn write_float(out: &mut Vec<u8>, value: f64) {
    // `as` rounds; the comparison of bits then tells whether the narrower width is this very value.
    let single = value as f32;
    if value.is_nan() {
        out.push(0xf9);
        out.extend_from_slice(&NAN_HALF.to_be_bytes());
    } else if f64::from(single).to_bits() != value.to_bits() {
        out.push(0xfb);
        out.extend_from_slice(&value.to_bits().to_be_bytes());
    } else if let Some(half) = half_from_single(single) {
        out.push(0xf9);
        out.extend_from_slice(&half.to_be_bytes());
    } else {
        out.push(0xfa);
        out.extend_from_slice(&single.to_bits().to_be_bytes());
    }
}

/// The value of a float, from the additional information (25 to 27) and the argument of its head. `None` for what is
/// not a float.
pub(in crate::codec) fn read_float(info: u8, argument: u64) -> Option<f64> {
    match info {
        25 => Some(double_from_half(argument as u16)),
        26 => Some(f64::from(f32::from_bits(argument as u32))),
        27 => Some(f64::from_bits(argument)),
        _ => None,
    }
}

/// The half-precision float of exactly this value, if there is one. Not for NaN.
fn half_from_single(value: f32) -> Option<u16> {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let fraction = bits & 0x007f_ffff;
    let exponent = (bits >> 23 & 0xff) as i32 - 127;
    match exponent {
        128 => Some(sign | 0x7c00),
        -14..=15 if fraction.trailing_zeros() >= 13 => {
            Some(sign | ((exponent + 15) as u16) << 10 | (fraction >> 13) as u16)
        }
        // Subnormal as a half: units of 2^-24, with the leading one written out.
        -24..=-15 => {
            let whole = fraction | 0x0080_0000;
            let shift = (-exponent - 1) as u32;
            (whole.trailing_zeros() >= shift).then_some(sign | (whole >> shift) as u16)
        }
        -127 if fraction == 0 => Some(sign),
        _ => None,
    }
}

/// The value of a half-precision float (RFC 8949, appendix D).
pub(super) fn double_from_half(half: u16) -> f64 {
    let fraction = u64::from(half & 0x3ff);
    let magnitude = match half >> 10 & 0x1f {
        // Units of 2^-24: a product of two exact numbers, and exact itself.
        0 => fraction as f64 * f64::from_bits((1023 - 24) << 52),
        31 if fraction == 0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => f64::from_bits((u64::from(exponent) + 1023 - 15) << 52 | fraction << 42),
    };
    if half & 0x8000 == 0 { magnitude } else { -magnitude }
}
