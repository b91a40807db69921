//! The canary's program, and its answer worked out here. May not: need anything of the host but its kernel.
//!
//! Called as `canary NONCE FILE`: from the first eight bytes of its first argument it fills a mebibyte with the numbers of
//! a congruential generator (Knuth's MMIX), reads them backwards into a sum, writes the sum's 16 hexadecimal digits and a
//! newline into the new file FILE and to standard output, and exits with 42; with 3 where its arguments are not two, with
//! 4 where the file or the output cannot be written.

/// Numbers that it fills its memory with.
const NUMBERS: usize = 131_072;
/// The generator's factor and its increment.
const FACTOR: u64 = 6_364_136_223_846_793_005;
/// See [`FACTOR`].
const INCREMENT: u64 = 1_442_695_040_888_963_407;

/// How it exits where all went well.
pub(super) const STATUS: i32 = 42;

/// The exit status that says that it could not write.
pub(super) const CANNOT_WRITE: i32 = 4;

/// What the program writes for this nonce.
pub(super) fn answer(nonce: [u8; 8]) -> String {
    let seed = u64::from_le_bytes(nonce);
    let mut number = seed;
    let numbers: Vec<u64> = (0..NUMBERS)
        .map(|_| {
            number = number.wrapping_mul(FACTOR).wrapping_add(INCREMENT);
            number
        })
        .collect();
    let take = |sum: u64, number: &u64| (sum.rotate_left(5) ^ number).wrapping_mul(FACTOR);
    format!("{:016x}\n", numbers.iter().rev().fold(seed, take))
}

/// The program as a static executable for this architecture; none where there is no canary.
pub(super) fn executable() -> Option<Vec<u8>> {
    (cfg!(target_arch = "x86_64")).then(elf)
}

/// Where the file is mapped, and where the memory lies that is filled; nothing else is as far.
const BASE: u64 = 0x40_0000;
/// See [`BASE`]; the code names it.
const MEMORY: u64 = 0x60_0000;
/// Bytes of the file's header, and of one of its two segments' headers.
const HEADER: u16 = 64;
/// See [`HEADER`].
const SEGMENT: u16 = 56;

/// An ELF file (System V ABI, AMD64 supplement) of two segments: itself, readable and executable, and the memory that it
/// fills, which takes no place in the file.
fn elf() -> Vec<u8> {
    let start = HEADER + 2 * SEGMENT;
    let length = u64::from(start) + u64::try_from(CODE.len()).unwrap_or_default();
    let memory = u64::try_from(NUMBERS * 8).unwrap_or_default();
    // 64 bits, little endian, version 1, System V.
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    file.extend_from_slice(&[0; 8]);
    let two = |file: &mut Vec<u8>, number: u16| file.extend_from_slice(&number.to_le_bytes());
    let four = |file: &mut Vec<u8>, number: u32| file.extend_from_slice(&number.to_le_bytes());
    let eight = |file: &mut Vec<u8>, number: u64| file.extend_from_slice(&number.to_le_bytes());
    // An executable for AMD64.
    two(&mut file, 2);
    two(&mut file, 62);
    four(&mut file, 1);
    eight(&mut file, BASE + u64::from(start));
    eight(&mut file, HEADER.into());
    // No sections, no flags.
    eight(&mut file, 0);
    four(&mut file, 0);
    for number in [HEADER, SEGMENT, 2, 0, 0, 0] {
        two(&mut file, number);
    }
    // Loaded; readable and executable (5) or writable (6).
    for (flags, at, in_file, in_memory) in [(5, BASE, length, length), (6, MEMORY, 0, memory)] {
        four(&mut file, 1);
        four(&mut file, flags);
        for number in [0, at, at, in_file, in_memory, 0x1000] {
            eight(&mut file, number);
        }
    }
    file.extend_from_slice(&CODE);
    file
}

// What `as` makes of this:
//
//     _start:
//       cmp qword ptr [rsp], 3
//       jne wrong
//       mov rsi, [rsp+16]
//       mov r12, [rsp+24]
//       mov rbx, [rsi]
//       movabs r8, 6364136223846793005
//       movabs r9, 1442695040888963407
//       mov edi, 0x600000
//       mov rax, rbx
//       mov ecx, 131072
//     fill:
//       imul rax, r8
//       add rax, r9
//       mov [rdi], rax
//       add rdi, 8
//       dec ecx
//       jnz fill
//       mov ecx, 131072
//     sum:
//       sub rdi, 8
//       rol rbx, 5
//       xor rbx, [rdi]
//       imul rbx, r8
//       dec ecx
//       jnz sum
//       sub rsp, 32
//       mov byte ptr [rsp+16], 10
//       lea rdi, [rsp+15]
//       mov ecx, 16
//     hex:
//       mov eax, ebx
//       and eax, 15
//       cmp eax, 10
//       jb digit
//       add eax, 39
//     digit:
//       add eax, 48
//       mov [rdi], al
//       dec rdi
//       shr rbx, 4
//       dec ecx
//       jnz hex
//       mov eax, 2
//       mov rdi, r12
//       mov esi, 0xc1
//       mov edx, 0x1a4
//       syscall
//       test eax, eax
//       js failed
//       mov r13d, eax
//       mov edi, eax
//       call put
//       mov eax, 74
//       mov edi, r13d
//       syscall
//       test eax, eax
//       jnz failed
//       mov edi, 1
//       call put
//       mov edi, 42
//       jmp end
//     put:
//       mov eax, 1
//       lea rsi, [rsp+8]
//       mov edx, 17
//       syscall
//       cmp eax, 17
//       jne failed
//       ret
//     wrong:
//       mov edi, 3
//       jmp end
//     failed:
//       mov edi, 4
//     end:
//       mov eax, 231
//       syscall
//       ud2
/// See above.
const CODE: [u8; 256] = [
    0x48, 0x83, 0x3c, 0x24, 0x03, 0x0f, 0x85, 0xe0, 0x00, 0x00, 0x00, 0x48, 0x8b, 0x74, 0x24, 0x10,
    0x4c, 0x8b, 0x64, 0x24, 0x18, 0x48, 0x8b, 0x1e, 0x49, 0xb8, 0x2d, 0x7f, 0x95, 0x4c, 0x2d, 0xf4,
    0x51, 0x58, 0x49, 0xb9, 0x4f, 0x81, 0x67, 0xf7, 0x7e, 0x7b, 0x05, 0x14, 0xbf, 0x00, 0x00, 0x60,
    0x00, 0x48, 0x89, 0xd8, 0xb9, 0x00, 0x00, 0x02, 0x00, 0x49, 0x0f, 0xaf, 0xc0, 0x4c, 0x01, 0xc8,
    0x48, 0x89, 0x07, 0x48, 0x83, 0xc7, 0x08, 0xff, 0xc9, 0x75, 0xee, 0xb9, 0x00, 0x00, 0x02, 0x00,
    0x48, 0x83, 0xef, 0x08, 0x48, 0xc1, 0xc3, 0x05, 0x48, 0x33, 0x1f, 0x49, 0x0f, 0xaf, 0xd8, 0xff,
    0xc9, 0x75, 0xed, 0x48, 0x83, 0xec, 0x20, 0xc6, 0x44, 0x24, 0x10, 0x0a, 0x48, 0x8d, 0x7c, 0x24,
    0x0f, 0xb9, 0x10, 0x00, 0x00, 0x00, 0x89, 0xd8, 0x83, 0xe0, 0x0f, 0x83, 0xf8, 0x0a, 0x72, 0x03,
    0x83, 0xc0, 0x27, 0x83, 0xc0, 0x30, 0x88, 0x07, 0x48, 0xff, 0xcf, 0x48, 0xc1, 0xeb, 0x04, 0xff,
    0xc9, 0x75, 0xe3, 0xb8, 0x02, 0x00, 0x00, 0x00, 0x4c, 0x89, 0xe7, 0xbe, 0xc1, 0x00, 0x00, 0x00,
    0xba, 0xa4, 0x01, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xc0, 0x78, 0x47, 0x41, 0x89, 0xc5, 0x89, 0xc7,
    0xe8, 0x1f, 0x00, 0x00, 0x00, 0xb8, 0x4a, 0x00, 0x00, 0x00, 0x44, 0x89, 0xef, 0x0f, 0x05, 0x85,
    0xc0, 0x75, 0x2f, 0xbf, 0x01, 0x00, 0x00, 0x00, 0xe8, 0x07, 0x00, 0x00, 0x00, 0xbf, 0x2a, 0x00,
    0x00, 0x00, 0xeb, 0x23, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x74, 0x24, 0x08, 0xba, 0x11,
    0x00, 0x00, 0x00, 0x0f, 0x05, 0x83, 0xf8, 0x11, 0x75, 0x08, 0xc3, 0xbf, 0x03, 0x00, 0x00, 0x00,
    0xeb, 0x05, 0xbf, 0x04, 0x00, 0x00, 0x00, 0xb8, 0xe7, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x0f, 0x0b,
];

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn the_answer_is_what_the_program_printed() {
        // By the assembled program, started by hand.
        assert_eq!(answer(*b"01234567"), "80f31254798f530b\n");
    }
}
