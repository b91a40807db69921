//! The command line, as clap reads it. May not: do anything.

mod container;
mod hosts;
mod image;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub(crate) use self::container::{
    BenchArgs, BenchCommand, BenchStartArgs, ExecArgs, NetworkChoice,
};
pub(crate) use self::hosts::{HostArgs, HostPolicy};
pub(crate) use self::image::{ArchiveFormat, BuildArgs, ImageArgs, ImageCommand};

/// Runs test matrices in disposable containers on a fleet of hosts, and tells what a version broke.
#[derive(Parser, Debug)]
#[command(
    name = "regatta",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(
    after_long_help = "Start with: regatta check FILE, then: regatta run FILE. Every command explains itself with --help."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(ClapArgs, Debug, Clone)]
pub(crate) struct Global {
    /// This machine's data
    ///
    /// Images, runs, volumes, and what runs of a fleet leave here.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "REGATTA_DATA",
        hide_env_values = true,
        default_value = "/var/lib/regatta",
        help_heading = "Everywhere"
    )]
    pub(crate) data: PathBuf,
    /// The server, or several: URL,URL; default: this machine
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "REGATTA_SERVER",
        hide_env_values = true,
        help_heading = "Everywhere"
    )]
    pub(crate) server: Option<String>,
    /// Print one JSON document on standard output
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// No progress, only results and errors
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    pub(crate) quiet: bool,
    /// Say more on standard error; twice: everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count, help_heading = "Everywhere")]
    pub(crate) verbose: u8,
    /// Colours
    ///
    /// `auto` looks at the terminal and at `NO_COLOR`.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        // So that the list of commands fits a screen.
        hide_short_help = true,
        help_heading = "Everywhere"
    )]
    pub(crate) color: When,
}

/// When to do something that only a terminal wants.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a matrix and report; needs no server
    Run(RunArgs),
    /// Check a matrix, and count its cells
    Check(CheckArgs),
    /// Print the JSON Schema of a matrix
    Schema,
    /// Run the control plane
    Server(ServerArgs),
    /// Run this machine as a host of a fleet
    Agent(AgentArgs),
    /// Make containers on order (started by the agent where none runs)
    Executor(ExecutorArgs),
    /// Hand a matrix to a server
    Submit(SubmitArgs),
    /// List runs
    Runs,
    /// Tell where a run stands
    Status(StatusArgs),
    /// Follow a run to its end, and report
    Watch(RunIdArgs),
    /// Cancel a run
    Cancel(RunIdArgs),
    /// Run a run's matrix once more
    Rerun(RerunArgs),
    /// Print a run's report
    Report(ReportArgs),
    /// Show how a case, or each cell, went over a matrix's runs
    History(HistoryArgs),
    /// Rank the cases that both pass and fail
    Flaky(FlakyArgs),
    /// Print what a cell's test wrote
    Logs(LogsArgs),
    /// Fetch or list the files that a cell left
    Artifacts(ArtifactsArgs),
    /// Remove runs that ended long ago
    Prune(PruneArgs),
    /// Find the first bad value of an ordered axis
    Bisect(BisectArgs),
    /// Run one cell of a run again, as a run of its own
    Repro(ReproArgs),
    /// List hosts
    Hosts,
    /// Decide about a host: drain, resume, cordon, quarantine
    Host(HostArgs),
    /// Images: build, pull, list, ...
    Image(ImageArgs),
    /// Run a command in a fresh container of an image
    Exec(ExecArgs),
    /// Measure this host
    Bench(BenchArgs),
    /// Tell what this host lacks, and what mends it
    Doctor,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct CheckArgs {
    /// The matrix, YAML or JSON; - reads standard input
    pub(crate) file: PathBuf,
    /// Also print what the test runs, and which results are read
    #[arg(long)]
    pub(crate) explain: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct RunArgs {
    /// The matrix, YAML or JSON; - reads standard input
    pub(crate) file: PathBuf,
    /// Only these values of an axis; may be given for several axes
    #[arg(long, value_name = "AXIS=V[,V]")]
    pub(crate) only: Vec<String>,
    /// Attempts at once on this machine; default: one a processor
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) jobs: Option<u32>,
    /// Also write the report to a file: text, json, junit, markdown, html, csv
    #[arg(long, value_name = "FORMAT=PATH")]
    pub(crate) report: Vec<String>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct SubmitArgs {
    /// The matrix, YAML or JSON; - reads standard input
    pub(crate) file: PathBuf,
    /// Only these values of an axis; may be given for several axes
    #[arg(long, value_name = "AXIS=V[,V]")]
    pub(crate) only: Vec<String>,
    /// Follow it to its end, and report
    #[arg(long)]
    pub(crate) watch: bool,
    /// Also write the report to a file (with --watch)
    #[arg(long, value_name = "FORMAT=PATH", requires = "watch")]
    pub(crate) report: Vec<String>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ServerArgs {
    /// Address and port; anything but loopback needs --insecure
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7470")]
    pub(crate) listen: String,
    /// sqlite://PATH, or postgres://USER@HOST/DATABASE, which several servers can share; default: in the data directory
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// file://DIR or s3://BUCKET[/PREFIX], with the AWS_... variables; default: in the data directory
    #[arg(long, value_name = "URL")]
    pub(crate) blobs: Option<String>,
    /// Where hosts reach the bucket, for large uploads; default: where this server does
    #[arg(long, value_name = "URL", conflicts_with = "no_direct_uploads")]
    pub(crate) blobs_public_endpoint: Option<String>,
    /// Hosts bring everything to this server, nothing straight to the bucket
    #[arg(long)]
    pub(crate) no_direct_uploads: bool,
    /// Remove runs that ended so long ago, like 90d; default: never
    #[arg(long, value_name = "AGE")]
    pub(crate) keep: Option<String>,
    /// Directory of images; servers that share a database share it; default: in the data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
    /// Where other servers of the same database reach this one; default: where it listens
    #[arg(long, value_name = "URL")]
    pub(crate) advertise: Option<String>,
    /// Listen beyond this machine although nobody is asked who they are
    #[arg(long)]
    pub(crate) insecure: bool,
    /// How long a silent host may go on, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) lease: u64,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct PruneArgs {
    /// Runs that ended so long ago, like 30d
    #[arg(long, value_name = "AGE", required_unless_present = "down_to")]
    pub(crate) older_than: Option<String>,
    /// As many of them, the oldest first, as bring the database down to so many bytes, like 10GiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) down_to: Option<String>,
    /// Only list what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct AgentArgs {
    /// This host's name in the fleet; default: the machine's host name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Attempts at once; default: one a processor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) slots: Option<u32>,
    /// A label that matrices can ask for; may be given several times
    #[arg(long, value_name = "K=V")]
    pub(crate) label: Vec<String>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ExecutorArgs {
    /// The socket to listen on
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// End everything once standard input ends
    #[arg(long, hide = true)]
    pub(crate) lifeline: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct RunIdArgs {
    /// The run, as `regatta runs` lists it; `last` is the newest
    pub(crate) run: String,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct StatusArgs {
    /// The run, as `regatta runs` lists it; `last` is the newest
    pub(crate) run: String,
    /// Say why something of it waits: no host with its labels, all places taken, ...
    #[arg(long)]
    pub(crate) explain: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct RerunArgs {
    /// The run, as `regatta runs` lists it; `last` is the newest
    pub(crate) run: String,
    /// Only the cells that did not pass
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only what is unresolved, with more attempts than the matrix allows: until it is known, up to 40 on each side
    #[arg(long, conflicts_with = "failed")]
    pub(crate) until_resolved: bool,
}

/// A report's format.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
    Junit,
    Markdown,
    Html,
    Csv,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ReportArgs {
    /// The run, as `regatta runs` lists it; `last` is the newest
    pub(crate) run: String,
    /// What to write it as
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
    /// Write it there instead of standard output
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Tell also what is new beside this other run, in the cells that both have
    #[arg(long, value_name = "RUN")]
    pub(crate) against: Option<String>,
}

/// Which runs are asked.
#[derive(ClapArgs, Debug)]
pub(crate) struct PastArgs {
    /// The matrix's name; default: that of the newest run
    #[arg(long, value_name = "NAME")]
    pub(crate) matrix: Option<String>,
    /// Only cells with this value on an axis; may be given for several axes
    #[arg(long, value_name = "AXIS=V")]
    pub(crate) axis: Vec<String>,
    /// The newest finished runs, so many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) limit: u32,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct HistoryArgs {
    /// The case's whole name; - or none: whether the cells as such passed
    pub(crate) case: Option<String>,
    #[command(flatten)]
    pub(crate) past: PastArgs,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct FlakyArgs {
    #[command(flatten)]
    pub(crate) past: PastArgs,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct LogsArgs {
    /// The run, as `regatta runs` lists it; `last` is the newest
    pub(crate) run: String,
    /// The cell's number, as reports show it
    pub(crate) cell: u64,
    /// Which attempt; default: the last, of a cell in shards the last that failed
    #[arg(long, value_name = "N")]
    pub(crate) attempt: Option<u32>,
    /// Which of the cell's shards, from 1
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<u32>,
    /// Wait for an attempt that has not ended
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ArtifactsArgs {
    /// The run, as `regatta runs` lists it; `last` is the newest
    pub(crate) run: String,
    /// The cell's number, as reports show it
    pub(crate) cell: u64,
    /// Which of the cell's shards, from 1; default: the last that failed, else the last
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<u32>,
    /// Write them below this directory; default: list them
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct BisectArgs {
    /// The matrix, YAML or JSON
    pub(crate) file: PathBuf,
    /// The ordered axis to look along
    #[arg(long)]
    pub(crate) axis: String,
    /// Judge by this case alone
    #[arg(long, value_name = "NAME")]
    pub(crate) case: Option<String>,
    /// Attempts at once; on this machine, as many as it has processors
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<u32>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ReproArgs {
    /// The run, as `regatta runs` lists it; `last` is the newest
    pub(crate) run: String,
    /// The cell's number, as reports show it
    pub(crate) cell: u64,
    /// Print the commands of a shell session instead of running the test
    #[arg(long)]
    pub(crate) shell: bool,
}
