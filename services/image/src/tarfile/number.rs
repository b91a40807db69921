//! Numbers in tar headers: octal text, or binary where octal is too short. May not: guess.

/// Largest number that the eleven octal digits of a size hold.
pub(super) const OCTAL_MOST: u64 = 0o777_7777_7777;

/// Reads a numeric field; an empty one is 0.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Base 256, two's complement in the bits after the first.
        let mut value = i128::from(first & 0x7f);
        if value >= 64 {
            value -= 128;
        }
        for byte in field.iter().skip(1) {
            value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
        }
        return Some(value);
    }
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    let text = field.get(..end)?.trim_ascii();
    let mut value: i128 = 0;
    for byte in text {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value = value * 8 + i128::from(digit);
    }
    Some(value)
}

/// A decimal number without sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b" 644 \0\0\0"), Some(0o644));
        assert_eq!(number(&[0; 8]), Some(0));
        assert_eq!(number(b"00x\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(
            number(&[
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0
            ]),
            Some(-256)
        );
    }
}
