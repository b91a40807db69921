//! The workspace's own checks: `cargo xtask tidy` says which rule is broken, where, and what to do.
//! May depend on: nothing of the product. May not: change a file.

mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments != ["tidy"] {
        eprintln!("usage: cargo xtask tidy");
        return ExitCode::from(2);
    }
    match tidy::tidy() {
        Ok(faults) if faults.is_empty() => {
            println!("tidy: every rule holds");
            ExitCode::SUCCESS
        }
        Ok(faults) => {
            for fault in &faults {
                eprintln!("tidy: {fault}");
            }
            eprintln!("tidy: {} faults", faults.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error:#}");
            ExitCode::from(2)
        }
    }
}
