//! Runs a command many times, so many at once, and says how long it took as `regatta bench start --json` does.
//! Compiled alone by `rustc`. May not: cost more than the start of a process; it is the same for all that are compared.
//!
//! usage: driver COUNT CONCURRENCY COMMAND...   `{id}` becomes a number of its own for each run, `{worker}` the worker's.

use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().and_then(|text| text.parse::<usize>().ok());
    let (Some(count), Some(concurrency)) = (number(), number()) else {
        eprintln!("usage: driver COUNT CONCURRENCY COMMAND...");
        return ExitCode::from(2);
    };
    let command: Vec<String> = arguments.collect();
    let (next, times, problem) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    let own = std::process::id();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..concurrency {
            let (next, times, problem, command) = (&next, &times, &problem, &command);
            scope.spawn(move || {
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    if id >= count || problem.lock().unwrap().is_some() {
                        return;
                    }
                    let id = format!("{own}-{id}");
                    let filled = |word: &String| word.replace("{id}", &id).replace("{worker}", &worker.to_string());
                    let words: Vec<String> = command.iter().map(filled).collect();
                    let start = Instant::now();
                    let mut run = Command::new(&words[0]);
                    let ended = run.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).status();
                    times.lock().unwrap().push(start.elapsed().as_secs_f64() * 1e3);
                    if !ended.as_ref().is_ok_and(|status| status.success()) {
                        *problem.lock().unwrap() = Some(format!("{ended:?}"));
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    if let Some(problem) = problem.into_inner().unwrap() {
        eprintln!("{} failed: {problem}", command.join(" "));
        return ExitCode::FAILURE;
    }
    let mut times = times.into_inner().unwrap();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() as f64 * part) as usize).min(times.len() - 1)];
    println!(
        "{{\"count\":{count},\"concurrency\":{concurrency},\"seconds\":{seconds:.3},\"p50_ms\":{:.3},\"p99_ms\":{:.3},\"rate\":{:.1}}}",
        at(0.50),
        at(0.99),
        count as f64 / seconds
    );
    ExitCode::SUCCESS
}
