//! Which system calls a container may make: Docker's default profile for its default capabilities, as
//! one program for the kernel's filter machine, built once for all containers. May not: load the
//! program (the container's own script does), nor depend on libseccomp, whose compiler costs a
//! start ten milliseconds.
//!
//! Three things differ from Docker's profile, each towards less:
//! - `ioctl` is refused the requests TIOCSTI and TIOCLINUX, which put text into a terminal;
//! - `socket` is judged by the 32 bits that the kernel looks at. Docker's filter compares 64, so that
//!   AF_VSOCK and AF_ALG get through with a bit set above them;
//! - where the processor speaks neither x86-64, x32 nor i386, the process is killed, not the thread.
//!
//! A call that is newer than the profile gets ENOSYS, as runc patches it in, so that a newer libc falls back.
//! As in Docker's profile, i386's `socketcall` is allowed, since a 32-bit libc needs it; its
//! arguments lie in memory, where no filter can look.

mod compile;
mod table;

use std::sync::OnceLock;

use nix::libc::sock_filter;

use self::compile::{Action, Arg, Interval, Test};
use self::table::{BOTH, I386_ONLY, NOT_IN_X32, X32_OWN, X86_64_ONLY};

/// The kernel's name for x86-64 (and x32) in a filter's data.
const ARCH_X86_64: u32 = 0xc000_003e;
/// The kernel's name for i386.
const ARCH_I386: u32 = 0x4000_0003;
/// What marks the number of an x32 call.
const X32_BIT: u32 = 0x4000_0000;
/// The newest number that the profile knows, on x86-64 and i386 alike.
const NEWEST: u32 = 466;
/// The same on x32, whose own calls are numbered apart.
const NEWEST_X32: u32 = 547;

/// The flags of `clone` that make namespaces: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// Execution domains that are harmless: PER_LINUX, PER_LINUX32, each also with UNAME26, and "tell me".
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Address families that reach past the container: AF_ALG (the kernel's ciphers), AF_VSOCK (the hypervisor).
const FAMILIES_REFUSED: [u32; 2] = [38, 40];
/// `ioctl` requests that put text into a terminal: TIOCSTI, TIOCLINUX.
const REQUESTS_REFUSED: [u32; 2] = [0x5412, 0x541c];

const EPERM: Action = Action::Errno(1);
const ENOSYS: Action = Action::Errno(38);

/// What is decided by arguments: name, number on x86-64, on i386, on x32, and the decision.
const CONDITIONAL: [(u32, u32, u32, Action); 5] = [
    (
        16,
        54,
        514,
        Action::Test(Test::LowIsNoneOf {
            arg: Arg(1),
            values: &REQUESTS_REFUSED,
        }),
    ),
    (
        41,
        359,
        41,
        Action::Test(Test::LowIsNoneOf {
            arg: Arg(0),
            values: &FAMILIES_REFUSED,
        }),
    ),
    (
        56,
        120,
        56,
        Action::Test(Test::LowHasNone {
            arg: Arg(0),
            mask: CLONE_NAMESPACES,
        }),
    ),
    (
        135,
        136,
        135,
        Action::Test(Test::IsOneOf {
            arg: Arg(0),
            values: &PERSONALITIES,
        }),
    ),
    (435, 435, 435, ENOSYS),
];

/// The filter, ready for `SECCOMP_SET_MODE_FILTER`; compiled at the first call.
///
/// At most 4,096 instructions, the kernel's limit. Any call not allowed fails with EPERM.
pub fn filter() -> &'static [sock_filter] {
    static FILTER: OnceLock<Vec<sock_filter>> = OnceLock::new();
    FILTER.get_or_init(|| {
        compile::program(&[(ARCH_X86_64, intervals_64()), (ARCH_I386, intervals_i386())])
    })
}

/// Every number of x86-64 and x32, with what becomes of a call with it.
fn intervals_64() -> Vec<Interval> {
    let native = || {
        let both = BOTH.iter().map(|&(name, number, _)| (name, number));
        both.chain(X86_64_ONLY.iter().copied())
    };
    let mut rules: Vec<(u32, Action)> = native().map(|(_, n)| (n, Action::Allow)).collect();
    let own = |name: &str| {
        X32_OWN
            .iter()
            .find(|(other, _)| *other == name)
            .map(|&(_, n)| n)
    };
    let x32 = native().filter(|(name, _)| !NOT_IN_X32.contains(name));
    rules.extend(x32.map(|(name, n)| (own(name).unwrap_or(n) | X32_BIT, Action::Allow)));
    for (native, _, x32, action) in CONDITIONAL {
        rules.push((native, action));
        rules.push((x32 | X32_BIT, action));
    }
    let rest = [
        (0, EPERM),
        (NEWEST + 1, ENOSYS),
        (X32_BIT, EPERM),
        (X32_BIT + NEWEST_X32 + 1, ENOSYS),
    ];
    compile::intervals(&rest, rules)
}

/// Every number of i386, with what becomes of a call with it.
fn intervals_i386() -> Vec<Interval> {
    let both = BOTH.iter().map(|&(_, _, number)| (number, Action::Allow));
    let own = I386_ONLY.iter().map(|&(_, number)| (number, Action::Allow));
    let conditional = CONDITIONAL
        .iter()
        .map(|&(_, number, _, action)| (number, action));
    compile::intervals(
        &[(0, EPERM), (NEWEST + 1, ENOSYS)],
        both.chain(own).chain(conditional).collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Docker's profile as a table, made from its JSON by other code than ours.
    const DOCKER: &str = include_str!("seccomp/docker-default.txt");

    fn wide(number: u32) -> usize {
        usize::try_from(number).unwrap()
    }

    /// Runs a filter as the kernel would.
    fn run(program: &[sock_filter], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend([0; 8]);
        data.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let i = program[at];
            at += 1;
            let branch = |taken| usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                0x20 => {
                    let k = wide(i.k);
                    a = u32::from_le_bytes(data[k..k + 4].try_into().unwrap());
                }
                0x05 => at += wide(i.k),
                0x15 => at += branch(a == i.k),
                0x35 => at += branch(a >= i.k),
                0x45 => at += branch(a & i.k != 0),
                0x06 => return i.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const ALLOW: u32 = 0x7fff_0000;
    const fn errno(number: u32) -> u32 {
        0x0005_0000 | number
    }

    /// Docker's table as rules by number, from one column of numbers.
    fn docker_rules(column: usize) -> BTreeMap<u32, Vec<&'static str>> {
        let lines = DOCKER.lines().filter(|line| !line.starts_with('#'));
        let rules = lines.map(|line| line.split(' ').collect::<Vec<_>>());
        rules
            .filter_map(|rule| Some((rule[column].parse().ok()?, rule)))
            .collect()
    }

    /// What a rule of Docker's table says of a call.
    fn docker(rule: Option<&Vec<&str>>, args: [u64; 6]) -> u32 {
        let Some(rule) = rule else {
            return errno(1);
        };
        let holds = |condition: &str| {
            let (left, right) = condition[3..].split_at(1);
            let arg = args[left.parse::<usize>().unwrap()];
            let value = || right[1..].parse::<u64>().unwrap();
            match &right[..1] {
                "=" => arg == value(),
                "<" => arg < value(),
                ">" => arg > value(),
                "&" => {
                    arg & right[1..]
                        .split_once('=')
                        .unwrap()
                        .0
                        .parse::<u64>()
                        .unwrap()
                        == 0
                }
                other => panic!("{other}"),
            }
        };
        for condition in &rule[4..] {
            if let Some(number) = condition.strip_prefix("errno:") {
                return errno(number.parse().unwrap());
            }
            if *condition == "always" || holds(condition) {
                return ALLOW;
            }
        }
        errno(1)
    }

    #[test]
    fn every_call_is_judged_as_docker_judges_it() {
        let first = [
            0, 1, 2, 8, 10, 16, 17, 37, 38, 39, 40, 41, 0x2_0000, 0x2_0008, 0x2_0009,
        ]
        .into_iter()
        .chain([0x11, 0x0100_0011, 0x003d_0f00, 0xffff_ffff, 0xffff_fffe])
        .chain((0..32).map(|bit| 1 << bit));
        let patterns: Vec<u64> = first.collect();
        let mut compared = 0;
        for (arch, column, bit, newest) in [
            (ARCH_X86_64, 1, 0, 466),
            (ARCH_I386, 2, 0, 466),
            (ARCH_X86_64, 3, X32_BIT, 547),
        ] {
            let rules = docker_rules(column);
            for number in 0..=700 {
                for &pattern in &patterns {
                    let args = [pattern, 0, 7, 0, 0, 0];
                    let expected = if number > newest {
                        errno(38)
                    } else {
                        docker(rules.get(&number), args)
                    };
                    let got = run(filter(), arch, number | bit, args);
                    assert_eq!(got, expected, "{arch:#x} {number} {pattern:#x}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 100_000, "{compared}");
    }

    #[test]
    fn numbers_at_the_edges_and_other_processors_are_refused() {
        for number in [
            X32_BIT - 1,
            X32_BIT + 548,
            0x7fff_ffff,
            0x8000_0000,
            u32::MAX,
        ] {
            assert_eq!(
                run(filter(), ARCH_X86_64, number, [0; 6]),
                errno(38),
                "{number:#x}"
            );
            assert_eq!(
                run(filter(), ARCH_I386, number, [0; 6]),
                errno(38),
                "{number:#x}"
            );
        }
        assert_eq!(run(filter(), 0xc000_00b7, 0, [0; 6]), 0x8000_0000);
    }

    #[test]
    fn text_for_a_terminal_is_refused_in_the_bits_that_the_kernel_reads() {
        for (arch, number) in [
            (ARCH_X86_64, 16),
            (ARCH_X86_64, X32_BIT + 514),
            (ARCH_I386, 54),
        ] {
            for high in [0_u64, 1 << 32, 0xffff_ffff << 32] {
                for request in [0x5412, 0x541c] {
                    let got = run(filter(), arch, number, [0, high | request, 0, 0, 0, 0]);
                    assert_eq!(got, errno(1), "{number} {high:#x} {request:#x}");
                }
                assert_eq!(
                    run(filter(), arch, number, [0, high | 0x5413, 0, 0, 0, 0]),
                    ALLOW
                );
            }
        }
    }

    #[test]
    fn a_family_with_bits_above_it_is_the_family() {
        for high in [1_u64 << 32, 1 << 63] {
            assert_eq!(
                run(filter(), ARCH_X86_64, 41, [high + 40, 1, 0, 0, 0, 0]),
                errno(1)
            );
            assert_eq!(
                run(filter(), ARCH_X86_64, 41, [high + 38, 1, 0, 0, 0, 0]),
                errno(1)
            );
            assert_eq!(
                run(filter(), ARCH_X86_64, 41, [high + 2, 1, 0, 0, 0, 0]),
                ALLOW
            );
            // The kernel takes the low half of a personality: a high half must not hide it.
            assert_eq!(
                run(filter(), ARCH_X86_64, 135, [high + 8, 0, 0, 0, 0, 0]),
                errno(1)
            );
        }
    }

    #[test]
    fn the_program_is_small_and_shallow() {
        assert!(filter().len() < 1_000, "{}", filter().len());
        let deepest = (0..=700)
            .map(|number| steps(filter(), number))
            .max()
            .unwrap();
        assert!(deepest <= 24, "{deepest}");
    }

    /// How many instructions a call takes at most with all arguments zero.
    fn steps(program: &[sock_filter], number: u32) -> usize {
        let (mut at, mut count) = (0, 0);
        let mut a = 0;
        loop {
            let i = program[at];
            at += 1;
            count += 1;
            let branch = |taken| usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                0x20 => {
                    a = [number, ARCH_X86_64, 0, 0]
                        .get(wide(i.k) / 4)
                        .copied()
                        .unwrap_or(0);
                }
                0x05 => at += wide(i.k),
                0x15 => at += branch(a == i.k),
                0x35 => at += branch(a >= i.k),
                0x45 => at += branch(a & i.k != 0),
                _ => return count,
            }
        }
    }
}
