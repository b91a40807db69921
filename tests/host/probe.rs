//! The program that looks around inside a container, for the suite `host`. It is compiled alone and
//! statically by `rustc`, so that it runs in any root filesystem; it uses no crate. May not:
//! judge; it says what it saw, one fact a line.

use std::env::args;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn __errno_location() -> *mut i32;
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn pause() -> i32;
    fn _exit(status: i32) -> !;
}

fn main() {
    let arguments: Vec<String> = args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["calls", ref calls @ ..] => calls.iter().for_each(|call| say_call(call, native)),
        ["calls32", ref calls @ ..] => calls.iter().for_each(|call| say_call(call, i386)),
        ["allocate", bytes] => allocate(bytes.parse().unwrap()),
        ["forks", count] => forks(count.parse().unwrap()),
        ["crowd"] => crowd(),
        ["open", path] => open_all(path),
        ["spin", millis] => spin(millis.parse().unwrap()),
        ["loopback"] => loopback(),
        ["connect", address] => match TcpStream::connect(address) {
            Ok(_) => println!("connected"),
            Err(error) => println!("errno {}", error.raw_os_error().unwrap_or(0)),
        },
        ["abstract", name] => {
            let address = SocketAddr::from_abstract_name(name).unwrap();
            match UnixStream::connect_addr(&address) {
                Ok(_) => println!("connected"),
                Err(error) => println!("errno {}", error.raw_os_error().unwrap_or(0)),
            }
        }
        ["descriptors"] => descriptors(),
        ["terminal"] => terminal(),
        ["cwd"] => println!("{}", std::env::current_dir().unwrap().display()),
        ["write", path, text] => match File::options().write(true).open(path) {
            Ok(mut file) => println!("opened {:?}", file.write(text.as_bytes()).is_ok()),
            Err(error) => println!("errno {}", error.raw_os_error().unwrap_or(0)),
        },
        ref other => panic!("the probe does not know {other:?}"),
    }
}

fn errno() -> i32 {
    // SAFETY: the C library always gives a valid place.
    unsafe { *__errno_location() }
}

/// `NAME:NUMBER:ARG,ARG...`: says the name and `errno N` or `ok`. An argument is a number, `0x`number, `@text` (a
/// pointer to that text) or `&` (a pointer to a page of zeros).
fn say_call(call: &str, make: fn(i64, [i64; 6]) -> Result<i64, i32>) {
    let mut parts = call.splitn(3, ':');
    let name = parts.next().unwrap();
    let number = number(parts.next().unwrap());
    let mut texts = Vec::new();
    let mut page = vec![0_u8; 4096];
    let mut values = [0_i64; 6];
    for (value, text) in values.iter_mut().zip(parts.next().unwrap_or("").split(',')) {
        *value = match text.as_bytes() {
            [b'@', ..] => {
                texts.push(CString::new(&text[1..]).unwrap());
                texts.last().unwrap().as_ptr() as i64
            }
            [b'&'] => page.as_mut_ptr() as i64,
            [] => 0,
            _ => self::number(text),
        };
    }
    // Whatever the call does to this process stays in a child.
    std::io::stdout().flush().unwrap();
    // SAFETY: this program has one thread.
    let pid = unsafe { fork() };
    if pid == 0 {
        match make(number, values) {
            Ok(_) => println!("{name} ok"),
            Err(error) => println!("{name} errno {error}"),
        }
        std::io::stdout().flush().unwrap();
        // SAFETY: ends this process.
        unsafe { _exit(0) }
    }
    let mut status = 0;
    // SAFETY: the status is a live integer.
    unsafe { waitpid(pid, &raw mut status, 0) };
    if status != 0 {
        println!("{name} status {status}");
    }
}

fn number(text: &str) -> i64 {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap() as i64,
        None => text.parse().unwrap(),
    }
}

fn native(number: i64, a: [i64; 6]) -> Result<i64, i32> {
    // SAFETY: what the calls get is zero, small, or points to memory that lives.
    let result = unsafe { syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result == -1 {
        Err(errno())
    } else {
        Ok(result)
    }
}

/// A call as a 32-bit program makes it.
fn i386(number: i64, a: [i64; 6]) -> Result<i64, i32> {
    let result: i32;
    // SAFETY: the instruction changes no register but the ones named; no pointer is passed.
    unsafe {
        std::arch::asm!(
            "push rbx", "mov ebx, {first:e}", "int 0x80", "pop rbx",
            first = in(reg) a[0] as i32,
            inlateout("eax") number as i32 => result,
            in("ecx") a[1] as i32, in("edx") a[2] as i32, in("esi") a[3] as i32, in("edi") a[4] as i32,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if (-4095..0).contains(&result) {
        Err(-result)
    } else {
        Ok(i64::from(result))
    }
}

/// Takes memory and writes to every page of it.
fn allocate(bytes: usize) {
    let mut memory = Vec::<u8>::new();
    for _ in 0..bytes >> 20 {
        memory.extend(std::iter::repeat_n(1, 1 << 20));
    }
    println!("allocated {}", std::hint::black_box(&memory).len());
}

/// Leaves so many orphans behind, one after the other: each is a zombie until somebody reaps it.
fn forks(count: u32) {
    for made in 0..count {
        // SAFETY: this program has one thread; children only fork and exit.
        unsafe {
            let pid = fork();
            if pid == 0 {
                if fork() == -1 {
                    _exit(1);
                }
                _exit(0);
            }
            let mut status = 0;
            if pid == -1 || waitpid(pid, &raw mut status, 0) != pid || status != 0 {
                // The reaper may be a moment behind: a failure only counts if it stays.
                let again = (0..2_000).any(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    let pid = fork();
                    if pid == 0 {
                        _exit(0);
                    }
                    pid != -1 && waitpid(pid, std::ptr::null_mut(), 0) == pid
                });
                if !again {
                    println!("failed after {made} with errno {}", errno());
                    return;
                }
            }
        }
    }
    println!("forked {count}");
}

/// Starts processes that stay until no more can be.
fn crowd() {
    let mut count = 0;
    loop {
        // SAFETY: this program has one thread; children only wait.
        let pid = unsafe { fork() };
        if pid == 0 {
            loop {
                // SAFETY: waits for a signal.
                unsafe { pause() };
            }
        }
        if pid == -1 || count > 5_000 {
            println!("{count} processes, then errno {}", errno());
            return;
        }
        count += 1;
    }
}

fn open_all(path: &str) {
    let mut files = Vec::new();
    loop {
        match File::open(path) {
            Ok(file) if files.len() < 100_000 => files.push(file),
            Ok(_) => return println!("no limit"),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                return println!("{} files, then errno {errno}", files.len());
            }
        }
    }
}

/// Uses so much processor time.
fn spin(millis: u64) {
    let mut value = 0_u64;
    loop {
        for step in 0..1_000_000_u64 {
            value = std::hint::black_box(value.wrapping_add(step));
        }
        let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
        let nanos: u64 = text.split(' ').next().unwrap().parse().unwrap();
        if nanos > millis * 1_000_000 {
            return println!("spun");
        }
    }
}

fn loopback() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let mut text = String::new();
    server.read_to_string(&mut text).unwrap();
    println!("{text}");
}

/// Every open descriptor, without opening one to look.
fn descriptors() {
    for number in 0..4_096 {
        // F_GETFD
        if native(72, [number, 1, 0, 0, 0, 0]).is_ok() {
            println!("{number}");
        }
    }
}

/// A terminal of its own, and text put into it.
fn terminal() {
    let Ok(leader) = File::options().read(true).write(true).open("/dev/ptmx") else {
        return println!("no terminal");
    };
    use std::os::fd::AsRawFd as _;
    let fd = i64::from(leader.as_raw_fd());
    let mut unlocked = 0_i32;
    native(16, [fd, 0x4004_5431, &raw mut unlocked as i64, 0, 0, 0]).unwrap();
    let mut name = 0_i32;
    native(16, [fd, 0x8004_5430, &raw mut name as i64, 0, 0, 0]).unwrap();
    println!("terminal /dev/pts/{name}");
    let text = b'x';
    for (label, request) in [
        ("TIOCSTI", 0x5412),
        ("TIOCLINUX", 0x541c),
        ("TIOCSTI+high", 0x7_0000_5412),
    ] {
        match native(16, [fd, request, &raw const text as i64, 0, 0, 0]) {
            Ok(_) => println!("{label} ok"),
            Err(error) => println!("{label} errno {error}"),
        }
    }
}
