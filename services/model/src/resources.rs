//! Processors and memory, as a matrix asks for them and as hosts have them. May not: limit what a container uses; that
//! is [`crate::container::Limits`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// Processors and memory: what each attempt of a run asks for, or what a host has. 0 where nothing is said.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Resources {
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Resources {
    /// Whether it is nothing at all.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `asked` finds room within this.
    pub const fn holds(&self, asked: &Self) -> bool {
        asked.cpu_millis <= self.cpu_millis && asked.memory_bytes <= self.memory_bytes
    }

    /// This and `other`.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// This without `other`; nothing where that is more.
    #[must_use]
    pub const fn less(&self, other: &Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }
}

/// `2 processors and 4GiB`, for a person: processors to a hundredth, memory to a tenth of its unit, rounded down.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)]
            .into_iter()
            .find(|(_, bytes)| self.memory_bytes >= *bytes)
            .unwrap_or(("KiB", 1 << 10));
        let tenths = u128::from(self.memory_bytes) * 10 / u128::from(bytes);
        let cpus = decimal(u128::from(self.cpu_millis / 10), 100);
        write!(f, "{cpus} processors and {}{unit}", decimal(tenths, 10))
    }
}

/// `parts` of `whole` as a decimal number without zeros at its end.
fn decimal(parts: u128, whole: u128) -> String {
    let digits = if whole == 10 { 1 } else { 2 };
    let text = format!("{}.{:0digits$}", parts / whole, parts % whole);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_printed_for_a_person() {
        for (cpu_millis, memory_bytes, text) in [
            (2000, 4 << 30, "2 processors and 4GiB"),
            (1500, 512 << 20, "1.5 processors and 512MiB"),
            (
                20_050,
                (31 << 30) + (700 << 20),
                "20.05 processors and 31.6GiB",
            ),
            (0, 0, "0 processors and 0KiB"),
        ] {
            let resources = Resources {
                cpu_millis,
                memory_bytes,
            };
            assert_eq!(resources.to_string(), text);
        }
    }
}
