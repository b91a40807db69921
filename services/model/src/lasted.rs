//! How long a case took, in one byte: eight steps for each doubling, so that a set of a thousand cases costs a thousand
//! bytes. Exact below 8 ms, and within a sixteenth above. May not: be taken for a measurement; shards are balanced by it.

/// A duration that nobody told.
pub const UNTOLD: u8 = 0;

/// The byte of so many milliseconds; what is shorter than one counts as one.
pub fn of_ms(ms: u64) -> u8 {
    let ms = ms.max(1);
    let octave = ms.ilog2().saturating_sub(3);
    let code = if ms < 8 {
        ms
    } else {
        8 * u64::from(octave + 1) + ((ms >> octave) & 7)
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The middle of the milliseconds that have this byte; none for [`UNTOLD`].
pub fn to_ms(code: u8) -> Option<u64> {
    match code {
        UNTOLD => None,
        1..8 => Some(code.into()),
        _ => {
            let octave = code / 8 - 1;
            Some(((8 + u64::from(code % 8)) << octave) + ((1 << octave) / 2))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{UNTOLD, of_ms, to_ms};

    #[test]
    fn a_byte_is_within_a_sixteenth_and_never_shorter_for_what_is_longer() {
        assert_eq!(to_ms(UNTOLD), None);
        let mut last = UNTOLD;
        for ms in (0..10_000).chain((14..34).map(|power| (1 << power) - 1)) {
            let code = of_ms(ms);
            assert!(code >= last, "{ms}");
            last = code;
            let back = to_ms(code).unwrap();
            assert!(back.abs_diff(ms.max(1)) * 16 <= ms.max(1), "{ms}: {back}");
        }
        assert_eq!(of_ms(u64::MAX), u8::MAX);
        assert!(to_ms(u8::MAX).unwrap() > 150 * 24 * 3_600_000);
    }
}
