//! What an epoll event is about. May not: hold anything.

/// The subject of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A client wants in.
    Listener,
    /// Who started us ended.
    Lifeline,
    /// We got a signal.
    Signals,
    /// A zygote answers, by its place.
    Zygote(u64),
    /// A client, by its number.
    Connection(u64),
    /// A container's first process ended; this and those below by the container's number.
    Init(u64),
    /// Its report.
    Report(u64),
    /// Its standard output.
    Out(u64),
    /// Its standard error.
    Err(u64),
    /// The process that clears away ended.
    Trash,
    /// The process that measures writable layers ended.
    Gauge,
    /// None of ours.
    Unknown,
}

/// Bits that tell the kind.
const KIND_BITS: u32 = 4;

impl Token {
    pub(crate) fn encode(self) -> u64 {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Lifeline => (1, 0),
            Self::Signals => (2, 0),
            Self::Zygote(place) => (3, place),
            Self::Connection(number) => (4, number),
            Self::Init(number) => (5, number),
            Self::Report(number) => (6, number),
            Self::Out(number) => (7, number),
            Self::Err(number) => (8, number),
            Self::Trash => (9, 0),
            Self::Gauge => (10, 0),
            Self::Unknown => (15, 0),
        };
        number << KIND_BITS | kind
    }

    pub(crate) fn decode(data: u64) -> Self {
        let number = data >> KIND_BITS;
        match data & ((1 << KIND_BITS) - 1) {
            0 => Self::Listener,
            1 => Self::Lifeline,
            2 => Self::Signals,
            3 => Self::Zygote(number),
            4 => Self::Connection(number),
            5 => Self::Init(number),
            6 => Self::Report(number),
            7 => Self::Out(number),
            8 => Self::Err(number),
            9 => Self::Trash,
            10 => Self::Gauge,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back() {
        for token in [
            Token::Listener,
            Token::Lifeline,
            Token::Signals,
            Token::Zygote(3),
            Token::Connection(1 << 40),
            Token::Init(7),
            Token::Report(7),
            Token::Out(7),
            Token::Err(7),
            Token::Trash,
            Token::Gauge,
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
