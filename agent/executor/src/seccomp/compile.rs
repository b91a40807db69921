//! From decisions about numbers to a program of the kernel's filter machine: a binary search, so that
//! any call is decided in about ten instructions. May not: know what a number means.

use nix::libc::sock_filter;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Action {
    /// It is made.
    Allow,
    /// It fails with this error number.
    Errno(u16),
    /// It is made if its arguments pass, else it fails with EPERM.
    Test(Test),
}

/// One of a call's six arguments, from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Arg(pub(super) u32);

/// What an argument must be like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Test {
    /// Its low 32 bits are none of these.
    LowIsNoneOf { arg: Arg, values: &'static [u32] },
    /// Its low 32 bits have none of these set.
    LowHasNone { arg: Arg, mask: u32 },
    /// All its 64 bits are one of these.
    IsOneOf { arg: Arg, values: &'static [u32] },
}

/// Numbers from `from` up to the next interval's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    from: u32,
    action: Action,
}

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 1;

/// Where the kernel puts the call's number, its architecture and its arguments.
const AT_NUMBER: u32 = 0;
const AT_ARCH: u32 = 4;
const AT_ARGS: u32 = 16;

/// The intervals that `rest` (ascending, from 0) gives, with `rules` for single numbers laid over it.
pub(super) fn intervals(rest: &[(u32, Action)], mut rules: Vec<(u32, Action)>) -> Vec<Interval> {
    rules.sort_by_key(|&(number, _)| number);
    let mut edges: Vec<u32> = rest.iter().map(|&(from, _)| from).collect();
    edges.extend(
        rules
            .iter()
            .flat_map(|&(number, _)| [number, number.saturating_add(1)]),
    );
    edges.sort_unstable();
    edges.dedup();
    let mut intervals: Vec<Interval> = Vec::new();
    for from in edges {
        let own = rules
            .binary_search_by_key(&from, |&(number, _)| number)
            .ok();
        let own = own.and_then(|index| rules.get(index));
        let action = own.or_else(|| rest.iter().rev().find(|(start, _)| *start <= from));
        let action = action.map_or(Action::Errno(1), |&(_, action)| action);
        if intervals.last().is_none_or(|last| last.action != action) {
            intervals.push(Interval { from, action });
        }
    }
    intervals
}

/// One program for several architectures; a call of any other one kills the process.
pub(super) fn program(architectures: &[(u32, Vec<Interval>)]) -> Vec<sock_filter> {
    let mut program = vec![plain(LOAD, AT_ARCH)];
    for (arch, intervals) in architectures {
        let body = search(intervals);
        program.push(branch(IF_EQUAL, *arch, 1, 0));
        program.push(plain(JUMP, count(&body) + 1));
        program.push(plain(LOAD, AT_NUMBER));
        program.extend(body);
    }
    program.push(plain(RETURN, RETURN_KILL_PROCESS));
    program
}

/// Finds the loaded number's interval by halves. As deep as the logarithm of their number.
fn search(intervals: &[Interval]) -> Vec<sock_filter> {
    let (low, high) = intervals.split_at(intervals.len() / 2);
    match (low, high) {
        ([], []) => vec![plain(RETURN, RETURN_ERRNO | EPERM)],
        ([], [only, ..]) => leaf(only.action),
        (_, [middle, ..]) => {
            let (low, upper) = (search(low), search(high));
            let mut code = match u8::try_from(low.len()) {
                Ok(over) => vec![branch(IF_AT_LEAST, middle.from, over, 0)],
                // A conditional jump reaches 255 instructions; a plain one has no such limit.
                Err(_) => vec![
                    branch(IF_AT_LEAST, middle.from, 0, 1),
                    plain(JUMP, count(&low)),
                ],
            };
            code.extend(low);
            code.extend(upper);
            code
        }
        (low, []) => search(low),
    }
}

fn leaf(action: Action) -> Vec<sock_filter> {
    match action {
        Action::Allow => vec![plain(RETURN, RETURN_ALLOW)],
        Action::Errno(number) => vec![plain(RETURN, RETURN_ERRNO | u32::from(number))],
        Action::Test(test) => argument(test),
    }
}

fn argument(test: Test) -> Vec<sock_filter> {
    let low = |Arg(index): Arg| plain(LOAD, AT_ARGS + 8 * index);
    let high = |Arg(index): Arg| plain(LOAD, AT_ARGS + 8 * index + 4);
    // Every comparison that hits jumps over those after it, to one of the two last instructions.
    let over = |left: usize| u8::try_from(left).unwrap_or(u8::MAX);
    let mut code = Vec::new();
    match test {
        Test::LowIsNoneOf { arg, values } => {
            code.push(low(arg));
            for (index, value) in values.iter().enumerate() {
                code.push(branch(IF_EQUAL, *value, over(values.len() - index), 0));
            }
            code.push(plain(RETURN, RETURN_ALLOW));
            code.push(plain(RETURN, RETURN_ERRNO | EPERM));
        }
        Test::LowHasNone { arg, mask } => {
            code.push(low(arg));
            code.push(branch(IF_ANY_BIT, mask, 1, 0));
            code.push(plain(RETURN, RETURN_ALLOW));
            code.push(plain(RETURN, RETURN_ERRNO | EPERM));
        }
        Test::IsOneOf { arg, values } => {
            code.push(high(arg));
            code.push(branch(IF_EQUAL, 0, 0, over(values.len() + 1)));
            code.push(low(arg));
            for (index, value) in values.iter().enumerate() {
                code.push(branch(IF_EQUAL, *value, over(values.len() - index), 0));
            }
            code.push(plain(RETURN, RETURN_ERRNO | EPERM));
            code.push(plain(RETURN, RETURN_ALLOW));
        }
    }
    code
}

const fn plain(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn count(code: &[sock_filter]) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}
