//! The command `regatta`: server, agent, executor and everything that people type.
//!
//! For: people and scripts; the promises are the command line, exit status and output formats.
//! May depend on: every other crate of the product.
//!
//! Architecture Invariant: standard output carries results only; progress and diagnostics go to standard error.
//! Architecture Invariant: nothing is decided here; a command asks a server (its own, where none is named) and
//! shows what it answers.

mod args;
mod bench;
mod bisect;
mod client;
mod color;
mod commit;
mod context;
mod doctor;
mod exec;
mod history;
mod hosts;
mod image;
mod inspect;
mod local;
mod output;
mod pin;
mod progress;
mod prune;
mod render;
mod repro;
mod run;
mod runs;
mod serve;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};
use crate::context::{Context, Failure};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // --help and --version are no errors: clap prints those on standard output.
            let status = if error.use_stderr() { 2 } else { 0 };
            drop(error.print());
            return ExitCode::from(status);
        }
    };
    // An executor forks small processes, so it must run before this process has a second thread.
    if let Command::Executor(options) = &args.command {
        return serve::executor(options, &args.global)
            .unwrap_or_else(|failure| failure.report(&args.global));
    }
    if matches!(args.command, Command::Server(_) | Command::Run(_)) {
        regatta_executor::one_heap();
    }
    let context = Context::new(args.global.clone());
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads(&args.command))
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::platform(format!("cannot start worker threads: {error}"))
                .report(&args.global);
        }
    };
    let result = runtime.block_on(dispatch(&context, args.command));
    // What still blocks (a follower of a log, a stuck name lookup) is not waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result.unwrap_or_else(|failure| failure.report(&args.global))
}

/// Servers and runs use all processors; the rest asks one question and is done.
fn worker_threads(command: &Command) -> usize {
    match command {
        Command::Server(_) | Command::Agent(_) | Command::Run(_) | Command::Image(_) => {
            std::thread::available_parallelism()
                .map_or(2, std::num::NonZero::get)
                .clamp(2, 16)
        }
        _ => 1,
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(options) => run::run(context, options).await,
        Command::Check(options) => inspect::check(context, &options),
        Command::Schema => inspect::schema(),
        Command::Server(options) => serve::server(context, options).await,
        Command::Agent(options) => serve::agent(context, options).await,
        // Handled before there was a runtime.
        Command::Executor(_) => Err(Failure::platform("the executor cannot start here")),
        Command::Submit(options) => run::submit(context, options).await,
        Command::Runs => runs::list(context).await,
        Command::Status(options) => runs::status(context, &options).await,
        Command::Watch(options) => runs::watch(context, &options.run).await,
        Command::Cancel(options) => runs::cancel(context, &options.run).await,
        Command::Rerun(options) => runs::rerun(context, &options).await,
        Command::Report(options) => runs::report(context, &options).await,
        Command::History(options) => history::history(context, &options).await,
        Command::Flaky(options) => history::flaky(context, &options).await,
        Command::Logs(options) => runs::logs(context, &options).await,
        Command::Artifacts(options) => runs::artifacts(context, &options).await,
        Command::Bisect(options) => bisect::bisect(context, options).await,
        Command::Repro(options) => repro::repro(context, options).await,
        Command::Prune(options) => prune::prune(context, &options).await,
        Command::Hosts => hosts::list(context).await,
        Command::Host(options) => hosts::policy(context, options).await,
        Command::Image(options) => image::image(context, options).await,
        Command::Exec(options) => exec::exec(context, options).await,
        Command::Bench(options) => bench::bench(context, options).await,
        Command::Doctor => doctor::doctor(context),
    }
}
